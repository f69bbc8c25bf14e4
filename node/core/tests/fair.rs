//! One peer's trouble is its own (I21): whatever globex does, what is for initech goes out in the batch
//! that has written it, and a backlog drains meanwhile. acme is a real core on a memory store; the others
//! answer by hand. How long a batch takes is for the benches.

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
    event::{Event, LinkId, PeerInput},
    ingress::{Read, read_peer_frame},
};
use tidings_protocol::{
    envelope::EnvelopeHead,
    id::{Eid, NodeId},
    limits,
    peer_frame::Answer,
    refusal::{Refusal, RefusalCode},
};
use tidings_store::MemDisk;

use support::{NOW_MS, Node, Phone, mark};

const ACME: u8 = 10;
const GLOBEX: u8 = 20;
const INITECH: u8 = 50;
/// More than two windows of envelopes.
const BACKLOG: usize = 10_000;
/// Rows that one batch reads of the outbox of one peer.
const TURN: usize = 1_024;

/// A peer of acme whose core does nothing but greet.
struct Other {
    node: Node,
    seed: u8,
    phone: Phone,
    link: LinkId,
    is_linked: bool,
}

impl Other {
    fn new(seed: u8, name: &str, phone_seed: u8, link: u64) -> Self {
        let mut node = Node::open(seed, &MemDisk::new(), seed);
        let phone = Phone::join(&mut node, name, phone_seed);
        Self { node, seed, phone, link: LinkId(link), is_linked: false }
    }
}

struct World {
    acme: Node,
    alice: Phone,
    globex: Other,
    initech: Other,
    number: u64,
}

/// What acme has sent since the last look.
#[derive(Debug, Default)]
struct Sent {
    to_globex: Vec<Eid>,
    /// The numbers of the same.
    numbers: Vec<u64>,
    to_initech: Vec<Eid>,
}

impl World {
    /// acme, linked to initech; a backlog waits for globex.
    fn with_backlog() -> Self {
        let mut acme = Node::open(ACME, &MemDisk::new(), 1);
        let alice = Phone::join(&mut acme, "alice", 30);
        let globex = Other::new(GLOBEX, "bob", 40, 1);
        let initech = Other::new(INITECH, "carol", 60, 2);
        let mut world = Self { acme, alice, globex, initech, number: 0 };
        world.link_initech();
        for _ in 0..BACKLOG {
            world.submit_to_globex();
        }
        world
    }

    fn link_globex(&mut self) {
        greet(&mut self.acme, &mut self.globex);
    }

    fn link_initech(&mut self) {
        greet(&mut self.acme, &mut self.initech);
    }

    fn submit_to_globex(&mut self) {
        let head = self.next_to_globex();
        self.alice.submit(&mut self.acme, head, self.number);
    }

    /// Somebody else writes to globex.
    fn submit_as(&mut self, sender: &Phone) -> u64 {
        let head = self.next_to_globex();
        sender.submit(&mut self.acme, head, self.number);
        self.number
    }

    fn next_to_globex(&mut self) -> EnvelopeHead {
        self.number += 1;
        self.globex.phone.envelope(self.acme.id, self.globex.node.id, self.number)
    }

    /// globex takes what it gets until nothing more comes; the numbers in their order.
    fn drain(&mut self) -> Vec<u64> {
        let mut numbers = Vec::new();
        loop {
            let sent = self.sent();
            if sent.to_globex.is_empty() {
                return numbers;
            }
            numbers.extend(sent.numbers);
            self.answer(self.globex.link, &sent.to_globex, None);
        }
    }

