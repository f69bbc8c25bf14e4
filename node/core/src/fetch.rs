//! Device lists and bundles of users: for own devices about anybody, for peers about own users. What
//! was fetched once is kept, so that a first message to an absent node can be sealed; what was not is
//! asked of the node's custodians, whose part is in `directory.rs`.

use std::collections::{BTreeMap, BTreeSet};

use tidings_protocol::{
    address::UserName,
    bundle::Bundle,
    client_frame::{Bundles, FetchBundle, NodeFrame, Refusable},
    device_list::{CheckedList, DeviceList},
    directory::Listing,
    id::NodeId,
    limits,
    peer_frame::{FetchFor, FetchUser, PeerFrame, User},
    refusal::RefusalCode,
    signed::Signed,
};
use tidings_store::{StoreError, Txn};

use crate::{
    Core,
    directory::{refused_user, without_one_time},
    effect::Observed,
    event::{ConnId, LinkId},
    policy::{Act, Verdict},
    schema::{self, ACCOUNTS, AccountRow, CachedUser, USERS, user_key},
    settings::Sabotage,
};

/// How long a device waits for a peer's answer before it gets what is cached.
const ANSWER_MS_MAX: u64 = 5_000;
/// How long an answer may take that is kept for the next question, though its device was told that there
/// is none: through gateways it may be a long way.
pub(crate) const LATE_MS_MAX: u64 = 30_000;
/// Answers that came too late and wait for their question to be asked again, and how long: a device asks
/// ever more rarely. One may be as large as a frame.
const KEPT_MAX: usize = 256;
const KEPT_MS: u64 = 10 * 60_000;
/// Requests that may be open at once; more are refused as busy.
const FETCHES_MAX: usize = 4_096;

/// Requests of own devices that wait for peers.
#[derive(Debug, Default)]
pub(crate) struct Fetches {
    next: u64,
    open: BTreeMap<u64, Fetch>,
    /// Asked through next hops and given up: what was asked, and until when an answer is kept.
    late: BTreeMap<u64, (FetchBundle, u64)>,
    /// What was answered nevertheless.
    kept: BTreeMap<(NodeId, UserName), KeptAnswer>,
}

#[derive(Debug)]
struct KeptAnswer {
    known_version: Option<u64>,
    with_bundles: bool,
    user: User,
    until_ms: u64,
}

#[derive(Debug)]
struct Fetch {
    conn: ConnId,
    asked: FetchBundle,
    until_ms: u64,
    /// Custodians that are asked in the node's place and have not answered; absent while it is the node.
    custodians: Option<BTreeSet<NodeId>>,
}

/// What is asked about a user here.
#[derive(Debug)]
struct Wanted {
    known_version: Option<u64>,
    with_bundles: bool,
    /// Bundles that may come with a one-time pre-key.
    one_time_max: u64,
}

impl Wanted {
    /// By an own device: it is known by its key, and has to be answered for.
    const fn unlimited(known_version: Option<u64>, with_bundles: bool) -> Self {
        Self { known_version, with_bundles, one_time_max: u64::MAX }
    }
}

/// List and bundles of a user here.
#[derive(Debug, Default)]
struct OwnUser {
    lists: Vec<Signed<DeviceList>>,
    bundles: Vec<Bundle>,
}

impl Fetches {
    /// A number for a question, never used twice within one boot.
    pub(crate) const fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn keep_late(&mut self, number: u64, asked: FetchBundle, now_ms: u64) {
        self.late.retain(|_, (_, until_ms)| *until_ms > now_ms);
        if self.late.len() < FETCHES_MAX {
            self.late.insert(number, (asked, now_ms + LATE_MS_MAX));
        }
    }

    fn keep_answer(&mut self, asked: FetchBundle, user: User, now_ms: u64) {
        self.kept.retain(|_, kept| kept.until_ms > now_ms);
        if self.kept.len() < KEPT_MAX {
            let FetchBundle { node, name, known_version, with_bundles, .. } = asked;
            let until_ms = now_ms + KEPT_MS;
            let kept = KeptAnswer { known_version, with_bundles, user, until_ms };
            self.kept.insert((node, name), kept);
        }
    }

    /// The answer that this question has had too late: once, since it may hold one-time pre-keys.
    fn take_answer(&mut self, asked: &FetchBundle, now_ms: u64) -> Option<User> {
        let kept = self.kept.remove(&(asked.node, asked.name.clone()))?;
        let is_the_same =
            (kept.known_version, kept.with_bundles) == (asked.known_version, asked.with_bundles);
        (is_the_same && kept.until_ms > now_ms).then_some(kept.user)
    }

