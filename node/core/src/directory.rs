//! What custodians of ours keep of our users, so that strangers can write to them while we are away;
//! and what we keep of the users of nodes that we hold for. Page by page, by digest: only what differs
//! travels. How a device's question comes to a custodian is in `fetch.rs`.

use std::collections::{BTreeMap, BTreeSet};

use tidings_protocol::{
    address::UserName,
    bundle::Bundle,
    device_list::DeviceList,
    directory::{Directory, DirectoryEntry, DirectoryItem, DirectoryWanted, Listing},
    id::NodeId,
    limits,
    peer_frame::{FetchFor, PeerFrame, User},
    refusal::{Refusal, RefusalCode},
    signed::Signed,
};
use tidings_store::{StoreError, Txn, prefix_end};

use crate::{
    Core,
    effect::Observed,
    event::LinkId,
    schema::{self, ACCOUNTS, AccountRow, DIRECTORY, DirectoryRow, key, user_key},
};

/// A listing counts from the beginning of its week, so that one that is signed again says the same.
const WEEK_MS: u64 = 7 * 24 * 3600 * 1000;
/// Everything is compared again after this time on a link that lasts: then listings are renewed.
const AGAIN_MS: u64 = 24 * 3600 * 1000;
/// How long a custodian may take to answer a page.
const ANSWER_MS_MAX: u64 = 30 * 1000;
/// Users that changed and wait for their page. With more than that, everything is compared.
const CHANGED_MAX: usize = 1_024;
/// Users of another node that one page makes us forget: the next page takes the others.
const FORGET_MAX: usize = 1_024;

/// What is told to each custodian of ours that keeps users, on its present link.
pub(crate) type Pushes = BTreeMap<NodeId, Push>;

/// What is told to one custodian.
#[derive(Debug)]
pub(crate) struct Push {
    /// Where the walk over all users goes on, while there is one: absent for the beginning.
    walk: Option<Option<UserName>>,
    changed: BTreeSet<UserName>,
    /// The page that waits for its answer, and until when.
    page: Option<(BTreeSet<UserName>, u64)>,
    again_ms: u64,
}

impl Push {
    const fn starting_at(now_ms: u64) -> Self {
        let changed = BTreeSet::new();
        Self { walk: Some(None), changed, page: None, again_ms: now_ms + AGAIN_MS }
    }

    fn deadline(&self) -> u64 {
        self.page.as_ref().map_or(self.again_ms, |(_, until_ms)| *until_ms)
    }
}

impl Core {
    /// A custodian has said on its link how many users it keeps: all are compared.
    pub(crate) fn start_push(&mut self, custodian: &NodeId, users: u64) {
        if users == 0 {
            self.pushes.remove(custodian);
        } else {
            self.pushes.insert(*custodian, Push::starting_at(self.now_ms));
            self.batch.peers.insert(*custodian);
        }
    }

    /// List or bundles of a user here are other ones than before.
    pub(crate) fn note_changed(&mut self, name: &UserName) {
        for (custodian, push) in &mut self.pushes {
            if push.changed.len() < CHANGED_MAX {
                push.changed.insert(name.clone());
            } else {
                push.walk = Some(None);
            }
            self.batch.peers.insert(*custodian);
        }
    }

    /// The next page for a custodian, if one is due.
    pub(crate) fn pump_directory(
        &mut self,
        custodian: &NodeId,
        txn: &dyn Txn,
    ) -> Result<(), StoreError> {
        let now_ms = self.now_ms;
        let Some(link) = self.peers.get(custodian).and_then(|peer| peer.link) else {
            self.pushes.remove(custodian);
            return Ok(());
        };
        let Some(push) = self.pushes.get_mut(custodian) else { return Ok(()) };
        match &push.page {
            Some((_, until_ms)) if *until_ms > now_ms => return Ok(()),
            Some(_) => {
                // It does not answer: nothing more on this link.
                self.pushes.remove(custodian);
                return Ok(());
            }
            None => {}
        }
        if push.again_ms <= now_ms {
            (push.walk, push.again_ms) = (Some(None), now_ms + AGAIN_MS);
        }
        let page = if let Some(from) = push.walk.clone() {
            self.page_from(from, txn)?
        } else if let Some(name) = push.changed.pop_first() {
            let items = self.directory_item(&name, txn)?.into_iter().collect();
            Directory { from: Some(name.clone()), to: Some(name), items }
        } else {
            return Ok(());
        };
        let names = page.items.iter().map(|item| item.name.clone()).collect();
        if let Some(push) = self.pushes.get_mut(custodian) {
            if push.walk.is_some() {
                push.walk = page.to.clone().map(Some);
            }
            push.page = Some((names, now_ms + ANSWER_MS_MAX));
        }
        self.tell_peer(link, PeerFrame::Directory(page));
        Ok(())
    }

