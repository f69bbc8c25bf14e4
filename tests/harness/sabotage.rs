//! Rules that are broken on purpose, to show that the simulator sees it. Some are broken in the
//! simulator's own loop, the others inside the cores by their feature `sabotage`.

use tidings_client::Sabotage as ClientSabotage;
use tidings_core::settings::Sabotage;

/// One rule, broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Effects leave before the commit that justifies them.
    AckBeforeCommit,
    /// A node whose commit failed carries out what the batch asked for, and goes on.
    GoOnAfterFailedCommit,
    /// A rule of the node core.
    Core(Sabotage),
    /// A rule of the client core.
    Client(ClientSabotage),
}

impl Broken {
    /// All of them, by the name on the command line.
    pub const ALL: &'static [(&'static str, Self)] = &[
        ("ack_before_commit", Self::AckBeforeCommit),
        ("drop_copy_on_hop_ack", Self::Core(Sabotage::DropCopyOnHopAck)),
        ("no_audit", Self::Core(Sabotage::NoAudit)),
        ("no_node_dedup", Self::Core(Sabotage::NoNodeDedup)),
        ("no_lineage_check", Self::Core(Sabotage::NoLineageCheck)),
        ("evict_on_quota", Self::Core(Sabotage::EvictOnQuota)),
        ("push_expired", Self::Core(Sabotage::PushExpired)),
        ("delete_on_push", Self::Core(Sabotage::DeleteOnPush)),
        ("forget_statement_on_send", Self::Core(Sabotage::ForgetStatementOnSend)),
        ("believe_any_statement", Self::Core(Sabotage::BelieveAnyStatement)),
        ("no_submit_dedup", Self::Core(Sabotage::NoSubmitDedup)),
        ("endless_patience", Self::Core(Sabotage::EndlessPatience)),
        ("no_device_dedup", Self::Client(ClientSabotage::NoDeviceDedup)),
        ("tick_by_node", Self::Client(ClientSabotage::TickByNode)),
        ("accept_any_incarnation", Self::Client(ClientSabotage::AcceptAnyIncarnation)),
        ("no_resubmission", Self::Client(ClientSabotage::NoResubmission)),
        ("forget_when_restored", Self::Client(ClientSabotage::ForgetWhenRestored)),
        ("take_from_the_future", Self::Core(Sabotage::TakeFromTheFuture)),
        ("take_when_full", Self::Core(Sabotage::TakeWhenFull)),
        ("go_on_after_failed_commit", Self::GoOnAfterFailedCommit),
        ("forget_custody", Self::Core(Sabotage::ForgetCustody)),
        ("drop_copy_on_custody", Self::Core(Sabotage::DropCopyOnCustody)),
        ("trust_custodians", Self::Core(Sabotage::TrustCustodians)),
        ("take_any_origin", Self::Core(Sabotage::TakeAnyOrigin)),
        ("keep_custody", Self::Core(Sabotage::KeepCustody)),
        ("hold_behind_refused", Self::Core(Sabotage::HoldBehindRefused)),
        ("name_accounts", Self::Core(Sabotage::NameAccounts)),
        ("believe_any_listing", Self::Core(Sabotage::BelieveAnyListing)),
        ("take_any_targets", Self::Core(Sabotage::TakeAnyTargets)),
    ];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, broken)| *broken == self).map_or("unnamed", |(name, _)| name)
    }

    /// The rule with this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, broken)| *broken)
    }

    /// What the node core is told.
    #[must_use]
    pub const fn of_core(self) -> Option<Sabotage> {
        match self {
            Self::Core(sabotage) => Some(sabotage),
            Self::AckBeforeCommit | Self::GoOnAfterFailedCommit | Self::Client(_) => None,
        }
    }

    /// What the client core is told.
    #[must_use]
    pub const fn of_client(self) -> Option<ClientSabotage> {
        match self {
            Self::Client(sabotage) => Some(sabotage),
            Self::AckBeforeCommit | Self::GoOnAfterFailedCommit | Self::Core(_) => None,
        }
    }
}
