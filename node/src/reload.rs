//! Reads the configuration again while the node runs: checked whole before anything changes, and what
//! may change then does so in one batch of the core. What needs a start is named.

use std::error::Error as _;
use std::sync::Arc;

use libp2p::{Multiaddr, PeerId};
use serde_json::{Value, json};
use tidings_core::effect::AdminReply;
use tidings_core::event::AdminCommand;
use tidings_core::reconfigure::LiveSettings;
use tidings_core::routes::RouteTo;
use tidings_protocol::descriptor::Transport;
use tidings_protocol::id::NodeId;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, watch};
use tracing::{error, info, warn};

use crate::config::Config;
use crate::input::{Asker, transport_bytes};

/// What of a configuration may change while the node runs.
pub(crate) fn live_settings(config: &Config) -> LiveSettings {
    let mut pinned: Vec<(NodeId, Vec<Transport>)> = Vec::new();
    for (node, peer, address) in &config.peers.pinned {
        let transport =
            Transport { peer_id: transport_bytes(*peer), multiaddrs: vec![address.to_string()] };
        match pinned.iter_mut().find(|(known, _)| known == node) {
            Some((_, transports)) => transports.push(transport),
            None => pinned.push((*node, vec![transport])),
        }
    }
    LiveSettings {
        federation: config.peers.federation,
        limits: config.peers.limits,
        pinned,
        custody: config.custody.clone(),
        device_rows_max: config.store.device_rows_max,
        peer_rows_max: config.store.peer_rows_max,
        disk_percent_max: config.store.disk_percent_max,
    }
}

/// Peers that a person configured. Pinned ones too: only addresses from a person are dialled when they
/// are private.
pub(crate) fn configured_peers(config: &Config) -> Vec<(PeerId, Multiaddr)> {
    let pinned = config.peers.pinned.iter().map(|(_, peer, address)| (*peer, address.clone()));
    let relays = config.peers.relays.iter().cloned();
    config.peers.bootstrap.iter().cloned().chain(pinned).chain(relays).collect()
}

/// Reads the configuration again.
#[derive(Clone, Debug)]
pub(crate) struct Reloader {
    /// As it is in force.
    config: Arc<Mutex<Config>>,
    asker: Asker,
    configured: watch::Sender<Vec<(PeerId, Multiaddr)>>,
}

impl Reloader {
    pub(crate) fn new(
        config: Config,
        asker: Asker,
        configured: watch::Sender<Vec<(PeerId, Multiaddr)>>,
    ) -> Self {
        Self { config: Arc::new(Mutex::new(config)), asker, configured }
    }

    /// Takes over what may change. Refused, with file and line, when anything in it is wrong; nothing
    /// has changed then.
    pub(crate) async fn reload(&self, who: Option<u32>) -> Result<Value, String> {
        let mut held = self.config.lock().await;
        let read = Config::read(&held.file).map_err(|error| match error.source() {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        })?;
        let (live, restart) = changes(&held, &read);
        if !live.is_empty() {
            let settings = Box::new(live_settings(&read));
            let command = AdminCommand::Reconfigure { live: settings, changed: live.join(" ") };
            let command = match who {
                Some(who) => AdminCommand::By { who, command: Box::new(command) },
                None => command,
            };
            match self.asker.ask(command).await {
                Some(AdminReply::Done) => {}
                Some(AdminReply::Refused(why)) => return Err(why),
                Some(_) | None => return Err("the node's loop does not answer".to_owned()),
            }
            take_over(&mut held, read);
            self.configured.send_replace(configured_peers(&held));
        }
        info!(changed = live.join(" "), needs_restart = restart.join(" "), "read node.toml again");
        Ok(json!({ "changed": live, "needs_restart": restart }))
    }

    /// The same whenever the process is sent SIGHUP.
    pub(crate) async fn on_hangup(self) {
        let mut hangup = match signal(SignalKind::hangup()) {
            Ok(hangup) => hangup,
            Err(error) => {
                warn!(%error, "SIGHUP is not heard: use `tidings admin reload`");
                return std::future::pending().await;
            }
        };
        while hangup.recv().await.is_some() {
            if let Err(why) = self.reload(None).await {
                error!(why, "node.toml was not taken over: nothing has changed");
            }
        }
    }
}

