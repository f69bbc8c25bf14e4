//! THE loop: events, one batch, one commit, and only then the effects.
//!
//! It runs on a thread of its own and owns core and store. Nothing else writes. When a commit
//! fails, it ends with the error and the process with it: the next start rebuilds the core from
//! what is on disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tidings_core::Core;
use tidings_core::effect::{AdminReply, Effect};
use tidings_core::event::{AdminToken, DnsOutcome, Event};
use tidings_store::{Counters, RedbStore, Store as _, StoreError};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::clock::{self, Stopwatch};
use crate::event_log;
use crate::failpoint::{self, Step};
use crate::input::{Input, transport_bytes, weight};
use crate::limits::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX};
use crate::links::Links;
use crate::metrics::Metrics;
use crate::resolver::Resolver;

/// A batch could not be made durable. Nothing that it would have caused has left the node.
#[derive(Debug, Error)]
#[error("committing a batch: the node stops, and starts again from what is on disk")]
pub struct CommitFailed(#[from] StoreError);

impl CommitFailed {
    /// Whether the disk was full.
    #[must_use]
    pub const fn is_for_space(&self) -> bool {
        matches!(self.0, StoreError::DiskFull { .. })
    }
}

/// Core, store, and everything that inputs and effects pass between.
#[derive(Debug)]
pub(crate) struct Loop {
    pub(crate) core: Core,
    pub(crate) store: RedbStore,
    pub(crate) inputs: mpsc::Receiver<Input>,
    pub(crate) links: Links,
    pub(crate) resolver: Resolver,
    pub(crate) metrics: Arc<Metrics>,
    /// Waits for inputs and deadlines; the loop's thread is not one of the runtime's.
    pub(crate) runtime: Handle,
    pub(crate) turn: Turn,
}

/// What the loop remembers between inputs and effects.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// Events of the batch that is being gathered.
    events: Vec<Event>,
    /// Events that effects caused at once, for the next batch.
    caused: Vec<Event>,
    questions: BTreeMap<AdminToken, oneshot::Sender<AdminReply>>,
    questions_asked: u64,
    beats: Vec<oneshot::Sender<()>>,
    counted: Counters,
    syncs_counted: u64,
    stopping: bool,
}

impl Loop {
    /// Runs until it is told to stop, or a commit fails. Dropping the loop closes the store.
    ///
    /// # Errors
    /// [`CommitFailed`].
    pub(crate) fn run(mut self) -> Result<(), CommitFailed> {
        // Opening the core has caused effects, and was committed by whoever opened it.
        self.carry_out_effects();
        while !self.turn.stopping {
            self.gather();
            self.commit()?;
            failpoint::pass(Step::AfterCommitBeforeEffects);
            self.carry_out_effects();
            failpoint::pass(Step::AfterEffects);
            for beat in self.turn.beats.drain(..) {
                // Who asked may have lost patience.
                beat.send(()).unwrap_or_default();
            }
        }
        Ok(())
    }

    /// Waits for the first input or the core's deadline, then takes what else is waiting.
    fn gather(&mut self) {
        self.turn.events.append(&mut self.turn.caused);
        if self.turn.events.is_empty()
            && let Some(input) = self.wait()
        {
            self.take(input);
        }
        let mut bytes: usize = self.turn.events.iter().map(weight).sum();
        while self.turn.events.len() < BATCH_EVENTS_MAX && bytes < BATCH_BYTES_MAX {
            let Ok(input) = self.inputs.try_recv() else { break };
            let before = self.turn.events.len();
            self.take(input);
            bytes += self.turn.events.iter().skip(before).map(weight).sum::<usize>();
        }
        if self.core.next_deadline().is_some_and(|deadline| deadline <= clock::now_ms()) {
            self.turn.events.push(Event::Tick);
        }
    }

    fn wait(&mut self) -> Option<Input> {
        let input = match self.core.next_deadline() {
            None => self.inputs.blocking_recv(),
            Some(deadline) => {
                let left = Duration::from_millis(deadline.saturating_sub(clock::now_ms()));
                let received = async { tokio::time::timeout(left, self.inputs.recv()).await };
                match self.runtime.block_on(received) {
                    Ok(input) => input,
                    Err(_) => return None,
                }
            }
        };
        // All senders are gone only when the process ends without having said so.
        self.turn.stopping |= input.is_none();
        input
    }

