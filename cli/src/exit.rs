//! What the exit code says, so that scripts need not read messages.

use std::process::ExitCode;

use thiserror::Error;
use tidings_node::admin_link::AskError;

/// The list, as `--help` shows it.
pub(crate) const HELP: &str = "\
Exit codes:
  0  done
  1  failed; the message says what to do
  2  the command line is wrong
  3  the node is not running, cannot be reached, or shows a certificate that is not trusted
  4  refused by the node, or failed for good
  5  not done in time; it goes on with the next `send` or `inbox`
  6  not proved";

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
}

/// The code for what went wrong.
pub(crate) fn code_of(error: &anyhow::Error) -> ExitCode {
    let asked = match error.downcast_ref::<AskError>() {
        Some(AskError::NotRunning { .. } | AskError::NoAnswer(_)) => 3,
        Some(AskError::Refused(_)) => 4,
        Some(AskError::NotAllowed { .. }) | None => 1,
    };
    let code = match error.downcast_ref::<Stopped>() {
        Some(Stopped::Unreachable { .. } | Stopped::NotTrusted { .. }) => 3,
        Some(Stopped::Refused { .. } | Stopped::Failed) => 4,
        Some(Stopped::TooLate { .. }) => 5,
        Some(Stopped::NotProved) => 6,
        None => asked,
    };
    ExitCode::from(code)
}
