//! What is known of each message at each device of its recipient. Only verified evidence moves it,
//! and only upwards; each step is kept with its proof.

use tidings_protocol::{
    id::{CopyId, DeviceId, MsgId},
    statement::{BatchRoot, Claim, Proof, Reason, Statement},
};
use tidings_store::{StoreError, Txn};

use crate::{
    Sabotage,
    crypto::Sealer,
    delegations::Standing,
    event::{ClientEffect, MessageRef, Status},
    machine::ClientCore,
    rows::{CopyRow, EnvelopeRow, PeerKey, StatusEvent, StatusRow, status_key},
    schema::{COPIES, ENVELOPES, STATUS},
};

/// Events kept for one message and device whose signers could not be traced to a root key. Others
/// are few by themselves: one for each claim and known key. So nobody can crowd a delivery out.
const UNCHECKED_EVENTS_MAX: usize = 8;

/// What became of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// It was about something of ours, by somebody who may say it.
    Yes,
    /// By somebody who may not say it.
    No,
    /// About an envelope that is not known here.
    Unknown,
}

/// The signer of a statement about an envelope, judged.
enum Judged {
    Refused,
    Allowed { key_checked: bool },
}

impl<S: Sealer> ClientCore<S> {
    /// Takes one checked statement for what it is worth.
    pub(crate) fn apply_statement(
        &mut self,
        txn: &mut dyn Txn,
        statement: &Statement,
        proof: &Proof,
        root: &BatchRoot,
    ) -> Result<Applied, StoreError> {
        let Some(envelope) = self.get::<EnvelopeRow>(txn, ENVELOPES, &statement.eid.0)? else {
            return Ok(Applied::Unknown);
        };
        let judged = self.judge(txn, statement, root, &envelope)?;
        let Judged::Allowed { key_checked } = judged else {
            return Ok(Applied::No);
        };
        let copies = match statement.copy {
            Some(copy) if envelope.copies.contains(&copy) => vec![copy],
            Some(_) => return Ok(Applied::No),
            None => envelope.copies.clone(),
        };
        let by_device = root.signer.device();
        let event = StatusEvent {
            claim: Some(statement.claim),
            at_ms: statement.at_ms,
            reason: statement.reason,
            until_ms: statement.until_ms,
            node: root.signer.node,
            key: Some(root.signer.key),
            key_checked,
            proof: Some(proof.clone()),
        };
        for copy in copies {
            let Some(row) = self.get::<CopyRow>(txn, COPIES, &copy.0)? else { continue };
            if by_device.is_some_and(|device| device != row.device) {
                return Ok(Applied::No);
            }
            self.apply_to_copy(txn, copy, &row, statement, event.clone())?;
        }
        Ok(Applied::Yes)
    }

    /// Who may say what: a device about its own copy (its id is the hash of its key), the
    /// destination about the envelope, the own node about acceptance and expiry, anybody that he
    /// holds it.
    fn judge(
        &self,
        txn: &dyn Txn,
        statement: &Statement,
        root: &BatchRoot,
        envelope: &EnvelopeRow,
    ) -> Result<Judged, StoreError> {
        let Some(node) = root.signer.node else {
            // Which device is checked for each copy. A device speaks of one copy, never of all.
            return Ok(match statement.copy {
                Some(_) => Judged::Allowed { key_checked: true },
                None => Judged::Refused,
            });
        };
        let own = node == self.settings.node;
        if own && !self.is_own_node_key(root) {
            return Ok(Judged::Refused);
        }
        let allowed = match statement.claim {
            Claim::Accepted => own,
            Claim::Custody => true,
            Claim::AtDest | Claim::Closed => node == envelope.destination,
            Claim::Failed => own || node == envelope.destination,
            Claim::Delivered | Claim::Undecryptable | Claim::Read => false,
        };
        if !allowed {
            return Ok(Judged::Refused);
        }
        let standing = if own { Standing::Proved } else { self.standing(txn, root, statement)? };
        Ok(match standing {
            Standing::Proved => Judged::Allowed { key_checked: true },
            Standing::Open => Judged::Allowed { key_checked: false },
            Standing::Contradicted => Judged::Refused,
        })
    }

    fn is_own_node_key(&self, root: &BatchRoot) -> bool {
        self.link.session().is_some_and(|session| session.operational == root.signer.key)
            || self
                .node
                .delegations
                .iter()
                .any(|delegation| delegation.peek().is_ok_and(|d| d.operational == root.signer.key))
    }

