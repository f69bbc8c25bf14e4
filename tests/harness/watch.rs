//! A transaction that is watched: what a batch of a node changed in the tables that invariants are
//! about. Changes nothing and hides nothing from the core.

use tidings_core::schema::{
    DEAD, DEVICES, INBOX, NOTES, ONE_TIME, OUT, OUTBOX, SEEN, STATEMENTS, SUBMITS,
};
use tidings_store::{Row, StoreError, Table, Txn};

/// The tables that are watched.
pub const WATCHED: [Table; 10] =
    [OUT, OUTBOX, INBOX, SEEN, STATEMENTS, NOTES, SUBMITS, DEAD, DEVICES, ONE_TIME];

/// One write.
#[derive(Clone, Debug)]
pub struct Change {
    /// The table.
    pub table: Table,
    /// The key.
    pub key: Vec<u8>,
    /// The new value; absent for a delete.
    pub value: Option<Vec<u8>>,
}

/// The watched transaction.
pub struct WatchedTxn<'a> {
    inner: &'a mut dyn Txn,
    changes: &'a mut Vec<Change>,
}

impl<'a> WatchedTxn<'a> {
    /// Watches `inner`.
    pub fn new(inner: &'a mut dyn Txn, changes: &'a mut Vec<Change>) -> Self {
        Self { inner, changes }
    }

    fn note(&mut self, table: Table, key: &[u8], value: Option<&[u8]>) {
        if WATCHED.contains(&table) {
            let (key, value) = (key.to_vec(), value.map(<[u8]>::to_vec));
            self.changes.push(Change { table, key, value });
        }
    }
}

impl Txn for WatchedTxn<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.get(table, key)
    }

    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.note(table, key, Some(value));
        self.inner.put(table, key, value)
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        self.note(table, key, None);
        self.inner.delete(table, key)
    }

    fn range(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        max: usize,
    ) -> Result<Vec<Row>, StoreError> {
        self.inner.range(table, from, to, max)
    }

    fn last(&self, table: Table, from: &[u8], to: &[u8]) -> Result<Option<Row>, StoreError> {
        self.inner.last(table, from, to)
    }

    fn commit_number(&self) -> u64 {
        self.inner.commit_number()
    }
}
