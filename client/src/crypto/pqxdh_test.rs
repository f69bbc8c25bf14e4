//! The handshake against tampering, weak keys and a second implementation of its parts.

use bytes::Bytes;
use ml_kem::{KeyExport, kem::Decapsulate};
use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use tidings_protocol::bundle::Bundle;
use zeroize::Zeroizing;

use super::{
    DeviceSecrets, LocalDevice, OpenError, Party, StartError,
    bundle::{BundleError, KEM_PUBLIC_BYTES, sign_bundle},
    handshake::{HANDSHAKE_BYTES, Handshake},
    pqxdh::{self, AcceptError, InitiatorRandomness},
    prekeys::HandshakeSecrets,
    session::RatchetError,
    testing::{Person, acquainted, people, pq},
};

/// u-coordinates of small order, and non-canonical ones that reduce to them (RFC 7748 §6.1 and the
/// list of Curve25519's author).
const LOW_ORDER: [[u8; 32]; 5] = [
    [0; 32],
    {
        let mut one = [0; 32];
        one[0] = 1;
        one
    },
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4,
        0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49,
        0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef,
        0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f,
        0x11, 0x57,
    ],
    {
        let mut p = [0xff; 32];
        p[0] = 0xed;
        p[31] = 0x7f;
        p
    },
];

fn randomness(seed: u8) -> InitiatorRandomness {
    let mut rng = ChaCha20Rng::from_seed([seed; 32]);
    let mut draw = || {
        let mut bytes = Zeroizing::new([0; 32]);
        rng.fill_bytes(bytes.as_mut());
        bytes
    };
    InitiatorRandomness { ephemeral: draw(), ratchet: draw(), encapsulation: draw() }
}

fn flip(bytes: &[u8], position: usize, bit: u8) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[position] ^= 1 << bit;
    bytes
}

#[test]
fn every_part_of_a_bundle_is_checked() {
    let [mut alice, mut bob] = people(pq);
    let b = bob.party();
    let good = bob.bundle();
    let mut check = |change: &dyn Fn(&mut Bundle), wanted: &BundleError| {
        let mut bad = good.clone();
        change(&mut bad);
        assert!(alice.state.is_none());
        match alice.start(&b, &bad) {
            Err(StartError::Bundle(error)) => assert_eq!(error, *wanted),
            other => panic!("{other:?}"),
        }
    };
    let signed = BundleError::BadSignature { kind: "signed" };
    let kem = BundleError::BadSignature { kind: "ml-kem" };
    check(&|bad| bad.device.0[0] ^= 1, &BundleError::OtherDevice);
    check(&|bad| bad.identity.0[0] ^= 1, &BundleError::OtherDevice);
    check(&|bad| bad.signed_prekey.id += 1, &signed);
    check(&|bad| bad.signed_prekey.key.0[0] ^= 1, &signed);
    check(&|bad| bad.signed_prekey.signature.0[0] ^= 1, &signed);
    check(&|bad| bad.kem_prekey.id += 1, &kem);
    check(&|bad| bad.kem_prekey.key = flip(&bad.kem_prekey.key, 7, 0).into(), &kem);
    check(&|bad| bad.kem_prekey.signature.0[40] ^= 1, &kem);
    // The two signatures have purposes: one does not stand in for the other.
    check(&|bad| bad.kem_prekey.signature = bad.signed_prekey.signature, &kem);
    check(&|bad| bad.kem_prekey.key = Bytes::from(bad.signed_prekey.key.0.to_vec()), &kem);
}

#[test]
fn a_false_one_time_key_only_makes_the_first_message_unreadable() {
    let [mut alice, mut bob] = people(pq);
    let [a, b] = [alice.party(), bob.party()];
    let mut bundle = bob.bundle();
    bundle.one_time.as_mut().unwrap().key.0[3] ^= 1;
    alice.start(&b, &bundle).unwrap();
    assert!(matches!(bob.open(&a, &alice.seal("hello")), Err(OpenError::Corrupt)));
}

#[test]
fn every_byte_of_a_first_message_is_authenticated() {
    for with_one_time in [true, false] {
        let [mut alice, mut bob] = people(pq);
        let [a, b] = [alice.party(), bob.party()];
        let bundle = if with_one_time { bob.bundle() } else { bob.fallback() };
        alice.start(&b, &bundle).unwrap();
        let first = alice.seal("hello");
        for position in 0..first.len() {
            let bad = flip(&first, position, u8::try_from(position % 8).unwrap());
            assert!(bob.open(&a, &bad).is_err(), "byte {position}");
        }
        assert_eq!(bob.reads(&a, &first), "hello");
        // The handshake is repeated; a changed repetition is no message of the session either.
        let second = alice.seal("again");
        for position in 0..=HANDSHAKE_BYTES {
            assert!(bob.open(&a, &flip(&second, position, 0)).is_err(), "byte {position}");
        }
        assert_eq!(bob.reads(&a, &second), "again");
    }
}

