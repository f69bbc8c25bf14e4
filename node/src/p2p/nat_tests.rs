//! Nodes that nobody can dial, over real sockets on the loopback: through relays, and out of them by
//! hole punching. Every wait is for an event.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test names what it waits for")]

use std::sync::Arc;
use std::time::Duration;

use super::tests::{Node, QUIC, TCP, config, frame, judge, within};
use super::*;

/// A node that listens on nothing, with these relays.
async fn deaf(relays: &[&Node]) -> Node {
    let config = P2pConfig { listen: Vec::new(), ..config(TCP) };
    with_relays(config, relays).await
}

async fn with_relays(config: P2pConfig, relays: &[&Node]) -> Node {
    let config = P2pConfig { relays: relays.iter().map(|relay| relay.id()).collect(), ..config };
    let node = Node::start_as(config, Arc::new(judge)).await;
    relays.iter().for_each(|relay| knows(&node, relay));
    node
}

/// A person has told the one about the other.
fn knows(node: &Node, other: &Node) {
    let (peer, addresses) = (other.id(), other.addresses.clone());
    node.ask(Command::AddBootstrap { peer, addresses });
}

async fn relay(listen: &str, relaying: Relaying) -> Node {
    Node::start_as(P2pConfig { relaying, ..config(listen) }, Arc::new(judge)).await
}

fn for_anyone() -> Relaying {
    Relaying { whom: RelayFor::Anyone, ..Relaying::default() }
}

impl Node {
    /// Waits until so many addresses through relays are there, and gives them.
    async fn circuits(&mut self, count: usize) -> Vec<Multiaddr> {
        self.until(|event| match event {
            P2pEvent::Reach(Reach { circuits, .. }) => {
                (circuits.len() == count).then_some(circuits)
            }
            _ => None,
        })
        .await
    }

    async fn state(&mut self, wanted: Reachability) -> Vec<Multiaddr> {
        self.until(|event| match event {
            P2pEvent::Reach(Reach { state, direct, .. }) => (state == wanted).then_some(direct),
            _ => None,
        })
        .await
    }

    async fn relay_failed(&mut self) -> (PeerId, String) {
        self.until(|event| match event {
            P2pEvent::RelayFailed { relay, why } => Some((relay, why)),
            _ => None,
        })
        .await
    }

    /// Waits for a link that is, or is not, relayed.
    async fn up_through(&mut self, is_relayed: bool) {
        self.until(|event| match event {
            P2pEvent::LinkUp { relayed, .. } => (relayed == is_relayed).then_some(()),
            P2pEvent::DialFailed { why, .. } => panic!("the dial failed: {why}"),
            _ => None,
        })
        .await;
    }

    fn dial_at(&self, other: &Self, addresses: &[Multiaddr]) {
        self.ask(Command::Dial { peer: other.id(), addresses: addresses.to_vec() });
    }

    /// Waits until the figures say so; something happens at a node every few seconds at least.
    async fn shows(&mut self, is_so: impl Fn(&NatFigures) -> bool) {
        let looking = async {
            let mut beat = tokio::time::interval(Duration::from_millis(20));
            while !is_so(&self.p2p.nat()) {
                beat.tick().await;
            }
        };
        within(looking).await;
    }
}

/// Frames cross both ways on both lanes.
async fn frames_cross(acme: &mut Node, globex: &mut Node) {
    for lane in [Lane::Control, Lane::Bulk] {
        for (text, body) in [("first", 0), ("second", 60_000), ("third", 1)] {
            acme.send(lane, frame(text, body)).expect("there is room");
            assert_eq!(globex.frame().await, (lane, frame(text, body)));
            globex.send(lane, frame(text, body)).expect("there is room");
            assert_eq!(acme.frame().await, (lane, frame(text, body)));
        }
    }
}

