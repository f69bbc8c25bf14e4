//! `tidings restore`: makes a node's folder of a backup. Replaces nothing; the node that is started
//! there finds out by its lineage that it was put back, and asks for what it lost.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use serde_json::json;
use tidings_core::schema::{OWNER, SCHEMA};
use tidings_node::config::{Config, FILE_NAME};
use tidings_node::keys::{self, DELEGATION_FILE, STORE_FILE};
use tidings_protocol::codec;
use tidings_protocol::id::NodeId;
use tidings_store::{FileState, LoadError, RedbFile, load_rows};

use crate::backup::contents::{self, Manifest, SmallFile};
use crate::backup::{at_end, open, passphrase, tell};
use crate::progress::Progress;
use crate::show;

/// Put a node back from a backup, into an empty folder.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  tidings restore acme.backup --data /var/lib/tidings
Stop the node that the backup was made of, for good: two of one node harm each other. The one that is
put back finds out what it has lost since, and asks its devices and peers for it.")]
pub(crate) struct Args {
    /// The backup.
    file: PathBuf,
    /// The folder; it is made if it is not there, and must be empty.
    #[arg(long, env = "TIDINGS_DATA")]
    data: PathBuf,
    #[command(flatten)]
    passphrase: passphrase::Source,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    check_empty(&args.data)?;
    let passphrase = args.passphrase.for_old()?;
    let reading = || format!("reading {}", args.file.display());
    let mut sealed = open(&args.file, &passphrase).with_context(reading)?;
    let (manifest, files) = contents::read_begin(&mut sealed).with_context(reading)?;
    let mut folder = Folder::make(&args.data)?;
    let progress = Progress::uncounted("putting the node back");
    let (rows, state) = folder.fill(&mut sealed, &manifest, &files).with_context(reading)?;
    folder.keep();
    drop(progress);
    let config = Config::read(&args.data.join(FILE_NAME));
    let elsewhere = match &config {
        Ok(config) => !is_same(&config.data, &args.data),
        Err(_) => true,
    };
    if args.json {
        show::json(&json!({
            "data": args.data.display().to_string(),
            "node": manifest.node,
            "made_ms": manifest.made_ms,
            "rows": rows,
            "commit": state.commit,
            "config_fits": !elsewhere,
        }));
        return Ok(());
    }
    say!("node id  {}", manifest.node);
    say!("made     {}", show::relative(Some(manifest.made_ms)));
    say!("rows     {rows}, commit {}", state.commit);
    if elsewhere {
        say!(
            "first    in {}, set data = \".\": it names another folder, or another machine's",
            args.data.join(FILE_NAME).display()
        );
    }
    say!("next     tidings node --data {}", args.data.display());
    Ok(())
}

fn is_same(one: &Path, other: &Path) -> bool {
    match (fs::canonicalize(one), fs::canonicalize(other)) {
        (Ok(one), Ok(other)) => one == other,
        (Err(_), _) | (_, Err(_)) => false,
    }
}

fn check_empty(data: &Path) -> anyhow::Result<()> {
    match fs::read_dir(data) {
        Ok(mut entries) => {
            ensure!(
                entries.next().is_none(),
                "{} is not empty: name a new or an empty folder, a node is never replaced",
                data.display()
            );
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("looking into {}", data.display())),
    }
}

/// The folder while it is filled. What was put there goes again unless all of it is there.
struct Folder<'a> {
    path: &'a Path,
    made_it: bool,
    made: Vec<PathBuf>,
}

impl<'a> Folder<'a> {
    fn make(path: &'a Path) -> anyhow::Result<Self> {
        let made_it = !path.exists();
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("making {}", path.display()))?;
        Ok(Self { path, made_it, made: Vec::new() })
    }

    /// The store first and the delegation last but the configuration: a folder that was cut short is
    /// no node's.
    fn fill(
        &mut self,
        sealed: &mut dyn Read,
        manifest: &Manifest,
        files: &[SmallFile],
    ) -> anyhow::Result<(u64, FileState)> {
        let store = self.path.join(STORE_FILE);
        self.made.push(store.clone());
        let rows = load_rows(&store, sealed).map_err(|error| {
            if let LoadError::Stream(error) = error { tell(error) } else { error.into() }
        })?;
        at_end(sealed)?;
        let state = check_store(&store, &manifest.node)?;
        let rank = |name: &str| match name {
            DELEGATION_FILE => 1,
            FILE_NAME => 2,
            _ => 0,
        };
        let mut ordered: Vec<&SmallFile> = files.iter().collect();
        ordered.sort_by_key(|(name, _)| rank(name));
        for (name, bytes) in ordered {
            let path = self.path.join(name);
            self.made.push(path.clone());
            write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
        }
        let owner = keys::owner(self.path)?.map(|node| node.to_text());
        ensure!(
            owner.as_deref() == Some(manifest.node.as_str()),
            "the keys in it are not those of {}: this backup is not whole",
            manifest.node
        );
        File::open(self.path).and_then(|folder| folder.sync_all())?;
        Ok((rows, state))
    }

    fn keep(mut self) {
        self.made.clear();
        self.made_it = false;
    }
}

impl Drop for Folder<'_> {
    fn drop(&mut self) {
        for path in self.made.drain(..) {
            // The error that matters is the one that led here.
            fs::remove_file(path).unwrap_or_default();
        }
        if self.made_it {
            fs::remove_dir(self.path).unwrap_or_default();
        }
    }
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The store is that node's, and this program can read it.
fn check_store(path: &Path, node: &str) -> anyhow::Result<FileState> {
    let file = RedbFile::open(path)?;
    let state = file.state()?;
    if state.version > u64::from(SCHEMA.version) {
        bail!(
            "its store has version {}, this program knows {}: use a newer program",
            state.version,
            SCHEMA.version
        );
    }
    let rows = file.rows(OWNER.name, &[], 1)?;
    let owner = rows.first().and_then(|(_, value)| codec::decode::<NodeId>(value).ok());
    ensure!(
        owner.map(|owner| owner.to_text()).as_deref() == Some(node),
        "the store in it is not that of {node}: this backup is not whole"
    );
    Ok(state)
}
