//! Domains in place of node ids: pinned on this device at first use, resolved by the own node. What the
//! node answers later moves no pin; a person accepts another node, or does not.
//!
//! The node may lie about the DNS. It cannot invent the other half: an answer by the DNS carries the
//! delegation in which the named node's root key names the domain, and that is checked here. An alias of
//! its administrator is taken at the node's word, and shown as one. Who is at the other end is proved by
//! account keys and safety numbers, as it is for node ids.

use serde::{Deserialize, Serialize};
use tidings_protocol::{
    client_frame::{ClientFrame, NameSource, Resolve, Resolved},
    domain::Domain,
    id::{NodeId, hash},
    refusal::RefusalCode,
};
use tidings_store::{StoreError, Txn, prefix_end};

use crate::{
    crypto::Sealer,
    event::{ClientEffect, NameError, Warning},
    link::Request,
    machine::ClientCore,
    schema::NAMES,
};

/// Domains whose first answer is waited for.
const WAITING_MAX: usize = 64;
/// Pins that are shown.
const SHOWN_MAX: usize = 10_000;

/// A domain and the node that it stands for on this device.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct NameRow {
    domain: Domain,
    node: NodeId,
    source: NameSource,
    since_ms: u64,
    /// Another answer that waits to be accepted.
    offered: Option<(NodeId, NameSource)>,
}

/// A pinned domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameView {
    /// The domain.
    pub domain: Domain,
    /// The node that it stands for here.
    pub node: NodeId,
    /// By what the own node said so at first use.
    pub source: NameSource,
    /// When that was, in Unix ms.
    pub since_ms: u64,
    /// The node that the own node names for it now, where that is another one.
    pub offered: Option<NodeId>,
}

/// Names that are being resolved. Forgotten when the device stops.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// Domains that somebody used, with the questions that wait for a first answer.
    used: std::collections::BTreeMap<Domain, Vec<u64>>,
    /// Those that were asked for on this link.
    asked: std::collections::BTreeSet<Domain>,
}

impl<S: Sealer> ClientCore<S> {
    fn name_key(&self, domain: &Domain) -> [u8; 32] {
        hash("name row", &[&self.vault.names_key(), domain.as_str().as_bytes()]).0
    }

    fn name_row(&self, txn: &dyn Txn, domain: &Domain) -> Result<Option<NameRow>, StoreError> {
        self.get(txn, NAMES, &self.name_key(domain))
    }

    pub(crate) fn on_resolve(
        &mut self,
        txn: &dyn Txn,
        domain: Domain,
        token: u64,
    ) -> Result<(), StoreError> {
        match self.name_row(txn, &domain)? {
            Some(row) => {
                self.effect(ClientEffect::Resolved { token, found: Ok(row.node) });
                if let Some((offered, _)) = row.offered {
                    let pinned = row.node;
                    self.warn(Warning::NameChanged { domain: domain.clone(), pinned, offered });
                }
                self.names.used.entry(domain.clone()).or_default();
            }
            None if self.names.used.len() >= WAITING_MAX => {
                let found = Err(NameError::Refused(RefusalCode::Busy));
                self.effect(ClientEffect::Resolved { token, found });
                return Ok(());
            }
            None => self.names.used.entry(domain.clone()).or_default().push(token),
        }
        self.ask_name(&domain);
        Ok(())
    }

    /// Once on each link, also for what is pinned: that is how a change is noticed.
    fn ask_name(&mut self, domain: &Domain) {
        if !self.link.is_up() || !self.names.asked.insert(domain.clone()) {
            return;
        }
        let request = self.number_request();
        self.requests.insert(request, Request::Resolve(domain.clone()));
        self.tell_node(ClientFrame::Resolve(Resolve { request, domain: domain.clone() }));
    }

    /// The link serves: what was used meanwhile is asked for.
    pub(crate) fn ask_names(&mut self) {
        let used: Vec<Domain> = self.names.used.keys().cloned().collect();
        for domain in used {
            self.ask_name(&domain);
        }
    }

    pub(crate) fn names_link_lost(&mut self) {
        self.names.asked.clear();
    }

