//! The store in memory and the store on redb, driven by the same random lives, are the same.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use proptest::collection::vec;
use proptest::prelude::*;
use tidings_store::{
    BootId, FaultDisk, Lineage, MemDisk, MemStore, Opening, RedbOptions, RedbStore, Row, Schema,
    Store, StoreError, Table, Txn,
};

const TABLES: [Table; 2] = [Table::new("inbox"), Table::new("outbox")];
const SCHEMA: Schema = Schema { version: 1, tables: &TABLES, migrations: &[] };

#[derive(Clone, Debug)]
enum Step {
    Put(Table, Vec<u8>, Vec<u8>),
    Delete(Table, Vec<u8>),
    Get(Table, Vec<u8>),
    Range(Table, Vec<u8>, Vec<u8>, usize),
    Last(Table, Vec<u8>, Vec<u8>),
    Number,
    Renew(u64),
    GiveUp,
}

#[derive(Clone, Debug)]
enum Act {
    Batch(Vec<Step>),
    View(Vec<Step>),
    Reopen,
}

/// Few and short keys, so that steps meet each other.
fn key() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![Just(0), Just(1), Just(0x7f), Just(0xff)], 0..4)
}

fn step() -> impl Strategy<Value = Step> {
    let table = proptest::sample::select(&TABLES[..]);
    prop_oneof![
        8 => (table.clone(), key(), vec(any::<u8>(), 0..40)).prop_map(|(t, k, v)| Step::Put(t, k, v)),
        4 => (table.clone(), key()).prop_map(|(t, k)| Step::Delete(t, k)),
        2 => (table.clone(), key()).prop_map(|(t, k)| Step::Get(t, k)),
        2 => (table.clone(), key(), key(), 0_usize..6).prop_map(|(t, a, b, n)| Step::Range(t, a, b, n)),
        2 => (table, key(), key()).prop_map(|(t, a, b)| Step::Last(t, a, b)),
        1 => Just(Step::Number),
        1 => any::<u64>().prop_map(Step::Renew),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => vec(step(), 0..12).prop_map(Act::Batch),
        1 => vec(step(), 0..12).prop_map(|mut steps| {
            steps.push(Step::GiveUp);
            Act::Batch(steps)
        }),
        2 => vec(step(), 0..6).prop_map(Act::View),
        1 => Just(Act::Reopen),
    ]
}

/// What a step showed.
#[derive(Debug, PartialEq)]
enum Shown {
    Value(Option<Vec<u8>>),
    Rows(Vec<Row>),
    Number(u64),
}

fn read(txn: &dyn Txn, step: &Step) -> Result<Option<Shown>, StoreError> {
    Ok(match step {
        Step::Get(t, k) => Some(Shown::Value(txn.get(*t, k)?)),
        Step::Range(t, from, to, max) => Some(Shown::Rows(txn.range(*t, from, to, *max)?)),
        Step::Last(t, from, to) => Some(Shown::Rows(txn.last(*t, from, to)?.into_iter().collect())),
        Step::Number => Some(Shown::Number(txn.commit_number())),
        Step::Put(..) | Step::Delete(..) | Step::Renew(_) | Step::GiveUp => None,
    })
}

fn write(txn: &mut dyn Txn, step: &Step) -> Result<(), StoreError> {
    match step {
        Step::Put(t, k, v) => txn.put(*t, k, v),
        Step::Delete(t, k) => txn.delete(*t, k),
        Step::Renew(incarnation) => Lineage::renew(txn, *incarnation),
        Step::GiveUp => Err(StoreError::work("the test gives up")),
        Step::Get(..) | Step::Range(..) | Step::Last(..) | Step::Number => Ok(()),
    }
}

/// All that an act shows of a store.
fn perform(store: &mut dyn Store, act: &Act) -> (bool, Vec<Shown>) {
    let mut shown = Vec::new();
    let outcome = match act {
        Act::Batch(steps) => store.batch(&mut |txn| {
            steps.iter().try_for_each(|step| {
                shown.extend(read(txn, step)?);
                write(txn, step)
            })
        }),
        Act::View(steps) => store.view(&mut |txn| {
            for step in steps {
                shown.extend(read(txn, step)?);
            }
            Ok(())
        }),
        Act::Reopen => Ok(()),
    };
    (outcome.is_ok(), shown)
}

fn all_rows(store: &dyn Store) -> Vec<Vec<Row>> {
    let mut rows = Vec::new();
    let read = store.view(&mut |txn| {
        for table in TABLES {
            rows.push(txn.range(table, b"", &[0xff; 9], usize::MAX)?);
        }
        Ok(())
    });
    read.unwrap();
    rows
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn both_stores_show_the_same(acts in vec(act(), 1..30)) {
        let (mem_disk, redb_disk) = (MemDisk::new(), FaultDisk::new());
        let mut boots = 0;
        let mut open = || {
            boots += 1;
            let opening = Opening { boot: BootId([boots; 16]), incarnation: 1 };
            let mem = MemStore::open(&mem_disk, SCHEMA, opening).unwrap();
            let options = RedbOptions { cache_bytes: 1 << 20, check_integrity: false };
            let redb = RedbStore::open_on(redb_disk.backend(), SCHEMA, opening, options).unwrap();
            (mem, redb)
        };
        let (mut mem, mut redb) = open();
        for act in &acts {
            let (mem_shown, redb_shown) = (perform(&mut mem, act), perform(&mut redb, act));
            prop_assert_eq!(&mem_shown, &redb_shown);
            prop_assert_eq!(mem.counters(), redb.counters());
            let (succeeded, _) = mem_shown;
            if !succeeded || matches!(act, Act::Reopen) {
                (mem, redb) = open();
            }
            prop_assert_eq!(mem.lineage(), redb.lineage());
            prop_assert_eq!(mem.commit_number(), redb.commit_number());
            prop_assert_eq!(all_rows(&mem), all_rows(&redb));
        }
    }
}
