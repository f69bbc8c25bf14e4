//! What breaks, when, and how it is mended before the healed phase. Commit boundaries crash in the
//! machines' own loops; see `node_steps.rs`.

use tidings_core::event::Event;

use crate::disk::CommitFault;
use crate::network::Machine;
use crate::options::Restore;
use crate::world::{Action, World};

/// Something that breaks, or is mended.
#[derive(Clone, Copy, Debug)]
pub enum FaultAction {
    /// A machine loses power.
    Crash(Machine),
    /// Nothing passes in this direction any more.
    Cut(Machine, Machine),
    /// It passes again.
    Mend(Machine, Machine),
    /// The disk of a machine is copied.
    TakeImage(Machine),
    /// The copy is put back, silently, with power off and on.
    Restore(Machine),
    /// The next commit of a machine fails so.
    Disk(Machine, CommitFault),
    /// A node is told to end, and ends a little later.
    Drain(usize),
    /// A node loses power and stays away for so long, in ms.
    Absence {
        /// The node.
        node: usize,
        /// How long.
        for_ms: u64,
    },
    /// The first two nodes never meet again.
    Sever,
    /// The routes of the last node lead in a circle from now on, or are right again.
    Circle {
        /// Which.
        is_closed: bool,
    },
    /// A drained node ends, if it has not ended since.
    End {
        /// The node.
        node: usize,
        /// [`crate::node::SimNode::boot`] when it was told.
        boot: u64,
    },
    /// The free space of a node's disk, of a hundred bytes, as its shell reports it.
    Space {
        /// The node.
        node: usize,
        /// Bytes free.
        free: u64,
    },
    /// Administrators ask a node.
    Ask(usize),
    /// A node's clock is set.
    Clock {
        /// The node.
        node: usize,
        /// Own clock minus true time from now on, in ms; absent for what it usually is.
        offset_ms: Option<i64>,
    },
    /// A device loses its network.
    Away(usize),
    /// It has it again.
    Back(usize),
}

/// Free bytes of a hundred on a disk that has room.
const ROOM_BYTES: u64 = 50;
/// How far a clock that is set wrong is off: more than any honest envelope may be, up to two hours.
pub const WRONG_CLOCK_MS: (u64, u64) = (11 * 60_000, 2 * 3_600_000);

impl World {
    /// Draws all faults that happen at random times.
    pub fn plan_faults(&mut self) {
        let safety_ms = self.options.safety_ms;
        if let Some(last) = self.nodes.last_mut() {
            last.lies = self.options.liar;
        }
        for _ in 0..self.options.crashes {
            let fault = FaultAction::Crash(self.some_machine());
            self.plan_fault(safety_ms, fault);
        }
        for _ in 0..self.options.partitions {
            self.plan_partition();
        }
        for _ in 0..self.options.disk_full {
            let fault = FaultAction::Disk(self.some_machine(), CommitFault::Full);
            self.plan_fault(safety_ms, fault);
        }
        for _ in 0..self.options.sync_errors {
            let durable = self.fault_chance.happens(500);
            let fault = FaultAction::Disk(self.some_machine(), CommitFault::Sync { durable });
            self.plan_fault(safety_ms, fault);
        }
        for _ in 0..self.options.absences {
            let device = self.fault_chance.index(self.devices.len());
            let away_ms = self.fault_chance.below(safety_ms);
            let for_ms = self.fault_chance.between(1_000, safety_ms);
            self.schedule.plan(away_ms, Action::Fault(FaultAction::Away(device)));
            self.schedule.plan(away_ms + for_ms, Action::Fault(FaultAction::Back(device)));
        }
        for _ in 0..self.options.drains {
            let fault = FaultAction::Drain(self.fault_chance.index(self.nodes.len()));
            self.plan_fault(safety_ms, fault);
        }
        self.plan_absences();
        let mut linked = None;
        for _ in 0..self.options.restores {
            linked = self.plan_restore(linked);
        }
        for _ in 0..self.options.full_spans {
            let node = self.fault_chance.index(self.nodes.len());
            // Below five the door is closed to devices, below ten to peers.
            let free = self.fault_chance.below(10);
            let (full, room) =
                (FaultAction::Space { node, free }, FaultAction::Space { node, free: ROOM_BYTES });
            self.plan_span(full, room);
        }
        for node in 0..if self.options.watched { self.nodes.len() } else { 0 } {
            self.plan_fault(safety_ms, FaultAction::Ask(node));
        }
        for _ in 0..self.options.clock_spans {
            let node = self.fault_chance.index(self.nodes.len());
            let off_ms = self.fault_chance.between(WRONG_CLOCK_MS.0, WRONG_CLOCK_MS.1);
            let off_ms = i64::try_from(off_ms).unwrap_or(0);
            let offset_ms = Some(if self.fault_chance.happens(500) { off_ms } else { -off_ms });
            let right = FaultAction::Clock { node, offset_ms: None };
            self.plan_span(FaultAction::Clock { node, offset_ms }, right);
        }
        self.plan_circle();
    }

