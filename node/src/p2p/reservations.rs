//! Keeps a reservation at each configured relay: when to ask, and what came of it. Pure: no socket, no
//! clock; `nat.rs` asks.

use std::collections::BTreeMap;

use libp2p::{Multiaddr, PeerId};

use super::circuit::through;
use super::limits::RESERVATION_BEATS_MAX;

/// All relays of this node. `L` names an attempt at a reservation, or the reservation that came of it.
#[derive(Debug)]
pub(crate) struct Reservations<L> {
    relays: BTreeMap<PeerId, Relay<L>>,
    beat: u64,
}

#[derive(Debug)]
struct Relay<L> {
    /// Empty until its name is resolved.
    addresses: Vec<Multiaddr>,
    attempt: Option<L>,
    is_held: bool,
    /// In a row.
    failures: u32,
    /// The beat from which it is asked again.
    again: u64,
}

impl<L: Copy + Eq> Reservations<L> {
    pub(crate) fn new(relays: &[PeerId]) -> Self {
        let relay = |peer: &PeerId| {
            let (attempt, addresses) = (None, Vec::new());
            (*peer, Relay { addresses, attempt, is_held: false, failures: 0, again: 0 })
        };
        Self { relays: relays.iter().map(relay).collect(), beat: 0 }
    }

    /// Relays that are configured, and those that hold a reservation.
    pub(crate) fn count(&self) -> (usize, usize) {
        (self.relays.len(), self.relays.values().filter(|relay| relay.is_held).count())
    }

    /// Where a peer is. Matters for relays only.
    pub(crate) fn found(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        if let Some(relay) = self.relays.get_mut(&peer) {
            relay.addresses = addresses;
        }
    }

    /// Time went on by one beat.
    pub(crate) fn beat(&mut self) {
        self.beat += 1;
    }

    /// Which relays are to be asked now, each with the address to listen on.
    pub(crate) fn due(&self) -> Vec<(PeerId, Multiaddr)> {
        let is_due = |relay: &Relay<L>| relay.attempt.is_none() && relay.again <= self.beat;
        let ask = |(peer, relay): (&PeerId, &Relay<L>)| {
            let address = relay.addresses.first().filter(|_| is_due(relay))?;
            Some((*peer, through(*peer, address)))
        };
        self.relays.iter().filter_map(ask).collect()
    }

    /// A relay is being asked; `None` when even that was not possible.
    pub(crate) fn asked(&mut self, peer: PeerId, attempt: Option<L>) {
        let Some(relay) = self.relays.get_mut(&peer) else { return };
        relay.attempt = attempt;
        if attempt.is_none() {
            relay.failed(self.beat);
        }
    }

    /// A relay holds a reservation. True when that is news.
    pub(crate) fn held(&mut self, peer: PeerId) -> bool {
        let Some(relay) = self.relays.get_mut(&peer) else { return false };
        relay.failures = 0;
        !std::mem::replace(&mut relay.is_held, true)
    }

    /// An attempt failed, or its reservation is gone. Names the relay when it was one of ours.
    pub(crate) fn ended(&mut self, attempt: L) -> Option<PeerId> {
        let (peer, relay) =
            self.relays.iter_mut().find(|(_, relay)| relay.attempt == Some(attempt))?;
        relay.attempt = None;
        relay.failed(self.beat);
        Some(*peer)
    }

    /// Under which addresses others reach us through relays.
    pub(crate) fn circuits(&self) -> impl Iterator<Item = Multiaddr> {
        self.relays
            .iter()
            .filter(|(_, relay)| relay.is_held)
            .flat_map(|(peer, relay)| relay.addresses.iter().map(|address| through(*peer, address)))
    }
}

impl<L> Relay<L> {
    fn failed(&mut self, beat: u64) {
        self.is_held = false;
        // 1, 2, 4 beats and so on.
        let wait = 1_u64.checked_shl(self.failures).unwrap_or(RESERVATION_BEATS_MAX);
        self.failures = self.failures.saturating_add(1);
        self.again = beat + wait.min(RESERVATION_BEATS_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> Multiaddr {
        format!("/ip4/192.0.2.1/tcp/{port}").parse().unwrap()
    }

    /// How many beats pass until the relay is asked again.
    fn beats(reservations: &mut Reservations<u32>) -> u64 {
        let mut beats = 0;
        while reservations.due().is_empty() {
            reservations.beat();
            beats += 1;
        }
        beats
    }

    #[test]
    fn a_relay_is_asked_once_it_is_found_and_until_it_answers() {
        let relay = PeerId::random();
        let mut reservations = Reservations::new(&[relay]);
        assert_eq!(reservations.due(), [], "nobody knows where it is");
        reservations.found(PeerId::random(), vec![address(1)]);
        assert_eq!(reservations.due(), [], "that is another peer");
        reservations.found(relay, vec![address(1), address(2)]);
        let asked = through(relay, &address(1));
        assert_eq!(reservations.due(), [(relay, asked.clone())]);
        reservations.asked(relay, Some(7));
        assert_eq!(reservations.due(), [], "one attempt at a time");
        assert_eq!((reservations.count(), reservations.circuits().count()), ((1, 0), 0));
        assert!(reservations.held(relay));
        assert!(!reservations.held(relay), "no news");
        let both = [asked, through(relay, &address(2))];
        assert_eq!(reservations.circuits().collect::<Vec<_>>(), both);
        assert_eq!(reservations.count(), (1, 1));
        assert!(!reservations.held(PeerId::random()), "no relay of ours");
    }

    #[test]
    fn a_relay_that_refuses_is_asked_ever_more_rarely_and_anew_once_it_has_held() {
        let relay = PeerId::random();
        let mut reservations = Reservations::new(&[relay]);
        reservations.found(relay, vec![address(1)]);
        for (attempt, waited) in [(1, 0), (2, 1), (3, 2), (4, 4), (5, 8), (6, 12), (7, 12)] {
            assert_eq!(beats(&mut reservations), waited);
            reservations.asked(relay, Some(attempt));
            assert_eq!(reservations.ended(attempt), Some(relay));
            assert_eq!(reservations.ended(attempt), None, "it is known already");
        }
        assert_eq!(beats(&mut reservations), 12);
        reservations.asked(relay, Some(8));
        reservations.held(relay);
        reservations.ended(8);
        assert_eq!(reservations.circuits().count(), 0, "it went with its connection");
        assert_eq!(beats(&mut reservations), 1);
        reservations.asked(relay, None);
        assert_eq!(beats(&mut reservations), 2, "not even asked");
    }
}
