//! acme, globex and their custodian initech: three real cores on memory stores, carried by hand. Tests
//! nothing.

#[path = "mod.rs"]
pub(crate) mod support;

use tidings_core::{
    effect::{AdminReply, PeerStatus},
    event::{AdminCommand, AdminToken, Event, LinkId},
    settings::CustodyTerms,
};
use tidings_protocol::{client_frame::NodeFrame, id::NodeId, limits};
use tidings_store::MemDisk;

use support::{NOW_MS, Node, Phone, identity, identity_with};
pub(crate) use support::{connect, settle};

pub(crate) const ACME: u8 = 10;
pub(crate) const GLOBEX: u8 = 20;
pub(crate) const INITECH: u8 = 50;

pub(crate) struct Three {
    pub(crate) acme: Node,
    pub(crate) globex: Node,
    pub(crate) initech: Node,
    pub(crate) alice: Phone,
    pub(crate) bob: Phone,
}

pub(crate) fn terms(rows: u64) -> CustodyTerms {
    let (node, _) = identity(GLOBEX);
    CustodyTerms { node, rows, bytes: 1 << 20, life_ms: limits::MESSAGE_LIFE_MS_MAX, users: 100 }
}

/// initech has these terms for globex, and globex names it if `named`. Everybody has met globex.
pub(crate) fn three(terms: Option<CustodyTerms>, named: bool) -> Three {
    three_on(&MemDisk::new(), terms, named)
}

/// The same, with globex on this disk.
pub(crate) fn three_on(globex_disk: &MemDisk, terms: Option<CustodyTerms>, named: bool) -> Three {
    let (initech_id, _) = identity(INITECH);
    let custodians = if named { vec![initech_id] } else { Vec::new() };
    three_naming(globex_disk, terms, custodians)
}

/// The same, with the custodians that globex names.
pub(crate) fn three_naming(
    globex_disk: &MemDisk,
    terms: Option<CustodyTerms>,
    custodians: Vec<NodeId>,
) -> Three {
    let (initech_id, mut settings) = identity(INITECH);
    settings.custody = terms.into_iter().collect();
    let at = |seed, identity| Node::open_as(seed, identity, &MemDisk::new(), 1, NOW_MS);
    let mut initech = at(INITECH, (initech_id, settings));
    let globex = identity_with(GLOBEX, custodians);
    let mut globex = Node::open_as(GLOBEX, globex, globex_disk, 1, NOW_MS);
    let mut acme = at(ACME, identity(ACME));
    let alice = Phone::join(&mut acme, "alice", 30);
    let bob = Phone::join(&mut globex, "bob", 40);
    for (seed, node) in [(INITECH, &mut initech), (ACME, &mut acme)] {
        connect(node, seed, &mut globex, GLOBEX);
        part(node, &mut globex);
    }
    Three { acme, globex, initech, alice, bob }
}

/// The link between two nodes is gone.
pub(crate) fn part(one: &mut Node, other: &mut Node) {
    for node in [one, other] {
        node.give([Event::PeerClosed { link: LinkId(1) }]);
        node.to_peer.clear();
    }
}

/// Three attempts in vain.
pub(crate) fn fail_to_reach(node: &mut Node, absent: NodeId) {
    for _ in 0..3 {
        node.give([Event::DialFailed { node: absent }]);
    }
    node.to_peer.clear();
}

pub(crate) fn peer(node: &mut Node, about: NodeId) -> PeerStatus {
    node.give([Event::Admin { token: AdminToken(1), command: AdminCommand::Peers }]);
    let Some(AdminReply::Peers(peers)) = node.replies.pop() else { panic!("no peers") };
    peers.into_iter().find(|peer| peer.node == about).expect("a peer")
}

impl Three {
    /// alice writes so many messages, which acme cannot hand to globex.
    pub(crate) fn write(&mut self, count: u64) {
        self.submit(count);
        fail_to_reach(&mut self.acme, self.globex.id);
    }

    /// alice writes so many messages.
    pub(crate) fn submit(&mut self, count: u64) {
        let Self { acme, globex, alice, bob, .. } = self;
        for number in 1..=count {
            let head = bob.envelope(acme.id, globex.id, number);
            alice.submit(acme, head, number);
            assert!(matches!(acme.next(alice.conn).0, NodeFrame::Accepted(_)));
        }
    }

    pub(crate) fn held(&mut self) -> u64 {
        let globex = self.globex.id;
        peer(&mut self.initech, globex).in_custody
    }
}
