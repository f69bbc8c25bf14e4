//! Calls into redb, which panics where a page does not hold what it should. A panic in there becomes
//! an error like any other, and what redb had open is left alone. Panics of anybody else pass.

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use crate::StoreError;
use crate::redb_txn::engine;

thread_local! {
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
    static SAID: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Does one piece of work that is redb's alone.
///
/// # Errors
/// As redb says; [`StoreError::Corrupt`] for what it panics about.
pub(crate) fn guarded<T, E: Into<redb::Error>>(
    doing: &'static str,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, StoreError> {
    caught(work)?.map_err(|error| engine(doing, error))
}

/// The same for work that has errors of its own.
///
/// # Errors
/// [`StoreError::Corrupt`].
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, StoreError> {
    keep_quiet();
    let outer = IS_GUARDED.replace(true);
    // What the work has touched is not touched again: see `leave`.
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    IS_GUARDED.set(outer);
    done.map_err(|_| {
        let said = SAID.take().unwrap_or_else(|| "the engine panicked".to_owned());
        StoreError::corrupt(said)
    })
}

/// Drops what belongs to redb, unless `error` says that it cannot read its file: its own clean-up
/// would panic again, and a panic within a panic ends the process without a word. The memory stays
/// until the process ends, which it does, as the store is poisoned.
pub(crate) fn leave<T>(what: T, error: &StoreError) {
    if matches!(error, StoreError::Corrupt { .. }) {
        let _left = ManuallyDrop::new(what);
    } else {
        drop(what);
    }
}

/// What a caught panic says belongs into the error, not between the lines of the log.
fn keep_quiet() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |said| {
            if IS_GUARDED.get() {
                let why = said.payload_as_str().unwrap_or("a page is not what it should be");
                SAID.set(Some(why.to_owned()));
            } else {
                before(said);
            }
        }));
    });
}
