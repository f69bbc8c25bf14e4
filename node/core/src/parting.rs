//! Nodes with which this one deals no more: what waits for them ends, in bounded steps, and its senders
//! are told why. What such a node holds already keeps its copy here until its end is proved or its time
//! is over: it may well have been delivered.

use tidings_protocol::{
    descriptor::NodeState,
    id::{Eid, NodeId},
    refusal::RefusalCode,
    statement::Reason,
};
use tidings_store::{StoreError, Txn};

use crate::{
    Core,
    effect::Observed,
    policy::{Act, Verdict},
    schema::{self, OUT, OUTBOX, OutRow, OutboxRow, peer_key},
};

/// Envelopes ended in one step: about a millisecond of work.
const STEP_ROWS: usize = 256;
/// Pause between two steps, which leaves the writer to the messages: 10,000 envelopes take a second.
const STEP_MS: u64 = 20;

impl Core {
    /// From now on what waits for a node ends.
    pub(crate) fn part_from(&mut self, node: &NodeId) {
        if self.peers.contains_key(node) {
            self.policy.parting.insert(*node, self.now_ms);
            self.batch.peers.insert(*node);
        }
    }

    /// A newer descriptor of a node is known; what it said before.
    pub(crate) fn notice_state(&mut self, node: &NodeId, before: Option<NodeState>) {
        let known = self.peers.get(node).and_then(|peer| peer.descriptor.as_ref());
        let Some((state, serial)) = known.map(|(_, d)| (d.addresses.state, d.addresses.serial))
        else {
            return;
        };
        if state == NodeState::Retired {
            return self.part_from(node);
        }
        let was_declared = self.policy.rows.get(node).and_then(|row| row.retired_ms);
        let is_revived = was_declared.is_some_and(|at_ms| at_ms < serial);
        if is_revived {
            self.policy_row(node).retired_ms = None;
        }
        if is_revived || before == Some(NodeState::Retired) {
            self.policy.parting.remove(node);
            self.batch.peers.insert(*node);
        }
    }

    /// One step of each that is due. Before the statements of the batch are signed.
    pub(crate) fn step_partings(&mut self, txn: &mut dyn Txn) -> Result<(), StoreError> {
        let now_ms = self.now_ms;
        let due: Vec<NodeId> = self
            .policy
            .parting
            .iter()
            .filter(|(_, due_ms)| **due_ms <= now_ms)
            .map(|(node, _)| *node)
            .collect();
        for node in due {
            let reason = match self.may(&node, Act::Send) {
                Verdict::No(RefusalCode::Retired) => Reason::Retired,
                Verdict::No(_) => Reason::Policy,
                Verdict::Yes | Verdict::Later => {
                    self.policy.parting.remove(&node);
                    continue;
                }
            };
            let eids = self.waiting_eids(&node, STEP_ROWS, txn)?;
            for eid in &eids {
                if let Some(row) = schema::get::<OutRow>(txn, OUT, eid.as_bytes())? {
                    self.fail_out(eid, &row, reason, txn)?;
                    self.observe(Observed::Failed);
                }
            }
            if eids.len() < STEP_ROWS {
                self.policy.parting.remove(&node);
            } else {
                self.policy.parting.insert(node, now_ms + STEP_MS);
            }
        }
        Ok(())
    }

    /// When the next step is due.
    pub(crate) fn parting_deadline(&self) -> Option<u64> {
        self.policy.parting.values().copied().min()
    }

    /// Envelopes that a node does not hold, as far as is known: at most so many.
    fn waiting_eids(
        &self,
        node: &NodeId,
        max: usize,
        txn: &dyn Txn,
    ) -> Result<Vec<Eid>, StoreError> {
        let Some(peer) = self.peers.get(node) else { return Ok(Vec::new()) };
        let mut eids = Vec::new();
        let dead = peer.dead.places();
        for lsn in peer.owed.iter().chain(&dead).take(max) {
            let row = schema::get::<OutboxRow>(txn, OUTBOX, &peer_key(peer.number, *lsn))?;
            eids.extend(row.map(|row| row.eid));
        }
        let room = max.saturating_sub(eids.len());
        let rest = Self::outbox_eids(txn, peer.number, peer.passed, room)?;
        eids.extend(rest.into_iter().map(|(_, eid)| eid));
        Ok(eids)
    }
}
