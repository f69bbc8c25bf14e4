//! What only a store in a file can show: its lock, its mode, readers, and files that are no stores.

use std::error::Error;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;

use tidings_store::{
    BootId, FileState, OpenError, Opening, RedbFile, RedbOptions, RedbStore, Row, Schema, Store,
    StoreError, Table, check_pages, compact,
};

const INBOX: Table = Table::new("inbox");
const SCHEMA: Schema = Schema { version: 1, tables: &[INBOX], migrations: &[] };

fn open(path: &Path) -> Result<RedbStore, OpenError> {
    let opening = Opening { boot: BootId([1; 16]), incarnation: 1 };
    RedbStore::open(path, SCHEMA, opening, RedbOptions::default())
}

#[test]
fn the_file_belongs_to_its_owner_and_is_locked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let store = open(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let second = open(&path).unwrap_err();
    assert!(matches!(second, OpenError::Locked { .. }));
    assert!(second.to_string().ends_with("store.redb is in use by another process"));
    drop(store);
    open(&path).unwrap();
}

#[test]
fn each_commit_syncs_the_file_and_an_idle_batch_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder.path().join("store.redb")).unwrap();
    assert_eq!(store.syncs(), 0, "the opening is not counted");
    store.batch(&mut |txn| txn.put(INBOX, b"key", b"value")).unwrap();
    let each = store.syncs();
    assert!(each >= 2, "a commit has two phases");
    store.batch(&mut |_| Ok(())).unwrap();
    assert_eq!(store.syncs(), each);
    store.batch(&mut |txn| txn.put(INBOX, b"key", b"other")).unwrap();
    // One more when the file grows.
    assert!(store.syncs() >= each + 2);
}

#[test]
fn what_is_no_store_is_called_so_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let letter = "Dear Bob, ".repeat(1_000);
    fs::write(&path, &letter).unwrap();
    assert!(matches!(open(&path), Err(OpenError::NotAStore { .. })));
    assert_eq!(fs::read_to_string(&path).unwrap(), letter);
}

#[test]
fn a_place_that_cannot_be_written_is_called_so() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(open(folder.path()), Err(OpenError::NotWritable { .. })), "a folder");
    let absent = folder.path().join("absent").join("store.redb");
    assert!(matches!(open(&absent), Err(OpenError::NotWritable { .. })));
    assert!(!absent.exists());
}

#[test]
fn a_creation_cut_short_is_begun_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    fs::write(folder.path().join("store.redb.new"), vec![0; 5_000]).unwrap();
    drop(open(&path).unwrap());
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

#[test]
fn readers_on_other_threads_see_whole_batches() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder.path().join("store.redb")).unwrap();
    let reader = store.reader();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut number = 0_u64;
            while number < 60 {
                let view = reader.view(&mut |txn| {
                    number = txn.commit_number();
                    let rows = txn.range(INBOX, &[], &[0xff; 9], usize::MAX)?;
                    assert_eq!(rows.len() as u64, (number - 1) * 2);
                    Ok(())
                });
                view.unwrap();
            }
        });
        for batch in 0_u64..59 {
            store
                .batch(&mut |txn| {
                    txn.put(INBOX, &(2 * batch).to_be_bytes(), b"one")?;
                    txn.put(INBOX, &(2 * batch + 1).to_be_bytes(), b"two")
                })
                .unwrap();
        }
    });
}

#[test]
fn compaction_gives_space_back_and_keeps_rows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let mut store = open(&path).unwrap();
    let keys = 0_u64..4_000;
    let fill = |txn: &mut dyn tidings_store::Txn| {
        keys.clone().try_for_each(|key| txn.put(INBOX, &key.to_be_bytes(), &[7; 1_000]))
    };
    store.batch(&mut |txn| fill(txn)).unwrap();
    store
        .batch(&mut |txn| {
            keys.clone().skip(1).try_for_each(|key| txn.delete(INBOX, &key.to_be_bytes()))
        })
        .unwrap();
    let before = fs::metadata(&path).unwrap().len();
    assert!(matches!(compact(&path), Err(OpenError::Locked { .. })), "it is in use");
    drop(store);
    compact(&path).unwrap();
    assert!(fs::metadata(&path).unwrap().len() < before / 4);
    let store = open(&path).unwrap();
    let left = store.view(&mut |txn| {
        assert_eq!(txn.range(INBOX, &[], &[0xff], 9)?.len(), 1);
        Ok(())
    });
    left.unwrap();
}

/// A store with some hundreds of rows; what they are.
fn filled(path: &Path) -> Result<Vec<Row>, Box<dyn Error>> {
    let mut store = open(path)?;
    for batch in 0_u8..8 {
        store.batch(&mut |txn| {
            (0_u8..40).try_for_each(|row| txn.put(INBOX, &[batch, row], &[batch ^ row; 200]))
        })?;
    }
    Ok(rows(&store)?)
}

