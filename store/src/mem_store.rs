//! A store in memory, on a disk that can crash: for simulations and tests. Commits are atomic and
//! fast; does no input or output.

use std::cell::Cell;
use std::mem;
use std::ops::Bound;
use std::sync::MutexGuard;

use crate::lineage::{LINEAGE, last_commit, load, set_last_commit};
use crate::mem_disk::{DiskState, Undo};
use crate::txn::Row;
use crate::{
    Counters, Fault, Lineage, MemDisk, OpenError, Opening, Schema, Store, StoreError, Table, Txn,
    opening,
};

/// The store on a [`MemDisk`].
#[derive(Debug)]
pub struct MemStore {
    disk: MemDisk,
    schema: Schema,
    generation: u64,
    commit: u64,
    lineage: Lineage,
    counters: Cell<Counters>,
    poisoned: bool,
}

impl MemStore {
    /// Opens the store on `disk`, creating it if the disk is empty. A store that was open on it
    /// becomes stale.
    ///
    /// # Errors
    /// The schema is newer, a migration failed, or the disk had a fault waiting.
    pub fn open(disk: &MemDisk, schema: Schema, opening: Opening) -> Result<Self, OpenError> {
        let mut state = disk.lock();
        state.generation += 1;
        let generation = state.generation;
        let counters = Cell::default();
        let mut txn = MemTxn::new(state, &schema, 0, &counters);
        let commit = last_commit(&txn).map_err(OpenError::Store)? + 1;
        txn.number = commit;
        let lineage = opening::run(&mut txn, &schema, &opening)?;
        txn.commit().map_err(|error| OpenError::failed("memory".as_ref(), error))?;
        counters.take();
        let disk = disk.clone();
        Ok(Self { disk, schema, generation, commit, lineage, counters, poisoned: false })
    }

    fn usable(&self, state: &DiskState) -> Result<(), StoreError> {
        if self.poisoned {
            return Err(StoreError::Poisoned);
        }
        if state.generation == self.generation { Ok(()) } else { Err(StoreError::Stale) }
    }

    /// The batch itself; whether a commit was needed, and the lineage if it changed.
    fn run(
        &self,
        work: &mut dyn FnMut(&mut dyn Txn) -> Result<(), StoreError>,
    ) -> Result<Done, StoreError> {
        let state = self.disk.lock();
        self.usable(&state)?;
        let mut txn = MemTxn::new(state, &self.schema, self.commit + 1, &self.counters);
        work(&mut txn)?;
        if txn.undo.is_empty() && !txn.numbered.get() {
            return Ok(Done::Idle);
        }
        let counted = self.counters.get();
        let renewed = if txn.lineage_written { Some(load(&txn)?) } else { None };
        set_last_commit(&mut txn, self.commit + 1)?;
        self.counters.set(counted);
        txn.commit()?;
        Ok(Done::Committed { renewed })
    }
}

enum Done {
    Idle,
    Committed { renewed: Option<Lineage> },
}

impl Store for MemStore {
    fn batch(
        &mut self,
        work: &mut dyn FnMut(&mut dyn Txn) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let done = self.run(work).inspect_err(|_| self.poisoned = true)?;
        let counters = self.counters.get_mut();
        match done {
            Done::Idle => counters.idle_batches += 1,
            Done::Committed { renewed } => {
                self.commit += 1;
                counters.commits += 1;
                if let Some(renewed) = renewed {
                    self.lineage = renewed;
                }
            }
        }
        Ok(())
    }

    fn view(
        &self,
        work: &mut dyn FnMut(&dyn Txn) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let state = self.disk.lock();
        self.usable(&state)?;
        work(&MemTxn::new(state, &self.schema, self.commit, &self.counters))
    }

    fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    fn commit_number(&self) -> u64 {
        self.commit
    }

    fn counters(&self) -> Counters {
        self.counters.get()
    }
}

