//! Around the library's parts that find a way through NAT: what they dial on another's word passes the
//! address filter and a rate, and what they believe of our own addresses comes from here alone.
//!
//! Both hole punching and AutoNAT let a peer name addresses that this node then dials. Passes
//! everything else through.

use std::collections::{BTreeMap, BTreeSet};
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NewExternalAddrCandidate,
    THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use thiserror::Error;

use super::address_filter::AddressFilter;
use super::limits::{
    CAUSED_DIAL_ADDRESSES_MAX, CAUSED_DIALS_BEATS, CAUSED_DIALS_MAX, CAUSED_DIALS_PER_PEER_MAX,
};

/// Why a dial that a peer caused does not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum NotDialled {
    /// One of the addresses is not for this node to dial, or there are too many.
    #[error("an address that may not be dialled")]
    Forbidden,
    /// The peer, or all together, have caused too many.
    #[error("too many dials on the word of others")]
    TooMany,
}

/// What happens to a dial over the rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OverRate {
    /// It fails.
    Fails,
    /// It is forgotten, so that its cause learns no verdict: that a dial-back was not tried must not
    /// look like an address that cannot be reached.
    IsForgotten,
}

/// A part of the library and what it may dial.
pub(crate) struct NatGate<B> {
    inner: B,
    filter: AddressFilter,
    over_rate: OverRate,
    rate: Rate,
    /// Dials that the part has asked for; each is judged at once.
    dials: BTreeSet<ConnectionId>,
}

impl<B: NetworkBehaviour> NatGate<B> {
    pub(crate) fn new(inner: B, filter: AddressFilter, over_rate: OverRate) -> Self {
        Self { inner, filter, over_rate, rate: Rate::default(), dials: BTreeSet::new() }
    }

    /// Tells the part of an address under which others may see us.
    pub(crate) fn candidate(&mut self, addr: &Multiaddr) {
        let candidate = NewExternalAddrCandidate { addr };
        self.inner.on_swarm_event(FromSwarm::NewExternalAddrCandidate(candidate));
    }

    /// Time went on by one beat.
    pub(crate) fn beat(&mut self) {
        self.rate.beat();
    }

    fn judge(&mut self, peer: Option<PeerId>, addresses: &[Multiaddr]) -> Result<(), NotDialled> {
        let Some(peer) = peer else { return Err(NotDialled::Forbidden) };
        let is_allowed =
            |address: &Multiaddr| !self.filter.learnt(&peer, [address.clone()]).is_empty();
        let is_few = (1..=CAUSED_DIAL_ADDRESSES_MAX).contains(&addresses.len());
        if !is_few || !addresses.iter().all(is_allowed) {
            return Err(NotDialled::Forbidden);
        }
        // A dial that may be forgotten was counted before.
        if self.over_rate == OverRate::Fails && !self.rate.take(peer) {
            return Err(NotDialled::TooMany);
        }
        Ok(())
    }

    /// Whether a dial that the part asks for is over the rate and was taken from it again.
    fn forgets(&mut self, connection: ConnectionId, peer: Option<PeerId>) -> bool {
        if self.over_rate == OverRate::Fails {
            return false;
        }
        let Some(peer) = peer else { return false };
        if self.rate.take(peer) {
            return false;
        }
        // The part hands what it remembers of the dial to the handler of its connection; with that
        // it is gone.
        let (nowhere, role) = (Multiaddr::empty(), Endpoint::Dialer);
        drop(self.inner.handle_established_outbound_connection(
            connection,
            peer,
            &nowhere,
            role,
            PortUse::New,
        ));
        true
    }
}

/// Dials that others caused, counted over some beats.
#[derive(Debug, Default)]
struct Rate {
    beats: u64,
    all: usize,
    // Bounded by the number of all.
    of: BTreeMap<PeerId, usize>,
}

impl Rate {
    fn beat(&mut self) {
        self.beats += 1;
        if self.beats.is_multiple_of(CAUSED_DIALS_BEATS) {
            *self = Self { beats: self.beats, ..Self::default() };
        }
    }