/// The keys that say something else: those that change at once, and those that need a start.
fn changes(held: &Config, read: &Config) -> (Vec<&'static str>, Vec<&'static str>) {
    let (old, new) = (held, read);
    let live = [
        ("federation", old.peers.federation != new.peers.federation),
        ("peer_envelopes_per_second", old.peers.limits.envelopes != new.peers.limits.envelopes),
        ("peer_kib_per_second", old.peers.limits.kib != new.peers.limits.kib),
        ("peer_statements_per_second", old.peers.limits.statements != new.peers.limits.statements),
        ("peer_questions_per_second", old.peers.limits.questions != new.peers.limits.questions),
        ("peer_inbox_rows_max", old.peers.limits.inbox_rows != new.peers.limits.inbox_rows),
        ("peer_inbox_mib_max", old.peers.limits.inbox_bytes != new.peers.limits.inbox_bytes),
        ("bootstrap", old.peers.bootstrap != new.peers.bootstrap),
        ("pinned", old.peers.pinned != new.peers.pinned),
        ("custody", old.custody != new.custody),
        ("device_rows_max", old.store.device_rows_max != new.store.device_rows_max),
        ("peer_rows_max", old.store.peer_rows_max != new.store.peer_rows_max),
        ("disk_percent_max", old.store.disk_percent_max != new.store.disk_percent_max),
    ];
    let tls = |config: &Config| {
        config.clients.tls.as_ref().map(|tls| (tls.cert.clone(), tls.key.clone()))
    };
    let restart = [
        ("data", old.data != new.data),
        // Both stand in the delegation, which the root key signs at a start.
        ("domains", old.domains != new.domains),
        ("custodians", old.custodians != new.custodians),
        ("dns_servers", old.dns_servers != new.dns_servers),
        ("listen_peers", old.peers.listen != new.peers.listen),
        ("routes", routes(old, true) != routes(new, true)),
        ("default_route", routes(old, false) != routes(new, false)),
        ("gateway_for", old.gateway_for != new.gateway_for),
        ("announce", old.peers.announce != new.peers.announce),
        ("relays", old.peers.relays != new.peers.relays),
        ("relay_for, relay_peers", old.peers.relay_for != new.peers.relay_for),
        (
            "allow_private_addresses",
            old.peers.allow_private_addresses != new.peers.allow_private_addresses,
        ),
        ("listen_clients", old.clients.listen != new.clients.listen),
        ("client_url", old.clients.url != new.clients.url),
        ("tls_cert, tls_key", tls(old) != tls(new)),
        ("client_connections_max", old.clients.connections_max != new.clients.connections_max),
        ("listen_admin", old.listen_admin != new.listen_admin),
        ("store_cache_mib", old.store.cache_bytes != new.store.cache_bytes),
        ("ballast_mib", old.store.ballast_bytes != new.store.ballast_bytes),
    ];
    let named = |list: &[(&'static str, bool)]| {
        list.iter().filter(|(_, is_changed)| *is_changed).map(|(name, _)| *name).collect()
    };
    (named(&live), named(&restart))
}

/// The next hops of single nodes, or the one to everybody else.
fn routes(config: &Config, of_one: bool) -> Vec<&(RouteTo, NodeId)> {
    config.routes.iter().filter(|(to, _)| to.is_some() == of_one).collect()
}

/// What changes at once is in force; the rest stays as the node was started.
fn take_over(held: &mut Config, read: Config) {
    held.peers.federation = read.peers.federation;
    held.peers.limits = read.peers.limits;
    held.peers.bootstrap = read.peers.bootstrap;
    held.peers.pinned = read.peers.pinned;
    held.custody = read.custody;
    held.store.device_rows_max = read.store.device_rows_max;
    held.store.peer_rows_max = read.store.peer_rows_max;
    held.store.disk_percent_max = read.store.disk_percent_max;
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{changes, take_over};
    use crate::config::{Config, EXAMPLE};

    fn parse(text: &str) -> Config {
        Config::parse(text, Path::new("/srv/acme/node.toml")).unwrap()
    }

    /// Every key of the example is found by name when it changes, and no other one.
    #[test]
    fn every_key_is_known_as_one_that_changes_at_once_or_as_one_that_does_not() {
        let held = parse("data = \".\"");
        let tls = "tls_cert = \"c.pem\"\ntls_key = \"k.pem\"";
        let peer = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
        let node = tidings_protocol::id::NodeId([7; 32]);
        let node = tidings_protocol::id::NodeId::parse(&node.to_text()).map(|node| node.to_text());
        let node = node.unwrap();
        let other_node = tidings_protocol::id::NodeId([8; 32]).to_text();
        let mut keys = std::collections::BTreeSet::new();
        for (line, is_live) in [
            ("federation = \"closed\"".to_owned(), true),
            ("peer_envelopes_per_second = 7".to_owned(), true),
            ("peer_kib_per_second = 77".to_owned(), true),
            ("peer_statements_per_second = 77".to_owned(), true),
            ("peer_questions_per_second = 7".to_owned(), true),
            ("peer_inbox_rows_max = 7".to_owned(), true),
            ("peer_inbox_mib_max = 7".to_owned(), true),
            (format!("bootstrap = [\"/ip4/192.0.2.1/tcp/1/p2p/{peer}\"]"), true),
            (format!("pinned = [\"{node} /ip4/192.0.2.1/tcp/1/p2p/{peer}\"]"), true),
            (format!("custody = [\"{node} 1 1 1\"]"), true),
            ("device_rows_max = 7".to_owned(), true),
            ("peer_rows_max = 7".to_owned(), true),
            ("disk_percent_max = 77".to_owned(), true),
            ("domains = [\"acme.example\"]".to_owned(), false),
            (format!("custodians = [\"{node}\"]"), false),
            ("listen_peers = [\"/ip4/0.0.0.0/tcp/1\"]".to_owned(), false),
            ("announce = [\"/ip4/192.0.2.1/tcp/1\"]".to_owned(), false),
            (format!("relays = [\"/ip4/192.0.2.1/tcp/1/p2p/{peer}\"]"), false),
            ("relay_for = \"anyone\"".to_owned(), false),
            ("dns_servers = [\"192.0.2.53\"]".to_owned(), false),
            (format!("routes = [\"{node} via {other_node}\"]"), false),
            (format!("default_route = \"{node}\""), false),
            (format!("gateway_for = [\"{node} 1 1 1\"]"), false),
            ("allow_private_addresses = true".to_owned(), false),
            ("listen_clients = \"127.0.0.1:1\"".to_owned(), false),
            ("client_url = \"wss://acme.example\"".to_owned(), false),
            (tls.to_owned(), false),
            ("client_connections_max = 7".to_owned(), false),
            ("listen_admin = \"127.0.0.1:1\"".to_owned(), false),
            ("store_cache_mib = 7".to_owned(), false),
            ("ballast_mib = 7".to_owned(), false),
        ] {
            let read = parse(&format!("data = \".\"\n{line}"));
            let (live, restart) = changes(&held, &read);
            let (found, other) = if is_live { (live, restart) } else { (restart, live) };
            assert_eq!((found.len(), other.len()), (1, 0), "{line}");
            assert!(line.starts_with(found[0].split(',').next().unwrap()), "{line}: {found:?}");
            keys.extend(
                line.lines().filter_map(|line| line.split(" = ").next()).map(str::to_owned),
            );
            let mut after = held.clone();
            take_over(&mut after, read.clone());
            assert_eq!(changes(&after, &read).0.len(), 0, "{line} is in force");
        }
        let is_key = |word: &&str| {
            !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        };
        let lines = EXAMPLE.lines().filter_map(|line| {
            line.trim_start_matches("#e.g.").trim_start_matches('#').trim().split(" = ").next()
        });
        let all = lines.filter(|word| EXAMPLE.contains(&format!("{word} = ")));
        // `relay_peers` goes with `relay_for`, `behind_proxy` with `listen_clients`; `data` is checked by
        // itself.
        let missing: Vec<&str> = all
            .filter(is_key)
            .filter(|word| {
                !keys.contains(*word) && !["data", "behind_proxy", "relay_peers"].contains(word)
            })
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
