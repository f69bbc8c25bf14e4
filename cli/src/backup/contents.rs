//! What is in a backup: which node, its small files, and all rows of its store, in this order.
//!
//! ```text
//! length of the manifest (4, big-endian) ‖ manifest in JSON ‖ the files one after another ‖ rows
//! ```

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tidings_node::config::FILE_NAME;
use tidings_node::keys::{FILES, ROOT_FILE};
use tidings_protocol::id::NodeId;
use tidings_store::{Item, RowWriter};
use zeroize::Zeroizing;

use super::sealed;

/// Bytes of a manifest, and of a key or configuration, at most.
const SMALL_BYTES_MAX: usize = 1024 * 1024;

/// What a backup says of itself, sealed like the rest of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// The node's id, as text.
    pub(crate) node: String,
    /// When it was made, in Unix ms by the clock of its machine.
    pub(crate) made_ms: u64,
    /// The program that made it.
    pub(crate) program: String,
    /// The files that follow.
    files: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    name: String,
    bytes: usize,
}

/// A file with its name inside the folder.
pub(crate) type SmallFile = (String, Zeroizing<Vec<u8>>);

/// Reads what belongs into a backup beside the store; the root key only if it is wanted and there.
pub(crate) fn read_files(
    folder: &Path,
    data: &Path,
    with_root: bool,
) -> anyhow::Result<Vec<SmallFile>> {
    let mut files = vec![read_file(&folder.join(FILE_NAME), FILE_NAME)?];
    for name in FILES {
        files.push(read_file(&data.join(name), name)?);
    }
    if with_root {
        let path = data.join(ROOT_FILE);
        ensure!(
            path.exists(),
            "{} is not here, so it cannot be put into the backup: leave --with-root-key out",
            path.display()
        );
        files.push(read_file(&path, ROOT_FILE)?);
    }
    Ok(files)
}

fn read_file(path: &Path, name: &str) -> anyhow::Result<SmallFile> {
    let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    ensure!(bytes.len() <= SMALL_BYTES_MAX, "{} is too long to be ours", path.display());
    Ok((name.to_owned(), Zeroizing::new(bytes)))
}

/// Writes everything up to the rows.
pub(crate) fn begin<W: Write>(
    to: &mut W,
    node: NodeId,
    made_ms: u64,
    files: &[SmallFile],
) -> io::Result<()> {
    let entry = |(name, bytes): &SmallFile| Entry { name: name.clone(), bytes: bytes.len() };
    let manifest = Manifest {
        node: node.to_text(),
        made_ms,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        files: files.iter().map(entry).collect(),
    };
    let text = serde_json::to_vec(&manifest)?;
    let len = u32::try_from(text.len()).map_err(io::Error::other)?;
    to.write_all(&len.to_be_bytes())?;
    to.write_all(&text)?;
    files.iter().try_for_each(|(_, bytes)| to.write_all(bytes))
}

/// Reads everything up to the rows.
pub(crate) fn read_begin(from: &mut dyn Read) -> anyhow::Result<(Manifest, Vec<SmallFile>)> {
    let mut len = [0; 4];
    fill(from, &mut len)?;
    let len = usize::try_from(u32::from_be_bytes(len)).unwrap_or(usize::MAX);
    let manifest: Manifest = serde_json::from_slice(&take(from, len)?)
        .context("this backup was made by a newer program: use that one")?;
    let mut files = Vec::new();
    for Entry { name, bytes } in &manifest.files {
        let is_known =
            FILES.contains(&name.as_str()) || [FILE_NAME, ROOT_FILE].contains(&name.as_str());
        // A name is a path: none leads out of the folder.
        ensure!(is_known, "this backup was made by a newer program: it holds {name:?}");
        files.push((name.clone(), take(from, *bytes)?));
    }
    Ok((manifest, files))
}

fn take(from: &mut dyn Read, len: usize) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    ensure!(len <= SMALL_BYTES_MAX, "this backup was made by a newer program: use that one");
    let mut bytes = Zeroizing::new(vec![0; len]);
    fill(from, &mut bytes)?;
    Ok(bytes)
}

fn fill(from: &mut dyn Read, bytes: &mut [u8]) -> anyhow::Result<()> {
    match from.read_exact(bytes) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            bail!("this backup ends too early: it was not finished")
        }
        Err(error) => match sealed::why(&error) {
            Some(why) => Err(why.into()),
            None => Err(error).context("reading the backup"),
        },
        Ok(()) => Ok(()),
    }
}

/// Counts and hashes rows as they pass, so that what was read can be compared with what was written.
#[derive(Default)]
pub(crate) struct Seen {
    hash: Sha256,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

impl Seen {
    pub(crate) fn item(&mut self, item: Item<'_>) {
        // Lengths keep neighbours apart.
        let mut part = |bytes: &[u8]| {
            self.hash.update((bytes.len() as u64).to_be_bytes());
            self.hash.update(bytes);
        };
        match item {
            Item::Table(name) => part(name.as_bytes()),
            Item::Row { key, value } => {
                part(key);
                part(value);
                self.rows += 1;
                self.bytes += (key.len() + value.len()) as u64;
            }
        }
    }

    pub(crate) fn digest(self) -> [u8; 32] {
        self.hash.finalize().into()
    }
}

/// Writes the rows of a node on.
pub(crate) struct Rows<W: Write> {
    writer: RowWriter<W>,
    pub(crate) seen: Seen,
}

impl<W: Write> Rows<W> {
    pub(crate) fn begin(to: W) -> io::Result<Self> {
        Ok(Self { writer: RowWriter::begin(to)?, seen: Seen::default() })
    }

    pub(crate) fn item(&mut self, item: Item<'_>) -> io::Result<()> {
        self.seen.item(item);
        self.writer.item(item)
    }

    pub(crate) fn end(self) -> io::Result<(W, Seen)> {
        Ok((self.writer.end()?, self.seen))
    }
}
