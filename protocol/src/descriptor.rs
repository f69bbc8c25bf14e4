//! How a node proves who it is and says where it is: delegation by the root key, addresses by the
//! operational key, both together the descriptor. It is the value of the node's DHT key.

use bytes::Bytes;
use thiserror::Error;

use crate::{
    codec::{self, DecodeError, wire_code, wire_struct},
    domain::Domain,
    id::{Hash, NodeId, hash},
    key::{PublicKey, Purpose, SecretKey, X25519Key},
    limits,
    signed::{OpenSignedError, Sign, Signed},
};

wire_struct! {
    /// What an organisation's root key says: who may sign for it, and who keeps its mail.
    pub struct Delegation {
        /// The node, which is the root key.
        0 => node: NodeId,
        /// max(stored + 1, Unix ms); the highest valid one wins.
        1 => serial: u64,
        /// Signs addresses and statements.
        2 => operational: PublicKey,
        /// Target blocks that pass through a custodian are sealed to this key.
        3 => sealing: X25519Key,
        /// Nodes that take envelopes while this one is away.
        4 => custodians: Vec<NodeId>,
        /// Domains that this node claims; each needs its DNS record as well.
        5 => domains: Vec<String>,
        /// Unix ms after which the delegation is worth nothing.
        6 => not_after_ms: u64,
    }
}

impl Delegation {
    /// True when it names the domain, which is one half of what binds it to the node.
    #[must_use]
    pub fn claims(&self, domain: &Domain) -> bool {
        self.domains.iter().any(|claimed| claimed == domain.as_str())
    }
}

impl Sign for Delegation {
    const PURPOSE: Purpose = Purpose::Delegation;
}

wire_code! {
    /// What a node says about its own condition.
    pub enum NodeState {
        /// Serving.
        1 => Serving,
        /// About to stop: hand envelopes to custodians at once.
        2 => Draining,
        /// Gone for good: stop retrying.
        3 => Retired,
    }
}

wire_struct! {
    /// One process that serves an organisation.
    pub struct Transport {
        /// Its libp2p peer id, as bytes.
        0 => peer_id: Bytes,
        /// Where it listens: multiaddrs in text form, without the peer id.
        1 => multiaddrs: Vec<String>,
    }
}

wire_struct! {
    /// Where a node can be reached.
    pub struct Addresses {
        /// The node.
        0 => node: NodeId,
        /// max(stored + 1, Unix ms); the highest valid one wins.
        1 => serial: u64,
        /// Its processes.
        2 => transports: Vec<Transport>,
        /// Its condition.
        3 => state: NodeState,
        /// Unix ms; at most 48 hours ahead.
        4 => expires_ms: u64,
    }
}

impl Sign for Addresses {
    const PURPOSE: Purpose = Purpose::Addresses;
}

wire_struct! {
    /// Delegation and addresses as they travel.
    pub struct Descriptor {
        /// Signed by the root key.
        0 => delegation: Signed<Delegation>,
        /// Signed by the operational key.
        1 => addresses: Signed<Addresses>,
    }
}

/// A descriptor whose every signature, size and date was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedDescriptor {
    /// What the root key says.
    pub delegation: Delegation,
    /// What the operational key says.
    pub addresses: Addresses,
}

/// Why a descriptor was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DescriptorError {
    /// Larger than a DHT record may be.
    #[error("a descriptor of {bytes} bytes is over the limit of {}", limits::DESCRIPTOR_BYTES_MAX)]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// No descriptor at all.
    #[error("reading a descriptor")]
    Decode(#[from] DecodeError),
    /// A part of it is badly signed.
    #[error("checking a descriptor")]
    Signed(#[from] OpenSignedError),
    /// The two halves name different nodes, or it is another node's.
    #[error("the descriptor belongs to another node")]
    WrongNode,
    /// Delegation or addresses ran out.
    #[error("the descriptor expired")]
    Expired,
    /// The addresses claim to be valid for longer than 48 hours.
    #[error("the descriptor's addresses are dated too far ahead")]
    TooFarAhead,
    /// More transports, addresses, custodians or domains than allowed.
    #[error("the descriptor lists too many {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
    },
}

/// The Kademlia key of a node: hash of its id.
#[must_use]
pub fn dht_key(node: &NodeId) -> Hash {
    hash("dht key", &[&node.0])
}

impl Descriptor {
    /// Signs both halves.
    #[must_use]
    pub fn sign(delegation: Signed<Delegation>, addresses: &Addresses, key: &SecretKey) -> Self {
        Self { delegation, addresses: Signed::new(addresses, key) }
    }

    /// The bytes that are stored in the DHT and sent in the hello.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads a descriptor of any node and checks it against this time.
    ///
    /// # Errors
    /// [`DescriptorError`].
    pub fn read(bytes: &[u8], now_ms: u64) -> Result<(Self, CheckedDescriptor), DescriptorError> {
        if bytes.len() > limits::DESCRIPTOR_BYTES_MAX {
            return Err(DescriptorError::TooLarge { bytes: bytes.len() });
        }
        let descriptor: Self = codec::decode_canonical(bytes)?;
        let checked = descriptor.check(now_ms)?;
        Ok((descriptor, checked))
    }

