//! What a custodian sees and may let go, and what becomes of an envelope that was changed on its way or
//! sealed to a key that was replaced. How it holds and hands over at all is in `custody.rs`.

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

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use tidings_core::{
    event::{Event, LinkId},
    ingress::{Read, read_peer_frame},
    schema::{OUT, OUTBOX, WAYS},
};
use tidings_protocol::{
    codec,
    envelope::EnvelopeHead,
    frame::Frame,
    id::DeviceId,
    peer_frame::{Forward, PeerFrame},
    refusal::RefusalCode,
    sealed::SealedTargets,
    statement::Claim,
};
use tidings_store::{MemDisk, Store as _, Table};

use three::{
    ACME, GLOBEX, INITECH, Three, connect, fail_to_reach, part, peer, settle,
    support::{self, NOW_MS, Node, identity_again, identity_with},
    terms, three,
};

/// The forwarded envelopes among what a node wants to send, taken out.
fn forwarded(node: &mut Node) -> Vec<(Forward, Frame)> {
    let frames: Vec<Frame> = node.to_peer.drain(..).collect();
    let read = |frame: Frame| match codec::decode(&frame.header).unwrap() {
        PeerFrame::Forward(forward) => Some((forward, frame)),
        _ => None,
    };
    frames.into_iter().filter_map(read).collect()
}

/// What globex answers to a frame of initech.
fn answer_of(globex: &mut Node, frame: &Frame) -> Option<RefusalCode> {
    let Read::Input(input) = read_peer_frame(frame, NOW_MS, &globex.opener) else {
        panic!("the frame was not taken")
    };
    globex.to_peer.clear();
    globex.give([Event::Peer { link: LinkId(1), input }]);
    let took =
        globex.to_peer.iter().find_map(|frame| match codec::decode(&frame.header).unwrap() {
            PeerFrame::Took(took) => Some(took),
            _ => None,
        });
    let answers = took.expect("an answer").answers;
    answers.first().expect("one").refusal.as_ref().map(|refusal| refusal.code)
}

/// Both have greeted, and what initech then wants to send stands still.
fn greeted(three: &mut Three) -> Vec<(Forward, Frame)> {
    let Three { initech, globex, .. } = three;
    let link = LinkId(1);
    for (node, other) in [(&mut *initech, GLOBEX), (&mut *globex, INITECH)] {
        node.to_peer.clear();
        let transport = vec![other; 34].into();
        node.give([Event::PeerConnected { link, transport, dialer: true }]);
    }
    let hellos = [globex.to_peer.pop_front().unwrap(), initech.to_peer.pop_front().unwrap()];
    for (node, hello) in [&mut *initech, &mut *globex].into_iter().zip(hellos) {
        let Read::Input(input) = read_peer_frame(&hello, NOW_MS, &node.opener) else { panic!() };
        node.give([Event::Peer { link, input }]);
    }
    forwarded(initech)
}

#[test]
fn a_custodian_sees_neither_devices_nor_parts() {
    let mut three = three(Some(terms(100)), true);
    three.write(1);
    connect(&mut three.acme, ACME, &mut three.initech, INITECH);
    assert_eq!(three.held(), 1);
    let device = DeviceId::of(&three.bob.key.public());
    let mut rows = Vec::new();
    let read = three.initech.store.view(&mut |txn| {
        rows = txn.range(OUTBOX, &[], &[0xff; 13], 10)?;
        Ok(())
    });
    read.unwrap();
    let row = &rows.first().expect("a row").1;
    assert!(row.windows(6).any(|window| window == b"sealed"), "the body is there");
    assert!(!row.windows(16).any(|window| window == device.as_bytes()), "the device is not");
}

