//! Every id that travels, and how each is derived. No keys; see `key.rs`.

use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::{codec::wire_bytes, key::PublicKey};

wire_bytes! {
    /// An organisation: its Ed25519 root public key. Text form: 56 characters of lower-case base32
    /// over version ‖ key ‖ two bytes of checksum.
    pub struct NodeId([u8; 32]);
}
wire_bytes! {
    /// A person at a node: hash of the account identity key (AIK).
    pub struct AccountId([u8; 32]);
}
wire_bytes! {
    /// One device: hash of its Ed25519 signing key, so that a key proves the id.
    pub struct DeviceId([u8; 16]);
}
wire_bytes! {
    /// A delivery slot that a recipient registered at the own node for one contact.
    pub struct SlotId([u8; 8]);
}
wire_bytes! {
    /// One copy of one envelope for one target: hash of header, target, part and shared body.
    pub struct CopyId([u8; 32]);
}
wire_bytes! {
    /// One envelope: minute of creation (u32, big-endian) ‖ millisecond in that minute (u16) ‖ 18
    /// bytes of hash over header and copy ids. Ids that grow with time keep the store's trees dense.
    pub struct Eid([u8; 24]);
}
wire_bytes! {
    /// A message as people see it; lives inside the encryption. Unix ms (48 bits) ‖ random bits.
    pub struct MsgId([u8; 16]);
}
wire_bytes! {
    /// One submission by a device, for idempotency at its node. Unix ms (48 bits) ‖ random bits.
    pub struct SubmitId([u8; 16]);
}
wire_bytes! {
    /// A conversation; for two accounts the hash of both ids in ascending order.
    pub struct ChatId([u8; 32]);
}
wire_bytes! {
    /// One boot of one store, drawn at random.
    pub struct BootId([u8; 16]);
}
wire_bytes! {
    /// A SHA-256 value.
    pub struct Hash([u8; 32]);
}
wire_bytes! {
    /// A challenge that is used once.
    pub struct Nonce([u8; 32]);
}

/// Why a text is not a node id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ParseNodeIdError {
    /// Not 56 characters of base32.
    #[error("a node id is 56 characters of a-z and 2-7")]
    Shape,
    /// A version of the text form that we do not know.
    #[error("this node id has version {0}; this program knows version 1")]
    Version(u8),
    /// A typing mistake.
    #[error("this node id has a wrong checksum: check it for typing mistakes")]
    Checksum,
}

/// Version of the text form of a node id.
const NODE_ID_VERSION: u8 = 1;

impl NodeId {
    /// The id that a root key is.
    #[must_use]
    pub const fn of(root: &PublicKey) -> Self {
        Self(root.0)
    }

    /// The root key that the id is.
    #[must_use]
    pub const fn root_key(&self) -> PublicKey {
        PublicKey(self.0)
    }

    /// The text form.
    #[must_use]
    pub fn to_text(self) -> String {
        let mut raw = Vec::with_capacity(35);
        raw.push(NODE_ID_VERSION);
        raw.extend_from_slice(&self.0);
        raw.extend_from_slice(&self.checksum());
        data_encoding::BASE32_NOPAD.encode(&raw).to_lowercase()
    }

    /// Reads the text form, in either case.
    ///
    /// # Errors
    /// [`ParseNodeIdError`], each with what is wrong.
    pub fn parse(text: &str) -> Result<Self, ParseNodeIdError> {
        let raw = data_encoding::BASE32_NOPAD
            .decode(text.to_ascii_uppercase().as_bytes())
            .map_err(|_| ParseNodeIdError::Shape)?;
        let raw: [u8; 35] = raw.try_into().map_err(|_| ParseNodeIdError::Shape)?;
        let [version, middle @ .., check_0, check_1] = raw;
        if version != NODE_ID_VERSION {
            return Err(ParseNodeIdError::Version(version));
        }
        let id = Self(middle);
        if id.checksum() == [check_0, check_1] { Ok(id) } else { Err(ParseNodeIdError::Checksum) }
    }

    fn checksum(&self) -> [u8; 2] {
        let [first, second, ..] = hash("node id checksum", &[&[NODE_ID_VERSION], &self.0]).0;
        [first, second]
    }
}

impl AccountId {
    /// The id of an account identity key.
    #[must_use]
    pub fn of(identity: &PublicKey) -> Self {
        Self(hash("account id", &[&identity.0]).0)
    }
}

impl DeviceId {
    /// The id of a device signing key.
    #[must_use]
    pub fn of(key: &PublicKey) -> Self {
        Self(truncate(hash("device id", &[&key.0])))
    }
}

impl ChatId {
    /// The conversation of two accounts, the same for both.
    #[must_use]
    pub fn of_two(one: &AccountId, other: &AccountId) -> Self {
        let (low, high) = if one <= other { (one, other) } else { (other, one) };
        Self(hash("chat of two", &[&low.0, &high.0]).0)
    }
}

impl Eid {
    /// Minutes since the Unix epoch at which the envelope says that it was created.
    #[must_use]
    pub const fn created_minute(&self) -> u32 {
        let [a, b, c, d, ..] = self.0;
        u32::from_be_bytes([a, b, c, d])
    }
}

/// SHA-256 over a purpose and parts. Every part but the last must have a fixed length, or be a hash.
#[must_use]
pub fn hash(purpose: &str, parts: &[&[u8]]) -> Hash {
    let mut state = Sha256::new();
    state.update(b"tidings/1 ");
    state.update(purpose.as_bytes());
    state.update([0]);
    for part in parts {
        state.update(part);
    }
    Hash(state.finalize().into())
}

fn truncate(hash: Hash) -> [u8; 16] {
    let mut out = [0; 16];
    for (to, from) in out.iter_mut().zip(hash.0) {
        *to = from;
    }
    out
}

/// An id of 16 bytes that grows with time: 48 bits of Unix milliseconds, then random bits.
#[must_use]
pub fn timed_id(now_ms: u64, random: [u8; 10]) -> [u8; 16] {
    let [_, _, time @ ..] = now_ms.to_be_bytes();
    let mut out = [0; 16];
    for (to, from) in out.iter_mut().zip(time.into_iter().chain(random)) {
        *to = from;
    }
    out
}

/// The Unix milliseconds inside a [`timed_id`].
#[must_use]
pub const fn timed_id_ms(id: &[u8; 16]) -> u64 {
    let [a, b, c, d, e, f, ..] = *id;
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}
