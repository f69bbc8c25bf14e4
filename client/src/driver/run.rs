//! The loop of a device: events, one commit, effects. Commits block this task for about a
//! millisecond; it shares its runtime with nothing that could not wait that long.

use std::{future::Future, pin::Pin, time::Duration};

use bytes::Bytes;
use futures::FutureExt as _;
use tidings_protocol::client_frame::ClientFrame;
use tidings_store::{RedbStore, Store as _};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};

use super::{
    Command, DownWhy, DriverError, LinkState, Trust,
    link::{Lost, Socket, Unreached, connect},
    now_ms, random,
};
use crate::{
    ClientCore, ClientEffect, ClientEvent,
    crypto::PqSealer,
    event::{CertificateFault, CloseWhy, Warning},
};

/// Events of one batch.
const BATCH_MAX: usize = 256;
/// First and longest pause before the link is made again; the pause is drawn up to a bound that
/// doubles from the one to the other.
const PAUSE_FIRST_MS: u64 = 500;
const PAUSE_LAST_MS: u64 = 30_000;
/// The longest sleep, so that a clock that was set is noticed.
const SLEEP_MAX_MS: u64 = 60_000;

type Connecting = Pin<Box<dyn Future<Output = Result<Socket, Unreached>> + Send>>;

/// Where the connection stands.
enum Connection {
    /// Not before this time, in Unix ms.
    Pause(u64),
    Opening(Connecting),
    Up(Box<Socket>),
    /// The device is stopped.
    Never,
}

/// What woke the loop.
#[expect(clippy::large_enum_variant, reason = "one at a time, and never stored")]
enum Woken {
    Command(Option<Command>),
    Opened(Result<Socket, Unreached>),
    Frame(Result<ClientEvent, Lost>),
    Time,
}

/// Where a device says what it asks for and how its link is.
pub(super) struct Out {
    pub(super) effects: mpsc::Sender<ClientEffect>,
    pub(super) link: watch::Sender<LinkState>,
}

struct Loop {
    core: ClientCore<PqSealer>,
    store: RedbStore,
    url: String,
    trust: Trust,
    connection: Connection,
    failures: u32,
    /// What was wrong with the node's certificate at the last attempt, which is said once.
    fault: Option<CertificateFault>,
    out: Out,
    frames: Vec<(ClientFrame, Bytes)>,
    /// A command that was taken while gathering events, and comes next.
    put_by: Option<Command>,
}

pub(super) async fn run(
    core: ClientCore<PqSealer>,
    store: RedbStore,
    (url, trust): (String, Trust),
    mut commands: mpsc::Receiver<Command>,
    out: Out,
) -> Result<(), DriverError> {
    let connection = Connection::Pause(0);
    let frames = Vec::new();
    let (failures, fault, put_by) = (0, None, None);
    let mut device =
        Loop { core, store, url, trust, connection, failures, fault, out, frames, put_by };
    loop {
        device.open_when_due();
        let woken = device.wait(&mut commands).await;
        if device.take(woken, &mut commands).await?.is_none() {
            return Ok(());
        }
    }
}

impl Loop {
    fn open_when_due(&mut self) {
        if matches!(self.connection, Connection::Pause(at) if at <= now_ms()) {
            let opening = connect(self.url.clone(), self.trust.clone());
            self.connection = Connection::Opening(Box::pin(opening));
            self.out.link.send_replace(LinkState::Opening);
        }
    }

    async fn wait(&mut self, commands: &mut mpsc::Receiver<Command>) -> Woken {
        if let Some(command) = self.put_by.take() {
            return Woken::Command(Some(command));
        }
        let now = now_ms();
        let mut until = self.core.next_deadline().unwrap_or(u64::MAX);
        if let Connection::Pause(at) = self.connection {
            until = until.min(at);
        }
        let pause = Duration::from_millis(until.saturating_sub(now).min(SLEEP_MAX_MS));
        let link = async {
            match &mut self.connection {
                Connection::Up(socket) => Woken::Frame(socket.next().await.map(event)),
                Connection::Opening(opening) => Woken::Opened(opening.await),
                Connection::Pause(_) | Connection::Never => futures::future::pending().await,
            }
        };
        tokio::select! {
            command = commands.recv() => Woken::Command(command),
            woken = link => woken,
            () = sleep(pause) => Woken::Time,
        }
    }

