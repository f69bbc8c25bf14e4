//! The omniscient observer: what was written, accepted, received, shown and said, by whom, as far as
//! it became durable. It takes part in nothing. What must hold stands in `invariants/`.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};

use tidings_client::event::{MessageRef, Peer, ShownMessage, Status};
use tidings_core::effect::Observed;
use tidings_core::schema::{OutRow, SeenRow};
use tidings_protocol::address::UserName;
use tidings_protocol::id::{CopyId, DeviceId, Eid, MsgId, NodeId, SubmitId};
use tidings_protocol::key::PublicKey;
use tidings_protocol::statement::Claim;

use crate::invariants::restores::Owed;
use crate::network::Machine;

/// Something that must hold and does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The invariant, as `reference/reliability.md` §1.2 numbers them, or a word for others.
    pub id: &'static str,
    /// What is wrong.
    pub what: String,
    /// When, in virtual ms from the beginning.
    pub at_ms: u64,
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} does not hold after {} ms: {}", self.id, self.at_ms, self.what)
    }
}

/// A text that a person wrote.
#[derive(Clone, Debug)]
pub struct Written {
    /// What.
    pub text: String,
    /// Who, by number.
    pub from: usize,
    /// To whom, by number.
    pub to: usize,
    /// The message, once it is known to be on the disk of its device.
    pub message: Option<MsgId>,
    /// The device that wrote it, by number.
    pub device: usize,
    /// The id that the device had then.
    pub device_id: DeviceId,
    /// What the device had shown of the chat when this was written.
    pub after: Vec<MsgId>,
    /// The device lost it in a restore: it may have been lost with it.
    pub maybe_lost: bool,
}

/// An envelope that a device sealed and sent to its node.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The device, by number.
    pub device: usize,
    /// The device's node, by number.
    pub origin: usize,
    /// Where it goes.
    pub destination: NodeId,
    /// Until when it lives.
    pub expires_ms: u64,
    /// Its copies and whom they are for.
    pub copies: Vec<(CopyId, Option<DeviceId>)>,
    /// The device's node said ✓.
    pub is_accepted: bool,
}

/// What became durable at one node, in the tables that invariants are about.
#[derive(Clone, Debug, Default)]
pub struct NodeGhost {
    /// Envelopes for other nodes.
    pub out: BTreeMap<Eid, OutRow>,
    /// Peer and lsn of each row of the outbox, and its envelope.
    pub outbox: BTreeMap<Vec<u8>, Eid>,
    /// Device ‖ lsn of each inbox row, and its envelope.
    pub inbox: BTreeMap<Vec<u8>, Eid>,
    /// Envelopes that came for own devices.
    pub seen: BTreeMap<Eid, SeenRow>,
    /// Submissions.
    pub submits: BTreeSet<Vec<u8>>,
    /// Statements for peers: the keys of their rows.
    pub statements: BTreeSet<Vec<u8>>,
    /// Notes for devices: the keys of their rows.
    pub notes: BTreeSet<Vec<u8>>,
    /// Devices that it knows.
    pub devices: BTreeSet<Vec<u8>>,
    /// Envelopes that ever entered the outbox.
    pub ever_out: BTreeSet<Eid>,
    /// How often each statement was queued here.
    pub queued: BTreeMap<Vec<u8>, u64>,
    /// How often an envelope was asked for or came again.
    pub provoked: BTreeMap<Eid, u64>,
    /// What it held for another node, and let go as it may.
    pub let_go: BTreeSet<Eid>,
    /// Its store was put back to an older image at some time.
    pub restored: bool,
    /// It was told to end, in this run of its process.
    pub draining: bool,
    /// How full its disk is, in percent, as its shell told this process last.
    pub full_percent: u64,
    /// A commit of this process failed.
    pub has_failed: bool,
}

