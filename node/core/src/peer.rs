//! Other nodes: numbers, links, hellos. How links come about is in `dial.rs`; what travels over them in
//! `outbox.rs`, `accept.rs`, `statements.rs`, `audit.rs`, `fetch.rs`, `handing.rs` and `custody.rs`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tidings_protocol::{
    descriptor::{CheckedDescriptor, Delegation, Descriptor},
    hello::{Mark, PeerHello},
    id::{Eid, NodeId},
    limits,
    peer_frame::{Farewell, PeerFrame},
    refusal::{Refusal, RefusalCode},
    signed::Signed,
};
use tidings_store::{StoreError, Txn};

use crate::{
    Core,
    allowance::{OneTimeAllowance, QuestionAllowance},
    audit::Audits,
    conduct::{Conduct, Offence},
    dead::DeadLetters,
    effect::{Effect, Observed},
    event::{CheckedHello, LinkId, PeerInput},
    newest::Newest,
    outbox::Fresh,
    patience::Patience,
    policy::{Act, Verdict},
    rates::Rates,
    retry::Retry,
    schema::{self, PEERS, PeerRow},
    window::Window,
};

/// A link as the core knows it.
#[derive(Debug)]
pub(crate) struct Link {
    /// The libp2p peer id at the other end.
    transport: Bytes,
    /// The node, once it has greeted.
    pub(crate) node: Option<NodeId>,
    /// The node has gone on after our greeting, so that it takes us for whom we are.
    is_mutual: bool,
    /// When something last arrived.
    pub(crate) heard_ms: u64,
    /// When the last keep-alive left.
    pub(crate) kept_alive_ms: u64,
}

/// An envelope that was sent on the link and is not answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    /// Its place in the outbox.
    pub(crate) lsn: u64,
    pub(crate) at_ms: u64,
    /// The node in whose outbox that is, when it was sent to another one.
    pub(crate) absent: Option<NodeId>,
    /// It was sent to that node's next hop; else to its custodian.
    pub(crate) is_routed: bool,
}

impl Sent {
    /// The node to whose queue it belongs, when it was sent on the link of `way`; what was handed to
    /// a custodian belongs to none.
    pub(crate) fn owner(&self, way: &NodeId) -> Option<NodeId> {
        match self.absent {
            None => Some(*way),
            Some(absent) => self.is_routed.then_some(absent),
        }
    }
}

