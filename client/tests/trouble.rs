//! What goes wrong between devices and nodes, and that each of it heals or is said.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a failure here is a failed test"
)]

#[allow(dead_code, reason = "each test file uses its part")]
mod support;

use bytes::Bytes;
use support::{DAY_MS, World};
use tidings_client::{
    ClientEvent,
    crypto::{PqSealer, StubSealer},
    event::{CloseWhy, Status, Warning},
};
use tidings_protocol::{
    client_frame::{ClientFrame, NodeFrame},
    refusal::RefusalCode,
    statement::{Claim, Reason, Statement},
};
use tidings_store::Store as _;

type Stub = StubSealer;

fn pair() -> (World<Stub>, usize, usize) {
    let mut world = World::new();
    let alice = world.join("alice", 1);
    let bob = world.join("bob", 2);
    (world, alice, bob)
}

fn submits(world: &World<Stub>, index: usize) -> Vec<tidings_protocol::client_frame::Submit> {
    let sent = world.devices[index].sent.iter();
    sent.filter_map(|frame| match frame {
        ClientFrame::Submit(submit) => Some(submit.clone()),
        ClientFrame::Hello(_)
        | ClientFrame::Join(_)
        | ClientFrame::Received(_)
        | ClientFrame::Noted(_)
        | ClientFrame::FetchBundle(_)
        | ClientFrame::PublishPrekeys(_)
        | ClientFrame::PublishList(_)
        | ClientFrame::ShowLists(_)
        | ClientFrame::Resolve(_)
        | ClientFrame::Ping(_) => None,
    })
    .collect()
}

#[test]
fn what_is_written_offline_leaves_after_the_hello() {
    let (mut world, alice, bob) = pair();
    world.disconnect(alice);
    let message = world.send(alice, bob, "later");
    world.restart(alice);
    world.run();
    assert!(world.status(alice, &message).is_empty(), "a clock, nothing more");
    world.connect(alice);
    world.run();
    assert_eq!(world.texts(bob), ["later"]);
    assert_eq!(world.status(alice, &message), [Status::Delivered]);
}

#[test]
fn an_unanswered_submission_is_sent_again_verbatim() {
    let (mut world, alice, bob) = pair();
    world.send(alice, bob, "one");
    world.run();
    let before = submits(&world, alice).len();
    world.send(alice, bob, "two");
    // The node never hears it: the link breaks, and so does the device.
    world.disconnect(alice);
    world.restart(alice);
    world.connect(alice);
    world.run();
    let sent = submits(&world, alice);
    assert_eq!(sent.len(), before + 2);
    assert_eq!(sent[before].submit, sent[before + 1].submit);
    assert_eq!(sent[before].heads, sent[before + 1].heads);
    assert_eq!(world.texts(bob), ["one", "two"]);
}

