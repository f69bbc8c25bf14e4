//! `tidings node`: runs a node until it is told to stop.

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;
use std::{io, thread};

use anyhow::Context as _;
use listenfd::ListenFd;
use serde_json::json;
use tidings_node::config::{self, Config};
use tidings_node::{event_log, start};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tracing_subscriber::EnvFilter;

use crate::{progress, show, style};

/// Run a node until SIGTERM or Ctrl-C; then it says goodbye, commits and ends within 10 seconds.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  tidings node --data /var/lib/tidings
  tidings node --data /var/lib/tidings --log-format json --log-events
The log goes to standard error; TIDINGS_LOG=debug says more.")]
pub(crate) struct Args {
    #[command(flatten)]
    folder: show::NodeFolder,
    /// The configuration, if it is not node.toml in the node's folder.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Once the node runs, print where it can be reached as one line of JSON; log in JSON too.
    #[arg(long)]
    json: bool,
    /// How the log is written: text, or one JSON object a line. With --json it is json.
    #[arg(long, value_enum, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// Log each step of each envelope too, its ids hashed under a key of the day.
    #[arg(long)]
    log_events: bool,
    /// End when standard input ends, as it does when the program that started this one is gone.
    #[arg(long, hide = true)]
    while_input: bool,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// A start that takes longer says what it is doing.
const START_SHORT: Duration = Duration::from_secs(1);

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    log(args)?;
    let path = args.config.clone().unwrap_or_else(|| args.folder.data.join(config::FILE_NAME));
    let config = Config::read(&path)?;
    // Before there are threads: it takes its variables out of the environment.
    let handed_over = ListenFd::from_env().take_tcp_listener(0).context(
        "the socket that was handed over (LISTEN_FDS) is none for TCP: in the socket unit, write \
         ListenStream= with an address and a port",
    )?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let done = runtime.block_on(serve(config, handed_over, args));
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}

async fn serve(
    config: Config,
    handed_over: Option<TcpListener>,
    args: &Args,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for Ctrl-C")?;
    let opening = progress::if_longer_than(START_SHORT, "opening the store");
    let node = start::start(config, handed_over).await?;
    drop(opening);
    announce(&node, args.json);
    let input = args.while_input.then(input_ends);
    let told_to_stop = async {
        tokio::select! {
            _ = async { input?.await.ok() }, if args.while_input => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    node.run_until(told_to_stop).await?;
    Ok(())
}

/// On a thread of its own: reading standard input cannot be broken off, and nothing waits for it.
fn input_ends() -> oneshot::Receiver<()> {
    let (ended, ends) = oneshot::channel();
    thread::spawn(move || {
        // An input that fails has ended, too.
        io::copy(&mut io::stdin().lock(), &mut io::sink()).unwrap_or_default();
        ended.send(()).unwrap_or_default();
    });
    ends
}

fn announce(node: &start::Node, json: bool) {
    let bound = node.bound();
    if json {
        show::json(&json!({
            "node": node.id().to_text(),
            "client_url": bound.client_url,
            "clients": bound.clients,
            "admin": bound.admin,
            "peers": bound.peers,
        }));
        return;
    }
    say!("node id  {}", node.id().to_text());
    say!("devices  {}", bound.client_url);
    say!("metrics  http://{}/metrics", bound.admin);
    for address in &bound.peers {
        say!("peers    {address}");
    }
}

/// Warnings of libraries, information of ours. The table of peers warns whenever it is alone.
fn log(args: &Args) -> anyhow::Result<()> {
    let mut filter = EnvFilter::try_from_env("TIDINGS_LOG").unwrap_or_else(|_| {
        EnvFilter::new("warn,tidings_node=info,tidings_core=info,libp2p_kad=error")
    });
    if args.log_events {
        let events = format!("{}=info", event_log::TARGET).parse();
        filter = filter.add_directive(events.context("asking for the event log")?);
    }
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(style::is_log_coloured());
    let default = if args.json { LogFormat::Json } else { LogFormat::Text };
    match args.log_format.unwrap_or(default) {
        LogFormat::Json => log.json().init(),
        LogFormat::Text => log.init(),
    }
    Ok(())
}
