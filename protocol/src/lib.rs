//! What travels: ids, keys, codec, frames, statements and limits of Tidings.
//!
//! Pure: no I/O, no clock, no randomness; builds for wasm. The law as it stands is
//! `docs/protocol.md`, its grammar `docs/protocol.cddl`; `tests/spec.rs` holds them to this code.

pub mod address;
pub mod bundle;
pub mod client_frame;
pub mod codec;
pub mod content;
pub mod custody;
pub mod descriptor;
pub mod device_list;
pub mod directory;
pub mod domain;
pub mod envelope;
pub mod evidence;
pub mod frame;
pub mod hello;
pub mod id;
pub mod invite;
pub mod key;
pub mod limits;
pub mod merkle;
pub mod name_record;
pub mod outline;
pub mod peer_frame;
pub mod refusal;
pub mod sealed;
pub mod shape;
pub mod signed;
pub mod statement;
