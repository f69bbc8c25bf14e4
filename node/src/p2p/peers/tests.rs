//! Two nodes that settle on one link, in every order of events, and the rules one by one.

mod relayed;

use std::cell::RefCell;
use std::rc::Rc;

use super::*;

type Dropped = Rc<RefCell<Vec<(usize, u32)>>>;

/// One side's half of a pair; dropping it is what the other side sees as the end.
#[derive(Debug)]
struct Half {
    side: usize,
    pair: u32,
    dropped: Dropped,
}

impl Drop for Half {
    fn drop(&mut self) {
        self.dropped.borrow_mut().push((self.side, self.pair));
    }
}

/// What is told of a connection comes by a stream of its own, numbered from here.
const IDENTIFY: u32 = 1 << 30;

#[derive(Debug)]
enum Happens {
    Connected(u32),
    Identified(u32, Instance),
    Opened(u32, Opener, Half),
    OpenFailed(u32),
    Disconnected(u32),
    Ended(u64),
}

/// Two nodes and what is on its way to each; per connection order is kept, but for what each tells
/// of itself, else anything goes.
struct World {
    ids: [PeerId; 2],
    instances: [Instance; 2],
    nodes: [Peers<u32, Half>; 2],
    on_the_way: [Vec<(u32, Happens)>; 2],
    up: [BTreeMap<u64, Half>; 2],
    /// How many links each side has had.
    links: [usize; 2],
    /// Connections that carry nothing any more; one side may not know it yet.
    dead: BTreeSet<u32>,
    /// Whether dials find a way through a relay only, and the connections that came of it.
    is_behind_nat: bool,
    relayed: BTreeSet<u32>,
    /// The connection of each pair.
    carried_by: BTreeMap<u32, u32>,
    dropped: Dropped,
    numbers: u32,
    random: u64,
    failed: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut ids = [PeerId::random(), PeerId::random()];
        ids.sort();
        let [low, high] = ids;
        Self {
            ids,
            instances: [Instance(1), Instance(2)],
            nodes: [Peers::new(low), Peers::new(high)],
            on_the_way: [Vec::new(), Vec::new()],
            up: [BTreeMap::new(), BTreeMap::new()],
            links: [0, 0],
            dead: BTreeSet::new(),
            is_behind_nat: false,
            relayed: BTreeSet::new(),
            carried_by: BTreeMap::new(),
            dropped: Dropped::default(),
            numbers: 0,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            failed: 0,
        }
    }

    fn pick(&mut self, from: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random % u64::try_from(from).unwrap()).unwrap()
    }

    fn number(&mut self) -> u32 {
        self.numbers += 1;
        self.numbers
    }

    fn want(&mut self, side: usize) {
        self.nodes[side].want(self.ids[1 - side]);
        self.obey(side);
    }

    fn connect(&mut self, is_relayed: bool) {
        let connection = self.number();
        if is_relayed {
            self.relayed.insert(connection);
        }
        for end in [0, 1] {
            self.on_the_way[end].push((connection, Happens::Connected(connection)));
        }
    }

    fn beats(&mut self, beats: u64) {
        for _ in 0..beats {
            for side in [0, 1] {
                self.nodes[side].beat();
                self.obey(side);
            }
            self.run();
        }
    }

    fn obey(&mut self, side: usize) {
        for effect in self.nodes[side].take_effects() {
            match effect {
                Effect::Dial(_) => self.connect(self.is_behind_nat),
                Effect::Open(_, connection) if self.dead.contains(&connection) => {
                    let failed = Happens::OpenFailed(connection);
                    self.on_the_way[side].push((connection, failed));
                }
                Effect::Open(_, connection) => {
                    let pair = self.number();
                    self.carried_by.insert(pair, connection);
                    for (end, opener) in [(side, Opener::Us), (1 - side, Opener::Them)] {
                        let half = Half { side: end, pair, dropped: Rc::clone(&self.dropped) };
                        let opened = Happens::Opened(connection, opener, half);
                        self.on_the_way[end].push((connection, opened));
                    }
                }
                Effect::Start { link, pair, .. } => {
                    assert!(self.up[side].is_empty(), "two links at a time");
                    self.up[side].insert(link, pair);
                    self.links[side] += 1;
                }
                Effect::End { link, .. } => self.end(side, link),
                Effect::Failed { .. } => self.failed += 1,
                Effect::CloseConnection(connection) => {
                    if self.dead.insert(connection) {
                        let closed = Happens::Disconnected(connection);
                        self.on_the_way[1 - side].push((connection, closed));
                    }
                }
                Effect::Disconnect(_) => {}
            }
        }
        let gone = std::mem::take(&mut *self.dropped.borrow_mut());
        for (dropper, pair) in gone {
            let other = 1 - dropper;
            let cut = self.up[other].iter().find(|(_, half)| half.pair == pair).map(|(l, _)| *l);
            if let Some(link) = cut {
                self.end(other, link);
            }
        }
    }

    fn end(&mut self, side: usize, link: u64) {
        if self.up[side].remove(&link).is_some() {
            self.on_the_way[side].push((u32::MAX, Happens::Ended(link)));
        }
    }

    /// The process is killed and is back at once, knowing nothing. That its connections are dead,
    /// the other side learns at any time, or never.
    fn crash(&mut self, side: usize, is_noticed: bool) {
        let mute = |half: &mut Half| half.dropped = Dropped::default();
        self.up[side].values_mut().for_each(mute);
        self.up[side].clear();
        for (_, happens) in &mut self.on_the_way[side] {
            if let Happens::Opened(_, _, half) = happens {
                mute(half);
            }
        }
        self.on_the_way[side].clear();
        // What it has just offered or told is lost with it.
        self.on_the_way[1 - side].retain(|(_, happens)| {
            !matches!(happens, Happens::Opened(_, Opener::Them, _) | Happens::Identified(..))
        });
        self.nodes[side] = Peers::new(self.ids[side]);
        self.instances[side].0 += 2;
        self.dropped.borrow_mut().clear();
        for connection in 1..=self.numbers {
            if self.dead.insert(connection) && is_noticed {
                let closed = Happens::Disconnected(connection);
                self.on_the_way[1 - side].push((connection, closed));
            }
        }
    }

    fn step(&mut self, side: usize) {
        // The first event of a random connection.
        let at = self.pick(self.on_the_way[side].len());
        let lane = self.on_the_way[side][at].0;
        let at = self.on_the_way[side].iter().position(|(of, _)| *of == lane).unwrap();
        let (_, happens) = self.on_the_way[side].remove(at);
        let other = self.ids[1 - side];
        let node = &mut self.nodes[side];
        match happens {
            Happens::Connected(connection) => {
                node.dialled(other);
                node.connected(other, connection, self.relayed.contains(&connection));
                if !self.dead.contains(&connection) {
                    let identified = Happens::Identified(connection, self.instances[1 - side]);
                    self.on_the_way[side].push((IDENTIFY + connection, identified));
                }
            }
            Happens::Identified(connection, instance) => {
                node.identified(other, connection, instance);
            }
            Happens::Opened(connection, opener, half) => {
                node.opened(other, connection, opener, half);
            }
            Happens::OpenFailed(connection) => node.open_failed(other, connection, "silence"),
            Happens::Disconnected(connection) => node.disconnected(other, connection),
            Happens::Ended(link) => node.ended(link, false),
        }
        self.obey(side);
    }

    fn run(&mut self) {
        for _ in 0..1000 {
            let busy: Vec<usize> =
                [0, 1].into_iter().filter(|side| !self.on_the_way[*side].is_empty()).collect();
            if busy.is_empty() {
                return;
            }
            let side = busy[self.pick(busy.len())];
            self.step(side);
        }
        panic!("the nodes never come to rest");
    }

    fn pair_up(&self, side: usize) -> Option<u32> {
        self.up[side].values().next().map(|half| half.pair)
    }
}

