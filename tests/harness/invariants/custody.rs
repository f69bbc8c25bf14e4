//! Rules about custodians: what they say that they hold they hold, nobody makes envelopes up through
//! them, and where two nodes never meet again everything ends through one that is honest.

use std::collections::BTreeMap;

use tidings_client::event::Status;
use tidings_core::event::ClientInput;
use tidings_core::schema::{self, OUT, OutCopy, OutRow, SEEN, SeenRow};
use tidings_protocol::{
    device_list::DeviceList,
    id::{DeviceId, Eid},
    signed::Signed,
    statement::{Claim, Proof},
};

use crate::invariants::at_commit::BatchFacts;
use crate::invariants::at_node::statements_of;
use crate::network::Machine;
use crate::oracle::{Violation, Written, short};
use crate::watch::Change;
use crate::world::World;

impl World {
    /// Whether an envelope is for another node than this one.
    pub(super) fn is_for_another(&self, node: usize, eid: &Eid) -> bool {
        let sent = self.oracle.sent.get(eid);
        sent.is_some_and(|sent| sent.destination != self.nodes[node].id)
    }

    /// Whether each copy of an envelope has ended, by who may end it.
    pub(super) fn is_over(&self, eid: &Eid) -> bool {
        self.oracle.sent.get(eid).is_some_and(|sent| {
            sent.copies.iter().all(|(copy, of)| self.oracle.is_ended(eid, copy, *of))
        })
    }

    /// Whether a copy in a row of `OUT` has ended, by who may end it. A custodian does not know for whom
    /// a copy is, and believes the node that it is for, or the next one on the way: one that lies ends
    /// what it was handed, and its origin hands it over again.
    pub(super) fn is_copy_over(&self, eid: &Eid, row: &OutRow, copy: &OutCopy) -> bool {
        if row.account.is_some() {
            return self.oracle.is_ended(eid, &copy.copy, copy.device);
        }
        let Some(sent) = self.oracle.sent.get(eid) else { return false };
        let of = sent.copies.iter().find(|(known, _)| *known == copy.copy).and_then(|(_, of)| *of);
        let mut nodes = self.nodes.iter();
        self.oracle.is_ended(eid, &copy.copy, of)
            || nodes.any(|node| node.lies && (self.is_routed() || node.id == sent.destination))
    }

    fn is_routed(&self) -> bool {
        self.options.topology != crate::topology::Topology::Whole
    }

    /// Whether a custodian may let its copy go: the destination has signed that it has the envelope, or
    /// said that it cannot open it.
    pub(super) fn may_let_go(&self, facts: &BatchFacts, eid: &Eid) -> bool {
        let Some(sent) = self.oracle.sent.get(eid) else { return false };
        let destination = self.nodes.iter().find(|node| node.id == sent.destination);
        facts.is_stale(eid)
            || destination.is_some_and(|node| facts.is_at_dest(eid, &node.operational.public()))
    }

    /// I1: when a node's own `Custody` leaves it, the envelope stands on its disk, unless it has ended,
    /// expired or been let go since, as I17 allows. Checked on each frame of statements that its core
    /// sends. Not checked: nodes that were put back.
    pub(super) fn i1_custody_is_durable(
        &self,
        node: usize,
        proofs: &[Proof],
    ) -> Result<(), Violation> {
        let clock_ms = self.nodes[node].clock_ms(self.now_ms());
        let own = Some(self.nodes[node].id);
        for proof in proofs.iter().filter(|proof| proof.claimed_node() == own) {
            let statements =
                statements_of(proof).map_err(|e| self.violated("frame", e.to_string()))?;
            for statement in statements.iter().filter(|s| s.claim == Claim::Custody) {
                let is_past = statement.until_ms.is_some_and(|until_ms| until_ms <= clock_ms)
                    || self.oracle.nodes[node].let_go.contains(&statement.eid);
                if !is_past && !self.is_over(&statement.eid) && !self.oracle.nodes[node].restored {
                    self.i1_taken_is_durable(node, &statement.eid, &[OUT])?;
                }
            }
        }
        Ok(())
    }

    /// I5, for nodes: what is stored for own devices in another node's name was sent by a device of that
    /// node. Checked on each new row of `SEEN`.
    pub(super) fn i5_nothing_is_made_up(
        &self,
        node: usize,
        changes: &[Change],
    ) -> Result<(), Violation> {
        for change in changes.iter().filter(|c| c.table == SEEN && c.value.is_some()) {
            let (Some(eid), Some(value)) = (Eid::from_slice(&change.key), &change.value) else {
                continue;
            };
            let row: SeenRow =
                schema::decode(value).map_err(|e| self.violated("rows", e.to_string()))?;
            if row.account.is_none() && !self.oracle.sent.contains_key(&eid) {
                let name = self.name(Machine::Node(node));
                let what = format!("{name} took {}, which nobody sent", short(&eid.0));
                return Err(self.violated("I5", what));
            }
        }
        Ok(())
    }

    /// A device asks its node to be taken in: from now on it is known whose account key is whose.
    pub(crate) fn note_joined(&mut self, input: &ClientInput) {
        if let ClientInput::Join(join) = input {
            let list = &join.1.list;
            let person = (list.node, list.name.clone());
            self.oracle.identities.entry(person).or_insert(list.identity);
        }
    }

    /// I24, for users: a device list that a node gives to its devices is by the account key of the person
    /// whose it is said to be, whoever has told the node. Checked on each answer to a device.
    pub(super) fn i24_users_are_not_made_up(
        &self,
        node: usize,
        lists: &[Signed<DeviceList>],
    ) -> Result<(), Violation> {
        for list in lists.iter().filter_map(|list| list.peek().ok()) {
            let person = (list.node, list.name.clone());
            if self.oracle.identities.get(&person) != Some(&list.identity) {
                let name = self.name(Machine::Node(node));
                let what = format!("{name} tells of a user whom a custodian made up");
                return Err(self.violated("I24", what));
            }
        }
        Ok(())
    }

    /// Whether a node has lost another one for ever.
    pub(super) fn is_severed(&self, node: usize) -> bool {
        self.options.severed && node < 2
    }

    /// I36: what was accepted between two nodes that never meet again ends like everything else, as long
    /// as one custodian is honest. Checked as I35 is. Not checked: what never left its device, because
    /// the sender's node could not fetch a bundle; and statements that wait at the one for the other.
    pub(super) fn is_between_severed(&self, written: &Written) -> bool {
        let [from, to] = [written.from, written.to].map(|person| self.people[person].node);
        from != to && self.is_severed(from) && self.is_severed(to)
    }

    /// Whether nothing of a message between two such nodes was accepted.
    pub(super) fn never_left(
        &self,
        written: &Written,
        statuses: &BTreeMap<Option<DeviceId>, Status>,
    ) -> bool {
        self.is_between_severed(written)
            && statuses.values().all(|status| *status == Status::Queued)
    }
}
