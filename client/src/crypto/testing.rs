//! People for the tests of this folder: devices with sealers, keys and session states, and a
//! network that is a function call. Test code only.

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use tidings_protocol::bundle::{Bundle, OneTimePrekey};

use super::{
    DeviceSecrets, LocalDevice, OpenError, Opened, Party, PqSealer, PrekeySecrets, SealError,
    Sealed, Sealer, StartError, StubSealer,
};

/// One device and its session with one other.
pub(crate) struct Person {
    pub(crate) me: LocalDevice,
    pub(crate) keys: PrekeySecrets,
    pub(crate) one_time: Vec<OneTimePrekey>,
    pub(crate) state: Option<Vec<u8>>,
    pub(crate) sealer: Box<dyn Sealer>,
    pub(crate) now_ms: u64,
}

pub(crate) const NOW_MS: u64 = 1_800_000_000_000;

impl Person {
    pub(crate) fn new(name: &str, mut sealer: Box<dyn Sealer>, seed: u8) -> Self {
        let mut rng = ChaCha20Rng::from_seed([seed; 32]);
        let secrets = DeviceSecrets::generate(&mut rng);
        let me = LocalDevice::new(secrets, name.as_bytes(), [seed; 32]);
        let mut keys = sealer.create_prekeys(NOW_MS).unwrap();
        let one_time = sealer.add_one_time(&mut keys, 3).unwrap();
        Self { me, keys, one_time, state: None, sealer, now_ms: NOW_MS }
    }

    pub(crate) fn party(&self) -> Party {
        self.me.party.clone()
    }

    /// What the node hands out: one one-time key fewer each time.
    pub(crate) fn bundle(&mut self) -> Bundle {
        let mut bundle = self.fallback();
        bundle.one_time = self.one_time.pop();
        bundle
    }

    pub(crate) fn fallback(&self) -> Bundle {
        self.sealer.publish(&self.me, &self.keys).unwrap()
    }

    pub(crate) fn start(&mut self, them: &Party, bundle: &Bundle) -> Result<(), StartError> {
        self.sealer.start(&self.me, them, bundle, &mut self.state, self.now_ms)
    }

    pub(crate) fn try_seal(&mut self, text: &[u8]) -> Result<Sealed, SealError> {
        let state = self.state.as_mut().ok_or(SealError::NoSession)?;
        self.sealer.seal(state, text)
    }

    pub(crate) fn seal(&mut self, text: &str) -> Vec<u8> {
        self.try_seal(text.as_bytes()).unwrap().bytes
    }

    /// Checks on the way that a failure changes nothing.
    pub(crate) fn open(&mut self, them: &Party, sealed: &[u8]) -> Result<Opened, OpenError> {
        let before = (self.state.clone(), self.keys.to_bytes());
        let opened =
            self.sealer.open(&self.me, &mut self.keys, them, &mut self.state, sealed, self.now_ms);
        if opened.is_err() {
            assert_eq!((self.state.clone(), self.keys.to_bytes()), before);
        }
        opened
    }

    pub(crate) fn reads(&mut self, them: &Party, sealed: &[u8]) -> String {
        String::from_utf8(self.open(them, sealed).unwrap().plaintext).unwrap()
    }
}

pub(crate) fn pq(seed: u8) -> Box<dyn Sealer> {
    Box::new(PqSealer::from_seed([seed; 32]))
}

pub(crate) fn stub(seed: u8) -> Box<dyn Sealer> {
    Box::new(StubSealer::from_seed([seed; 32]))
}

/// Alice at acme and bob at globex.
pub(crate) fn people(sealer: fn(u8) -> Box<dyn Sealer>) -> [Person; 2] {
    [Person::new("alice@acme", sealer(1), 1), Person::new("bob@globex", sealer(2), 2)]
}

/// The same, alice having started a session with one of bob's one-time keys.
pub(crate) fn acquainted(sealer: fn(u8) -> Box<dyn Sealer>) -> [Person; 2] {
    let [mut alice, mut bob] = people(sealer);
    let bundle = bob.bundle();
    alice.start(&bob.party(), &bundle).unwrap();
    [alice, bob]
}

/// Runs a check with both sealers: whatever holds for the product must hold for the double.
pub(crate) fn with_both(check: impl Fn(fn(u8) -> Box<dyn Sealer>)) {
    check(pq);
    check(stub);
}
