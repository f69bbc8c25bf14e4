//! `tidings backup`: one consistent snapshot of a node, sealed with a passphrase, and read back before
//! it counts. `restore.rs` is the way back.

mod beside;
pub(crate) mod contents;
pub(crate) mod passphrase;
pub(crate) mod sealed;

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, BufWriter};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use serde_json::json;
use tidings_node::config::{Config, FILE_NAME};
use tidings_node::{clock, keys};
use tidings_protocol::id::NodeId;
use tidings_store::{StreamError, read_rows};

use crate::progress::Progress;
use crate::snapshot::{self, Giver};
use crate::{show, style};
use contents::{Rows, Seen, SmallFile};
use sealed::{BeginError, Passphrase, SealedReader, SealedWriter};

/// Back a node up into one sealed file: store, keys and node.toml. The node goes on running.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  tidings backup acme.backup --data /var/lib/tidings
  tidings backup /mnt/acme.backup --data /var/lib/tidings --passphrase-file /etc/tidings/passphrase --json
The file is read back and compared before the command ends. Without its passphrase nobody opens it.")]
pub(crate) struct Args {
    /// The file to make; none is replaced.
    file: PathBuf,
    #[command(flatten)]
    folder: show::NodeFolder,
    #[command(flatten)]
    passphrase: passphrase::Source,
    /// Put root.key in as well. It is better kept apart: who has it is the organisation.
    #[arg(long)]
    with_root_key: bool,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let folder = &args.folder.data;
    let config = Config::read(&folder.join(FILE_NAME))?;
    let Some(node) = keys::owner(&config.data)? else {
        bail!("{} is no node's folder: name another one with --data", config.data.display());
    };
    let is_there = args.file.try_exists().with_context(|| looking(&args.file))?;
    ensure!(!is_there, "{} exists: name another file, no backup is replaced", args.file.display());
    let files = contents::read_files(folder, &config.data, args.with_root_key)?;
    let passphrase = args.passphrase.for_new()?;
    beside::sweep(&args.file).with_context(|| looking(&args.file))?;
    let new = beside::fresh(&args.file)?;
    let made = make(args, &config.data, node, &files, &passphrase, &new);
    if made.is_err() {
        // The error that matters is the first one.
        fs::remove_file(&new).unwrap_or_default();
    }
    let Made { giver, bytes, rows } = made?;
    if args.json {
        show::json(&json!({
            "file": args.file.display().to_string(),
            "node": node.to_text(),
            "running": giver == Giver::RunningNode,
            "rows": rows,
            "bytes": bytes,
            "root_key": args.with_root_key,
        }));
        return Ok(());
    }
    say!("{}: {rows} rows, {bytes} bytes, read back and compared", args.file.display());
    if !args.with_root_key {
        say!("root.key is not in it: keep it apart, offline");
    }
    Ok(())
}

struct Made {
    giver: Giver,
    bytes: u64,
    rows: u64,
}

fn make(
    args: &Args,
    data: &Path,
    node: NodeId,
    files: &[SmallFile],
    passphrase: &Passphrase,
    new: &Path,
) -> anyhow::Result<Made> {
    let writing = Progress::uncounted("writing the backup");
    // Held, and with it its lock, until it has its name.
    let (giver, written, held) = write(data, node, files, passphrase, new)
        .with_context(|| format!("writing {}", new.display()))?;
    drop(writing);
    let reading = Progress::uncounted("reading it back");
    let read = verify(new, node, files, passphrase).context("reading the backup back")?;
    drop(reading);
    let rows = written.rows;
    ensure!(
        read.digest() == written.digest(),
        "what was read back is not what was written: check the disk of {}",
        new.display()
    );
    let bytes = fs::metadata(new).with_context(|| looking(new))?.len();
    beside::name(new, &args.file)?;
    drop(held);
    let synced = File::open(beside::folder(&args.file)).and_then(|folder| folder.sync_all());
    if let Err(error) = synced {
        // Some network file systems have no such thing; the bytes are synced.
        style::error(&anyhow::Error::new(error).context("syncing the folder of the backup"));
    }
    Ok(Made { giver, bytes, rows })
}

fn write(
    data: &Path,
    node: NodeId,
    files: &[SmallFile],
    passphrase: &Passphrase,
    new: &Path,
) -> anyhow::Result<(Giver, Seen, File)> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(new)?;
    // Nobody else takes it for what a killed one left, as long as it is open here.
    file.lock()?;
    let mut sealed = SealedWriter::begin(BufWriter::new(file), passphrase)?;
    contents::begin(&mut sealed, node, clock::now_ms(), files)?;
    let mut rows = Rows::begin(sealed)?;
    let giver = snapshot::each(data, &mut |item| Ok(rows.item(item)?))?;
    let (sealed, seen) = rows.end()?;
    let file = sealed.end()?.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    file.sync_all()?;
    Ok((giver, seen, file))
}

fn verify(
    path: &Path,
    node: NodeId,
    files: &[SmallFile],
    passphrase: &Passphrase,
) -> anyhow::Result<Seen> {
    let mut sealed = open(path, passphrase)?;
    let (manifest, read) = contents::read_begin(&mut sealed)?;
    ensure!(manifest.node == node.to_text() && read == files, "the keys in it are others");
    let mut seen = Seen::default();
    let each = &mut |item: tidings_store::Item<'_>| {
        seen.item(item);
        Ok::<_, StreamError>(())
    };
    read_rows(&mut sealed, each).map_err(tell)?;
    at_end(&mut sealed)?;
    Ok(seen)
}

/// Opens a backup up to its manifest.
pub(crate) fn open(
    path: &Path,
    passphrase: &Passphrase,
) -> anyhow::Result<SealedReader<BufReader<File>>> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    SealedReader::begin(BufReader::new(file), passphrase)
        .map_err(|error| if let BeginError::Open(why) = error { why.into() } else { error.into() })
}

/// Why rows of a backup could not be read: what is wrong with the backup comes first.
pub(crate) fn tell(error: StreamError) -> anyhow::Error {
    if let StreamError::Read(inner) = &error
        && let Some(why) = sealed::why(inner)
    {
        return why.into();
    }
    error.into()
}

/// Nothing may follow the rows. Reading on also checks the last piece.
pub(crate) fn at_end(sealed: &mut dyn std::io::Read) -> anyhow::Result<()> {
    match sealed.read(&mut [0]) {
        Ok(0) => Ok(()),
        Ok(_) => bail!("something follows the rows: this backup was made by a newer program"),
        Err(error) => Err(tell(StreamError::Read(error))),
    }
}

fn looking(path: &Path) -> String {
    format!("looking at {}", path.display())
}