/// All that the oracle knows.
#[derive(Default)]
pub struct Oracle {
    /// Texts, by token.
    pub written: BTreeMap<u64, Written>,
    /// Message to token.
    pub tokens: BTreeMap<MsgId, u64>,
    /// Which device had which id.
    pub devices: BTreeMap<DeviceId, usize>,
    /// Devices whose store was put back to an older image.
    pub restored_devices: BTreeSet<usize>,
    /// What was owed by stores that were put back.
    pub owed: Owed,
    /// The account key of each person, since the account was asked for.
    pub identities: BTreeMap<(NodeId, UserName), PublicKey>,
    /// Nodes as they are on disk.
    pub nodes: Vec<NodeGhost>,
    /// How far each node may pass an envelope on: the most that it was told.
    pub hops_handed: BTreeMap<(usize, Eid), u8>,
    /// Who has taken an envelope for another node, and from whom.
    pub taken: BTreeMap<Eid, BTreeSet<(usize, usize)>>,
    /// Envelopes that devices sent.
    pub sent: BTreeMap<Eid, Sent>,
    /// Submissions with their envelopes, as they were accepted first.
    pub accepted: BTreeMap<(usize, SubmitId), Vec<Eid>>,
    /// What devices signed about copies.
    pub device_words: BTreeMap<(CopyId, DeviceId), Claim>,
    /// Ends that destination nodes stated about envelopes (`None`: all copies) or copies.
    pub node_words: BTreeMap<(Eid, Option<CopyId>), Claim>,
    /// Ticks of devices that have not shown the message yet: it must be there at the end.
    pub unproved: BTreeSet<(MsgId, DeviceId)>,
    /// Shown messages, by device and message.
    pub shown: BTreeMap<(DeviceId, MsgId), ShownMessage>,
    /// Links on which a node has greeted a device, and those on which it said that it ends.
    pub greeted: BTreeSet<u64>,
    /// See `greeted`.
    pub sent_away: BTreeSet<u64>,
    /// Secrets of invites, in hex.
    pub invites: BTreeSet<String>,
    /// Envelopes that a node closed.
    pub closed: BTreeSet<Eid>,
    /// Texts that a failed commit of a device would have composed, with their tokens.
    pub maybe_composed: BTreeMap<usize, Vec<(u64, MessageRef)>>,
    /// Messages that a failed commit would have shown.
    pub maybe_shown: BTreeSet<(DeviceId, MsgId)>,
    /// Their numbers, with how many were missing before each: device, chat, writer.
    pub maybe_numbers: BTreeMap<(DeviceId, Peer, DeviceId), BTreeMap<u64, u64>>,
    /// Numbers that a device may pass over without a word, because their messages expired there before
    /// their turn: as many as its runs that have ended counted, less those that it has passed over.
    pub excused: BTreeMap<usize, i64>,
    /// Highest numbers shown: device, chat, writer.
    pub shown_up_to: BTreeMap<(DeviceId, Peer, DeviceId), u64>,
    /// What each device shows about its account's messages at each device of the recipient.
    pub statuses: BTreeMap<(DeviceId, MsgId), BTreeMap<Option<DeviceId>, Status>>,
    /// Inbox numbers delivered last, by connection.
    pub delivered_up_to: BTreeMap<u64, u64>,
    /// Inbox numbers pushed and not answered, by connection.
    pub pushed: BTreeMap<u64, BTreeSet<u64>>,
    /// Envelopes sent so far, by link and sending node.
    pub inflight: BTreeMap<(u64, usize), usize>,
    /// One-time pre-keys that a node handed out.
    pub handed_out: BTreeMap<(usize, [u8; 32]), u64>,
    /// Serials of addresses that a node signed.
    pub serials: BTreeMap<(NodeId, u64), [u8; 32]>,
    /// Envelopes that a node has sent to somebody, or offered to a custodian.
    pub had_turn: BTreeSet<(usize, Eid)>,
    /// Links, and nodes whom the other side has greeted there.
    pub peers_greeted: BTreeSet<(u64, usize)>,
    /// Since when an envelope that had no turn waits on a link: node, link, envelope.
    pub waiting_since: BTreeMap<(usize, u64, Eid), u64>,
    /// When each node dialled each other one last, in each run of its process.
    pub dialled: BTreeMap<(usize, u64, NodeId), Vec<u64>>,
    /// Envelopes and copies that a liar has heard of.
    overheard: Vec<(Eid, CopyId)>,
    /// How often something worth counting happened.
    pub counts: BTreeMap<&'static str, u64>,
}

/// The rows of a node that must not change by themselves.
pub type Rows =
    (BTreeSet<Eid>, BTreeMap<Vec<u8>, Eid>, BTreeMap<Vec<u8>, Eid>, BTreeSet<Eid>, usize);

impl NodeGhost {
    /// What is to be compared between two moments of rest: envelopes on their way out, outbox,
    /// inbox, what was seen, and how many submissions, statements and notes there are.
    #[must_use]
    pub fn rows(&self) -> Rows {
        let count = self.submits.len() + self.statements.len() + self.notes.len();
        let out = self.out.keys().copied().collect();
        let seen = self.seen.keys().copied().collect();
        (out, self.outbox.clone(), self.inbox.clone(), seen, count)
    }
}

