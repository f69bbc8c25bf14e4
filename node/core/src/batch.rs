//! What one batch gathers and does once at its end: sign statements, answer peers, push to devices
//! and peers that something changed for. Decides nothing.

use std::collections::{BTreeMap, BTreeSet};

use tidings_protocol::{
    client_frame::{Accepted, NodeFrame},
    hello::Mark,
    id::{AccountId, DeviceId, NodeId, SubmitId},
    limits,
    peer_frame::{Answer, PeerFrame, StatementsTook, Took},
    statement::{Proof, Statement},
};
use tidings_store::{StoreError, Txn};

use crate::{
    Core,
    effect::Effect,
    event::{ConnId, LinkId},
    outbox::Unsealed,
    schema::{self, NOTES, STATEMENTS, device_key, peer_key},
};

/// Gathered by the handlers of one batch.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Rows written in this batch that took an lsn.
    rows: u64,
    /// ✓ for each connection, submission by submission.
    pub(crate) accepted: BTreeMap<ConnId, Vec<(SubmitId, Vec<Statement>)>>,
    /// Hop acknowledgements for each link.
    pub(crate) answers: BTreeMap<LinkId, Vec<Answer>>,
    /// Rows of statements that a peer sent and that are on disk now.
    pub(crate) statement_rows: BTreeMap<LinkId, Vec<u64>>,
    /// Own statements for each peer.
    pub(crate) for_peer: BTreeMap<NodeId, Vec<Statement>>,
    /// Own statements for each account here.
    pub(crate) for_account: BTreeMap<AccountId, Vec<Statement>>,
    /// Proofs on their way to each peer.
    proofs_for_peer: BTreeMap<NodeId, Vec<Proof>>,
    /// Proofs on their way to the devices of each account here.
    proofs_for_account: BTreeMap<AccountId, Vec<Proof>>,
    /// The newest mark of each device's store that says more than its submissions.
    pub(crate) marks: BTreeMap<DeviceId, Mark>,
    /// Devices for which something may wait.
    pub(crate) devices: BTreeSet<DeviceId>,
    /// Peers for which something may wait.
    pub(crate) peers: BTreeSet<NodeId>,
    /// Own envelopes for peers that are reached through others, until they are sealed.
    pub(crate) to_seal: BTreeMap<NodeId, Vec<Unsealed>>,
    /// Peers whose row must be written.
    pub(crate) peer_rows: BTreeSet<NodeId>,
    /// Nodes whose policy must be written.
    pub(crate) policy_rows: BTreeSet<NodeId>,
}

/// Submissions under one signed root.
const SUBMISSIONS_PER_TREE: usize =
    limits::STATEMENTS_PER_BATCH_MAX / limits::ENVELOPES_PER_SUBMIT_MAX;
/// Rows of statements in one answer: a number takes nine bytes at most, and a peer may name as many as
/// a frame holds, in several frames.
const ROWS_PER_ANSWER: usize = 4_096;
/// Batches are far below 2^20 rows; commit numbers take the other 44 bits.
const LSN_BATCH_BITS: u32 = 20;

impl Core {
    /// A number for a row that is written in this batch; grows with time.
    pub(crate) fn next_lsn(&mut self, txn: &dyn Txn) -> u64 {
        self.batch.rows += 1;
        (txn.commit_number() << LSN_BATCH_BITS) | self.batch.rows
    }

    /// Ends a batch: signs its statements, writes their rows, reads what can be sent. Always the
    /// last call before the commit.
    ///
    /// # Errors
    /// From the store; the process must end.
    pub fn finish(&mut self, now_ms: u64, txn: &mut dyn Txn) -> Result<(), StoreError> {
        self.now_ms = now_ms;
        self.step_partings(txn)?;
        self.finish_accepted(txn);
        self.finish_own_statements();
        self.write_proofs(txn)?;
        self.finish_answers(txn);
        for (device, mark) in core::mem::take(&mut self.batch.marks) {
            self.write_mark(&device, mark, txn)?;
        }
        for device in core::mem::take(&mut self.batch.devices) {
            self.pump_device(&device, txn)?;
        }
        let peers = core::mem::take(&mut self.batch.peers);
        self.pump_peers(peers, txn)?;
        for node in core::mem::take(&mut self.batch.peer_rows) {
            self.write_peer(&node, txn)?;
        }
        for node in core::mem::take(&mut self.batch.policy_rows) {
            self.write_policy(&node, txn)?;
        }
        self.batch.rows = 0;
        Ok(())
    }

    fn finish_accepted(&mut self, txn: &dyn Txn) {
        for (conn, submissions) in core::mem::take(&mut self.batch.accepted) {
            // A tree has a largest size; whole submissions go into one tree.
            for chunk in submissions.chunks(SUBMISSIONS_PER_TREE) {
                self.sign_accepted(conn, chunk, txn);
            }
        }
    }

    fn sign_accepted(
        &mut self,
        conn: ConnId,
        submissions: &[(SubmitId, Vec<Statement>)],
        txn: &dyn Txn,
    ) {
        let all: Vec<Statement> =
            submissions.iter().flat_map(|(_, statements)| statements.clone()).collect();
        let Some(proof) = self.sign(&all) else { return };
        let mark = self.mark(txn);
        let mut leaves = proof.leaves.into_iter();
        for (submit, statements) in submissions {
            let proof = Proof {
                root: proof.root.clone(),
                signature: proof.signature,
                leaves: leaves.by_ref().take(statements.len()).collect(),
            };
            let frame =
                NodeFrame::Accepted(Accepted { submit: *submit, proof, mark: mark.clone() });
            self.tell_client(conn, frame);
        }
    }

