//! Rules about wrong clocks. Clocks of machines differ by minutes in many worlds; in some a node's is
//! set wrong by up to two hours for a while. A node cannot know that its own clock is the wrong one:
//! what it must do is to take nothing from the future, and to lose nothing.

use tidings_client::event::Status;
use tidings_core::schema::{OUT, SEEN};
use tidings_protocol::{id::Eid, limits, statement::Reason};

use super::at_commit::BatchFacts;
use crate::network::Machine;
use crate::oracle::{Violation, short};
use crate::watch::Change;
use crate::world::World;

impl World {
    /// I30: a node takes no envelope that was made more than ten minutes from now by its own clock,
    /// from a device or from a peer. Checked on each new row of `OUT` and `SEEN`, to the minute that
    /// stands in the envelope's id.
    pub(super) fn i30_nothing_from_the_future(
        &self,
        node: usize,
        facts: &BatchFacts,
        changes: &[Change],
    ) -> Result<(), Violation> {
        for change in changes.iter().filter(|c| c.value.is_some()) {
            if change.table != OUT && change.table != SEEN {
                continue;
            }
            let Some(eid) = Eid::from_slice(&change.key).filter(|eid| !self.knows(node, eid))
            else {
                continue;
            };
            let created_ms = u64::from(eid.created_minute()) * 60_000;
            let ahead_ms = created_ms.saturating_sub(facts.clock_ms());
            if ahead_ms > limits::CLOCK_SKEW_MS_MAX {
                let name = self.name(Machine::Node(node));
                let what = format!("{name} took {} from {ahead_ms} ms ahead", short(&eid.0));
                return Err(self.violated("I30", what));
            }
        }
        Ok(())
    }

    /// I30, at the end: no message failed because its time was over, in a world in which none is.
    /// Not checked: worlds with a liar, who may say so.
    pub(super) fn i30_nothing_expires_by_a_wrong_clock(&self) -> Result<(), Violation> {
        if self.options.short_life || self.options.liar {
            return Ok(());
        }
        for written in self.oracle.written.values() {
            let Some(msg) = written.message else { continue };
            let statuses = self.oracle.statuses_of(written, msg);
            if statuses.values().any(|status| *status == Status::Failed(Some(Reason::Expired))) {
                let what = format!("'{}' expired within hours of thirty days", written.text);
                return Err(self.violated("I30", what));
            }
        }
        Ok(())
    }
}