async fn check_relayed(listen: &str) {
    let mut hub = relay(listen, for_anyone()).await;
    let [mut acme, mut globex] = [deaf(&[]).await, deaf(&[&hub]).await];
    let circuits = globex.circuits(1).await;
    assert_eq!(circuits, [circuit::through(hub.id(), &hub.addresses[0])]);
    acme.dial_at(&globex, &circuits);
    futures::join!(acme.up_through(true), globex.up_through(true));
    frames_cross(&mut acme, &mut globex).await;
    hub.shows(|nat| (nat.reservations_given, nat.circuits) == (1, 1)).await;
    for node in [&acme, &globex] {
        assert_eq!(node.p2p.nat().relayed_links.len(), 1);
    }
    assert_eq!((globex.p2p.nat().relays, globex.p2p.nat().reservations), (1, 1));
    acme.ask(Command::Close { peer: globex.id() });
    futures::join!(acme.down(), globex.down());
    assert_eq!(acme.p2p.nat().relayed_links.len(), 0);
    hub.shows(|nat| nat.circuits == 0).await;
    assert!(hub.links.is_empty(), "it relays, and takes no part");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_nobody_can_dial_are_linked_through_a_relay_over_quic() {
    check_relayed(QUIC).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_nobody_can_dial_are_linked_through_a_relay_over_tcp() {
    check_relayed(TCP).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_relay_dies_another_one_serves() {
    let [first, second] = [relay(TCP, for_anyone()).await, relay(TCP, for_anyone()).await];
    let (mut acme, mut globex) = (deaf(&[]).await, deaf(&[&first, &second]).await);
    let circuits = globex.circuits(2).await;
    let through = |relay: &Node| {
        let wanted = Some(relay.id());
        circuits.iter().find(|address| circuit::relay_of(address) == wanted).cloned().into_iter()
    };
    acme.dial_at(&globex, &through(&first).collect::<Vec<_>>());
    futures::join!(acme.up_through(true), globex.up_through(true));
    let dead = first.id();
    first.end().await;
    futures::join!(acme.down(), globex.down());
    acme.dial_at(&globex, &circuits);
    futures::join!(acme.up_through(true), globex.up_through(true));
    frames_cross(&mut acme, &mut globex).await;
    assert_eq!(second.p2p.nat().circuits, 1);
    let relayed = globex.p2p.nat();
    assert_eq!((relayed.relays, relayed.reservations), (2, 1), "{dead} is gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_comes_back_is_found_again() {
    let seed = TransportSeed::from_bytes([11; 32]);
    let as_relay = P2pConfig { transport_seed: seed, relaying: for_anyone(), ..config(TCP) };
    let hub = Node::start_as(as_relay.clone(), Arc::new(judge)).await;
    let mut globex = deaf(&[&hub]).await;
    let circuits = globex.circuits(1).await;
    let listen = hub.addresses.clone();
    let relay = hub.id();
    hub.end().await;
    assert_eq!(globex.relay_failed().await.0, relay);
    assert_eq!(globex.circuits(0).await, []);
    let _hub = Node::start_as(P2pConfig { listen, ..as_relay }, Arc::new(judge)).await;
    assert_eq!(globex.circuits(1).await, circuits);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_relays_for_nobody_unless_told_to_and_then_for_those_alone() {
    let nobody = relay(QUIC, Relaying::default()).await;
    let mut globex = deaf(&[&nobody]).await;
    let (relay_id, why) = globex.relay_failed().await;
    assert_eq!(relay_id, nobody.id());
    assert!(why.contains("does not support"), "{why}");
    assert_eq!(globex.p2p.nat().reservations, 0);

    let of_known = P2pConfig { listen: Vec::new(), ..config(TCP) };
    let known = of_known.transport_seed.peer_id().expect("a key");
    let whom = RelayFor::Peers([known].into());
    let hub = relay(QUIC, Relaying { whom, ..Relaying::default() }).await;
    let [mut initech, mut globex] = [with_relays(of_known, &[&hub]).await, deaf(&[&hub]).await];
    assert_eq!(initech.circuits(1).await.len(), 1);
    let (_, why) = globex.relay_failed().await;
    assert!(why.contains("resource limit"), "{why}");
    // Whoever wants to reach those that it relays for may do so.
    globex.dial_at(&initech, &[circuit::through(hub.id(), &hub.addresses[0])]);
    futures::join!(globex.up_through(true), initech.up_through(true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_holds_only_so_many_reservations_and_circuits() {
    let few = Relaying { reservations_max: 1, circuits_max: 1, ..for_anyone() };
    let hub = relay(QUIC, few).await;
    let mut globex = deaf(&[&hub]).await;
    let circuits = globex.circuits(1).await;
    let mut initech = deaf(&[&hub]).await;
    assert!(initech.relay_failed().await.1.contains("resource limit"));
    let [mut acme, mut umbrella] = [deaf(&[]).await, deaf(&[]).await];
    acme.dial_at(&globex, &circuits);
    futures::join!(acme.up_through(true), globex.up_through(true));
    umbrella.dial_at(&globex, &circuits);
    let why = umbrella.dial_failed().await;
    assert!(why.contains("resource limit"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_circuit_ends_with_its_bytes_or_its_time_and_another_one_serves() {
    let little = Relaying { circuit_bytes_max: 100_000, ..for_anyone() };
    let short = Relaying { circuit_life: Duration::from_secs(1), ..for_anyone() };
    for (relaying, body) in [(little, 60_000), (short, 1)] {
        let hub = relay(QUIC, relaying).await;
        let [mut acme, mut globex] = [deaf(&[]).await, deaf(&[&hub]).await];
        let circuits = globex.circuits(1).await;
        for round in 0..2 {
            acme.dial_at(&globex, &circuits);
            futures::join!(acme.up_through(true), globex.up_through(true));
            for _ in 0..3 {
                // The end may come at any of them.
                acme.send(Lane::Bulk, frame("much", body)).unwrap_or_default();
            }
            let down = futures::join!(acme.down(), globex.down());
            assert!(acme.links.is_empty(), "round {round}: {down:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_at_a_forbidden_address_is_not_dialled() {
    let mut hub = relay(TCP, for_anyone()).await;
    let mut globex = deaf(&[&hub]).await;
    let circuits = globex.circuits(1).await;
    let strict = P2pConfig { allow_private_addresses: false, listen: Vec::new(), ..config(TCP) };
    let mut acme = Node::start_as(strict, Arc::new(judge)).await;
    acme.dial_at(&globex, &circuits);
    assert!(acme.dial_failed().await.contains("no addresses"));
    // A person may configure it all the same.
    acme.ask(Command::AddBootstrap { peer: globex.id(), addresses: circuits });
    acme.dial_at(&globex, &[]);
    futures::join!(acme.up_through(true), globex.up_through(true));
    hub.shows(|nat| nat.circuits == 1).await;
}

/// Both nodes do listen, but know of each other only through the relay.
async fn check_punched(listen: &str) {
    let hub = relay(listen, for_anyone()).await;
    let mut globex = with_relays(config(listen), &[&hub]).await;
    let mut acme = Node::start_as(config(listen), Arc::new(judge)).await;
    knows(&acme, &hub);
    let circuits = globex.circuits(1).await;
    acme.dial_at(&globex, &circuits);
    futures::join!(acme.up_through(false), globex.up_through(false));
    frames_cross(&mut acme, &mut globex).await;
    let mut hub = hub;
    hub.shows(|nat| nat.circuits == 0).await;
    acme.shows(|nat| nat.punched >= 1).await;
    for node in [&acme, &globex] {
        assert!(node.p2p.nat().relayed_links.is_empty());
    }
    // It did not come back to the relay meanwhile.
    frames_cross(&mut acme, &mut globex).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_leaves_its_relay_once_a_hole_is_punched_over_quic() {
    check_punched(QUIC).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_leaves_its_relay_once_a_hole_is_punched_over_tcp() {
    check_punched(TCP).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_is_proved_when_a_peer_has_dialled_back_to_it() {
    let hub = Node::start_as(config(QUIC), Arc::new(judge)).await;
    let mut acme = Node::start_as(config(QUIC), Arc::new(judge)).await;
    knows(&acme, &hub);
    acme.dial(&hub);
    assert_eq!(acme.state(Reachability::Public).await, acme.addresses);
    assert_eq!(acme.p2p.nat().state, Reachability::Public);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_dialled_back_at_a_private_address_on_his_word() {
    let strict = P2pConfig { allow_private_addresses: false, ..config(QUIC) };
    let hub = Node::start_as(strict, Arc::new(judge)).await;
    let mut acme = Node::start_as(config(QUIC), Arc::new(judge)).await;
    knows(&acme, &hub);
    acme.dial(&hub);
    assert_eq!(acme.state(Reachability::Private).await, []);
}
