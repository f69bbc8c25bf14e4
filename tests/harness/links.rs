//! What links do: carry frames, break, close, get dialled. Frames are only bytes here.

use bytes::Bytes;
use tidings_core::event::{ConnId, Event, LinkId};
use tidings_protocol::{descriptor::Transport, id::NodeId};

use crate::network::{Machine, RECORDED_MAX, Side};
use crate::oracle::Violation;
use crate::world::{Action, World};

/// How long it takes at most until a broken link is noticed.
const NOTICED_MS_MAX: u64 = 45_000;

impl World {
    /// A delay of one frame.
    pub fn delay_ms(&mut self) -> u64 {
        self.net_chance.between(self.options.delay_ms.0, self.options.delay_ms.1)
    }

    /// Sends bytes from a side of a link. `lane` is 1 for bulk frames of nodes, else 0.
    pub fn send(&mut self, link_id: u64, side: Side, lane: usize, bytes: Bytes) {
        let delay_ms = self.delay_ms();
        let now_ms = self.now_ms();
        let lost = self.faults_on && self.net_chance.below(10_000) < self.options.frame_loss;
        let Some(link) = self.net.links.get_mut(&link_id) else { return };
        if !link.open[side] || link.deaf[side] {
            return;
        }
        let (from, to) = (link.ends[side], link.ends[1 - side]);
        let at_ms = (now_ms + delay_ms).max(link.clear_at_ms[side][lane]);
        link.clear_at_ms[side][lane] = at_ms;
        if lost || !self.net.passes(from, to) {
            self.lose(link_id, side);
        } else {
            self.schedule.plan_at(at_ms, Action::Arrive { link: link_id, from: side, bytes });
        }
    }

    /// Bytes arrive, unless the way was cut while they travelled.
    pub fn arrive(&mut self, link_id: u64, from: Side, bytes: Bytes) -> Result<(), Violation> {
        let Some(link) = self.net.links.get(&link_id) else { return Ok(()) };
        let to = 1 - from;
        if !link.open[to] {
            return Ok(());
        }
        let (sender, receiver) = (link.ends[from], link.ends[to]);
        if !self.net.passes(sender, receiver) {
            self.lose(link_id, from);
            return Ok(());
        }
        self.trace.note(self.schedule.now_ms(), "arrive", receiver.number(), &bytes);
        match (sender, receiver) {
            (Machine::Node(other), Machine::Node(node)) => {
                let old = bytes.clone();
                if self.peer_frame_arrives(node, link_id, bytes) {
                    let slot = self.net_chance.index(RECORDED_MAX * 2);
                    self.net.record(other, node, &old, slot);
                }
            }
            (Machine::Device(_), Machine::Node(node)) => {
                self.client_frame_arrives(node, link_id, bytes)
            }
            (_, Machine::Device(device)) => return self.node_frame_arrives(device, bytes),
        }
        Ok(())
    }

    /// A frame is lost: the stream has a hole, so the link can only break.
    fn lose(&mut self, link_id: u64, side: Side) {
        let now_ms = self.now_ms();
        self.trace.say(now_ms, || format!("link {link_id} loses a frame of side {side}"));
        if let Some(link) = self.net.links.get_mut(&link_id) {
            link.deaf[side] = true;
        }
        self.break_link(link_id, NOTICED_MS_MAX);
    }

    /// Both sides notice, each in its own time.
    pub fn break_link(&mut self, link_id: u64, within_ms: u64) {
        let Some(link) = self.net.links.get_mut(&link_id) else { return };
        if link.breaking {
            return;
        }
        link.breaking = true;
        for side in 0..2 {
            let in_ms = self.net_chance.between(1, within_ms);
            self.schedule.plan(in_ms, Action::LinkClosed { link: link_id, side });
        }
    }

    /// A side ends its link: what it sent still arrives, then the other side notices.
    pub fn close_from(&mut self, link_id: u64, side: Side) {
        let delay_ms = self.delay_ms();
        let Some(link) = self.net.links.get_mut(&link_id) else { return };
        link.deaf[side] = true;
        let clear_ms = link.clear_at_ms[side].into_iter().max().unwrap_or(0);
        self.schedule.plan(1, Action::LinkClosed { link: link_id, side });
        let far_ms = clear_ms.max(self.schedule.now_ms() + delay_ms);
        self.schedule.plan_at(far_ms, Action::LinkClosed { link: link_id, side: 1 - side });
    }

