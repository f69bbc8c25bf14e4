//! Device lists, seen first and as successors of a known version.

use data_encoding::HEXLOWER;
use tidings_protocol::{
    codec,
    device_list::{DeviceList, SubkeyCertificate, list_hash},
    id::{AccountId, DeviceId, Hash},
    key::Purpose,
    signed::Signed,
};

use super::{
    Case,
    cast::{Who, device, fill, globex, list_0, list_1, name, signed_list, signed_raw},
    cbor,
};

const RULE: &str = "device_list";

pub(crate) fn cases() -> Vec<Case> {
    [first_seen(), refused_at_first_sight(), successors(), subkeys(), odd_insides()].concat()
}

fn case(reason: &str, expect: &'static str, why: &str, list: &Signed<DeviceList>) -> Case {
    Case::new(RULE, reason, expect, why, codec::encode(list))
}

/// A case whose reader knows version 0.
fn then(reason: &str, expect: &'static str, why: &str, list: &Signed<DeviceList>) -> Case {
    case(reason, expect, why, list).given("known", known())
}

fn known() -> String {
    HEXLOWER.encode(&codec::encode(&signed_list(&list_0())))
}

fn ok(case: Case, list: &Signed<DeviceList>) -> Case {
    case.result("hash", list_hash(list))
}

fn first_seen() -> Vec<Case> {
    let most = DeviceList {
        devices: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12].map(nth_device).to_vec(),
        ..list_0()
    };
    let longest =
        DeviceList { devices: vec![device(Who::AliceLaptop, &"x".repeat(64))], ..list_0() };
    [
        ("version_0", "What joining makes.", list_0()),
        ("version_1", "Seen first, without the one before.", list_1()),
        ("most_devices", "12 devices.", most),
        ("longest_label", "64 bytes.", longest),
    ]
    .map(|(reason, why, list)| {
        let list = signed_list(&list);
        ok(case(reason, "ok", why, &list), &list)
    })
    .to_vec()
}

fn nth_device(n: u8) -> tidings_protocol::device_list::Device {
    let mut device = device(Who::AliceLaptop, "one of many");
    device.key.0 = fill(n);
    device
}

fn refused_at_first_sight() -> Vec<Case> {
    let by_mallory = Signed::new(&list_0(), &Who::Mallory.key());
    let by_device = Signed::new(&list_0(), &Who::AliceLaptop.key());
    let laptop = device(Who::AliceLaptop, "laptop");
    let bad = |reason: &str, expect, why: &str, list: DeviceList| {
        case(reason, expect, why, &signed_list(&list))
    };
    let purpose =
        signed_raw(Purpose::SubkeyCertificate, &Who::AliceAccount.key(), &codec::encode(&list_0()));
    vec![
        case("by_mallory", "signature", "Signed by another key.", &by_mallory),
        case("by_a_device", "signature", "A device key is no account key.", &by_device),
        Case::new(RULE, "other_purpose", "signature", "Signed as a certificate.", purpose),
        bad("no_device", "devices", "None.", DeviceList { devices: Vec::new(), ..list_0() }),
        bad(
            "device_twice",
            "devices",
            "One key under two labels.",
            DeviceList { devices: vec![laptop, device(Who::AliceLaptop, "again")], ..list_0() },
        ),
        bad(
            "too_many_devices",
            "devices",
            "13.",
            DeviceList { devices: (1..=13).map(nth_device).collect(), ..list_0() },
        ),
        bad(
            "long_label",
            "label",
            "65 bytes.",
            DeviceList { devices: vec![device(Who::AliceLaptop, &"x".repeat(65))], ..list_0() },
        ),
        bad(
            "previous_of_nothing",
            "fork",
            "Version 0 follows none.",
            DeviceList { previous: Some(Hash(fill(1))), ..list_0() },
        ),
        bad(
            "no_previous",
            "fork",
            "Version 1 follows one.",
            DeviceList { previous: None, ..list_1() },
        ),
    ]
}

fn successors() -> Vec<Case> {
    let next = signed_list(&list_1());
    let bad = |reason: &str, expect, why: &str, list: DeviceList| {
        then(reason, expect, why, &signed_list(&list))
    };
    let other_account = DeviceList { identity: Who::Mallory.key().public(), ..list_1() };
    let older = case("rollback", "rollback", "Version 0 after version 1.", &signed_list(&list_0()))
        .given("known", HEXLOWER.encode(&codec::encode(&next)));
    vec![
        ok(then("next", "ok", "Version 1 after version 0.", &next), &next),
        older,
        then("same_again", "rollback", "Version 0 after version 0.", &signed_list(&list_0())),
        bad(
            "fork_same_version",
            "fork",
            "Another version 0.",
            DeviceList { issued_ms: 1, ..list_0() },
        ),
        bad(
            "fork_other_previous",
            "fork",
            "Version 1 after another version 0.",
            DeviceList { previous: Some(Hash(fill(1))), ..list_1() },
        ),
        bad("gap", "fork", "Version 2 after version 0.", DeviceList { version: 2, ..list_1() }),
        then(
            "other_account",
            "other_account",
            "Another account key than the pinned one.",
            &Signed::new(&other_account, &Who::Mallory.key()),
        ),
        bad(
            "other_node",
            "other_account",
            "Another node.",
            DeviceList { node: globex(), ..list_1() },
        ),
        bad(
            "other_name",
            "other_account",
            "Another name.",
            DeviceList { name: name("alicia"), ..list_1() },
        ),
    ]
}

