//! What the exit code says, so that scripts need not read messages. The one table of them: `--help`,
//! the man pages and `docs/cli.md` show it.

use std::fmt::Write as _;
use std::process::ExitCode;

use thiserror::Error;
use tidings_client::event::StopWhy;
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
    /// As a shell reports what SIGPIPE ended.
    NobodyReads = 141,
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
    (Code::NobodyReads, "nobody reads the output any more"),
];

/// The list, as `--help` shows it.
pub(crate) fn help() -> String {
    CODES.iter().fold("Exit codes:".to_owned(), |mut text, (code, meaning)| {
        // Writing into a string cannot fail.
        write!(text, "\n  {:<3}  {meaning}", *code as u8).unwrap_or_default();
        text
    })
}

/// Ends that are nobody's mistake, each with an exit code of its own.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Stopped {
    #[error("{url} did not answer in time: check the node, then run the same command again")]
    Unreachable { url: String },
    #[error(
        "{url} cannot be reached, so this is what was here already: check the node, then run the same \
         command again"
    )]
    OnlyFromHere { url: String },
    #[error("{url}: {why}")]
    NotTrusted { url: String, why: &'static str },
    #[error("the node refused: {why}")]
    Refused { why: &'static str },
    #[error(
        "this device is no longer listed for its account: a copy of it was used elsewhere, or another \
         device removed it. `inbox --all` still shows what is here; to go on, link it again, or join \
         with an invite into another folder"
    )]
    NotListed,
    #[error("the node refuses this device: {why}")]
    LinkRefused { why: &'static str },
    #[error("{0}")]
    RolledBack(StopWhy),
    #[error("the message will not be delivered; `tidings status` says what is known")]
    Failed,
    #[error(
        "not there after {seconds} s; the message is kept and goes on with the next `tidings send` \
         or `tidings inbox`"
    )]
    TooLate { seconds: u64 },
    #[error(
        "not all of it is proved: name the nodes and accounts that you trust; a line that begins with \
         NOT says why"
    )]
    NotProved,
    #[error(
        "the log of what administrators changed is not whole: keep this folder, and compare it with a \
         backup from before"
    )]
    LogNotWhole,
    #[error("{domain}: {why}")]
    NoName { domain: String, why: String, may_retry: bool },
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
        Some(
            Stopped::Unreachable { .. }
            | Stopped::OnlyFromHere { .. }
            | Stopped::NotTrusted { .. }
            | Stopped::NoName { may_retry: true, .. },
        ) => Code::NotReached,
        Some(
            Stopped::Refused { .. }
            | Stopped::NotListed
            | Stopped::LinkRefused { .. }
            | Stopped::RolledBack(_)
            | Stopped::NoName { may_retry: false, .. }
            | Stopped::Failed,
        ) => Code::Refused,
        Some(Stopped::TooLate { .. }) => Code::TooLate,
        Some(Stopped::NotProved | Stopped::LogNotWhole) => Code::NotProved,
        Some(Stopped::Unwell { .. }) => Code::Unwell,
        None => asked,
    };
    ExitCode::from(code as u8)
}