/// Another node: what its row says, and what may be forgotten.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    pub(crate) number: u32,
    pub(crate) descriptor: Option<(Descriptor, CheckedDescriptor)>,
    /// A newer delegation than the descriptor's, told by a custodian.
    pub(crate) delegation: Option<(Signed<Delegation>, Delegation)>,
    pub(crate) incarnation: Option<u64>,
    pub(crate) mark: Option<Mark>,
    pub(crate) sent: u64,
    pub(crate) seen_ms: u64,
    pub(crate) queued: u64,
    pub(crate) queued_bytes: u64,
    /// Rows of the outbox from `passed` on.
    pub(crate) unsent: u64,
    pub(crate) statements: u64,
    /// Rows of the outbox that other nodes handed over, and their bytes.
    pub(crate) held: u64,
    pub(crate) held_bytes: u64,
    /// Rows that are passed on by the agreement with it, and their bytes.
    pub(crate) passing: u64,
    pub(crate) passing_bytes: u64,
    /// Copies from it that wait here for devices, and the bytes of their envelopes.
    pub(crate) inbox: u64,
    pub(crate) inbox_bytes: u64,
    /// One above the highest row that was sent, or was not worth sending any more.
    pub(crate) passed: u64,
    /// Rows below that which the peer does not hold, as far as is known: not answered, refused for
    /// now, or lost there. After a start none, until the first link audits. No more than what may
    /// be in flight or wait to be sent again.
    pub(crate) owed: BTreeSet<u64>,
    /// Lowest row that custodians hold since the last link.
    pub(crate) entrusted: Option<u64>,
    /// It has said that it stops.
    pub(crate) is_leaving: bool,
    /// Why it refused this node for good the last time, and when.
    pub(crate) refuses_us: Option<(RefusalCode, u64)>,
    /// The greeted link.
    pub(crate) link: Option<LinkId>,
    pub(crate) retry: Retry,
    /// Next row of the outbox to send.
    pub(crate) cursor: u64,
    /// The cursor at which nothing more was on disk.
    pub(crate) caught_up: Option<u64>,
    /// Rows that were written since then, in this batch.
    pub(crate) fresh: Vec<Fresh>,
    pub(crate) newest: Newest,
    /// Envelopes sent and not answered; weighed in bytes.
    pub(crate) inflight: Window<Eid, Sent>,
    /// Envelopes to send again: lsn → when.
    pub(crate) resend: BTreeMap<u64, u64>,
    /// Nothing new is sent before this time: the peer has no room.
    pub(crate) paused_until_ms: u64,
    /// Next row of the statements to send.
    pub(crate) statements_cursor: u64,
    /// Rows of statements sent and not answered: row → when; weighed in statements.
    pub(crate) statements_inflight: Window<u64, u64>,
    pub(crate) patience: Patience,
    pub(crate) audits: Audits,
    pub(crate) dead: DeadLetters,
    /// Why its way refused the last envelope; absent once it has taken one.
    pub(crate) refusal: Option<RefusalCode>,
    /// As a next hop: the node behind it whose turn was last.
    pub(crate) turn: Option<NodeId>,
    /// One-time pre-keys of own users that it has had.
    pub(crate) one_time: OneTimeAllowance,
    /// Users of others that it has asked for.
    pub(crate) asked_for: QuestionAllowance,
    /// Its users that are kept here.
    pub(crate) users: u64,
    /// What it may cost; made when something first comes from it.
    pub(crate) rates: Option<Rates>,
    pub(crate) conduct: Conduct,
}

impl Peer {
    fn row(&self) -> PeerRow {
        PeerRow {
            number: self.number,
            descriptor: self.descriptor.as_ref().map(|(d, _)| Bytes::from(d.encode())),
            incarnation: self.incarnation,
            mark: self.mark.clone(),
            sent: self.sent,
            seen_ms: self.seen_ms,
            queued: self.queued,
            queued_bytes: self.queued_bytes,
            // After a start what lies above `sent` counts as not passed.
            unsent: self.unsent + self.owed.range(self.sent + 1..).count() as u64,
            statements: self.statements,
            held: self.held,
            held_bytes: self.held_bytes,
            users: self.users,
            passing: self.passing,
            passing_bytes: self.passing_bytes,
            delegation: self.delegation.as_ref().map(|(signed, _)| signed.clone()),
            inbox: self.inbox,
            inbox_bytes: self.inbox_bytes,
        }
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.queued > 0 || self.statements > 0
    }

    /// Forgets what belongs to a link that is gone; each outbox that was sent on it is rewound.
    fn unlink(&mut self) {
        self.link = None;
        self.inflight.clear();
        self.statements_cursor = 0;
        self.statements_inflight.clear();
        self.patience.unlink();
    }

    /// The link on which the outbox was sent is gone. What was sent and not answered is sent again.
    pub(crate) fn rewind(&mut self, unanswered: &[u64]) {
        self.fall_behind();
        self.newest.unlink();
        if let Some(oldest) = self.oldest_unanswered(unanswered) {
            self.go_back(oldest);
        }
        self.resend.clear();
        self.audits.unlink();
    }
}

