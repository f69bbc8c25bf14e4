//! Proof of key on either link, and the marks by which each side notices that the other one's store
//! was rolled back.

use bytes::Bytes;

use crate::{
    codec::{self, wire_struct},
    descriptor::Descriptor,
    id::{BootId, DeviceId, Hash, NodeId, Nonce},
    key::Signature,
};

wire_struct! {
    /// A point in the life of a store. A store that does not know a mark it gave was rolled back.
    pub struct Mark {
        /// The boot.
        0 => boot: BootId,
        /// The number of a commit within the life of the store.
        1 => commit: u64,
    }
}

wire_struct! {
    /// First frame of a node to a device.
    pub struct Challenge {
        /// [`crate::limits::PROTOCOL_VERSION`].
        0 => version: u8,
        /// The node.
        1 => node: NodeId,
        /// Fresh for each link.
        2 => nonce: Nonce,
    }
}

wire_struct! {
    /// A device proves itself.
    pub struct ClientHello {
        /// [`crate::limits::PROTOCOL_VERSION`].
        0 => version: u8,
        /// The node that the device means to speak to.
        1 => node: NodeId,
        /// The device.
        2 => device: DeviceId,
        /// Fresh for each link.
        3 => nonce: Nonce,
        /// The last mark of the node's store that the device wrote down.
        4 => yours: Option<Mark>,
        /// A mark of the device's own store.
        5 => mine: Mark,
        /// By the device's key over [`client_transcript`].
        6 => signature: Signature,
    }
}

wire_struct! {
    /// The node proves itself, and says where it stands.
    pub struct Welcome {
        /// Who the node is, up to its root key.
        0 => descriptor: Descriptor,
        /// Redrawn when the node's store was rolled back: submit again what is not final.
        1 => incarnation: u64,
        /// A mark of the node's store.
        2 => mine: Mark,
        /// The last mark of the device's store that the node wrote down.
        3 => yours: Option<Mark>,
        /// Unix ms by the node's clock.
        4 => time_ms: u64,
        /// One-time pre-keys that may still be handed out; zero after each start of the node.
        5 => one_time_left: u64,
        /// Version of the account's device list at the node.
        6 => list_version: u64,
        /// By the operational key over [`node_transcript`].
        7 => signature: Signature,
    }
}

wire_struct! {
    /// First frame of each side of a peer link. The link itself is authenticated by libp2p; the
    /// descriptor binds its peer id to the node.
    pub struct PeerHello {
        /// [`crate::limits::PROTOCOL_VERSION`].
        0 => version: u8,
        /// [`Descriptor`], encoded.
        1 => descriptor: Bytes as Descriptor,
        /// Redrawn when the store was rolled back: audit what is not final.
        2 => incarnation: u64,
        /// A mark of the sender's store.
        3 => mine: Mark,
        /// The last mark of the receiver's store that the sender wrote down.
        4 => yours: Option<Mark>,
        /// Descriptors of other nodes that the receiver may need.
        5 => introductions: Vec<Bytes> as Descriptor,
    }
}

/// What the device signs: both nonces, node and device, and the marks.
#[must_use]
pub fn client_transcript(challenge: &Challenge, hello: &ClientHello) -> Hash {
    let marks = codec::encode(&(&hello.yours, &hello.mine));
    codec_hash("client transcript", challenge, hello, &marks)
}

/// What the node signs: the same, and its own stance.
#[must_use]
pub fn node_transcript(challenge: &Challenge, hello: &ClientHello, welcome: &Welcome) -> Hash {
    let stance = codec::encode(&(
        (&hello.yours, &hello.mine, welcome.incarnation, &welcome.mine),
        (&welcome.yours, welcome.time_ms, welcome.one_time_left, welcome.list_version),
    ));
    codec_hash("node transcript", challenge, hello, &stance)
}

fn codec_hash(purpose: &str, challenge: &Challenge, hello: &ClientHello, rest: &[u8]) -> Hash {
    crate::id::hash(
        purpose,
        &[
            &[challenge.version, hello.version],
            challenge.node.as_bytes(),
            hello.node.as_bytes(),
            challenge.nonce.as_bytes(),
            hello.nonce.as_bytes(),
            hello.device.as_bytes(),
            rest,
        ],
    )
}
