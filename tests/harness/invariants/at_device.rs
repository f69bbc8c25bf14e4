//! Rules about what a device says and shows: checked on its effects, as soon as the commit behind
//! them is durable, whether or not the device lives to let them leave.

use tidings_client::event::{ClientEffect, MessageRef, ShownMessage, Status};
use tidings_protocol::{
    client_frame::ClientFrame,
    envelope::shared_hash,
    id::{DeviceId, MsgId},
    statement::Claim,
};

use super::at_node::statements_of;
use crate::network::Machine;
use crate::oracle::{Sent, Violation, short};
use crate::people::CANARY;
use crate::world::World;

/// How a device names the status of a message for which no device is known.
const NO_DEVICE: DeviceId = DeviceId([0; 16]);

impl World {
    /// An effect of a device whose commit is durable.
    pub fn oracle_device_effect(
        &mut self,
        device: usize,
        effect: &ClientEffect,
    ) -> Result<(), Violation> {
        let Some(id) = self.devices[device].id() else { return Ok(()) };
        self.oracle.devices.insert(id, device);
        match effect {
            ClientEffect::ToNode { frame: ClientFrame::Submit(submit), body } => {
                let hash = shared_hash(body);
                let origin = self.devices[device].node;
                for head in &submit.heads {
                    let (eid, copies) = head.ids(&hash);
                    let devices = head.targets.iter().map(|target| target.device());
                    let sent = Sent {
                        device,
                        origin,
                        destination: head.header.destination,
                        expires_ms: head.header.expires_ms,
                        copies: copies.into_iter().zip(devices).collect(),
                        is_accepted: false,
                    };
                    self.oracle.sent.entry(eid).or_insert(sent);
                }
                Ok(())
            }
            ClientEffect::ToNode { frame: ClientFrame::Received(received), .. } => {
                let statements = statements_of(&received.proof)
                    .map_err(|error| self.violated("frame", error.to_string()))?;
                for statement in statements {
                    let Some(copy) = statement.copy else { continue };
                    self.oracle.device_words.insert((copy, id), statement.claim);
                }
                Ok(())
            }
            ClientEffect::Composed { token, message } => {
                self.learn_message(*token, message.msg)?;
                Ok(())
            }
            ClientEffect::Show(shown) => {
                self.i4_shown_once(id, shown)?;
                self.i5_shown_as_written(device, shown)?;
                self.i10_numbers_grow(id, shown)
            }
            ClientEffect::StatusChanged { message, device: of, status } => {
                self.i7_status_never_falls(id, message.msg, *of, *status)?;
                self.i6_tick_is_true(message, *of, *status)
            }
            ClientEffect::ToNode { .. }
            | ClientEffect::CloseLink(_)
            | ClientEffect::Linked
            | ClientEffect::Joined
            | ClientEffect::Resolved { .. }
            | ClientEffect::JoinRefused(_)
            | ClientEffect::NotComposed { .. }
            | ClientEffect::ReadElsewhere { .. }
            | ClientEffect::Warn(_)
            | ClientEffect::Stopped(_) => Ok(()),
        }
    }

    /// One text is one message, whatever happens to its device.
    fn learn_message(&mut self, token: u64, msg: MsgId) -> Result<(), Violation> {
        let known = self.oracle.tokens.insert(msg, token);
        let written = self.oracle.written.get_mut(&token);
        let first = written.map(|written| *written.message.get_or_insert(msg));
        if known.is_some_and(|known| known != token) || first != Some(msg) {
            let what = format!("text {token} is more than one message");
            return Err(self.violated("I5", what));
        }
        Ok(())
    }

    /// I4: a device shows a message at most once. Checked on each `Show` of a durable commit. A device
    /// that was put back to an older image begins anew: it has forgotten what it showed, so that not
    /// showing it again would lose it.
    fn i4_shown_once(&mut self, id: DeviceId, shown: &ShownMessage) -> Result<(), Violation> {
        let first = self.oracle.shown.insert((id, shown.message.msg), shown.clone());
        if first.is_some() {
            let device = self.oracle.devices.get(&id).copied().unwrap_or_default();
            let name = self.name(Machine::Device(device));
            return Err(self.violated("I4", format!("{name} shows '{}' twice", shown.text)));
        }
        Ok(())
    }

