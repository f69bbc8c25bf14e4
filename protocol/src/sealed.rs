//! The targets of an envelope that passes through other nodes, sealed to its destination, so that who
//! carries it does not see for which devices it is: HPKE (RFC 9180) base mode, DHKEM(X25519,
//! HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305, to the `sealing` key of the destination's delegation.
//! Bound to the envelope; says nothing of who sealed, which the proof of origin does (`custody.rs`).

use bytes::Bytes;
use hpke::{
    Deserializable, Kem as KemTrait, OpModeR, OpModeS, Serializable, aead::ChaCha20Poly1305,
    kdf::HkdfSha256, kem::X25519HkdfSha256 as Kem, single_shot_open, single_shot_seal_with_rng,
};
use rand_core::CryptoRng;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::{
    codec::{self, DecodeError, wire_bytes, wire_struct},
    envelope::{Header, Target},
    id::{Eid, hash},
    key::X25519Key,
};

const INFO: &[u8] = b"tidings/1 target block";
const KEY_BYTES: usize = X25519Key::LEN;
/// Bytes that sealing adds: encapsulated key and tag.
pub const SEAL_BYTES: usize = KEY_BYTES + 16;

wire_bytes! {
    /// Says which sealing key was meant; no secret, and no proof of anything.
    pub struct SealingKeyId([u8; 8]);
}

wire_struct! {
    /// A sealed target block.
    pub struct SealedTargets {
        /// The key that it is sealed to.
        0 => key: SealingKeyId,
        /// Encapsulated key ‖ ciphertext of the encoded targets.
        1 => sealed: Bytes,
    }
}

/// The secret half of a node's sealing key. Prints nothing of itself; wiped when dropped.
#[derive(Clone)]
pub struct SealingSecret {
    secret: Zeroizing<[u8; 32]>,
    public: X25519Key,
}

/// Targets could not be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the destination's sealing key is no usable point")]
pub struct WeakSealingKey;

/// Why a target block was not opened.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OpenTargetsError {
    /// It is sealed to another key: to one that was replaced, if the sender is honest.
    #[error("the targets are sealed to another key")]
    OtherKey,
    /// Changed, or of another envelope.
    #[error("the targets were changed, or belong to another envelope")]
    Corrupt,
    /// What was sealed are no targets.
    #[error("reading sealed targets")]
    Decode(#[from] DecodeError),
}

impl X25519Key {
    /// The id by which a block says which key it is sealed to.
    #[must_use]
    pub fn sealing_id(&self) -> SealingKeyId {
        let mut out = [0; 8];
        for (to, from) in out.iter_mut().zip(hash("sealing key id", &[&self.0]).0) {
            *to = from;
        }
        SealingKeyId(out)
    }
}

impl SealingSecret {
    /// The key with these secret bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        // Any 32 bytes are a secret key, and a public one has 32.
        let public = <Kem as KemTrait>::PrivateKey::from_bytes(bytes).ok().and_then(|secret| {
            X25519Key::from_slice(&<Kem as KemTrait>::sk_to_pk(&secret).to_bytes())
        });
        let public = public.unwrap_or(X25519Key([0; 32]));
        Self { secret: Zeroizing::new(*bytes), public }
    }

    /// The public half, as a delegation names it.
    #[must_use]
    pub const fn public(&self) -> X25519Key {
        self.public
    }
}

impl core::fmt::Debug for SealingSecret {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        out.write_str("SealingSecret(..)")
    }
}

/// What a block is bound to.
fn bound_to(header: &Header, eid: &Eid) -> Vec<u8> {
    [eid.as_bytes(), header.hash().as_bytes()].concat()
}

