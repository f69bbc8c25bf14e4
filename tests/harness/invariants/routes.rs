//! Rules about what passes through nodes: never in a circle, and never further than it may.

use tidings_core::event::{LinkId, PeerInput};
use tidings_protocol::{id::Eid, peer_frame::Forward};

use crate::network::Machine;
use crate::oracle::{Violation, short};
use crate::world::World;

impl World {
    /// The node at the other end of a link.
    fn other_end(&self, node: usize, link: LinkId) -> Option<usize> {
        let ends = self.net.links.get(&link.0)?.ends;
        ends.into_iter().find_map(|end| match end {
            Machine::Node(other) if other != node => Some(other),
            Machine::Node(_) | Machine::Device(_) => None,
        })
    }

    /// What a node is handed, and how far it may go from there.
    pub(crate) fn note_handed(&mut self, node: usize, input: &PeerInput) {
        if let PeerInput::Forward(passing) = input {
            let hops = self.oracle.hops_handed.entry((node, passing.eid)).or_default();
            *hops = (*hops).max(passing.forward.hops_left);
        }
    }

    /// I37: what a node passes on may go less far than what it was handed. Checked on each `Forward`
    /// that its core sends of what is not its own.
    pub(super) fn i37_hops_shrink(&self, node: usize, forward: &Forward) -> Result<(), Violation> {
        if forward.header.origin == self.nodes[node].id {
            return Ok(());
        }
        let eid = forward.eid();
        let handed = self.oracle.hops_handed.get(&(node, eid)).copied();
        if handed.is_some_and(|handed| forward.hops_left < handed) {
            return Ok(());
        }
        let name = self.name(Machine::Node(node));
        let what = format!("{name} passes {} on as far as it was told, or further", short(&eid.0));
        Err(self.violated("I37", what))
    }

    /// I37: no envelope goes in a circle. Checked on each `Took` without a refusal, against all that was
    /// taken before and is still held: who takes it may not have handed it to whom it comes from, directly or
    /// through others. Not checked: what has ended, which old frames may bring anywhere; and worlds in which a
    /// node was put back and has forgotten, or lies.
    pub(super) fn i37_no_circle(
        &mut self,
        node: usize,
        link: LinkId,
        eid: &Eid,
    ) -> Result<(), Violation> {
        let Some(from) = self.other_end(node, link) else { return Ok(()) };
        let has_forgotten = self.oracle.nodes.iter().any(|ghost| ghost.restored);
        if has_forgotten || self.options.liar {
            return Ok(());
        }
        self.oracle.taken.entry(*eid).or_default().insert((from, node));
        let holds = |node: usize| self.oracle.nodes[node].out.contains_key(eid);
        let taken = self.oracle.taken.get(eid).into_iter().flatten();
        let taken: Vec<(usize, usize)> =
            taken.copied().filter(|(_, taker)| holds(*taker)).collect();
        let mut reached = vec![node];
        let mut at = 0;
        while let Some(here) = reached.get(at).copied() {
            at += 1;
            let next = taken.iter().filter(|(giver, _)| *giver == here).map(|(_, taker)| *taker);
            let next: Vec<usize> = next.filter(|taker| !reached.contains(taker)).collect();
            if here == from || next.contains(&from) {
                let name = self.name(Machine::Node(node));
                let what = format!("{name} took {}, which had passed it", short(&eid.0));
                return Err(self.violated("I37", what));
            }
            reached.extend(next);
        }
        Ok(())
    }
}
