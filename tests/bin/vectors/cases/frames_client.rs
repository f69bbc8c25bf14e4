//! Every frame of a device, whole and broken; and what is broken in all three unions alike.

use bytes::Bytes;
use serde::Serialize;
use tidings_protocol::{
    bundle::PrekeyUpload,
    client_frame::{
        ClientFrame, FetchBundle, InviteSecret, Join, Noted, Ping, PublishList, PublishPrekeys,
        Received, ReceivedItem, Resolve, ShowLists, Submit,
    },
    codec,
    domain::Domain,
    hello::ClientHello,
    id::SubmitId,
    key::Purpose,
};

use super::{
    Case,
    cast::{
        Who, bundle, delivered, fill, globex, head, ids, list_0, list_1, mark, name, one_time,
        signed_list,
    },
    cbor,
    hello::{challenge, client_hello, signed},
};

const RULE: &str = "client_frame";

pub(crate) fn cases() -> Vec<Case> {
    let mut all: Vec<Case> = [links(), requests()]
        .concat()
        .iter()
        .flat_map(|(reason, why, frame)| frame_cases(RULE, reason, why, frame))
        .collect();
    all.extend(any_union(RULE));
    let ping = codec::encode(&ClientFrame::Ping(Ping { number: 5 }));
    let noted = codec::encode(&ClientFrame::Noted(noted()));
    let bad =
        |reason: &str, why: &str, bytes: Vec<u8>| Case::new(RULE, reason, "malformed", why, bytes);
    let value = |value: &[u8]| cbor::with_first_value(&ping, 2, value);
    all.extend([
        bad("ping_negative", "Numbers are unsigned.", value(&[0x20])),
        bad("ping_float", "A float is no number here.", value(&[0xf9, 0x3c, 0x00])),
        bad("ping_null", "Null is no number.", value(&[0xf6])),
        bad(
            "ping_bignum",
            "A tagged big number of 2^64.",
            value(&[0xc2, 0x49, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
        ),
        bad("negative_key", "Keys are unsigned.", cbor::with_first_key(&ping, 2, &[0x20])),
        bad("text_key", "Keys are numbers.", cbor::with_first_key(&ping, 2, b"\x610")),
        bad(
            "noted_giant_array",
            "2^64 - 1 elements are claimed, none follows.",
            cbor::with_first_value(&noted, 2, &[0x9b, 255, 255, 255, 255, 255, 255, 255, 255]),
        ),
        bad(
            "submit_giant_id",
            "4 GiB of id are claimed.",
            vec![0x82, 3, 0xa1, 0, 0x5a, 0xff, 0xff, 0xff, 0xff],
        ),
        bad(
            "submit_short_id",
            "15 bytes.",
            [&[0x82, 3, 0xa2, 0, 0x4f][..], &[1; 15], &[1, 0x80]].concat(),
        ),
        bad("fetch_bad_name", "A name in upper case.", upper_case_name()),
        bad("resolve_upper_case", "On a link a domain has one form.", odd_domain(b"Globex")),
        bad("resolve_empty_label", "Two dots.", odd_domain(b"gl..ex")),
        bad("resolve_underscore", "No host has one.", odd_domain(b"glo_ex")),
        bad("resolve_not_ascii", "Only the encoded form travels.", odd_domain(b"gl\xc3\xb6be")),
        bad("resolve_not_utf_8", "No text.", odd_domain(b"glo\xffex")),
    ]);
    all
}

fn noted() -> Noted {
    Noted { notes: vec![3, 4], mine: mark(0x87) }
}

fn upper_case_name() -> Vec<u8> {
    let bytes = codec::encode(&fetch(None));
    let at = bytes.windows(3).position(|w| w == b"bob").expect("the name");
    [&bytes[..at], b"Bob", &bytes[at + 3..]].concat()
}

type Sample = (&'static str, &'static str, ClientFrame);

fn links() -> Vec<Sample> {
    let first = signed(ClientHello { yours: None, ..client_hello() });
    let join = Join {
        request: 1,
        invite: InviteSecret(fill(0x91)),
        list: signed_list(&list_0()),
        proof: Who::AliceLaptop.key().sign(Purpose::Join, &challenge().nonce.0),
    };
    let shown = |lists, invite| ClientFrame::ShowLists(ShowLists { request: 6, lists, invite });
    let lists = vec![signed_list(&list_0()), signed_list(&list_1())];
    vec![
        ("show_lists", "The newest version.", shown(vec![signed_list(&list_1())], None)),
        (
            "show_lists_invite",
            "All versions, to a node that has forgotten the account.",
            shown(lists, Some(InviteSecret(fill(0x91)))),
        ),
        ("hello", "With every mark.", ClientFrame::Hello(client_hello())),
        ("hello_first", "Without a mark of the node.", ClientFrame::Hello(first)),
        ("join", "Alice joins acme.", ClientFrame::Join(join)),
        ("ping", "Keep-alive.", ClientFrame::Ping(Ping { number: u64::MAX })),
    ]
}

fn fetch(known_version: Option<u64>) -> ClientFrame {
    ClientFrame::FetchBundle(FetchBundle {
        request: 2,
        node: globex(),
        name: name("bob"),
        known_version,
        with_bundles: true,
    })
}

fn resolve(domain: &str) -> ClientFrame {
    let domain = Domain::parse(domain).expect("a domain");
    ClientFrame::Resolve(Resolve { request: 5, domain })
}

/// The frame with another text of the same length in place of `globex`.
fn odd_domain(text: &[u8; 6]) -> Vec<u8> {
    let bytes = codec::encode(&resolve("globex.example"));
    let at = bytes.windows(6).position(|w| w == b"globex").expect("the domain");
    [&bytes[..at], text, &bytes[at + 6..]].concat()
}

fn requests() -> Vec<Sample> {
    let (_, copies) = ids();
    let received = Received {
        items: vec![ReceivedItem { inbox: 7, copy: copies[0] }],
        proof: delivered(),
        mine: mark(0x86),
    };
    let upload = PrekeyUpload { fallback: bundle(None), one_time: vec![one_time(1), one_time(2)] };
    let submit =
        Submit { submit: SubmitId(fill(0x92)), heads: vec![head(), head()], mine: mark(0x84) };
    vec![
        ("submit", "Two envelopes of one message.", ClientFrame::Submit(submit)),
        ("received", "One copy is on disk.", ClientFrame::Received(received)),
        ("noted", "Two notes are on disk.", ClientFrame::Noted(noted())),
        ("fetch_bundle", "A known version.", fetch(Some(2))),
        ("resolve", "A domain.", resolve("globex.example")),
        ("fetch_bundle_first", "Nothing is known yet.", fetch(None)),
        (
            "publish_prekeys",
            "A bundle and two one-time keys.",
            ClientFrame::PublishPrekeys(PublishPrekeys { request: 3, upload }),
        ),
        (
            "publish_list",
            "Version 1.",
            ClientFrame::PublishList(PublishList { request: 4, list: signed_list(&list_1()) }),
        ),
    ]
}

/// A frame as it is, broken, and with an unknown key, which readers of frames pass over.
pub(crate) fn frame_cases<T: Serialize>(
    rule: &'static str,
    reason: &str,
    why: &str,
    frame: &T,
) -> Vec<Case> {
    let bytes = codec::encode(frame);
    let mut all = vec![Case::new(rule, reason, "ok", why, &*bytes)];
    all.extend(cbor::broken(rule, reason, &bytes, 2));
    let odd = cbor::odd(rule, reason, &bytes, 2, true);
    // Maps of one key have no order to break.
    all.extend(odd.into_iter().filter(|case| case.bytes != bytes).take(1));
    all
}

/// What ends, or does not end, every link alike.
pub(crate) fn any_union(rule: &'static str) -> Vec<Case> {
    let case =
        |reason: &str, expect, why: &str, bytes: &[u8]| Case::new(rule, reason, expect, why, bytes);
    let bomb = [&[0x82, 9, 0xa2, 0, 5, 0x18, 99][..], &cbor::depth_bomb()].concat();
    let bombs = [&[0x82, 9][..], &cbor::depth_bomb()].concat();
    vec![
        case("empty", "malformed", "No bytes.", &[]),
        case("null", "malformed", "Null.", &[0xf6]),
        case("no_tag", "malformed", "An empty array.", &[0x80]),
        case("no_payload", "malformed", "A number alone.", &[0x81, 9]),
        case(
            "three_elements",
            "malformed",
            "More than number and payload.",
            &[0x83, 1, 0xa1, 0, 5, 0],
        ),
        case("bare_map", "malformed", "A payload without number.", &[0xa1, 0, 5]),
        case("text_tag", "malformed", "Frames have numbers.", &[0x82, 0x61, 0x39, 0xa1, 0, 5]),
        case(
            "unknown_tag",
            "unknown_tag",
            "A frame of a later version: skipped.",
            &[0x82, 23, 0xa1, 0, 5],
        ),
        case(
            "unknown_tag_zero",
            "unknown_tag",
            "No frame has the number 0.",
            &[0x82, 0, 0xa1, 0, 5],
        ),
        case("unknown_tag_long", "unknown_tag", "A number of two bytes.", &[0x82, 0x18, 200, 0xa0]),
        case(
            "unknown_tag_of_anything",
            "unknown_tag",
            "Nobody looks behind an unknown number.",
            &[0x82, 23, 0xff],
        ),
        case(
            "depth_bomb_unknown_key",
            "malformed",
            "200 arrays under a key that is passed over.",
            &bomb,
        ),
        case("depth_bomb", "malformed", "200 arrays.", &bombs),
        case("garbage", "malformed", "A reserved byte.", &Bytes::from_static(&[0x1c, 0x1d])),
    ]
}