    /// A page of all users. It begins with the last name of the one before, so that nothing lies between.
    fn page_from(&self, from: Option<UserName>, txn: &dyn Txn) -> Result<Directory, StoreError> {
        let first = from.as_ref().map_or(&[][..], |name| name.as_str().as_bytes());
        let rows = txn.range(ACCOUNTS, first, &[0xff; 65], limits::DIRECTORY_PAGE_MAX)?;
        let is_last = rows.len() < limits::DIRECTORY_PAGE_MAX;
        let mut items = Vec::with_capacity(rows.len());
        for (name, _) in &rows {
            let name = core::str::from_utf8(name).ok().and_then(|name| UserName::parse(name).ok());
            let name = name.ok_or_else(|| StoreError::corrupt("the name of an account"))?;
            items.extend(self.directory_item(&name, txn)?);
        }
        let last = items.last().map(|item| item.name.clone()).filter(|_| !is_last);
        Ok(Directory { from, to: last, items })
    }

    fn directory_item(
        &self,
        name: &UserName,
        txn: &dyn Txn,
    ) -> Result<Option<DirectoryItem>, StoreError> {
        let Some((listing, bundles)) = self.listed(name, txn)? else { return Ok(None) };
        Ok(Some(DirectoryItem { name: name.clone(), digest: listing.digest(&bundles) }))
    }

    /// What we say of a user here, and the bundles that strangers get of others.
    fn listed(
        &self,
        name: &UserName,
        txn: &dyn Txn,
    ) -> Result<Option<(Listing, Vec<Bundle>)>, StoreError> {
        let row: Option<AccountRow> = schema::get(txn, ACCOUNTS, name.as_str().as_bytes())?;
        let Some(row) = row else { return Ok(None) };
        let mut bundles = Vec::new();
        for device in self.devices_of(&row.account, txn)? {
            bundles.extend(Self::fallback_bundle(&device, txn)?);
        }
        let issued_ms = self.now_ms - self.now_ms % WEEK_MS;
        let listing = Listing {
            node: self.node,
            name: name.clone(),
            account: row.account,
            list_version: row.list_version,
            list_hash: row.list_hash,
            issued_ms,
            expires_ms: issued_ms.saturating_add(limits::LISTING_LIFE_MS),
            serial: self.stance.signer.version,
        };
        Ok(Some((listing, bundles)))
    }

    /// Our word for the list of a user here.
    #[expect(clippy::type_complexity, reason = "a pair that has no meaning of its own")]
    fn signed_listing(
        &self,
        name: &UserName,
        txn: &dyn Txn,
    ) -> Result<Option<(Signed<Listing>, Vec<Bundle>)>, StoreError> {
        let listed = self.listed(name, txn)?;
        Ok(listed
            .map(|(listing, bundles)| (Signed::new(&listing, &self.settings.operational), bundles)))
    }

    fn directory_entry(
        &self,
        name: &UserName,
        txn: &dyn Txn,
    ) -> Result<Option<DirectoryEntry>, StoreError> {
        let Some((listing, bundles)) = self.signed_listing(name, txn)? else { return Ok(None) };
        let row: Option<AccountRow> = schema::get(txn, ACCOUNTS, name.as_str().as_bytes())?;
        let Some(row) = row else { return Ok(None) };
        let list = Self::newest_list(&row.account, txn)?;
        Ok(list.map(|list| DirectoryEntry { listing, list, bundles }))
    }

    /// A custodian says what of our page it wants.
    pub(crate) fn on_directory_wanted(
        &mut self,
        link: LinkId,
        node: &NodeId,
        wanted: &DirectoryWanted,
        txn: &dyn Txn,
    ) -> Result<(), StoreError> {
        let Some(push) = self.pushes.get_mut(node) else { return Ok(()) };
        let Some((mut page, _)) = push.page.take() else { return Ok(()) };
        let code = wanted.refusal.as_ref().map(|refusal| refusal.code);
        if code.is_some_and(|code| code != RefusalCode::Quota) {
            self.pushes.remove(node);
            return Ok(());
        }
        for name in &wanted.names {
            // Only what it was told of, and once.
            if page.remove(name)
                && let Some(entry) = self.directory_entry(name, txn)?
            {
                self.tell_peer(link, PeerFrame::DirectoryEntry(entry));
            }
        }
        self.batch.peers.insert(*node);
        Ok(())
    }

    /// Pages that are due, or that were not answered.
    pub(crate) fn tick_pushes(&mut self) {
        let now_ms = self.now_ms;
        let due = self.pushes.iter().filter(|(_, push)| push.deadline() <= now_ms);
        self.batch.peers.extend(due.map(|(custodian, _)| *custodian));
    }

