//! What waits for own devices: stored once, deleted only by the device's
//! signed word, expiry, or the removal of the device.

use std::collections::BTreeMap;

use tidings_protocol::{
    client_frame::{NewerLists, NodeFrame},
    codec,
    device_list::DeviceList,
    envelope::Target,
    hello::Mark,
    id::{AccountId, CopyId, DeviceId, Eid, NodeId},
    refusal::RefusalCode,
    signed::Signed,
    statement::{Checked, Claim, Proof, Reason, Statement},
};
use tidings_store::{StoreError, Txn, prefix_end};

use crate::{
    Core,
    effect::Observed,
    event::{ConnId, PreparedEnvelope},
    expiry::has_short_life,
    push::{FreshCopy, Pushed},
    schema::{
        self, ACCOUNTS, AccountRow, BODIES, BodyRow, DEVICES, DeviceRow, EXPIRY, Ended, ExpiryKind,
        INBOX, InboxRow, SEEN, SeenCopy, SeenRow, device_key, expiry_key,
    },
    settings::Sabotage,
    step::{Stage, Step, Why},
};

/// Bytes of an envelope that stands in its inbox row, when that is the only one: most texts do. What
/// is larger would make it slow to walk over rows.
const INLINE_BYTES_MAX: usize = 2_048;

/// Where an envelope came from, and so where its statements go.
#[derive(Clone, Debug)]
pub(crate) enum Hop {
    /// A device of this account here.
    Device(AccountId),
    /// Other nodes: the origin, or custodians that brought it.
    Peers(Vec<NodeId>),
}

impl Core {
    /// Stores an envelope for own devices: body once, a row for each device, and the key by which a
    /// second one is recognised. Returns device lists that its sender did not know yet.
    pub(crate) fn store_envelope(
        &mut self,
        envelope: &PreparedEnvelope,
        hop: &Hop,
        txn: &mut dyn Txn,
    ) -> Result<Vec<Signed<DeviceList>>, StoreError> {
        let lsn = self.next_lsn(txn);
        let mut lists = BTreeMap::new();
        let mut copies = Vec::with_capacity(envelope.copies.len());
        let mut waiting = Vec::with_capacity(envelope.copies.len());
        for (place, (target, copy)) in
            (0u32..).zip(envelope.head.targets.iter().zip(&envelope.copies))
        {
            let done = match self.recipient(target, &mut lists, txn)? {
                Ok(device) => {
                    waiting.push((device, place, target));
                    None
                }
                Err(reason) => Some(self.fail_copy(hop, envelope.eid, *copy, reason)),
            };
            copies.push(SeenCopy { copy: *copy, device: target.device(), done });
        }
        let bytes = self.write_inbox(envelope, lsn, &waiting, txn)?;
        self.write_seen(envelope, hop, (lsn, bytes), copies, txn)?;
        // While every device is here, its own word follows within milliseconds.
        if waiting.iter().any(|(device, _, _)| !self.online.contains_key(device)) {
            self.state_own(hop, Claim::AtDest, envelope.eid, None, None);
        }
        let from = Some(envelope.head.header.origin).filter(|node| *node != self.node);
        self.step(Step::of(Stage::Stored, envelope.eid, from));
        self.observe(Observed::Stored);
        if let Hop::Device(account) = hop {
            self.tell_newer_lists(account, lists.values().flatten().cloned().collect(), txn)?;
        }
        Ok(lists.into_values().flatten().collect())
    }

