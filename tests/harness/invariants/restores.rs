//! Rules about stores that were put back to an older image: what such a store still owed, it pays.
//! That what was shown, ticked and numbered stays true meanwhile is checked as in every other world.

use std::collections::{BTreeMap, BTreeSet};

use tidings_client::event::{MessageRef, Status};
use tidings_protocol::id::{DeviceId, Eid, MsgId};

use crate::network::Machine;
use crate::oracle::{Violation, short};
use crate::world::World;

/// What stores owed when they were put back.
#[derive(Clone, Debug, Default)]
pub struct Owed {
    /// Nodes and devices that were put back and have not started since.
    pub pending: BTreeSet<Machine>,
    /// Envelopes in the outbox of a node that was put back, not ended at that time; and the node.
    pub envelopes: BTreeMap<Eid, usize>,
    /// Messages on a device that was put back, not final there at that time; and their tokens.
    pub messages: BTreeMap<MsgId, u64>,
}

impl World {
    /// I26: a node runs on an older image: what stands in its outbox there, it owes.
    pub fn i26_node_owes(&mut self, node: usize) {
        if !self.oracle.owed.pending.remove(&Machine::Node(node)) {
            return;
        }
        for (eid, row) in &self.oracle.nodes[node].out {
            if row.copies.iter().any(|copy| !self.oracle.is_ended(eid, &copy.copy, copy.device)) {
                self.oracle.owed.envelopes.insert(*eid, node);
                *self.oracle.counts.entry("envelopes owed after a restore").or_default() += 1;
            }
        }
    }

    /// I26: a device runs on an older image: messages that stand there and are not final, it owes.
    /// Whether they were delivered in the time that it has forgotten does not matter: it must learn.
    pub fn i26_device_owes(&mut self, device: usize) -> Result<(), Violation> {
        if !self.oracle.owed.pending.remove(&Machine::Device(device)) {
            return Ok(());
        }
        let Some(process) = &self.devices[device].process else { return Ok(()) };
        let mut owed = Vec::new();
        let written = self.oracle.written.iter().filter(|(_, written)| written.device == device);
        for (token, written) in written {
            let Some(msg) = written.message else { continue };
            let peer = self.address(written.to);
            let read = process.store.view(&mut |txn| {
                let views = process.core.conversation(txn, &peer, 1_000)?;
                let view = views.iter().find(|view| view.message.msg == msg && view.message.mine);
                owed.extend(view.filter(|view| is_open(&view.statuses)).map(|_| (msg, *token)));
                Ok(())
            });
            read.map_err(|error| self.violated("I26", format!("reading a chat: {error}")))?;
        }
        for owed in owed {
            self.oracle.count("messages owed after a restore");
            self.oracle.owed.messages.extend([owed]);
        }
        Ok(())
    }

    /// I26, in the healed world: a message that a device owed when it was put back is not final there.
    /// Not checked: statuses of devices of the recipient that were put back themselves, and devices
    /// that stopped.
    #[must_use]
    pub fn i26_unpaid(&self) -> Option<String> {
        self.oracle.owed.messages.iter().find_map(|(msg, token)| {
            let written = self.oracle.written.get(token)?;
            let me = &self.devices[written.device];
            let process = me.process.as_ref()?;
            if me.stopped || self.was_closed(written.device) {
                return None;
            }
            let message = MessageRef { peer: self.address(written.to), msg: *msg, mine: true };
            let mut statuses = Vec::new();
            let read = process.store.view(&mut |txn| {
                let views = process.core.statuses(txn, &message)?;
                statuses = views.into_iter().map(|view| (view.device, view.status)).collect();
                Ok(())
            });
            if let Err(error) = read {
                return Some(format!("reading statuses: {error}"));
            }
            let of_lasting = |device: &DeviceId| {
                let device = self.oracle.devices.get(device);
                device.is_none_or(|device| !self.oracle.restored_devices.contains(device))
            };
            let is_known = !statuses.is_empty();
            statuses.retain(|(device, _)| of_lasting(device));
            let is_paid = is_known && (statuses.is_empty() || !is_open(&statuses));
            let name = self.name(Machine::Device(written.device));
            (!is_paid).then(|| {
                format!("{name} was put back, and '{}' is {statuses:?} since", written.text)
            })
        })
    }

    /// I26, at the end: each envelope that a node owed when it was put back was ended by who may end
    /// it, or has expired.
    pub fn i26_envelopes_ended(&self) -> Result<(), Violation> {
        for (eid, node) in &self.oracle.owed.envelopes {
            let Some(sent) = self.oracle.sent.get(eid) else { continue };
            let has_ended =
                sent.copies.iter().all(|(copy, of)| self.oracle.is_ended(eid, copy, *of));
            if !has_ended && sent.expires_ms > self.now_ms() {
                let name = self.name(Machine::Node(*node));
                let what = format!("{name} was put back and dropped {}", short(&eid.0));
                return Err(self.violated("I26", what));
            }
        }
        Ok(())
    }
}

/// Whether the sender does not know the end of a message at every device.
fn is_open<T>(statuses: &[(T, Status)]) -> bool {
    let is_final = |status: &Status| status.rank() >= Status::Failed(None).rank();
    statuses.is_empty() || !statuses.iter().all(|(_, status)| is_final(status))
}
