//! With whom this node deals: the one check, asked before anything of a node is taken, before anything
//! is queued for it, and before anything is said to it. Decides nothing about users. What becomes of a
//! queue to which the answer is no is in `parting.rs`; how an administrator changes the answers in
//! `admin_peers.rs`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tidings_protocol::{
    descriptor::{NodeState, Transport},
    id::NodeId,
    refusal::{Refusal, RefusalCode},
    shape::{Shape, Shaped},
};
use tidings_store::{StoreError, Txn};

use crate::{
    Core,
    effect::Effect,
    event::LinkId,
    schema::{self, LimitsRow, META, POLICY, PolicyRow},
};

/// Nodes that wait for an answer. Ids are free, so the oldest makes room for the next one.
const REQUESTS_MAX: usize = 1_000;
/// When a node that asks to be let in may ask again.
const ASK_AGAIN_MS: u64 = 15 * 60 * 1000;
/// When a node that is paused may try again.
const PAUSED_AGAIN_MS: u64 = 60 * 1000;
/// A node is told so often that it is refused; after that its process is not let in any more.
const TOLD_MAX: u32 = 3;
/// Processes that are kept out at the door. More are told, each time.
const BARRED_MAX: usize = 4_096;
/// Addresses that an administrator has given without saying whose they are.
const EXPECTED_MAX: usize = 64;
/// In [`META`]: the federation mode that was set by hand.
const FEDERATION: &[u8] = b"federation";

/// Who may deal with this node when nothing else was said of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Federation {
    /// Everybody.
    #[default]
    Open,
    /// Whoever was let in; others wait until an administrator says so, or a user here writes to them.
    Request,
    /// Whoever was let in by an administrator or stands in the configuration.
    Closed,
}

impl Federation {
    /// All, in the order of their numbers on disk.
    pub const ALL: [Self; 3] = [Self::Open, Self::Request, Self::Closed];

    /// The word in the configuration and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Request => "request",
            Self::Closed => "closed",
        }
    }

    /// The mode of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }
}

/// What was said of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    /// It has asked; nobody has answered.
    Requested,
    /// A user here has written to it.
    Introduced,
    /// An administrator lets it in.
    Allowed,
    /// An administrator keeps it out.
    Denied,
}

impl Stand {
    const ALL: [Self; 4] = [Self::Requested, Self::Introduced, Self::Allowed, Self::Denied];

    const fn code(self) -> u8 {
        match self {
            Self::Requested => 1,
            Self::Introduced => 2,
            Self::Allowed => 3,
            Self::Denied => 4,
        }
    }
}

impl Shaped for Stand {
    const SHAPE: &'static Shape = &Shape::Code {
        name: "Stand",
        words: &[(1, "Requested"), (2, "Introduced"), (3, "Allowed"), (4, "Denied")],
    };
}

impl serde::Serialize for Stand {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.code())
    }
}

impl<'de> serde::Deserialize<'de> for Stand {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = u8::deserialize(deserializer)?;
        let found = Self::ALL.into_iter().find(|stand| stand.code() == code);
        found.ok_or_else(|| serde::de::Error::custom("no such stand"))
    }
}

/// How a node stands here, in one word for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// Nothing was said of it; the federation mode decides.
    #[default]
    Unlisted,
    /// It stands in the configuration.
    Configured,
    /// It waits for an administrator.
    Requested,
    /// A user here has written to it.
    Introduced,
    /// An administrator lets it in.
    Allowed,
    /// Nothing is sent to it or taken from it for now.
    Paused,
    /// It is gone for good.
    Retired,
    /// An administrator keeps it out.
    Denied,
}

impl Standing {
    /// The word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unlisted => "unlisted",
            Self::Configured => "configured",
            Self::Requested => "requested",
            Self::Introduced => "introduced",
            Self::Allowed => "allowed",
            Self::Paused => "paused",
            Self::Retired => "retired",
            Self::Denied => "denied",
        }
    }
}

/// What is about to happen with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Something that it says is taken: a greeting, an envelope, a statement, a question.
    Take,
    /// Something is kept for it.
    Queue,
    /// It is dialled, or something that is kept for it leaves, to it or to its custodians.
    Send,
    /// It is told what became of its own, on a link that it holds.
    Answer,
}

/// Whether it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Yes,
    /// Not now: what there is, is kept.
    Later,
    /// Not at all, and what to say about it.
    No(RefusalCode),
}

