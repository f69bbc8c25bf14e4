//! Descriptors: who a node is and where.

use tidings_protocol::{
    codec,
    descriptor::{Addresses, Delegation, Descriptor, NodeState, Transport},
    key::Purpose,
    signed::Signed,
};

use super::{
    Case,
    cast::{HOUR_MS, NOW_MS, Who, acme, addresses, delegation, descriptor, globex, signed_raw},
    cbor,
};

const RULE: &str = "descriptor";

pub(crate) fn cases() -> Vec<Case> {
    let bytes = codec::encode(&descriptor());
    [
        taken(),
        badly_signed(),
        dated(),
        too_many(),
        odd_insides(),
        cbor::broken(RULE, "", &bytes, 0),
        cbor::odd(RULE, "", &bytes, 0, false),
    ]
    .concat()
}

fn raw(reason: &str, expect: &'static str, why: &str, bytes: Vec<u8>) -> Case {
    Case::new(RULE, reason, expect, why, bytes).given("now_ms", NOW_MS)
}

fn case(reason: &str, expect: &'static str, why: &str, descriptor: &Descriptor) -> Case {
    raw(reason, expect, why, codec::encode(descriptor))
}

fn made(delegation: &Delegation, addresses: &Addresses) -> Descriptor {
    Descriptor::sign(Signed::new(delegation, &Who::AcmeRoot.key()), addresses, &Who::Acme.key())
}

fn taken() -> Vec<Case> {
    let ok = |reason: &str, why: &str, descriptor: &Descriptor| {
        case(reason, "ok", why, descriptor).result("node", acme())
    };
    let bare = Delegation { custodians: Vec::new(), domains: Vec::new(), ..delegation() };
    let away = Addresses { transports: Vec::new(), state: NodeState::Retired, ..addresses() };
    let last = Addresses { expires_ms: NOW_MS + 48 * HOUR_MS, ..addresses() };
    vec![
        ok("acme", "The usual.", &descriptor()),
        ok("bare", "No custodian, domain or transport.", &made(&bare, &away)),
        ok("48_hours", "The longest life.", &made(&delegation(), &last)),
        ok("last_millisecond", "Still valid.", &descriptor())
            .given("now_ms", addresses().expires_ms - 1),
    ]
}

fn badly_signed() -> Vec<Case> {
    let (root, operational) = (Who::AcmeRoot.key(), Who::Acme.key());
    let by_mallory = Descriptor::sign(
        Signed::new(&delegation(), &Who::Mallory.key()),
        &addresses(),
        &operational,
    );
    let addresses_by_root =
        Descriptor::sign(Signed::new(&delegation(), &root), &addresses(), &root);
    let addresses_by_mallory =
        Descriptor::sign(Signed::new(&delegation(), &root), &addresses(), &Who::Mallory.key());
    let of_globex = Addresses { node: globex(), ..addresses() };
    let stolen = Delegation { node: globex(), ..delegation() };
    let other_purpose = [
        &[0xa2, 0x00][..],
        &signed_raw(Purpose::Addresses, &root, &codec::encode(&delegation())),
        &[0x01],
        &signed_raw(Purpose::Addresses, &operational, &codec::encode(&addresses())),
    ]
    .concat();
    vec![
        case("wrong_root_signature", "signature", "The delegation is by Mallory.", &by_mallory),
        case("addresses_by_root", "signature", "Only the operational key may.", &addresses_by_root),
        case(
            "addresses_by_another",
            "signature",
            "The addresses are by Mallory.",
            &addresses_by_mallory,
        ),
        case(
            "stolen_name",
            "signature",
            "Acme's root key signs for globex.",
            &made(&stolen, &of_globex),
        ),
        case(
            "two_nodes",
            "wrong_node",
            "The halves name two nodes.",
            &made(&delegation(), &of_globex),
        ),
        raw("other_purpose", "signature", "The delegation is signed as addresses.", other_purpose),
    ]
}

fn dated() -> Vec<Case> {
    let over = Delegation { not_after_ms: NOW_MS, ..delegation() };
    let ahead = Addresses { expires_ms: NOW_MS + 48 * HOUR_MS + 600_001, ..addresses() };
    let skew = Addresses { expires_ms: NOW_MS + 48 * HOUR_MS + 600_000, ..addresses() };
    vec![
        case(
            "delegation_expired",
            "expired",
            "The delegation ends now.",
            &made(&over, &addresses()),
        ),
        case("addresses_expired", "expired", "The addresses end now.", &descriptor())
            .given("now_ms", addresses().expires_ms),
        case(
            "too_far_ahead",
            "too_far_ahead",
            "A millisecond over 48 h 10 min.",
            &made(&delegation(), &ahead),
        ),
        case(
            "skewed_clock",
            "ok",
            "48 h and the allowed error of a clock.",
            &made(&delegation(), &skew),
        )
        .result("node", acme()),
    ]
}

fn too_many() -> Vec<Case> {
    let custodians = Delegation { custodians: vec![globex(); 5], ..delegation() };
    let domains = Delegation { domains: vec!["a.example".to_owned(); 9], ..delegation() };
    let transport = Transport { peer_id: vec![1].into(), multiaddrs: Vec::new() };
    let transports = Addresses { transports: vec![transport.clone(); 9], ..addresses() };
    let many = Transport { multiaddrs: vec!["/dns/a.example".to_owned(); 9], ..transport };
    let multiaddrs = Addresses { transports: vec![many], ..addresses() };
    let large = Delegation { domains: vec!["a".repeat(300); 8], ..delegation() };
    vec![
        case("too_many_custodians", "too_many", "5.", &made(&custodians, &addresses())),
        case("too_many_domains", "too_many", "9.", &made(&domains, &addresses())),
        case("too_many_transports", "too_many", "9.", &made(&delegation(), &transports)),
        case(
            "too_many_multiaddrs",
            "too_many",
            "9 of one transport.",
            &made(&delegation(), &multiaddrs),
        ),
        case("too_large", "too_large", "Over 2,048 bytes.", &made(&large, &addresses())),
    ]
}

/// Truly signed halves that are not in canonical form.
fn odd_insides() -> Vec<Case> {
    let (root, operational) = (Who::AcmeRoot.key(), Who::Acme.key());
    let (first, second) = (codec::encode(&delegation()), codec::encode(&addresses()));
    let joined = |first: &[u8], second: &[u8]| {
        [
            &[0xa2, 0x00][..],
            &signed_raw(Purpose::Delegation, &root, first),
            &[0x01],
            &signed_raw(Purpose::Addresses, &operational, second),
        ]
        .concat()
    };
    let with_now = |odd: Case, bytes| Case { bytes, ..odd }.given("now_ms", NOW_MS);
    let mut all = Vec::new();
    for odd in cbor::odd(RULE, "delegation", &first, 0, false) {
        let bytes = joined(&odd.bytes, &second);
        all.push(with_now(odd, bytes));
    }
    for odd in cbor::odd(RULE, "addresses", &second, 0, false) {
        let bytes = joined(&first, &odd.bytes);
        all.push(with_now(odd, bytes));
    }
    all
}
