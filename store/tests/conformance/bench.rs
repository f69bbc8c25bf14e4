//! The kinds of stores under test, and small helpers to write and read rows.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;
use tidings_store::{
    BootId, DiskImage, FaultDisk, Image, MemDisk, MemStore, OpenError, Opening, RedbOptions,
    RedbStore, Row, Schema, Store, StoreError, Table,
};

/// A disk on which stores are opened again and again.
pub(crate) trait Bench {
    /// Opens the store on the disk; the one opened before must be dropped.
    fn open_as(&mut self, schema: Schema, opening: Opening) -> Result<Box<dyn Store>, OpenError>;
    /// Remembers what is durable now, as a copy of a disk under a store at rest does.
    fn save_image(&mut self);
    /// Puts the remembered image back. No store may be open.
    fn restore_image(&mut self);
}

impl dyn Bench + '_ {
    /// Opens the store as boot number `boot`.
    pub(crate) fn open(&mut self, boot: u8) -> Box<dyn Store> {
        self.open_as(SCHEMA, opening(boot)).unwrap()
    }
}

#[derive(Default)]
pub(crate) struct Memory {
    disk: MemDisk,
    image: Option<Image>,
}

impl Bench for Memory {
    fn open_as(&mut self, schema: Schema, opening: Opening) -> Result<Box<dyn Store>, OpenError> {
        Ok(Box::new(MemStore::open(&self.disk, schema, opening)?))
    }

    fn save_image(&mut self) {
        self.image = Some(self.disk.image());
    }

    fn restore_image(&mut self) {
        self.disk.restore(self.image.as_ref().unwrap());
    }
}

#[derive(Default)]
pub(crate) struct OnFaultDisk {
    disk: FaultDisk,
    image: Option<DiskImage>,
}

impl Bench for OnFaultDisk {
    fn open_as(&mut self, schema: Schema, opening: Opening) -> Result<Box<dyn Store>, OpenError> {
        let backend = self.disk.backend();
        Ok(Box::new(RedbStore::open_on(backend, schema, opening, RedbOptions::default())?))
    }

    fn save_image(&mut self) {
        self.image = Some(self.disk.image());
    }

    fn restore_image(&mut self) {
        self.disk.restore(self.image.as_ref().unwrap());
    }
}

pub(crate) struct OnFile {
    folder: TempDir,
}

impl OnFile {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Bench for OnFile {
    fn open_as(&mut self, schema: Schema, opening: Opening) -> Result<Box<dyn Store>, OpenError> {
        let path = self.path("store.redb");
        Ok(Box::new(RedbStore::open(&path, schema, opening, RedbOptions::default())?))
    }

    fn save_image(&mut self) {
        fs::copy(self.path("store.redb"), self.path("image")).unwrap();
    }

    fn restore_image(&mut self) {
        fs::copy(self.path("image"), self.path("store.redb")).unwrap();
    }
}

pub(crate) const INBOX: Table = Table::new("inbox");
pub(crate) const OUTBOX: Table = Table::new("outbox");
pub(crate) const SCHEMA: Schema = Schema { version: 1, tables: &[INBOX, OUTBOX], migrations: &[] };

pub(crate) fn opening(boot: u8) -> Opening {
    Opening { boot: BootId([boot; 16]), incarnation: u64::from(boot) + 100 }
}

/// One batch that writes these rows.
pub(crate) fn put(store: &mut dyn Store, table: Table, rows: &[(&str, &str)]) {
    store
        .batch(&mut |txn| {
            rows.iter()
                .try_for_each(|(key, value)| txn.put(table, key.as_bytes(), value.as_bytes()))
        })
        .unwrap();
}

/// All rows of a table as of the last commit.
pub(crate) fn rows(store: &dyn Store, table: Table) -> Vec<(String, String)> {
    let mut found = Vec::new();
    store
        .view(&mut |txn| {
            found = txn.range(table, b"", &[0xff; 8], usize::MAX)?;
            Ok(())
        })
        .unwrap();
    found.into_iter().map(text).collect()
}

pub(crate) fn text((key, value): Row) -> (String, String) {
    (String::from_utf8(key).unwrap(), String::from_utf8(value).unwrap())
}

pub(crate) fn texts(rows: &[(&str, &str)]) -> Vec<(String, String)> {
    rows.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
}

pub(crate) fn gives_up() -> Result<(), StoreError> {
    Err(StoreError::work("the test gives up"))
}
