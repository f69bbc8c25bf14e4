//! What must hold of a node after every commit, whatever happened before it. The names are those of
//! ARCHITECTURE.md's table of invariants.

use tidings_core::{
    effect::{Effect, NodeStatus},
    event::ConnId,
    layout::LAYOUT,
    schema::{device_key, lsn_of, submit_key},
};
use tidings_protocol::{
    client_frame::{Deliver, NodeFrame},
    id::{DeviceId, Eid},
    limits, outline,
    peer_frame::PeerFrame,
    statement::Claim,
};
use tidings_store::{Store as _, prefix_end};

use crate::frames::NOW_MS;
use crate::world::{Rows, Told, World};

impl World {
    pub(crate) fn judge(&mut self, before: &Rows, told: &Told) {
        let rows = self.rows();
        self.judge_rows(before, &rows, told);
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                Effect::ToClient { conn, frame, .. } => self.judge_client(conn, &frame, &rows),
                Effect::ToPeer { frame, .. } => judge_peer(&frame, &rows),
                Effect::CloseClient { .. }
                | Effect::ClosePeer { .. }
                | Effect::Dial { .. }
                | Effect::Lookup { .. }
                | Effect::Pin { .. }
                | Effect::Meet { .. }
                | Effect::Bar { .. }
                | Effect::Resolve { .. }
                | Effect::Publish { .. }
                | Effect::AdminReply { .. }
                | Effect::Observed(_)
                | Effect::Step(_) => {}
            }
        }
    }

    /// I14 and I2: nothing that waits goes without a reason.
    fn judge_rows(&self, before: &Rows, rows: &Rows, told: &Told) {
        for (key, row) in &before.inbox {
            let seen = before.seen.get(row.eid.as_bytes());
            let copy = seen.and_then(|seen| seen.copies.get(row.target as usize));
            let is_named = copy.is_some_and(|copy| {
                told.received.iter().any(|(lsn, named)| *lsn == lsn_of(key) && *named == copy.copy)
            });
            let is_over = seen.is_none_or(|seen| seen.expires_ms <= self.now_ms);
            let stays = rows.inbox.contains_key(key);
            assert!(
                stays || is_named || is_over || told.lists,
                "an inbox row went without a reason"
            );
        }
        for (key, row) in &before.out {
            let is_stated = Eid::from_slice(key).is_some_and(|eid| told.stated.contains(&eid));
            let is_over = row.expires_ms <= self.now_ms;
            let stays = rows.out.contains_key(key);
            assert!(stays || is_stated || is_over, "a duty ended without a statement");
        }
        for (key, row) in &before.seen {
            let stays = rows.seen.contains_key(key);
            assert!(stays || row.expires_ms <= self.now_ms, "what was seen was forgotten");
        }
        for key in &before.queued {
            let stays = rows.queued.contains(key) || told.taken.contains(&lsn_of(key));
            // After a month and more, statements that nobody takes are swept.
            let may_be_swept = self.now_ms > NOW_MS + limits::MESSAGE_LIFE_MS_MAX;
            assert!(stays || may_be_swept || told.lists, "a statement went before it was taken");
        }
        for row in rows.inbox.values() {
            assert!(rows.seen.contains_key(row.eid.as_bytes()), "a copy without its envelope");
        }
    }

    fn judge_client(&mut self, conn: ConnId, frame: &NodeFrame, rows: &Rows) {
        let now_ms = self.now_ms;
        let Some(open) = self.conns.get_mut(&conn) else { return };
        match frame {
            NodeFrame::Accepted(accepted) => {
                // I1: what is acknowledged is on the disk.
                let device = DeviceId::of(&self.phones[open.phone].key.public());
                assert!(rows.submits.contains(&submit_key(&device, &accepted.submit)));
                let checked = accepted.proof.check().expect("✓ is a proof");
                assert!(checked.statements.iter().all(|(said, _)| said.claim == Claim::Accepted));
                assert_eq!(checked.root.signer.key, self.settings.operational.public());
            }
            NodeFrame::Deliver(Deliver { inbox, eid, header, .. }) => {
                let device = DeviceId::of(&self.phones[open.phone].key.public());
                let row = rows.inbox.get(&device_key(&device, *inbox));
                assert_eq!(row.map(|row| row.eid), Some(*eid), "pushed, and not in the inbox");
                assert!(header.expires_ms > now_ms, "something expired is handed out");
                open.pushed.insert(*inbox);
                assert!(open.pushed.len() <= limits::CLIENT_WINDOW_ENVELOPES, "over the window");
            }
            NodeFrame::Notes(notes) => {
                assert_eq!(notes.notes.len(), notes.proofs.len());
                for proof in &notes.proofs {
                    let checked = proof.check().expect("a note is a proof");
                    for (said, _) in &checked.statements {
                        // I6: ✓✓ is a device's word.
                        let by_device = checked.root.signer.node.is_none();
                        assert_eq!(said.claim.is_by_device(), by_device);
                    }
                }
            }
            NodeFrame::Challenge(_)
            | NodeFrame::Welcome(_)
            | NodeFrame::Joined(_)
            | NodeFrame::Refused(_)
            | NodeFrame::Bundles(_)
            | NodeFrame::Done(_)
            | NodeFrame::NewerLists(_)
            | NodeFrame::Pong(_)
            | NodeFrame::Resolved(_)
            | NodeFrame::Goaway(_) => {}
        }
    }

    /// A core that is opened on the store says the same of itself as the one that wrote it.
    pub(crate) fn judge_restart(&mut self) {
        let before = self.status();
        let rows = self.rows();
        self.restart();
        let after = self.status();
        assert!(rows == self.rows(), "a restart changes rows");
        let of = |s: &NodeStatus| (s.node, s.accounts, s.queued, s.inbox);
        assert_eq!(of(&before).0, of(&after).0);
        assert_eq!((before.accounts, before.queued), (after.accounts, after.queued));
        self.effects.clear();
    }

    /// Every row that the node wrote looks as `layout.rs` says.
    pub(crate) fn judge_layout(&self) {
        self.store
            .view(&mut |txn| {
                for layout in LAYOUT {
                    let Some(shape) = layout.value else { continue };
                    for (key, value) in txn.range(layout.table, &[], &prefix_end(&[]), 10_000)? {
                        let read = outline::read(shape, &value);
                        assert!(read.is_ok(), "{}: {}", layout.table.name, read.expect_err("why"));
                        let fixed: usize = layout.key.iter().filter_map(|part| part.bytes()).sum();
                        let is_whole = layout.key.iter().all(|part| part.bytes().is_some());
                        assert!(key.len() == fixed || (!is_whole && key.len() >= fixed));
                    }
                }
                Ok(())
            })
            .expect("rows that the node wrote can be read");
    }
}

