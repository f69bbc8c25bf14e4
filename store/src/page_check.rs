//! A look at every page of a store's file: whether each is what was written, by its checksum. Changes
//! nothing: what redb would mend is mended in memory and forgotten.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::backends::FileBackend;
use redb::{BackendError, Database, StorageBackend};

use crate::OpenError;
use crate::guard::caught;
use crate::redb_store::{io_failed, refused};

/// Reads the whole file at `path`, which nobody has open. One that was not closed is looked at as its
/// next opening would find it.
///
/// # Errors
/// [`OpenError::Damaged`] or [`OpenError::NotAStore`] when a page is not what was written,
/// [`OpenError::Locked`] when somebody has it open.
pub fn check_pages(path: &Path) -> Result<(), OpenError> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    let file = file.map_err(|error| io_failed(path, error))?;
    let file = FileBackend::new(file).map_err(|error| refused(path, error))?;
    let overlay = Overlay::over(file).map_err(|error| io_failed(path, error))?;
    caught(|| {
        let opened = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .set_check_integrity_on_open(true)
            .create_with_backend(overlay);
        opened.and_then(Database::close)
    })
    .map_err(|error| OpenError::failed(path, error))?
    .map_err(|error| refused(path, error))
}

/// Each page is read once.
const CACHE_BYTES: usize = 4 << 20;
/// What the overlay keeps together.
const BLOCK: u64 = 4096;

/// A file that is read, and whose writes stay in memory.
#[derive(Debug)]
struct Overlay {
    file: FileBackend,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    len: u64,
    /// Up to where the file counts: less than its length once it was cut.
    file_len: u64,
    /// By their number. Bounded by what a repair writes, which is little: a table of what is free.
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl Overlay {
    fn over(file: FileBackend) -> io::Result<Self> {
        let len = file.len()?;
        let written = Mutex::new(Written { len, file_len: len, blocks: BTreeMap::new() });
        Ok(Self { file, written })
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One block as it is now. What is behind the end is zeros.
    fn block(&self, written: &Written, number: u64) -> io::Result<Vec<u8>> {
        if let Some(block) = written.blocks.get(&number) {
            return Ok(block.clone());
        }
        let mut block = vec![0; usize::try_from(BLOCK).unwrap_or_default()];
        let left = written.file_len.saturating_sub(number * BLOCK).min(BLOCK);
        let there = usize::try_from(left).unwrap_or_default();
        if let Some(there) = block.get_mut(..there).filter(|there| !there.is_empty()) {
            self.file.read(number * BLOCK, there)?;
        }
        Ok(block)
    }
}

/// The parts of a range of bytes, one for each block: its number, and where in it the part begins.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let end = offset + len as u64;
    (offset / BLOCK..end.div_ceil(BLOCK)).map(move |number| {
        let from = offset.max(number * BLOCK);
        let to = end.min((number + 1) * BLOCK);
        let within = usize::try_from(from - number * BLOCK).unwrap_or_default();
        (number, within, usize::try_from(to - from).unwrap_or_default())
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.written().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.written();
        if offset + out.len() as u64 > written.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut rest = out;
        for (number, within, len) in parts(offset, rest.len()) {
            let block = self.block(&written, number)?;
            let (here, after) = std::mem::take(&mut rest).split_at_mut(len);
            here.copy_from_slice(block.get(within..within + len).unwrap_or_default());
            rest = after;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut written = self.written();
        if len < written.len {
            // The block in which it ends now is cut, and what follows is gone.
            let mut last = self.block(&written, len / BLOCK)?;
            let within = usize::try_from(len % BLOCK).unwrap_or_default();
            last.iter_mut().skip(within).for_each(|byte| *byte = 0);
            written.blocks.split_off(&(len / BLOCK));
            written.blocks.insert(len / BLOCK, last);
        }
        written.len = len;
        written.file_len = written.file_len.min(len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.written();
        let mut rest = data;
        for (number, within, len) in parts(offset, data.len()) {
            let mut block = self.block(&written, number)?;
            let (here, after) = rest.split_at(len);
            if let Some(place) = block.get_mut(within..within + len) {
                place.copy_from_slice(here);
            }
            written.blocks.insert(number, block);
            rest = after;
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, from: Bound<u64>, to: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(from, to)
    }

    fn try_lock_shared_range(
        &self,
        from: Bound<u64>,
        to: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(from, to)
    }

    fn lock_range(&self, from: Bound<u64>, to: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(from, to)
    }

    fn lock_shared_range(&self, from: Bound<u64>, to: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(from, to)
    }

    fn unlock_range(&self, from: Bound<u64>, to: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(from, to)
    }

    fn query_lock_range(&self, from: Bound<u64>, to: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(from, to)
    }
}
