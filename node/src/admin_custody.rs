//! Custody on the administrator's socket: what is granted, and what stands. What it means is the core's.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidings_core::effect::{CustodyStatus, HeldBy, HeldFor};
use tidings_core::settings::CustodyTerms;

use crate::admin_peers::parse_node;

const DAY_MS: u64 = 24 * 3600 * 1000;

/// What is granted to a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Its id.
    pub node: String,
    /// Envelopes at a time.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Days that each is held.
    pub days: u64,
    /// Users whose device lists are kept.
    pub users: u64,
}

impl Grant {
    pub(crate) fn terms(&self) -> Result<CustodyTerms, String> {
        let Self { rows, bytes, days, users, .. } = *self;
        let node = parse_node(&self.node)?;
        Ok(CustodyTerms { node, rows, bytes, life_ms: days.saturating_mul(DAY_MS), users })
    }
}

pub(crate) fn custody(status: &CustodyStatus) -> Value {
    json!({
        "held_for": status.held_for.iter().map(held_for).collect::<Value>(),
        "held_by": status.held_by.iter().map(held_by).collect::<Value>(),
    })
}

fn held_for(held: &HeldFor) -> Value {
    json!({
        "node": held.terms.node.to_text(),
        "rows": held.terms.rows,
        "bytes": held.terms.bytes,
        "days": held.terms.life_ms / DAY_MS,
        "users": held.terms.users,
        "changed_ms": held.changed_ms,
        "named": held.is_named,
        "connected": held.is_connected,
        "held": held.rows,
        "held_bytes": held.bytes,
        "users_kept": held.users,
    })
}

fn held_by(held: &HeldBy) -> Value {
    let consent = held.consent.as_ref();
    json!({
        "node": held.node.to_text(),
        "rows": consent.map_or(0, |consent| consent.rows),
        "bytes": consent.map_or(0, |consent| consent.bytes),
        "days": consent.map_or(0, |consent| consent.life_ms / DAY_MS),
        "users": consent.map_or(0, |consent| consent.users),
        "issued_ms": consent.map(|consent| consent.issued_ms),
        "connected": held.is_connected,
    })
}
