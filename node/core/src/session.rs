//! One connection of a device as a state machine: challenge, hello, then frames. Who the device is
//! and what it may do is decided here; what the frames do is in the files that they are named after.

use tidings_protocol::{
    client_frame::{Goaway, NodeFrame, Ping, Refusable, Refused},
    hello::{Challenge, ClientHello, Mark, Welcome, client_transcript, node_transcript},
    id::{AccountId, DeviceId, Nonce, SubmitId},
    key::{PublicKey, Purpose, Signature},
    limits,
    refusal::{Refusal, RefusalCode},
};
use tidings_store::{StoreError, Txn, prefix_end};

use crate::{
    Core,
    effect::{Effect, Observed},
    event::{ClientInput, ConnId},
    push::{FreshCopy, Pushed},
    schema::{
        self, ACCOUNTS, AccountRow, DEVICES, DeviceRow, ONE_TIME, OneTimeRow, SUBMITS, SubmitRow,
    },
    window::Window,
};

/// What is known of one connection.
#[derive(Debug)]
pub(crate) enum Session {
    /// Challenged, not yet greeted.
    Fresh(Challenge),
    /// A device of ours.
    Greeted(Box<Greeted>),
    /// Refused; what still arrives is ignored.
    Ended,
}

/// A device that proved itself.
#[derive(Debug)]
pub(crate) struct Greeted {
    pub(crate) device: DeviceId,
    pub(crate) account: AccountId,
    pub(crate) key: PublicKey,
    /// It has put another device in its own place: all it may do is to do so again.
    pub(crate) is_replaced: bool,
    /// The device's mark of the hello, to be written once the device has gone on after our welcome:
    /// a device that was rolled back notices that from the welcome and does not go on.
    pub(crate) mark: Option<Mark>,
    /// The highest id of its submissions: its row holds the newest mark, unless a clock was set back.
    pub(crate) last_submit: Option<SubmitId>,
    /// Copies pushed and not acknowledged, by lsn; weighed in bytes.
    pub(crate) pushed: Window<u64, Pushed>,
    /// Next inbox row to read.
    pub(crate) inbox_cursor: u64,
    /// The cursor at which nothing more was on disk.
    pub(crate) caught_up: Option<u64>,
    /// Copies whose rows were written since then, in this batch.
    pub(crate) fresh: Vec<FreshCopy>,
    /// Notes sent and not acknowledged, by row; weighed in statements.
    pub(crate) noted: Window<u64, ()>,
    /// Next note to read.
    pub(crate) notes_cursor: u64,
}

impl Core {
    pub(crate) fn on_client_connected(&mut self, conn: ConnId) {
        let challenge = Challenge {
            version: limits::PROTOCOL_VERSION,
            node: self.node,
            nonce: Nonce(self.random()),
        };
        self.tell_client(conn, NodeFrame::Challenge(challenge.clone()));
        self.sessions.insert(conn, Session::Fresh(challenge));
        if self.draining {
            self.refuse_link(conn, RefusalCode::Draining);
        }
    }

    pub(crate) fn on_client_closed(&mut self, conn: ConnId) {
        if let Some(Session::Greeted(greeted)) = self.sessions.remove(&conn)
            && self.online.get(&greeted.device) == Some(&conn)
        {
            self.online.remove(&greeted.device);
        }
        self.fetches.forget(conn);
        self.names.forget(conn);
    }

