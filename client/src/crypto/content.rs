//! Seals content once for all its readers: a random key, used for nothing else, that travels to each
//! of them inside its own part together with the hash of the plaintext. Does not know the parts.
//!
//! Sealed = ChaCha20-Poly1305 (RFC 8439) of the padded plaintext, nonce zero, associated data
//! `tidings/1 content`. A zero nonce is safe since every key seals exactly one content. The hash
//! matters: ChaCha20-Poly1305 does not commit to its key, so one body could be made to open in two
//! ways; with the hash signed beside the key, a reader holds proof of what it was told.

use chacha20poly1305::{
    ChaCha20Poly1305, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use rand_core::CryptoRng;
use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use super::padding::{PLAINTEXT_BYTES_MAX, pad, unpad};

const PURPOSE: &[u8] = b"tidings/1 content";

/// Content, sealed, with what its readers need.
#[derive(Clone)]
pub struct SealedContent {
    /// The shared body; ciphertext.
    pub shared: Vec<u8>,
    /// The key; a secret that goes into the parts.
    pub key: Zeroizing<[u8; 32]>,
    /// SHA-256 of the plaintext.
    pub plaintext_hash: [u8; 32],
}

/// Sealing content failed.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SealContentError {
    /// Longer than [`PLAINTEXT_BYTES_MAX`].
    #[error("sealing content: {len} bytes are more than {PLAINTEXT_BYTES_MAX}")]
    TooLong {
        /// Bytes of the plaintext.
        len: usize,
    },
}

/// Opening content failed.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum OpenContentError {
    /// The key does not open it, or it was changed.
    #[error("opening content: it does not authenticate")]
    Corrupt,
    /// It opens to something else than its sender signed.
    #[error("opening content: it is not what the sender signed")]
    OtherPlaintext,
}

/// Seals `plaintext` under a fresh key.
///
/// # Errors
/// `TooLong`.
pub fn seal_content(
    rng: &mut dyn CryptoRng,
    plaintext: &[u8],
) -> Result<SealedContent, SealContentError> {
    let too_long = || SealContentError::TooLong { len: plaintext.len() };
    let padded = Zeroizing::new(pad(plaintext).map_err(|_| too_long())?);
    let mut key = Zeroizing::new([0; 32]);
    rng.fill_bytes(key.as_mut());
    let shared = ChaCha20Poly1305::new((&*key).into())
        .encrypt(&Nonce::default(), Payload { msg: &padded, aad: PURPOSE })
        .map_err(|_| too_long())?;
    Ok(SealedContent { shared, key, plaintext_hash: Sha256::digest(plaintext).into() })
}

/// Opens a shared body and checks it against the hash from the part.
///
/// # Errors
/// See [`OpenContentError`].
pub fn open_content(
    shared: &[u8],
    key: &[u8; 32],
    plaintext_hash: &[u8; 32],
) -> Result<Vec<u8>, OpenContentError> {
    let padded = ChaCha20Poly1305::new(key.into())
        .decrypt(&Nonce::default(), Payload { msg: shared, aad: PURPOSE })
        .map_err(|_| OpenContentError::Corrupt)?;
    let plaintext = unpad(padded).map_err(|_| OpenContentError::Corrupt)?;
    let hash: [u8; 32] = Sha256::digest(&plaintext).into();
    if hash == *plaintext_hash { Ok(plaintext) } else { Err(OpenContentError::OtherPlaintext) }
}

impl std::fmt::Debug for SealedContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealedContent").field("bytes", &self.shared.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    #[test]
    fn content_opens_with_its_key_and_hash_only() {
        let mut rng = ChaCha20Rng::from_seed([3; 32]);
        let sealed = seal_content(&mut rng, b"hello bob").unwrap();
        assert_eq!(sealed.shared.len(), 160 + 16);
        let open =
            |shared: &[u8], key: &[u8; 32]| open_content(shared, key, &sealed.plaintext_hash);
        assert_eq!(open(&sealed.shared, &sealed.key).unwrap(), b"hello bob");
        assert_eq!(open(&sealed.shared, &[0; 32]), Err(OpenContentError::Corrupt));
        for i in 0..sealed.shared.len() {
            let mut bad = sealed.shared.clone();
            bad[i] ^= 1;
            assert_eq!(open(&bad, &sealed.key), Err(OpenContentError::Corrupt));
        }
        assert_eq!(
            open_content(&sealed.shared, &sealed.key, &[0; 32]),
            Err(OpenContentError::OtherPlaintext)
        );
    }

    #[test]
    fn keys_differ_and_long_content_is_refused() {
        let mut rng = ChaCha20Rng::from_seed([3; 32]);
        let [a, b] = [1, 2].map(|_| seal_content(&mut rng, b"same").unwrap());
        assert_ne!(a.key, b.key);
        assert_ne!(a.shared, b.shared);
        let long = vec![0; PLAINTEXT_BYTES_MAX + 1];
        assert!(seal_content(&mut rng, &long).is_err());
        assert!(!format!("{a:?}").contains("key"));
    }
}
