//! What is signed or hashed: envelopes, statements, evidence, records of the DHT, device lists, and
//! the contents that only devices see.

use tidings_node::{judge_record, p2p::Validity};
use tidings_protocol::{
    codec::decode,
    content::{Content, Introduction, Part, PartInside},
    descriptor::{Addresses, Delegation, Descriptor, dht_key},
    device_list::{CheckedList, DeviceList},
    envelope::{EnvelopeHead, shared_hash},
    evidence::{Evidence, TrustRoots, verify},
    limits,
    signed::Signed,
    statement::{Proof, Statement},
};

use crate::agree;
use crate::frames::NOW_MS;

pub(crate) fn envelope(bytes: &[u8]) {
    agree::outlined::<EnvelopeHead>(bytes);
    let Some(head) = agree::read::<EnvelopeHead>(bytes) else { return };
    let (eid, copies) = head.ids(&shared_hash(b"body"));
    assert_eq!(copies.len(), head.targets.len());
    let minute = u32::try_from(head.header.created_ms / 60_000).unwrap_or(u32::MAX);
    assert_eq!(eid.created_minute(), minute);
    let (other, _) = head.ids(&shared_hash(b"other body"));
    assert!(head.targets.is_empty() || other != eid, "the body is not bound");
    if head.check(4).is_ok() {
        assert!((1..=limits::TARGETS_MAX).contains(&head.targets.len()));
        assert!(bytes.len() <= limits::FRAME_BYTES_MAX);
        let life = head.header.expires_ms - head.header.created_ms;
        assert!((1..=limits::MESSAGE_LIFE_MS_MAX).contains(&life));
    }
}

pub(crate) fn statement(bytes: &[u8]) {
    agree::outlined::<Proof>(bytes);
    if let Some(statement) = agree::read::<Statement>(bytes) {
        assert!(!(statement.claim.is_terminal() && statement.claim.name() == "Read"));
        agree::outlined::<Statement>(bytes);
    }
    let Some(proof) = agree::read::<Proof>(bytes) else { return };
    let Ok(checked) = proof.check() else { return };
    agree::shown::<Proof>(bytes);
    assert_eq!(checked.statements.len(), proof.leaves.len());
    for (statement, alone) in &checked.statements {
        assert_eq!(statement.claim.is_by_device(), checked.root.signer.node.is_none());
        let again = alone.check().expect("a statement proves itself alone");
        assert_eq!(again.statements, [(statement.clone(), alone.clone())]);
    }
}

/// Trusts whoever the evidence names, and nobody.
pub(crate) fn evidence(bytes: &[u8]) {
    agree::outlined::<Evidence>(bytes);
    let Some(evidence) = agree::read::<Evidence>(bytes) else { return };
    let nodes = evidence.delegations.iter().filter_map(|signed| Some(signed.peek().ok()?.node));
    let accounts = evidence.lists.iter().filter_map(|signed| Some(signed.peek().ok()?.identity));
    let all = TrustRoots { nodes: nodes.collect(), accounts: accounts.collect() };
    let findings = verify(&evidence, &all);
    let leaves: usize = evidence.proofs.iter().map(|proof| proof.leaves.len()).sum();
    assert_eq!(findings.len(), leaves);
    for finding in &findings {
        assert!(finding.statement.is_some() || finding.verdict.is_err());
    }
    let nobody = verify(&evidence, &TrustRoots::default());
    assert!(
        nobody.iter().all(|finding| finding.verdict.is_err()),
        "proved to one who trusts nobody"
    );
}

/// A record of the table of peers, under its own key and under another.
pub(crate) fn record(bytes: &[u8]) {
    agree::outlined::<Descriptor>(bytes);
    agree::read::<Signed<Delegation>>(bytes);
    agree::read::<Signed<Addresses>>(bytes);
    let read = agree::read::<Descriptor>(bytes);
    let other = judge_record(&[0; 32], bytes, None, NOW_MS);
    assert!(matches!(other, Validity::Invalid), "a record under another key");
    let Ok((descriptor, checked)) = Descriptor::read(bytes, NOW_MS) else { return };
    agree::shown::<Descriptor>(bytes);
    assert_eq!(read.as_ref(), Some(&descriptor));
    assert!(bytes.len() <= limits::DESCRIPTOR_BYTES_MAX);
    let key = dht_key(&checked.node());
    assert!(matches!(judge_record(key.as_bytes(), bytes, None, NOW_MS), Validity::Newer));
    let same = judge_record(key.as_bytes(), bytes, Some(bytes), NOW_MS);
    assert!(matches!(same, Validity::NotNewer), "a record replaces itself");
    let late = judge_record(key.as_bytes(), bytes, None, checked.addresses.expires_ms);
    assert!(matches!(late, Validity::Invalid), "a record outlives itself");
}

/// One list, or two, one behind the other.
pub(crate) fn device_list(bytes: &[u8]) {
    agree::outlined::<Signed<DeviceList>>(bytes);
    agree::read::<Signed<DeviceList>>(bytes);
    let first = decode::<Signed<DeviceList>>(bytes);
    let lists: Vec<Signed<DeviceList>> = match first {
        Ok(list) => vec![list],
        Err(_) => decode(bytes).unwrap_or_default(),
    };
    let mut known: Option<CheckedList> = None;
    for signed in lists.iter().take(limits::LISTS_PER_ANSWER_MAX) {
        let next = match &known {
            None => CheckedList::first_seen(signed),
            Some(before) => before.then(signed),
        };
        let Ok(next) = next else { continue };
        assert!((1..=limits::DEVICES_MAX).contains(&next.list.devices.len()));
        assert!(next.then(signed).is_err(), "a list follows itself");
        if let Some(before) = &known {
            assert_eq!(next.list.version, before.list.version + 1);
            assert_eq!(next.account(), before.account());
        }
        known = Some(next);
    }
}

/// What devices say to each other inside the encryption.
pub(crate) fn content(bytes: &[u8]) {
    agree::outlined::<Content>(bytes);
    agree::read::<Content>(bytes);
    agree::read::<Part>(bytes);
    agree::read::<PartInside>(bytes);
    agree::read::<Introduction>(bytes);
}
