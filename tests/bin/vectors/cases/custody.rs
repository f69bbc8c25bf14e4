//! What passes through a custodian: its consent, and the proof of origin.

use tidings_protocol::{
    codec,
    custody::{Consent, Origin},
    descriptor::Delegation,
    id::CopyId,
    key::Purpose,
    signed::Signed,
    statement::{Claim, Proof, Signer, Stance, Statement},
};

use super::{
    Case,
    cast::{
        HOUR_MS, NOW_MS, Who, accepted, acme, acme_stance, bob_stance, delegation, fill, globex,
        ids, sign, signed_raw, statement,
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
    }
}

pub(crate) fn signed_consent() -> Signed<Consent> {
    Signed::new(&consent(), &Who::Globex.key())
}

/// Acme has accepted the envelope of `cast::head`.
pub(crate) fn origin() -> Origin {
    Origin { accepted: accepted(), delegation: Signed::new(&delegation(), &Who::AcmeRoot.key()) }
}

pub(crate) fn cases() -> Vec<Case> {
    [consents(), origins()].concat()
}

fn consents() -> Vec<Case> {
    const RULE: &str = "consent";
    let bytes = codec::encode(&signed_consent());
    let case = |reason: &str, expect: &'static str, why: &str, bytes: Vec<u8>| {
        Case::new(RULE, reason, expect, why, bytes).given("key", Who::Globex.key().public())
    };
    let plain = codec::encode(&consent());
    let over = Consent { rows: 0, bytes: 0, life_ms: 0, ..consent() };
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
    let other_eid = Statement { eid: tidings_protocol::id::Eid(fill(9)), ..acceptance() };
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