    /// Writes the body, and a row for each device for which it waits. Gives the bytes that wait.
    fn write_inbox(
        &mut self,
        envelope: &PreparedEnvelope,
        lsn: u64,
        waiting: &[(DeviceId, u32, &Target)],
        txn: &mut dyn Txn,
    ) -> Result<u64, StoreError> {
        if waiting.is_empty() {
            return Ok(0);
        }
        let shared = envelope.shared.clone();
        let mut body = Some(BodyRow { head: codec::encode(&envelope.head).into(), shared });
        let bytes = body.as_ref().map_or(0, |body| body.head.len() + body.shared.len());
        let is_inline = waiting.len() == 1 && bytes <= INLINE_BYTES_MAX;
        if !is_inline && let Some(body) = body.take() {
            schema::put(txn, BODIES, &lsn.to_be_bytes(), &body)?;
        }
        let eid = envelope.eid;
        for (device, place, target) in waiting {
            // Counted before the row is there: the first count reads the rows.
            *self.inbox_count(device, txn)? += 1;
            let row = InboxRow { eid, target: *place, body: body.take() };
            schema::put(txn, INBOX, &device_key(device, lsn), &row)?;
            self.batch.devices.insert(*device);
            let conn = self.online.get(device).copied();
            if let Some(greeted) = conn.and_then(|conn| self.greeted_mut(conn))
                && greeted.is_caught_up()
            {
                greeted.fresh.push(FreshCopy {
                    lsn,
                    eid,
                    header: envelope.head.header.clone(),
                    target: (*target).clone(),
                    shared: envelope.shared.clone(),
                    is_inline,
                });
            }
        }
        Ok(bytes as u64)
    }

    fn write_seen(
        &mut self,
        envelope: &PreparedEnvelope,
        hop: &Hop,
        (lsn, bytes): (u64, u64),
        copies: Vec<SeenCopy>,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let header = &envelope.head.header;
        let (nodes, account) = match hop {
            Hop::Device(account) => (&[][..], Some(*account)),
            Hop::Peers(nodes) => (nodes.as_slice(), None),
        };
        let origin = match account {
            Some(_) => 0,
            None => self.peer_number(&header.origin, txn)?,
        };
        let hops =
            nodes.iter().map(|node| self.peer_number(node, txn)).collect::<Result<_, _>>()?;
        let row = SeenRow {
            lsn,
            origin,
            hops,
            account,
            stored_ms: self.now_ms,
            expires_ms: header.expires_ms,
            copies,
            bytes,
        };
        if self.is_sabotaged(Sabotage::NoNodeDedup) {
            return Ok(());
        }
        self.count_waiting_from(&row);
        schema::put(txn, SEEN, envelope.eid.as_bytes(), &row)?;
        if has_short_life(header) {
            let key = expiry_key(header.expires_ms, ExpiryKind::Seen, &envelope.eid);
            txn.put(EXPIRY, &key, &[])?;
        }
        Ok(())
    }

    /// The device that a target is for, or why there is none; and lists that the sender missed.
    fn recipient(
        &self,
        target: &Target,
        lists: &mut BTreeMap<AccountId, Vec<Signed<DeviceList>>>,
        txn: &dyn Txn,
    ) -> Result<Result<DeviceId, Reason>, StoreError> {
        let Some(device) = target.device() else { return Ok(Err(Reason::UnknownRecipient)) };
        let Some(row) = schema::get::<DeviceRow>(txn, DEVICES, device.as_bytes())? else {
            return Ok(Err(Reason::UnknownRecipient));
        };
        if let std::collections::btree_map::Entry::Vacant(unknown) = lists.entry(row.account) {
            let account: Option<AccountRow> =
                schema::get(txn, ACCOUNTS, row.name.as_str().as_bytes())?;
            let newest = account.map_or(0, |account| account.list_version);
            let missed = if target.list_version < newest {
                Self::lists_behind(&row.account, Some(target.list_version), txn)?
            } else {
                Vec::new()
            };
            unknown.insert(missed);
        }
        Ok(Ok(device))
    }

    pub(crate) fn tell_newer_lists(
        &mut self,
        account: &AccountId,
        lists: Vec<Signed<DeviceList>>,
        txn: &dyn Txn,
    ) -> Result<(), StoreError> {
        if lists.is_empty() {
            return Ok(());
        }
        for device in self.devices_of(account, txn)? {
            if let Some(conn) = self.online.get(&device).copied() {
                let frame = NodeFrame::NewerLists(NewerLists { lists: lists.clone() });
                self.tell_client(conn, frame);
            }
        }
        Ok(())
    }