#[test]
fn a_duplicate_is_answered_unopened_with_the_same_statement() {
    let (mut world, alice, bob) = pair();
    let node = world.devices[bob].peer.node;
    world.nodes.get_mut(&node).unwrap().hold_inbox = true;
    world.send(alice, bob, "once");
    world.run();
    let id = world.devices[bob].core.device_id();
    let (deliver, body) = world.nodes[&node].inbox[&id].values().next().unwrap().clone();
    for _ in 0..2 {
        world.wait(10_000);
        world.frame(bob, NodeFrame::Deliver(deliver.clone()), body.clone());
    }
    world.restart(bob);
    world.connect(bob);
    world.run();
    world.frame(bob, NodeFrame::Deliver(deliver), body);
    let answers: Vec<_> = world.devices[bob]
        .sent
        .iter()
        .filter_map(|frame| match frame {
            ClientFrame::Received(received) => Some(received.proof.leaves[0].statement.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(answers.len(), 3);
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(world.texts(bob), ["once"]);
    assert_eq!(world.devices[bob].core.counters().duplicates, 1);
}

#[test]
fn many_copies_in_one_batch_are_signed_once() {
    let (mut world, alice, bob) = pair();
    let node = world.devices[bob].peer.node;
    world.nodes.get_mut(&node).unwrap().hold_inbox = true;
    for n in 0..100 {
        world.send(alice, bob, &format!("{n}"));
    }
    world.run();
    world.nodes.get_mut(&node).unwrap().hold_inbox = false;
    world.run();
    let roots: std::collections::BTreeSet<Bytes> = world.devices[bob]
        .sent
        .iter()
        .filter_map(|frame| match frame {
            ClientFrame::Received(received) => Some(received.proof.root.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(roots.len(), 1);
    let expected: Vec<_> = (0..100).map(|n| n.to_string()).collect();
    assert_eq!(world.texts(bob), expected);
    assert_eq!(world.devices[alice].core.outbox_len(), 0);
}

#[test]
fn a_node_that_lost_what_it_accepted_gets_it_again() {
    let (mut world, alice, bob) = pair();
    let node = world.devices[alice].peer.node;
    let away = world.devices[bob].peer.node;
    world.nodes.get_mut(&away).unwrap().hold_inbox = true;
    let message = world.send(alice, bob, "kept");
    world.run();
    assert_eq!(world.status(alice, &message), [Status::AtDest]);
    world.disconnect(alice);
    world.nodes.get_mut(&node).unwrap().roll_back();
    world.nodes.get_mut(&away).unwrap().inbox.clear();
    world.nodes.get_mut(&away).unwrap().hold_inbox = false;
    world.connect(alice);
    world.run();
    assert!(world.devices[alice].warnings.contains(&Warning::NodeRolledBack));
    assert_eq!(world.texts(bob), ["kept"]);
    assert_eq!(world.status(alice, &message), [Status::Delivered]);
    let sent = submits(&world, alice);
    assert_eq!(sent[0].submit, sent[1].submit);
}

#[test]
fn an_acceptance_of_another_store_earns_no_tick() {
    let (mut world, alice, bob) = pair();
    let node = world.devices[alice].peer.node;
    world.nodes.get_mut(&node).unwrap().wrong_incarnation = true;
    let away = world.devices[bob].peer.node;
    world.nodes.get_mut(&away).unwrap().hold_inbox = true;
    let message = world.send(alice, bob, "no tick");
    world.run();
    let statuses = world.status(alice, &message);
    assert!(!statuses.contains(&Status::Accepted));
    assert_eq!(world.devices[alice].closed, [CloseWhy::Broke]);
}

#[test]
fn a_busy_node_is_tried_again_and_a_refusal_for_good_is_shown() {
    let (mut world, alice, bob) = pair();
    let node = world.devices[alice].peer.node;
    world.nodes.get_mut(&node).unwrap().refuse = Some(RefusalCode::Busy);
    let first = world.send(alice, bob, "one");
    let second = world.send(alice, bob, "two");
    world.run();
    world.wait(20_000);
    world.nodes.get_mut(&node).unwrap().refuse = None;
    world.wait(130_000);
    assert_eq!(world.texts(bob), ["one", "two"]);
    assert_eq!(world.status(alice, &first), [Status::Delivered]);
    assert_eq!(world.status(alice, &second), [Status::Delivered]);
    world.nodes.get_mut(&node).unwrap().refuse = Some(RefusalCode::Refused);
    let third = world.send(alice, bob, "three");
    world.run();
    assert_eq!(world.status(alice, &third), [Status::Failed(Some(Reason::Policy))]);
    assert_eq!(world.devices[alice].core.outbox_len(), 0);
}

#[test]
fn a_window_that_is_refused_at_once_waits_like_one_message() {
    let (mut world, alice, bob) = pair();
    let node = world.devices[alice].peer.node;
    world.nodes.get_mut(&node).unwrap().refuse = Some(RefusalCode::Quota);
    (0..50).for_each(|n| drop(world.send(alice, bob, &format!("{n}"))));
    world.run();
    world.nodes.get_mut(&node).unwrap().refuse = None;
    // The first pause is one second at most, however many were refused.
    world.wait(1_500);
    assert_eq!(world.texts(bob).len(), 50);
}

#[test]
fn nobody_of_that_name_is_said_and_delays_nobody_else() {
    let (mut world, alice, bob) = pair();
    let mut nobody = world.devices[bob].peer.clone();
    nobody.name = tidings_protocol::address::UserName::parse("nobody").unwrap();
    let lost = world.send_to(alice, nobody, "hm");
    let message = world.send(alice, bob, "hello");
    world.run();
    assert_eq!(world.status(alice, &lost), [Status::Failed(Some(Reason::UnknownRecipient))]);
    assert_eq!(world.status(alice, &message), [Status::Delivered]);
}

#[test]
fn what_expires_before_it_leaves_says_so() {
    let (mut world, alice, bob) = pair();
    world.disconnect(alice);
    let message = world.send(alice, bob, "too late");
    world.wait(31 * DAY_MS);
    assert_eq!(world.status(alice, &message), [Status::Failed(Some(Reason::Expired))]);
    world.connect(alice);
    world.run();
    assert!(world.texts(bob).is_empty());
    assert_eq!(world.devices[alice].core.outbox_len(), 0);
}

#[test]
fn all_devices_of_both_get_a_message_and_see_its_ticks() {
    let mut world = World::<PqSealer>::new();
    let alice = world.join("alice", 1);
    let bob = world.join("bob", 1);
    let alice_two = world.link(alice);
    let bob_two = world.link(bob);
    let message = world.send(alice, bob, "to all");
    world.run();
    assert_eq!(world.texts(bob), ["to all"]);
    assert_eq!(world.texts(bob_two), ["to all"]);
    assert_eq!(world.texts(alice_two), ["to all"]);
    assert!(world.devices[alice_two].shown[0].message.mine);
    assert_eq!(world.status(alice, &message), [Status::Delivered; 2]);
    assert_eq!(world.status(alice_two, &message), [Status::Delivered; 2]);
    let shown = world.devices[bob].shown[0].message.clone();
    world.display(bob, vec![shown.clone()]);
    world.run();
    assert_eq!(world.devices[bob_two].read_elsewhere, [shown]);
    for index in [alice, alice_two] {
        let mut statuses = world.status(index, &message);
        statuses.sort();
        assert_eq!(statuses, [Status::Delivered, Status::Read]);
    }
    // The second device answers in the same conversation.
    world.send(alice_two, bob, "and I");
    world.run();
    assert_eq!(world.texts(bob), ["to all", "and I"]);
    assert_eq!(world.texts(alice), ["and I"]);
    for device in &world.devices {
        assert!(device.warnings.is_empty(), "{:?}", device.warnings);
        assert_eq!(device.core.outbox_len(), 0);
    }
}

#[test]
fn a_device_that_was_added_meanwhile_gets_what_it_missed() {
    let (mut world, alice, bob) = pair();
    world.send(alice, bob, "before");
    world.run();
    world.disconnect(alice);
    let bob_two = world.link(bob);
    let message = world.send(alice, bob, "for both");
    world.connect(alice);
    world.run();
    assert_eq!(world.texts(bob), ["before", "for both"]);
    assert!(world.texts(bob_two).contains(&"for both".to_owned()), "{:?}", world.texts(bob_two));
    assert_eq!(world.status(alice, &message), [Status::Delivered; 2]);
}

#[test]
fn lost_sessions_are_repaired_and_the_lost_message_comes_again() {
    let mut world = World::<PqSealer>::new();
    let alice = world.join("alice", 1);
    let bob = world.join("bob", 2);
    world.send(alice, bob, "one");
    world.run();
    world.send(bob, alice, "two");
    world.run();
    // Bob's device forgets its sessions, as by a fault of the disk.
    let device = &mut world.devices[bob];
    device
        .store
        .batch(&mut |txn| {
            for table in [tidings_client::schema::DEVICES, tidings_client::schema::TAGS] {
                for (key, _) in txn.range(table, &[], &[0xff; 32], 100)? {
                    txn.delete(table, &key)?;
                }
            }
            Ok(())
        })
        .unwrap();
    let messages = ["three", "four", "five"].map(|text| world.send(alice, bob, text));
    world.run();
    world.wait(10_000);
    assert_eq!(world.devices[bob].core.counters().undecryptable, 3);
    // Bob cannot know who wrote; his answers tell Alice, who begins anew and seals them again.
    assert_eq!(world.texts(bob), ["one", "three", "four", "five"]);
    for message in &messages {
        assert_eq!(world.status(alice, message), [Status::Delivered]);
    }
    assert_eq!(world.devices[alice].core.counters().resends, 3);
    world.send(bob, alice, "six");
    world.run();
    assert_eq!(world.texts(alice), ["two", "six"]);
    assert_eq!(world.devices[alice].core.outbox_len(), 0);
    assert_eq!(world.devices[bob].core.outbox_len(), 0);
}

#[test]
fn a_device_whose_sessions_fell_back_asks_for_what_it_lost() {
    let mut world = World::<PqSealer>::new();
    let alice = world.join("alice", 1);
    let bob = world.join("bob", 2);
    for round in 0..3 {
        world.send(alice, bob, &format!("a{round}"));
        world.run();
        world.send(bob, alice, &format!("b{round}"));
        world.run();
    }
    // Only the rows of the sessions fall back, as by a fault of the disk; the lineage does not.
    let sessions = world.sessions(bob);
    for n in 0..4 {
        world.send(alice, bob, &format!("x{n}"));
        world.run();
        world.send(bob, alice, &format!("y{n}"));
        world.run();
    }
    world.restore_sessions(bob, &sessions);
    world.send(alice, bob, "last");
    world.run();
    world.wait(10_000);
    assert_eq!(world.texts(bob).last().map(String::as_str), Some("last"));
    assert_eq!(world.devices[alice].core.outbox_len(), 0);
}

#[test]
fn forged_statements_move_nothing() {
    let (mut world, alice, bob) = pair();
    let away = world.devices[bob].peer.node;
    world.nodes.get_mut(&away).unwrap().hold_inbox = true;
    let message = world.send(alice, bob, "hello");
    world.run();
    let eid = {
        let head = &submits(&world, alice)[0].heads[0];
        let id = world.devices[bob].core.device_id();
        let (deliver, _) = world.nodes[&away].inbox[&id].values().next().unwrap();
        assert_eq!(deliver.header, head.header);
        deliver.eid
    };
    let claim = |claim| Statement {
        claim,
        eid,
        copy: None,
        at_ms: world.now_ms,
        reason: None,
        until_ms: None,
    };
    let (failed, accepted) = (claim(Claim::Failed), claim(Claim::Accepted));
    let liar = world.node(2);
    let own = world.node(1);
    // Another node than ours says that ours has accepted; ours says nothing new.
    world.say(liar, &accepted);
    world.say(own, &accepted);
    world.run();
    assert_eq!(world.status(alice, &message), [Status::AtDest]);
    assert_eq!(world.devices[alice].core.counters().bad_statements, 1);
    // The destination may fail it; a device's word still stands above that.
    world.say(liar, &failed);
    world.run();
    assert_eq!(world.status(alice, &message), [Status::Failed(None)]);
    world.nodes.get_mut(&away).unwrap().hold_inbox = false;
    world.run();
    assert_eq!(world.status(alice, &message), [Status::Delivered]);
}

#[test]
fn the_own_node_cannot_speak_for_another_whose_delegation_is_known() {
    let (mut world, alice, bob) = pair();
    world.send(alice, bob, "this brings the delegation of bob's node");
    world.run();
    let away = world.devices[bob].peer.node;
    world.nodes.get_mut(&away).unwrap().hold_inbox = true;
    let message = world.send(alice, bob, "hello");
    world.run();
    let id = world.devices[bob].core.device_id();
    let eid = world.nodes[&away].inbox[&id].values().next().unwrap().0.eid;
    let failed = Statement {
        claim: Claim::Failed,
        eid,
        copy: None,
        at_ms: world.now_ms,
        reason: None,
        until_ms: None,
    };
    let own = world.node(1);
    world.say_for(away, own, &failed);
    world.run();
    assert_eq!(world.status(alice, &message), [Status::AtDest]);
    assert_eq!(world.devices[alice].core.counters().bad_statements, 1);
    world.say(away, &failed);
    world.run();
    assert_eq!(world.status(alice, &message), [Status::Failed(None)]);
}

#[test]
fn a_changed_account_key_is_refused_until_a_person_accepts_it() {
    let (mut world, alice, bob) = pair();
    world.send(alice, bob, "to the real bob");
    world.run();
    // Another account under the same name, as a lying node would make it.
    let peer = world.devices[bob].peer.clone();
    world.disconnect(bob);
    let identity = world.identity(&peer);
    let mallory = world.add(&peer, &identity);
    world.event(
        mallory,
        ClientEvent::Join { invite: tidings_protocol::client_frame::InviteSecret([2; 16]) },
    );
    world.connect(mallory);
    world.run();
    let to = world.devices[alice].peer.clone();
    world.send_to(mallory, to, "it is me, bob");
    world.run();
    assert!(world.texts(alice).is_empty());
    assert!(world.devices[alice].warnings.contains(&Warning::KeyChanged(peer.clone())));
    let message = world.send(alice, bob, "secret");
    world.run();
    assert!(world.texts(mallory).is_empty());
    assert!(world.status(alice, &message).is_empty());
    // The key that was compared, and no other.
    for (by, seen) in [(alice, &[][..]), (mallory, &["secret"])] {
        let key = world.devices[by].core.device_list().list.identity;
        world.event(alice, ClientEvent::AcceptKey { peer: peer.clone(), key });
        world.run();
        assert_eq!(world.texts(mallory), seen);
    }
}

#[test]
fn a_gap_is_waited_for_and_then_shown() {
    let (mut world, alice, bob) = pair();
    world.send(alice, bob, "one");
    world.run();
    let node = world.devices[bob].peer.node;
    let id = world.devices[bob].core.device_id();
    world.nodes.get_mut(&node).unwrap().hold_inbox = true;
    for text in ["two", "three", "four"] {
        world.send(alice, bob, text);
    }
    world.run();
    let mut held = world.nodes[&node].inbox[&id].clone();
    let (_, (late, body)) = held.pop_first().unwrap();
    for (deliver, body) in held.into_values() {
        world.frame(bob, NodeFrame::Deliver(deliver), body);
    }
    assert_eq!(world.texts(bob), ["one"]);
    world.wait(5_000);
    assert_eq!(world.texts(bob), ["one", "three", "four"]);
    assert_eq!(world.devices[bob].shown[1].missing, 1);
    world.frame(bob, NodeFrame::Deliver(late), body);
    assert!(world.devices[bob].shown[3].is_late);
    let peer = world.devices[alice].peer.clone();
    let device = &world.devices[bob];
    device
        .store
        .view(&mut |txn| {
            let texts: Vec<_> =
                device.core.conversation(txn, &peer, 10)?.into_iter().map(|m| m.text).collect();
            assert_eq!(texts, ["one", "two", "three", "four"]);
            Ok(())
        })
        .unwrap();
}

#[test]
fn what_is_read_offline_is_told_on_the_next_link() {
    let (mut world, alice, bob) = pair();
    let sent = world.send(alice, bob, "read me on the train");
    world.run();
    assert_eq!(world.status(alice, &sent), [Status::Delivered]);
    world.disconnect(bob);
    let shown = world.devices[bob].shown[0].message.clone();
    world.display(bob, vec![shown]);
    world.run();
    assert_eq!(world.status(alice, &sent), [Status::Delivered]);
    // The phone was even switched off in between.
    world.restart(bob);
    world.connect(bob);
    world.run();
    assert_eq!(world.status(alice, &sent), [Status::Read]);
}

/// bob has "two" of alice, and will never have "one".
fn with_a_gap() -> (World<Stub>, usize, usize) {
    let (mut world, alice, bob) = pair();
    let node = world.devices[bob].peer.node;
    let id = world.devices[bob].core.device_id();
    world.nodes.get_mut(&node).unwrap().hold_inbox = true;
    for text in ["zero", "one", "two", "three", "four"] {
        world.send(alice, bob, text);
    }
    world.run();
    let inbox = world.nodes.get_mut(&node).unwrap().inbox.get_mut(&id).unwrap();
    let numbers: Vec<u64> = inbox.keys().copied().collect();
    inbox.remove(&numbers[1]);
    inbox.remove(&numbers[3]);
    world.nodes.get_mut(&node).unwrap().hold_inbox = false;
    (world, alice, bob)
}

#[test]
fn who_looks_in_waits_until_all_is_shown() {
    let (mut world, _, bob) = with_a_gap();
    world.disconnect(bob);
    world.connect(bob);
    world.run();
    assert!(!world.devices[bob].core.catch_up(), "it was only asked now");
    world.event(bob, ClientEvent::Tick);
    world.run();
    assert_eq!(world.texts(bob), ["zero"]);
    assert!(!world.devices[bob].core.catch_up(), "two messages wait for others");
    world.wait(5_000);
    assert_eq!(world.texts(bob), ["zero", "two", "four"], "one wait is enough: nothing more comes");
    assert!(world.devices[bob].core.catch_up());
}

#[test]
fn links_that_break_early_hold_nothing_for_ever() {
    let (mut world, _, bob) = with_a_gap();
    for texts in [1, 1, 2, 2, 3] {
        world.disconnect(bob);
        world.connect(bob);
        world.run();
        world.wait(2_000);
        assert_eq!(world.texts(bob).len(), texts);
    }
}

#[test]
fn a_silent_link_is_asked_and_then_ended() {
    let (mut world, alice, _) = pair();
    let before = world.devices[alice].sent.len();
    // The node no longer hears: frames are dropped.
    world.devices[alice].online = false;
    world.wait(95_000);
    let pings = world.devices[alice].sent[before..]
        .iter()
        .filter(|frame| matches!(frame, ClientFrame::Ping(_)))
        .count();
    assert!(pings >= 2);
    assert_eq!(world.devices[alice].closed, [CloseWhy::Silent]);
}
