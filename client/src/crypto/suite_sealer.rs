//! The sealer proper: sessions, pre-keys and limits, over whichever suite does the cryptography.
//! It works on copies and hands them back at the end, so that a failure changes nothing.

use tidings_protocol::{
    bundle::{Bundle, OneTimePrekey},
    key::X25519Key,
};
use zeroize::Zeroizing;

use super::{
    bundle::check_owner,
    chains::Place,
    handshake::{handshake_id, read_head},
    padding::{pad, unpad},
    party::{LocalDevice, Party},
    prekeys::{PrekeyError, PrekeySecrets},
    sealer::{
        HandshakeDue, IntroductionError, OpenError, Opened, SealError, Sealed, Sealer,
        SessionSignature, SignatureError, StartError, StateError,
    },
    session::{RatchetCodecError, RatchetError},
    session_signature::Claim,
    sessions::{NewSlot, Sessions, Slot, unframe},
    suite::{PqSuite, Suite, open_error},
};

/// A sealer over one suite. See [`PqSealer`].
#[derive(Debug)]
pub struct SuiteSealer<S> {
    suite: S,
}

/// The product: PQXDH and Double Ratchet.
pub type PqSealer = SuiteSealer<PqSuite>;

impl PqSealer {
    /// A sealer with 32 bytes from the system's secure generator. Never the same twice: take fresh
    /// ones at each start, so that a device restored from a copy does not repeat itself.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self { suite: PqSuite::from_seed(seed) }
    }
}

impl<S: Suite> SuiteSealer<S> {
    #[cfg(any(test, feature = "stub-sealer"))]
    pub(crate) fn with(suite: S) -> Self {
        Self { suite }
    }

    fn random_32(&mut self) -> Zeroizing<[u8; 32]> {
        let mut bytes = Zeroizing::new([0; 32]);
        self.suite.fill(bytes.as_mut());
        bytes
    }

    fn accept(
        &mut self,
        me: &LocalDevice,
        keys: &mut PrekeySecrets,
        them: &Party,
        sessions: &mut Sessions,
        (handshake, message): (&[u8], &[u8]),
        now_ms: u64,
    ) -> Result<Vec<u8>, OpenError> {
        let id = handshake_id(handshake);
        if keys.has_seen(&id) {
            return Err(OpenError::HandshakeReplayed);
        }
        let ids = read_head(handshake).ok_or(OpenError::Malformed)?;
        if ids.one_time.is_none() && keys.is_full(ids) {
            return Err(OpenError::TooManyHandshakes);
        }
        let header = self.suite.header(message).ok_or(OpenError::Malformed)?;
        let secrets =
            keys.secrets_for(ids).map_err(|(kind, id)| OpenError::PrekeyGone { kind, id })?;
        let is_used = |id: &[u8; 32]| keys.has_seen(id);
        let answered = self.suite.accept(me, them, &secrets, handshake, message, &is_used)?;
        let plaintext = unpad(answered.plaintext).map_err(|_| OpenError::Corrupt)?;
        let ratchet = self.suite.save(&answered.ratchet);

        sessions.add(NewSlot {
            id,
            handshake: None,
            tags: answered.tags,
            signing_seed: self.random_32(),
            ratchet: &ratchet,
            now_ms,
        });
        if let Some(slot) = sessions.front_mut() {
            slot.chains.received(header);
        }
        sessions.received_on(0, now_ms);
        keys.consume(ids, &id);
        Ok(plaintext)
    }

    /// Finds the session of a message that came without handshake.
    fn open_anywhere(
        &self,
        sessions: &mut Sessions,
        message: &[u8],
    ) -> Result<(usize, Vec<u8>), OpenError> {
        let header = self.suite.header(message).ok_or(OpenError::Malformed)?;
        let known = sessions.iter().position(|slot| slot.chains.knows(&header.chain));
        if let Some(known) = known {
            let plaintext = self.open_in(sessions.get_mut(known), message)?;
            return Ok((known, plaintext));
        }
        for position in 0..sessions.iter().count() {
            match self.open_in(sessions.get_mut(position), message) {
                Ok(plaintext) => return Ok((position, plaintext)),
                // A new chain authenticates in its own session only.
                Err(OpenError::Corrupt) => {}
                Err(other) => return Err(other),
            }
        }
        Err(OpenError::UnknownSession)
    }