    fn take(&mut self, input: Input) {
        let event = match input {
            Input::Event(event) => {
                if let Event::ClientClosed { conn } = event {
                    self.links.client_down(conn);
                } else if let Event::PeerClosed { link } = event {
                    self.links.peer_down(link);
                }
                event
            }
            Input::ClientUp { conn, queue } => {
                self.links.client_up(conn, queue);
                Event::ClientConnected { conn }
            }
            Input::PeerUp { link, peer, dialer, lanes } => {
                self.links.peer_up(link, peer, lanes);
                Event::PeerConnected { link, transport: transport_bytes(peer), dialer }
            }
            Input::Ask { command, answer } => {
                self.turn.questions_asked += 1;
                let token = AdminToken(self.turn.questions_asked);
                self.turn.questions.retain(|_, answer| !answer.is_closed());
                self.turn.questions.insert(token, answer);
                Event::Admin { token, command }
            }
            Input::Beat { answer } => {
                self.turn.beats.push(answer);
                return;
            }
            Input::Stop => {
                self.turn.stopping = true;
                return;
            }
        };
        self.turn.events.push(event);
    }

    fn commit(&mut self) -> Result<(), CommitFailed> {
        if self.turn.events.is_empty() {
            return Ok(());
        }
        let watch = Stopwatch::start();
        let now = clock::now_ms();
        let events = std::mem::take(&mut self.turn.events);
        let count = events.len();
        let mut waiting = events.into_iter();
        let core = &mut self.core;
        self.store.batch(&mut |txn| {
            for event in waiting.by_ref() {
                core.handle(event, now, txn)?;
            }
            core.finish(now, txn)?;
            failpoint::pass(Step::BeforeCommit);
            Ok(())
        })?;
        let counters = self.store.counters();
        let took = watch.elapsed();
        let syncs = self.store.syncs();
        let (done, synced) = (counters - self.turn.counted, syncs - self.turn.syncs_counted);
        self.metrics.batch(count, took, done, synced);
        self.turn.counted = counters;
        self.turn.syncs_counted = syncs;
        Ok(())
    }

    fn carry_out_effects(&mut self) {
        while let Some(effect) = self.core.poll_effect() {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::ToClient { conn, frame, body } => self.links.send_to_client(conn, frame, body),
            Effect::CloseClient { conn } => self.links.close_client(conn),
            Effect::ToPeer { link, frame, body } => self.links.send_to_peer(link, &frame, body),
            Effect::ClosePeer { link } => self.links.close_peer(link),
            Effect::Dial { node, transports } => {
                if !self.links.peer_link().dial(node, &transports) {
                    self.turn.caused.push(Event::DialFailed { node });
                }
            }
            Effect::Lookup { node } => {
                if !self.links.peer_link().lookup(node) {
                    self.turn.caused.push(Event::Found { node, descriptors: Vec::new() });
                }
            }
            Effect::Pin { transport } => self.links.peer_link().pin(&transport),
            Effect::Meet { transport } => self.links.peer_link().meet(&transport),
            Effect::Bar { transport, is_barred } => {
                self.links.peer_link().bar(&transport, is_barred);
            }
            Effect::Resolve { domain } => {
                if !self.resolver.ask(domain.clone()) {
                    let outcome = DnsOutcome::Silent;
                    self.turn.caused.push(Event::Resolved { domain, outcome });
                }
            }
            Effect::Publish { descriptor } => self.links.peer_link().publish(&descriptor),
            Effect::AdminReply { token, reply } => {
                if let Some(question) = self.turn.questions.remove(&token) {
                    // Who asked may have lost patience.
                    question.send(reply).map_or_else(drop, |()| ());
                }
            }
            Effect::Observed(observed) => self.metrics.observe(observed),
            Effect::Step(step) => event_log::write(&step),
        }
    }
}

