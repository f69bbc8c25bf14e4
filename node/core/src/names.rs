//! Domains on their way to a node id: what a device asks, what the DNS answered, and whether the node
//! that it named claims the domain. What is pinned, and what a change does, is in `name_pins.rs`; the
//! domains of this very node are in `name_own.rs`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tidings_protocol::{
    client_frame::{NameSource, NodeFrame, Refusable, Resolve, Resolved},
    descriptor::{CheckedDescriptor, Delegation, Descriptor},
    domain::Domain,
    id::{DeviceId, NodeId},
    refusal::RefusalCode,
    signed::Signed,
};
use tidings_store::{StoreError, Txn};

use crate::{
    Core,
    effect::Effect,
    event::{AdminToken, ConnId, DnsOutcome},
    name_own::OwnDomains,
    schema::NameRow,
};

/// Time for one question, DNS and descriptor together: people wait for the first of them.
const CHECK_MS_MAX: u64 = 9_000;
/// A pin that was confirmed within this time is not asked for again.
const FRESH_MS: u64 = 3600 * 1000;
/// The shortest time between two questions about a pin that nobody but devices caused.
const AGAIN_MS: u64 = 5 * 60 * 1000;
/// For how long nobody asks again after a domain named no node.
const ABSENT_MS: u64 = 60 * 1000;
/// The same after the DNS or the node did not answer.
const SILENT_MS: u64 = 10 * 1000;
/// Questions under way; more are refused as busy.
const OPEN_MAX: usize = 256;
/// Devices' requests that may wait for one domain, and those of one device for all of them.
const WAITERS_MAX: usize = 1_024;
const WAITERS_PER_DEVICE_MAX: usize = 8;
/// Answers that nothing is there which are remembered.
const ABSENT_MAX: usize = 4_096;
/// Questions that one device may cause at once, and the time in which one more is granted: a person
/// types few addresses, a program that guesses many.
const QUESTIONS_AT_ONCE_MAX: usize = 30;
const QUESTION_REFILL_MS: u64 = 10_000;

/// Everything about domains that may be forgotten, and the pins as they are on disk.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) rows: BTreeMap<Domain, NameRow>,
    /// When a pin was last asked for, in Unix ms.
    tried: BTreeMap<Domain, u64>,
    open: BTreeMap<Domain, Check>,
    absent: BTreeMap<Domain, (RefusalCode, u64)>,
    /// When each device caused its last questions, in Unix ms.
    asked: BTreeMap<DeviceId, VecDeque<u64>>,
    /// Nodes of which a newer delegation has come.
    news: BTreeSet<NodeId>,
    pub(crate) own: OwnDomains,
}

/// A question under way.
#[derive(Debug)]
struct Check {
    waiting: Vec<Waiter>,
    /// The node that the DNS named, once it did.
    named: Option<NodeId>,
    until_ms: u64,
}

/// Who waits for the end of a check.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Waiter {
    Device { conn: ConnId, device: DeviceId, request: u64 },
    Admin(AdminToken),
}

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The DNS names the node, and the node names the domain.
    Bound(NodeId, Signed<Delegation>),
    /// The DNS names the node, which does not name the domain.
    Unclaimed(NodeId),
    /// The DNS names the node, of which no delegation can be had.
    Unasked(NodeId),
    /// There is no record.
    Absent,
    /// Two records name different nodes.
    Contradicting,
    /// There is a record, and it cannot be read.
    Unreadable,
    /// The DNS does not answer.
    Silent,
}

impl Found {
    /// What a device is told that has nothing to go on with.
    const fn refusal(&self) -> Option<RefusalCode> {
        match self {
            Self::Bound(..) => None,
            Self::Absent => Some(RefusalCode::UnknownDomain),
            Self::Unclaimed(_) | Self::Contradicting | Self::Unreadable => {
                Some(RefusalCode::UnboundDomain)
            }
            Self::Unasked(_) | Self::Silent => Some(RefusalCode::Unreachable),
        }
    }
}

