//! A copy of a store, row by row: out of one consistent state while its owner goes on writing, and
//! into a new file. Copies the lineage too, so that a copy which is opened later is found out as old.

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{
    Database, DatabaseError, Durability, ReadTransaction, ReadableDatabase, TableDefinition,
    TableHandle as _, WriteTransaction,
};

use crate::guard::{guarded, leave};
use crate::lineage::LINEAGE;
use crate::redb_store::{create_new, io_failed, refused, sync_parent};
use crate::redb_txn::{engine, owned};
use crate::row_stream::{Item, StreamError, read_rows};
use crate::txn::Row;
use crate::{OpenError, RedbFile, RedbReader, StoreError};

/// Rows that are read at a time.
const ROWS_AT_ONCE: usize = 256;
/// Rows of one transaction of a new file: they wait in memory.
const ROWS_OF_TRANSACTION: u64 = 50_000;

impl RedbReader {
    /// Hands every row of the last commit to `each`, table by table, keys ascending. Meanwhile the
    /// writer goes on; the file grows by what it changes until this returns.
    ///
    /// # Errors
    /// From the engine as `E`, or from `each`, which ends the walk.
    pub fn each<E: From<StoreError>>(
        &self,
        each: &mut dyn FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let read = guarded("beginning a read", || self.db().begin_read());
        walk(read.map_err(|error| self.failed(error))?, &|error| self.failed(error), each)
    }
}

impl RedbFile {
    /// Hands every row to `each`, table by table, keys ascending.
    ///
    /// # Errors
    /// From the engine as `E`, or from `each`, which ends the walk.
    pub fn each<E: From<StoreError>>(
        &self,
        each: &mut dyn FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let read = self.db().begin_read().map_err(|error| engine("beginning a read", error))?;
        walk(read, &|error| error, each)
    }
}

fn walk<E: From<StoreError>>(
    read: ReadTransaction,
    tell: &dyn Fn(StoreError) -> StoreError,
    each: &mut dyn FnMut(Item<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let names = guarded("listing the tables", || {
        read.list_tables().map(|tables| tables.map(|table| table.name().to_owned()).collect())
    });
    let mut names: Vec<String> = match names {
        Ok(names) => names,
        Err(error) => {
            leave(read, &error);
            return Err(tell(error).into());
        }
    };
    names.sort();
    for name in names {
        each(Item::Table(&name))?;
        let mut from = Vec::new();
        loop {
            let rows = match some(&read, &name, &from) {
                Ok(rows) => rows,
                Err(error) => {
                    leave(read, &error);
                    return Err(tell(error).into());
                }
            };
            for (key, value) in &rows {
                each(Item::Row { key, value })?;
            }
            let Some((key, _)) = rows.last().filter(|_| rows.len() == ROWS_AT_ONCE) else { break };
            from.clone_from(key);
            // The next key that there can be.
            from.push(0);
        }
    }
    Ok(())
}

fn some(read: &ReadTransaction, name: &str, from: &[u8]) -> Result<Vec<Row>, StoreError> {
    let table: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new(name);
    let open = guarded("opening a table", || read.open_table(table))?;
    guarded("reading rows", || {
        open.range::<&[u8]>(from..)?.take(ROWS_AT_ONCE).map(|row| row.map(owned)).collect()
    })
}

/// A store could not be made of rows. Nothing is left of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The rows cannot be read.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// There is a file already.
    #[error("{} exists: a store is never replaced", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// They are the rows of something else.
    #[error("these rows are not those of a store: they have no lineage")]
    NoLineage,
    /// The file cannot be made.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The engine failed.
    #[error("writing a new store")]
    Store(#[from] StoreError),
}

/// Makes the store at `path` of the rows in a stream, durably, and says how many there are. The file
/// has its name only once it is whole.
///
/// # Errors
/// [`LoadError`].
pub fn load_rows(path: &Path, from: &mut dyn Read) -> Result<u64, LoadError> {
    if path.try_exists().map_err(|error| io_failed(path, error))? {
        return Err(LoadError::Exists { path: path.into() });
    }
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let loaded = fill(&new, from).and_then(|rows| {
        fs::rename(&new, path).map_err(|error| io_failed(path, error))?;
        sync_parent(path).map_err(|error| io_failed(path, error))?;
        Ok(rows)
    });
    if loaded.is_err() {
        // The error that matters is the first one.
        fs::remove_file(&new).unwrap_or_default();
    }
    loaded
}

fn fill(new: &Path, from: &mut dyn Read) -> Result<u64, LoadError> {
    match fs::remove_file(new) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(io_failed(new, error).into());
        }
        Ok(()) | Err(_) => {}
    }
    let file = create_new(new).map_err(|error| io_failed(new, error))?;
    let made =
        FileBackend::new(file).and_then(|file| Database::builder().create_with_backend(file));
    let db = made.map_err(|error: DatabaseError| refused(new, error))?;
    let mut filling = Filling { db: &db, write: None, table: String::new(), waiting: 0 };
    let mut has_lineage = false;
    let rows = read_rows(from, &mut |item| {
        has_lineage |= item == Item::Table(LINEAGE.name);
        filling.put(item).map_err(LoadError::Store)
    })?;
    if !has_lineage {
        return Err(LoadError::NoLineage);
    }
    filling.commit()?;
    // One durable commit for all of them.
    let last = begin(&db, Durability::Immediate)?;
    guarded("writing rows", || last.commit())?;
    guarded("closing a new store", || db.close())?;
    Ok(rows)
}

fn begin(db: &Database, durability: Durability) -> Result<WriteTransaction, StoreError> {
    guarded("beginning a batch", || {
        let mut write = db.begin_write()?;
        write.set_durability(durability)?;
        write.set_quick_repair(matches!(durability, Durability::Immediate));
        Ok::<_, redb::Error>(write)
    })
}

/// A new file while rows are put into it. Its transactions are not durable each.
struct Filling<'a> {
    db: &'a Database,
    write: Option<WriteTransaction>,
    table: String,
    waiting: u64,
}

impl Filling<'_> {
    fn put(&mut self, item: Item<'_>) -> Result<(), StoreError> {
        if self.waiting >= ROWS_OF_TRANSACTION {
            self.commit()?;
        }
        let row = match item {
            Item::Table(name) => {
                name.clone_into(&mut self.table);
                None
            }
            Item::Row { key, value } => Some((key, value)),
        };
        let write = match self.write.take() {
            Some(write) => write,
            None => begin(self.db, Durability::None)?,
        };
        let table: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new(&self.table);
        let put = guarded("writing a row", || {
            // Opening a table makes it.
            let mut open = write.open_table(table)?;
            if let Some((key, value)) = row {
                open.insert(key, value)?;
            }
            Ok::<_, redb::Error>(())
        });
        self.write = Some(write);
        self.waiting += 1;
        put
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.waiting = 0;
        match self.write.take() {
            Some(write) => guarded("writing rows", || write.commit()),
            None => Ok(()),
        }
    }
}