#[test]
fn both_sides_must_agree_on_every_fact_about_both() {
    let changes: [fn(&mut Party); 4] = [
        |party| party.name.push(b'x'),
        |party| party.account_key[0] ^= 1,
        |party| party.device_key[0] ^= 1,
        |party| party.identity_key[0] ^= 1,
    ];
    for change in changes {
        // Bob takes alice for somebody else.
        let [mut alice, mut bob] = acquainted(pq);
        let mut other = alice.party();
        change(&mut other);
        let first = alice.seal("hello");
        assert!(matches!(bob.open(&other, &first), Err(OpenError::Corrupt)));
        // Bob is, to himself, somebody else than alice wrote to.
        let honest = bob.me.party.clone();
        change(&mut bob.me.party);
        assert!(matches!(bob.open(&alice.party(), &first), Err(OpenError::Corrupt)));
        bob.me.party = honest;
        assert_eq!(bob.reads(&alice.party(), &first), "hello");
    }
}

#[test]
fn names_cannot_flow_into_each_other() {
    // Same bytes in a row, cut at another place.
    let [mut alice, mut bob] = people(pq);
    alice.me.party.name = b"ab".to_vec();
    bob.me.party.name = b"c".to_vec();
    let [a, b] = [alice.party(), bob.party()];
    alice.start(&b, &bob.bundle()).unwrap();
    let first = alice.seal("hello");
    let moved = Party { name: b"a".to_vec(), ..a };
    bob.me.party.name = b"bc".to_vec();
    assert!(matches!(bob.open(&moved, &first), Err(OpenError::Corrupt)));
}

/// Alice's start with raw secrets of bob, as `accept` needs them.
fn raw(seed: u8) -> (LocalDevice, LocalDevice, HandshakeSecrets, Bundle) {
    let mut rng = ChaCha20Rng::from_seed([seed; 32]);
    let mut device =
        |name: &[u8]| LocalDevice::new(DeviceSecrets::generate(&mut rng), name, [7; 32]);
    let [alice, bob] = [device(b"alice@acme"), device(b"bob@globex")];
    let mut signed = Zeroizing::new([0; 32]);
    let mut kem_seed = Zeroizing::new([0; 64]);
    rng.fill_bytes(signed.as_mut());
    rng.fill_bytes(kem_seed.as_mut());
    let kem = libcrux_ml_kem::mlkem768::generate_key_pair(*kem_seed);
    let bundle = sign_bundle(&bob, (1, pqxdh::public(&signed)), (2, kem.pk()));
    (alice, bob, HandshakeSecrets { signed, kem_seed, one_time: None }, bundle)
}

#[test]
fn a_wrong_kem_key_fails_even_if_everything_else_is_right() {
    let (alice, bob, mut secrets, bundle) = raw(5);
    let mut begun = pqxdh::initiate(&alice, &bob.party, &bundle, &randomness(1)).unwrap();
    let first = begun.ratchet.encrypt(b"hello").unwrap();
    let accept = |secrets: &HandshakeSecrets, used: bool| {
        let chain = Zeroizing::new([9; 32]);
        let is_used = move |_: &[u8; 32]| used;
        pqxdh::accept(&bob, &alice.party, secrets, &begun.handshake, &first, chain, &is_used)
    };
    assert_eq!(accept(&secrets, false).unwrap().plaintext, b"hello");
    assert_eq!(accept(&secrets, true).unwrap_err(), AcceptError::AlreadyUsed);
    secrets.one_time = Some(Zeroizing::new([1; 32]));
    assert_eq!(accept(&secrets, false).unwrap_err(), AcceptError::OneTimeMismatch);
    secrets.one_time = None;
    secrets.kem_seed[0] ^= 1;
    let wrong = AcceptError::FirstMessage(RatchetError::Unauthentic);
    assert_eq!(accept(&secrets, false).unwrap_err(), wrong);
}

