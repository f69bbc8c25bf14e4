//! Who is connected, as the loop knows it, and how effects reach them. Never waits: who cannot take
//! a frame loses the link, and gets everything again over the next one.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use libp2p::PeerId;
use tidings_core::event::{ConnId, LinkId};
use tidings_protocol::client_frame::NodeFrame;
use tidings_protocol::codec;
use tidings_protocol::frame::Frame;
use tidings_protocol::peer_frame::PeerFrame;
use tokio::sync::watch;
use tracing::{error, warn};

use crate::client_queue::{ClientQueue, Full};
use crate::failpoint::{self, Step};
use crate::p2p::{Lane, LaneSenders, SendRefused};
use crate::peer_link::PeerLink;

/// The open links.
#[derive(Debug)]
pub(crate) struct Links {
    clients: BTreeMap<ConnId, Arc<ClientQueue>>,
    peers: BTreeMap<LinkId, (PeerId, LaneSenders)>,
    peer_link: PeerLink,
    /// How many there are, for whoever waits for the last one.
    count: watch::Sender<usize>,
}

impl Links {
    pub(crate) fn new(peer_link: PeerLink, count: watch::Sender<usize>) -> Self {
        Self { clients: BTreeMap::new(), peers: BTreeMap::new(), peer_link, count }
    }

    pub(crate) fn client_up(&mut self, conn: ConnId, queue: Arc<ClientQueue>) {
        self.clients.insert(conn, queue);
        self.recount();
    }

    pub(crate) fn client_down(&mut self, conn: ConnId) {
        self.clients.remove(&conn);
        self.recount();
    }

    pub(crate) fn peer_up(&mut self, link: LinkId, peer: PeerId, lanes: LaneSenders) {
        self.peers.insert(link, (peer, lanes));
        self.recount();
    }

    pub(crate) fn peer_down(&mut self, link: LinkId) {
        self.peers.remove(&link);
        self.recount();
    }

    /// What the loop asks of the peer link.
    pub(crate) const fn peer_link(&self) -> &PeerLink {
        &self.peer_link
    }

    pub(crate) fn send_to_client(&self, conn: ConnId, frame: NodeFrame, body: Bytes) {
        // A frame for a connection that has just gone is lost like one that was on its way.
        let Some(queue) = self.clients.get(&conn) else { return };
        if queue.push(frame, body) == Err(Full) {
            warn!(conn = conn.0, "a device does not read; its connection ends");
            queue.break_off();
        }
    }

    pub(crate) fn close_client(&self, conn: ConnId) {
        if let Some(queue) = self.clients.get(&conn) {
            queue.close();
        }
    }

    pub(crate) fn send_to_peer(&mut self, link: LinkId, frame: &PeerFrame, body: Bytes) {
        let Some((_, lanes)) = self.peers.get(&link) else { return };
        let lane = if frame.is_bulk() { Lane::Bulk } else { Lane::Control };
        failpoint::pass(Step::BeforePeerSend);
        let encoded = Frame { header: Bytes::from(codec::encode(frame)), body };
        match lanes.send(lane, encoded) {
            // The end of a closed link is reported by itself.
            Ok(()) | Err(SendRefused::Closed) => {}
            Err(SendRefused::Full) => {
                warn!(link = link.0, "a peer does not read; its link ends");
                self.give_up_peer(link);
            }
            Err(SendRefused::TooLong) => {
                error!(link = link.0, frame = frame.name(), "a frame for a peer is too long");
                self.give_up_peer(link);
            }
        }
    }

    pub(crate) fn close_peer(&self, link: LinkId) {
        if let Some((peer, _)) = self.peers.get(&link) {
            self.peer_link.close(*peer);
        }
    }

    /// Ends a link that lost a frame: what follows it must not arrive without it.
    fn give_up_peer(&mut self, link: LinkId) {
        self.close_peer(link);
        self.peer_down(link);
    }

    fn recount(&self) {
        self.count.send_replace(self.clients.len() + self.peers.len());
    }
}
