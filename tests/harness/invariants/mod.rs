//! What must hold, each rule a function named after its number in `reference/reliability.md` §1.2.
//! Where a rule is checked: `at_commit.rs` after each commit of a node, on the rows that it changed;
//! `at_node.rs` when a frame leaves a node; `at_device.rs` when effects leave a device; `at_end.rs`
//! in the healed world. Rules that are about one kind of fault have files of their own: `restores.rs`
//! (I26), `fair.rs` (I21), `clocks.rs` (I30), `commits.rs` (I31), `secrets.rs` (I34), `custody.rs` (I1, I5 and I36 where
//! custodians are). `routes.rs` has a rule of our own, I37: nothing goes in a circle, or too far.
//!
//! Not checked, since it does not exist yet: I15 (fences), I28 (groups), I29 (deletion of accounts),
//! I32 (wake-ups).

pub mod at_commit;
pub mod at_device;
pub mod at_end;
pub mod at_node;
pub mod clocks;
pub mod commits;
pub mod custody;
pub mod fair;
pub mod restores;
mod routes;
pub mod secrets;
