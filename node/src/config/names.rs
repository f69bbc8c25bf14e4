//! `domains` and `dns_servers` of `node.toml`, checked.

use std::net::{IpAddr, SocketAddr};

use tidings_protocol::domain::Domain;
use tidings_protocol::limits::DOMAINS_MAX;
use toml::Spanned;

use super::{Written, Wrong, wrong};
use crate::limits::DNS_SERVERS_MAX;

pub(super) fn domains(written: &Written) -> Result<Vec<String>, Wrong> {
    let domains = written.domains.as_deref().unwrap_or_default();
    if let Some(extra) = domains.get(DOMAINS_MAX) {
        return Err(wrong(extra, format!("a node claims at most {DOMAINS_MAX} domains")));
    }
    let check = |domain: &Spanned<String>| match Domain::parse(domain.get_ref()) {
        Ok(domain) => Ok(domain.to_string()),
        Err(error) => Err(wrong(
            domain,
            format!("this is no domain; write it like \"acme.example\": {error}"),
        )),
    };
    domains.iter().map(check).collect()
}

pub(super) fn servers(written: &Written) -> Result<Vec<SocketAddr>, Wrong> {
    let servers = written.dns_servers.as_deref().unwrap_or_default();
    if let Some(extra) = servers.get(DNS_SERVERS_MAX) {
        return Err(wrong(extra, format!("a node asks at most {DNS_SERVERS_MAX} DNS servers")));
    }
    let why =
        "this is no DNS server; write its IP address, like \"192.0.2.53\" or \"127.0.0.1:5353\"";
    let check = |text: &Spanned<String>| {
        let alone = text.get_ref().parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
        text.get_ref().parse::<SocketAddr>().or(alone).map_err(|_| wrong(text, why))
    };
    servers.iter().map(check).collect()
}
