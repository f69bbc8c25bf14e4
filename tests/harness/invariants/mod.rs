//! What must hold, each rule a function named after its number in `reference/reliability.md` §1.2.
//! Where a rule is checked: `at_commit.rs` after each commit of a node, on the rows that it changed;
//! `at_node.rs` when a frame leaves a node; `at_device.rs` when effects leave a device; `at_end.rs`
//! in the healed world.
//!
//! Checked by worlds rather than by a function: I26 (seeds with a restore run all others), I30
//! (seeds with clock offsets run all others), I31 (a failed commit ends the process in the loop, so
//! that nothing can leave it; `ack_before_commit` shows that I1 would see it).
//! Not checked, since it does not exist yet: I15 (fences), I28 (groups), I29 (deletion of accounts),
//! I32 (wake-ups), I33 (drain), I36 (custodians).

pub mod at_commit;
pub mod at_device;
pub mod at_end;
pub mod at_node;
