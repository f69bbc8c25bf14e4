//! Devices whose store was put back to an older image: each notices, takes a new id, and loses nothing.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a failure here is a failed test"
)]

#[allow(dead_code, reason = "each test file uses its part")]
mod support;

use support::World;
use tidings_client::{
    ClientEvent,
    crypto::StubSealer,
    event::{CloseWhy, Status, StopWhy},
};
use tidings_protocol::{
    client_frame::{ClientFrame, InviteSecret, NodeFrame},
    refusal::RefusalCode,
};
use tidings_store::Store as _;

fn pair() -> (World<StubSealer>, usize, usize) {
    let mut world = World::new();
    let alice = world.join("alice", 1);
    let bob = world.join("bob", 2);
    (world, alice, bob)
}

#[test]
fn a_device_that_was_rolled_back_takes_a_new_id_and_loses_nothing() {
    let (mut world, alice, bob) = pair();
    world.send(alice, bob, "first");
    world.run();
    let old = world.devices[alice].core.device_id();
    let image = world.devices[alice].disk.image();
    world.send(alice, bob, "second");
    world.run();
    world.disconnect(alice);
    world.devices[alice].disk.restore(&image);
    world.restart(alice);
    let third = world.send(alice, bob, "third");
    world.connect(alice);
    world.run();
    assert_eq!(world.devices[alice].closed, [CloseWhy::NewDeviceId]);
    assert_ne!(world.devices[alice].core.device_id(), old);
    world.connect(alice);
    world.run();
    assert_eq!(world.texts(bob), ["first", "second", "third"]);
    assert_eq!(world.status(alice, &third), [Status::Delivered]);
    // And back, to the new device.
    world.send(bob, alice, "welcome back");
    world.run();
    assert_eq!(world.texts(alice), ["welcome back"]);
}

#[test]
fn two_devices_of_one_person_that_are_put_back_together_both_take_new_ids() {
    two_are_put_back(false);
}

/// The newer list comes before the refusal of the own one, which does not follow it.
#[test]
fn a_device_that_has_heard_by_what_its_list_was_overtaken_goes_on_top_of_that() {
    two_are_put_back(true);
}

fn two_are_put_back(tells_of_lists: bool) {
    let (mut world, alice, bob) = pair();
    let home = world.devices[bob].peer.node;
    world.nodes.get_mut(&home).unwrap().tells_of_lists = tells_of_lists;
    let bob_two = world.link(bob);
    let both = [bob, bob_two];
    let images = both.map(|device| world.devices[device].disk.image());
    let old = both.map(|device| world.devices[device].core.device_id());
    world.send(alice, bob, "before");
    world.run();
    for (device, image) in both.into_iter().zip(&images) {
        world.disconnect(device);
        world.devices[device].disk.restore(image);
        world.restart(device);
    }
    // Both greet before either has published: the second list does not follow the first.
    for device in both {
        world.connect(device);
    }
    world.run();
    for (device, old) in both.into_iter().zip(old) {
        assert_eq!(world.devices[device].closed, [CloseWhy::NewDeviceId]);
        assert_ne!(world.devices[device].core.device_id(), old);
        world.connect(device);
    }
    world.run();
    let message = world.send(alice, bob, "after");
    world.run();
    // The two old ids, which alice still wrote to, are told to be gone.
    let status = world.status(alice, &message);
    assert_eq!(status.iter().filter(|status| **status == Status::Delivered).count(), 2);
    for device in both {
        assert_eq!(world.texts(device).last().unwrap(), "after");
    }
}

#[test]
fn a_device_set_back_behind_what_it_only_received_notices() {
    let (mut world, alice, bob) = pair();
    world.send(alice, bob, "first");
    world.run();
    let old = world.devices[bob].core.device_id();
    let image = world.devices[bob].disk.image();
    world.send(alice, bob, "second");
    world.run();
    assert_eq!(world.texts(bob), ["first", "second"]);
    world.disconnect(bob);
    world.devices[bob].disk.restore(&image);
    world.restart(bob);
    world.connect(bob);
    world.run();
    assert_eq!(world.devices[bob].closed, [CloseWhy::NewDeviceId]);
    assert_ne!(world.devices[bob].core.device_id(), old);
    world.connect(bob);
    world.run();
    world.send(alice, bob, "third");
    world.run();
    assert_eq!(world.texts(bob).last().unwrap(), "third");
}

#[test]
fn a_device_that_was_answered_nothing_new_is_not_taken_for_set_back() {
    let (mut world, alice, bob) = pair();
    let home = world.devices[bob].peer.node;
    world.nodes.get_mut(&home).unwrap().hold_inbox = true;
    world.send(alice, bob, "twice");
    world.run();
    let id = world.devices[bob].core.device_id();
    let (deliver, body) = world.nodes[&home].inbox[&id].values().next().unwrap().clone();
    // The second time it is acknowledged in a batch that has nothing to write: it commits all the
    // same, since the answer names its commit. One without an answer does not.
    for _ in 0..2 {
        let frame = NodeFrame::Deliver(deliver.clone());
        world.event(bob, ClientEvent::Frame { frame, body: body.clone() });
    }
    let before = world.devices[bob].store.counters();
    world.event(bob, ClientEvent::Tick);
    assert_eq!(world.devices[bob].store.counters().commits, before.commits);
    world.run();
    world.disconnect(bob);
    world.restart(bob);
    world.connect(bob);
    world.run();
    assert_eq!(world.devices[bob].closed, []);
    assert_eq!(world.texts(bob), ["twice"]);
}

