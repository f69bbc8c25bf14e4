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
    /// A drained node ends, if it has not ended since.
    End {
        /// The node.
        node: usize,
        /// [`crate::node::SimNode::boot`] when it was told.
        boot: u64,
    },
    /// A device loses its network.
    Away(usize),
    /// It has it again.
    Back(usize),
}

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
        let mut linked = None;
        for _ in 0..self.options.restores {
            linked = self.plan_restore(linked);
        }
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
        let ends = matches!(fault, FaultAction::End { .. });
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
                    self.oracle.nodes[node].restored = true;
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
        for node in 0..self.nodes.len() {
            self.nodes[node].disk.heal();
            // Its core does not know what was withheld and swallowed around it, and is not told.
            self.nodes[node].lies = false;
        }
        for device in &mut self.devices {
            device.disk.heal();
        }
        for device in 0..self.devices.len() {
            self.device_comes_back(device);
        }
    }
}
