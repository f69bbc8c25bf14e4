//! `tidings admin routes`: through which node others are spoken to. Shows it, and changes it on the
//! running node.

use clap::Subcommand;
use serde_json::Value;
use tidings_node::admin_link::{AdminRequest, ask};

use crate::admin::{Common, rows};
use crate::show::{self, field};

/// Through which node others are spoken to.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  tidings admin routes list --data /var/lib/tidings")]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// The next hops that are set, where they come from, what waits for them, and why the last
    /// envelope was refused there, if it was.
    #[command(after_help = "Example:\n  tidings admin routes list --data /var/lib/tidings")]
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Set the next hop of a node, at once and for later starts; it stands above node.toml.
    #[command(
        after_help = "Example:\n  tidings admin routes set --data /var/lib/tidings <node id> --via <node id>"
    )]
    Set {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        to: To,
        /// The next hop's node id. Without it the node is dialled itself, whatever node.toml says.
        #[arg(long)]
        via: Option<String>,
    },
    /// Take back what `set` has set: node.toml holds again.
    #[command(
        after_help = "Example:\n  tidings admin routes remove --data /var/lib/tidings <node id>"
    )]
    Remove {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        to: To,
    },
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct To {
    /// The node's id.
    node: Option<String>,
    /// Everybody who has no next hop.
    #[arg(long = "default")]
    everybody: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let (common, request) = match &args.what {
        What::List { common } => (common, AdminRequest::Routes),
        What::Set { common, to, via } => {
            (common, AdminRequest::SetRoute { to: to.node.clone(), via: via.clone() })
        }
        What::Remove { common, to } => (common, AdminRequest::RemoveRoute { to: to.node.clone() }),
    };
    let data = common.folder.data()?;
    let answer = show::block_on(async { Ok(ask(&data, &request).await?) })?;
    if common.json {
        show::json(&answer);
        return Ok(());
    }
    match &args.what {
        What::List { .. } => show_routes(&answer),
        What::Set { .. } | What::Remove { .. } => say!("done; what waits goes by it at once"),
    }
    Ok(())
}

fn show_routes(answer: &Value) {
    let or = |text: String, other: &str| if text == "-" { other.to_owned() } else { text };
    let row = |route: &Value| {
        let link = if field(route, "connected") == "true" { "up" } else { "down" };
        vec![
            or(field(route, "to"), "everybody else"),
            or(field(route, "via"), "itself"),
            field(route, "source"),
            link.to_owned(),
            field(route, "waiting"),
            field(route, "refusal"),
        ]
    };
    let head = ["TO", "THROUGH", "SET IN", "LINK", "WAITING", "LAST ERROR"];
    show::table(&head, &rows(answer, row));
}
