//! How we know: a whole federation on one thread, from a seed. See `world.rs` for the loop and
//! `invariants/` for what must hold.

#![allow(
    clippy::indexing_slicing,
    reason = "a simulation that is wrong about its own tables should stop at once"
)]
#![allow(
    missing_debug_implementations,
    reason = "worlds hold stores and cores, which print nothing"
)]
#![allow(clippy::wildcard_enum_match_arm, reason = "the oracle looks at some events only")]
#![allow(clippy::missing_errors_doc, reason = "every error is a rule that does not hold")]

mod artful;
pub mod chance;
pub mod device;
mod device_steps;
pub mod directory;
pub mod disk;
pub mod faults;
pub mod invariants;
mod liar;
mod links;
pub mod network;
pub mod node;
mod node_steps;
pub mod options;
pub mod oracle;
pub mod people;
pub mod runner;
pub mod sabotage;
pub mod schedule;
pub mod sealer;
pub mod topology;
pub mod trace;
pub mod watch;
pub mod world;
