//! The loop of a simulated node, the same as in production: events, one batch, one commit, and only
//! then the effects. Crashes happen here, at the boundaries of the commit.

use bytes::Bytes;
use tidings_core::{
    effect::Effect,
    event::{ConnId, Event, LinkId},
    ingress::{Read, read_client_frame, read_peer_frame},
};
use tidings_protocol::{
    client_frame::NodeFrame,
    codec,
    frame::{Frame, FrameError},
    peer_frame::PeerFrame,
    refusal::RefusalCode,
};
use tidings_store::StoreError;

use crate::disk::CommitFault;
use crate::invariants::at_commit::BatchFacts;
use crate::network::Machine;
use crate::node::{Process, StartFailure};
use crate::oracle::Violation;
use crate::sabotage::Broken;
use crate::watch::WatchedTxn;
use crate::world::{Action, World};

/// What happens at a commit boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Boundary {
    /// Nothing.
    Fine,
    /// The commit fails.
    Fails,
    /// The commit holds, but the process ends before its effects leave.
    EndsAfter,
}

impl World {
    /// Gives a node a cause, and plans a step.
    pub fn tell_node(&mut self, node: usize, event: Event) {
        if self.nodes[node].process.is_none() {
            return;
        }
        self.nodes[node].inbox.push_back(event);
        self.plan_node_step(node);
    }

    fn plan_node_step(&mut self, node: usize) {
        if self.nodes[node].step_planned || self.nodes[node].process.is_none() {
            return;
        }
        self.nodes[node].step_planned = true;
        let in_ms = self.net_chance.below(self.options.commit_ms_max + 1);
        let boot = self.nodes[node].boot;
        self.schedule.plan(in_ms, Action::NodeStep { node, boot });
    }

    /// Starts a node; tries again later when its disk fails.
    pub fn start_node(&mut self, node: usize) -> Result<(), Violation> {
        if self.nodes[node].process.is_some() {
            return Ok(());
        }
        let now_ms = self.now_ms();
        if self.faults_on && self.fault_chance.happens(self.options.boundary_crash) {
            let after_ops = self.fault_chance.below(4);
            self.nodes[node].disk.fail_next(CommitFault::Crash { after_ops });
        }
        let may_renew = self.options.rotate_sealing && self.faults_on;
        if may_renew && self.nodes[node].boot > 0 && self.fault_chance.happens(300) {
            let clock_ms = self.nodes[node].clock_ms(now_ms);
            self.nodes[node].renew_sealing(clock_ms);
        }
        let settings = self.node_settings(node);
        let rotate = self.options.rotate_transports;
        self.trace.note(now_ms, "node starts", node as u64, &[]);
        let name = self.name(Machine::Node(node));
        match self.nodes[node].start(settings, now_ms, rotate) {
            Ok(()) => {
                self.trace.say(now_ms, || format!("{name} starts"));
                self.reload_ghost(node)?;
                self.plan_node_step(node);
                self.node_effects(node)
            }
            Err(StartFailure::Open(error)) => {
                self.trace.say(now_ms, || format!("{name} fails to open: {error}"));
                self.kill_node(node);
                Ok(())
            }
            Err(StartFailure::First(error)) => self.node_batch_failed(node, error),
            Err(StartFailure::Core(error)) => {
                Err(self.violated("open", format!("{name} does not open: {error:?}")))
            }
        }
    }

