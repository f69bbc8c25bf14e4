//! How many inbound connections one host, one network or one relay may bring: the library limits peers,
//! but peer ids are free. Counts only; who is blocked is decided elsewhere.
//!
//! A connection through a relay has no host that this node sees, so it counts for the relay.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};
use thiserror::Error;

use super::address_filter::AddressFilter;
use super::circuit::{is_circuit, relay_of};
use super::limits::{INBOUND_PER_HOST_MAX, INBOUND_PER_NETWORK_MAX, INBOUND_PER_RELAY_MAX};

/// Why an inbound connection was not taken.
#[derive(Debug, Error)]
#[error("too many connections from one host, network or relay")]
pub(crate) struct TooMany;

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Host(IpAddr),
    /// `None` for a relay whose connection here does not name it: one that has dialled us.
    Relay(Option<PeerId>),
}

/// Inbound connections, handshakes included, by where they come from.
#[derive(Debug)]
pub(crate) struct InboundGate {
    filter: AddressFilter,
    // Bounded by the connection limits, which stand before this in the list.
    connections: BTreeMap<ConnectionId, From>,
}

impl InboundGate {
    pub(crate) fn new(filter: AddressFilter) -> Self {
        Self { filter, connections: BTreeMap::new() }
    }

    fn enter(
        &mut self,
        connection: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), TooMany> {
        let has_room = |count: usize, max: usize| if count < max { Ok(()) } else { Err(TooMany) };
        if is_circuit(local) {
            let from = From::Relay(relay_of(local));
            has_room(self.count(|other| other == from), INBOUND_PER_RELAY_MAX)?;
            self.connections.insert(connection, from);
            return Ok(());
        }
        let Some(ip) = ip(remote) else { return Ok(()) };
        // Many nodes may run on this machine, and a closed network may lie behind one router.
        if ip.is_loopback() || self.filter.is_own_network(ip) {
            return Ok(());
        }
        let from = host(ip);
        let network = network(from);
        let is_of_network = |other| matches!(other, From::Host(ip) if self::network(ip) == network);
        has_room(self.count(|other| other == From::Host(from)), INBOUND_PER_HOST_MAX)?;
        has_room(self.count(is_of_network), INBOUND_PER_NETWORK_MAX)?;
        self.connections.insert(connection, From::Host(from));
        Ok(())
    }

    fn count(&self, is_counted: impl Fn(From) -> bool) -> usize {
        self.connections.values().filter(|other| is_counted(**other)).count()
    }
}

fn ip(remote: &Multiaddr) -> Option<IpAddr> {
    remote.iter().find_map(|part| {
        if let Protocol::Ip4(ip) = part {
            Some(IpAddr::V4(ip))
        } else if let Protocol::Ip6(ip) = part {
            Some(ip.to_canonical())
        } else {
            None
        }
    })
}

/// What counts as one host: one customer has a /64 of IPv6 at least.
fn host(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64))),
    }
}

/// The network that a host belongs to: /24 of IPv4, /48 of IPv6.
fn network(host: IpAddr) -> IpAddr {
    match host {
        IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & (u32::MAX << 8))),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 80))),
    }
}

