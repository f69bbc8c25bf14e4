//! Rules about rows, batches and their counts.

use tidings_store::{Store, StoreError, Table, prefix_end};

use crate::bench::{Bench, INBOX, OUTBOX, gives_up, put, rows, text, texts};

pub(crate) fn rows_are_found_again(bench: &mut dyn Bench) {
    let mut store = bench.open(1);
    put(&mut *store, INBOX, &[("b", "2"), ("a", "1"), ("c", "3")]);
    put(&mut *store, INBOX, &[("b", "two")]);
    store
        .batch(&mut |txn| {
            assert_eq!(txn.get(INBOX, b"b")?, Some(b"two".to_vec()));
            assert_eq!(txn.get(INBOX, b"d")?, None);
            txn.delete(INBOX, b"a")?;
            txn.delete(INBOX, b"never there")
        })
        .unwrap();
    assert_eq!(rows(&*store, INBOX), texts(&[("b", "two"), ("c", "3")]));
}

pub(crate) fn a_batch_reads_its_own_writes(bench: &mut dyn Bench) {
    let mut store = bench.open(1);
    put(&mut *store, INBOX, &[("a", "1")]);
    store
        .batch(&mut |txn| {
            txn.put(INBOX, b"b", b"2")?;
            txn.delete(INBOX, b"a")?;
            assert_eq!(txn.get(INBOX, b"a")?, None);
            assert_eq!(txn.get(INBOX, b"b")?, Some(b"2".to_vec()));
            let found = txn.range(INBOX, b"a", b"z", 9)?;
            assert_eq!(found.into_iter().map(text).collect::<Vec<_>>(), texts(&[("b", "2")]));
            txn.put(INBOX, b"a", b"again")?;
            assert_eq!(txn.get(INBOX, b"a")?, Some(b"again".to_vec()));
            Ok(())
        })
        .unwrap();
    assert_eq!(rows(&*store, INBOX), texts(&[("a", "again"), ("b", "2")]));
}

pub(crate) fn ranges_are_ordered_and_bounded(bench: &mut dyn Bench) {
    let mut store = bench.open(1);
    let all = [("", "0"), ("a", "1"), ("aa", "2"), ("ab", "3"), ("b", "4")];
    put(&mut *store, INBOX, &all);
    store
        .view(&mut |txn| {
            let keys = |from: &[u8], to: &[u8], max| {
                let found = txn.range(INBOX, from, to, max).unwrap();
                found.into_iter().map(|row| text(row).0).collect::<Vec<_>>()
            };
            assert_eq!(keys(b"", b"z", 9), ["", "a", "aa", "ab", "b"]);
            assert_eq!(keys(b"a", b"b", 9), ["a", "aa", "ab"]);
            assert_eq!(keys(b"a", &prefix_end(b"a"), 9), ["a", "aa", "ab"]);
            assert_eq!(keys(b"a\0", b"ab", 9), ["aa"]);
            assert_eq!(keys(b"a", b"z", 2), ["a", "aa"]);
            assert_eq!(keys(b"a", b"z", 0), [""; 0]);
            assert_eq!(keys(b"a", b"a", 9), [""; 0]);
            assert_eq!(keys(b"b", b"a", 9), [""; 0]);
            assert_eq!(keys(b"", b"", 9), [""; 0]);
            Ok(())
        })
        .unwrap();
    let bytes = [vec![0xff], vec![0], vec![0x7f, 0xff], vec![0x80]];
    store.batch(&mut |txn| bytes.iter().try_for_each(|key| txn.put(OUTBOX, key, b""))).unwrap();
    store
        .view(&mut |txn| {
            let found = txn.range(OUTBOX, b"", &prefix_end(&[0xff]), 9)?;
            let found: Vec<_> = found.into_iter().map(|(key, _)| key).collect();
            assert_eq!(found, [vec![0], vec![0x7f, 0xff], vec![0x80], vec![0xff]]);
            Ok(())
        })
        .unwrap();
}

pub(crate) fn last_is_the_greatest_below_the_bound(bench: &mut dyn Bench) {
    let mut store = bench.open(1);
    put(&mut *store, INBOX, &[("a", "1"), ("b", "2"), ("c", "3")]);
    store
        .batch(&mut |txn| {
            let last = |from: &[u8], to: &[u8]| txn.last(INBOX, from, to).unwrap().map(text);
            let row = |key: &str, value: &str| Some((key.to_owned(), value.to_owned()));
            assert_eq!(last(b"", b"z"), row("c", "3"));
            assert_eq!(last(b"", b"c"), row("b", "2"));
            assert_eq!(last(b"b", b"c"), row("b", "2"));
            assert_eq!(last(b"bb", b"c"), None);
            assert_eq!(last(b"c", b"b"), None);
            txn.delete(INBOX, b"c")?;
            assert_eq!(txn.last(INBOX, b"", b"z")?.map(text), row("b", "2"));
            Ok(())
        })
        .unwrap();
}

pub(crate) fn tables_are_apart(bench: &mut dyn Bench) {
    let mut store = bench.open(1);
    put(&mut *store, INBOX, &[("a", "in")]);
    put(&mut *store, OUTBOX, &[("a", "out")]);
    assert_eq!(rows(&*store, INBOX), texts(&[("a", "in")]));
    assert_eq!(rows(&*store, OUTBOX), texts(&[("a", "out")]));
}