    pub(crate) fn on_client(
        &mut self,
        conn: ConnId,
        input: ClientInput,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        match (self.sessions.get(&conn), input) {
            (Some(Session::Fresh(challenge)), ClientInput::Hello(hello)) => {
                let challenge = challenge.clone();
                self.on_hello(conn, &challenge, &hello, txn)
            }
            (Some(Session::Fresh(challenge)), ClientInput::Join(join)) => {
                let challenge = challenge.clone();
                self.on_join(conn, &challenge, &join.0, &join.1, txn)
            }
            (Some(Session::Fresh(_)), ClientInput::ShowLists(show)) => {
                self.on_show_lists(conn, &show.0, &show.1, txn)
            }
            (Some(Session::Greeted(_)), input) => self.on_greeted(conn, input, txn),
            (Some(Session::Fresh(_)), _) => {
                self.refuse_link(conn, RefusalCode::NotAuthorised);
                Ok(())
            }
            (Some(Session::Ended) | None, _) => Ok(()),
        }
    }

    fn on_greeted(
        &mut self,
        conn: ConnId,
        input: ClientInput,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let is_replaced = self.greeted(conn).is_some_and(|greeted| greeted.is_replaced);
        let is_for_replacement = matches!(
            input,
            ClientInput::FetchBundle(_) | ClientInput::PublishList(_) | ClientInput::Ping { .. }
        );
        if is_replaced && !is_for_replacement {
            self.refuse_link(conn, RefusalCode::NotAuthorised);
            return Ok(());
        }
        self.keep_hello_mark(conn);
        match input {
            ClientInput::Hello(_) | ClientInput::Join(_) | ClientInput::ShowLists(_) => {
                self.refuse_link(conn, RefusalCode::Malformed);
                Ok(())
            }
            ClientInput::Submit { submit, envelopes, mine } => {
                self.on_submit(conn, submit, &envelopes, mine, txn)
            }
            ClientInput::Received { items, checked, mine } => {
                self.on_received(conn, &items, &checked, mine, txn)
            }
            ClientInput::Noted { notes } => self.on_noted(conn, notes, txn),
            ClientInput::FetchBundle(fetch) => self.on_fetch_bundle(conn, fetch, txn),
            ClientInput::Resolve(resolve) => {
                self.on_resolve(conn, &resolve);
                Ok(())
            }
            ClientInput::PublishPrekeys(publish) => self.on_publish_prekeys(conn, *publish, txn),
            ClientInput::PublishList(publish) => {
                self.on_publish_list(conn, &publish.0, &publish.1, txn)
            }
            ClientInput::Ping { number } => {
                self.tell_client(conn, NodeFrame::Pong(Ping { number }));
                Ok(())
            }
        }
    }

    /// The device of a greeted connection.
    pub(crate) fn greeted(&self, conn: ConnId) -> Option<&Greeted> {
        match self.sessions.get(&conn) {
            Some(Session::Greeted(greeted)) => Some(greeted),
            Some(Session::Fresh(_) | Session::Ended) | None => None,
        }
    }

    pub(crate) fn greeted_mut(&mut self, conn: ConnId) -> Option<&mut Greeted> {
        match self.sessions.get_mut(&conn) {
            Some(Session::Greeted(greeted)) => Some(greeted),
            Some(Session::Fresh(_) | Session::Ended) | None => None,
        }
    }

