//! A store that was put back does not know the device lists that were published after its copy was
//! made, and refuses the devices that only those name. Such a device shows the lists before it greets.
//! They are signed, and the newest holds, whoever shows it: nobody is let in here.

use tidings_protocol::{
    client_frame::{Done, NodeFrame, Refusable, ShowLists},
    device_list::{CheckedList, Device},
    id::DeviceId,
    refusal::RefusalCode,
};
use tidings_store::{StoreError, Txn};

use crate::{
    Core,
    event::ConnId,
    schema::{self, ACCOUNTS, AccountRow},
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
        let mut before = match known {
            Some(known) if known.account != first.account() => {
                return Ok(Some(RefusalCode::NameTaken));
            }
            Some(known) => Self::newest_checked(&known.account, txn)?,
            None => None,
        };
        let version = before.as_ref().map(|before| before.list.version);
        let is_new = |list: &CheckedList| version.is_none_or(|known| list.list.version > known);
        let new: Vec<_> = show.lists.iter().zip(lists).filter(|(_, list)| is_new(list)).collect();
        let Some((signed, oldest)) = new.first() else { return Ok(None) };
        let refusal = match &before {
            Some(before) => Self::successor_refusal(before, signed, oldest, txn)?,
            None => self.claim_refusal(show, oldest, txn)?,
        };
        for (_, list) in &new {
            if Self::names_foreign_device(list, txn)? {
                return Ok(refusal.or(Some(RefusalCode::NotAuthorised)));
            }
        }
        if refusal.is_some() {
            return Ok(refusal);
        }
        if before.is_none()
            && let Some(secret) = &show.invite
            && let Some(invite) = self.usable_invite(secret, txn)?
        {
            Self::use_up(secret, invite, txn)?;
        }
        for (signed, list) in new {
            let place = before.as_ref().and_then(|before| replaced_by_one(before, list));
            self.write_list(signed, list, before.as_ref(), place, txn)?;
            before = Some(list.clone());
        }
        Ok(None)
    }

    /// Why an account that is not known, and whose lists begin with this one, is not taken.
    fn claim_refusal(
        &self,
        show: &ShowLists,
        oldest: &CheckedList,
        txn: &dyn Txn,
    ) -> Result<Option<RefusalCode>, StoreError> {
        let Some(secret) = &show.invite else { return Ok(Some(RefusalCode::BadInvite)) };
        Ok(if self.usable_invite(secret, txn)?.is_none() {
            Some(RefusalCode::BadInvite)
        } else if oldest.list.version != 0 {
            Some(RefusalCode::Conflict)
        } else {
            self.has_no_room_for(Asker::Device).then_some(RefusalCode::Quota)
        })
    }
}

/// The one device that is gone, in a list that has one new device in its place: as if it had published
/// the list itself. It could have, with the key that signed it.
fn replaced_by_one(before: &CheckedList, list: &CheckedList) -> Option<DeviceId> {
    let mut gone =
        before.list.devices.iter().map(Device::id).filter(|id| list.device(id).is_none());
    gone.next().filter(|_| gone.next().is_none())
}