    pub(crate) fn pushes_deadline(&self) -> Option<u64> {
        self.pushes.values().map(Push::deadline).min()
    }

    /// How many users of another node we are ready to keep.
    fn users_kept_for(&self, node: &NodeId) -> u64 {
        let is_named = self.custodians_of(node).contains(&self.node);
        self.custody_terms(node).filter(|_| is_named).map_or(0, |terms| terms.users)
    }

    /// A page of the directory of a node that we hold for.
    pub(crate) fn on_directory(
        &mut self,
        link: LinkId,
        node: &NodeId,
        page: &Directory,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let users_max = self.users_kept_for(node);
        let mut wanted = DirectoryWanted { refusal: None, names: Vec::new() };
        if users_max == 0 {
            wanted.refusal = Some(RefusalCode::Refused.into());
        } else {
            self.forget_users(node, page, txn)?;
            let mut room = users_max.saturating_sub(self.users_of(node));
            for item in &page.items {
                let row = schema::get::<DirectoryRow>(txn, DIRECTORY, &user_key(node, &item.name))?;
                match row {
                    Some(row) if row.digest == item.digest => {}
                    Some(_) => wanted.names.push(item.name.clone()),
                    None if room > 0 => {
                        room -= 1;
                        wanted.names.push(item.name.clone());
                    }
                    None => wanted.refusal = Some(Refusal::from(RefusalCode::Quota)),
                }
            }
        }
        self.tell_peer(link, PeerFrame::DirectoryWanted(wanted));
        Ok(())
    }

    fn users_of(&self, node: &NodeId) -> u64 {
        self.peers.get(node).map_or(0, |peer| peer.users)
    }

    /// Forgets names that a page should have and has not.
    fn forget_users(
        &mut self,
        node: &NodeId,
        page: &Directory,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let from =
            page.from.as_ref().map_or_else(|| node.as_bytes().to_vec(), |n| user_key(node, n));
        let to = match &page.to {
            Some(name) => key(&[&user_key(node, name), &[0]]),
            None => prefix_end(node.as_bytes()),
        };
        let named: BTreeSet<&[u8]> =
            page.items.iter().map(|item| item.name.as_str().as_bytes()).collect();
        let room = limits::DIRECTORY_PAGE_MAX + FORGET_MAX;
        for (key, _) in txn.range(DIRECTORY, &from, &to, room)? {
            if !named.contains(key.get(NodeId::LEN..).unwrap_or_default()) {
                self.forget_user(node, &key, txn)?;
            }
        }
        Ok(())
    }

    fn forget_user(
        &mut self,
        node: &NodeId,
        key: &[u8],
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        txn.delete(DIRECTORY, key)?;
        if let Some(peer) = self.peers.get_mut(node) {
            peer.users = peer.users.saturating_sub(1);
            self.batch.peer_rows.insert(*node);
        }
        Ok(())
    }

    /// A user of a node that we hold for.
    pub(crate) fn on_directory_entry(
        &mut self,
        node: &NodeId,
        entry: DirectoryEntry,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let users_max = self.users_kept_for(node);
        let Some(delegation) = self.delegation_by(node).filter(|_| users_max > 0) else {
            return Ok(());
        };
        let DirectoryEntry { listing, list, bundles } = entry;
        let name = listing.peek().map(|listing| listing.name);
        let Ok(name) = name else { return Ok(()) };
        let checked = Listing::check(&listing, delegation, &name, &list, self.now_ms);
        let Ok(checked) = checked else {
            self.observe(Observed::BadStatement);
            return Ok(());
        };
        let key = user_key(node, &name);
        let is_new = txn.get(DIRECTORY, &key)?.is_none();
        if is_new && self.users_of(node) >= users_max {
            return Ok(());
        }
        let bundles = without_one_time(bundles);
        let digest = checked.digest(&bundles);
        schema::put(txn, DIRECTORY, &key, &DirectoryRow { digest, listing, list, bundles })?;
        if let Some(peer) = self.peers.get_mut(node).filter(|_| is_new) {
            peer.users += 1;
            self.batch.peer_rows.insert(*node);
        }
        Ok(())
    }

