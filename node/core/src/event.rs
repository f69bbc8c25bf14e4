//! All that can happen to a node, on one page. What the node then asks for is in `effect.rs`; how
//! frames become inputs is in `ingress.rs`.

use bytes::Bytes;
use tidings_protocol::{
    client_frame::{
        FetchBundle, InviteSecret, Join, Noted, PublishList, PublishPrekeys, Resolve, ShowLists,
    },
    custody::{CheckedOrigin, Consent},
    descriptor::{CheckedDescriptor, Delegation, Descriptor, Transport},
    device_list::CheckedList,
    directory::{Directory, DirectoryEntry, DirectoryWanted},
    domain::Domain,
    envelope::EnvelopeHead,
    hello::{ClientHello, Mark, PeerHello},
    id::{CopyId, Eid, NodeId, SubmitId},
    peer_frame::{Answer, FetchFor, FetchUser, Forward, NewerListsFor, User},
    refusal::{Refusal, RefusalCode},
    signed::Signed,
    statement::Checked,
};

use crate::{
    policy::Federation, reconfigure::LiveSettings, routes::RouteTo, schema::LimitsRow,
    settings::CustodyTerms,
};

/// A connection of a device. Never used twice within one boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// A link to another node. Never used twice within one boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkId(pub u64);

/// Names an administrator's question until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AdminToken(pub u64);

/// One cause.
#[derive(Clone, Debug)]
pub enum Event {
    /// A device opened a connection; nothing is known of it.
    ClientConnected {
        /// The connection.
        conn: ConnId,
    },
    /// A device sent a frame, read by [`crate::ingress::read_client_frame`].
    Client {
        /// The connection.
        conn: ConnId,
        /// The frame.
        input: ClientInput,
    },
    /// A device sent what is no frame; the link must end.
    ClientBroke {
        /// The connection.
        conn: ConnId,
        /// Why.
        code: RefusalCode,
    },
    /// A connection of a device is gone.
    ClientClosed {
        /// The connection.
        conn: ConnId,
    },
    /// A link to a peer is up; libp2p has authenticated its peer id.
    PeerConnected {
        /// The link.
        link: LinkId,
        /// The libp2p peer id, as bytes.
        transport: Bytes,
        /// True when this side dialled.
        dialer: bool,
    },
    /// A peer sent a frame, read by [`crate::ingress::read_peer_frame`].
    Peer {
        /// The link.
        link: LinkId,
        /// The frame.
        input: PeerInput,
    },
    /// A peer sent what is no frame; the link must end.
    PeerBroke {
        /// The link.
        link: LinkId,
        /// Why.
        code: RefusalCode,
    },
    /// A link to a peer is gone.
    PeerClosed {
        /// The link.
        link: LinkId,
    },
    /// A dial that the core asked for came to nothing.
    DialFailed {
        /// The node.
        node: NodeId,
    },
    /// What the DHT knows of a node; already checked with [`Descriptor::read`], possibly empty.
    Found {
        /// The node.
        node: NodeId,
        /// The descriptors.
        descriptors: Vec<(Descriptor, CheckedDescriptor)>,
    },
    /// What the DNS says about a domain.
    Resolved {
        /// The domain.
        domain: Domain,
        /// What it says.
        outcome: DnsOutcome,
    },
    /// Where this process listens now: (libp2p peer id, multiaddrs).
    Listening {
        /// The libp2p peer id, as bytes.
        peer_id: Bytes,
        /// Multiaddrs in text form.
        multiaddrs: Vec<String>,
    },
    /// Time has passed: [`crate::Core::next_deadline`] was reached.
    Tick,
    /// Free bytes on the store's disk, and its size.
    Disk {
        /// Bytes free.
        free: u64,
        /// Bytes in all.
        size: u64,
    },
    /// The node stops: say so to everybody.
    Drain,
    /// An administrator asks.
    Admin {
        /// Names the question.
        token: AdminToken,
        /// The question.
        command: AdminCommand,
    },
}

/// What the DNS says about a domain, as far as it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsOutcome {
    /// It names this node.
    Node(NodeId),
    /// There is no record of ours.
    Absent,
    /// Its records name different nodes.
    Contradicting,
    /// A record of ours cannot be read.
    Unreadable,
    /// No answer, or none that says whether there is a record.
    Silent,
}

/// An envelope with its ids, computed outside the transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedEnvelope {
    /// Header and targets.
    pub head: EnvelopeHead,
    /// The shared body.
    pub shared: Bytes,
    /// The envelope's id.
    pub eid: Eid,
    /// The id of each copy, in the order of the targets.
    pub copies: Vec<CopyId>,
}