/// What the core knows of the policy. The rows are those on disk; the others may be forgotten.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    pub(crate) rows: BTreeMap<NodeId, PolicyRow>,
    /// Set by hand; else the configuration's.
    pub(crate) federation: Option<Federation>,
    /// Nodes that the configuration names.
    configured: BTreeSet<NodeId>,
    /// Nodes of which what waits is being ended, and when the next step is due.
    pub(crate) parting: BTreeMap<NodeId, u64>,
    /// How often a node was told that it is refused.
    told: BTreeMap<NodeId, u32>,
    /// Processes that are kept out at the door, and whose they are.
    barred: BTreeMap<Bytes, NodeId>,
    /// Where an administrator expects a node.
    expected: Vec<Transport>,
}

impl PolicyRow {
    /// Says nothing.
    pub(crate) const EMPTY: Self = Self {
        stand: None,
        since_ms: 0,
        note: String::new(),
        paused: false,
        retired_ms: None,
        pinned: Vec::new(),
        limits: None,
    };
}

impl LimitsRow {
    /// Says nothing.
    pub(crate) const NONE: Self = Self {
        envelopes: None,
        kib: None,
        statements: None,
        questions: None,
        rows: None,
        bytes: None,
        inbox_rows: None,
        inbox_bytes: None,
    };
}

impl Core {
    pub(crate) fn load_policy(&mut self, txn: &dyn Txn) -> Result<(), StoreError> {
        for (key, bytes) in txn.range(POLICY, &[], &[0xff; 33], usize::MAX)? {
            let node = NodeId::from_slice(&key)
                .ok_or_else(|| StoreError::corrupt("the key of a policy row"))?;
            let row: PolicyRow = schema::decode(&bytes)?;
            for transport in &row.pinned {
                self.effects.push_back(Effect::Pin { transport: transport.clone() });
            }
            self.policy.rows.insert(node, row);
        }
        let code: Option<u64> = schema::get(txn, META, FEDERATION)?;
        let code = code.and_then(|code| usize::try_from(code).ok());
        self.policy.federation = code.and_then(|code| Federation::ALL.get(code).copied());
        self.note_configured();
        let gone: Vec<NodeId> = self.peers.keys().copied().filter(|n| self.is_parted(n)).collect();
        self.policy.parting = gone.into_iter().map(|node| (node, self.now_ms)).collect();
        Ok(())
    }

    /// The configuration was read.
    pub(crate) fn note_configured(&mut self) {
        let pinned = self.settings.pinned.iter().map(|(node, _)| *node);
        let custody = self.settings.custody.iter().map(|terms| terms.node);
        self.policy.configured = pinned.chain(custody).chain(self.custodians.clone()).collect();
    }

    pub(crate) fn write_policy(
        &mut self,
        node: &NodeId,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        match self.policy.rows.get(node) {
            Some(row) if *row != PolicyRow::EMPTY => schema::put(txn, POLICY, node.as_bytes(), row),
            Some(_) | None => {
                self.policy.rows.remove(node);
                txn.delete(POLICY, node.as_bytes())
            }
        }
    }

    /// The row of a node, to be changed; it is written at the end of the batch.
    pub(crate) fn policy_row(&mut self, node: &NodeId) -> &mut PolicyRow {
        self.batch.policy_rows.insert(*node);
        self.policy.rows.entry(*node).or_insert(PolicyRow::EMPTY)
    }

    /// Who may deal with this node when nothing else was said of them.
    pub(crate) fn federation(&self) -> Federation {
        self.policy.federation.unwrap_or(self.settings.federation)
    }

    /// Sets the mode by hand, or leaves it to the configuration.
    pub(crate) fn set_federation(
        &mut self,
        mode: Option<Federation>,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let code = mode.and_then(|mode| Federation::ALL.iter().position(|known| *known == mode));
        match code {
            Some(code) => schema::put(txn, META, FEDERATION, &(code as u64))?,
            None => txn.delete(META, FEDERATION)?,
        }
        self.policy.federation = mode;
        self.enforce_all();
        Ok(())
    }

