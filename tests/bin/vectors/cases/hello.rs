//! Proof of key on the link between device and node, both ways.

use data_encoding::HEXLOWER;
use tidings_protocol::{
    codec,
    hello::{Challenge, ClientHello, Welcome, client_transcript, node_transcript},
    id::Nonce,
    key::{Purpose, Signature},
};

use super::{
    Case,
    cast::{NOW_MS, Who, acme, descriptor, fill, globex, mark},
};

pub(crate) fn cases() -> Vec<Case> {
    [client(), node()].concat()
}

pub(crate) fn challenge() -> Challenge {
    Challenge { version: 1, node: acme(), nonce: Nonce(fill(0x81)) }
}

/// Alice's laptop to acme.
pub(crate) fn client_hello() -> ClientHello {
    signed(ClientHello {
        version: 1,
        node: acme(),
        device: Who::AliceLaptop.device(),
        nonce: Nonce(fill(0x82)),
        yours: Some(mark(0x83)),
        mine: mark(0x84),
        signature: Signature(fill(0)),
    })
}

/// The hello, signed as it stands.
pub(crate) fn signed(mut hello: ClientHello) -> ClientHello {
    let transcript = client_transcript(&challenge(), &hello);
    hello.signature = Who::AliceLaptop.key().sign(Purpose::ClientHello, &transcript.0);
    hello
}

/// Acme's answer.
pub(crate) fn welcome() -> Welcome {
    welcomed(Welcome {
        descriptor: descriptor(),
        incarnation: 7,
        mine: mark(0x85),
        yours: Some(mark(0x84)),
        time_ms: NOW_MS,
        one_time_left: 40,
        list_version: 1,
        signature: Signature(fill(0)),
    })
}

pub(crate) fn welcomed(mut welcome: Welcome) -> Welcome {
    let transcript = node_transcript(&challenge(), &client_hello(), &welcome);
    welcome.signature = Who::Acme.key().sign(Purpose::NodeHello, &transcript.0);
    welcome
}

fn client() -> Vec<Case> {
    let case = |reason: &str, expect, why: &str, hello: &ClientHello| {
        Case::new("client_hello", reason, expect, why, codec::encode(hello))
            .given("challenge", HEXLOWER.encode(&codec::encode(&challenge())))
            .given("key", Who::AliceLaptop.key().public())
    };
    let ok = |reason: &str, why: &str, hello: &ClientHello| {
        case(reason, "ok", why, hello).result("transcript", client_transcript(&challenge(), hello))
    };
    let bad = |reason: &str, why: &str, change: fn(&mut ClientHello)| {
        let mut hello = client_hello();
        change(&mut hello);
        case(reason, "signature", why, &hello)
    };
    let first = signed(ClientHello { yours: None, ..client_hello() });
    let newer = signed(ClientHello { version: 2, ..client_hello() });
    let elsewhere = signed(ClientHello { node: globex(), ..client_hello() });
    let transcript = client_transcript(&challenge(), &client_hello());
    let as_join = Who::AliceLaptop.key().sign(Purpose::Join, &transcript.0);
    let as_node = Who::AliceLaptop.key().sign(Purpose::NodeHello, &transcript.0);
    let replayed = Challenge { nonce: Nonce(fill(0x99)), ..challenge() };
    vec![
        ok("laptop", "The usual.", &client_hello()),
        ok("first_visit", "The device knows no mark of the node.", &first),
        case("version_2", "version", "A later version.", &newer),
        case("to_globex", "wrong_node", "Meant for another node, truly signed.", &elsewhere),
        bad("other_mark", "The mark was changed on the way.", |h| h.mine.commit += 1),
        bad("mark_taken_away", "A mark was taken away.", |h| h.yours = None),
        bad("other_nonce", "The device's nonce was changed.", |h| h.nonce.0[0] ^= 1),
        bad("other_device", "Another device's id.", |h| h.device = Who::BobPhone.device()),
        bad("bent_signature", "One bit.", |h| h.signature.0[0] ^= 1),
        case(
            "purpose_of_join",
            "signature",
            "Signed as a join.",
            &ClientHello { signature: as_join, ..client_hello() },
        ),
        case(
            "purpose_of_node",
            "signature",
            "Signed as a node's answer.",
            &ClientHello { signature: as_node, ..client_hello() },
        ),
        case("replayed", "signature", "An old hello under a new challenge.", &client_hello())
            .given("challenge", HEXLOWER.encode(&codec::encode(&replayed))),
    ]
}

fn node() -> Vec<Case> {
    let case = |reason: &str, expect, why: &str, welcome: &Welcome| {
        Case::new("welcome", reason, expect, why, codec::encode(welcome))
            .given("challenge", HEXLOWER.encode(&codec::encode(&challenge())))
            .given("hello", HEXLOWER.encode(&codec::encode(&client_hello())))
            .given("now_ms", NOW_MS)
    };
    let ok = |reason: &str, why: &str, welcome: &Welcome| {
        let transcript = node_transcript(&challenge(), &client_hello(), welcome);
        case(reason, "ok", why, welcome).result("transcript", transcript)
    };
    let bad = |reason: &str, why: &str, change: fn(&mut Welcome)| {
        let mut welcome = welcome();
        change(&mut welcome);
        case(reason, "signature", why, &welcome)
    };
    let transcript = node_transcript(&challenge(), &client_hello(), &welcome());
    let by = |who: Who| Welcome {
        signature: who.key().sign(Purpose::NodeHello, &transcript.0),
        ..welcome()
    };
    vec![
        ok("acme", "The usual.", &welcome()),
        ok(
            "first_visit",
            "The node knows no mark of the device.",
            &welcomed(Welcome { yours: None, ..welcome() }),
        ),
        case(
            "by_root",
            "signature",
            "The root key is not the operational one.",
            &by(Who::AcmeRoot),
        ),
        case("by_globex", "signature", "Another node with acme's descriptor.", &by(Who::Globex)),
        bad("other_incarnation", "A rollback was hidden.", |w| w.incarnation += 1),
        bad("other_time", "The clock was changed.", |w| w.time_ms += 1),
        bad("other_list_version", "The list version was changed.", |w| w.list_version = 0),
        bad("mark_taken_away", "A mark was taken away.", |w| w.yours = None),
        case("expired_descriptor", "expired", "A recording from last week.", &welcome())
            .given("now_ms", NOW_MS + 7 * 24 * 3_600_000),
    ]
}
