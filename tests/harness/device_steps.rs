//! The loop of a simulated device, the same as in production, and its link to its node.

use bytes::Bytes;
use tidings_client::event::{ClientEffect, ClientEvent, CloseWhy};
use tidings_core::event::{AdminCommand, AdminToken, ConnId, Event};
use tidings_protocol::{
    client_frame::{ClientFrame, InviteSecret, NodeFrame},
    codec,
    frame::Frame,
};
use tidings_store::StoreError;

use crate::device::{DeviceProcess, DeviceStartFailure};
use crate::network::Machine;
use crate::node_steps::{Boundary, brief, draw_boundary, is_disk_fault};
use crate::oracle::Violation;
use crate::world::{Action, World};

impl World {
    /// Gives a device a cause, and plans a step. A device that is off hears nothing.
    pub fn tell_device(&mut self, device: usize, event: ClientEvent) {
        if self.devices[device].process.is_none() {
            return;
        }
        self.devices[device].inbox.push_back(event);
        self.plan_device_step(device);
    }

    fn plan_device_step(&mut self, device: usize) {
        let me = &mut self.devices[device];
        if me.step_planned || me.process.is_none() {
            return;
        }
        me.step_planned = true;
        let boot = me.boot;
        let in_ms = self.net_chance.below(self.options.commit_ms_max + 1);
        self.schedule.plan(in_ms, Action::DeviceStep { device, boot });
    }

    /// Starts a device. One that is linked by another waits until that one has made it.
    pub fn start_device(&mut self, device: usize) -> Result<(), Violation> {
        let me = &self.devices[device];
        if me.process.is_some() || (me.ordinal > 1 && me.identity.is_none()) {
            return Ok(());
        }
        let settings = self.owner_settings(device);
        let now_ms = self.now_ms();
        let name = self.name(Machine::Device(device));
        self.trace.note(now_ms, "device starts", device as u64, &[]);
        match self.devices[device].start(settings, now_ms) {
            Ok(()) => {
                self.trace.say(now_ms, || format!("{name} starts"));
                self.plan_dial(device, 1);
                self.device_effects(device, true)?;
                self.i7_statuses_after_a_start(device)?;
                self.i26_device_owes(device)
            }
            Err(DeviceStartFailure::Open(error)) => {
                self.trace.say(now_ms, || format!("{name} fails to open: {error}"));
                self.kill_device(device);
                Ok(())
            }
            Err(DeviceStartFailure::Commit(error)) => self.device_batch_failed(device, error),
            Err(DeviceStartFailure::Core(error)) => {
                Err(self.violated("open", format!("{name} does not open: {error:?}")))
            }
        }
    }

    /// One batch of a device.
    pub fn step_device(&mut self, device: usize) -> Result<(), Violation> {
        let boundary = self.device_boundary(device);
        let now_ms = self.now_ms();
        let count = self.fault_chance.between(1, self.options.batch_max);
        let me = &mut self.devices[device];
        me.step_planned = false;
        let clock_ms = me.clock_ms(now_ms);
        let events: Vec<ClientEvent> = (0..count).map_while(|_| me.inbox.pop_front()).collect();
        let more = !me.inbox.is_empty();
        self.i34_debug_forms(Machine::Device(device), &events)?;
        let Some(DeviceProcess { store, core }) = &mut self.devices[device].process else {
            return Ok(());
        };
        let mut events = Some(events);
        let result = store.batch(&mut |txn| {
            for event in events.take().into_iter().flatten() {
                core.handle(event, clock_ms, txn)?;
            }
            core.finish(txn)
        });
        if let Err(error) = result {
            return self.device_batch_failed(device, error);
        }
        // The oracle sees what became durable, even if nobody else does. A batch that wrote nothing
        // commits nothing, so that a failure waits for the next one.
        self.device_effects(device, boundary != Boundary::EndsAfter)?;
        if boundary == Boundary::EndsAfter {
            self.kill_device(device);
            return Ok(());
        }
        if more {
            self.plan_device_step(device);
        }
        Ok(())
    }

    fn device_boundary(&mut self, device: usize) -> Boundary {
        if !self.faults_on {
            return Boundary::Fine;
        }
        let disk = &self.devices[device].disk;
        draw_boundary(&mut self.fault_chance, self.options.device_boundary_crash, |fault| {
            disk.fail_next(fault);
        })
    }

    fn device_batch_failed(&mut self, device: usize, error: StoreError) -> Result<(), Violation> {
        if is_disk_fault(&error) {
            self.device_batch_in_doubt(device);
            self.kill_device(device);
            return Ok(());
        }
        let name = self.name(Machine::Device(device));
        Err(self.violated("batch", format!("a batch of {name} failed by itself: {error:?}")))
    }

    /// A failed commit may be durable all the same: the oracle remembers what it would have shown.
    fn device_batch_in_doubt(&mut self, device: usize) {
        let Some(process) = &mut self.devices[device].process else { return };
        while let Some(effect) = process.core.poll_effect() {
            match effect {
                ClientEffect::Show(shown) => {
                    let id = process.core.device_id();
                    self.oracle.maybe_shown(id, &shown);
                }
                ClientEffect::Composed { token, message } => {
                    let texts = self.oracle.maybe_composed.entry(device).or_default();
                    texts.push((token, message));
                }
                _ => {}
            }
        }
    }

