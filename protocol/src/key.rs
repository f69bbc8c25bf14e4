//! Ed25519 keys and signatures, each signature with its purpose. What is done with X25519
//! keys is in `sealed.rs` and `client/src/crypto/`. Verification is strict (RFC 8032 with the checks of `verify_strict`).

use core::fmt;

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use thiserror::Error;

use crate::codec::wire_bytes;

wire_bytes! {
    /// An Ed25519 public key, not yet checked to be a point.
    pub struct PublicKey([u8; 32]);
}
wire_bytes! {
    /// An X25519 public key.
    pub struct X25519Key([u8; 32]);
}
wire_bytes! {
    /// An Ed25519 signature.
    pub struct Signature([u8; 64]);
}

/// What a signature is for. A signature for one purpose is worthless for every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A root key appoints an operational key.
    Delegation,
    /// An operational key names its transports.
    Addresses,
    /// An account key or device-signing subkey lists devices.
    DeviceList,
    /// An account identity key certifies a device-signing subkey.
    SubkeyCertificate,
    /// A node signs a batch of statements.
    NodeStatements,
    /// A device signs a batch of statements.
    DeviceStatements,
    /// A device proves itself to its node.
    ClientHello,
    /// A node proves itself to a device.
    NodeHello,
    /// A newcomer proves that the keys of the request to join are its own.
    Join,
    /// A node consents to be another one's custodian.
    Consent,
    /// A node says which device list a name has there.
    Listing,
}

impl Purpose {
    const fn prefix(self) -> &'static [u8] {
        match self {
            Self::Delegation => b"tidings/1 delegation\0",
            Self::Addresses => b"tidings/1 addresses\0",
            Self::DeviceList => b"tidings/1 device list\0",
            Self::SubkeyCertificate => b"tidings/1 subkey certificate\0",
            Self::NodeStatements => b"tidings/1 node statements\0",
            Self::DeviceStatements => b"tidings/1 device statements\0",
            Self::ClientHello => b"tidings/1 client hello\0",
            Self::NodeHello => b"tidings/1 node hello\0",
            Self::Join => b"tidings/1 join\0",
            Self::Consent => b"tidings/1 custody consent\0",
            Self::Listing => b"tidings/1 listing\0",
        }
    }
}

/// The signature does not belong to this key, purpose and text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the signature is not by this key over these bytes for this purpose")]
pub struct BadSignature;

impl PublicKey {
    /// Checks a signature over `purpose ‖ bytes`.
    ///
    /// # Errors
    /// [`BadSignature`], also when the key is no valid point.
    pub fn verify(
        &self,
        purpose: Purpose,
        bytes: &[u8],
        signature: &Signature,
    ) -> Result<(), BadSignature> {
        let key = VerifyingKey::from_bytes(&self.0).map_err(|_| BadSignature)?;
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        key.verify_strict(&[purpose.prefix(), bytes].concat(), &signature).map_err(|_| BadSignature)
    }
}

/// An Ed25519 secret key. Prints its public half only; its memory is wiped when dropped.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// The key of a 32-byte seed.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The seed, to be kept where secrets are kept.
    #[must_use]
    pub fn seed(&self) -> zeroize::Zeroizing<[u8; 32]> {
        zeroize::Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs `purpose ‖ bytes`.
    #[must_use]
    pub fn sign(&self, purpose: Purpose, bytes: &[u8]) -> Signature {
        Signature(self.0.sign(&[purpose.prefix(), bytes].concat()).to_bytes())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("SecretKey")
            .field("public", &self.public())
            .field("secret", &"..")
            .finish()
    }
}
