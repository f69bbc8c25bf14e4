//! Transactions of redb behind the [`Txn`] trait, and redb's errors in our words.
//! Opens and commits nothing; see `redb_store.rs`.

use std::cell::Cell;
use std::io::{self, ErrorKind};

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};

use crate::error::Cause;
use crate::guard::{guarded, leave};
use crate::lineage::LINEAGE;
use crate::txn::Row;
use crate::{Counters, Schema, StoreError, Table, Txn};

type Bytes = &'static [u8];

/// A write transaction with all its tables open.
pub(crate) struct WriteTxn<'a> {
    tables: Vec<(Table, redb::Table<'a, Bytes, Bytes>)>,
    pub(crate) number: u64,
    pub(crate) numbered: Cell<bool>,
    pub(crate) written: bool,
    pub(crate) lineage_written: bool,
    counters: &'a Cell<Counters>,
}

impl<'a> WriteTxn<'a> {
    pub(crate) fn new(
        write: &'a WriteTransaction,
        schema: &Schema,
        counters: &'a Cell<Counters>,
        number: u64,
    ) -> Result<Self, StoreError> {
        let mut tables = Vec::with_capacity(schema.tables.len() + 1);
        for table in all_tables(schema) {
            match guarded("opening the tables", || write.open_table(definition(table))) {
                Ok(open) => tables.push((table, open)),
                Err(error) => {
                    leave(tables, &error);
                    return Err(error);
                }
            }
        }
        let (numbered, written, lineage_written) = (Cell::new(false), false, false);
        Ok(Self { tables, number, numbered, written, lineage_written, counters })
    }

    fn table_mut(
        &mut self,
        table: Table,
    ) -> Result<&mut redb::Table<'a, Bytes, Bytes>, StoreError> {
        let found = self.tables.iter_mut().find(|(known, _)| *known == table);
        found.map(|(_, open)| open).ok_or(StoreError::UnknownTable { name: table.name })
    }
}

impl Txn for WriteTxn<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        get(find(&self.tables, table)?, self.counters, key)
    }

    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let table_open = self.table_mut(table)?;
        guarded("writing a row", || table_open.insert(key, value).map(drop))?;
        self.written = true;
        self.lineage_written |= table == LINEAGE;
        count(self.counters, |counters| counters.count_put(key, value));
        Ok(())
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        let table_open = self.table_mut(table)?;
        let removed =
            guarded("deleting a row", || table_open.remove(key).map(|row| row.is_some()))?;
        self.written |= removed;
        self.lineage_written |= table == LINEAGE;
        count(self.counters, |counters| counters.deletes += 1);
        Ok(())
    }

    fn range(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        max: usize,
    ) -> Result<Vec<Row>, StoreError> {
        range(find(&self.tables, table)?, self.counters, from, to, max)
    }

    fn last(&self, table: Table, from: &[u8], to: &[u8]) -> Result<Option<Row>, StoreError> {
        last(find(&self.tables, table)?, self.counters, from, to)
    }

    fn commit_number(&self) -> u64 {
        self.numbered.set(true);
        self.number
    }
}

/// A snapshot with all its tables open. Nobody holds it mutably, so its writes are never called.
pub(crate) struct ReadTxn<'a> {
    tables: Vec<(Table, ReadOnlyTable<Bytes, Bytes>)>,
    pub(crate) number: u64,
    counters: &'a Cell<Counters>,
}

impl<'a> ReadTxn<'a> {
    pub(crate) fn new(
        read: &ReadTransaction,
        schema: &Schema,
        counters: &'a Cell<Counters>,
    ) -> Result<Self, StoreError> {
        let mut tables = Vec::with_capacity(schema.tables.len() + 1);
        for table in all_tables(schema) {
            match guarded("opening the tables", || read.open_table(definition(table))) {
                Ok(open) => tables.push((table, open)),
                Err(error) => {
                    leave(tables, &error);
                    return Err(error);
                }
            }
        }
        Ok(Self { tables, number: 0, counters })
    }
}

impl Txn for ReadTxn<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        get(find(&self.tables, table)?, self.counters, key)
    }

    fn put(&mut self, _: Table, _: &[u8], _: &[u8]) -> Result<(), StoreError> {
        Err(StoreError::work("a snapshot cannot be written"))
    }

    fn delete(&mut self, _: Table, _: &[u8]) -> Result<(), StoreError> {
        Err(StoreError::work("a snapshot cannot be written"))
    }

    fn range(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        max: usize,
    ) -> Result<Vec<Row>, StoreError> {
        range(find(&self.tables, table)?, self.counters, from, to, max)
    }

    fn last(&self, table: Table, from: &[u8], to: &[u8]) -> Result<Option<Row>, StoreError> {
        last(find(&self.tables, table)?, self.counters, from, to)
    }

    fn commit_number(&self) -> u64 {
        self.number
    }
}

fn get(
    table: &impl ReadableTable<Bytes, Bytes>,
    counters: &Cell<Counters>,
    key: &[u8],
) -> Result<Option<Vec<u8>>, StoreError> {
    count(counters, |counters| counters.gets += 1);
    guarded("reading a row", || table.get(key).map(|row| row.map(|value| value.value().to_vec())))
}

fn range(
    table: &impl ReadableTable<Bytes, Bytes>,
    counters: &Cell<Counters>,
    from: &[u8],
    to: &[u8],
    max: usize,
) -> Result<Vec<Row>, StoreError> {
    count(counters, |counters| counters.ranges += 1);
    if from >= to {
        return Ok(Vec::new());
    }
    guarded("reading rows", || {
        table.range::<&[u8]>(from..to)?.take(max).map(|row| row.map(owned)).collect()
    })
}

fn last(
    table: &impl ReadableTable<Bytes, Bytes>,
    counters: &Cell<Counters>,
    from: &[u8],
    to: &[u8],
) -> Result<Option<Row>, StoreError> {
    count(counters, |counters| counters.ranges += 1);
    if from >= to {
        return Ok(None);
    }
    guarded("reading the last row", || {
        let mut rows = table.range::<&[u8]>(from..to)?;
        rows.next_back().transpose().map(|row| row.map(owned))
    })
}

pub(crate) fn owned(
    (key, value): (redb::AccessGuard<'_, Bytes>, redb::AccessGuard<'_, Bytes>),
) -> Row {
    (key.value().to_vec(), value.value().to_vec())
}

fn find<T>(tables: &[(Table, T)], table: Table) -> Result<&T, StoreError> {
    let found = tables.iter().find(|(known, _)| *known == table);
    found.map(|(_, open)| open).ok_or(StoreError::UnknownTable { name: table.name })
}

fn count(counters: &Cell<Counters>, change: impl FnOnce(&mut Counters)) {
    let mut counted = counters.get();
    change(&mut counted);
    counters.set(counted);
}

fn all_tables(schema: &Schema) -> impl Iterator<Item = Table> {
    schema.tables.iter().copied().chain([LINEAGE])
}

fn definition(table: Table) -> TableDefinition<'static, Bytes, Bytes> {
    TableDefinition::new(table.name)
}

/// Sorts an error of redb: out of space, unreadable, or anything else.
pub(crate) fn engine(doing: &'static str, error: impl Into<redb::Error>) -> StoreError {
    let error = error.into();
    if let redb::Error::Corrupted(what) = error {
        return StoreError::corrupt(what);
    }
    let full = matches!(&error, redb::Error::Io(error) if is_full(error));
    let source: Cause = error.into();
    if full { StoreError::DiskFull { doing, source } } else { StoreError::Engine { doing, source } }
}

pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
    )
}
