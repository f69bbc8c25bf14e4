//! The lines of `node.toml` about relays: through which nodes others reach this one, and for whom it is
//! one. Checks words; whether a relay answers shows itself later.

use std::collections::BTreeSet;

use libp2p::{Multiaddr, PeerId};

use super::{Written, Wrong, peer_addresses, wrong};
use crate::p2p::{RELAYS_MAX, RelayFor, is_circuit};

/// The relays of this node.
pub(super) fn relays(written: &Written) -> Result<Vec<(PeerId, Multiaddr)>, Wrong> {
    let relays = peer_addresses(written.relays.as_deref())?;
    let mut peers = BTreeSet::new();
    for (text, (peer, address)) in written.relays.iter().flatten().zip(&relays) {
        if is_circuit(address) {
            return Err(wrong(text, "a relay is reached directly: name its own address"));
        }
        if peers.insert(*peer) && peers.len() > RELAYS_MAX {
            return Err(wrong(text, format!("a node has at most {RELAYS_MAX} relays")));
        }
    }
    Ok(relays)
}

/// For whom this node relays; `known` are the peers that its configuration names elsewhere.
pub(super) fn relay_for(written: &Written, mut known: BTreeSet<PeerId>) -> Result<RelayFor, Wrong> {
    let word = written.relay_for.as_ref().map_or("nobody", |word| word.get_ref());
    for text in written.relay_peers.iter().flatten() {
        if word != "peers" {
            return Err(wrong(text, "relay_peers counts with relay_for = \"peers\" only"));
        }
        let why = "this is no peer id; `tidings admin status` there shows it";
        known.insert(text.get_ref().parse().map_err(|_| wrong(text, why))?);
    }
    match (word, &written.relay_for) {
        ("peers", _) => Ok(RelayFor::Peers(known)),
        ("anyone", _) => Ok(RelayFor::Anyone),
        ("nobody", _) | (_, None) => Ok(RelayFor::Nobody),
        (_, Some(text)) => Err(wrong(text, "write \"nobody\", \"peers\" or \"anyone\"")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Config;
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("/srv/acme/node.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn relays_are_few_and_direct_and_those_relayed_for_are_named() {
        let address = |port: usize, peer: &PeerId| format!("/ip4/192.0.2.1/tcp/{port}/p2p/{peer}");
        let list = |key: &str, addresses: &[String]| format!("data = \".\"\n{key} = {addresses:?}");
        let peers: Vec<PeerId> = (0..=RELAYS_MAX).map(|_| PeerId::random()).collect();
        let all: Vec<String> = peers.iter().map(|peer| address(1, peer)).collect();
        let twice = [address(1, &peers[0]), address(2, &peers[0])];
        assert_eq!(parse(&list("relays", &twice)).unwrap().peers.relays.len(), 2);
        assert_eq!(parse(&list("relays", &all[1..])).unwrap().peers.relays.len(), RELAYS_MAX);
        assert!(parse(&list("relays", &all)).unwrap_err().contains("at most"));
        let circuit = [format!("{}/p2p-circuit/p2p/{}", all[0], peers[1])];
        assert!(parse(&list("relays", &circuit)).unwrap_err().contains("directly"));
        assert!(is_circuit(&parse(&list("bootstrap", &circuit)).unwrap().peers.bootstrap[0].1));
        let named = format!("{}\nrelay_for = \"peers\"", list("bootstrap", &all[..1]));
        let named = format!("{named}\nrelay_peers = [\"{}\"]", peers[1]);
        let known = BTreeSet::from([peers[0], peers[1]]);
        assert_eq!(parse(&named).unwrap().peers.relay_for, RelayFor::Peers(known));
        assert_eq!(parse("data = \".\"").unwrap().peers.relay_for, RelayFor::Nobody);
    }
}
