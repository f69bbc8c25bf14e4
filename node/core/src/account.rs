//! Accounts of this node: invites, joining, device lists, pre-keys. Sends nothing to peers.

use bytes::Bytes;
use tidings_protocol::{
    bundle::{Bundle, OneTimePrekey},
    client_frame::{
        Done, InviteSecret, Join, Joined, NodeFrame, PublishList, PublishPrekeys, Refusable,
    },
    codec,
    device_list::{CheckedList, Device, DeviceList, DeviceListError, list_hash},
    hello::Challenge,
    id::{AccountId, DeviceId, Hash, hash},
    key::Purpose,
    limits,
    refusal::RefusalCode,
    signed::Signed,
};
use tidings_store::{StoreError, Txn, prefix_end};

use crate::{
    Core,
    event::ConnId,
    schema::{
        self, ACCOUNTS, AccountRow, BUNDLES, DEVICES, DeviceRow, INVITES, InviteRow, LISTS,
        ONE_TIME, OneTimeRow, REPLACED, ReplacedRow, list_key,
    },
    space::Asker,
};

/// How often in a row one device may have put another in its place.
const REPLACEMENTS_MAX: usize = 64;

impl Core {
    pub(crate) fn on_join(
        &mut self,
        conn: ConnId,
        challenge: &Challenge,
        join: &Join,
        list: &CheckedList,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let invite = self.usable_invite(&join.invite, txn)?;
        let known: Option<AccountRow> =
            schema::get(txn, ACCOUNTS, list.list.name.as_str().as_bytes())?;
        // A newcomer whose answer was lost asks again: the same account gets the same answer.
        if let Some(known) = &known
            && known.account == list.account()
            && known.list_hash == list.hash
        {
            self.tell_client(conn, NodeFrame::Joined(Joined { request: join.request }));
            return Ok(());
        }
        let refusal = match &invite {
            _ if list.list.node != self.node => Some(RefusalCode::WrongNode),
            _ if list.list.version != 0 || list.list.devices.len() != 1 => {
                Some(RefusalCode::Malformed)
            }
            _ if !is_proved(challenge, join, list) => Some(RefusalCode::NotAuthorised),
            None => Some(RefusalCode::BadInvite),
            Some(_) if known.is_some() => Some(RefusalCode::NameTaken),
            // One account, one name: its lists stand under its key.
            Some(_) if Self::newest_list(&list.account(), txn)?.is_some() => {
                Some(RefusalCode::NotAuthorised)
            }
            Some(_) if Self::names_foreign_device(list, txn)? => Some(RefusalCode::NotAuthorised),
            Some(_) if self.has_no_room_for(Asker::Device) => Some(RefusalCode::Quota),
            Some(_) => None,
        };
        let (Some(invite), None) = (invite, refusal) else {
            let code = refusal.unwrap_or(RefusalCode::BadInvite);
            self.refuse(conn, Refusable::Request(join.request), code);
            return Ok(());
        };
        Self::use_up(&join.invite, invite, txn)?;
        self.write_list(&join.list, list, None, None, txn)?;
        self.tell_client(conn, NodeFrame::Joined(Joined { request: join.request }));
        Ok(())
    }

    pub(crate) fn on_publish_list(
        &mut self,
        conn: ConnId,
        publish: &PublishList,
        list: &CheckedList,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let Some(greeted) = self.greeted(conn) else { return Ok(()) };
        let (account, by) = (greeted.account, greeted.device);
        let Some(place) = Self::place_of(&by, txn)? else {
            self.refuse_link(conn, RefusalCode::NotAuthorised);
            return Ok(());
        };
        let Some(known_list) = Self::newest_checked(&account, txn)? else { return Ok(()) };
        if known_list.hash == list.hash {
            self.tell_client(conn, NodeFrame::Done(Done { request: publish.request }));
            return Ok(());
        }
        if let Some(code) = Self::successor_refusal(&known_list, &publish.list, list, txn)? {
            self.refuse(conn, Refusable::Request(publish.request), code);
            return Ok(());
        }
        // The answer comes first: the list may end this very link.
        self.tell_client(conn, NodeFrame::Done(Done { request: publish.request }));
        self.write_list(&publish.list, list, Some(&known_list), Some(place), txn)
    }

