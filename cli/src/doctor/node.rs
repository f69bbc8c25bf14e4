//! The checks of a node. One that runs is asked over its socket; one that does not is looked at on
//! disk, as it would find itself at its next start.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::join_all;
use serde_json::Value;
use tidings_client::driver::Trust;
use tidings_core::event::DnsOutcome;
use tidings_core::layout::LAYOUT;
use tidings_core::schema::SCHEMA;
use tidings_node::admin_link::{AdminRequest, AskError, ask};
use tidings_node::clock;
use tidings_node::config::{Config, FILE_NAME};
use tidings_node::examine::{self, Held};
use tidings_node::keys::STORE_FILE;
use tidings_protocol::codec;
use tidings_protocol::descriptor::Descriptor;
use tidings_protocol::domain::Domain;
use tidings_protocol::name_record::record_text;
use tidings_protocol::outline;
use tidings_store::{OpenError, RedbFile, StoreError, check_pages};

use super::machine::Witness;
use super::report::Report;
use super::{link, machine};
use crate::show::field;
use crate::storage;

/// Rows of each table that are read.
const ROWS_MAX: usize = 10_000;
/// Configured peers that are dialled, all at once.
const DIALS_MAX: usize = 32;
const DAY_MS: u64 = 24 * 3600 * 1000;

pub(crate) async fn check(report: &mut Report, folder: &Path, trust: &Trust, within: Duration) {
    let path = folder.join(FILE_NAME);
    let config = match Config::read(&path) {
        Ok(config) => config,
        // Everything else depends on what it says.
        Err(error) => {
            let next = "correct it; `tidings init` writes an example that shows every key";
            return report.failed("config", format!("{:#}", anyhow::Error::new(error)), next);
        }
    };
    report.ok("config", format!("{} is valid", path.display()));
    let keys = keys(report, &config);
    permissions(report, &path, &config);
    machine::disk(report, &config.data, config.store.disk_percent_max);
    let status = status(report, &config).await;
    ports(report, &config, status.as_ref());
    let mut witnesses = Vec::new();
    match &status {
        Some(_) => {
            witnesses.extend(peers_told(&config).await);
            running_store(report, &config.data).await;
        }
        None => witnesses.extend(store(report, &config.data.join(STORE_FILE))),
    }
    tls(report, &config);
    if let Some(held) = &keys {
        domains(report, &config, held, status.as_ref()).await;
    }
    reach_peers(report, &config, within).await;
    if let Some(held) = keys {
        let who = "the day when the delegation was signed".to_owned();
        witnesses.push(Witness { who, at_ms: held.signed_ms, is_now: false });
        let url = status.as_ref().map(|status| field(status, "client_url"));
        if let Some(url) = url {
            let told = link::check(report, &url, held.node, trust, within, None).await;
            // A node of this machine has the same clock; only a proxy elsewhere can differ.
            witnesses.extend(told.filter(|_| !url.starts_with("ws://")));
        }
    }
    machine::clock(report, &witnesses, clock::now_ms());
}

fn keys(report: &mut Report, config: &Config) -> Option<Held> {
    let held = match examine::examine_keys(
        &config.data,
        &config.domains,
        &config.custodians,
        clock::now_ms(),
    ) {
        Ok(held) => held,
        Err(error) => {
            report.error("keys", error);
            return None;
        }
    };
    let days = held.not_after_ms.saturating_sub(clock::now_ms()) / DAY_MS;
    let node = held.node.to_text();
    let root = config.data.join("root.key");
    match held.renew {
        None => {
            let found = format!("node {node}; its delegation is good for {days} more days");
            report.ok("keys", found);
        }
        Some(why) if held.has_root => {
            let found = format!("node {node}; its delegation {why}: the next start renews it");
            report.ok("keys", found);
        }
        Some(why) => {
            let found = format!("node {node}; its delegation {why}");
            let next =
                format!("put {} back, start the node once, and take it away", root.display());
            if held.may_wait {
                report.warning("keys", found, next);
            } else {
                report.failed("keys", found, next);
            }
        }
    }
    Some(held)
}

