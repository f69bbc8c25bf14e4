//! All of a conversation in its order, a message by its id, and knowing when nothing more waits
//! at the node.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a failure here is a failed test")]

#[allow(dead_code, reason = "each test file uses its part")]
mod support;

use support::World;
use tidings_client::{Which, crypto::StubSealer, event::MessageRef, pages::PageAt};
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

/// The texts of a conversation from the first message to the last.
fn walk(world: &World<StubSealer>, index: usize, with: usize, which: Which) -> Vec<String> {
    let peer = world.devices[with].peer.clone();
    view(world, index, |core, txn| {
        let all = core.in_order(txn, &peer, which).unwrap();
        let views = all.iter().map(|message| core.message(txn, message).unwrap().unwrap());
        views.map(|view| view.text).collect()
    })
}

/// Two people, and what one has written to the other: many in one ms, and some under a clock that was
/// set back meanwhile.
fn many(number: usize) -> (World<StubSealer>, usize, usize, Vec<String>) {
    let mut world = World::<StubSealer>::new();
    let alice = world.join("alice", 1);
    let bob = world.join("bob", 2);
    let sent: Vec<String> = (0..number).map(|n| format!("message {n}")).collect();
    for (n, text) in sent.iter().enumerate() {
        world.send(alice, bob, text);
        match n % 100 {
            98 => world.now_ms += 2_000,
            99 => world.now_ms -= 1_000,
            _ => {}
        }
    }
    world.run();
    (world, alice, bob, sent)
}

#[test]
fn a_conversation_is_in_order_however_long_it_is() {
    let (mut world, alice, bob, sent) = many(600);
    assert_eq!(walk(&world, bob, alice, Which::Unread), sent);
    assert_eq!(walk(&world, alice, bob, Which::All), sent);
    let read: Vec<MessageRef> =
        world.devices[bob].shown.iter().skip(1).map(|shown| shown.message.clone()).collect();
    world.display(bob, read);
    world.run();
    assert_eq!(walk(&world, bob, alice, Which::Unread), sent[..1]);
    assert_eq!(walk(&world, bob, alice, Which::All), sent);
    assert!(walk(&world, alice, bob, Which::Unread).is_empty(), "her own messages are no news");
}

#[test]
fn pages_of_a_screen_follow_each_other_in_order() {
    let (world, alice, bob, sent) = many(300);
    let peer = world.devices[alice].peer.clone();
    let page = |at| view(&world, bob, |core, txn| core.page(txn, &peer, at, 40).unwrap());
    let mut texts = Vec::new();
    let mut shown = page(PageAt::Newest).messages;
    loop {
        let first = shown[0].message.msg;
        texts.splice(0..0, shown.into_iter().map(|view| view.text));
        let around = page(PageAt::Around(first)).messages;
        shown = around.into_iter().take_while(|view| view.message.msg != first).collect();
        if shown.is_empty() {
            break;
        }
    }
    assert_eq!(texts, sent);
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