    fn open_in(&self, slot: Option<&mut Slot>, message: &[u8]) -> Result<Vec<u8>, OpenError> {
        let slot = slot.ok_or(OpenError::UnknownSession)?;
        let header = self.suite.header(message).ok_or(OpenError::Malformed)?;
        match slot.chains.place(header) {
            Place::Open => {}
            Place::Duplicate => return Err(OpenError::Duplicate { index: header.index }),
            Place::Lost => return Err(OpenError::Lost { index: header.index }),
            Place::Gap(gap) => return Err(OpenError::GapTooLarge { gap }),
        }
        let mut ratchet = self.suite.load(&slot.ratchet).map_err(decode)?;
        let padded = self.suite.decrypt(&mut ratchet, message).map_err(open_error)?;
        let plaintext = unpad(padded).map_err(|_| OpenError::Corrupt)?;
        slot.ratchet = self.suite.save(&ratchet).to_vec().into();
        slot.chains.received(header);
        Ok(plaintext)
    }
}

impl<S: Suite> Sealer for SuiteSealer<S> {
    fn create_prekeys(&mut self, now_ms: u64) -> Result<PrekeySecrets, PrekeyError> {
        let mut keys = PrekeySecrets::empty();
        self.rotate_prekeys(&mut keys, now_ms)?;
        Ok(keys)
    }

    fn rotate_prekeys(&mut self, keys: &mut PrekeySecrets, now_ms: u64) -> Result<(), PrekeyError> {
        let signed = self.random_32();
        let mut kem_seed = Zeroizing::new([0; 64]);
        self.suite.fill(kem_seed.as_mut());
        keys.add_signed(*signed, *kem_seed, now_ms)
    }

    fn add_one_time(
        &mut self,
        keys: &mut PrekeySecrets,
        count: usize,
    ) -> Result<Vec<OneTimePrekey>, PrekeyError> {
        keys.check_room(count)?;
        let mut public = Vec::with_capacity(count);
        for _ in 0..count {
            let secret = self.random_32();
            let id = keys.add_one_time(*secret)?;
            let key = X25519Key(self.suite.one_time_public(&secret));
            public.push(OneTimePrekey { id, key });
        }
        Ok(public)
    }

    fn publish(&self, me: &LocalDevice, keys: &PrekeySecrets) -> Result<Bundle, PrekeyError> {
        let (signed_id, signed, kem_id, kem) = keys.current().ok_or(PrekeyError::Empty)?;
        Ok(self.suite.bundle(me, (signed_id, signed), (kem_id, kem)))
    }

    fn start(
        &mut self,
        me: &LocalDevice,
        them: &Party,
        bundle: &Bundle,
        state: &mut Option<Vec<u8>>,
        now_ms: u64,
    ) -> Result<(), StartError> {
        let mut sessions = Sessions::read(state.as_deref())?;
        check_owner(bundle, them)?;
        let begun = self.suite.initiate(me, them, bundle)?;
        let ratchet = self.suite.save(&begun.ratchet);
        sessions.add(NewSlot {
            id: handshake_id(&begun.handshake),
            handshake: Some(begun.handshake),
            tags: begun.tags,
            signing_seed: self.random_32(),
            ratchet: &ratchet,
            now_ms,
        });
        *state = Some(sessions.write());
        Ok(())
    }

    fn sign(
        &self,
        me: &LocalDevice,
        state: &[u8],
        claim: &Claim,
    ) -> Result<SessionSignature, SealError> {
        let sessions = Sessions::read(Some(state))?;
        let slot = sessions.front().ok_or(SealError::NoSession)?;
        let key = (!slot.is_introduced()).then(|| self.suite.session_key(&slot.signing_seed));
        let signature = self.suite.sign(&slot.signing_seed, claim, &me.party.device_key);
        Ok(SessionSignature { key, signature })
    }

