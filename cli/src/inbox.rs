//! `tidings inbox`: shows what has come, and lets the senders know.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures::FutureExt as _;
use serde_json::json;
use tidings_client::driver::{Driver, Handle, Running};
use tidings_client::event::{ClientEffect, ClientEvent, MessageRef, Peer, ShownMessage};
use tidings_client::{ClientCore, MessageView, Which};
use tidings_node::clock::Stopwatch;
use tidings_protocol::id::MsgId;
use tokio::signal::unix::{SignalKind, signal};

use crate::device::{self, next_effect};
use crate::exit::Stopped;
use crate::home::{HomeFolder, address};
use crate::progress::{self, Progress};
use crate::{show, style};

/// Show messages that were not shown yet.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  tidings inbox --follow --json
Exit code 3: the node cannot be reached; what was here already was shown.")]
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

/// Messages that are shown, and of which the senders are told, in one go.
const STEP: usize = 250;
/// Messages may come faster than they are shown: without `--follow` it ends then, too.
const FETCH_MAX: Duration = Duration::from_secs(60);
/// Longer than a device holds a message for those before it, and waits for nothing else.
const HOLD_MAX: Duration = Duration::from_secs(8);

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let home = args.folder.home()?;
    let (account, driver) = home.open()?;
    let trust = home.trust()?;
    let unread = show_what_is_here(&driver, args)?;
    show::block_on(async {
        let mut running = device::start(driver, &account, &trust)?;
        let shown = fetch(&mut running, unread, args, &account.url).await;
        device::end(running, shown).await
    })
}

/// Shows what came before, step by step, and returns what of it was not shown yet.
fn show_what_is_here(driver: &Driver, args: &Args) -> anyhow::Result<Vec<MessageRef>> {
    let which = if args.all { Which::All } else { Which::Unread };
    let mut peers = Vec::new();
    driver.view(&mut |core, txn| {
        peers = core.peers(txn)?;
        Ok(())
    })?;
    let mut unread = Vec::new();
    for view in peers {
        let mut all = Vec::new();
        driver.view(&mut |core, txn| {
            all = core.in_order(txn, &view.peer, which)?;
            Ok(())
        })?;
        for step in all.chunks(STEP) {
            let mut messages = Vec::new();
            driver.view(&mut |core, txn| {
                for message in step {
                    messages.extend(core.message(txn, message)?);
                }
                Ok(())
            })?;
            messages.iter().for_each(|view| print(args, &Shown::from(view)));
            let news = messages.into_iter().filter(|view| !(view.displayed || view.message.mine));
            unread.extend(news.map(|view| view.message));
        }
    }
    Ok(unread)
}

/// Shows what the node has, as it comes, and lets the senders know of everything that was shown.
async fn fetch(
    running: &mut Running,
    unread: Vec<MessageRef>,
    args: &Args,
    url: &str,
) -> anyhow::Result<()> {
    let handle = running.handle();
    let nothing_was_here = unread.is_empty() && !args.all;
    for messages in unread.chunks(STEP) {
        displayed(&handle, messages.to_vec()).await?;
    }
    let linked = wait_for_link(running, args.timeout).await?;
    if !linked && args.follow {
        style::note("the node cannot be reached; this is what is here already");
    }
    let heard = Rc::new(Cell::new(Stopwatch::start()));
    let mut inflow = Inflow { running, handle, args, shown: 0, heard, progress: None };
    if args.follow {
        return inflow.show_until(stop_asked()).await;
    }
    if !linked {
        return Err(Stopped::OnlyFromHere { url: url.to_owned() }.into());
    }
    if !inflow.fetch().await? {
        inflow.hand_over().await?;
        return Err(Stopped::OnlyFromHere { url: url.to_owned() }.into());
    }
    if nothing_was_here && inflow.shown == 0 {
        style::note("nothing new");
    }
    inflow.hand_over().await
}

/// Until somebody asks to stop: with Ctrl-C, or as service managers do.
async fn stop_asked() -> anyhow::Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        stopped = tokio::signal::ctrl_c() => stopped?,
        _ = terminated.recv() => {}
    }
    Ok(())
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

/// Messages as they come.
struct Inflow<'a> {
    running: &'a mut Running,
    handle: Handle,
    args: &'a Args,
    shown: u64,
    /// Since the last sign of the device.
    heard: Rc<Cell<Stopwatch>>,
    progress: Option<Progress>,
}

/// How fetching ended.
enum Fetched {
    All,
    /// The node has said nothing for `--timeout`.
    Silent,
    /// More keeps coming.
    Endless,
}

