//! The one door to encryption between two devices: what the rest of the client calls.
//! Knows neither store nor network; the state of all sessions with one remote device is an opaque
//! byte string that the caller keeps, in the same transaction as the message.
//!
//! Two implementations: [`super::PqSealer`] (the product) and `StubSealer` (feature `stub-sealer`,
//! a test double for simulator seeds; it hides nothing).
//!
//! Every method either succeeds and has changed what it was given, or fails and has changed nothing.

use thiserror::Error;
use tidings_protocol::bundle::{Bundle, OneTimePrekey};

use super::{
    bundle::BundleError,
    party::{LocalDevice, Party},
    prekeys::{PrekeyError, PrekeyKind, PrekeySecrets},
    session_signature::Claim,
};

/// Encryption between this device and others, one remote device at a time.
pub trait Sealer {
    /// Pre-key secrets of a new device: one signed pair, no one-time keys.
    ///
    /// # Errors
    /// See [`PrekeyError`].
    fn create_prekeys(&mut self, now_ms: u64) -> Result<PrekeySecrets, PrekeyError>;

    /// Replaces the signed and the ML-KEM pre-key; call it when `keys.wants_rotation(now)`.
    ///
    /// # Errors
    /// See [`PrekeyError`].
    fn rotate_prekeys(&mut self, keys: &mut PrekeySecrets, now_ms: u64) -> Result<(), PrekeyError>;

    /// Draws `count` more one-time pre-keys and returns their public halves for the node.
    ///
    /// # Errors
    /// `TooMany` when there would be more than [`super::ONE_TIME_MAX`].
    fn add_one_time(
        &mut self,
        keys: &mut PrekeySecrets,
        count: usize,
    ) -> Result<Vec<OneTimePrekey>, PrekeyError>;

    /// The bundle to publish, without a one-time key: the node adds one per requester.
    ///
    /// # Errors
    /// `Empty` when there is no signed pre-key.
    fn publish(&self, me: &LocalDevice, keys: &PrekeySecrets) -> Result<Bundle, PrekeyError>;

    /// Starts a new session with `them` from their bundle and makes it the one to send on; older
    /// sessions stay readable. For the first message, when [`Self::wants_handshake`] says so, and
    /// for repair.
    ///
    /// # Errors
    /// Bundle not theirs, badly signed or weak; damaged state.
    fn start(
        &mut self,
        me: &LocalDevice,
        them: &Party,
        bundle: &Bundle,
        state: &mut Option<Vec<u8>>,
        now_ms: u64,
    ) -> Result<(), StartError>;

    /// Signs `claim` with the session's own key, for the session that the next [`Self::seal`] uses.
    /// Put key and signature into the plaintext that is sealed.
    ///
    /// # Errors
    /// `NoSession`; damaged state.
    fn sign(
        &self,
        me: &LocalDevice,
        state: &[u8],
        claim: &Claim,
    ) -> Result<SessionSignature, SealError>;

    /// Encrypts `plaintext` (padded) for the device whose state this is. Keep the result and resend
    /// it verbatim.
    ///
    /// # Errors
    /// `NoSession` when `start` was never called; damaged state; too long a plaintext.
    fn seal(&mut self, state: &mut Vec<u8>, plaintext: &[u8]) -> Result<Sealed, SealError>;

    /// Decrypts what `seal` made at `them`. May use up a pre-key: store `keys` and `state` together.
    ///
    /// # Errors
    /// See [`OpenError::advice`] for what to do.
    fn open(
        &mut self,
        me: &LocalDevice,
        keys: &mut PrekeySecrets,
        them: &Party,
        state: &mut Option<Vec<u8>>,
        sealed: &[u8],
        now_ms: u64,
    ) -> Result<Opened, OpenError>;

    /// Checks the signature that came out of `session` and pins the session's key at first sight.
    ///
    /// # Errors
    /// See [`SignatureError`].
    fn check_signature(
        &self,
        them: &Party,
        state: &mut Vec<u8>,
        session: &[u8; 32],
        claim: &Claim,
        signature: &SessionSignature,
    ) -> Result<(), SignatureError>;

    /// Why a new handshake is due before the next message, if one is.
    ///
    /// # Errors
    /// Damaged state.
    fn wants_handshake(
        &self,
        state: Option<&[u8]>,
        now_ms: u64,
    ) -> Result<Option<HandshakeDue>, StateError>;

    /// Tags under which this device's peer will send, newest session first: index them to find the
    /// state of an incoming part. They change with `start` and with an `open` that began a session.
    ///
    /// # Errors
    /// Damaged state.
    fn receive_tags(&self, state: &[u8]) -> Result<Vec<[u8; 16]>, StateError>;

    /// Seals who we are to a device that does not know us yet (HPKE to its identity key). Goes along
    /// while [`Sealed::handshake_pending`].
    ///
    /// # Errors
    /// See [`IntroductionError`].
    fn seal_introduction(
        &mut self,
        them: &Party,
        introduction: &[u8],
    ) -> Result<Vec<u8>, IntroductionError>;

    /// The inverse of [`Self::seal_introduction`] at the other side. Proves nothing about the
    /// sender: only a part that opens does.
    ///
    /// # Errors
    /// See [`IntroductionError`].
    fn open_introduction(
        &self,
        me: &LocalDevice,
        sealed: &[u8],
    ) -> Result<Vec<u8>, IntroductionError>;
}

/// What [`Sealer::seal`] made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Names the session to the receiver.
    pub tag: [u8; 16],
    /// The sealed bytes, handshake included while it is pending.
    pub bytes: Vec<u8>,
    /// The receiver has not answered in this session yet: it may not know who writes.
    pub handshake_pending: bool,
}

