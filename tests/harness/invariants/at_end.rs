//! Rules of the healed world: everything ends, nothing is lost, nothing is left.

use std::collections::{BTreeMap, BTreeSet};

use tidings_client::event::{MessageRef, Status};
use tidings_protocol::{
    id::{DeviceId, MsgId},
    statement::{Checked, Claim, Reason},
};

use crate::faults::WRONG_CLOCK_MS;
use crate::network::Machine;
use crate::options::Restore;
use crate::oracle::{NodeGhost, Violation, Written, short};
use crate::world::World;

impl World {
    /// I35: in the healed world every message is terminal at its sender for each device of its
    /// recipient, and the outboxes of devices, and outboxes, inboxes, statements and notes of all nodes
    /// are empty. Says what is
    /// not so yet. Not checked: statuses at, and of, a device that was put back
    /// to an older image.
    #[must_use]
    pub fn unfinished(&self) -> Option<(&'static str, String)> {
        let unpaid = || self.i26_unpaid().map(|what| ("I26", what));
        let id = if self.options.severed { "I36" } else { "I35" };
        self.i35_open().map(|what| (id, what)).or_else(unpaid)
    }

    fn i35_open(&self) -> Option<String> {
        if self.acts_planned > 0 {
            return Some("people are still busy".to_owned());
        }
        for node in 0..self.nodes.len() {
            let name = self.name(Machine::Node(node));
            if self.nodes[node].process.is_none() {
                return Some(format!("{name} is down"));
            }
            let ghost = &self.oracle.nodes[node];
            let rows = [
                ("outbox", ghost.outbox.len(), ghost.outbox.keys().next().cloned()),
                ("out", ghost.out.len(), ghost.out.keys().next().map(|eid| eid.0.to_vec())),
                ("inbox", ghost.inbox.len(), ghost.inbox.keys().next().cloned()),
                ("statements", ghost.statements.len(), ghost.statements.first().cloned()),
                ("notes", ghost.notes.len(), ghost.notes.first().cloned()),
            ];
            for (table, count, first) in rows {
                if table == "statements" && self.is_severed(node) {
                    continue;
                }
                let Some(first) = first else { continue };
                let whose = DeviceId::from_slice(first.get(..16).unwrap_or_default())
                    .and_then(|id| self.oracle.devices.get(&id))
                    .map_or_else(|| "a peer".to_owned(), |d| self.name(Machine::Device(*d)));
                let lsn = tidings_core::schema::lsn_of(&first);
                return Some(format!("{name} has {count} rows in {table}, {lsn} for {whose}"));
            }
        }
        for device in 0..self.devices.len() {
            let me = &self.devices[device];
            let name = self.name(Machine::Device(device));
            if !me.served && !me.stopped {
                return Some(format!("{name} is not linked"));
            }
            let waiting = me.process.as_ref().map_or(0, |process| process.core.outbox_len());
            let is_excused = me.stopped || self.is_severed(me.node) || self.was_closed(device);
            if waiting > 0 && !is_excused {
                return Some(format!("{name} has {waiting} rows in its outbox"));
            }
        }
        self.oracle.written.values().find_map(|written| self.unfinished_message(written))
    }

    /// Whether some node closed an envelope of this device: its sender is not told, by design, so that
    /// the message stays at ✓ until it expires. Believed only after an hour and a half without faults,
    /// so that all else of this device has its time; and after the time that a message waits which was
    /// written by a clock that was ahead.
    pub(super) fn was_closed(&self, device: usize) -> bool {
        const PATIENCE_MS: u64 = 90 * 60_000;
        let ahead_ms = if self.options.clock_spans > 0 { WRONG_CLOCK_MS.1 } else { 0 };
        if self.now_ms() < self.healed_at_ms + PATIENCE_MS + ahead_ms {
            return false;
        }
        let mut closed = self.oracle.closed.iter().filter_map(|eid| self.oracle.sent.get(eid));
        closed.any(|sent| sent.device == device)
    }

