//! All sessions with one remote device, as one byte string: which one to send on, which to keep.
//! No cryptography: the ratchets are bytes here.
//!
//! Rules, after Signal's Sesame:
//! - at most [`SESSIONS_MAX`] are kept, the least recently used goes first;
//! - the first is the one to send on: the newest started, accepted or received on, except that an
//!   outworn session does not push aside one that is not;
//! - a session is outworn after [`SESSION_AGE_MAX_MS`] or [`SESSION_MESSAGES_MAX`] messages.
//!
//! # Bytes
//! Stored: CBOR of [`Sessions`], version 1. Sent: one kind byte, 1 = message, 2 = handshake ‖
//! message, where the handshake has the fixed length of the suite.

use serde::{Deserialize, Serialize};
use serde_bytes::{ByteArray, ByteBuf};
use tidings_protocol::codec;
use zeroize::{Zeroize, Zeroizing};

use super::{
    SESSION_AGE_MAX_MS, SESSION_MESSAGES_MAX,
    chains::Chains,
    pqxdh::Tags,
    sealer::{HandshakeDue, StateError},
};

/// Sessions kept per remote device.
pub const SESSIONS_MAX: usize = 4;

const VERSION: u8 = 1;
const KIND_MESSAGE: u8 = 1;
const KIND_HANDSHAKE: u8 = 2;

/// All sessions with one remote device; the first is the one to send on.
#[derive(Serialize, Deserialize)]
pub(crate) struct Sessions {
    version: u8,
    list: Vec<Slot>,
}

/// One session.
#[derive(Serialize, Deserialize)]
pub(crate) struct Slot {
    /// Hash of the handshake.
    pub(crate) id: ByteArray<32>,
    /// Ours, while the other side has not answered.
    pub(crate) handshake: Option<ByteBuf>,
    /// This side began it.
    pub(crate) is_ours: bool,
    created_ms: u64,
    sent: u64,
    received: u64,
    pub(crate) send_tag: ByteArray<16>,
    pub(crate) receive_tag: ByteArray<16>,
    /// Of this side's session key.
    pub(crate) signing_seed: ByteArray<32>,
    /// The other side's session key, pinned.
    pub(crate) their_key: Option<ByteArray<32>>,
    pub(crate) chains: Chains,
    pub(crate) ratchet: ByteBuf,
}

/// What is needed to make a slot.
pub(crate) struct NewSlot<'a> {
    pub(crate) id: [u8; 32],
    pub(crate) handshake: Option<Vec<u8>>,
    pub(crate) tags: Tags,
    pub(crate) signing_seed: Zeroizing<[u8; 32]>,
    pub(crate) ratchet: &'a [u8],
    pub(crate) now_ms: u64,
}

impl Sessions {
    pub(crate) fn read(state: Option<&[u8]>) -> Result<Self, StateError> {
        let Some(state) = state else {
            return Ok(Self { version: VERSION, list: Vec::new() });
        };
        let sessions: Self =
            codec::decode(state).map_err(|error| StateError::Decode(error.into()))?;
        if sessions.version == VERSION {
            Ok(sessions)
        } else {
            Err(StateError::Decode(format!("unknown version {}", sessions.version).into()))
        }
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        codec::encode_with_room(self, 4_096)
    }

    pub(crate) fn front(&self) -> Option<&Slot> {
        self.list.first()
    }

    pub(crate) fn front_mut(&mut self) -> Option<&mut Slot> {
        self.list.first_mut()
    }

    pub(crate) fn get_mut(&mut self, position: usize) -> Option<&mut Slot> {
        self.list.get_mut(position)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.list.iter()
    }

    pub(crate) fn with_id(&self, id: &[u8; 32]) -> Option<usize> {
        self.list.iter().position(|slot| *slot.id == *id)
    }

    pub(crate) fn add(&mut self, new: NewSlot<'_>) {
        let is_ours = new.handshake.is_some();
        let Tags { from_initiator, from_responder } = new.tags;
        let (send, receive) = if is_ours {
            (from_initiator, from_responder)
        } else {
            (from_responder, from_initiator)
        };
        let slot = Slot {
            id: ByteArray::new(new.id),
            handshake: new.handshake.map(ByteBuf::from),
            is_ours,
            created_ms: new.now_ms,
            sent: 0,
            received: 0,
            send_tag: ByteArray::new(send),
            receive_tag: ByteArray::new(receive),
            signing_seed: ByteArray::new(*new.signing_seed),
            their_key: None,
            chains: Chains::default(),
            ratchet: ByteBuf::from(new.ratchet),
        };
        self.list.insert(0, slot);
        self.list.truncate(SESSIONS_MAX);
    }

    /// A message was received on the session at `position`.
    pub(crate) fn received_on(&mut self, position: usize, now_ms: u64) {
        let Some(slot) = self.list.get_mut(position) else { return };
        slot.received = slot.received.saturating_add(1);
        slot.handshake = None;
        let is_outworn = slot.due(now_ms).is_some();
        let front_is_good = self.front().is_some_and(|front| front.due(now_ms).is_none());
        if !(is_outworn && front_is_good) {
            let slot = self.list.remove(position);
            self.list.insert(0, slot);
        }
    }
}

impl Slot {
    /// A message was sent on it.
    pub(crate) fn sent_one(&mut self) {
        self.sent = self.sent.saturating_add(1);
    }

    pub(crate) fn due(&self, now_ms: u64) -> Option<HandshakeDue> {
        if now_ms.saturating_sub(self.created_ms) >= SESSION_AGE_MAX_MS {
            Some(HandshakeDue::Old)
        } else if self.sent.saturating_add(self.received) >= SESSION_MESSAGES_MAX {
            Some(HandshakeDue::Worn)
        } else {
            None
        }
    }

    /// Has the other side proved that it opened a message of this side, and so has our session key?
    /// The initiator knows by any reply; the responder by a second chain, since the initiator
    /// begins one only after a message from here.
    pub(crate) fn is_introduced(&self) -> bool {
        if self.is_ours { self.handshake.is_none() } else { self.chains.count() >= 2 }
    }

    /// Puts the handshake, while it is pending, before the message.
    pub(crate) fn frame(&self, message: &[u8]) -> Vec<u8> {
        match &self.handshake {
            Some(handshake) => [&[KIND_HANDSHAKE], handshake.as_slice(), message].concat(),
            None => [&[KIND_MESSAGE], message].concat(),
        }
    }
}

/// Takes a sealed part apart: handshake, if one is there, and message.
pub(crate) fn unframe(sealed: &[u8], handshake_bytes: usize) -> Option<(Option<&[u8]>, &[u8])> {
    match sealed.split_first()? {
        (&KIND_MESSAGE, message) => Some((None, message)),
        (&KIND_HANDSHAKE, rest) => {
            let (handshake, message) = rest.split_at_checked(handshake_bytes)?;
            Some((Some(handshake), message))
        }
        _ => None,
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.signing_seed.zeroize();
        self.ratchet.zeroize();
    }
}
