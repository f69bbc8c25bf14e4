//! `node.toml`: one required line, everything else defaulted. Every value is checked here, once,
//! and a refusal names file, line and what to do. Starts nothing.

mod for_others;
mod names;
mod place;
mod relays;

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use serde::Deserialize;
use thiserror::Error;
use tidings_core::policy::Federation;
use tidings_core::rates::Limits;
use tidings_core::routes::RouteTo;
use tidings_core::settings::CustodyTerms;
use tidings_protocol::id::NodeId;
use tidings_protocol::limits::MULTIADDRS_MAX;
use toml::Spanned;

pub use self::place::data_folder;
use crate::p2p::RelayFor;
use crate::peer_link::split_peer;

/// A configuration that says everything that can be said, for people to begin with.
pub const EXAMPLE: &str = include_str!("../../deploy/node.example.toml");

/// The file's name inside a node's folder.
pub const FILE_NAME: &str = "node.toml";

/// A whole configuration, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where keys and store are.
    pub data: PathBuf,
    /// The file that says all this.
    pub file: PathBuf,
    /// Domains that this node claims.
    pub domains: Vec<String>,
    /// Who is asked which node a domain names; the system's servers if there are none.
    pub dns_servers: Vec<SocketAddr>,
    /// Nodes that hold what comes for this one while it is away.
    pub custodians: Vec<NodeId>,
    /// What this node is ready to hold for others.
    pub custody: Vec<CustodyTerms>,
    /// Next hops: to which node, or to everybody else, through which.
    pub routes: Vec<(RouteTo, NodeId)>,
    /// For whom this node passes on.
    pub gateway_for: Vec<CustodyTerms>,
    /// Other nodes.
    pub peers: PeersConfig,
    /// Devices.
    pub clients: ClientsConfig,
    /// Where `/metrics`, `/livez` and `/readyz` are.
    pub listen_admin: SocketAddr,
    /// The store.
    pub store: StoreConfig,
}

/// Other nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeersConfig {
    /// Where they reach this one.
    pub listen: Vec<Multiaddr>,
    /// What they are told instead of that.
    pub announce: Vec<Multiaddr>,
    /// Who may deal with this node when nothing else was said of them.
    pub federation: Federation,
    /// What a peer may cost in a second.
    pub limits: Limits,
    /// Nodes through which others are found.
    pub bootstrap: Vec<(PeerId, Multiaddr)>,
    /// Nodes that are reached without looking them up.
    pub pinned: Vec<(NodeId, PeerId, Multiaddr)>,
    /// Nodes through which others reach this one.
    pub relays: Vec<(PeerId, Multiaddr)>,
    /// For whom this node does that.
    pub relay_for: RelayFor,
    /// Whether private addresses that others name may be dialled.
    pub allow_private_addresses: bool,
}

/// Devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientsConfig {
    /// Where they connect.
    pub listen: SocketAddr,
    /// What invites tell them; made from the listening address if there is none.
    pub url: Option<String>,
    /// Certificate chain and key.
    pub tls: Option<TlsConfig>,
    /// Connections at a time.
    pub connections_max: usize,
}

/// Files with certificate chain and key, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// The chain.
    pub cert: PathBuf,
    /// The key.
    pub key: PathBuf,
    /// The lines that name them, in this order: whoever finds them unusable says so.
    pub lines: [usize; 2],
}

/// The store and its quotas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// Memory for its pages.
    pub cache_bytes: usize,
    /// Disk space that is held back.
    pub ballast_bytes: u64,
    /// Copies that may wait for one device.
    pub device_rows_max: u64,
    /// Envelopes that may wait for one peer.
    pub peer_rows_max: u64,
    /// How full the disk may be, in percent, before nothing new is taken from devices; of a disk of
    /// more than 20 GiB, 20 count.
    pub disk_percent_max: u64,
}

