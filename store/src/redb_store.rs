//! The store on redb: one file, one writer, every commit on disk before it is answered.
//! With `redb_txn.rs`, `redb_file.rs` and the backends the only modules that name redb's types.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::backends::FileBackend;
use redb::{
    Database, DatabaseError, Durability, ReadTransaction, ReadableDatabase, StorageBackend,
    StorageError, WriteTransaction,
};

use crate::counted_backend::CountedBackend;
use crate::guard::{caught, guarded, leave};
use crate::lineage::{last_commit, load, set_last_commit};
use crate::redb_txn::{ReadTxn, WriteTxn, is_full};
use crate::{Counters, Lineage, OpenError, Opening, Schema, Store, StoreError, Txn, opening};

/// How a [`RedbStore`] is opened.
#[derive(Clone, Copy, Debug)]
pub struct RedbOptions {
    /// Memory for cached pages, in bytes.
    pub cache_bytes: usize,
    /// Verify the checksum of every page at opening: reads the whole file, finds flipped bits.
    pub check_integrity: bool,
}

impl Default for RedbOptions {
    /// 16 MiB of cache (a million queued rows then cost 22 MiB of memory), no check.
    fn default() -> Self {
        Self { cache_bytes: 16 << 20, check_integrity: false }
    }
}

/// The store in a redb file.
#[derive(Debug)]
pub struct RedbStore {
    reader: RedbReader,
    commit: u64,
    lineage: Lineage,
    counters: Cell<Counters>,
    syncs: Arc<AtomicU64>,
    poisoned: bool,
}

impl RedbStore {
    /// Opens the file at `path`, creating it readable by its owner only, and runs migrations.
    ///
    /// # Errors
    /// See [`OpenError`]. Nothing was changed then, beside the creation of an empty store.
    pub fn open(
        path: &Path,
        schema: Schema,
        opening: Opening,
        options: RedbOptions,
    ) -> Result<Self, OpenError> {
        let mut access = OpenOptions::new();
        access.read(true).write(true);
        let mut file = access.open(path);
        if matches!(&file, Err(error) if error.kind() == ErrorKind::NotFound) {
            create(path)?;
            file = access.open(path);
        }
        let file = file.map_err(|error| io_failed(path, error))?;
        let file = FileBackend::new(file).map_err(|error| refused(path, error))?;
        let syncs = Arc::new(AtomicU64::new(0));
        let backend = CountedBackend::new(file, Arc::clone(&syncs));
        let mut store = Self::open_at(path, backend, schema, opening, options)?;
        // As with the other counters, the opening is not counted.
        syncs.store(0, Ordering::Relaxed);
        store.syncs = syncs;
        Ok(store)
    }

    /// Opens a store on another backend than a file. A crash within the very first opening may leave
    /// a backend that cannot be opened; for files [`RedbStore::open`] sees to that.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_on(
        backend: impl StorageBackend,
        schema: Schema,
        opening: Opening,
        options: RedbOptions,
    ) -> Result<Self, OpenError> {
        Self::open_at(Path::new("backend"), backend, schema, opening, options)
    }

    fn open_at(
        path: &Path,
        backend: impl StorageBackend,
        schema: Schema,
        opening: Opening,
        options: RedbOptions,
    ) -> Result<Self, OpenError> {
        let db = caught(|| {
            Database::builder()
                .set_cache_size(options.cache_bytes)
                .set_check_integrity_on_open(options.check_integrity)
                .create_with_backend(backend)
        })
        .map_err(|error| OpenError::failed(path, error))?
        .map_err(|error| refused(path, error))?;
        let reader = RedbReader { db: Arc::new(db), path: path.into(), schema };
        let (commit, lineage) = reader.begin_boot(&opening)?;
        let (counters, syncs) = (Cell::default(), Arc::default());
        Ok(Self { reader, commit, lineage, counters, syncs, poisoned: false })
    }

    /// A handle for reads from other threads; they never wait for the writer. The file stays open
    /// until all handles are gone.
    #[must_use]
    pub fn reader(&self) -> RedbReader {
        self.reader.clone()
    }

    /// How often the file was synced since it was opened; 0 on another backend than a file.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    fn run(
        &self,
        work: &mut dyn FnMut(&mut dyn Txn) -> Result<(), StoreError>,
    ) -> Result<Done, StoreError> {
        if self.poisoned {
            return Err(StoreError::Poisoned);
        }
        let number = self.commit + 1;
        let done = self.reader.transact(&self.counters, number, &mut |txn| {
            work(txn)?;
            if !txn.written && !txn.numbered.get() {
                return Ok(None);
            }
            let counted = self.counters.get();
            let renewed = if txn.lineage_written { Some(load(txn)?) } else { None };
            set_last_commit(txn, number)?;
            self.counters.set(counted);
            Ok(Some(Done::Committed { renewed }))
        });
        Ok(done?.unwrap_or(Done::Idle))
    }
}

