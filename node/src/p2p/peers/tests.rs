//! Two nodes that settle on one link, in every order of events, and the rules one by one.

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

#[derive(Debug)]
enum Happens {
    Connected(u32),
    Opened(u32, Opener, Half),
    Ended(u64),
}

/// Two nodes and what is on its way to each; per connection order is kept, else anything goes.
struct World {
    ids: [PeerId; 2],
    nodes: [Peers<u32, Half>; 2],
    on_the_way: [Vec<(u32, Happens)>; 2],
    up: [BTreeMap<u64, Half>; 2],
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
            nodes: [Peers::new(low), Peers::new(high)],
            on_the_way: [Vec::new(), Vec::new()],
            up: [BTreeMap::new(), BTreeMap::new()],
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

    fn obey(&mut self, side: usize) {
        for effect in self.nodes[side].take_effects() {
            match effect {
                Effect::Dial(_) => {
                    let connection = self.number();
                    for end in [0, 1] {
                        self.on_the_way[end].push((connection, Happens::Connected(connection)));
                    }
                }
                Effect::Open(_, connection) => {
                    let pair = self.number();
                    for (end, opener) in [(side, Opener::Us), (1 - side, Opener::Them)] {
                        let half = Half { side: end, pair, dropped: Rc::clone(&self.dropped) };
                        let opened = Happens::Opened(connection, opener, half);
                        self.on_the_way[end].push((connection, opened));
                    }
                }
                Effect::Start { link, pair, .. } => {
                    assert!(self.up[side].is_empty(), "two links at a time");
                    self.up[side].insert(link, pair);
                }
                Effect::End { link, .. } => self.end(side, link),
                Effect::Failed { .. } => self.failed += 1,
                Effect::CloseConnection(_) | Effect::Disconnect(_) => {}
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
                node.connected(other, connection);
            }
            Happens::Opened(connection, opener, half) => {
                node.opened(other, connection, opener, half);
            }
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
    acme.connected(globex, 1);
    assert_eq!(acme.take_effects(), [Effect::Open(globex, 1)]);
    acme.disconnected(globex, 1);
    assert_eq!(acme.take_effects(), [failed(globex, "the connection closed")]);
    assert!(acme.peers.is_empty());
}

#[test]
fn an_old_connection_that_dies_while_opening_is_replaced_by_a_dial() {
    let globex = PeerId::random();
    let mut acme = Peers::<u32, ()>::new(PeerId::random());
    acme.connected(globex, 1);
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
    acme.connected(globex, 1);
    acme.opened(globex, 1, Opener::Them, ());
    acme.disconnected(globex, 1);
    acme.ended(1, false);
    acme.take_effects();
    acme.want(globex);
    assert_eq!(acme.take_effects(), [], "the first dial is still under way");
    acme.dialled(globex);
    acme.connected(globex, 2);
    assert_eq!(acme.take_effects(), [Effect::Open(globex, 2)]);
    acme.disconnected(globex, 2);
    assert_eq!(acme.take_effects(), [Effect::Dial(globex)]);
    acme.dial_failed(globex, "refused");
    assert_eq!(acme.take_effects(), [failed(globex, "refused")]);
}

#[test]
fn a_second_connection_takes_over_from_one_that_dies() {
    let (mut acme, globex) = acme_wants_globex();
    acme.connected(globex, 1);
    acme.dialled(globex);
    acme.connected(globex, 2);
    assert_eq!(acme.take_effects(), [Effect::Open(globex, 1)]);
    acme.disconnected(globex, 1);
    assert_eq!(acme.take_effects(), [Effect::Open(globex, 2)]);
}

#[test]
fn a_peer_without_lanes_loses_its_connection() {
    let (mut acme, globex) = acme_wants_globex();
    acme.dialled(globex);
    acme.connected(globex, 1);
    acme.take_effects();
    acme.open_failed(globex, 1, "no lanes");
    assert_eq!(acme.take_effects(), [Effect::CloseConnection(1), failed(globex, "no lanes")]);
}

#[test]
fn closing_flushes_then_disconnects_and_refuses_dials_meanwhile() {
    let (mut acme, globex) = acme_wants_globex();
    acme.dialled(globex);
    acme.connected(globex, 1);
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
