//! `tidings admin dead`: what peers refuse again and again, and what links break over. Shows it, sends
//! it again, or drops it.

use clap::Subcommand;
use serde_json::Value;
use tidings_node::admin_link::{AdminRequest, Letters, ask};

use crate::admin::{Common, rows, time};
use crate::show::{self, field};

/// What peers refuse again and again.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  tidings admin dead list --data /var/lib/tidings")]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// The dead letters: envelopes that a peer refuses again and again, or that its links break over.
    /// Others go past them; they are asked for still, and sent again about every six hours.
    #[command(
        after_help = "Example:\n  tidings admin dead list --data /var/lib/tidings --peer <node id>"
    )]
    List {
        #[command(flatten)]
        common: Common,
        /// The peer's node id.
        #[arg(long)]
        peer: Option<String>,
    },
    /// Send dead letters again at once, as if they were new.
    #[command(after_help = "Example:\n  tidings admin dead redrive --data /var/lib/tidings --all")]
    Redrive {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        which: Which,
    },
    /// Drop dead letters. Their senders are told that an administrator did so.
    #[command(
        after_help = "Example:\n  tidings admin dead drop --data /var/lib/tidings <envelope id>"
    )]
    Drop {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        which: Which,
    },
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// One envelope's id.
    envelope: Option<String>,
    /// All for the peer with this node id.
    #[arg(long)]
    peer: Option<String>,
    /// All that there are.
    #[arg(long)]
    all: bool,
}

impl Which {
    fn letters(&self) -> Letters {
        Letters { eid: self.envelope.clone(), node: self.peer.clone(), all: self.all }
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let (common, request) = match &args.what {
        What::List { common, peer } => (common, AdminRequest::Dead { node: peer.clone() }),
        What::Redrive { common, which } => (common, AdminRequest::Redrive(which.letters())),
        What::Drop { common, which } => (common, AdminRequest::DropDead(which.letters())),
    };
    let data = common.folder.data()?;
    let answer = show::block_on(async { Ok(ask(&data, &request).await?) })?;
    if common.json {
        show::json(&answer);
        return Ok(());
    }
    match &args.what {
        What::List { .. } => show_letters(&answer),
        What::Redrive { .. } => say!("sent again: {}", field(&answer, "letters")),
        What::Drop { .. } => say!("dropped: {}", field(&answer, "letters")),
    }
    Ok(())
}

fn show_letters(answer: &Value) {
    let row = |letter: &Value| {
        let refusal = field(letter, "refusal");
        vec![
            field(letter, "node"),
            field(letter, "eid"),
            time(letter, "accepted_ms"),
            time(letter, "expires_ms"),
            time(letter, "since_ms"),
            field(letter, "attempts"),
            time(letter, "last_ms"),
            if refusal == "-" { "link broke".to_owned() } else { refusal },
        ]
    };
    let head =
        ["FOR", "ENVELOPE", "ACCEPTED", "EXPIRES", "DEAD SINCE", "TRIES", "LAST TRY", "LAST ERROR"];
    show::table(&head, &rows(answer, row));
}