fn judge_peer(frame: &PeerFrame, rows: &Rows) {
    match frame {
        PeerFrame::Took(took) => {
            for answer in took.answers.iter().filter(|answer| answer.refusal.is_none()) {
                let is_there = rows.seen.contains_key(answer.eid.as_bytes());
                assert!(is_there, "taken, and not on the disk");
            }
        }
        PeerFrame::Deliver(head) => assert!(head.check(0).is_ok()),
        PeerFrame::Forward(forward) => assert!(forward.check(0).is_ok()),
        PeerFrame::Statements(statements) => {
            for proof in &statements.proofs {
                proof.check().expect("a statement is a proof");
            }
        }
        PeerFrame::Hello(_)
        | PeerFrame::StatementsTook(_)
        | PeerFrame::Audit(_)
        | PeerFrame::AuditAnswer(_)
        | PeerFrame::FetchUser(_)
        | PeerFrame::User(_)
        | PeerFrame::Consent(_)
        | PeerFrame::Offer(_)
        | PeerFrame::Wanted(_)
        | PeerFrame::FetchFor(_)
        | PeerFrame::Directory(_)
        | PeerFrame::DirectoryWanted(_)
        | PeerFrame::DirectoryEntry(_)
        | PeerFrame::KeepAlive(_)
        | PeerFrame::Announce(_)
        | PeerFrame::NewerListsFor(_)
        | PeerFrame::Farewell(_) => {}
    }
}
