//! Rules about rows: checked on what each commit of a node changed, against what it had to do.

use std::collections::BTreeSet;

use tidings_core::event::{ClientInput, ConnId, Event, LinkId, PeerInput};
use tidings_core::schema::{
    self, DEVICES, INBOX, InboxRow, NOTES, OUT, OUTBOX, OutRow, OutboxRow, SEEN, STATEMENTS,
    SUBMITS, SeenRow, SubmitRow,
};
use tidings_protocol::{
    id::{CopyId, DeviceId, Eid},
    key::PublicKey,
    peer_frame::Answer,
    refusal::RefusalCode,
    statement::{Claim, Proof},
};
use tidings_store::{Store, StoreError, prefix_end};

use crate::network::Machine;
use crate::oracle::{NodeGhost, Violation, short};
use crate::watch::{Change, WATCHED};
use crate::world::World;

/// What a batch was about.
#[derive(Debug, Default)]
pub struct BatchFacts {
    clock_ms: u64,
    /// Inbox number and copy that a device named, with its connection.
    received: BTreeSet<(u64, u64, CopyId)>,
    /// Rows of statements that a peer named as taken, and of notes that a device did.
    taken: BTreeSet<u64>,
    /// Envelopes that were asked for or that came.
    provoked: Vec<Eid>,
    /// Envelopes that peers sent.
    from_peers: BTreeSet<Eid>,
    /// Links on which a peer greeted.
    greeted: Vec<u64>,
    /// Envelopes of which a statement says that they are on the disk of a destination, and who signed.
    at_dest: BTreeSet<(Eid, [u8; 32])>,
    /// Envelopes that a peer refused because they are sealed to a key that it has replaced.
    stale: BTreeSet<Eid>,
    /// Envelopes that a peer has not.
    unknown: BTreeSet<Eid>,
    /// How full the disk is, in percent, if the shell said so.
    full_percent: Option<u64>,
}

impl BatchFacts {
    /// Of these events, by the node's clock.
    #[must_use]
    pub fn of(events: &[Event], clock_ms: u64) -> Self {
        let mut facts = Self { clock_ms, ..Self::default() };
        for event in events {
            match event {
                Event::Client {
                    conn: ConnId(conn),
                    input: ClientInput::Received { items, .. },
                } => {
                    facts.received.extend(items.iter().map(|(lsn, copy)| (*conn, *lsn, *copy)));
                }
                Event::Client { input: ClientInput::Noted { notes }, .. } => {
                    facts.taken.extend(notes);
                }
                Event::Peer { input: PeerInput::StatementsTook { rows, .. }, .. } => {
                    facts.taken.extend(rows);
                }
                Event::Peer { input: PeerInput::Audit { eids }, .. } => {
                    facts.provoked.extend(eids);
                }
                Event::Peer { input: PeerInput::Deliver(envelope), .. } => {
                    facts.provoked.push(envelope.eid);
                    facts.from_peers.insert(envelope.eid);
                }
                Event::Peer { input: PeerInput::Forward(forward), .. } => {
                    facts.provoked.push(forward.eid);
                    facts.from_peers.insert(forward.eid);
                }
                Event::Peer { input: PeerInput::Statements { checked, .. }, .. } => {
                    let all = checked.iter().flat_map(|checked| {
                        checked.statements.iter().map(|(said, _)| (said, checked.root.signer.key))
                    });
                    for (said, key) in all {
                        facts.provoked.push(said.eid);
                        if said.claim == Claim::AtDest {
                            facts.at_dest.insert((said.eid, key.0));
                        }
                    }
                }
                Event::Peer { input: PeerInput::Took { answers, .. }, .. } => {
                    let is_stale = |answer: &&Answer| {
                        let code = answer.refusal.as_ref().map(|refusal| refusal.code);
                        code.is_some_and(is_given_back)
                    };
                    facts.stale.extend(answers.iter().filter(is_stale).map(|answer| answer.eid));
                }
                Event::Peer {
                    input:
                        PeerInput::AuditAnswer { unknown: eids, .. } | PeerInput::Wanted { eids, .. },
                    ..
                } => {
                    facts.unknown.extend(eids);
                }
                Event::Peer { link: LinkId(link), input: PeerInput::Hello(_) } => {
                    facts.greeted.push(*link);
                }
                Event::Disk { free, size } => {
                    let used = size.saturating_sub(*free) * 100;
                    facts.full_percent = Some(used.checked_div(*size).unwrap_or(0));
                }
                _ => {}
            }
        }
        facts
    }

