//! `tidings admin`: looks into a running node, and tells it what to do.

use clap::Subcommand;
use serde_json::Value;
use tidings_node::admin_link::{AdminRequest, ask};

use crate::admin_node;
use crate::show::{self, field, relative};

/// Look into a running node, and tell it what to do.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  tidings admin status --data /var/lib/tidings")]
pub(crate) struct Args {
    #[command(subcommand)]
    question: Question,
}

#[derive(Subcommand)]
enum Question {
    Peers(crate::peers::Args),
    /// The oldest envelopes for a peer, or for all, whose end is not proved.
    #[command(
        after_help = "Example:\n  tidings admin queue --data /var/lib/tidings --peer <node id>"
    )]
    Queue {
        #[command(flatten)]
        common: Common,
        /// The peer's node id.
        #[arg(long)]
        peer: Option<String>,
    },
    /// What this node holds for others while they are away, and who holds for it.
    Custody(crate::custody::Args),
    /// What peers refuse again and again.
    Dead(crate::dead::Args),
    Federation(admin_node::Federation),
    Goodbye(admin_node::Goodbye),
    Reload(admin_node::Reload),
    Log(admin_node::Log),
    Top(crate::top::Args),
    /// The node at a glance, and the addresses that others put into `bootstrap`.
    #[command(after_help = "Example:\n  tidings admin status --data /var/lib/tidings --json")]
    Status(Common),
}

#[derive(Clone, clap::Args)]
pub(crate) struct Common {
    #[command(flatten)]
    pub(crate) folder: show::NodeFolder,
    /// Print one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let (common, request) = match &args.question {
        Question::Peers(args) => return crate::peers::run(args),
        Question::Custody(args) => return crate::custody::run(args),
        Question::Dead(args) => return crate::dead::run(args),
        Question::Federation(args) => return admin_node::federation(args),
        Question::Goodbye(args) => return admin_node::goodbye(args),
        Question::Reload(args) => return admin_node::reload(args),
        Question::Log(args) => return admin_node::log(args),
        Question::Top(args) => return crate::top::run(args),
        Question::Queue { common, peer } => (common, AdminRequest::Queue { node: peer.clone() }),
        Question::Status(common) => (common, AdminRequest::Status),
    };
    let data = common.folder.data()?;
    let answer = show::block_on(async { Ok(ask(&data, &request).await?) })?;
    if common.json {
        show::json(&answer);
        return Ok(());
    }
    if matches!(args.question, Question::Queue { .. }) {
        show_queue(&answer);
    } else {
        show_status(&answer);
    }
    Ok(())
}

impl Common {
    /// These, where they say something; else what stands before the word.
    pub(crate) fn or(&self, outer: &Self) -> Self {
        let is_silent = self.folder.data.as_os_str() == ".";
        let folder = if is_silent { &outer.folder } else { &self.folder };
        Self { folder: folder.clone(), json: self.json || outer.json }
    }
}

pub(crate) fn rows(answer: &Value, row: impl Fn(&Value) -> Vec<String>) -> Vec<Vec<String>> {
    answer.as_array().map(|items| items.iter().map(row).collect()).unwrap_or_default()
}

pub(crate) fn time(item: &Value, name: &str) -> String {
    relative(item.get(name).and_then(Value::as_u64))
}

/// What was handed over and is not final.
pub(crate) fn held(item: &Value) -> String {
    let count = |name| item.get(name).and_then(Value::as_u64).unwrap_or(0);
    count("queued").saturating_sub(count("waiting")).saturating_sub(count("dead")).to_string()
}

fn show_queue(answer: &Value) {
    let row = |item: &Value| {
        vec![
            field(item, "node"),
            field(item, "eid"),
            time(item, "accepted_ms"),
            time(item, "expires_ms"),
            format!("{} of {}", field(item, "finished"), field(item, "copies")),
            match (field(item, "waiting").as_str(), field(item, "dead").as_str()) {
                ("true", _) => "here",
                (_, "true") => "dead letter",
                _ => "handed over",
            }
            .to_owned(),
        ]
    };
    show::table(&["FOR", "ENVELOPE", "ACCEPTED", "EXPIRES", "FINAL", "WAITS"], &rows(answer, row));
}

fn show_status(answer: &Value) {
    let names = [
        ("node", "node id"),
        ("client_url", "devices connect to"),
        ("accounts", "accounts"),
        ("devices_connected", "devices connected"),
        ("peers_connected", "peers connected"),
        ("waiting", "envelopes to hand over"),
        ("held", "envelopes held by peers"),
        ("dead", "dead letters"),
        ("inbox", "copies for devices"),
        ("federation", "federation"),
        ("requests", "nodes that wait to be let in"),
        ("retired_ms", "said goodbye"),
        ("full", "disk full"),
        ("full_for_peers", "disk full for peers"),
        ("reachability", "dialled from outside"),
        ("reservations", "held at relays"),
        ("relayed_links", "links through a relay"),
        ("reservations_given", "relays for nodes"),
        ("circuits", "relays circuits"),
        ("commit", "last commit"),
        ("incarnation", "incarnation"),
    ];
    let row = |(name, label): &(&str, &str)| {
        let is_less = *name == "inbox" && answer.get("counting") == Some(&Value::Bool(true));
        let so_far = if is_less { " so far, still counting" } else { "" };
        let value = match *name {
            "held" => held(answer),
            "retired_ms" => time(answer, name),
            name => field(answer, name),
        };
        vec![(*label).to_owned(), value + so_far]
    };
    let mut lines: Vec<Vec<String>> = names.iter().map(row).collect();
    for address in answer.get("addresses").and_then(Value::as_array).into_iter().flatten() {
        let address = address.as_str().unwrap_or_default().to_owned();
        lines.push(vec!["peers reach it at".to_owned(), address]);
    }
    let width = lines.iter().filter_map(|line| line.first()).map(String::len).max().unwrap_or(0);
    for line in &lines {
        if let [label, value] = line.as_slice() {
            say!("{label:<width$}  {value}");
        }
    }
}