    /// Ends the program of a device, and plans its start.
    pub fn kill_device(&mut self, device: usize) {
        let now_ms = self.now_ms();
        self.trace.note(now_ms, "device ends", device as u64, &[]);
        let name = self.name(Machine::Device(device));
        self.trace.say(now_ms, || format!("{name} ends"));
        self.i10_run_ends(device);
        self.devices[device].kill();
        self.drop_links_of(Machine::Device(device));
        if !self.devices[device].start_planned {
            self.devices[device].start_planned = true;
            let in_ms = self.fault_chance.between(50, self.options.down_ms_max);
            self.schedule.plan(in_ms, Action::DeviceStart { device });
        }
    }

    /// All effects that wait. They leave the device only if it lives to see that.
    fn device_effects(&mut self, device: usize, leave: bool) -> Result<(), Violation> {
        let next = |world: &mut Self| {
            world.devices[device].process.as_mut().and_then(|process| process.core.poll_effect())
        };
        while let Some(effect) = next(self) {
            self.oracle_device_effect(device, &effect)?;
            self.i34_debug_forms(Machine::Device(device), core::slice::from_ref(&effect))?;
            if leave {
                self.device_effect(device, effect)?;
            }
        }
        let me = &self.devices[device];
        let deadline_ms = me.process.as_ref().and_then(|process| process.core.next_deadline());
        if let Some(deadline_ms) = deadline_ms {
            let at_ms = me.true_ms(deadline_ms).max(self.now_ms());
            if me.timer_at_ms.is_none_or(|planned_ms| at_ms < planned_ms) {
                let boot = me.boot;
                self.devices[device].timer_at_ms = Some(at_ms);
                self.schedule.plan_at(at_ms, Action::DeviceTimer { device, boot, at_ms });
            }
        }
        Ok(())
    }

    fn device_effect(&mut self, device: usize, effect: ClientEffect) -> Result<(), Violation> {
        let now_ms = self.now_ms();
        if !matches!(effect, ClientEffect::ToNode { .. }) {
            let name = self.name(Machine::Device(device));
            self.trace.say(now_ms, || format!("{name}: {}", brief(&effect)));
            self.trace.note(now_ms, "device says", device as u64, brief(&effect).as_bytes());
        }
        match effect {
            ClientEffect::ToNode { frame, body } => {
                if self.stale_acceptance(device, &frame) {
                    return Ok(());
                }
                let encoded = Frame { header: codec::encode(&frame).into(), body }.encode();
                let bytes = self.encoded(encoded)?;
                if let Some(link) = self.devices[device].link {
                    self.trace.note(now_ms, "device sends", device as u64, &bytes);
                    self.send(link, 0, 0, bytes);
                }
            }
            ClientEffect::CloseLink(why) => {
                if let Some(link) = self.devices[device].link.take() {
                    self.devices[device].served = false;
                    self.close_from(link, 0);
                    self.net.shut(link, 0);
                    self.tell_device(device, ClientEvent::Disconnected);
                }
                let in_ms = match why {
                    CloseWhy::Goaway { after_ms } => after_ms,
                    CloseWhy::NewDeviceId | CloseWhy::NotListed => 1,
                    CloseWhy::NotOurNode
                    | CloseWhy::Broke
                    | CloseWhy::Silent
                    | CloseWhy::Refused(_) => self.net_chance.between(500, 10_000),
                };
                self.plan_dial(device, in_ms);
            }
            ClientEffect::Linked => self.devices[device].served = true,
            ClientEffect::Stopped(_) => self.devices[device].stopped = true,
            ClientEffect::Show(shown) => self.somebody_may_look(device, shown.message),
            ClientEffect::Joined
            | ClientEffect::Resolved { .. }
            | ClientEffect::JoinRefused(_)
            | ClientEffect::Composed { .. }
            | ClientEffect::NotComposed { .. }
            | ClientEffect::StatusChanged { .. }
            | ClientEffect::ReadElsewhere { .. }
            | ClientEffect::Warn(_) => {}
        }
        Ok(())
    }

    /// Something between a device and its node that keeps old frames: it swallows a submission that
    /// was accepted on an earlier link, answers with the acceptance of then, and breaks the link. That
    /// acceptance still holds, unless the node's store was rolled back since.
    fn stale_acceptance(&mut self, device: usize, frame: &ClientFrame) -> bool {
        let ClientFrame::Submit(submit) = frame else { return false };
        let Some(link) = self.devices[device].link.filter(|_| self.faults_on) else { return false };
        let old = self.net.acceptances.get(&submit.submit).filter(|(on, _)| *on != link).cloned();
        let Some((_, bytes)) = old.filter(|_| self.options.replays > 0) else { return false };
        if self.lie_chance.happens(500) {
            return false;
        }
        let name = self.name(Machine::Device(device));
        self.trace.say(self.schedule.now_ms(), || format!("{name} gets an old acceptance"));
        self.send(link, 1, 0, bytes);
        if let Some(link) = self.net.links.get_mut(&link) {
            link.deaf[0] = true;
        }
        self.break_link(link, 5_000);
        true
    }

