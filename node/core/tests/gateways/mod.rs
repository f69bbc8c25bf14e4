//! Nodes behind gateways: several real cores with links between them, and two phones at the ends. What
//! has to hold is in `routes.rs`.

use std::collections::BTreeSet;

use bytes::Bytes;
use tidings_core::{
    effect::{AdminReply, PeerStatus, QueueItem, RouteStatus},
    event::{AdminCommand, AdminToken, Event, LinkId},
    ingress::{Read, read_peer_frame},
    routes::RouteTo,
    settings::{CustodyTerms, Settings},
};
use tidings_protocol::{
    address::UserName,
    client_frame::{ClientFrame, FetchBundle, NodeFrame},
    descriptor::Transport,
    frame::Frame,
    id::NodeId,
    limits,
    statement::Claim,
};
use tidings_store::MemDisk;

use crate::support::{NOW_MS, Node, Phone, identity};

/// Nodes by their place; the first has alice, the last has bob.
pub(crate) struct Net {
    pub(crate) nodes: Vec<Node>,
    pub(crate) disks: Vec<MemDisk>,
    pub(crate) up: BTreeSet<(usize, usize)>,
    pub(crate) alice: Phone,
    pub(crate) bob: Phone,
}

pub(crate) const fn seed_of(ix: usize) -> u8 {
    100 + 10 * ix as u8
}

pub(crate) fn id_of(ix: usize) -> NodeId {
    identity(seed_of(ix)).0
}

pub(crate) const fn link_to(ix: usize) -> LinkId {
    LinkId(1 + ix as u64)
}

pub(crate) fn peer_id(ix: usize) -> Bytes {
    Bytes::from(vec![seed_of(ix); 34])
}

/// Passes on for a node: so many envelopes at a time.
pub(crate) fn for_node(ix: usize, rows: u64) -> CustodyTerms {
    let (node, bytes) = (id_of(ix), 1 << 30);
    CustodyTerms { node, rows, bytes, life_ms: limits::MESSAGE_LIFE_MS_MAX, users: 0 }
}

/// Who knows whom, and what is configured: routes as (to, via), and for whom a node passes on.
#[derive(Default, Clone)]
pub(crate) struct Config {
    pub(crate) neighbours: Vec<usize>,
    pub(crate) routes: Vec<(Option<usize>, usize)>,
    pub(crate) gateway_for: Vec<CustodyTerms>,
}

impl Config {
    pub(crate) fn settings(&self, ix: usize) -> (NodeId, Settings) {
        let (id, mut settings) = identity(seed_of(ix));
        let transport = |ix: &usize| {
            let multiaddrs = vec![format!("/memory/{}", seed_of(*ix))];
            (id_of(*ix), vec![Transport { peer_id: peer_id(*ix), multiaddrs }])
        };
        settings.pinned = self.neighbours.iter().map(transport).collect();
        settings.routes =
            self.routes.iter().map(|(to, via)| (to.map(id_of), id_of(*via))).collect();
        settings.gateway_for.clone_from(&self.gateway_for);
        (id, settings)
    }
}

pub(crate) fn leaf(gate: usize) -> Config {
    Config { neighbours: vec![gate], routes: vec![(None, gate)], gateway_for: Vec::new() }
}

impl Net {
    /// All nodes of these configurations, each linked with those that follow in its neighbours.
    pub(crate) fn of(configs: &[Config]) -> Self {
        let disks: Vec<MemDisk> = configs.iter().map(|_| MemDisk::new()).collect();
        let open = |(ix, config): (usize, &Config)| {
            let mut node = Node::open_as(seed_of(ix), config.settings(ix), &disks[ix], 1, NOW_MS);
            node.to_peer.clear();
            node.on_link.clear();
            node
        };
        let mut nodes: Vec<Node> = configs.iter().enumerate().map(open).collect();
        let last = nodes.len() - 1;
        let alice = Phone::join(&mut nodes[0], "alice", 30);
        let bob = Phone::join(&mut nodes[last], "bob", 40);
        let mut net = Self { nodes, disks, up: BTreeSet::new(), alice, bob };
        for (one, config) in configs.iter().enumerate() {
            for other in config.neighbours.iter().filter(|other| **other > one) {
                net.link(one, *other);
            }
        }
        net
    }

