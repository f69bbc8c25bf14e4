//! The sealed envelope: one per destination node, with a target per device or slot there. It is
//! unsigned and names no sender, chat, message or sequence; all that is inside the ciphertext.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::{
    codec::{self, wire_bytes, wire_code, wire_struct, wire_union},
    id::{CopyId, DeviceId, Eid, Hash, NodeId, SlotId, hash},
    limits,
};

wire_code! {
    /// How a node treats an envelope.
    pub enum Class {
        /// Written by a person.
        1 => Message,
        /// Read marks and the like: stored and retried as a message, but wakes nobody.
        2 => Receipt,
        /// Session repair between devices.
        3 => Control,
    }
}

wire_struct! {
    /// What every hop may read.
    pub struct Header {
        /// [`limits::PROTOCOL_VERSION`].
        0 => version: u8,
        /// The node that accepted it from a device; statements go back to it.
        1 => origin: NodeId,
        /// The node whose users it is for.
        2 => destination: NodeId,
        /// Unix ms by the sender's clock, corrected by its node's.
        3 => created_ms: u64,
        /// Unix ms; at most 30 days after `created_ms`.
        4 => expires_ms: u64,
        /// How to treat it.
        5 => class: Class,
    }
}

wire_union! {
    /// For whom one part is.
    pub enum Recipient {
        /// A device.
        1 => Device(DeviceId),
        /// A slot that the recipient registered for this contact.
        2 => Slot(SlotId),
    }
}

wire_bytes! {
    /// HMAC-SHA-256 by the slot's key over created, expires and eid.
    pub struct SlotMac([u8; 32]);
}
wire_bytes! {
    /// Admission of a stranger to the request queue; zero when no work is asked for.
    pub struct RequestNonce([u8; 8]);
}

wire_union! {
    /// Why the recipient's node should take it.
    pub enum Auth {
        /// The recipient gave this contact a slot.
        1 => Slot(SlotMac),
        /// A stranger's first contact.
        2 => Request(RequestNonce),
    }
}

wire_struct! {
    /// One target of an envelope.
    pub struct Target {
        /// For whom.
        0 => to: Recipient,
        /// Why to take it.
        1 => auth: Option<Auth>,
        /// Version of the recipient's device list that the sender knew.
        2 => list_version: u64,
        /// Hash of that list.
        3 => list_hash: Hash,
        /// The sealed part: key and hash of the shared body.
        4 => part: Bytes,
    }
}

wire_struct! {
    /// Header and targets; travels as the payload of a frame's header.
    pub struct EnvelopeHead {
        /// What every hop may read.
        0 => header: Header,
        /// The targets.
        1 => targets: Vec<Target>,
    }
}

/// An envelope: head, and the shared body that no node decodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Header and targets.
    pub head: EnvelopeHead,
    /// Content, sealed once.
    pub shared: Bytes,
}

/// Why an envelope is no envelope, whoever brings it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EnvelopeError {
    /// A version that this program does not know.
    #[error("envelope version {0} is not known here")]
    Version(u8),
    /// Larger than allowed.
    #[error("an envelope of {bytes} bytes is over the limit of {}", limits::ENVELOPE_BYTES_MAX)]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// None, too many, or one twice.
    #[error("an envelope has 1 to {} different targets", limits::TARGETS_MAX)]
    Targets,
    /// It expires before it is made, or too long after.
    #[error("an envelope lives for at most 30 days")]
    Life,
}

impl EnvelopeHead {
    /// Checks the shape: version, size, targets, life. Says nothing about the present time.
    ///
    /// # Errors
    /// [`EnvelopeError`].
    pub fn check(&self, shared_len: usize) -> Result<(), EnvelopeError> {
        self.header.check_version()?;
        let parts: usize = self.targets.iter().map(|target| target.part.len() + 128).sum();
        let bytes = parts + shared_len + 128;
        if bytes > limits::ENVELOPE_BYTES_MAX {
            return Err(EnvelopeError::TooLarge { bytes });
        }
        let mut seen: Vec<&Recipient> = Vec::with_capacity(self.targets.len());
        for target in &self.targets {
            if seen.contains(&&target.to) {
                return Err(EnvelopeError::Targets);
            }
            seen.push(&target.to);
        }
        if seen.is_empty() || seen.len() > limits::TARGETS_MAX {
            return Err(EnvelopeError::Targets);
        }
        self.header.check_life()
    }

    /// The id of the envelope and of each of its copies, in the order of the targets.
    #[must_use]
    pub fn ids(&self, shared_hash: &Hash) -> (Eid, Vec<CopyId>) {
        let header_hash = self.header.hash();
        let copies: Vec<CopyId> =
            self.targets.iter().map(|t| t.copy_id(&header_hash, shared_hash)).collect();
        (eid(self.header.created_ms, &header_hash, &copies), copies)
    }
}

impl Target {
    /// The id of this copy. The proof of admission (`auth`) is no part of it, since it is made last.
    #[must_use]
    pub fn copy_id(&self, header_hash: &Hash, shared_hash: &Hash) -> CopyId {
        let to = codec::encode(&(&self.to, self.list_version, &self.list_hash));
        let to_hash = hash("target", &[&to]);
        let part_hash = hash("part", &[&self.part]);
        CopyId(hash("copy", &[&header_hash.0, &to_hash.0, &part_hash.0, &shared_hash.0]).0)
    }

    /// The device, when the target is one.
    #[must_use]
    pub const fn device(&self) -> Option<DeviceId> {
        match &self.to {
            Recipient::Device(device) => Some(*device),
            Recipient::Slot(_) => None,
        }
    }
}

impl Header {
    /// The hash that goes into copy ids.
    #[must_use]
    pub fn hash(&self) -> Hash {
        hash("header", &[&codec::encode(self)])
    }

    /// The id of the envelope with this header and these copies, in the order of the targets: who does
    /// not see the targets can compute it too.
    #[must_use]
    pub fn eid(&self, copies: &[CopyId]) -> Eid {
        eid(self.created_ms, &self.hash(), copies)
    }

    pub(crate) const fn check_version(&self) -> Result<(), EnvelopeError> {
        if self.version != limits::PROTOCOL_VERSION {
            return Err(EnvelopeError::Version(self.version));
        }
        Ok(())
    }

    pub(crate) fn check_life(&self) -> Result<(), EnvelopeError> {
        match self.expires_ms.checked_sub(self.created_ms) {
            Some(1..=limits::MESSAGE_LIFE_MS_MAX) => Ok(()),
            Some(_) | None => Err(EnvelopeError::Life),
        }
    }
}

/// The hash of a shared body that goes into copy ids.
#[must_use]
pub fn shared_hash(shared: &[u8]) -> Hash {
    hash("shared", &[shared])
}

fn eid(created_ms: u64, header_hash: &Hash, copies: &[CopyId]) -> Eid {
    let mut state = Sha256::new();
    state.update(b"tidings/1 eid\0");
    state.update(header_hash.0);
    for copy in copies {
        state.update(copy.0);
    }
    let digest: [u8; 32] = state.finalize().into();
    let minute = u32::try_from(created_ms / 60_000).unwrap_or(u32::MAX).to_be_bytes();
    let [.., high, low] = (created_ms % 60_000).to_be_bytes();
    let mut out = [0; 24];
    for (to, from) in out.iter_mut().zip(minute.into_iter().chain([high, low]).chain(digest)) {
        *to = from;
    }
    Eid(out)
}