    /// The one check.
    pub(crate) fn may(&self, node: &NodeId, act: Act) -> Verdict {
        let row = self.policy.rows.get(node);
        let stand = row.and_then(|row| row.stand);
        if stand == Some(Stand::Denied) {
            return Verdict::No(RefusalCode::Refused);
        }
        if matches!(act, Act::Queue | Act::Send) && self.is_retired(node) {
            return Verdict::No(RefusalCode::Retired);
        }
        if act != Act::Queue && row.is_some_and(|row| row.paused) {
            return Verdict::Later;
        }
        if act != Act::Queue && self.is_left_alone(node) {
            return Verdict::Later;
        }
        let is_let_in = stand == Some(Stand::Allowed) || self.policy.configured.contains(node);
        match (self.federation(), act) {
            (Federation::Open, _) => Verdict::Yes,
            _ if is_let_in => Verdict::Yes,
            // Who is written to is introduced by that.
            (Federation::Request, Act::Queue) => Verdict::Yes,
            (Federation::Request, _) if stand == Some(Stand::Introduced) => Verdict::Yes,
            (Federation::Request, _) | (Federation::Closed, Act::Send | Act::Answer) => {
                Verdict::Later
            }
            (Federation::Closed, Act::Take | Act::Queue) => Verdict::No(RefusalCode::Refused),
        }
    }

    pub(crate) fn may_send(&self, node: &NodeId) -> bool {
        self.may(node, Act::Send) == Verdict::Yes
    }

    /// True for a node that has signed that it is gone for good, or of which an administrator says so.
    pub(crate) fn is_retired(&self, node: &NodeId) -> bool {
        let is_told = self.policy.rows.get(node).is_some_and(|row| row.retired_ms.is_some());
        is_told || self.state_of(node) == Some(NodeState::Retired)
    }

    /// What a node says of itself.
    pub(crate) fn state_of(&self, node: &NodeId) -> Option<NodeState> {
        let descriptor = self.peers.get(node).and_then(|peer| peer.descriptor.as_ref());
        descriptor.map(|(_, known)| known.addresses.state)
    }

    /// True when what waits for a node has to end.
    pub(crate) fn is_parted(&self, node: &NodeId) -> bool {
        matches!(self.may(node, Act::Send), Verdict::No(_))
    }

    pub(crate) fn standing(&self, node: &NodeId) -> Standing {
        let row = self.policy.rows.get(node);
        match row.and_then(|row| row.stand) {
            Some(Stand::Denied) => Standing::Denied,
            _ if self.is_retired(node) => Standing::Retired,
            _ if row.is_some_and(|row| row.paused) => Standing::Paused,
            Some(Stand::Allowed) => Standing::Allowed,
            _ if self.policy.configured.contains(node) => Standing::Configured,
            Some(Stand::Introduced) => Standing::Introduced,
            Some(Stand::Requested) => Standing::Requested,
            None => Standing::Unlisted,
        }
    }

    /// A user here writes to somebody there: with that the node is introduced.
    pub(crate) fn introduce(&mut self, node: &NodeId) {
        let stand = self.policy.rows.get(node).and_then(|row| row.stand);
        let is_new = !matches!(stand, Some(Stand::Introduced | Stand::Allowed | Stand::Denied));
        if self.federation() != Federation::Request || !is_new || *node == self.node {
            return;
        }
        let now_ms = self.now_ms;
        let row = self.policy_row(node);
        (row.stand, row.since_ms) = (Some(Stand::Introduced), now_ms);
        self.batch.peers.insert(*node);
    }

    /// A node greets. False when it is refused, and told so.
    pub(crate) fn lets_in(&mut self, link: LinkId, node: &NodeId, transport: &Bytes) -> bool {
        self.meet_expected(node, transport);
        let refusal = match self.may(node, Act::Take) {
            Verdict::Yes => return true,
            Verdict::Later => {
                let is_paused = self.policy.rows.get(node).is_some_and(|row| row.paused);
                if !is_paused && self.federation() == Federation::Request {
                    self.note_request(node);
                }
                let left_ms = self.left_alone_ms(node);
                let after_ms = match left_ms {
                    0 if is_paused => PAUSED_AGAIN_MS,
                    0 => ASK_AGAIN_MS,
                    left_ms => left_ms,
                };
                Refusal { code: RefusalCode::Busy, after_ms: Some(after_ms) }
            }
            Verdict::No(code) => Refusal { code, after_ms: None },
        };
        let is_final = !refusal.code.may_retry();
        self.refuse_peer_with(link, refusal);
        if is_final {
            self.bar(node, transport);
        }
        false
    }

    /// How many nodes wait for an answer.
    pub(crate) fn requests(&self) -> u64 {
        let asking = |row: &&PolicyRow| row.stand == Some(Stand::Requested);
        self.policy.rows.values().filter(asking).count() as u64
    }

