//! What people type (node ids, user names, addresses), and how each id is derived from bytes.

use tidings_protocol::{
    client_frame::InviteSecret,
    descriptor::dht_key,
    id::{AccountId, ChatId, DeviceId, hash},
    invite::InviteText,
    name_record::record_text,
};

use super::{
    Case,
    cast::{Who, acme},
};

pub(crate) fn cases() -> Vec<Case> {
    [node_ids(), user_names(), addresses(), invites(), name_records(), derivations()].concat()
}

fn node_ids() -> Vec<Case> {
    let text = acme().to_text();
    let case = |reason: &str, expect, why: &str, text: &str| {
        Case::new("node_id", reason, expect, why, text.as_bytes())
    };
    // The last characters carry the checksum; the first ones the version.
    let (body, last) = text.split_at(55);
    let typo = if last == "a" { "b" } else { "a" };
    let version_2 = format!("ai{}", &text[2..]);
    vec![
        case("acme", "ok", "The root key of acme.", &text).result("node", acme()),
        case("upper_case", "lenient", "Readers take either case.", &text.to_uppercase())
            .result("node", acme())
            .result("canonical", data_encoding::HEXLOWER.encode(text.as_bytes())),
        case(
            "typing_mistake",
            "checksum",
            "The last character is another.",
            &(body.to_owned() + typo),
        ),
        case("key_changed", "checksum", "A character in the middle is another.", &swap(&text, 20)),
        case("version_2", "version", "The first byte is 2.", &version_2),
        case("too_short", "shape", "55 characters.", body),
        case("too_long", "shape", "57 characters.", &(text.clone() + "a")),
        case("other_alphabet", "shape", "0 and 1 are no base32.", &text.replacen('a', "0", 1)),
        case("empty", "shape", "Nothing.", ""),
        case(
            "dotless_i",
            "shape",
            "U+0131, whose upper case is I, is no base32.",
            &text.replacen('i', "\u{131}", 1),
        ),
    ]
}

fn swap(text: &str, at: usize) -> String {
    let other = if &text[at..=at] == "a" { "b" } else { "a" };
    format!("{}{other}{}", &text[..at], &text[at + 1..])
}

fn user_names() -> Vec<Case> {
    let case = |reason: &str, expect, why: &str, text: &str| {
        Case::new("user_name", reason, expect, why, text.as_bytes())
    };
    vec![
        case("alice", "ok", "The usual.", "alice"),
        case("every_character", "ok", "All kinds.", "a-z_0.9"),
        case("longest", "ok", "64 characters.", &"a".repeat(64)),
        case("empty", "name", "At least one.", ""),
        case("too_long", "name", "65 characters.", &"a".repeat(65)),
        case("upper_case", "name", "Two names must not differ by case alone.", "Alice"),
        case("not_ascii", "name", "Two names must not look alike.", "alic\u{435}"),
        case("space", "name", "No spaces.", "al ice"),
        case("at", "name", "The @ ends a name.", "alice@acme"),
        case("slash", "name", "No separators of paths.", "../alice"),
    ]
}

fn addresses() -> Vec<Case> {
    let node = acme().to_text();
    let case = |reason: &str, expect, why: &str, text: &str| {
        Case::new("address", reason, expect, why, text.as_bytes())
    };
    let long = format!("{0}.{0}.{0}.{0}", "a".repeat(63));
    vec![
        case("domain", "ok", "A domain, to be bound to a node id first.", "alice@acme.example"),
        case("node", "ok", "A node id, which proves itself.", &format!("alice@{node}")),
        case("one_label", "ok", "A host of one label is a domain.", "alice@localhost"),
        case("domain_in_upper_case", "lenient", "Domains have no case.", "alice@ACME.example")
            .result("canonical", data_encoding::HEXLOWER.encode(b"alice@acme.example")),
        case("no_at", "no_at", "No @.", "alice"),
        case("no_name", "name", "Nothing before the @.", "@acme.example"),
        case("bad_name", "name", "Upper case.", "Alice@acme.example"),
        case("no_host", "host", "Nothing behind the @.", "alice@"),
        case("two_ats", "host", "A second @ belongs to no host.", "alice@acme@example"),
        case("empty_label", "host", "Two dots.", "alice@acme..example"),
        case("trailing_dot", "host", "A dot at the end.", "alice@acme.example."),
        case("hyphen_first", "host", "A label begins with a hyphen.", "alice@-acme.example"),
        case("hyphen_last", "host", "A label ends with a hyphen.", "alice@acme-.example"),
        case("not_ascii", "host", "Only the encoded form travels.", "alice@acm\u{e9}.example"),
        case("ip_address", "host", "Numbers are no domain.", "alice@127.0.0.1"),
        case("underscore", "host", "No host has one.", "alice@_tidings.acme.example"),
        case("port", "host", "An address has no port.", "alice@acme.example:443"),
        case("long_label", "host", "64 characters.", &format!("alice@{}.example", "a".repeat(64))),
        case("long_domain", "host", "255 characters.", &format!("alice@{long}")),
        case(
            "node_with_typing_mistake",
            "node_id",
            "56 characters without a dot are a node id or nothing.",
            &format!("alice@{}", swap(&node, 30)),
        ),
    ]
}