impl Core {
    pub(crate) fn load_peers(&mut self, txn: &mut dyn Txn) -> Result<(), StoreError> {
        let rows = txn.range(PEERS, &[], &[0xff; 33], usize::MAX)?;
        for (key, bytes) in rows {
            let row: PeerRow = schema::decode(&bytes)?;
            let node =
                NodeId::from_slice(&key).ok_or_else(|| StoreError::corrupt("the key of a peer"))?;
            // An expired descriptor may still lead to the node; its signatures hold all the same.
            let descriptor = row
                .descriptor
                .as_deref()
                .and_then(|bytes| tidings_protocol::codec::decode::<Descriptor>(bytes).ok())
                .and_then(|descriptor| descriptor.check_undated().ok().map(|c| (descriptor, c)));
            let delegation = row.delegation.and_then(|signed| {
                let opened = signed.open(&node.root_key()).ok()?;
                Some((signed, opened))
            });
            let peer = Peer {
                number: row.number,
                descriptor,
                incarnation: row.incarnation,
                mark: row.mark,
                sent: row.sent,
                seen_ms: row.seen_ms,
                queued: row.queued,
                queued_bytes: row.queued_bytes,
                unsent: row.unsent,
                passed: row.sent + 1,
                statements: row.statements,
                held: row.held,
                held_bytes: row.held_bytes,
                users: row.users,
                passing: row.passing,
                passing_bytes: row.passing_bytes,
                inbox: row.inbox,
                inbox_bytes: row.inbox_bytes,
                delegation,
                cursor: row.sent + 1,
                // What lies there is not read before it is sent.
                newest: if row.unsent == 0 {
                    Newest::starting_at(row.sent + 1)
                } else {
                    Newest::default()
                },
                ..Peer::default()
            };
            self.numbers.insert(row.number, node);
            self.peers.insert(node, peer);
        }
        self.load_dead_letters(txn)?;
        let pinned = self.settings.pinned.iter().map(|(node, _)| *node);
        let custody = self.settings.custody.iter().map(|terms| terms.node);
        let custody = custody.chain(self.granted.keys().copied());
        let passing = self.settings.gateway_for.iter().map(|terms| terms.node);
        let hops = self.routes.hops().copied().chain(passing);
        let named: Vec<NodeId> =
            pinned.chain(custody).chain(self.custodians.iter().copied()).chain(hops).collect();
        for node in named {
            if node != self.node {
                self.peer_number(&node, txn)?;
            }
        }
        Ok(())
    }

    /// The short number of a node; it gets one when it has none.
    pub(crate) fn peer_number(
        &mut self,
        node: &NodeId,
        txn: &mut dyn Txn,
    ) -> Result<u32, StoreError> {
        if let Some(peer) = self.peers.get(node) {
            return Ok(peer.number);
        }
        let number = self.numbers.last_key_value().map_or(1, |(number, _)| number + 1);
        let newest = Newest::starting_at(1);
        let peer = Peer { number, cursor: 1, passed: 1, newest, ..Peer::default() };
        schema::put(txn, PEERS, node.as_bytes(), &peer.row())?;
        self.numbers.insert(number, *node);
        self.peers.insert(*node, peer);
        Ok(number)
    }

    pub(crate) fn write_peer(
        &mut self,
        node: &NodeId,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        match self.peers.get(node) {
            Some(peer) => schema::put(txn, PEERS, node.as_bytes(), &peer.row()),
            None => Ok(()),
        }
    }

    pub(crate) fn on_peer_connected(
        &mut self,
        link: LinkId,
        transport: Bytes,
        _dialer: bool,
        txn: &dyn Txn,
    ) {
        let Some(descriptor) = self.own.current().map(Descriptor::encode) else {
            self.effects.push_back(Effect::ClosePeer { link });
            return;
        };
        let yours = self
            .peers
            .values()
            .find(|peer| peer.descriptor.as_ref().is_some_and(|(_, d)| d.has_transport(&transport)))
            .and_then(|peer| peer.mark.clone());
        let hello = PeerHello {
            version: limits::PROTOCOL_VERSION,
            descriptor: descriptor.into(),
            incarnation: self.stance.incarnation,
            mine: self.mark(txn),
            yours,
            introductions: self.introductions(),
        };
        self.tell_peer(link, PeerFrame::Hello(hello));
        let (heard_ms, kept_alive_ms) = (self.now_ms, self.now_ms);
        let new = Link { transport, node: None, is_mutual: false, heard_ms, kept_alive_ms };
        self.links.insert(link, new);
    }