#[test]
fn simultaneous_dials_end_in_one_link_whatever_the_order() {
    for seed in 0..3000 {
        let mut world = World::new(seed);
        world.want(0);
        for _ in 0..seed % 4 {
            if !world.on_the_way[0].is_empty() {
                world.step(0);
            }
        }
        world.want(1);
        world.run();
        assert!(world.pair_up(0).is_some(), "seed {seed}: no link");
        assert_eq!(world.pair_up(0), world.pair_up(1), "seed {seed}: different links");
        assert_eq!(world.failed, 0, "seed {seed}");
        // The winner keeps its first link, the other side gives up its own at most.
        assert!(world.links[0] == 1 && world.links[1] <= 2, "seed {seed}: {:?}", world.links);
    }
}

#[test]
fn a_peer_that_lost_its_link_gets_a_new_one() {
    for asks in [0, 1] {
        let mut world = World::new(7);
        world.want(1 - asks);
        world.run();
        for _ in 0..SETTLED_BEATS {
            world.nodes[1 - asks].beat();
        }
        // The asker restarted: it knows of nothing, and its old halves are silent, not closed.
        world.up[asks].values_mut().for_each(|half| half.dropped = Dropped::default());
        world.up[asks].clear();
        world.nodes[asks] = Peers::new(world.ids[asks]);
        world.want(asks);
        world.run();
        assert!(world.pair_up(0).is_some());
        assert_eq!(world.pair_up(0), world.pair_up(1), "asker {asks}");
    }
}

