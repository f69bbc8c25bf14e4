//! Domains at a device: what its node answers is checked and pinned, and no later answer moves a pin.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a failure here is a failed test"
)]

#[allow(dead_code, reason = "each test file uses its part")]
mod support;

use bytes::Bytes;
use support::World;
use tidings_client::{
    ClientEvent,
    crypto::StubSealer,
    event::{NameError, Warning},
};
use tidings_protocol::{
    client_frame::{ClientFrame, NameSource, NodeFrame, Refusable, Refused, Resolved},
    descriptor::Delegation,
    domain::Domain,
    id::NodeId,
    key::{SecretKey, X25519Key},
    refusal::RefusalCode,
    signed::Signed,
};

const DOMAIN: &str = "globex.example";

fn domain() -> Domain {
    Domain::parse(DOMAIN).unwrap()
}

fn node(seed: u8) -> NodeId {
    NodeId::of(&SecretKey::from_seed(&[seed; 32]).public())
}

/// That a root key names a domain.
fn claim(seed: u8, domain: &str) -> Signed<Delegation> {
    claim_by(seed, seed, domain)
}

/// That the root key of one node says so of another one.
fn claim_by(signer: u8, seed: u8, domain: &str) -> Signed<Delegation> {
    let root = SecretKey::from_seed(&[signer; 32]);
    let value = Delegation {
        node: node(seed),
        serial: 1,
        operational: root.public(),
        sealing: X25519Key([1; 32]),
        custodians: Vec::new(),
        domains: vec![domain.to_owned()],
        not_after_ms: 1,
    };
    Signed::new(&value, &root)
}

struct Asker {
    world: World<StubSealer>,
    alice: usize,
    tokens: u64,
}

impl Asker {
    fn new() -> Self {
        let mut world = World::new();
        let alice = world.join("alice", 1);
        Self { world, alice, tokens: 0 }
    }

    fn use_domain(&mut self) {
        self.tokens += 1;
        let event = ClientEvent::Resolve { domain: domain(), token: self.tokens };
        self.world.event(self.alice, event);
    }

    /// The numbers of the questions that left.
    fn asked(&self) -> Vec<u64> {
        let sent = self.world.devices[self.alice].sent.iter();
        sent.filter_map(|frame| match frame {
            ClientFrame::Resolve(resolve) if resolve.domain == domain() => Some(resolve.request),
            _ => None,
        })
        .collect()
    }

    fn frame(&mut self, frame: NodeFrame) {
        self.world.event(self.alice, ClientEvent::Frame { frame, body: Bytes::new() });
    }

    fn answer(&mut self, node: NodeId, source: NameSource, delegation: Option<Signed<Delegation>>) {
        let request = *self.asked().last().unwrap();
        self.frame(NodeFrame::Resolved(Resolved { request, node, source, delegation }));
    }

    fn by_dns(&mut self, seed: u8) {
        self.answer(node(seed), NameSource::Dns, Some(claim(seed, DOMAIN)));
    }

    fn told(&mut self) -> Vec<Result<NodeId, NameError>> {
        let told = std::mem::take(&mut self.world.devices[self.alice].resolved);
        told.into_iter().map(|(_, found)| found).collect()
    }

    fn warnings(&mut self) -> Vec<Warning> {
        std::mem::take(&mut self.world.devices[self.alice].warnings)
    }

    fn new_link(&mut self) {
        self.world.disconnect(self.alice);
        self.world.connect(self.alice);
        self.world.run();
    }
}

#[test]
fn the_first_answer_is_pinned_and_serves_without_a_link() {
    let mut it = Asker::new();
    it.use_domain();
    it.use_domain();
    assert_eq!((it.asked().len(), it.told()), (1, Vec::new()));
    it.by_dns(7);
    assert_eq!(it.told(), [Ok(node(7)), Ok(node(7))]);
    it.world.disconnect(it.alice);
    it.use_domain();
    assert_eq!((it.told(), it.asked().len()), (vec![Ok(node(7))], 1));
    // The next link compares.
    it.new_link();
    assert_eq!(it.asked().len(), 2);
    it.by_dns(7);
    assert_eq!((it.told(), it.warnings()), (Vec::new(), Vec::new()));
}

#[test]
fn a_question_without_a_link_waits_for_one() {
    let mut it = Asker::new();
    it.world.disconnect(it.alice);
    it.use_domain();
    assert_eq!((it.asked(), it.told()), (Vec::new(), Vec::new()));
    it.new_link();
    it.by_dns(7);
    assert_eq!(it.told(), [Ok(node(7))]);
}

#[test]
fn an_answer_without_its_proof_is_refused() {
    for delegation in [
        None,
        Some(claim(7, "other.example")),
        Some(claim(8, DOMAIN)),
        Some(claim_by(8, 7, DOMAIN)),
    ] {
        let mut it = Asker::new();
        it.use_domain();
        it.answer(node(7), NameSource::Dns, delegation);
        assert_eq!(it.told(), [Err(NameError::NotProved)]);
        assert_eq!(it.warnings(), [Warning::BadName(domain())]);
        // Nothing is pinned: it is asked for again.
        it.use_domain();
        assert_eq!(it.asked().len(), 2);
        it.answer(node(9), NameSource::Alias, None);
        assert_eq!(it.told(), [Ok(node(9))], "an alias is the node's word");
    }
}

#[test]
fn a_refusal_ends_the_wait_and_takes_nothing_from_a_pin() {
    let mut it = Asker::new();
    for code in [RefusalCode::UnknownDomain, RefusalCode::Unreachable] {
        it.use_domain();
        let what = Refusable::Request(*it.asked().last().unwrap());
        it.frame(NodeFrame::Refused(Refused { what, refusal: code.into() }));
        assert_eq!(it.told(), [Err(NameError::Refused(code))]);
    }
    it.use_domain();
    it.by_dns(7);
    it.told();
    it.new_link();
    it.use_domain();
    let what = Refusable::Request(*it.asked().last().unwrap());
    let refusal = RefusalCode::UnboundDomain.into();
    it.frame(NodeFrame::Refused(Refused { what, refusal }));
    it.use_domain();
    assert_eq!(it.told(), [Ok(node(7)), Ok(node(7))]);
}

#[test]
fn another_answer_is_shown_and_followed_only_when_it_is_accepted() {
    let mut it = Asker::new();
    it.use_domain();
    it.by_dns(7);
    it.told();
    it.new_link();
    it.use_domain();
    it.by_dns(8);
    let (pinned, offered) = (node(7), node(8));
    let changed = Warning::NameChanged { domain: domain(), pinned, offered };
    assert_eq!((it.told(), it.warnings()), (vec![Ok(node(7))], vec![changed.clone()]));
    // It is said each time.
    it.use_domain();
    assert_eq!((it.told(), it.warnings()), (vec![Ok(node(7))], vec![changed]));
    for (shown, holds) in [(node(9), node(7)), (node(8), node(8))] {
        it.world.event(it.alice, ClientEvent::AcceptNode { domain: domain(), node: shown });
        it.use_domain();
        assert_eq!(it.told(), [Ok(holds)]);
    }
    it.warnings();
    it.use_domain();
    assert_eq!(it.warnings(), []);
}
