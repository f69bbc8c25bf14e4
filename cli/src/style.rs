//! Colours on a terminal, and nowhere else: `NO_COLOR`, `CLICOLOR` and `CLICOLOR_FORCE` are heeded,
//! as `anstream` reads them. No meaning hangs on a colour: each stands beside a word or a sign.

use std::io::Write as _;

use anstyle::{AnsiColor, Style};

use crate::{out, progress, show};

/// It is as it should be.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default().bold();
/// Somebody should look at it.
pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default().bold();
/// It is not as it should be.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
/// A message that was read.
pub(crate) const READ: Style = AnsiColor::Blue.on_default().bold();
/// The name of something, at the head of what is said about it.
pub(crate) const NAME: Style = Style::new().bold();
/// What may be skipped.
pub(crate) const DIM: Style = Style::new().dimmed();

/// Prints one line for people: styles stay where the terminal shows them.
pub(crate) fn line(text: impl std::fmt::Display) {
    out::line(text);
}

/// A word in a style.
pub(crate) fn paint(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Says why a command failed. The sources too: the last one is often what the system said.
pub(crate) fn error(error: &anyhow::Error) {
    tell(BAD, &format!("{error:#}"));
}

/// Says on standard error what a person should know beside what the command prints.
pub(crate) fn note(text: impl std::fmt::Display) {
    tell(WARNING, &text.to_string());
}

fn tell(style: Style, text: &str) {
    // Names, addresses and reasons may come from elsewhere.
    let line = format!("{} {}\n", paint(style, "tidings:"), show::plain_lines(text));
    // Nobody is there to be told that nobody reads it.
    progress::aside(|| anstream::stderr().write_all(line.as_bytes()).unwrap_or_default());
}

/// Whether the terminal that is taken over has colours.
pub(crate) fn is_coloured() -> bool {
    anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never
}

/// Whether a log on standard error has colours.
pub(crate) fn is_log_coloured() -> bool {
    let choice = anstream::AutoStream::choice(&std::io::stderr());
    choice != anstream::ColorChoice::Never
}
