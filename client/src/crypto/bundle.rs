//! Signs and checks the public pre-keys that a device publishes; the types are
//! `tidings_protocol::bundle`. Public keys only: secrets are in `prekeys.rs`, the handshake in
//! `pqxdh.rs`.
//!
//! A pre-key's signature covers `purpose ‖ 0x00 ‖ identity key (32) ‖ id (4, big-endian) ‖ public
//! key`, with a purpose of its own for each kind of key, so that neither can stand in for the other.
//! One-time pre-keys are unsigned, as in Signal: a false one only takes away what it would add.

use bytes::Bytes;
use ed25519_dalek::VerifyingKey;
use thiserror::Error;
use tidings_protocol::{
    bundle::{Bundle, KemPrekey, SignedPrekey},
    key::{PublicKey, Signature, X25519Key},
};

use super::party::{LocalDevice, Party};

/// Bytes of an ML-KEM-768 public key (FIPS 203).
pub const KEM_PUBLIC_BYTES: usize = 1184;

const SIGNED_PREKEY_PURPOSE: &[u8] = b"tidings/1 signed pre-key";
const KEM_PREKEY_PURPOSE: &[u8] = b"tidings/1 ml-kem-768 pre-key";

/// A bundle cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BundleError {
    /// The bundle is for another device than the device list says.
    #[error("checking a pre-key bundle: its keys are not those of the device list")]
    OtherDevice,
    /// A signature does not verify.
    #[error("checking a pre-key bundle: bad signature of the {kind} pre-key")]
    BadSignature {
        /// `signed` or `ml-kem`.
        kind: &'static str,
    },
    /// The ML-KEM key has the wrong length or is not a valid encoding (FIPS 203 §7.2).
    #[error("checking a pre-key bundle: invalid ml-kem key")]
    InvalidKemKey,
}

/// The signed pre-keys of `me` as a bundle without one-time key.
pub(crate) fn sign_bundle(
    me: &LocalDevice,
    signed: (u32, [u8; 32]),
    kem: (u32, &[u8; KEM_PUBLIC_BYTES]),
) -> Bundle {
    let identity = &me.party.identity_key;
    let sign = |purpose, id, public: &[u8]| {
        Signature(me.secrets.sign(&signed_bytes(purpose, identity, id, public)))
    };
    Bundle {
        device: PublicKey(me.party.device_key),
        identity: X25519Key(*identity),
        signed_prekey: SignedPrekey {
            id: signed.0,
            key: X25519Key(signed.1),
            signature: sign(SIGNED_PREKEY_PURPOSE, signed.0, &signed.1),
        },
        kem_prekey: KemPrekey {
            id: kem.0,
            key: Bytes::copy_from_slice(kem.1),
            signature: sign(KEM_PREKEY_PURPOSE, kem.0, kem.1),
        },
        one_time: None,
    }
}

/// Are both keys those that the device list names?
pub(crate) fn check_owner(bundle: &Bundle, them: &Party) -> Result<(), BundleError> {
    if bundle.device.0 == them.device_key && bundle.identity.0 == them.identity_key {
        Ok(())
    } else {
        Err(BundleError::OtherDevice)
    }
}

/// Checks owner and both signatures; returns the ML-KEM key in its length.
///
/// # Errors
/// The first check that fails. The ML-KEM key's encoding is checked where it is used.
pub fn verify_bundle<'a>(
    bundle: &'a Bundle,
    them: &Party,
) -> Result<&'a [u8; KEM_PUBLIC_BYTES], BundleError> {
    check_owner(bundle, them)?;
    let key = VerifyingKey::from_bytes(&bundle.device.0);
    let check = |kind, purpose, id, public: &[u8], signature: &Signature| {
        let message = signed_bytes(purpose, &them.identity_key, id, public);
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        match &key {
            Ok(key) if key.verify_strict(&message, &signature).is_ok() => Ok(()),
            Ok(_) | Err(_) => Err(BundleError::BadSignature { kind }),
        }
    };
    let signed = &bundle.signed_prekey;
    check("signed", SIGNED_PREKEY_PURPOSE, signed.id, &signed.key.0, &signed.signature)?;
    let kem = &bundle.kem_prekey;
    check("ml-kem", KEM_PREKEY_PURPOSE, kem.id, &kem.key, &kem.signature)?;
    kem.key.as_ref().try_into().map_err(|_| BundleError::InvalidKemKey)
}

fn signed_bytes(purpose: &[u8], identity: &[u8; 32], id: u32, public: &[u8]) -> Vec<u8> {
    [purpose, &[0], identity, &id.to_be_bytes(), public].concat()
}

/// Cuts the first `N` bytes off.
#[cfg(any(test, feature = "stub-sealer"))]
pub(crate) fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}
