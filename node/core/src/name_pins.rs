//! Which domain stands for which node: pinned at first use, or an alias by an administrator. No answer
//! of the DNS moves a pin; a different one is noted, and waits until an administrator accepts it.

use tidings_protocol::{
    client_frame::NameSource, domain::Domain, id::NodeId, refusal::RefusalCode,
};
use tidings_store::{StoreError, Txn};

use crate::{
    Core,
    effect::{AdminReply, ChangeKind, Effect, NameCheck, NameFound, NameStatus, Observed},
    event::{AdminToken, NameCommand},
    names::Found,
    schema::{self, NAMES, NameChange, NameRow},
};

/// Pins and aliases that a node keeps: far more than people of one organisation write to.
const NAMES_MAX: usize = 10_000;

impl NameRow {
    /// What the change that waits means, if one does.
    pub(crate) fn change_kind(&self) -> Option<ChangeKind> {
        let change = self.change.as_ref()?;
        Some(match (change.node, &change.delegation) {
            (None, _) => ChangeKind::NoRecord,
            (Some(node), _) if node == self.node => ChangeKind::Withdrawn,
            (Some(_), Some(_)) => ChangeKind::Moved,
            (Some(_), None) => ChangeKind::Unclaimed,
        })
    }
}

impl Core {
    pub(crate) fn load_names(&mut self, txn: &dyn Txn) -> Result<(), StoreError> {
        for (key, bytes) in txn.range(NAMES, &[], &[0xff], usize::MAX)? {
            let domain = core::str::from_utf8(&key).ok().and_then(|text| Domain::parse(text).ok());
            let domain = domain.ok_or_else(|| StoreError::corrupt("the key of a name"))?;
            self.names.rows.insert(domain, schema::decode(&bytes)?);
        }
        Ok(())
    }

    fn write_name(
        &mut self,
        domain: &Domain,
        row: NameRow,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        schema::put(txn, NAMES, domain.as_str().as_bytes(), &row)?;
        self.names.rows.insert(domain.clone(), row);
        Ok(())
    }

    fn drop_name(&mut self, domain: &Domain, txn: &mut dyn Txn) -> Result<(), StoreError> {
        txn.delete(NAMES, domain.as_str().as_bytes())?;
        self.names.rows.remove(domain);
        Ok(())
    }

    /// Notes what a check has found: pins the domain at its first use, confirms a pin, or notes a change
    /// beside it. A refusal when there is no room for another pin.
    pub(crate) fn note_found(
        &mut self,
        domain: &Domain,
        found: &Found,
        may_pin: bool,
        txn: &mut dyn Txn,
    ) -> Result<Option<RefusalCode>, StoreError> {
        match (self.names.rows.get(domain).cloned(), found) {
            (Some(row), _) if row.source == NameSource::Alias => Ok(None),
            (None, Found::Bound(node, claim)) if may_pin => {
                if self.names.rows.len() >= NAMES_MAX {
                    return Ok(Some(RefusalCode::Quota));
                }
                let now_ms = self.now_ms;
                let row = NameRow {
                    node: *node,
                    source: NameSource::Dns,
                    since_ms: now_ms,
                    confirmed_ms: now_ms,
                    delegation: Some(claim.clone()),
                    change: None,
                };
                self.write_name(domain, row, txn)?;
                Ok(None)
            }
            (None, _) => Ok(None),
            (Some(row), Found::Bound(node, claim)) if *node == row.node => {
                let (confirmed_ms, delegation) = (self.now_ms, Some(claim.clone()));
                let row = NameRow { confirmed_ms, delegation, change: None, ..row };
                self.write_name(domain, row, txn)?;
                Ok(None)
            }
            (Some(row), found) => {
                let change = match found {
                    Found::Bound(node, claim) => Some((Some(*node), Some(claim.clone()))),
                    Found::Unclaimed(node) => Some((Some(*node), None)),
                    // The DNS says what it said, or nothing: no news.
                    Found::Unasked(node) if *node == row.node => None,
                    Found::Unasked(node) => Some((Some(*node), None)),
                    Found::Absent | Found::Contradicting | Found::Unreadable => Some((None, None)),
                    Found::Silent => None,
                };
                let Some((node, delegation)) = change else { return Ok(None) };
                let change = NameChange { node, delegation, since_ms: self.now_ms };
                self.note_change(domain, row, change, txn)?;
                Ok(None)
            }
        }
    }

    /// Notes a change beside a pin, which stays as it is.
    fn note_change(
        &mut self,
        domain: &Domain,
        row: NameRow,
        mut change: NameChange,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        match &row.change {
            Some(known) if known.node == change.node => change.since_ms = known.since_ms,
            Some(_) | None => self.observe(Observed::NameChanged),
        }
        if row.change.as_ref() == Some(&change) {
            return Ok(());
        }
        self.write_name(domain, NameRow { change: Some(change), ..row }, txn)
    }

    /// The newest delegation of a node may no longer name domains that are pinned to it.
    pub(crate) fn note_withdrawn(
        &mut self,
        node: &NodeId,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let Some((_, known)) = self.peers.get(node).and_then(|peer| peer.descriptor.as_ref())
        else {
            return Ok(());
        };
        let is_withdrawn = |(domain, row): &(&Domain, &NameRow)| {
            row.node == *node
                && row.source == NameSource::Dns
                && row.change.is_none()
                && !known.delegation.claims(domain)
        };
        let withdrawn: Vec<(Domain, NameRow)> = self
            .names
            .rows
            .iter()
            .filter(is_withdrawn)
            .map(|(domain, row)| (domain.clone(), row.clone()))
            .collect();
        for (domain, row) in withdrawn {
            let change = NameChange { node: Some(*node), delegation: None, since_ms: self.now_ms };
            self.note_change(&domain, row, change, txn)?;
        }
        Ok(())
    }