pub(crate) fn a_failed_batch_leaves_nothing_and_poisons(bench: &mut dyn Bench) {
    let mut store = bench.open(1);
    put(&mut *store, INBOX, &[("a", "1"), ("b", "2")]);
    let acked = store.commit_number();
    let failed = store.batch(&mut |txn| {
        txn.put(INBOX, b"a", b"changed")?;
        txn.put(INBOX, b"c", b"3")?;
        txn.put(OUTBOX, b"a", b"1")?;
        txn.delete(INBOX, b"b")?;
        gives_up()
    });
    assert!(matches!(failed, Err(StoreError::Work(_))));
    let after = store.batch(&mut |txn| txn.put(INBOX, b"d", b"4"));
    assert!(matches!(after, Err(StoreError::Poisoned)));
    assert!(matches!(store.view(&mut |_| Ok(())), Err(StoreError::Poisoned)));
    drop(store);
    let store = bench.open(2);
    assert_eq!(rows(&*store, INBOX), texts(&[("a", "1"), ("b", "2")]));
    assert_eq!(rows(&*store, OUTBOX), []);
    assert_eq!(store.commit_number(), acked + 1);
}

pub(crate) fn an_unknown_table_is_refused(bench: &mut dyn Bench) {
    let mut store = bench.open(1);
    let unknown = Table::new("unknown");
    let read = store.view(&mut |txn| txn.get(unknown, b"a").map(drop));
    assert!(matches!(read, Err(StoreError::UnknownTable { name: "unknown" })));
    let range = store.view(&mut |txn| txn.range(unknown, b"a", b"b", 1).map(drop));
    assert!(matches!(range, Err(StoreError::UnknownTable { .. })));
    let write = store.batch(&mut |txn| txn.put(unknown, b"a", b""));
    assert!(matches!(write, Err(StoreError::UnknownTable { .. })));
}

pub(crate) fn commits_count_up_by_one(bench: &mut dyn Bench) {
    let mut store = bench.open(1);
    assert_eq!(store.commit_number(), 1, "opening is a commit");
    for expected in 2..6 {
        store
            .batch(&mut |txn| {
                assert_eq!(txn.commit_number(), expected);
                txn.put(INBOX, b"a", &expected.to_be_bytes())
            })
            .unwrap();
        assert_eq!(store.commit_number(), expected);
    }
    drop(store);
    let mut store = bench.open(2);
    assert_eq!(store.commit_number(), 6);
    put(&mut *store, INBOX, &[("a", "1")]);
    assert_eq!(store.commit_number(), 7);
}

pub(crate) fn a_batch_without_writes_costs_no_commit(bench: &mut dyn Bench) {
    let mut store = bench.open(1);
    store.batch(&mut |txn| txn.get(INBOX, b"a").map(drop)).unwrap();
    store.batch(&mut |txn| txn.delete(INBOX, b"never there")).unwrap();
    assert_eq!(store.commit_number(), 1);
    assert_eq!((store.counters().commits, store.counters().idle_batches), (0, 2));
    // A number that somebody has seen must be on disk, or a later boot would not know it.
    let numbered = store.batch(&mut |txn| {
        assert_eq!(txn.commit_number(), 2);
        Ok(())
    });
    numbered.unwrap();
    assert_eq!(store.commit_number(), 2);
    drop(store);
    assert_eq!(bench.open(2).commit_number(), 3);
}

pub(crate) fn a_view_sees_the_last_commit(bench: &mut dyn Bench) {
    let mut store = bench.open(1);
    put(&mut *store, INBOX, &[("a", "1")]);
    store
        .view(&mut |txn| {
            assert_eq!(txn.commit_number(), 2);
            assert_eq!(txn.get(INBOX, b"a")?, Some(b"1".to_vec()));
            Ok(())
        })
        .unwrap();
    assert!(store.view(&mut |_| gives_up()).is_err());
    put(&mut *store, INBOX, &[("b", "a failed view poisons nothing")]);
}

pub(crate) fn work_is_counted(bench: &mut dyn Bench) {
    let mut store = bench.open(1);
    put(&mut *store, INBOX, &[("a", "1")]);
    let before = store.counters();
    store
        .batch(&mut |txn| {
            txn.get(INBOX, b"a")?;
            txn.range(INBOX, b"", b"z", 9)?;
            txn.last(INBOX, b"", b"z")?;
            txn.delete(INBOX, b"a")?;
            txn.put(OUTBOX, b"key", b"value")?;
            txn.put(INBOX, b"", b"")
        })
        .unwrap();
    let done = store.counters() - before;
    assert_eq!((done.gets, done.ranges, done.puts, done.deletes), (1, 2, 2, 1));
    assert_eq!((done.commits, done.idle_batches, done.bytes_put), (1, 0, 8));
}

pub(crate) fn large_and_empty_values_return(bench: &mut dyn Bench) {
    let mut store = bench.open(1);
    let (large, long_key) = (vec![7; 300_000], [7; 1_000]);
    store
        .batch(&mut |txn| {
            txn.put(INBOX, b"large", &large)?;
            txn.put(INBOX, b"empty", b"")?;
            txn.put(INBOX, &long_key, b"long key")
        })
        .unwrap();
    drop(store);
    let store: Box<dyn Store> = bench.open(2);
    store
        .view(&mut |txn| {
            assert_eq!(txn.get(INBOX, b"large")?.as_ref(), Some(&large));
            assert_eq!(txn.get(INBOX, b"empty")?, Some(vec![]));
            assert_eq!(txn.get(INBOX, &long_key)?, Some(b"long key".to_vec()));
            Ok(())
        })
        .unwrap();
}