    /// A device's deadline.
    pub fn device_timer(&mut self, device: usize, at_ms: u64) {
        if self.devices[device].timer_at_ms == Some(at_ms) {
            self.devices[device].timer_at_ms = None;
            self.tell_device(device, ClientEvent::Tick);
        }
    }

    fn plan_dial(&mut self, device: usize, in_ms: u64) {
        let me = &mut self.devices[device];
        if me.dial_planned || me.process.is_none() {
            return;
        }
        me.dial_planned = true;
        let boot = me.boot;
        self.schedule.plan(in_ms, Action::DeviceDial { device, boot });
    }

    /// A device tries to reach its node; it goes on trying while it has a network.
    pub fn device_dials(&mut self, device: usize) {
        let me = &mut self.devices[device];
        me.dial_planned = false;
        if me.link.is_some() || me.away || me.stopped || me.process.is_none() {
            return;
        }
        let (own, node) = (Machine::Device(device), me.node);
        let there = Machine::Node(node);
        if self.nodes[node].process.is_none() || !self.net.reachable(own, there) {
            let in_ms = self.net_chance.between(500, 20_000);
            self.plan_dial(device, in_ms);
            return;
        }
        let link = self.net.connect(own, there);
        self.devices[device].link = Some(link);
        self.trace.note(self.schedule.now_ms(), "device link", device as u64, &[]);
        self.tell_node(node, Event::ClientConnected { conn: ConnId(link) });
        self.tell_device(device, ClientEvent::Connected);
    }

    /// A device learns that its link is gone, and tries again.
    pub fn device_unlinked(&mut self, device: usize, link: u64) {
        if self.devices[device].link != Some(link) {
            return;
        }
        self.devices[device].link = None;
        self.devices[device].served = false;
        self.tell_device(device, ClientEvent::Disconnected);
        let in_ms = self.net_chance.between(200, 10_000);
        self.plan_dial(device, in_ms);
    }

    /// A device loses its network.
    pub fn device_goes_away(&mut self, device: usize) {
        self.devices[device].away = true;
        if let Some(link) = self.devices[device].link {
            self.break_link(link, 20_000);
        }
    }

    /// A device has its network again.
    pub fn device_comes_back(&mut self, device: usize) {
        self.devices[device].away = false;
        self.plan_dial(device, 1);
    }

    /// Bytes of its node reach a device.
    pub fn node_frame_arrives(&mut self, device: usize, bytes: Bytes) -> Result<(), Violation> {
        let frame =
            Frame::decode(bytes).map_err(|error| self.violated("frame", error.to_string()))?;
        let header: NodeFrame = codec::decode(&frame.header)
            .map_err(|error| self.violated("frame", error.to_string()))?;
        let name = self.name(Machine::Device(device));
        let link = self.devices[device].link;
        self.trace.say(self.schedule.now_ms(), || format!("{name} <- {link:?} {}", brief(&header)));
        self.tell_device(device, ClientEvent::Frame { frame: header, body: frame.body });
        Ok(())
    }

    /// Somebody who has no account, or a device that is not linked yet; and does what is needed.
    pub fn not_settled(&mut self) -> Option<String> {
        for device in 0..self.devices.len() {
            let me = &self.devices[device];
            let name = self.name(Machine::Device(device));
            let joined = me.process.as_ref().is_some_and(|process| process.core.is_joined());
            if me.served && joined {
                continue;
            }
            if me.ordinal == 1 && me.process.is_some() && !me.invited {
                self.invite(device);
            }
            let first = self.people[self.devices[device].person].devices[0];
            if self.devices[device].ordinal > 1 && self.devices[device].identity.is_none() {
                self.link_from(first, device);
            }
            return Some(name);
        }
        None
    }

    fn invite(&mut self, device: usize) {
        let secret = InviteSecret(self.people_chance.bytes());
        self.oracle.invites.insert(secret.to_hex());
        let node = self.devices[device].node;
        let token = AdminToken(device as u64);
        let command = AdminCommand::Invite { secret, uses: 1, life_ms: 86_400_000 };
        self.devices[device].invited = true;
        self.tell_node(node, Event::Admin { token, command });
        self.tell_device(device, ClientEvent::Join { invite: secret });
    }

    fn link_from(&mut self, first: usize, device: usize) {
        let now_ms = self.devices[first].clock_ms(self.now_ms());
        let ready = self.devices[first].served;
        let ordinal = self.devices[device].ordinal;
        let Some(DeviceProcess { store, core }) = &mut self.devices[first].process else { return };
        if !ready || !core.is_joined() {
            return;
        }
        let label = format!("device {ordinal}");
        let mut identity = None;
        let linked = store.batch(&mut |txn| {
            identity = core.link_device(txn, &label, now_ms)?;
            core.finish(txn)
        });
        if linked.is_ok() && identity.is_some() {
            self.devices[device].identity = identity;
            self.plan_device_step(first);
            self.schedule.plan(2_000, Action::DeviceStart { device });
        }
    }
}
