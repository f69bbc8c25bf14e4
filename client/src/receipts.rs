//! Statements that come back, and read marks in both directions. Receipts beget no receipts.

use tidings_protocol::{
    client_frame::{ClientFrame, Noted, Notes},
    envelope::Class,
    id::{MsgId, hash},
    limits::{MESSAGE_LIFE_MS_MAX, STATEMENTS_PER_FRAME_MAX},
    statement::{Claim, Proof, Statement},
};
use tidings_store::{StoreError, Txn};

use crate::{
    account::draw,
    content_in::Arrived,
    crypto::Sealer,
    event::{ClientEffect, MessageRef, Warning},
    machine::ClientCore,
    rows::{MessageKey, MessageRow, PeerKey, Work},
    schema::{MESSAGES, ORPHANS, UNREAD},
    status::Applied,
};

impl<S: Sealer> ClientCore<S> {
    pub(crate) fn on_notes(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        notes: &Notes,
    ) -> Result<(), StoreError> {
        self.keep_delegations(txn, now_ms, notes)?;
        for proof in &notes.proofs {
            self.take_proof(txn, now_ms, proof)?;
        }
        // Bad ones too: they would only come again.
        let mine = self.own_mark(txn);
        self.tell_node(ClientFrame::Noted(Noted { notes: notes.notes.clone(), mine }));
        Ok(())
    }

    /// Takes the statements of one proof, each for itself.
    pub(crate) fn take_proof(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        proof: &Proof,
    ) -> Result<(), StoreError> {
        let Ok(checked) = proof.check() else {
            self.bad_statement(None);
            return Ok(());
        };
        for (statement, alone) in &checked.statements {
            // Read marks travel inside the encryption only.
            if statement.claim == Claim::Read {
                self.bad_statement(Some(Claim::Read));
                continue;
            }
            match self.apply_statement(txn, statement, alone, &checked.root)? {
                Applied::Yes if statement.claim == Claim::Undecryptable => {
                    if let Some(copy) = statement.copy {
                        self.replace_copy(txn, now_ms, copy, true)?;
                    }
                }
                Applied::Yes if statement.claim == Claim::Failed => {
                    self.look_up_again(txn, statement)?;
                }
                Applied::Yes => {}
                Applied::No => self.bad_statement(Some(statement.claim)),
                Applied::Unknown => {
                    // Perhaps another own device has sent it, and its copy for us is on its way.
                    let digest = hash("orphan", &[&alone.root, &alone.signature.0]);
                    let key = [statement.eid.0.as_slice(), &digest.0].concat();
                    self.put(txn, ORPHANS, &key, alone)?;
                }
            }
        }
        Ok(())
    }

    fn bad_statement(&mut self, claim: Option<Claim>) {
        self.counters.bad_statements += 1;
        self.warn(Warning::BadStatement(claim));
    }

    /// The person saw messages: their writers learn it, if that is wanted, and the own devices do.
    pub(crate) fn on_displayed(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        messages: &[MessageRef],
    ) -> Result<(), StoreError> {
        let mut by_peer: std::collections::BTreeMap<PeerKey, Vec<(MsgId, Statement)>> =
            std::collections::BTreeMap::new();
        let at_ms = self.node_time(now_ms);
        for message in messages.iter().filter(|message| !message.mine) {
            let peer = self.vault.peer(&message.peer);
            let key = MessageKey { peer, msg: message.msg, mine: false };
            let Some(mut row) = self.get::<MessageRow>(txn, MESSAGES, &key.bytes())? else {
                continue;
            };
            let Some((eid, copy)) = row.received.filter(|_| !row.displayed) else { continue };
            row.displayed = true;
            self.put(txn, MESSAGES, &key.bytes(), &row)?;
            txn.delete(UNREAD, &key.bytes())?;
            let statement = Statement {
                claim: Claim::Read,
                eid,
                copy: Some(copy),
                at_ms,
                reason: None,
                until_ms: None,
            };
            by_peer.entry(peer).or_default().push((message.msg, statement));
        }
        let to_peer = self.settings.read_receipts;
        if !to_peer && self.own_list.list.devices.len() < 2 {
            return Ok(());
        }
        let stance = self.stance();
        for (peer, marks) in by_peer {
            for marks in marks.chunks(STATEMENTS_PER_FRAME_MAX) {
                let statements: Vec<Statement> = marks.iter().map(|(_, s)| s.clone()).collect();
                let salt = draw(&mut self.rng);
                let Some(proof) = Proof::sign(&statements, &stance, &salt, &self.key) else {
                    continue;
                };
                let messages = marks.iter().map(|(msg, _)| *msg).collect();
                let work = Work::Read { messages, proof, to_peer };
                let expires_ms = at_ms + MESSAGE_LIFE_MS_MAX;
                self.enqueue(txn, now_ms, peer, work, Class::Receipt, expires_ms)?;
            }
        }
        Ok(())
    }

    /// A device of the peer has displayed messages: blue, if its key signed that it did.
    pub(crate) fn read_by_peer(
        &mut self,
        txn: &mut dyn Txn,
        arrived: &Arrived,
        proof: &Proof,
    ) -> Result<(), StoreError> {
        let checked = proof
            .check()
            .ok()
            .filter(|checked| checked.root.signer.device() == Some(arrived.content.device));
        let Some(checked) = checked else {
            self.bad_statement(Some(Claim::Read));
            return Ok(());
        };
        for (statement, alone) in &checked.statements {
            let applied = if statement.claim == Claim::Read {
                self.apply_statement(txn, statement, alone, &checked.root)?
            } else {
                Applied::No
            };
            if applied == Applied::No {
                self.bad_statement(Some(statement.claim));
            }
        }
        Ok(())
    }

    /// Another own device has displayed messages.
    pub(crate) fn read_elsewhere(
        &mut self,
        txn: &mut dyn Txn,
        peer: PeerKey,
        messages: &[MsgId],
    ) -> Result<(), StoreError> {
        let Some(known) = self.peer_row(txn, &peer)? else { return Ok(()) };
        let mut read = Vec::new();
        for msg in messages {
            let key = MessageKey { peer, msg: *msg, mine: false };
            if let Some(mut row) = self.get::<MessageRow>(txn, MESSAGES, &key.bytes())?
                && !row.displayed
            {
                row.displayed = true;
                self.put(txn, MESSAGES, &key.bytes(), &row)?;
                txn.delete(UNREAD, &key.bytes())?;
                read.push(MessageRef { peer: known.peer(), msg: *msg, mine: false });
            }
        }
        if !read.is_empty() {
            self.effect(ClientEffect::ReadElsewhere { messages: read });
        }
        Ok(())
    }
}
