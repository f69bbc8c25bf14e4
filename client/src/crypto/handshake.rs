//! What the first messages of a session carry, and the transcript that both sides hash.
//! Bytes only; the key agreement is in `pqxdh.rs`.
//!
//! # Handshake, 1,134 bytes, integers big-endian
//!
//! | offset | bytes | what |
//! |--|--|--|
//! | 0 | 1 | version 1 |
//! | 1 | 1 | 1 when a one-time pre-key was used, else 0 |
//! | 2 | 4 | id of the signed pre-key |
//! | 6 | 4 | id of the ML-KEM pre-key |
//! | 10 | 4 | id of the one-time pre-key, 0 without one |
//! | 14 | 32 | ephemeral key, X25519 |
//! | 46 | 1,088 | ML-KEM-768 ciphertext |
//!
//! It names no sender. Its id, SHA-256(`tidings/1 handshake id` ‖ 0x00 ‖ these bytes), names the
//! session at both sides and is what the replay memory keeps.
//!
//! # Transcript
//! SHA-256 over, in this order (text is preceded by its length in 8 bytes):
//! `tidings/1 pqxdh transcript` ‖ 0x00; then of the initiator and then of the responder: account
//! name (text), account key, device key, identity key; then signed pre-key id and key, ML-KEM
//! pre-key id and key (1,184), the flag byte, one-time id and key (zeros without one), ephemeral
//! key, ML-KEM ciphertext. All but the names has a fixed length, so no two inputs give equal bytes.

use sha2::{Digest, Sha256};

use super::{bundle::KEM_PUBLIC_BYTES, party::Party, prekeys::PrekeyIds};

/// Bytes of an ML-KEM-768 ciphertext (FIPS 203).
pub const KEM_CIPHERTEXT_BYTES: usize = 1088;
/// Bytes of version, flag and ids, which every suite puts first.
pub const HANDSHAKE_HEAD_BYTES: usize = 14;
/// Bytes of a handshake.
pub const HANDSHAKE_BYTES: usize = HANDSHAKE_HEAD_BYTES + 32 + KEM_CIPHERTEXT_BYTES;

const VERSION: u8 = 1;
const ID_PURPOSE: &[u8] = b"tidings/1 handshake id\0";
const TRANSCRIPT_PURPOSE: &[u8] = b"tidings/1 pqxdh transcript\0";

/// The handshake fields of a first message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// Which pre-keys of the responder were used.
    pub prekeys: PrekeyIds,
    /// The initiator's ephemeral key.
    pub ephemeral: [u8; 32],
    /// Encapsulated to the ML-KEM pre-key.
    pub kem_ciphertext: Box<[u8; KEM_CIPHERTEXT_BYTES]>,
}

impl Handshake {
    /// The layout of the module documentation.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [write_head(self.prekeys).as_slice(), &self.ephemeral, self.kem_ciphertext.as_slice()]
            .concat()
    }

    /// The inverse of [`Self::to_bytes`]; nothing else is taken for a handshake.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let prekeys = read_head(bytes)?;
        let (ephemeral, rest) = bytes.get(HANDSHAKE_HEAD_BYTES..)?.split_first_chunk::<32>()?;
        let kem_ciphertext = Box::new(<[u8; KEM_CIPHERTEXT_BYTES]>::try_from(rest).ok()?);
        Some(Self { prekeys, ephemeral: *ephemeral, kem_ciphertext })
    }
}

/// Names the session that these handshake bytes begin.
#[must_use]
pub fn handshake_id(bytes: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(ID_PURPOSE).chain_update(bytes).finalize().into()
}

pub(crate) fn write_head(prekeys: PrekeyIds) -> [u8; HANDSHAKE_HEAD_BYTES] {
    let mut head = [0; HANDSHAKE_HEAD_BYTES];
    let fields = [
        &[VERSION, u8::from(prekeys.one_time.is_some())][..],
        &prekeys.signed.to_be_bytes(),
        &prekeys.kem.to_be_bytes(),
        &prekeys.one_time.unwrap_or(0).to_be_bytes(),
    ]
    .concat();
    head.copy_from_slice(&fields);
    head
}

pub(crate) fn read_head(bytes: &[u8]) -> Option<PrekeyIds> {
    let (start, rest) = bytes.split_first_chunk::<2>()?;
    let (signed, rest) = rest.split_first_chunk::<4>()?;
    let (kem, rest) = rest.split_first_chunk::<4>()?;
    let (one_time, _) = rest.split_first_chunk::<4>()?;
    let one_time = match (*start, u32::from_be_bytes(*one_time)) {
        ([VERSION, 0], 0) => None,
        ([VERSION, 1], id) => Some(id),
        _ => return None,
    };
    let (signed, kem) = (u32::from_be_bytes(*signed), u32::from_be_bytes(*kem));
    Some(PrekeyIds { signed, kem, one_time })
}

/// All that both sides must agree on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transcript<'a> {
    pub(crate) initiator: &'a Party,
    pub(crate) responder: &'a Party,
    pub(crate) signed_prekey: &'a [u8; 32],
    pub(crate) kem_prekey: &'a [u8; KEM_PUBLIC_BYTES],
    pub(crate) one_time: Option<&'a [u8; 32]>,
    pub(crate) handshake: &'a Handshake,
}

impl Transcript<'_> {
    pub(crate) fn hash(&self) -> [u8; 32] {
        let ids = self.handshake.prekeys;
        let mut hash = Sha256::new_with_prefix(TRANSCRIPT_PURPOSE);
        for party in [self.initiator, self.responder] {
            let len = u64::try_from(party.name.len()).unwrap_or(u64::MAX);
            hash.update(len.to_be_bytes());
            hash.update(&party.name);
            hash.update(party.account_key);
            hash.update(party.device_key);
            hash.update(party.identity_key);
        }
        hash.update(ids.signed.to_be_bytes());
        hash.update(self.signed_prekey);
        hash.update(ids.kem.to_be_bytes());
        hash.update(self.kem_prekey);
        hash.update([u8::from(ids.one_time.is_some())]);
        hash.update(ids.one_time.unwrap_or(0).to_be_bytes());
        hash.update(self.one_time.unwrap_or(&[0; 32]));
        hash.update(self.handshake.ephemeral);
        hash.update(self.handshake.kem_ciphertext.as_slice());
        hash.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handshake(one_time: Option<u32>) -> Handshake {
        let prekeys = PrekeyIds { signed: 1, kem: 2, one_time };
        let kem_ciphertext = Box::new([5; KEM_CIPHERTEXT_BYTES]);
        Handshake { prekeys, ephemeral: [4; 32], kem_ciphertext }
    }

    #[test]
    fn bytes_come_back_and_nothing_else_is_taken() {
        for one_time in [None, Some(0), Some(3), Some(u32::MAX)] {
            let bytes = handshake(one_time).to_bytes();
            assert_eq!(bytes.len(), HANDSHAKE_BYTES);
            assert_eq!(Handshake::from_bytes(&bytes), Some(handshake(one_time)));
            assert_eq!(Handshake::from_bytes(&bytes[1..]), None);
            assert_eq!(Handshake::from_bytes(&[bytes.as_slice(), &[0]].concat()), None);
        }
        for (offset, value) in [(0, 0), (0, 2), (1, 1 << 1), (1, 0)] {
            let mut bytes = handshake(Some(3)).to_bytes();
            bytes[offset] = value;
            assert_eq!(Handshake::from_bytes(&bytes), None);
        }
    }
}
