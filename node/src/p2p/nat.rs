//! How others reach this node, and how it helps them to reach each other: which own addresses were
//! proved, what relays hold for us, what we relay. Opens no connection itself.
//!
//! Of our own addresses as others see them, only what configured peers say is believed: anybody may
//! claim to have seen us anywhere. An address counts as proved when a peer has dialled back to it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use libp2p::core::transport::ListenerId;
use libp2p::kad::Mode;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId, Swarm, relay};

use super::address_filter::AddressFilter;
use super::behaviour::Behaviour;
use super::limits::CANDIDATES_MAX;
use super::reservations::Reservations;
use super::{P2pConfig, P2pEvent};
use crate::alias::alias;

/// What is known of whether strangers can dial this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reachability {
    /// No peer has tried yet.
    #[default]
    Unknown,
    /// A peer has dialled back to one of its addresses.
    Public,
    /// Peers have tried, and none of its addresses was reached.
    Private,
}

impl Reachability {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Unknown, Self::Public, Self::Private];

    /// The word for it, in metrics and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Public => "public",
            Self::Private => "private",
        }
    }
}

/// Under which addresses this node is reached, as far as is proved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Whether it can be dialled.
    pub state: Reachability,
    /// Own addresses to which a peer has dialled back.
    pub direct: Vec<Multiaddr>,
    /// Addresses through the relays that hold a reservation, without our own peer id.
    pub circuits: Vec<Multiaddr>,
    /// Whether an address that the public internet routes was tried in vain. Of a node that has none,
    /// nobody expects that the world can dial it.
    pub is_shut: bool,
}

/// What an operator may see of all this.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NatFigures {
    /// Whether strangers can dial this node.
    pub state: Reachability,
    /// Relays that are configured.
    pub relays: usize,
    /// Relays that hold a reservation for this node.
    pub reservations: usize,
    /// Nodes for which this one holds a reservation.
    pub reservations_given: usize,
    /// Circuits between other nodes that this one carries.
    pub circuits: usize,
    /// The links, by number, that go through a relay.
    pub relayed_links: BTreeSet<u64>,
    /// Relayed connections that were followed by a direct one which hole punching made.
    pub punched: u64,
    /// Those where that failed.
    pub not_punched: u64,
}

/// The figures, where others can read them.
pub(crate) type SharedFigures = Arc<Mutex<NatFigures>>;

pub(crate) fn lock(figures: &SharedFigures) -> MutexGuard<'_, NatFigures> {
    // Nothing panics while it is held, and a figure is only a figure.
    figures.lock().unwrap_or_else(PoisonError::into_inner)
}

/// See the file.
pub(crate) struct Nat {
    filter: AddressFilter,
    is_relay: bool,
    is_deaf: bool,
    listening: Vec<Multiaddr>,
    reservations: Reservations<ListenerId>,
    /// Own addresses that peers are asked to dial back to.
    candidates: BTreeSet<Multiaddr>,
    // A part of the candidates.
    proved: BTreeSet<Multiaddr>,
    has_failed: bool,
    /// One of the public internet has.
    is_shut: bool,
    // Bounded by the relay's own limits, as are the circuits.
    given: BTreeSet<PeerId>,
    circuits: BTreeMap<[PeerId; 2], usize>,
    figures: SharedFigures,
    told: Reach,
    has_news: bool,
}

impl Nat {
    pub(crate) fn new(config: &P2pConfig, filter: AddressFilter, figures: SharedFigures) -> Self {
        lock(&figures).relays = config.relays.len();
        Self {
            filter,
            is_relay: config.relaying.is_offered(),
            is_deaf: config.listen.is_empty(),
            listening: Vec::new(),
            reservations: Reservations::new(&config.relays),
            candidates: BTreeSet::new(),
            proved: BTreeSet::new(),
            has_failed: false,
            is_shut: false,
            given: BTreeSet::new(),
            circuits: BTreeMap::new(),
            figures,
            told: Reach::default(),
            has_news: false,
        }
    }

    /// Time went on by one beat. Says which relays could not even be asked.
    pub(crate) fn beat(&mut self, swarm: &mut Swarm<Behaviour>) -> Option<P2pEvent> {
        swarm.behaviour_mut().dcutr.beat();
        swarm.behaviour_mut().dial_back.beat();
        self.reservations.beat();
        self.ask(swarm)
    }