    fn unfinished_message(&self, written: &Written) -> Option<String> {
        let msg = written.message?;
        if written.maybe_lost || self.was_closed(written.device) {
            return None;
        }
        let statuses = self.oracle.statuses_of(written, msg);
        let of_devices: Vec<_> = statuses.iter().filter(|(device, _)| device.is_some()).collect();
        if self.never_left(written, &statuses) {
            return None;
        }
        let failed_whole = matches!(statuses.get(&None), Some(Status::Failed(_)));
        if of_devices.is_empty() && !failed_whole {
            return Some(format!("'{}' is not known to be for any device", written.text));
        }
        let was_replaced = |of: &Option<DeviceId>| {
            let device = of.as_ref().and_then(|id| self.oracle.devices.get(id));
            device.is_some_and(|device| self.oracle.restored_devices.contains(device))
        };
        let is_cut_off = self.is_between_severed(written);
        let mut open = of_devices.iter().filter(|(_, status)| {
            status.rank() < FAILED_RANK && !(is_cut_off && **status == Status::Queued)
        });
        let open = open.find(|(of, _)| !was_replaced(of));
        open.map(|(_, status)| format!("'{}' is still {status:?}", written.text))
    }

    /// What must hold once everything has ended.
    pub fn check_end(&mut self) -> Result<(), Violation> {
        self.i30_nothing_expires_by_a_wrong_clock()?;
        self.i2_nothing_is_lost()?;
        self.i6_ticks_are_true_in_the_end()?;
        self.i6_evidence_verifies()?;
        self.i11_i12_order()?;
        self.i26_envelopes_ended()?;
        self.i34_end()?;
        self.i25_old_frames_change_nothing()
    }

    /// I2, at the end: each message is shown on every device of its recipient, or its sender was told
    /// why not, and that reason is one that this world can have. Messages of a device that was put
    /// back to an older image may have been lost with it before they left it.
    fn i2_nothing_is_lost(&self) -> Result<(), Violation> {
        for written in self.oracle.written.values() {
            let Some(msg) = written.message else { continue };
            for device in &self.people[written.to].devices {
                let me = &self.devices[*device];
                let Some(id) = me.id() else { continue };
                let is_there = self.oracle.shown.contains_key(&(id, msg))
                    || self.oracle.maybe_shown.contains(&(id, msg));
                let may_lack = self.oracle.restored_devices.contains(device)
                    || written.maybe_lost
                    || self.may_fail(written, msg, id);
                if !is_there && !may_lack {
                    let name = self.name(Machine::Device(*device));
                    let what = format!("'{}' never came to {name}", written.text);
                    return Err(self.violated("I2", what));
                }
            }
        }
        Ok(())
    }

    /// Whether the sender was told of a failure at this device for which this world has a cause.
    fn may_fail(&self, written: &Written, msg: MsgId, device: DeviceId) -> bool {
        let statuses = self.oracle.statuses_of(written, msg);
        let status = statuses.get(&Some(device)).or_else(|| statuses.get(&None));
        if self.is_between_severed(written) && matches!(status, None | Some(Status::Queued)) {
            return true;
        }
        match status {
            Some(Status::Failed(Some(Reason::Expired))) => self.options.short_life,
            Some(Status::Failed(_)) => self.options.liar,
            Some(Status::Accepted | Status::Held | Status::AtDest) => {
                self.was_closed(written.device)
            }
            // It came, and expired before its turn to be shown.
            Some(Status::Delivered) => self.options.short_life,
            Some(_) | None => false,
        }
    }

