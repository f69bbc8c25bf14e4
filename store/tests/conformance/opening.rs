//! Rules about reopening, schema versions and migrations.

use std::error::Error;

use tidings_store::{Migration, OpenError, Schema, StoreError, Table, Txn};

use crate::bench::{Bench, INBOX, OUTBOX, SCHEMA, gives_up, opening, put, rows, texts};

const DEAD: Table = Table::new("dead");

pub(crate) fn rows_survive_reopening(bench: &mut dyn Bench) {
    for boot in 1..4 {
        let mut store = bench.open(boot);
        put(&mut *store, INBOX, &[(&boot.to_string(), "kept")]);
    }
    let store = bench.open(4);
    assert_eq!(rows(&*store, INBOX), texts(&[("1", "kept"), ("2", "kept"), ("3", "kept")]));
}

pub(crate) fn a_newer_schema_is_refused(bench: &mut dyn Bench) {
    drop(bench.open_as(Schema { version: 3, ..SCHEMA }, opening(1)).unwrap());
    let refused = bench.open_as(SCHEMA, opening(2)).err().unwrap();
    assert!(matches!(refused, OpenError::NewerSchema { found: 3, known: 1 }));
    assert!(refused.to_string().contains("newer program"));
    let store = bench.open_as(Schema { version: 3, ..SCHEMA }, opening(3)).unwrap();
    assert_eq!(store.lineage().boots.len(), 2, "a refused opening is no boot");
}

fn mark(txn: &mut dyn Txn, step: &[u8]) -> Result<(), StoreError> {
    let mut marks = txn.get(OUTBOX, b"marks")?.unwrap_or_default();
    marks.extend_from_slice(step);
    txn.put(OUTBOX, b"marks", &marks)
}

const STEPS: &[Migration] = &[
    Migration { to: 4, run: |txn| mark(txn, b" four") },
    Migration { to: 2, run: |txn| mark(txn, b" two") },
    Migration { to: 5, run: |txn| mark(txn, b" five") },
];

pub(crate) fn migrations_run_in_order_and_once(bench: &mut dyn Bench) {
    let mut store = bench.open(1);
    put(&mut *store, OUTBOX, &[("marks", "one")]);
    drop(store);
    let newer = Schema { version: 4, migrations: STEPS, ..SCHEMA };
    for boot in 2..4 {
        let store = bench.open_as(newer, opening(boot)).unwrap();
        assert_eq!(rows(&*store, OUTBOX), texts(&[("marks", "one two four")]));
    }
    let store = bench.open_as(Schema { version: 5, ..newer }, opening(4)).unwrap();
    assert_eq!(rows(&*store, OUTBOX), texts(&[("marks", "one two four five")]));
}

pub(crate) fn a_failed_migration_changes_nothing(bench: &mut dyn Bench) {
    let mut store = bench.open(1);
    put(&mut *store, OUTBOX, &[("marks", "one")]);
    drop(store);
    let steps: &[Migration] = &[
        Migration { to: 2, run: |txn| mark(txn, b" two") },
        Migration { to: 3, run: |_| gives_up() },
    ];
    let newer = Schema { version: 3, migrations: steps, ..SCHEMA };
    let failed = bench.open_as(newer, opening(2)).err().unwrap();
    assert!(matches!(failed, OpenError::Migration { to: 3, .. }));
    assert_eq!(failed.source().unwrap().source().unwrap().to_string(), "the test gives up");
    let store = bench.open(3);
    assert_eq!(rows(&*store, OUTBOX), texts(&[("marks", "one")]));
}

pub(crate) fn a_new_table_appears_by_version(bench: &mut dyn Bench) {
    let mut store = bench.open(1);
    put(&mut *store, INBOX, &[("a", "1"), ("b", "2")]);
    drop(store);
    let steps: &[Migration] = &[Migration {
        to: 2,
        run: |txn| {
            for (key, value) in txn.range(INBOX, b"", b"z", 9)? {
                txn.put(DEAD, &key, &value)?;
                txn.delete(INBOX, &key)?;
            }
            Ok(())
        },
    }];
    let newer = Schema { version: 2, tables: &[INBOX, OUTBOX, DEAD], migrations: steps };
    let store = bench.open_as(newer, opening(2)).unwrap();
    assert_eq!(rows(&*store, INBOX), []);
    assert_eq!(rows(&*store, DEAD), texts(&[("a", "1"), ("b", "2")]));
}
