//! What passes through a custodian: its consent, and the proof of origin.

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use tidings_protocol::{
    codec,
    custody::{Consent, Origin},
    descriptor::Delegation,
    device_list::CheckedList,
    directory::Listing,
    envelope::Header,
    id::{CopyId, Eid},
    key::Purpose,
    peer_frame::Forward,
    sealed::{SealedTargets, SealingSecret},
    signed::Signed,
    statement::{Claim, Proof, Signer, Stance, Statement},
};

use super::{
    Case,
    cast::{
        HOUR_MS, NOW_MS, Who, accepted, acme, acme_stance, bob_stance, delegation, fill, globex,
        head, ids, list_0, list_1, name, sign, signed_list, signed_raw, statement,
    },
    cbor,
};

/// Globex consents to hold for acme.
pub(crate) fn consent() -> Consent {
    Consent {
        custodian: globex(),
        node: acme(),
        issued_ms: NOW_MS,
        rows: 100_000,
        bytes: 1 << 30,
        life_ms: 14 * 24 * HOUR_MS,
        users: 10_000,
    }
}

pub(crate) fn signed_consent() -> Signed<Consent> {
    Signed::new(&consent(), &Who::Globex.key())
}

/// Acme has accepted the envelope of `cast::head`.
pub(crate) fn origin() -> Origin {
    Origin { accepted: accepted(), delegation: Signed::new(&delegation(), &Who::AcmeRoot.key()) }
}

/// Opens what is sealed to globex.
pub(crate) fn globex_secret() -> SealingSecret {
    SealingSecret::from_bytes(&fill(0x32))
}

/// The targets of `cast::head`, sealed to globex with the same randomness each time: for vectors alone.
pub(crate) fn sealed() -> SealedTargets {
    let mut rng = ChaCha20Rng::from_seed(fill(0x64));
    let (head, (eid, _)) = (head(), ids());
    let key = globex_secret().public();
    SealedTargets::seal(&head.targets, &head.header, &eid, &key, &mut rng).expect("a key")
}

/// The envelope of `cast::head` on its way through another node.
pub(crate) fn forward() -> Forward {
    let (header, copies, targets) = (head().header, ids().1, sealed());
    Forward { header, copies, targets, origin: origin(), hops_left: 1 }
}

/// Acme says that version 1 is Alice's list.
pub(crate) fn listing() -> Listing {
    let list = CheckedList::first_seen(&signed_list(&list_1())).expect("a good list");
    Listing {
        node: acme(),
        name: list.list.name.clone(),
        account: list.account(),
        list_version: list.list.version,
        list_hash: list.hash,
        issued_ms: NOW_MS - HOUR_MS,
        expires_ms: NOW_MS + 24 * HOUR_MS,
        serial: delegation().serial,
    }
}

pub(crate) fn signed_listing() -> Signed<Listing> {
    Signed::new(&listing(), &Who::Acme.key())
}

pub(crate) fn cases() -> Vec<Case> {
    [consents(), origins(), forwards(), targets(), listings()].concat()
}

