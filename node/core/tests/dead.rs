//! What globex refuses again and again, and what its links break over: acme is a real core on a
//! memory store, and globex answers by hand. Time and faults in all their orders are the simulator's.

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
use tidings_core::{
    effect::{AdminReply, DeadLetter, PeerStatus},
    event::{AdminCommand, AdminToken, DeadPick, Event, LinkId, PeerInput},
    ingress::{Read, read_peer_frame},
};
use tidings_protocol::{
    id::Eid,
    peer_frame::Answer,
    refusal::{Refusal, RefusalCode},
    statement::Claim,
};
use tidings_store::MemDisk;

use support::{NOW_MS, Node, Phone, connect, mark, settle};

const ACME: u8 = 10;
const GLOBEX: u8 = 20;
const LINK: LinkId = LinkId(1);
/// Refusals, or links that break, after which an envelope is a dead letter.
const TRIES: usize = 16;
const HOUR_MS: u64 = 3600 * 1000;

struct World {
    acme: Node,
    disk: MemDisk,
    globex: Node,
    alice: Phone,
    bob: Phone,
    /// The number of the last envelope that is there to be taken.
    others: u64,
}

/// What acme has sent since the last look.
#[derive(Debug, Default)]
struct Sent {
    delivered: Vec<(u64, Eid)>,
    asked: Vec<Eid>,
}

impl Sent {
    fn numbers(&self) -> Vec<u64> {
        self.delivered.iter().map(|(number, _)| *number).collect()
    }
}

impl World {
    fn new() -> Self {
        let disk = MemDisk::new();
        let mut acme = Node::open(ACME, &disk, 1);
        let mut globex = Node::open(GLOBEX, &MemDisk::new(), 2);
        let alice = Phone::join(&mut acme, "alice", 30);
        let bob = Phone::join(&mut globex, "bob", 40);
        let mut world = Self { acme, disk, globex, alice, bob, others: 100 };
        world.link();
        world
    }

    /// A link on which acme is greeted; what it sends stays where it is.
    fn link(&mut self) {
        let Self { acme, globex, .. } = self;
        for node in [&mut *acme, &mut *globex] {
            node.give([Event::PeerClosed { link: LINK }]);
            node.to_peer.clear();
        }
        for (node, other) in [(&mut *acme, GLOBEX), (&mut *globex, ACME)] {
            let transport = Bytes::from(vec![other; 34]);
            node.give([Event::PeerConnected { link: LINK, transport, dialer: true }]);
        }
        acme.to_peer.clear();
        for frame in globex.to_peer.drain(..) {
            let read = read_peer_frame(&frame, NOW_MS, &acme.opener);
            let Read::Input(input) = read else { panic!("a frame") };
            acme.give([Event::Peer { link: LINK, input }]);
        }
    }

    fn submit(&mut self, number: u64) {
        let head = self.bob.envelope(self.acme.id, self.globex.id, number);
        self.alice.submit(&mut self.acme, head, number);
    }

    fn sent(&mut self) -> Sent {
        let mut sent = Sent::default();
        for frame in self.acme.to_peer.drain(..) {
            match read_peer_frame(&frame, NOW_MS, &self.globex.opener) {
                Read::Input(PeerInput::Deliver(envelope)) => {
                    let target = envelope.head.targets.first().expect("a target");
                    let number = target.part.as_ref().try_into().map(u64::from_be_bytes);
                    let number = number.expect("a number");
                    sent.delivered.push((number, envelope.eid));
                }
                Read::Input(PeerInput::Audit { eids }) => sent.asked.extend(eids),
                _ => {}
            }
        }
        sent
    }

    fn answer(&mut self, eid: Eid, refusal: Option<RefusalCode>) {
        let refusal = refusal.map(|code| Refusal { code, after_ms: None });
        let answers = vec![Answer { eid, refusal, lists: Vec::new() }];
        let input = PeerInput::Took { answers, mark: mark(1) };
        self.acme.give([Event::Peer { link: LINK, input }]);
    }

    /// Time goes on, and globex is heard.
    fn pass(&mut self, ms: u64) {
        self.acme.now_ms += ms;
        let input = PeerInput::KeepAlive { mark: mark(1) };
        self.acme.give([Event::Peer { link: LINK, input }, Event::Tick]);
    }

