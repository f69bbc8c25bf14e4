//! Rules about a node that cannot commit: it says nothing of what failed, does nothing more, and takes
//! nothing new when it knows that there is no room. That the production loop ends on a failed commit
//! is tested in `node/src/run.rs`, with this disk and that loop.

use tidings_core::schema::{DEAD, SEEN, SUBMITS};
use tidings_protocol::id::Eid;

use super::at_commit::BatchFacts;
use crate::network::Machine;
use crate::oracle::{Violation, short};
use crate::watch::Change;
use crate::world::World;

/// From this share of the disk on, in percent, nothing is taken from devices, and nothing from peers.
const FULL_PERCENT: u64 = 95;
const FULL_FOR_PEERS_PERCENT: u64 = 90;

impl World {
    /// I31: after a commit that failed, the store takes no other one until it is opened again, so that
    /// a process which went on could make nothing durable that others then build on. Checked by one
    /// more write at each failed commit of a node.
    pub fn i31_a_failed_commit_is_the_end(&mut self, node: usize) -> Result<(), Violation> {
        self.oracle.nodes[node].has_failed = true;
        let Some(process) = &mut self.nodes[node].process else { return Ok(()) };
        let again = process.store.batch(&mut |txn| txn.put(DEAD, &[u8::MAX; 8], &[]));
        if again.is_ok() {
            let name = self.name(Machine::Node(node));
            let what = format!("the store of {name} commits again after a failed commit");
            return Err(self.violated("I31", what));
        }
        self.oracle.count("failed commits");
        Ok(())
    }

    /// I31: nothing leaves a node whose commit has failed, and it tries nothing more. Checked on each
    /// frame and on each further failure.
    pub fn i31_a_failed_node_is_silent(&self, node: usize) -> Result<(), Violation> {
        if !self.oracle.nodes[node].has_failed {
            return Ok(());
        }
        let name = self.name(Machine::Node(node));
        Err(self.violated("I31", format!("{name} goes on after a commit that failed")))
    }

    /// I31: a node whose disk is full takes no new submission, and a little earlier no new envelope of
    /// a peer. What it has, it keeps and hands on. Checked on the rows of each commit without a new
    /// report of the disk.
    pub(super) fn i31_full_nodes_take_nothing(
        &mut self,
        node: usize,
        facts: &BatchFacts,
        changes: &[Change],
    ) -> Result<(), Violation> {
        let ghost = &mut self.oracle.nodes[node];
        if let Some(percent) = facts.full_percent() {
            ghost.full_percent = percent;
            return Ok(());
        }
        let (full, ghost) = (ghost.full_percent, &self.oracle.nodes[node]);
        let new = |change: &&Change| change.value.is_some();
        for change in changes.iter().filter(new) {
            let of_device = change.table == SUBMITS && !ghost.submits.contains(&change.key);
            let of_peer = Eid::from_slice(&change.key).is_some_and(|eid| {
                change.table == SEEN && facts.came_from_peer(&eid) && !ghost.seen.contains_key(&eid)
            });
            if of_device && full >= FULL_PERCENT || of_peer && full >= FULL_FOR_PEERS_PERCENT {
                let name = self.name(Machine::Node(node));
                let what = format!("{name} is {full} % full and takes {}", short(&change.key));
                return Err(self.violated("I31", what));
            }
        }
        Ok(())
    }
}
