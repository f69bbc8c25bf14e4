//! All of a conversation in bounded steps, a message by its id, and knowing when nothing more waits
//! at the node.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a failure here is a failed test")]

#[allow(dead_code, reason = "each test file uses its part")]
mod support;

use support::World;
use tidings_client::{Which, crypto::StubSealer, event::MessageRef};
use tidings_protocol::id::MsgId;
use tidings_store::{Store as _, Txn};

/// What a device's own store says, outside of any batch.
fn view<T>(
    world: &World<StubSealer>,
    index: usize,
    mut look: impl FnMut(&tidings_client::ClientCore<StubSealer>, &dyn Txn) -> T,
) -> T {
    let device = &world.devices[index];
    let mut seen = None;
    let mut looked = |txn: &dyn Txn| {
        seen = Some(look(&device.core, txn));
        Ok(())
    };
    device.store.view(&mut looked).unwrap();
    seen.unwrap()
}

/// The texts of a walk from the first message to the last, in steps of `max`.
fn walk(
    world: &World<StubSealer>,
    index: usize,
    with: usize,
    which: Which,
    max: usize,
) -> Vec<String> {
    let peer = world.devices[with].peer.clone();
    let mut texts = Vec::new();
    let mut after: Option<MessageRef> = None;
    loop {
        let step = view(world, index, |core, txn| {
            core.walk(txn, &peer, which, after.as_ref(), max).unwrap()
        });
        assert!(step.messages.len() <= max);
        texts.extend(step.messages.into_iter().map(|view| view.text));
        after = step.next;
        if after.is_none() {
            return texts;
        }
    }
}

#[test]
fn the_oldest_unread_message_is_reached_however_many_there_are() {
    let mut world = World::<StubSealer>::new();
    let alice = world.join("alice", 1);
    let bob = world.join("bob", 2);
    let sent: Vec<String> = (0..600).map(|n| format!("message {n}")).collect();
    for text in &sent {
        world.send(alice, bob, text);
        world.now_ms += 1;
    }
    world.run();
    for max in [1, 7, 256, 1_000] {
        assert_eq!(walk(&world, bob, alice, Which::Unread, max), sent, "in steps of {max}");
    }
    let read: Vec<MessageRef> =
        world.devices[bob].shown.iter().skip(1).map(|shown| shown.message.clone()).collect();
    world.display(bob, read);
    world.run();
    assert_eq!(walk(&world, bob, alice, Which::Unread, 10), sent[..1]);
    assert_eq!(walk(&world, bob, alice, Which::All, 10), sent);
    assert!(walk(&world, alice, bob, Which::Unread, 10).is_empty(), "her own messages are no news");
}

#[test]
fn a_message_is_found_by_its_id_alone() {
    let mut world = World::<StubSealer>::new();
    let alice = world.join("alice", 1);
    let bob = world.join("bob", 2);
    let carol = world.join("carol", 2);
    world.send(alice, carol, "hello carol");
    let hello = world.send(alice, bob, "hello bob");
    world.run();
    let found = view(&world, alice, |core, txn| core.find(txn, hello.msg).unwrap());
    assert_eq!(found, Some(hello.clone()));
    let found = view(&world, bob, |core, txn| core.find(txn, hello.msg).unwrap()).unwrap();
    assert_eq!((found.msg, found.mine, found.peer.name.as_str()), (hello.msg, false, "alice"));
    let none = view(&world, bob, |core, txn| core.find(txn, MsgId([7; 16])).unwrap());
    assert_eq!(none, None);
}

#[test]
fn a_device_knows_when_nothing_more_waits() {
    let mut world = World::<StubSealer>::new();
    let alice = world.join("alice", 1);
    let bob = world.join("bob", 2);
    world.disconnect(bob);
    assert!(!world.devices[bob].core.catch_up(), "there is no link");
    for n in 0..5 {
        world.send(alice, bob, &format!("message {n}"));
    }
    world.run();
    world.connect(bob);
    world.run();
    assert!(!world.devices[bob].core.catch_up(), "it was only asked now");
    world.event(bob, tidings_client::ClientEvent::Tick);
    world.run();
    assert!(world.devices[bob].core.catch_up());
    assert_eq!(world.texts(bob).len(), 5);
    assert!(world.devices[bob].core.has_handed_over());
    // Another link asks anew.
    world.disconnect(bob);
    assert!(!world.devices[bob].core.has_handed_over());
    world.connect(bob);
    world.run();
    assert!(!world.devices[bob].core.catch_up());
}
