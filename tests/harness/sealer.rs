//! Either sealer behind one type, so that a world chooses at run time.

use tidings_client::crypto::{
    Claim, HandshakeDue, LocalDevice, OpenError, Opened, Party, PqSealer, PrekeySecrets, SealError,
    Sealed, Sealer, SessionSignature, SignatureError, StartError, StateError, StubSealer,
    prekeys::PrekeyError, sealer::IntroductionError,
};
use tidings_protocol::bundle::{Bundle, OneTimePrekey};

use crate::options::SealerKind;

/// Either sealer.
#[derive(Debug)]
pub enum AnySealer {
    /// Hides nothing; the same for equal seeds.
    Stub(StubSealer),
    /// The product's.
    Real(PqSealer),
}

impl AnySealer {
    /// A sealer of this kind.
    #[must_use]
    pub fn new(kind: SealerKind, seed: [u8; 32]) -> Self {
        match kind {
            SealerKind::Stub => Self::Stub(StubSealer::from_seed(seed)),
            SealerKind::Real => Self::Real(PqSealer::from_seed(seed)),
        }
    }
}

/// The same call on whichever it is.
macro_rules! either {
    ($self:ident, $sealer:ident => $call:expr) => {
        match $self {
            AnySealer::Stub($sealer) => $call,
            AnySealer::Real($sealer) => $call,
        }
    };
}

impl Sealer for AnySealer {
    fn create_prekeys(&mut self, now_ms: u64) -> Result<PrekeySecrets, PrekeyError> {
        either!(self, sealer => sealer.create_prekeys(now_ms))
    }

    fn rotate_prekeys(&mut self, keys: &mut PrekeySecrets, now_ms: u64) -> Result<(), PrekeyError> {
        either!(self, sealer => sealer.rotate_prekeys(keys, now_ms))
    }

    fn add_one_time(
        &mut self,
        keys: &mut PrekeySecrets,
        count: usize,
    ) -> Result<Vec<OneTimePrekey>, PrekeyError> {
        either!(self, sealer => sealer.add_one_time(keys, count))
    }

    fn publish(&self, me: &LocalDevice, keys: &PrekeySecrets) -> Result<Bundle, PrekeyError> {
        either!(self, sealer => sealer.publish(me, keys))
    }

    fn start(
        &mut self,
        me: &LocalDevice,
        them: &Party,
        bundle: &Bundle,
        state: &mut Option<Vec<u8>>,
        now_ms: u64,
    ) -> Result<(), StartError> {
        either!(self, sealer => sealer.start(me, them, bundle, state, now_ms))
    }

    fn sign(
        &self,
        me: &LocalDevice,
        state: &[u8],
        claim: &Claim,
    ) -> Result<SessionSignature, SealError> {
        either!(self, sealer => sealer.sign(me, state, claim))
    }

    fn seal(&mut self, state: &mut Vec<u8>, plaintext: &[u8]) -> Result<Sealed, SealError> {
        either!(self, sealer => sealer.seal(state, plaintext))
    }

    fn open(
        &mut self,
        me: &LocalDevice,
        keys: &mut PrekeySecrets,
        them: &Party,
        state: &mut Option<Vec<u8>>,
        sealed: &[u8],
        now_ms: u64,
    ) -> Result<Opened, OpenError> {
        either!(self, sealer => sealer.open(me, keys, them, state, sealed, now_ms))
    }

    fn check_signature(
        &self,
        them: &Party,
        state: &mut Vec<u8>,
        session: &[u8; 32],
        claim: &Claim,
        signature: &SessionSignature,
    ) -> Result<(), SignatureError> {
        either!(self, sealer => sealer.check_signature(them, state, session, claim, signature))
    }

    fn wants_handshake(
        &self,
        state: Option<&[u8]>,
        now_ms: u64,
    ) -> Result<Option<HandshakeDue>, StateError> {
        either!(self, sealer => sealer.wants_handshake(state, now_ms))
    }

    fn receive_tags(&self, state: &[u8]) -> Result<Vec<[u8; 16]>, StateError> {
        either!(self, sealer => sealer.receive_tags(state))
    }

    fn seal_introduction(
        &mut self,
        them: &Party,
        introduction: &[u8],
    ) -> Result<Vec<u8>, IntroductionError> {
        either!(self, sealer => sealer.seal_introduction(them, introduction))
    }

    fn open_introduction(
        &self,
        me: &LocalDevice,
        sealed: &[u8],
    ) -> Result<Vec<u8>, IntroductionError> {
        either!(self, sealer => sealer.open_introduction(me, sealed))
    }
}
