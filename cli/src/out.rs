//! Standard output: the one place that writes to it. A reader that goes away ends the program without
//! a word, as SIGPIPE would; what cannot be written for another reason ends it with that reason. Nothing
//! panics, and nothing is lost: what was to be kept is on disk before anything is said of it.

use std::fmt::Display;
use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;

use crate::exit::Code;
use crate::style;

/// Prints one line, as `println!` does.
macro_rules! say {
    ($($text:tt)*) => { $crate::out::line(::std::format_args!($($text)*)) };
}

/// Prints one line; styles stay where the terminal shows them.
pub(crate) fn line(line: impl Display) {
    text(format_args!("{line}\n"));
}

/// Prints text that ends its own lines.
pub(crate) fn text(text: impl Display) {
    let mut output = anstream::stdout();
    or_end(output.write_all(text.to_string().as_bytes()).and_then(|()| output.flush()));
}

/// A folder that must not outlive the program. Ending here runs no destructor.
pub(crate) struct Leaving;

impl Leaving {
    /// From now on.
    pub(crate) fn remove(folder: &Path) -> Self {
        *leaving() = Some(folder.to_owned());
        Self
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        *leaving() = None;
    }
}

fn leaving() -> MutexGuard<'static, Option<PathBuf>> {
    static LEAVING: Mutex<Option<PathBuf>> = Mutex::new(None);
    LEAVING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn leave() {
    /// Nodes that are just ending may still make a file.
    const TRIES: usize = 10;
    let Some(folder) = leaving().take() else { return };
    for _ in 0..TRIES {
        if fs::remove_dir_all(&folder).is_ok() || !folder.exists() {
            return;
        }
    }
}

/// Prints bytes as they are.
pub(crate) fn bytes(bytes: &[u8]) {
    let mut output = io::stdout().lock();
    or_end(output.write_all(bytes).and_then(|()| output.flush()));
}

fn or_end(written: io::Result<()>) {
    let code = match written {
        Ok(()) => return,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Code::NobodyReads,
        Err(error) => {
            let error = Err::<(), _>(error).context("writing to standard output").err();
            error.iter().for_each(style::error);
            Code::Failed
        }
    };
    leave();
    std::process::exit(code as i32);
}