    pub(crate) fn forget(&mut self, conn: ConnId) {
        self.open.retain(|_, fetch| fetch.conn != conn);
    }

    pub(crate) fn deadline(&self) -> Option<u64> {
        self.open.values().map(|fetch| fetch.until_ms).min()
    }
}

impl Fetch {
    fn asks(&self, custodian: &NodeId) -> bool {
        self.custodians.as_ref().is_some_and(|asked| asked.contains(custodian))
    }

    /// A custodian has nothing to say, or cannot be reached.
    fn give_up(&mut self, custodian: &NodeId, now_ms: u64) {
        let Some(asked) = &mut self.custodians else { return };
        if asked.remove(custodian) && asked.is_empty() {
            self.until_ms = now_ms;
        }
    }
}

impl Core {
    pub(crate) fn on_fetch_bundle(
        &mut self,
        conn: ConnId,
        asked: FetchBundle,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        if asked.node == self.node {
            let what = Refusable::Request(asked.request);
            let wanted = Wanted::unlimited(asked.known_version, asked.with_bundles);
            match self.own_user(&asked.name, &wanted, txn)? {
                Some(OwnUser { lists, bundles }) => {
                    let frame = Bundles { request: asked.request, lists, bundles };
                    self.tell_client(conn, NodeFrame::Bundles(frame));
                }
                None => self.refuse(conn, what, RefusalCode::UnknownRecipient),
            }
            return Ok(());
        }
        if self.fetches.open.len() >= FETCHES_MAX {
            self.refuse(conn, Refusable::Request(asked.request), RefusalCode::Busy);
            return Ok(());
        }
        let node = asked.node;
        if let Verdict::No(code) = self.may(&node, Act::Queue) {
            self.refuse(conn, Refusable::Request(asked.request), code);
            return Ok(());
        }
        if let Some(User { lists, bundles, .. }) = self.fetches.take_answer(&asked, self.now_ms) {
            let frame = Bundles { request: asked.request, lists, bundles };
            self.tell_client(conn, NodeFrame::Bundles(frame));
            return Ok(());
        }
        self.introduce(&node);
        self.peer_number(&node, txn)?;
        let number = self.fetches.number();
        let until_ms = self.now_ms + ANSWER_MS_MAX;
        self.fetches.open.insert(number, Fetch { conn, asked, until_ms, custodians: None });
        match self.way_link(&node) {
            Some(link) => self.send_fetch(link, number),
            None => {
                let way = self.way_of(&node);
                let is_backing_off = self.peers.get(&way).is_some_and(|peer| {
                    peer.retry.failures > 0 && peer.retry.next_ms.is_some_and(|n| n > self.now_ms)
                });
                if is_backing_off || !self.may_send(&node) {
                    self.hurry_fetches(&way);
                }
                self.reach(&node);
            }
        }
        Ok(())
    }

    fn send_fetch(&mut self, link: LinkId, number: u64) {
        let Some(fetch) = self.fetches.open.get(&number) else { return };
        let FetchBundle { node, name, known_version, with_bundles, .. } = fetch.asked.clone();
        let request = number;
        let frame = if self.routes.next_hop(&node).is_some() {
            let hops_left = limits::HOPS_MAX;
            let asked = FetchFor { request, node, name, known_version, with_bundles, hops_left };
            PeerFrame::FetchFor(asked)
        } else {
            PeerFrame::FetchUser(FetchUser { request, name, known_version, with_bundles })
        };
        self.tell_peer(link, frame);
    }

    /// A link to a peer is up: asks what waited for it.
    pub(crate) fn send_fetches(&mut self, node: &NodeId) {
        let Some(link) = self.peers.get(node).and_then(|peer| peer.link) else { return };
        let until_ms = self.now_ms + ANSWER_MS_MAX;
        for number in self.waiting_for(node) {
            if let Some(fetch) = self.fetches.open.get_mut(&number) {
                fetch.until_ms = until_ms;
            }
            self.send_fetch(link, number);
        }
        let open = self.fetches.open.iter();
        let for_others: Vec<u64> =
            open.filter(|(_, fetch)| fetch.asks(node)).map(|(number, _)| *number).collect();
        for number in for_others {
            self.send_fetch_for(link, number);
        }
    }

