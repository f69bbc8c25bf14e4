//! A store that is copied row by row: while it is written, into a new file, and broken off.

#![allow(clippy::unwrap_used, reason = "a test, whose helpers stand outside of its test functions")]

use std::path::Path;

use tidings_store::{
    BootId, Item, LoadError, OpenError, Opening, RedbFile, RedbOptions, RedbReader, RedbStore,
    RowWriter, Schema, Store, StoreError, Table, load_rows,
};

const INBOX: Table = Table::new("inbox");
const EMPTY: Table = Table::new("empty");
const SCHEMA: Schema = Schema { version: 1, tables: &[INBOX, EMPTY], migrations: &[] };
/// More than are read, and than are written, at a time.
const ROWS: u32 = 60_000;

fn open(path: &Path, boot: u8) -> Result<RedbStore, OpenError> {
    let opening = Opening { boot: BootId([boot; 16]), incarnation: 1 };
    RedbStore::open(path, SCHEMA, opening, RedbOptions::default())
}

fn put(store: &mut RedbStore, numbers: std::ops::Range<u32>) {
    let done = store.batch(&mut |txn| {
        numbers.clone().try_for_each(|number| txn.put(INBOX, &number.to_be_bytes(), b"envelope"))
    });
    done.unwrap();
}

fn count(store: &RedbStore) -> usize {
    let mut rows = 0;
    let viewed = store.view(&mut |txn| {
        rows = txn.range(INBOX, &[], &[0xff; 5], usize::MAX)?.len();
        Ok(())
    });
    viewed.unwrap();
    rows
}

/// The stream, and what `at_row` does at each row.
fn stream(reader: &RedbReader, at_row: &mut dyn FnMut()) -> Vec<u8> {
    let mut writer = RowWriter::begin(Vec::new()).unwrap();
    let done = reader.each(&mut |item| {
        if matches!(item, Item::Row { .. }) {
            at_row();
        }
        writer.item(item).map_err(StoreError::work)
    });
    done.unwrap();
    writer.end().unwrap()
}

#[test]
fn a_copy_is_one_state_while_the_writer_goes_on_and_is_found_out_as_old() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder.path().join("node.redb"), 1).unwrap();
    put(&mut store, 0..ROWS);
    let (reader, at_copy) = (store.reader(), store.commit_number());
    let mut written = ROWS;
    let bytes = stream(&reader, &mut || {
        // Beside and among what is being copied, a few times.
        if written < ROWS + 20 {
            put(&mut store, written..written + 1);
            store.batch(&mut |txn| txn.delete(INBOX, &(ROWS - 1).to_be_bytes())).unwrap();
            written += 1;
        }
    });
    assert_eq!(written, ROWS + 20);
    let last_seen = (store.lineage().boot, store.commit_number());

    let path = folder.path().join("copy.redb");
    let rows = load_rows(&path, &mut bytes.as_slice()).unwrap();
    let file = RedbFile::open(&path).unwrap();
    assert_eq!(file.state().unwrap().commit, at_copy);
    let tables = file.tables().unwrap();
    assert_eq!(tables.iter().map(|table| table.rows).sum::<u64>(), rows);
    assert!(tables.iter().any(|table| table.name == "empty"), "{tables:?}");
    drop(file);
    let copy = open(&path, 2).unwrap();
    assert_eq!(count(&copy), usize::try_from(ROWS).unwrap());
    let knows = |(boot, commit)| copy.lineage().contains(boot, commit, copy.commit_number());
    assert!(knows((last_seen.0, at_copy)));
    assert!(!knows(last_seen), "what was written after the copy is missed");
}

#[test]
fn a_stream_that_is_broken_off_leaves_nothing_and_no_store_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder.path().join("node.redb"), 1).unwrap();
    put(&mut store, 0..10);
    let bytes = stream(&store.reader(), &mut || {});
    let path = folder.path().join("copy.redb");
    for len in [0, 5, bytes.len() / 2, bytes.len() - 1] {
        let error = load_rows(&path, &mut &bytes[..len]).unwrap_err();
        assert!(matches!(error, LoadError::Stream(_)), "{error}");
    }
    let empty = RowWriter::begin(Vec::new()).unwrap().end().unwrap();
    let error = load_rows(&path, &mut empty.as_slice()).unwrap_err();
    assert!(matches!(error, LoadError::NoLineage), "{error}");
    let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(names.len(), 1, "{names:?}");
    load_rows(&path, &mut bytes.as_slice()).unwrap();
    let error = load_rows(&path, &mut bytes.as_slice()).unwrap_err();
    assert!(matches!(error, LoadError::Exists { .. }), "{error}");
}

#[test]
fn whoever_looks_may_stop() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder.path().join("node.redb"), 1).unwrap();
    put(&mut store, 0..10);
    let mut seen = 0;
    let ended = store.reader().each(&mut |_| {
        seen += 1;
        if seen == 3 { Err(StoreError::work("enough")) } else { Ok(()) }
    });
    assert!(matches!(ended, Err(StoreError::Work(_))));
    assert_eq!(seen, 3);
}
