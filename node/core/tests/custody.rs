//! globex is away, and initech holds for it what alice at acme writes to bob: three real cores on
//! memory stores, carried by hand. Liars, time and the real clients are the simulator's.

#![allow(
    dead_code,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "helpers that tests share"
)]

#[path = "support/three.rs"]
mod three;

use tidings_core::{
    event::{Event, LinkId, PeerInput},
    settings::CustodyTerms,
};
use tidings_protocol::{
    codec, id::Eid, peer_frame::PeerFrame, refusal::RefusalCode, statement::Claim,
};

use tidings_store::MemDisk;

use three::{
    ACME, GLOBEX, INITECH, connect, part, peer, settle,
    support::{NOW_MS, Node, identity, mark},
    terms, three, three_naming,
};

/// A second custodian of globex.
const HOOLI: u8 = 70;

#[test]
fn a_custodian_holds_hands_over_once_and_lets_go() {
    let mut three = three(Some(terms(100)), true);
    assert_eq!(peer(&mut three.globex, three.initech.id).consent_rows, Some(100));
    three.write(3);
    connect(&mut three.acme, ACME, &mut three.initech, INITECH);
    assert_eq!(three.held(), 3);
    assert_eq!(three.alice.notes(&mut three.acme), [Claim::Custody; 3]);
    part(&mut three.acme, &mut three.initech);
    connect(&mut three.initech, INITECH, &mut three.globex, GLOBEX);
    assert_eq!(three.bob.receive_numbers(&mut three.globex), [1, 2, 3]);
    settle(&mut three.initech, &mut three.globex);
    assert_eq!(three.held(), 0, "the device has signed for all of it");
    part(&mut three.initech, &mut three.globex);
    connect(&mut three.initech, INITECH, &mut three.acme, ACME);
    assert_eq!(three.alice.notes(&mut three.acme), [Claim::Delivered; 3]);
    part(&mut three.initech, &mut three.acme);
    connect(&mut three.acme, ACME, &mut three.globex, GLOBEX);
    assert_eq!(three.bob.receive(&mut three.globex), 0, "nothing comes twice");
    assert_eq!(peer(&mut three.acme, three.globex.id).queued, 0);
}

#[test]
fn what_a_custodian_has_brought_is_asked_for_and_not_sent_again() {
    let mut three = three(Some(terms(100)), true);
    three.write(2);
    connect(&mut three.acme, ACME, &mut three.initech, INITECH);
    part(&mut three.acme, &mut three.initech);
    connect(&mut three.initech, INITECH, &mut three.globex, GLOBEX);
    part(&mut three.initech, &mut three.globex);
    connect(&mut three.acme, ACME, &mut three.globex, GLOBEX);
    assert_eq!(peer(&mut three.acme, three.globex.id).waiting, 0);
    assert_eq!(three.bob.receive_numbers(&mut three.globex), [1, 2]);
    // The way back through initech is shut: the audit after a minute finds the shorter one.
    three.acme.wait(61_000);
    three.globex.now_ms = three.acme.now_ms;
    settle(&mut three.acme, &mut three.globex);
    assert_eq!(three.alice.notes(&mut three.acme)[2..], [Claim::Delivered; 2]);
    assert_eq!(peer(&mut three.acme, three.globex.id).queued, 0);
}

#[test]
fn a_custodian_that_drops_what_it_took_costs_a_minute() {
    let mut three = three(Some(terms(100)), true);
    three.write(2);
    connect(&mut three.acme, ACME, &mut three.initech, INITECH);
    part(&mut three.acme, &mut three.initech);
    connect(&mut three.acme, ACME, &mut three.globex, GLOBEX);
    assert_eq!(three.bob.receive(&mut three.globex), 0, "acme takes them for held");
    // To the ms: what `wait` says for a peer would answer the audit in its place.
    three.acme.wait(60_000);
    settle(&mut three.acme, &mut three.globex);
    assert_eq!(three.bob.receive_numbers(&mut three.globex), [1, 2]);
}

#[test]
fn a_node_is_away_at_the_third_attempt_in_vain() {
    let mut three = three(Some(terms(100)), true);
    // A link that worked.
    connect(&mut three.acme, ACME, &mut three.globex, GLOBEX);
    let input = PeerInput::KeepAlive { mark: mark(1) };
    three.acme.give([Event::Peer { link: LinkId(1), input }]);
    part(&mut three.acme, &mut three.globex);
    three.submit(1);
    connect(&mut three.acme, ACME, &mut three.initech, INITECH);
    for (attempt, held) in [(1, 0), (2, 0), (3, 1)] {
        three.acme.give([Event::DialFailed { node: three.globex.id }]);
        settle(&mut three.acme, &mut three.initech);
        assert_eq!(three.held(), held, "attempt {attempt}");
    }
}