    /// Nodes that go away for long, and two that lose each other after they have met.
    fn plan_absences(&mut self) {
        let safety_ms = self.options.safety_ms;
        for _ in 0..self.options.node_absences {
            let node = self.fault_chance.index(self.nodes.len());
            let for_ms = self.fault_chance.between(30_000, safety_ms);
            self.plan_fault(safety_ms, FaultAction::Absence { node, for_ms });
        }
        if self.options.severed {
            let in_ms = self.fault_chance.between(safety_ms / 4, safety_ms / 2);
            self.schedule.plan(in_ms, Action::Fault(FaultAction::Sever));
        }
    }

    fn sever(&mut self) {
        let (one, other) = (Machine::Node(0), Machine::Node(1));
        self.net.severed.extend([(one, other), (other, one)]);
        for (link, side) in self.net.links_of(one) {
            if self.net.links[&link].ends[1 - side] == other {
                self.break_link(link, 1_000);
            }
        }
    }

    /// A node is gone, and comes back after so long.
    fn stop_node(&mut self, node: usize, for_ms: u64) {
        if self.nodes[node].process.is_some() {
            self.nodes[node].start_planned = true;
            self.schedule.plan(for_ms, Action::NodeStart { node });
            self.kill_node(node);
        }
    }

    /// Something begins at a random time and ends at a later one, if the world has not healed before.
    fn plan_span(&mut self, begin: FaultAction, end: FaultAction) {
        let begin_ms = self.fault_chance.below(self.options.safety_ms);
        let for_ms = self.fault_chance.between(1_000, self.options.safety_ms);
        self.schedule.plan(begin_ms, Action::Fault(begin));
        self.schedule.plan(begin_ms + for_ms, Action::Fault(end));
    }

    /// Says which device it was, if it is one that was linked: only the account's key puts a device in
    /// its place a second time, so a linked one may be put back once.
    fn plan_restore(&mut self, before: Option<usize>) -> Option<usize> {
        let restored = match self.options.restore {
            Restore::None => return None,
            Restore::Node => Machine::Node(self.fault_chance.index(self.nodes.len())),
            Restore::Device => {
                let device = self.fault_chance.index(self.devices.len());
                let first = self.people[self.devices[device].person].devices[0];
                Machine::Device(if before == Some(device) { first } else { device })
            }
        };
        let safety_ms = self.options.safety_ms;
        let image_ms = self.fault_chance.below(safety_ms * 2 / 3);
        let restore_ms = self.fault_chance.between(image_ms, safety_ms);
        self.schedule.plan(image_ms, Action::Fault(FaultAction::TakeImage(restored)));
        self.schedule.plan(restore_ms, Action::Fault(FaultAction::Restore(restored)));
        match restored {
            Machine::Device(device) if self.devices[device].ordinal > 1 => Some(device),
            Machine::Device(_) | Machine::Node(_) => None,
        }
    }

    fn plan_fault(&mut self, within_ms: u64, fault: FaultAction) {
        let in_ms = self.fault_chance.below(within_ms);
        self.schedule.plan(in_ms, Action::Fault(fault));
    }

    fn some_machine(&mut self) -> Machine {
        if self.fault_chance.happens(600) {
            Machine::Node(self.fault_chance.index(self.nodes.len()))
        } else {
            Machine::Device(self.fault_chance.index(self.devices.len()))
        }
    }

    /// One machine from all, or two nodes from each other; both ways or one.
    fn plan_partition(&mut self) {
        let begin_ms = self.fault_chance.below(self.options.safety_ms);
        let for_ms = self.fault_chance.between(500, self.options.safety_ms / 2);
        let one = self.some_machine();
        let others: Vec<Machine> = if self.fault_chance.happens(500) {
            self.machines().into_iter().filter(|other| *other != one).collect()
        } else {
            vec![Machine::Node(self.fault_chance.index(self.nodes.len()))]
        };
        let (there, back) = match self.fault_chance.below(4) {
            0 if self.options.one_way => (true, false),
            1 if self.options.one_way => (false, true),
            _ => (true, true),
        };
        for other in others {
            for (from, to, cut) in [(one, other, there), (other, one, back)] {
                if cut && from != to {
                    let begin = Action::Fault(FaultAction::Cut(from, to));
                    self.schedule.plan(begin_ms, begin);
                    let end = Action::Fault(FaultAction::Mend(from, to));
                    self.schedule.plan(begin_ms + for_ms, end);
                }
            }
        }
    }