fn invites() -> Vec<Case> {
    let secret = InviteSecret([0x5e; 16]);
    let invite = InviteText { node: acme(), secret, url: "wss://acme.example".to_owned() };
    let text = invite.to_text();
    let case = |reason: &str, expect, why: &str, text: &str| {
        Case::new("invite", reason, expect, why, text.as_bytes())
    };
    let read = |case: Case| {
        case.result("node", acme())
            .result("secret", secret.to_hex())
            .result("url", "wss://acme.example")
    };
    let raw = |raw: &[u8]| {
        let sum = hash("invite text checksum", &[raw]).0;
        let code = data_encoding::BASE32_NOPAD.encode(&[raw, &sum[..2]].concat());
        format!("tidings:{}", code.to_lowercase())
    };
    let (prefix, code) = text.split_at(8);
    vec![
        read(case("acme", "ok", "For acme, whose link is at wss://acme.example.", &text)),
        read(
            case(
                "pasted",
                "lenient",
                "In capitals, with space around it.",
                &format!(" {prefix}{}\n", code.to_uppercase()),
            )
            .result("canonical", data_encoding::HEXLOWER.encode(text.as_bytes())),
        ),
        case("no_prefix", "shape", "The code alone.", code),
        case("cut", "checksum", "Its end is missing.", &text[..prefix.len() + 104]),
        case("typing_mistake", "checksum", "A character is another.", &swap(&text, 20)),
        case("version_2", "version", "The first byte is 2.", &raw(&[2; 60])),
        case("too_short", "shape", "It ends within the secret.", &raw(&[1; 40])),
        case(
            "url_not_utf_8",
            "shape",
            "The URL is no text.",
            &raw(&[[1; 49].as_slice(), &[0xff]].concat()),
        ),
        case(
            "long_s",
            "shape",
            "U+017F, whose upper case is S, is no base32.",
            &(prefix.to_owned() + &code.replacen('s', "\u{17f}", 1)),
        ),
        case("empty", "shape", "Nothing behind the colon.", prefix),
    ]
}

fn name_records() -> Vec<Case> {
    let text = record_text(&acme());
    let case = |reason: &str, expect, why: &str, text: &str| {
        Case::new("name_record", reason, expect, why, text.as_bytes())
    };
    let canonical = data_encoding::HEXLOWER.encode(text.as_bytes());
    let node = acme().to_text();
    vec![
        case("acme", "ok", "Names acme.", &text).result("node", &node),
        case(
            "spaced",
            "lenient",
            "With space, capitals in the id and a semicolon at the end.",
            &format!("v=tidings1 ;\tnode={} ;", node.to_uppercase()),
        )
        .result("node", &node)
        .result("canonical", canonical),
        case("other", "absent", "A record of mail.", "v=spf1 -all"),
        case("empty", "absent", "Nothing.", ""),
        case("later_version", "absent", "Another version is another record.", "v=tidings2; node=a"),
        case("upper_case", "absent", "The beginning has one form.", &text.to_uppercase()),
        case("no_node", "unreadable", "The version alone.", "v=tidings1"),
        case("empty_node", "unreadable", "No id.", "v=tidings1; node="),
        case("typing_mistake", "unreadable", "A character of the id is another.", &swap(&text, 40)),
        case("two_nodes", "unreadable", "A field twice.", &format!("{text}; node={node}")),
        case("unknown_field", "unreadable", "A field that is not known.", &format!("{text}; a=b")),
        case("no_semicolon", "unreadable", "A space between the fields.", &text.replace(';', "")),
        case("too_long", "unreadable", "513 bytes.", &format!("{text:<513}")),
        case(
            "not_ascii",
            "unreadable",
            "A letter outside of ASCII.",
            &text.replacen('a', "\u{e4}", 1),
        ),
    ]
}

fn derivations() -> Vec<Case> {
    let key = Who::AliceAccount.key().public();
    let bob = Who::BobAccount.key().public();
    let (low, high) = {
        let (one, other) = (AccountId::of(&key), AccountId::of(&bob));
        if one < other { (one, other) } else { (other, one) }
    };
    let device = Who::AliceLaptop.key().public();
    let case = |reason: &str, why: &str, purpose: &str, bytes: &[u8], id: String| {
        Case::new("derivation", reason, "ok", why, bytes)
            .given("purpose", purpose)
            .result("hash", id)
    };
    vec![
        case(
            "account",
            "Of the account key.",
            "account id",
            &key.0,
            AccountId::of(&key).to_string(),
        ),
        case(
            "device",
            "Of the device key; the first 16 bytes.",
            "device id",
            &device.0,
            DeviceId::of(&device).to_string(),
        ),
        case(
            "chat",
            "Of both account ids, the lower first.",
            "chat of two",
            &[low.0, high.0].concat(),
            ChatId::of_two(&high, &low).to_string(),
        ),
        case("dht_key", "Of the node id.", "dht key", &acme().0, dht_key(&acme()).to_string()),
    ]
}
