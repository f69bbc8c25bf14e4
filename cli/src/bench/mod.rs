//! `tidings bench`: what the nodes can do on this machine, measured on nodes of its own. This file is
//! the command line and the order of things; a run is in `run.rs`, a load client in `device.rs`, the
//! scenarios in `flow.rs`, what they find in `report.rs`.

mod device;
mod flow;
mod ledger;
mod report;
mod run;
mod socket;
mod usage;
mod world;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::ValueEnum;
use serde_json::json;

use self::flow::Flow;
use self::ledger::Stage;
use self::report::Report;
use self::run::Load;
use self::world::Shape;
use crate::show;

/// Measure nodes on this machine: latency, throughput, CPU, memory, fsyncs, and what is lost.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  tidings bench
  tidings bench latency throughput
  tidings bench throughput --messages 200000 --window 100 --json
Each scenario starts nodes of its own, as processes, on 127.0.0.1. Load clients speak the client link
with real keys and signatures and random bodies; they run on the same machine, in this process.")]
pub(crate) struct Args {
    /// What to measure; all of it by default.
    #[arg(value_enum)]
    scenarios: Vec<Scenario>,
    /// Messages of each scenario.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    messages: Option<u32>,
    /// Senders, and as many recipients.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=5_000))]
    senders: u16,
    /// Messages of one sender on their way at a time.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=256))]
    window: u16,
    /// Bytes of the body of a message.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(16..=50_000))]
    body: u16,
    /// Where the nodes keep their data; a fresh folder, removed at the end, by default.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print one line of JSON and nothing else.
    #[arg(long)]
    json: bool,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Two nodes, one message at a time.
    Latency,
    /// Two nodes, many senders, with receipts.
    Throughput,
    /// The same on one node.
    Local,
}

/// What all scenarios are handed.
pub(super) struct Context<'a> {
    args: &'a Args,
    dir: &'a Path,
}

impl Context<'_> {
    /// A fresh folder for the nodes of one scenario.
    fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let dir = self.dir.join(name);
        match std::fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing {}", dir.display()));
            }
            Ok(()) | Err(_) => {}
        }
        std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        Ok(dir)
    }

    /// Messages, as they were asked for.
    fn messages(&self, default: usize) -> usize {
        self.args.messages.map_or(default, |messages| usize::try_from(messages).unwrap_or(default))
    }

    fn load(&self, messages: usize, window: usize, until: Stage) -> Load {
        let body_bytes = usize::from(self.args.body);
        Load { messages: self.messages(messages), window, until, body_bytes }
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let fresh = tempfile::Builder::new().prefix("tidings-bench-").tempdir();
    let fresh = fresh.context("making a folder for the nodes: name one with --dir")?;
    let dir = args.dir.clone().unwrap_or_else(|| fresh.path().to_owned());
    std::fs::create_dir_all(&dir)
        .with_context(|| format!("making {}: name another with --dir", dir.display()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let done = runtime.block_on(measure(args, &dir));
    if done.is_err() && args.dir.is_none() {
        // The nodes' logs say why.
        eprintln!("what the nodes left is in {}", fresh.keep().display());
    }
    done
}

async fn measure(args: &Args, dir: &Path) -> anyhow::Result<()> {
    let context = Context { args, dir };
    let fsync_ms = usage::fsync_ms(dir)?;
    if !args.json {
        println!("{}", synced(dir, fsync_ms));
    }
    let all = Scenario::value_variants();
    let wanted = if args.scenarios.is_empty() { all } else { &args.scenarios };
    let mut reports = Vec::new();
    for scenario in wanted {
        let report = one(*scenario, &context).await?;
        if !args.json {
            report.print();
        }
        reports.push(report);
    }
    if args.json {
        show::json(&json!({
            "version": env!("CARGO_PKG_VERSION"),
            "profile": if cfg!(debug_assertions) { "debug" } else { "release" },
            "cores": std::thread::available_parallelism().map_or(0, usize::from),
            "synced": synced(dir, fsync_ms),
            "fsync_ms": fsync_ms,
            "scenarios": reports,
        }));
    }
    Ok(())
}

/// What is on disk when.
fn synced(dir: &Path, fsync_ms: f64) -> String {
    let where_ = dir.display();
    let build =
        if cfg!(debug_assertions) { "; a debug build: use --release for figures" } else { "" };
    format!(
        "Every ✓, hop acknowledgement and ✓✓ is behind an fsynced commit of the node that says it. \
         An fsync of 4 KiB in {where_} takes {fsync_ms:.2} ms here (median of 101){build}."
    )
}

async fn one(scenario: Scenario, context: &Context<'_>) -> anyhow::Result<Report> {
    let senders = usize::from(context.args.senders);
    let window = usize::from(context.args.window);
    let flow = match scenario {
        Scenario::Latency => Flow {
            name: "latency",
            shape: Shape::Federated,
            senders: 1,
            load: context.load(1_000, 1, Stage::Ticked),
        },
        Scenario::Throughput => Flow {
            name: "throughput",
            shape: Shape::Federated,
            senders,
            load: context.load(20_000, window, Stage::Ticked),
        },
        Scenario::Local => Flow {
            name: "local",
            shape: Shape::Local,
            senders,
            load: context.load(20_000, window, Stage::Ticked),
        },
    };
    flow.run(context).await
}