impl Names {
    pub(crate) fn with_own(own: OwnDomains) -> Self {
        Self { own, ..Self::default() }
    }

    /// A newer descriptor of a node has come: it may claim other domains than before.
    pub(crate) fn note_news(&mut self, node: &NodeId) {
        if !self.rows.is_empty() || self.wants(node) {
            self.news.insert(*node);
        }
    }

    /// A connection is gone: nobody is answered there.
    pub(crate) fn forget(&mut self, gone: ConnId) {
        for check in self.open.values_mut() {
            check.waiting.retain(|waiter| match waiter {
                Waiter::Device { conn, .. } => *conn != gone,
                Waiter::Admin(_) => true,
            });
        }
    }

    /// True when a descriptor of the node is waited for.
    pub(crate) fn wants(&self, node: &NodeId) -> bool {
        self.open.values().any(|check| check.named == Some(*node))
    }

    pub(crate) fn deadline(&self, now_ms: u64) -> Option<u64> {
        let news = (!self.news.is_empty()).then_some(now_ms);
        let checks = self.open.values().map(|check| check.until_ms);
        checks.chain(news).chain(self.own.deadline()).min()
    }

    fn waiting_of(&self, device: &DeviceId) -> usize {
        let all = self.open.values().flat_map(|check| &check.waiting);
        all.filter(|waiter| matches!(waiter, Waiter::Device { device: of, .. } if of == device))
            .count()
    }

    /// Counts a question that a device causes. False when it has caused too many.
    fn may_ask(&mut self, device: DeviceId, now_ms: u64) -> bool {
        let since_ms = now_ms.saturating_sub(QUESTION_REFILL_MS * QUESTIONS_AT_ONCE_MAX as u64);
        self.asked.retain(|_, times| {
            // A clock that was set back must not shut anybody out until it has caught up.
            times.retain(|at_ms| (since_ms..=now_ms).contains(at_ms));
            !times.is_empty()
        });
        let times = self.asked.entry(device).or_default();
        if times.len() >= QUESTIONS_AT_ONCE_MAX {
            return false;
        }
        times.push_back(now_ms);
        true
    }

    fn remember_absent(&mut self, domain: &Domain, code: RefusalCode, now_ms: u64) {
        let life_ms = if code.may_retry() { SILENT_MS } else { ABSENT_MS };
        if self.absent.len() >= ABSENT_MAX {
            self.absent.retain(|_, (_, until_ms)| *until_ms > now_ms);
        }
        if self.absent.len() >= ABSENT_MAX {
            self.absent.pop_first();
        }
        self.absent.insert(domain.clone(), (code, now_ms + life_ms));
    }

    fn known_absent(&self, domain: &Domain, now_ms: u64) -> Option<RefusalCode> {
        let (code, until_ms) = self.absent.get(domain)?;
        (now_ms..=now_ms + ABSENT_MS).contains(until_ms).then_some(*code)
    }

    /// What an administrator has changed is asked for anew.
    pub(crate) fn forget_absent(&mut self, domain: &Domain) {
        self.absent.remove(domain);
        self.tried.remove(domain);
    }
}

impl Core {
    pub(crate) fn on_resolve(&mut self, conn: ConnId, asked: &Resolve) {
        let (domain, request) = (&asked.domain, asked.request);
        let Some(device) = self.greeted(conn).map(|greeted| greeted.device) else { return };
        if self.claims_itself(domain) {
            return self.answer_own_domain(conn, request, domain);
        }
        if self.names.rows.contains_key(domain) {
            self.answer_pin(conn, request, domain);
            return self.check_again(domain);
        }
        if let Some(code) = self.names.known_absent(domain, self.now_ms) {
            return self.refuse(conn, Refusable::Request(request), code);
        }
        let is_open = self.names.open.contains_key(domain);
        let may_wait = self.names.waiting_of(&device) < WAITERS_PER_DEVICE_MAX
            && (is_open || self.names.may_ask(device, self.now_ms));
        let waiter = Waiter::Device { conn, device, request };
        if !may_wait || !self.check_name(domain, Some(waiter)) {
            self.refuse(conn, Refusable::Request(request), RefusalCode::Busy);
        }
    }

