//! What the disk in memory does at each fault, what a caller hears, and what is there afterwards.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use tidings_store::{
    BootId, Fault, MemDisk, MemStore, OpenError, Opening, Schema, Store, StoreError, Table,
};

const INBOX: Table = Table::new("inbox");
const SCHEMA: Schema = Schema { version: 1, tables: &[INBOX], migrations: &[] };

fn open(disk: &MemDisk, boot: u8) -> MemStore {
    try_open(disk, boot).unwrap()
}

fn try_open(disk: &MemDisk, boot: u8) -> Result<MemStore, OpenError> {
    MemStore::open(disk, SCHEMA, Opening { boot: BootId([boot; 16]), incarnation: 1 })
}

fn put(store: &mut MemStore, key: &str) -> Result<(), StoreError> {
    store.batch(&mut |txn| txn.put(INBOX, key.as_bytes(), b"value"))
}

fn keys(store: &MemStore) -> Vec<String> {
    let mut keys = Vec::new();
    store
        .view(&mut |txn| {
            let rows = txn.range(INBOX, b"", &[0xff], usize::MAX)?;
            keys.extend(rows.into_iter().map(|(key, _)| String::from_utf8(key).unwrap()));
            Ok(())
        })
        .unwrap();
    keys
}

/// A fault at the second batch: what the caller hears, and the keys after reopening.
fn check_fault(fault: Fault, heard: &str, there: &[&str]) {
    let disk = MemDisk::new();
    let mut store = open(&disk, 1);
    put(&mut store, "a").unwrap();
    disk.fail_next(fault);
    assert_eq!(put(&mut store, "b").unwrap_err().to_string(), heard);
    assert!(matches!(put(&mut store, "c"), Err(StoreError::Poisoned)));
    let mut store = open(&disk, 2);
    assert_eq!(keys(&store), there, "{fault:?}");
    assert!(store.lineage().contains(BootId([1; 16]), 2, store.commit_number()));
    put(&mut store, "d").unwrap();
}

#[test]
fn each_fault_does_as_it_says() {
    let crashed = "the simulated machine crashed";
    check_fault(Fault::CrashBeforeCommit, crashed, &["a"]);
    check_fault(Fault::CrashAfterCommit, crashed, &["a", "b"]);
    check_fault(Fault::TornWrite { durable: false }, crashed, &["a"]);
    check_fault(Fault::TornWrite { durable: true }, crashed, &["a", "b"]);
    check_fault(Fault::DiskFull, "committing: the disk is full", &["a"]);
    check_fault(Fault::SyncError { durable: false }, "committing", &["a"]);
    check_fault(Fault::SyncError { durable: true }, "committing", &["a", "b"]);
}

#[test]
fn an_opening_can_fail_and_is_then_whole_or_absent() {
    let disk = MemDisk::new();
    disk.fail_next(Fault::CrashBeforeCommit);
    assert!(matches!(try_open(&disk, 1), Err(OpenError::Store(StoreError::Crashed))));
    disk.fail_next(Fault::DiskFull);
    assert!(matches!(try_open(&disk, 2), Err(OpenError::DiskFull { .. })));
    disk.fail_next(Fault::CrashAfterCommit);
    assert!(try_open(&disk, 3).is_err());
    let store = open(&disk, 4);
    let boots: Vec<_> = store.lineage().boots.iter().map(|boot| boot.id.0[0]).collect();
    assert_eq!(boots, [3, 4]);
}

#[test]
fn a_full_disk_takes_deletes() {
    let disk = MemDisk::new();
    let mut store = open(&disk, 1);
    put(&mut store, "a").unwrap();
    put(&mut store, "b").unwrap();
    disk.set_capacity_bytes(Some(disk.used_bytes()));
    assert!(matches!(put(&mut store, "c"), Err(StoreError::DiskFull { .. })));
    disk.set_capacity_bytes(Some(disk.used_bytes() + 100));
    let mut store = open(&disk, 2);
    disk.set_capacity_bytes(Some(0));
    store.batch(&mut |txn| txn.delete(INBOX, b"a")).unwrap();
    assert_eq!(keys(&store), ["b"]);
}

#[test]
fn an_image_is_not_changed_by_later_commits() {
    let disk = MemDisk::new();
    let mut store = open(&disk, 1);
    put(&mut store, "a").unwrap();
    let (image, used) = (disk.image(), disk.used_bytes());
    put(&mut store, "b").unwrap();
    disk.restore(&image);
    assert_eq!(disk.used_bytes(), used);
    assert!(matches!(put(&mut store, "c"), Err(StoreError::Stale)), "its disk went away");
    assert_eq!(keys(&open(&disk, 2)), ["a"]);
}

#[test]
fn the_newest_commits_can_be_taken_back() {
    let disk = MemDisk::new();
    disk.keep_history(3);
    let mut store = open(&disk, 1);
    for key in ["a", "b", "c", "d"] {
        put(&mut store, key).unwrap();
    }
    assert_eq!(disk.rewind(2), 2);
    let store = open(&disk, 2);
    assert_eq!(keys(&store), ["a", "b"]);
    assert!(!store.lineage().contains(BootId([1; 16]), 4, store.commit_number()));
    assert_eq!(disk.rewind(9), 2, "the opening and what was left of the three");
    assert_eq!(keys(&open(&disk, 3)), ["a"]);
}

#[test]
fn a_second_opening_makes_the_first_stale() {
    let disk = MemDisk::new();
    let mut first = open(&disk, 1);
    let mut second = open(&disk, 2);
    assert!(matches!(put(&mut first, "a"), Err(StoreError::Stale)));
    put(&mut second, "b").unwrap();
}

#[test]
fn a_panic_within_a_batch_leaves_nothing() {
    let disk = MemDisk::new();
    let mut store = open(&disk, 1);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.batch(&mut |txn| {
            txn.put(INBOX, b"a", b"")?;
            panic!("the handler has a bug")
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(keys(&open(&disk, 2)), [""; 0]);
}
