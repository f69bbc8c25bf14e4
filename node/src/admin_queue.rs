//! Waiting envelopes, dead letters and routes as JSON, for administrators. The socket is in `admin_link.rs`.

use serde_json::{Value, json};
use tidings_core::effect::{DeadLetter, QueueItem, RouteStatus};
use tidings_core::routes::RouteSource;
use tidings_protocol::refusal::RefusalCode;

pub(crate) fn queue_item(item: &QueueItem) -> Value {
    json!({
        "node": item.node.to_text(),
        "eid": item.eid.to_string(),
        "accepted_ms": item.accepted_ms,
        "expires_ms": item.expires_ms,
        "copies": item.copies,
        "finished": item.finished,
        "waiting": item.waiting,
        "dead": item.dead,
        "refusal": item.refusal.map(RefusalCode::name),
    })
}

pub(crate) fn dead_letter(letter: &DeadLetter) -> Value {
    json!({
        "node": letter.node.to_text(),
        "eid": letter.eid.to_string(),
        "accepted_ms": letter.accepted_ms,
        "expires_ms": letter.expires_ms,
        "since_ms": letter.since_ms,
        "attempts": letter.attempts,
        "last_ms": letter.last_ms,
        "refusal": letter.refusal.map(RefusalCode::name),
    })
}

pub(crate) fn route(route: &RouteStatus) -> Value {
    json!({
        "to": route.to.map(|node| node.to_text()),
        "via": route.via.map(|node| node.to_text()),
        "source": match route.source {
            RouteSource::Config => "config",
            RouteSource::Admin => "admin",
        },
        "connected": route.connected,
        "waiting": route.waiting,
        "refusal": route.refusal.map(RefusalCode::name),
    })
}
