//! Domains: when the DNS is asked, what is pinned, and that nothing but an administrator moves a pin. The
//! DNS and the nodes that it names are played by hand; a real server is in `tests/process/dns.rs`.

#![allow(
    dead_code,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "helpers that tests share"
)]

mod support;

use bytes::Bytes;
use proptest::prelude::*;
use tidings_core::{
    effect::{AdminReply, ChangeKind, NameFound, NameStatus},
    event::{AdminCommand, AdminToken, ConnId, DnsOutcome, Event, NameCommand},
};
use tidings_protocol::{
    client_frame::{ClientFrame, NameSource, NodeFrame, Refusable, Resolve, Resolved},
    descriptor::{Addresses, CheckedDescriptor, Delegation, Descriptor, NodeState, Transport},
    domain::Domain,
    id::NodeId,
    key::{SecretKey, X25519Key},
    refusal::RefusalCode,
    signed::Signed,
};
use tidings_store::MemDisk;

use support::{NOW_MS, Node, Phone, identity_claiming};

const ACME: u8 = 10;
const GLOBEX: u8 = 20;
const THIEF: u8 = 60;
const HOUR_MS: u64 = 3600 * 1000;
const DOMAIN: &str = "globex.example";

fn domain() -> Domain {
    Domain::parse(DOMAIN).unwrap()
}

fn node_of(seed: u8) -> NodeId {
    NodeId::of(&SecretKey::from_seed(&[seed; 32]).public())
}

/// What the DHT knows of a node whose root key names these domains.
fn descriptor(seed: u8, domains: &[&str], serial: u64) -> (Descriptor, CheckedDescriptor) {
    let (root, operational) =
        (SecretKey::from_seed(&[seed; 32]), SecretKey::from_seed(&[seed + 1; 32]));
    let delegation = Delegation {
        node: node_of(seed),
        serial,
        operational: operational.public(),
        sealing: X25519Key([0; 32]),
        custodians: Vec::new(),
        domains: domains.iter().map(ToString::to_string).collect(),
        not_after_ms: NOW_MS * 2,
    };
    let addresses = Addresses {
        node: node_of(seed),
        serial,
        transports: vec![Transport { peer_id: vec![seed; 34].into(), multiaddrs: Vec::new() }],
        state: NodeState::Serving,
        expires_ms: NOW_MS + HOUR_MS,
    };
    let made = Descriptor::sign(Signed::new(&delegation, &root), &addresses, &operational);
    let checked = made.check(NOW_MS).unwrap();
    (made, checked)
}

struct World {
    acme: Node,
    disk: MemDisk,
    alice: Phone,
    requests: u64,
}

/// What a device was told.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Node(NodeId, NameSource),
    Refused(RefusalCode),
}

impl World {
    fn new() -> Self {
        let disk = MemDisk::new();
        let mut acme = Node::open(ACME, &disk, 1);
        let alice = Phone::join(&mut acme, "alice", 30);
        Self { acme, disk, alice, requests: 0 }
    }

    /// alice asks; what she is told at once.
    fn ask(&mut self, domain: &str) -> Option<Told> {
        self.requests += 1;
        let (conn, request) = (self.alice.conn, self.requests);
        let domain = Domain::parse(domain).unwrap();
        let frame = ClientFrame::Resolve(Resolve { request, domain });
        self.acme.send(conn, &frame, Bytes::new());
        self.told(conn)
    }

    fn told(&mut self, conn: ConnId) -> Option<Told> {
        let (frame, _) = self.acme.to_clients.get_mut(&conn)?.pop_front()?;
        Some(match frame {
            NodeFrame::Resolved(Resolved { node, source, delegation, .. }) => {
                // By the DNS there is the proof of the other half.
                let claim = delegation.map(|it| it.open(&node.root_key()).unwrap());
                assert_eq!(claim.is_some(), source == NameSource::Dns);
                assert!(claim.is_none_or(|claim| claim.node == node));
                Told::Node(node, source)
            }
            NodeFrame::Refused(refused) => {
                assert!(matches!(refused.what, Refusable::Request(_)));
                Told::Refused(refused.refusal.code)
            }
            other => panic!("{other:?}"),
        })
    }

    fn dns(&mut self, outcome: DnsOutcome) {
        self.acme.give([Event::Resolved { domain: domain(), outcome }]);
    }

    fn found(&mut self, seed: u8, descriptors: Vec<(Descriptor, CheckedDescriptor)>) {
        self.acme.give([Event::Found { node: node_of(seed), descriptors }]);
    }

