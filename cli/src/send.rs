//! `tidings send`: writes to somebody and waits for the tick.

use std::io::Read as _;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::ValueEnum;
use serde_json::json;
use tidings_client::driver::{Driver, Running};
use tidings_client::event::{ClientEffect, ClientEvent, MessageRef, Peer, SendText, Status};
use tidings_protocol::id::MsgId;
use tidings_protocol::limits::TEXT_BYTES_MAX;

use crate::device::{self, next_effect, parse_msg, status_line, status_word};
use crate::domain::{self, Recipient};
use crate::exit::Stopped;
use crate::home::{HomeFolder, address};
use crate::{show, style};

/// Write to somebody, and wait for the tick.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  tidings send bob@globex.example 'Hello, Bob'
  tidings send bob@<node id> 'Hello, Bob'
  tidings send bob - --wait delivered < letter.txt")]
pub(crate) struct Args {
    /// Name and domain, or name and node id; a bare name is somebody at your own node.
    to: String,
    /// What to say; `-` reads it from standard input.
    text: String,
    /// How far to wait.
    #[arg(long, value_enum, default_value_t = Wait::Accepted)]
    wait: Wait,
    /// The id of the message that this one answers.
    #[arg(long, value_parser = parse_msg)]
    reply_to: Option<MsgId>,
    /// Seconds to wait; the message is kept and goes on its way later, too.
    #[arg(long, default_value_t = 30)]
    timeout: u64,
    #[command(flatten)]
    folder: HomeFolder,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Wait {
    /// Not at all: the message is on this disk.
    No,
    /// ✓ Your node has it on disk, and signed for it.
    Accepted,
    /// ✓✓ A device of the recipient has it, and signed for it.
    Delivered,
    /// A device of the recipient showed it, and signed for it.
    Read,
}

impl Wait {
    const fn goal(self) -> Status {
        match self {
            Self::No => Status::Queued,
            Self::Accepted => Status::Accepted,
            Self::Delivered => Status::Delivered,
            Self::Read => Status::Read,
        }
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let home = args.folder.home()?;
    let (account, driver) = home.open()?;
    let trust = home.trust()?;
    let to = account.recipient(&args.to)?;
    let text = if args.text == "-" { from_stdin()? } else { args.text.clone() };
    ensure!(!text.is_empty(), "there is nothing to send: the text is empty");
    if let Some(msg) = args.reply_to {
        // Whoever is not known yet has written nothing.
        let known = domain::known(&driver, &to)?;
        let known = known.with_context(|| format!("there is no message {msg}: check its id"))?;
        check_reply(&driver, &known, msg)?;
    }
    show::block_on(async {
        let mut running = device::start(driver, &account, &trust)?;
        let sent = find_and_send(&mut running, &to, text, args).await;
        device::end(running, sent).await
    })
}

async fn find_and_send(
    running: &mut Running,
    to: &Recipient,
    text: String,
    args: &Args,
) -> anyhow::Result<()> {
    let to = domain::resolve(running, to, Duration::from_secs(args.timeout)).await?;
    send(running, to, text, args).await
}

/// What is answered has to be here, in the same conversation: else nobody could show it.
fn check_reply(driver: &Driver, to: &Peer, msg: MsgId) -> anyhow::Result<()> {
    let mut found = None;
    driver.view(&mut |core, txn| {
        found = core.find(txn, msg)?;
        Ok(())
    })?;
    ensure!(
        found.is_some_and(|found| found.peer == *to),
        "there is no message {msg} in the conversation with {}: check the id after --reply-to",
        address(to)
    );
    Ok(())
}

async fn send(running: &mut Running, to: Peer, text: String, args: &Args) -> anyhow::Result<()> {
    let message = compose(running, to, text, args.reply_to).await?;
    if !args.json {
        say!("{}", message.msg);
    }
    let mut reached = Status::Queued;
    let waiting = wait_for(running, &message, args, &mut reached);
    let waited = tokio::time::timeout(Duration::from_secs(args.timeout), waiting).await;
    if args.json {
        let reason = reached.reason().map(|reason| reason.name());
        let (message, status) = (message.msg.to_string(), status_word(reached));
        show::json(&json!({ "message": message, "status": status, "reason": reason }));
    }
    match waited {
        Err(_) => Err(Stopped::TooLate { seconds: args.timeout }.into()),
        Ok(waited) => waited,
    }
}

fn from_stdin() -> anyhow::Result<String> {
    // Whoever gives more is told so: the rest is not read. Line ends behind the text do not count.
    let most = 2 * TEXT_BYTES_MAX;
    let mut bytes = Vec::new();
    std::io::stdin()
        .take(most as u64 + 1)
        .read_to_end(&mut bytes)
        .context("reading the text from standard input")?;
    ensure!(
        bytes.len() <= most,
        "the text has more than {TEXT_BYTES_MAX} bytes, which is the most for one message: send it in \
         parts"
    );
    let text = String::from_utf8(bytes).context("the text on standard input is no UTF-8")?;
    Ok(text.trim_end_matches('\n').to_owned())
}

async fn compose(
    running: &mut Running,
    to: Peer,
    text: String,
    reply_to: Option<MsgId>,
) -> anyhow::Result<MessageRef> {
    let send = SendText { to, text, reply_to, token: 1 };
    running.handle().event(ClientEvent::Send(send)).await?;
    loop {
        let effect = next_effect(running).await?;
        if let ClientEffect::Composed { message, .. } = effect {
            return Ok(message);
        }
        if let ClientEffect::NotComposed { why, .. } = effect {
            return Err(why.into());
        }
    }
}

async fn wait_for(
    running: &mut Running,
    message: &MessageRef,
    args: &Args,
    reached: &mut Status,
) -> anyhow::Result<()> {
    let goal = args.wait.goal();
    while reached.rank() < goal.rank() {
        let ClientEffect::StatusChanged { message: changed, status, .. } =
            next_effect(running).await?
        else {
            continue;
        };
        if changed != *message || status.rank() <= reached.rank() {
            continue;
        }
        *reached = status;
        if !args.json {
            style::line(status_line(status));
        }
        if matches!(status, Status::Failed(_)) {
            return Err(Stopped::Failed.into());
        }
    }
    Ok(())
}