/// The configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("reading {}: make a node with `tidings init`, or name another folder", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line says what cannot be.
    #[error("{}, line {line}: {why}", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong, and what to do.
        why: String,
    },
    /// The required line is missing.
    #[error("{}: the line `data = \"<folder>\"` is missing; it names where keys and store are", .path.display())]
    NoData {
        /// The file.
        path: PathBuf,
    },
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    data: Option<Spanned<String>>,
    domains: Option<Vec<Spanned<String>>>,
    dns_servers: Option<Vec<Spanned<String>>>,
    custodians: Option<Vec<Spanned<String>>>,
    custody: Option<Vec<Spanned<String>>>,
    federation: Option<Spanned<String>>,
    peer_envelopes_per_second: Option<Spanned<u64>>,
    peer_kib_per_second: Option<Spanned<u64>>,
    peer_statements_per_second: Option<Spanned<u64>>,
    peer_questions_per_second: Option<Spanned<u64>>,
    peer_inbox_rows_max: Option<Spanned<u64>>,
    peer_inbox_mib_max: Option<Spanned<u64>>,
    routes: Option<Vec<Spanned<String>>>,
    default_route: Option<Spanned<String>>,
    gateway_for: Option<Vec<Spanned<String>>>,
    listen_peers: Option<Vec<Spanned<String>>>,
    announce: Option<Vec<Spanned<String>>>,
    bootstrap: Option<Vec<Spanned<String>>>,
    pinned: Option<Vec<Spanned<String>>>,
    relays: Option<Vec<Spanned<String>>>,
    relay_for: Option<Spanned<String>>,
    relay_peers: Option<Vec<Spanned<String>>>,
    allow_private_addresses: Option<bool>,
    listen_clients: Option<Spanned<String>>,
    client_url: Option<Spanned<String>>,
    tls_cert: Option<Spanned<String>>,
    tls_key: Option<Spanned<String>>,
    behind_proxy: Option<bool>,
    client_connections_max: Option<Spanned<u64>>,
    listen_admin: Option<Spanned<String>>,
    store_cache_mib: Option<Spanned<u64>>,
    ballast_mib: Option<Spanned<u64>>,
    device_rows_max: Option<Spanned<u64>>,
    peer_rows_max: Option<Spanned<u64>>,
    disk_percent_max: Option<Spanned<u64>>,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`ConfigError`], with the line.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// Checks the text of the file at `path`; relative paths in it start at the file's folder.
    ///
    /// # Errors
    /// [`ConfigError`], with the line.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let at = |wrong: Wrong| ConfigError::Line {
            path: path.to_owned(),
            line: line_at(text, wrong.offset),
            why: wrong.why,
        };
        let written: Written = toml::from_str(text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            at(Wrong { offset, why: error.message().to_owned() })
        })?;
        let Some(data) = &written.data else {
            return Err(ConfigError::NoData { path: path.to_owned() });
        };
        let folder = path.parent().unwrap_or(Path::new(""));
        Ok(Self {
            // Through its components: a folder that is not there yet cannot be made as `acme/.`.
            data: folder.join(data.get_ref()).components().collect(),
            file: path.to_owned(),
            domains: names::domains(&written).map_err(at)?,
            dns_servers: names::servers(&written).map_err(at)?,
            custodians: for_others::custodians(&written).map_err(at)?,
            custody: for_others::custody(&written).map_err(at)?,
            routes: for_others::routes(&written).map_err(at)?,
            gateway_for: for_others::gateway_for(&written).map_err(at)?,
            peers: peers(&written).map_err(at)?,
            clients: clients(&written, text, folder).map_err(at)?,
            listen_admin: socket(written.listen_admin.as_ref(), "127.0.0.1:7402").map_err(at)?,
            store: store(&written).map_err(at)?,
        })
    }
}

fn line_at(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|&byte| byte == b'\n').count()
}

/// What is wrong, and where in the text.
struct Wrong {
    offset: usize,
    why: String,
}

fn wrong<T>(value: &Spanned<T>, why: impl Into<String>) -> Wrong {
    Wrong { offset: value.span().start, why: why.into() }
}