    /// An audit after so long, to which globex knows all but this one.
    fn miss(&mut self, eid: Eid, ms: u64) -> Sent {
        self.pass(ms);
        let mut unknown = self.sent().asked;
        unknown.retain(|asked| *asked == eid);
        assert_eq!(unknown, [eid], "it is asked for");
        let input = PeerInput::AuditAnswer { waiting: Vec::new(), unknown };
        self.acme.give([Event::Peer { link: LINK, input }]);
        self.sent()
    }

    fn ask(&mut self, command: AdminCommand) -> AdminReply {
        self.acme.give([Event::Admin { token: AdminToken(1), command }]);
        self.acme.replies.pop().expect("an answer")
    }

    fn dead(&mut self) -> Vec<DeadLetter> {
        let AdminReply::Dead(dead) = self.ask(AdminCommand::Dead { node: None }) else {
            panic!("no list")
        };
        dead
    }

    fn globex(&mut self) -> PeerStatus {
        let AdminReply::Peers(peers) = self.ask(AdminCommand::Peers) else { panic!("no peers") };
        peers.into_iter().next().expect("a peer")
    }

    /// Links break over this number alone, while others are taken.
    fn break_over(&mut self, number: u64, tries: usize) {
        for _ in 0..tries {
            self.others += 1;
            let other = self.others;
            self.submit(other);
            let sent = self.sent();
            assert_eq!(sent.numbers(), [], "nothing is sent beside a suspect");
            self.link();
            let sent = self.sent();
            assert_eq!(sent.numbers(), [other], "others come first");
            self.answer(sent.delivered[0].1, None);
            assert_eq!(self.sent().numbers(), [number]);
        }
        self.link();
    }

    /// Number 1 is a dead letter, since links break over it.
    fn break_over_one(&mut self) -> Eid {
        self.submit(1);
        for _ in 0..3 {
            assert_eq!(self.sent().numbers(), [1]);
            self.link();
        }
        assert_eq!(self.sent().numbers(), [1]);
        self.break_over(1, TRIES);
        assert_eq!(self.sent().numbers(), []);
        let dead = self.dead();
        let [letter] = dead.as_slice() else { panic!("one dead letter") };
        assert_eq!((letter.attempts, letter.refusal), (18, None));
        letter.eid
    }

    fn restart(&mut self) {
        let now_ms = self.acme.now_ms;
        self.acme = Node::open_at(ACME, &self.disk, 9, now_ms);
        self.link();
    }
}

#[test]
fn what_is_refused_for_good_is_a_dead_letter_after_its_tries_and_is_asked_for_still() {
    let mut world = World::new();
    world.submit(1);
    let mut sent = world.sent();
    for tries in 1..=TRIES {
        assert_eq!(sent.numbers(), [1], "try {tries}");
        assert_eq!(world.dead(), []);
        world.answer(sent.delivered[0].1, Some(RefusalCode::Malformed));
        // What stands behind it flows.
        let number = 100 + tries as u64;
        world.submit(number);
        let behind = world.sent();
        assert_eq!(behind.numbers(), [number]);
        world.answer(behind.delivered[0].1, None);
        let again = world.miss(sent.delivered[0].1, 61_000);
        if tries < TRIES {
            sent = again;
        } else {
            assert_eq!(again.numbers(), [], "no more");
        }
    }
    let dead = world.dead();
    let [letter] = dead.as_slice() else { panic!("one dead letter") };
    assert_eq!((letter.attempts, letter.refusal), (16, Some(RefusalCode::Malformed)));
    let status = world.globex();
    assert_eq!((status.dead, status.waiting, status.queued), (1, 0, 17));
    assert_eq!(status.dead_oldest_ms, Some(letter.since_ms));
    // A few times a day it is tried again, and that counts.
    assert_eq!(world.miss(letter.eid, HOUR_MS).numbers(), []);
    assert_eq!(world.miss(letter.eid, 6 * HOUR_MS).numbers(), [1]);
    world.answer(letter.eid, Some(RefusalCode::Refused));
    let dead = world.dead();
    assert_eq!((dead[0].attempts, dead[0].refusal), (17, Some(RefusalCode::Refused)));
    assert_eq!(dead[0].since_ms, letter.since_ms);
}

#[test]
fn what_a_full_peer_refuses_is_no_dead_letter_as_long_as_it_takes_nothing() {
    let mut world = World::new();
    world.submit(1);
    for _ in 0..1_000 {
        let sent = world.sent();
        assert_eq!(sent.numbers(), [1]);
        world.answer(sent.delivered[0].1, Some(RefusalCode::Quota));
        world.pass(60_000);
    }
    assert_eq!(world.dead(), []);
}

