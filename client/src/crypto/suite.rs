//! The cryptography behind `SuiteSealer`: what differs between the product and the test double.
//! [`PqSuite`] is the product; `stub.rs` has the other. Nothing outside this folder needs it.

use rand_chacha::ChaCha20Rng;
use rand_core::{CryptoRng, SeedableRng};
use tidings_protocol::bundle::Bundle;
use zeroize::Zeroizing;

use super::{
    bundle::{KEM_PUBLIC_BYTES, sign_bundle},
    handshake::{HANDSHAKE_BYTES, Handshake},
    introduction,
    party::{LocalDevice, Party},
    pqxdh::{self, AcceptError, InitiatorRandomness, Tags},
    prekeys::HandshakeSecrets,
    sealer::{IntroductionError, OpenError, StartError},
    session::{Header, Ratchet, RatchetCodecError, RatchetError},
    session_signature::{self, Claim},
};

/// A new session of the initiator.
#[derive(Debug)]
pub struct Begun<R> {
    /// The ratchet.
    pub ratchet: R,
    /// Handshake bytes.
    pub handshake: Vec<u8>,
    /// Names on the wire.
    pub tags: Tags,
}

/// A new session of the responder, with the first message.
#[derive(Debug)]
pub struct Answered<R> {
    /// The ratchet.
    pub ratchet: R,
    /// Of the first message.
    pub plaintext: Vec<u8>,
    /// Names on the wire.
    pub tags: Tags,
}

/// The primitives that a sealer composes.
pub trait Suite {
    /// A session in memory.
    type Ratchet;
    /// Length of this suite's handshake; starts with the head of `handshake.rs`.
    const HANDSHAKE_BYTES: usize;

    /// Fills from the suite's generator.
    fn fill(&mut self, bytes: &mut [u8]);
    /// Public half of a one-time pre-key.
    fn one_time_public(&self, secret: &[u8; 32]) -> [u8; 32];
    /// The signed bundle of two numbered secrets.
    fn bundle(&self, me: &LocalDevice, signed: (u32, &[u8; 32]), kem: (u32, &[u8; 64])) -> Bundle;
    /// Starts a session.
    ///
    /// # Errors
    /// See [`StartError`].
    fn initiate(
        &mut self,
        me: &LocalDevice,
        them: &Party,
        bundle: &Bundle,
    ) -> Result<Begun<Self::Ratchet>, StartError>;
    /// Accepts a handshake with its first message.
    ///
    /// # Errors
    /// See [`OpenError`].
    fn accept(
        &mut self,
        me: &LocalDevice,
        them: &Party,
        secrets: &HandshakeSecrets,
        handshake: &[u8],
        message: &[u8],
        already_used: &dyn Fn(&[u8; 32]) -> bool,
    ) -> Result<Answered<Self::Ratchet>, OpenError>;
    /// Chain and index of a message.
    fn header(&self, message: &[u8]) -> Option<Header>;
    /// Encrypts.
    ///
    /// # Errors
    /// See [`RatchetError`].
    fn encrypt(
        &self,
        ratchet: &mut Self::Ratchet,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, RatchetError>;
    /// Decrypts.
    ///
    /// # Errors
    /// See [`RatchetError`].
    fn decrypt(&self, ratchet: &mut Self::Ratchet, message: &[u8])
    -> Result<Vec<u8>, RatchetError>;
    /// To bytes.
    fn save(&self, ratchet: &Self::Ratchet) -> Zeroizing<Vec<u8>>;
    /// From bytes.
    ///
    /// # Errors
    /// Damage.
    fn load(&self, bytes: &[u8]) -> Result<Self::Ratchet, RatchetCodecError>;
    /// Public half of a session key.
    fn session_key(&self, seed: &[u8; 32]) -> [u8; 32];
    /// Signs with a session key.
    fn sign(&self, seed: &[u8; 32], claim: &Claim, sender_device: &[u8; 32]) -> [u8; 64];
    /// Checks a signature of a session key.
    fn verifies(
        &self,
        key: &[u8; 32],
        claim: &Claim,
        sender_device: &[u8; 32],
        signature: &[u8; 64],
    ) -> bool;
    /// Seals an introduction.
    ///
    /// # Errors
    /// See [`IntroductionError`].
    fn seal_introduction(
        &mut self,
        them: &Party,
        introduction: &[u8],
    ) -> Result<Vec<u8>, IntroductionError>;
    /// Opens an introduction.
    ///
    /// # Errors
    /// See [`IntroductionError`].
    fn open_introduction(
        &self,
        me: &LocalDevice,
        sealed: &[u8],
    ) -> Result<Vec<u8>, IntroductionError>;
}

/// PQXDH, Double Ratchet, Ed25519, HPKE.
pub struct PqSuite {
    rng: ChaCha20Rng,
}

impl PqSuite {
    pub(crate) fn from_seed(seed: [u8; 32]) -> Self {
        Self { rng: ChaCha20Rng::from_seed(seed) }
    }
}

impl std::fmt::Debug for PqSuite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PqSuite { .. }")
    }
}