    /// Descriptors of the nodes that were heard last, for a peer that may need them.
    fn introductions(&self) -> Vec<Bytes> {
        let mut known: Vec<_> = self
            .peers
            .iter()
            // Also of those that are gone: so others hear of it.
            .filter(|(node, _)| self.may(node, Act::Take) == Verdict::Yes)
            .filter_map(|(_, peer)| peer.descriptor.as_ref().map(|(d, _)| (peer.seen_ms, d)))
            .collect();
        known.sort_by_key(|(seen_ms, _)| core::cmp::Reverse(*seen_ms));
        known.truncate(limits::INTRODUCTIONS_MAX);
        known.into_iter().map(|(_, descriptor)| descriptor.encode().into()).collect()
    }

    pub(crate) fn on_peer_closed(&mut self, link: LinkId) {
        let Some(Link { node, transport, is_mutual, .. }) = self.links.remove(&link) else {
            return;
        };
        self.asked_on.forget(link);
        let Some(node) = node else { return self.on_ungreeted_closed(&transport) };
        let now_ms = self.now_ms;
        if self.peers.get(&node).is_none_or(|peer| peer.link != Some(link)) {
            return;
        }
        for behind in self.sent_through(&node) {
            let unanswered = self.unanswered_of(&behind);
            if let Some(peer) = self.peers.get_mut(&behind) {
                peer.rewind(&unanswered);
            }
        }
        let Some(peer) = self.peers.get_mut(&node) else { return };
        peer.unlink();
        self.restart_offers(&node);
        self.batch.peers.insert(node);
        let Some(peer) = self.peers.get_mut(&node) else { return };
        if is_mutual {
            // A link that worked and broke is tried again soon, not at once: both sides would.
            peer.retry.next_ms = Some(now_ms + 250);
        } else {
            // It greeted and did not want us, or did not do its work.
            let chance = u32::from_be_bytes(self.random());
            if let Some(peer) = self.peers.get_mut(&node) {
                peer.retry.unanswered(now_ms, chance);
            }
            self.hurry_fetches(&node);
        }
    }

    /// Ends a link on which the peer does not do its work. The peer is dialled by a schedule that a
    /// greeting alone does not reset.
    pub(crate) fn give_up_link(&mut self, link: LinkId) {
        if let Some(known) = self.links.get_mut(&link) {
            known.is_mutual = false;
        }
        self.blame_unanswered(link);
        let node = self.links.get(&link).and_then(|link| link.node);
        self.refuse_peer(link, RefusalCode::Busy);
        if let Some(node) = node {
            self.blame(&node, Offence::Timeout);
        }
    }

    /// Ends a link with a reason.
    pub(crate) fn refuse_peer(&mut self, link: LinkId, code: RefusalCode) {
        self.refuse_peer_with(link, code.into());
    }

    /// The same, and says when to come back.
    pub(crate) fn refuse_peer_with(&mut self, link: LinkId, refusal: Refusal) {
        if !self.links.contains_key(&link) {
            return;
        }
        let code = refusal.code;
        self.tell_peer(link, PeerFrame::Farewell(Farewell { refusal }));
        self.effects.push_back(Effect::ClosePeer { link });
        self.observe(Observed::Refused(code));
        self.on_peer_closed(link);
    }