fn consents() -> Vec<Case> {
    const RULE: &str = "consent";
    let bytes = codec::encode(&signed_consent());
    let case = |reason: &str, expect: &'static str, why: &str, bytes: Vec<u8>| {
        Case::new(RULE, reason, expect, why, bytes).given("key", Who::Globex.key().public())
    };
    let plain = codec::encode(&consent());
    let over = Consent { rows: 0, bytes: 0, life_ms: 0, users: 0, ..consent() };
    let sealed = |inside: &[u8]| signed_raw(Purpose::Consent, &Who::Globex.key(), inside);
    let by = |purpose| signed_raw(purpose, &Who::Globex.key(), &plain);
    let mut all = vec![
        case("globex_for_acme", "ok", "The usual.", bytes.clone()),
        case(
            "taken_back",
            "ok",
            "Zero rows.",
            codec::encode(&Signed::new(&over, &Who::Globex.key())),
        ),
        case(
            "by_another",
            "signature",
            "Mallory consents.",
            codec::encode(&Signed::new(&consent(), &Who::Mallory.key())),
        ),
        case("other_purpose", "signature", "Signed as addresses.", by(Purpose::Addresses)),
        case("trailing", "trailing", "A byte follows.", [&*bytes, &[0]].concat()),
        case(
            "truncated",
            "malformed",
            "The last byte is missing.",
            bytes[..bytes.len() - 1].into(),
        ),
    ];
    let given = |case: Case| case.given("key", Who::Globex.key().public());
    let inside = |odd: Case| given(Case { bytes: sealed(&odd.bytes), ..odd });
    all.extend(cbor::odd(RULE, "inside", &plain, 0, false).into_iter().map(inside));
    all.extend(cbor::broken(RULE, "inside", &plain, 0).into_iter().map(inside));
    all
}

const ORIGIN: &str = "origin";

fn given(case: Case) -> Case {
    case.given("node", acme()).given("eid", ids().0)
}

fn case(reason: &str, expect: &'static str, why: &str, origin: &Origin) -> Case {
    given(Case::new(ORIGIN, reason, expect, why, codec::encode(origin)))
}

fn by(stance: &Stance, who: Who, statements: &[Statement]) -> Origin {
    Origin { accepted: sign(statements, stance, who), ..origin() }
}

fn origins() -> Vec<Case> {
    let bytes = codec::encode(&origin());
    let other =
        Case::new(ORIGIN, "other_node", "signature", "The header names globex.", &bytes[..]);
    let mut all = vec![
        case("acme_accepted", "ok", "The usual.", &origin()),
        given(other).given("node", globex()),
    ];
    all.extend(statements());
    all.extend(signers());
    all.extend(delegations());
    all.extend(cbor::broken(ORIGIN, "", &bytes, 0).into_iter().map(given));
    all
}

/// What is no acceptance of the envelope.
fn statements() -> Vec<Case> {
    let acceptance = || statement(Claim::Accepted);
    let other = |reason: &str, why: &str, statements: &[Statement]| {
        case(reason, "other_statement", why, &by(&acme_stance(), Who::Acme, statements))
    };
    let other_eid = Statement { eid: Eid(fill(9)), ..acceptance() };
    let of_a_copy = Statement { copy: Some(CopyId(fill(9))), ..acceptance() };
    vec![
        other("custody", "Custody is no acceptance.", &[statement(Claim::Custody)]),
        other("other_eid", "Another envelope.", &[other_eid]),
        other("of_a_copy", "Of one copy alone.", &[of_a_copy]),
        other("two_statements", "Two leaves.", &[acceptance(), acceptance()]),
    ]
}

/// Who may not accept for acme.
fn signers() -> Vec<Case> {
    let of_globex = Signer { key: Who::Globex.key().public(), node: Some(globex()), version: 1 };
    let by_globex = Stance { signer: of_globex, ..acme_stance() };
    let other_key = Signer { key: Who::Mallory.key().public(), ..acme_stance().signer };
    let by_mallory = Stance { signer: other_key, ..acme_stance() };
    let accepted_by = |stance: &Stance, who: Who| by(stance, who, &[statement(Claim::Accepted)]);
    let by_bob = by(&bob_stance(), Who::BobPhone, &[statement(Claim::Delivered)]);
    let bent = {
        let mut accepted: Proof = accepted();
        accepted.signature.0[3] ^= 1;
        Origin { accepted, ..origin() }
    };
    vec![
        case(
            "by_globex",
            "other_signer",
            "Globex says that it accepted it.",
            &accepted_by(&by_globex, Who::Globex),
        ),
        case(
            "by_another_key",
            "other_signer",
            "Mallory signs as acme.",
            &accepted_by(&by_mallory, Who::Mallory),
        ),
        case("by_a_device", "other_statement", "A device's word for the envelope.", &by_bob),
        case("bent", "signature", "One bit of the signature.", &bent),
    ]
}

