//! What the exit code says, so that scripts need not read messages.

use std::process::ExitCode;

use tidings_node::admin_link::AskError;

/// The list, as `--help` shows it.
pub(crate) const HELP: &str = "\
Exit codes:
  0  done
  1  failed; the message says what to do
  2  the command line is wrong
  3  the node is not running, or cannot be reached
  4  refused by the node
  5  not done in time; it goes on by itself, ask again later
  6  not proved";

/// The code for what went wrong.
pub(crate) fn code_of(error: &anyhow::Error) -> ExitCode {
    let code = match error.downcast_ref::<AskError>() {
        Some(AskError::NotRunning { .. } | AskError::NoAnswer(_)) => 3,
        Some(AskError::Refused(_)) => 4,
        Some(AskError::NotAllowed { .. }) | None => 1,
    };
    ExitCode::from(code)
}
