//! What the exit code says, so that scripts need not read messages. The one table of them: `--help`,
//! the man pages and `docs/cli.md` show it.

use std::fmt::Write as _;
use std::process::ExitCode;

use thiserror::Error;
use tidings_node::admin_link::AskError;

/// Every exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    Done = 0,
    Failed = 1,
    CommandLine = 2,
    NotReached = 3,
    Refused = 4,
    TooLate = 5,
    NotProved = 6,
    Unwell = 7,
}

/// What each means, in the words that people read.
pub(crate) const CODES: &[(Code, &str)] = &[
    (Code::Done, "done"),
    (Code::Failed, "failed; the message says what to do"),
    (Code::CommandLine, "the command line is wrong"),
    (
        Code::NotReached,
        "the node is not running, cannot be reached, or shows a certificate that is not trusted",
    ),
    (Code::Refused, "refused by the node, or failed for good"),
    (Code::TooLate, "not done in time; it goes on with the next `send` or `inbox`"),
    (Code::NotProved, "not proved"),
    (Code::Unwell, "a check of `doctor` failed"),
];

/// The list, as `--help` shows it.
pub(crate) fn help() -> String {
    CODES.iter().fold("Exit codes:".to_owned(), |mut text, (code, meaning)| {
        // Writing into a string cannot fail.
        write!(text, "\n  {}  {meaning}", *code as u8).unwrap_or_default();
        text
    })
}

/// Ends that are nobody's mistake, each with an exit code of its own.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Stopped {
    #[error("{url} did not answer in time: check the node, then run the same command again")]
    Unreachable { url: String },
    #[error("{url}: {why}")]
    NotTrusted { url: String, why: &'static str },
    #[error("the node refused: {why}")]
    Refused { why: &'static str },
    #[error("the message will not be delivered; `tidings status` says what is known")]
    Failed,
    #[error(
        "not there after {seconds} s; the message is kept and goes on with the next `tidings send` \
         or `tidings inbox`"
    )]
    TooLate { seconds: u64 },
    #[error("not every statement is proved: name the nodes and accounts that you trust")]
    NotProved,
    #[error("{failed} of {checks} checks failed: each line above that failed says what to do")]
    Unwell { failed: usize, checks: usize },
}

/// The code for what went wrong.
pub(crate) fn code_of(error: &anyhow::Error) -> ExitCode {
    let asked = match error.downcast_ref::<AskError>() {
        Some(AskError::NotRunning { .. } | AskError::NoAnswer(_)) => Code::NotReached,
        Some(AskError::Refused(_)) => Code::Refused,
        Some(AskError::NotAllowed { .. }) | None => Code::Failed,
    };
    let code = match error.downcast_ref::<Stopped>() {
        Some(Stopped::Unreachable { .. } | Stopped::NotTrusted { .. }) => Code::NotReached,
        Some(Stopped::Refused { .. } | Stopped::Failed) => Code::Refused,
        Some(Stopped::TooLate { .. }) => Code::TooLate,
        Some(Stopped::NotProved) => Code::NotProved,
        Some(Stopped::Unwell { .. }) => Code::Unwell,
        None => asked,
    };
    ExitCode::from(code as u8)
}

/// Printing to a reader that has gone away, as in `tidings admin queue | head -1`, panics inside the
/// standard library. Nothing is wrong then: the process ends at once, and says nothing.
pub(crate) fn quietly_when_nobody_reads() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let said = panic.payload_as_str().unwrap_or_default();
        if said.starts_with("failed printing to") && said.contains("Broken pipe") {
            std::process::exit(Code::Done as i32);
        }
        report(panic);
    }));
}
