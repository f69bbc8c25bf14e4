//! A node at a glance, as JSON for administrators. The socket is in `admin_link.rs`.

use serde_json::{Value, json};
use tidings_core::effect::NodeStatus;
use tidings_core::space::Intake;

use crate::admin_link::Admin;
use crate::admin_names;

impl Admin {
    pub(crate) fn status(&self, status: &NodeStatus) -> Value {
        let nat = self.p2p.nat();
        let with_peer_id = |address: &String| format!("{address}/p2p/{}", self.peer_id);
        json!({
            "node": status.node.to_text(),
            "peer_id": self.peer_id,
            "client_url": self.client_url,
            "incarnation": status.incarnation,
            "commit": status.commit,
            "accounts": status.accounts,
            "devices_connected": status.devices_connected,
            "peers_connected": status.peers_connected,
            "queued": status.queued,
            "waiting": status.waiting,
            "dead": status.dead,
            "inbox": status.inbox,
            "counting": status.counting,
            "federation": status.federation.name(),
            "federation_by_hand": status.is_federation_set,
            "requests": status.requests,
            "retired_ms": status.retired_ms,
            "log_entries": status.log.map_or(0, |(seq, _)| seq),
            "log_hash": status.log.map(|(_, hash)| hash.to_string()),
            "full": status.intake == Intake::Nobody,
            "full_for_peers": status.intake != Intake::Everybody,
            "reachability": nat.state.name(),
            "relays": nat.relays,
            "reservations": nat.reservations,
            "reservations_given": nat.reservations_given,
            "circuits": nat.circuits,
            "relayed_links": nat.relayed_links.len(),
            "names_changed": status.names_changed,
            "domains": status.domains.iter().map(admin_names::own_domain).collect::<Vec<_>>(),
            "addresses": status.multiaddrs.iter().map(with_peer_id).collect::<Vec<_>>(),
        })
    }
}