    /// The node's clock, in Unix ms.
    #[must_use]
    pub const fn clock_ms(&self) -> u64 {
        self.clock_ms
    }

    /// How full the disk is since this batch, in percent; absent when the batch does not say.
    #[must_use]
    pub const fn full_percent(&self) -> Option<u64> {
        self.full_percent
    }

    /// Whether a statement says that this envelope is on a destination's disk, signed by this key.
    pub(super) fn is_at_dest(&self, eid: &Eid, key: &PublicKey) -> bool {
        self.at_dest.contains(&(*eid, key.0))
    }

    /// Whether a peer could not open this envelope any more.
    pub(super) fn is_stale(&self, eid: &Eid) -> bool {
        self.stale.contains(eid)
    }

    /// Whether a peer sent this envelope.
    #[must_use]
    pub fn came_from_peer(&self, eid: &Eid) -> bool {
        self.from_peers.contains(eid)
    }
}

impl World {
    /// A commit of a node holds: checks what it changed, then remembers it.
    pub fn node_committed(
        &mut self,
        node: usize,
        facts: &BatchFacts,
        changes: Vec<Change>,
    ) -> Result<(), Violation> {
        for eid in &facts.provoked {
            *self.oracle.nodes[node].provoked.entry(*eid).or_default() += 1;
        }
        for (conn, lsn, _) in &facts.received {
            if let Some(pushed) = self.oracle.pushed.get_mut(conn) {
                pushed.remove(lsn);
            }
        }
        self.oracle.peers_greeted.extend(facts.greeted.iter().map(|link| (*link, node)));
        self.note_node_words(node, &changes)?;
        self.i3_all_or_none(node, &changes)?;
        self.i5_nothing_is_made_up(node, &changes)?;
        self.i14_inbox_rows_stay(node, facts, &changes)?;
        self.i14_statements_stay(facts, &changes)?;
        self.i9_one_outbox_set(node, &changes)?;
        self.i16_seen_rows_stay(node, facts, &changes)?;
        self.i17_nothing_is_dropped_early(node, facts, &changes)?;
        self.i23_statements_beget_none(node, &changes)?;
        self.i24_only_those_who_may_end_a_copy(node, facts, &changes)?;
        self.i30_nothing_from_the_future(node, facts, &changes)?;
        self.i31_full_nodes_take_nothing(node, facts, &changes)?;
        let ghost = &mut self.oracle.nodes[node];
        for change in changes.iter().filter(|change| change.table == OUT) {
            let Some(eid) = Eid::from_slice(&change.key) else { continue };
            let is_held = ghost.out.get(&eid).is_some_and(|row| row.account.is_none());
            if change.value.is_some() {
                ghost.let_go.remove(&eid);
            } else if is_held {
                ghost.let_go.insert(eid);
            }
        }
        for change in changes {
            let applied = apply(&mut self.oracle.nodes[node], &change);
            applied.map_err(|error| self.violated("rows", error.to_string()))?;
        }
        self.i19_inboxes_are_bounded(node)
    }

