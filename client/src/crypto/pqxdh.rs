//! PQXDH: from a published bundle to a Double Ratchet session, after Signal's published text
//! (X25519, ML-KEM-768, SHA-256). Not wire-compatible with Signal. This file and `handshake.rs` are
//! the one composition of our own; everything else is somebody's tested primitive.
//!
//! Alice starts with Bob's bundle; EK, T are fresh:
//! ```text
//! DH1 = DH(IK_A, SPK_B)   DH2 = DH(EK, IK_B)   DH3 = DH(EK, SPK_B)   DH4 = DH(EK, OPK_B), if any
//! (ct, ss) = ML-KEM-768.Encaps(KEM_B)
//! SK ‖ tag A→B ‖ tag B→A = HKDF-SHA-256(salt = 32 zeros, ikm = 32 x 0xFF ‖ DH1..DH4 ‖ ss,
//!                          info = "tidings/1 pqxdh x25519 ml-kem-768 sha-256" ‖ 0x00 ‖ transcript)
//! ```
//! `transcript` (see `handshake.rs`) hashes both parties' names and keys, all pre-keys with their
//! ids, the ML-KEM key and the ciphertext, so the KEM need not be binding by itself and no party can
//! be taken for another. Every DH result is checked against all-zero.
//!
//! Ratchet: Bob's first ratchet key pair is SPK_B with root key SK. Alice's first sending chain is
//! `root ‖ chain = HKDF-SHA-256(salt = SK, ikm = DH(T, SPK_B), info = "OLM_RATCHET")`, which is
//! exactly what vodozemac computes at Bob when it meets T. The label is vodozemac's internal one: its
//! version is pinned, and `vectors_test.rs` fails when it changes.
//!
//! Bob gets a session from [`accept`] only together with the plaintext of its first message; until
//! then his sending chain holds random bytes that must never be used.
//!
//! What it does not give: a one-time pre-key was absent ⇒ replay is caught only by memory (the
//! `already_used` of [`accept`]); authentication is Ed25519 and X25519, not post-quantum; the
//! ratchet after the start is classical.

use hkdf::Hkdf;
use libcrux_ml_kem::mlkem768;
use sha2::Sha256;
use thiserror::Error;
use tidings_protocol::bundle::Bundle;
use vodozemac::{
    Curve25519PublicKey,
    olm::{Session, SessionConfig, SessionKeys},
};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, Zeroizing};

use super::{
    bundle::{BundleError, KEM_PUBLIC_BYTES, verify_bundle},
    handshake::{Handshake, Transcript, handshake_id},
    party::{LocalDevice, Party},
    prekeys::{HandshakeSecrets, PrekeyIds},
    sealer::StartError,
    session::{Ratchet, RatchetError},
};

const INFO: &[u8] = b"tidings/1 pqxdh x25519 ml-kem-768 sha-256\0";
const VODOZEMAC_RATCHET_INFO: &[u8] = b"OLM_RATCHET";

/// Fresh random bytes for one start.
pub struct InitiatorRandomness {
    /// X25519 secret EK.
    pub ephemeral: Zeroizing<[u8; 32]>,
    /// X25519 secret T, the first ratchet key.
    pub ratchet: Zeroizing<[u8; 32]>,
    /// ML-KEM's `m`.
    pub encapsulation: Zeroizing<[u8; 32]>,
}

/// Names of a session on the wire, one for each direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tags {
    /// On messages of the initiator.
    pub from_initiator: [u8; 16],
    /// On messages of the responder.
    pub from_responder: [u8; 16],
}

/// The initiator's new session.
#[derive(Debug)]
pub struct Initiated {
    /// Ready to encrypt.
    pub ratchet: Ratchet,
    /// Goes along with each message until the first reply.
    pub handshake: Handshake,
    /// The session's names.
    pub tags: Tags,
}

/// The responder's new session.
pub struct Accepted {
    /// Ready to answer.
    pub ratchet: Ratchet,
    /// Of the message that came with the handshake.
    pub plaintext: Vec<u8>,
    /// The session's names.
    pub tags: Tags,
    /// Remember it until the signed pre-key is gone: it must not be accepted twice.
    pub handshake_id: [u8; 32],
}

/// A handshake was not accepted.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum AcceptError {
    /// Accepted before.
    #[error("accepting a handshake: accepted before")]
    AlreadyUsed,
    /// The handshake names a one-time pre-key and no secret was given, or the other way round.
    #[error("accepting a handshake: one-time pre-key does not fit")]
    OneTimeMismatch,
    /// A public key gives an all-zero shared secret.
    #[error("accepting a handshake: low-order public key")]
    WeakKey,
    /// The first message does not open.
    #[error("accepting a handshake: opening its first message")]
    FirstMessage(#[source] RatchetError),
}