fn rows(store: &RedbStore) -> Result<Vec<Row>, StoreError> {
    let mut rows = Vec::new();
    store.view(&mut |txn| {
        rows = txn.range(INBOX, &[], &[0xff; 9], usize::MAX)?;
        Ok(())
    })?;
    Ok(rows)
}

/// Opens, reads everything and writes, as far as it goes.
fn use_all(path: &Path, check_integrity: bool) -> Result<Vec<Row>, Box<dyn Error>> {
    let opening = Opening { boot: BootId([2; 16]), incarnation: 1 };
    let options = RedbOptions { check_integrity, ..RedbOptions::default() };
    let mut store = RedbStore::open(path, SCHEMA, opening, options)?;
    let rows = rows(&store)?;
    store.batch(&mut |txn| {
        txn.put(INBOX, &[9], b"new")?;
        (0_u8..8).try_for_each(|batch| txn.delete(INBOX, &[batch, 7]))
    })?;
    store.batch(&mut |txn| txn.put(INBOX, &[10], b"newer"))?;
    Ok(rows)
}

const PAGE: usize = 4096;

#[test]
fn a_page_that_is_gone_is_an_error_that_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole.redb");
    filled(&whole).unwrap();
    let bytes = fs::read(&whole).unwrap();
    let mut refused = 0;
    for page in 0..bytes.len() / PAGE {
        let path = folder.path().join(format!("{page}.redb"));
        let mut damaged = bytes.clone();
        damaged[page * PAGE..][..PAGE].fill(0);
        fs::write(&path, damaged).unwrap();
        if let Err(error) = use_all(&path, false) {
            let said = error.to_string();
            assert!(said.contains(&format!("{page}.redb is")), "{said}");
            refused += usize::from(said.contains("put the file back from a backup"));
        }
    }
    assert!(refused > 3, "{refused}");
}

#[test]
fn with_the_check_a_flipped_bit_hides_no_row() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let expected = filled(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    let mut refused = 0;
    // A step that meets every page, at ever other places.
    for at in (0..bytes.len()).step_by(1_531) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        let path = folder.path().join(format!("{at}.redb"));
        fs::write(&path, &damaged).unwrap();
        // A look at the pages finds the same, and changes nothing.
        let looked = check_pages(&path);
        assert!(fs::read(&path).unwrap() == damaged, "at {at}");
        match use_all(&path, true) {
            Ok(rows) => assert!(rows == expected, "at {at}"),
            Err(_) => {
                assert!(looked.is_err(), "at {at}");
                refused += 1;
            }
        }
        fs::remove_file(&path).unwrap();
    }
    assert!(refused > 10, "{refused}");
}

#[test]
fn every_page_of_a_whole_file_passes_also_when_it_was_not_closed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    filled(&path).unwrap();
    check_pages(&path).unwrap();
    let mut store = open(&path).unwrap();
    store.batch(&mut |txn| txn.put(INBOX, b"key", b"value")).unwrap();
    assert!(matches!(check_pages(&path), Err(OpenError::Locked { .. })));
    // As a machine that lost power leaves it.
    let left = folder.path().join("left.redb");
    fs::copy(&path, &left).unwrap();
    let before = fs::read(&left).unwrap();
    check_pages(&left).unwrap();
    assert!(fs::read(&left).unwrap() == before, "it was changed");
}

#[test]
fn a_look_into_a_file_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let mut store = open(&path).unwrap();
    store.batch(&mut |txn| txn.put(INBOX, b"key", b"value")).unwrap();
    assert!(matches!(RedbFile::open(&path), Err(OpenError::Locked { .. })));
    let (commit, lineage) = (store.commit_number(), store.lineage().clone());
    drop(store);

    let before = fs::read(&path).unwrap();
    let file = RedbFile::open(&path).unwrap();
    assert_eq!(file.state().unwrap(), FileState { version: 1, commit, lineage });
    let tables = file.tables().unwrap();
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    assert_eq!(names, ["_lineage", "inbox"]);
    assert_eq!((tables[1].rows, tables[1].bytes), (1, 8));
    let mut found = None;
    file.view(SCHEMA, &mut |txn| {
        found = txn.get(INBOX, b"key")?;
        Ok(())
    })
    .unwrap();
    assert_eq!(found.as_deref(), Some(b"value".as_slice()));
    assert_eq!(file.rows("inbox", b"", 9).unwrap(), [(b"key".to_vec(), b"value".to_vec())]);
    assert!(file.rows("inbox", b"key\0", 9).unwrap().is_empty());
    assert!(file.rows("outbox", b"", 9).is_err());
    drop(file);
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_file_that_was_not_closed_is_not_looked_into_and_not_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let mut store = open(&path).unwrap();
    store.batch(&mut |txn| txn.put(INBOX, b"key", b"value")).unwrap();
    // As after a kill: the bytes while it was open.
    let copy = folder.path().join("copy.redb");
    fs::copy(&path, &copy).unwrap();
    let before = fs::read(&copy).unwrap();
    assert!(matches!(RedbFile::open(&copy), Err(OpenError::NeedsRepair { .. })));
    assert_eq!(fs::read(&copy).unwrap(), before);
}
