//! The secrets behind a device's published pre-keys, and the memory of handshakes already seen.
//! Pure bookkeeping; the keys are drawn and used by the suites (`pqxdh.rs`, `stub.rs`).
//!
//! Life of a key: signed pre-key and ML-KEM pre-key rotate together, weekly; a replaced pair is
//! kept [`PREKEY_GRACE_MS`] for first messages still under way. A one-time pre-key dies when a first
//! message that used it has been opened. *Frozen* ones must not be handed out any more (a rollback
//! was detected) but still open what is under way, until the grace ends.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tidings_protocol::codec;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Age at which the signed and the ML-KEM pre-key are replaced: one week.
pub const PREKEY_ROTATION_MS: u64 = 7 * 24 * 3_600_000;
/// How long secrets live after they were replaced or frozen: 30 days of longest envelope life, and
/// 15 for bundles that another node had cached.
pub const PREKEY_GRACE_MS: u64 = 45 * 24 * 3_600_000;
/// One-time pre-keys that a device aims to have at its node.
pub const ONE_TIME_GOAL: usize = 100;
/// Most one-time secrets kept, frozen ones included; more are refused.
pub const ONE_TIME_MAX: usize = 1_000;
/// Handshakes remembered per signed pre-key, so that the record stays under 64 KiB. Beyond, first
/// messages are refused until the pre-key rotates, and [`PrekeySecrets::wants_rotation`] says so.
pub const HANDSHAKES_PER_PREKEY_MAX: usize = 4_096;

/// Reading or changing pre-key secrets failed.
#[derive(Debug, Error)]
pub enum PrekeyError {
    /// The stored bytes are not pre-key secrets of this version.
    #[error("reading pre-key secrets")]
    Decode(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// More one-time pre-keys than [`ONE_TIME_MAX`].
    #[error("adding one-time pre-keys: {have} are there already")]
    TooMany {
        /// How many there are.
        have: usize,
    },
    /// All 2^32 numbers are used.
    #[error("numbering a pre-key: no number left")]
    NumbersExhausted,
    /// There is no signed pre-key to publish.
    #[error("publishing pre-keys: no signed pre-key")]
    Empty,
}

/// Secrets of all pre-keys of this device. One record in the caller's store; write it in the same
/// transaction as the session state whenever `open` changed it.
#[derive(Clone, Serialize, Deserialize)]
pub struct PrekeySecrets {
    version: u8,
    next_id: u32,
    /// Oldest first; the last is the current one.
    signed: Vec<SignedSecrets>,
    one_time: BTreeMap<u32, OneTimeSecret>,
}

#[derive(Clone, Serialize, Deserialize)]
struct SignedSecrets {
    signed_id: u32,
    kem_id: u32,
    #[serde(with = "serde_bytes")]
    signed_secret: [u8; 32],
    #[serde(with = "serde_bytes")]
    kem_seed: [u8; 64],
    created_ms: u64,
    replaced_ms: Option<u64>,
    /// First halves of the handshake ids accepted with this key, in order of arrival.
    #[serde(with = "serde_bytes")]
    seen: Vec<u8>,
}

#[derive(Clone, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct OneTimeSecret {
    #[serde(with = "serde_bytes")]
    secret: [u8; 32],
    frozen_ms: Option<u64>,
}

/// Which pre-keys a handshake used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrekeyIds {
    /// Signed X25519 pre-key.
    pub signed: u32,
    /// ML-KEM pre-key.
    pub kem: u32,
    /// One-time pre-key, if any.
    pub one_time: Option<u32>,
}

/// The secrets that one handshake needs.
pub struct HandshakeSecrets {
    /// X25519 secret of the signed pre-key.
    pub signed: Zeroizing<[u8; 32]>,
    /// ML-KEM key generation seed (d ‖ z of FIPS 203).
    pub kem_seed: Zeroizing<[u8; 64]>,
    /// X25519 secret of the one-time pre-key.
    pub one_time: Option<Zeroizing<[u8; 32]>>,
}

/// Which kind of pre-key is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrekeyKind {
    /// Signed X25519 pre-key.
    Signed,
    /// ML-KEM pre-key.
    Kem,
    /// One-time X25519 pre-key.
    OneTime,
}

const VERSION: u8 = 1;
const SEEN_BYTES: usize = 16;

impl PrekeySecrets {
    pub(crate) fn empty() -> Self {
        Self { version: VERSION, next_id: 1, signed: Vec::new(), one_time: BTreeMap::new() }
    }

