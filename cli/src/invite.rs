//! `tidings invite`: lets somebody make an account at this node.

use anyhow::Context as _;
use serde_json::Value;
use tidings_node::admin_link::{AdminRequest, ask};
use tidings_protocol::client_frame::InviteSecret;
use tidings_protocol::id::NodeId;
use tidings_protocol::invite::InviteText;

use crate::show;

/// Make an invite at a running node. Whoever has its text can make an account.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  tidings invite --data /var/lib/tidings --uses 20 --days 3")]
pub(crate) struct Args {
    #[command(flatten)]
    folder: show::NodeFolder,
    /// How many accounts it makes.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    uses: u32,
    /// How many days it is good for.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    days: u32,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let life_ms = u64::from(args.days) * 24 * 3600 * 1000;
    let request = AdminRequest::Invite { uses: args.uses, life_ms };
    let data = args.folder.data()?;
    let mut answer = show::block_on(async { Ok(ask(&data, &request).await?) })?;
    let text = read(&answer).context("the node's answer is no invite: are both of one version?")?;
    if args.json {
        if let Some(fields) = answer.as_object_mut() {
            fields.insert("invite".to_owned(), Value::from(text.to_text()));
        }
        show::json(&answer);
    } else {
        say!("{}", text.to_text());
    }
    Ok(())
}

fn read(answer: &Value) -> Option<InviteText> {
    Some(InviteText {
        node: NodeId::parse(answer.get("node")?.as_str()?).ok()?,
        secret: InviteSecret::from_hex(answer.get("secret")?.as_str()?)?,
        url: answer.get("url")?.as_str()?.to_owned(),
    })
}
