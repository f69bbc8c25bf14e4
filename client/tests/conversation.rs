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

use support::{DAY_MS, TestSealer, World};
use tidings_client::{
    crypto::{PqSealer, StubSealer},
    event::{Status, Warning},
};
use tidings_protocol::client_frame::{ClientFrame, NodeFrame};

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
fn a_device_whose_clock_is_wrong_is_served_and_says_so() {
    for ahead_ms in [3 * 3_600_000, 30 * DAY_MS] {
        let mut world = World::<StubSealer>::new();
        world.nodes_ahead_ms = ahead_ms;
        let (alice, bob) = (world.join("alice", 1), world.join("bob", 2));
        let message = world.send(alice, bob, "now");
        world.run();
        assert_eq!(world.texts(bob), ["now"]);
        assert_eq!(world.status(alice, &message), [Status::Delivered]);
        let offset_ms = i64::try_from(ahead_ms).unwrap();
        assert!(world.devices[alice].warnings.contains(&Warning::Clock { offset_ms }));
        let sent = world.devices[alice].sent.iter().find_map(|frame| match frame {
            ClientFrame::Submit(submit) => submit.heads.first(),
            _ => None,
        });
        let created_ms = sent.unwrap().header.created_ms;
        assert_eq!(created_ms, world.now_ms + ahead_ms, "dated by the node's clock");
    }
}

#[test]
fn what_is_missing_is_said_by_the_next_message_that_is_shown() {
    let mut world = World::<StubSealer>::new();
    let (alice, bob) = (world.join("alice", 1), world.join("bob", 2));
    world.send(alice, bob, "one");
    world.run();
    let (node, id) = (world.devices[bob].peer.node, world.devices[bob].core.device_id());
    world.nodes.get_mut(&node).unwrap().hold_inbox = true;
    world.send(alice, bob, "two");
    world.send(alice, bob, "three");
    world.run();
    // "two" is lost; "three" waits for it at bob's device, and expires there.
    let inbox = world.nodes.get_mut(&node).unwrap().inbox.get_mut(&id).unwrap();
    let (deliver, body) = core::mem::take(inbox).into_values().next_back().unwrap();
    world.nodes.get_mut(&node).unwrap().hold_inbox = false;
    world.frame(bob, NodeFrame::Deliver(deliver), body);
    world.disconnect(alice);
    world.disconnect(bob);
    world.now_ms += 31 * DAY_MS;
    world.connect(alice);
    world.connect(bob);
    world.run();
    world.send(alice, bob, "four");
    world.run();
    world.wait(5_000);
    assert_eq!(world.texts(bob), ["one", "four"]);
    assert_eq!(world.devices[bob].shown[1].missing, 1, "\"two\" is missing, \"three\" came");
    assert_eq!(world.devices[bob].core.counters().expired_unshown, 1);
}