impl Oracle {
    /// Room for so many nodes.
    #[must_use]
    pub fn new(nodes: usize) -> Self {
        Self { nodes: vec![NodeGhost::default(); nodes], ..Self::default() }
    }

    /// How many texts people wrote.
    #[must_use]
    pub fn messages_composed(&self) -> u64 {
        self.written.values().filter(|written| written.message.is_some()).count() as u64
    }

    /// A person wrote something.
    pub fn wrote(&mut self, token: u64, written: Written) {
        self.devices.insert(written.device_id, written.device);
        self.written.insert(token, written);
    }

    /// A failed commit of a device, which may be durable, would have shown this.
    pub fn maybe_shown(&mut self, device: DeviceId, shown: &ShownMessage) {
        self.maybe_shown.insert((device, shown.message.msg));
        let key = (device, shown.message.peer.clone(), shown.device);
        self.maybe_numbers.entry(key).or_default().insert(shown.sequence, shown.missing);
    }

    /// A node was put back to an older image.
    pub fn node_restored(&mut self, node: usize) {
        self.nodes[node].restored = true;
        self.owed.pending.insert(Machine::Node(node));
    }

    /// A device was put back to an older image: what it wrote may be lost with it.
    pub fn device_restored(&mut self, device: usize) {
        self.restored_devices.insert(device);
        self.owed.pending.insert(Machine::Device(device));
        // What it had noted from others may be lost with it, and is told by nobody again.
        let owner = &self.devices;
        self.statuses.retain(|(id, _), _| owner.get(id) != Some(&device));
        self.shown.retain(|(id, _), _| owner.get(id) != Some(&device));
        self.shown_up_to.retain(|(id, _, _), _| owner.get(id) != Some(&device));
        for written in self.written.values_mut().filter(|written| written.device == device) {
            written.maybe_lost = true;
        }
    }

    /// What the device that wrote a message last said about it, under any of its ids.
    #[must_use]
    pub fn statuses_of(&self, written: &Written, msg: MsgId) -> BTreeMap<Option<DeviceId>, Status> {
        let ids = self.devices.iter().filter(|(_, device)| **device == written.device);
        let mut all = BTreeMap::new();
        for (id, _) in ids {
            for (of, status) in self.statuses.get(&(*id, msg)).into_iter().flatten() {
                let known = all.entry(*of).or_insert(*status);
                if known.rank() < status.rank() {
                    *known = *status;
                }
            }
        }
        all
    }

    /// A node said something for its counters.
    pub fn observed(&mut self, observed: Observed) {
        let name = match observed {
            Observed::Accepted => "accepted",
            Observed::Stored => "stored",
            Observed::Held => "held",
            Observed::Duplicate => "duplicate",
            Observed::Delivered { .. } => "delivered",
            Observed::Ticked { .. } => "ticked",
            Observed::Failed => "failed",
            Observed::Expired => "expired",
            Observed::Refused(_) => "refused",
            Observed::BadStatement => "bad statement",
            Observed::DeadLetter => "dead letter",
            Observed::AuditUnknown => "audit unknown",
            Observed::Misbehaves => "misbehaves",
            Observed::RolledBack => "rolled back",
            Observed::OtherRolledBack => "other rolled back",
            Observed::OwnIdElsewhere => "own id elsewhere",
            Observed::NameChanged => "name changed",
            Observed::OwnDomainUnbound => "own domain unbound",
            Observed::Intake(_) => "intake",
        };
        self.count(name);
    }

    /// Counts something.
    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// A liar heard of an envelope.
    pub fn overheard(&mut self, eid: Eid, copies: &[CopyId]) {
        if self.overheard.len() < 256 {
            self.overheard.extend(copies.iter().map(|copy| (eid, *copy)));
        }
    }

    /// All that liars heard of.
    #[must_use]
    pub fn all_overheard(&self) -> &[(Eid, CopyId)] {
        &self.overheard
    }

    /// True when somebody who may end a copy has ended it: its device, or its destination's node.
    #[must_use]
    pub fn is_ended(&self, eid: &Eid, copy: &CopyId, device: Option<DeviceId>) -> bool {
        let by_device = device.is_some_and(|device| {
            self.device_words.get(&(*copy, device)).is_some_and(|claim| claim.is_terminal())
        });
        let by_node = [None, Some(*copy)].into_iter().any(|about| {
            self.node_words.get(&(*eid, about)).is_some_and(|claim| claim.is_terminal())
        });
        by_device || by_node
    }
}

/// A short name for an id.
#[must_use]
pub fn short(bytes: &[u8]) -> String {
    bytes.iter().skip(4).take(4).map(|byte| format!("{byte:02x}")).collect()
}