    /// Where a configured peer is.
    pub(crate) fn found(
        &mut self,
        swarm: &mut Swarm<Behaviour>,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
    ) -> Option<P2pEvent> {
        self.reservations.found(peer, addresses);
        self.has_news = true;
        self.ask(swarm)
    }

    fn ask(&mut self, swarm: &mut Swarm<Behaviour>) -> Option<P2pEvent> {
        let mut failed = None;
        for (relay, address) in self.reservations.due() {
            let attempt = swarm.listen_on(address);
            if let Err(error) = &attempt {
                failed = Some(P2pEvent::RelayFailed { relay, why: error.to_string() });
            }
            self.reservations.asked(relay, attempt.ok());
        }
        failed
    }

    /// A relay holds a reservation for us.
    pub(crate) fn reserved(&mut self, relay: PeerId) {
        if self.reservations.held(relay) {
            tracing::info!(relay = %alias(&relay), "a relay holds a reservation for this node");
            self.has_news = true;
        }
    }

    /// A listener is closed. Gives what the caller must hear if it was one through a relay.
    pub(crate) fn unlistened(
        &mut self,
        listener: ListenerId,
        reason: &Result<(), io::Error>,
    ) -> Option<P2pEvent> {
        let relay = self.reservations.ended(listener)?;
        self.has_news = true;
        let why = match reason {
            Ok(()) => "its connection closed, or there was none".to_owned(),
            Err(error) => super::swarm_task::chain(error),
        };
        Some(P2pEvent::RelayFailed { relay, why })
    }

    /// We listen on a plain address.
    pub(crate) fn listens(&mut self, swarm: &mut Swarm<Behaviour>, address: &Multiaddr) {
        if !self.filter.allows(address) {
            return;
        }
        self.listening.push(address.clone());
        self.candidate(swarm, address);
        if self.is_relay {
            // A reservation names addresses of its relay; without any, nodes refuse it.
            swarm.add_external_address(address.clone());
        }
    }

    /// A configured peer sees us under this address.
    pub(crate) fn observed(&mut self, swarm: &mut Swarm<Behaviour>, address: &Multiaddr) {
        if !self.filter.allows(address) {
            return;
        }
        let parts: Vec<Protocol<'_>> = address.iter().collect();
        let ([host, Protocol::Tcp(_)] | [host, Protocol::Udp(_), Protocol::QuicV1]) =
            parts.as_slice()
        else {
            return;
        };
        // The very port counts for hole punching, where the router keeps it open just now.
        swarm.behaviour_mut().dcutr.candidate(address);
        // Others would come to the port on which we listen, if the router passes it on.
        let same =
            |own: &Multiaddr| own.iter().map(|part| part.tag()).eq(parts.iter().map(Protocol::tag));
        let outside: Vec<Multiaddr> = self
            .listening
            .iter()
            .filter(|own| same(own))
            .filter_map(|own| own.replace(0, |_| Some(host.clone())))
            .collect();
        for address in &outside {
            self.candidate(swarm, address);
        }
    }

    /// Has an own address tried by others.
    pub(crate) fn candidate(&mut self, swarm: &mut Swarm<Behaviour>, address: &Multiaddr) {
        if self.candidates.len() < CANDIDATES_MAX
            && self.filter.allows(address)
            && self.candidates.insert(address.clone())
        {
            swarm.behaviour_mut().probe.candidate(address);
            swarm.behaviour_mut().dcutr.candidate(address);
        }
    }

    /// A peer has tried to dial back to an own address.
    pub(crate) fn probed(&mut self, address: &Multiaddr, is_reached: bool) {
        // What we did not ask for proves nothing.
        if !self.candidates.contains(address) {
            return;
        }
        self.has_news = true;
        if is_reached {
            self.proved.insert(address.clone());
        } else {
            self.proved.remove(address);
            self.has_failed = true;
            self.is_shut |= AddressFilter::PublicOnly.allows(address);
        }
    }

    /// Hole punching ended.
    pub(crate) fn punched(&self, peer: &PeerId, error: Option<&libp2p::dcutr::Error>) {
        let mut figures = lock(&self.figures);
        match error {
            None => figures.punched += 1,
            Some(error) => {
                tracing::debug!(peer = %alias(peer), %error, "no hole was punched");
                figures.not_punched += 1;
            }
        }
    }