#[test]
fn a_peer_that_crashed_is_linked_again_whatever_the_order() {
    for seed in 0..6000 {
        let mut world = World::new(seed);
        let [crashes, one, other] = [(); 3].map(|()| world.pick(2));
        world.want(one);
        world.want(other);
        for _ in 0..seed % 12 {
            let side = world.pick(2);
            if !world.on_the_way[side].is_empty() {
                world.step(side);
            }
        }
        world.crash(crashes, true);
        world.want(crashes);
        world.run();
        // The other side may have lost a link that it was happy with, and says so to its caller.
        assert!(world.pair_up(0).is_some(), "seed {seed}: no link");
        assert_eq!(world.pair_up(0), world.pair_up(1), "seed {seed}: different links");
    }
}

#[test]
fn a_peer_that_crashed_is_linked_again_before_its_old_connection_is_known_to_be_dead() {
    for seed in 0..3000 {
        let mut world = World::new(seed);
        let [crashes, one] = [(); 2].map(|()| world.pick(2));
        world.want(one);
        world.run();
        world.crash(crashes, false);
        world.want(crashes);
        world.run();
        assert!(world.pair_up(0).is_some(), "seed {seed}: no link");
        assert_eq!(world.pair_up(0), world.pair_up(1), "seed {seed}: different links");
        assert_eq!(world.failed, 0, "seed {seed}");
        let [crashed, other] = [crashes, 1 - crashes].map(|side| world.nodes[side].peers.len());
        assert_eq!((crashed, other), (1, 1));
        let peer = world.nodes[1 - crashes].peers.values().next().unwrap();
        assert_eq!(peer.connections.len(), 1, "the dead one is closed");
    }
}

/// Globex has the lower id, so acme always yields to what globex opens.
fn acme_wants_globex() -> (Peers<u32, ()>, PeerId) {
    let mut ids = [PeerId::random(), PeerId::random()];
    ids.sort();
    let [globex, acme] = ids;
    let mut acme = Peers::new(acme);
    acme.want(globex);
    assert_eq!(acme.take_effects(), [Effect::Dial(globex)]);
    (acme, globex)
}

fn failed(peer: PeerId, why: &str) -> Effect<u32, ()> {
    Effect::Failed { peer, why: why.to_owned() }
}

#[test]
fn every_dial_is_answered_once() {
    let (mut acme, globex) = acme_wants_globex();
    acme.want(globex);
    assert_eq!(acme.take_effects(), [], "one dial at a time");
    acme.dial_failed(globex, "refused");
    assert_eq!(acme.take_effects(), [failed(globex, "refused")]);
    acme.dial_failed(globex, "refused");
    assert_eq!(acme.take_effects(), []);
    assert!(acme.peers.is_empty(), "nothing is remembered of a stranger");
}

#[test]
fn a_connection_lost_while_opening_fails_the_dial() {
    let (mut acme, globex) = acme_wants_globex();
    acme.dialled(globex);
    acme.connected(globex, 1, false);
    assert_eq!(acme.take_effects(), [Effect::Open(globex, 1)]);
    acme.disconnected(globex, 1);
    assert_eq!(acme.take_effects(), [failed(globex, "the connection closed")]);
    assert!(acme.peers.is_empty());
}

#[test]
fn an_old_connection_that_dies_while_opening_is_replaced_by_a_dial() {
    let globex = PeerId::random();
    let mut acme = Peers::<u32, ()>::new(PeerId::random());
    acme.connected(globex, 1, false);
    acme.want(globex);
    assert_eq!(acme.take_effects(), [Effect::Open(globex, 1)]);
    acme.disconnected(globex, 1);
    assert_eq!(acme.take_effects(), [Effect::Dial(globex)]);
    acme.dial_failed(globex, "refused");
    assert_eq!(acme.take_effects(), [failed(globex, "refused")]);
}