/// A transaction in place. Dropped without commit (also by a panic), it is undone.
struct MemTxn<'a> {
    state: MutexGuard<'a, DiskState>,
    schema: &'a Schema,
    number: u64,
    numbered: Cell<bool>,
    lineage_written: bool,
    bytes_before: usize,
    undo: Vec<Undo>,
    counters: &'a Cell<Counters>,
}

impl<'a> MemTxn<'a> {
    fn new(
        state: MutexGuard<'a, DiskState>,
        schema: &'a Schema,
        number: u64,
        counters: &'a Cell<Counters>,
    ) -> Self {
        let bytes_before = state.bytes();
        let (numbered, lineage_written, undo) = (Cell::new(false), false, Vec::new());
        Self { state, schema, number, numbered, lineage_written, bytes_before, undo, counters }
    }

    fn commit(mut self) -> Result<(), StoreError> {
        let full = self
            .state
            .capacity_bytes
            .is_some_and(|max| self.state.bytes() > max.max(self.bytes_before));
        let fault = self.state.fault.take().or(full.then_some(Fault::DiskFull));
        let (durable, outcome) = match fault {
            None => (true, Ok(())),
            Some(Fault::CrashBeforeCommit) => (false, Err(StoreError::Crashed)),
            Some(Fault::CrashAfterCommit) => (true, Err(StoreError::Crashed)),
            Some(Fault::TornWrite { durable }) => (durable, Err(StoreError::Crashed)),
            Some(Fault::DiskFull) => (
                false,
                Err(StoreError::DiskFull { doing: "committing", source: "no space left".into() }),
            ),
            Some(Fault::SyncError { durable }) => (
                durable,
                Err(StoreError::Engine { doing: "committing", source: "fsync failed".into() }),
            ),
        };
        if durable {
            self.state.keep(&mut self.undo);
        }
        outcome
    }

    fn count(&self, change: impl FnOnce(&mut Counters)) {
        let mut counters = self.counters.get();
        change(&mut counters);
        self.counters.set(counters);
    }

    fn rows_between<'s>(
        &'s self,
        table: Table,
        from: &[u8],
        to: &[u8],
    ) -> Result<impl DoubleEndedIterator<Item = Row> + use<'s>, StoreError> {
        self.schema.check(table)?;
        self.count(|counters| counters.ranges += 1);
        // Inverted bounds would panic in the map.
        let rows = self.state.rows(table.name).filter(|_| from < to);
        let bounds = (Bound::Included(from), Bound::Excluded(to));
        let rows = rows.map(|rows| rows.range::<[u8], _>(bounds));
        Ok(rows.into_iter().flatten().map(|(key, value)| (key.to_vec(), value.to_vec())))
    }

    fn set(&mut self, table: Table, key: &[u8], value: Option<&[u8]>) -> Result<(), StoreError> {
        self.schema.check(table)?;
        self.lineage_written |= table == LINEAGE;
        let undo = self.state.set(table.name, key, value);
        self.undo.extend(undo);
        Ok(())
    }
}

impl Drop for MemTxn<'_> {
    fn drop(&mut self) {
        let undo = mem::take(&mut self.undo);
        self.state.undo(undo);
    }
}

impl Txn for MemTxn<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.schema.check(table)?;
        self.count(|counters| counters.gets += 1);
        Ok(self.state.rows(table.name).and_then(|rows| rows.get(key)).map(|value| value.to_vec()))
    }

    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.set(table, key, Some(value))?;
        self.count(|counters| counters.count_put(key, value));
        Ok(())
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        self.set(table, key, None)?;
        self.count(|counters| counters.deletes += 1);
        Ok(())
    }

    fn range(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        max: usize,
    ) -> Result<Vec<Row>, StoreError> {
        Ok(self.rows_between(table, from, to)?.take(max).collect())
    }

    fn last(&self, table: Table, from: &[u8], to: &[u8]) -> Result<Option<Row>, StoreError> {
        Ok(self.rows_between(table, from, to)?.next_back())
    }

    fn commit_number(&self) -> u64 {
        self.numbered.set(true);
        self.number
    }
}
