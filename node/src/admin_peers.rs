//! What administrators say of other nodes, as it stands in lines of the socket, and the answers about
//! them. What it means is the core's.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidings_core::admin_log::LogEntry;
use tidings_core::effect::{PeerDetail, PeerStatus};
use tidings_core::event::{AdminCommand, PeerChange};
use tidings_core::policy::Federation;
use tidings_core::schema::LimitsRow;
use tidings_protocol::descriptor::Transport;
use tidings_protocol::id::{Hash, NodeId};
use tidings_protocol::refusal::RefusalCode;

use crate::input::transport_bytes;
use crate::p2p::NatFigures;
use crate::peer_link::split_peer;

/// A change of how this node deals with another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerWord {
    /// Let it in.
    Allow,
    /// Keep it out, and end what waits for it.
    Deny,
    /// Send nothing to it and take nothing from it for now.
    Pause,
    /// The end of that.
    Resume,
    /// Declare it gone for good.
    Retire,
    /// Try it at once.
    RetryNow,
}

/// What one peer may cost. What is absent is as configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerLimits {
    /// Envelopes in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envelopes: Option<u64>,
    /// Their bytes, in KiB in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kib: Option<u64>,
    /// Statements in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statements: Option<u64>,
    /// Questions in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub questions: Option<u64>,
    /// Envelopes that may wait for it here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Their bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Copies from it that may wait here for devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inbox_rows: Option<u64>,
    /// Bytes of their envelopes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inbox_bytes: Option<u64>,
}

impl PeerLimits {
    /// The row, if every number is one that something can pass.
    pub(crate) fn row(&self) -> Result<LimitsRow, String> {
        let Self { envelopes, kib, statements, questions, .. } = *self;
        for (name, value, min) in [
            ("envelopes", envelopes, 1),
            ("kib", kib, 64),
            ("statements", statements, 64),
            ("questions", questions, 1),
        ] {
            if value.is_some_and(|value| value < min || value > u64::from(u32::MAX)) {
                return Err(format!("{name}: a number from {min} to {}", u32::MAX));
            }
        }
        let Self { rows, bytes, inbox_rows, inbox_bytes, .. } = *self;
        Ok(LimitsRow {
            envelopes,
            kib,
            statements,
            questions,
            rows,
            bytes,
            inbox_rows,
            inbox_bytes,
        })
    }
}

pub(crate) fn parse_node(text: &str) -> Result<NodeId, String> {
    NodeId::parse(text).map_err(|error| error.to_string())
}

pub(crate) fn change(node: &str, word: PeerWord, note: String) -> Result<AdminCommand, String> {
    let change = match word {
        PeerWord::Allow => PeerChange::Allow,
        PeerWord::Deny => PeerChange::Deny,
        PeerWord::Pause => PeerChange::Pause,
        PeerWord::Resume => PeerChange::Resume,
        PeerWord::Retire => PeerChange::Retire,
        PeerWord::RetryNow => PeerChange::RetryNow,
    };
    Ok(AdminCommand::ChangePeer { node: parse_node(node)?, change, note })
}

/// A node, or where one is, or both.
pub(crate) fn add(node: Option<&str>, address: Option<&str>) -> Result<AdminCommand, String> {
    let transport = address.map(transport).transpose()?;
    match (node, transport) {
        (Some(node), transport) => Ok(AdminCommand::ChangePeer {
            node: parse_node(node)?,
            change: PeerChange::Pin(transport.into_iter().collect()),
            note: String::new(),
        }),
        (None, Some(transport)) => Ok(AdminCommand::Meet { transport }),
        (None, None) => Err("say which node, or where it is".to_owned()),
    }
}

fn transport(text: &str) -> Result<Transport, String> {
    let (peer, address) = split_peer(text).ok_or_else(|| {
        "this is no address of a peer; write it like \"/ip4/192.0.2.1/tcp/7400/p2p/<peer id>\", as \
         `tidings admin status` there shows it; one with a name belongs into node.toml"
            .to_owned()
    })?;
    Ok(Transport { peer_id: transport_bytes(peer), multiaddrs: vec![address.to_string()] })
}

pub(crate) fn federation(mode: &str) -> Result<AdminCommand, String> {
    let parse = |name: &str| {
        Federation::parse(name).ok_or_else(|| "one of: open, request, closed, default".to_owned())
    };
    let mode = Some(mode).filter(|name| *name != "default").map(parse).transpose()?;
    Ok(AdminCommand::SetFederation(mode))
}

pub(crate) fn peer(peer: &PeerStatus, nat: &NatFigures) -> Value {
    json!({
        "node": peer.node.to_text(),
        "standing": peer.standing.name(),
        "score": score(peer.score),
        "connected": peer.connected,
        "relayed": peer.link.is_some_and(|link| nat.relayed_links.contains(&link.0)),
        "queued": peer.queued,
        "queued_bytes": peer.queued_bytes,
        "waiting": peer.waiting,
        "oldest_ms": peer.oldest_ms,
        "dead": peer.dead,
        "dead_oldest_ms": peer.dead_oldest_ms,
        "statements": peer.statements,
        "in_custody": peer.in_custody,
        "consent_rows": peer.consent_rows,
        "failures": peer.failures,
        "next_try_ms": peer.next_try_ms,
        "seen_ms": peer.seen_ms,
        "record_ms": peer.record_ms,
        "addresses": peer.multiaddrs,
        "via": peer.via.map(|node| node.to_text()),
        "refusal": peer.refusal.map(RefusalCode::name),
        "passing": peer.passing,
        "inbox": peer.inbox,
        "inbox_bytes": peer.inbox_bytes,
    })
}

