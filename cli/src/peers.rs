//! `tidings admin peers`: the other nodes that a running node deals with, and what its administrator
//! says of them.

use clap::Subcommand;
use serde_json::Value;
use tidings_node::admin_link::{AdminRequest, NameQuestion, ask};
use tidings_node::admin_peers::{PeerLimits, PeerWord};

use crate::admin::{Common, held, rows, time};
use crate::show::{self, field};

/// The other nodes: who may deal with this one, what waits, what they did.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  tidings admin peers --data /var/lib/tidings\n  tidings admin peers deny --data /var/lib/tidings <node id> --note spam\nWithout a word, it is `list`."
)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand)]
enum What {
    /// All peers: how they stand, connected or not, what waits to be handed over to them, what they
    /// hold for their devices, when the next attempt is due.
    #[command(after_help = "Example:\n  tidings admin peers list --data /var/lib/tidings")]
    List(Common),
    /// All that is known of one peer: what was said of it, what it says of itself, what it may cost,
    /// what it did.
    #[command(
        after_help = "Example:\n  tidings admin peers show --data /var/lib/tidings <node id>"
    )]
    Show(One),
    /// Let a node in and say where it is. An address alone will do: whose it is shows when it answers.
    #[command(
        after_help = "Example:\n  tidings admin peers add --data /var/lib/tidings /ip4/192.0.2.1/tcp/7400/p2p/<peer id>"
    )]
    Add {
        #[command(flatten)]
        common: Common,
        /// Its node id, or its address with the peer id at the end.
        peer: String,
        /// Its address, behind a node id.
        address: Option<String>,
    },
    /// Let a node in, whatever was said of it before, and call it at once.
    #[command(
        after_help = "Example:\n  tidings admin peers allow --data /var/lib/tidings <node id>"
    )]
    Allow(Noted),
    /// Keep a node out: its links end, nothing is taken from it, and what waits for it fails, with a word
    /// to the senders.
    #[command(
        after_help = "Example:\n  tidings admin peers deny --data /var/lib/tidings <node id> --note spam"
    )]
    Deny(Noted),
    /// Send nothing to a node and take nothing from it until `resume`; everything is kept.
    #[command(
        after_help = "Example:\n  tidings admin peers pause --data /var/lib/tidings <node id>"
    )]
    Pause(One),
    /// The end of a pause: what was kept flows.
    #[command(
        after_help = "Example:\n  tidings admin peers resume --data /var/lib/tidings <node id>"
    )]
    Resume(One),
    /// Declare a node gone for good: it is not dialled any more, and what waits for it fails, with a word
    /// to the senders. It is back when it signs new addresses, or with `allow`.
    #[command(
        after_help = "Example:\n  tidings admin peers retire --data /var/lib/tidings <node id>"
    )]
    Retire(One),
    /// Let a domain stand for a node, whatever the DNS says; the same as `names alias`.
    #[command(
        after_help = "Example:\n  tidings admin peers alias --data /var/lib/tidings globex.example <node id>"
    )]
    Alias {
        #[command(flatten)]
        common: Common,
        /// The domain.
        domain: String,
        /// The node's id.
        node: String,
    },
    /// Try a node at once, or all that something waits for.
    #[command(
        after_help = "Example:\n  tidings admin peers retry-now --data /var/lib/tidings --all"
    )]
    RetryNow {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        which: Which,
    },
    /// Say what one peer may cost; what is not named is as node.toml says.
    #[command(
        after_help = "Example:\n  tidings admin peers limits --data /var/lib/tidings <node id> --envelopes 100 --rows 10000"
    )]
    Limits {
        #[command(flatten)]
        one: One,
        #[command(flatten)]
        limits: Limits,
    },
}

#[derive(clap::Args)]
struct One {
    #[command(flatten)]
    common: Common,
    /// Its node id.
    node: String,
}

#[derive(clap::Args)]
struct Noted {
    #[command(flatten)]
    one: One,
    /// Why, for other administrators.
    #[arg(long, default_value = "")]
    note: String,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// Its node id.
    node: Option<String>,
    /// All that something waits for.
    #[arg(long)]
    all: bool,
}

