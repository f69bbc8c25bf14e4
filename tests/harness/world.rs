//! A whole federation on one thread: who is there, what is planned, and the loop that makes it
//! happen. What each kind of machine does stands in `node_steps.rs` and `device_steps.rs`, links in
//! `links.rs`, faults in `faults.rs`, people in `people.rs`, what must hold in `oracle.rs`.

use bytes::Bytes;
use tidings_core::{
    event::Event,
    settings::{CustodyTerms, Settings},
};
use tidings_protocol::{
    descriptor::{Descriptor, Transport},
    id::NodeId,
    limits,
};

use crate::chance::Chance;
use crate::device::SimDevice;
use crate::directory::Directory;
use crate::faults::FaultAction;
use crate::network::{Machine, Network, Side};
use crate::node::SimNode;
use crate::options::{Options, Request};
use crate::oracle::{Oracle, Violation};
use crate::people::{Act, Person};
use crate::sabotage::Broken;
use crate::schedule::Schedule;
use crate::trace::Trace;

/// True time at which every world begins, in Unix ms.
pub const EPOCH_MS: u64 = 1_800_000_000_000;
/// The setup takes no longer than this, without faults.
const SETUP_MS_MAX: u64 = 10 * 60_000;
/// Three times the longest back-off of nodes and devices, which is an hour, and some.
pub const HEALING_MS_MAX: u64 = 4 * 3_600_000;
/// How often the healed world is asked whether it is done.
const QUIET_CHECK_MS: u64 = 10_000;
/// Rest that must last: devices hold messages back for five seconds when earlier ones are missing, and
/// ask again after a minute for a bundle that was not to be had.
const SETTLED_MS: u64 = 200_000;
/// A world in which more than this happens does not come to rest; most need a few thousand.
const ACTIONS_MAX: u64 = 250_000;

/// One thing that is planned.
#[derive(Debug)]
pub(crate) enum Action {
    /// A batch of a node.
    NodeStep { node: usize, boot: u64 },
    /// A node's deadline.
    NodeTimer { node: usize, boot: u64, at_ms: u64 },
    /// A node starts.
    NodeStart { node: usize },
    /// A batch of a device.
    DeviceStep { device: usize, boot: u64 },
    /// A device's deadline.
    DeviceTimer { device: usize, boot: u64, at_ms: u64 },
    /// A device starts.
    DeviceStart { device: usize },
    /// A device tries to reach its node.
    DeviceDial { device: usize, boot: u64 },
    /// Bytes reach the other side of a link.
    Arrive { link: u64, from: Side, bytes: Bytes },
    /// A liar sends what it had kept back.
    Late { node: usize, boot: u64, link: u64, lane: usize, bytes: Bytes },
    /// A side learns that its link is gone.
    LinkClosed { link: u64, side: Side },
    /// A dial of a node ends, well or not.
    DialDone { node: usize, boot: u64, target: NodeId, transports: Vec<Transport> },
    /// A look-up ends.
    Found { node: usize, boot: u64, target: NodeId },
    /// A descriptor reaches the DHT.
    Published { node: NodeId, descriptor: Box<Descriptor> },
    /// Somebody does something.
    Person(Act),
    /// Something breaks.
    Fault(FaultAction),
}

/// The federation.
pub struct World {
    /// What was asked for.
    pub request: Request,
    /// What the seed expands to.
    pub options: Options,
    /// What is to come.
    pub(crate) schedule: Schedule<Action>,
    /// Links.
    pub net: Network,
    /// The DHT.
    pub directory: Directory,
    /// Nodes.
    pub nodes: Vec<SimNode>,
    /// Devices.
    pub devices: Vec<SimDevice>,
    /// Owners of the devices.
    pub people: Vec<Person>,
    /// What must hold.
    pub oracle: Oracle,
    /// What happened.
    pub trace: Trace,
    /// Faults happen.
    pub faults_on: bool,
    /// When the faults stopped; 0 before.
    pub healed_at_ms: u64,
    /// How much has happened.
    pub actions: u64,
    /// What people are still going to do.
    pub acts_planned: u64,
    /// Chance of links.
    pub net_chance: Chance,
    /// Chance of faults.
    pub fault_chance: Chance,
    /// Chance of lies and replays.
    pub lie_chance: Chance,
    /// Chance of liars of the worse kind.
    pub artful_chance: Chance,
    /// Chance of people.
    pub people_chance: Chance,
}

