//! What a seed expands to, in the manner of a swarm: each seed switches some faults off entirely, so
//! that no fault hides behind another one. A run prints its options before anything else.

use core::fmt;

use crate::chance::Chance;
use crate::disk::StoreKind;
use crate::sabotage::Broken;
use crate::topology::Topology;

/// How content is sealed in a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealerKind {
    /// A stub that hides nothing: fast, and the trace of a seed is always the same.
    Stub,
    /// The product's encryption, which draws randomness of its own.
    Real,
}

/// What is asked of the simulator, beside the seed.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// The seed.
    pub seed: u64,
    /// The store of every machine.
    pub store: StoreKind,
    /// The sealer of every device.
    pub sealer: SealerKind,
    /// A rule that is broken on purpose.
    pub broken: Option<Broken>,
    /// Keep lines for people.
    pub trace: bool,
}

impl Request {
    /// The plain request for a seed.
    #[must_use]
    pub const fn of(seed: u64) -> Self {
        let (store, sealer) = (StoreKind::Mem, SealerKind::Stub);
        Self { seed, store, sealer, broken: None, trace: false }
    }

    /// The one command that replays this run.
    #[must_use]
    pub fn command(&self) -> String {
        let mut out = format!("cargo sim --seed {}", self.seed);
        if self.store == StoreKind::Redb {
            out.push_str(" --store redb");
        }
        if self.sealer == SealerKind::Real {
            out.push_str(" --sealer real");
        }
        if let Some(broken) = self.broken {
            out.push_str(" --broken ");
            out.push_str(broken.name());
        }
        out
    }
}

/// The world of a seed and its faults. Chances are per mille.
#[derive(Clone, Debug)]
pub struct Options {
    /// Nodes, 2 to 5.
    pub nodes: usize,
    /// People in the whole world.
    pub people: usize,
    /// Chance that a person has one more device, up to three.
    pub more_devices: u64,
    /// Messages in the safety phase.
    pub messages: u64,
    /// Length of the safety phase.
    pub safety_ms: u64,
    /// One-way delay of a frame: at least, at most.
    pub delay_ms: (u64, u64),
    /// Events of one batch at most.
    pub batch_max: u64,
    /// Time of a commit at most.
    pub commit_ms_max: u64,
    /// Peers know each other's addresses from the start, as if an admin had configured them.
    pub pinned: bool,
    /// Chance that a look-up in the DHT finds nothing.
    pub lookup_fails: u64,
    /// Chance of a crash at each commit boundary, of nodes.
    pub boundary_crash: u64,
    /// The same, of devices.
    pub device_boundary_crash: u64,
    /// Crashes at random times.
    pub crashes: u64,
    /// Partitions between two machines or of one from all.
    pub partitions: u64,
    /// Some partitions block one direction only.
    pub one_way: bool,
    /// Chance per 10,000 that a frame is lost, which breaks its link.
    pub frame_loss: u64,
    /// One machine is put back to an older image.
    pub restore: Restore,
    /// Commits that fail for want of space.
    pub disk_full: u64,
    /// Commits whose sync fails.
    pub sync_errors: u64,
    /// Clocks are off by at most so much.
    pub clock_offset_ms_max: u64,
    /// Chance that an old frame is sent once more behind a frame between two nodes.
    pub replays: u64,
    /// The last node lies to its peers.
    pub liar: bool,
    /// If the last node lies, it answers nothing that it was sent.
    pub mute: bool,
    /// If the last node lies, it also sends late, says "delivered" of what it drops, and sends more
    /// than anybody may.
    pub artful: bool,
    /// Devices go away and return.
    pub absences: u64,
    /// A node gets a new transport key at each start.
    pub rotate_transports: bool,
    /// How long a machine stays down at most.
    pub down_ms_max: u64,
    /// Messages live for four minutes only, so that some expire.
    pub short_life: bool,
    /// Rows of one inbox at most.
    pub device_rows_max: u64,
    /// How many machines are put back, one after the other, where `restore` says so at all.
    pub restores: u64,
    /// Nodes that are told to end, and do so in order.
    pub drains: u64,
    /// Times at which a node's disk fills up, and has room again later.
    pub full_spans: u64,
    /// Times at which a node's clock is set wrong by more than ten minutes, and right again later.
    pub clock_spans: u64,
    /// Administrators ask each node now and then, and every event and effect is looked at as a log
    /// would print it.
    pub watched: bool,
    /// Every node has all others as its custodians.
    pub custody: bool,
    /// Envelopes that a custodian holds at most for one node.
    pub custody_rows: u64,
    /// So many of the last nodes say that they hold what they drop, for ever.
    pub hoarders: usize,
    /// Nodes that go away for long.
    pub node_absences: u64,
    /// At some time the first two nodes lose each other, and never meet again.
    pub severed: bool,
    /// A node may have a new sealing key after a start.
    pub rotate_sealing: bool,
    /// Who is whose neighbour.
    pub topology: Topology,
    /// Nobody can dial the first node.
    pub hidden: bool,
}