    /// Every machine.
    #[must_use]
    pub fn machines(&self) -> Vec<Machine> {
        let nodes = (0..self.nodes.len()).map(Machine::Node);
        nodes.chain((0..self.devices.len()).map(Machine::Device)).collect()
    }

    /// A fault happens, unless the world has healed meanwhile. What was drained ends all the same.
    pub fn fault_happens(&mut self, fault: FaultAction) {
        let ends =
            matches!(fault, FaultAction::End { .. } | FaultAction::Circle { is_closed: false });
        if !self.faults_on && !ends {
            return;
        }
        let now_ms = self.now_ms();
        self.trace.say(now_ms, || format!("fault: {fault:?}"));
        match fault {
            FaultAction::Crash(machine) => self.kill(machine),
            FaultAction::Cut(from, to) => {
                self.net.cuts.insert((from, to));
            }
            FaultAction::Mend(from, to) => {
                self.net.cuts.remove(&(from, to));
            }
            FaultAction::TakeImage(Machine::Node(node)) => {
                self.nodes[node].image = Some(self.nodes[node].disk.image());
            }
            FaultAction::TakeImage(Machine::Device(device)) => {
                self.devices[device].image = Some(self.devices[device].disk.image());
            }
            FaultAction::Restore(machine) => self.restore(machine),
            FaultAction::Disk(Machine::Node(node), fault) => self.nodes[node].disk.fail_next(fault),
            FaultAction::Disk(Machine::Device(device), fault) => {
                self.devices[device].disk.fail_next(fault);
            }
            FaultAction::Absence { node, for_ms } => self.stop_node(node, for_ms),
            FaultAction::Sever => self.sever(),
            FaultAction::Circle { is_closed } => self.turn_back(is_closed),
            FaultAction::Drain(node) => {
                let end = FaultAction::End { node, boot: self.nodes[node].boot };
                self.tell_node(node, Event::Drain);
                let in_ms = self.fault_chance.between(50, 2_000);
                self.schedule.plan(in_ms, Action::Fault(end));
            }
            FaultAction::End { node, boot } => {
                if self.nodes[node].boot == boot {
                    self.kill_node(node);
                }
            }
            FaultAction::Space { node, free } => {
                self.tell_node(node, Event::Disk { free, size: 100 });
            }
            FaultAction::Ask(node) => self.ask_node(node),
            FaultAction::Clock { node, offset_ms } => self.set_clock(node, offset_ms),
            FaultAction::Away(device) => self.device_goes_away(device),
            FaultAction::Back(device) => self.device_comes_back(device),
        }
    }

    fn restore(&mut self, machine: Machine) {
        self.kill(machine);
        match machine {
            Machine::Node(node) => {
                if let Some(image) = &self.nodes[node].image {
                    self.nodes[node].disk.restore(image);
                    self.oracle.node_restored(node);
                }
            }
            Machine::Device(device) => {
                if let Some(image) = &self.devices[device].image {
                    self.devices[device].disk.restore(image);
                    self.oracle.device_restored(device);
                }
            }
        }
    }

    fn set_clock(&mut self, node: usize, offset_ms: Option<i64>) {
        let me = &mut self.nodes[node];
        me.offset_ms = offset_ms.unwrap_or(me.usual_offset_ms);
        // What was planned by the clock as it was is void.
        me.timer_at_ms = None;
        self.tell_node(node, Event::Tick);
    }

    fn kill(&mut self, machine: Machine) {
        match machine {
            Machine::Node(node) => self.kill_node(node),
            Machine::Device(device) => self.kill_device(device),
        }
    }

    /// No more faults: everything passes, everybody starts and is honest.
    pub fn heal(&mut self) {
        let now_ms = self.now_ms();
        self.trace.say(now_ms, || "healed".to_owned());
        self.faults_on = false;
        self.net.cuts.clear();
        self.turn_back(false);
        for node in 0..self.nodes.len() {
            self.nodes[node].disk.heal();
            // Its core does not know what was withheld and swallowed around it, and is not told.
            self.nodes[node].lies = false;
            if self.options.full_spans > 0 {
                self.tell_node(node, Event::Disk { free: ROOM_BYTES, size: 100 });
            }
            if self.options.clock_spans > 0 {
                self.set_clock(node, None);
            }
        }
        for device in &mut self.devices {
            device.disk.heal();
        }
        for device in 0..self.devices.len() {
            self.device_comes_back(device);
        }
    }
}