    /// One batch of a node.
    pub fn step_node(&mut self, node: usize) -> Result<(), Violation> {
        let boundary = self.node_boundary(node);
        let now_ms = self.now_ms();
        let count = self.fault_chance.between(1, self.options.batch_max);
        let me = &mut self.nodes[node];
        me.step_planned = false;
        let clock_ms = me.clock_ms(now_ms);
        let events: Vec<Event> = (0..count).map_while(|_| me.inbox.pop_front()).collect();
        let more = !me.inbox.is_empty();
        let early = self.request.broken == Some(Broken::AckBeforeCommit);
        let facts = BatchFacts::of(&events, clock_ms);
        self.i34_debug_forms(Machine::Node(node), &events)?;
        let drained = events.iter().any(|event| matches!(event, Event::Drain));
        let Some(Process { store, core }) = &mut self.nodes[node].process else { return Ok(()) };
        let mut left_early = Vec::new();
        let mut changes = Vec::new();
        let mut events = Some(events);
        let result = store.batch(&mut |txn| {
            let txn = &mut WatchedTxn::new(txn, &mut changes);
            for event in events.take().into_iter().flatten() {
                core.handle(event, clock_ms, txn)?;
            }
            core.finish(clock_ms, txn)?;
            if early {
                left_early.extend(core::iter::from_fn(|| core.poll_effect()));
            }
            Ok(())
        });
        for effect in left_early {
            self.node_effect(node, effect)?;
        }
        if let Err(error) = result {
            return self.node_batch_failed(node, error);
        }
        self.node_committed(node, &facts, changes)?;
        if boundary == Boundary::EndsAfter {
            self.kill_node(node);
            return Ok(());
        }
        self.node_effects(node)?;
        self.i21_nobody_waits_for_others(node)?;
        if drained {
            self.i33_everybody_is_told(node)?;
        }
        if more {
            self.plan_node_step(node);
        }
        Ok(())
    }

    fn node_boundary(&mut self, node: usize) -> Boundary {
        if !self.faults_on {
            return Boundary::Fine;
        }
        let disk = &self.nodes[node].disk;
        draw_boundary(&mut self.fault_chance, self.options.boundary_crash, |fault| {
            disk.fail_next(fault);
        })
    }

    /// Only a fault of the disk may fail a batch; the core itself never does.
    fn node_batch_failed(&mut self, node: usize, error: StoreError) -> Result<(), Violation> {
        self.i34_failed(&error)?;
        self.i31_a_failed_node_is_silent(node)?;
        if is_disk_fault(&error) {
            self.i31_a_failed_commit_is_the_end(node)?;
            if self.request.broken == Some(Broken::GoOnAfterFailedCommit) {
                return self.node_effects(node);
            }
            self.kill_node(node);
            return Ok(());
        }
        let name = self.name(Machine::Node(node));
        Err(self.violated("batch", format!("a batch of {name} failed by itself: {error:?}")))
    }

    /// Ends the process of a node, and plans its start.
    pub fn kill_node(&mut self, node: usize) {
        let now_ms = self.now_ms();
        self.trace.note(now_ms, "node ends", node as u64, &[]);
        let name = self.name(Machine::Node(node));
        self.trace.say(now_ms, || format!("{name} ends"));
        self.nodes[node].kill();
        self.drop_links_of(Machine::Node(node));
        if !self.nodes[node].start_planned {
            self.nodes[node].start_planned = true;
            let in_ms = self.fault_chance.between(50, self.options.down_ms_max);
            self.schedule.plan(in_ms, Action::NodeStart { node });
        }
    }

    /// All effects that wait, and the deadline.
    fn node_effects(&mut self, node: usize) -> Result<(), Violation> {
        let next = |world: &mut Self| {
            world.nodes[node].process.as_mut().and_then(|process| process.core.poll_effect())
        };
        while let Some(effect) = next(self) {
            self.node_effect(node, effect)?;
        }
        let me = &self.nodes[node];
        let deadline_ms = me.process.as_ref().and_then(|process| process.core.next_deadline());
        if let Some(deadline_ms) = deadline_ms {
            let at_ms = me.true_ms(deadline_ms).max(self.now_ms());
            if me.timer_at_ms.is_none_or(|planned_ms| at_ms < planned_ms) {
                let boot = me.boot;
                self.nodes[node].timer_at_ms = Some(at_ms);
                self.schedule.plan_at(at_ms, Action::NodeTimer { node, boot, at_ms });
            }
        }
        Ok(())
    }