    /// I6, at the end: each ✓✓ that was shown before its message was shown has its message now. Not
    /// checked where messages are short-lived: one may expire on the device before its turn.
    fn i6_ticks_are_true_in_the_end(&self) -> Result<(), Violation> {
        for (msg, of) in &self.oracle.unproved {
            let key = (*of, *msg);
            let device = self.oracle.devices.get(of);
            let was_restored =
                device.is_none_or(|device| self.oracle.restored_devices.contains(device));
            let is_there =
                self.oracle.shown.contains_key(&key) || self.oracle.maybe_shown.contains(&key);
            if !is_there && !was_restored && !self.options.short_life {
                let what = format!("{} was ticked and never shown", short(&msg.0));
                return Err(self.violated("I6", what));
            }
        }
        Ok(())
    }
}

impl World {
    /// I6: behind each ✓ that a sender shows lies a statement of its own node that verifies, and
    /// behind each ✓✓ one of the very device. Checked on the evidence that running devices keep.
    fn i6_evidence_verifies(&self) -> Result<(), Violation> {
        for written in self.oracle.written.values() {
            let (Some(msg), Some(process)) =
                (written.message, &self.devices[written.device].process)
            else {
                continue;
            };
            let message = MessageRef { peer: self.address(written.to), msg, mine: true };
            let mut views = Vec::new();
            let read = process.store.view(&mut |txn| {
                views = process.core.statuses(txn, &message)?;
                Ok(())
            });
            read.map_err(|error| self.violated("I6", format!("reading statuses: {error}")))?;
            let own_node = self.nodes[self.devices[written.device].node].id;
            for view in views {
                let proofs = || view.events.iter().filter_map(|event| event.proof.as_ref());
                let checked: Vec<Checked> =
                    proofs().filter_map(|proof| proof.check().ok()).collect();
                let says = |claim: Claim, by: &dyn Fn(&Checked) -> bool| {
                    checked.iter().any(|checked| {
                        by(checked) && checked.statements.iter().any(|(s, _)| s.claim == claim)
                    })
                };
                let by_device =
                    |checked: &Checked| checked.root.signer.device() == Some(view.device);
                let by_node = |checked: &Checked| checked.root.signer.node == Some(own_node);
                let is_proved = match view.status {
                    Status::Delivered => says(Claim::Delivered, &by_device),
                    Status::Read => says(Claim::Read, &by_device),
                    Status::Accepted => says(Claim::Accepted, &by_node),
                    Status::Queued | Status::Held | Status::AtDest | Status::Failed(_) => true,
                };
                if !is_proved || checked.len() != proofs().count() {
                    let what = format!("'{}' is {:?} without proof", written.text, view.status);
                    return Err(self.violated("I6", what));
                }
            }
        }
        Ok(())
    }

    /// I11 and I12: devices that show the same messages of a chat show them in the same order, and a
    /// message comes after all that its writer had been shown before. Checked on whole conversations
    /// at the end. Not checked: devices that were put back to an older image.
    fn i11_i12_order(&self) -> Result<(), Violation> {
        let mut orders: BTreeMap<Chat, Order> = BTreeMap::new();
        for device in 0..self.devices.len() {
            let me = &self.devices[device];
            let Some(process) = &me.process else { continue };
            if self.oracle.restored_devices.contains(&device) {
                continue;
            }
            for other in (0..self.people.len()).filter(|other| *other != me.person) {
                let peer = self.address(other);
                let mut order = Vec::new();
                let read = process.store.view(&mut |txn| {
                    let views = process.core.conversation(txn, &peer, 1_000)?;
                    order = views.iter().map(|view| view.message.msg).collect();
                    Ok(())
                });
                read.map_err(|error| self.violated("I12", format!("reading a chat: {error}")))?;
                self.i11_after_what_was_seen(device, &order)?;
                let (low, high) = (me.person.min(other), me.person.max(other));
                let set: BTreeSet<MsgId> = order.iter().copied().collect();
                let (first, known) =
                    orders.entry((low, high, set)).or_insert_with(|| (device, order.clone()));
                if *known != order {
                    let names = [*first, device].map(|device| self.name(Machine::Device(device)));
                    let what = format!("{} show one chat in two orders", names.join(" and "));
                    return Err(self.violated("I12", what));
                }
            }
        }
        Ok(())
    }

