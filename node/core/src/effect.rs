//! All that a node can ask for, on one page. Effects leave only after the commit that justifies them.

use bytes::Bytes;
use tidings_protocol::{
    client_frame::{NameSource, NodeFrame},
    custody::Consent,
    descriptor::{Descriptor, NodeState, Transport},
    domain::Domain,
    id::{Hash, NodeId},
    peer_frame::PeerFrame,
    refusal::RefusalCode,
};

use crate::{
    admin_log::LogEntry,
    conduct::Counts,
    event::{AdminToken, ConnId, LinkId},
    policy::{Federation, Standing},
    rates::Limits,
    routes::{RouteSource, RouteTo},
    schema::PolicyRow,
    settings::CustodyTerms,
    space::Intake,
    step::Step,
};

/// One request of the core to its shell.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Send to a device.
    ToClient {
        /// The connection.
        conn: ConnId,
        /// The frame's header.
        frame: NodeFrame,
        /// The bytes behind it.
        body: Bytes,
    },
    /// End a connection, once what was sent to it has left.
    CloseClient {
        /// The connection.
        conn: ConnId,
    },
    /// Send to a peer.
    ToPeer {
        /// The link.
        link: LinkId,
        /// The frame's header.
        frame: PeerFrame,
        /// The bytes behind it.
        body: Bytes,
    },
    /// End a link, once what was sent on it has left.
    ClosePeer {
        /// The link.
        link: LinkId,
    },
    /// Open a link to a node: any of these transports will do.
    Dial {
        /// The node.
        node: NodeId,
        /// Its processes.
        transports: Vec<Transport>,
    },
    /// Ask the DHT for a node's descriptor.
    Lookup {
        /// The node.
        node: NodeId,
    },
    /// Remember where a process is that an administrator configured, whatever the address filter says.
    Pin {
        /// The process.
        transport: Transport,
    },
    /// Open a link to a process, whosever it is.
    Meet {
        /// The process.
        transport: Transport,
    },
    /// Let a process in no more, or again.
    Bar {
        /// Its libp2p peer id, as bytes.
        transport: Bytes,
        /// Whether it is kept out.
        is_barred: bool,
    },
    /// Ask the DNS which node a domain names. Answered by [`crate::event::Event::Resolved`].
    Resolve {
        /// The domain.
        domain: Domain,
    },
    /// Publish the own descriptor.
    Publish {
        /// The descriptor.
        descriptor: Descriptor,
    },
    /// Answer an administrator.
    AdminReply {
        /// The question.
        token: AdminToken,
        /// The answer.
        reply: AdminReply,
    },
    /// Something worth counting.
    Observed(Observed),
    /// An envelope is one step further, for the event log; only if the settings ask for it.
    Step(Step),
}

/// What metrics hang on. Carries no id, address, key or text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// An envelope of an own device is on disk.
    Accepted,
    /// An envelope for an own device is on disk, from a peer or from here.
    Stored,
    /// An envelope for an absent node is on disk, as its custodian's.
    Held,
    /// The same envelope once more.
    Duplicate,
    /// A device has a copy; ms since it was stored here.
    Delivered {
        /// From the commit here to the device's word.
        after_ms: u64,
    },
    /// ✓✓ reached the sender's node; ms since it was accepted there.
    Ticked {
        /// From acceptance to the device's statement.
        after_ms: u64,
    },
    /// An envelope or copy ended without delivery.
    Failed,
    /// It expired.
    Expired,
    /// A frame or request was refused.
    Refused(RefusalCode),
    /// A statement did not verify, or spoke of what is not the signer's.
    BadStatement,
    /// An envelope is a dead letter: its peer refuses it again and again, or links break over it.
    DeadLetter,
    /// An audit found an envelope missing at its destination; zero in peace.
    AuditUnknown,
    /// A peer does again and again what no honest one does.
    Misbehaves,
    /// Own store was found to be rolled back.
    RolledBack,
    /// A peer or device was found to be rolled back.
    OtherRolledBack,
    /// Another process has greeted, or has signed addresses, as this very node: its keys run twice.
    OwnIdElsewhere,
    /// What the DNS or a node says about a pinned domain has changed; the pin holds.
    NameChanged,
    /// The DNS does not name this node for one of its own domains.
    OwnDomainUnbound,
    /// The space that is left has changed from whom new envelopes are taken.
    Intake(Intake),
}

/// An answer to an administrator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminReply {
    /// Done.
    Done,
    /// It cannot be done, and why.
    Refused(String),
    /// Peers.
    Peers(Vec<PeerStatus>),
    /// One peer.
    Peer(Box<PeerDetail>),
    /// Entries of the administrators' log.
    Log(Vec<LogEntry>),
    /// Queued envelopes.
    Queue(Vec<QueueItem>),
    /// Dead letters.
    Dead(Vec<DeadLetter>),
    /// How many dead letters were sent again, or dropped.
    Changed(u64),
    /// How many peers are tried at once.
    Tried(u64),
    /// Custody.
    Custody(Box<CustodyStatus>),
    /// Domains and what they stand for.
    Names(Vec<NameStatus>),
    /// What a look at one domain has found.
    NameChecked(Box<NameCheck>),
    /// The node.
    Status(Box<NodeStatus>),
    /// Routes.
    Routes(Vec<RouteStatus>),
}