    fn note_request(&mut self, node: &NodeId) {
        if self.policy.rows.get(node).is_some_and(|row| row.stand.is_some()) {
            return;
        }
        let asking = |row: &PolicyRow| row.stand == Some(Stand::Requested);
        let waiting = self.policy.rows.iter().filter(|(_, row)| asking(row));
        if waiting.clone().count() >= REQUESTS_MAX
            && let Some(oldest) = waiting.min_by_key(|(_, row)| row.since_ms).map(|(node, _)| *node)
        {
            self.policy_row(&oldest).stand = None;
            self.policy_row(&oldest).since_ms = 0;
        }
        let now_ms = self.now_ms;
        let row = self.policy_row(node);
        (row.stand, row.since_ms) = (Some(Stand::Requested), now_ms);
    }

    /// Whoever goes on to come after being told is not let in any more.
    fn bar(&mut self, node: &NodeId, transport: &Bytes) {
        if self.policy.told.len() >= BARRED_MAX && !self.policy.told.contains_key(node) {
            return;
        }
        let told = self.policy.told.entry(*node).or_default();
        *told = told.saturating_add(1);
        if *told >= TOLD_MAX
            && self.policy.barred.len() < BARRED_MAX
            && self.policy.barred.insert(transport.clone(), *node).is_none()
        {
            self.effects.push_back(Effect::Bar { transport: transport.clone(), is_barred: true });
        }
    }

    fn unbar(&mut self, node: &NodeId) {
        self.policy.told.remove(node);
        let barred = &mut self.policy.barred;
        let free: Vec<Bytes> =
            barred.iter().filter(|(_, whose)| *whose == node).map(|(t, _)| t.clone()).collect();
        for transport in free {
            self.policy.barred.remove(&transport);
            self.effects.push_back(Effect::Bar { transport, is_barred: false });
        }
    }

    /// An administrator says where a node is, and not which.
    pub(crate) fn expect(&mut self, transport: Transport) {
        self.policy.expected.retain(|known| known.peer_id != transport.peer_id);
        self.policy.expected.truncate(EXPECTED_MAX - 1);
        self.policy.expected.push(transport.clone());
        self.effects.push_back(Effect::Pin { transport: transport.clone() });
        self.effects.push_back(Effect::Meet { transport });
    }

    fn meet_expected(&mut self, node: &NodeId, transport: &Bytes) {
        let place = self.policy.expected.iter().position(|known| known.peer_id == *transport);
        let Some(place) = place else { return };
        let transport = self.policy.expected.swap_remove(place);
        let now_ms = self.now_ms;
        let row = self.policy_row(node);
        if row.stand != Some(Stand::Denied) {
            (row.stand, row.since_ms) = (Some(Stand::Allowed), now_ms);
        }
        row.pinned = vec![transport];
    }

    /// The answers for a node may have changed: links that must not be end, queues that must not be
    /// end, and what may flow, flows.
    pub(crate) fn enforce(&mut self, node: &NodeId) {
        let take = self.may(node, Act::Take);
        if take == Verdict::Yes {
            self.unbar(node);
        } else if let Some(link) = self.peers.get(node).and_then(|peer| peer.link) {
            let refusal = match take {
                Verdict::No(code) => Refusal { code, after_ms: None },
                Verdict::Yes | Verdict::Later => {
                    Refusal { code: RefusalCode::Busy, after_ms: Some(PAUSED_AGAIN_MS) }
                }
            };
            self.refuse_peer_with(link, refusal);
        }
        if self.is_parted(node) {
            self.part_from(node);
        } else {
            self.policy.parting.remove(node);
        }
        if !self.may_send(node) {
            if let Some(peer) = self.peers.get_mut(node) {
                peer.retry.dialing_until_ms = None;
            }
            self.hurry_fetches(node);
        }
        // It may be the custodian of some, and as such be used, or not any more.
        self.restart_offers(node);
    }

    pub(crate) fn enforce_all(&mut self) {
        let known: Vec<NodeId> = self.peers.keys().copied().collect();
        if self.federation() == Federation::Request {
            // Those with whom our users deal already were written to, too.
            for node in &known {
                let is_used = |peer: &crate::peer::Peer| peer.sent > 0 || peer.queued > 0;
                if self.peers.get(node).is_some_and(is_used) {
                    self.introduce(node);
                }
            }
        }
        for node in known {
            self.enforce(&node);
            if self.wants(&node) || !self.may_send(&node) {
                self.batch.peers.insert(node);
            }
        }
    }
}