/// What the key schedule gives.
pub(crate) struct RootSecrets {
    pub(crate) root: Zeroizing<[u8; 32]>,
    pub(crate) tags: Tags,
}

/// Starts a session with `them`, whose device list names the keys in `them`.
///
/// # Errors
/// Bundle of another device, bad signature, invalid ML-KEM key, low-order key.
pub fn initiate(
    me: &LocalDevice,
    them: &Party,
    bundle: &Bundle,
    randomness: &InitiatorRandomness,
) -> Result<Initiated, StartError> {
    let kem_public = verify_bundle(bundle, them)?;
    let (handshake, secrets) = initiator_secrets(me, them, bundle, kem_public, randomness)?;
    let signed_prekey = bundle.signed_prekey.key.0;

    let shared = dh(&randomness.ratchet, &signed_prekey).ok_or(StartError::WeakKey)?;
    let mut keys = Zeroizing::new([0; 64]);
    expand(&secrets.root, shared.as_ref(), VODOZEMAC_RATCHET_INFO, &mut keys);
    let [root, chain] = halves(&keys);
    let session = Session::from_root_key_material(
        SessionConfig::version_1(),
        session_keys(&me.party, &handshake, &signed_prekey),
        *root,
        *chain,
        *randomness.ratchet,
    );
    Ok(Initiated { ratchet: Ratchet::new(session), handshake, tags: secrets.tags })
}

/// Accepts a handshake of `them` together with the first message that arrived with it.
/// `already_used` looks into the caller's memory of handshake ids; `unused_chain` is 32 random bytes.
///
/// # Errors
/// See [`AcceptError`]; nothing was used up then.
pub fn accept(
    me: &LocalDevice,
    them: &Party,
    secrets: &HandshakeSecrets,
    handshake: &Handshake,
    first_message: &[u8],
    unused_chain: Zeroizing<[u8; 32]>,
    already_used: &dyn Fn(&[u8; 32]) -> bool,
) -> Result<Accepted, AcceptError> {
    let handshake_id = handshake_id(&handshake.to_bytes());
    if already_used(&handshake_id) {
        return Err(AcceptError::AlreadyUsed);
    }
    let root = responder_secrets(me, them, secrets, handshake)?;
    let session = Session::from_root_key_material(
        SessionConfig::version_1(),
        session_keys(them, handshake, &public(&secrets.signed)),
        *root.root,
        *unused_chain,
        *secrets.signed,
    );
    let mut ratchet = Ratchet::new(session);
    // Only a message that opens proves the initiator; nobody sees the session before.
    let plaintext = ratchet.decrypt(first_message).map_err(AcceptError::FirstMessage)?;
    Ok(Accepted { ratchet, plaintext, tags: root.tags, handshake_id })
}

/// The initiator's half of the key schedule.
pub(crate) fn initiator_secrets(
    me: &LocalDevice,
    them: &Party,
    bundle: &Bundle,
    kem_public: &[u8; KEM_PUBLIC_BYTES],
    randomness: &InitiatorRandomness,
) -> Result<(Handshake, RootSecrets), StartError> {
    let kem_key = mlkem768::MlKem768PublicKey::from(kem_public);
    if !mlkem768::validate_public_key(&kem_key) {
        return Err(BundleError::InvalidKemKey.into());
    }
    let (ciphertext, mut kem_secret) = mlkem768::encapsulate(&kem_key, *randomness.encapsulation);
    let one_time = bundle.one_time.as_ref();
    let handshake = Handshake {
        prekeys: PrekeyIds {
            signed: bundle.signed_prekey.id,
            kem: bundle.kem_prekey.id,
            one_time: one_time.map(|key| key.id),
        },
        ephemeral: public(&randomness.ephemeral),
        kem_ciphertext: Box::new(*ciphertext.as_slice()),
    };
    let transcript = Transcript {
        initiator: &me.party,
        responder: them,
        signed_prekey: &bundle.signed_prekey.key.0,
        kem_prekey: kem_public,
        one_time: one_time.map(|key| &key.key.0),
        handshake: &handshake,
    };
    let dh_results = [
        Some((me.secrets.identity_secret(), &bundle.signed_prekey.key.0)),
        Some((&*randomness.ephemeral, &them.identity_key)),
        Some((&*randomness.ephemeral, &bundle.signed_prekey.key.0)),
        one_time.map(|key| (&*randomness.ephemeral, &key.key.0)),
    ];
    let root = schedule(dh_results, &kem_secret, &transcript.hash()).ok_or(StartError::WeakKey);
    kem_secret.zeroize();
    Ok((handshake, root?))
}

