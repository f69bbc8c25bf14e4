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

// By which terms. What is not named stays as it was granted before. No doc: it would be the command's.
#[derive(clap::Args)]
struct Terms {
    /// Envelopes at a time; 100,000 when nothing was granted before.
    #[arg(long)]
    rows: Option<u64>,
    /// MiB that they may take; 1,024 when nothing was granted before.
    #[arg(long)]
    mib: Option<u64>,
    /// Days that each is held, 1 to 30; 14 when nothing was granted before.
    #[arg(long)]
    days: Option<u64>,
    /// Users of the node whose device lists are kept, so that strangers can write to them; 10,000 when
    /// nothing was granted before.
    #[arg(long)]
    users: Option<u64>,
}

impl Terms {
    /// All of them, with what was granted before.
    fn grant(&self, node: &str, before: &Value) -> Grant {
        let held_for = before.get("held_for").and_then(Value::as_array);
        let granted = held_for
            .and_then(|all| all.iter().find(|item| field(item, "node") == node))
            .cloned()
            .unwrap_or_default();
        // Zeros are what is left of a grant that was taken back.
        let known = |name, else_is| {
            let value = granted.get(name).and_then(Value::as_u64);
            value.filter(|value| *value > 0).unwrap_or(else_is)
        };
        Grant {
            node: node.to_owned(),
            rows: self.rows.unwrap_or_else(|| known("rows", 100_000)),
            bytes: match self.mib {
                Some(mib) => mib.saturating_mul(1 << 20),
                None => known("bytes", 1 << 30),
            },
            days: self.days.unwrap_or_else(|| known("days", 14)),
            users: self.users.unwrap_or_else(|| known("users", 10_000)),
        }
    }
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
        #[command(flatten)]
        terms: Terms,
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
    let common = match &args.what {
        What::List(common) | What::Grant { common, .. } | What::Revoke { common, .. } => common,
    };
    let data = common.folder.data()?;
    let asked = |request: &AdminRequest| show::block_on(async { Ok(ask(&data, request).await?) });
    let (answer, granted) = match &args.what {
        What::List(_) => (asked(&AdminRequest::Custody)?, None),
        What::Grant { node, terms, .. } => {
            let grant = terms.grant(node, &asked(&AdminRequest::Custody)?);
            (asked(&AdminRequest::Grant(grant.clone()))?, Some(grant))
        }
        What::Revoke { node, .. } => (asked(&AdminRequest::Revoke { node: node.clone() })?, None),
    };
    if common.json {
        show::json(&answer);
        return Ok(());
    }
    if let Some(Grant { node, rows, bytes, days, users }) = granted {
        let mib = bytes >> 20;
        say!("granted to {node}: {rows} envelopes, {mib} MiB, {days} days, {users} users");
        return Ok(());
    }
    match &args.what {
        What::List(_) | What::Grant { .. } => show_custody(&answer),
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