    #[expect(clippy::too_many_lines, reason = "an arm for each frame")]
    pub(crate) fn on_peer(
        &mut self,
        link: LinkId,
        input: PeerInput,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let now_ms = self.now_ms;
        let Some(known) = self.links.get_mut(&link) else { return Ok(()) };
        known.heard_ms = now_ms;
        let node = known.node;
        if let Some(node) = node
            && self.may(&node, Act::Take) != Verdict::Yes
        {
            self.enforce(&node);
            return Ok(());
        }
        if let Some(node) = node
            && self.is_too_fast(link, &node, &input)
        {
            return Ok(());
        }
        let Some(known) = self.links.get_mut(&link) else { return Ok(()) };
        known.is_mutual |= node.is_some() && !matches!(input, PeerInput::Farewell { .. });
        match (node, input) {
            (None, PeerInput::Hello(hello)) => self.on_peer_hello(link, *hello, txn),
            (None, _) | (Some(_), PeerInput::Hello(_)) => {
                self.refuse_peer(link, RefusalCode::Malformed);
                Ok(())
            }
            (Some(_), PeerInput::Deliver(envelope)) => self.on_deliver(link, &envelope, txn),
            (Some(node), PeerInput::Took { answers, mark }) => {
                self.note_peer_mark(&node, mark);
                self.on_took(&node, answers, txn)
            }
            (Some(node), PeerInput::Statements { rows, checked }) => {
                self.on_statements(&node, &checked, txn)?;
                self.batch.statement_rows.entry(link).or_default().extend(rows);
                Ok(())
            }
            (Some(node), PeerInput::StatementsTook { rows, mark }) => {
                self.note_peer_mark(&node, mark);
                self.on_statements_took(&node, &rows, txn)
            }
            (Some(node), PeerInput::Audit { eids }) => self.on_audit(link, &node, &eids, txn),
            (Some(node), PeerInput::AuditAnswer { waiting, unknown }) => {
                self.on_audit_answer(&node, &waiting, &unknown, txn)
            }
            (Some(node), PeerInput::FetchUser(fetch)) => {
                self.on_fetch_user(link, &node, &fetch, txn)
            }
            (Some(node), PeerInput::User(user)) if self.hand_back(&node, &user) => Ok(()),
            (Some(node), PeerInput::User(user)) => self.on_user(&node, *user, txn),
            (Some(node), PeerInput::KeepAlive { mark }) => {
                self.note_peer_mark(&node, mark);
                Ok(())
            }
            (Some(node), PeerInput::Consent(consent)) => self.on_consent(&node, &consent, txn),
            (Some(node), PeerInput::Offer { destination, eids }) => {
                self.on_offer(link, &node, destination, &eids, txn)
            }
            (Some(node), PeerInput::Wanted { destination, refusal, eids, delegation }) => {
                self.hear_delegation(&destination, delegation);
                if self.routes.next_hop(&destination) == Some(node) {
                    return self.on_hop_wants(&destination, refusal.as_ref(), &eids, txn);
                }
                self.on_wanted(&node, &destination, refusal.as_ref(), &eids);
                Ok(())
            }
            (Some(node), PeerInput::Forward(passing)) => {
                self.on_forward(link, &node, &passing, txn)
            }
            (Some(node), PeerInput::FetchFor(fetch)) => self.on_fetch_for(link, &node, fetch, txn),
            (Some(_), PeerInput::NewerListsFor(lists)) => self.on_newer_lists(link, lists, txn),
            (Some(node), PeerInput::Directory(page)) => self.on_directory(link, &node, &page, txn),
            (Some(node), PeerInput::DirectoryWanted(wanted)) => {
                self.on_directory_wanted(link, &node, &wanted, txn)
            }
            (Some(node), PeerInput::DirectoryEntry(entry)) => {
                self.on_directory_entry(&node, *entry, txn)
            }
            (Some(node), PeerInput::Announce(announced)) => {
                if announced.1.node() == node {
                    self.learn(&node, *announced);
                } else {
                    self.blame(&node, Offence::NotItsOwn);
                }
                Ok(())
            }
            (Some(node), PeerInput::Farewell { code, after_ms }) => {
                self.on_farewell(link, &node, code, after_ms);
                Ok(())
            }
        }
    }

