//! Every size and time that both sides of a link must agree on, with the reason. No behaviour.

/// Bytes of one frame after its length word: small enough that a tick never waits long behind a body.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;
/// Bytes of one envelope, targets and shared body together; senders split longer content.
pub const ENVELOPE_BYTES_MAX: usize = 60 * 1024;