/// Whose store is silently put back to an older image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restore {
    /// Nobody's.
    None,
    /// A node's.
    Node,
    /// A device's.
    Device,
}

impl Options {
    /// What the seed expands to.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut chance = Chance::new(seed, "options");
        let chance = &mut chance;
        let nodes = *chance.pick(&[2, 2, 2, 2, 3, 3, 4, 5]);
        let people = nodes + chance.index(3);
        let slow = chance.happens(200);
        // Faults that came later have seeds of their own, so that those which once failed stay the
        // worlds that they were.
        let is_late = seed % 8 == 7;
        let mut options = Self {
            nodes,
            people,
            more_devices: *chance.pick(&[0, 0, 300, 600]),
            messages: chance.between(4, 24),
            safety_ms: chance.between(60_000, 900_000),
            delay_ms: if slow { (20, 3_000) } else { (1, chance.between(2, 150)) },
            batch_max: *chance.pick(&[1, 2, 8, 32]),
            commit_ms_max: *chance.pick(&[0, 2, 20]),
            pinned: chance.happens(500),
            lookup_fails: *chance.pick(&[0, 0, 200, 600]),
            boundary_crash: *chance.pick(&[0, 0, 5, 20, 40]),
            device_boundary_crash: *chance.pick(&[0, 0, 5, 20, 40]),
            crashes: *chance.pick(&[0, 0, 2, 6]),
            partitions: *chance.pick(&[0, 0, 2, 6]),
            one_way: chance.happens(500),
            frame_loss: *chance.pick(&[0, 0, 20, 100]),
            restore: *chance.pick(&[
                Restore::None,
                Restore::None,
                Restore::None,
                Restore::Node,
                Restore::Node,
                Restore::Device,
            ]),
            disk_full: *chance.pick(&[0, 0, 0, 2]),
            sync_errors: *chance.pick(&[0, 0, 0, 2]),
            clock_offset_ms_max: *chance.pick(&[0, 0, 1_000, 290_000]),
            replays: *chance.pick(&[0, 0, 0, 20]),
            liar: chance.happens(200),
            absences: *chance.pick(&[0, 0, 2, 5]),
            rotate_transports: chance.happens(200),
            down_ms_max: *chance.pick(&[1_000, 30_000, 300_000]),
            short_life: chance.happens(100),
            device_rows_max: *chance.pick(&[100_000, 100_000, 3]),
            restores: *chance.pick(&[1, 1, 1, 2]),
            drains: *chance.pick(&[0, 0, 0, 2]),
            mute: chance.happens(250),
            artful: false,
            full_spans: if is_late { *chance.pick(&[0, 2]) } else { 0 },
            clock_spans: if is_late { *chance.pick(&[0, 1, 2]) } else { 0 },
            watched: is_late,
            custody: false,
            custody_rows: 0,
            hoarders: 0,
            node_absences: 0,
            severed: false,
            rotate_sealing: false,
            topology: Topology::Whole,
            hidden: false,
        };
        if matches!(seed % 16, 6 | 9 | 10 | 11) {
            options.add_custody(chance);
        }
        // Like custodians: in seeds of their own, and in some with custodians.
        options.artful = options.liar && matches!(seed % 16, 2 | 5 | 10 | 11);
        match seed % 32 {
            14 => options.add_routes(chance),
            24 => {
                options.add_custody(chance);
                options.hidden = true;
            }
            _ => {}
        }
        options
    }

    /// A world of custodians: three nodes or more, some of which are away for long.
    fn add_custody(&mut self, chance: &mut Chance) {
        self.custody = true;
        self.nodes = self.nodes.max(*chance.pick(&[3, 3, 4, 5]));
        self.people = self.people.max(2);
        self.safety_ms = self.safety_ms.max(300_000);
        self.node_absences = chance.between(1, 3);
        self.severed = chance.happens(400);
        if self.severed {
            // Else a message may need what only the other node has: a new list, a new bundle. The
            // liar is the last node, and a custodian has to be honest.
            (self.restore, self.short_life) = (Restore::None, false);
            self.liar &= self.nodes > 3;
        }
        let honest = if self.severed { 3 } else { 2 };
        self.hoarders = chance.index(self.nodes - honest + 1);
        self.custody_rows = if self.severed { 1_000 } else { *chance.pick(&[1_000, 1_000, 2]) };
        self.rotate_sealing = chance.happens(300);
    }
}