    /// globex is pinned.
    fn pinned() -> Self {
        let mut world = Self::new();
        assert_eq!(world.ask(DOMAIN), None);
        world.dns(DnsOutcome::Node(node_of(GLOBEX)));
        world.found(GLOBEX, vec![descriptor(GLOBEX, &[DOMAIN], 1)]);
        let alice = world.alice.conn;
        assert_eq!(world.told(alice), Some(good()));
        world.acme.resolves.clear();
        world.acme.lookups.clear();
        world
    }

    fn admin(&mut self, command: NameCommand) -> Option<AdminReply> {
        self.acme.replies.clear();
        let command = AdminCommand::Names(command);
        self.acme.give([Event::Admin { token: AdminToken(1), command }]);
        self.acme.replies.pop()
    }

    fn row(&mut self) -> Option<NameStatus> {
        let Some(AdminReply::Names(mut names)) = self.admin(NameCommand::List) else { panic!() };
        assert!(names.len() <= 1, "{names:?}");
        names.pop()
    }

    fn accept(&mut self) -> AdminReply {
        self.admin(NameCommand::Accept { domain: domain() }).unwrap()
    }

    fn restart(&mut self) {
        let now_ms = self.acme.now_ms;
        self.acme = Node::open_at(ACME, &self.disk, 9, now_ms);
        let phone =
            Phone { conn: ConnId(77), key: self.alice.key.clone(), list: self.alice.list.clone() };
        self.alice = phone.again(&mut self.acme, ConnId(78)).0;
    }
}

fn good() -> Told {
    Told::Node(node_of(GLOBEX), NameSource::Dns)
}

#[test]
fn a_domain_is_pinned_when_the_dns_and_the_node_agree() {
    let mut world = World::new();
    let conn = world.alice.conn;
    assert_eq!(world.ask(DOMAIN), None);
    assert_eq!(world.acme.resolves, [domain()]);
    world.dns(DnsOutcome::Node(node_of(GLOBEX)));
    assert_eq!(world.told(conn), None, "the other half is missing");
    assert_eq!(world.acme.lookups, [node_of(GLOBEX)]);
    world.found(GLOBEX, vec![descriptor(GLOBEX, &["other.example", DOMAIN], 1)]);
    assert_eq!(world.told(conn), Some(good()));
    // From now on nobody is asked.
    assert_eq!(world.ask(DOMAIN), Some(good()));
    assert_eq!(world.acme.resolves.len(), 1);
    world.restart();
    assert_eq!(world.ask(DOMAIN), Some(good()));
    assert!(world.acme.resolves.is_empty());
    let row = world.row().unwrap();
    assert_eq!((row.node, row.source, row.change), (node_of(GLOBEX), NameSource::Dns, None));
}

#[test]
fn each_failure_has_its_word_and_is_remembered_for_a_while() {
    let globex = node_of(GLOBEX);
    for (outcome, code) in [
        (DnsOutcome::Absent, RefusalCode::UnknownDomain),
        (DnsOutcome::Contradicting, RefusalCode::UnboundDomain),
        (DnsOutcome::Unreadable, RefusalCode::UnboundDomain),
        (DnsOutcome::Silent, RefusalCode::Unreachable),
        (DnsOutcome::Node(node_of(ACME)), RefusalCode::UnboundDomain),
    ] {
        let mut world = World::new();
        assert_eq!(world.ask(DOMAIN), None);
        world.dns(outcome);
        let conn = world.alice.conn;
        assert_eq!(world.told(conn), Some(Told::Refused(code)), "{outcome:?}");
        assert_eq!(world.ask(DOMAIN), Some(Told::Refused(code)), "{outcome:?}");
        assert_eq!(world.acme.resolves.len(), 1, "{outcome:?} is asked for twice");
        world.acme.now_ms += 61_000;
        assert_eq!(world.ask(DOMAIN), None);
        assert_eq!(world.acme.resolves.len(), 2);
        assert_eq!(world.row(), None);
    }
    // A node that does not claim the domain, and one that nobody finds.
    for (known, code) in [
        (vec![descriptor(GLOBEX, &["globex.test"], 1)], RefusalCode::UnboundDomain),
        (vec![descriptor(THIEF, &[DOMAIN], 1)], RefusalCode::Unreachable),
        (Vec::new(), RefusalCode::Unreachable),
    ] {
        let mut world = World::new();
        assert_eq!(world.ask(DOMAIN), None);
        world.dns(DnsOutcome::Node(globex));
        world.found(GLOBEX, known);
        let conn = world.alice.conn;
        assert_eq!(world.told(conn), Some(Told::Refused(code)));
        assert_eq!(world.row(), None);
    }
}

