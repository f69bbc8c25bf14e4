//! Envelopes, with the ids that everybody must compute from them.

use bytes::Bytes;
use tidings_protocol::{
    codec,
    envelope::{Auth, Class, EnvelopeHead, Recipient, RequestNonce, Target, shared_hash},
    id::DeviceId,
};

use super::{
    Case,
    cast::{HOUR_MS, NOW_MS, SHARED, Who, fill, head, header, target},
    cbor,
};

const RULE: &str = "envelope_head";

pub(crate) fn cases() -> Vec<Case> {
    let bytes = codec::encode(&head());
    [
        taken(),
        refused(),
        cbor::broken(RULE, "", &bytes, 0),
        cbor::odd(RULE, "", &bytes, 0, true),
        odd_bytes(),
    ]
    .concat()
}

fn case(reason: &str, expect: &'static str, why: &str, head: &EnvelopeHead) -> Case {
    Case::new(RULE, reason, expect, why, codec::encode(head))
        .given("shared", data_encoding::HEXLOWER.encode(SHARED))
}

fn ok(reason: &str, why: &str, head: &EnvelopeHead) -> Case {
    let (eid, copies) = head.ids(&shared_hash(SHARED));
    let copies: Vec<String> = copies.iter().map(ToString::to_string).collect();
    case(reason, "ok", why, head).result("eid", eid).result("copies", copies.join(" "))
}

fn taken() -> Vec<Case> {
    let request = Target { auth: Some(Auth::Request(RequestNonce(fill(0)))), ..to_device(1) };
    let mut other_auth = head();
    other_auth.targets[1].auth = Some(Auth::Request(RequestNonce(fill(9))));
    let mut longest = head();
    longest.header.expires_ms = NOW_MS + 30 * 24 * HOUR_MS;
    let mut receipt = head();
    receipt.header.class = Class::Receipt;
    vec![
        ok("device_and_slot", "Two targets.", &head()),
        ok(
            "auth_is_outside_the_ids",
            "As device_and_slot with another auth: the same ids.",
            &other_auth,
        ),
        ok("stranger", "One target, admitted as a request.", &with_targets(vec![request])),
        ok("receipt", "Another class, other ids.", &receipt),
        ok("longest_life", "30 days to the millisecond.", &longest),
        ok("most_targets", "24 targets.", &with_targets((0..24).map(to_device).collect())),
    ]
}

fn refused() -> Vec<Case> {
    let with = |change: fn(&mut EnvelopeHead)| {
        let mut head = head();
        change(&mut head);
        head
    };
    vec![
        case("version_2", "version", "Made for a later version.", &with(|h| h.header.version = 2)),
        case("no_target", "targets", "For nobody.", &with(|h| h.targets.clear())),
        case(
            "target_twice",
            "targets",
            "A device may have one part of an envelope.",
            &with(|h| h.targets[1].to = Recipient::Device(Who::BobPhone.device())),
        ),
        case("too_many_targets", "targets", "25.", &with_targets((0..25).map(to_device).collect())),
        case(
            "no_life",
            "life",
            "Expires when it is made.",
            &with(|h| h.header.expires_ms = NOW_MS),
        ),
        case("past_life", "life", "Expires before.", &with(|h| h.header.expires_ms = NOW_MS - 1)),
        case(
            "long_life",
            "life",
            "A millisecond over 30 days.",
            &with(|h| h.header.expires_ms = NOW_MS + 30 * 24 * HOUR_MS + 1),
        ),
        case(
            "too_large",
            "too_large",
            "A part of 60 KiB leaves no room for the rest.",
            &with(|h| h.targets[0].part = Bytes::from(vec![0; 60 * 1024])),
        ),
    ]
}

fn odd_bytes() -> Vec<Case> {
    let bytes = codec::encode(&head());
    let bad = |reason: &str, why: &str, from: &[u8], to: &[u8]| {
        Case::new(RULE, reason, "malformed", why, replace(&bytes, from, to))
    };
    let device = [&[0x82, 0x01, 0x50][..], Who::BobPhone.device().as_bytes()].concat();
    let short = [&[0x82, 0x01, 0x4f][..], &Who::BobPhone.device().as_bytes()[..15]].concat();
    let third = [&[0x82, 0x03, 0x50][..], Who::BobPhone.device().as_bytes()].concat();
    vec![
        bad("short_device_id", "15 bytes.", &device, &short),
        bad("unknown_recipient_kind", "No kind has the number 3.", &device, &third),
        bad(
            "unknown_class",
            "No class has the number 4.",
            &[0x05, 0x01, 0x01, 0x82],
            &[0x05, 0x04, 0x01, 0x82],
        ),
        Case::new(RULE, "header_alone", "malformed", "No targets.", codec::encode(&header())),
    ]
}

/// `bytes` with the first `from` replaced.
fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|window| window == from).expect("the pattern");
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

fn to_device(n: u8) -> Target {
    target(Recipient::Device(DeviceId(fill(n))))
}

fn with_targets(targets: Vec<Target>) -> EnvelopeHead {
    EnvelopeHead { targets, ..head() }
}