enum Done {
    Idle,
    Committed { renewed: Option<Lineage> },
}

impl Store for RedbStore {
    fn batch(
        &mut self,
        work: &mut dyn FnMut(&mut dyn Txn) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let done = self.run(work).map_err(|error| {
            self.poisoned = true;
            self.reader.failed(error)
        })?;
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
        if self.poisoned {
            return Err(StoreError::Poisoned);
        }
        self.reader.counted_view(&self.counters, work)
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

/// A handle for reads from other threads.
#[derive(Clone, Debug)]
pub struct RedbReader {
    db: Arc<Database>,
    path: Arc<Path>,
    schema: Schema,
}

impl RedbReader {
    /// Runs `work` on the state of the last commit, without writing.
    ///
    /// # Errors
    /// From `work` or the engine.
    pub fn view(
        &self,
        work: &mut dyn FnMut(&dyn Txn) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.counted_view(&Cell::default(), work)
    }

    fn counted_view(
        &self,
        counters: &Cell<Counters>,
        work: &mut dyn FnMut(&dyn Txn) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let read = guarded("beginning a read", || self.db.begin_read());
        let read = read.map_err(|error| self.failed(error))?;
        let viewed = self.view_in(&read, counters, work);
        match viewed {
            Ok(()) => caught(|| drop(read)).map_err(|error| self.failed(error)),
            Err(error) => {
                leave(read, &error);
                Err(self.failed(error))
            }
        }
    }

    fn view_in(
        &self,
        read: &ReadTransaction,
        counters: &Cell<Counters>,
        work: &mut dyn FnMut(&dyn Txn) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut txn = ReadTxn::new(read, &self.schema, counters)?;
        let counted = counters.get();
        let viewed = last_commit(&txn).and_then(|number| {
            txn.number = number;
            counters.set(counted);
            work(&txn)
        });
        match viewed {
            Ok(()) => caught(|| drop(txn)),
            Err(error) => {
                leave(txn, &error);
                Err(error)
            }
        }
    }

    /// The opening transaction: which commit it was, and what stands in the lineage since.
    fn begin_boot(&self, opening: &Opening) -> Result<(u64, Lineage), OpenError> {
        let mut refused = None;
        let begun = self.transact(&Cell::default(), 0, &mut |txn| {
            let commit = last_commit(txn)? + 1;
            txn.number = commit;
            match opening::run(txn, &self.schema, opening) {
                Ok(lineage) => Ok(Some((commit, lineage))),
                Err(OpenError::Store(error)) => Err(error),
                Err(error) => {
                    refused = Some(error);
                    Ok(None)
                }
            }
        });
        match (begun.map_err(|error| OpenError::failed(&self.path, self.failed(error)))?, refused) {
            (Some(begun), _) => Ok(begun),
            (None, Some(refused)) => Err(refused),
            (None, None) => Err(OpenError::Store(StoreError::corrupt("the opening did nothing"))),
        }
    }

    /// One write transaction; it is given up when there is nothing to commit.
    fn transact<R>(
        &self,
        counters: &Cell<Counters>,
        number: u64,
        work: Work<'_, R>,
    ) -> Result<Option<R>, StoreError> {
        let write = begin(&self.db)?;
        match self.transact_in(&write, counters, number, work) {
            Ok(Some(done)) => guarded("committing", || write.commit()).map(|()| Some(done)),
            Ok(None) => guarded("ending an idle batch", || write.abort()).map(|()| None),
            Err(error) => {
                leave(write, &error);
                Err(error)
            }
        }
    }

    fn transact_in<R>(
        &self,
        write: &WriteTransaction,
        counters: &Cell<Counters>,
        number: u64,
        work: Work<'_, R>,
    ) -> Result<Option<R>, StoreError> {
        let mut txn = WriteTxn::new(write, &self.schema, counters, number)?;
        match work(&mut txn) {
            Ok(done) => caught(|| drop(txn)).map(|()| done),
            Err(error) => {
                leave(txn, &error);
                Err(error)
            }
        }
    }

    pub(crate) fn db(&self) -> &Database {
        &self.db
    }

    /// Tells an error with the file's name. A damaged file stays open until the process ends: closing
    /// it would read it once more.
    pub(crate) fn failed(&self, error: StoreError) -> StoreError {
        leave(Arc::clone(&self.db), &error);
        error.in_file(&self.path)
    }
}

/// What is done in a write transaction; nothing is committed for `None`.
type Work<'a, R> = &'a mut dyn FnMut(&mut WriteTxn<'_>) -> Result<Option<R>, StoreError>;

/// Quick repair costs a few percent and turns a reopening after a crash from a walk over the file
/// into an instant; two phases because contents are chosen by strangers and checksums are weak.
fn begin(db: &Database) -> Result<WriteTransaction, StoreError> {
    guarded("beginning a batch", || {
        let mut write = db.begin_write()?;
        write.set_durability(Durability::Immediate)?;
        write.set_two_phase_commit(true);
        write.set_quick_repair(true);
        Ok::<_, redb::Error>(write)
    })
}

/// Makes an empty database under another name and gives it its own when it is whole: redb does not
/// know its file again after a crash within its first writes.
fn create(path: &Path) -> Result<(), OpenError> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let failed = |error| io_failed(path, error);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    let file = create_new(&new).map_err(failed)?;
    let backend = FileBackend::new(file).map_err(|error| refused(path, error))?;
    let made = Database::builder().create_with_backend(backend);
    made.and_then(Database::close).map_err(|error| refused(path, error))?;
    fs::rename(&new, path).map_err(failed)?;
    sync_parent(path).map_err(failed)
}

/// A new file for its user alone.
pub(crate) fn create_new(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// A new name must survive a crash as well as the contents.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

pub(crate) fn refused(path: &Path, error: DatabaseError) -> OpenError {
    let path = PathBuf::from(path);
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            OpenError::Locked { path }
        }
        DatabaseError::Storage(StorageError::Io(error)) => io_failed(&path, error),
        DatabaseError::Storage(StorageError::Corrupted(what)) => {
            OpenError::Damaged { path, source: what.into() }
        }
        DatabaseError::Storage(_)
        | DatabaseError::RepairAborted
        | DatabaseError::UpgradeRequired(_)
        | DatabaseError::TransactionInProgress
        | _ => OpenError::NotAStore { path, source: error.into() },
    }
}

pub(crate) fn io_failed(path: &Path, error: io::Error) -> OpenError {
    let path = PathBuf::from(path);
    if is_full(&error) {
        OpenError::DiskFull { path, source: error.into() }
    } else if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) {
        OpenError::NotAStore { path, source: error.into() }
    } else {
        OpenError::NotWritable { path, source: error.into() }
    }
}
