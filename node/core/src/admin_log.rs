//! What administrators have changed: one entry for each change, in the transaction that makes it. Each
//! entry names the hash of the one before, so that who knows the newest hash notices any other past.
//! Says who by the system's user, and names nodes and numbers, never a person, text or secret.

use core::fmt;

use tidings_protocol::{
    codec,
    id::{Hash, NodeId, hash},
};
use tidings_store::{StoreError, Txn};

use crate::{
    Core,
    event::{AdminCommand, DeadPick, NameCommand, PeerChange},
    policy::Federation,
    routes::RouteTo,
    schema::{self, ADMIN_LOG, AdminLogRow, LimitsRow},
    settings::CustodyTerms,
};

/// Entries that are kept: years of changes. The oldest go first, and the chain then begins later.
const ENTRIES_MAX: u64 = 100_000;
/// Entries listed at once.
pub const PAGE_MAX: usize = 500;

/// An entry, and what the next one names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its number, from 1.
    pub seq: u64,
    /// What it says.
    pub row: AdminLogRow,
    /// Its hash.
    pub hash: Hash,
}

/// The hash of an entry.
#[must_use]
pub fn entry_hash(seq: u64, row: &AdminLogRow) -> Hash {
    hash("admin log", &[&seq.to_be_bytes(), &codec::encode(row)])
}

impl AdminCommand {
    /// What the log says of it; absent for what changes nothing.
    pub(crate) fn log_entry(&self) -> Option<(&'static str, String)> {
        Some(match self {
            Self::By { command, .. } => return command.log_entry(),
            Self::Invite { uses, life_ms, .. } => {
                ("invite", format!("{uses} accounts within {} s", life_ms / 1_000))
            }
            Self::ChangePeer { node, change, .. } => {
                (change.name(), with_values(node, change.values()))
            }
            Self::Meet { transport } => ("peers add", transport.multiaddrs.join(" ")),
            Self::RetryAll => ("peers retry-now", "all".to_owned()),
            Self::SetFederation(mode) => {
                ("federation", mode.map_or("as configured", Federation::name).to_owned())
            }
            Self::Goodbye { is_taken_back: true } => ("goodbye", "taken back".to_owned()),
            Self::Goodbye { is_taken_back: false } => ("goodbye", "said".to_owned()),
            Self::Reconfigure { changed, .. } => ("reload", changed.clone()),
            Self::Grant(terms) => ("custody grant", with_values(&terms.node, granted(terms))),
            Self::Revoke { node } => ("custody revoke", node.to_text()),
            Self::Redrive(pick) => ("dead redrive", pick.to_string()),
            Self::DropDead(pick) => ("dead drop", pick.to_string()),
            Self::Names(NameCommand::Alias { domain, node }) => {
                ("names alias", format!("{domain} {}", node.to_text()))
            }
            Self::Names(NameCommand::Accept { domain }) => ("names accept", domain.to_string()),
            Self::Names(NameCommand::Forget { domain }) => ("names forget", domain.to_string()),
            Self::SetRoute { to, via } => ("routes set", route_text(to, via.as_ref())),
            Self::RemoveRoute { to } => ("routes remove", route_text(to, None)),
            Self::Names(NameCommand::List | NameCommand::Check { .. })
            | Self::Routes
            | Self::Custody
            | Self::Peers
            | Self::Peer { .. }
            | Self::Log { .. }
            | Self::Queue { .. }
            | Self::Dead { .. }
            | Self::Status => return None,
        })
    }
}

impl PeerChange {
    const fn name(&self) -> &'static str {
        match self {
            Self::Allow => "peers allow",
            Self::Deny => "peers deny",
            Self::Pause => "peers pause",
            Self::Resume => "peers resume",
            Self::Retire => "peers retire",
            Self::RetryNow => "peers retry-now",
            Self::Pin(_) => "peers add",
            Self::Limit(_) => "peers limits",
        }
    }
}