/// Each node names all others, beginning with the last ones: if somebody lies, it is they. Two that
/// lose each other for ever do not: the one would hold until the end what the other has had long ago.
fn appoint_all(nodes: &mut [SimNode], severed: bool) {
    let ids: Vec<NodeId> = nodes.iter().map(|node| node.id).collect();
    for (ix, node) in nodes.iter_mut().enumerate() {
        let is_lost = |other: usize| other == ix || (severed && ix < 2 && other < 2);
        let others = ids.iter().enumerate().rev().filter(|(other, _)| !is_lost(*other));
        let others = others.map(|(_, id)| id);
        node.appoint(others.take(limits::CUSTODIANS_MAX).copied().collect());
    }
}

impl World {
    /// The world of a seed, before anything happens.
    #[must_use]
    pub fn new(request: Request) -> Self {
        let seed = request.seed;
        let options = Options::of(seed);
        let mut chance = Chance::new(seed, "world");
        let max = options.clock_offset_ms_max;
        let mut offset = || i64::try_from(chance.below(2 * max + 1)).unwrap_or(0) - max as i64;
        let mut nodes: Vec<SimNode> =
            (0..options.nodes).map(|ix| SimNode::new(seed, ix, request.store, offset())).collect();
        if options.custody {
            appoint_all(&mut nodes, options.severed);
        }
        let options_nodes = options.nodes;
        let (people, devices) = crate::people::settle(&request, &options, offset);
        Self {
            request,
            options,
            schedule: Schedule::new(EPOCH_MS),
            net: Network::default(),
            directory: Directory::default(),
            nodes,
            devices,
            people,
            oracle: Oracle::new(options_nodes),
            trace: Trace::new(request.trace),
            faults_on: false,
            healed_at_ms: 0,
            actions: 0,
            acts_planned: 0,
            net_chance: Chance::new(seed, "network"),
            fault_chance: Chance::new(seed, "faults"),
            lie_chance: Chance::new(seed, "lies"),
            artful_chance: Chance::new(seed, "worse lies"),
            people_chance: Chance::new(seed, "people"),
        }
    }

    /// Setup, the phase of faults, and the healed phase in which all must end.
    ///
    /// # Errors
    /// The first rule that did not hold.
    pub fn live(&mut self) -> Result<(), Violation> {
        self.set_up()?;
        self.faults_on = true;
        self.plan_faults();
        self.plan_messages();
        let end_ms = self.now_ms() + self.options.safety_ms;
        self.run_until(end_ms)?;
        self.heal();
        self.healed_at_ms = self.now_ms();
        let mut quiet_ms = 0;
        let deadline_ms = self.now_ms() + HEALING_MS_MAX;
        loop {
            let pause_ms = self.now_ms() + QUIET_CHECK_MS;
            self.run_until(pause_ms)?;
            match self.unfinished() {
                None if quiet_ms >= SETTLED_MS => break,
                None => quiet_ms += QUIET_CHECK_MS,
                Some((id, what)) if self.now_ms() >= deadline_ms => {
                    return Err(self.violated(id, what));
                }
                Some(_) => quiet_ms = 0,
            }
        }
        self.check_end()
    }

    /// Starts everything and lets everybody join, without faults.
    fn set_up(&mut self) -> Result<(), Violation> {
        for node in 0..self.nodes.len() {
            self.start_node(node)?;
        }
        let ready_ms = self.now_ms() + 2_000;
        self.run_until(ready_ms)?;
        for device in 0..self.devices.len() {
            self.start_device(device)?;
        }
        let deadline_ms = self.now_ms() + SETUP_MS_MAX;
        while let Some(who) = self.not_settled() {
            if self.now_ms() >= deadline_ms {
                return Err(self.violated("setup", format!("{who} is not settled")));
            }
            let pause_ms = self.now_ms() + 1_000;
            self.run_until(pause_ms)?;
        }
        Ok(())
    }

    /// True time, in Unix ms.
    #[must_use]
    pub const fn now_ms(&self) -> u64 {
        self.schedule.now_ms()
    }