#[test]
fn nobody_waits_for_ever() {
    let mut world = World::new();
    assert_eq!(world.ask(DOMAIN), None);
    world.dns(DnsOutcome::Node(node_of(GLOBEX)));
    world.acme.wait(9_000);
    let conn = world.alice.conn;
    assert_eq!(world.told(conn), Some(Told::Refused(RefusalCode::Unreachable)));
    // What comes too late is nobody's answer.
    world.found(GLOBEX, vec![descriptor(GLOBEX, &[DOMAIN], 1)]);
    assert_eq!(world.row(), None);
}

#[test]
fn many_questions_are_one_and_a_device_has_its_bounds() {
    let mut world = World::new();
    let bob = Phone::join(&mut world.acme, "bob", 40);
    assert_eq!(world.ask(DOMAIN), None);
    assert_eq!(world.ask(DOMAIN), None);
    let frame = ClientFrame::Resolve(Resolve { request: 1, domain: domain() });
    world.acme.send(bob.conn, &frame, Bytes::new());
    world.acme.give([Event::ClientClosed { conn: bob.conn }]);
    assert_eq!(world.acme.resolves.len(), 1);
    for number in 0..6 {
        assert_eq!(world.ask(&format!("d{number}.example")), None);
    }
    let busy = Some(Told::Refused(RefusalCode::Busy));
    assert_eq!(world.ask("d9.example"), busy, "8 are under way");
    world.dns(DnsOutcome::Absent);
    let conn = world.alice.conn;
    let unknown = Some(Told::Refused(RefusalCode::UnknownDomain));
    assert_eq!([world.told(conn), world.told(conn)], [unknown.clone(), unknown.clone()]);
    assert_eq!(world.told(bob.conn), None);
    // One after the other is bounded too, and the bound goes with time.
    let mut asked = 7;
    let refused = loop {
        let name = format!("e{asked}.example");
        match world.ask(&name) {
            None => asked += 1,
            told => break told,
        }
        let domain = Domain::parse(&name).unwrap();
        world.acme.give([Event::Resolved { domain, outcome: DnsOutcome::Absent }]);
        assert_eq!(world.told(conn), unknown);
    };
    assert_eq!((refused, asked), (busy, 30));
    world.acme.now_ms += 301_000;
    assert_eq!(world.ask("f.example"), None);
}

#[test]
fn a_changed_record_moves_nothing_until_it_is_accepted() {
    let mut world = World::pinned();
    world.acme.wait(HOUR_MS);
    assert_eq!(world.ask(DOMAIN), Some(good()), "at once");
    assert_eq!(world.ask(DOMAIN), Some(good()));
    assert_eq!(world.acme.resolves.len(), 1, "looked at again, once");
    world.dns(DnsOutcome::Node(node_of(THIEF)));
    world.found(THIEF, vec![descriptor(THIEF, &[DOMAIN], 1)]);
    assert_eq!((world.acme.names_changed, world.ask(DOMAIN)), (1, Some(good())));
    let row = world.row().unwrap();
    assert_eq!((row.node, row.change), (node_of(GLOBEX), Some(ChangeKind::Moved)));
    assert_eq!(row.change_node, Some(node_of(THIEF)));
    world.restart();
    assert_eq!(world.ask(DOMAIN), Some(good()));
    assert_eq!(world.accept(), AdminReply::Done);
    assert_eq!(world.ask(DOMAIN), Some(Told::Node(node_of(THIEF), NameSource::Dns)));
    assert!(matches!(world.accept(), AdminReply::Refused(_)), "nothing is left to accept");
}

#[test]
fn a_change_that_is_taken_back_is_none() {
    let mut world = World::pinned();
    world.acme.wait(HOUR_MS);
    world.ask(DOMAIN);
    world.dns(DnsOutcome::Absent);
    assert_eq!(world.row().unwrap().change, Some(ChangeKind::NoRecord));
    world.acme.wait(10 * 60 * 1000);
    assert_eq!(world.ask(DOMAIN), Some(good()));
    world.dns(DnsOutcome::Node(node_of(GLOBEX)));
    world.found(GLOBEX, vec![descriptor(GLOBEX, &[DOMAIN], 2)]);
    assert_eq!(world.row().unwrap().change, None);
    assert_eq!(world.row().unwrap().confirmed_ms, Some(world.acme.now_ms));
}