    fn finish_own_statements(&mut self) {
        for (node, statements) in core::mem::take(&mut self.batch.for_peer) {
            for chunk in statements.chunks(limits::STATEMENTS_PER_BATCH_MAX) {
                if let Some(proof) = self.sign(chunk) {
                    self.put_statement(&node, proof);
                }
            }
        }
        for (account, statements) in core::mem::take(&mut self.batch.for_account) {
            for chunk in statements.chunks(limits::STATEMENTS_PER_BATCH_MAX) {
                if let Some(proof) = self.sign(chunk) {
                    self.put_note(account, proof);
                }
            }
        }
    }

    /// Writes what goes back: one row for statements that share a root and a receiver.
    fn write_proofs(&mut self, txn: &mut dyn Txn) -> Result<(), StoreError> {
        for (node, proofs) in core::mem::take(&mut self.batch.proofs_for_peer) {
            let number = self.peer_number(&node, txn)?;
            let rows = rows_of(proofs);
            for proof in &rows {
                let lsn = self.next_lsn(txn);
                schema::put(txn, STATEMENTS, &peer_key(number, lsn), proof)?;
            }
            if let Some(peer) = self.peers.get_mut(&node) {
                peer.statements += rows.len() as u64;
            }
            self.batch.peer_rows.insert(node);
            self.batch.peers.insert(node);
        }
        for (account, proofs) in core::mem::take(&mut self.batch.proofs_for_account) {
            let rows = rows_of(proofs);
            for device in self.devices_of(&account, txn)? {
                for proof in &rows {
                    let lsn = self.next_lsn(txn);
                    schema::put(txn, NOTES, &device_key(&device, lsn), proof)?;
                }
                self.batch.devices.insert(device);
            }
        }
        Ok(())
    }

    fn finish_answers(&mut self, txn: &dyn Txn) {
        for (link, mut answers) in core::mem::take(&mut self.batch.answers) {
            // It may have ended behind what it is answered for.
            if !self.links.contains_key(&link) {
                continue;
            }
            let mark = self.mark(txn);
            while !answers.is_empty() {
                let mut rest = split_answers(&mut answers);
                core::mem::swap(&mut rest, &mut answers);
                let frame = PeerFrame::Took(Took { answers: rest, mark: mark.clone() });
                self.tell_peer(link, frame);
            }
        }
        for (link, rows) in core::mem::take(&mut self.batch.statement_rows) {
            if !self.links.contains_key(&link) {
                continue;
            }
            let mark = self.mark(txn);
            for rows in rows.chunks(ROWS_PER_ANSWER) {
                let took = StatementsTook { rows: rows.to_vec(), mark: mark.clone() };
                self.tell_peer(link, PeerFrame::StatementsTook(took));
            }
        }
    }

    /// Signs statements as one tree; `None` for none.
    pub(crate) fn sign(&mut self, statements: &[Statement]) -> Option<Proof> {
        if statements.is_empty() {
            return None;
        }
        let salt_seed = self.random();
        Proof::sign(statements, &self.stance, &salt_seed, &self.settings.operational)
    }

    /// Queues a proof for a peer; its row is written at the end of the batch.
    pub(crate) fn put_statement(&mut self, node: &NodeId, proof: Proof) {
        self.batch.proofs_for_peer.entry(*node).or_default().push(proof);
    }

    /// Queues a proof for every device of an account; its rows are written at the end of the batch.
    pub(crate) fn put_note(&mut self, account: AccountId, proof: Proof) {
        self.batch.proofs_for_account.entry(account).or_default().push(proof);
    }

    pub(crate) fn tell_client(&mut self, conn: ConnId, frame: NodeFrame) {
        self.effects.push_back(Effect::ToClient { conn, frame, body: bytes::Bytes::new() });
    }

    pub(crate) fn tell_peer(&mut self, link: LinkId, frame: PeerFrame) {
        self.effects.push_back(Effect::ToPeer { link, frame, body: bytes::Bytes::new() });
    }
}

/// Proofs with the same root together, and in each no more statements than a frame takes.
fn rows_of(proofs: Vec<Proof>) -> Vec<Proof> {
    let merged = Proof::merge(proofs).into_iter();
    merged
        .flat_map(|Proof { root, signature, mut leaves }| {
            let mut rows = Vec::new();
            while !leaves.is_empty() {
                let rest = leaves.split_off(leaves.len().min(limits::STATEMENTS_PER_FRAME_MAX));
                rows.push(Proof { root: root.clone(), signature, leaves });
                leaves = rest;
            }
            rows
        })
        .collect()
}

/// Keeps as many answers as fit into a frame and returns the others. An answer takes 40 bytes, and
/// more only when it carries device lists.
fn split_answers(answers: &mut Vec<Answer>) -> Vec<Answer> {
    let mut bytes = 0;
    let fit = answers
        .iter()
        .take_while(|answer| {
            let lists: usize = answer.lists.iter().map(|l| l.signed_bytes().len() + 80).sum();
            bytes += 64 + lists;
            bytes < 48 * 1024
        })
        .count();
    answers.split_off(fit.max(1))
}
