//! What time does to links and peers: keep-alives, ends of links on which too little is heard, dials
//! that are due. What their frames do is in `peer.rs`.

use tidings_protocol::{
    id::NodeId,
    limits,
    peer_frame::{KeepAlive, PeerFrame},
    refusal::RefusalCode,
};
use tidings_store::Txn;

use crate::{
    Core,
    event::LinkId,
    peer::{Link, Peer},
};

impl Core {
    /// Keeps links alive, ends those on which too little is heard, and dials what is due.
    pub(crate) fn tick_peers(&mut self, txn: &dyn Txn) {
        let now_ms = self.now_ms;
        let silent: Vec<LinkId> = self
            .links
            .iter()
            .filter(|(_, link)| now_ms.saturating_sub(link.heard_ms) > limits::LINK_SILENCE_MS_MAX)
            .map(|(id, _)| *id)
            .collect();
        for link in silent {
            self.refuse_peer(link, RefusalCode::Busy);
        }
        self.tick_patience();
        let due: Vec<LinkId> = self
            .links
            .iter()
            .filter(|(_, link)| link.node.is_some() && now_ms >= link.keep_alive_ms())
            .map(|(id, _)| *id)
            .collect();
        for link in due {
            let mark = self.mark(txn);
            self.tell_peer(link, PeerFrame::KeepAlive(KeepAlive { mark }));
            if let Some(link) = self.links.get_mut(&link) {
                link.kept_alive_ms = now_ms;
            }
        }
        let unreached: Vec<NodeId> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.link.is_none())
            .map(|(node, _)| *node)
            .collect();
        for node in unreached {
            let is_overdue = self
                .peers
                .get(&node)
                .and_then(|peer| peer.retry.dialing_until_ms)
                .is_some_and(|until| until <= now_ms);
            if is_overdue {
                self.on_dial_failed(&node);
            }
            if self.wants(&node) {
                self.reach(&node);
            }
        }
    }

    /// When the peers next need a tick.
    pub(crate) fn peers_deadline(&self) -> Option<u64> {
        let links = self.links.values().map(Link::deadline);
        let queues = self.peers.iter().filter_map(|(node, peer)| self.queue_deadline(node, peer));
        let peers = self.peers.iter().filter_map(|(node, peer)| match peer.link {
            Some(_) => peer.patience.deadline(),
            None if self.draining || self.own.current().is_none() => None,
            None if self.wants(node) => Some(peer.retry.next_ms.unwrap_or(self.now_ms)),
            None if peer.conduct.until_ms > self.now_ms => Some(peer.conduct.until_ms),
            None => peer.retry.dialing_until_ms,
        });
        links.chain(queues).chain(peers).min()
    }

    /// When something of the outbox of a peer is due, while its way is open.
    pub(crate) fn queue_deadline(&self, node: &NodeId, peer: &Peer) -> Option<u64> {
        self.way_link(node).filter(|_| self.may_send(node))?;
        self.resend_deadline(node, peer).into_iter().chain(peer.audits.deadline()).min()
    }
}

impl Link {
    const fn keep_alive_ms(&self) -> u64 {
        self.kept_alive_ms + limits::LINK_SILENCE_MS_MAX / 3
    }

    /// When something has to be done about it. One that has not greeted is only waited for: a
    /// deadline that nothing follows would come again at once.
    fn deadline(&self) -> u64 {
        let silent_ms = self.heard_ms + limits::LINK_SILENCE_MS_MAX + 1;
        if self.node.is_some() { silent_ms.min(self.keep_alive_ms()) } else { silent_ms }
    }
}