/// 32 secret bytes.
pub(crate) fn random_32(rng: &mut dyn CryptoRng) -> Zeroizing<[u8; 32]> {
    let mut bytes = Zeroizing::new([0; 32]);
    rng.fill_bytes(bytes.as_mut());
    bytes
}

impl Suite for PqSuite {
    type Ratchet = Ratchet;
    const HANDSHAKE_BYTES: usize = HANDSHAKE_BYTES;

    fn fill(&mut self, bytes: &mut [u8]) {
        rand_core::Rng::fill_bytes(&mut self.rng, bytes);
    }

    fn one_time_public(&self, secret: &[u8; 32]) -> [u8; 32] {
        pqxdh::public(secret)
    }

    fn bundle(&self, me: &LocalDevice, signed: (u32, &[u8; 32]), kem: (u32, &[u8; 64])) -> Bundle {
        let pair = libcrux_ml_kem::mlkem768::generate_key_pair(*kem.1);
        let kem_public: &[u8; KEM_PUBLIC_BYTES] = pair.pk();
        sign_bundle(me, (signed.0, pqxdh::public(signed.1)), (kem.0, kem_public))
    }

    fn initiate(
        &mut self,
        me: &LocalDevice,
        them: &Party,
        bundle: &Bundle,
    ) -> Result<Begun<Ratchet>, StartError> {
        let randomness = InitiatorRandomness {
            ephemeral: random_32(&mut self.rng),
            ratchet: random_32(&mut self.rng),
            encapsulation: random_32(&mut self.rng),
        };
        let begun = pqxdh::initiate(me, them, bundle, &randomness)?;
        let handshake = begun.handshake.to_bytes();
        Ok(Begun { ratchet: begun.ratchet, handshake, tags: begun.tags })
    }

    fn accept(
        &mut self,
        me: &LocalDevice,
        them: &Party,
        secrets: &HandshakeSecrets,
        handshake: &[u8],
        message: &[u8],
        already_used: &dyn Fn(&[u8; 32]) -> bool,
    ) -> Result<Answered<Ratchet>, OpenError> {
        let handshake = Handshake::from_bytes(handshake).ok_or(OpenError::Malformed)?;
        let unused_chain = random_32(&mut self.rng);
        let accepted =
            pqxdh::accept(me, them, secrets, &handshake, message, unused_chain, already_used);
        let accepted = accepted.map_err(|error| match error {
            AcceptError::AlreadyUsed => OpenError::HandshakeReplayed,
            AcceptError::WeakKey => OpenError::WeakKey,
            AcceptError::OneTimeMismatch => OpenError::Corrupt,
            AcceptError::FirstMessage(error) => open_error(error),
        })?;
        Ok(Answered {
            ratchet: accepted.ratchet,
            plaintext: accepted.plaintext,
            tags: accepted.tags,
        })
    }

    fn header(&self, message: &[u8]) -> Option<Header> {
        Ratchet::header(message)
    }

    fn encrypt(&self, ratchet: &mut Ratchet, plaintext: &[u8]) -> Result<Vec<u8>, RatchetError> {
        ratchet.encrypt(plaintext)
    }

    fn decrypt(&self, ratchet: &mut Ratchet, message: &[u8]) -> Result<Vec<u8>, RatchetError> {
        ratchet.decrypt(message)
    }

    fn save(&self, ratchet: &Ratchet) -> Zeroizing<Vec<u8>> {
        ratchet.to_bytes()
    }

    fn load(&self, bytes: &[u8]) -> Result<Ratchet, RatchetCodecError> {
        Ratchet::from_bytes(bytes)
    }

    fn session_key(&self, seed: &[u8; 32]) -> [u8; 32] {
        session_signature::session_key(seed)
    }

    fn sign(&self, seed: &[u8; 32], claim: &Claim, sender_device: &[u8; 32]) -> [u8; 64] {
        session_signature::sign(seed, claim, sender_device)
    }

    fn verifies(
        &self,
        key: &[u8; 32],
        claim: &Claim,
        sender_device: &[u8; 32],
        signature: &[u8; 64],
    ) -> bool {
        session_signature::verifies(key, claim, sender_device, signature)
    }

    fn seal_introduction(
        &mut self,
        them: &Party,
        introduction: &[u8],
    ) -> Result<Vec<u8>, IntroductionError> {
        introduction::seal(&mut self.rng, &them.identity_key, introduction)
    }

    fn open_introduction(
        &self,
        me: &LocalDevice,
        sealed: &[u8],
    ) -> Result<Vec<u8>, IntroductionError> {
        introduction::open(me, sealed)
    }
}

/// What a ratchet's refusal means for the opener.
pub(crate) fn open_error(error: RatchetError) -> OpenError {
    match error {
        RatchetError::Malformed => OpenError::Malformed,
        RatchetError::Unauthentic => OpenError::Corrupt,
        // `chains.rs` tells a duplicate from a lost one before; what gets here is the latter.
        RatchetError::KeyGone { index } => OpenError::Lost { index },
        RatchetError::Gap { gap } => OpenError::GapTooLarge { gap },
        RatchetError::WeakKey => OpenError::WeakKey,
    }
}
