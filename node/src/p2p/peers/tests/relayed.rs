//! Links through relays: that they move to direct connections, in every order of events, and the rules
//! one by one.

use super::*;

#[test]
fn a_link_moves_from_a_relay_to_a_direct_connection_whatever_the_order() {
    for seed in 0..6000 {
        let mut world = World::new(seed);
        world.is_behind_nat = true;
        let one = world.pick(2);
        world.want(one);
        if seed % 3 == 0 {
            world.want(1 - one);
        }
        for _ in 0..seed % 16 {
            let side = world.pick(2);
            if !world.on_the_way[side].is_empty() {
                world.step(side);
            }
        }
        // A hole was punched.
        world.connect(false);
        world.run();
        world.beats(2 * SETTLED_BEATS);
        let pair = world.pair_up(0).unwrap_or_else(|| panic!("seed {seed}: no link"));
        assert_eq!(Some(pair), world.pair_up(1), "seed {seed}: different links");
        let connection = world.carried_by[&pair];
        assert!(!world.relayed.contains(&connection), "seed {seed}: still relayed");
        // A dial may fail, with its relayed connection, while the direct link is on its way.
        assert!(world.failed <= 1, "seed {seed}: {}", world.failed);
        for node in &world.nodes {
            let left = node.peers.values().flat_map(|peer| peer.connections.values());
            assert!(left.into_iter().all(|known| !known.is_relayed), "seed {seed}: kept");
        }
    }
}

#[test]
fn a_link_stays_with_its_relay_while_there_is_nothing_better() {
    for seed in 0..300 {
        let mut world = World::new(seed);
        world.is_behind_nat = true;
        world.want(0);
        world.want(1);
        world.run();
        let pair = world.pair_up(0);
        world.beats(2 * SETTLED_BEATS);
        assert!(pair.is_some() && world.pair_up(0) == pair && world.pair_up(1) == pair);
        assert!(world.links[0] == 1 && world.links[1] <= 2, "seed {seed}: {:?}", world.links);
    }
}

#[test]
fn only_who_opened_the_relayed_link_moves_it() {
    for opener in [Opener::Us, Opener::Them] {
        let (mut acme, globex) = acme_wants_globex();
        acme.connected(globex, 1, true);
        acme.opened(globex, 1, opener, ());
        let effects = acme.take_effects();
        let is_relayed =
            |effect: &Effect<u32, ()>| matches!(effect, Effect::Start { is_relayed: true, .. });
        assert!(effects.iter().any(is_relayed), "{effects:?}");
        acme.connected(globex, 2, false);
        let moves = [Effect::Open(globex, 2)];
        let moves = if opener == Opener::Us { &moves[..] } else { &[] };
        assert_eq!(acme.take_effects(), moves);
        acme.opened(globex, 2, opener, ());
        let end = End::Now("a direct connection takes the place of the relayed one");
        assert_eq!(acme.take_effects(), [Effect::End { link: 1, end }]);
        acme.ended(1, false);
        let start = Effect::Start { link: 2, peer: globex, opener, is_relayed: false, pair: () };
        assert_eq!(acme.take_effects(), [start, Effect::CloseConnection(1)]);
    }
}

#[test]
fn a_relayed_link_outlives_a_direct_connection_without_lanes() {
    let (mut acme, globex) = acme_wants_globex();
    acme.connected(globex, 1, true);
    acme.opened(globex, 1, Opener::Us, ());
    acme.connected(globex, 2, false);
    acme.take_effects();
    acme.open_failed(globex, 2, "no lanes");
    assert_eq!(acme.take_effects(), [Effect::CloseConnection(2)]);
    acme.beat();
    assert_eq!(acme.take_effects(), [], "there is nothing better");
}

#[test]
fn a_relayed_connection_that_carries_nothing_is_closed_after_a_while() {
    let mut acme = Peers::<u32, ()>::new(PeerId::random());
    let [mallory, globex] = [PeerId::random(), PeerId::random()];
    acme.connected(mallory, 1, true);
    acme.connected(mallory, 2, false);
    acme.connected(globex, 3, true);
    acme.opened(globex, 3, Opener::Them, ());
    acme.take_effects();
    (1..SETTLED_BEATS).for_each(|_| acme.beat());
    assert_eq!(acme.take_effects(), []);
    acme.beat();
    assert_eq!(acme.take_effects(), [Effect::CloseConnection(1)]);
}
