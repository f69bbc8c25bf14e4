//! Whom we know: pinned accounts, the chains of their device lists, and the sessions with each
//! device. Nothing here trusts a node: every list is checked against the one before.

use tidings_protocol::{
    client_frame::{ClientFrame, FetchBundle},
    content::ListEcho,
    device_list::{CheckedList, Device, DeviceList, DeviceListError, list_hash},
    id::{AccountId, ChatId, DeviceId, Hash},
    key::PublicKey,
    signed::Signed,
};
use tidings_store::{StoreError, Txn};

use crate::{
    account::{newest, party_name},
    crypto::{Party, Sealer},
    event::{Peer, StopWhy, Warning},
    link::Request,
    machine::ClientCore,
    rows::{DeviceRow, PeerKey, PeerRow},
    schema::{DEVICES, PEERS, TAGS},
};

/// What came of a list that was offered.
enum Learnt {
    Nothing,
    Newer,
    /// Versions between the known one and this are missing.
    Gap,
}

impl<S: Sealer> ClientCore<S> {
    pub(crate) fn peer_row(
        &self,
        txn: &dyn Txn,
        key: &PeerKey,
    ) -> Result<Option<PeerRow>, StoreError> {
        self.get(txn, PEERS, &key.0)
    }

    /// The row of a peer, written down without a list when it is new.
    pub(crate) fn know_peer(
        &mut self,
        txn: &mut dyn Txn,
        peer: &Peer,
    ) -> Result<(PeerKey, PeerRow), StoreError> {
        let key = self.vault.peer(peer);
        if let Some(row) = self.peer_row(txn, &key)? {
            return Ok((key, row));
        }
        let row = PeerRow {
            node: peer.node,
            name: peer.name.clone(),
            lists: Vec::new(),
            offered: None,
            chat: None,
        };
        self.put(txn, PEERS, &key.0, &row)?;
        Ok((key, row))
    }

    /// The list in force for a peer, once an account is pinned.
    pub(crate) fn list_of(
        &self,
        txn: &dyn Txn,
        key: &PeerKey,
    ) -> Result<Option<CheckedList>, StoreError> {
        let Some(row) = self.peer_row(txn, key)? else { return Ok(None) };
        if row.lists.is_empty() {
            return Ok(None);
        }
        newest(&row.lists).map(Some).map_err(StoreError::work)
    }

    /// The 1:1 chat with a peer, as far as it is known.
    pub(crate) fn chat_with(
        &self,
        txn: &dyn Txn,
        key: &PeerKey,
    ) -> Result<Option<ChatId>, StoreError> {
        let Some(row) = self.peer_row(txn, key)? else { return Ok(None) };
        if row.lists.is_empty() {
            return Ok(row.chat);
        }
        let list = newest(&row.lists).map_err(StoreError::work)?;
        Ok(Some(ChatId::of_two(&self.own_list.account(), &list.account())))
    }

    pub(crate) fn devices_of(
        &self,
        txn: &dyn Txn,
        key: &PeerKey,
    ) -> Result<Vec<Device>, StoreError> {
        Ok(self.list_of(txn, key)?.map(|list| list.list.devices).unwrap_or_default())
    }

    /// Asks for lists and bundles, unless the question is open already.
    pub(crate) fn fetch(
        &mut self,
        txn: &dyn Txn,
        key: PeerKey,
        with_bundles: bool,
    ) -> Result<(), StoreError> {
        let asked =
            self.requests.values().any(|request| matches!(request, Request::Fetch(k) if *k == key));
        let Some(row) = self.peer_row(txn, &key)? else { return Ok(()) };
        if asked || !self.link.is_up() {
            return Ok(());
        }
        let known_version = match row.lists.last() {
            Some(list) => Some(list.peek().map_err(StoreError::work)?.version),
            None => None,
        };
        let request = self.number_request();
        self.requests.insert(request, Request::Fetch(key));
        self.tell_node(ClientFrame::FetchBundle(FetchBundle {
            request,
            node: row.node,
            name: row.name,
            known_version,
            with_bundles,
        }));
        Ok(())
    }

    pub(crate) fn on_newer_lists(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        lists: Vec<Signed<DeviceList>>,
    ) -> Result<(), StoreError> {
        let Some(first) = lists.first().and_then(|list| list.peek().ok()) else { return Ok(()) };
        let key = self.vault.peer(&Peer { node: first.node, name: first.name });
        if self.peer_row(txn, &key)?.is_none() {
            return Ok(());
        }
        self.learn_lists(txn, now_ms, key, lists)
    }