/// Version 1, signed by Alice's subkey with this certificate.
fn by_subkey(certificate: &SubkeyCertificate, certifier: Who, signer: Who) -> Signed<DeviceList> {
    let certificate = Signed::new(certificate, &certifier.key());
    Signed::new(&DeviceList { signer: Some(certificate), ..list_1() }, &signer.key())
}

fn subkeys() -> Vec<Case> {
    let laptop = SubkeyCertificate {
        account: AccountId::of(&Who::AliceAccount.key().public()),
        subkey: Who::AliceSubkey.key().public(),
        device: Who::AliceLaptop.device(),
    };
    let phone = SubkeyCertificate { device: Who::AlicePhone.device(), ..laptop.clone() };
    let stranger = SubkeyCertificate { device: DeviceId(fill(9)), ..laptop.clone() };
    let bobs = SubkeyCertificate {
        account: AccountId::of(&Who::BobAccount.key().public()),
        ..laptop.clone()
    };
    let alice = Who::AliceAccount;
    let good = by_subkey(&laptop, alice, Who::AliceSubkey);
    vec![
        ok(then("by_subkey", "ok", "The subkey of a device that was listed.", &good), &good),
        ok(
            case("by_subkey_first_seen", "ok", "The certificate is enough at first sight.", &good),
            &good,
        ),
        then(
            "subkey_of_new_device",
            "subkey_not_allowed",
            "A device may not list itself.",
            &by_subkey(&phone, alice, Who::AliceSubkey),
        ),
        then(
            "subkey_of_unknown_device",
            "subkey_not_allowed",
            "The certificate's device was never listed.",
            &by_subkey(&stranger, alice, Who::AliceSubkey),
        ),
        then(
            "subkey_of_other_account",
            "subkey_not_allowed",
            "The certificate names Bob's account.",
            &by_subkey(&bobs, alice, Who::AliceSubkey),
        ),
        then(
            "certificate_by_subkey",
            "signature",
            "A subkey certifies itself.",
            &by_subkey(&laptop, Who::AliceSubkey, Who::AliceSubkey),
        ),
        then(
            "certified_but_by_another",
            "signature",
            "Mallory signs beside a true certificate.",
            &by_subkey(&laptop, alice, Who::Mallory),
        ),
    ]
}

fn odd_insides() -> Vec<Case> {
    let bytes = codec::encode(&list_0());
    let sealed = |inside: &[u8]| signed_raw(Purpose::DeviceList, &Who::AliceAccount.key(), inside);
    let outer = sealed(&bytes);
    let mut all: Vec<Case> = cbor::odd(RULE, "inside", &bytes, 0, false)
        .into_iter()
        .chain(cbor::broken(RULE, "inside", &bytes, 0))
        .map(|odd| Case { bytes: sealed(&odd.bytes), ..odd })
        .collect();
    let bad = |reason: &str, expect, why: &str, bytes: Vec<u8>| {
        Case::new(RULE, reason, expect, why, bytes)
    };
    let upper = {
        let at = bytes.windows(5).position(|w| w == b"alice").expect("the name");
        [&bytes[..at], b"Alice", &bytes[at + 5..]].concat()
    };
    all.extend([
        bad("inside_bad_name", "malformed", "A name in upper case.", sealed(&upper)),
        bad("truncated", "malformed", "The last byte is missing.", outer[..outer.len() - 1].into()),
        bad("trailing", "trailing", "A byte follows.", [&*outer, &[0]].concat()),
        bad(
            "no_signature",
            "malformed",
            "One element.",
            [&[0x81], &outer[1..outer.len() - 66]].concat(),
        ),
        bad("short_signature", "malformed", "63 bytes.", {
            let at = outer.len() - 66;
            [&outer[..at], &[0x58, 63], &outer[at + 3..]].concat()
        }),
        bad("not_bytes", "malformed", "The list itself instead of its bytes.", {
            [&[0x82], &*bytes, &outer[outer.len() - 66..]].concat()
        }),
    ]);
    all
}