#[test]
fn what_is_for_a_node_that_says_that_it_stops_is_handed_over_at_once() {
    let mut three = three(Some(terms(100)), true);
    connect(&mut three.acme, ACME, &mut three.globex, GLOBEX);
    three.globex.give([Event::Drain]);
    settle(&mut three.acme, &mut three.globex);
    part(&mut three.acme, &mut three.globex);
    three.submit(2);
    connect(&mut three.acme, ACME, &mut three.initech, INITECH);
    assert_eq!(three.held(), 2, "without an attempt");
    assert_eq!(three.alice.notes(&mut three.acme), [Claim::Custody; 2]);
}

#[test]
fn two_custodians_hold_the_same_and_nothing_comes_twice() {
    let ((initech_id, _), (hooli_id, mut settings)) = (identity(INITECH), identity(HOOLI));
    settings.custody = vec![CustodyTerms { users: 0, ..terms(100) }];
    let named = vec![initech_id, hooli_id];
    let mut three = three_naming(&MemDisk::new(), Some(terms(100)), named);
    let mut hooli = Node::open_as(HOOLI, (hooli_id, settings), &MemDisk::new(), 1, NOW_MS);
    connect(&mut hooli, HOOLI, &mut three.globex, GLOBEX);
    part(&mut hooli, &mut three.globex);
    three.write(3);
    connect(&mut three.acme, ACME, &mut three.initech, INITECH);
    part(&mut three.acme, &mut three.initech);
    connect(&mut three.acme, ACME, &mut hooli, HOOLI);
    part(&mut three.acme, &mut hooli);
    let globex = three.globex.id;
    assert_eq!((three.held(), peer(&mut hooli, globex).in_custody), (3, 3));
    // One of them is enough.
    connect(&mut hooli, HOOLI, &mut three.globex, GLOBEX);
    assert_eq!(three.bob.receive_numbers(&mut three.globex), [1, 2, 3]);
    settle(&mut hooli, &mut three.globex);
    part(&mut hooli, &mut three.globex);
    connect(&mut three.initech, INITECH, &mut three.globex, GLOBEX);
    assert_eq!(three.bob.receive(&mut three.globex), 0, "nothing comes twice");
    assert_eq!((three.held(), peer(&mut hooli, globex).in_custody), (0, 0));
    part(&mut three.initech, &mut three.globex);
    connect(&mut three.initech, INITECH, &mut three.acme, ACME);
    let told: Vec<Claim> = three.alice.notes(&mut three.acme);
    assert_eq!(told.iter().filter(|claim| **claim == Claim::Delivered).count(), 3, "{told:?}");
}

#[test]
fn only_so_much_is_held_as_was_agreed() {
    let mut three = three(Some(terms(2)), true);
    three.write(5);
    connect(&mut three.acme, ACME, &mut three.initech, INITECH);
    assert_eq!(three.held(), 2);
    part(&mut three.acme, &mut three.initech);
    connect(&mut three.acme, ACME, &mut three.globex, GLOBEX);
    assert_eq!(three.bob.receive_numbers(&mut three.globex), [3, 4, 5], "the others go at once");
}

#[test]
fn nothing_is_held_without_both_halves_of_the_agreement() {
    for (terms, named) in [(None, true), (Some(terms(9)), false)] {
        let mut three = three(terms, named);
        three.write(1);
        connect(&mut three.acme, ACME, &mut three.initech, INITECH);
        assert_eq!(three.held(), 0, "{terms:?} {named}");
    }
    let mut three = three(None, true);
    assert_eq!(peer(&mut three.globex, three.initech.id).consent_rows, Some(0), "it is told");
    three.write(1);
    connect(&mut three.acme, ACME, &mut three.initech, INITECH);
    let (destination, eids) = (three.globex.id, vec![Eid([1; 24])]);
    let input = PeerInput::Offer { destination, eids };
    three.initech.give([Event::Peer { link: LinkId(1), input }]);
    let frame = three.initech.to_peer.pop_front().expect("an answer");
    let frame: PeerFrame = codec::decode(&frame.header).unwrap();
    let PeerFrame::Wanted(wanted) = frame else { panic!("another frame") };
    assert_eq!(wanted.refusal.map(|refusal| refusal.code), Some(RefusalCode::Refused));
}
