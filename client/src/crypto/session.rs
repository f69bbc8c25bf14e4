//! One Double Ratchet session: a thin cover over vodozemac's Olm session, with plain bytes in and
//! out. Its start is `pqxdh.rs`; which of several sessions to use is `sessions.rs`.
//!
//! vodozemac 0.11.1's limits, which `chains.rs` mirrors: 5 receiving chains, 40 skipped message keys
//! per chain, gaps of at most 2,000. Its MAC has 8 bytes and there is no header encryption: the
//! ratchet key and the index are readable.

use thiserror::Error;
use tidings_protocol::codec;
use vodozemac::olm::{
    DecryptionError, EncryptionError, Message, OlmMessage, Session, SessionPickle,
};
use zeroize::Zeroizing;

/// Bytes that most sessions take at most.
const SESSION_ROOM_BYTES: usize = 2_048;

/// A session in memory.
pub struct Ratchet(Session);

/// What everybody can read of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The sender's ratchet key, which names the chain.
    pub chain: [u8; 32],
    /// Position within the chain, from 0.
    pub index: u64,
}

/// A message was not encrypted or not decrypted.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum RatchetError {
    /// The bytes are no message.
    #[error("using a session: malformed message")]
    Malformed,
    /// It does not authenticate in this session.
    #[error("using a session: the message does not authenticate")]
    Unauthentic,
    /// Its key was used or thrown away.
    #[error("using a session: the key of message {index} is gone")]
    KeyGone {
        /// Index within the chain.
        index: u64,
    },
    /// Too many messages are missing before it.
    #[error("using a session: {gap} messages are missing before this one")]
    Gap {
        /// How many.
        gap: u64,
    },
    /// All-zero shared secret.
    #[error("using a session: low-order ratchet key")]
    WeakKey,
}

/// A session was not read or written.
#[derive(Debug, Error)]
#[error("reading or writing a session")]
pub struct RatchetCodecError(#[source] pub(crate) Box<dyn std::error::Error + Send + Sync>);

impl Ratchet {
    pub(crate) fn new(session: Session) -> Self {
        Self(session)
    }

    /// Chain and index of an encrypted message.
    #[must_use]
    pub fn header(message: &[u8]) -> Option<Header> {
        let message = Message::from_bytes(message).ok()?;
        Some(Header { chain: message.ratchet_key().to_bytes(), index: message.chain_index() })
    }

    /// Encrypts; the result opens once.
    ///
    /// # Errors
    /// `WeakKey` when the remote ratchet key is of low order.
    pub fn encrypt(&mut self, plaintext: &[u8]) -> Result<Vec<u8>, RatchetError> {
        let message = self.0.encrypt(plaintext).map_err(|error| match error {
            EncryptionError::NonContributoryKey => RatchetError::WeakKey,
        })?;
        Ok(match message {
            OlmMessage::Normal(message) => message.to_bytes(),
            // Olm's own handshake fields say nothing here: ours go beside the message.
            OlmMessage::PreKey(message) => message.message().to_bytes(),
        })
    }

    /// Decrypts.
    ///
    /// # Errors
    /// See [`RatchetError`]. The ratchet may have moved even then: throw this value away.
    pub fn decrypt(&mut self, message: &[u8]) -> Result<Vec<u8>, RatchetError> {
        let message = Message::from_bytes(message).map_err(|_| RatchetError::Malformed)?;
        self.0.decrypt(&OlmMessage::Normal(message)).map_err(|error| match error {
            DecryptionError::InvalidMAC(_)
            | DecryptionError::InvalidMACLength(..)
            | DecryptionError::InvalidPadding(_) => RatchetError::Unauthentic,
            DecryptionError::NonContributoryKey => RatchetError::WeakKey,
            DecryptionError::MissingMessageKey(index) => RatchetError::KeyGone { index },
            DecryptionError::TooBigMessageGap(gap, _) => RatchetError::Gap { gap },
        })
    }

    /// Plain CBOR of vodozemac's pickle; encrypt it at rest.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        // Room for a session in full, so that growing leaves no copies of keys behind.
        Zeroizing::new(codec::encode_with_room(&self.0.pickle(), SESSION_ROOM_BYTES))
    }

    /// The inverse of [`Self::to_bytes`].
    ///
    /// # Errors
    /// When the bytes are damaged.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RatchetCodecError> {
        let pickle: SessionPickle =
            codec::decode(bytes).map_err(|error| RatchetCodecError(error.into()))?;
        Ok(Self(Session::from_pickle(pickle)))
    }
}

impl std::fmt::Debug for Ratchet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ratchet { .. }")
    }
}