    fn seal(&mut self, state: &mut Vec<u8>, plaintext: &[u8]) -> Result<Sealed, SealError> {
        let padded = pad(plaintext).map_err(|error| SealError::TooLong { len: error.len })?;
        let padded = Zeroizing::new(padded);
        let mut sessions = Sessions::read(Some(state))?;
        let slot = sessions.front_mut().ok_or(SealError::NoSession)?;
        let mut ratchet = self.suite.load(&slot.ratchet).map_err(decode)?;
        let message = self.suite.encrypt(&mut ratchet, &padded).map_err(|error| match error {
            RatchetError::WeakKey
            | RatchetError::Malformed
            | RatchetError::Unauthentic
            | RatchetError::KeyGone { .. }
            | RatchetError::Gap { .. } => SealError::WeakKey,
        })?;
        slot.ratchet = self.suite.save(&ratchet).to_vec().into();
        slot.sent_one();
        let sealed = Sealed {
            tag: *slot.send_tag,
            bytes: slot.frame(&message),
            handshake_pending: slot.handshake.is_some(),
        };
        *state = sessions.write();
        Ok(sealed)
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
        let mut sessions = Sessions::read(state.as_deref())?;
        let (handshake, message) =
            unframe(sealed, S::HANDSHAKE_BYTES).ok_or(OpenError::Malformed)?;
        let begun_by = handshake.map(|bytes| (bytes, sessions.with_id(&handshake_id(bytes))));
        let (position, plaintext) = match begun_by {
            None => self.open_anywhere(&mut sessions, message)?,
            Some((_, Some(known))) => (known, self.open_in(sessions.get_mut(known), message)?),
            Some((bytes, None)) => {
                // The pre-keys change inside; a copy makes a failure to write harmless.
                let mut changed = keys.clone();
                let first = (bytes, message);
                let plaintext =
                    self.accept(me, &mut changed, them, &mut sessions, first, now_ms)?;
                let session = sessions.front().map_or([0; 32], |slot| *slot.id);
                *state = Some(sessions.write());
                *keys = changed;
                return Ok(Opened { plaintext, session, is_new_session: true });
            }
        };
        let session = sessions.get_mut(position).map_or([0; 32], |slot| *slot.id);
        sessions.received_on(position, now_ms);
        *state = Some(sessions.write());
        Ok(Opened { plaintext, session, is_new_session: false })
    }

    fn check_signature(
        &self,
        them: &Party,
        state: &mut Vec<u8>,
        session: &[u8; 32],
        claim: &Claim,
        signature: &SessionSignature,
    ) -> Result<(), SignatureError> {
        let mut sessions = Sessions::read(Some(state))?;
        let position = sessions.with_id(session).ok_or(SignatureError::NoSession)?;
        let slot = sessions.get_mut(position).ok_or(SignatureError::NoSession)?;
        let pinned = slot.their_key.as_deref().copied();
        let key = match (pinned, signature.key) {
            (Some(pinned), Some(shown)) if pinned != shown => {
                return Err(SignatureError::KeyChanged);
            }
            (Some(key), _) | (None, Some(key)) => key,
            (None, None) => return Err(SignatureError::NoKey),
        };
        if !self.suite.verifies(&key, claim, &them.device_key, &signature.signature) {
            return Err(SignatureError::Bad);
        }
        if pinned.is_none() {
            slot.their_key = Some(serde_bytes::ByteArray::new(key));
            *state = sessions.write();
        }
        Ok(())
    }

    fn wants_handshake(
        &self,
        state: Option<&[u8]>,
        now_ms: u64,
    ) -> Result<Option<HandshakeDue>, StateError> {
        let sessions = Sessions::read(state)?;
        Ok(sessions.front().map_or(Some(HandshakeDue::NoSession), |slot| slot.due(now_ms)))
    }

    fn receive_tags(&self, state: &[u8]) -> Result<Vec<[u8; 16]>, StateError> {
        Ok(Sessions::read(Some(state))?.iter().map(|slot| *slot.receive_tag).collect())
    }

    fn seal_introduction(
        &mut self,
        them: &Party,
        introduction: &[u8],
    ) -> Result<Vec<u8>, IntroductionError> {
        self.suite.seal_introduction(them, introduction)
    }

    fn open_introduction(
        &self,
        me: &LocalDevice,
        sealed: &[u8],
    ) -> Result<Vec<u8>, IntroductionError> {
        self.suite.open_introduction(me, sealed)
    }
}

fn decode(error: RatchetCodecError) -> StateError {
    StateError::Decode(error.0)
}