    /// Takes up newer versions of a peer's list, as far as they continue the chain.
    pub(crate) fn learn_lists(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        key: PeerKey,
        lists: Vec<Signed<DeviceList>>,
    ) -> Result<(), StoreError> {
        let Some(mut row) = self.peer_row(txn, &key)? else { return Ok(()) };
        let before = row.lists.len();
        let mut gap = false;
        for signed in lists {
            match self.learn_list(&mut row, &signed)? {
                Learnt::Nothing => {}
                Learnt::Gap => gap = true,
                Learnt::Newer => row.lists.push(signed),
            }
        }
        if gap {
            self.fetch(txn, key, false)?;
        }
        self.put(txn, PEERS, &key.0, &row)?;
        if row.lists.len() == before {
            return Ok(());
        }
        if key == self.own_key {
            return self.take_own_lists(txn, row.lists);
        }
        let list = newest(&row.lists).map_err(StoreError::work)?;
        self.drop_removed(txn, &row, before, &list)?;
        self.queues.fetched(&key);
        if before > 0 {
            self.seal_for_new_devices(txn, now_ms, key, &list)?;
        }
        Ok(())
    }

    fn learn_list(
        &mut self,
        row: &mut PeerRow,
        signed: &Signed<DeviceList>,
    ) -> Result<Learnt, StoreError> {
        if row.lists.last().is_some_and(|known| known == signed) {
            return Ok(Learnt::Nothing);
        }
        // A list of somebody else is no news of this peer, least of all a new account key, for which
        // everything that is meant for the peer would wait.
        if signed.peek().is_ok_and(|list| (list.node, &list.name) != (row.node, &row.name)) {
            self.warn(Warning::BadList(row.peer()));
            return Ok(Learnt::Nothing);
        }
        let checked = if row.lists.is_empty() {
            CheckedList::first_seen(signed)
        } else {
            newest(&row.lists).map_err(StoreError::work)?.then(signed)
        };
        match checked {
            Ok(_) => Ok(Learnt::Newer),
            Err(DeviceListError::OtherAccount) => {
                if row.offered.as_ref() != Some(signed) {
                    row.offered = Some(signed.clone());
                    self.warn(Warning::KeyChanged(row.peer()));
                }
                Ok(Learnt::Nothing)
            }
            Err(DeviceListError::Rollback { .. }) => Ok(Learnt::Nothing),
            Err(DeviceListError::Fork) if is_ahead(row, signed) => Ok(Learnt::Gap),
            Err(
                DeviceListError::Fork
                | DeviceListError::Decode(_)
                | DeviceListError::Signed(_)
                | DeviceListError::SubkeyNotAllowed
                | DeviceListError::Devices
                | DeviceListError::Label,
            ) => {
                self.warn(Warning::BadList(row.peer()));
                Ok(Learnt::Nothing)
            }
        }
    }

    /// Sessions with devices that are no longer listed end.
    fn drop_removed(
        &mut self,
        txn: &mut dyn Txn,
        row: &PeerRow,
        before: usize,
        list: &CheckedList,
    ) -> Result<(), StoreError> {
        let earlier = before.checked_sub(1).and_then(|index| row.lists.get(index));
        let Some(earlier) = earlier.and_then(|list| list.peek().ok()) else { return Ok(()) };
        for device in earlier.devices {
            if list.device(&device.id()).is_none() {
                self.forget_device(txn, &device.id())?;
            }
        }
        Ok(())
    }

    pub(crate) fn forget_device(
        &mut self,
        txn: &mut dyn Txn,
        device: &DeviceId,
    ) -> Result<(), StoreError> {
        if let Some(row) = self.get::<DeviceRow>(txn, DEVICES, &device.0)? {
            for tag in &row.tags {
                txn.delete(TAGS, tag)?;
            }
            txn.delete(DEVICES, &device.0)?;
        }
        Ok(())
    }

    /// The own chain has grown: by this device, or by another one of the account.
    pub(crate) fn take_own_lists(
        &mut self,
        txn: &mut dyn Txn,
        lists: Vec<Signed<DeviceList>>,
    ) -> Result<(), StoreError> {
        let before = self.own_list.clone();
        self.identity.lists.clone_from(&lists);
        self.account.lists.clone_from(&lists);
        self.own_list = self.identity.newest().map_err(StoreError::work)?;
        let own = self.own_peer();
        let row = PeerRow { node: own.node, name: own.name, lists, offered: None, chat: None };
        let key = self.own_key;
        self.put(txn, PEERS, &key.0, &row)?;
        self.save_account(txn)?;
        for device in &before.list.devices {
            if self.own_list.device(&device.id()).is_none() {
                self.forget_device(txn, &device.id())?;
            }
        }
        if self.own_list.device(&self.device).is_none() && self.account.replacement.is_none() {
            self.stop(StopWhy::Removed);
        }
        Ok(())
    }

