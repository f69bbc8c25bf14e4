//! I21: what is the matter with one envelope is its own trouble.

use bytes::Bytes;
use tidings_core::schema::{self, PEERS, PeerRow};
use tidings_protocol::{
    envelope::shared_hash,
    id::{Eid, NodeId},
    limits,
    peer_frame::PeerFrame,
};
use tidings_store::prefix_end;

use crate::network::Machine;
use crate::oracle::{Violation, short};
use crate::world::World;

/// How much later than its deadline a node may look, in ms: a commit, and the events before it.
const SLACK_MS: u64 = 1_000;

impl World {
    /// A core sends an envelope, or offers it to a custodian: it has had its turn.
    pub(super) fn i21_note_turn(&mut self, node: usize, frame: &PeerFrame, body: &Bytes) {
        let had_turn = match frame {
            PeerFrame::Deliver(head) => vec![head.ids(&shared_hash(body)).0],
            PeerFrame::Forward(forward) => vec![forward.header.eid(&forward.copies)],
            PeerFrame::Offer(offer) => offer.eids.clone(),
            _ => return,
        };
        self.oracle.had_turn.extend(had_turn.into_iter().map(|eid| (node, eid)));
    }

    /// A node starts: what stands behind the row that it sent last has had no turn, all else has, as far
    /// as it knows itself; audits look after that.
    pub(super) fn i21_node_starts(&mut self, node: usize) -> Result<(), Violation> {
        let Some(process) = &self.nodes[node].process else { return Ok(()) };
        let mut sent: Vec<(u32, u64)> = Vec::new();
        let read = process.store.view(&mut |txn| {
            for (_, value) in txn.range(PEERS, &[], &prefix_end(&[]), usize::MAX)? {
                let row: PeerRow = schema::decode(&value)?;
                sent.push((row.number, row.sent));
            }
            Ok(())
        });
        read.map_err(|error| self.violated("rows", error.to_string()))?;
        let out = &self.oracle.nodes[node].out;
        let had_turn: Vec<Eid> = out
            .iter()
            .filter(|(_, row)| {
                sent.iter().any(|(peer, sent)| *peer == row.peer && row.lsn <= *sent)
            })
            .map(|(eid, _)| *eid)
            .collect();
        self.oracle.had_turn.extend(had_turn.into_iter().map(|eid| (node, eid)));
        Ok(())
    }

    /// I21: what waits for a peer that has greeted is sent at once, whatever the peer makes of other
    /// envelopes; where one is sent alone, because links broke over it, the others wait until that has
    /// its answer, or has waited for one for too long. Checked after each batch of a node, for each
    /// envelope that it has neither sent to anybody nor offered to a custodian, on each of its links. Not
    /// checked: windows, which a world does not fill; worlds in which a clock is set, by which a node
    /// tells how long it has waited; what has expired; what an administrator's wrong route leads past a link.
    pub fn i21_nobody_waits_for_others(&mut self, node: usize) -> Result<(), Violation> {
        if self.options.clock_spans > 0 || self.oracle.nodes[node].out.is_empty() {
            return Ok(());
        }
        let now_ms = self.now_ms();
        for (link, side) in self.net.links_of(Machine::Node(node)) {
            let Machine::Node(other) = self.net.links[&link].ends[1 - side] else { continue };
            if !self.oracle.peers_greeted.contains(&(link, node)) {
                continue;
            }
            if self.options.topology.may_be_misled(self.nodes.len(), node, other) {
                continue;
            }
            let other = self.nodes[other].id;
            for eid in self.waiting_for(node, &other) {
                let key = (node, link, eid);
                let since_ms = *self.oracle.waiting_since.entry(key).or_insert(now_ms);
                if now_ms > since_ms + limits::PEER_ANSWER_MS_MAX + SLACK_MS {
                    let name = self.name(Machine::Node(node));
                    let waited_ms = now_ms - since_ms;
                    let what = format!("{name} has not sent {} for {waited_ms} ms", short(&eid.0));
                    return Err(self.violated("I21", what));
                }
            }
        }
        Ok(())
    }

    /// Envelopes of a node for another one that had no turn yet, and are worth one.
    fn waiting_for(&self, node: usize, other: &NodeId) -> Vec<Eid> {
        let clock_ms = self.nodes[node].clock_ms(self.now_ms());
        let ghost = &self.oracle.nodes[node];
        let is_waiting = |eid: &Eid| {
            let sent = self.oracle.sent.get(eid);
            let is_due = sent.is_some_and(|s| s.destination == *other && s.expires_ms > clock_ms);
            is_due && !self.oracle.had_turn.contains(&(node, *eid))
        };
        ghost.out.keys().filter(|eid| is_waiting(eid)).copied().collect()
    }
}
