//! `tidings status`: what is proved about a message that was sent from here.

use anyhow::Context as _;
use serde_json::{Value, json};
use tidings_client::StatusView;
use tidings_client::event::{MessageRef, Status};
use tidings_protocol::id::{DeviceId, MsgId};

use crate::device::{parse_msg, status_line, status_word};
use crate::home::{HomeFolder, address};
use crate::{show, style};

/// Show what is known of a message that you sent, as of the last connection.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  tidings status 0199c0ffee0000112233445566778899")]
pub(crate) struct Args {
    /// The message's id, as `send` printed it.
    #[arg(value_parser = parse_msg)]
    message: MsgId,
    #[command(flatten)]
    folder: HomeFolder,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let (_, driver) = args.folder.home()?.open()?;
    let mut found: Option<(MessageRef, Vec<StatusView>)> = None;
    driver.view(&mut |core, txn| {
        if let Some(message) = core.find(txn, args.message)? {
            let statuses = core.statuses(txn, &message)?;
            found = Some((message, statuses));
        }
        Ok(())
    })?;
    let (message, mut statuses) = found.context("there is no such message here: check its id")?;
    // They are kept in the order of arrival; an earlier one may come later.
    for view in &mut statuses {
        view.events.sort_by_key(|event| event.at_ms);
    }
    if args.json {
        show::json(&json!({
            "message": message.msg.to_string(),
            "with": address(&message.peer),
            "mine": message.mine,
            "devices": statuses.iter().map(device).collect::<Vec<_>>(),
        }));
        return Ok(());
    }
    if !message.mine {
        say!("from {}", address(&message.peer));
        say!("received; its ticks are for the one who sent it");
        return Ok(());
    }
    say!("to {}", address(&message.peer));
    if statuses.is_empty() {
        say!("waiting: nothing is proved yet");
    }
    for view in &statuses {
        for line in describe(view, status_line, |at_ms| show::relative(Some(at_ms))) {
            style::line(line);
        }
    }
    Ok(())
}

/// What is known at one device: where it stands, then who said what, indented. `word` says a status
/// and `when` a time in Unix ms.
pub(crate) fn describe(
    view: &StatusView,
    word: impl Fn(Status) -> String,
    when: impl Fn(u64) -> String,
) -> Vec<String> {
    let stands = word(view.status);
    // Zeros stand for no device: none was known when it ended.
    let is_known = view.device != DeviceId([0; 16]);
    let mut lines =
        vec![if is_known { format!("device {}: {stands}", view.device) } else { stands }];
    for event in &view.events {
        let claim = event.claim.map_or("Noted", |claim| claim.name());
        let by = match (event.node, event.key) {
            (Some(node), _) => format!("node {}", node.to_text()),
            (None, Some(_)) => "that device".to_owned(),
            (None, None) => "this device".to_owned(),
        };
        let until = event.until_ms.map(|at_ms| format!(", until {}", when(at_ms)));
        lines.push(format!(
            "  {claim}, {}, by {by}{}",
            when(event.at_ms),
            until.unwrap_or_default()
        ));
    }
    lines
}

fn device(view: &StatusView) -> Value {
    let events = view.events.iter().map(|event| {
        json!({
            "claim": event.claim.map(|claim| claim.name()),
            "at_ms": event.at_ms,
            "until_ms": event.until_ms,
            "reason": event.reason.map(|reason| reason.name()),
            "node": event.node.map(|node| node.to_text()),
            "key": event.key.map(|key| key.to_string()),
            "key_checked": event.key_checked,
        })
    });
    json!({
        "device": view.device.to_string(),
        "status": status_word(view.status),
        "events": events.collect::<Vec<_>>(),
    })
}
