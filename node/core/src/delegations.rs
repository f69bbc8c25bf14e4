//! Which delegation of another node counts: the newest that its root key signed, whether it came with
//! the node's addresses or by itself, from a custodian, while the node is away.

use tidings_protocol::{descriptor::Delegation, id::NodeId, signed::Signed};

use crate::{Core, effect::Observed};

impl Core {
    /// The newest delegation of another node that is known here.
    pub(crate) fn delegation_by(&self, node: &NodeId) -> Option<&Delegation> {
        self.newest_delegation(node).map(|(_, known)| known)
    }

    /// The same, as its root key signed it.
    pub(crate) fn signed_delegation_by(&self, node: &NodeId) -> Option<&Signed<Delegation>> {
        self.newest_delegation(node).map(|(signed, _)| signed)
    }

    fn newest_delegation(&self, node: &NodeId) -> Option<(&Signed<Delegation>, &Delegation)> {
        let peer = self.peers.get(node)?;
        let with_addresses =
            peer.descriptor.as_ref().map(|(signed, known)| (&signed.delegation, &known.delegation));
        let alone = peer.delegation.as_ref().map(|(signed, known)| (signed, known));
        with_addresses.into_iter().chain(alone).max_by_key(|(_, known)| known.serial)
    }

    /// Somebody shows a delegation of a node that we deal with. Kept, if it is newer.
    pub(crate) fn hear_delegation(&mut self, node: &NodeId, signed: Option<Signed<Delegation>>) {
        let Some(signed) = signed else { return };
        let known_serial = self.delegation_by(node).map_or(0, |known| known.serial);
        let is_news = signed.peek().is_ok_and(|told| {
            told.node == *node && told.serial > known_serial && told.not_after_ms > self.now_ms
        });
        if !is_news || !self.peers.contains_key(node) {
            return;
        }
        let Ok(told) = signed.open(&node.root_key()) else {
            self.observe(Observed::BadStatement);
            return;
        };
        if let Some(peer) = self.peers.get_mut(node) {
            peer.delegation = Some((signed, told));
            self.batch.peer_rows.insert(*node);
        }
    }
}
