//! `tidings demo`: three nodes as separate processes, two people, and every promise tried in turn.
//! It tells what it sees and fails when anything is not as told. The parts are `../server.rs` (a
//! node's process), `person.rs` (somebody with a device), `story.rs` (what happens),
//! `custody.rs` (a whole node is away) and `proof.rs` (what is proved of it).

mod custody;
mod person;
mod proof;
mod story;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use crate::{out, show};

/// Watch messages travel between two nodes, wait, arrive, and come back as signed ticks.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  tidings demo
  tidings demo custody
  tidings demo --keep
Everything runs on 127.0.0.1, in a folder of its own that is removed at the end unless --keep is set.")]
pub(crate) struct Args {
    /// `custody`: a whole node is away, and another one holds its mail.
    #[arg(value_enum)]
    story: Option<Story>,
    /// Leave the nodes running at the end, until Ctrl-C, and say how to go on by hand.
    #[arg(long, conflicts_with = "story")]
    keep: bool,
    /// Where the three nodes and the two people keep their data; a fresh folder by default.
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Other stories than the usual one.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Story {
    /// A whole node is away.
    Custody,
}

async fn tell(dir: &Path, args: &Args) -> anyhow::Result<()> {
    match args.story {
        None => story::tell(dir, args.keep).await,
        Some(Story::Custody) => custody::tell(dir).await,
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let Some(dir) = &args.dir else {
        let fresh = tempfile::Builder::new().prefix("tidings-demo-").tempdir();
        let fresh = fresh.context("making a folder for the demo: name one with --dir")?;
        let leaving = (!args.keep).then(|| out::Leaving::remove(fresh.path()));
        let told = show::block_on(tell(fresh.path(), args));
        drop(leaving);
        if told.is_err() || args.keep {
            // What was left behind is what one looks at when something was not as told.
            say!("everything is in {}", fresh.keep().display());
        }
        return told;
    };
    std::fs::create_dir_all(dir)
        .with_context(|| format!("making {}: name another with --dir", dir.display()))?;
    let mut inside =
        std::fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))?;
    ensure!(
        inside.next().is_none(),
        "{} is not empty, and may be somebody's: name a new folder with --dir",
        dir.display()
    );
    show::block_on(tell(dir, args))
}