    /// What is written for initech goes out at once, and is taken.
    fn initech_is_served(&mut self) -> Sent {
        let before = self.sent();
        assert_eq!(before.to_initech, []);
        self.number += 1;
        let head = self.initech.phone.envelope(self.acme.id, self.initech.node.id, self.number);
        self.alice.submit(&mut self.acme, head, self.number);
        let mut sent = self.sent();
        let [eid] = sent.to_initech.as_slice() else {
            panic!("one for initech, at once: {sent:?}")
        };
        self.answer(self.initech.link, &[*eid], None);
        sent.to_globex.splice(0..0, before.to_globex);
        sent.numbers.splice(0..0, before.numbers);
        sent
    }

    fn sent(&mut self) -> Sent {
        let mut sent = Sent::default();
        let globex: NodeId = self.globex.node.id;
        let opener = self.acme.opener.clone();
        for frame in self.acme.to_peer.drain(..) {
            let read = read_peer_frame(&frame, NOW_MS, &opener);
            if let Read::Input(PeerInput::Deliver(envelope)) = read {
                if envelope.head.header.destination == globex {
                    sent.to_globex.push(envelope.eid);
                    sent.numbers.push(number_of(&envelope.head));
                } else {
                    sent.to_initech.push(envelope.eid);
                }
            }
        }
        sent
    }

    fn answer(&mut self, link: LinkId, eids: &[Eid], refusal: Option<RefusalCode>) {
        let answer = |eid: &Eid| {
            let refusal = refusal.map(|code| Refusal { code, after_ms: Some(1_000) });
            Answer { eid: *eid, refusal, lists: Vec::new() }
        };
        let answers = eids.iter().map(answer).collect();
        let input = PeerInput::Took { answers, mark: mark(1) };
        self.acme.give([Event::Peer { link, input }]);
    }

    /// Time goes on; both peers are heard.
    fn pass(&mut self, ms: u64) {
        self.acme.now_ms += ms;
        let heard = |link| Event::Peer { link, input: PeerInput::KeepAlive { mark: mark(1) } };
        let links = [&self.globex, &self.initech].into_iter().filter(|other| other.is_linked);
        let mut events: Vec<Event> = links.map(|other| heard(other.link)).collect();
        events.push(Event::Tick);
        self.acme.give(events);
    }
}

fn number_of(head: &EnvelopeHead) -> u64 {
    u64::from_be_bytes(head.targets[0].part.as_ref().try_into().expect("a number"))
}

/// A link on which both have greeted.
fn greet(acme: &mut Node, other: &mut Other) {
    let link = other.link;
    if other.is_linked {
        acme.give([Event::PeerClosed { link }]);
        other.node.give([Event::PeerClosed { link }]);
    }
    other.is_linked = true;
    other.node.to_peer.clear();
    for (node, seed) in [(&mut *acme, other.seed), (&mut other.node, ACME)] {
        let transport = Bytes::from(vec![seed; 34]);
        node.give([Event::PeerConnected { link, transport, dialer: true }]);
    }
    for frame in other.node.to_peer.drain(..) {
        let read = read_peer_frame(&frame, NOW_MS, &acme.opener);
        let Read::Input(input) = read else { panic!("a frame") };
        acme.give([Event::Peer { link, input }]);
    }
}

#[test]
fn a_peer_that_answers_nothing_holds_up_no_other() {
    let mut world = World::with_backlog();
    world.link_globex();
    let mut sent = 0;
    for _ in 0..200 {
        sent += world.initech_is_served().to_globex.len();
        world.pass(100);
    }
    assert!((1..=limits::PEER_WINDOW_ENVELOPES).contains(&sent), "a window at most: {sent}");
    // Nor does it when its link is given up, and it hangs again on the next.
    for _ in 0..3 {
        world.pass(limits::PEER_ANSWER_MS_MAX);
        assert_eq!(world.acme.closed, [world.globex.link]);
        world.acme.closed.clear();
        world.initech_is_served();
        world.link_globex();
        world.initech_is_served();
    }
}