    /// Why a list does not take the place of one that is known.
    pub(crate) fn successor_refusal(
        known: &CheckedList,
        signed: &Signed<DeviceList>,
        list: &CheckedList,
        txn: &dyn Txn,
    ) -> Result<Option<RefusalCode>, StoreError> {
        Ok(match known.then(signed) {
            Ok(_) if Self::names_foreign_device(list, txn)? => Some(RefusalCode::NotAuthorised),
            Ok(_) => None,
            Err(DeviceListError::Fork | DeviceListError::Rollback { .. }) => {
                Some(RefusalCode::Conflict)
            }
            Err(
                DeviceListError::Decode(_)
                | DeviceListError::Signed(_)
                | DeviceListError::OtherAccount
                | DeviceListError::SubkeyNotAllowed
                | DeviceListError::Devices
                | DeviceListError::Label,
            ) => Some(RefusalCode::NotAuthorised),
        })
    }

    /// True when a list names a device that belongs to another account here: listing a key takes no
    /// proof of it, so whoever had it first keeps it.
    pub(crate) fn names_foreign_device(
        list: &CheckedList,
        txn: &dyn Txn,
    ) -> Result<bool, StoreError> {
        for device in &list.list.devices {
            let known: Option<DeviceRow> = schema::get(txn, DEVICES, device.id().as_bytes())?;
            if known.is_some_and(|known| known.account != list.account()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The listed device in whose place `device` may put another: itself, or what it put in its own
    /// place before. None once another device has removed that.
    fn place_of(device: &DeviceId, txn: &dyn Txn) -> Result<Option<DeviceId>, StoreError> {
        let mut place = *device;
        for _ in 0..REPLACEMENTS_MAX {
            if txn.get(DEVICES, place.as_bytes())?.is_some() {
                return Ok(Some(place));
            }
            let row: Option<ReplacedRow> = schema::get(txn, REPLACED, place.as_bytes())?;
            let Some(row) = row else { return Ok(None) };
            place = row.by;
        }
        Ok(None)
    }

    /// A device that put another in its place, and may do so again.
    pub(crate) fn replaced(
        device: &DeviceId,
        txn: &dyn Txn,
    ) -> Result<Option<DeviceRow>, StoreError> {
        if Self::place_of(device, txn)?.is_none() {
            return Ok(None);
        }
        let row: Option<ReplacedRow> = schema::get(txn, REPLACED, device.as_bytes())?;
        Ok(row.map(|row| row.device))
    }

    /// Writes a list, adds its devices and removes those that it no longer names. A list that puts one
    /// device into `place`, where its publisher stood, leaves word of that.
    pub(crate) fn write_list(
        &mut self,
        signed: &Signed<DeviceList>,
        list: &CheckedList,
        before: Option<&CheckedList>,
        place: Option<DeviceId>,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let account = list.account();
        let name = &list.list.name;
        let known: Option<AccountRow> = schema::get(txn, ACCOUNTS, name.as_str().as_bytes())?;
        let row = AccountRow {
            account,
            created_ms: known.map_or(self.now_ms, |known| known.created_ms),
            list_version: list.list.version,
            list_hash: list.hash,
        };
        schema::put(txn, ACCOUNTS, name.as_str().as_bytes(), &row)?;
        schema::put(txn, LISTS, &list_key(&account, list.list.version), signed)?;
        self.note_changed(name);
        for device in &list.list.devices {
            let id = device.id();
            let known: Option<DeviceRow> = schema::get(txn, DEVICES, id.as_bytes())?;
            if known.is_none() {
                let row = DeviceRow { account, name: name.clone(), key: device.key, mark: None };
                schema::put(txn, DEVICES, id.as_bytes(), &row)?;
            }
        }
        let added = before.and_then(|before| only_new(list, before));
        let before = before.map(|before| before.list.devices.as_slice()).unwrap_or_default();
        for device in before.iter().map(Device::id) {
            if list.device(&device).is_none() {
                let row: Option<DeviceRow> = schema::get(txn, DEVICES, device.as_bytes())?;
                self.remove_device(&device, txn)?;
                if let (Some(device_row), Some(by)) = (row.filter(|_| place == Some(device)), added)
                {
                    let row = ReplacedRow { device: device_row, by };
                    schema::put(txn, REPLACED, device.as_bytes(), &row)?;
                }
            }
        }
        Ok(())
    }

    fn remove_device(&mut self, device: &DeviceId, txn: &mut dyn Txn) -> Result<(), StoreError> {
        self.drop_inbox(device, txn)?;
        self.drop_notes(device, txn)?;
        txn.delete(DEVICES, device.as_bytes())?;
        txn.delete(BUNDLES, device.as_bytes())?;
        let prefix = device.as_bytes();
        let end = prefix_end(prefix);
        for (key, _) in txn.range(ONE_TIME, prefix, &end, usize::MAX)? {
            txn.delete(ONE_TIME, &key)?;
        }
        if let Some(conn) = self.online.get(device).copied() {
            self.refuse_link(conn, RefusalCode::NotAuthorised);
        }
        Ok(())
    }

    pub(crate) fn on_publish_prekeys(
        &mut self,
        conn: ConnId,
        publish: PublishPrekeys,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let Some(greeted) = self.greeted(conn) else { return Ok(()) };
        let device = greeted.device;
        if publish.upload.fallback.device != greeted.key
            || publish.upload.fallback.one_time.is_some()
        {
            let what = Refusable::Request(publish.request);
            self.refuse(conn, what, RefusalCode::NotAuthorised);
            return Ok(());
        }
        schema::put(txn, BUNDLES, device.as_bytes(), &publish.upload.fallback)?;
        if let Some(row) = schema::get::<DeviceRow>(txn, DEVICES, device.as_bytes())? {
            self.note_changed(&row.name);
        }
        let prefix = device.as_bytes();
        for (key, _) in txn.range(ONE_TIME, prefix, &prefix_end(prefix), usize::MAX)? {
            txn.delete(ONE_TIME, &key)?;
        }
        for prekey in &publish.upload.one_time {
            let row = OneTimeRow {
                incarnation: self.stance.incarnation,
                boot: self.stance.boot,
                prekey: Bytes::from(codec::encode(prekey)),
            };
            let key = schema::key(&[prefix, &prekey.id.to_be_bytes()]);
            schema::put(txn, ONE_TIME, &key, &row)?;
        }
        self.tell_client(conn, NodeFrame::Done(Done { request: publish.request }));
        Ok(())
    }

    /// The bundle of one device, with a one-time pre-key that nobody else gets.
    pub(crate) fn take_bundle(
        &self,
        device: &DeviceId,
        txn: &mut dyn Txn,
    ) -> Result<Option<Bundle>, StoreError> {
        let Some(mut bundle) = Self::fallback_bundle(device, txn)? else { return Ok(None) };
        let prefix = device.as_bytes();
        let rows =
            txn.range(ONE_TIME, prefix, &prefix_end(prefix), limits::ONE_TIME_PREKEYS_MAX)?;
        for (key, bytes) in rows {
            let row: OneTimeRow = schema::decode(&bytes)?;
            if self.may_hand_out(&row) {
                txn.delete(ONE_TIME, &key)?;
                bundle.one_time = Some(schema::decode::<OneTimePrekey>(&row.prekey)?);
                break;
            }
        }
        Ok(Some(bundle))
    }

    /// A device's bundle without a one-time pre-key.
    pub(crate) fn fallback_bundle(
        device: &DeviceId,
        txn: &dyn Txn,
    ) -> Result<Option<Bundle>, StoreError> {
        schema::get::<Bundle>(txn, BUNDLES, device.as_bytes())
    }

    /// The newest device list of an account here.
    pub(crate) fn newest_list(
        account: &AccountId,
        txn: &dyn Txn,
    ) -> Result<Option<Signed<DeviceList>>, StoreError> {
        let prefix = account.as_bytes();
        match txn.last(LISTS, prefix, &prefix_end(prefix))? {
            Some((_, bytes)) => schema::decode(&bytes).map(Some),
            None => Ok(None),
        }
    }

    /// The same, as it was checked before it was written.
    pub(crate) fn newest_checked(
        account: &AccountId,
        txn: &dyn Txn,
    ) -> Result<Option<CheckedList>, StoreError> {
        let Some(signed) = Self::newest_list(account, txn)? else { return Ok(None) };
        let list = signed.peek().map_err(|error| StoreError::corrupt(error.to_string()))?;
        Ok(Some(CheckedList { hash: list_hash(&signed), list }))
    }

    pub(crate) fn list_at(
        account: &AccountId,
        version: u64,
        txn: &dyn Txn,
    ) -> Result<Option<Signed<DeviceList>>, StoreError> {
        schema::get(txn, LISTS, &list_key(account, version))
    }

    /// Versions of a list behind `known`, or the newest alone.
    pub(crate) fn lists_behind(
        account: &AccountId,
        known: Option<u64>,
        txn: &dyn Txn,
    ) -> Result<Vec<Signed<DeviceList>>, StoreError> {
        let Some(known) = known else {
            return Ok(Self::newest_list(account, txn)?.into_iter().collect());
        };
        let from = list_key(account, known.saturating_add(1));
        txn.range(LISTS, &from, &prefix_end(account.as_bytes()), limits::LISTS_PER_ANSWER_MAX)?
            .iter()
            .map(|(_, bytes)| schema::decode(bytes))
            .collect()
    }

    /// The devices of an account here.
    pub(crate) fn devices_of(
        &self,
        account: &AccountId,
        txn: &dyn Txn,
    ) -> Result<Vec<DeviceId>, StoreError> {
        let Some(list) = Self::newest_list(account, txn)? else { return Ok(Vec::new()) };
        let list = list.peek().map_err(|error| StoreError::corrupt(error.to_string()))?;
        Ok(list.devices.iter().map(Device::id).collect())
    }

    /// An invite that is neither used up nor too old.
    pub(crate) fn usable_invite(
        &self,
        secret: &InviteSecret,
        txn: &dyn Txn,
    ) -> Result<Option<InviteRow>, StoreError> {
        let row: Option<InviteRow> = schema::get(txn, INVITES, invite_hash(secret).as_bytes())?;
        Ok(row.filter(|row| row.uses_left > 0 && row.expires_ms > self.now_ms))
    }

    pub(crate) fn use_up(
        secret: &InviteSecret,
        row: InviteRow,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let row = InviteRow { uses_left: row.uses_left.saturating_sub(1), ..row };
        schema::put(txn, INVITES, invite_hash(secret).as_bytes(), &row)
    }

    pub(crate) fn write_invite(
        &self,
        secret: &InviteSecret,
        uses_left: u32,
        life_ms: u64,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let row = InviteRow { uses_left, expires_ms: self.now_ms.saturating_add(life_ms) };
        schema::put(txn, INVITES, invite_hash(secret).as_bytes(), &row)
    }
}

/// The device that a list adds, if it is one.
fn only_new(list: &CheckedList, before: &CheckedList) -> Option<DeviceId> {
    let ids = list.list.devices.iter().map(Device::id);
    let mut added = ids.filter(|id| before.device(id).is_none());
    added.next().filter(|_| added.next().is_none())
}

fn invite_hash(secret: &InviteSecret) -> Hash {
    hash("invite", &[secret.as_bytes()])
}

fn is_proved(challenge: &Challenge, join: &Join, list: &CheckedList) -> bool {
    list.list.devices.first().is_some_and(|device| {
        device.key.verify(Purpose::Join, challenge.nonce.as_bytes(), &join.proof).is_ok()
    })
}
