//! Every frame of a node to a device, whole and broken.

use tidings_protocol::{
    client_frame::{
        Accepted, Bundles, Deliver, Done, Goaway, Joined, NameSource, NewerLists, NodeFrame, Notes,
        Ping, Refusable, Refused, Resolved,
    },
    codec,
    id::SubmitId,
    refusal::{Refusal, RefusalCode},
    statement::Proof,
};

use super::{
    Case,
    cast::{
        accepted, acme, bundle, delivered, descriptor, fill, head, header, ids, list_0, list_1,
        mark, one_time, signed_list,
    },
    cbor,
    frames_client::{any_union, frame_cases},
    hello::{challenge, welcome},
};

const RULE: &str = "node_frame";

type Sample = (&'static str, &'static str, NodeFrame);

pub(crate) fn cases() -> Vec<Case> {
    let mut all: Vec<Case> = [answers(), pushes()]
        .concat()
        .iter()
        .flat_map(|(reason, why, frame)| frame_cases(RULE, reason, why, frame))
        .collect();
    all.extend(any_union(RULE));
    all.extend(odd());
    all
}

fn busy() -> Refusal {
    Refusal { code: RefusalCode::Busy, after_ms: Some(2_000) }
}

fn refused(what: Refusable, refusal: Refusal) -> NodeFrame {
    NodeFrame::Refused(Refused { what, refusal })
}

fn answers() -> Vec<Sample> {
    let submit = SubmitId(fill(0x92));
    let done = Accepted { submit, proof: accepted(), mark: mark(0x85) };
    let bundles = Bundles {
        request: 2,
        lists: vec![signed_list(&list_0()), signed_list(&list_1())],
        bundles: vec![bundle(Some(one_time(1))), bundle(None)],
    };
    let version = Refusal::from(RefusalCode::Version);
    vec![
        ("challenge", "First of all.", NodeFrame::Challenge(challenge())),
        ("welcome", "Proof of key.", NodeFrame::Welcome(welcome())),
        ("joined", "The account exists.", NodeFrame::Joined(Joined { request: 1 })),
        ("accepted", "One tick.", NodeFrame::Accepted(done)),
        ("refused_submit", "Try later.", refused(Refusable::Submit(submit), busy())),
        (
            "refused_request",
            "Not at all.",
            refused(Refusable::Request(4), Refusal::from(RefusalCode::NotAuthorised)),
        ),
        ("refused_link", "The link closes.", refused(Refusable::Link(0), version)),
        ("bundles", "Two versions, two bundles.", NodeFrame::Bundles(bundles)),
        ("done", "A request is durable.", NodeFrame::Done(Done { request: 3 })),
        ("pong", "Keep-alive.", NodeFrame::Pong(Ping { number: 9 })),
        ("resolved_dns", "By both halves.", resolved(NameSource::Dns)),
        ("resolved_alias", "By an administrator.", resolved(NameSource::Alias)),
    ]
}

fn resolved(source: NameSource) -> NodeFrame {
    let delegation = (source == NameSource::Dns).then(|| descriptor().delegation);
    NodeFrame::Resolved(Resolved { request: 5, node: acme(), source, delegation })
}

fn pushes() -> Vec<Sample> {
    let deliver =
        Deliver { inbox: 7, eid: ids().0, header: header(), target: head().targets[1].clone() };
    let notes = Notes {
        notes: vec![3, 4],
        proofs: vec![accepted(), delivered()],
        delegations: vec![descriptor().delegation],
    };
    let goaway = Goaway { after_ms: 500, refusal: Refusal::from(RefusalCode::Draining) };
    vec![
        ("deliver", "A copy.", NodeFrame::Deliver(deliver)),
        ("notes", "Two statements.", NodeFrame::Notes(notes)),
        (
            "newer_lists",
            "A list has changed.",
            NodeFrame::NewerLists(NewerLists { lists: vec![signed_list(&list_1())] }),
        ),
        ("goaway", "The node stops.", NodeFrame::Goaway(goaway)),
    ]
}

fn odd() -> Vec<Case> {
    let bad =
        |reason: &str, why: &str, bytes: Vec<u8>| Case::new(RULE, reason, "malformed", why, bytes);
    let mut proof: Proof = accepted();
    proof.leaves.clear();
    let submit = SubmitId(fill(0x92));
    let empty = NodeFrame::Accepted(Accepted { submit, proof, mark: mark(0x85) });
    vec![
        bad(
            "refused_unknown_code",
            "No refusal has the number 99.",
            vec![0x82, 5, 0xa2, 0, 0x82, 2, 4, 1, 0xa1, 0, 0x18, 99],
        ),
        bad(
            "resolved_unknown_source",
            "No source has the number 3.",
            cbor::with_first_value(&[0x82, 13, 0xa1, 2, 1], 2, &[3]),
        ),
        bad(
            "refused_unknown_kind",
            "Nothing of kind 4 can be refused.",
            vec![0x82, 5, 0xa2, 0, 0x82, 4, 4, 1, 0xa1, 0, 1],
        ),
        Case::new(
            RULE,
            "accepted_without_leaf",
            "ok",
            "A shape that the grammar forbids; readers refuse the proof, not the frame.",
            codec::encode(&empty),
        )
        .given("grammar", "no"),
        Case::new(
            RULE,
            "pong_long_number",
            "lenient",
            "A number of nine bytes that needs one.",
            cbor::with_first_value(&[0x82, 11, 0xa1, 0, 9], 2, &[0x1b, 0, 0, 0, 0, 0, 0, 0, 9]),
        )
        .result("canonical", "820ba10009"),
        Case::new(
            RULE,
            "pong_indefinite",
            "lenient",
            "A map with an end mark.",
            cbor::indefinite(&[0x82, 11, 0xa1, 0, 9], 2),
        )
        .result("canonical", "820ba10009"),
    ]
}