/// What came out of one part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// What `seal` was given.
    pub plaintext: Vec<u8>,
    /// The handshake that began the session; for [`Sealer::check_signature`].
    pub session: [u8; 32],
    /// This part began the session: a handshake was accepted, a pre-key may be used up.
    pub is_new_session: bool,
}

/// A signature by the session's key, and the key while the other side may not have it yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionSignature {
    /// The key, until the other side has proved that it opened a message with it.
    pub key: Option<[u8; 32]>,
    /// Over the claim and the sender's device key.
    pub signature: [u8; 64],
}

/// Why a new handshake is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeDue {
    /// There is no session yet.
    NoSession,
    /// The sending session is older than [`super::SESSION_AGE_MAX_MS`].
    Old,
    /// The sending session carried more than [`super::SESSION_MESSAGES_MAX`] messages.
    Worn,
}

/// The stored state of a remote device's sessions is damaged, or of an unknown version.
#[derive(Debug, Error)]
pub enum StateError {
    /// It does not decode.
    #[error("reading the sessions with a device")]
    Decode(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Starting a session failed.
#[derive(Debug, Error)]
pub enum StartError {
    /// The bundle is unusable.
    #[error("starting a session")]
    Bundle(#[from] BundleError),
    /// A public key gives an all-zero shared secret.
    #[error("starting a session: low-order public key")]
    WeakKey,
    /// The state is damaged.
    #[error("starting a session")]
    State(#[from] StateError),
}

/// Encrypting failed.
#[derive(Debug, Error)]
pub enum SealError {
    /// Nothing to send on.
    #[error("sealing: no session with this device")]
    NoSession,
    /// Longer than [`super::padding::PLAINTEXT_BYTES_MAX`] allows.
    #[error("sealing: {len} bytes are too many for one part")]
    TooLong {
        /// Bytes of the body.
        len: usize,
    },
    /// The remote ratchet key gives an all-zero shared secret.
    #[error("sealing: low-order ratchet key")]
    WeakKey,
    /// The state is damaged.
    #[error("sealing")]
    State(#[from] StateError),
}

/// Decrypting failed.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Not a part of this version.
    #[error("opening a part: malformed")]
    Malformed,
    /// This message was opened before.
    #[error("opening a part: message {index} of its chain was opened before")]
    Duplicate {
        /// Index within the chain.
        index: u64,
    },
    /// The key of this late message was thrown away (40 skipped keys per chain, 5 chains).
    #[error("opening a part: the key of late message {index} is gone")]
    Lost {
        /// Index within the chain.
        index: u64,
    },
    /// More than 2,000 messages are missing before this one.
    #[error("opening a part: {gap} messages are missing before it")]
    GapTooLarge {
        /// How many are missing.
        gap: u64,
    },
    /// No session of this device opens it.
    #[error("opening a part: no session fits")]
    UnknownSession,
    /// It claims a known session, or a handshake, but does not authenticate.
    #[error("opening a part: it does not authenticate")]
    Corrupt,
    /// The handshake was accepted before, and its session is gone.
    #[error("opening a part: its handshake was seen before")]
    HandshakeReplayed,
    /// A pre-key that the handshake used is gone or never existed.
    #[error("opening a part: {kind:?} pre-key {id} is gone")]
    PrekeyGone {
        /// Which kind.
        kind: PrekeyKind,
        /// Its number.
        id: u32,
    },
    /// The memory of handshakes is full until pre-keys rotate.
    #[error("opening a part: too many handshakes with one signed pre-key")]
    TooManyHandshakes,
    /// A public key in it gives an all-zero shared secret.
    #[error("opening a part: low-order public key")]
    WeakKey,
    /// The state is damaged.
    #[error("opening a part")]
    State(#[from] StateError),
}

/// What to do about a part that did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Seen before: acknowledge it unopened, nothing else.
    Acknowledge,
    /// The sessions have come apart: start a new one with this device and ask for a resend. Nothing
    /// proves that the part was theirs, so bound how often: a forger must not drive us.
    Repair,
    /// Forged or broken: refuse it.
    Refuse,
    /// Our own fault or state: keep the envelope and stop.
    Keep,
}

impl OpenError {
    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> Advice {
        match self {
            Self::Duplicate { .. } | Self::HandshakeReplayed => Advice::Acknowledge,
            Self::Lost { .. }
            | Self::GapTooLarge { .. }
            | Self::UnknownSession
            | Self::PrekeyGone { .. } => Advice::Repair,
            Self::Malformed | Self::Corrupt | Self::WeakKey => Advice::Refuse,
            Self::TooManyHandshakes | Self::State(_) => Advice::Keep,
        }
    }
}

/// A session signature cannot be accepted.
#[derive(Debug, Error)]
pub enum SignatureError {
    /// Not by the session's key over this claim.
    #[error("checking a session signature: it does not verify")]
    Bad,
    /// The session already has another key.
    #[error("checking a session signature: the session has another key")]
    KeyChanged,
    /// The session's key was never introduced.
    #[error("checking a session signature: the session's key is not known")]
    NoKey,
    /// The session is gone.
    #[error("checking a session signature: no such session")]
    NoSession,
    /// The state is damaged.
    #[error("checking a session signature")]
    State(#[from] StateError),
}

/// An introduction cannot be sealed or opened.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum IntroductionError {
    /// The receiver's identity key is not usable.
    #[error("sealing an introduction: unusable identity key")]
    WeakKey,
    /// It was not sealed to this device, or was changed.
    #[error("opening an introduction: not sealed to this device, or damaged")]
    Corrupt,
}
