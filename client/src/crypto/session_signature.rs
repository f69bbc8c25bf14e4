//! The signature that each message carries inside the ratchet: an Ed25519 key per session and side.
//!
//! The key is drawn when a session begins and travels only inside its ciphertext. No identity key
//! signs it: to an outsider who is shown plaintext, key and signature, anybody who held the ratchet
//! keys (both sides do) could have made all three. Inside the session it is pinned at first sight,
//! so a message cannot change hands between sessions or positions.
//! Not the device signature of chats set to *signed*; that is content.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

/// What a session signature says about one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Chat id.
    pub chat: [u8; 32],
    /// Sequence number of the sender's device in that chat.
    pub sequence: u64,
    /// SHA-256 of the content's plaintext.
    pub plaintext_hash: [u8; 32],
}

const PURPOSE: &[u8] = b"tidings/1 session signature";

/// purpose ‖ 0x00 ‖ chat ‖ sender's device key ‖ sequence (8, big-endian) ‖ plaintext hash.
fn signed_bytes(claim: &Claim, sender_device: &[u8; 32]) -> Vec<u8> {
    let sequence = claim.sequence.to_be_bytes();
    [PURPOSE, &[0], &claim.chat, sender_device, &sequence, &claim.plaintext_hash].concat()
}

/// Public half of the session key with this seed.
#[must_use]
pub fn session_key(seed: &[u8; 32]) -> [u8; 32] {
    SigningKey::from_bytes(seed).verifying_key().to_bytes()
}

/// Signs `claim` as a message of the device `sender_device`.
#[must_use]
pub fn sign(seed: &[u8; 32], claim: &Claim, sender_device: &[u8; 32]) -> [u8; 64] {
    SigningKey::from_bytes(seed).sign(&signed_bytes(claim, sender_device)).to_bytes()
}

/// Does the signature verify, by the strict rules?
#[must_use]
pub fn verifies(
    key: &[u8; 32],
    claim: &Claim,
    sender_device: &[u8; 32],
    signature: &[u8; 64],
) -> bool {
    let message = signed_bytes(claim, sender_device);
    VerifyingKey::from_bytes(key)
        .is_ok_and(|key| key.verify_strict(&message, &Signature::from_bytes(signature)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_signed() {
        let seed = [7; 32];
        let claim = Claim { chat: [1; 32], sequence: 5, plaintext_hash: [2; 32] };
        let signature = sign(&seed, &claim, &[3; 32]);
        let key = session_key(&seed);
        assert!(verifies(&key, &claim, &[3; 32], &signature));
        for other in [
            Claim { chat: [9; 32], ..claim },
            Claim { sequence: 6, ..claim },
            Claim { plaintext_hash: [9; 32], ..claim },
        ] {
            assert!(!verifies(&key, &other, &[3; 32], &signature));
        }
        assert!(!verifies(&key, &claim, &[4; 32], &signature));
        assert!(!verifies(&session_key(&[8; 32]), &claim, &[3; 32], &signature));
        // The identity point as key: strict verification refuses it whatever is signed.
        let mut weak = [0; 32];
        weak[0] = 1;
        assert!(!verifies(&weak, &claim, &[3; 32], &[0; 64]));
    }
}
