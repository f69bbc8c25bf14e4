//! What is inside the encryption.

use bytes::Bytes;
use serde::Serialize;
use tidings_protocol::{
    codec,
    content::{
        Body, ChatParty, Content, ContentKey, Head, Introduction, ListEcho, Part, PartInside,
        ReadMarks, Repair, SessionTag, Sibling, SiblingCopy, Text,
    },
    id::{AccountId, ChatId, Hash, MsgId},
    key::Signature,
    statement::Claim,
};

use super::{
    Case,
    cast::{
        NOW_MS, Who, acme, bob_stance, fill, globex, ids, list_0, name, sign, signed_list,
        statement,
    },
    cbor,
};

pub(crate) fn cases() -> Vec<Case> {
    let introduction =
        Introduction { list: signed_list(&list_0()), device: Who::AliceLaptop.device() };
    let mut all = [parts(), insides(), contents()].concat();
    all.extend(map_cases("introduction", "alice", "Alice's list and laptop.", &introduction));
    all
}

/// A value as it is, broken, and odd.
fn map_cases<T: Serialize>(rule: &'static str, name: &str, why: &str, value: &T) -> Vec<Case> {
    let bytes = codec::encode(value);
    let mut all = vec![Case::new(rule, name, "ok", why, &*bytes)];
    all.extend(cbor::broken(rule, name, &bytes, 0));
    all.extend(cbor::odd(rule, name, &bytes, 0, true));
    all
}

fn ok<T: Serialize>(rule: &'static str, name: &str, why: &str, value: &T) -> Case {
    Case::new(rule, name, "ok", why, codec::encode(value))
}

fn parts() -> Vec<Case> {
    let later = Part {
        session: SessionTag(fill(0xa1)),
        introduction: None,
        sealed: Bytes::from_static(b"sealed by the session"),
    };
    let first =
        Part { introduction: Some(Bytes::from_static(b"sealed to the device")), ..later.clone() };
    let mut all = map_cases("part", "first", "Until the receiver has answered.", &first);
    all.push(ok("part", "later", "After that.", &later));
    all
}

fn insides() -> Vec<Case> {
    let (eid, copies) = ids();
    let to_bob = PartInside {
        key: ContentKey(fill(0xa2)),
        content_hash: Hash(fill(0xa3)),
        session_key: None,
        signature: Signature(fill(0xa4)),
        siblings: Vec::new(),
    };
    let copies = copies
        .into_iter()
        .map(|copy| SiblingCopy { copy, device: Who::BobPhone.device() })
        .collect();
    let to_self = PartInside {
        session_key: Some(Who::AliceSubkey.key().public()),
        siblings: vec![Sibling { eid, copies }],
        ..to_bob.clone()
    };
    let mut all = map_cases("part_inside", "own_device", "With its siblings.", &to_self);
    all.push(ok("part_inside", "other_device", "Without.", &to_bob));
    all
}

fn content(body: Body) -> Content {
    let alice = AccountId::of(&Who::AliceAccount.key().public());
    let bob = AccountId::of(&Who::BobAccount.key().public());
    Content {
        msg: MsgId(fill(0xa5)),
        chat: ChatId::of_two(&alice, &bob),
        parties: vec![
            ChatParty { node: acme(), name: name("alice") },
            ChatParty { node: globex(), name: name("bob") },
        ],
        account: alice,
        device: Who::AliceLaptop.device(),
        sequence: 2,
        previous: Some(Hash(fill(0xa6))),
        heads: vec![Head { device: Who::BobPhone.device(), sequence: 4, msg: MsgId(fill(7)) }],
        created_ms: NOW_MS,
        expires_ms: NOW_MS + 1,
        echoes: vec![ListEcho { account: bob, version: 3, hash: Hash(fill(0x51)) }],
        body,
    }
}

fn contents() -> Vec<Case> {
    let text = |text: &str, reply_to| content(Body::Text(Text { text: text.to_owned(), reply_to }));
    let read = ReadMarks {
        messages: vec![MsgId(fill(0xa5))],
        proof: sign(&[statement(Claim::Read)], &bob_stance(), Who::BobPhone),
    };
    let first = Content { sequence: 1, previous: None, heads: Vec::new(), ..text("hello", None) };
    let reply = text("gr\u{fc}\u{df} dich \u{1f44b}", Some(MsgId(fill(1))));
    let mut all = map_cases("content", "text", "An answer, with everything.", &reply);
    all.extend([
        ok("content", "first", "The first message of a chat.", &first),
        ok("content", "longest", "16 KiB.", &text(&"a".repeat(16 * 1024), None)),
        ok("content", "read", "Blue ticks.", &content(Body::Read(read))),
        ok("content", "repair", "Says nothing.", &content(Body::Repair(Repair { lost: ids().1 }))),
    ]);
    let bytes = codec::encode(&first);
    let at = bytes.windows(5).position(|w| w == b"hello").expect("the text");
    let bad = |reason: &str, why: &str, bytes: Vec<u8>| {
        Case::new("content", reason, "malformed", why, bytes)
    };
    all.push(bad(
        "not_utf_8",
        "Text is UTF-8.",
        [&bytes[..at], &[0xff], &bytes[at + 1..]].concat(),
    ));
    // The body is the last value: [1, {0: "hello"}].
    let tag = at - 4;
    all.push(bad(
        "unknown_body",
        "No body has the number 9.",
        [&bytes[..tag], &[9], &bytes[tag + 1..]].concat(),
    ));
    all
}
