//! Links between simulated machines: ordered, reliable until they break, then gone. A lost frame is
//! a broken link; duplicates and old frames exist only across links. Reads no frame.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tidings_protocol::id::SubmitId;

/// One end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Machine {
    /// A node, by number.
    Node(usize),
    /// A device, by number.
    Device(usize),
}

impl Machine {
    /// A number that differs for each machine.
    #[must_use]
    pub const fn number(self) -> u64 {
        match self {
            Self::Node(ix) => ix as u64,
            Self::Device(ix) => 1_000 + ix as u64,
        }
    }
}

/// A side of a link: 0 opened it, 1 was called.
pub type Side = usize;

/// A link.
#[derive(Clone, Debug)]
pub struct Link {
    /// Who is at each side.
    pub ends: [Machine; 2],
    /// Whether each side still believes in it.
    pub open: [bool; 2],
    /// Whether frames sent by each side are lost from now on.
    pub deaf: [bool; 2],
    /// When the last frame sent by each side arrives, for each of the two lanes of a peer link:
    /// control and bulk keep no order between them.
    pub clear_at_ms: [[u64; 2]; 2],
    /// Breaking was planned already.
    pub breaking: bool,
}

/// All links, and which directions are cut.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// Links that at least one side believes in.
    pub links: BTreeMap<u64, Link>,
    /// Directions in which nothing passes.
    pub cuts: BTreeSet<(Machine, Machine)>,
    /// Directions in which nothing will ever pass again.
    pub severed: BTreeSet<(Machine, Machine)>,
    next_link: u64,
    /// Frames that once went from one node to another.
    pub recorded: BTreeMap<(usize, usize), Vec<Bytes>>,
    /// The first acceptance of each submission, and the link that it went over.
    pub acceptances: BTreeMap<SubmitId, (u64, Bytes)>,
}

/// Frames kept for each direction.
pub const RECORDED_MAX: usize = 48;

impl Network {
    /// A new link, open on both sides.
    pub fn connect(&mut self, from: Machine, to: Machine) -> u64 {
        self.next_link += 1;
        let link = Link {
            ends: [from, to],
            open: [true, true],
            deaf: [false, false],
            clear_at_ms: [[0, 0], [0, 0]],
            breaking: false,
        };
        self.links.insert(self.next_link, link);
        self.next_link
    }

    /// Whether frames pass in this direction.
    #[must_use]
    pub fn passes(&self, from: Machine, to: Machine) -> bool {
        !self.cuts.contains(&(from, to)) && !self.severed.contains(&(from, to))
    }

    /// Whether both directions pass, as a new link needs.
    #[must_use]
    pub fn reachable(&self, from: Machine, to: Machine) -> bool {
        self.passes(from, to) && self.passes(to, from)
    }

    /// The links at a machine that it believes in, with its side.
    #[must_use]
    pub fn links_of(&self, machine: Machine) -> Vec<(u64, Side)> {
        let at = |link: &Link| (0..2).find(|side| link.ends[*side] == machine && link.open[*side]);
        self.links.iter().filter_map(|(id, link)| at(link).map(|side| (*id, side))).collect()
    }

    /// One side stops to believe in the link; it is forgotten once both have.
    pub fn shut(&mut self, id: u64, side: Side) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.open[side] = false;
        if link.open == [false, false] {
            self.links.remove(&id);
        }
    }

    /// Keeps a frame for replays; `slot` decides which older one it replaces.
    pub fn record(&mut self, from: usize, to: usize, frame: &Bytes, slot: usize) {
        let kept = self.recorded.entry((from, to)).or_default();
        if kept.len() < RECORDED_MAX {
            kept.push(frame.clone());
        } else if let Some(old) = kept.get_mut(slot) {
            *old = frame.clone();
        }
    }
}