/// What the DNS says of the node's domains; and whether another one's has changed.
async fn domains(report: &mut Report, config: &Config, held: &Held, status: Option<&Value>) {
    for text in &config.domains {
        let Ok(domain) = Domain::parse(text) else { continue };
        let outcome = examine::dns(config, &domain).await;
        let record = format!(
            "set the record  {} TXT \"{}\"  and no other that begins with v=tidings1",
            domain.record_name(),
            record_text(&held.node)
        );
        let found = match outcome {
            DnsOutcome::Node(node) if node == held.node => {
                report.ok("domain", format!("{domain}: the DNS names this node"));
                continue;
            }
            DnsOutcome::Silent => {
                let next = "see to the DNS of this machine, or name servers under `dns_servers`";
                report.warning("domain", format!("{domain}: the DNS does not answer"), next);
                continue;
            }
            DnsOutcome::Node(node) => format!("the DNS names another node, {}", node.to_text()),
            DnsOutcome::Absent => "the DNS has no record for it".to_owned(),
            DnsOutcome::Contradicting => "the DNS names more than one node".to_owned(),
            DnsOutcome::Unreadable => "its record cannot be read".to_owned(),
        };
        report.failed("domain", format!("{domain}: {found}"), record);
    }
    let changed = status.and_then(|status| status.get("names_changed")).and_then(Value::as_u64);
    if let Some(changed) = changed.filter(|changed| *changed > 0) {
        let found = format!("{changed} domains of others do not stand for what is pinned here");
        let next = "`tidings admin names list` shows them; ask those organisations, then accept";
        report.warning("domain", found, next);
    }
}

fn permissions(report: &mut Report, path: &Path, config: &Config) {
    let mut secret: Vec<PathBuf> = ["root.key", "operational.key", "sealing.key", "transport.key"]
        .iter()
        .map(|name| config.data.join(name))
        .collect();
    secret.push(config.data.join(STORE_FILE));
    secret.extend(config.clients.tls.as_ref().map(|tls| tls.key.clone()));
    let mut paths: Vec<(&Path, u32)> = vec![(&config.data, 0o022), (path, 0o022)];
    paths.extend(secret.iter().map(|path| (path.as_path(), 0o077)));
    machine::permissions(report, &paths);
}

/// What a running node says of itself.
async fn status(report: &mut Report, config: &Config) -> Option<Value> {
    match ask(&config.data, &AdminRequest::Status).await {
        Ok(status) => {
            let found = format!(
                "it runs: commit {}, {} devices and {} peers connected, {} envelopes for peers",
                field(&status, "commit"),
                field(&status, "devices_connected"),
                field(&status, "peers_connected"),
                field(&status, "queued"),
            );
            if status.get("full").and_then(Value::as_bool) == Some(true) {
                let next = "make space: nothing new is taken, what was accepted is kept";
                report.failed("node", format!("{found}; its disk is full"), next);
            } else {
                report.ok("node", found);
            }
            Some(status)
        }
        Err(AskError::NotRunning { .. }) => {
            report.ok("node", "it does not run; what follows is how its next start would go");
            None
        }
        Err(error) => {
            report.error("node", error);
            None
        }
    }
}

