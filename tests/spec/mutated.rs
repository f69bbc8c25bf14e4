//! Valid frames with some bytes changed: reading them never panics, and what is read is written back
//! to something that reads the same.

use proptest::prelude::*;
use serde::{Serialize, de::DeserializeOwned};
use tidings_protocol::{
    client_frame::{ClientFrame, NodeFrame},
    codec,
    content::{Content, Part, PartInside},
    descriptor::Descriptor,
    device_list::{CheckedList, DeviceList},
    envelope::{EnvelopeHead, shared_hash},
    frame::Frame,
    peer_frame::PeerFrame,
    signed::Signed,
    statement::Proof,
};

use crate::{Vector, vectors};

/// One change of some bytes.
#[derive(Clone, Debug)]
enum Change {
    Set(usize, u8),
    Flip(usize, u8),
    Remove(usize),
    Insert(usize, u8),
    Cut(usize),
    Double(usize, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let at = || 0..4096usize;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        (at(), 0..8u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        at().prop_map(Change::Remove),
        (at(), any::<u8>()).prop_map(|(at, byte)| Change::Insert(at, byte)),
        at().prop_map(Change::Cut),
        (at(), 1..64usize).prop_map(|(at, len)| Change::Double(at, len)),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    let len = bytes.len();
    if len == 0 {
        return;
    }
    match *change {
        Change::Set(at, byte) => bytes[at % len] = byte,
        Change::Flip(at, bit) => bytes[at % len] ^= 1 << bit,
        Change::Remove(at) => drop(bytes.remove(at % len)),
        Change::Insert(at, byte) => bytes.insert(at % len, byte),
        Change::Cut(at) => bytes.truncate(at % len),
        Change::Double(at, size) => {
            let at = at % len;
            let piece = bytes[at..(at + size).min(len)].to_vec();
            bytes.splice(at..at, piece);
        }
    }
}

/// What is read is written in a form that reads as the same value, and only in that form.
fn read<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> Option<T> {
    let value: T = codec::decode(bytes).ok()?;
    let canonical = codec::encode(&value);
    let again: T = codec::decode_canonical(&canonical).expect("our own form");
    assert_eq!(again, value);
    assert_eq!(codec::decode_canonical::<T>(bytes).is_ok(), canonical == bytes);
    Some(value)
}

/// Reads bytes as everything there is, with every check that a reader makes.
fn read_all(bytes: &[u8]) {
    read::<ClientFrame>(bytes);
    read::<NodeFrame>(bytes);
    read::<PeerFrame>(bytes);
    read::<Part>(bytes);
    read::<PartInside>(bytes);
    read::<Content>(bytes);
    if let Some(proof) = read::<Proof>(bytes)
        && let Ok(checked) = proof.check()
    {
        assert_eq!(checked.statements.len(), proof.leaves.len());
    }
    if let Some(list) = read::<Signed<DeviceList>>(bytes) {
        let _checked = CheckedList::first_seen(&list).is_ok();
    }
    if let Some(head) = read::<EnvelopeHead>(bytes) {
        let fits = head.check(1000).is_ok();
        let (_, copies) = head.ids(&shared_hash(b"x"));
        assert!(!fits || copies.len() == head.targets.len());
    }
    if let Ok((descriptor, _)) = Descriptor::read(bytes, 1_800_000_000_000) {
        assert_eq!(descriptor.encode(), bytes);
    }
    if let Ok(frame) = Frame::decode(bytes.to_vec().into()) {
        assert_eq!(frame.encode().expect("a frame that was read"), bytes);
    }
}

fn seeds() -> Vec<Vec<u8>> {
    vectors().iter().filter(|(_, _, v)| v.is_ok()).map(|(_, _, v)| Vector::bytes(v)).collect()
}

#[test]
fn every_vector_may_be_read_as_anything() {
    for (_, _, vector) in vectors() {
        read_all(&vector.bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_bytes_never_panic(
        (seed, changes) in (any::<prop::sample::Index>(), prop::collection::vec(change(), 1..6))
    ) {
        static SEEDS: std::sync::OnceLock<Vec<Vec<u8>>> = std::sync::OnceLock::new();
        let mut bytes = seed.get(SEEDS.get_or_init(seeds)).clone();
        for change in &changes {
            apply(&mut bytes, change);
        }
        read_all(&bytes);
    }

    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        read_all(&bytes);
    }
}
