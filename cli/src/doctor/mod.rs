//! `tidings doctor`: looks at a node or a device and says what is wrong and what to do. It changes
//! nothing: no key is renewed, no store is opened for writing, a device that greets its node hangs up at once.

mod device;
mod link;
mod machine;
mod node;
mod report;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use tidings_client::driver::Trust;

use crate::home::{Home, read_trust};
use crate::progress::Progress;
use crate::show;
use report::Report;

/// Look at a node or a device: what is wrong with it, and the next step. Changes nothing.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  tidings doctor --data /var/lib/tidings
  tidings doctor --home ~/.local/share/tidings --json
Each check is ok, a warning or failed. Exit code 0: none failed; 7: some did.")]
pub(crate) struct Args {
    /// The node's folder.
    #[arg(long, env = "TIDINGS_DATA")]
    data: Option<PathBuf>,
    /// The person's folder.
    #[arg(long, env = "TIDINGS_HOME")]
    home: Option<PathBuf>,
    /// Trust the certificates in this PEM file at the node's link, as `tidings join` does; with --data.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Seconds to wait for each answer from elsewhere.
    #[arg(long, default_value_t = 5)]
    timeout: u64,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if args.data.is_none() && args.home.is_none() {
        bail!("say whom to look at: a node with --data <folder>, or a device with --home <folder>");
    }
    let within = Duration::from_secs(args.timeout);
    let trust = match &args.ca {
        Some(path) => read_trust(path)?.0,
        None => Trust::default(),
    };
    let mut report = Report::default();
    let progress = Progress::uncounted("looking");
    show::block_on(async {
        if let Some(data) = &args.data {
            node::check(&mut report, data, &trust, within).await;
        }
        if let Some(home) = &args.home {
            device::check(&mut report, &Home::at(home.clone()), within).await;
        }
        Ok(())
    })?;
    drop(progress);
    report.end(args.json)
}