    /// Answers with what is pinned.
    pub(crate) fn answer_pin(&mut self, conn: ConnId, request: u64, domain: &Domain) {
        let Some(row) = self.names.rows.get(domain) else { return };
        let (node, source, delegation) = (row.node, row.source, row.delegation.clone());
        self.answer_name(conn, Resolved { request, node, source, delegation });
    }

    pub(crate) fn answer_name(&mut self, conn: ConnId, resolved: Resolved) {
        self.tell_client(conn, NodeFrame::Resolved(resolved));
    }

    /// A pin was used: it is compared with the DNS now and again, whoever uses it how often.
    fn check_again(&mut self, domain: &Domain) {
        let now_ms = self.now_ms;
        let Some(row) = self.names.rows.get(domain) else { return };
        let is_recent = |at_ms: u64, for_ms: u64| (at_ms..at_ms + for_ms).contains(&now_ms);
        let was_tried = self.names.tried.get(domain).is_some_and(|at| is_recent(*at, AGAIN_MS));
        if row.source == NameSource::Dns && !was_tried && !is_recent(row.confirmed_ms, FRESH_MS) {
            self.check_name(domain, None);
        }
    }

    /// Asks the DNS, unless that is under way. False when too much is under way.
    pub(crate) fn check_name(&mut self, domain: &Domain, waiter: Option<Waiter>) -> bool {
        let until_ms = self.now_ms + CHECK_MS_MAX;
        if let Some(check) = self.names.open.get_mut(domain) {
            let has_room = check.waiting.len() < WAITERS_MAX;
            check.waiting.extend(waiter.filter(|_| has_room));
            return has_room;
        }
        if self.names.open.len() >= OPEN_MAX {
            return false;
        }
        if self.names.rows.contains_key(domain) {
            self.names.tried.insert(domain.clone(), self.now_ms);
        }
        let waiting = waiter.into_iter().collect();
        self.names.open.insert(domain.clone(), Check { waiting, named: None, until_ms });
        self.effects.push_back(Effect::Resolve { domain: domain.clone() });
        true
    }

    pub(crate) fn on_dns(
        &mut self,
        domain: &Domain,
        outcome: DnsOutcome,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        self.on_own_dns(domain, outcome);
        let Some(check) = self.names.open.get_mut(domain).filter(|check| check.named.is_none())
        else {
            return Ok(());
        };
        let found = match outcome {
            DnsOutcome::Node(node) => {
                check.named = Some(node);
                return self.check_claim(domain, node, txn);
            }
            DnsOutcome::Absent => Found::Absent,
            DnsOutcome::Contradicting => Found::Contradicting,
            DnsOutcome::Unreadable => Found::Unreadable,
            DnsOutcome::Silent => Found::Silent,
        };
        self.conclude(domain, found, txn)
    }

    /// The DNS named a node: does that node name the domain? A known delegation that does is enough;
    /// one that does not may be old.
    fn check_claim(
        &mut self,
        domain: &Domain,
        node: NodeId,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        if node == self.node {
            let found = if self.claims_itself(domain) {
                Found::Bound(node, self.settings.delegation.clone())
            } else {
                Found::Unclaimed(node)
            };
            return self.conclude(domain, found, txn);
        }
        if let Some(claim) = self.known_claim(domain, &node) {
            return self.conclude(domain, Found::Bound(node, claim), txn);
        }
        self.effects.push_back(Effect::Lookup { node });
        // One that is known and was never met, as a pinned one, says it in its greeting.
        if self.peers.get(&node).is_some_and(|peer| peer.descriptor.is_none()) {
            self.reach(&node);
        }
        Ok(())
    }

    /// The delegation in which a known node names the domain.
    fn known_claim(&self, domain: &Domain, node: &NodeId) -> Option<Signed<Delegation>> {
        let (descriptor, checked) = self.peers.get(node)?.descriptor.as_ref()?;
        self.claim_in(domain, descriptor, checked)
    }