/// A route as an administrator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteStatus {
    /// To which node; absent for everybody who has none.
    pub to: RouteTo,
    /// Through which; absent for a node that is dialled itself.
    pub via: Option<NodeId>,
    /// Where it comes from.
    pub source: RouteSource,
    /// The link to the next hop is up.
    pub connected: bool,
    /// Envelopes that wait to be handed over, as in [`PeerStatus::waiting`].
    pub waiting: u64,
    /// Why the next hop refused the last envelope; absent once it has taken one.
    pub refusal: Option<RefusalCode>,
}

/// A peer as an administrator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The peer.
    pub node: NodeId,
    /// How it stands here.
    pub standing: Standing,
    /// What it did that no honest peer does, in thousandths of a point; half is forgotten after ten
    /// minutes.
    pub score: u64,
    /// A link is up and greeted.
    pub connected: bool,
    /// Which.
    pub link: Option<LinkId>,
    /// Envelopes that are not final: those that wait to be handed over, and those that the peer holds
    /// and whose end is not proved.
    pub queued: u64,
    /// Their bytes.
    pub queued_bytes: u64,
    /// Those that wait to be handed over, as far as is known: after a start, what was sent and not
    /// answered counts as handed over until the first link.
    pub waiting: u64,
    /// When the oldest of these was accepted, in Unix ms.
    pub oldest_ms: Option<u64>,
    /// Dead letters for it: neither waiting nor held by it.
    pub dead: u64,
    /// Since when the oldest of these is one, in Unix ms.
    pub dead_oldest_ms: Option<u64>,
    /// Statements that wait for it.
    pub statements: u64,
    /// Envelopes of other nodes that are held for it here, as its custodian's.
    pub in_custody: u64,
    /// What it consents to hold for this node, in envelopes; absent when it is no custodian of ours.
    pub consent_rows: Option<u64>,
    /// Attempts that failed in a row.
    pub failures: u32,
    /// When the next attempt is due, in Unix ms.
    pub next_try_ms: Option<u64>,
    /// When it was last heard, in Unix ms.
    pub seen_ms: Option<u64>,
    /// When its addresses were signed, by its own clock: the serial, which is Unix ms.
    pub record_ms: Option<u64>,
    /// Where it can be reached, as far as is known.
    pub multiaddrs: Vec<String>,
    /// The next hop through which it is spoken to, if an administrator has set one.
    pub via: Option<NodeId>,
    /// Why it, or its next hop, refused the last envelope; absent once one was taken.
    pub refusal: Option<RefusalCode>,
    /// Envelopes of others that are passed on by the agreement with it.
    pub passing: u64,
    /// Copies from it that wait here for devices.
    pub inbox: u64,
    /// Bytes of their envelopes.
    pub inbox_bytes: u64,
}

/// All that is known of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerDetail {
    /// As in the list.
    pub status: PeerStatus,
    /// What was said of it.
    pub policy: PolicyRow,
    /// What it says of itself.
    pub state: Option<NodeState>,
    /// Why it refused this node for good the last time, and when, in Unix ms.
    pub refuses_us: Option<(RefusalCode, u64)>,
    /// The incarnation that it last named.
    pub incarnation: Option<u64>,
    /// When its root key appointed its operational key, by its own clock.
    pub delegation_ms: Option<u64>,
    /// Who holds for it while it is away.
    pub custodians: Vec<NodeId>,
    /// Domains that it claims; nobody has checked them.
    pub domains: Vec<String>,
    /// What it may cost.
    pub limits: Limits,
    /// What it has done since this node started.
    pub counts: Counts,
    /// Until when it is left alone for what it did, in Unix ms.
    pub left_alone_until_ms: Option<u64>,
}

/// A queued envelope as an administrator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueItem {
    /// Where it goes.
    pub node: NodeId,
    /// The envelope.
    pub eid: tidings_protocol::id::Eid,
    /// When it was accepted, in Unix ms.
    pub accepted_ms: u64,
    /// When it expires, in Unix ms.
    pub expires_ms: u64,
    /// Copies, and how many of them are final.
    pub copies: u32,
    /// Final copies.
    pub finished: u32,
    /// It waits to be handed over; else the peer holds it, or it is a dead letter.
    pub waiting: bool,
    /// It is a dead letter.
    pub dead: bool,
    /// Why it was refused the last time, as far as this process knows.
    pub refusal: Option<RefusalCode>,
}