    fn send_fetch_for(&mut self, link: LinkId, number: u64) {
        let Some(fetch) = self.fetches.open.get(&number) else { return };
        let frame = FetchFor {
            request: number,
            node: fetch.asked.node,
            name: fetch.asked.name.clone(),
            known_version: fetch.asked.known_version,
            with_bundles: fetch.asked.with_bundles,
            hops_left: 0,
        };
        self.tell_peer(link, PeerFrame::FetchFor(frame));
    }

    /// The node does not answer, and nothing is cached: its custodians are asked in its place. False when
    /// it has none, or is there after all.
    fn ask_custodians(&mut self, number: u64, txn: &mut dyn Txn) -> Result<bool, StoreError> {
        let Some(fetch) = self.fetches.open.get(&number) else { return Ok(false) };
        let node = fetch.asked.node;
        let is_linked = self.peers.get(&node).is_some_and(|peer| peer.link.is_some());
        let others = self.custodians_of(&node).iter().filter(|named| **named != self.node);
        let custodians: BTreeSet<NodeId> = others.copied().collect();
        if fetch.custodians.is_some() || is_linked || custodians.is_empty() {
            return Ok(false);
        }
        let until_ms = self.now_ms + ANSWER_MS_MAX;
        if let Some(fetch) = self.fetches.open.get_mut(&number) {
            fetch.until_ms = until_ms;
            fetch.custodians = Some(custodians.clone());
        }
        for custodian in custodians {
            match self.peers.get(&custodian).and_then(|peer| peer.link) {
                Some(link) => self.send_fetch_for(link, number),
                None => {
                    self.peer_number(&custodian, txn)?;
                    self.reach(&custodian);
                }
            }
        }
        Ok(true)
    }

    /// Questions that are asked on the link of a node.
    fn waiting_for(&self, way: &NodeId) -> Vec<u64> {
        let is_asked_there = |(_, fetch): &(&u64, &Fetch)| self.way_of(&fetch.asked.node) == *way;
        self.fetches.open.iter().filter(is_asked_there).map(|(number, _)| *number).collect()
    }

    /// The peer cannot be reached: questions that go through it are answered from the cache now.
    pub(crate) fn hurry_fetches(&mut self, way: &NodeId) {
        for number in self.waiting_for(way) {
            if let Some(fetch) = self.fetches.open.get_mut(&number)
                && fetch.custodians.is_none()
            {
                fetch.until_ms = self.now_ms;
            }
        }
        for fetch in self.fetches.open.values_mut().filter(|fetch| fetch.asks(way)) {
            fetch.give_up(way, self.now_ms);
        }
    }

    /// True when a question is to be asked on the link of a node.
    pub(crate) fn wants_to_ask(&self, way: &NodeId) -> bool {
        let mut open = self.fetches.open.values();
        open.any(|fetch| self.way_of(&fetch.asked.node) == *way || fetch.asks(way))
    }

    /// List and bundles of a user here.
    fn own_user(
        &self,
        name: &UserName,
        wanted: &Wanted,
        txn: &mut dyn Txn,
    ) -> Result<Option<OwnUser>, StoreError> {
        let Some(row) = schema::get::<AccountRow>(txn, ACCOUNTS, name.as_str().as_bytes())? else {
            return Ok(None);
        };
        let mut lists = Self::lists_behind(&row.account, wanted.known_version, txn)?;
        if lists.is_empty() && wanted.known_version != Some(row.list_version) {
            // The asker knows a later version than we have: ours is all that there is to say.
            lists = Self::newest_list(&row.account, txn)?.into_iter().collect();
        }
        let mut bundles = Vec::new();
        if wanted.with_bundles {
            let mut left = wanted.one_time_max;
            for device in self.devices_of(&row.account, txn)? {
                let bundle = if left > 0 {
                    self.take_bundle(&device, txn)?
                } else {
                    Self::fallback_bundle(&device, txn)?
                };
                left -= u64::from(bundle.as_ref().is_some_and(|bundle| bundle.one_time.is_some()));
                bundles.extend(bundle);
            }
        }
        Ok(Some(OwnUser { lists, bundles }))
    }

    pub(crate) fn on_fetch_user(
        &mut self,
        link: LinkId,
        node: &NodeId,
        asked: &FetchUser,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let user = self.user_for_peer(node, asked, txn)?;
        self.tell_peer(link, PeerFrame::User(user));
        Ok(())
    }