#[test]
fn targets_that_were_swapped_or_bent_on_the_way_are_refused_and_the_envelope_comes_all_the_same() {
    let mut three = three(Some(terms(100)), true);
    three.write(1);
    connect(&mut three.acme, ACME, &mut three.initech, INITECH);
    part(&mut three.acme, &mut three.initech);
    let (forward, frame) = greeted(&mut three).pop().expect("what it held");
    let resent = |forward: Forward| Frame {
        header: codec::encode(&PeerFrame::Forward(forward)).into(),
        body: frame.body.clone(),
    };
    // For another device: carol's, say. Anybody can seal that to globex.
    let mut other = three.bob.envelope(three.acme.id, three.globex.id, 7);
    other.targets.first_mut().expect("a target").list_version = 9;
    let EnvelopeHead { targets, .. } = other;
    let mut rng = ChaCha20Rng::from_seed([1; 32]);
    let to = three.globex.opener.secret.public();
    let sealed =
        SealedTargets::seal(&targets, &forward.header, &forward.eid(), &to, &mut rng).unwrap();
    let swapped = resent(Forward { targets: sealed, ..forward.clone() });
    assert_eq!(answer_of(&mut three.globex, &swapped), Some(RefusalCode::Malformed));
    let mut bent = forward.targets.clone();
    let mut bytes = bent.sealed.to_vec();
    bytes[40] ^= 1;
    bent.sealed = bytes.into();
    let bent = resent(Forward { targets: bent, ..forward.clone() });
    assert_eq!(answer_of(&mut three.globex, &bent), Some(RefusalCode::Malformed));
    let body = Frame { body: b"another body".as_slice().into(), ..resent(forward.clone()) };
    assert_eq!(answer_of(&mut three.globex, &body), Some(RefusalCode::Malformed));
    let copies = vec![tidings_protocol::id::CopyId([9; 32])];
    let renamed = resent(Forward { copies, ..forward });
    assert_eq!(answer_of(&mut three.globex, &renamed), Some(RefusalCode::NotAuthorised));
    assert_eq!(answer_of(&mut three.globex, &frame), None, "as it was sealed");
    assert_eq!(three.bob.receive_numbers(&mut three.globex), [1]);
}

#[test]
fn a_block_for_a_replaced_key_is_dropped_and_sealed_again() {
    let disk = MemDisk::new();
    let mut three = three::three_on(&disk, Some(terms(100)), true);
    three.write(1);
    connect(&mut three.acme, ACME, &mut three.initech, INITECH);
    part(&mut three.acme, &mut three.initech);
    let custodians = vec![three.initech.id];
    let renewed = identity_again(GLOBEX, custodians, 2, 99);
    three.globex = Node::open_as(GLOBEX, renewed, &disk, 2, NOW_MS);
    connect(&mut three.initech, INITECH, &mut three.globex, GLOBEX);
    assert_eq!(three.held(), 0, "nobody can open it");
    part(&mut three.initech, &mut three.globex);
    // acme has not met globex since: initech shows it the new delegation.
    let globex = three.globex.id;
    fail_to_reach(&mut three.acme, globex);
    connect(&mut three.acme, ACME, &mut three.initech, INITECH);
    assert_eq!(three.held(), 1);
    part(&mut three.acme, &mut three.initech);
    let (bob, _) = three.bob.again(&mut three.globex, tidings_core::event::ConnId(77));
    connect(&mut three.initech, INITECH, &mut three.globex, GLOBEX);
    assert_eq!(bob.receive_numbers(&mut three.globex), [1]);
}

#[test]
fn once_its_destination_has_it_a_custodian_keeps_the_way_back_alone() {
    let mut three = three(Some(terms(100)), true);
    three.write(1);
    connect(&mut three.acme, ACME, &mut three.initech, INITECH);
    part(&mut three.acme, &mut three.initech);
    three.globex.give([Event::ClientClosed { conn: three.bob.conn }]);
    connect(&mut three.initech, INITECH, &mut three.globex, GLOBEX);
    assert_eq!(three.held(), 0, "globex has signed for it");
    let globex = three.globex.id;
    assert_eq!(peer(&mut three.initech, globex).queued, 0);
    let (bob, _) = three.bob.again(&mut three.globex, tidings_core::event::ConnId(77));
    assert_eq!(bob.receive_numbers(&mut three.globex), [1]);
    settle(&mut three.initech, &mut three.globex);
    part(&mut three.initech, &mut three.globex);
    connect(&mut three.initech, INITECH, &mut three.acme, ACME);
    let notes = three.alice.notes(&mut three.acme);
    assert_eq!(notes, [Claim::Custody, Claim::AtDest, Claim::Delivered]);
    assert_eq!(peer(&mut three.acme, globex).queued, 0);
}