#[test]
fn what_links_break_over_is_found_among_others_and_they_flow() {
    let mut world = World::new();
    for number in 1..=4 {
        world.submit(number);
    }
    for _ in 0..3 {
        assert_eq!(world.sent().numbers(), [1, 2, 3, 4]);
        world.link();
    }
    // From now on one by one, in order, and what links break over comes last.
    let first = world.sent();
    assert_eq!(first.numbers(), [1]);
    world.answer(first.delivered[0].1, None);
    assert_eq!(world.sent().numbers(), [2]);
    world.link();
    for number in [3, 4] {
        let sent = world.sent();
        assert_eq!(sent.numbers(), [number]);
        world.answer(sent.delivered[0].1, None);
    }
    assert_eq!(world.sent().numbers(), [2]);
    world.break_over(2, TRIES - 2);
    assert_eq!((world.dead().len(), world.globex().waiting), (1, 0));
    // All at once again.
    world.submit(5);
    world.submit(6);
    assert_eq!(world.sent().numbers(), [5, 6]);
}

#[test]
fn over_what_else_a_link_breaks_is_not_the_fault_of_envelopes() {
    let mut world = World::new();
    for number in 1..=3 {
        world.submit(number);
    }
    for _ in 0..3 {
        assert_eq!(world.sent().numbers(), [1, 2, 3]);
        world.link();
    }
    // The peer takes nothing at all: each has its turn again and again.
    for _ in 0..200 {
        for number in 1..=3 {
            assert_eq!(world.sent().numbers(), [number]);
            world.link();
        }
    }
    assert_eq!(world.dead(), []);
    for number in 1..=3 {
        let sent = world.sent();
        assert_eq!(sent.numbers(), [number]);
        world.answer(sent.delivered[0].1, None);
    }
    assert_eq!(world.globex().waiting, 0);
    world.submit(4);
    world.submit(5);
    assert_eq!(world.sent().numbers(), [4, 5]);
}

#[test]
fn a_dead_letter_is_one_after_a_start_until_it_is_sent_again() {
    let mut world = World::new();
    let eid = world.break_over_one();
    world.restart();
    assert_eq!(world.miss(eid, 0).numbers(), [], "an audit misses it");
    assert_eq!((world.dead().len(), world.globex().dead), (1, 1));
    let other = Eid([7; 24]);
    let refused = world.ask(AdminCommand::Redrive(DeadPick::One(other)));
    assert!(matches!(refused, AdminReply::Refused(_)));
    let pick = DeadPick::One(eid);
    assert_eq!(world.ask(AdminCommand::Redrive(pick)), AdminReply::Changed(1));
    assert_eq!(world.globex().waiting, 1);
    assert_eq!(world.sent().numbers(), [1]);
    world.answer(eid, None);
    assert_eq!((world.dead(), world.globex().waiting), (Vec::new(), 0));
    world.restart();
    assert_eq!(world.dead(), []);
}

#[test]
fn all_dead_letters_of_a_peer_that_is_away_are_sent_once_it_is_back() {
    let mut world = World::new();
    world.break_over_one();
    world.acme.give([Event::PeerClosed { link: LINK }]);
    let globex = world.globex.id;
    let redrive = |pick| AdminCommand::Redrive(pick);
    assert_eq!(world.ask(redrive(DeadPick::Peer(globex))), AdminReply::Changed(1));
    assert_eq!(world.ask(redrive(DeadPick::All)), AdminReply::Changed(0), "none is left");
    connect(&mut world.acme, ACME, &mut world.globex, GLOBEX);
    settle(&mut world.acme, &mut world.globex);
    assert_eq!(world.bob.receive_numbers(&mut world.globex), [1]);
    settle(&mut world.acme, &mut world.globex);
    let World { acme, alice, .. } = &mut world;
    assert_eq!(alice.notes(acme), [Claim::Delivered]);
}

#[test]
fn who_sent_what_is_dropped_is_told() {
    let mut world = World::new();
    let eid = world.break_over_one();
    let pick = DeadPick::One(eid);
    assert_eq!(world.ask(AdminCommand::DropDead(pick)), AdminReply::Changed(1));
    let World { acme, alice, .. } = &mut world;
    assert_eq!(alice.notes(acme), [Claim::Failed]);
    assert_eq!((world.dead(), world.globex().queued), (Vec::new(), TRIES as u64));
    world.restart();
    assert_eq!((world.dead(), world.globex().dead), (Vec::new(), 0));
}
