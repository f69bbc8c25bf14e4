//! What a screen asks a device: conversations with their unread messages, pages, searches, drafts.

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
use tidings_client::{Direction, Draft, PageAt, Searched, crypto::StubSealer, event::Peer};
use tidings_protocol::address::UserName;
use tidings_store::{Row, Store as _, StoreError, Table, Txn};

#[test]
fn a_screen_reads_pages_counts_and_searches() {
    let mut world = World::<StubSealer>::new();
    let alice = world.join("alice", 1);
    let bob = world.join("bob", 2);
    let alice_peer = world.devices[alice].peer.clone();
    for n in 0..30 {
        world.now_ms += 1;
        world.send(alice, bob, &format!("number {n}"));
        world.run();
    }
    let device = &world.devices[bob];
    let seen: Vec<_> = device.shown.iter().map(|shown| shown.message.clone()).collect();
    device
        .store
        .view(&mut |txn| {
            let core = &device.core;
            let page = |at, max| {
                let page = core.page(txn, &alice_peer, at, max)?;
                let texts: Vec<_> = page.messages.into_iter().map(|view| view.text).collect();
                Ok::<_, StoreError>((texts, page.earlier, page.later))
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
}

#[test]
fn what_was_displayed_is_no_longer_unread_and_a_draft_is_kept() {
    let mut world = World::<StubSealer>::new();
    let alice = world.join("alice", 1);
    let bob = world.join("bob", 2);
    let [alice_peer, bob_peer] = [alice, bob].map(|who| world.devices[who].peer.clone());
    for said in ["first", "second"] {
        world.now_ms += 1;
        world.send(alice, bob, said);
        world.run();
    }
    let shown = &world.devices[bob].shown;
    let [first, second] = [0, 1].map(|at| shown[at].message.clone());
    world.display(bob, vec![first]);
    let device = &mut world.devices[bob];
    let carol = Peer { name: UserName::parse("carol").unwrap(), ..bob_peer };
    let draft = Draft { text: "dear carol".to_owned(), reply_to: None };
    let core = &mut device.core;
    device.store.batch(&mut |txn| core.save_draft(txn, &carol, Some(&draft))).unwrap();
    device
        .store
        .view(&mut |txn| {
            let views = device.core.conversations(txn)?;
            let of = |at: usize| (&views[at].peer, views[at].unread, views[at].draft.as_ref());
            assert_eq!(of(0), (&alice_peer, 1, None));
            assert_eq!(views[0].first_unread, Some(second.msg));
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

/// Counts the rows that are read.
struct Counted<'a> {
    txn: &'a dyn Txn,
    rows: std::cell::Cell<usize>,
}

impl Txn for Counted<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.rows.set(self.rows.get() + 1);
        self.txn.get(table, key)
    }

    fn put(&mut self, _: Table, _: &[u8], _: &[u8]) -> Result<(), StoreError> {
        panic!("a question writes nothing")
    }

    fn delete(&mut self, _: Table, _: &[u8]) -> Result<(), StoreError> {
        panic!("a question writes nothing")
    }

    fn range(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        max: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let rows = self.txn.range(table, from, to, max)?;
        self.rows.set(self.rows.get() + rows.len().max(1));
        Ok(rows)
    }

    fn last(&self, table: Table, from: &[u8], to: &[u8]) -> Result<Option<Row>, StoreError> {
        self.rows.set(self.rows.get() + 1);
        self.txn.last(table, from, to)
    }

    fn commit_number(&self) -> u64 {
        self.txn.commit_number()
    }
}

#[test]
fn what_a_screen_reads_does_not_grow_with_the_conversation() {
    let mut world = World::<StubSealer>::new();
    let alice = world.join("alice", 1);
    let bob = world.join("bob", 2);
    let bob_peer = world.devices[bob].peer.clone();
    let mut read = Vec::new();
    for total in [300, 1_500] {
        while world.devices[alice].composed.len() < total {
            world.now_ms += 1;
            world.send(alice, bob, "again");
        }
        let device = &world.devices[alice];
        let middle = device.composed[total / 2].msg;
        device
            .store
            .view(&mut |txn| {
                let counted = Counted { txn, rows: 0.into() };
                assert_eq!(device.core.conversations(&counted)?.len(), 1);
                for at in [PageAt::Newest, PageAt::Around(middle)] {
                    let page = device.core.page(&counted, &bob_peer, at, 100)?;
                    assert_eq!((page.messages.len(), page.earlier), (100, true));
                }
                read.push(counted.rows.get());
                Ok(())
            })
            .unwrap();
    }
    assert_eq!(read[0], read[1], "rows for 300 messages, and for 1,500");
}
