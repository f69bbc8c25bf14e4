//! Kademlia behind the address filter: what it has learnt about a peer is dialled only if allowed.
//!
//! Kademlia hands out addresses from its table and from running queries, so filtering what enters
//! the table is not enough. Passes everything else through.

use std::collections::BTreeMap;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::kad;
use libp2p::kad::store::MemoryStore;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use super::address_filter::{AddressFilter, configured};
use super::limits::CONFIGURED_PEERS_MAX;

type Kad = kad::Behaviour<MemoryStore>;

/// Kademlia, and the addresses that a person configured, which are exempt from the filter.
pub(crate) struct KadGate {
    pub(crate) kad: Kad,
    filter: AddressFilter,
    configured: BTreeMap<PeerId, Vec<Multiaddr>>,
}

impl KadGate {
    pub(crate) fn new(kad: Kad, filter: AddressFilter) -> Self {
        Self { kad, filter, configured: BTreeMap::new() }
    }

    /// Takes configured addresses into the table.
    pub(crate) fn add_configured(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let addresses = configured(&peer, addresses);
        if self.configured.len() >= CONFIGURED_PEERS_MAX && !self.configured.contains_key(&peer) {
            tracing::warn!(%peer, "too many configured peers; this one is left out");
            return;
        }
        for address in &addresses {
            self.kad.add_address(&peer, address.clone());
        }
        self.configured.insert(peer, addresses);
    }

    /// Whether a person configured this peer.
    pub(crate) fn is_configured(&self, peer: &PeerId) -> bool {
        self.configured.contains_key(peer)
    }

    /// Whether this node keeps records for others and stands in their tables.
    pub(crate) fn serve(&mut self, mode: kad::Mode) {
        if self.kad.mode() != mode {
            self.kad.set_mode(Some(mode));
        }
    }

    /// Takes the addresses that a peer claims for itself into the table, as far as allowed.
    pub(crate) fn add_learnt(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        for address in self.filter.learnt(&peer, addresses) {
            self.kad.add_address(&peer, address);
        }
    }

    /// The configured addresses of a peer, and of those that others told the allowed ones.
    pub(crate) fn dialable(
        &self,
        peer: &PeerId,
        known: impl IntoIterator<Item = Multiaddr>,
    ) -> Vec<Multiaddr> {
        let mut addresses = self.configured.get(peer).cloned().unwrap_or_default();
        addresses.extend(self.filter.learnt(peer, known));
        configured(peer, addresses)
    }
}

impl NetworkBehaviour for KadGate {
    type ConnectionHandler = <Kad as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = kad::Event;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.kad.handle_pending_inbound_connection(connection, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.kad.handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let known =
            self.kad.handle_pending_outbound_connection(connection, peer, addresses, role)?;
        Ok(peer.map(|peer| self.dialable(&peer, known)).unwrap_or_default())
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.kad.handle_established_outbound_connection(connection, peer, address, role, port_use)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.kad.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.kad.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<kad::Event, THandlerInEvent<Self>>> {
        self.kad.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: &str = "/ip4/127.0.0.1/tcp/4001";
    const PUBLIC: &str = "/ip4/9.9.9.9/tcp/4001";

    fn gate(filter: AddressFilter) -> KadGate {
        let local = PeerId::random();
        KadGate::new(kad::Behaviour::new(local, MemoryStore::new(local)), filter)
    }

    fn addresses(texts: &[&str]) -> Vec<Multiaddr> {
        texts.iter().map(|text| text.parse().expect("a multiaddr")).collect()
    }

    fn dialled(gate: &mut KadGate, peer: PeerId) -> Vec<Multiaddr> {
        let connection = ConnectionId::new_unchecked(1);
        gate.handle_pending_outbound_connection(connection, Some(peer), &[], Endpoint::Dialer)
            .expect("the table refuses nobody")
    }

    #[test]
    fn what_a_peer_claims_is_filtered() {
        let peer = PeerId::random();
        let mut strict = gate(AddressFilter::PublicOnly);
        strict.add_learnt(peer, addresses(&[LOOPBACK, PUBLIC]));
        assert_eq!(dialled(&mut strict, peer), addresses(&[PUBLIC]));
        let mut lenient = gate(AddressFilter::PrivateToo);
        lenient.add_learnt(peer, addresses(&[LOOPBACK, PUBLIC]));
        assert_eq!(dialled(&mut lenient, peer), addresses(&[LOOPBACK, PUBLIC]));
    }

    #[test]
    fn what_entered_the_table_by_another_way_is_filtered_too() {
        let peer = PeerId::random();
        let mut strict = gate(AddressFilter::PublicOnly);
        for address in addresses(&[LOOPBACK, PUBLIC]) {
            strict.kad.add_address(&peer, address);
        }
        assert_eq!(dialled(&mut strict, peer), addresses(&[PUBLIC]));
    }

    #[test]
    fn configured_addresses_are_dialled_whatever_they_are() {
        let peer = PeerId::random();
        let mut strict = gate(AddressFilter::PublicOnly);
        strict.add_configured(peer, addresses(&[LOOPBACK]));
        assert_eq!(dialled(&mut strict, peer), addresses(&[LOOPBACK]));
        assert!(dialled(&mut strict, PeerId::random()).is_empty(), "for that peer only");
    }
}
