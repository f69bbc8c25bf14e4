//! `tidings admin names`: domains and the nodes that they stand for at this node. Looks at them, pins
//! them by hand, and decides about changes; the rules are the node's.

use clap::Subcommand;
use serde_json::Value;
use tidings_node::admin_link::{AdminRequest, NameQuestion, ask};

use crate::admin::{Common, rows, time};
use crate::show::{self, field};

/// Domains, and the nodes that they stand for.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  tidings admin names list --data /var/lib/tidings")]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Domains that people here wrote to, and aliases. A change of the DNS stands beside the pin, which
    /// holds until you accept the change.
    #[command(after_help = "Example:\n  tidings admin names list --data /var/lib/tidings")]
    List(Common),
    /// Let a domain stand for a node, whatever the DNS says.
    #[command(
        after_help = "Example:\n  tidings admin names alias --data /var/lib/tidings globex.example <node id>"
    )]
    Alias {
        #[command(flatten)]
        common: Common,
        /// The domain.
        domain: String,
        /// The node's id.
        node: String,
    },
    /// Accept what has changed about a domain: from now on it stands for the node that the DNS names, or
    /// for none. Ask the other organisation first, on another way.
    #[command(
        after_help = "Example:\n  tidings admin names accept --data /var/lib/tidings globex.example"
    )]
    Accept {
        #[command(flatten)]
        common: Common,
        /// The domain.
        domain: String,
    },
    /// Forget a pin or an alias. The next use asks the DNS anew, and pins what it says.
    #[command(
        after_help = "Example:\n  tidings admin names forget --data /var/lib/tidings globex.example"
    )]
    Forget {
        #[command(flatten)]
        common: Common,
        /// The domain.
        domain: String,
    },
    /// Ask the DNS and the node that it names now. Pins nothing; notes a change.
    #[command(
        after_help = "Example:\n  tidings admin names check --data /var/lib/tidings globex.example"
    )]
    Check {
        #[command(flatten)]
        common: Common,
        /// The domain.
        domain: String,
    },
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    match &args.what {
        What::List(common) => list(common),
        What::Alias { common, domain, node } => alias(common, domain, node),
        What::Accept { common, domain } => {
            let question = NameQuestion::Accept { domain: domain.clone() };
            change(common, question, &format!("accepted; {domain} holds as the DNS has it"))
        }
        What::Forget { common, domain } => {
            let question = NameQuestion::Forget { domain: domain.clone() };
            change(common, question, &format!("forgotten: {domain}"))
        }
        What::Check { common, domain } => check(common, domain),
    }
}

/// Lets a domain stand for a node.
pub(crate) fn alias(common: &Common, domain: &str, node: &str) -> anyhow::Result<()> {
    let question = NameQuestion::Alias { domain: domain.to_owned(), node: node.to_owned() };
    change(common, question, &format!("{domain} stands for {node}"))
}

fn put(common: &Common, question: NameQuestion) -> anyhow::Result<Value> {
    let data = common.folder.data()?;
    show::block_on(async { Ok(ask(&data, &AdminRequest::Names(question)).await?) })
}

fn change(common: &Common, question: NameQuestion, done: &str) -> anyhow::Result<()> {
    let answer = put(common, question)?;
    if common.json {
        show::json(&answer);
    } else {
        say!("{}", show::plain(done));
    }
    Ok(())
}

fn list(common: &Common) -> anyhow::Result<()> {
    let answer = put(common, NameQuestion::List)?;
    if common.json {
        show::json(&answer);
        return Ok(());
    }
    let row = |name: &Value| {
        vec![
            field(name, "domain"),
            field(name, "node"),
            field(name, "source"),
            time(name, "since_ms"),
            time(name, "confirmed_ms"),
            change_text(&field(name, "change")).to_owned(),
            time(name, "change_ms"),
        ]
    };
    let head = ["DOMAIN", "NODE", "BY", "SINCE", "CONFIRMED", "CHANGE", "CHANGED"];
    show::table(&head, &rows(&answer, row));
    for name in answer.as_array().into_iter().flatten() {
        if name.get("change_node").is_some_and(Value::is_string) {
            say!("{}: the DNS names {}", field(name, "domain"), field(name, "change_node"));
        }
    }
    Ok(())
}

fn change_text(word: &str) -> &str {
    match word {
        "moved" => "DNS names another node, which claims it",
        "unclaimed" => "DNS names another node, which does not claim it",
        "withdrawn" => "the node does not claim it any more",
        "no_record" => "DNS names no node any more",
        other => other,
    }
}

fn check(common: &Common, domain: &str) -> anyhow::Result<()> {
    let answer = put(common, NameQuestion::Check { domain: domain.to_owned() })?;
    if common.json {
        show::json(&answer);
        return Ok(());
    }
    say!("{}", found_text(&field(&answer, "found"), &field(&answer, "node")));
    match answer.get("pinned").filter(|pinned| !pinned.is_null()) {
        Some(pinned) => {
            say!("here it stands for {}, by {}", field(pinned, "node"), field(pinned, "source"));
            let changed = field(pinned, "change");
            if changed != "-" {
                say!(
                    "changed: {}; `tidings admin names accept {}` takes that over",
                    change_text(&changed),
                    field(&answer, "domain")
                );
            }
        }
        None => say!("here it is not pinned yet: its first use does that"),
    }
    Ok(())
}

/// What a look at a domain has found, for a person.
pub(crate) fn found_text(word: &str, node: &str) -> String {
    match word {
        "bound" => format!("the DNS names {node}, and that node claims the domain"),
        "unclaimed" => format!("the DNS names {node}, but that node does not claim the domain"),
        "unasked" => format!("the DNS names {node}, which cannot be asked at the moment"),
        "other_node" => format!("the DNS names another node, {node}"),
        "absent" => "the DNS has no record for it".to_owned(),
        "contradicting" => "the DNS names more than one node".to_owned(),
        "unreadable" => "the DNS has a record for it that cannot be read".to_owned(),
        "silent" => "the DNS does not answer".to_owned(),
        _ => "not looked up yet".to_owned(),
    }
}