    /// A link is up.
    pub(crate) fn link_up(&self, link: u64, is_relayed: bool) {
        if is_relayed {
            lock(&self.figures).relayed_links.insert(link);
        }
    }

    /// A link is down.
    pub(crate) fn link_down(&self, link: u64) {
        lock(&self.figures).relayed_links.remove(&link);
    }

    /// Something happened to what we relay. The library says that a reservation closed whenever a
    /// connection does, so it counts only when the peer has none left.
    #[expect(clippy::wildcard_enum_match_arm, reason = "failures that it logs itself")]
    pub(crate) fn relays(&mut self, event: &relay::Event, is_connected: impl Fn(&PeerId) -> bool) {
        match event {
            relay::Event::ReservationReqAccepted { src_peer_id, .. } => {
                self.given.insert(*src_peer_id);
            }
            relay::Event::ReservationClosed { src_peer_id } if !is_connected(src_peer_id) => {
                self.given.remove(src_peer_id);
            }
            relay::Event::ReservationReqDenied { src_peer_id, status } => {
                tracing::debug!(peer = %alias(src_peer_id), ?status, "a reservation was refused");
            }
            relay::Event::CircuitReqAccepted { src_peer_id, dst_peer_id } => {
                *self.circuits.entry([*src_peer_id, *dst_peer_id]).or_default() += 1;
            }
            relay::Event::CircuitClosed { src_peer_id, dst_peer_id, .. } => {
                // It may be told twice.
                let pair = [*src_peer_id, *dst_peer_id];
                let left = self.circuits.remove(&pair).and_then(|count| count.checked_sub(1));
                if let Some(left) = left.filter(|left| *left > 0) {
                    self.circuits.insert(pair, left);
                }
            }
            _ => return,
        }
        let mut figures = lock(&self.figures);
        figures.reservations_given = self.given.len();
        figures.circuits = self.circuits.values().sum();
    }

    /// What the caller has to hear about how this node is reached.
    pub(crate) fn news(&mut self, swarm: &mut Swarm<Behaviour>) -> Option<P2pEvent> {
        if !std::mem::take(&mut self.has_news) {
            return None;
        }
        let state = match (self.proved.is_empty(), self.has_failed) {
            (false, _) => Reachability::Public,
            (true, true) => Reachability::Private,
            (true, false) => Reachability::Unknown,
        };
        let circuits = self.reservations.circuits().filter(|circuit| self.filter.allows(circuit));
        let (direct, circuits) = (self.proved.iter().cloned().collect(), circuits.collect());
        let is_shut = self.is_shut && state == Reachability::Private;
        let reach = Reach { state, direct, circuits, is_shut };
        let (relays, held) = self.reservations.count();
        let mut figures = lock(&self.figures);
        (figures.state, figures.relays, figures.reservations) = (state, relays, held);
        drop(figures);
        if reach == self.told {
            return None;
        }
        self.told = reach.clone();
        swarm.behaviour_mut().dht.serve(self.serves_the_table(relays));
        Some(P2pEvent::Reach(reach))
    }

    /// Whether others should keep this node in their tables: only if they can reach it.
    pub(crate) fn serves_the_table(&self, relays: usize) -> Mode {
        let is_reached =
            relays == 0 || !self.proved.is_empty() || self.filter == AddressFilter::PrivateToo;
        if is_reached && !self.is_deaf { Mode::Server } else { Mode::Client }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{QUIC, config};
    use super::{AddressFilter, Multiaddr, Nat};

    #[test]
    fn nobody_expects_the_world_to_dial_a_node_that_has_no_public_address() {
        let mut nat = Nat::new(&config(QUIC), AddressFilter::PrivateToo, Default::default());
        let mut tried_in_vain = |text: &str| {
            let address: Multiaddr = text.parse().expect("a multiaddr");
            nat.candidates.insert(address.clone());
            nat.probed(&address, false);
            (nat.has_failed, nat.is_shut)
        };
        for own in ["/ip4/127.0.0.1/tcp/7400", "/ip4/192.168.1.2/tcp/7400", "/ip6/fe80::1/tcp/1"] {
            assert_eq!(tried_in_vain(own), (true, false), "{own}");
        }
        assert_eq!(tried_in_vain("/ip4/9.9.9.9/udp/7400/quic-v1"), (true, true));
    }
}
