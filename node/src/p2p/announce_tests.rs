//! What a node tells its peers of where it is, over real sockets on the loopback.

use std::sync::Arc;

use futures::StreamExt as _;
use libp2p::identify;
use libp2p::swarm::SwarmEvent;

use super::behaviour::BehaviourEvent;
use super::tests::{Node, TCP, config, judge, rand_seed, within};
use super::*;

/// What a node says, by identify, to whoever connects.
async fn told_by(node: &Node) -> Vec<Multiaddr> {
    let key = TransportSeed::from_bytes(rand_seed()).keypair().expect("a key");
    let built = build_swarm(key, AddressFilter::PrivateToo, &Relaying::default(), false);
    let mut swarm = built.expect("transports");
    swarm.dial(node.addresses[0].clone()).expect("the dial begins");
    loop {
        if let SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received {
            info,
            ..
        })) = within(swarm.select_next_some()).await
        {
            return info.listen_addrs;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_announces_stands_in_place_of_where_it_listens() {
    let announced: Multiaddr = "/ip4/192.0.2.1/tcp/7400".parse().expect("a multiaddr");
    let announcing = P2pConfig { announce: vec![announced.clone()], ..config(TCP) };
    let acme = Node::start_as(announcing, Arc::new(judge)).await;
    assert_eq!(told_by(&acme).await, [announced]);
    let globex = Node::start_as(config(TCP), Arc::new(judge)).await;
    assert_eq!(told_by(&globex).await, globex.addresses);
}
