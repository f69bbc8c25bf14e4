//! The lines of `node.toml` about what nodes do for each other: who holds envelopes for whom, and through
//! whom they pass. Whether the others agree shows itself later.

use tidings_core::routes::RouteTo;
use tidings_core::settings::CustodyTerms;
use tidings_protocol::id::NodeId;
use tidings_protocol::limits::{CUSTODIANS_MAX, MESSAGE_LIFE_MS_MAX};
use toml::Spanned;

use super::{ROWS_MAX, Written, Wrong, wrong};

pub(super) fn custodians(written: &Written) -> Result<Vec<NodeId>, Wrong> {
    let named = written.custodians.as_deref().unwrap_or_default();
    if let Some(extra) = named.get(CUSTODIANS_MAX) {
        return Err(wrong(extra, format!("a node has at most {CUSTODIANS_MAX} custodians")));
    }
    let node = |text: &Spanned<String>| {
        NodeId::parse(text.get_ref()).map_err(|error| wrong(text, error.to_string()))
    };
    let mut nodes = Vec::new();
    for text in named {
        let custodian = node(text)?;
        if nodes.contains(&custodian) {
            return Err(wrong(text, "this node is named already"));
        }
        nodes.push(custodian);
    }
    Ok(nodes)
}

/// Users whose lists are kept for a node where nothing else is said: some ten megabytes.
const CUSTODY_USERS: u64 = 10_000;

pub(super) fn custody(written: &Written) -> Result<Vec<CustodyTerms>, Wrong> {
    written.custody.iter().flatten().map(custody_terms).collect()
}

pub(super) fn routes(written: &Written) -> Result<Vec<(RouteTo, NodeId)>, Wrong> {
    let node = |at: &Spanned<String>, word: &str| {
        NodeId::parse(word).map_err(|error| wrong(at, error.to_string()))
    };
    let mut routes = Vec::new();
    for text in written.routes.iter().flatten() {
        let words: Vec<&str> = text.get_ref().split_whitespace().collect();
        let [to, "via", via] = words.as_slice() else {
            return Err(wrong(text, "write it like \"<node id> via <node id>\""));
        };
        let (to, via) = (node(text, to)?, node(text, via)?);
        if to == via || routes.iter().any(|(known, _)| *known == Some(to)) {
            return Err(wrong(text, "a node has one next hop, and is none to itself"));
        }
        routes.push((Some(to), via));
    }
    let named = written.routes.iter().flatten().zip(&routes);
    for (text, (_, via)) in named {
        if routes.iter().any(|(to, _)| *to == Some(*via)) {
            return Err(wrong(text, "a next hop is a neighbour: it has no next hop itself"));
        }
    }
    if let Some(text) = &written.default_route {
        let via = node(text, text.get_ref())?;
        if routes.iter().any(|(to, _)| *to == Some(via)) {
            return Err(wrong(text, "a next hop is a neighbour: it has no next hop itself"));
        }
        routes.push((None, via));
    }
    Ok(routes)
}

pub(super) fn gateway_for(written: &Written) -> Result<Vec<CustodyTerms>, Wrong> {
    written.gateway_for.iter().flatten().map(custody_terms).collect()
}

const DAY_MS: u64 = 24 * 3600 * 1000;

fn custody_terms(text: &Spanned<String>) -> Result<CustodyTerms, Wrong> {
    let why = "write it like \"<node id> 100000 1024 14\": envelopes, MiB, and days of 1 to 30; behind \
               them, if you like, how many users' device lists are kept";
    let words: Vec<&str> = text.get_ref().split_whitespace().collect();
    let (node, rows, mib, days, users) = match words.as_slice() {
        [node, rows, mib, days] => (node, rows, mib, days, None),
        [node, rows, mib, days, users] => (node, rows, mib, days, Some(users)),
        _ => return Err(wrong(text, why)),
    };
    let node = NodeId::parse(node).map_err(|error| wrong(text, error.to_string()))?;
    let number = |word: &str, max: u64| {
        word.parse().ok().filter(|n| (1..=max).contains(n)).ok_or_else(|| wrong(text, why))
    };
    let days = number(days, MESSAGE_LIFE_MS_MAX / DAY_MS)?;
    let bytes = number(mib, 1 << 30)? << 20;
    let users = match users {
        Some(&"0") => 0,
        Some(users) => number(users, ROWS_MAX)?,
        None => CUSTODY_USERS,
    };
    Ok(CustodyTerms { node, rows: number(rows, ROWS_MAX)?, bytes, life_ms: days * DAY_MS, users })
}
