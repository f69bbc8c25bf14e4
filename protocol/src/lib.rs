//! What travels: ids, keys, codec, frames, statements and limits of Tidings.
//!
//! Pure: no I/O, no clock, no randomness; builds for wasm. The law as it stands is
//! `docs/protocol.md`, its grammar `docs/protocol.cddl`; `tests/spec.rs` holds them to this code.

pub mod frame;
pub mod limits;