    fn on_hello(
        &mut self,
        conn: ConnId,
        challenge: &Challenge,
        hello: &ClientHello,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let listed: Option<DeviceRow> = schema::get(txn, DEVICES, hello.device.as_bytes())?;
        let is_replaced = listed.is_none();
        let row = match listed {
            Some(row) => Some(row),
            None => Self::replaced(&hello.device, txn)?,
        };
        let refusal = self.hello_refusal(challenge, hello, row.as_ref());
        let (Some(row), None) = (row, refusal) else {
            self.refuse_link(conn, refusal.unwrap_or(RefusalCode::NotAuthorised));
            return Ok(());
        };
        if !self.check_mark(hello.yours.as_ref(), txn)? {
            // Everybody greets again, this device too.
            return Ok(());
        }
        let Some(descriptor) = self.own.current().cloned() else {
            self.refuse_link(conn, RefusalCode::Busy);
            return Ok(());
        };
        let account: Option<AccountRow> = schema::get(txn, ACCOUNTS, row.name.as_str().as_bytes())?;
        // What came in this very batch is not in the row yet.
        let of_batch = self.batch.marks.get(&hello.device).cloned();
        let kept = of_batch.or_else(|| row.mark.clone());
        let last = Self::last_submit(&hello.device, txn)?;
        let yours = newest_mark(kept, last.as_ref().map(|(_, mark)| mark.clone()));
        let mut welcome = Welcome {
            descriptor,
            incarnation: self.stance.incarnation,
            mine: self.mark(txn),
            yours,
            time_ms: self.now_ms,
            one_time_left: self.one_time_left(&hello.device, txn)?,
            list_version: account.map_or(0, |account| account.list_version),
            signature: Signature([0; 64]),
        };
        let transcript = node_transcript(challenge, hello, &welcome);
        welcome.signature =
            self.settings.operational.sign(Purpose::NodeHello, transcript.as_bytes());
        self.tell_client(conn, NodeFrame::Welcome(welcome));
        self.greet(conn, hello, &row, is_replaced, last.map(|(submit, _)| submit));
        Ok(())
    }

    fn hello_refusal(
        &self,
        challenge: &Challenge,
        hello: &ClientHello,
        row: Option<&DeviceRow>,
    ) -> Option<RefusalCode> {
        if hello.version != limits::PROTOCOL_VERSION {
            return Some(RefusalCode::Version);
        }
        if hello.node != self.node {
            return Some(RefusalCode::WrongNode);
        }
        let transcript = client_transcript(challenge, hello);
        let is_proved = row.is_some_and(|row| {
            row.key.verify(Purpose::ClientHello, transcript.as_bytes(), &hello.signature).is_ok()
        });
        (!is_proved).then_some(RefusalCode::NotAuthorised)
    }

    fn greet(
        &mut self,
        conn: ConnId,
        hello: &ClientHello,
        row: &DeviceRow,
        is_replaced: bool,
        last_submit: Option<SubmitId>,
    ) {
        let greeted = Greeted {
            device: hello.device,
            account: row.account,
            key: row.key,
            is_replaced,
            mark: (!is_replaced).then(|| hello.mine.clone()),
            last_submit,
            pushed: Window::default(),
            inbox_cursor: 0,
            caught_up: None,
            fresh: Vec::new(),
            noted: Window::default(),
            notes_cursor: 0,
        };
        self.sessions.insert(conn, Session::Greeted(Box::new(greeted)));
        if is_replaced {
            return;
        }
        // One connection per device: the newer one is the one that works.
        if let Some(older) = self.online.insert(hello.device, conn)
            && older != conn
        {
            self.refuse_link(older, RefusalCode::Busy);
            self.online.insert(hello.device, conn);
        }
        self.batch.devices.insert(hello.device);
    }

    /// The submission of a device with the highest id, and the mark that it named.
    fn last_submit(
        device: &DeviceId,
        txn: &dyn Txn,
    ) -> Result<Option<(SubmitId, Mark)>, StoreError> {
        let prefix = device.as_bytes();
        let Some((key, bytes)) = txn.last(SUBMITS, prefix, &prefix_end(prefix))? else {
            return Ok(None);
        };
        let id = key.get(prefix.len()..).and_then(SubmitId::from_slice);
        let id = id.ok_or_else(|| StoreError::corrupt("the key of a submission"))?;
        Ok(Some((id, schema::decode::<SubmitRow>(&bytes)?.mark)))
    }

    fn keep_hello_mark(&mut self, conn: ConnId) {
        let Some(greeted) = self.greeted_mut(conn) else { return };
        let device = greeted.device;
        if let Some(mark) = greeted.mark.take() {
            self.batch.marks.insert(device, mark);
        }
    }

