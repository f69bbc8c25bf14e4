//! Every frame between two nodes, whole and broken.

use bytes::Bytes;
use tidings_protocol::{
    codec,
    directory::{Directory, DirectoryEntry, DirectoryItem, DirectoryWanted},
    hello::PeerHello,
    id::Eid,
    peer_frame::{
        Announce, Answer, Audit, AuditAnswer, Farewell, FetchFor, FetchUser, KeepAlive,
        NewerListsFor, Offer, PeerFrame, Statements, StatementsTook, Took, User, Wanted,
    },
    refusal::{Refusal, RefusalCode},
};

use super::{
    Case,
    cast::{
        accepted, acme, bundle, delivered, descriptor, fill, globex, head, ids, list_0, list_1,
        mark, name, one_time, signed_list,
    },
    cbor,
    custody::{forward, listing, origin, signed_consent, signed_listing},
    frames_client::{any_union, frame_cases},
};

const RULE: &str = "peer_frame";

type Sample = (&'static str, &'static str, PeerFrame);

pub(crate) fn cases() -> Vec<Case> {
    let mut all: Vec<Case> = [links(), envelopes(), users(), custody(), directories()]
        .concat()
        .iter()
        .flat_map(|(reason, why, frame)| frame_cases(RULE, reason, why, frame))
        .collect();
    // Signed as it stands: no map of its own to break.
    let consent = codec::encode(&PeerFrame::Consent(signed_consent()));
    all.push(Case::new(RULE, "consent", "ok", "A custodian's half.", &*consent));
    all.extend(any_union(RULE));
    let audit = codec::encode(&PeerFrame::Audit(Audit { eids: vec![ids().0] }));
    let eids = |reason: &str, why: &str, value: &[u8]| {
        Case::new(RULE, reason, "malformed", why, cbor::with_first_value(&audit, 2, value))
    };
    all.extend([
        eids("audit_short_eid", "An id of 23 bytes.", &[&[0x81, 0x57][..], &[1; 23]].concat()),
        eids("audit_long_eid", "An id of 25 bytes.", &[&[0x81, 0x58, 25][..], &[1; 25]].concat()),
        eids("audit_text_eid", "An id as text.", &[&[0x81, 0x78, 24][..], &[b'a'; 24]].concat()),
        eids("audit_giant_array", "2^32 - 1 ids are claimed.", &[0x9a, 255, 255, 255, 255]),
        eids("audit_map", "A map for an array.", &[0xa0]),
    ]);
    all
}

fn hello(yours: bool) -> PeerFrame {
    PeerFrame::Hello(PeerHello {
        version: 1,
        descriptor: Bytes::from(descriptor().encode()),
        incarnation: 7,
        mine: mark(0x85),
        yours: yours.then(|| mark(0x86)),
        introductions: vec![Bytes::from(descriptor().encode())],
    })
}

fn links() -> Vec<Sample> {
    vec![
        ("hello", "With every mark.", hello(true)),
        ("hello_first", "Without a mark of the other.", hello(false)),
        ("keep_alive", "Nothing new.", PeerFrame::KeepAlive(KeepAlive { mark: mark(0x85) })),
        (
            "farewell",
            "The node stops.",
            PeerFrame::Farewell(Farewell { refusal: RefusalCode::Draining.into() }),
        ),
        (
            "announce",
            "Addresses that were signed anew.",
            PeerFrame::Announce(Announce { descriptor: Bytes::from(descriptor().encode()) }),
        ),
    ]
}

fn envelopes() -> Vec<Sample> {
    let (eid, _) = ids();
    let refused = Refusal { code: RefusalCode::Busy, after_ms: Some(1_000) };
    let took = Took {
        answers: vec![
            Answer { eid, refusal: None, lists: vec![signed_list(&list_1())] },
            Answer { eid: Eid(fill(1)), refusal: Some(refused), lists: Vec::new() },
        ],
        mark: mark(0x86),
    };
    let statements = Statements { rows: vec![1, 2], proofs: vec![accepted(), delivered()] };
    vec![
        ("deliver", "An envelope.", PeerFrame::Deliver(head())),
        ("took", "One taken, one refused.", PeerFrame::Took(took)),
        ("statements", "Two of them.", PeerFrame::Statements(statements)),
        (
            "statements_took",
            "They are on disk.",
            PeerFrame::StatementsTook(StatementsTook { rows: vec![1, 2], mark: mark(0x86) }),
        ),
        ("audit", "What became of it?", PeerFrame::Audit(Audit { eids: vec![eid] })),
        (
            "audit_answer",
            "One waits, one is unknown.",
            PeerFrame::AuditAnswer(AuditAnswer { waiting: vec![eid], unknown: vec![Eid(fill(1))] }),
        ),
    ]
}