/// A dead letter as an administrator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Where it goes.
    pub node: NodeId,
    /// The envelope.
    pub eid: tidings_protocol::id::Eid,
    /// When it was accepted, in Unix ms.
    pub accepted_ms: u64,
    /// When it expires, in Unix ms.
    pub expires_ms: u64,
    /// Since when it is a dead letter, in Unix ms.
    pub since_ms: u64,
    /// How often it was sent in vain.
    pub attempts: u32,
    /// The last time, in Unix ms.
    pub last_ms: u64,
    /// Why the last time; absent when the link broke.
    pub refusal: Option<RefusalCode>,
}

/// What is held for others, and what others hold for this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustodyStatus {
    /// For whom, or for whom something is left.
    pub held_for: Vec<HeldFor>,
    /// Those whom the delegation names, in its order.
    pub held_by: Vec<HeldBy>,
}

/// What is held for another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldFor {
    /// What this node is ready to hold; zeros when that was taken back.
    pub terms: CustodyTerms,
    /// When an administrator said so, in Unix ms; absent when the configuration does.
    pub changed_ms: Option<u64>,
    /// The other node's delegation names this one: without that nothing is taken.
    pub is_named: bool,
    /// A link is up and greeted.
    pub is_connected: bool,
    /// Envelopes held.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Users kept.
    pub users: u64,
}

/// What a custodian holds for this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldBy {
    /// The custodian.
    pub node: NodeId,
    /// What it has last consented to; absent when it has not said anything yet.
    pub consent: Option<Consent>,
    /// A link is up and greeted.
    pub is_connected: bool,
}

/// A node at a glance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// The node.
    pub node: NodeId,
    /// Redrawn when the store was rolled back.
    pub incarnation: u64,
    /// Number of the last commit.
    pub commit: u64,
    /// Accounts.
    pub accounts: u64,
    /// Connected devices.
    pub devices_connected: u64,
    /// Peers with a greeted link.
    pub peers_connected: u64,
    /// Envelopes for peers that are not final.
    pub queued: u64,
    /// Those that wait to be handed over, as in [`PeerStatus::waiting`].
    pub waiting: u64,
    /// Dead letters, which are neither waiting nor held by a peer.
    pub dead: u64,
    /// Copies that wait for own devices.
    pub inbox: u64,
    /// The node has just started and has not counted all of `inbox` yet.
    pub counting: bool,
    /// From whom new envelopes are taken, by the space that is left.
    pub intake: Intake,
    /// Who may deal with this node when nothing else was said of them.
    pub federation: Federation,
    /// That was set by hand, and is not as configured.
    pub is_federation_set: bool,
    /// Nodes that wait for an administrator.
    pub requests: u64,
    /// Since when this node says that it is gone for good, in Unix ms.
    pub retired_ms: Option<u64>,
    /// Number and hash of the newest entry of the administrators' log.
    pub log: Option<(u64, Hash)>,
    /// Pinned domains about which something has changed that no administrator has accepted.
    pub names_changed: u64,
    /// What the DNS says of the own domains.
    pub domains: Vec<OwnDomain>,
    /// Where this process listens.
    pub multiaddrs: Vec<String>,
}

/// What a look at a domain has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameFound {
    /// The DNS names the node, and the node names the domain.
    Bound,
    /// The DNS names a node that does not name the domain.
    Unclaimed,
    /// The DNS names a node of which no delegation can be had now.
    Unasked,
    /// Of an own domain: the DNS names another node.
    OtherNode,
    /// There is no record.
    Absent,
    /// The records name different nodes.
    Contradicting,
    /// There is a record that cannot be read.
    Unreadable,
    /// The DNS does not answer.
    Silent,
}

/// A domain of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnDomain {
    /// The domain.
    pub domain: Domain,
    /// What the DNS says; absent before its first answer.
    pub found: Option<NameFound>,
    /// The node that it names.
    pub node: Option<NodeId>,
}

/// What has changed about a pinned domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// The DNS names another node, which claims the domain.
    Moved,
    /// The DNS names another node, which does not claim it, as far as is known.
    Unclaimed,
    /// The pinned node does not claim it any more.
    Withdrawn,
    /// The DNS names no node any more, or none that can be read.
    NoRecord,
}

/// A pinned domain or an alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameStatus {
    /// The domain.
    pub domain: Domain,
    /// The node that it stands for.
    pub node: NodeId,
    /// By what.
    pub source: NameSource,
    /// Since when, in Unix ms.
    pub since_ms: u64,
    /// When the DNS and the node last agreed, in Unix ms; absent for an alias.
    pub confirmed_ms: Option<u64>,
    /// What has changed since.
    pub change: Option<ChangeKind>,
    /// The node that the DNS names now.
    pub change_node: Option<NodeId>,
    /// When that was first seen, in Unix ms.
    pub change_ms: Option<u64>,
}

/// What a look at one domain has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameCheck {
    /// The domain.
    pub domain: Domain,
    /// What DNS and node say.
    pub found: NameFound,
    /// The node that the DNS names.
    pub node: Option<NodeId>,
    /// What it stands for here.
    pub pinned: Option<NameStatus>,
}