    fn node_effect(&mut self, node: usize, effect: Effect) -> Result<(), Violation> {
        self.i34_debug_forms(Machine::Node(node), core::slice::from_ref(&effect))?;
        match effect {
            Effect::ToClient { conn, frame, body } => {
                let frame_of = |header: Vec<u8>| Frame { header: header.into(), body };
                let bytes = frame_of(codec::encode(&frame)).encode();
                let bytes = self.encoded(bytes)?;
                self.oracle_node_to_client(node, conn, &frame)?;
                if let NodeFrame::Accepted(accepted) = &frame {
                    let first = self.net.acceptances.entry(accepted.submit);
                    first.or_insert_with(|| (conn.0, bytes.clone()));
                }
                self.node_sends(node, conn.0, 0, bytes);
            }
            Effect::ToPeer { link, frame, body } => {
                self.oracle_node_to_peer(node, link, &frame, &body)?;
                self.node_sends_to_peer(node, link, &frame, body)?;
            }
            Effect::CloseClient { conn: ConnId(link) }
            | Effect::ClosePeer { link: LinkId(link) } => {
                if let Some(side) = self.side_of(link, Machine::Node(node)) {
                    self.close_from(link, side);
                }
            }
            Effect::Dial { node: target, transports } => {
                let name = self.name(Machine::Node(node));
                self.trace.say(self.schedule.now_ms(), || {
                    format!("{name} dials {target:?} {transports:?}")
                });
                self.i22_probes_are_few(node, target)?;
                self.dial(node, target, transports);
            }
            Effect::Lookup { node: target } => {
                let name = self.name(Machine::Node(node));
                self.trace.say(self.schedule.now_ms(), || format!("{name} looks for {target:?}"));
                self.look_up(node, target);
            }
            // The network has no addresses that a filter would keep back, and no door in front of it.
            Effect::Pin { .. } | Effect::Meet { .. } | Effect::Bar { .. } => {}
            Effect::Publish { descriptor } => {
                self.i27_serials_never_repeat(node, &descriptor)?;
                let name = self.name(Machine::Node(node));
                self.trace.say(self.schedule.now_ms(), || {
                    format!(
                        "{name} publishes {:?}",
                        descriptor.addresses.peek().map(|a| (a.serial, a.transports))
                    )
                });
                let in_ms = self.delay_ms() * 4;
                let descriptor = Box::new(descriptor);
                let published = Action::Published { node: self.nodes[node].id, descriptor };
                self.schedule.plan(in_ms, published);
            }
            Effect::AdminReply { reply, .. } => self.i34_answered(&reply)?,
            Effect::Observed(observed) => {
                self.i34_counted(observed)?;
                self.oracle.observed(observed);
            }
            // Told only where the settings ask for it, and hashed by the shell.
            Effect::Step(_) => {}
        }
        Ok(())
    }

    fn node_sends_to_peer(
        &mut self,
        node: usize,
        link: LinkId,
        frame: &PeerFrame,
        body: Bytes,
    ) -> Result<(), Violation> {
        let lane = usize::from(frame.is_bulk());
        let swapped = self.liar_swaps(node, frame);
        let frame = swapped.as_ref().unwrap_or(frame);
        let encoded = Frame { header: codec::encode(frame).into(), body }.encode();
        let bytes = self.encoded(encoded)?;
        if self.liar_withholds(node, frame) || self.artful_delays(node, link, frame, &bytes) {
            return Ok(());
        }
        self.node_sends(node, link.0, lane, bytes);
        self.liar_adds(node, link);
        Ok(())
    }

    /// A node must never build a frame that is over the limit.
    pub fn encoded(&self, bytes: Result<Bytes, FrameError>) -> Result<Bytes, Violation> {
        bytes.map_err(|error| self.violated("frame", error.to_string()))
    }

