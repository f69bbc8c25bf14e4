//! For whom this node is a relay, and within which bounds: the library's, with numbers for links that
//! last. Nodes that reserve are chosen; who wants to reach them is anybody, at a rate.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use libp2p::relay::{Config, RateLimiter};
use libp2p::{Multiaddr, PeerId, relay};

use super::limits::{
    CIRCUIT_BYTES_MAX, CIRCUIT_LIFE, CIRCUITS_AT_ONCE_OF_HOST, CIRCUITS_AT_ONCE_OF_PEER,
    CIRCUITS_MAX, CIRCUITS_PER_PEER_MAX, RELAY_ALLOWANCE_EVERY, RESERVATION_LIFE,
    RESERVATIONS_AT_ONCE_OF_HOST, RESERVATIONS_MAX, RESERVATIONS_PER_PEER_MAX,
};

/// Who may hold a reservation at this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RelayFor {
    /// Nobody; the protocol is not spoken.
    #[default]
    Nobody,
    /// These.
    Peers(BTreeSet<PeerId>),
    /// Whoever asks.
    Anyone,
}

/// What this node does as a relay.
#[derive(Clone, Debug)]
pub struct Relaying {
    /// For whom.
    pub whom: RelayFor,
    /// Nodes that hold a reservation, at most.
    pub reservations_max: usize,
    /// Circuits at a time.
    pub circuits_max: usize,
    /// Bytes of one circuit, both ways together.
    pub circuit_bytes_max: u64,
    /// A circuit ends after this.
    pub circuit_life: Duration,
}

impl Default for Relaying {
    fn default() -> Self {
        Self {
            whom: RelayFor::Nobody,
            reservations_max: RESERVATIONS_MAX,
            circuits_max: CIRCUITS_MAX,
            circuit_bytes_max: CIRCUIT_BYTES_MAX,
            circuit_life: CIRCUIT_LIFE,
        }
    }
}

impl Relaying {
    /// Whether it does anything.
    pub(crate) fn is_offered(&self) -> bool {
        self.whom != RelayFor::Nobody
    }

    /// The library's part, if this node relays.
    pub(crate) fn behaviour(&self, local: PeerId) -> Option<relay::Behaviour> {
        let only: Option<Box<dyn RateLimiter>> = match &self.whom {
            RelayFor::Nobody => return None,
            RelayFor::Anyone => None,
            RelayFor::Peers(known) => {
                let known = known.clone();
                Some(Box::new(move |peer: PeerId, _: &Multiaddr, _: Instant| known.contains(&peer)))
            }
        };
        let config = Config {
            max_reservations: self.reservations_max,
            max_reservations_per_peer: RESERVATIONS_PER_PEER_MAX,
            reservation_duration: RESERVATION_LIFE,
            // Who is not known costs nobody else his allowance.
            reservation_rate_limiters: only.into_iter().collect(),
            max_circuits: self.circuits_max,
            max_circuits_per_peer: CIRCUITS_PER_PEER_MAX,
            max_circuit_duration: self.circuit_life,
            max_circuit_bytes: self.circuit_bytes_max,
            circuit_src_rate_limiters: Vec::new(),
        };
        let config = config
            .reservation_rate_per_ip(RESERVATIONS_AT_ONCE_OF_HOST, RELAY_ALLOWANCE_EVERY)
            .circuit_src_per_peer(CIRCUITS_AT_ONCE_OF_PEER, RELAY_ALLOWANCE_EVERY)
            .circuit_src_per_ip(CIRCUITS_AT_ONCE_OF_HOST, RELAY_ALLOWANCE_EVERY);
        let mut behaviour = relay::Behaviour::new(local, config);
        // Said by a person, so it does not hang on which of our addresses are proved.
        behaviour.set_status(Some(relay::Status::Enable));
        Some(behaviour)
    }
}