#[test]
fn low_order_points_are_refused_wherever_they_stand() {
    for point in LOW_ORDER {
        let (alice, mut bob, secrets, good) = raw(6);
        let kem: [u8; KEM_PUBLIC_BYTES] = good.kem_prekey.key.as_ref().try_into().unwrap();
        let start = |them: &Party, bundle: &Bundle| {
            matches!(
                pqxdh::initiate(&alice, them, bundle, &randomness(2)),
                Err(StartError::WeakKey)
            )
        };
        // Signed by its owner, since a stranger could not.
        assert!(start(&bob.party, &sign_bundle(&bob, (1, point), (2, &kem))));
        let mut one_time = good.clone();
        let key = tidings_protocol::key::X25519Key(point);
        one_time.one_time = Some(tidings_protocol::bundle::OneTimePrekey { id: 3, key });
        assert!(start(&bob.party, &one_time));

        let mut begun = pqxdh::initiate(&alice, &bob.party, &good, &randomness(2)).unwrap();
        let first = begun.ratchet.encrypt(b"hello").unwrap();
        let accept = |them: &Party, handshake: &Handshake, message: &[u8]| {
            let chain = Zeroizing::new([9; 32]);
            pqxdh::accept(&bob, them, &secrets, handshake, message, chain, &|_| false)
                .err()
                .unwrap()
        };
        let weak_party = Party { identity_key: point, ..alice.party.clone() };
        assert_eq!(accept(&weak_party, &begun.handshake, &first), AcceptError::WeakKey);
        let weak = Handshake { ephemeral: point, ..begun.handshake.clone() };
        assert_eq!(accept(&alice.party, &weak, &first), AcceptError::WeakKey);
        // The ratchet key in the message: 0x03, then field 1 with 32 bytes.
        let mut weak_ratchet = first.clone();
        weak_ratchet[3..35].copy_from_slice(&point);
        let wanted = AcceptError::FirstMessage(RatchetError::WeakKey);
        assert_eq!(accept(&alice.party, &begun.handshake, &weak_ratchet), wanted);

        bob.party.identity_key = point;
        assert!(start(&bob.party, &sign_bundle(&bob, (1, good.signed_prekey.key.0), (2, &kem))));
    }
}

#[test]
fn an_invalid_kem_key_is_refused_even_when_signed() {
    let (alice, bob, _, good) = raw(7);
    // 0xFFF is no coefficient below 3,329.
    let bad = sign_bundle(&bob, (1, good.signed_prekey.key.0), (2, &[0xff; KEM_PUBLIC_BYTES]));
    let error = pqxdh::initiate(&alice, &bob.party, &bad, &randomness(3)).unwrap_err();
    assert!(matches!(error, StartError::Bundle(BundleError::InvalidKemKey)));
}

/// libcrux and RustCrypto give the same keys, ciphertexts and secrets, each way round.
#[test]
fn ml_kem_agrees_with_a_second_implementation() {
    use libcrux_ml_kem::mlkem768;
    let mut rng = ChaCha20Rng::from_seed([8; 32]);
    for _ in 0..128 {
        let (mut seed, mut message) = ([0; 64], [0; 32]);
        rng.fill_bytes(&mut seed);
        rng.fill_bytes(&mut message);
        let ours = mlkem768::generate_key_pair(seed);
        let theirs = ml_kem::DecapsulationKey768::from_seed(seed.into());
        assert_eq!(ours.pk().as_slice(), theirs.encapsulation_key().to_bytes().as_slice());

        let (ciphertext, secret) = mlkem768::encapsulate(ours.public_key(), message);
        let read = theirs.decapsulate_slice(ciphertext.as_slice()).unwrap();
        assert_eq!(read.as_slice(), secret);

        let (ciphertext, secret) =
            theirs.encapsulation_key().encapsulate_deterministic(&message.into());
        let ciphertext: [u8; 1088] = ciphertext.as_slice().try_into().unwrap();
        let read = mlkem768::decapsulate(ours.private_key(), &ciphertext.into());
        assert_eq!(read, secret.as_slice());

        // Implicit rejection: a damaged ciphertext gives the same wrong secret at both.
        let mut damaged = ciphertext;
        damaged[usize::from(message[0])] ^= 1;
        let ours = mlkem768::decapsulate(ours.private_key(), &damaged.into());
        assert_eq!(ours, theirs.decapsulate_slice(&damaged).unwrap().as_slice());
        assert_ne!(ours, read);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Strangers' bytes give errors, never a panic, and change nothing (`Person::open` checks that).
    #[test]
    fn noise_is_refused(mut noise in proptest::collection::vec(any::<u8>(), 0..1_500), kind in 0_u8..4) {
        let [alice, mut bob] = people(pq);
        if let Some(first) = noise.first_mut() {
            *first = kind;
        }
        if let Some(head) = noise.get_mut(1..15) {
            head.copy_from_slice(&[1, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]);
        }
        prop_assert!(bob.open(&alice.party(), &noise).is_err());
    }
}

#[test]
fn a_session_is_of_no_use_to_a_third_person() {
    let [mut alice, mut bob] = acquainted(pq);
    let mut carol = Person::new("carol@globex", pq(3), 3);
    let first = alice.seal("hello");
    assert!(carol.open(&alice.party(), &first).is_err());
    bob.open(&alice.party(), &first).unwrap();
    let reply = bob.seal("reply");
    assert!(matches!(carol.open(&bob.party(), &reply), Err(OpenError::UnknownSession)));
}