    /// A machine is gone with all its links; the other sides notice sooner or later.
    pub fn drop_links_of(&mut self, machine: Machine) {
        let gentle = self.net_chance.happens(700);
        for (link, side) in self.net.links_of(machine) {
            self.net.shut(link, side);
            let in_ms = self.net_chance.between(1, if gentle { 100 } else { NOTICED_MS_MAX });
            self.schedule.plan(in_ms, Action::LinkClosed { link, side: 1 - side });
        }
    }

    /// A side learns that its link is gone.
    pub fn link_closed(&mut self, link_id: u64, side: Side) {
        let Some(link) = self.net.links.get(&link_id) else { return };
        if !link.open[side] {
            return;
        }
        let (own, other) = (link.ends[side], link.ends[1 - side]);
        self.net.shut(link_id, side);
        match (own, other) {
            (Machine::Node(node), Machine::Node(_)) => {
                self.tell_node(node, Event::PeerClosed { link: LinkId(link_id) });
            }
            (Machine::Node(node), Machine::Device(_)) => {
                self.tell_node(node, Event::ClientClosed { conn: ConnId(link_id) });
            }
            (Machine::Device(device), _) => self.device_unlinked(device, link_id),
        }
    }

    /// A node dials a node: the outcome comes later.
    pub fn dial(&mut self, node: usize, target: NodeId, transports: Vec<Transport>) {
        let in_ms = 2 * self.delay_ms();
        let boot = self.nodes[node].boot;
        self.schedule.plan(in_ms, Action::DialDone { node, boot, target, transports });
    }

    /// A dial ends.
    pub fn dial_done(&mut self, node: usize, target: NodeId, transports: &[Transport]) {
        let wanted = |peer_id: &Bytes| transports.iter().any(|t| t.peer_id == *peer_id);
        let called = (0..self.nodes.len()).find(|other| {
            let found = &self.nodes[*other];
            let is_there = found.process.is_some() && !found.hidden;
            *other != node && is_there && wanted(&found.peer_id)
        });
        let own = Machine::Node(node);
        let called = called.filter(|called| self.net.reachable(own, Machine::Node(*called)));
        let Some(called) = called else {
            self.tell_node(node, Event::DialFailed { node: target });
            return;
        };
        let other = Machine::Node(called);
        for (link_id, side) in self.net.links_of(own) {
            if self.net.links[&link_id].ends[1 - side] == other {
                // The shell reports nothing when a link is up already.
                return;
            }
        }
        // The called side still believes in an older link: that one goes down first.
        for (link_id, side) in self.net.links_of(other) {
            if self.net.links[&link_id].ends[1 - side] == own {
                self.link_closed(link_id, side);
            }
        }
        let link = LinkId(self.net.connect(own, other));
        let (own_id, other_id) =
            (self.nodes[node].peer_id.clone(), self.nodes[called].peer_id.clone());
        self.trace.note(self.schedule.now_ms(), "link", node as u64, &called.to_be_bytes());
        self.tell_node(node, Event::PeerConnected { link, transport: other_id, dialer: true });
        self.tell_node(called, Event::PeerConnected { link, transport: own_id, dialer: false });
    }

    /// A node asks the DHT: the answer comes later.
    pub fn look_up(&mut self, node: usize, target: NodeId) {
        let boot = self.nodes[node].boot;
        if target == self.nodes[node].id {
            // Without chance: a look at oneself leaves the rest of a world as it was.
            self.schedule.plan(500, Action::Found { node, boot, target });
            return;
        }
        let in_ms = self.delay_ms() * 4 + self.net_chance.below(1_000);
        self.schedule.plan(in_ms, Action::Found { node, boot, target });
    }

    /// A look-up ends.
    pub fn found(&mut self, node: usize, target: NodeId) {
        let is_own = target == self.nodes[node].id;
        let fails = self.faults_on && !is_own && self.net_chance.happens(self.options.lookup_fails);
        let clock_ms = self.nodes[node].clock_ms(self.now_ms());
        let descriptors = if fails { Vec::new() } else { self.directory.find(&target, clock_ms) };
        self.tell_node(node, Event::Found { node: target, descriptors });
    }
}