    /// A look at one domain that can begin is begun elsewhere.
    pub(crate) fn change_name(
        &mut self,
        command: NameCommand,
        txn: &mut dyn Txn,
    ) -> Result<AdminReply, StoreError> {
        Ok(match command {
            NameCommand::List => AdminReply::Names(self.name_statuses()),
            NameCommand::Alias { domain, node } => self.set_alias(&domain, node, txn)?,
            NameCommand::Accept { domain } => self.accept_change(&domain, txn)?,
            NameCommand::Forget { domain } if self.names.rows.contains_key(&domain) => {
                self.drop_name(&domain, txn)?;
                self.names.forget_absent(&domain);
                AdminReply::Done
            }
            NameCommand::Forget { domain } => AdminReply::Refused(unknown(&domain)),
            NameCommand::Check { .. } => {
                AdminReply::Refused("too many domains are being looked up: try again".to_owned())
            }
        })
    }

    fn set_alias(
        &mut self,
        domain: &Domain,
        node: NodeId,
        txn: &mut dyn Txn,
    ) -> Result<AdminReply, StoreError> {
        if self.claims_itself(domain) {
            let why = format!("{domain} is a domain of this node itself, as node.toml says");
            return Ok(AdminReply::Refused(why));
        }
        if !self.names.rows.contains_key(domain) && self.names.rows.len() >= NAMES_MAX {
            let why = format!("there are {NAMES_MAX} names, and no room for another: forget some");
            return Ok(AdminReply::Refused(why));
        }
        let (since_ms, confirmed_ms) = (self.now_ms, self.now_ms);
        let source = NameSource::Alias;
        let row = NameRow { node, source, since_ms, confirmed_ms, delegation: None, change: None };
        self.write_name(domain, row, txn)?;
        self.names.forget_absent(domain);
        Ok(AdminReply::Done)
    }

    /// Makes what changed the pin. A domain that names nobody any more is pinned to nobody.
    fn accept_change(
        &mut self,
        domain: &Domain,
        txn: &mut dyn Txn,
    ) -> Result<AdminReply, StoreError> {
        let Some(row) = self.names.rows.get(domain).cloned() else {
            return Ok(AdminReply::Refused(unknown(domain)));
        };
        let kind = row.change_kind();
        let refused = |why: String| Ok(AdminReply::Refused(why));
        match (kind, row.change) {
            (None, _) | (_, None) => refused(format!("nothing has changed about {domain}")),
            (Some(ChangeKind::Moved), Some(NameChange { node: Some(node), delegation, .. })) => {
                let (since_ms, confirmed_ms) = (self.now_ms, self.now_ms);
                let source = NameSource::Dns;
                let row =
                    NameRow { node, source, since_ms, confirmed_ms, delegation, change: None };
                self.write_name(domain, row, txn)?;
                Ok(AdminReply::Done)
            }
            (Some(ChangeKind::Withdrawn | ChangeKind::NoRecord), _) => {
                self.drop_name(domain, txn)?;
                self.names.forget_absent(domain);
                Ok(AdminReply::Done)
            }
            (Some(ChangeKind::Moved | ChangeKind::Unclaimed), _) => refused(format!(
                "the node that the DNS names for {domain} does not claim it, as far as is known: ask \
                 again with `tidings admin names check {domain}`, or, if you know better, use \
                 `tidings admin names alias`"
            )),
        }
    }

    /// How many names wait for an administrator.
    pub(crate) fn changed_names(&self) -> u64 {
        self.names.rows.values().filter(|row| row.change.is_some()).count() as u64
    }

    fn name_statuses(&self) -> Vec<NameStatus> {
        self.names.rows.iter().map(|(domain, row)| status(domain, row)).collect()
    }

    pub(crate) fn tell_checked(&mut self, token: AdminToken, domain: &Domain, found: &Found) {
        let (found, node) = match found {
            Found::Bound(node, _) => (NameFound::Bound, Some(*node)),
            Found::Unclaimed(node) => (NameFound::Unclaimed, Some(*node)),
            Found::Unasked(node) => (NameFound::Unasked, Some(*node)),
            Found::Absent => (NameFound::Absent, None),
            Found::Contradicting => (NameFound::Contradicting, None),
            Found::Unreadable => (NameFound::Unreadable, None),
            Found::Silent => (NameFound::Silent, None),
        };
        let pinned = self.names.rows.get(domain).map(|row| status(domain, row));
        let check = NameCheck { domain: domain.clone(), found, node, pinned };
        let reply = AdminReply::NameChecked(Box::new(check));
        self.effects.push_back(Effect::AdminReply { token, reply });
    }
}

fn unknown(domain: &Domain) -> String {
    format!("{domain} is neither pinned nor an alias: `tidings admin names list` shows what is")
}

fn status(domain: &Domain, row: &NameRow) -> NameStatus {
    let change = row.change.as_ref();
    NameStatus {
        domain: domain.clone(),
        node: row.node,
        source: row.source,
        since_ms: row.since_ms,
        confirmed_ms: (row.source == NameSource::Dns).then_some(row.confirmed_ms),
        change: row.change_kind(),
        change_node: change.and_then(|change| change.node),
        change_ms: change.map(|change| change.since_ms),
    }
}
