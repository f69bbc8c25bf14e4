//! All rows of a store as one stream of bytes, in any engine's words: how a snapshot leaves a node
//! and how it is kept. Seals nothing and names no file; see `redb_copy.rs` for both ends.
//!
//! ```text
//! "tidings rows 1\n"
//! 1 ‖ length (2) ‖ name                                  a table; its rows follow, keys ascending
//! 2 ‖ length of the key (4) ‖ of the value (4) ‖ key ‖ value
//! 3 ‖ number of all rows (8)                             the end
//! ```
//!
//! Numbers are big-endian. A stream without its end was broken off.

use std::io::{self, ErrorKind, Read, Write};

const BEGIN: &[u8] = b"tidings rows 1\n";
const TABLE: u8 = 1;
const ROW: u8 = 2;
const END: u8 = 3;

/// Longest name of a table, in bytes: ours have a dozen.
const NAME_BYTES_MAX: usize = 256;
/// Longest key, in bytes: ours have less than a hundred.
const KEY_BYTES_MAX: usize = 64 * 1024;
/// Longest value, in bytes: ours are envelopes of 64 KiB, and device lists.
const VALUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// One thing in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// The rows that follow are in this table.
    Table(&'a str),
    /// A row.
    Row {
        /// Its key.
        key: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
}

/// A stream of rows cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// Whatever it comes from failed.
    #[error("reading the rows of a store")]
    Read(#[source] io::Error),
    /// It ends too early.
    #[error("the rows of the store are not all there: they were broken off")]
    BrokenOff,
    /// It is something else.
    #[error("these are no rows of a store: {0}")]
    NotRows(&'static str),
}

/// Writes a stream.
#[derive(Debug)]
pub struct RowWriter<W> {
    to: W,
    rows: u64,
}

impl<W: Write> RowWriter<W> {
    /// Begins a stream.
    ///
    /// # Errors
    /// From `to`.
    pub fn begin(mut to: W) -> io::Result<Self> {
        to.write_all(BEGIN)?;
        Ok(Self { to, rows: 0 })
    }

    /// Writes one thing.
    ///
    /// # Errors
    /// From the output, or the row is longer than any of ours.
    pub fn item(&mut self, item: Item<'_>) -> io::Result<()> {
        let too_long = || io::Error::new(ErrorKind::InvalidInput, "a row is too long");
        match item {
            Item::Table(name) => {
                let bytes = name.as_bytes();
                let len = u16::try_from(bytes.len()).ok();
                let len = len.filter(|_| bytes.len() <= NAME_BYTES_MAX).ok_or_else(too_long)?;
                self.to.write_all(&[TABLE])?;
                self.to.write_all(&len.to_be_bytes())?;
                self.to.write_all(bytes)
            }
            Item::Row { key, value } => {
                if key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
                    return Err(too_long());
                }
                let lens = [key.len(), value.len()].map(u32::try_from);
                let [Ok(key_len), Ok(value_len)] = lens else { return Err(too_long()) };
                self.to.write_all(&[ROW])?;
                self.to.write_all(&key_len.to_be_bytes())?;
                self.to.write_all(&value_len.to_be_bytes())?;
                self.to.write_all(key)?;
                self.to.write_all(value)?;
                self.rows += 1;
                Ok(())
            }
        }
    }

    /// Writes the end, and gives back what was written to.
    ///
    /// # Errors
    /// From the output.
    pub fn end(mut self) -> io::Result<W> {
        self.to.write_all(&[END])?;
        self.to.write_all(&self.rows.to_be_bytes())?;
        self.to.flush()?;
        Ok(self.to)
    }
}

/// Reads a stream up to its end and hands everything in it to `each`. Says how many rows there were.
/// What follows the end is left unread.
///
/// # Errors
/// [`StreamError`] as `E`, or from `each`.
pub fn read_rows<E: From<StreamError>>(
    from: &mut dyn Read,
    each: &mut dyn FnMut(Item<'_>) -> Result<(), E>,
) -> Result<u64, E> {
    let mut begin = [0; BEGIN.len()];
    fill(from, &mut begin)?;
    if begin != *BEGIN {
        return Err(StreamError::NotRows("their beginning is another one").into());
    }
    let (mut rows, mut last): (u64, Option<Vec<u8>>) = (0, None);
    let (mut in_table, mut key, mut value) = (false, Vec::new(), Vec::new());
    loop {
        let [kind] = array(from)?;
        match kind {
            TABLE => {
                let len = usize::from(u16::from_be_bytes(array(from)?));
                take(from, &mut key, len, NAME_BYTES_MAX)?;
                let name = core::str::from_utf8(&key);
                let name = name.map_err(|_| StreamError::NotRows("a table's name is no text"))?;
                each(Item::Table(name))?;
                (in_table, last) = (true, None);
            }
            ROW if in_table => {
                let (key_len, value_len) = (length(from)?, length(from)?);
                take(from, &mut key, key_len, KEY_BYTES_MAX)?;
                take(from, &mut value, value_len, VALUE_BYTES_MAX)?;
                if last.as_ref().is_some_and(|last| *last >= key) {
                    return Err(StreamError::NotRows("their keys are not in order").into());
                }
                each(Item::Row { key: &key, value: &value })?;
                rows += 1;
                last.get_or_insert_default().clone_from(&key);
            }
            END if u64::from_be_bytes(array(from)?) == rows => return Ok(rows),
            END => return Err(StreamError::NotRows("their number is another one").into()),
            _ => return Err(StreamError::NotRows("an unknown mark stands among them").into()),
        }
    }
}

fn length(from: &mut dyn Read) -> Result<usize, StreamError> {
    // Bounded by whoever takes so many bytes.
    Ok(usize::try_from(u32::from_be_bytes(array(from)?)).unwrap_or(usize::MAX))
}

fn array<const N: usize>(from: &mut dyn Read) -> Result<[u8; N], StreamError> {
    let mut bytes = [0; N];
    fill(from, &mut bytes)?;
    Ok(bytes)
}

fn take(
    from: &mut dyn Read,
    into: &mut Vec<u8>,
    len: usize,
    max: usize,
) -> Result<(), StreamError> {
    if len > max {
        return Err(StreamError::NotRows("one of them is longer than any of ours"));
    }
    into.clear();
    into.resize(len, 0);
    fill(from, into)
}

fn fill(from: &mut dyn Read, bytes: &mut [u8]) -> Result<(), StreamError> {
    from.read_exact(bytes).map_err(|error| {
        if error.kind() == ErrorKind::UnexpectedEof {
            StreamError::BrokenOff
        } else {
            StreamError::Read(error)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::{Item, RowWriter, StreamError, read_rows};

    fn stream() -> Vec<u8> {
        let mut writer = RowWriter::begin(Vec::new()).unwrap();
        writer.item(Item::Table("accounts")).unwrap();
        writer.item(Item::Row { key: b"alice", value: b"1" }).unwrap();
        writer.item(Item::Row { key: b"bob", value: b"" }).unwrap();
        writer.item(Item::Table("empty")).unwrap();
        writer.end().unwrap()
    }

    fn read(mut bytes: &[u8]) -> Result<(u64, Vec<String>), StreamError> {
        let mut seen = Vec::new();
        let rows = read_rows(&mut bytes, &mut |item| {
            seen.push(format!("{item:?}"));
            Ok::<_, StreamError>(())
        })?;
        Ok((rows, seen))
    }

    #[test]
    fn what_was_written_is_read_back() {
        let (rows, seen) = read(&stream()).unwrap();
        assert_eq!((rows, seen.len()), (2, 4));
        assert_eq!(seen[0], format!("{:?}", Item::Table("accounts")));
    }

    #[test]
    fn a_stream_that_is_cut_anywhere_is_found_out() {
        let stream = stream();
        for len in 0..stream.len() {
            let error = read(&stream[..len]).unwrap_err();
            assert!(matches!(error, StreamError::BrokenOff), "{len}: {error}");
        }
    }

    #[test]
    fn lengths_beyond_ours_and_other_orders_are_refused() {
        let mut long = stream();
        // The length of the first value.
        let at = super::BEGIN.len() + 3 + "accounts".len() + 1 + 4;
        long[at] = 0xff;
        assert!(matches!(read(&long), Err(StreamError::NotRows(_))));
        let mut writer = RowWriter::begin(Vec::new()).unwrap();
        writer.item(Item::Table("accounts")).unwrap();
        for key in [b"b", b"a"] {
            writer.item(Item::Row { key, value: b"" }).unwrap();
        }
        assert!(matches!(read(&writer.end().unwrap()), Err(StreamError::NotRows(_))));
        assert!(matches!(read(b"something else, longer"), Err(StreamError::NotRows(_))));
    }
}