    /// Reads what is durable at a node anew, as it has just started.
    pub fn reload_ghost(&mut self, node: usize) -> Result<(), Violation> {
        let Some(process) = &self.nodes[node].process else { return Ok(()) };
        let old = std::mem::take(&mut self.oracle.nodes[node]);
        let (queued, provoked, ever_out) = (old.queued, old.provoked, old.ever_out);
        let mut ghost =
            NodeGhost { restored: old.restored, provoked, ever_out, ..NodeGhost::default() };
        let read = read_ghost(process.store.as_ref(), &mut ghost);
        // A commit in doubt may have held, and may have let go as well.
        let held = old.out.iter().filter(|(_, row)| row.account.is_none()).map(|(eid, _)| *eid);
        let let_go = old.let_go.into_iter().chain(held);
        ghost.let_go = let_go.filter(|eid| !ghost.out.contains_key(eid)).collect();
        let said = statement_rows(process.store.as_ref());
        ghost.queued = queued;
        self.oracle.nodes[node] = ghost;
        self.i26_node_owes(node);
        self.i21_node_starts(node)?;
        read.map_err(|error| self.violated("rows", error.to_string()))?;
        // A commit in doubt may have held, with what the node said in it.
        let said = said.map_err(|error| self.violated("rows", error.to_string()))?;
        self.note_node_words(node, &said)
    }

    /// Ends that a node states itself about envelopes that are for its own users.
    fn note_node_words(&mut self, node: usize, changes: &[Change]) -> Result<(), Violation> {
        for change in changes.iter().filter(|c| c.table == STATEMENTS || c.table == NOTES) {
            let Some(value) = &change.value else { continue };
            for (root_node, statement) in self.statements_of(value)? {
                let sent = self.oracle.sent.get(&statement.eid);
                let is_its_own = sent.is_some_and(|s| s.destination == self.nodes[node].id);
                let is_its_word = root_node == Some(self.nodes[node].id);
                if statement.claim.is_terminal() && is_its_word && is_its_own {
                    let about = (statement.eid, statement.copy);
                    self.oracle.node_words.insert(about, statement.claim);
                }
            }
        }
        Ok(())
    }

    fn statements_of(
        &self,
        row: &[u8],
    ) -> Result<
        Vec<(Option<tidings_protocol::id::NodeId>, tidings_protocol::statement::Statement)>,
        Violation,
    > {
        let broken = |what: String| self.violated("rows", what);
        let proof: Proof = schema::decode(row).map_err(|error| broken(error.to_string()))?;
        let root: tidings_protocol::statement::BatchRoot =
            tidings_protocol::codec::decode(&proof.root).map_err(|e| broken(e.to_string()))?;
        let mut statements = Vec::new();
        for leaf in &proof.leaves {
            let statement = tidings_protocol::codec::decode(&leaf.statement)
                .map_err(|error| broken(error.to_string()))?;
            statements.push((root.signer.node, statement));
        }
        Ok(statements)
    }

    /// I3: a submission is durable together with a row for each of its envelopes, or not at all.
    /// Checked on each commit that writes a row of `SUBMITS`. Not checked: rows within an envelope.
    fn i3_all_or_none(&self, node: usize, changes: &[Change]) -> Result<(), Violation> {
        for change in changes.iter().filter(|change| change.table == SUBMITS) {
            let Some(value) = &change.value else { continue };
            let row: SubmitRow =
                schema::decode(value).map_err(|error| self.violated("rows", error.to_string()))?;
            for eid in row.eids {
                let put = changes.iter().any(|other| {
                    (other.table == OUT || other.table == SEEN)
                        && other.key == eid.as_bytes()
                        && other.value.is_some()
                });
                if !put && !self.knows(node, &eid) {
                    let what = format!("a submission lacks its envelope {}", short(&eid.0));
                    return Err(self.violated("I3", what));
                }
            }
        }
        Ok(())
    }

    /// Whether an envelope stands in the durable tables of a node.
    #[must_use]
    pub fn knows(&self, node: usize, eid: &Eid) -> bool {
        let ghost = &self.oracle.nodes[node];
        ghost.out.contains_key(eid) || ghost.seen.contains_key(eid)
    }