/// Points, to a tenth.
fn score(thousandths: u64) -> f64 {
    let tenths = u32::try_from(thousandths / 100).unwrap_or(u32::MAX);
    f64::from(tenths) / 10.0
}

pub(crate) fn detail(detail: &PeerDetail, nat: &NatFigures) -> Value {
    let mut value = peer(&detail.status, nat);
    let nodes: Vec<String> = detail.custodians.iter().map(|node| node.to_text()).collect();
    let pinned: Vec<&String> = detail.policy.pinned.iter().flat_map(|t| &t.multiaddrs).collect();
    let more = json!({
        "state": detail.state.map(|state| state.name()),
        "since_ms": detail.policy.stand.map(|_| detail.policy.since_ms),
        "note": detail.policy.note,
        "paused": detail.policy.paused,
        "declared_retired_ms": detail.policy.retired_ms,
        "pinned": pinned,
        "refuses_us": detail.refuses_us.map(|(code, _)| code.name()),
        "refuses_us_ms": detail.refuses_us.map(|(_, at_ms)| at_ms),
        "left_alone_until_ms": detail.left_alone_until_ms,
        "incarnation": detail.incarnation,
        "delegation_ms": detail.delegation_ms,
        "custodians": nodes,
        "domains": detail.domains,
        "limits": {
            "envelopes": detail.limits.envelopes,
            "kib": detail.limits.kib,
            "statements": detail.limits.statements,
            "questions": detail.limits.questions,
            "rows": detail.policy.limits.as_ref().and_then(|own| own.rows),
            "bytes": detail.policy.limits.as_ref().and_then(|own| own.bytes),
            "inbox_rows": bound(detail.limits.inbox_rows),
            "inbox_bytes": bound(detail.limits.inbox_bytes),
        },
        "counts": {
            "envelopes_in": detail.counts.envelopes_in,
            "bytes_in": detail.counts.bytes_in,
            "envelopes_out": detail.counts.envelopes_out,
            "bytes_out": detail.counts.bytes_out,
            "duplicates": detail.counts.duplicates,
            "limited": detail.counts.limited,
            "malformed": detail.counts.malformed,
            "bad_statements": detail.counts.bad_statements,
            "audits_unknown": detail.counts.audits_unknown,
            "timeouts": detail.counts.timeouts,
            "not_its_own": detail.counts.not_its_own,
            "dials_failed": detail.counts.dials_failed,
        },
    });
    if let (Some(fields), Value::Object(more)) = (value.as_object_mut(), more) {
        fields.extend(more);
    }
    value
}

/// A bound; nothing where there is none.
fn bound(most: u64) -> Option<u64> {
    (most < u64::MAX).then_some(most)
}

pub(crate) fn log_entry(entry: &LogEntry) -> Value {
    json!({
        "seq": entry.seq,
        "previous": entry.row.previous.as_ref().map(Hash::to_string),
        "at_ms": entry.row.at_ms,
        "who": entry.row.who,
        "what": entry.row.what,
        "about": entry.row.about,
        "hash": entry.hash.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use tidings_core::event::{AdminCommand, PeerChange};

    use super::{PeerLimits, add, federation};

    #[test]
    fn a_peer_is_added_by_its_id_by_its_address_or_by_both() {
        let node = tidings_protocol::id::NodeId([7; 32]).to_text();
        let address =
            "/ip4/192.0.2.1/tcp/1/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
        assert!(matches!(add(None, Some(address)), Ok(AdminCommand::Meet { .. })));
        let pins = |address| match add(Some(&node), address) {
            Ok(AdminCommand::ChangePeer { change: PeerChange::Pin(pins), .. }) => pins.len(),
            other => panic!("{other:?}"),
        };
        assert_eq!((pins(None), pins(Some(address))), (0, 1));
        assert!(add(None, None).is_err() && add(None, Some("/ip4/192.0.2.1/tcp/1")).is_err());
        assert!(add(Some("acme"), None).is_err());
    }

    #[test]
    fn a_limit_that_nothing_passes_is_refused() {
        assert!(PeerLimits { kib: Some(1), ..PeerLimits::default() }.row().is_err());
        assert!(PeerLimits { envelopes: Some(0), ..PeerLimits::default() }.row().is_err());
        assert!(PeerLimits { rows: Some(0), kib: Some(64), ..PeerLimits::default() }.row().is_ok());
    }

    #[test]
    fn the_mode_has_three_words_and_one_for_none() {
        for (mode, is_set) in [("closed", true), ("default", false)] {
            let Ok(AdminCommand::SetFederation(found)) = federation(mode) else {
                panic!("{mode:?}")
            };
            assert_eq!(found.is_some(), is_set);
        }
        assert!(federation("shut").is_err());
    }
}
