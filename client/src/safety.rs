//! Safety numbers: what two people compare by other means to know that no node stands between them.
//! Signal's numeric fingerprint, version 0 (libsignal, `fingerprint.rs`), over account keys and
//! addresses. It shows nothing and keeps nothing.

use sha2::{Digest as _, Sha512};
use tidings_protocol::{address::Address, key::PublicKey};

use crate::event::Peer;

const VERSION: [u8; 2] = [0, 0];
const ROUNDS: usize = 5_200;
/// Bytes of one group of digits, and groups of each party.
const GROUP_BYTES: usize = 5;
const GROUPS: usize = 6;

/// One party: account key and address.
pub type Party<'a> = (&'a PublicKey, &'a Peer);

/// Sixty digits in twelve groups, the same on both sides.
#[must_use]
pub fn safety_number(one: Party<'_>, other: Party<'_>) -> String {
    let mut halves = [half(one), half(other)];
    halves.sort_unstable();
    halves.join(" ")
}

/// Whether a person means this number: digits alone count.
#[must_use]
pub fn is_same(typed: &str, number: &str) -> bool {
    let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
    let is_shaped = typed.chars().all(|c| c.is_ascii_digit() || c.is_whitespace());
    is_shaped && digits(typed) == digits(number)
}

fn half((key, peer): Party<'_>) -> String {
    let address = Address::at_node(peer.name.clone(), peer.node).to_string();
    let key = key.as_bytes();
    let mut hash = Sha512::new();
    for part in [&VERSION[..], key, address.as_bytes(), key] {
        hash.update(part);
    }
    let mut hash = hash.finalize();
    for _ in 1..ROUNDS {
        hash = Sha512::new().chain_update(hash).chain_update(key).finalize();
    }
    let groups = hash.chunks(GROUP_BYTES).take(GROUPS).map(|bytes| {
        let number = bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        format!("{:05}", number % 100_000)
    });
    groups.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use tidings_protocol::{address::UserName, id::NodeId, key::SecretKey};

    use super::*;

    fn party(name: &str, seed: u8) -> (PublicKey, Peer) {
        let node = NodeId::of(&SecretKey::from_seed(&[seed ^ 0x55; 32]).public());
        let name = UserName::parse(name).unwrap();
        (SecretKey::from_seed(&[seed; 32]).public(), Peer { node, name })
    }

    #[test]
    fn both_see_the_same_and_another_key_another() {
        let [alice, bob, other] = [party("alice", 1), party("bob", 2), party("bob", 3)];
        let number = safety_number((&alice.0, &alice.1), (&bob.0, &bob.1));
        assert_eq!(number, safety_number((&bob.0, &bob.1), (&alice.0, &alice.1)));
        assert_ne!(number, safety_number((&alice.0, &alice.1), (&other.0, &bob.1)));
        assert_ne!(number, safety_number((&alice.0, &alice.1), (&bob.0, &other.1)));
        assert_eq!(number.split(' ').map(str::len).collect::<Vec<_>>(), [5; 12]);
        assert!(is_same(&number.replace(' ', ""), &number) && is_same(&number, &number));
        assert!(!is_same("", &number) && !is_same(&format!("{number}x"), &number));
    }
}
