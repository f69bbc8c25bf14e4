//! A store that was put back does not know the device lists that were published after its copy was
//! made, and refuses the devices that only those name. Such a device shows the lists before it greets.
//! They are signed, and the newest holds, whoever shows it: nobody is let in here.

use tidings_protocol::{
    client_frame::{Done, NodeFrame, Refusable, ShowLists},
    device_list::{CheckedList, Device},
    hello::Mark,
    id::{BootId, DeviceId},
    refusal::RefusalCode,
};
use tidings_store::{StoreError, Txn};

use crate::{
    Core,
    event::ConnId,
    schema::{self, ACCOUNTS, AccountRow, REPLACED, ReplacedRow},
    space::Asker,
};

impl Core {
    /// `lists` are those of the frame, each checked as the successor of the one before.
    pub(crate) fn on_show_lists(
        &mut self,
        conn: ConnId,
        show: &ShowLists,
        lists: &[CheckedList],
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        match self.take_shown(show, lists, txn)? {
            None => self.tell_client(conn, NodeFrame::Done(Done { request: show.request })),
            Some(code) => self.refuse(conn, Refusable::Request(show.request), code),
        }
        Ok(())
    }

    /// Takes those that are new, or none and says why.
    fn take_shown(
        &mut self,
        show: &ShowLists,
        lists: &[CheckedList],
        txn: &mut dyn Txn,
    ) -> Result<Option<RefusalCode>, StoreError> {
        let Some(first) = lists.first() else { return Ok(Some(RefusalCode::Malformed)) };
        if first.list.node != self.node {
            return Ok(Some(RefusalCode::WrongNode));
        }
        let name = first.list.name.as_str().as_bytes();
        let known: Option<AccountRow> = schema::get(txn, ACCOUNTS, name)?;
        let is_own = known.as_ref().is_some_and(|known| known.account == first.account());
        let mut before = match &known {
            Some(known) if is_own => Self::newest_checked(&known.account, txn)?,
            Some(_) | None => None,
        };
        let version = before.as_ref().map(|before| before.list.version);
        let is_known = |list: &CheckedList| version.is_some_and(|known| list.list.version <= known);
        let (old, new): (Vec<_>, Vec<_>) =
            show.lists.iter().zip(lists).partition(|(_, list)| is_known(list));
        if let Some((signed, list)) = old.last()
            && Self::list_at(&list.account(), list.list.version, txn)?.as_ref() != Some(*signed)
        {
            return Ok(Some(RefusalCode::Conflict));
        }
        let Some((signed, oldest)) = new.first() else { return Ok(None) };
        let refusal = match &before {
            Some(before) => Self::successor_refusal(before, signed, oldest, txn)?,
            None => self.claim_refusal(show, oldest, known.is_some(), txn)?,
        };
        if refusal.is_some() {
            return Ok(refusal);
        }
        for (_, list) in &new {
            if Self::names_foreign_device(list, txn)? {
                return Ok(Some(RefusalCode::NotAuthorised));
            }
        }
        if before.is_none()
            && let Some(secret) = &show.invite
            && let Some(invite) = self.usable_invite(secret, txn)?
        {
            Self::use_up(secret, invite, txn)?;
        }
        for (signed, list) in new {
            let replaced = before.as_ref().and_then(|before| replaced_by_one(before, list));
            self.write_list(signed, list, before.as_ref(), replaced, txn)?;
            if let Some(replaced) = replaced {
                Self::forget_mark(&replaced, txn)?;
            }
            before = Some(list.clone());
        }
        Ok(None)
    }

    /// Why a list that begins an account here is not taken. Without an invite nobody learns which names
    /// there are.
    fn claim_refusal(
        &self,
        show: &ShowLists,
        oldest: &CheckedList,
        is_name_known: bool,
        txn: &dyn Txn,
    ) -> Result<Option<RefusalCode>, StoreError> {
        let invite = match &show.invite {
            Some(secret) => self.usable_invite(secret, txn)?,
            None => None,
        };
        Ok(if invite.is_none() {
            Some(RefusalCode::BadInvite)
        } else if is_name_known {
            Some(RefusalCode::NameTaken)
        } else if oldest.list.version != 0 {
            Some(RefusalCode::Conflict)
        } else if Self::newest_list(&oldest.account(), txn)?.is_some() {
            Some(RefusalCode::NotAuthorised)
        } else {
            self.has_no_room_for(Asker::Device).then_some(RefusalCode::Quota)
        })
    }

    /// What this store knows of a replaced device may be older than a copy of the device. Its next
    /// hello is answered with a mark that no store has, so that it takes itself for put back.
    fn forget_mark(replaced: &DeviceId, txn: &mut dyn Txn) -> Result<(), StoreError> {
        let Some(mut row) = schema::get::<ReplacedRow>(txn, REPLACED, replaced.as_bytes())? else {
            return Ok(());
        };
        row.device.mark = Some(Mark { boot: BootId([0; 16]), commit: u64::MAX });
        schema::put(txn, REPLACED, replaced.as_bytes(), &row)
    }
}

/// The one device that is gone, in a list that has one new device in its place: as if it had published
/// the list itself. It could have, with the key that signed it.
fn replaced_by_one(before: &CheckedList, list: &CheckedList) -> Option<DeviceId> {
    let mut gone =
        before.list.devices.iter().map(Device::id).filter(|id| list.device(id).is_none());
    gone.next().filter(|_| gone.next().is_none())
}
