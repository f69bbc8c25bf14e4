//! `tidings bench`: what the nodes can do on this machine, measured on nodes of its own. This file is
//! the command line and the order of things; `plan.rs` says what is run with which sizes, the
//! scenarios are in `flow.rs`, `away.rs`, `beside.rs`, `idle.rs` and `real.rs`, a load client is in `device.rs`.

mod away;
mod beside;
mod device;
mod flow;
mod idle;
mod ledger;
mod plan;
mod plot;
mod real;
mod report;
mod run;
mod socket;
mod stage;
mod tls;
pub(crate) mod usage;
mod world;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::json;
use tidings_protocol::invite::InviteText;

use self::plan::Scenario;
use crate::progress::{self, Progress};
use crate::{show, style};

/// Measure nodes on this machine: latency, throughput, CPU, memory, fsyncs, and what is lost.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  tidings bench
  tidings bench latency throughput
  tidings bench throughput --messages 200000 --window 100 --json
  tidings bench outage --away 60 --svg outage.svg
  tidings bench --full --dir /var/tmp/bench
  tidings bench --real
  tidings bench latency throughput --at <invite of acme> --at <invite of globex>
Each scenario starts nodes of its own, as processes, on 127.0.0.1. Load clients speak the client link
with real keys and signatures and random bodies; they run on the same machine, in this process, check
no signatures and keep nothing on disk. --real takes the real client instead, which does both, and
encrypts.
The exit code is 1 when a message was lost or doubled.")]
pub(crate) struct Args {
    /// What to measure; all of it by default.
    #[arg(value_enum)]
    scenarios: Vec<Scenario>,
    /// The sizes against which a node is judged: a million messages queued, ten thousand devices idle.
    /// Takes much longer.
    #[arg(long)]
    full: bool,
    /// Real clients with full encryption, for latency and throughput.
    #[arg(long)]
    real: bool,
    /// Messages of each scenario.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    messages: Option<u32>,
    /// Senders, and as many recipients; 100, or 20 with --real. For latency it is one in any case.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=5_000))]
    senders: Option<u16>,
    /// Messages of one sender on their way at a time.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=256))]
    window: u16,
    /// Bytes of the body of a message.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(16..=50_000))]
    body: u16,
    /// An invite of a node that runs already, to measure it instead of nodes of our own, with latency,
    /// throughput or local; the second time, one of the recipients' node. Good for one account more
    /// than --senders, in each scenario. What such a node uses is not known here: its metrics say it.
    #[arg(long, value_name = "INVITE")]
    at: Vec<InviteText>,
    /// Seconds for which globex is down, in outage and backlog.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=3_600))]
    away: Option<u16>,
    /// Connections that idle; as many as there may be open files at most.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    connections: Option<u16>,
    /// Where the nodes keep their data, on the disk that is to be measured: a folder that is new or
    /// empty, and is kept. By default a fresh one, removed at the end.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print one line of JSON and nothing else.
    #[arg(long)]
    json: bool,
    /// Draw latency over time into this file.
    #[arg(long)]
    svg: Option<PathBuf>,
}

/// What all scenarios are handed.
struct Context<'a> {
    args: &'a Args,
    dir: &'a Path,
    /// For this process, and for each node.
    open_files_max: usize,
}

impl Context<'_> {
    /// A fresh folder for the nodes of one scenario.
    fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let dir = self.dir.join(name);
        std::fs::create_dir(&dir).with_context(|| format!("making {}", dir.display()))?;
        Ok(dir)
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let wanted = Scenario::wanted(&args.scenarios, args.real, args.at.len())?;
    if let Some(path) = &args.svg {
        // Found out now, and not at the end.
        std::fs::write(path, "").with_context(|| format!("writing {}", path.display()))?;
    }
    let fresh = tempfile::Builder::new().prefix("tidings-bench-").tempdir();
    let fresh = fresh.context("making a folder for the nodes: name one with --dir")?;
    let dir = args.dir.clone().unwrap_or_else(|| fresh.path().to_owned());
    std::fs::create_dir_all(&dir)
        .with_context(|| format!("making {}: name another with --dir", dir.display()))?;
    let mut inside =
        std::fs::read_dir(&dir).with_context(|| format!("reading {}", dir.display()))?;
    ensure!(
        inside.next().is_none(),
        "{} is not empty, and nothing in it is touched: name a new folder with --dir",
        dir.display()
    );
    let context = Context { args, dir: &dir, open_files_max: raise_open_files() };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let done = runtime.block_on(measure(&context, &wanted));
    if done.is_err() && args.dir.is_none() {
        // The nodes' logs say why.
        style::note(format_args!("what the nodes left is in {}", fresh.keep().display()));
    }
    done
}

/// Raises the limit on open files as far as it goes, for the nodes too, and says how far that is.
fn raise_open_files() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Not allowed to: then fewer connections idle.
    setrlimit(Resource::Nofile, limit).unwrap_or_default();
    let now = getrlimit(Resource::Nofile).current;
    now.map_or(usize::MAX, |now| usize::try_from(now).unwrap_or(usize::MAX))
}

async fn measure(context: &Context<'_>, wanted: &[Scenario]) -> anyhow::Result<()> {
    let Context { args, dir, .. } = context;
    let fsync_ms = usage::fsync_ms(dir)?;
    let synced = synced(dir, fsync_ms);
    if !args.json {
        say!("{synced}");
    }
    let mut reports = Vec::new();
    let progress = Progress::of(wanted.len(), "measuring");
    for scenario in wanted {
        let mut tell = |report: report::Report| {
            if !args.json {
                progress::aside(|| report.print());
            }
            reports.push(report);
        };
        scenario.run(context, &mut tell).await?;
        progress.step();
    }
    drop(progress);
    if args.json {
        show::json(&json!({
            "version": env!("CARGO_PKG_VERSION"),
            "profile": if cfg!(debug_assertions) { "debug" } else { "release" },
            "cores": std::thread::available_parallelism().map_or(0, usize::from),
            "synced": synced,
            "fsync_ms": fsync_ms,
            "scenarios": reports,
        }));
    } else {
        report::summary(&reports);
    }
    if let Some(path) = &args.svg {
        std::fs::write(path, plot::svg(&reports))
            .with_context(|| format!("writing {}", path.display()))?;
    }
    report::judge(&reports)
}

/// What is on disk when.
fn synced(dir: &Path, fsync_ms: f64) -> String {
    let folder = dir.display();
    let build = if cfg!(debug_assertions) {
        " This is a debug build: use --release for figures."
    } else {
        ""
    };
    format!(
        "Every ✓, hop acknowledgement and ✓✓ is behind an fsynced commit of the node that says it.\n\
         An fsync of 4 KiB in {folder} takes {fsync_ms:.2} ms here (median of 101).{build}"
    )
}