    fn apply_to_copy(
        &mut self,
        txn: &mut dyn Txn,
        copy: CopyId,
        row: &CopyRow,
        statement: &Statement,
        event: StatusEvent,
    ) -> Result<(), StoreError> {
        if let (Some(msg), false) = (row.msg, row.own) {
            let status = match statement.claim {
                Claim::Accepted => Some(Status::Accepted),
                Claim::Custody => Some(Status::Held),
                Claim::AtDest if self.is_sabotaged(Sabotage::TickByNode) => Some(Status::Delivered),
                Claim::AtDest => Some(Status::AtDest),
                Claim::Failed => Some(Status::Failed(statement.reason)),
                Claim::Delivered => Some(Status::Delivered),
                Claim::Read => Some(Status::Read),
                // Kept as evidence; never a tick, never an alarm.
                Claim::Closed | Claim::Undecryptable => None,
            };
            match status {
                Some(status) => self.raise(txn, &row.peer, msg, &row.device, status, event)?,
                None => self.note(txn, &row.peer, msg, &row.device, event)?,
            }
        }
        if statement.claim.is_terminal() { self.settle(txn, copy, row.outbox) } else { Ok(()) }
    }

    /// Raises the status of a message at a device, and keeps the evidence.
    pub(crate) fn raise(
        &mut self,
        txn: &mut dyn Txn,
        peer: &PeerKey,
        msg: MsgId,
        device: &DeviceId,
        status: Status,
        event: StatusEvent,
    ) -> Result<(), StoreError> {
        let key = status_key(peer, &msg, device);
        let known: Option<StatusRow> = self.get(txn, STATUS, &key)?;
        let is_new = known.is_none();
        let mut row = known.unwrap_or(StatusRow::new());
        let noted = add(&mut row, event);
        let raised = is_new || status.rank() > row.rank;
        if status.rank() > row.rank {
            row.rank = status.rank();
            row.reason = status.reason();
        }
        if noted || raised {
            self.put(txn, STATUS, &key, &row)?;
        }
        if raised && let Some(known) = self.peer_row(txn, peer)? {
            let message = MessageRef { peer: known.peer(), msg, mine: true };
            let device = Some(*device).filter(|device| device.0 != [0; 16]);
            self.effect(ClientEffect::StatusChanged { message, device, status: row.status() });
        }
        Ok(())
    }

    fn note(
        &mut self,
        txn: &mut dyn Txn,
        peer: &PeerKey,
        msg: MsgId,
        device: &DeviceId,
        event: StatusEvent,
    ) -> Result<(), StoreError> {
        let key = status_key(peer, &msg, device);
        let mut row = self.get::<StatusRow>(txn, STATUS, &key)?.unwrap_or(StatusRow::new());
        if add(&mut row, event) {
            self.put(txn, STATUS, &key, &row)?;
        }
        Ok(())
    }
}

/// Adds an event unless the same claim by the same signer is there. True when it was added, or when
/// its signer is proved now and was not before.
fn add(row: &mut StatusRow, event: StatusEvent) -> bool {
    let is_same = |e: &&mut StatusEvent| {
        e.claim == event.claim && e.key == event.key && e.until_ms == event.until_ms
    };
    let known = row.events.iter_mut().find(is_same);
    if let Some(known) = known {
        let is_news = event.key_checked && !known.key_checked;
        if is_news {
            *known = event;
        }
        return is_news;
    }
    let unchecked = row.events.iter().filter(|e| !e.key_checked).count();
    let room = event.key_checked || unchecked < UNCHECKED_EVENTS_MAX;
    if room {
        row.events.push(event);
    }
    room
}

/// A failure that this device knows by itself.
pub(crate) const fn known_here(at_ms: u64, reason: Reason) -> StatusEvent {
    StatusEvent {
        claim: None,
        at_ms,
        reason: Some(reason),
        until_ms: None,
        node: None,
        key: None,
        key_checked: false,
        proof: None,
    }
}

/// Something that this device saw happen, without a statement.
pub(crate) const fn seen_here(at_ms: u64) -> StatusEvent {
    StatusEvent {
        claim: None,
        at_ms,
        reason: None,
        until_ms: None,
        node: None,
        key: None,
        key_checked: false,
        proof: None,
    }
}
