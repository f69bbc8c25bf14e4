//! The one source of randomness: the operating system.

use thiserror::Error;

/// The operating system gave no random bytes; nothing can be started without them.
#[derive(Clone, Copy, Debug, Error)]
#[error("drawing random bytes from the operating system")]
pub struct NoRandomness(#[source] getrandom::Error);

/// Random bytes that nobody can guess.
///
/// # Errors
/// [`NoRandomness`].
pub fn draw<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(NoRandomness)?;
    Ok(bytes)
}
