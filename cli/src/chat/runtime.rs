//! Brings the three together: what happens goes into the model, what the model asks for is done, and
//! the view is drawn. The device's effects are read all the time, so that it never pauses.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use anyhow::Context as _;
use crossterm::event::{self as terminal, EventStream};
use futures::{FutureExt as _, StreamExt as _};
use ratatui::layout::Size;
use tidings_client::driver::{DriverError, Handle, Running};
use tidings_client::event::ClientEvent;
use tidings_node::clock;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::model::{Command, Event, Model};
use super::screen::Screen;
use super::text;
use super::update::PAGE;
use crate::domain::Domains;

/// The clock of the screen.
const TICK: Duration = Duration::from_secs(1);
/// Effects that are taken in before the screen is drawn again.
const EFFECTS_PER_DRAW_MAX: usize = 256;
/// Messages that one step of a search reads, before the device does its other work.
const SEARCH_STEP: usize = 1_000;

/// A command that is being carried out.
type Work = Pin<Box<dyn Future<Output = Result<Option<Event>, DriverError>>>>;

/// Signals that end the process.
struct Ends([Signal; 3]);

impl Ends {
    fn new() -> anyhow::Result<Self> {
        let on = |kind| signal(kind).context("waiting for signals");
        let [term, hup, int] =
            [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt()];
        Ok(Self([on(term)?, on(hup)?, on(int)?]))
    }

    async fn next(&mut self) {
        let [term, hup, int] = &mut self.0;
        tokio::select! {
            _ = term.recv() => {}
            _ = hup.recv() => {}
            _ = int.recv() => {}
        }
    }
}

struct Chat {
    model: Model,
    handle: Handle,
    /// In order: each begins when the one before is done.
    queue: VecDeque<Command>,
    work: Option<Work>,
    screen: Screen,
    /// The terminal is gone; what is left is to end well.
    is_blind: bool,
}

/// Runs until the person has enough. The terminal is given back before the device is stopped.
pub(crate) async fn run(model: Model, mut running: Running, screen: Screen) -> anyhow::Result<()> {
    let (handle, queue) =
        (running.handle(), VecDeque::from([Command::LoadDomains, Command::LoadList]));
    let mut chat = Chat { model, handle, queue, work: None, screen, is_blind: false };
    let ended = chat.run(&mut running).await;
    drop(chat);
    let stopped = running.stop().await;
    ended?;
    Ok(stopped?)
}

impl Chat {
    async fn run(&mut self, running: &mut Running) -> anyhow::Result<()> {
        let mut keys = EventStream::new();
        let mut ends = Ends::new()?;
        let mut link = running.link();
        let mut beat = tokio::time::interval(TICK);
        while !self.is_over() {
            self.draw();
            let event = tokio::select! {
                effect = running.effect() => match effect {
                    Some(effect) => Some(Event::Device(effect)),
                    // Why, says whoever stops it.
                    None => return Ok(()),
                },
                done = carried_out(&mut self.work) => done?,
                key = keys.next(), if !self.is_blind => match key {
                    Some(Ok(key)) => event(key),
                    Some(Err(_)) | None => {
                        self.is_blind = true;
                        Some(Event::Stop)
                    }
                },
                changed = link.changed() => match changed {
                    Ok(()) => Some(Event::Link(link.borrow_and_update().clone())),
                    Err(_) => return Ok(()),
                },
                _ = beat.tick() => Some(Event::Tick(clock::now_ms())),
                () = ends.next() => Some(Event::Stop),
            };
            self.take(event)?;
            for _ in 0..EFFECTS_PER_DRAW_MAX {
                let Some(Some(effect)) = running.effect().now_or_never() else { break };
                self.take(Some(Event::Device(effect)))?;
            }
        }
        Ok(())
    }

    /// Everything that was asked for before the end is done.
    fn is_over(&mut self) -> bool {
        if self.work.is_none()
            && let Some(command) = self.queue.pop_front()
        {
            if command == Command::Quit {
                return true;
            }
            self.work = Some(Box::pin(carry_out(self.handle.clone(), command)));
        }
        false
    }

    fn take(&mut self, event: Option<Event>) -> anyhow::Result<()> {
        let Some(event) = event else { return Ok(()) };
        for command in self.model.update(event) {
            self.take_command(command)?;
        }
        Ok(())
    }