    fn on_peer_hello(
        &mut self,
        link: LinkId,
        checked: CheckedHello,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let node = checked.descriptor.1.node();
        let is_proved = self
            .links
            .get(&link)
            .is_some_and(|link| checked.descriptor.1.has_transport(&link.transport));
        if !is_proved || node == self.node {
            if is_proved {
                self.observe(Observed::OwnIdElsewhere);
            }
            self.refuse_peer(link, RefusalCode::NotAuthorised);
            return Ok(());
        }
        let transport =
            self.links.get(&link).map(|link| link.transport.clone()).unwrap_or_default();
        if !self.lets_in(link, &node, &transport) {
            return Ok(());
        }
        // First, since a mark that the other process has left looks like a store that was rolled back.
        let introduced = checked.introductions.iter().map(|(_, introduced)| introduced);
        self.on_own_addresses(introduced, txn)?;
        if !self.check_mark(checked.hello.yours.as_ref(), txn)? {
            return Ok(());
        }
        self.peer_number(&node, txn)?;
        self.learn(&node, checked.descriptor);
        for (descriptor, introduced) in checked.introductions {
            // Only of nodes that we already deal with: strangers may not fill our table.
            if self.peers.contains_key(&introduced.node()) {
                self.learn(&introduced.node(), (descriptor, introduced));
            }
        }
        let now_ms = self.now_ms;
        let through = self.sent_through(&node);
        let older = self.peers.get(&node).and_then(|peer| peer.link);
        if let Some(older) = older.filter(|older| *older != link) {
            self.refuse_peer(older, RefusalCode::Busy);
        }
        if let Some(known) = self.links.get_mut(&link) {
            known.node = Some(node);
        }
        if let Some(peer) = self.peers.get_mut(&node) {
            let is_new_store =
                peer.incarnation.is_some_and(|known| known != checked.hello.incarnation);
            peer.incarnation = Some(checked.hello.incarnation);
            peer.mark = Some(checked.hello.mine);
            peer.seen_ms = now_ms;
            peer.link = Some(link);
            peer.retry.greeted();
            for behind in through {
                if let Some(peer) = self.peers.get_mut(&behind) {
                    peer.paused_until_ms = 0;
                    peer.audits.linked(now_ms, is_new_store, peer.sent);
                    if is_new_store {
                        peer.newest.lost();
                    }
                    self.batch.peers.insert(behind);
                }
            }
            if is_new_store {
                self.observe(Observed::OtherRolledBack);
            }
        }
        self.handing_linked(&node);
        self.batch.peer_rows.insert(node);
        self.batch.peers.insert(node);
        if let Some(frame) = self.tell_consent(&node) {
            self.tell_peer(link, frame);
        }
        self.send_fetches(&node);
        Ok(())
    }

    fn note_peer_mark(&mut self, node: &NodeId, mark: Mark) {
        let now_ms = self.now_ms;
        if let Some(peer) = self.peers.get_mut(node) {
            peer.mark = Some(mark);
            peer.seen_ms = now_ms;
            // Who refuses this node says nothing but its greeting.
            peer.refuses_us = None;
            self.batch.peer_rows.insert(*node);
        }
    }

    /// Keeps a descriptor that is newer than the known one.
    pub(crate) fn learn(&mut self, node: &NodeId, found: (Descriptor, CheckedDescriptor)) {
        let before = self.state_of(node);
        let Some(peer) = self.peers.get_mut(node) else { return };
        let is_newer =
            peer.descriptor.as_ref().is_none_or(|(_, known)| found.1.is_newer_than(known));
        if is_newer {
            peer.descriptor = Some(found);
            self.names.note_news(node);
            self.batch.peer_rows.insert(*node);
            self.notice_state(node, before);
        }
    }
}
