//! The domains of this very node: whether the DNS names it for each of them, at the start and once a
//! day. Its own people find each other under them in any case: the administrator said so.

use std::collections::BTreeMap;

use tidings_protocol::{
    client_frame::{NameSource, Resolved},
    domain::Domain,
};

use crate::{
    Core,
    effect::{Effect, NameFound, Observed, OwnDomain},
    event::{ConnId, DnsOutcome},
};

/// How often the own domains are looked up while all is well.
const EVERY_MS: u64 = 24 * 3600 * 1000;
/// The same while one of them is not bound: the record is on its way.
const AGAIN_MS: u64 = 10 * 60 * 1000;

/// What the DNS says of the own domains.
#[derive(Debug, Default)]
pub(crate) struct OwnDomains {
    /// Absent until the first answer.
    known: BTreeMap<Domain, Option<DnsOutcome>>,
    /// When they are looked up again, in Unix ms.
    due_ms: Option<u64>,
}

impl OwnDomains {
    pub(crate) fn of(claimed: &[String], now_ms: u64) -> Self {
        let domains = claimed.iter().filter_map(|claimed| Domain::parse(claimed).ok());
        let known: BTreeMap<Domain, _> = domains.map(|domain| (domain, None)).collect();
        let due_ms = (!known.is_empty()).then_some(now_ms);
        Self { known, due_ms }
    }

    pub(crate) const fn deadline(&self) -> Option<u64> {
        self.due_ms
    }
}

impl Core {
    /// True for a domain that the own delegation names.
    pub(crate) fn claims_itself(&self, domain: &Domain) -> bool {
        self.names.own.known.contains_key(domain)
    }

    /// With the proof once the DNS agrees; until then it holds at this node alone.
    pub(crate) fn answer_own_domain(&mut self, conn: ConnId, request: u64, domain: &Domain) {
        let outcome = self.names.own.known.get(domain).copied().flatten();
        let is_bound = outcome == Some(DnsOutcome::Node(self.node));
        let (source, delegation) = if is_bound {
            (NameSource::Dns, Some(self.settings.delegation.clone()))
        } else {
            (NameSource::Alias, None)
        };
        self.answer_name(conn, Resolved { request, node: self.node, source, delegation });
    }

    pub(crate) fn tick_own_domains(&mut self) {
        if self.names.own.due_ms.is_none_or(|due_ms| due_ms > self.now_ms) {
            return;
        }
        self.names.own.due_ms = Some(self.now_ms + AGAIN_MS);
        let domains: Vec<Domain> = self.names.own.known.keys().cloned().collect();
        self.effects.extend(domains.into_iter().map(|domain| Effect::Resolve { domain }));
    }

    pub(crate) fn on_own_dns(&mut self, domain: &Domain, outcome: DnsOutcome) {
        let good = DnsOutcome::Node(self.node);
        let Some(known) = self.names.own.known.get_mut(domain) else { return };
        let before = known.replace(outcome);
        // A DNS that is silent for a while has taken nothing back.
        if outcome == DnsOutcome::Silent && before == Some(good) {
            *known = before;
        }
        let (was_good, is_good) = (before == Some(good), *known == Some(good));
        if self.names.own.known.values().all(|outcome| *outcome == Some(good)) {
            self.names.own.due_ms = Some(self.now_ms + EVERY_MS);
        }
        if !is_good && (was_good || before.is_none()) {
            self.observe(Observed::OwnDomainUnbound);
        }
    }

    /// For the administrator.
    pub(crate) fn own_domains(&self) -> Vec<OwnDomain> {
        let own = |(domain, outcome): (&Domain, &Option<DnsOutcome>)| {
            let (found, node) = match *outcome {
                None => (None, None),
                Some(DnsOutcome::Node(node)) if node == self.node => {
                    (Some(NameFound::Bound), Some(node))
                }
                Some(DnsOutcome::Node(node)) => (Some(NameFound::OtherNode), Some(node)),
                Some(DnsOutcome::Absent) => (Some(NameFound::Absent), None),
                Some(DnsOutcome::Contradicting) => (Some(NameFound::Contradicting), None),
                Some(DnsOutcome::Unreadable) => (Some(NameFound::Unreadable), None),
                Some(DnsOutcome::Silent) => (Some(NameFound::Silent), None),
            };
            OwnDomain { domain: domain.clone(), found, node }
        };
        self.names.own.known.iter().map(own).collect()
    }
}