#[derive(clap::Args)]
#[group(id = "what it may cost", required = true, multiple = true)]
struct Limits {
    /// Envelopes that it may send in a second.
    #[arg(long)]
    envelopes: Option<u64>,
    /// KiB of envelopes in a second.
    #[arg(long)]
    kib: Option<u64>,
    /// Statements in a second.
    #[arg(long)]
    statements: Option<u64>,
    /// Questions in a second: for users, audits, offers.
    #[arg(long)]
    questions: Option<u64>,
    /// Envelopes that may wait for it here.
    #[arg(long)]
    rows: Option<u64>,
    /// Bytes that may wait for it here.
    #[arg(long)]
    bytes: Option<u64>,
    /// Copies from it that may wait here for devices.
    #[arg(long)]
    inbox_rows: Option<u64>,
    /// Bytes from it that may wait here for devices.
    #[arg(long)]
    inbox_bytes: Option<u64>,
    /// All as node.toml says.
    #[arg(long)]
    default: bool,
}

impl Limits {
    const fn limits(&self) -> PeerLimits {
        if self.default {
            return PeerLimits {
                envelopes: None,
                kib: None,
                statements: None,
                questions: None,
                rows: None,
                bytes: None,
                inbox_rows: None,
                inbox_bytes: None,
            };
        }
        PeerLimits {
            envelopes: self.envelopes,
            kib: self.kib,
            statements: self.statements,
            questions: self.questions,
            rows: self.rows,
            bytes: self.bytes,
            inbox_rows: self.inbox_rows,
            inbox_bytes: self.inbox_bytes,
        }
    }
}

impl What {
    fn common(&self) -> &Common {
        match self {
            Self::List(common)
            | Self::Add { common, .. }
            | Self::Alias { common, .. }
            | Self::RetryNow { common, .. } => common,
            Self::Show(one)
            | Self::Pause(one)
            | Self::Resume(one)
            | Self::Retire(one)
            | Self::Limits { one, .. } => &one.common,
            Self::Allow(noted) | Self::Deny(noted) => &noted.one.common,
        }
    }

    fn request(&self) -> AdminRequest {
        let change = |one: &One, change, note: &str| AdminRequest::ChangePeer {
            node: one.node.clone(),
            change,
            note: note.to_owned(),
        };
        match self {
            Self::List(_) => AdminRequest::Peers,
            Self::Show(one) => AdminRequest::Peer { node: one.node.clone() },
            Self::Add { peer, address, .. } if peer.contains('/') && address.is_none() => {
                AdminRequest::AddPeer { node: None, address: Some(peer.clone()) }
            }
            Self::Add { peer, address, .. } => {
                AdminRequest::AddPeer { node: Some(peer.clone()), address: address.clone() }
            }
            Self::Allow(noted) => change(&noted.one, PeerWord::Allow, &noted.note),
            Self::Deny(noted) => change(&noted.one, PeerWord::Deny, &noted.note),
            Self::Pause(one) => change(one, PeerWord::Pause, ""),
            Self::Resume(one) => change(one, PeerWord::Resume, ""),
            Self::Retire(one) => change(one, PeerWord::Retire, ""),
            Self::RetryNow { which: Which { node: Some(node), .. }, .. } => {
                AdminRequest::ChangePeer {
                    node: node.clone(),
                    change: PeerWord::RetryNow,
                    note: String::new(),
                }
            }
            Self::RetryNow { .. } => AdminRequest::RetryAll,
            Self::Alias { domain, node, .. } => AdminRequest::Names(NameQuestion::Alias {
                domain: domain.clone(),
                node: node.clone(),
            }),
            Self::Limits { one, limits } => {
                AdminRequest::LimitPeer { node: one.node.clone(), limits: limits.limits() }
            }
        }
    }

