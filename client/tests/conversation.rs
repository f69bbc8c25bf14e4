//! Two people, two nodes: from the clock to the blue tick, and what may go wrong on the way.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a failure here is a failed test"
)]

#[allow(dead_code, reason = "each test file uses its part")]
mod support;

use support::{TestSealer, World};
use tidings_client::{
    crypto::{PqSealer, StubSealer},
    event::Status,
};

fn send_deliver_read<S: TestSealer>() {
    let mut world = World::<S>::new();
    let alice = world.join("alice", 1);
    let bob = world.join("bob", 2);
    let hello = world.send(alice, bob, "hello bob");
    assert!(world.status(alice, &hello).is_empty() || world.texts(bob).is_empty());
    world.run();
    assert_eq!(world.texts(bob), ["hello bob"]);
    assert_eq!(world.status(alice, &hello), [Status::Delivered]);
    let answer = world.send(bob, alice, "hello alice");
    world.run();
    assert_eq!(world.texts(alice), ["hello alice"]);
    assert_eq!(world.status(bob, &answer), [Status::Delivered]);
    let shown = world.devices[bob].shown[0].message.clone();
    world.display(bob, vec![shown]);
    world.run();
    assert_eq!(world.status(alice, &hello), [Status::Read]);
    assert!(world.devices[alice].warnings.is_empty(), "{:?}", world.devices[alice].warnings);
    assert!(world.devices[bob].warnings.is_empty(), "{:?}", world.devices[bob].warnings);
    assert_eq!(world.devices[alice].core.outbox_len(), 0, "nothing is left to do");
    assert_eq!(world.devices[bob].core.outbox_len(), 0, "nothing is left to do");
}

#[test]
fn from_the_clock_to_the_blue_tick_with_a_stub() {
    send_deliver_read::<StubSealer>();
}

#[test]
fn from_the_clock_to_the_blue_tick_with_real_encryption() {
    send_deliver_read::<PqSealer>();
}

#[test]
fn many_messages_both_ways_keep_their_order() {
    let mut world = World::<PqSealer>::new();
    let alice = world.join("alice", 1);
    let bob = world.join("bob", 1);
    for n in 0..40 {
        world.send(alice, bob, &format!("a{n}"));
        if n % 3 == 0 {
            world.send(bob, alice, &format!("b{n}"));
        }
        if n % 7 == 0 {
            world.run();
        }
    }
    world.run();
    let expected: Vec<_> = (0..40).map(|n| format!("a{n}")).collect();
    assert_eq!(world.texts(bob), expected);
    assert_eq!(world.texts(alice).len(), 14);
    assert_eq!(world.devices[alice].core.outbox_len(), 0);
}

#[test]
fn every_tick_is_a_proof_that_verifies_offline() {
    use tidings_protocol::{
        codec,
        evidence::{Evidence, ProvedSigner, TrustRoots, verify},
        statement::Claim,
    };
    use tidings_store::Store as _;

    let mut world = World::<PqSealer>::new();
    let alice = world.join("alice", 1);
    let bob = world.join("bob", 2);
    let message = world.send(alice, bob, "prove it");
    world.run();
    let shown = world.devices[bob].shown[0].message.clone();
    world.display(bob, vec![shown]);
    world.run();
    let device = &world.devices[alice];
    let mut bytes = Vec::new();
    device
        .store
        .view(&mut |txn| {
            bytes = codec::encode(&device.core.evidence(txn, &message)?);
            Ok(())
        })
        .unwrap();
    let evidence: Evidence = codec::decode_canonical(&bytes).unwrap();
    let accounts = vec![world.devices[bob].core.device_list().list.identity];
    let nodes = vec![world.node(1), world.node(2)];
    let findings = verify(&evidence, &TrustRoots { nodes, accounts });
    let verdict = |claim| {
        let mut of = findings.iter().filter(|f| f.statement.as_ref().unwrap().claim == claim);
        let finding = of.next().unwrap();
        assert!(of.next().is_none());
        finding.verdict.clone()
    };
    assert_eq!(verdict(Claim::Accepted), Ok(ProvedSigner::Node(world.node(1))));
    // The delegation of Bob's node came along with its statement.
    assert_eq!(verdict(Claim::AtDest), Ok(ProvedSigner::Node(world.node(2))));
    for claim in [Claim::Delivered, Claim::Read] {
        let Ok(ProvedSigner::Device { device, name, .. }) = verdict(claim) else {
            panic!("{findings:?}");
        };
        assert_eq!(device, world.devices[bob].core.device_id());
        assert_eq!(name.as_str(), "bob");
    }
}

