//! Space on the disk of a store: how much is free, and a reserve that is given up when there is
//! none, so that a full node can start and delete. Decides no watermarks; the owner does.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Bytes that a process without privileges may still write to the disk that holds `path`.
///
/// # Errors
/// `path` does not exist or cannot be asked.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// A file called `ballast` beside a store, which holds space and nothing else.
///
/// When opening the store fails as full: [`Ballast::release`], open again, delete, and
/// [`Ballast::take`] once space has returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ballast {
    path: PathBuf,
    bytes: u64,
}

/// A ballast file could not be made or removed.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {}", .path.display())]
pub struct BallastError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl Ballast {
    /// The ballast of `bytes` for the store in the file `store`. Touches nothing yet.
    #[must_use]
    pub fn beside(store: &Path, bytes: u64) -> Self {
        Self { path: store.with_file_name("ballast"), bytes }
    }

    /// How large the reserve is, in bytes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the whole reserve is in place.
    ///
    /// # Errors
    /// The file cannot be asked.
    pub fn is_held(&self) -> Result<bool, BallastError> {
        match fs::metadata(&self.path) {
            Ok(found) => Ok(found.len() >= self.bytes),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.failed("asking for", error)),
        }
    }

    /// Gives the space free; whether there was any.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn release(&self) -> Result<bool, BallastError> {
        match fs::remove_file(&self.path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.failed("releasing", error)),
        }
    }

    /// Takes the reserve if at least `spare_bytes` stay free beside it; whether it is now in place.
    ///
    /// # Errors
    /// The disk cannot be asked, or the file cannot be written for another reason than space.
    pub fn take(&self, spare_bytes: u64) -> Result<bool, BallastError> {
        if self.is_held()? {
            return Ok(true);
        }
        // A piece left by a crash counts as free, so it goes first.
        self.release()?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let free = free_bytes(folder.unwrap_or(Path::new(".")))
            .map_err(|error| self.failed("finding space for", error))?;
        if free < self.bytes.saturating_add(spare_bytes) {
            return Ok(false);
        }
        match self.fill() {
            Ok(()) => Ok(true),
            Err(error) => {
                self.release()?;
                let full =
                    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
                if full { Ok(false) } else { Err(self.failed("writing", error)) }
            }
        }
    }

    fn fill(&self) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&self.path)?;
        reserve(&mut file, self.bytes)?;
        file.sync_all()
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> BallastError {
        BallastError { doing, path: self.path.clone(), source }
    }
}

/// Blocks without writing them, where the file system can.
#[cfg(target_os = "linux")]
fn reserve(file: &mut File, bytes: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    match fallocate(&*file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        Err(error) if error == rustix::io::Errno::OPNOTSUPP => write_zeros(file, bytes),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn reserve(file: &mut File, bytes: u64) -> io::Result<()> {
    write_zeros(file, bytes)
}

fn write_zeros(file: &mut File, bytes: u64) -> io::Result<()> {
    let mut zeros = io::Read::take(io::repeat(0), bytes);
    io::copy(&mut zeros, file).map(drop)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::{Ballast, free_bytes};

    #[test]
    fn ballast_is_taken_only_where_there_is_room_and_released_once() {
        let folder = tempfile::tempdir().unwrap();
        let ballast = Ballast::beside(&folder.path().join("store.redb"), 1 << 20);
        assert!(!ballast.is_held().unwrap());
        assert!(!ballast.take(u64::MAX / 2).unwrap(), "no disk is that large");
        assert!(!ballast.is_held().unwrap());
        assert!(ballast.take(0).unwrap());
        assert!(ballast.is_held().unwrap());
        let mode = folder.path().join("ballast").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(ballast.take(u64::MAX / 2).unwrap(), "what is held needs no room");
        assert!(ballast.release().unwrap());
        assert!(!ballast.release().unwrap());
    }

    #[test]
    fn a_piece_left_by_a_crash_is_made_whole() {
        let folder = tempfile::tempdir().unwrap();
        let ballast = Ballast::beside(&folder.path().join("store.redb"), 1 << 20);
        std::fs::write(folder.path().join("ballast"), b"piece").unwrap();
        assert!(!ballast.is_held().unwrap());
        assert!(ballast.take(0).unwrap());
        assert!(ballast.is_held().unwrap());
    }

    #[test]
    fn free_space_is_known() {
        let folder = tempfile::tempdir().unwrap();
        assert!(free_bytes(folder.path()).unwrap() > 0);
    }
}
