//! `tidings admin custody`: what this node holds for others while they are away, and who holds for it.

use clap::Subcommand;
use serde_json::Value;
use tidings_node::admin_link::{AdminRequest, Grant, ask};

use crate::admin::{Common, rows, time};
use crate::show::{self, field};

/// What this node holds for others while they are away, and who holds for it.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  tidings admin custody list --data /var/lib/tidings")]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Both halves of every agreement, and how much of it is used.
    #[command(after_help = "Example:\n  tidings admin custody list --data /var/lib/tidings --json")]
    List(Common),
    /// Be ready to hold envelopes for a node, from now on. It has to name this node in `custodians`.
    #[command(
        after_help = "Example:\n  tidings admin custody grant --data /var/lib/tidings --rows 100000 --mib 1024 --days 14 <node id>"
    )]
    Grant {
        #[command(flatten)]
        common: Common,
        /// The node's id.
        node: String,
        /// Envelopes at a time.
        #[arg(long, default_value_t = 100_000)]
        rows: u64,
        /// MiB that they may take.
        #[arg(long, default_value_t = 1_024)]
        mib: u64,
        /// Days that each is held, 1 to 30.
        #[arg(long, default_value_t = 14)]
        days: u64,
        /// Users of the node whose device lists are kept, so that strangers can write to them.
        #[arg(long, default_value_t = 10_000)]
        users: u64,
    },
    /// Take nothing more for a node. What is held for it stays until its end.
    #[command(
        after_help = "Example:\n  tidings admin custody revoke --data /var/lib/tidings <node id>"
    )]
    Revoke {
        #[command(flatten)]
        common: Common,
        /// The node's id.
        node: String,
    },
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let (common, request) = match &args.what {
        What::List(common) => (common, AdminRequest::Custody),
        What::Grant { common, node, rows, mib, days, users } => {
            let (node, rows, days, users) = (node.clone(), *rows, *days, *users);
            let bytes = mib.saturating_mul(1 << 20);
            (common, AdminRequest::Grant(Grant { node, rows, bytes, days, users }))
        }
        What::Revoke { common, node } => (common, AdminRequest::Revoke { node: node.clone() }),
    };
    let data = common.folder.data()?;
    let answer = show::block_on(async { Ok(ask(&data, &request).await?) })?;
    if common.json {
        show::json(&answer);
        return Ok(());
    }
    match &args.what {
        What::List(_) => show_custody(&answer),
        What::Grant { node, .. } => say!("granted to {node}"),
        What::Revoke { node, .. } => {
            say!("taken back from {node}: what is held for it stays until its end");
        }
    }
    Ok(())
}

fn show_custody(answer: &Value) {
    let none = Value::Null;
    let of = |name| answer.get(name).unwrap_or(&none);
    let mib = |item: &Value, name| match item.get(name).and_then(Value::as_u64) {
        Some(bytes) => (bytes >> 20).to_string(),
        None => "-".to_owned(),
    };
    let held_for = rows(of("held_for"), |item| {
        let is_named = field(item, "named") == "true";
        vec![
            field(item, "node"),
            format!("{} of {}", field(item, "held"), field(item, "rows")),
            format!("{} of {}", mib(item, "held_bytes"), mib(item, "bytes")),
            field(item, "days"),
            format!("{} of {}", field(item, "users_kept"), field(item, "users")),
            if is_named { "yes" } else { "no" }.to_owned(),
            time(item, "changed_ms"),
        ]
    });
    let held_by = rows(of("held_by"), |item| {
        vec![
            field(item, "node"),
            field(item, "rows"),
            mib(item, "bytes"),
            field(item, "days"),
            field(item, "users"),
            if field(item, "connected") == "true" { "up" } else { "down" }.to_owned(),
            time(item, "issued_ms"),
        ]
    });
    if held_for.is_empty() && held_by.is_empty() {
        say!("nobody holds for this node, and it holds for nobody");
    }
    if !held_for.is_empty() {
        let head = ["HELD FOR", "ENVELOPES", "MIB", "DAYS", "USERS", "NAMES US", "CHANGED"];
        show::table(&head, &held_for);
    }
    if !held_by.is_empty() {
        let head = ["HELD BY", "ENVELOPES", "MIB", "DAYS", "USERS", "LINK", "CONSENTED"];
        show::table(&head, &held_by);
    }
}
