//! Golden vectors: what the handshake derives and what is stored must never change by accident,
//! natively or in wasm. `vectors/pqxdh.json` has fixed secrets and what follows from them;
//! `vectors/session.json` is a recorded conversation, since vodozemac draws its own randomness.
//!
//! With `TIDINGS_WRITE_VECTORS` set, the tests write the files anew instead of reading them. Do so
//! only for a new version of the format, and keep the old files readable.

use hmac::{Hmac, KeyInit, Mac};
use ml_kem::kem::Decapsulate;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use tidings_protocol::{bundle::OneTimePrekey, key::X25519Key};
use zeroize::Zeroizing;

use super::{
    DeviceSecrets, LocalDevice, Party, PqSealer, PrekeySecrets, Sealer,
    bundle::{sign_bundle, verify_bundle},
    handshake::{Transcript, handshake_id},
    pqxdh::{self, InitiatorRandomness},
    prekeys::HandshakeSecrets,
    testing::{NOW_MS, acquainted, pq},
};

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct PqxdhVector {
    alice_name: String,
    alice_account_key: String,
    alice_secrets: String,
    bob_name: String,
    bob_account_key: String,
    bob_secrets: String,
    signed_prekey_id: u32,
    signed_prekey_secret: String,
    kem_prekey_id: u32,
    kem_prekey_seed: String,
    one_time_id: Option<u32>,
    one_time_secret: Option<String>,
    ephemeral_secret: String,
    ratchet_secret: String,
    encapsulation: String,
    handshake: String,
    handshake_id: String,
    transcript_hash: String,
    root_key: String,
    tag_from_initiator: String,
    tag_from_responder: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct SessionVector {
    alice_name: String,
    alice_account_key: String,
    alice_secrets: String,
    alice_state: String,
    bob_name: String,
    bob_account_key: String,
    bob_secrets: String,
    bob_prekeys: String,
    first_part: String,
    first_text: String,
    bob_state_after_reply: String,
    reply_part: String,
    reply_text: String,
    third_part: String,
    third_text: String,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().map(|c| u8::try_from(c.to_digit(16).unwrap()).unwrap()).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn array<const N: usize>(text: &str) -> [u8; N] {
    unhex(text).try_into().unwrap()
}

/// The recorded vector, or `fresh` after recording it.
fn recorded<T: Serialize + DeserializeOwned>(name: &str, text: &str, fresh: T) -> T {
    if std::env::var_os("TIDINGS_WRITE_VECTORS").is_none() {
        return serde_json::from_str(text).unwrap();
    }
    let path = format!("{}/src/crypto/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::write(path, serde_json::to_string_pretty(&fresh).unwrap() + "\n").unwrap();
    fresh
}

fn device(secrets: &str, name: &str, account_key: &str) -> LocalDevice {
    let secrets = DeviceSecrets::from_bytes(&unhex(secrets)).unwrap();
    LocalDevice::new(secrets, name.as_bytes(), array(account_key))
}

/// Secrets that count up, so that a reader sees them in the file.
fn counting<const N: usize>(from: u8) -> [u8; N] {
    std::array::from_fn(|i| from.wrapping_add(u8::try_from(i).unwrap()))
}

fn pqxdh_inputs(one_time: bool) -> PqxdhVector {
    let secrets = |from: u8| hex(&[[1].as_slice(), &counting::<64>(from)].concat());
    PqxdhVector {
        alice_name: "alice@acme".into(),
        alice_account_key: hex(&counting::<32>(0xa0)),
        alice_secrets: secrets(0x00),
        bob_name: "bob@globex".into(),
        bob_account_key: hex(&counting::<32>(0xb0)),
        bob_secrets: secrets(0x40),
        signed_prekey_id: 7,
        signed_prekey_secret: hex(&counting::<32>(0x80)),
        kem_prekey_id: 8,
        kem_prekey_seed: hex(&counting::<64>(0x10)),
        one_time_id: one_time.then_some(9),
        one_time_secret: one_time.then(|| hex(&counting::<32>(0x90))),
        ephemeral_secret: hex(&counting::<32>(0xc0)),
        ratchet_secret: hex(&counting::<32>(0xd0)),
        encapsulation: hex(&counting::<32>(0xe0)),
        handshake: String::new(),
        handshake_id: String::new(),
        transcript_hash: String::new(),
        root_key: String::new(),
        tag_from_initiator: String::new(),
        tag_from_responder: String::new(),
    }
}

/// Computes the outputs from the inputs, at both sides.
fn derive(inputs: PqxdhVector) -> PqxdhVector {
    let v = &inputs;
    let alice = device(&v.alice_secrets, &v.alice_name, &v.alice_account_key);
    let bob = device(&v.bob_secrets, &v.bob_name, &v.bob_account_key);
    let secrets = HandshakeSecrets {
        signed: Zeroizing::new(array(&v.signed_prekey_secret)),
        kem_seed: Zeroizing::new(array(&v.kem_prekey_seed)),
        one_time: v.one_time_secret.as_deref().map(|secret| Zeroizing::new(array(secret))),
    };
    let kem = libcrux_ml_kem::mlkem768::generate_key_pair(*secrets.kem_seed);
    let signed_public = pqxdh::public(&secrets.signed);
    let mut bundle =
        sign_bundle(&bob, (v.signed_prekey_id, signed_public), (v.kem_prekey_id, kem.pk()));
    let one_time_public = secrets.one_time.as_deref().map(pqxdh::public);
    bundle.one_time = v
        .one_time_id
        .zip(one_time_public)
        .map(|(id, key)| OneTimePrekey { id, key: X25519Key(key) });
    let randomness = InitiatorRandomness {
        ephemeral: Zeroizing::new(array(&v.ephemeral_secret)),
        ratchet: Zeroizing::new(array(&v.ratchet_secret)),
        encapsulation: Zeroizing::new(array(&v.encapsulation)),
    };
    let kem_public = verify_bundle(&bundle, &bob.party).unwrap();
    let (handshake, at_alice) =
        pqxdh::initiator_secrets(&alice, &bob.party, &bundle, kem_public, &randomness).unwrap();
    let at_bob = pqxdh::responder_secrets(&bob, &alice.party, &secrets, &handshake).unwrap();
    assert_eq!(at_alice.root, at_bob.root);
    assert_eq!(at_alice.tags, at_bob.tags);
    let transcript = Transcript {
        initiator: &alice.party,
        responder: &bob.party,
        signed_prekey: &signed_public,
        kem_prekey: kem.pk(),
        one_time: one_time_public.as_ref(),
        handshake: &handshake,
    };
    let bytes = handshake.to_bytes();
    PqxdhVector {
        handshake: hex(&bytes),
        handshake_id: hex(&handshake_id(&bytes)),
        transcript_hash: hex(&transcript.hash()),
        root_key: hex(&*at_bob.root),
        tag_from_initiator: hex(&at_bob.tags.from_initiator),
        tag_from_responder: hex(&at_bob.tags.from_responder),
        ..inputs
    }
}

#[test]
fn the_handshake_derives_what_it_always_derived() {
    let fresh: Vec<_> = [true, false].map(|one_time| derive(pqxdh_inputs(one_time))).into();
    let recorded: Vec<PqxdhVector> =
        recorded("pqxdh.json", include_str!("vectors/pqxdh.json"), fresh);
    assert_eq!(recorded.len(), 2);
    for vector in recorded {
        let name = format!("one-time {:?}", vector.one_time_id);
        let again: PqxdhVector =
            serde_json::from_value(serde_json::to_value(&vector).unwrap()).unwrap();
        assert_eq!(derive(again), vector, "{name}");
    }
}

/// The same values by other means: bob's side from the published description alone, with HKDF
/// written out over HMAC, RustCrypto's ML-KEM, the bare X25519 function and positions in the bytes.
#[test]
fn the_vectors_follow_from_the_description() {
    let hmac = |key: &[u8], parts: &[&[u8]]| -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    };
    let vectors: Vec<PqxdhVector> =
        serde_json::from_str(include_str!("vectors/pqxdh.json")).unwrap();
    for v in vectors {
        let base = |secret| x25519_dalek::x25519(secret, x25519_dalek::X25519_BASEPOINT_BYTES);
        let alice = device(&v.alice_secrets, &v.alice_name, &v.alice_account_key).party;
        let bob = device(&v.bob_secrets, &v.bob_name, &v.bob_account_key).party;
        let bob_identity: [u8; 32] = unhex(&v.bob_secrets)[33..].try_into().unwrap();
        let signed: [u8; 32] = array(&v.signed_prekey_secret);
        let one_time: Option<[u8; 32]> = v.one_time_secret.as_deref().map(array);
        let handshake = unhex(&v.handshake);
        let ephemeral: [u8; 32] = handshake[14..46].try_into().unwrap();
        let kem = ml_kem::DecapsulationKey768::from_seed(array::<64>(&v.kem_prekey_seed).into());
        let shared = kem.decapsulate_slice(&handshake[46..]).unwrap();
        let kem_public = ml_kem::KeyExport::to_bytes(kem.encapsulation_key());

        let mut transcript = b"tidings/1 pqxdh transcript\0".to_vec();
        for Party { name, account_key, device_key, identity_key } in [&alice, &bob] {
            transcript.extend(u64::try_from(name.len()).unwrap().to_be_bytes());
            transcript.extend([name, &account_key[..], device_key, identity_key].concat());
        }
        transcript.extend(v.signed_prekey_id.to_be_bytes());
        transcript.extend(base(signed));
        transcript.extend(v.kem_prekey_id.to_be_bytes());
        transcript.extend(kem_public);
        transcript.push(u8::from(one_time.is_some()));
        transcript.extend(v.one_time_id.unwrap_or(0).to_be_bytes());
        transcript.extend(one_time.map_or([0; 32], base));
        transcript.extend(&handshake[14..]);
        let transcript: [u8; 32] = Sha256::digest(&transcript).into();
        assert_eq!(hex(&transcript), v.transcript_hash);

        let mut input = vec![0xff; 32];
        input.extend(x25519_dalek::x25519(signed, alice.identity_key));
        input.extend(x25519_dalek::x25519(bob_identity, ephemeral));
        input.extend(x25519_dalek::x25519(signed, ephemeral));
        input
            .extend(one_time.map(|one| x25519_dalek::x25519(one, ephemeral)).into_iter().flatten());
        input.extend(shared.as_slice());
        let info =
            [b"tidings/1 pqxdh x25519 ml-kem-768 sha-256\0".as_slice(), &transcript].concat();
        let pseudorandom = hmac(&[0; 32], &[&input]);
        let root = hmac(&pseudorandom, &[&info, &[1]]);
        let tags = hmac(&pseudorandom, &[&root, &info, &[2]]);
        assert_eq!(hex(&root), v.root_key);
        assert_eq!(hex(&tags), v.tag_from_initiator + &v.tag_from_responder);
        let id = [b"tidings/1 handshake id\0".as_slice(), &handshake].concat();
        assert_eq!(hex(&Sha256::digest(id)), v.handshake_id);
    }
}

/// Our one copy of vodozemac's internals: the label of its root key step.
#[test]
fn vodozemac_still_derives_the_first_chain_as_we_do() {
    let [mut alice, mut bob] = acquainted(pq);
    let first = alice.seal("do we meet?");
    let met = bob.open(&alice.party(), &first).map(|opened| opened.plaintext);
    assert!(
        matches!(&met, Ok(text) if text == b"do we meet?"),
        "vodozemac's internal derivation (label OLM_RATCHET, HKDF-SHA-256, root before chain) \
         differs from the copy in pqxdh.rs: do not take this version of vodozemac: {met:?}"
    );
}

fn record_session() -> SessionVector {
    let [mut alice, mut bob] = acquainted(pq);
    let bob_prekeys = hex(&bob.keys.to_bytes());
    let first = alice.seal("first");
    let alice_state = hex(alice.state.as_deref().unwrap());
    bob.open(&alice.party(), &first).unwrap();
    let reply = bob.seal("reply");
    let bob_state_after_reply = hex(bob.state.as_deref().unwrap());
    alice.open(&bob.party(), &reply).unwrap();
    let third = alice.seal("third");
    SessionVector {
        alice_name: "alice@acme".into(),
        alice_account_key: hex(&alice.me.party.account_key),
        alice_secrets: hex(&alice.me.secrets.to_bytes()),
        alice_state,
        bob_name: "bob@globex".into(),
        bob_account_key: hex(&bob.me.party.account_key),
        bob_secrets: hex(&bob.me.secrets.to_bytes()),
        bob_prekeys,
        first_part: hex(&first),
        first_text: "first".into(),
        bob_state_after_reply,
        reply_part: hex(&reply),
        reply_text: "reply".into(),
        third_part: hex(&third),
        third_text: "third".into(),
    }
}

#[test]
fn a_recorded_conversation_still_opens() {
    let v = recorded("session.json", include_str!("vectors/session.json"), record_session());
    let alice = device(&v.alice_secrets, &v.alice_name, &v.alice_account_key);
    let bob = device(&v.bob_secrets, &v.bob_name, &v.bob_account_key);
    let mut sealer = PqSealer::from_seed([0; 32]);
    let mut keys = PrekeySecrets::from_bytes(&unhex(&v.bob_prekeys)).unwrap();
    let mut read =
        |me: &LocalDevice, them: &LocalDevice, state: &mut Option<Vec<u8>>, part: &str| {
            let part = unhex(part);
            let opened = sealer.open(me, &mut keys, &them.party, state, &part, NOW_MS).unwrap();
            String::from_utf8(opened.plaintext).unwrap()
        };
    assert_eq!(read(&bob, &alice, &mut None, &v.first_part), v.first_text);
    let mut state = Some(unhex(&v.alice_state));
    assert_eq!(read(&alice, &bob, &mut state, &v.reply_part), v.reply_text);
    let mut state = Some(unhex(&v.bob_state_after_reply));
    assert_eq!(read(&bob, &alice, &mut state, &v.third_part), v.third_text);
    assert_eq!(keys.usable_one_time(), [3, 4], "the one-time key was used up");
}