    /// Plain CBOR; encrypt it at rest.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        // As much as the record may take, so that growing leaves no copies of keys behind.
        Zeroizing::new(codec::encode_with_room(self, 64 * 1024))
    }

    /// The inverse of [`Self::to_bytes`].
    ///
    /// # Errors
    /// `Decode` when the bytes are damaged or of another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PrekeyError> {
        let secrets: Self = codec::decode(bytes).map_err(|e| PrekeyError::Decode(e.into()))?;
        if secrets.version != VERSION {
            let what = format!("unknown version {}", secrets.version);
            return Err(PrekeyError::Decode(what.into()));
        }
        Ok(secrets)
    }

    /// Is it time for a new signed and ML-KEM pre-key?
    #[must_use]
    pub fn wants_rotation(&self, now_ms: u64) -> bool {
        self.signed.last().is_none_or(|s| {
            now_ms.saturating_sub(s.created_ms) >= PREKEY_ROTATION_MS
                || s.seen.len() / SEEN_BYTES >= HANDSHAKES_PER_PREKEY_MAX / 2
        })
    }

    /// Drops secrets whose grace is over. True when something was dropped.
    pub fn expire(&mut self, now_ms: u64) -> bool {
        let over = |since: Option<u64>| {
            since.is_some_and(|ms| now_ms.saturating_sub(ms) >= PREKEY_GRACE_MS)
        };
        let before = self.signed.len() + self.one_time.len();
        self.signed.retain(|s| !over(s.replaced_ms));
        self.one_time.retain(|_, s| !over(s.frozen_ms));
        before != self.signed.len() + self.one_time.len()
    }

    /// Numbers of the one-time pre-keys that may be handed out. The device tells them to its node
    /// after a restart, so that the node forgets all others.
    #[must_use]
    pub fn usable_one_time(&self) -> Vec<u32> {
        let usable = self.one_time.iter().filter(|(_, s)| s.frozen_ms.is_none());
        usable.map(|(id, _)| *id).collect()
    }

    /// Marks all one-time pre-keys as not to be handed out any more; they still open what is under
    /// way. Publish new ones afterwards.
    pub fn freeze_one_time(&mut self, now_ms: u64) {
        for secret in self.one_time.values_mut() {
            secret.frozen_ms.get_or_insert(now_ms);
        }
    }

    /// Drops all frozen one-time secrets now, before their grace ends.
    pub fn forget_frozen(&mut self) {
        self.one_time.retain(|_, s| s.frozen_ms.is_none());
    }

    pub(crate) fn add_signed(
        &mut self,
        signed_secret: [u8; 32],
        kem_seed: [u8; 64],
        now_ms: u64,
    ) -> Result<(), PrekeyError> {
        let signed_id = self.number()?;
        let kem_id = self.number()?;
        if let Some(last) = self.signed.last_mut() {
            last.replaced_ms.get_or_insert(now_ms);
        }
        let seen = Vec::new();
        self.signed.push(SignedSecrets {
            signed_id,
            kem_id,
            signed_secret,
            kem_seed,
            created_ms: now_ms,
            replaced_ms: None,
            seen,
        });
        Ok(())
    }

    pub(crate) fn check_room(&self, count: usize) -> Result<(), PrekeyError> {
        let have = self.one_time.len();
        if have.saturating_add(count) > ONE_TIME_MAX {
            return Err(PrekeyError::TooMany { have });
        }
        Ok(())
    }

    pub(crate) fn add_one_time(&mut self, secret: [u8; 32]) -> Result<u32, PrekeyError> {
        let id = self.number()?;
        self.one_time.insert(id, OneTimeSecret { secret, frozen_ms: None });
        Ok(id)
    }

    /// Numbers and secrets of the current signed pair: (signed id, secret, kem id, seed).
    pub(crate) fn current(&self) -> Option<(u32, &[u8; 32], u32, &[u8; 64])> {
        let s = self.signed.last()?;
        Some((s.signed_id, &s.signed_secret, s.kem_id, &s.kem_seed))
    }

    /// Was this handshake accepted before?
    pub(crate) fn has_seen(&self, handshake: &[u8; 32]) -> bool {
        self.signed
            .iter()
            .any(|s| s.seen.chunks_exact(SEEN_BYTES).any(|seen| handshake.starts_with(seen)))
    }

    /// Is the memory of this signed pre-key full?
    pub(crate) fn is_full(&self, ids: PrekeyIds) -> bool {
        self.signed
            .iter()
            .filter(|s| s.signed_id == ids.signed)
            .any(|s| s.seen.len() / SEEN_BYTES >= HANDSHAKES_PER_PREKEY_MAX)
    }

    pub(crate) fn secrets_for(
        &self,
        ids: PrekeyIds,
    ) -> Result<HandshakeSecrets, (PrekeyKind, u32)> {
        let signed = self
            .signed
            .iter()
            .find(|s| s.signed_id == ids.signed)
            .ok_or((PrekeyKind::Signed, ids.signed))?;
        let kem =
            self.signed.iter().find(|s| s.kem_id == ids.kem).ok_or((PrekeyKind::Kem, ids.kem))?;
        let one_time = match ids.one_time {
            None => None,
            Some(id) => {
                let found = self.one_time.get(&id).ok_or((PrekeyKind::OneTime, id))?;
                Some(Zeroizing::new(found.secret))
            }
        };
        Ok(HandshakeSecrets {
            signed: Zeroizing::new(signed.signed_secret),
            kem_seed: Zeroizing::new(kem.kem_seed),
            one_time,
        })
    }

    /// Records that a handshake was accepted: its one-time secret dies, its id is remembered.
    pub(crate) fn consume(&mut self, ids: PrekeyIds, handshake: &[u8; 32]) {
        if let Some(id) = ids.one_time {
            self.one_time.remove(&id);
        }
        let full = self.is_full(ids);
        // A full memory takes only handshakes with a one-time key, which cannot be replayed anyway.
        if let Some(signed) = self.signed.iter_mut().find(|s| s.signed_id == ids.signed && !full) {
            signed.seen.extend(handshake.iter().take(SEEN_BYTES));
        }
    }

    fn number(&mut self) -> Result<u32, PrekeyError> {
        let id = self.next_id;
        self.next_id = id.checked_add(1).ok_or(PrekeyError::NumbersExhausted)?;
        Ok(id)
    }
}

impl fmt::Debug for PrekeySecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrekeySecrets")
            .field("signed", &self.signed.len())
            .field("one_time", &self.one_time.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for HandshakeSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandshakeSecrets { .. }")
    }
}

impl Drop for SignedSecrets {
    fn drop(&mut self) {
        self.signed_secret.zeroize();
        self.kem_seed.zeroize();
    }
}