fn peers(written: &Written) -> Result<PeersConfig, Wrong> {
    let listen = match &written.listen_peers {
        Some(listen) => listen.iter().map(listen_address).collect::<Result<_, _>>()?,
        None => DEFAULT_LISTEN_PEERS.iter().filter_map(|text| text.parse().ok()).collect(),
    };
    let announce = written.announce.as_deref().unwrap_or_default();
    if let Some(extra) = announce.get(MULTIADDRS_MAX) {
        return Err(wrong(extra, format!("a node announces at most {MULTIADDRS_MAX} addresses")));
    }
    let bootstrap = peer_addresses(written.bootstrap.as_deref())?;
    let pinned: Vec<_> = written.pinned.iter().flatten().map(pinned).collect::<Result<_, _>>()?;
    let known = bootstrap.iter().map(|(peer, _)| *peer);
    let known = known.chain(pinned.iter().map(|(_, peer, _)| *peer)).collect();
    Ok(PeersConfig {
        listen,
        federation: federation(written)?,
        limits: limits(written)?,
        announce: announce.iter().map(announced_address).collect::<Result<_, _>>()?,
        relays: relays::relays(written)?,
        relay_for: relays::relay_for(written, known)?,
        bootstrap,
        pinned,
        allow_private_addresses: written.allow_private_addresses.unwrap_or(false),
    })
}

fn federation(written: &Written) -> Result<Federation, Wrong> {
    let Some(text) = &written.federation else { return Ok(Federation::default()) };
    let why = "write \"open\", \"request\" or \"closed\"";
    Federation::parse(text.get_ref()).ok_or_else(|| wrong(text, why))
}

fn limits(written: &Written) -> Result<Limits, Wrong> {
    let default = Limits::default();
    let rate = |value: &Option<Spanned<u64>>, default, min| {
        number(value.as_ref(), default, min, u64::from(u32::MAX))
    };
    Ok(Limits {
        envelopes: rate(&written.peer_envelopes_per_second, default.envelopes, 1)?,
        // One envelope has to fit.
        kib: rate(&written.peer_kib_per_second, default.kib, 64)?,
        statements: rate(&written.peer_statements_per_second, default.statements, 64)?,
        questions: rate(&written.peer_questions_per_second, default.questions, 1)?,
        inbox_rows: number(written.peer_inbox_rows_max.as_ref(), u64::MAX, 1, ROWS_MAX)?,
        inbox_bytes: match &written.peer_inbox_mib_max {
            None => u64::MAX,
            mib => number(mib.as_ref(), 1, 1, 1 << 40)? << 20,
        },
    })
}

const DEFAULT_LISTEN_PEERS: [&str; 2] = ["/ip4/0.0.0.0/udp/7400/quic-v1", "/ip4/0.0.0.0/tcp/7400"];

fn listen_address(text: &Spanned<String>) -> Result<Multiaddr, Wrong> {
    let why = "this is no address for peers; write it like \"/ip4/192.0.2.1/udp/7400/quic-v1\" or \
               \"/ip4/192.0.2.1/tcp/7400\"";
    text.get_ref().parse().ok().filter(is_transport).ok_or_else(|| wrong(text, why))
}

fn announced_address(text: &Spanned<String>) -> Result<Multiaddr, Wrong> {
    if text.get_ref().parse::<Multiaddr>().is_ok_and(|address| is_named_transport(&address)) {
        return Err(wrong(
            text,
            "other nodes do not resolve the names that they are told: write an IP address, like \
             \"/ip4/192.0.2.1/udp/7400/quic-v1\"",
        ));
    }
    listen_address(text)
}

fn peer_addresses(texts: Option<&[Spanned<String>]>) -> Result<Vec<(PeerId, Multiaddr)>, Wrong> {
    texts.unwrap_or_default().iter().map(|text| peer_address(text, text.get_ref())).collect()
}

fn peer_address(at: &Spanned<String>, text: &str) -> Result<(PeerId, Multiaddr), Wrong> {
    let why = "this is no address of a peer; write it like \
               \"/ip4/192.0.2.1/tcp/7400/p2p/<peer id>\", as `tidings admin status` there shows \
               it, or with \"/dns4/acme.example\" in place of the IP address";
    split_peer(text)
        .filter(|(_, address)| {
            is_transport(address) || is_named_transport(address) || is_relayed(address)
        })
        .ok_or_else(|| wrong(at, why))
}