impl NetworkBehaviour for InboundGate {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.enter(connection, local, remote).map_err(ConnectionDenied::new)
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionClosed(closed) = event {
            self.connections.remove(&closed.connection_id);
        } else if let FromSwarm::ListenFailure(failed) = event {
            self.connections.remove(&failed.connection_id);
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::super::circuit::through;
    use super::*;

    fn here() -> Multiaddr {
        "/ip4/192.0.2.1/tcp/7400".parse().expect("a multiaddr")
    }

    /// How many of 100 connections are taken, from the addresses that `remote` makes.
    fn taken(remote: impl Fn(usize) -> String) -> usize {
        taken_by(AddressFilter::PublicOnly, remote)
    }

    fn taken_by(filter: AddressFilter, remote: impl Fn(usize) -> String) -> usize {
        let mut gate = InboundGate::new(filter);
        let enter = |number: &usize| {
            let remote = remote(*number).parse().expect("a multiaddr");
            gate.enter(ConnectionId::new_unchecked(*number), &here(), &remote).is_ok()
        };
        (0..100).filter(enter).count()
    }

    #[test]
    fn one_host_holds_few_and_one_network_some_more() {
        assert_eq!(taken(|n| format!("/ip4/9.9.9.9/tcp/{n}")), INBOUND_PER_HOST_MAX);
        assert_eq!(taken(|n| format!("/ip6/::ffff:9.9.9.9/tcp/{n}")), INBOUND_PER_HOST_MAX);
        assert_eq!(taken(|n| format!("/ip6/2620:fe::{n}/tcp/1")), INBOUND_PER_HOST_MAX);
        assert_eq!(taken(|n| format!("/ip4/9.9.9.{n}/udp/1/quic-v1")), INBOUND_PER_NETWORK_MAX);
        assert_eq!(taken(|n| format!("/ip6/2620:fe:0:{n}::1/tcp/1")), INBOUND_PER_NETWORK_MAX);
    }

    #[test]
    fn the_internet_and_this_machine_are_not_limited_here() {
        assert_eq!(taken(|n| format!("/ip4/9.9.{n}.9/tcp/1")), 100);
        assert_eq!(taken(|n| format!("/ip4/127.0.0.1/tcp/{n}")), 100);
        assert_eq!(taken(|n| format!("/ip6/::1/tcp/{n}")), 100);
    }

    #[test]
    fn a_closed_network_is_not_limited_when_the_configuration_speaks_of_one() {
        let lan = |n| format!("/ip4/192.168.1.1/tcp/{n}");
        assert_eq!(taken_by(AddressFilter::PrivateToo, lan), 100);
        assert_eq!(taken_by(AddressFilter::PublicOnly, lan), INBOUND_PER_HOST_MAX);
        let public = |n| format!("/ip4/9.9.9.9/tcp/{n}");
        assert_eq!(taken_by(AddressFilter::PrivateToo, public), INBOUND_PER_HOST_MAX);
    }

    #[test]
    fn connections_through_a_relay_count_for_the_relay() {
        // The relay may be on this machine: what it brings comes from anywhere.
        let mut gate = InboundGate::new(AddressFilter::PrivateToo);
        let mut taken = |begin: usize, local: &Multiaddr| {
            let enter = |number: &usize| {
                let remote = Multiaddr::empty().with(Protocol::P2p(PeerId::random()));
                gate.enter(ConnectionId::new_unchecked(*number), local, &remote).is_ok()
            };
            (begin..begin + 100).filter(enter).count()
        };
        let plain: Multiaddr = "/ip4/127.0.0.1/tcp/7400".parse().expect("a multiaddr");
        let locals = [0, 100].map(|begin| (begin, through(PeerId::random(), &plain)));
        for (begin, local) in locals {
            assert_eq!(taken(begin, &local), INBOUND_PER_RELAY_MAX);
        }
        let unnamed = plain.with(Protocol::P2pCircuit);
        assert_eq!(taken(200, &unnamed), INBOUND_PER_RELAY_MAX);
    }

    #[test]
    fn who_leaves_makes_room() {
        let mut gate = InboundGate::new(AddressFilter::PublicOnly);
        let remote: Multiaddr = "/ip4/9.9.9.9/tcp/1".parse().expect("a multiaddr");
        for number in 0..INBOUND_PER_HOST_MAX {
            let entered = gate.enter(ConnectionId::new_unchecked(number), &here(), &remote);
            entered.expect("there is room");
        }
        assert!(gate.enter(ConnectionId::new_unchecked(99), &here(), &remote).is_err());
        gate.on_swarm_event(FromSwarm::ListenFailure(libp2p::swarm::ListenFailure {
            local_addr: &remote,
            send_back_addr: &remote,
            error: &libp2p::swarm::ListenError::Aborted,
            connection_id: ConnectionId::new_unchecked(0),
            peer_id: None,
        }));
        assert!(gate.enter(ConnectionId::new_unchecked(99), &here(), &remote).is_ok());
    }
}
