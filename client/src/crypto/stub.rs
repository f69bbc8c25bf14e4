//! `StubSealer`: a test double of the sealer for simulator runs by the thousand. **It hides and
//! proves nothing.** Same trait, same sessions, same duplicates, gaps, lost keys and one-time
//! pre-keys as the product, since all of that is shared code; only the cryptography is pretended: a
//! message is its plaintext XOR 0xA5 with a checksum, keys are their secrets. Deterministic by seed.
//!
//! Handshake: head of `handshake.rs` ‖ session number (16). Message: session (16) ‖ side (1) ‖
//! chain (8) ‖ index (8) ‖ checksum (8) ‖ plaintext XOR 0xA5.

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use tidings_protocol::{
    bundle::{Bundle, KemPrekey, SignedPrekey},
    key::{PublicKey, Signature, X25519Key},
};
use zeroize::Zeroizing;

use super::{
    bundle::{BundleError, KEM_PUBLIC_BYTES, take},
    handshake::{HANDSHAKE_HEAD_BYTES, write_head},
    party::{LocalDevice, Party},
    pqxdh::Tags,
    prekeys::{HandshakeSecrets, PrekeyIds},
    sealer::{IntroductionError, OpenError, StartError},
    session::{Header, RatchetCodecError, RatchetError},
    session_signature::Claim,
    suite::{Answered, Begun, Suite, open_error},
    suite_sealer::SuiteSealer,
};

/// The test double; see the file's head.
pub type StubSealer = SuiteSealer<StubSuite>;

impl StubSealer {
    /// Deterministic by `seed`.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self::with(StubSuite { rng: ChaCha8Rng::from_seed(seed) })
    }
}

/// Pretended cryptography.
#[derive(Debug)]
pub struct StubSuite {
    rng: ChaCha8Rng,
}

/// Counters in place of keys.
#[derive(Debug, PartialEq, Eq)]
pub struct StubRatchet {
    session: [u8; 16],
    side: u8,
    chain: u64,
    index: u64,
    their_chain: u64,
    must_turn: bool,
}

const MASK: u8 = 0xA5;
const INITIATOR: u8 = 0;
const RESPONDER: u8 = 1;

struct StubMessage<'a> {
    session: [u8; 16],
    side: u8,
    chain: u64,
    index: u64,
    checksum: [u8; 8],
    body: &'a [u8],
}

impl<'a> StubMessage<'a> {
    fn read(mut bytes: &'a [u8]) -> Option<Self> {
        Some(Self {
            session: take(&mut bytes)?,
            side: u8::from_be_bytes(take(&mut bytes)?),
            chain: u64::from_be_bytes(take(&mut bytes)?),
            index: u64::from_be_bytes(take(&mut bytes)?),
            checksum: take(&mut bytes)?,
            body: bytes,
        })
    }
}

/// FNV-1a, 64 bits: finds accidents, not attackers.
fn checksum(parts: &[&[u8]]) -> [u8; 8] {
    let start = 0xcbf2_9ce4_8422_2325_u64;
    let fold = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    parts.iter().copied().flatten().fold(start, fold).to_be_bytes()
}

fn masked(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| byte ^ MASK).collect()
}

fn tags(session: [u8; 16]) -> Tags {
    Tags { from_initiator: session, from_responder: session.map(|byte| !byte) }
}

/// What both sides must agree on, in eight bytes, so that a mix-up of parties shows here too.
fn agreement(initiator: &Party, responder: &Party, ids: &[u8], session: &[u8]) -> [u8; 8] {
    let [a, b] = [initiator, responder];
    checksum(&[&a.name, &a.device_key, &a.account_key, &b.name, &b.device_key, ids, session])
}

impl StubSuite {
    fn begin(&self, side: u8, session: [u8; 16]) -> StubRatchet {
        let chain = u64::from(side);
        StubRatchet { session, side, chain, index: 0, their_chain: 0, must_turn: false }
    }
}

impl Suite for StubSuite {
    type Ratchet = StubRatchet;
    const HANDSHAKE_BYTES: usize = HANDSHAKE_HEAD_BYTES + 16 + 8;

    fn fill(&mut self, bytes: &mut [u8]) {
        self.rng.fill_bytes(bytes);
    }

    fn one_time_public(&self, secret: &[u8; 32]) -> [u8; 32] {
        *secret
    }

    fn bundle(&self, me: &LocalDevice, signed: (u32, &[u8; 32]), kem: (u32, &[u8; 64])) -> Bundle {
        let signature = Signature([0; 64]);
        Bundle {
            device: PublicKey(me.party.device_key),
            identity: X25519Key(me.party.identity_key),
            signed_prekey: SignedPrekey { id: signed.0, key: X25519Key(*signed.1), signature },
            kem_prekey: KemPrekey {
                id: kem.0,
                key: Bytes::from_static(&[0; KEM_PUBLIC_BYTES]),
                signature,
            },
            one_time: None,
        }
    }

    fn initiate(
        &mut self,
        me: &LocalDevice,
        them: &Party,
        bundle: &Bundle,
    ) -> Result<Begun<StubRatchet>, StartError> {
        if bundle.kem_prekey.key.len() != KEM_PUBLIC_BYTES {
            return Err(BundleError::InvalidKemKey.into());
        }
        let mut session = [0; 16];
        self.fill(&mut session);
        let head = write_head(PrekeyIds {
            signed: bundle.signed_prekey.id,
            kem: bundle.kem_prekey.id,
            one_time: bundle.one_time.as_ref().map(|key| key.id),
        });
        let agreement = agreement(&me.party, them, &head, &session);
        let handshake = [head.as_slice(), &session, &agreement].concat();
        let ratchet = self.begin(INITIATOR, session);
        Ok(Begun { ratchet, handshake, tags: tags(session) })
    }