/// A frame of a device whose signatures and hashes were checked.
#[derive(Clone, Debug)]
pub enum ClientInput {
    /// Proof of key; its signature is checked in the session, which knows key and challenge.
    Hello(ClientHello),
    /// A newcomer, with the list that was checked on its own.
    Join(Box<(Join, CheckedList)>),
    /// Envelopes of one message.
    Submit {
        /// Idempotency.
        submit: SubmitId,
        /// The envelopes.
        envelopes: Vec<PreparedEnvelope>,
        /// A mark of the device's store.
        mine: Mark,
    },
    /// Copies on the device's disk.
    Received {
        /// Inbox number and copy, in the order of the statements.
        items: Vec<(u64, CopyId)>,
        /// The device's statements.
        checked: Checked,
        /// A mark of the device's store.
        mine: Mark,
    },
    /// Notes on the device's disk.
    Noted {
        /// Their numbers, and a mark of the device's store.
        notes: Noted,
    },
    /// Asks for bundles.
    FetchBundle(FetchBundle),
    /// Asks which node a domain stands for.
    Resolve(Resolve),
    /// Own pre-keys.
    PublishPrekeys(Box<PublishPrekeys>),
    /// Own device list, checked on its own.
    PublishList(Box<(PublishList, CheckedList)>),
    /// Own device lists that the node may have forgotten, checked as a chain.
    ShowLists(Box<(ShowLists, Vec<CheckedList>)>),
    /// Keep-alive.
    Ping {
        /// To be repeated.
        number: u64,
    },
}

/// An envelope that passed through another node, or is to pass through us.
#[derive(Clone, Debug)]
pub struct PassingEnvelope {
    /// The frame.
    pub forward: Forward,
    /// The shared body.
    pub shared: Bytes,
    /// Its id, by header and copies.
    pub eid: Eid,
    /// Whose it is, if the proof of that holds.
    pub origin: Option<CheckedOrigin>,
    /// The same envelope with its targets opened, or why they were not; with the ids that follow from
    /// what was opened. Absent when it is not for this node.
    pub opened: Option<Result<PreparedEnvelope, RefusalCode>>,
}

/// A frame of a peer whose signatures and hashes were checked.
#[derive(Clone, Debug)]
pub enum PeerInput {
    /// Proof of identity, with the descriptors that it carries.
    Hello(Box<CheckedHello>),
    /// An envelope.
    Deliver(PreparedEnvelope),
    /// Hop acknowledgements.
    Took {
        /// One for each envelope.
        answers: Vec<Answer>,
        /// A mark of the peer's store.
        mark: Mark,
    },
    /// Statements; rows to be named in the answer.
    Statements {
        /// The peer's rows.
        rows: Vec<u64>,
        /// The statements, proof by proof.
        checked: Vec<Checked>,
    },
    /// Our statements are on the peer's disk.
    StatementsTook {
        /// Our rows.
        rows: Vec<u64>,
        /// A mark of the peer's store.
        mark: Mark,
    },
    /// The peer asks what became of its envelopes.
    Audit {
        /// The envelopes.
        eids: Vec<Eid>,
    },
    /// What became of ours.
    AuditAnswer {
        /// There, not final.
        waiting: Vec<Eid>,
        /// Not there.
        unknown: Vec<Eid>,
    },
    /// The peer asks for one of our users.
    FetchUser(FetchUser),
    /// A user of the peer.
    User(Box<User>),
    /// Keep-alive.
    KeepAlive {
        /// A mark of the peer's store.
        mark: Mark,
    },
    /// The peer consents to be our custodian, or no longer.
    Consent(Signed<Consent>),
    /// The peer would hand these to us, for an absent node.
    Offer {
        /// The absent node.
        destination: NodeId,
        /// The envelopes.
        eids: Vec<Eid>,
    },
    /// What of our offer the peer would take.
    Wanted {
        /// The absent node.
        destination: NodeId,
        /// Why it takes no more.
        refusal: Option<Refusal>,
        /// The envelopes.
        eids: Vec<Eid>,
        /// The newest delegation of the absent node that the peer knows.
        delegation: Option<Signed<Delegation>>,
    },
    /// An envelope through other nodes.
    Forward(Box<PassingEnvelope>),
    /// The peer asks for a user of another node.
    FetchFor(FetchFor),
    /// Newer device lists than an envelope was sealed for that the peer has of us.
    NewerListsFor(NewerListsFor),
    /// A page of the peer's directory.
    Directory(Directory),
    /// What of our page the peer wants.
    DirectoryWanted(DirectoryWanted),
    /// A user of the peer, for its custodian.
    DirectoryEntry(Box<DirectoryEntry>),
    /// The peer ends the link.
    Farewell {
        /// Why.
        code: RefusalCode,
        /// When it may be tried again, in ms from now, if the peer says so.
        after_ms: Option<u64>,
    },
    /// The peer's newest descriptor.
    Announce(Box<(Descriptor, CheckedDescriptor)>),
}