    /// Checks every signature, size and date.
    ///
    /// # Errors
    /// [`DescriptorError`].
    pub fn check(&self, now_ms: u64) -> Result<CheckedDescriptor, DescriptorError> {
        let checked = self.check_signatures()?;
        let CheckedDescriptor { delegation, addresses } = &checked;
        if delegation.not_after_ms <= now_ms || addresses.expires_ms <= now_ms {
            return Err(DescriptorError::Expired);
        }
        let ahead_ms = limits::ADDRESSES_LIFE_MS_MAX + limits::CLOCK_SKEW_MS_MAX;
        if addresses.expires_ms > now_ms.saturating_add(ahead_ms) {
            return Err(DescriptorError::TooFarAhead);
        }
        checked.check_counts()?;
        Ok(checked)
    }

    /// Checks every signature and size, and no date: for one that was checked when it came and may
    /// still lead to its node.
    ///
    /// # Errors
    /// [`DescriptorError`].
    pub fn check_undated(&self) -> Result<CheckedDescriptor, DescriptorError> {
        let checked = self.check_signatures()?;
        checked.check_counts()?;
        Ok(checked)
    }

    fn check_signatures(&self) -> Result<CheckedDescriptor, DescriptorError> {
        let node = self.delegation.peek()?.node;
        let delegation = self.delegation.open(&node.root_key())?;
        let addresses = self.addresses.open(&delegation.operational)?;
        if addresses.node != node {
            return Err(DescriptorError::WrongNode);
        }
        Ok(CheckedDescriptor { delegation, addresses })
    }
}

impl CheckedDescriptor {
    fn check_counts(&self) -> Result<(), DescriptorError> {
        let Self { delegation, addresses } = self;
        let counts = [
            (delegation.custodians.len(), limits::CUSTODIANS_MAX, "custodians"),
            (delegation.domains.len(), limits::DOMAINS_MAX, "domains"),
            (addresses.transports.len(), limits::TRANSPORTS_MAX, "transports"),
            (
                addresses.transports.iter().map(|t| t.multiaddrs.len()).max().unwrap_or(0),
                limits::MULTIADDRS_MAX,
                "addresses",
            ),
        ];
        match counts.into_iter().find(|(count, max, _)| count > max) {
            Some((_, _, what)) => Err(DescriptorError::TooMany { what }),
            None => Ok(()),
        }
    }

    /// The node.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.delegation.node
    }

    /// True when a connection authenticated as this libp2p peer id speaks for the node.
    #[must_use]
    pub fn has_transport(&self, peer_id: &[u8]) -> bool {
        self.addresses.transports.iter().any(|transport| transport.peer_id == peer_id)
    }

    /// True when this one replaces `other` of the same node.
    #[must_use]
    pub fn is_newer_than(&self, other: &Self) -> bool {
        (self.delegation.serial, self.addresses.serial)
            > (other.delegation.serial, other.addresses.serial)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Addresses, Delegation, Descriptor, DescriptorError, NodeState, Transport, dht_key,
    };
    use crate::id::NodeId;
    use crate::key::{SecretKey, X25519Key};
    use crate::signed::Signed;

    const NOW_MS: u64 = 1_800_000_000_000;

    fn descriptor(serials: (u64, u64), peer_id: &'static [u8]) -> Descriptor {
        let (root, operational) = (SecretKey::from_seed(&[1; 32]), SecretKey::from_seed(&[2; 32]));
        let node = NodeId::of(&root.public());
        let delegation = Delegation {
            node,
            serial: serials.0,
            operational: operational.public(),
            sealing: X25519Key([3; 32]),
            custodians: Vec::new(),
            domains: Vec::new(),
            not_after_ms: u64::MAX,
        };
        let transport = Transport { peer_id: peer_id.into(), multiaddrs: Vec::new() };
        let addresses = Addresses {
            node,
            serial: serials.1,
            transports: vec![transport],
            state: NodeState::Serving,
            expires_ms: NOW_MS + 1,
        };
        Descriptor::sign(Signed::new(&delegation, &root), &addresses, &operational)
    }

    #[test]
    fn a_new_delegation_wins_over_newer_addresses() {
        let check = |serials| descriptor(serials, b"x").check(NOW_MS).unwrap();
        let (old, moved, renewed) = (check((1, 9)), check((1, 10)), check((2, 1)));
        assert!(moved.is_newer_than(&old) && renewed.is_newer_than(&moved));
        assert!(!old.is_newer_than(&old) && !old.is_newer_than(&moved));
    }

    #[test]
    fn only_the_named_transport_speaks_for_the_node() {
        let checked = descriptor((1, 1), b"peer").check(NOW_MS).unwrap();
        assert!(checked.has_transport(b"peer"));
        assert!(!checked.has_transport(b"pee") && !checked.has_transport(b""));
        assert_ne!(dht_key(&checked.node()).0, checked.node().0);
    }

    #[test]
    fn a_clock_at_either_end_of_time_does_no_harm() {
        assert_eq!(descriptor((1, 1), b"x").check(0).unwrap_err(), DescriptorError::TooFarAhead);
        assert_eq!(descriptor((1, 1), b"x").check(u64::MAX).unwrap_err(), DescriptorError::Expired);
        let root = SecretKey::from_seed(&[1; 32]);
        let addresses = Addresses {
            node: NodeId::of(&root.public()),
            serial: 1,
            transports: Vec::new(),
            state: NodeState::Retired,
            expires_ms: u64::MAX,
        };
        let delegation = descriptor((1, 1), b"x").delegation;
        let endless = Descriptor::sign(delegation, &addresses, &SecretKey::from_seed(&[2; 32]));
        assert!(endless.check(u64::MAX - 1).is_ok());
        assert_eq!(endless.check(NOW_MS).unwrap_err(), DescriptorError::TooFarAhead);
    }
}