    /// I14: an inbox row disappears only by a word of its device that names its number and copy, by
    /// expiry, or with its device. Checked on each delete of a row of `INBOX`.
    fn i14_inbox_rows_stay(
        &self,
        node: usize,
        facts: &BatchFacts,
        changes: &[Change],
    ) -> Result<(), Violation> {
        let ghost = &self.oracle.nodes[node];
        for change in changes.iter().filter(|c| c.table == INBOX && c.value.is_none()) {
            let Some(eid) = ghost.inbox.get(&change.key) else { continue };
            let lsn = schema::lsn_of(&change.key);
            let device = change.key.get(..16).unwrap_or_default();
            let seen = ghost.seen.get(eid);
            let copy = seen.and_then(|seen| {
                let is_its = |d: &DeviceId| d.as_bytes() == device;
                seen.copies.iter().find(|copy| copy.device.as_ref().is_some_and(is_its))
            });
            let named = copy.is_some_and(|copy| {
                facts.received.iter().any(|(_, at, named)| *at == lsn && *named == copy.copy)
            });
            let expired = seen.is_some_and(|seen| seen.expires_ms <= facts.clock_ms);
            let removed =
                changes.iter().any(|c| c.table == DEVICES && c.key == device && c.value.is_none());
            if !named && !expired && !removed {
                let name = self.name(Machine::Node(node));
                let what =
                    format!("{name} dropped {} from an inbox without a reason", short(&eid.0));
                return Err(self.violated("I14", what));
            }
        }
        Ok(())
    }

    /// I14, for what goes back: a statement or note disappears only when its receiver named its row,
    /// or with its device. Checked on each delete of a row of `STATEMENTS` and `NOTES`. Worlds are
    /// too short for the sweep of old statements.
    fn i14_statements_stay(&self, facts: &BatchFacts, changes: &[Change]) -> Result<(), Violation> {
        let removed = changes.iter().any(|c| c.table == DEVICES && c.value.is_none());
        for change in changes.iter().filter(|c| c.table == STATEMENTS || c.table == NOTES) {
            let lsn = schema::lsn_of(&change.key);
            if change.value.is_none() && !facts.taken.contains(&lsn) && !removed {
                let what = format!("row {lsn} of {} went before it was taken", change.table.name);
                return Err(self.violated("I14", what));
            }
        }
        Ok(())
    }

    /// I9: however often a submission comes, its envelopes enter the outbox once. Checked on each new
    /// row of `OUT`; a node that was put back to an older image has forgotten, and is passed over.
    fn i9_one_outbox_set(&mut self, node: usize, changes: &[Change]) -> Result<(), Violation> {
        for change in changes.iter().filter(|c| c.table == OUT && c.value.is_some()) {
            let Some(eid) = Eid::from_slice(&change.key) else { continue };
            let row: Option<OutRow> =
                change.value.as_deref().and_then(|value| schema::decode(value).ok());
            // A custodian may be handed again what it has passed on.
            if row.is_none_or(|row| row.account.is_none()) {
                continue;
            }
            let ghost = &mut self.oracle.nodes[node];
            let is_new = !ghost.out.contains_key(&eid);
            if is_new && !ghost.ever_out.insert(eid) && !ghost.restored {
                let what = format!("{} entered an outbox twice", short(&eid.0));
                return Err(self.violated("I9", what));
            }
        }
        Ok(())
    }

    /// I16: what a node has seen it remembers until the envelope expires. Checked on each delete of
    /// a row of `SEEN`.
    fn i16_seen_rows_stay(
        &self,
        node: usize,
        facts: &BatchFacts,
        changes: &[Change],
    ) -> Result<(), Violation> {
        for change in changes.iter().filter(|c| c.table == SEEN && c.value.is_none()) {
            let Some(eid) = Eid::from_slice(&change.key) else { continue };
            let seen = self.oracle.nodes[node].seen.get(&eid);
            if seen.is_some_and(|seen| seen.expires_ms > facts.clock_ms) {
                let what = format!("{} was forgotten before it expired", short(&eid.0));
                return Err(self.violated("I16", what));
            }
        }
        Ok(())
    }