    fn show(&self, answer: &Value) {
        match self {
            Self::List(_) => show_peers(answer),
            Self::Show(_) | Self::Limits { .. } => show_peer(answer),
            Self::Alias { domain, node, .. } => {
                say!("{}", show::plain(&format!("{domain} stands for {node}")));
            }
            Self::RetryNow { which: Which { node: None, .. }, .. } => {
                say!("tried at once: {}", field(answer, "count"));
            }
            Self::Add { .. } if answer.get("standing").is_none() => {
                say!("dialled; `tidings admin peers list` shows it once it has answered");
            }
            Self::Add { .. }
            | Self::Allow(_)
            | Self::Deny(_)
            | Self::Pause(_)
            | Self::Resume(_)
            | Self::Retire(_)
            | Self::RetryNow { .. } => {
                let standing = match field(answer, "standing").as_str() {
                    "unlisted" => "is in no list".to_owned(),
                    word => format!("is {word}"),
                };
                say!("{} {standing}", field(answer, "node"));
            }
        }
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    // What stands before the word counts, too.
    let list = What::List(args.common.clone());
    let what = args.what.as_ref().unwrap_or(&list);
    let common = what.common().or(&args.common);
    let data = common.folder.data()?;
    let answer = show::block_on(async { Ok(ask(&data, &what.request()).await?) })?;
    if common.json {
        show::json(&answer);
    } else {
        what.show(&answer);
    }
    Ok(())
}

fn show_peers(answer: &Value) {
    let head = [
        "NODE",
        "STANDING",
        "LINK",
        "WAITING",
        "OLDEST",
        "HELD",
        "DEAD",
        "CUSTODY",
        "STATEMENTS",
        "SCORE",
        "FAILURES",
        "NEXT TRY",
        "SEEN",
    ];
    let row = |peer: &Value| {
        let link = match (field(peer, "connected").as_str(), field(peer, "relayed").as_str()) {
            ("true", "true") => "relayed",
            ("true", _) => "up",
            _ => "down",
        };
        vec![
            field(peer, "node"),
            field(peer, "standing"),
            link.to_owned(),
            field(peer, "waiting"),
            time(peer, "oldest_ms"),
            held(peer),
            field(peer, "dead"),
            field(peer, "in_custody"),
            field(peer, "statements"),
            field(peer, "score"),
            field(peer, "failures"),
            time(peer, "next_try_ms"),
            time(peer, "seen_ms"),
        ]
    };
    show::table(&head, &rows(answer, row));
}

fn show_peer(peer: &Value) {
    let list = |name: &str| {
        let items = peer.get(name).and_then(Value::as_array).into_iter().flatten();
        let items: Vec<String> = items.filter_map(Value::as_str).map(show::plain).collect();
        if items.is_empty() { "-".to_owned() } else { items.join(" ") }
    };
    let mut lines = vec![
        ("node id", field(peer, "node")),
        ("standing", field(peer, "standing")),
        ("since", time(peer, "since_ms")),
        ("note", field(peer, "note")),
        ("paused", field(peer, "paused")),
        ("says of itself", field(peer, "state")),
        ("refuses this node", field(peer, "refuses_us")),
        ("connected", field(peer, "connected")),
        ("through a relay", field(peer, "relayed")),
        ("last heard", time(peer, "seen_ms")),
        ("next try", time(peer, "next_try_ms")),
        ("attempts in vain", field(peer, "failures")),
        ("waiting", field(peer, "waiting")),
        ("oldest waiting", time(peer, "oldest_ms")),
        ("held by it", held(peer)),
        ("held here for it", field(peer, "in_custody")),
        ("consents to hold", field(peer, "consent_rows")),
        ("through node", field(peer, "via")),
        ("passing through here", field(peer, "passing")),
        ("its last refusal", field(peer, "refusal")),
        ("bytes here for it", field(peer, "queued_bytes")),
        ("copies here from it", field(peer, "inbox")),
        ("bytes here from it", field(peer, "inbox_bytes")),
        ("dead letters", field(peer, "dead")),
        ("statements for it", field(peer, "statements")),
        ("score", field(peer, "score")),
        ("left alone until", time(peer, "left_alone_until_ms")),
        ("signed its addresses", time(peer, "record_ms")),
        ("signed its delegation", time(peer, "delegation_ms")),
        ("addresses", list("addresses")),
        ("pinned", list("pinned")),
        ("custodians", list("custodians")),
        ("claims domains", list("domains")),
    ];
    for (group, of) in [("limits", "may cost"), ("counts", "did")] {
        let fields = peer.get(group).and_then(Value::as_object).into_iter().flatten();
        let fields: Vec<String> = fields
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        lines.push((of, fields.join(", ")));
    }
    let width = lines.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    for (label, value) in &lines {
        say!("{label:<width$}  {value}");
    }
}