/// What does not appoint acme's key.
fn delegations() -> Vec<Case> {
    let appointed = |delegation: &Delegation, by: Who| Origin {
        delegation: Signed::new(delegation, &by.key()),
        ..origin()
    };
    let over = Delegation { not_after_ms: statement(Claim::Accepted).at_ms, ..delegation() };
    let of_globex = Delegation { node: globex(), ..delegation() };
    vec![
        case(
            "appointed_by_another",
            "signature",
            "Mallory appoints acme's key.",
            &appointed(&delegation(), Who::Mallory),
        ),
        case(
            "of_another_node",
            "other_signer",
            "Acme's root key appoints in globex's name.",
            &appointed(&of_globex, Who::AcmeRoot),
        ),
        case(
            "over",
            "expired",
            "The delegation ends as it is signed.",
            &appointed(&over, Who::AcmeRoot),
        ),
    ]
}

fn forwards() -> Vec<Case> {
    const RULE: &str = "forward";
    let case = |reason: &str, expect: &'static str, why: &str, forward: &Forward| {
        Case::new(RULE, reason, expect, why, codec::encode(forward))
    };
    let with = |copies| Forward { copies, ..forward() };
    let header = |header| Forward { header, ..forward() };
    let copies = ids().1;
    let many: Vec<CopyId> = (0..25).map(|n| CopyId(fill(n))).collect();
    let large = SealedTargets { sealed: vec![0; 62_000].into(), ..sealed() };
    let head = head().header;
    vec![
        case("to_globex", "ok", "The usual.", &forward()).result("eid", ids().0),
        case("no_copies", "targets", "Nobody is to have it.", &with(Vec::new()))
            .given("grammar", "no"),
        case(
            "a_copy_twice",
            "targets",
            "One copy twice.",
            &with([&copies[..], &copies[..1]].concat()),
        ),
        case("too_many", "targets", "25 copies.", &with(many)).given("grammar", "no"),
        case(
            "too_large",
            "too_large",
            "A block of 62,000 bytes.",
            &Forward { targets: large, ..forward() },
        ),
        case("version", "version", "Version 2.", &header(Header { version: 2, ..head.clone() }))
            .given("grammar", "no"),
        case(
            "no_life",
            "life",
            "It expires as it is made.",
            &header(Header { expires_ms: head.created_ms, ..head }),
        ),
    ]
}

fn targets() -> Vec<Case> {
    const RULE: &str = "sealed_targets";
    let given = |case: Case| {
        case.given("secret", data_encoding::HEXLOWER.encode(&fill::<32>(0x32)))
            .given("header", data_encoding::HEXLOWER.encode(&codec::encode(&head().header)))
            .given("eid", ids().0)
    };
    let case = |reason: &str, expect: &'static str, why: &str, sealed: &SealedTargets| {
        given(Case::new(RULE, reason, expect, why, codec::encode(sealed)))
    };
    let with = |bytes: Vec<u8>| SealedTargets { sealed: bytes.into(), ..sealed() };
    let bytes = sealed().sealed.to_vec();
    let bent = |place: usize| {
        let mut bytes = bytes.clone();
        bytes[place] ^= 1;
        with(bytes)
    };
    let mut rng = ChaCha20Rng::from_seed(fill(0x65));
    let mallory = SealingSecret::from_bytes(&fill(0x66)).public();
    let to_mallory =
        SealedTargets::seal(&head().targets, &head().header, &ids().0, &mallory, &mut rng);
    let to_mallory = to_mallory.expect("a key");
    let named_globex = SealedTargets { key: sealed().key, ..to_mallory.clone() };
    let ok = case("to_globex", "ok", "The usual.", &sealed())
        .result("targets", data_encoding::HEXLOWER.encode(&codec::encode(&head().targets)));
    let mut all = vec![
        ok,
        case("to_another", "other_key", "Sealed to another key, and says so.", &to_mallory),
        case("names_another_key", "corrupt", "Sealed to another key than it says.", &named_globex),
        case("bent_key", "corrupt", "One bit of the encapsulated key.", &bent(0)),
        case("bent", "corrupt", "One bit of the ciphertext.", &bent(40)),
        case("bent_tag", "corrupt", "One bit of the tag.", &bent(bytes.len() - 1)),
        case("short", "corrupt", "No more than half a key.", &with(bytes[..16].to_vec())),
        case("no_tag", "corrupt", "The tag is missing.", &with(bytes[..bytes.len() - 16].to_vec())),
        case(
            "key_of_zeros",
            "corrupt",
            "A key of small order.",
            &with([&[0; 32], &bytes[32..]].concat()),
        ),
        case("of_another_envelope", "corrupt", "Bound to another eid.", &sealed())
            .given("eid", Eid(fill(9))),
        case("of_another_header", "corrupt", "Bound to another header.", &sealed()).given(
            "header",
            data_encoding::HEXLOWER
                .encode(&codec::encode(&Header { expires_ms: NOW_MS + 9, ..head().header })),
        ),
    ];
    all.extend(cbor::broken(RULE, "", &codec::encode(&sealed()), 0).into_iter().map(given));
    all
}