/// The responder's half of the key schedule.
pub(crate) fn responder_secrets(
    me: &LocalDevice,
    them: &Party,
    secrets: &HandshakeSecrets,
    handshake: &Handshake,
) -> Result<RootSecrets, AcceptError> {
    if secrets.one_time.is_some() != handshake.prekeys.one_time.is_some() {
        return Err(AcceptError::OneTimeMismatch);
    }
    // Only the seed is stored: 64 bytes instead of 2,400, and 20 µs to get the key back.
    let kem = mlkem768::generate_key_pair(*secrets.kem_seed);
    let ciphertext = mlkem768::MlKem768Ciphertext::from(&*handshake.kem_ciphertext);
    let mut kem_secret = mlkem768::decapsulate(kem.private_key(), &ciphertext);
    let one_time_public = secrets.one_time.as_deref().map(public);
    let transcript = Transcript {
        initiator: them,
        responder: &me.party,
        signed_prekey: &public(&secrets.signed),
        kem_prekey: kem.pk(),
        one_time: one_time_public.as_ref(),
        handshake,
    };
    let dh_results = [
        Some((&*secrets.signed, &them.identity_key)),
        Some((me.secrets.identity_secret(), &handshake.ephemeral)),
        Some((&*secrets.signed, &handshake.ephemeral)),
        secrets.one_time.as_deref().map(|secret| (secret, &handshake.ephemeral)),
    ];
    let root = schedule(dh_results, &kem_secret, &transcript.hash()).ok_or(AcceptError::WeakKey);
    kem_secret.zeroize();
    root
}

/// DH results and KEM secret in their order, through HKDF. None when a DH result is all-zero.
fn schedule(
    dh_inputs: [Option<(&[u8; 32], &[u8; 32])>; 4],
    kem_secret: &[u8; 32],
    transcript: &[u8; 32],
) -> Option<RootSecrets> {
    let mut input = Zeroizing::new(Vec::with_capacity(32 * 6));
    input.extend_from_slice(&[0xFF; 32]);
    for (secret, public) in dh_inputs.into_iter().flatten() {
        input.extend_from_slice(dh(secret, public)?.as_ref());
    }
    input.extend_from_slice(kem_secret);
    let mut output = Zeroizing::new([0; 64]);
    expand(&[0; 32], &input, &[INFO, transcript].concat(), &mut output);
    let [root, tags] = halves(&output);
    let (mut from_initiator, mut from_responder) = ([0; 16], [0; 16]);
    for (to, from) in from_initiator.iter_mut().chain(&mut from_responder).zip(tags.iter()) {
        *to = *from;
    }
    Some(RootSecrets { root, tags: Tags { from_initiator, from_responder } })
}

/// X25519 (RFC 7748) that refuses an all-zero result.
pub(crate) fn dh(secret: &[u8; 32], public: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
    let shared = StaticSecret::from(*secret).diffie_hellman(&PublicKey::from(*public));
    shared.was_contributory().then(|| Zeroizing::new(shared.to_bytes()))
}

/// X25519 public key of a secret.
pub(crate) fn public(secret: &[u8; 32]) -> [u8; 32] {
    PublicKey::from(&StaticSecret::from(*secret)).to_bytes()
}

fn expand(salt: &[u8; 32], input: &[u8], info: &[u8], output: &mut [u8; 64]) {
    let hkdf = Hkdf::<Sha256>::new(Some(salt), input);
    #[expect(clippy::expect_used, reason = "64 bytes are below HKDF's limit of 8,160")]
    hkdf.expand(info, output).expect("64 bytes from HKDF-SHA-256");
}

fn halves(bytes: &[u8; 64]) -> [Zeroizing<[u8; 32]>; 2] {
    let mut halves = [Zeroizing::new([0; 32]), Zeroizing::new([0; 32])];
    for (half, from) in halves.iter_mut().zip(bytes.chunks_exact(32)) {
        half.copy_from_slice(from);
    }
    halves
}

/// Only names the session inside vodozemac; no key material.
fn session_keys(initiator: &Party, handshake: &Handshake, signed_prekey: &[u8; 32]) -> SessionKeys {
    SessionKeys {
        identity_key: Curve25519PublicKey::from_bytes(initiator.identity_key),
        base_key: Curve25519PublicKey::from_bytes(handshake.ephemeral),
        one_time_key: Curve25519PublicKey::from_bytes(*signed_prekey),
    }
}

impl std::fmt::Debug for InitiatorRandomness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InitiatorRandomness { .. }")
    }
}

impl std::fmt::Debug for Accepted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accepted").field("tags", &self.tags).finish_non_exhaustive()
    }
}