    /// I17: an envelope leaves the outbox only when every copy was ended by who may end it, or when
    /// it has expired. A custodian's copy may go as well when the destination says that it has it, or
    /// that it cannot open it any more. Checked on each delete of a row of `OUT` or `OUTBOX`. Not checked: the dead
    /// letter's fields.
    fn i17_nothing_is_dropped_early(
        &self,
        node: usize,
        facts: &BatchFacts,
        changes: &[Change],
    ) -> Result<(), Violation> {
        let ghost = &self.oracle.nodes[node];
        for change in changes.iter().filter(|change| change.value.is_none()) {
            let eid = if change.table == OUT {
                Eid::from_slice(&change.key)
            } else if change.table == OUTBOX {
                ghost.outbox.get(&change.key).copied()
            } else {
                None
            };
            let Some(eid) = eid else { continue };
            let Some(row) = ghost.out.get(&eid) else { continue };
            let ended = |copy: &schema::OutCopy| self.is_copy_over(&eid, row, copy);
            // What was let go is but a way back: a destination that was put back knows it no more.
            let is_way = change.table == OUT && row.let_go.is_some();
            let may_go = row.account.is_none() && (is_way || self.may_let_go(facts, &eid));
            if row.expires_ms > facts.clock_ms && !may_go && !row.copies.iter().all(ended) {
                let name = self.name(Machine::Node(node));
                let what = format!("{name} dropped {} before its end is proved", short(&eid.0));
                return Err(self.violated("I17", what));
            }
        }
        Ok(())
    }

    /// I19: no inbox holds more rows than its quota. Checked after each commit. Not checked: bytes.
    fn i19_inboxes_are_bounded(&self, node: usize) -> Result<(), Violation> {
        let max = self.options.device_rows_max;
        let ghost = &self.oracle.nodes[node];
        if (ghost.inbox.len() as u64) <= max {
            return Ok(());
        }
        for device in &ghost.devices {
            let rows = ghost.inbox.range(device.clone()..prefix_end(device)).count() as u64;
            // The last envelope may have been admitted just below the quota.
            if rows > max {
                return Err(self.violated("I19", format!("an inbox holds {rows} rows of {max}")));
            }
        }
        Ok(())
    }

    /// I23: statements beget no statements. Each statement is queued for each receiver at most once,
    /// and once more each time that somebody asks for the envelope, sends it, or states something
    /// about it. Checked on each row of `STATEMENTS` and `NOTES`.
    fn i23_statements_beget_none(
        &mut self,
        node: usize,
        changes: &[Change],
    ) -> Result<(), Violation> {
        for change in changes.iter().filter(|c| c.table == STATEMENTS || c.table == NOTES) {
            let Some(value) = &change.value else { continue };
            let prefix = change.key.len().saturating_sub(8);
            let receiver = change.key.get(..prefix).unwrap_or_default().to_vec();
            for (_, statement) in self.statements_of(value)? {
                let key = [
                    receiver.as_slice(),
                    &[statement.claim.code()],
                    statement.eid.as_bytes(),
                    statement.copy.as_ref().map_or(&[][..], |copy| copy.as_bytes()),
                ]
                .concat();
                let ghost = &mut self.oracle.nodes[node];
                let queued = ghost.queued.entry(key).or_default();
                *queued += 1;
                // A restore takes rows and reasons back; its repeats are bounded by the audits.
                let provoked = ghost.provoked.get(&statement.eid).copied().unwrap_or_default();
                if *queued > provoked + 1 && !ghost.restored {
                    let what = format!("{:?} was stated {queued} times", statement.claim);
                    return Err(self.violated("I23", what));
                }
            }
        }
        Ok(())
    }