    fn take_command(&mut self, command: Command) -> anyhow::Result<()> {
        match command {
            Command::Redraw => {
                fail_if_asked();
                self.screen.forget().context("drawing")?;
            }
            Command::Suspend => self.screen.suspend().context("giving the terminal back")?,
            // What is going to be read anyhow is not read twice.
            Command::LoadList
            | Command::LoadConversation(_)
            | Command::LoadPage(..)
            | Command::LoadDetails(_)
            | Command::LoadDomains => {
                if !self.queue.contains(&command) {
                    self.queue.push_back(command);
                }
            }
            Command::Search { .. }
            | Command::Resolve(..)
            | Command::Send(_)
            | Command::Displayed(_)
            | Command::SaveDraft(..)
            | Command::Quit => self.queue.push_back(command),
        }
        Ok(())
    }

    fn draw(&mut self) {
        if self.is_blind {
            return;
        }
        if self.screen.draw(&self.model).is_err() {
            self.is_blind = true;
            self.queue.extend(self.model.update(Event::Stop));
            return;
        }
        self.queue.extend(self.model.update(Event::Drawn));
    }
}

/// A debug build panics when everything is drawn anew and the environment asks for it: to show that
/// the terminal is given back then too.
fn fail_if_asked() {
    let is_asked = cfg!(debug_assertions)
        && std::env::var_os("TIDINGS_FAILPOINT").is_some_and(|name| name == "chat_redraw");
    assert!(!is_asked, "the environment asked for this panic");
}

/// The work in hand, which is over when this returns.
async fn carried_out(work: &mut Option<Work>) -> Result<Option<Event>, DriverError> {
    let Some(running) = work else { return std::future::pending().await };
    let done = running.await;
    *work = None;
    done
}

fn event(event: terminal::Event) -> Option<Event> {
    Some(match event {
        terminal::Event::Key(key) => Event::Key(key),
        terminal::Event::Mouse(mouse) => Event::Mouse(mouse),
        terminal::Event::Paste(text) => Event::Paste(text),
        terminal::Event::Resize(width, height) => Event::Resize(Size { width, height }),
        terminal::Event::FocusGained => Event::InFront(true),
        terminal::Event::FocusLost => Event::InFront(false),
    })
}

async fn carry_out(handle: Handle, command: Command) -> Result<Option<Event>, DriverError> {
    Ok(match command {
        Command::LoadList => {
            Some(Event::List(handle.ask(|core, txn| core.conversations(txn)).await?))
        }
        Command::LoadConversation(peer) => {
            let with = peer.clone();
            let view = handle.ask(move |core, txn| core.conversation_with(txn, &with)).await?;
            Some(Event::Conversation(peer, view.map(Box::new)))
        }
        Command::LoadPage(peer, at) => {
            let with = peer.clone();
            let page = handle.ask(move |core, txn| core.page(txn, &with, at, PAGE)).await?;
            Some(Event::Page(peer, at, page))
        }
        Command::LoadDetails(message) => {
            let of = message.clone();
            let statuses = handle.ask(move |core, txn| core.statuses(txn, &of)).await?;
            Some(Event::Details(message, statuses))
        }
        Command::Search { peer, needle, direction, from } => {
            let (with, what) = (peer.clone(), needle.clone());
            let has = move |said: &str| !text::find_all(&text::harmless(said), &what).is_empty();
            let searched = handle.ask(move |core, txn| {
                core.search(txn, &with, from.as_ref(), direction, &has, SEARCH_STEP)
            });
            let searched = searched.await?;
            Some(Event::Searched { peer, needle, direction, searched })
        }
        Command::LoadDomains => Some(Event::Domains(handle.ask(Domains::read).await?)),
        Command::Resolve(domain, token) => {
            handle.event(ClientEvent::Resolve { domain, token }).await?;
            None
        }
        Command::Send(send) => {
            handle.event(ClientEvent::Send(send)).await?;
            None
        }
        Command::Displayed(messages) => {
            handle.event(ClientEvent::Displayed { messages }).await?;
            None
        }
        Command::SaveDraft(peer, draft) => {
            let saving =
                handle.change(move |core, txn, _| core.save_draft(txn, &peer, draft.as_ref()));
            saving.await?;
            None
        }
        // Carried out by the loop itself.
        Command::Redraw | Command::Suspend | Command::Quit => None,
    })
}