#[test]
fn a_dial_left_from_an_earlier_wish_does_not_answer_for_a_later_one() {
    let (mut acme, globex) = acme_wants_globex();
    acme.connected(globex, 1, false);
    acme.opened(globex, 1, Opener::Them, ());
    acme.disconnected(globex, 1);
    acme.ended(1, false);
    acme.take_effects();
    acme.want(globex);
    assert_eq!(acme.take_effects(), [], "the first dial is still under way");
    acme.dialled(globex);
    acme.connected(globex, 2, false);
    assert_eq!(acme.take_effects(), [Effect::Open(globex, 2)]);
    acme.disconnected(globex, 2);
    assert_eq!(acme.take_effects(), [Effect::Dial(globex)]);
    acme.dial_failed(globex, "refused");
    assert_eq!(acme.take_effects(), [failed(globex, "refused")]);
}

#[test]
fn a_second_connection_takes_over_from_one_that_dies() {
    let (mut acme, globex) = acme_wants_globex();
    acme.connected(globex, 1, false);
    acme.dialled(globex);
    acme.connected(globex, 2, false);
    assert_eq!(acme.take_effects(), [Effect::Open(globex, 1)]);
    acme.disconnected(globex, 1);
    assert_eq!(acme.take_effects(), [Effect::Open(globex, 2)]);
}

/// Acme has the lower id and has just opened a link over connection 1, when globex offers another
/// one over connection 2. Acme knows who answers on connection 1.
fn acme_holds_an_offer() -> (Peers<u32, u8>, PeerId) {
    let mut ids = [PeerId::random(), PeerId::random()];
    ids.sort();
    let [acme, globex] = ids;
    let mut acme = Peers::new(acme);
    acme.connected(globex, 1, false);
    acme.identified(globex, 1, Instance(7));
    acme.want(globex);
    acme.opened(globex, 1, Opener::Us, 1);
    acme.connected(globex, 2, false);
    acme.take_effects();
    acme.opened(globex, 2, Opener::Them, 2);
    assert_eq!(acme.take_effects(), []);
    (acme, globex)
}

fn starts(link: u64, peer: PeerId, opener: Opener, pair: u8) -> [Effect<u32, u8>; 1] {
    [Effect::Start { link, peer, opener, is_relayed: false, pair }]
}

#[test]
fn the_offer_of_a_peer_that_dials_at_the_same_time_is_dropped() {
    let (mut acme, globex) = acme_holds_an_offer();
    acme.identified(globex, 2, Instance(7));
    // Now both are known, and the next offer need not wait.
    acme.opened(globex, 2, Opener::Them, 3);
    assert_eq!(acme.take_effects(), []);
    acme.ended(1, false);
    assert_eq!(acme.take_effects(), [], "nothing is left of them");
}

#[test]
fn the_newest_offer_of_a_peer_that_was_started_again_is_taken() {
    let (mut acme, globex) = acme_holds_an_offer();
    acme.opened(globex, 2, Opener::Them, 3);
    acme.identified(globex, 2, Instance(8));
    let end = End::Now("the peer was started again");
    let effects = [Effect::CloseConnection(1), Effect::End { link: 1, end }];
    assert_eq!(acme.take_effects(), effects);
    acme.opened(globex, 2, Opener::Them, 4);
    assert_eq!(acme.take_effects(), [], "it has been told to end");
    acme.disconnected(globex, 1);
    acme.ended(1, false);
    assert_eq!(acme.take_effects(), starts(2, globex, Opener::Them, 4));
}

#[test]
fn a_link_to_a_peer_that_was_started_again_ends_also_when_it_offers_none() {
    for opener in [Opener::Us, Opener::Them] {
        let (mut acme, globex) = acme_wants_globex();
        acme.connected(globex, 1, false);
        acme.opened(globex, 1, opener, ());
        acme.identified(globex, 1, Instance(7));
        (0..SETTLED_BEATS).for_each(|_| acme.beat());
        acme.connected(globex, 2, false);
        acme.take_effects();
        acme.identified(globex, 2, Instance(8));
        let end = End::Now("the peer was started again");
        let effects = [Effect::CloseConnection(1), Effect::End { link: 1, end }];
        assert_eq!(acme.take_effects(), effects);
        acme.ended(1, false);
        acme.want(globex);
        assert_eq!(acme.take_effects(), [Effect::Open(globex, 2)]);
    }
}