    /// alice — gate — bob, where the two ends may speak to the gate alone.
    pub(crate) fn star(gateway_for: Vec<CustodyTerms>) -> Self {
        let gate = Config { neighbours: vec![0, 2], routes: Vec::new(), gateway_for };
        Self::of(&[leaf(1), gate, leaf(1)])
    }

    /// alice — gate — gate — bob.
    pub(crate) fn row() -> Self {
        let of_first = vec![for_node(0, 100)];
        let first =
            Config { neighbours: vec![0, 2], routes: vec![(Some(3), 2)], gateway_for: of_first };
        let of_second = vec![for_node(0, 100), for_node(3, 100)];
        let second =
            Config { neighbours: vec![1, 3], routes: vec![(Some(0), 1)], gateway_for: of_second };
        Self::of(&[leaf(1), first, second, leaf(2)])
    }

    pub(crate) fn link(&mut self, one: usize, other: usize) {
        for (at, to, dialer) in [(one, other, true), (other, one, false)] {
            self.up.insert((at, to));
            let up = Event::PeerConnected { link: link_to(to), transport: peer_id(to), dialer };
            self.nodes[at].give([up]);
        }
        self.settle();
    }

    pub(crate) fn part(&mut self, one: usize, other: usize) {
        for (at, to) in [(one, other), (other, one)] {
            self.up.remove(&(at, to));
            self.nodes[at].give([Event::PeerClosed { link: link_to(to) }]);
        }
        self.settle();
    }

    /// Frames that wait, in their order, each with the node that it is for.
    pub(crate) fn drain(&mut self, at: usize) -> Vec<(usize, Frame)> {
        let node = &mut self.nodes[at];
        let links: Vec<LinkId> = node.on_link.drain(..).collect();
        let frames: Vec<Frame> = node.to_peer.drain(..).collect();
        assert_eq!(links.len(), frames.len());
        let to = |link: LinkId| usize::try_from(link.0).unwrap() - 1;
        links.into_iter().map(to).zip(frames).collect()
    }

    pub(crate) fn carry(&mut self, from: usize, to: usize, frame: &Frame) {
        if !self.up.contains(&(from, to)) {
            return;
        }
        let node = &mut self.nodes[to];
        match read_peer_frame(frame, node.now_ms, &node.opener) {
            Read::Input(input) => node.give([Event::Peer { link: link_to(from), input }]),
            other => panic!("the frame was not taken: {other:?}"),
        }
    }

    /// Carries frames until none is left.
    pub(crate) fn settle(&mut self) {
        loop {
            let mut is_still = true;
            for at in 0..self.nodes.len() {
                for (to, frame) in self.drain(at) {
                    is_still = false;
                    self.carry(at, to, &frame);
                }
            }
            if is_still {
                return;
            }
        }
    }

    /// Time goes on, tick by tick, and frames travel at once.
    pub(crate) fn wait(&mut self, ms: u64) {
        let until_ms = self.nodes[0].now_ms + ms;
        while self.nodes[0].now_ms < until_ms {
            let now_ms = self.nodes[0].now_ms;
            let deadlines = self.nodes.iter().filter_map(|node| node.core.next_deadline());
            let next_ms = deadlines.min().unwrap_or(until_ms).clamp(now_ms + 1, until_ms);
            for node in &mut self.nodes {
                node.now_ms = next_ms;
                node.give([Event::Tick]);
            }
            self.settle();
        }
    }