impl Options {
    /// A world in which most are reached through others.
    fn add_routes(&mut self, chance: &mut Chance) {
        self.topology = *chance.pick(&[Topology::Star, Topology::Chain, Topology::Circle]);
        self.nodes = match self.topology {
            Topology::Whole | Topology::Star | Topology::Chain => *chance.pick(&[3, 3, 4, 5]),
            Topology::Circle => *chance.pick(&[4, 5]),
        };
        self.people = self.people.max(self.nodes);
        self.safety_ms = self.safety_ms.max(300_000);
        self.custody_rows = *chance.pick(&[1_000, 1_000, 3]);
        self.node_absences = chance.index(3) as u64;
    }

    fn routes_text(&self) -> String {
        let hidden = if self.hidden { "; nobody can dial the first node" } else { "" };
        match self.topology {
            Topology::Whole => hidden.to_owned(),
            routed => format!("; {routed:?}, gateways of {}{hidden}", self.custody_rows),
        }
    }

    fn custody_text(&self) -> String {
        if !self.custody {
            return String::new();
        }
        let severed = if self.severed { ", the first two nodes lose each other" } else { "" };
        let rotated = if self.rotate_sealing { ", sealing keys are replaced" } else { "" };
        let (rows, hoarders, absences) = (self.custody_rows, self.hoarders, self.node_absences);
        format!(
            "; custodians of {rows}, {hoarders} that hold nothing, {absences} long absences{severed}{rotated}"
        )
    }
}

impl fmt::Display for Options {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on = |flag: bool, name: &'static str| if flag { name } else { "" };
        write!(
            out,
            "{} nodes, {} people, {} messages in {} s, delay {}-{} ms, batch {}, commit {} ms; \
             crash {}‰ at a node's commit, {}‰ at a device's, {} at random; {} partitions{}; \
             {} lost of 10000 frames; restore {:?} ×{}; {} drains; {} full disks, {} failed syncs; \
             {} times full, {} times a wrong clock; \
             clocks ±{} ms; replays {}‰; {} absences; inboxes of {}; lookups fail {}‰{}{}{}{}{}{}{}{}{}",
            self.nodes,
            self.people,
            self.messages,
            self.safety_ms / 1_000,
            self.delay_ms.0,
            self.delay_ms.1,
            self.batch_max,
            self.commit_ms_max,
            self.boundary_crash,
            self.device_boundary_crash,
            self.crashes,
            self.partitions,
            on(self.one_way, " (some one-way)"),
            self.frame_loss,
            self.restore,
            self.restores,
            self.drains,
            self.disk_full,
            self.sync_errors,
            self.full_spans,
            self.clock_spans,
            self.clock_offset_ms_max,
            self.replays,
            self.absences,
            self.device_rows_max,
            self.lookup_fails,
            on(self.pinned, "; pinned peers"),
            on(self.liar, "; a lying peer"),
            on(self.liar && self.mute, " that answers nothing"),
            on(self.artful, ", of the worse kind"),
            on(self.rotate_transports, "; transports rotate"),
            on(self.short_life, "; short lives"),
            on(self.watched, "; watched"),
            self.custody_text(),
            self.routes_text(),
        )
    }
}