    /// Sends bytes of a node on one of its links.
    pub fn node_sends(&mut self, node: usize, link: u64, lane: usize, bytes: Bytes) {
        if let Some(side) = self.side_of(link, Machine::Node(node)) {
            self.trace.note(self.schedule.now_ms(), "node sends", node as u64, &bytes);
            self.send(link, side, lane, bytes);
        }
    }

    /// Which side of a link a machine is.
    #[must_use]
    pub fn side_of(&self, link: u64, machine: Machine) -> Option<usize> {
        let link = self.net.links.get(&link)?;
        (0..2).find(|side| link.ends[*side] == machine && link.open[*side])
    }

    /// Bytes of a device reach its node.
    pub fn client_frame_arrives(&mut self, node: usize, link: u64, bytes: Bytes) {
        let conn = ConnId(link);
        let event = match Frame::decode(bytes).map(|frame| read_client_frame(&frame)) {
            Ok(Read::Input(input)) => {
                self.note_joined(&input);
                Event::Client { conn, input }
            }
            Ok(Read::Unknown) => return,
            Ok(Read::Broken(code)) => Event::ClientBroke { conn, code },
            Err(error) => Event::ClientBroke { conn, code: broken_code(&error) },
        };
        let line = brief(&event);
        let name = self.name(Machine::Node(node));
        self.trace.say(self.schedule.now_ms(), || format!("{name} <- device: {line}"));
        self.tell_node(node, event);
    }

    /// Bytes of a peer reach a node; whether its core is told.
    pub fn peer_frame_arrives(&mut self, node: usize, link_id: u64, bytes: Bytes) -> bool {
        let link = LinkId(link_id);
        let clock_ms = self.nodes[node].clock_ms(self.now_ms());
        let opener = self.nodes[node].opener();
        let read = |frame: Frame| read_peer_frame(&frame, clock_ms, &opener);
        let event = match Frame::decode(bytes).map(read) {
            Ok(Read::Input(input)) => {
                if self.liar_swallows(node, link, &input) {
                    return false;
                }
                Event::Peer { link, input }
            }
            Ok(Read::Unknown) => return false,
            Ok(Read::Broken(code)) => Event::PeerBroke { link, code },
            Err(error) => Event::PeerBroke { link, code: broken_code(&error) },
        };
        let line = brief(&event);
        let name = self.name(Machine::Node(node));
        self.trace.say(self.schedule.now_ms(), || format!("{name} <- peer: {line}"));
        self.tell_node(node, event);
        true
    }
}

/// Draws what happens at a commit boundary; half of the crashes come before the commit.
pub(crate) fn draw_boundary(
    chance: &mut crate::chance::Chance,
    per_mille: u64,
    arm: impl FnOnce(CommitFault),
) -> Boundary {
    if !chance.happens(per_mille) {
        return Boundary::Fine;
    }
    if chance.happens(500) {
        arm(CommitFault::Crash { after_ops: chance.below(6) });
        return Boundary::Fails;
    }
    Boundary::EndsAfter
}

/// True for what the simulated disk does; anything else is a mistake of ours.
#[must_use]
pub(crate) fn is_disk_fault(error: &StoreError) -> bool {
    matches!(error, StoreError::Crashed | StoreError::DiskFull { .. } | StoreError::Engine { .. })
}

fn broken_code(error: &FrameError) -> RefusalCode {
    match error {
        FrameError::TooLong { .. } => RefusalCode::TooLarge,
        FrameError::HeaderOverrun { .. } | FrameError::NotOneFrame { .. } => RefusalCode::Malformed,
    }
}

/// The beginning of something's debug form.
#[must_use]
pub(crate) fn brief(what: &impl core::fmt::Debug) -> String {
    const CHARS_MAX: usize = 400;
    format!("{what:?}").chars().take(CHARS_MAX).collect()
}
