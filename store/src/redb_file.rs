//! A look into a store's file that nobody else has open: nothing is written, not even a boot.
//! Knows no schema: tables are what the file says.

use std::cell::Cell;
use std::path::Path;

use redb::{
    Builder, DatabaseError, ReadOnlyDatabase, ReadableDatabase, ReadableTableMetadata,
    TableDefinition, TableHandle,
};

use crate::guard::{caught, guarded};
use crate::lineage::{last_commit, load, schema_version};
use crate::redb_store::refused;
use crate::redb_txn::{ReadTxn, engine, owned};
use crate::txn::Row;
use crate::{Lineage, OpenError, Schema, StoreError, Txn};

/// A file that is looked into.
pub struct RedbFile {
    db: ReadOnlyDatabase,
}

/// Gives the unused parts of the file at `path` back to the disk. Nobody has it open; no row and no boot
/// is written. Moves what lies at the end of the file to its front, so it takes as long as copying that.
///
/// # Errors
/// [`OpenError::Locked`] when somebody has it open, or another [`OpenError`]; the rows are whole then.
pub fn compact(path: &Path) -> Result<(), OpenError> {
    let opened = caught(|| Builder::new().set_cache_size(CACHE_BYTES).open(path));
    let opened = opened.map_err(|error| OpenError::failed(path, error))?;
    let mut db = opened.map_err(|error| refused(path, error))?;
    loop {
        let moved = guarded("compacting the store", || db.compact());
        if !moved.map_err(|error| OpenError::failed(path, error))? {
            return Ok(());
        }
    }
}

/// A table as the file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSize {
    /// Its name.
    pub name: String,
    /// Rows.
    pub rows: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}

/// What a store says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileState {
    /// Version of the layout.
    pub version: u64,
    /// Number of the last commit.
    pub commit: u64,
    /// Its boots.
    pub lineage: Lineage,
}

impl RedbFile {
    /// Opens the file at `path` for reading. As long as this lives, nobody can open it for writing.
    ///
    /// # Errors
    /// [`OpenError::Locked`] when somebody has it open, [`OpenError::NeedsRepair`] when it was not
    /// closed, or another [`OpenError`].
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let opened = Builder::new().set_cache_size(CACHE_BYTES).open_read_only(path);
        let db = opened.map_err(|error| {
            if matches!(error, DatabaseError::RepairAborted) {
                OpenError::NeedsRepair { path: path.into() }
            } else {
                refused(path, error)
            }
        })?;
        Ok(Self { db })
    }

    pub(crate) const fn db(&self) -> &ReadOnlyDatabase {
        &self.db
    }

    /// Every table in the file, in the order of their names.
    ///
    /// # Errors
    /// The engine failed.
    pub fn tables(&self) -> Result<Vec<TableSize>, StoreError> {
        let doing = "listing the tables";
        let read = self.db.begin_read().map_err(|error| engine(doing, error))?;
        let mut sizes = Vec::new();
        for table in read.list_tables().map_err(|error| engine(doing, error))? {
            let name = table.name().to_owned();
            let open = read.open_untyped_table(table).map_err(|error| engine(doing, error))?;
            let rows = open.len().map_err(|error| engine(doing, error))?;
            let stats = open.stats().map_err(|error| engine(doing, error))?;
            sizes.push(TableSize { name, rows, bytes: stats.stored_bytes() });
        }
        sizes.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(sizes)
    }

    /// Version, last commit and boots.
    ///
    /// # Errors
    /// The engine failed, or they cannot be read.
    pub fn state(&self) -> Result<FileState, StoreError> {
        let mut state = None;
        self.view(OWN_TABLES, &mut |txn| {
            let version = schema_version(txn)?;
            let version = version.ok_or_else(|| StoreError::corrupt("the store has no version"))?;
            state = Some(FileState { version, commit: last_commit(txn)?, lineage: load(txn)? });
            Ok(())
        })?;
        state.ok_or_else(|| StoreError::corrupt("the store was not read"))
    }

    /// Rows of any table in the file from the key `from` on, ascending, at most `max`.
    ///
    /// # Errors
    /// There is no such table, or the engine failed.
    pub fn rows(&self, table: &str, from: &[u8], max: usize) -> Result<Vec<Row>, StoreError> {
        let doing = "reading rows";
        let read = self.db.begin_read().map_err(|error| engine(doing, error))?;
        let table: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new(table);
        let open = read.open_table(table).map_err(|error| engine(doing, error))?;
        let rows = open.range::<&[u8]>(from..).map_err(|error| engine(doing, error))?;
        rows.take(max).map(|row| row.map(owned).map_err(|error| engine(doing, error))).collect()
    }

    /// Runs `work` on what the file holds.
    ///
    /// # Errors
    /// A table of the schema is not in the file, or from `work` or the engine.
    pub fn view(
        &self,
        schema: Schema,
        work: &mut dyn FnMut(&dyn Txn) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let read = self.db.begin_read().map_err(|error| engine("beginning a read", error))?;
        let counters = Cell::default();
        let mut txn = ReadTxn::new(&read, &schema, &counters)?;
        txn.number = last_commit(&txn)?;
        work(&txn)
    }
}

/// The tables of this crate alone.
const OWN_TABLES: Schema = Schema { version: 0, tables: &[], migrations: &[] };
/// A look passes over each page once.
const CACHE_BYTES: usize = 4 << 20;

impl core::fmt::Debug for RedbFile {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        out.write_str("RedbFile { .. }")
    }
}