    /// I24: a copy is marked as ended at its origin only when its own device signed that, or the
    /// destination's node stated it. Checked on each change of a row of `OUT`, against what devices
    /// and nodes really signed.
    fn i24_only_those_who_may_end_a_copy(
        &self,
        node: usize,
        facts: &BatchFacts,
        changes: &[Change],
    ) -> Result<(), Violation> {
        for change in changes.iter().filter(|change| change.table == OUT) {
            let (Some(eid), Some(value)) = (Eid::from_slice(&change.key), &change.value) else {
                continue;
            };
            let row: OutRow =
                schema::decode(value).map_err(|error| self.violated("rows", error.to_string()))?;
            for copy in row.copies.iter().filter(|copy| copy.done.is_some()) {
                let expired = row.expires_ms <= facts.clock_ms;
                if !expired && !self.is_copy_over(&eid, &row, copy) {
                    let name = self.name(Machine::Node(node));
                    let done = copy.done.unwrap_or(Claim::Accepted);
                    let what = format!("{name} believes {done:?} of {}", short(&eid.0));
                    return Err(self.violated("I24", what));
                }
            }
        }
        Ok(())
    }
}

/// Why a node that holds an envelope for another one lets it go: its origin has it, and hands it over
/// again.
const fn is_given_back(code: RefusalCode) -> bool {
    matches!(
        code,
        RefusalCode::StaleKey | RefusalCode::Malformed | RefusalCode::Loop | RefusalCode::HopLimit
    )
}

fn apply(ghost: &mut NodeGhost, change: &Change) -> Result<(), StoreError> {
    let Change { table, key, value } = change;
    let eid = || Eid::from_slice(key).ok_or_else(|| StoreError::corrupt("the key of an envelope"));
    match value {
        Some(value) if *table == OUT => {
            ghost.out.insert(eid()?, schema::decode(value)?);
        }
        Some(value) if *table == OUTBOX => {
            ghost.outbox.insert(key.clone(), schema::decode::<OutboxRow>(value)?.eid);
        }
        Some(value) if *table == INBOX => {
            ghost.inbox.insert(key.clone(), schema::decode::<InboxRow>(value)?.eid);
        }
        Some(value) if *table == SEEN => {
            ghost.seen.insert(eid()?, schema::decode::<SeenRow>(value)?);
        }
        Some(_) if *table == STATEMENTS => {
            ghost.statements.insert(key.clone());
        }
        Some(_) if *table == NOTES => {
            ghost.notes.insert(key.clone());
        }
        Some(_) if *table == SUBMITS => {
            ghost.submits.insert(key.clone());
        }
        Some(_) if *table == DEVICES => {
            ghost.devices.insert(key.clone());
        }
        Some(_) => {}
        None if *table == OUT => {
            ghost.out.remove(&eid()?);
        }
        None if *table == OUTBOX => {
            ghost.outbox.remove(key);
        }
        None if *table == INBOX => {
            ghost.inbox.remove(key);
        }
        None if *table == SEEN => {
            ghost.seen.remove(&eid()?);
        }
        None if *table == STATEMENTS => {
            ghost.statements.remove(key);
        }
        None if *table == NOTES => {
            ghost.notes.remove(key);
        }
        None if *table == SUBMITS => {
            ghost.submits.remove(key);
        }
        None if *table == DEVICES => {
            ghost.devices.remove(key);
        }
        None => {}
    }
    Ok(())
}

/// Every statement that a node keeps for somebody.
fn statement_rows(store: &dyn Store) -> Result<Vec<Change>, StoreError> {
    let mut found = Vec::new();
    store.view(&mut |txn| {
        for table in [STATEMENTS, NOTES] {
            let rows = txn.range(table, &[], &prefix_end(&[]), usize::MAX)?;
            found.extend(rows.into_iter().map(|(key, value)| Change {
                table,
                key,
                value: Some(value),
            }));
        }
        Ok(())
    })?;
    Ok(found)
}

fn read_ghost(store: &dyn Store, ghost: &mut NodeGhost) -> Result<(), StoreError> {
    store.view(&mut |txn| {
        for table in WATCHED {
            for (key, value) in txn.range(table, &[], &prefix_end(&[]), usize::MAX)? {
                apply(ghost, &Change { table, key, value: Some(value) })?;
            }
        }
        Ok(())
    })
}