#[test]
fn a_peer_that_refuses_everything_holds_up_no_other() {
    let mut world = World::with_backlog();
    world.link_globex();
    for code in [RefusalCode::Quota, RefusalCode::Malformed, RefusalCode::Busy] {
        for _ in 0..50 {
            let sent = world.initech_is_served();
            world.answer(world.globex.link, &sent.to_globex, Some(code));
            world.pass(2_000);
        }
    }
}

#[test]
fn a_peer_whose_links_break_holds_up_no_other() {
    let mut world = World::with_backlog();
    for _ in 0..50 {
        world.link_globex();
        world.initech_is_served();
        world.pass(250);
        world.initech_is_served();
    }
}

#[test]
fn a_backlog_drains_in_full_turns_while_others_are_served() {
    let mut world = World::with_backlog();
    world.link_globex();
    let (mut taken, mut batches) = (Vec::new(), 0);
    while taken.len() < BACKLOG {
        batches += 1;
        let sent = world.initech_is_served();
        world.answer(world.globex.link, &sent.to_globex, None);
        taken.extend(sent.to_globex);
        assert!(batches <= 2 * BACKLOG / TURN, "each answer brings the next turn");
    }
    let distinct: std::collections::BTreeSet<&Eid> = taken.iter().collect();
    assert_eq!(distinct.len(), taken.len(), "each once");
    assert_eq!(world.initech_is_served().to_globex, []);
}

#[test]
fn who_wrote_last_is_served_first_when_a_peer_comes_back() {
    let mut world = World::with_backlog();
    let (backlog, carol, dave) = (
        BACKLOG as u64,
        Phone::join(&mut world.acme, "carol", 70),
        Phone::join(&mut world.acme, "dave", 80),
    );
    let (first, second) = (world.submit_as(&carol), world.submit_as(&carol));
    world.link_globex();
    let sent = world.sent();
    assert_eq!(sent.numbers[..4], [first, second, 1, 2], "carol's in their order, then the oldest");
    // Whoever writes meanwhile does not wait for the backlog, unless it is his own.
    world.submit_to_globex();
    let third = world.submit_as(&dave);
    let next = world.sent();
    assert_eq!(next.numbers.iter().find(|number| **number > backlog), Some(&third));
    world.answer(world.globex.link, &sent.to_globex, None);
    world.answer(world.globex.link, &next.to_globex, None);
    let mut numbers = [sent.numbers, next.numbers, world.drain()].concat();
    let hers: Vec<u64> = numbers.iter().copied().filter(|number| *number <= backlog).collect();
    assert!(hers.is_sorted(), "alice's in their order");
    assert_eq!(numbers.last(), Some(&(third - 1)), "the last one that she wrote is the last one");
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=world.number).collect::<Vec<u64>>(), "each once");
}

#[test]
fn what_went_ahead_in_vain_has_its_turn_still() {
    for is_refused in [true, false] {
        let mut world = World::with_backlog();
        let carol = Phone::join(&mut world.acme, "carol", 70);
        let (first, second) = (world.submit_as(&carol), world.submit_as(&carol));
        world.link_globex();
        let sent = world.sent();
        assert_eq!(sent.numbers[..3], [first, second, 1]);
        let (ahead, others) = sent.to_globex.split_at(2);
        if is_refused {
            world.answer(world.globex.link, &ahead[..1], Some(RefusalCode::Busy));
            world.answer(world.globex.link, &ahead[1..], None);
            world.answer(world.globex.link, others, None);
        } else {
            world.link_globex();
        }
        let third = world.submit_as(&carol);
        let mut numbers = world.drain();
        let hers: Vec<u64> = numbers.iter().copied().filter(|n| *n > BACKLOG as u64).collect();
        // What was taken is not sent again; what comes after what was not waits for its turn.
        let expected = if is_refused { vec![first, third] } else { vec![first, second, third] };
        assert_eq!(hers, expected, "refused: {is_refused}");
        numbers.retain(|number| *number <= BACKLOG as u64);
        assert!(numbers.is_sorted() && numbers.last() == Some(&(BACKLOG as u64)));
    }
}