    fn fail_copy(&mut self, hop: &Hop, eid: Eid, copy: CopyId, reason: Reason) -> Ended {
        self.state_own(hop, Claim::Failed, eid, Some(copy), Some(reason));
        let why = Some(Why::Reason(reason));
        self.step(Step { why, ..Step::of(Stage::Failed, eid, None) });
        self.observe(Observed::Failed);
        Ended { claim: Claim::Failed, reason: Some(reason), at_ms: self.now_ms, proof: None }
    }

    /// Makes an own statement at the end of the batch and sends it back along the route.
    pub(crate) fn state_own(
        &mut self,
        hop: &Hop,
        claim: Claim,
        eid: Eid,
        copy: Option<CopyId>,
        reason: Option<Reason>,
    ) {
        let at_ms = self.now_ms;
        let statement = Statement { claim, eid, copy, at_ms, reason, until_ms: None };
        match hop {
            Hop::Device(account) => {
                self.batch.for_account.entry(*account).or_default().push(statement);
            }
            Hop::Peers(nodes) => {
                for node in nodes {
                    self.batch.for_peer.entry(*node).or_default().push(statement.clone());
                }
            }
        }
    }

    /// A device has copies on disk: their rows go, its word goes back along the route.
    pub(crate) fn on_received(
        &mut self,
        conn: ConnId,
        items: &[(u64, CopyId)],
        checked: &Checked,
        mine: Mark,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let Some(greeted) = self.greeted(conn) else { return Ok(()) };
        let (device, key) = (greeted.device, greeted.key);
        if checked.root.signer.key != key || checked.root.signer.node.is_some() {
            self.refuse_link(conn, RefusalCode::NotAuthorised);
            return Ok(());
        }
        self.batch.marks.insert(device, mine);
        for ((lsn, copy), (statement, proof)) in items.iter().zip(&checked.statements) {
            let pushed = self.greeted_mut(conn).and_then(|greeted| greeted.pushed.remove(lsn));
            if statement.copy == Some(*copy) && ends_a_copy(statement.claim) {
                self.end_copy(&device, *lsn, pushed, statement, proof, txn)?;
            } else {
                self.observe(Observed::BadStatement);
            }
        }
        self.batch.devices.insert(device);
        Ok(())
    }

    fn end_copy(
        &mut self,
        device: &DeviceId,
        lsn: u64,
        pushed: Option<Pushed>,
        statement: &Statement,
        proof: &Proof,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        // What was pushed on another connection is known from its row.
        let Some(Pushed { eid, is_inline }) = (match pushed {
            Some(pushed) => Some(pushed),
            None => schema::get::<InboxRow>(txn, INBOX, &device_key(device, lsn))?
                .map(|row| Pushed { eid: row.eid, is_inline: row.body.is_some() }),
        }) else {
            return Ok(());
        };
        let Some(mut seen) = schema::get::<SeenRow>(txn, SEEN, eid.as_bytes())? else {
            return Ok(());
        };
        let is_named = |copy: &&mut SeenCopy| {
            copy.device == Some(*device) && Some(copy.copy) == statement.copy
        };
        let Some(copy) = seen.copies.iter_mut().find(is_named) else {
            self.observe(Observed::BadStatement);
            return Ok(());
        };
        if copy.done.is_some() {
            // It ended meanwhile, by expiry.
            return Ok(());
        }
        if statement.eid != eid {
            self.observe(Observed::BadStatement);
            return Ok(());
        }
        copy.done = Some(Ended {
            claim: statement.claim,
            reason: statement.reason,
            at_ms: statement.at_ms,
            proof: Some(proof.clone()),
        });
        self.delete_inbox(device, lsn, txn)?;
        self.uncount_waiting_from(&seen, 1);
        if !is_inline && seen.copies.iter().all(|copy| copy.done.is_some()) {
            txn.delete(BODIES, &seen.lsn.to_be_bytes())?;
        }
        schema::put(txn, SEEN, eid.as_bytes(), &seen)?;
        let after_ms = self.now_ms.saturating_sub(seen.stored_ms);
        let (device, why) = (Some(*device), statement.reason.map(Why::Reason));
        self.step(Step { device, why, ..Step::of(Stage::Delivered, eid, None) });
        self.observe(Observed::Delivered { after_ms });
        self.send_back(&seen, proof.clone())
    }