    /// `None` when the device is to end.
    async fn take(
        &mut self,
        woken: Woken,
        commands: &mut mpsc::Receiver<Command>,
    ) -> Result<Option<()>, DriverError> {
        let mut events = Vec::new();
        match woken {
            Woken::Command(None | Some(Command::Stop)) => return Ok(None),
            Woken::Command(Some(Command::Query(query))) => {
                let mut query = Some(query);
                let Self { core, store, .. } = self;
                store.view(&mut |txn| query.take().map_or(Ok(()), |query| query(core, txn)))?;
                return Ok(Some(()));
            }
            Woken::Command(Some(Command::Change(change))) => {
                let mut change = Some(change);
                let now = now_ms();
                let Self { core, store, .. } = self;
                store.batch(&mut |txn| {
                    change.take().map_or(Ok(()), |change| change(core, txn, now))?;
                    core.finish(txn)
                })?;
                self.let_out().await?;
                return Ok(Some(()));
            }
            Woken::Command(Some(Command::Event(event))) => {
                events.push(event);
                while events.len() < BATCH_MAX && self.put_by.is_none() {
                    match commands.try_recv() {
                        Ok(Command::Event(event)) => events.push(event),
                        Ok(other) => self.put_by = Some(other),
                        Err(_) => break,
                    }
                }
            }
            Woken::Opened(Ok(socket)) => {
                self.connection = Connection::Up(Box::new(socket));
                self.fault = None;
                events.push(ClientEvent::Connected);
            }
            Woken::Opened(Err(Unreached { fault, said })) => {
                self.pause(0, DownWhy::Lost(said))?;
                if let Some(fault) = fault
                    && self.fault.replace(fault) != Some(fault)
                {
                    self.tell(ClientEffect::Warn(Warning::Certificate(fault))).await;
                }
            }
            Woken::Frame(Ok(event)) => {
                events.push(event);
                self.more_frames(&mut events)?;
            }
            Woken::Frame(Err(Lost(said))) => {
                self.pause(0, DownWhy::Lost(said))?;
                events.push(ClientEvent::Disconnected);
            }
            Woken::Time => events.push(ClientEvent::Tick),
        }
        self.commit(&events)?;
        self.let_out().await?;
        Ok(Some(()))
    }

    /// Frames that are here already join the batch.
    fn more_frames(&mut self, events: &mut Vec<ClientEvent>) -> Result<(), DriverError> {
        while events.len() < BATCH_MAX {
            let Connection::Up(socket) = &mut self.connection else { return Ok(()) };
            match socket.next().now_or_never() {
                Some(Ok(frame)) => events.push(event(frame)),
                Some(Err(Lost(said))) => {
                    events.push(ClientEvent::Disconnected);
                    return self.pause(0, DownWhy::Lost(said));
                }
                None => return Ok(()),
            }
        }
        Ok(())
    }

    fn commit(&mut self, events: &[ClientEvent]) -> Result<(), DriverError> {
        let now = now_ms();
        let core = &mut self.core;
        self.store.batch(&mut |txn| {
            for event in events {
                core.handle(event.clone(), now, txn)?;
            }
            core.finish(txn)
        })?;
        Ok(())
    }

    /// After the commit: frames to the node, the rest to whoever reads effects.
    async fn let_out(&mut self) -> Result<(), DriverError> {
        while let Some(effect) = self.core.poll_effect() {
            match effect {
                ClientEffect::ToNode { frame, body } => self.frames.push((frame, body)),
                ClientEffect::CloseLink(why) => {
                    self.frames.clear();
                    let down = DownWhy::Closed(why);
                    match why {
                        CloseWhy::Goaway { after_ms } => self.pause(after_ms, down)?,
                        CloseWhy::NewDeviceId | CloseWhy::NotListed => {
                            self.connection = Connection::Pause(0);
                        }
                        CloseWhy::NotOurNode
                        | CloseWhy::Broke
                        | CloseWhy::Silent
                        | CloseWhy::Refused(_) => self.pause(PAUSE_FIRST_MS, down)?,
                    }
                    self.tell(ClientEffect::CloseLink(why)).await;
                }
                ClientEffect::Stopped(why) => {
                    self.connection = Connection::Never;
                    self.out.link.send_replace(LinkState::Stopped(why));
                    self.tell(ClientEffect::Stopped(why)).await;
                }
                ClientEffect::Linked => {
                    self.failures = 0;
                    self.out.link.send_replace(LinkState::Up);
                    self.tell(ClientEffect::Linked).await;
                }
                other @ (ClientEffect::Joined
                | ClientEffect::JoinRefused(_)
                | ClientEffect::Resolved { .. }
                | ClientEffect::Composed { .. }
                | ClientEffect::NotComposed { .. }
                | ClientEffect::Show(_)
                | ClientEffect::StatusChanged { .. }
                | ClientEffect::ReadElsewhere { .. }
                | ClientEffect::Warn(_)) => self.tell(other).await,
            }
        }
        let frames = core::mem::take(&mut self.frames);
        if let Connection::Up(socket) = &mut self.connection
            && let Err(Lost(said)) = socket.send(frames).await
        {
            self.pause(0, DownWhy::Lost(said))?;
            self.commit(&[ClientEvent::Disconnected])?;
        }
        Ok(())
    }

    async fn tell(&mut self, effect: ClientEffect) {
        if self.out.effects.send(effect).await.is_err() {
            // Nobody reads effects any more; the device goes on for its node's sake.
        }
    }

    /// The link is lost: made again after a pause with full jitter.
    fn pause(&mut self, least_ms: u64, why: DownWhy) -> Result<(), DriverError> {
        let bound = (PAUSE_FIRST_MS << self.failures.min(6)).min(PAUSE_LAST_MS);
        self.failures = self.failures.saturating_add(1);
        let pause = u64::from_be_bytes(random()?) % bound;
        let until_ms = now_ms() + pause.max(least_ms);
        self.connection = Connection::Pause(until_ms);
        self.out.link.send_replace(LinkState::Down { until_ms, why });
        Ok(())
    }
}

fn event((frame, body): (tidings_protocol::client_frame::NodeFrame, Bytes)) -> ClientEvent {
    ClientEvent::Frame { frame, body }
}
