//! Who speaks: encryption, device state and conversations of one device.
//!
//! [`ClientCore`] is pure: no I/O, no clock, no randomness of its own; builds for wasm. The link to
//! the node and the store in a file are behind the feature `driver`.

pub mod crypto;
pub mod event;