    /// A process starts anew on its disk, or on an empty one.
    pub(crate) fn restart(&mut self, ix: usize, config: &Config, on: Option<MemDisk>) {
        for other in 0..self.nodes.len() {
            if self.up.contains(&(ix, other)) {
                self.part(ix, other);
            }
        }
        if let Some(disk) = on {
            self.disks[ix] = disk;
        }
        let now_ms = self.nodes[ix].now_ms;
        let disk = self.disks[ix].clone();
        self.nodes[ix] = Node::open_as(seed_of(ix), config.settings(ix), &disk, 2, now_ms);
    }

    /// alice's device asks for bob, as it does before a first message.
    pub(crate) fn ask_for_bob(&mut self) -> NodeFrame {
        self.try_to_ask_for_bob().expect("an answer")
    }

    pub(crate) fn try_to_ask_for_bob(&mut self) -> Option<NodeFrame> {
        self.begin_to_ask_for_bob();
        self.settle();
        self.next_answer()
    }

    /// The question stands at alice's node, and has not left it.
    pub(crate) fn begin_to_ask_for_bob(&mut self) {
        let fetch = FetchBundle {
            request: 9,
            node: self.nodes.last().unwrap().id,
            name: UserName::parse("bob").unwrap(),
            known_version: None,
            with_bundles: false,
        };
        let conn = self.alice.conn;
        self.nodes[0].send(conn, &ClientFrame::FetchBundle(fetch), Bytes::new());
    }

    pub(crate) fn next_answer(&mut self) -> Option<NodeFrame> {
        let frames = self.nodes[0].to_clients.get_mut(&self.alice.conn);
        frames.and_then(|frames| frames.pop_front()).map(|(frame, _)| frame)
    }

    /// alice writes to bob.
    pub(crate) fn write(&mut self, numbers: core::ops::RangeInclusive<u64>) {
        let (from, to) = (self.nodes[0].id, self.nodes.last().unwrap().id);
        for number in numbers {
            let head = self.bob.envelope(from, to, number);
            self.alice.submit(&mut self.nodes[0], head, number);
            assert!(matches!(self.nodes[0].next(self.alice.conn).0, NodeFrame::Accepted(_)));
        }
        self.settle();
    }

    pub(crate) fn bob_receives(&mut self) -> Vec<u64> {
        let last = self.nodes.len() - 1;
        let numbers = self.bob.receive_numbers(&mut self.nodes[last]);
        self.settle();
        numbers
    }

    pub(crate) fn alice_hears(&mut self) -> Vec<Claim> {
        self.alice.notes(&mut self.nodes[0])
    }

    pub(crate) fn ask(&mut self, at: usize, command: AdminCommand) -> AdminReply {
        self.nodes[at].give([Event::Admin { token: AdminToken(1), command }]);
        let reply = self.nodes[at].replies.pop().expect("a reply");
        self.settle();
        reply
    }

    pub(crate) fn peer(&mut self, at: usize, about: usize) -> PeerStatus {
        let AdminReply::Peers(peers) = self.ask(at, AdminCommand::Peers) else {
            panic!("no peers")
        };
        peers.into_iter().find(|peer| peer.node == id_of(about)).expect("a peer")
    }

    pub(crate) fn routes(&mut self, at: usize) -> Vec<RouteStatus> {
        let AdminReply::Routes(routes) = self.ask(at, AdminCommand::Routes) else { panic!("none") };
        routes
    }

    pub(crate) fn queue(&mut self, at: usize) -> Vec<QueueItem> {
        let reply = self.ask(at, AdminCommand::Queue { node: None });
        let AdminReply::Queue(items) = reply else { panic!("no queue") };
        items
    }

    pub(crate) fn set_route(&mut self, at: usize, to: RouteTo, via: Option<NodeId>) {
        assert_eq!(self.ask(at, AdminCommand::SetRoute { to, via }), AdminReply::Done);
    }

    /// Nothing is owed to anybody.
    pub(crate) fn is_over(&mut self) -> bool {
        (0..self.nodes.len()).all(|at| self.queue(at).is_empty())
    }
}