impl SealedTargets {
    /// Seals targets to a node's key. `rng` must never give the same bytes twice.
    ///
    /// # Errors
    /// [`WeakSealingKey`].
    pub fn seal(
        targets: &[Target],
        header: &Header,
        eid: &Eid,
        to: &X25519Key,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, WeakSealingKey> {
        let weak = |_| WeakSealingKey;
        let key = <Kem as KemTrait>::PublicKey::from_bytes(&to.0).map_err(weak)?;
        let (encapsulated, ciphertext) =
            single_shot_seal_with_rng::<ChaCha20Poly1305, HkdfSha256, Kem>(
                &OpModeS::Base,
                &key,
                INFO,
                &codec::encode(&targets),
                &bound_to(header, eid),
                rng,
            )
            .map_err(weak)?;
        let sealed = [encapsulated.to_bytes().as_slice(), &ciphertext].concat().into();
        Ok(Self { key: to.sealing_id(), sealed })
    }

    /// Opens the block of an envelope. Pure, for worker tasks. Whether the
    /// targets are those of the envelope remains for the caller to check: their ids say so.
    ///
    /// # Errors
    /// [`OpenTargetsError`].
    pub fn open(
        &self,
        header: &Header,
        eid: &Eid,
        secret: &SealingSecret,
    ) -> Result<Vec<Target>, OpenTargetsError> {
        if self.key != secret.public.sealing_id() {
            return Err(OpenTargetsError::OtherKey);
        }
        let corrupt = |_| OpenTargetsError::Corrupt;
        let (encapsulated, ciphertext) =
            self.sealed.split_at_checked(KEY_BYTES).ok_or(OpenTargetsError::Corrupt)?;
        let encapsulated =
            <Kem as KemTrait>::EncappedKey::from_bytes(encapsulated).map_err(corrupt)?;
        let secret = <Kem as KemTrait>::PrivateKey::from_bytes(&*secret.secret).map_err(corrupt)?;
        let opened = single_shot_open::<ChaCha20Poly1305, HkdfSha256, Kem>(
            &OpModeR::Base,
            &secret,
            &encapsulated,
            INFO,
            ciphertext,
            &bound_to(header, eid),
        )
        .map_err(corrupt)?;
        Ok(codec::decode_canonical(&opened)?)
    }
}

#[cfg(test)]
mod tests {
    use super::{OpenTargetsError, SEAL_BYTES, SealedTargets, SealingSecret, WeakSealingKey};
    use crate::codec;
    use crate::envelope::{Class, Header, Recipient, Target};
    use crate::id::{DeviceId, Eid, Hash, NodeId};
    use crate::key::X25519Key;
    use bytes::Bytes;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng as _;

    fn header() -> Header {
        Header {
            version: 1,
            origin: NodeId([1; 32]),
            destination: NodeId([2; 32]),
            created_ms: 1_000,
            expires_ms: 2_000,
            class: Class::Message,
        }
    }

    fn targets() -> Vec<Target> {
        let to = Recipient::Device(DeviceId([3; 16]));
        let part = Bytes::from_static(b"part");
        vec![Target { to, auth: None, list_version: 1, list_hash: Hash([4; 32]), part }]
    }

    #[test]
    fn only_the_named_key_opens_the_targets_of_its_envelope() {
        let mut rng = ChaCha20Rng::from_seed([5; 32]);
        let secret = SealingSecret::from_bytes(&[6; 32]);
        let key = secret.public();
        let eid = Eid([7; 24]);
        let sealed = SealedTargets::seal(&targets(), &header(), &eid, &key, &mut rng).unwrap();
        assert_eq!(sealed.sealed.len(), codec::encode(&targets()).len() + SEAL_BYTES);
        assert_eq!(sealed.open(&header(), &eid, &secret), Ok(targets()));
        let other = SealingSecret::from_bytes(&[8; 32]);
        assert_eq!(sealed.open(&header(), &eid, &other), Err(OpenTargetsError::OtherKey));
        let corrupt = Err(OpenTargetsError::Corrupt);
        assert_eq!(sealed.open(&header(), &Eid([9; 24]), &secret), corrupt);
        let later = Header { expires_ms: 3_000, ..header() };
        assert_eq!(sealed.open(&later, &eid, &secret), corrupt);
        for place in 0..sealed.sealed.len() {
            let mut bent = sealed.sealed.to_vec();
            bent[place] ^= 1;
            let bent = SealedTargets { sealed: bent.into(), ..sealed.clone() };
            assert_eq!(bent.open(&header(), &eid, &secret), corrupt, "byte {place}");
            let cut = SealedTargets { sealed: sealed.sealed.slice(..place), ..sealed.clone() };
            assert_eq!(cut.open(&header(), &eid, &secret), corrupt, "cut at {place}");
        }
        assert_eq!(format!("{secret:?}"), "SealingSecret(..)");
    }

    #[test]
    fn a_key_of_zeros_is_refused_and_no_block_is_the_same_twice() {
        let mut rng = ChaCha20Rng::from_seed([5; 32]);
        let mut seal =
            |key| SealedTargets::seal(&targets(), &header(), &Eid([7; 24]), &key, &mut rng);
        assert_eq!(seal(X25519Key([0; 32])), Err(WeakSealingKey));
        let key = SealingSecret::from_bytes(&[6; 32]).public();
        assert_ne!(seal(key), seal(key));
    }
}