#[test]
fn a_dns_that_is_down_changes_nothing() {
    let mut world = World::pinned();
    let before = world.row();
    world.acme.wait(HOUR_MS);
    assert_eq!(world.ask(DOMAIN), Some(good()));
    world.dns(DnsOutcome::Silent);
    assert_eq!((world.row(), world.acme.names_changed), (before, 0));
    assert_eq!(world.ask(DOMAIN), Some(good()));
    assert_eq!(world.acme.resolves.len(), 1, "not again at once");
}

#[test]
fn what_the_named_node_does_not_claim_is_not_accepted() {
    let mut world = World::pinned();
    world.acme.wait(HOUR_MS);
    world.ask(DOMAIN);
    world.dns(DnsOutcome::Node(node_of(THIEF)));
    world.found(THIEF, vec![descriptor(THIEF, &[], 1)]);
    assert_eq!(world.row().unwrap().change, Some(ChangeKind::Unclaimed));
    let AdminReply::Refused(why) = world.accept() else { panic!("accepted") };
    assert!(why.contains("names check"), "{why}");
    assert_eq!(world.ask(DOMAIN), Some(good()));
}

#[test]
fn a_claim_that_the_node_takes_back_is_noticed_without_the_dns() {
    let mut world = World::pinned();
    // globex is a peer, and greets with a newer delegation.
    let bob = tidings_protocol::address::UserName::parse("bob").unwrap();
    let fetch = tidings_protocol::client_frame::FetchBundle {
        request: 99,
        node: node_of(GLOBEX),
        name: bob,
        known_version: None,
        with_bundles: true,
    };
    world.acme.send(world.alice.conn, &ClientFrame::FetchBundle(fetch), Bytes::new());
    world.found(GLOBEX, vec![descriptor(GLOBEX, &[DOMAIN], 2)]);
    world.acme.give([Event::Tick]);
    assert_eq!(world.row().unwrap().change, None);
    world.found(GLOBEX, vec![descriptor(GLOBEX, &[], 3)]);
    world.acme.give([Event::Tick]);
    let row = world.row().unwrap();
    assert_eq!((row.node, row.change), (node_of(GLOBEX), Some(ChangeKind::Withdrawn)));
    // The question about bob was answered: globex has no address.
    world.acme.to_clients.remove(&world.alice.conn);
    assert_eq!((world.ask(DOMAIN), world.acme.names_changed), (Some(good()), 1));
    // To accept that it stands for nobody is to ask anew.
    assert_eq!(world.accept(), AdminReply::Done);
    assert_eq!((world.ask(DOMAIN), world.row()), (None, None));
}

#[test]
fn an_alias_needs_no_dns_and_is_not_asked_for() {
    let mut world = World::new();
    let alias = NameCommand::Alias { domain: domain(), node: node_of(GLOBEX) };
    assert_eq!(world.admin(alias), Some(AdminReply::Done));
    let told = Some(Told::Node(node_of(GLOBEX), NameSource::Alias));
    assert_eq!(world.ask(DOMAIN), told);
    world.acme.wait(2 * HOUR_MS);
    assert_eq!((world.ask(DOMAIN), world.acme.resolves.len()), (told, 0));
    world.restart();
    assert!(world.ask(DOMAIN).is_some());
    let forget = NameCommand::Forget { domain: domain() };
    assert_eq!(world.admin(forget.clone()), Some(AdminReply::Done));
    assert!(matches!(world.admin(forget), Some(AdminReply::Refused(_))));
    assert_eq!((world.ask(DOMAIN), world.acme.resolves.len()), (None, 1));
}

#[test]
fn an_administrator_who_looks_pins_nothing() {
    let mut world = World::new();
    let check = NameCommand::Check { domain: domain() };
    assert_eq!(world.admin(check.clone()), None, "answered once the DNS is");
    world.dns(DnsOutcome::Node(node_of(GLOBEX)));
    world.found(GLOBEX, vec![descriptor(GLOBEX, &[DOMAIN], 1)]);
    let Some(AdminReply::NameChecked(seen)) = world.acme.replies.pop() else { panic!() };
    assert_eq!((seen.found, seen.node), (NameFound::Bound, Some(node_of(GLOBEX))));
    assert_eq!((seen.pinned, world.row()), (None, None));
    // Unless somebody uses it meanwhile.
    assert_eq!(world.admin(check), None);
    assert_eq!(world.ask(DOMAIN), None);
    world.dns(DnsOutcome::Node(node_of(GLOBEX)));
    world.found(GLOBEX, vec![descriptor(GLOBEX, &[DOMAIN], 1)]);
    assert!(world.row().is_some());
}