    /// A peer asks for a user of a node that we hold for, or that we are.
    pub(crate) fn on_fetch_for(
        &mut self,
        link: LinkId,
        node: &NodeId,
        asked: FetchFor,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        if asked.node == self.node && self.is_trusted_hop(node) {
            return self.on_fetch_own(link, node, asked, txn);
        }
        let passes = asked.node != self.node && self.passing_terms(node, &asked.node).is_some();
        if passes && asked.hops_left > 0 {
            self.ask_on(link, node, asked);
            return Ok(());
        }
        let now_ms = self.now_ms;
        let allowance = self.peers.get_mut(node).map(|peer| &mut peer.asked_for);
        let is_granted = allowance.is_some_and(|allowance| {
            let is_granted = allowance.left(now_ms) > 0;
            allowance.take(1);
            is_granted
        });
        let found = if is_granted { self.kept_user(&asked, txn)? } else { None };
        let user = match found {
            Some(Kept { list, bundles, listing }) => User {
                request: asked.request,
                refusal: None,
                lists: list.into_iter().collect(),
                bundles: if asked.with_bundles { bundles } else { Vec::new() },
                listing: Some(listing),
                delegation: self.delegation_for(&asked.node),
            },
            None => {
                let code = match (is_granted, passes) {
                    (false, _) => RefusalCode::Busy,
                    (true, true) => RefusalCode::HopLimit,
                    (true, false) => RefusalCode::Unreachable,
                };
                refused_user(asked.request, code)
            }
        };
        self.tell_peer(link, PeerFrame::User(user));
        Ok(())
    }

    fn delegation_for(
        &self,
        node: &NodeId,
    ) -> Option<Signed<tidings_protocol::descriptor::Delegation>> {
        if *node == self.node {
            return Some(self.settings.delegation.clone());
        }
        self.signed_delegation_by(node).cloned()
    }

    fn kept_user(&self, asked: &FetchFor, txn: &dyn Txn) -> Result<Option<Kept>, StoreError> {
        let kept = if asked.node == self.node {
            self.directory_entry(&asked.name, txn)?
        } else if self.users_kept_for(&asked.node) > 0 {
            let key = user_key(&asked.node, &asked.name);
            let row = schema::get::<DirectoryRow>(txn, DIRECTORY, &key)?;
            row.map(|DirectoryRow { listing, list, bundles, .. }| DirectoryEntry {
                listing,
                list,
                bundles,
            })
        } else {
            None
        };
        let Some(DirectoryEntry { listing, list, bundles }) = kept else { return Ok(None) };
        let said = listing.peek().map_err(|error| StoreError::corrupt(error.to_string()))?;
        if said.expires_ms <= self.now_ms {
            return Ok(None);
        }
        let is_known = asked.known_version == Some(said.list_version);
        Ok(Some(Kept { list: (!is_known).then_some(list), bundles, listing }))
    }

    /// Users of nodes for which nothing is kept any more go, some in each sweep.
    pub(crate) fn sweep_directory(&mut self, txn: &mut dyn Txn) -> Result<bool, StoreError> {
        let gone = self.peers.iter().find(|(node, peer)| {
            let terms = self.custody_terms(node);
            peer.users > 0 && terms.is_none_or(|terms| terms.users == 0)
        });
        let Some(node) = gone.map(|(node, _)| *node) else { return Ok(false) };
        let prefix = node.as_bytes();
        let rows = txn.range(DIRECTORY, prefix, &prefix_end(prefix), FORGET_MAX)?;
        let is_full = rows.len() == FORGET_MAX;
        for (key, _) in rows {
            self.forget_user(&node, &key, txn)?;
        }
        if !is_full && let Some(peer) = self.peers.get_mut(&node) {
            peer.users = 0;
            self.batch.peer_rows.insert(node);
        }
        Ok(is_full)
    }

    /// What is kept of a user, as an answer to somebody else than his node.
    /// False when the answer does not hold: a custodian made it up, or it is too old.
    pub(crate) fn is_listed(
        &mut self,
        node: &NodeId,
        name: &UserName,
        known_version: Option<u64>,
        user: &User,
    ) -> bool {
        self.hear_delegation(node, user.delegation.clone());
        let (Some(listing), Some(delegation)) = (&user.listing, self.delegation_by(node)) else {
            return false;
        };
        match user.lists.last() {
            Some(list) => Listing::check(listing, delegation, name, list, self.now_ms).is_ok(),
            None => {
                let said = Listing::check_word(listing, delegation, name, self.now_ms);
                said.is_ok_and(|said| known_version == Some(said.list_version))
            }
        }
    }
}

/// What is kept of a user.
struct Kept {
    /// Absent when the asker has it.
    list: Option<Signed<DeviceList>>,
    bundles: Vec<Bundle>,
    listing: Signed<Listing>,
}

/// An answer that says why there is none.
pub(crate) fn refused_user(request: u64, code: RefusalCode) -> User {
    User {
        request,
        refusal: Some(code.into()),
        lists: Vec::new(),
        bundles: Vec::new(),
        listing: None,
        delegation: None,
    }
}

/// Bundles that may be given to several strangers.
pub(crate) fn without_one_time(bundles: Vec<Bundle>) -> Vec<Bundle> {
    bundles.into_iter().map(|bundle| Bundle { one_time: None, ..bundle }).collect()
}