#[test]
fn a_way_back_that_its_destination_knows_no_more_is_forgotten() {
    let disk = MemDisk::new();
    let mut three = three::three_on(&disk, Some(terms(100)), true);
    three.globex.give([Event::ClientClosed { conn: three.bob.conn }]);
    let before = disk.image();
    three.write(1);
    connect(&mut three.acme, ACME, &mut three.initech, INITECH);
    part(&mut three.acme, &mut three.initech);
    connect(&mut three.initech, INITECH, &mut three.globex, GLOBEX);
    part(&mut three.initech, &mut three.globex);
    assert_eq!(rows(&mut three.initech, OUT), 1, "the way back");
    disk.restore(&before);
    let identity = identity_with(GLOBEX, vec![three.initech.id]);
    three.globex = Node::open_as(GLOBEX, identity, &disk, 2, NOW_MS);
    connect(&mut three.initech, INITECH, &mut three.globex, GLOBEX);
    // Who was put back finds out, and begins anew.
    part(&mut three.initech, &mut three.globex);
    connect(&mut three.initech, INITECH, &mut three.globex, GLOBEX);
    assert_eq!([rows(&mut three.initech, OUT), rows(&mut three.initech, WAYS)], [0, 0]);
    part(&mut three.initech, &mut three.globex);
    // Its origin has it, and brings it.
    let (bob, _) = three.bob.again(&mut three.globex, tidings_core::event::ConnId(77));
    connect(&mut three.acme, ACME, &mut three.globex, GLOBEX);
    assert_eq!(bob.receive_numbers(&mut three.globex), [1]);
    settle(&mut three.acme, &mut three.globex);
    assert_eq!(rows(&mut three.acme, OUT), 0);
}

#[test]
fn a_custodian_that_was_put_back_asks_for_the_ends_that_it_has_missed() {
    let disk = MemDisk::new();
    let mut three = three(Some(terms(100)), true);
    let (id, mut settings) = support::identity(INITECH);
    settings.custody = vec![terms(100)];
    let identity = (id, settings);
    three.initech = Node::open_as(INITECH, identity.clone(), &disk, 1, NOW_MS);
    connect(&mut three.initech, INITECH, &mut three.globex, GLOBEX);
    part(&mut three.initech, &mut three.globex);
    three.write(1);
    connect(&mut three.acme, ACME, &mut three.initech, INITECH);
    part(&mut three.acme, &mut three.initech);
    three.globex.give([Event::ClientClosed { conn: three.bob.conn }]);
    connect(&mut three.initech, INITECH, &mut three.globex, GLOBEX);
    let before = disk.image();
    let (bob, _) = three.bob.again(&mut three.globex, tidings_core::event::ConnId(77));
    assert_eq!(bob.receive_numbers(&mut three.globex), [1]);
    settle(&mut three.initech, &mut three.globex);
    assert_eq!(rows(&mut three.initech, OUT), 0);
    part(&mut three.initech, &mut three.globex);
    disk.restore(&before);
    three.initech = Node::open_as(INITECH, identity, &disk, 2, NOW_MS);
    assert_eq!(rows(&mut three.initech, OUT), 1);
    connect(&mut three.initech, INITECH, &mut three.globex, GLOBEX);
    // Who was put back finds out, and begins anew.
    part(&mut three.initech, &mut three.globex);
    connect(&mut three.initech, INITECH, &mut three.globex, GLOBEX);
    assert_eq!([rows(&mut three.initech, OUT), rows(&mut three.initech, WAYS)], [0, 0]);
}

fn rows(node: &mut Node, table: Table) -> usize {
    let mut count = 0;
    let mut read = |txn: &mut dyn tidings_store::Txn| {
        count = txn.range(table, &[], &[0xff; 40], 100)?.len();
        Ok(())
    };
    node.store.batch(&mut read).unwrap();
    count
}