fn custody() -> Vec<Sample> {
    let (eid, _) = ids();
    let destination = globex();
    let delegation = Some(origin().delegation);
    let wanted = |refusal, eids, delegation| {
        PeerFrame::Wanted(Wanted { destination, refusal, eids, delegation })
    };
    let full = Refusal { code: RefusalCode::Quota, after_ms: Some(60_000) };
    vec![
        (
            "offer",
            "Two envelopes for globex.",
            PeerFrame::Offer(Offer { destination, eids: vec![eid, Eid(fill(1))] }),
        ),
        ("wanted", "One of them.", wanted(None, vec![eid], delegation)),
        ("wanted_none", "All are held.", wanted(None, Vec::new(), None)),
        ("wanted_refused", "No room.", wanted(Some(full), Vec::new(), None)),
        ("forward", "An envelope with its origin.", PeerFrame::Forward(forward())),
    ]
}

fn directories() -> Vec<Sample> {
    let item = DirectoryItem { name: name("alice"), digest: listing().digest(&[bundle(None)]) };
    let page = |from, to, items| PeerFrame::Directory(Directory { from, to, items });
    let full = Refusal { code: RefusalCode::Quota, after_ms: None };
    let wanted = |refusal, names| PeerFrame::DirectoryWanted(DirectoryWanted { refusal, names });
    let entry = DirectoryEntry {
        listing: signed_listing(),
        list: signed_list(&list_1()),
        bundles: vec![bundle(None)],
    };
    let newer = NewerListsFor { eid: ids().0, lists: vec![signed_list(&list_1())] };
    vec![
        ("directory", "All there is.", page(None, None, vec![item.clone()])),
        (
            "directory_one",
            "One name alone.",
            page(Some(name("alice")), Some(name("alice")), vec![item]),
        ),
        ("directory_wanted", "She is wanted.", wanted(None, vec![name("alice")])),
        ("directory_wanted_full", "No room.", wanted(Some(full), Vec::new())),
        ("directory_entry", "A user.", PeerFrame::DirectoryEntry(entry)),
        ("newer_lists", "A device is new.", PeerFrame::NewerListsFor(newer)),
    ]
}

fn users() -> Vec<Sample> {
    let fetch = |known_version| {
        PeerFrame::FetchUser(FetchUser {
            request: 5,
            name: name("alice"),
            known_version,
            with_bundles: false,
        })
    };
    let user = User {
        request: 5,
        refusal: None,
        lists: vec![signed_list(&list_0()), signed_list(&list_1())],
        bundles: vec![bundle(Some(one_time(1)))],
        listing: None,
        delegation: None,
    };
    let kept = User {
        lists: vec![signed_list(&list_1())],
        bundles: vec![bundle(None)],
        listing: Some(signed_listing()),
        delegation: Some(origin().delegation),
        ..user.clone()
    };
    let fetch_for = |known_version| {
        PeerFrame::FetchFor(FetchFor {
            request: 5,
            node: acme(),
            name: name("alice"),
            known_version,
            with_bundles: true,
            hops_left: 1,
        })
    };
    let nobody = User {
        request: 5,
        refusal: Some(RefusalCode::UnknownRecipient.into()),
        lists: Vec::new(),
        bundles: Vec::new(),
        listing: None,
        delegation: None,
    };
    vec![
        ("fetch_user", "A known version.", fetch(Some(0))),
        ("fetch_user_first", "Nothing is known.", fetch(None)),
        ("user", "Two versions, one bundle.", PeerFrame::User(user)),
        ("user_unknown", "There is none.", PeerFrame::User(nobody)),
        ("user_kept", "By a custodian, with the node's word.", PeerFrame::User(kept)),
        ("fetch_for", "A known version.", fetch_for(Some(0))),
        ("fetch_for_first", "Nothing is known.", fetch_for(None)),
    ]
}