    /// Makes happen what is planned up to this time.
    pub fn run_until(&mut self, until_ms: u64) -> Result<(), Violation> {
        while let Some(action) = self.schedule.next_until(until_ms) {
            self.actions += 1;
            if self.actions > ACTIONS_MAX {
                let what = format!("the world does not come to rest: {action:?}");
                return Err(self.violated("rest", what.chars().take(200).collect()));
            }
            self.act(action)?;
        }
        Ok(())
    }

    fn act(&mut self, action: Action) -> Result<(), Violation> {
        match action {
            Action::NodeStep { node, boot } if self.nodes[node].boot == boot => {
                self.step_node(node)
            }
            Action::NodeTimer { node, boot, at_ms } if self.nodes[node].boot == boot => {
                if self.nodes[node].timer_at_ms == Some(at_ms) {
                    self.nodes[node].timer_at_ms = None;
                    self.tell_node(node, Event::Tick);
                }
                Ok(())
            }
            Action::NodeStart { node } => self.start_node(node),
            Action::DeviceStep { device, boot } if self.devices[device].boot == boot => {
                self.step_device(device)
            }
            Action::DeviceTimer { device, boot, at_ms } if self.devices[device].boot == boot => {
                self.device_timer(device, at_ms);
                Ok(())
            }
            Action::DeviceStart { device } => self.start_device(device),
            Action::DeviceDial { device, boot } if self.devices[device].boot == boot => {
                self.device_dials(device);
                Ok(())
            }
            Action::Arrive { link, from, bytes } => self.arrive(link, from, bytes),
            Action::Late { node, boot, link, lane, bytes } if self.nodes[node].boot == boot => {
                self.node_sends(node, link, lane, bytes);
                Ok(())
            }
            Action::LinkClosed { link, side } => {
                self.link_closed(link, side);
                Ok(())
            }
            Action::DialDone { node, boot, target, transports }
                if self.nodes[node].boot == boot =>
            {
                self.dial_done(node, target, &transports);
                Ok(())
            }
            Action::Found { node, boot, target } if self.nodes[node].boot == boot => {
                self.found(node, target);
                Ok(())
            }
            Action::Published { node, descriptor } => {
                self.directory.publish(node, *descriptor);
                Ok(())
            }
            Action::Person(act) => {
                self.person_acts(act);
                Ok(())
            }
            Action::Fault(fault) => {
                self.fault_happens(fault);
                Ok(())
            }
            // Planned for a process that is gone.
            Action::NodeStep { .. }
            | Action::NodeTimer { .. }
            | Action::DeviceStep { .. }
            | Action::DeviceTimer { .. }
            | Action::DeviceDial { .. }
            | Action::DialDone { .. }
            | Action::Late { .. }
            | Action::Found { .. } => Ok(()),
        }
    }

    /// A violation, now.
    #[must_use]
    pub fn violated(&self, id: &'static str, what: String) -> Violation {
        Violation { id, what, at_ms: self.now_ms() - EPOCH_MS }
    }

    /// What a node's core is told at its start.
    #[must_use]
    pub fn node_settings(&self, node: usize) -> Settings {
        let me = &self.nodes[node];
        let mut settings =
            Settings::new(me.operational.clone(), me.sealing.clone(), me.delegation.clone());
        settings.device_rows_max = self.options.device_rows_max;
        if self.options.pinned {
            let others = self.nodes.iter().filter(|other| other.id != me.id);
            settings.pinned = others.map(|other| (other.id, vec![other.transport()])).collect();
        }
        if self.options.custody {
            let others = self.nodes.iter().filter(|other| other.id != me.id);
            let terms = |other: &SimNode| CustodyTerms {
                node: other.id,
                rows: self.options.custody_rows,
                bytes: u64::MAX,
                life_ms: limits::MESSAGE_LIFE_MS_MAX,
                users: 1_000,
            };
            settings.custody = others.map(terms).collect();
        }
        settings.sabotage = self.request.broken.and_then(Broken::of_core);
        settings
    }

    /// A machine's name for people.
    #[must_use]
    pub fn name(&self, machine: Machine) -> String {
        const NODES: [&str; 5] = ["acme", "globex", "initech", "hooli", "umbrella"];
        match machine {
            Machine::Node(ix) => NODES[ix % NODES.len()].to_owned(),
            Machine::Device(ix) => {
                let device = &self.devices[ix];
                format!("{}/{}", self.people[device.person].name.as_str(), device.ordinal)
            }
        }
    }
}