fn ports(report: &mut Report, config: &Config, status: Option<&Value>) {
    let listens: Vec<String> = status
        .and_then(|status| status.get("addresses"))
        .and_then(Value::as_array)
        .map(|all| all.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        .unwrap_or_default();
    for port in examine::ports(config) {
        let (key, address) = (port.key, &port.address);
        let is_ours = |address: &str| {
            // `/udp/7400/quic-v1` or `/tcp/7400`, whatever the host in front is.
            let tail: Vec<&str> = address.split('/').skip(3).collect();
            key != "listen_peers"
                || listens.iter().any(|one| one.contains(&format!("/{}/", tail.join("/"))))
        };
        match (port.bound.map_err(|error| (error.kind(), error)), status.is_some()) {
            (Ok(()), false) => report.ok("port", format!("{key} {address} is free")),
            (Ok(()), true) => report.failed(
                "port",
                format!("the node runs, but does not listen on {key} {address}"),
                "restart the node: its configuration was changed, or its start was not whole",
            ),
            (Err((ErrorKind::AddrInUse, _)), true) if is_ours(address) => {
                report.ok("port", format!("{key} {address} is held by the node"));
            }
            (Err((ErrorKind::AddrInUse, _)), _) => report.failed(
                "port",
                format!("{key} {address} is held by another program"),
                format!("stop that program, or give {key} another port"),
            ),
            (Err((ErrorKind::AddrNotAvailable, _)), _) => report.failed(
                "port",
                format!("{key} {address} is no address of this machine"),
                format!("give {key} an address of this machine, or 0.0.0.0 for all"),
            ),
            (Err((ErrorKind::PermissionDenied, error)), _) => report.failed(
                "port",
                format!("{key} {address}: {error}"),
                format!("give {key} a port above 1023, or the node the right to use this one"),
            ),
            (Err((_, error)), _) => report.failed(
                "port",
                format!("{key} {address}: {error}"),
                format!("correct {key} in node.toml"),
            ),
        }
    }
}

/// When the peers of a running node signed their addresses, by their clocks.
async fn peers_told(config: &Config) -> Vec<Witness> {
    let Ok(peers) = ask(&config.data, &AdminRequest::Peers).await else { return Vec::new() };
    let told = |peer: &Value| {
        let at_ms = peer.get("record_ms").and_then(Value::as_u64)?;
        let node: String = field(peer, "node").chars().take(12).collect();
        Some(Witness { who: format!("peer {node}.."), at_ms, is_now: false })
    };
    peers.as_array().map(|peers| peers.iter().filter_map(told).collect()).unwrap_or_default()
}

/// Looks at every row of a node that runs, in one state of its store.
async fn running_store(report: &mut Report, data: &Path) {
    let data = data.to_owned();
    let looked = tokio::task::spawn_blocking(move || storage::check_rows(&data)).await;
    let restore = "stop the node and put node.redb back from a backup; the peers notice that";
    match looked {
        Ok(Ok((rows, None))) => {
            report.ok("store", format!("{rows} rows were read while the node runs"));
        }
        Ok(Ok((_, Some(broken)))) => report.failed("store", broken, restore),
        // A backup that is on its way is no fault of the store.
        Ok(Err(error)) if matches!(error.downcast_ref(), Some(AskError::Refused(_))) => {
            report.warning("store", format!("{error:#}"), "run the same command again then");
        }
        Ok(Err(error)) => {
            let next = "look at the node's log: it names what it cannot read";
            report.failed("store", format!("{error:#}"), next);
        }
        Err(error) => report.failed("store", error.to_string(), "run the same command again"),
    }
}

/// Looks into the store of a node that does not run.
fn store(report: &mut Report, path: &Path) -> Vec<Witness> {
    if !path.exists() {
        report.ok("store", "there is none yet: the first start makes it");
        return Vec::new();
    }
    if let Err(error @ (OpenError::Damaged { .. } | OpenError::NotAStore { .. })) =
        check_pages(path)
    {
        let next = "check the disk, and put node.redb back from a backup; the peers notice that";
        report.failed("store", format!("{:#}", anyhow::Error::new(error)), next);
        return Vec::new();
    }
    let file = match RedbFile::open(path) {
        Ok(file) => file,
        Err(error @ OpenError::NeedsRepair { .. }) => {
            report.warning("store", error.to_string(), "start the node: it mends that by itself");
            return Vec::new();
        }
        Err(error) => {
            let next = "stop what uses it, or put it back from a backup; the peers notice that";
            report.failed("store", format!("{:#}", anyhow::Error::new(error)), next);
            return Vec::new();
        }
    };
    match read(&file) {
        Ok(Ok((found, witnesses))) => {
            report.ok("store", found);
            witnesses
        }
        Ok(Err((found, next))) => {
            report.failed("store", found, next);
            Vec::new()
        }
        Err(error) => {
            let next = "put node.redb back from a backup; the peers notice that";
            report.failed("store", format!("{:#}", anyhow::Error::new(error)), next);
            Vec::new()
        }
    }
}

/// What is there and who told a time; or what is wrong, and the next step.
type Looked = Result<(String, Vec<Witness>), (String, &'static str)>;

fn read(file: &RedbFile) -> Result<Looked, StoreError> {
    let state = file.state()?;
    if state.version > u64::from(SCHEMA.version) {
        let found =
            format!("version {} is newer than this program's {}", state.version, SCHEMA.version);
        return Ok(Err((found, "use the newer program")));
    }
    let tables = file.tables()?;
    let (mut rows, mut witnesses) = (0, Vec::new());
    for layout in LAYOUT {
        let name = layout.table.name;
        if tables.iter().all(|table| table.name != name) {
            continue;
        }
        for (key, value) in file.rows(name, &[], ROWS_MAX)? {
            rows += 1;
            if let Some(shape) = layout.value
                && let Err(error) = outline::read(shape, &value)
            {
                let found = format!("a row of {name} is damaged: {error}");
                return Ok(Err((found, "put node.redb back from a backup; the peers notice that")));
            }
            if layout.table == tidings_core::schema::PEERS {
                witnesses.extend(signed_ms(&key, &value));
            }
        }
    }
    let waiting: u64 = tables.iter().filter(|table| table.name == "outbox").map(|t| t.rows).sum();
    let found = format!(
        "version {}, commit {}; every page is whole, {rows} rows were read, {waiting} envelopes wait \
         for peers",
        state.version, state.commit
    );
    Ok(Ok((found, witnesses)))
}

/// When a peer in the store signed its addresses.
fn signed_ms(key: &[u8], value: &[u8]) -> Option<Witness> {
    let row: tidings_core::schema::PeerRow = codec::decode(value).ok()?;
    let descriptor: Descriptor = codec::decode(&row.descriptor?).ok()?;
    let at_ms = descriptor.addresses.peek().ok()?.serial;
    let node = tidings_protocol::id::NodeId::from_slice(key)?.to_text();
    let node: String = node.chars().take(12).collect();
    Some(Witness { who: format!("peer {node}.."), at_ms, is_now: false })
}

fn tls(report: &mut Report, config: &Config) {
    let Some(tls) = &config.clients.tls else { return };
    match examine::check_tls(tls) {
        Ok(chain) => match chain.first() {
            Some(first) => link::dates(report, first, clock::now_ms()),
            None => report.failed(
                "certificate",
                format!("{} holds none", tls.cert.display()),
                "put the chain there, as PEM",
            ),
        },
        Err(error) => report.failed(
            "certificate",
            format!("{:#}", anyhow::Error::new(error)),
            "correct tls_cert and tls_key in node.toml: a chain and its key, as PEM",
        ),
    }
}

async fn reach_peers(report: &mut Report, config: &Config, within: Duration) {
    let bootstrap = config.peers.bootstrap.iter().cloned();
    let pinned = config.peers.pinned.iter().map(|(_, peer, address)| (*peer, address.clone()));
    let peers: Vec<_> = bootstrap.chain(pinned).take(DIALS_MAX).collect();
    if peers.is_empty() {
        let next = "name one under `bootstrap`, unless others name this node";
        return report.warning("peers", "node.toml names no other node", next);
    }
    let allow_private = config.peers.allow_private_addresses;
    let dials = peers.into_iter().map(|(peer, address)| async move {
        let answer = examine::dial(peer, &address, allow_private, within).await;
        (address, answer)
    });
    let answers = join_all(dials).await;
    let next = "check that it runs, its address and peer id, and firewalls for UDP and TCP";
    let all_silent = answers.iter().all(|(_, answer)| answer.is_err());
    for (address, answer) in answers {
        match answer {
            Ok(took) => report.ok("peers", format!("{address} answers in {} ms", took.as_millis())),
            Err(error) if all_silent => report.failed("peers", format!("{address}: {error}"), next),
            Err(error) => report.warning("peers", format!("{address}: {error}"), next),
        }
    }
}
