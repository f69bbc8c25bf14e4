//! The form of addresses through a relay: `<relay's address>/p2p/<relay>/p2p-circuit`. Text only;
//! whether one may be dialled is the address filter's.

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

/// Whether an address leads through a relay.
pub(crate) fn is_circuit(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

/// The relay that an address leads through, if the address names it.
pub(crate) fn relay_of(address: &Multiaddr) -> Option<PeerId> {
    let mut named = None;
    for part in address {
        if part == Protocol::P2pCircuit {
            return named;
        }
        named = if let Protocol::P2p(peer) = part { Some(peer) } else { None };
    }
    None
}

/// The address of whoever holds a reservation at a relay, from one of the relay.
pub(crate) fn through(relay: PeerId, address: &Multiaddr) -> Multiaddr {
    address.clone().with(Protocol::P2p(relay)).with(Protocol::P2pCircuit)
}

/// In which order addresses are told and dialled: direct ones first, and among them QUIC.
pub(crate) fn rank(address: &Multiaddr) -> (bool, bool) {
    (is_circuit(address), !address.iter().any(|part| part == Protocol::QuicV1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_relay_stands_before_the_circuit() {
        let [relay, peer] = [PeerId::random(), PeerId::random()];
        let plain: Multiaddr = "/ip4/9.9.9.9/tcp/4001".parse().unwrap();
        let circuit = through(relay, &plain);
        let named = circuit.clone().with(Protocol::P2p(peer));
        for address in [&circuit, &named] {
            assert!(is_circuit(address));
            assert_eq!(relay_of(address), Some(relay));
            assert!(rank(&plain) < rank(address));
        }
        for address in [plain.clone(), plain.clone().with(Protocol::P2p(relay))] {
            assert!(!is_circuit(&address));
            assert_eq!(relay_of(&address), None);
        }
        assert_eq!(relay_of(&plain.with(Protocol::P2pCircuit)), None, "it is not named");
    }
}