    fn claim_in(
        &self,
        domain: &Domain,
        descriptor: &Descriptor,
        checked: &CheckedDescriptor,
    ) -> Option<Signed<Delegation>> {
        let is_valid = checked.delegation.not_after_ms > self.now_ms;
        (is_valid && checked.delegation.claims(domain)).then(|| descriptor.delegation.clone())
    }

    /// What the DHT knows of a node that a domain may stand for. The newest counts, be it the one that
    /// was known before.
    pub(crate) fn on_found_for_names(
        &mut self,
        node: &NodeId,
        found: &[(Descriptor, CheckedDescriptor)],
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let waiting: Vec<Domain> = self.names.domains_for(node);
        if waiting.is_empty() {
            return Ok(());
        }
        let peer = self.peers.get(node);
        let is_met = peer.is_some_and(|peer| peer.retry.dialing_until_ms.is_some());
        let known = peer.and_then(|peer| peer.descriptor.as_ref());
        let of_node = found.iter().filter(|(_, checked)| checked.node() == *node);
        let serial = |one: &&(Descriptor, CheckedDescriptor)| one.1.delegation.serial;
        let newest = of_node.chain(known).max_by_key(serial);
        let mut ends = Vec::new();
        for domain in waiting {
            let found = match newest {
                Some((descriptor, checked)) => match self.claim_in(&domain, descriptor, checked) {
                    Some(claim) => Found::Bound(*node, claim),
                    None => Found::Unclaimed(*node),
                },
                // Its greeting is waited for.
                None if is_met => continue,
                None => Found::Unasked(*node),
            };
            ends.push((domain, found));
        }
        for (domain, found) in ends {
            self.conclude(&domain, found, txn)?;
        }
        Ok(())
    }

    /// A check has ended: pins and changes are noted, and whoever waits is answered.
    fn conclude(
        &mut self,
        domain: &Domain,
        found: Found,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let Some(check) = self.names.open.remove(domain) else { return Ok(()) };
        let is_asked = check.waiting.iter().any(|it| matches!(it, Waiter::Device { .. }));
        // An administrator who looks at a domain does not pin it.
        let refusal = self.note_found(domain, &found, is_asked, txn)?.or(found.refusal());
        if let Some(code) = refusal.filter(|_| !self.names.rows.contains_key(domain)) {
            self.names.remember_absent(domain, code, self.now_ms);
        }
        for waiter in check.waiting {
            match waiter {
                Waiter::Admin(token) => self.tell_checked(token, domain, &found),
                Waiter::Device { conn, request, .. } => {
                    if self.names.rows.contains_key(domain) {
                        self.answer_pin(conn, request, domain);
                    } else {
                        let code = refusal.unwrap_or(RefusalCode::Unreachable);
                        self.refuse(conn, Refusable::Request(request), code);
                    }
                }
            }
        }
        Ok(())
    }

    pub(crate) fn tick_names(&mut self, txn: &mut dyn Txn) -> Result<(), StoreError> {
        for node in core::mem::take(&mut self.names.news) {
            self.note_withdrawn(&node, txn)?;
            self.on_found_for_names(&node, &[], txn)?;
        }
        let late = self.names.open.iter().filter(|(_, check)| check.until_ms <= self.now_ms);
        let late: Vec<(Domain, Option<NodeId>)> =
            late.map(|(domain, check)| (domain.clone(), check.named)).collect();
        for (domain, named) in late {
            let found = named.map_or(Found::Silent, Found::Unasked);
            self.conclude(&domain, found, txn)?;
        }
        self.tick_own_domains();
        Ok(())
    }
}

impl Names {
    /// Domains that may stand for a node, and whose check waits for its delegation.
    fn domains_for(&self, node: &NodeId) -> Vec<Domain> {
        let waiting = self.open.iter().filter(|(_, check)| check.named == Some(*node));
        waiting.map(|(domain, _)| domain.clone()).collect()
    }
}