    /// I5: what is shown was written by the person, on the device and to the person that it says.
    fn i5_shown_as_written(
        &mut self,
        device: usize,
        shown: &ShownMessage,
    ) -> Result<(), Violation> {
        let name = self.name(Machine::Device(device));
        let token = shown.text.strip_prefix(CANARY).and_then(|rest| rest.trim().parse().ok());
        let written = token.and_then(|token: u64| self.oracle.written.get(&token).cloned());
        let (Some(token), Some(written)) = (token, written) else {
            return Err(self.violated("I5", format!("{name} shows what nobody wrote")));
        };
        let shower = self.devices[device].person;
        let (reader, other) = if shown.message.mine {
            (written.from, written.to)
        } else {
            (written.to, written.from)
        };
        let writer = self.oracle.devices.get(&shown.device);
        if reader != shower
            || shown.message.peer != self.address(other)
            || writer != Some(&written.device)
            || shown.text != written.text
        {
            return Err(self.violated("I5", format!("{name} shows '{}' as another's", shown.text)));
        }
        self.learn_message(token, shown.message.msg)
    }

    /// I10: for each chat and writing device the numbers that a device shows grow by one; skipped
    /// ones are counted as missing, and what fills a gap later says that it is late. A short-lived
    /// message that expires here before its turn is neither shown nor missing: each such one, which
    /// the device counts, excuses one number. Not told apart: in which chat it was. Not checked: devices that were put back to an older image, which forget what they showed.
    fn i10_numbers_grow(&mut self, id: DeviceId, shown: &ShownMessage) -> Result<(), Violation> {
        let device = self.oracle.devices.get(&id);
        if device.is_some_and(|device| self.oracle.restored_devices.contains(device)) {
            return Ok(());
        }
        let key = (id, shown.message.peer.clone(), shown.device);
        let last = self.oracle.shown_up_to.get(&key).copied();
        // What a writer sealed again under a new id was shown under the old one: it is neither shown
        // now nor missing.
        let elsewhere = self.shown_under_other_ids(id, shown);
        let excused = self.excused(id);
        if shown.is_late {
            // Or after one that a commit in doubt may have shown.
            let maybe = self.oracle.maybe_numbers.get(&key);
            let later =
                maybe.is_some_and(|known| known.range(shown.sequence + 1..).next().is_some());
            let follows = later || last.is_some_and(|last| shown.sequence < last);
            let fits = excused > 0 || elsewhere > 0 || follows;
            return if fits { Ok(()) } else { Err(self.i10(shown, last)) };
        }
        if let Some(last) = last {
            let skipped = shown.sequence.checked_sub(last).and_then(|step| step.checked_sub(1));
            // A commit in doubt may have shown some of them, and said of others that they are missing.
            let doubtful = self.oracle.maybe_numbers.get(&key).map_or(0, |known| {
                known.range(last..shown.sequence).map(|(_, missing)| 1 + missing).sum()
            });
            let Some(skipped) = skipped.filter(|skipped| shown.missing <= *skipped) else {
                return Err(self.i10(shown, last.into()));
            };
            let unsaid = (skipped - shown.missing).saturating_sub(doubtful + elsewhere);
            if unsaid > excused {
                return Err(self.i10(shown, last.into()));
            }
            self.excuse(id, -i64::try_from(unsaid).unwrap_or(i64::MAX));
        }
        self.oracle.shown_up_to.insert(key, shown.sequence);
        Ok(())
    }

    /// How many numbers a device may still pass over without a word.
    fn excused(&self, id: DeviceId) -> u64 {
        let Some(device) = self.oracle.devices.get(&id) else { return 0 };
        let process = self.devices[*device].process.as_ref();
        let now = process.map_or(0, |process| process.core.counters().expired_unshown);
        let before = self.oracle.excused.get(device).copied().unwrap_or(0);
        now.saturating_add_signed(before)
    }

    fn excuse(&mut self, id: DeviceId, more: i64) {
        if let Some(device) = self.oracle.devices.get(&id) {
            *self.oracle.excused.entry(*device).or_default() += more;
        }
    }

    /// A run of a device ends: what it counted goes on to count.
    pub fn i10_run_ends(&mut self, device: usize) {
        let process = self.devices[device].process.as_ref();
        let count = process.map_or(0, |process| process.core.counters().expired_unshown);
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        *self.oracle.excused.entry(device).or_default() += count;
    }

    /// How many messages of a chat a device was shown by the same writer under its other ids. Each may
    /// come once more under the id that the writer has now, with a number that is then not shown.
    fn shown_under_other_ids(&self, id: DeviceId, shown: &ShownMessage) -> u64 {
        let writer = self.oracle.devices.get(&shown.device);
        let of_device = self.oracle.shown.range((id, MsgId([0; 16]))..=(id, MsgId([u8::MAX; 16])));
        let others = of_device.filter(|(_, other)| {
            other.message.peer == shown.message.peer
                && other.device != shown.device
                && self.oracle.devices.get(&other.device) == writer
        });
        others.count() as u64
    }

