//! End-to-end encryption between two devices: Signal-style, not wire-compatible with Signal, no SPQR.
//! Pure: no I/O, no clock; randomness is passed in, except what vodozemac draws for its ratchet keys
//! (through `getrandom`; in a browser that needs its `wasm_js` backend). No other dependency here
//! draws randomness of its own.
//!
//! The layers, from below:
//!
//! | file | what |
//! |--|--|
//! | `party.rs` | who talks: public facts and a device's own secrets |
//! | `bundle.rs`, `prekeys.rs` | what a device publishes, and the secrets behind it |
//! | `handshake.rs`, `pqxdh.rs` | PQXDH: from a bundle to a shared root key |
//! | `session.rs` | the Double Ratchet (vodozemac) on that root key |
//! | `chains.rs`, `sessions.rs` | which session: choice, duplicates, limits, state as bytes |
//! | `session_signature.rs` | the signature inside each message |
//! | `introduction.rs` | who writes, sealed to a device that does not know us yet |
//! | `sealer.rs` | **the door**: the trait that the client uses |
//! | `suite_sealer.rs` | what stands behind the door |
//! | `suite.rs`, `stub.rs` | the real and the pretended cryptography under it |
//! | `content.rs`, `padding.rs` | content sealed once for all readers |
//! | `at_rest.rs` | rows of the local store |

pub mod at_rest;
pub mod bundle;
mod chains;
pub mod content;
pub mod handshake;
mod introduction;
#[cfg(test)]
mod order_test;
pub mod padding;
pub mod party;
pub mod pqxdh;
#[cfg(test)]
mod pqxdh_test;
pub mod prekeys;
pub mod sealer;
#[cfg(test)]
mod sealer_test;
pub mod session;
pub mod session_signature;
mod sessions;
#[cfg(any(test, feature = "stub-sealer"))]
pub mod stub;
pub mod suite;
mod suite_sealer;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod vectors_test;

pub use chains::{CHAINS_MAX, GAP_MAX, SKIPPED_PER_CHAIN_MAX};
pub use party::{DeviceSecrets, LocalDevice, Party};
pub use prekeys::{ONE_TIME_GOAL, ONE_TIME_MAX, PrekeySecrets};
pub use sealer::{
    Advice, HandshakeDue, OpenError, Opened, SealError, Sealed, Sealer, SessionSignature,
    SignatureError, StartError, StateError,
};
pub use session_signature::Claim;
pub use sessions::SESSIONS_MAX;
#[cfg(any(test, feature = "stub-sealer"))]
pub use stub::StubSealer;
pub use suite_sealer::{PqSealer, SuiteSealer};

/// Age at which a session is replaced: one week. Only the start is post-quantum, so a new start is
/// what heals against a quantum attacker.
pub const SESSION_AGE_MAX_MS: u64 = 7 * 24 * 3_600_000;
/// Messages, both ways together, after which a session is replaced.
pub const SESSION_MESSAGES_MAX: u64 = 1_000;