fn pinned(text: &Spanned<String>) -> Result<(NodeId, PeerId, Multiaddr), Wrong> {
    let Some((node, address)) = text.get_ref().split_once(' ') else {
        return Err(wrong(text, "write it like \"<node id> /ip4/../tcp/../p2p/<peer id>\""));
    };
    let node = NodeId::parse(node).map_err(|error| wrong(text, error.to_string()))?;
    let (peer, address) = peer_address(text, address.trim())?;
    Ok((node, peer, address))
}

/// An IP address with QUIC or TCP on top, which is what the peer link speaks.
fn is_transport(address: &Multiaddr) -> bool {
    has_host(address, |host| matches!(host, Protocol::Ip4(_) | Protocol::Ip6(_)))
}

/// The same through a relay.
fn is_relayed(address: &Multiaddr) -> bool {
    let mut relay = address.clone();
    let ends = [relay.pop(), relay.pop()];
    matches!(ends, [Some(Protocol::P2pCircuit), Some(Protocol::P2p(_))]) && is_transport(&relay)
}

/// The same with a name; see `bootstrap.rs` for what becomes of it.
fn is_named_transport(address: &Multiaddr) -> bool {
    has_host(address, |host| {
        matches!(host, Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_))
    })
}

fn has_host(address: &Multiaddr, is_host: impl Fn(&Protocol<'_>) -> bool) -> bool {
    let parts: Vec<Protocol<'_>> = address.iter().collect();
    match parts.as_slice() {
        [host, Protocol::Udp(_), Protocol::QuicV1] | [host, Protocol::Tcp(_)] => is_host(host),
        [..] => false,
    }
}

fn clients(written: &Written, text: &str, folder: &Path) -> Result<ClientsConfig, Wrong> {
    let listen = socket(written.listen_clients.as_ref(), "127.0.0.1:7401")?;
    let tls = match (&written.tls_cert, &written.tls_key) {
        (None, None) => None,
        (Some(cert), Some(key)) => Some(TlsConfig {
            cert: folder.join(cert.get_ref()),
            key: folder.join(key.get_ref()),
            lines: [cert, key].map(|value| line_at(text, value.span().start)),
        }),
        (Some(alone), None) => return Err(wrong(alone, "tls_cert needs tls_key beside it")),
        (None, Some(alone)) => return Err(wrong(alone, "tls_key needs tls_cert beside it")),
    };
    let behind_proxy = written.behind_proxy.unwrap_or(false);
    if let Some(text) = &written.listen_clients
        && !listen.ip().is_loopback()
        && tls.is_none()
        && !behind_proxy
    {
        return Err(wrong(
            text,
            "plain connections are for this machine only: set tls_cert and tls_key, or \
             behind_proxy = true if a proxy in front does TLS, or listen on 127.0.0.1",
        ));
    }
    if let Some(url) = &written.client_url
        && !is_client_url(url.get_ref())
    {
        return Err(wrong(
            url,
            "write it like \"wss://acme.example\"; plain ws:// is for 127.0.0.1 only",
        ));
    }
    let connections_max = number(written.client_connections_max.as_ref(), 20_000, 1, 1_000_000)?;
    Ok(ClientsConfig {
        listen,
        url: written.client_url.as_ref().map(|url| url.get_ref().trim_end_matches('/').to_owned()),
        tls,
        connections_max: usize::try_from(connections_max).unwrap_or(usize::MAX),
    })
}

/// `wss://` and something, or `ws://` and an address of this machine.
fn is_client_url(url: &str) -> bool {
    // People and programs print it; an address has no other characters.
    if !url.chars().all(|c| c.is_ascii_graphic()) {
        return false;
    }
    let host_of = |rest: &str| {
        let authority = rest.split('/').next().unwrap_or_default().to_owned();
        if let Ok(address) = authority.parse::<SocketAddr>() {
            return address.ip().is_loopback();
        }
        authority.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
            || authority.split(':').next() == Some("localhost")
    };
    match url.split_once("://") {
        Some(("wss", rest)) => !rest.is_empty() && !rest.contains(char::is_whitespace),
        Some(("ws", rest)) => host_of(rest),
        Some(_) | None => false,
    }
}

fn socket(text: Option<&Spanned<String>>, default: &str) -> Result<SocketAddr, Wrong> {
    let parse = |text: &str| text.parse::<SocketAddr>();
    match text {
        Some(text) => parse(text.get_ref())
            .map_err(|_| wrong(text, "this is no address; write it like \"127.0.0.1:7401\"")),
        None => parse(default).map_err(|error| Wrong { offset: 0, why: error.to_string() }),
    }
}

fn store(written: &Written) -> Result<StoreConfig, Wrong> {
    let cache_mib = number(written.store_cache_mib.as_ref(), 16, 1, 1 << 20)?;
    Ok(StoreConfig {
        cache_bytes: usize::try_from(cache_mib << 20).unwrap_or(usize::MAX),
        ballast_bytes: number(written.ballast_mib.as_ref(), 64, 0, 1 << 20)? << 20,
        device_rows_max: number(written.device_rows_max.as_ref(), 100_000, 1, ROWS_MAX)?,
        peer_rows_max: number(written.peer_rows_max.as_ref(), 5_000_000, 1, ROWS_MAX)?,
        disk_percent_max: number(written.disk_percent_max.as_ref(), 95, 10, 100)?,
    })
}

/// What a quota may be at most: more rows than a disk holds.
const ROWS_MAX: u64 = 1_000_000_000_000;

fn number(value: Option<&Spanned<u64>>, default: u64, min: u64, max: u64) -> Result<u64, Wrong> {
    match value {
        None => Ok(default),
        Some(value) if (min..=max).contains(value.get_ref()) => Ok(*value.get_ref()),
        Some(value) => Err(wrong(value, format!("write a number from {min} to {max}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Config, EXAMPLE};

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("/srv/acme/node.toml")).map_err(|error| error.to_string())
    }

    /// The lines of the example behind `mark`, without it, and the required line.
    fn uncommented(mark: &str) -> String {
        let lines = EXAMPLE.lines().filter_map(|line| line.strip_prefix(mark));
        let settings = lines.filter(|line| {
            let word = line.split(" = ").next().unwrap_or_default();
            line.contains(" = ") && word.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        });
        settings.fold("data = \".\"\n".to_owned(), |text, line| text + line + "\n")
    }

    #[test]
    fn one_line_is_enough_and_paths_start_at_the_file() {
        let config = parse("data = \"data\"").unwrap();
        assert_eq!(config.data, Path::new("/srv/acme/data"));
        assert_eq!(config.clients.listen.to_string(), "127.0.0.1:7401");
        assert_eq!(config.peers.listen.len(), 2);
        assert_eq!(parse("data = \".\"").unwrap().data.as_os_str(), "/srv/acme");
    }

    #[test]
    fn the_example_is_the_defaults() {
        let defaults = parse("data = \".\"").unwrap();
        assert_eq!(parse(EXAMPLE).unwrap(), defaults);
        let shown = uncommented("# ");
        assert_eq!(shown.lines().count(), 28, "{shown}");
        assert_eq!(parse(&shown).unwrap(), defaults);
        let examples = uncommented("#e.g. ");
        assert_eq!(examples.lines().count(), 13, "{examples}");
        assert_ne!(parse(&examples).unwrap(), defaults);
    }

    #[test]
    fn a_refusal_names_the_line_and_what_to_do() {
        for (text, line, hint) in [
            ("data = \".\"\nlistne_peers = []", 2, "unknown field `listne_peers`"),
            ("data = \".\"\n\nlisten_clients = \"localhost\"", 3, "127.0.0.1:7401"),
            ("data = \".\"\nlisten_clients = \"0.0.0.0:7401\"", 2, "behind_proxy = true"),
            ("data = \".\"\nlisten_peers = [\n  \"/ip4/0.0.0.0/tcp/1\",\n  \"tcp\"]", 4, "quic-v1"),
            ("data = \".\"\nbootstrap = [\"/ip4/192.0.2.1/tcp/7400\"]", 2, "/p2p/"),
            ("data = \".\"\nannounce = [\"/dns4/acme.example/tcp/7400\"]", 2, "an IP address"),
            ("data = \".\"\nlisten_peers = [\"/dns4/acme.example/tcp/7400\"]", 2, "/ip4/"),
            ("data = \".\"\nbootstrap = [\"/dns4/acme.example/tcp/7400\"]", 2, "/p2p/"),
            ("data = \".\"\nbootstrap = [\"/dnsaddr/acme.example\"]", 2, "/dns4/acme.example"),
            ("data = \".\"\npinned = [\"acme /ip4/192.0.2.1/tcp/7400\"]", 2, "node id"),
            ("data = \".\"\nrelays = [\"/ip4/192.0.2.1/tcp/7400\"]", 2, "/p2p/"),
            ("data = \".\"\nrelay_for = \"everybody\"", 2, "\"anyone\""),
            ("data = \".\"\nrelay_for = true", 2, "expected"),
            ("data = \".\"\nrelay_for = \"peers\"\nrelay_peers = [\"acme\"]", 3, "peer id"),
            ("data = \".\"\nrelay_peers = [\"acme\"]", 2, "relay_for = \"peers\""),
            ("data = \".\"\nroutes = [\"acme globex\"]", 2, "via"),
            ("data = \".\"\ndefault_route = \"acme\"", 2, "node id"),
            ("data = \".\"\ngateway_for = [\"acme\"]", 2, "days"),
            ("data = \".\"\ndomains = [\"acme..example\"]", 2, "acme.example"),
            ("data = \".\"\ndomains = [\"b\u{fc}cher.example\"]", 2, "xn--"),
            ("data = \".\"\ndns_servers = [\"dns.example\"]", 2, "192.0.2.53"),
            ("data = \".\"\ntls_key = \"key.pem\"", 2, "tls_cert"),
            ("data = \".\"\nclient_url = \"ws://acme.example\"", 2, "wss://"),
            ("data = \".\"\nclient_url = \"wss://acme.example/\\u001b[2J\"", 2, "wss://"),
            ("data = \".\"\ndisk_percent_max = 101", 2, "from 10 to 100"),
            ("data = \".\"\nfederation = \"shut\"", 2, "closed"),
            ("data = \".\"\npeer_kib_per_second = 1", 2, "from 64"),
            ("data = \".\"\nstore_cache_mib = \"16\"", 2, "expected"),
            ("data = .", 1, ""),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(&format!("line {line}: ")), "{text}: {error}");
            assert!(error.contains(hint), "{text}: {error}");
        }
        assert!(parse("domains = []").unwrap_err().contains("data = "));
    }

    #[test]
    fn a_next_hop_is_a_neighbour() {
        let [one, two, three] = [1, 2, 3].map(|seed| {
            let key = tidings_protocol::key::SecretKey::from_seed(&[seed; 32]);
            tidings_protocol::id::NodeId::of(&key.public())
        });
        let [a, b, c] = [one, two, three].map(|node| node.to_text());
        let route = |to: &str, via: &str| format!("\"{to} via {via}\"");
        let parse_routes = |routes: &[String], more: &str| {
            parse(&format!("data = \".\"\nroutes = [{}]\n{more}", routes.join(", ")))
        };
        let default = format!("default_route = \"{c}\"");
        let config = parse_routes(&[route(&a, &b)], &default).unwrap();
        assert_eq!(config.routes, [(Some(one), two), (None, three)]);
        for (routes, more) in [
            (vec![route(&a, &b), route(&b, &c)], ""),
            (vec![route(&a, &b), route(&a, &c)], ""),
            (vec![route(&a, &a)], ""),
            (vec![route(&c, &b)], default.as_str()),
        ] {
            let error = parse_routes(&routes, more).unwrap_err();
            assert!(error.contains("next hop"), "{error}");
        }
    }

    #[test]
    fn a_public_listener_needs_tls_or_a_proxy() {
        let public = "data = \".\"\nlisten_clients = \"0.0.0.0:7401\"\n";
        assert!(parse(&format!("{public}behind_proxy = true")).is_ok());
        let tls = parse(&format!("{public}tls_cert = \"c.pem\"\ntls_key = \"/k.pem\"")).unwrap();
        let tls = tls.clients.tls.unwrap();
        assert_eq!(
            (tls.cert.as_path(), tls.key.as_path(), tls.lines),
            (Path::new("/srv/acme/c.pem"), Path::new("/k.pem"), [3, 4])
        );
    }
}