/// A peer's hello with its descriptors read and checked.
#[derive(Clone, Debug)]
pub struct CheckedHello {
    /// The hello.
    pub hello: PeerHello,
    /// The peer's descriptor.
    pub descriptor: (Descriptor, CheckedDescriptor),
    /// Descriptors of others; those that did not check are left out.
    pub introductions: Vec<(Descriptor, CheckedDescriptor)>,
}

/// What an administrator can ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminCommand {
    /// Make an invite.
    Invite {
        /// Its secret, drawn by the asker.
        secret: InviteSecret,
        /// How many accounts it makes.
        uses: u32,
        /// How long it is good for, in ms.
        life_ms: u64,
    },
    /// The same, asked by this user of the system.
    By {
        /// His number.
        who: u32,
        /// What he asks.
        command: Box<Self>,
    },
    /// All peers, with queue and state.
    Peers,
    /// All that is known of one peer.
    Peer {
        /// Which.
        node: NodeId,
    },
    /// Changes how this node deals with another one.
    ChangePeer {
        /// Which.
        node: NodeId,
        /// The change.
        change: PeerChange,
        /// Why, for other administrators.
        note: String,
    },
    /// Dials a process, and lets in the node whose it is.
    Meet {
        /// The process.
        transport: Transport,
    },
    /// Tries all peers at once that there is something for.
    RetryAll,
    /// Sets who may deal with this node when nothing else was said; absent: as configured.
    SetFederation(Option<Federation>),
    /// Says to everybody that this node is gone for good.
    Goodbye {
        /// Says instead that it is not.
        is_taken_back: bool,
    },
    /// The configuration was read again.
    Reconfigure {
        /// What it says of what may change.
        live: Box<LiveSettings>,
        /// The names of what has changed, for the log.
        changed: String,
    },
    /// Entries of the administrators' log, oldest first.
    Log {
        /// From this number on.
        from: u64,
    },
    /// What waits for one peer, or for all.
    Queue {
        /// The peer.
        node: Option<NodeId>,
    },
    /// Dead letters for one peer, or for all.
    Dead {
        /// The peer.
        node: Option<NodeId>,
    },
    /// Sends dead letters again.
    Redrive(DeadPick),
    /// Drops dead letters, and tells their senders.
    DropDead(DeadPick),
    /// What is held for others, and what others hold for this node.
    Custody,
    /// Be ready to hold so much for a node.
    Grant(CustodyTerms),
    /// Hold nothing more for a node.
    Revoke {
        /// The node.
        node: NodeId,
    },
    /// Domains and what they stand for.
    Names(NameCommand),
    /// The node at a glance.
    Status,
    /// All routes.
    Routes,
    /// Sets a route on the running node.
    SetRoute {
        /// To which node.
        to: RouteTo,
        /// Through which; absent to dial it itself.
        via: Option<NodeId>,
    },
    /// Takes back what [`AdminCommand::SetRoute`] has set.
    RemoveRoute {
        /// To which node.
        to: RouteTo,
    },
}

/// How this node deals with another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerChange {
    /// Lets it in, whatever was said before.
    Allow,
    /// Keeps it out, and ends what waits for it.
    Deny,
    /// Sends nothing to it and takes nothing from it, and keeps everything.
    Pause,
    /// The end of that.
    Resume,
    /// Declares it gone for good: ends what waits for it.
    Retire,
    /// Tries it at once.
    RetryNow,
    /// Lets it in and says where it is.
    Pin(Vec<Transport>),
    /// Says what it may cost.
    Limit(LimitsRow),
}

/// What an administrator does about domains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameCommand {
    /// All that are pinned, and all aliases.
    List,
    /// This domain stands for this node, whatever the DNS says.
    Alias {
        /// The domain.
        domain: Domain,
        /// The node.
        node: NodeId,
    },
    /// What has changed about a pinned domain holds from now on.
    Accept {
        /// The domain.
        domain: Domain,
    },
    /// Neither pinned nor an alias any more.
    Forget {
        /// The domain.
        domain: Domain,
    },
    /// Ask the DNS and the node now.
    Check {
        /// The domain.
        domain: Domain,
    },
}

/// Which dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadPick {
    /// One envelope.
    One(Eid),
    /// All for one peer.
    Peer(NodeId),
    /// All.
    All,
}