impl Inflow<'_> {
    /// Shows what comes until `done`, and what has come by then.
    async fn show_until<T>(
        &mut self,
        done: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let mut done = pin!(done);
        loop {
            let effect = tokio::select! {
                effect = next_effect(self.running) => effect?,
                done = &mut done => {
                    while self.show_some(None).await? {}
                    return done;
                }
            };
            self.show_some(Some(effect)).await?;
        }
    }

    /// Shows what is there now, up to a bound; the senders learn of it together. False when nothing
    /// was there.
    async fn show_some(&mut self, first: Option<ClientEffect>) -> anyhow::Result<bool> {
        let mut next = first;
        let mut messages = Vec::new();
        let mut was_there = false;
        while messages.len() < STEP {
            let effect = match next.take() {
                Some(effect) => effect,
                None => match next_effect(self.running).now_or_never() {
                    Some(effect) => effect?,
                    None => break,
                },
            };
            was_there = true;
            if let ClientEffect::Show(shown) = effect {
                progress::aside(|| print(self.args, &Shown::from(&shown)));
                self.progress.iter().for_each(Progress::step);
                messages.push(shown.message);
                self.shown += 1;
            }
        }
        self.heard.set(Stopwatch::start());
        displayed(&self.handle, messages).await?;
        Ok(was_there)
    }

    /// Shows all that waits at the node. False when that one fell silent before.
    async fn fetch(&mut self) -> anyhow::Result<bool> {
        self.progress = Some(Progress::counted("fetching messages"));
        // What waits here for messages before it is no silence of the node.
        let silence = Duration::from_secs(self.args.timeout).max(HOLD_MAX);
        let handle = self.handle.clone();
        // Shared with what runs beside it on this one thread.
        let heard = Rc::clone(&self.heard);
        let all = async move {
            let watch = Stopwatch::start();
            let mut beat = device::beat();
            while !handle.change(|core, _, _| Ok(core.catch_up())).await? {
                if heard.get().elapsed() > silence {
                    return Ok(Fetched::Silent);
                }
                if watch.elapsed() > FETCH_MAX.max(silence) {
                    return Ok(Fetched::Endless);
                }
                beat.tick().await;
            }
            Ok(Fetched::All)
        };
        let fetched = self.show_until(all).await?;
        self.progress = None;
        match fetched {
            Fetched::All => {}
            Fetched::Silent => return Ok(false),
            Fetched::Endless => {
                style::note("more keeps coming: `tidings inbox --follow` shows it as it comes");
            }
        }
        Ok(true)
    }

    /// The word that they were shown leaves before we do, if the node takes it in time.
    async fn hand_over(&mut self) -> anyhow::Result<()> {
        let handle = self.handle.clone();
        let limit = Duration::from_secs(self.args.timeout);
        let handed_over = async move {
            let all = device::until(&handle, ClientCore::has_handed_over);
            tokio::time::timeout(limit, all).await.unwrap_or(Ok(()))
        };
        self.show_until(handed_over).await
    }
}

async fn displayed(handle: &Handle, messages: Vec<MessageRef>) -> anyhow::Result<()> {
    if !messages.is_empty() {
        handle.event(ClientEvent::Displayed { messages }).await?;
    }
    Ok(())
}

/// A message as it is printed, whether it was here or has just come.
struct Shown<'a> {
    message: &'a MessageRef,
    text: &'a str,
    reply_to: Option<MsgId>,
    created_ms: u64,
    missing: u64,
}

impl<'a> From<&'a MessageView> for Shown<'a> {
    fn from(view: &'a MessageView) -> Self {
        let MessageView { message, text, reply_to, created_ms, missing, .. } = view;
        let (reply_to, created_ms, missing) = (*reply_to, *created_ms, *missing);
        Self { message, text, reply_to, created_ms, missing }
    }
}

impl<'a> From<&'a ShownMessage> for Shown<'a> {
    fn from(shown: &'a ShownMessage) -> Self {
        let ShownMessage { message, text, reply_to, created_ms, missing, .. } = shown;
        let (reply_to, created_ms, missing) = (*reply_to, *created_ms, *missing);
        Self { message, text, reply_to, created_ms, missing }
    }
}

fn print(args: &Args, shown: &Shown<'_>) {
    let Shown { message, text, reply_to, created_ms, missing } = shown;
    if args.json {
        show::json(&json!({
            "message": message.msg.to_string(),
            "with": address(&message.peer),
            "mine": message.mine,
            "text": text,
            "reply_to": reply_to.map(|msg| msg.to_string()),
            "created_ms": created_ms,
            "missing_before": missing,
        }));
        return;
    }
    if *missing > 0 {
        say!("({missing} missing)");
    }
    let with = short(&message.peer);
    let who = if message.mine { format!("you to {with}") } else { with };
    say!("{who}, {}  [{}]", show::relative(Some(*created_ms)), message.msg);
    if let Some(msg) = reply_to {
        say!("  (answers [{msg}])");
    }
    if text.is_empty() {
        say!("  (no text)");
    }
    for line in text.lines() {
        say!("  {}", show::plain(line));
    }
}

/// Name and the beginning of the node id, for people who know whom they write to.
fn short(peer: &Peer) -> String {
    let node: String = peer.node.to_text().chars().take(12).collect();
    format!("{}@{node}..", peer.name)
}