impl PeerChange {
    /// To what it is changed: what is not named stays as configured.
    fn values(&self) -> Vec<String> {
        match self {
            Self::Pin(transports) => {
                transports.iter().flat_map(|transport| transport.multiaddrs.clone()).collect()
            }
            Self::Limit(limits) => {
                let LimitsRow { envelopes, kib, statements, questions, .. } = limits;
                let LimitsRow { rows, bytes, inbox_rows, inbox_bytes, .. } = limits;
                let named = [
                    ("envelopes", envelopes),
                    ("kib", kib),
                    ("statements", statements),
                    ("questions", questions),
                    ("rows", rows),
                    ("bytes", bytes),
                    ("inbox_rows", inbox_rows),
                    ("inbox_bytes", inbox_bytes),
                ];
                let set = named.iter().filter_map(|(name, value)| Some((name, (**value)?)));
                set.map(|(name, value)| format!("{name}={value}")).collect()
            }
            Self::Allow
            | Self::Deny
            | Self::Pause
            | Self::Resume
            | Self::Retire
            | Self::RetryNow => Vec::new(),
        }
    }
}

fn granted(terms: &CustodyTerms) -> Vec<String> {
    let CustodyTerms { rows, bytes, life_ms, users, .. } = terms;
    vec![
        format!("rows={rows}"),
        format!("bytes={bytes}"),
        format!("life_ms={life_ms}"),
        format!("users={users}"),
    ]
}

fn with_values(node: &NodeId, values: Vec<String>) -> String {
    core::iter::once(node.to_text()).chain(values).collect::<Vec<_>>().join(" ")
}

impl fmt::Display for DeadPick {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(eid) => write!(out, "{eid}"),
            Self::Peer(node) => out.write_str(&node.to_text()),
            Self::All => out.write_str("all"),
        }
    }
}

impl Core {
    /// Number and hash of the newest entry.
    ///
    /// # Errors
    /// From the store.
    pub fn admin_log_head(txn: &dyn Txn) -> Result<Option<(u64, Hash)>, StoreError> {
        let Some((key, bytes)) = txn.last(ADMIN_LOG, &[], &[0xff; 9])? else { return Ok(None) };
        let row: AdminLogRow = schema::decode(&bytes)?;
        let seq = schema::lsn_of(&key);
        Ok(Some((seq, entry_hash(seq, &row))))
    }

    /// Adds an entry. `who` is the system's number of the user who asked.
    pub(crate) fn log_change(
        &self,
        who: Option<u32>,
        what: &str,
        about: String,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let head = Self::admin_log_head(txn)?;
        let (seq, previous) = head.map_or((1, None), |(seq, hash)| (seq + 1, Some(hash)));
        let (what, at_ms) = (what.to_owned(), self.now_ms);
        let row = AdminLogRow { previous, at_ms, who, what, about };
        schema::put(txn, ADMIN_LOG, &seq.to_be_bytes(), &row)?;
        if seq > ENTRIES_MAX {
            txn.delete(ADMIN_LOG, &(seq - ENTRIES_MAX).to_be_bytes())?;
        }
        Ok(())
    }

    /// A page of entries from a number on, oldest first.
    pub(crate) fn log_page(from: u64, txn: &dyn Txn) -> Result<Vec<LogEntry>, StoreError> {
        let rows = txn.range(ADMIN_LOG, &from.to_be_bytes(), &[0xff; 9], PAGE_MAX)?;
        let entry = |(key, bytes): tidings_store::Row| {
            let (seq, row) = (schema::lsn_of(&key), schema::decode(&bytes)?);
            Ok(LogEntry { seq, hash: entry_hash(seq, &row), row })
        };
        rows.into_iter().map(entry).collect()
    }
}

/// To whom, and through whom.
fn route_text(to: &RouteTo, via: Option<&NodeId>) -> String {
    let to = to.map_or_else(|| "everybody else".to_owned(), |to| to.to_text());
    via.map_or_else(|| to.clone(), |via| format!("{to} via {}", via.to_text()))
}

#[cfg(test)]
mod tests {
    use super::entry_hash;
    use crate::schema::AdminLogRow;

    #[test]
    fn every_part_of_an_entry_is_in_its_hash() {
        let row = AdminLogRow {
            previous: None,
            at_ms: 1,
            who: Some(0),
            what: "peer deny".into(),
            about: "x".into(),
        };
        let first = entry_hash(1, &row);
        let changed = [
            AdminLogRow { at_ms: 2, ..row.clone() },
            AdminLogRow { who: None, ..row.clone() },
            AdminLogRow { what: "peer allow".into(), ..row.clone() },
            AdminLogRow { about: "y".into(), ..row.clone() },
            AdminLogRow { previous: Some(first), ..row.clone() },
        ];
        for other in changed {
            assert_ne!(entry_hash(1, &other), first, "{other:?}");
        }
        assert_ne!(entry_hash(2, &row), first);
    }
}