#[test]
fn a_rolled_back_device_without_the_right_to_sign_stops() {
    let (mut world, alice, bob) = pair();
    let second = world.link(alice);
    let third = world.link(second);
    assert!(world.devices[third].stopped.is_none());
    let image = world.devices[third].disk.image();
    world.send(third, bob, "once");
    world.run();
    world.disconnect(third);
    world.devices[third].disk.restore(&image);
    world.restart(third);
    world.connect(third);
    world.run();
    assert_eq!(world.devices[third].stopped, Some(StopWhy::RolledBack));
}

/// What the node had of bob's lists when its copy was made.
fn forget_lists(world: &mut World<StubSealer>, bob: usize, kept: usize) {
    let home = world.devices[bob].peer.node;
    let users = &mut world.nodes.get_mut(&home).unwrap().users;
    users.get_mut("bob").unwrap().truncate(kept);
    users.retain(|_, lists| !lists.is_empty());
}

fn shown(world: &World<StubSealer>, index: usize) -> Vec<Vec<u64>> {
    let frames = world.devices[index].sent.iter();
    let shows = frames.filter_map(|frame| match frame {
        ClientFrame::ShowLists(show) => Some(show),
        _ => None,
    });
    shows.map(|show| show.lists.iter().map(|list| list.peek().unwrap().version).collect()).collect()
}

#[test]
fn a_device_that_a_restored_node_does_not_list_shows_it_the_newer_lists() {
    let (mut world, alice, bob) = pair();
    let bob_two = world.link(bob);
    world.run();
    for device in [bob, bob_two] {
        world.disconnect(device);
    }
    forget_lists(&mut world, bob, 1);
    world.connect(bob_two);
    world.run();
    assert_eq!(world.devices[bob_two].closed, [CloseWhy::NotListed]);
    world.connect(bob_two);
    world.run();
    assert_eq!(shown(&world, bob_two), [[0, 1]]);
    world.send(alice, bob_two, "after");
    world.run();
    assert_eq!(world.texts(bob_two), ["after"]);
}

#[test]
fn lists_are_shown_from_where_the_node_has_them_to_the_newest() {
    let (mut world, alice, bob) = pair();
    // Each time that it is put back it takes a new id, with one more list.
    for _ in 0..18 {
        let image = world.devices[bob].disk.image();
        world.send(alice, bob, "before");
        world.run();
        world.disconnect(bob);
        world.devices[bob].disk.restore(&image);
        world.restart(bob);
        for _ in 0..2 {
            world.connect(bob);
            world.run();
        }
    }
    world.disconnect(bob);
    forget_lists(&mut world, bob, 1);
    for _ in 0..2 {
        world.connect(bob);
        world.run();
    }
    let firsts: Vec<u64> = shown(&world, bob).iter().map(|versions| versions[0]).collect();
    assert_eq!(firsts, [3, 0, 16]);
    assert!(world.devices[bob].online);
}

#[test]
fn an_account_that_its_node_has_forgotten_comes_back_with_an_invite() {
    let (mut world, alice, bob) = pair();
    world.disconnect(bob);
    forget_lists(&mut world, bob, 0);
    let [unlisted, refused] = [CloseWhy::NotListed, CloseWhy::Refused(RefusalCode::BadInvite)];
    for _ in 0..4 {
        world.connect(bob);
        world.run();
    }
    // Each time the hello comes first: the node may have been put back to a newer copy.
    assert_eq!(world.devices[bob].closed, [unlisted, refused, unlisted, refused]);
    world.event(bob, ClientEvent::Join { invite: InviteSecret([1; 16]) });
    for _ in 0..2 {
        world.connect(bob);
        world.run();
    }
    world.send(alice, bob, "after");
    world.run();
    assert_eq!(world.texts(bob), ["after"]);
}

#[test]
fn a_link_that_ends_while_lists_are_shown_is_followed_by_a_hello() {
    let (mut world, _, bob) = pair();
    let home = world.devices[bob].peer.node;
    world.nodes.get_mut(&home).unwrap().skips_lists = true;
    world.disconnect(bob);
    forget_lists(&mut world, bob, 0);
    let connect = |world: &mut World<StubSealer>| {
        world.connect(bob);
        world.run();
    };
    let hellos = |world: &World<StubSealer>| {
        let sent = world.devices[bob].sent.iter();
        sent.filter(|frame| matches!(frame, ClientFrame::Hello(_))).count()
    };
    let before = hellos(&world);
    connect(&mut world);
    connect(&mut world);
    world.disconnect(bob);
    connect(&mut world);
    assert_eq!(hellos(&world), before + 2);
    // Who answers nothing to them refuses the next hello for good.
    connect(&mut world);
    world.wait(95_000);
    connect(&mut world);
    let refused = CloseWhy::Refused(RefusalCode::NotAuthorised);
    let closed = &world.devices[bob].closed;
    assert_eq!(closed[closed.len() - 2..], [CloseWhy::Silent, refused]);
}