    fn i10(&self, shown: &ShownMessage, last: Option<u64>) -> Violation {
        let (sequence, missing) = (shown.sequence, shown.missing);
        let what = format!("number {sequence} with {missing} missing is shown after {last:?}");
        self.violated("I10", what)
    }

    /// I7: what a device shows about a message at a device never falls.
    fn i7_status_never_falls(
        &mut self,
        id: DeviceId,
        msg: MsgId,
        of: Option<DeviceId>,
        status: Status,
    ) -> Result<(), Violation> {
        let known = self.oracle.statuses.entry((id, msg)).or_default();
        let before = known.insert(of, status);
        if before.is_some_and(|before| before.rank() > status.rank()) {
            let what = format!("{before:?} became {status:?} for message {}", short(&msg.0));
            return Err(self.violated("I7", what));
        }
        Ok(())
    }

    /// I7 across a start: what the device's store says of its messages is not below what it said
    /// before. A commit that failed may be durable, so this is also where the oracle learns what
    /// nobody was told.
    pub fn i7_statuses_after_a_start(&mut self, device: usize) -> Result<(), Violation> {
        self.learn_what_was_composed(device)?;
        let Some(process) = &self.devices[device].process else { return Ok(()) };
        let mut found = Vec::new();
        let written = self.oracle.written.values().filter(|written| written.device == device);
        for (msg, to) in written.filter_map(|written| Some((written.message?, written.to))) {
            let message = MessageRef { peer: self.address(to), msg, mine: true };
            let read = process.store.view(&mut |txn| {
                for view in process.core.statuses(txn, &message)? {
                    found.push((message.clone(), view.device, view.status));
                }
                Ok(())
            });
            read.map_err(|error| self.violated("I7", format!("reading statuses: {error}")))?;
        }
        let id = process.core.device_id();
        for (message, of, status) in found {
            let of = (of != NO_DEVICE).then_some(of);
            self.i7_status_never_falls(id, message.msg, of, status)?;
            self.i6_tick_is_true(&message, of, status)?;
        }
        Ok(())
    }

    /// A failed commit may have been durable: then what it composed is in the store now.
    fn learn_what_was_composed(&mut self, device: usize) -> Result<(), Violation> {
        let Some(process) = &self.devices[device].process else { return Ok(()) };
        let mut found = Vec::new();
        for (token, message) in self.oracle.maybe_composed.get(&device).into_iter().flatten() {
            let read = process.store.view(&mut |txn| {
                let views = process.core.conversation(txn, &message.peer, 1_000)?;
                if views.iter().any(|view| view.message == *message) {
                    found.push((*token, message.msg));
                }
                Ok(())
            });
            read.map_err(|error| self.violated("I5", format!("reading a chat: {error}")))?;
        }
        self.oracle.maybe_composed.remove(&device);
        found.into_iter().try_for_each(|(token, msg)| self.learn_message(token, msg))
    }

    /// I6: ✓✓ for a message at a device is shown only when that device belongs to the recipient and
    /// signed that it has a copy of an envelope from the writing device; and the message is shown
    /// there at the end of the run at the latest, unless that device was put back since. Signatures
    /// themselves are checked by the client core and, offline, in the tests of `verify`.
    fn i6_tick_is_true(
        &mut self,
        message: &MessageRef,
        of: Option<DeviceId>,
        status: Status,
    ) -> Result<(), Violation> {
        if !matches!(status, Status::Delivered | Status::Read) {
            return Ok(());
        }
        let token = self.oracle.tokens.get(&message.msg);
        let written = token.and_then(|token| self.oracle.written.get(token));
        let (Some(written), Some(of)) = (written, of) else {
            return Err(self.violated("I6", "a tick without a message or a device".to_owned()));
        };
        let owner = self.oracle.devices.get(&of).map(|device| self.devices[*device].person);
        let said_so = self.oracle.sent.values().any(|sent| {
            sent.device == written.device
                && sent.copies.iter().any(|(copy, device)| {
                    *device == Some(of)
                        && self.oracle.device_words.get(&(*copy, of)) == Some(&Claim::Delivered)
                })
        });
        let key = (of, message.msg);
        let is_shown =
            self.oracle.shown.contains_key(&key) || self.oracle.maybe_shown.contains(&key);
        // What a device signs when it has shown a message goes inside the encryption, and may come
        // when its word that it has the copy was lost with a link and a node that was put back.
        let is_true = said_so || status == Status::Read && is_shown;
        if owner != Some(written.to) || !is_true {
            let what = format!("'{}' is ticked, but its device did not say so", written.text);
            return Err(self.violated("I6", what));
        }
        if !is_shown {
            self.oracle.unproved.insert((message.msg, of));
        }
        Ok(())
    }
}