    /// Sends a device's statement to where its envelope came from.
    pub(crate) fn send_back(&mut self, seen: &SeenRow, proof: Proof) -> Result<(), StoreError> {
        match self.hop_of(seen)? {
            Hop::Device(account) => self.put_note(account, proof),
            Hop::Peers(nodes) => {
                for node in nodes {
                    self.put_statement(&node, proof.clone());
                }
            }
        }
        Ok(())
    }

    /// Deletes one inbox row and counts it.
    pub(crate) fn delete_inbox(
        &mut self,
        device: &DeviceId,
        lsn: u64,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let count = self.inbox_count(device, txn)?;
        *count = count.saturating_sub(1);
        let conn = self.online.get(device).copied();
        if let Some(greeted) = conn.and_then(|conn| self.greeted_mut(conn))
            && lsn >= greeted.inbox_cursor
        {
            greeted.fall_behind();
        }
        txn.delete(INBOX, &device_key(device, lsn))
    }

    /// How many copies wait for a device; counted before its rows change.
    fn inbox_count(&mut self, device: &DeviceId, txn: &dyn Txn) -> Result<&mut u64, StoreError> {
        self.tally.of(device, self.settings.device_rows_max, txn)
    }

    pub(crate) fn is_any_inbox_full(
        &mut self,
        envelope: &PreparedEnvelope,
        txn: &dyn Txn,
    ) -> Result<bool, StoreError> {
        if self.is_sabotaged(Sabotage::EvictOnQuota) {
            return Ok(false);
        }
        let max = self.settings.device_rows_max;
        for device in envelope.head.targets.iter().filter_map(Target::device) {
            if self.tally.look(&device, max, txn)? >= max {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Ends every copy that waits for a device that was removed from its account.
    pub(crate) fn drop_inbox(
        &mut self,
        device: &DeviceId,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let prefix = device.as_bytes();
        for (key, bytes) in txn.range(INBOX, prefix, &prefix_end(prefix), usize::MAX)? {
            let row: InboxRow = schema::decode(&bytes)?;
            txn.delete(INBOX, &key)?;
            let Some(mut seen) = schema::get::<SeenRow>(txn, SEEN, row.eid.as_bytes())? else {
                continue;
            };
            let (hop, mut removed) = (self.hop_of(&seen)?, 0);
            for copy in seen.copies.iter_mut().filter(|copy| copy.device == Some(*device)) {
                if copy.done.is_none() {
                    let ended = self.fail_copy(&hop, row.eid, copy.copy, Reason::DeviceRemoved);
                    copy.done = Some(ended);
                    removed += 1;
                }
            }
            self.uncount_waiting_from(&seen, removed);
            if seen.copies.iter().all(|copy| copy.done.is_some()) {
                txn.delete(BODIES, &seen.lsn.to_be_bytes())?;
            }
            schema::put(txn, SEEN, row.eid.as_bytes(), &seen)?;
        }
        self.tally.forget(device);
        let conn = self.online.get(device).copied();
        if let Some(greeted) = conn.and_then(|conn| self.greeted_mut(conn)) {
            greeted.fall_behind();
        }
        Ok(())
    }

    pub(crate) fn hop_of(&self, seen: &SeenRow) -> Result<Hop, StoreError> {
        if let Some(account) = seen.account {
            return Ok(Hop::Device(account));
        }
        let unknown = || StoreError::corrupt("an envelope from a peer without a number");
        let node = |number| self.numbers.get(number).copied().ok_or_else(unknown);
        seen.hops.iter().map(node).collect::<Result<_, _>>().map(Hop::Peers)
    }
}

const fn ends_a_copy(claim: Claim) -> bool {
    matches!(claim, Claim::Delivered | Claim::Undecryptable)
}
