//! Who writes, sealed to a device that does not know us yet, so that no node learns the sender of a
//! first contact: HPKE (RFC 9180) base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256,
//! ChaCha20-Poly1305, to the device's identity key. Sealed = encapsulated key (32) ‖ ciphertext.
//!
//! It authenticates nobody, and it is not post-quantum: whoever records it today and owns a quantum
//! computer later learns who wrote to whom, not what. (X-Wing would need one more key of 1,216 bytes
//! in every device list.)

use hpke::{
    Deserializable, Kem as KemTrait, OpModeR, OpModeS, Serializable, aead::ChaCha20Poly1305,
    kdf::HkdfSha256, kem::X25519HkdfSha256 as Kem, single_shot_open, single_shot_seal_with_rng,
};
use rand_core::CryptoRng;

use super::{party::LocalDevice, sealer::IntroductionError};

const INFO: &[u8] = b"tidings/1 introduction";
const KEY_BYTES: usize = 32;

pub(crate) fn seal(
    rng: &mut impl CryptoRng,
    identity_key: &[u8; 32],
    introduction: &[u8],
) -> Result<Vec<u8>, IntroductionError> {
    let weak = |_| IntroductionError::WeakKey;
    let key = <Kem as KemTrait>::PublicKey::from_bytes(identity_key).map_err(weak)?;
    let (encapsulated, ciphertext) =
        single_shot_seal_with_rng::<ChaCha20Poly1305, HkdfSha256, Kem>(
            &OpModeS::Base,
            &key,
            INFO,
            introduction,
            &[],
            rng,
        )
        .map_err(weak)?;
    Ok([encapsulated.to_bytes().as_slice(), &ciphertext].concat())
}

pub(crate) fn open(me: &LocalDevice, sealed: &[u8]) -> Result<Vec<u8>, IntroductionError> {
    let corrupt = |_| IntroductionError::Corrupt;
    let (encapsulated, ciphertext) =
        sealed.split_at_checked(KEY_BYTES).ok_or(IntroductionError::Corrupt)?;
    let encapsulated = <Kem as KemTrait>::EncappedKey::from_bytes(encapsulated).map_err(corrupt)?;
    let secret =
        <Kem as KemTrait>::PrivateKey::from_bytes(me.secrets.identity_secret()).map_err(corrupt)?;
    single_shot_open::<ChaCha20Poly1305, HkdfSha256, Kem>(
        &OpModeR::Base,
        &secret,
        &encapsulated,
        INFO,
        ciphertext,
        &[],
    )
    .map_err(corrupt)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::party::DeviceSecrets;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    #[test]
    fn only_the_named_device_reads_an_introduction() {
        let mut rng = ChaCha20Rng::from_seed([4; 32]);
        let [bob, carol] = [b"bob@globex".as_slice(), b"carol@globex"]
            .map(|name| LocalDevice::new(DeviceSecrets::generate(&mut rng), name, [0; 32]));
        let sealed = seal(&mut rng, &bob.party.identity_key, b"alice").unwrap();
        assert_eq!(sealed.len(), 32 + 5 + 16);
        assert_eq!(open(&bob, &sealed).unwrap(), b"alice");
        assert_eq!(open(&carol, &sealed), Err(IntroductionError::Corrupt));
        for i in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[i] ^= 1;
            assert_eq!(open(&bob, &bad), Err(IntroductionError::Corrupt));
            assert_eq!(open(&bob, &sealed[..i]), Err(IntroductionError::Corrupt));
        }
        assert_eq!(seal(&mut rng, &[0; 32], b"alice"), Err(IntroductionError::WeakKey));
    }
}
