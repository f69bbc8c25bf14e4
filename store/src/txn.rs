//! The contract between the owners of rows and the stores: tables, transactions, batches.
//! Holds no implementation; see `mem_store.rs` and `redb_store.rs`.

use crate::lineage::LINEAGE;
use crate::{Counters, Lineage, StoreError};

/// A table: a closed set per owner (node schema, client schema), declared as consts on one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Table {
    /// Name inside the store, for ever. Names that begin with `_` belong to this crate.
    pub name: &'static str,
}

impl Table {
    /// A table called `name`, for use in a const.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name }
    }
}

/// All tables of one owner, and the way to them from older versions.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    /// Version of the layout; starts at 1. A store with a newer one is refused.
    pub version: u32,
    /// Every table that a batch may touch. A table that is no longer wanted stays listed for as
    /// long as a migration still reads it.
    pub tables: &'static [Table],
    /// At most one step for each version above 1; a missing step means that nothing had to move.
    pub migrations: &'static [Migration],
}

/// One step from version `to - 1` to version `to`.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// The version that holds after this step.
    pub to: u32,
    /// Moves the rows. All steps of one opening share one transaction: all happen or none.
    pub run: fn(&mut dyn Txn) -> Result<(), StoreError>,
}

impl Schema {
    /// Refuses a table that is neither in the schema nor this crate's own.
    pub(crate) fn check(&self, table: Table) -> Result<(), StoreError> {
        if table == LINEAGE || self.tables.contains(&table) {
            return Ok(());
        }
        Err(StoreError::UnknownTable { name: table.name })
    }
}

/// Key and value.
pub type Row = (Vec<u8>, Vec<u8>);

/// One transaction, as a handler sees it. Reads see the writes made before them in the same batch.
/// Keys are ordered as byte strings.
pub trait Txn {
    /// The value at `key`.
    ///
    /// # Errors
    /// The table is not in the schema, or the engine failed.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Sets the value at `key`, replacing what was there.
    ///
    /// # Errors
    /// The table is not in the schema, or the engine failed.
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError>;

    /// Removes `key`; absent keys are no error.
    ///
    /// # Errors
    /// The table is not in the schema, or the engine failed.
    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError>;

    /// Rows with `from <= key < to`, ascending, at most `max`. An empty or inverted range has no
    /// rows.
    ///
    /// # Errors
    /// The table is not in the schema, or the engine failed.
    fn range(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        max: usize,
    ) -> Result<Vec<Row>, StoreError>;

    /// Last row with `from <= key < to`.
    ///
    /// # Errors
    /// The table is not in the schema, or the engine failed.
    fn last(&self, table: Table, from: &[u8], to: &[u8]) -> Result<Option<Row>, StoreError>;

    /// The number that this batch's commit will have: 1, 2, 3 ... over the life of the store, never
    /// reused within one boot. Opening is a commit too (the boot row), so the first batch of a new
    /// store is number 2. In a [`Store::view`] it is the number of the last commit.
    fn commit_number(&self) -> u64;
}

/// A store: one writer.
pub trait Store {
    /// Runs `work` in one write transaction and commits it durably. When this returns `Ok`, the
    /// batch survives any crash. A batch that wrote nothing and did not ask for its number costs no
    /// commit.
    ///
    /// # Errors
    /// From `work` or from the commit. The store is then poisoned, nothing of the batch may be
    /// believed (after a failed commit it may or may not be durable); the caller ends the process.
    fn batch(
        &mut self,
        work: &mut dyn FnMut(&mut dyn Txn) -> Result<(), StoreError>,
    ) -> Result<(), StoreError>;

    /// Runs `work` on the state of the last commit, without writing.
    ///
    /// # Errors
    /// From `work` or the engine. A failed view does not poison the store.
    fn view(
        &self,
        work: &mut dyn FnMut(&dyn Txn) -> Result<(), StoreError>,
    ) -> Result<(), StoreError>;

    /// Which boots this store has been through; cheap to clone.
    fn lineage(&self) -> &Lineage;

    /// Number of the last commit.
    fn commit_number(&self) -> u64;

    /// What was done since this store was opened.
    fn counters(&self) -> Counters;
}

/// The exclusive upper bound of all keys that begin with `prefix`, for [`Txn::range`].
///
/// A prefix of only `0xff` bytes (or none) has no such bound; 64 bytes of `0xff` are appended
/// instead, which is above every key of that prefix that does not itself go on with 64 of them.
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    let mut end = prefix.to_vec();
    end.resize(prefix.len() + 64, u8::MAX);
    end
}

#[cfg(test)]
mod tests {
    use super::prefix_end;

    #[test]
    fn prefix_end_is_above_every_key_of_the_prefix() {
        assert_eq!(prefix_end(b"ab"), b"ac");
        assert_eq!(prefix_end(&[1, 0xff]), [2]);
        assert_eq!(prefix_end(&[1, 0xff, 0xff]), [2]);
        assert!(prefix_end(&[0xff]).as_slice() > [0xff, 0xff, 0xfe].as_slice());
        assert!(prefix_end(&[]).as_slice() > [0xff; 63].as_slice());
    }
}