    pub(crate) fn on_resolved(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        answer: &Resolved,
    ) -> Result<(), StoreError> {
        let Some(Request::Resolve(domain)) = self.requests.remove(&answer.request) else {
            return Ok(());
        };
        if !is_proved(answer, &domain) {
            self.warn(Warning::BadName(domain.clone()));
            self.names.asked.remove(&domain);
            self.end_resolving(&domain, &Err(NameError::NotProved));
            return Ok(());
        }
        let (node, source) = (answer.node, answer.source);
        let row = match self.name_row(txn, &domain)? {
            None => {
                let since_ms = now_ms;
                NameRow { domain: domain.clone(), node, source, since_ms, offered: None }
            }
            Some(row) if row.node == node => NameRow { source, offered: None, ..row },
            Some(row) => {
                let (pinned, offered) = (row.node, node);
                if row.offered.is_none_or(|(known, _)| known != node) {
                    self.warn(Warning::NameChanged { domain: domain.clone(), pinned, offered });
                }
                NameRow { offered: Some((node, source)), ..row }
            }
        };
        let key = self.name_key(&domain);
        self.put(txn, NAMES, &key, &row)?;
        self.end_resolving(&domain, &Ok(row.node));
        Ok(())
    }

    /// What is pinned does not depend on whether the node can look it up today.
    pub(crate) fn on_resolve_refused(&mut self, domain: &Domain, code: RefusalCode) {
        self.names.asked.remove(domain);
        self.end_resolving(domain, &Err(NameError::Refused(code)));
    }

    fn end_resolving(&mut self, domain: &Domain, found: &Result<NodeId, NameError>) {
        for token in self.names.used.remove(domain).unwrap_or_default() {
            self.effect(ClientEffect::Resolved { token, found: *found });
        }
    }

    /// The person takes another node for a domain: the one that was shown, and no other.
    pub(crate) fn on_accept_node(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        domain: &Domain,
        shown: &NodeId,
    ) -> Result<(), StoreError> {
        let Some(row) = self.name_row(txn, domain)? else { return Ok(()) };
        let Some((node, source)) = row.offered.filter(|(node, _)| node == shown) else {
            return Ok(());
        };
        let row = NameRow { node, source, since_ms: now_ms, offered: None, ..row };
        let key = self.name_key(domain);
        self.put(txn, NAMES, &key, &row)
    }

    /// Domains that are pinned on this device.
    ///
    /// # Errors
    /// Only from the store.
    pub fn names(&self, txn: &dyn Txn) -> Result<Vec<NameView>, StoreError> {
        let mut views = Vec::new();
        for (key, sealed) in txn.range(NAMES, &[], &prefix_end(&[]), SHOWN_MAX)? {
            let row: NameRow = self.vault.open(NAMES, &key, &sealed)?;
            views.push(NameView {
                domain: row.domain,
                node: row.node,
                source: row.source,
                since_ms: row.since_ms,
                offered: row.offered.map(|(node, _)| node),
            });
        }
        views.sort_by(|one, other| one.domain.cmp(&other.domain));
        Ok(views)
    }

    /// Domains that the own node claims, by its newest delegation.
    #[must_use]
    pub fn own_domains(&self) -> Vec<Domain> {
        let newest = self.node.delegations.last().and_then(|delegation| delegation.peek().ok());
        let claimed = newest.map(|delegation| delegation.domains).unwrap_or_default();
        claimed.iter().filter_map(|claimed| Domain::parse(claimed).ok()).collect()
    }
}

/// By the DNS: the root key that the node is has signed that the domain is its own. Whether that still
/// holds is for the nodes to find out; a pin outlives a delegation.
fn is_proved(answer: &Resolved, domain: &Domain) -> bool {
    match (answer.source, &answer.delegation) {
        (NameSource::Alias, _) => true,
        (NameSource::Dns, None) => false,
        (NameSource::Dns, Some(delegation)) => delegation
            .open(&answer.node.root_key())
            .is_ok_and(|claim| claim.node == answer.node && claim.claims(domain)),
    }
}
