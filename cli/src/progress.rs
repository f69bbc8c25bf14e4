//! How far long work is: one line on standard error, and only where that is a terminal. What is
//! printed to standard output stays the same with and without it.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a sign of life moves.
const BEAT: Duration = Duration::from_millis(120);

/// The line that is on the terminal now: whoever prints has to ask it aside.
static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// A line that shows how far something is. It is wiped away when this is dropped.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Work whose length nobody knows: what was done is counted.
    pub(crate) fn counted(what: impl Into<String>) -> Self {
        Self::begin(None, what, "{spinner} {msg} {human_pos}  {elapsed}")
    }

    /// Work that only takes its time.
    pub(crate) fn uncounted(what: impl Into<String>) -> Self {
        Self::begin(None, what, "{spinner} {msg}  {elapsed}")
    }

    /// So many steps.
    pub(crate) fn of(steps: usize, what: impl Into<String>) -> Self {
        Self::begin(Some(steps), what, "{msg} {wide_bar} {human_pos} of {human_len}  {eta}")
    }

    fn begin(steps: Option<usize>, what: impl Into<String>, template: &str) -> Self {
        let steps = steps.map(|steps| u64::try_from(steps).unwrap_or(u64::MAX));
        let bar = ProgressBar::with_draw_target(steps, ProgressDrawTarget::stderr());
        // A template that does not parse is found by the test below.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what.into());
        bar.enable_steady_tick(BEAT);
        *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar.clone());
        Self(bar)
    }

    /// One more step is done.
    pub(crate) fn step(&self) {
        self.0.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.0.finish_and_clear();
    }
}

/// Prints, or whatever `print` does, without a line of progress in its way.
pub(crate) fn aside<T>(print: impl FnOnce() -> T) -> T {
    // Taken out meanwhile: what is printed may have to say in turn why it cannot be.
    let shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(bar) = shown else { return print() };
    let printed = bar.suspend(print);
    *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar);
    printed
}

/// Work that is seldom long: the line appears only if it takes longer than `after`. The line goes
/// when what is returned is dropped.
pub(crate) fn if_longer_than(after: Duration, what: &'static str) -> Option<Sender<()>> {
    let (done, waits) = channel::<()>();
    let watch = move || {
        if waits.recv_timeout(after) == Err(RecvTimeoutError::Timeout) {
            let line = Progress::uncounted(what);
            // Ends when the other side is dropped.
            waits.recv().unwrap_or_default();
            drop(line);
        }
    };
    thread::Builder::new().name("progress".to_owned()).spawn(watch).ok().map(|_| done)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Progress, aside, if_longer_than};

    #[test]
    fn every_template_is_understood() {
        for progress in [
            Progress::counted("messages"),
            Progress::uncounted("opening"),
            Progress::of(3, "files"),
        ] {
            progress.step();
            assert_eq!(aside(|| aside(|| progress.0.position())), 1);
        }
    }

    #[test]
    fn short_work_is_not_shown_and_long_work_ends() {
        drop(if_longer_than(Duration::from_secs(3600), "opening"));
        drop(if_longer_than(Duration::ZERO, "opening"));
    }
}
