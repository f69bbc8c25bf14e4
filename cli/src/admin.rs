//! `tidings admin`: looks into a running node.

use clap::Subcommand;
use serde_json::Value;
use tidings_node::admin_link::{AdminRequest, ask};

use crate::show::{self, field, relative};

/// Look into a running node.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  tidings admin status --data /var/lib/tidings")]
pub(crate) struct Args {
    #[command(subcommand)]
    question: Question,
}

#[derive(Subcommand)]
enum Question {
    /// All peers: connected or not, what waits to be handed over to them, what they hold for their
    /// devices, when the next attempt is due.
    #[command(after_help = "Example:\n  tidings admin peers --data /var/lib/tidings")]
    Peers(Common),
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
    /// The node at a glance, and the addresses that others put into `bootstrap`.
    #[command(after_help = "Example:\n  tidings admin status --data /var/lib/tidings --json")]
    Status(Common),
}

#[derive(clap::Args)]
pub(crate) struct Common {
    #[command(flatten)]
    pub(crate) folder: show::NodeFolder,
    /// Print one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let (common, request) = match &args.question {
        Question::Peers(common) => (common, AdminRequest::Peers),
        Question::Custody(args) => return crate::custody::run(args),
        Question::Dead(args) => return crate::dead::run(args),
        Question::Queue { common, peer } => (common, AdminRequest::Queue { node: peer.clone() }),
        Question::Status(common) => (common, AdminRequest::Status),
    };
    let data = common.folder.data()?;
    let answer = show::block_on(async { Ok(ask(&data, &request).await?) })?;
    if common.json {
        show::json(&answer);
        return Ok(());
    }
    match &args.question {
        Question::Peers(_) => show_peers(&answer),
        Question::Queue { .. } => show_queue(&answer),
        Question::Status(_) => show_status(&answer),
        Question::Custody(_) | Question::Dead(_) => {}
    }
    Ok(())
}

pub(crate) fn rows(answer: &Value, row: impl Fn(&Value) -> Vec<String>) -> Vec<Vec<String>> {
    answer.as_array().map(|items| items.iter().map(row).collect()).unwrap_or_default()
}

pub(crate) fn time(item: &Value, name: &str) -> String {
    relative(item.get(name).and_then(Value::as_u64))
}

/// What was handed over and is not final.
fn held(item: &Value) -> String {
    let count = |name| item.get(name).and_then(Value::as_u64).unwrap_or(0);
    count("queued").saturating_sub(count("waiting")).saturating_sub(count("dead")).to_string()
}

fn show_peers(answer: &Value) {
    let head = [
        "NODE",
        "LINK",
        "WAITING",
        "OLDEST",
        "HELD",
        "DEAD",
        "CUSTODY",
        "STATEMENTS",
        "FAILURES",
        "NEXT TRY",
        "SEEN",
    ];
    let row = |peer: &Value| {
        let link = if field(peer, "connected") == "true" { "up" } else { "down" };
        vec![
            field(peer, "node"),
            link.to_owned(),
            field(peer, "waiting"),
            time(peer, "oldest_ms"),
            held(peer),
            field(peer, "dead"),
            field(peer, "in_custody"),
            field(peer, "statements"),
            field(peer, "failures"),
            time(peer, "next_try_ms"),
            time(peer, "seen_ms"),
        ]
    };
    show::table(&head, &rows(answer, row));
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
        ("full", "disk full"),
        ("full_for_peers", "disk full for peers"),
        ("commit", "last commit"),
        ("incarnation", "incarnation"),
    ];
    let row = |(name, label): &(&str, &str)| {
        let is_less = *name == "inbox" && answer.get("counting") == Some(&Value::Bool(true));
        let so_far = if is_less { " so far, still counting" } else { "" };
        let value = if *name == "held" { held(answer) } else { field(answer, name) };
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