    fn user_for_peer(
        &mut self,
        node: &NodeId,
        asked: &FetchUser,
        txn: &mut dyn Txn,
    ) -> Result<User, StoreError> {
        let now_ms = self.now_ms;
        let allowance = self.peers.get_mut(node).map(|peer| &mut peer.one_time);
        let wanted = Wanted {
            known_version: asked.known_version,
            with_bundles: asked.with_bundles,
            one_time_max: allowance.map_or(0, |allowance| allowance.left(now_ms)),
        };
        let found = self.own_user(&asked.name, &wanted, txn)?;
        let Some(OwnUser { lists, bundles }) = found else {
            return Ok(refused_user(asked.request, RefusalCode::UnknownRecipient));
        };
        let taken = bundles.iter().filter(|bundle| bundle.one_time.is_some()).count();
        if let Some(peer) = self.peers.get_mut(node) {
            peer.one_time.take(taken as u64);
        }
        let (request, refusal) = (asked.request, None);
        Ok(User { request, refusal, lists, bundles, listing: None, delegation: None })
    }

    /// A peer asks in another one's name for one of our users: it gets our word that the list is his.
    pub(crate) fn on_fetch_own(
        &mut self,
        link: LinkId,
        node: &NodeId,
        asked: FetchFor,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let FetchFor { request, name, known_version, with_bundles, .. } = asked;
        let plain = FetchUser { request, name, known_version, with_bundles };
        let mut user = self.user_for_peer(node, &plain, txn)?;
        user.listing = user.lists.last().and_then(|list| self.listing_of(&plain.name, list));
        user.delegation = Some(self.settings.delegation.clone());
        self.tell_peer(link, PeerFrame::User(user));
        Ok(())
    }

    /// Our word that this is the list of a name here.
    fn listing_of(&self, name: &UserName, list: &Signed<DeviceList>) -> Option<Signed<Listing>> {
        let checked = CheckedList::first_seen(list).ok()?;
        let listing = Listing {
            node: self.node,
            name: name.clone(),
            account: checked.account(),
            list_version: checked.list.version,
            list_hash: checked.hash,
            issued_ms: self.now_ms,
            expires_ms: self.now_ms + limits::LISTING_LIFE_MS,
            serial: self.stance.signer.version,
        };
        Some(Signed::new(&listing, &self.settings.operational))
    }

    /// True for an answer through a next hop that says something: who stands between may not say in its
    /// own name that there is nobody, for one whom we know.
    fn is_worth(
        &mut self,
        asked: &FetchBundle,
        user: &User,
        txn: &dyn Txn,
    ) -> Result<bool, StoreError> {
        let Some(refusal) = &user.refusal else { return Ok(self.is_vouched_for(asked, user)) };
        if refusal.code == RefusalCode::UnknownRecipient {
            let key = user_key(&asked.node, &asked.name);
            return Ok(schema::get::<CachedUser>(txn, USERS, &key)?.is_none());
        }
        if let Some(peer) = self.peers.get_mut(&asked.node) {
            peer.refusal = Some(refusal.code);
        }
        Ok(false)
    }

    /// True when the user's node has signed that the list is his: who stands between could make up
    /// another one for a stranger.
    fn is_vouched_for(&self, asked: &FetchBundle, user: &User) -> bool {
        let Some(list) = user.lists.last() else { return true };
        let Some(listing) = &user.listing else { return false };
        self.delegation_by(&asked.node).is_some_and(|known| {
            Listing::check(listing, known, &asked.name, list, self.now_ms).is_ok()
        })
    }

    pub(crate) fn on_user(
        &mut self,
        node: &NodeId,
        user: User,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let now_ms = self.now_ms;
        let Some(fetch) = self.fetches.open.get(&user.request) else {
            return self.on_late_user(node, &user, txn);
        };
        let is_custodian = fetch.asks(node);
        let asked = fetch.asked.clone();
        if self.way_of(&asked.node) != *node && !is_custodian {
            return Ok(());
        }
        if !is_custodian && self.routes.next_hop(&asked.node).is_some() {
            self.hear_delegation(&asked.node, user.delegation.clone());
            if !self.is_worth(&asked, &user, txn)? {
                // As if nobody had answered: what is known is in the cache.
                if let Some(fetch) = self.fetches.open.get_mut(&user.request) {
                    fetch.until_ms = now_ms;
                }
                return Ok(());
            }
        }
        if is_custodian {
            let FetchBundle { node: of, name, known_version, .. } = asked;
            let is_good = user.refusal.is_none()
                && (self.is_listed(&of, &name, known_version, &user)
                    || self.is_sabotaged(Sabotage::BelieveAnyListing));
            if !is_good {
                if user.refusal.is_none() {
                    self.observe(Observed::BadStatement);
                }
                if let Some(fetch) = self.fetches.open.get_mut(&user.request) {
                    fetch.give_up(node, now_ms);
                }
                return Ok(());
            }
        }
        let Some(fetch) = self.fetches.open.remove(&user.request) else { return Ok(()) };
        if let Some(refusal) = user.refusal {
            self.refuse(fetch.conn, Refusable::Request(fetch.asked.request), refusal.code);
            return Ok(());
        }
        self.cache_user(&fetch.asked, &user, txn)?;
        let frame =
            Bundles { request: fetch.asked.request, lists: user.lists, bundles: user.bundles };
        self.tell_client(fetch.conn, NodeFrame::Bundles(frame));
        Ok(())
    }