fn listings() -> Vec<Case> {
    const RULE: &str = "listing";
    let hex = |bytes: Vec<u8>| data_encoding::HEXLOWER.encode(&bytes);
    let given = |case: Case| {
        case.given("delegation", hex(codec::encode(&delegation())))
            .given("name", "alice")
            .given("list", hex(codec::encode(&signed_list(&list_1()))))
            .given("now_ms", NOW_MS)
    };
    let case = |reason: &str, expect: &'static str, why: &str, bytes: Vec<u8>| {
        given(Case::new(RULE, reason, expect, why, bytes))
    };
    let by_acme = |listing: &Listing| codec::encode(&Signed::new(listing, &Who::Acme.key()));
    let over = Listing { expires_ms: NOW_MS, ..listing() };
    let early = Listing { issued_ms: NOW_MS + HOUR_MS, ..listing() };
    let other_hash = Listing { list_hash: tidings_protocol::id::Hash(fill(9)), ..listing() };
    let plain = codec::encode(&listing());
    let rotated = Delegation { operational: Who::Mallory.key().public(), ..delegation() };
    vec![
        case("alice", "ok", "The usual.", by_acme(&listing())),
        case(
            "by_another",
            "signature",
            "A custodian makes a list up.",
            codec::encode(&Signed::new(&listing(), &Who::Globex.key())),
        ),
        case(
            "other_purpose",
            "signature",
            "Signed as a consent.",
            signed_raw(Purpose::Consent, &Who::Acme.key(), &plain),
        ),
        case("rotated", "signature", "By a key that was replaced.", by_acme(&listing()))
            .given("delegation", hex(codec::encode(&rotated))),
        case(
            "of_another_node",
            "other",
            "Of globex.",
            by_acme(&Listing { node: globex(), ..listing() }),
        ),
        case(
            "of_another_name",
            "other",
            "Of bob.",
            by_acme(&Listing { name: name("bob"), ..listing() }),
        ),
        case("of_another_list", "other", "Another hash.", by_acme(&other_hash)),
        case("older_list", "other", "Of version 1, with version 0.", by_acme(&listing()))
            .given("list", hex(codec::encode(&signed_list(&list_0())))),
        case(
            "other_version",
            "other",
            "Another version.",
            by_acme(&Listing { list_version: 0, ..listing() }),
        ),
        case("over", "expired", "It says nothing any more.", by_acme(&over)),
        case("early", "expired", "It says nothing yet.", by_acme(&early)),
        case("trailing", "trailing", "A byte follows.", [&*by_acme(&listing()), &[0]].concat()),
    ]
}