    /// Writes the newest mark that a device gave in this batch.
    pub(crate) fn write_mark(
        &self,
        device: &DeviceId,
        mark: Mark,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let Some(mut row) = schema::get::<DeviceRow>(txn, DEVICES, device.as_bytes())? else {
            return Ok(());
        };
        let is_known = row.mark.as_ref() == Some(&mark);
        if is_known || row.mark.as_ref().is_some_and(|known| known.commit > mark.commit) {
            return Ok(());
        }
        row.mark = Some(mark);
        schema::put(txn, DEVICES, device.as_bytes(), &row)
    }

    /// One-time pre-keys that the node may still hand out. Those of earlier boots are frozen for
    /// good: the store may have been rolled back behind a hand-out.
    fn one_time_left(&self, device: &DeviceId, txn: &dyn Txn) -> Result<u64, StoreError> {
        let prefix = device.as_bytes();
        let rows =
            txn.range(ONE_TIME, prefix, &prefix_end(prefix), limits::ONE_TIME_PREKEYS_MAX)?;
        let mut left = 0;
        for (_, bytes) in rows {
            let row: OneTimeRow = schema::decode(&bytes)?;
            left += u64::from(self.may_hand_out(&row));
        }
        Ok(left)
    }

    pub(crate) fn may_hand_out(&self, row: &OneTimeRow) -> bool {
        row.incarnation == self.stance.incarnation && row.boot == self.stance.boot
    }

    /// Ends a connection with a reason.
    pub(crate) fn refuse_link(&mut self, conn: ConnId, code: RefusalCode) {
        match self.sessions.get(&conn) {
            None | Some(Session::Ended) => return,
            Some(Session::Greeted(greeted)) => {
                let device = greeted.device;
                if self.online.get(&device) == Some(&conn) {
                    self.online.remove(&device);
                }
            }
            Some(Session::Fresh(_)) => {}
        }
        self.sessions.insert(conn, Session::Ended);
        self.fetches.forget(conn);
        self.names.forget(conn);
        let frame = if code.may_retry() {
            let after_ms = 500 + u64::from(u16::from_be_bytes(self.random())) % 4_500;
            NodeFrame::Goaway(Goaway { after_ms, refusal: code.into() })
        } else {
            NodeFrame::Refused(Refused { what: Refusable::Link(0), refusal: code.into() })
        };
        self.tell_client(conn, frame);
        self.effects.push_back(Effect::CloseClient { conn });
        self.observe(Observed::Refused(code));
    }

    /// Refuses one request and goes on.
    pub(crate) fn refuse(&mut self, conn: ConnId, what: Refusable, code: RefusalCode) {
        let after_ms = code.may_retry().then_some(1_000);
        let refusal = Refusal { code, after_ms };
        self.tell_client(conn, NodeFrame::Refused(Refused { what, refusal }));
        self.observe(Observed::Refused(code));
    }

    /// Ends every link: all have to greet again, because the own store was rolled back.
    pub(crate) fn forget_links(&mut self) {
        self.greet_devices_anew();
        let links: Vec<_> = self.links.keys().copied().collect();
        for link in links {
            self.refuse_peer(link, RefusalCode::Busy);
        }
    }

    /// Devices learn the node's clock when they are greeted. Once it was set back, what they write by
    /// the old one would be from the future for as long as their links last.
    pub(crate) fn greet_devices_anew(&mut self) {
        let conns: Vec<ConnId> = self.sessions.keys().copied().collect();
        for conn in conns {
            self.refuse_link(conn, RefusalCode::Busy);
        }
    }
}

/// The newest mark of a device's store: of its hellos and of what it has on disk, or of its submissions.
/// Marks of one store grow; of two stores (the device got a new id) there are none in common.
fn newest_mark(kept: Option<Mark>, of_submit: Option<Mark>) -> Option<Mark> {
    match (kept, of_submit) {
        (Some(kept), Some(of_submit)) if kept.commit > of_submit.commit => Some(kept),
        (kept, of_submit) => of_submit.or(kept),
    }
}
