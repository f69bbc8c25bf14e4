//! Who talks: the public facts that a handshake binds, and a device's own long-lived secrets.
//! Not pre-keys (see `prekeys.rs`) and not sessions (see `session.rs`).

use std::fmt;

use ed25519_dalek::{Signer, SigningKey};
use rand_core::CryptoRng;
use thiserror::Error;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// The public facts about one device of one account, as its verified device list states them.
///
/// All of it enters the handshake transcript: two sides that disagree in one byte derive different
/// keys, and the first message does not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// Account name as opaque bytes, `name@nodeid`.
    pub name: Vec<u8>,
    /// Account identity key (AIK), Ed25519.
    pub account_key: [u8; 32],
    /// Device signing key, Ed25519; signs pre-keys.
    pub device_key: [u8; 32],
    /// Device identity key, X25519.
    pub identity_key: [u8; 32],
}

/// The long-lived secrets of this device. They never change while the device lives.
#[derive(Clone)]
pub struct DeviceSecrets {
    signing_seed: Zeroizing<[u8; 32]>,
    identity_secret: Zeroizing<[u8; 32]>,
}

/// This device: its public facts and its long-lived secrets.
#[derive(Clone, Debug)]
pub struct LocalDevice {
    /// What others know of this device.
    pub party: Party,
    /// What only this device knows.
    pub secrets: DeviceSecrets,
}

/// Reading device secrets failed.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DeviceSecretsError {
    /// Not 65 bytes, or an unknown version byte.
    #[error("reading device secrets of {len} bytes")]
    Malformed {
        /// Length of what was given.
        len: usize,
    },
}

const SECRETS_VERSION: u8 = 1;

impl DeviceSecrets {
    /// New secrets from a secure generator.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        let mut secrets = Self {
            signing_seed: Zeroizing::new([0; 32]),
            identity_secret: Zeroizing::new([0; 32]),
        };
        rng.fill_bytes(secrets.signing_seed.as_mut());
        rng.fill_bytes(secrets.identity_secret.as_mut());
        secrets
    }

    /// Plain bytes: version 1 ‖ Ed25519 seed (32) ‖ X25519 secret (32). Encrypt them at rest.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(65));
        bytes.push(SECRETS_VERSION);
        bytes.extend_from_slice(self.signing_seed.as_ref());
        bytes.extend_from_slice(self.identity_secret.as_ref());
        bytes
    }

    /// The inverse of [`Self::to_bytes`].
    ///
    /// # Errors
    /// When the bytes are not what `to_bytes` writes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DeviceSecretsError> {
        let malformed = || DeviceSecretsError::Malformed { len: bytes.len() };
        let (version, rest) = bytes.split_first().ok_or_else(malformed)?;
        if *version != SECRETS_VERSION {
            return Err(malformed());
        }
        let (seed, secret) = rest.split_first_chunk::<32>().ok_or_else(malformed)?;
        let secret: [u8; 32] = secret.try_into().map_err(|_| malformed())?;
        Ok(Self { signing_seed: Zeroizing::new(*seed), identity_secret: Zeroizing::new(secret) })
    }

    /// Ed25519 seed of the device key, for whoever signs statements and logs in with it.
    #[must_use]
    pub fn signing_seed(&self) -> &[u8; 32] {
        &self.signing_seed
    }

    /// X25519 identity secret.
    #[must_use]
    pub(crate) fn identity_secret(&self) -> &[u8; 32] {
        &self.identity_secret
    }

    /// Ed25519 public key of this device.
    #[must_use]
    pub fn device_key(&self) -> [u8; 32] {
        SigningKey::from_bytes(&self.signing_seed).verifying_key().to_bytes()
    }

    /// X25519 public identity of this device.
    #[must_use]
    pub fn identity_key(&self) -> [u8; 32] {
        PublicKey::from(&StaticSecret::from(*self.identity_secret)).to_bytes()
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        SigningKey::from_bytes(&self.signing_seed).sign(message).to_bytes()
    }
}

impl fmt::Debug for DeviceSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceSecrets { .. }")
    }
}

impl LocalDevice {
    /// A device of the account `name` whose identity key is `account_key`.
    #[must_use]
    pub fn new(secrets: DeviceSecrets, name: &[u8], account_key: [u8; 32]) -> Self {
        let party = Party {
            name: name.to_vec(),
            account_key,
            device_key: secrets.device_key(),
            identity_key: secrets.identity_key(),
        };
        Self { party, secrets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    #[test]
    fn secrets_survive_a_round_trip_and_never_print() {
        let secrets = DeviceSecrets::generate(&mut ChaCha20Rng::from_seed([1; 32]));
        let again = DeviceSecrets::from_bytes(&secrets.to_bytes()).unwrap();
        assert_eq!(again.device_key(), secrets.device_key());
        assert_eq!(again.identity_key(), secrets.identity_key());
        assert_eq!(format!("{secrets:?}"), "DeviceSecrets { .. }");
    }

    #[test]
    fn short_long_or_foreign_bytes_are_refused() {
        let good = DeviceSecrets::generate(&mut ChaCha20Rng::from_seed([1; 32])).to_bytes();
        let mut foreign = good.to_vec();
        foreign[0] = 2;
        for bad in [&[][..], &good[..64], &[good.as_slice(), &[0]].concat(), &foreign] {
            assert!(DeviceSecrets::from_bytes(bad).is_err());
        }
    }
}