#[test]
fn an_offer_is_taken_when_the_old_connection_closes_and_gone_with_its_own() {
    let (mut acme, globex) = acme_holds_an_offer();
    acme.disconnected(globex, 1);
    acme.take_effects();
    acme.beat();
    acme.ended(1, false);
    assert_eq!(acme.take_effects(), starts(2, globex, Opener::Them, 2));

    let (mut acme, globex) = acme_holds_an_offer();
    acme.disconnected(globex, 2);
    acme.ended(1, false);
    assert_eq!(acme.take_effects(), []);
}

#[test]
fn an_offer_of_a_peer_that_tells_nothing_of_itself_costs_no_link_that_has_settled() {
    let (mut acme, globex) = acme_holds_an_offer();
    (0..SETTLED_BEATS).for_each(|_| acme.beat());
    acme.identified(globex, 1, Instance(7));
    acme.ended(1, false);
    assert_eq!(acme.take_effects(), [], "it was dropped");
}

#[test]
fn an_offer_waits_for_what_becomes_of_our_own_opening() {
    let opening = || {
        let mut ids = [PeerId::random(), PeerId::random()];
        ids.sort();
        let [acme, globex] = ids;
        let mut acme = Peers::<u32, u8>::new(acme);
        acme.connected(globex, 1, false);
        acme.want(globex);
        acme.connected(globex, 2, false);
        acme.opened(globex, 2, Opener::Them, 2);
        assert_eq!(acme.take_effects(), [Effect::Open(globex, 1)]);
        (acme, globex)
    };
    let (mut acme, globex) = opening();
    acme.opened(globex, 1, Opener::Us, 1);
    assert_eq!(acme.take_effects(), starts(1, globex, Opener::Us, 1));

    let (mut acme, globex) = opening();
    acme.open_failed(globex, 1, "silence");
    let mut effects = acme.take_effects();
    assert_eq!(effects.remove(0), Effect::CloseConnection(1));
    assert_eq!(effects, starts(1, globex, Opener::Them, 2));

    let (mut acme, globex) = opening();
    acme.disconnected(globex, 1);
    assert_eq!(acme.take_effects(), starts(1, globex, Opener::Them, 2));

    let (mut acme, globex) = opening();
    acme.identified(globex, 1, Instance(7));
    acme.identified(globex, 2, Instance(8));
    let mut effects = acme.take_effects();
    assert_eq!(effects.remove(0), Effect::CloseConnection(1));
    assert_eq!(effects, starts(1, globex, Opener::Them, 2));
}

#[test]
fn a_peer_without_lanes_loses_its_connection() {
    let (mut acme, globex) = acme_wants_globex();
    acme.dialled(globex);
    acme.connected(globex, 1, false);
    acme.take_effects();
    acme.open_failed(globex, 1, "no lanes");
    assert_eq!(acme.take_effects(), [Effect::CloseConnection(1), failed(globex, "no lanes")]);
}

#[test]
fn closing_flushes_then_disconnects_and_refuses_dials_meanwhile() {
    let (mut acme, globex) = acme_wants_globex();
    acme.dialled(globex);
    acme.connected(globex, 1, false);
    acme.opened(globex, 1, Opener::Us, ());
    acme.take_effects();
    acme.close(globex);
    assert_eq!(acme.take_effects(), [Effect::End { link: 1, end: End::AfterFlush }]);
    acme.want(globex);
    assert_eq!(acme.take_effects(), [failed(globex, "the link is being closed")]);
    acme.ended(1, false);
    assert_eq!(acme.take_effects(), [Effect::Disconnect(globex)]);
    acme.want(globex);
    assert_eq!(acme.take_effects(), [Effect::Dial(globex)], "not on the dying connection");
}

#[test]
fn this_node_does_not_dial_itself() {
    let mut acme = Peers::<u32, ()>::new(PeerId::random());
    acme.want(acme.local);
    assert_eq!(acme.take_effects(), [failed(acme.local, "that is this node itself")]);
    assert!(acme.peers.is_empty());
}

#[test]
fn dials_are_bounded() {
    let mut acme = Peers::<u32, ()>::new(PeerId::random());
    for _ in 0..DIALS_MAX {
        acme.want(PeerId::random());
    }
    acme.take_effects();
    let globex = PeerId::random();
    acme.want(globex);
    assert_eq!(acme.take_effects(), [failed(globex, "too many dials are under way")]);
    assert_eq!(acme.peers.len(), DIALS_MAX);
}
