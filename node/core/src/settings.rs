//! What a core is told at its start: keys, pinned peers, quotas. Read from the config by the shell.

use tidings_protocol::{
    descriptor::{Delegation, Transport},
    id::NodeId,
    key::SecretKey,
    sealed::SealingSecret,
    signed::Signed,
};

use crate::{policy::Federation, rates::Limits};

/// What the core is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Signs addresses, hellos and statements.
    pub operational: SecretKey,
    /// Opens the targets of envelopes that passed through other nodes.
    pub sealing: SealingSecret,
    /// By which the root key allows that.
    pub delegation: Signed<Delegation>,
    /// Who may deal with this node when nothing else was said of them.
    pub federation: Federation,
    /// What a peer may cost when nothing else was said of it.
    pub limits: Limits,
    /// How to reach some nodes without the DHT.
    pub pinned: Vec<(NodeId, Vec<Transport>)>,
    /// For whom this node is a custodian.
    pub custody: Vec<CustodyTerms>,
    /// Copies that may wait for one device: over it, senders are told to come back.
    pub device_rows_max: u64,
    /// Envelopes that may wait for one peer.
    pub peer_rows_max: u64,
    /// How full the disk may be, in percent, before nothing new is taken from devices; remote
    /// envelopes are refused five percent below it. Of a disk of more than 20 GiB, 20 count.
    pub disk_percent_max: u64,
    /// Whether each step of an envelope is told, for the event log.
    pub tells_steps: bool,
    /// Variants that are broken on purpose, to test the simulator.
    #[cfg(feature = "sabotage")]
    pub sabotage: Option<Sabotage>,
}

impl Settings {
    /// Settings with the default quotas.
    #[must_use]
    pub fn new(
        operational: SecretKey,
        sealing: SealingSecret,
        delegation: Signed<Delegation>,
    ) -> Self {
        Self {
            operational,
            sealing,
            delegation,
            federation: Federation::Open,
            limits: Limits::default(),
            pinned: Vec::new(),
            custody: Vec::new(),
            device_rows_max: 100_000,
            peer_rows_max: 5_000_000,
            disk_percent_max: 95,
            tells_steps: false,
            #[cfg(feature = "sabotage")]
            sabotage: None,
        }
    }
}

/// What this node is ready to hold for another one that is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CustodyTerms {
    /// The other node.
    pub node: NodeId,
    /// Envelopes at a time.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How long, in ms after an envelope was made.
    pub life_ms: u64,
    /// Users whose device lists and bundles are kept for strangers.
    pub users: u64,
}

/// One way to break the contract. Each must be caught by the simulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// The sender's node drops its copy when the next hop has it.
    DropCopyOnHopAck,
    /// The sender's node never asks what became of an envelope.
    NoAudit,
    /// The recipient's node does not remember what it has seen.
    NoNodeDedup,
    /// A rolled-back store is not noticed.
    NoLineageCheck,
    /// A full inbox makes room by dropping what was accepted.
    EvictOnQuota,
    /// Expired copies are still handed to devices.
    PushExpired,
    /// Inbox rows are deleted when they are pushed, not when they are acknowledged.
    DeleteOnPush,
    /// Statements are forgotten when they are sent, not when they are acknowledged.
    ForgetStatementOnSend,
    /// Statements of anybody are believed.
    BelieveAnyStatement,
    /// The same submission is accepted anew each time.
    NoSubmitDedup,
    /// A peer that answers nothing keeps its link.
    EndlessPatience,
    /// Envelopes that say that they were made in the future are taken.
    TakeFromTheFuture,
    /// A full disk does not close the door.
    TakeWhenFull,
    /// A custodian states custody of what it does not keep.
    ForgetCustody,
    /// The sender's node drops its copy when a custodian has it.
    DropCopyOnCustody,
    /// The sender's node does not ask the destination for what custodians held.
    TrustCustodians,
    /// Envelopes are taken in the name of nodes that have not sent them.
    TakeAnyOrigin,
    /// A custodian keeps what was delivered.
    KeepCustody,
    /// What stands behind an envelope that a peer refuses for now waits until it is taken.
    HoldBehindRefused,
    /// A custodian's word is enough for who a user of another node is.
    BelieveAnyListing,
    /// The destination does not look whether opened targets are those of the envelope.
    TakeAnyTargets,
    /// Administrators are told who has an account.
    NameAccounts,
}