#[test]
fn a_screen_reads_pages_counts_and_searches() {
    use tidings_client::{Direction, Draft, PageAt, Searched};
    use tidings_store::Store as _;

    let mut world = World::<StubSealer>::new();
    let alice = world.join("alice", 1);
    let bob = world.join("bob", 2);
    let [alice_peer, bob_peer] = [alice, bob].map(|who| world.devices[who].peer.clone());
    for n in 0..30 {
        world.now_ms += 1;
        world.send(alice, bob, &format!("number {n}"));
        world.run();
    }
    let device = &mut world.devices[bob];
    let seen: Vec<_> = device.shown.iter().map(|shown| shown.message.clone()).collect();
    device
        .store
        .view(&mut |txn| {
            let core = &device.core;
            let page = |at, max| {
                let page = core.page(txn, &alice_peer, at, max)?;
                let texts: Vec<_> = page.messages.into_iter().map(|view| view.text).collect();
                Ok::<_, tidings_store::StoreError>((texts, page.earlier, page.later))
            };
            let texts = |from: usize, to: usize| -> Vec<String> {
                (from..to).map(|n| format!("number {n}")).collect()
            };
            assert_eq!(page(PageAt::Newest, 4)?, (texts(26, 30), true, false));
            assert_eq!(page(PageAt::Newest, 100)?, (texts(0, 30), false, false));
            assert_eq!(page(PageAt::Around(seen[10].msg), 6)?, (texts(7, 13), true, true));
            assert_eq!(page(PageAt::Around(seen[29].msg), 6)?, (texts(24, 30), true, false));
            assert_eq!(page(PageAt::Around(seen[0].msg), 6)?, (texts(0, 3), false, true));
            let view = core.conversation_with(txn, &alice_peer)?.unwrap();
            assert_eq!((view.unread, view.first_unread), (30, Some(seen[0].msg)));
            assert_eq!(view.last.as_ref().map(|last| last.text.as_str()), Some("number 29"));
            assert_eq!(core.conversations(txn)?, [view]);
            assert_eq!(core.message(txn, &seen[3])?.unwrap().text, "number 3");
            let search = |from, way, what: &str, rows| {
                core.search(txn, &alice_peer, from, way, &|text| text.ends_with(what), rows)
            };
            assert_eq!(search(None, Direction::Older, "9", 10)?, Searched::Found(seen[29].clone()));
            let older = search(Some(&seen[29]), Direction::Older, "9", 100)?;
            assert_eq!(older, Searched::Found(seen[19].clone()));
            let newer = search(Some(&seen[19]), Direction::Newer, "9", 100)?;
            assert_eq!(newer, Searched::Found(seen[29].clone()));
            let step = search(None, Direction::Older, "none", 10)?;
            assert_eq!(step, Searched::GoOn(seen[20].clone()));
            assert_eq!(search(Some(&seen[2]), Direction::Older, "none", 10)?, Searched::End);
            Ok(())
        })
        .unwrap();
    world.display(bob, seen[..29].to_vec());
    let device = &mut world.devices[bob];
    let carol = tidings_client::event::Peer {
        name: tidings_protocol::address::UserName::parse("carol").unwrap(),
        ..bob_peer
    };
    let draft = Draft { text: "dear carol".to_owned(), reply_to: None };
    let core = &mut device.core;
    device.store.batch(&mut |txn| core.save_draft(txn, &carol, Some(&draft))).unwrap();
    device
        .store
        .view(&mut |txn| {
            let views = device.core.conversations(txn)?;
            let of = |at: usize| (&views[at].peer, views[at].unread, views[at].draft.as_ref());
            assert_eq!(of(0), (&alice_peer, 1, None));
            assert_eq!(views[0].first_unread, Some(seen[29].msg));
            assert_eq!(of(1), (&carol, 0, Some(&draft)));
            Ok(())
        })
        .unwrap();
    device.store.batch(&mut |txn| device.core.save_draft(txn, &carol, None)).unwrap();
    device
        .store
        .view(&mut |txn| {
            assert_eq!(device.core.draft(txn, &carol)?, None);
            Ok(())
        })
        .unwrap();
}