    pub(crate) fn on_accept_key(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        peer: &Peer,
        compared: &PublicKey,
    ) -> Result<(), StoreError> {
        let key = self.vault.peer(peer);
        let Some(mut row) = self.peer_row(txn, &key)? else { return Ok(()) };
        let Some(offered) = row.offered.take() else { return Ok(()) };
        match CheckedList::first_seen(&offered) {
            Ok(checked) if checked.list.identity == *compared => {}
            Ok(_) | Err(_) => return Ok(()),
        }
        let before = self.devices_of(txn, &key)?;
        row.lists = vec![offered];
        self.put(txn, PEERS, &key.0, &row)?;
        for device in before {
            self.forget_device(txn, &device.id())?;
        }
        self.queues.fetched(&key);
        self.pump(txn, now_ms)
    }

    /// The row of a device, made when it is new.
    pub(crate) fn device_row(
        &self,
        txn: &dyn Txn,
        peer: PeerKey,
        device: &Device,
    ) -> Result<DeviceRow, StoreError> {
        let known: Option<DeviceRow> = self.get(txn, DEVICES, &device.id().0)?;
        Ok(known.unwrap_or_else(|| DeviceRow {
            peer,
            device: device.clone(),
            state: None,
            tags: Vec::new(),
            wants_start: false,
            starts: 0,
            repair: None,
        }))
    }

    /// Writes a device's row and the tags under which it will send.
    pub(crate) fn save_device(
        &mut self,
        txn: &mut dyn Txn,
        row: &mut DeviceRow,
    ) -> Result<(), StoreError> {
        let id = row.device.id();
        if let Some(state) = &row.state {
            let tags = self.sealer.receive_tags(state).map_err(StoreError::work)?;
            let tags: Vec<bytes::Bytes> =
                tags.iter().map(|tag| bytes::Bytes::copy_from_slice(tag)).collect();
            for old in row.tags.iter().filter(|old| !tags.contains(old)) {
                txn.delete(TAGS, old)?;
            }
            for new in tags.iter().filter(|new| !row.tags.contains(new)) {
                self.put(txn, TAGS, new, &id)?;
            }
            row.tags = tags;
        }
        self.put(txn, DEVICES, &id.0, row)
    }

    /// The public facts of a device that a handshake binds.
    pub(crate) fn party(peer: &PeerRow, list: &CheckedList, device: &Device) -> Party {
        Party {
            name: party_name(&peer.peer()),
            account_key: list.list.identity.0,
            device_key: device.key.0,
            identity_key: device.identity.0,
        }
    }

    /// How this device sees both parties' lists.
    pub(crate) fn echoes(&self, other: &CheckedList) -> Vec<ListEcho> {
        let echo = |list: &CheckedList| ListEcho {
            account: list.account(),
            version: list.list.version,
            hash: list.hash,
        };
        vec![echo(&self.own_list), echo(other)]
    }

    /// Compares how a peer's device sees a list with how we see it.
    pub(crate) fn check_echoes(
        &mut self,
        txn: &dyn Txn,
        peer: &PeerRow,
        echoes: &[ListEcho],
    ) -> Result<(), StoreError> {
        let theirs = newest(&peer.lists).map_err(StoreError::work)?.account();
        for echo in echoes {
            let own = echo.account == AccountId::of(&self.own_list.list.identity);
            if !own && echo.account != theirs {
                continue;
            }
            let (lists, key) = if own {
                (&self.account.lists, self.own_key)
            } else {
                (&peer.lists, self.vault.peer(&peer.peer()))
            };
            match version_hash(lists, echo.version) {
                Some(hash) if hash != echo.hash => {
                    self.warn(Warning::ListsDiffer { peer: peer.peer(), own });
                }
                Some(_) => {}
                None if echo.version > newest_version(lists) => self.fetch(txn, key, false)?,
                None => {}
            }
        }
        Ok(())
    }
}

fn newest_version(lists: &[Signed<DeviceList>]) -> u64 {
    lists.last().and_then(|list| list.peek().ok()).map_or(0, |list| list.version)
}

fn version_hash(lists: &[Signed<DeviceList>], version: u64) -> Option<Hash> {
    lists.iter().find(|list| list.peek().is_ok_and(|list| list.version == version)).map(list_hash)
}

fn is_ahead(row: &PeerRow, signed: &Signed<DeviceList>) -> bool {
    signed.peek().is_ok_and(|list| list.version > newest_version(&row.lists) + 1)
}