    fn accept(
        &mut self,
        me: &LocalDevice,
        them: &Party,
        secrets: &HandshakeSecrets,
        handshake: &[u8],
        message: &[u8],
        _already_used: &dyn Fn(&[u8; 32]) -> bool,
    ) -> Result<Answered<StubRatchet>, OpenError> {
        let _has_the_keys = secrets;
        let mut rest = handshake;
        let head: [u8; HANDSHAKE_HEAD_BYTES] = take(&mut rest).ok_or(OpenError::Malformed)?;
        let session: [u8; 16] = take(&mut rest).ok_or(OpenError::Malformed)?;
        if rest != agreement(them, &me.party, &head, &session) {
            return Err(OpenError::Corrupt);
        }
        let mut ratchet = self.begin(RESPONDER, session);
        let plaintext = self.decrypt(&mut ratchet, message).map_err(open_error)?;
        Ok(Answered { ratchet, plaintext, tags: tags(session) })
    }

    fn header(&self, message: &[u8]) -> Option<Header> {
        let message = StubMessage::read(message)?;
        let mut chain = [0; 32];
        let name = [&message.session[..], &[message.side], &message.chain.to_be_bytes()].concat();
        for (to, from) in chain.iter_mut().zip(name) {
            *to = from;
        }
        Some(Header { chain, index: message.index })
    }

    fn encrypt(
        &self,
        ratchet: &mut StubRatchet,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, RatchetError> {
        if ratchet.must_turn {
            ratchet.chain += 2;
            ratchet.index = 0;
            ratchet.must_turn = false;
        }
        let body = masked(plaintext);
        let chain = ratchet.chain.to_be_bytes();
        let index = ratchet.index.to_be_bytes();
        let side = [ratchet.side];
        let sum = checksum(&[&ratchet.session, &side, &chain, &index, &body]);
        ratchet.index += 1;
        Ok([&ratchet.session[..], &side, &chain, &index, &sum, &body].concat())
    }

    fn decrypt(&self, ratchet: &mut StubRatchet, message: &[u8]) -> Result<Vec<u8>, RatchetError> {
        let message = StubMessage::read(message).ok_or(RatchetError::Malformed)?;
        let side = [message.side];
        let (chain, index) = (message.chain.to_be_bytes(), message.index.to_be_bytes());
        let sum = checksum(&[&message.session, &side, &chain, &index, message.body]);
        let is_ours = message.session == ratchet.session && message.side != ratchet.side;
        if sum != message.checksum || !is_ours {
            return Err(RatchetError::Unauthentic);
        }
        // Chains count from 1 here, so that the very first one is new as well.
        if message.chain + 1 > ratchet.their_chain {
            ratchet.their_chain = message.chain + 1;
            ratchet.must_turn = true;
        }
        Ok(masked(message.body))
    }

    fn save(&self, ratchet: &StubRatchet) -> Zeroizing<Vec<u8>> {
        let bytes = [
            &ratchet.session[..],
            &[ratchet.side, u8::from(ratchet.must_turn)],
            &ratchet.chain.to_be_bytes(),
            &ratchet.index.to_be_bytes(),
            &ratchet.their_chain.to_be_bytes(),
        ];
        Zeroizing::new(bytes.concat())
    }

    fn load(&self, bytes: &[u8]) -> Result<StubRatchet, RatchetCodecError> {
        let mut rest = bytes;
        let mut read = || {
            Some(StubRatchet {
                session: take(&mut rest)?,
                side: u8::from_be_bytes(take(&mut rest)?),
                must_turn: take(&mut rest)? == [1],
                chain: u64::from_be_bytes(take(&mut rest)?),
                index: u64::from_be_bytes(take(&mut rest)?),
                their_chain: u64::from_be_bytes(take(&mut rest)?),
            })
        };
        read().ok_or_else(|| RatchetCodecError("too short".into()))
    }

    fn session_key(&self, seed: &[u8; 32]) -> [u8; 32] {
        *seed
    }

    fn sign(&self, seed: &[u8; 32], claim: &Claim, sender_device: &[u8; 32]) -> [u8; 64] {
        let sequence = claim.sequence.to_be_bytes();
        let parts: [&[u8]; 5] =
            [seed, &claim.chat, sender_device, &sequence, &claim.plaintext_hash];
        let mut signature = [0; 64];
        for (to, from) in signature.iter_mut().zip(checksum(&parts)) {
            *to = from;
        }
        signature
    }

    fn verifies(
        &self,
        key: &[u8; 32],
        claim: &Claim,
        sender_device: &[u8; 32],
        signature: &[u8; 64],
    ) -> bool {
        self.sign(key, claim, sender_device) == *signature
    }

    fn seal_introduction(
        &mut self,
        them: &Party,
        introduction: &[u8],
    ) -> Result<Vec<u8>, IntroductionError> {
        let sum = checksum(&[&them.identity_key, introduction]);
        Ok([&sum[..], &masked(introduction)].concat())
    }

    fn open_introduction(
        &self,
        me: &LocalDevice,
        sealed: &[u8],
    ) -> Result<Vec<u8>, IntroductionError> {
        let mut rest = sealed;
        let sum: [u8; 8] = take(&mut rest).ok_or(IntroductionError::Corrupt)?;
        let introduction = masked(rest);
        if sum == checksum(&[&me.party.identity_key, &introduction]) {
            Ok(introduction)
        } else {
            Err(IntroductionError::Corrupt)
        }
    }
}