    /// A device that was put back seals again, under another id and number, what the copy still had. Who
    /// never got what it had written after that cannot know that a head that names the lost message
    /// follows the others too: not checked.
    fn i11_after_what_was_seen(&self, device: usize, order: &[MsgId]) -> Result<(), Violation> {
        let place = |msg: &MsgId| order.iter().position(|other| other == msg);
        let writers: BTreeMap<MsgId, usize> = (self.oracle.written.values())
            .filter_map(|written| Some((written.message?, written.device)))
            .collect();
        for written in self.oracle.written.values() {
            let Some(own) = written.message.as_ref().and_then(place) else { continue };
            let lost_of: BTreeSet<usize> = (written.after.iter())
                .filter(|msg| place(msg).is_none())
                .filter_map(|msg| writers.get(msg).copied())
                .filter(|writer| self.oracle.restored_devices.contains(writer))
                .collect();
            let is_known = |msg: &&MsgId| writers.get(*msg).is_none_or(|by| !lost_of.contains(by));
            let after = written.after.iter().filter(is_known);
            if after.filter_map(place).any(|before| before > own) {
                let name = self.name(Machine::Device(device));
                let what = format!("{name} shows '{}' before what it follows", written.text);
                return Err(self.violated("I11", what));
            }
        }
        Ok(())
    }

    /// I25: old frames between nodes, sent once more, change no row that outlives the answer. Checked
    /// in the healed world on a few recorded frames of each direction, by comparing the tables of all
    /// nodes. Not checked: frames of devices, which repeat themselves after each lost answer; worlds
    /// with a liar or a restore, where an envelope may have ended before it was ever stored.
    fn i25_old_frames_change_nothing(&mut self) -> Result<(), Violation> {
        const FRAMES: usize = 4;
        const SETTLE_MS: u64 = 120_000;
        if self.options.liar || self.options.restore != Restore::None {
            return Ok(());
        }
        // What has expired by one clock and was never taken may be taken by another that is behind.
        if self.options.short_life && self.options.clock_offset_ms_max > 0 {
            return Ok(());
        }
        let before: Vec<_> = self.oracle.nodes.iter().map(NodeGhost::rows).collect();
        let sent = self.oracle.sent.len();
        let ways: Vec<(usize, usize)> = self.net.recorded.keys().copied().collect();
        for (from, to) in ways {
            for _ in 0..FRAMES {
                let link =
                    self.net.links_of(Machine::Node(to)).into_iter().find(|(id, side)| {
                        self.net.links[id].ends[1 - side] == Machine::Node(from)
                    });
                let Some((link, _)) = link else { continue };
                let bytes = self.lie_chance.pick(&self.net.recorded[&(from, to)]).clone();
                self.peer_frame_arrives(to, link, bytes);
                let pause_ms = self.now_ms() + 200;
                self.run_until(pause_ms)?;
            }
        }
        let pause_ms = self.now_ms() + SETTLE_MS;
        self.run_until(pause_ms)?;
        if self.oracle.sent.len() != sent {
            // A device had waited for a bundle of one of its own, and has written meanwhile.
            return Ok(());
        }
        for (node, rows) in before.into_iter().enumerate() {
            // One that was put back has forgotten what it saw: its devices have not.
            if !self.oracle.nodes[node].restored && self.oracle.nodes[node].rows() != rows {
                let name = self.name(Machine::Node(node));
                let now = self.oracle.nodes[node].rows();
                let what = format!("old frames changed {name}: {rows:?} became {now:?}");
                return Err(self.violated("I25", what));
            }
        }
        Ok(())
    }
}

/// Two people, by number, and the messages of their chat.
type Chat = (usize, usize, BTreeSet<MsgId>);
/// The device that shows them, and in which order.
type Order = (usize, Vec<MsgId>);

/// From this rank on a status is final.
const FAILED_RANK: u8 = 4;
