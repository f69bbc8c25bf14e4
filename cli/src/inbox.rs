//! `tidings inbox`: shows what has come, and lets the senders know.

use std::time::Duration;

use serde_json::json;
use tidings_client::MessageView;
use tidings_client::driver::{Handle, Running};
use tidings_client::event::{ClientEffect, ClientEvent, MessageRef, Peer};

use crate::device::{self, MESSAGES_MAX, next_effect};
use crate::home::{HomeFolder, address};
use crate::progress::Progress;
use crate::{show, style};

/// Show messages that were not shown yet.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  tidings inbox --follow --json")]
pub(crate) struct Args {
    /// Go on showing what comes, until Ctrl-C.
    #[arg(long)]
    follow: bool,
    /// Show everything that is here, own messages too.
    #[arg(long)]
    all: bool,
    /// Seconds to wait for the node; what is here already is shown in any case.
    #[arg(long, default_value_t = 5)]
    timeout: u64,
    #[command(flatten)]
    folder: HomeFolder,
    /// Print one line of JSON for each message.
    #[arg(long)]
    json: bool,
}

/// A node that has been silent for so long has handed over what was waiting.
const QUIET: Duration = Duration::from_millis(700);

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let home = args.folder.home()?;
    let (account, driver) = home.open()?;
    let trust = home.trust()?;
    show::block_on(async {
        let mut running = device::start(driver, &account, &trust)?;
        let handle = running.handle();
        let linked = wait_for_link(&mut running, args.timeout).await?;
        if linked {
            let progress = Progress::counted("fetching messages");
            while let Ok(effect) = tokio::time::timeout(QUIET, next_effect(&mut running)).await {
                if matches!(effect?, ClientEffect::Show(_)) {
                    progress.step();
                }
            }
        } else {
            style::note("the node cannot be reached; this is what is here already");
        }
        show_waiting(&handle, args).await?;
        if args.follow {
            follow(&mut running, &handle, args).await?;
        } else if linked {
            // The word that they were shown leaves before we do.
            while tokio::time::timeout(QUIET, next_effect(&mut running)).await.is_ok() {}
        }
        running.stop().await?;
        Ok(())
    })
}

async fn wait_for_link(running: &mut Running, seconds: u64) -> anyhow::Result<bool> {
    let linked = async {
        while next_effect(running).await? != ClientEffect::Linked {}
        anyhow::Ok(())
    };
    match tokio::time::timeout(Duration::from_secs(seconds), linked).await {
        Ok(linked) => linked.map(|()| true),
        Err(_) => Ok(false),
    }
}

/// Shows what is here, and says so.
async fn show_waiting(handle: &Handle, args: &Args) -> anyhow::Result<()> {
    let all = args.all;
    let waiting = handle
        .ask(move |core, txn| {
            let mut waiting: Vec<MessageView> = Vec::new();
            for view in core.peers(txn)? {
                let messages = core.conversation(txn, &view.peer, MESSAGES_MAX)?;
                let wanted = |view: &MessageView| all || !(view.displayed || view.message.mine);
                waiting.extend(messages.into_iter().filter(wanted));
            }
            Ok(waiting)
        })
        .await?;
    for view in &waiting {
        let from = if view.message.mine { "you" } else { "" };
        print(args, &view.message, from, &view.text, view.created_ms, view.missing);
    }
    let messages = waiting.into_iter().map(|view| view.message).filter(|m| !m.mine).collect();
    displayed(handle, messages).await
}

async fn follow(running: &mut Running, handle: &Handle, args: &Args) -> anyhow::Result<()> {
    loop {
        let effect = tokio::select! {
            effect = next_effect(running) => effect?,
            stopped = tokio::signal::ctrl_c() => return Ok(stopped?),
        };
        if let ClientEffect::Show(shown) = effect {
            let (message, missing) = (&shown.message, shown.missing);
            print(args, message, "", &shown.text, shown.created_ms, missing);
            displayed(handle, vec![shown.message]).await?;
        }
    }
}

async fn displayed(handle: &Handle, messages: Vec<MessageRef>) -> anyhow::Result<()> {
    if !messages.is_empty() {
        handle.event(ClientEvent::Displayed { messages }).await?;
    }
    Ok(())
}

fn print(args: &Args, message: &MessageRef, from: &str, text: &str, at_ms: u64, missing: u64) {
    if args.json {
        show::json(&json!({
            "message": message.msg.to_string(),
            "with": address(&message.peer),
            "mine": message.mine,
            "text": text,
            "created_ms": at_ms,
            "missing_before": missing,
        }));
        return;
    }
    if missing > 0 {
        println!("({missing} missing)");
    }
    let with = short(&message.peer);
    let who = if from.is_empty() { with } else { format!("{from} to {with}") };
    println!("{who}, {}  [{}]", show::relative(Some(at_ms)), message.msg);
    for line in text.lines() {
        println!("  {}", show::plain(line));
    }
}

/// Name and the beginning of the node id, for people who know whom they write to.
fn short(peer: &Peer) -> String {
    let node: String = peer.node.to_text().chars().take(12).collect();
    format!("{}@{node}..", peer.name)
}