#[test]
fn a_node_says_whether_the_dns_names_it_for_its_own_domains() {
    let (disk, own) = (MemDisk::new(), "acme.example");
    let claiming = identity_claiming(ACME, &[own]);
    let mut acme = Node::open_as(ACME, claiming, &disk, 1, NOW_MS);
    acme.give([Event::Tick]);
    let domain = Domain::parse(own).unwrap();
    assert_eq!(acme.resolves, std::slice::from_ref(&domain));
    let alice = Phone::join(&mut acme, "alice", 30);
    let mut world = World { acme, disk, alice, requests: 0 };
    let found = |world: &mut World| {
        world.acme.replies.clear();
        let command = AdminCommand::Status;
        world.acme.give([Event::Admin { token: AdminToken(1), command }]);
        let Some(AdminReply::Status(status)) = world.acme.replies.pop() else { panic!() };
        status.domains[0].found
    };
    assert_eq!(found(&mut world), None);
    for (outcome, word, source) in [
        (DnsOutcome::Absent, NameFound::Absent, NameSource::Alias),
        (DnsOutcome::Node(node_of(THIEF)), NameFound::OtherNode, NameSource::Alias),
        (DnsOutcome::Node(node_of(ACME)), NameFound::Bound, NameSource::Dns),
        (DnsOutcome::Silent, NameFound::Bound, NameSource::Dns),
    ] {
        world.acme.give([Event::Resolved { domain: domain.clone(), outcome }]);
        assert_eq!(found(&mut world), Some(word));
        // Its own people find each other in any case.
        assert_eq!(world.ask(own), Some(Told::Node(node_of(ACME), source)), "{outcome:?}");
    }
    world.acme.resolves.clear();
    world.acme.wait(24 * HOUR_MS);
    assert_eq!(world.acme.resolves, std::slice::from_ref(&domain), "once a day");
    let alias = NameCommand::Alias { domain, node: node_of(THIEF) };
    assert!(matches!(world.admin(alias), Some(AdminReply::Refused(_))));
}

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    Ask,
    Dns(DnsOutcome),
    Found(u8, Option<(bool, u64)>),
    Wait(u64),
    Check,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let seed = prop_oneof![Just(GLOBEX), Just(THIEF), Just(ACME)];
    let outcome = prop_oneof![
        seed.clone().prop_map(|seed| DnsOutcome::Node(node_of(seed))),
        Just(DnsOutcome::Absent),
        Just(DnsOutcome::Contradicting),
        Just(DnsOutcome::Unreadable),
        Just(DnsOutcome::Silent),
    ];
    let known = proptest::option::of((any::<bool>(), 1..9_u64));
    prop_oneof![
        3 => Just(Step::Ask),
        4 => outcome.prop_map(Step::Dns),
        4 => (seed, known).prop_map(|(seed, known)| Step::Found(seed, known)),
        2 => prop_oneof![Just(1_u64), Just(10_000), Just(HOUR_MS)].prop_map(Step::Wait),
        1 => Just(Step::Check),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever the DNS, the DHT and time do: a device is told the pinned node, or is refused; and once
    /// it is pinned, the pinned one alone.
    #[test]
    fn no_sequence_of_answers_moves_a_pin(steps in proptest::collection::vec(step(), 0..40)) {
        let mut world = World::pinned();
        for step in steps {
            match step {
                Step::Ask => prop_assert_eq!(world.ask(DOMAIN), Some(good())),
                Step::Dns(outcome) => world.dns(outcome),
                Step::Found(seed, known) => {
                    let made = known.map(|(claims, serial)| {
                        descriptor(seed, if claims { &[DOMAIN] } else { &[] }, serial)
                    });
                    world.found(seed, made.into_iter().collect());
                }
                Step::Wait(ms) => world.acme.wait(ms),
                Step::Check => drop(world.admin(NameCommand::Check { domain: domain() })),
                Step::Restart => world.restart(),
            }
            world.acme.give([Event::Tick]);
            prop_assert_eq!(world.row().map(|row| row.node), Some(node_of(GLOBEX)));
        }
    }
}
