//! What one person hands to another to prove a tick.

use tidings_protocol::{
    codec,
    evidence::{EVIDENCE_VERSION, Evidence},
    id::MsgId,
    signed::Signed,
    statement::{Claim, Signer, Stance},
};

use super::{
    Case,
    cast::{
        Who, accepted, acme, delegation, fill, globex, list_0, list_1, sign, signed_list, statement,
    },
    cbor,
};

const RULE: &str = "evidence";

/// Accepted by acme, delivered to Alice's phone.
fn evidence() -> Evidence {
    let signer = Signer { key: Who::AlicePhone.key().public(), node: None, version: 1 };
    let stance = Stance { signer, incarnation: 9, boot: tidings_protocol::id::BootId(fill(0x64)) };
    let delivered = sign(&[statement(Claim::Delivered)], &stance, Who::AlicePhone);
    Evidence {
        version: EVIDENCE_VERSION,
        message: MsgId(fill(0xa5)),
        proofs: vec![accepted(), delivered],
        delegations: vec![Signed::new(&delegation(), &Who::AcmeRoot.key())],
        lists: vec![signed_list(&list_0()), signed_list(&list_1())],
    }
}

pub(crate) fn cases() -> Vec<Case> {
    let case = |reason: &str, verdicts: &str, why: &str, evidence: &Evidence| {
        Case::new(RULE, reason, "ok", why, codec::encode(evidence))
            .given("trusted_nodes", acme())
            .given("trusted_accounts", Who::AliceAccount.key().public())
            .result("verdicts", verdicts)
    };
    let with = |change: fn(&mut Evidence)| {
        let mut evidence = evidence();
        change(&mut evidence);
        evidence
    };
    let gap = with(|e| e.lists = vec![signed_list(&list_0())]);
    let over = with(|e| {
        let over = tidings_protocol::descriptor::Delegation { not_after_ms: 1, ..delegation() };
        e.delegations = vec![Signed::new(&over, &Who::AcmeRoot.key())];
    });
    let by_mallory =
        with(|e| e.delegations = vec![Signed::new(&delegation(), &Who::Mallory.key())]);
    let bytes = codec::encode(&evidence());
    let mut all = vec![
        case("acme_and_alice", "ok ok", "Both statements hold.", &evidence()),
        case(
            "segment_alone",
            "ok ok",
            "A segment may begin at version 1.",
            &with(|e| drop(e.lists.remove(0))),
        ),
        case(
            "bent_proof",
            "ok Broken",
            "One bit of a signature.",
            &with(|e| e.proofs[1].signature.0[0] ^= 1),
        ),
        case(
            "no_delegation",
            "NoDelegation ok",
            "Nothing names acme's key.",
            &with(|e| e.delegations.clear()),
        ),
        case("delegation_by_another", "NoDelegation ok", "Mallory appoints.", &by_mallory),
        case("delegation_over", "DelegationOver ok", "It had run out.", &over),
        case("device_in_no_list", "ok UnknownDevice", "The list before the phone.", &gap),
        case(
            "other_roots",
            "UnknownNode UnknownDevice",
            "A reader who trusts others.",
            &evidence(),
        )
        .given("trusted_nodes", globex())
        .given("trusted_accounts", Who::BobAccount.key().public()),
    ];
    all.extend(cbor::broken(RULE, "", &bytes, 0));
    all.extend(cbor::odd(RULE, "", &bytes, 0, true));
    all
}