    fn take(&mut self, peer: PeerId) -> bool {
        if self.all >= CAUSED_DIALS_MAX {
            return false;
        }
        let of_peer = self.of.entry(peer).or_default();
        if *of_peer >= CAUSED_DIALS_PER_PEER_MAX {
            return false;
        }
        *of_peer += 1;
        self.all += 1;
        true
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for NatGate<B> {
    type ConnectionHandler = B::ConnectionHandler;
    type ToSwarm = B::ToSwarm;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.inner.handle_pending_inbound_connection(connection, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        if self.dials.remove(&connection) {
            self.judge(peer, addresses).map_err(ConnectionDenied::new)?;
        }
        self.inner.handle_pending_outbound_connection(connection, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_outbound_connection(connection, peer, address, role, port_use)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        // Anybody may claim to have seen us anywhere; see `nat.rs` for whom we believe.
        if !matches!(event, FromSwarm::NewExternalAddrCandidate(_)) {
            self.inner.on_swarm_event(event);
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.inner.on_connection_handler_event(peer, connection, event);
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            let polled = self.inner.poll(cx);
            if let Poll::Ready(ToSwarm::Dial { opts }) = &polled {
                let connection = opts.connection_id();
                if self.forgets(connection, opts.get_peer_id()) {
                    tracing::debug!("{}", NotDialled::TooMany);
                    continue;
                }
                self.dials.insert(connection);
            }
            return polled;
        }
    }
}

#[cfg(test)]
mod tests {
    use libp2p::swarm::dummy;

    use super::*;

    fn gate(filter: AddressFilter) -> NatGate<dummy::Behaviour> {
        NatGate::new(dummy::Behaviour, filter, OverRate::Fails)
    }

    /// What becomes of a dial of these addresses.
    fn dial(
        gate: &mut NatGate<dummy::Behaviour>,
        peer: PeerId,
        addresses: &[&str],
    ) -> Result<(), NotDialled> {
        let addresses: Vec<Multiaddr> =
            addresses.iter().map(|text| text.parse().expect("a multiaddr")).collect();
        let connection = ConnectionId::new_unchecked(1);
        gate.dials.insert(connection);
        let role = Endpoint::Dialer;
        let denied =
            gate.handle_pending_outbound_connection(connection, Some(peer), &addresses, role);
        assert!(gate.dials.is_empty(), "it is judged once");
        denied.map(drop).map_err(|why| why.downcast().expect("our own reason"))
    }

    #[test]
    fn what_a_peer_names_is_dialled_only_where_all_of_it_may_be() {
        let acme = PeerId::random();
        let of_acme = format!("/ip4/9.9.9.9/tcp/1/p2p/{acme}");
        let of_other = format!("/ip4/9.9.9.9/tcp/1/p2p/{}", PeerId::random());
        for (addresses, is_dialled) in [
            (&["/ip4/9.9.9.9/tcp/1", "/ip4/9.9.9.9/udp/1/quic-v1"][..], true),
            (&[of_acme.as_str()], true),
            (&[of_other.as_str()], false),
            (&["/ip4/9.9.9.9/tcp/1", "/ip4/192.168.1.1/tcp/80"], false),
            (&["/ip4/169.254.169.254/tcp/80"], false),
            (&["/dns4/acme.example/tcp/1"], false),
            (&["/ip4/9.9.9.9/tcp/1"; CAUSED_DIAL_ADDRESSES_MAX + 1], false),
            (&[], false),
        ] {
            let dialled = dial(&mut gate(AddressFilter::PublicOnly), acme, addresses);
            let expected = if is_dialled { Ok(()) } else { Err(NotDialled::Forbidden) };
            assert_eq!(dialled, expected, "{addresses:?}");
        }
        let private = ["/ip4/192.168.1.1/tcp/80"];
        assert_eq!(dial(&mut gate(AddressFilter::PrivateToo), acme, &private), Ok(()));
    }

    #[test]
    fn dials_of_others_are_left_alone() {
        let mut gate = gate(AddressFilter::PublicOnly);
        let private = ["/ip4/127.0.0.1/tcp/1".parse().expect("a multiaddr")];
        let (connection, role) = (ConnectionId::new_unchecked(1), Endpoint::Dialer);
        let peer = Some(PeerId::random());
        assert!(gate.handle_pending_outbound_connection(connection, peer, &private, role).is_ok());
    }

    #[test]
    fn one_peer_and_all_together_cause_only_so_many_dials() {
        let mut gate = gate(AddressFilter::PublicOnly);
        let public = ["/ip4/9.9.9.9/tcp/1"];
        let dialled = |gate: &mut NatGate<dummy::Behaviour>, peer| {
            (0..100).filter(|_| dial(gate, peer, &public).is_ok()).count()
        };
        assert_eq!(dialled(&mut gate, PeerId::random()), CAUSED_DIALS_PER_PEER_MAX);
        let rest: usize = (0..100).map(|_| dialled(&mut gate, PeerId::random())).sum();
        assert_eq!(rest, CAUSED_DIALS_MAX - CAUSED_DIALS_PER_PEER_MAX);
        (0..CAUSED_DIALS_BEATS).for_each(|_| gate.beat());
        assert_eq!(dialled(&mut gate, PeerId::random()), CAUSED_DIALS_PER_PEER_MAX);
    }
}
