//! The store of a running node as one stream, over the administrator's socket: both ends of it. The
//! loop goes on meanwhile. Seals nothing: who may read the socket may read the store.

use std::io::{self, BufRead as _, BufReader, BufWriter, ErrorKind, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use tidings_store::{RedbReader, RowWriter, StoreError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{info, warn};

use crate::admin_link::{AdminRequest, Answer, AskError, SOCKET, not_reached};
use crate::limits::SNAPSHOT_STALL_TIMEOUT;

/// Asks the node that runs in `data` for its store, in one consistent state: a stream for
/// [`tidings_store::read_rows`]. Blocks.
///
/// # Errors
/// [`AskError`], each with the next step.
pub fn open(data: &Path) -> Result<BufReader<UnixStream>, AskError> {
    let stream =
        UnixStream::connect(data.join(SOCKET)).map_err(|error| not_reached(data, &error))?;
    let exchange = || {
        stream.set_read_timeout(Some(SNAPSHOT_STALL_TIMEOUT))?;
        let mut line = serde_json::to_string(&AdminRequest::Snapshot)?;
        line.push('\n');
        (&stream).write_all(line.as_bytes())?;
        let mut answers = BufReader::with_capacity(BUFFER_BYTES, stream);
        let mut line = String::new();
        answers.read_line(&mut line)?;
        Ok::<_, io::Error>((serde_json::from_str(&line)?, answers))
    };
    match exchange().map_err(AskError::NoAnswer)? {
        (Answer::Ok(_), rows) => Ok(rows),
        (Answer::Error(why), _) => Err(AskError::Refused(why)),
    }
}

/// Rows cross the socket in pieces of this size.
const BUFFER_BYTES: usize = 256 * 1024;

/// What serving needs. One snapshot at a time: each holds back space that the writer would use again.
#[derive(Clone, Debug)]
pub(crate) struct Snapshots {
    reader: RedbReader,
    place: Arc<Semaphore>,
}

impl Snapshots {
    pub(crate) fn of(reader: RedbReader) -> Self {
        Self { reader, place: Arc::new(Semaphore::new(1)) }
    }

    /// A place for one more, if nobody has it.
    pub(crate) fn begin(&self) -> Option<Snapshot> {
        let place = Arc::clone(&self.place).try_acquire_owned().ok()?;
        Some(Snapshot { reader: self.reader.clone(), _place: place })
    }
}

/// One snapshot that is about to be written.
#[derive(Debug)]
pub(crate) struct Snapshot {
    reader: RedbReader,
    _place: OwnedSemaphorePermit,
}

impl Snapshot {
    /// Writes all rows, on a thread of its own. It is broken off when this future is dropped, as it is
    /// when the node stops, and when the other side stalls.
    pub(crate) async fn write(self, to: tokio::net::UnixStream) {
        let begun = to.into_std().and_then(|to| {
            to.set_nonblocking(false)?;
            to.set_write_timeout(Some(SNAPSHOT_STALL_TIMEOUT))?;
            Ok((BreakOff(to.try_clone()?), to))
        });
        let (break_off, to) = match begun {
            Ok(begun) => begun,
            Err(error) => return warn!(%error, "a snapshot could not be begun"),
        };
        let written = tokio::task::spawn_blocking(move || self.write_all(to)).await;
        drop(break_off);
        match written {
            Ok(Ok(())) => info!("a snapshot of the store was handed to an administrator"),
            Ok(Err(error)) => warn!(%error, "a snapshot of the store was broken off"),
            Err(_) => warn!("a snapshot of the store was broken off"),
        }
    }

    fn write_all(&self, to: UnixStream) -> Result<(), StoreError> {
        let mut rows = RowWriter::begin(BufWriter::with_capacity(BUFFER_BYTES, to))
            .map_err(StoreError::work)?;
        self.reader.each(&mut |item| rows.item(item).map_err(StoreError::work))?;
        rows.end().map(drop).map_err(StoreError::work)
    }
}

/// Ends the writing thread with its next piece.
#[derive(Debug)]
struct BreakOff(UnixStream);

impl Drop for BreakOff {
    fn drop(&mut self) {
        match self.0.shutdown(Shutdown::Both) {
            Err(error) if error.kind() != ErrorKind::NotConnected => {
                warn!(%error, "closing an administrator's connection");
            }
            Ok(()) | Err(_) => {}
        }
    }
}