    /// An answer for which nobody waits any more: the next question is answered from the cache.
    fn on_late_user(
        &mut self,
        node: &NodeId,
        user: &User,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let is_asked = |(asked, _): &&(FetchBundle, u64)| {
            self.way_of(&asked.node) == *node && self.routes.next_hop(&asked.node).is_some()
        };
        if self.fetches.late.get(&user.request).filter(is_asked).is_none() {
            return Ok(());
        }
        let Some((asked, until_ms)) = self.fetches.late.remove(&user.request) else {
            return Ok(());
        };
        self.hear_delegation(&asked.node, user.delegation.clone());
        let is_kept = until_ms > self.now_ms && user.refusal.is_none();
        if is_kept && self.is_vouched_for(&asked, user) {
            self.cache_user(&asked, user, txn)?;
            self.fetches.keep_answer(asked, user.clone(), self.now_ms);
        }
        Ok(())
    }

    /// Keeps the newest list, and bundles without their one-time pre-keys. Clients check the list
    /// against the account key that they pinned; here it only has to be a list of that address.
    fn cache_user(
        &self,
        asked: &FetchBundle,
        user: &User,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let key = user_key(&asked.node, &asked.name);
        let known: Option<CachedUser> = schema::get(txn, USERS, &key)?;
        let newest = user.lists.last().cloned().or_else(|| known.as_ref().map(|k| k.list.clone()));
        let Some(list) = newest else { return Ok(()) };
        let Ok(checked) = CheckedList::first_seen(&list) else { return Ok(()) };
        if checked.list.node != asked.node || checked.list.name != asked.name {
            return Ok(());
        }
        let bundles = if user.bundles.is_empty() {
            known.map(|known| known.bundles).unwrap_or_default()
        } else {
            without_one_time(user.bundles.clone())
        };
        schema::put(txn, USERS, &key, &CachedUser { list, bundles, fetched_ms: self.now_ms })
    }

    /// Answers requests whose peer did not answer in time from the cache.
    pub(crate) fn tick_fetches(&mut self, txn: &mut dyn Txn) -> Result<(), StoreError> {
        let now_ms = self.now_ms;
        let late: Vec<u64> = self
            .fetches
            .open
            .iter()
            .filter(|(_, fetch)| fetch.until_ms <= now_ms)
            .map(|(number, _)| *number)
            .collect();
        for number in late {
            let Some(fetch) = self.fetches.open.get(&number) else { continue };
            let key = user_key(&fetch.asked.node, &fetch.asked.name);
            let cached = schema::get::<CachedUser>(txn, USERS, &key)?;
            if cached.is_none() && self.ask_custodians(number, txn)? {
                continue;
            }
            let Some(Fetch { conn, asked, .. }) = self.fetches.open.remove(&number) else {
                continue;
            };
            if self.routes.next_hop(&asked.node).is_some() {
                self.fetches.keep_late(number, asked.clone(), now_ms);
            }
            match cached {
                Some(known) => {
                    let bundles = if asked.with_bundles { known.bundles } else { Vec::new() };
                    let lists = vec![known.list];
                    let frame = Bundles { request: asked.request, lists, bundles };
                    self.tell_client(conn, NodeFrame::Bundles(frame));
                }
                None => {
                    let what = Refusable::Request(asked.request);
                    self.refuse(conn, what, RefusalCode::Unreachable);
                }
            }
        }
        Ok(())
    }

    /// The accounts of this node, for the administrator.
    pub(crate) fn account_count(txn: &dyn Txn) -> Result<u64, StoreError> {
        Ok(txn.range(ACCOUNTS, &[], &[0xff; 65], usize::MAX)?.len() as u64)
    }
}