#[cfg(test)]
mod tests {
    use tidings_core::event::AdminCommand;
    use tidings_core::schema::SCHEMA;
    use tidings_core::settings::Settings;
    use tidings_protocol::client_frame::InviteSecret;
    use tidings_protocol::descriptor::Delegation;
    use tidings_protocol::id::NodeId;
    use tidings_protocol::key::SecretKey;
    use tidings_protocol::sealed::SealingSecret;
    use tidings_protocol::signed::Signed;
    use tidings_store::{BootId, DiskFault, FaultDisk, Opening, RedbOptions};
    use tokio::task::JoinSet;

    use super::*;
    use crate::p2p::{self, P2pConfig, P2pLimits, Relaying, TransportSeed};
    use crate::peer_link::{self, PeerLink};

    fn settings() -> Settings {
        let (root, operational) = (SecretKey::from_seed(&[1; 32]), SecretKey::from_seed(&[2; 32]));
        let sealing = SealingSecret::from_bytes(&[3; 32]);
        let delegation = Delegation {
            node: NodeId::of(&root.public()),
            serial: 1,
            operational: operational.public(),
            sealing: sealing.public(),
            custodians: Vec::new(),
            domains: Vec::new(),
            not_after_ms: u64::MAX,
        };
        Settings::new(operational, sealing, Signed::new(&delegation, &root))
    }

    fn open(disk: &FaultDisk, inputs: mpsc::Receiver<Input>, tasks: &mut JoinSet<()>) -> Loop {
        let opening = Opening { boot: BootId([4; 16]), incarnation: 5 };
        let options = RedbOptions::default();
        let mut store = RedbStore::open_on(disk.backend(), SCHEMA, opening, options).unwrap();
        let (lineage, now) = (store.lineage().clone(), clock::now_ms());
        let mut core = None;
        let opened = store.batch(&mut |txn| {
            let mut opened = Core::open(settings(), &lineage, [6; 32], now, txn).unwrap();
            opened.finish(now, txn)?;
            core = Some(opened);
            Ok(())
        });
        opened.unwrap();
        let config = P2pConfig {
            transport_seed: TransportSeed::from_bytes([7; 32]),
            listen: Vec::new(),
            announce: Vec::new(),
            allow_private_addresses: true,
            relays: Vec::new(),
            relaying: Relaying::default(),
            limits: P2pLimits::default(),
        };
        let (p2p, _) = p2p::start(&config, tasks, peer_link::validator()).unwrap();
        Loop {
            core: core.unwrap(),
            store,
            inputs,
            links: Links::new(PeerLink::new(p2p), tokio::sync::watch::channel(0).0),
            resolver: Resolver(mpsc::channel(1).0),
            metrics: Arc::new(Metrics::new()),
            runtime: Handle::current(),
            turn: Turn::default(),
        }
    }

    fn invite(number: u8) -> (Input, oneshot::Receiver<AdminReply>) {
        let (answer, answered) = oneshot::channel();
        let secret = InviteSecret([number; 16]);
        let command = AdminCommand::Invite { secret, uses: 1, life_ms: 1_000 };
        (Input::Ask { command, answer }, answered)
    }

    /// I31 for the production loop; the simulator has a loop of its own.
    #[test]
    fn a_commit_that_fails_ends_the_loop_and_answers_nobody() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _entered = runtime.enter();
        for fault in [None, Some(DiskFault::DiskFull), Some(DiskFault::SyncError)] {
            let (disk, mut tasks) = (FaultDisk::new(), JoinSet::new());
            let (inputs, to_loop) = mpsc::channel(8);
            let turning = open(&disk, to_loop, &mut tasks);
            let asked = [1, 2].map(|number| {
                let (input, answered) = invite(number);
                inputs.try_send(input).unwrap();
                answered
            });
            inputs.try_send(Input::Stop).unwrap();
            if let Some(fault) = fault {
                disk.fail_after(0, fault);
            }
            let ended = turning.run();
            let answers = asked.map(|mut answered| answered.try_recv().ok());
            match fault {
                None => {
                    assert!(ended.is_ok());
                    assert_eq!(answers, [Some(AdminReply::Done), Some(AdminReply::Done)]);
                }
                Some(fault) => {
                    assert!(ended.is_err(), "{fault:?} is passed over");
                    assert_eq!(answers, [None, None], "{fault:?} is answered all the same");
                }
            }
        }
    }
}
