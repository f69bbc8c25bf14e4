//! Frames of the node, each to its handler, and the answers to numbered requests.

use bytes::Bytes;
use tidings_protocol::{
    client_frame::{Done, NodeFrame, Refusable, Refused},
    refusal::{Refusal, RefusalCode},
};
use tidings_store::{StoreError, Txn};

use crate::{
    crypto::Sealer,
    event::{ClientEffect, CloseWhy, Warning},
    link::{Link, Request},
    machine::ClientCore,
};

impl<S: Sealer> ClientCore<S> {
    pub(crate) fn on_frame(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        frame: NodeFrame,
        body: &Bytes,
    ) -> Result<(), StoreError> {
        if self.stopped.is_some() || matches!(self.link, Link::Down) {
            return Ok(());
        }
        self.heard(now_ms);
        match frame {
            NodeFrame::Challenge(challenge) => return self.on_challenge(txn, now_ms, challenge),
            NodeFrame::Welcome(welcome) => return self.on_welcome(txn, now_ms, &welcome),
            NodeFrame::Joined(joined) => return self.on_joined(txn, now_ms, joined.request),
            NodeFrame::Refused(refused) => return self.on_refused(txn, now_ms, &refused),
            NodeFrame::Goaway(goaway) => {
                self.close(CloseWhy::Goaway { after_ms: goaway.after_ms });
                return Ok(());
            }
            NodeFrame::Pong(pong) => {
                self.on_pong(pong.number);
                return Ok(());
            }
            NodeFrame::Done(done) if self.link.is_showing(done.request) => {
                return self.on_lists_taken(txn, now_ms);
            }
            NodeFrame::Accepted(_)
            | NodeFrame::Deliver(_)
            | NodeFrame::Notes(_)
            | NodeFrame::Bundles(_)
            | NodeFrame::Done(_)
            | NodeFrame::NewerLists(_)
            | NodeFrame::Resolved(_) => {}
        }
        if !self.link.is_up() {
            self.close(CloseWhy::Broke);
            return Ok(());
        }
        match frame {
            NodeFrame::Accepted(accepted) => self.on_accepted(txn, &accepted),
            NodeFrame::Deliver(deliver) => {
                self.more_came();
                self.on_deliver(txn, now_ms, &deliver, body)
            }
            NodeFrame::Notes(notes) => {
                self.more_came();
                self.on_notes(txn, now_ms, &notes)
            }
            NodeFrame::Bundles(bundles) => self.on_bundles(txn, now_ms, bundles),
            NodeFrame::Done(done) => self.on_done(txn, now_ms, &done),
            NodeFrame::NewerLists(newer) => self.on_newer_lists(txn, now_ms, newer.lists),
            NodeFrame::Resolved(resolved) => self.on_resolved(txn, now_ms, &resolved),
            NodeFrame::Challenge(_)
            | NodeFrame::Welcome(_)
            | NodeFrame::Joined(_)
            | NodeFrame::Refused(_)
            | NodeFrame::Pong(_)
            | NodeFrame::Goaway(_) => Ok(()),
        }
    }

    fn on_done(&mut self, txn: &mut dyn Txn, now_ms: u64, done: &Done) -> Result<(), StoreError> {
        match self.requests.remove(&done.request) {
            Some(Request::List(version)) => {
                if let Link::Up(session) = &mut self.link {
                    session.list_version = session.list_version.max(version);
                }
                self.publish_lists();
                Ok(())
            }
            Some(Request::Replacement(_)) => self.become_replacement(txn, now_ms),
            Some(Request::Prekeys | Request::Fetch(_) | Request::Resolve(_)) | None => Ok(()),
        }
    }

    fn on_refused(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        refused: &Refused,
    ) -> Result<(), StoreError> {
        let code = refused.refusal.code;
        match &refused.what {
            Refusable::Link(_) => self.on_link_refused(txn, now_ms, code),
            Refusable::Submit(submit) => {
                if code == RefusalCode::RolledBack {
                    return self.replace_device(txn, now_ms);
                }
                self.on_submit_refused(txn, now_ms, *submit, &refused.refusal)
            }
            Refusable::Request(request) => {
                if let Link::Joining { request: joining, .. } = &self.link
                    && joining == request
                {
                    self.account.invite = None;
                    self.save_account(txn)?;
                    self.effect(ClientEffect::JoinRefused(code));
                    return Ok(());
                }
                if self.link.is_showing(*request) {
                    self.on_lists_refused(now_ms, code);
                    return Ok(());
                }
                self.on_request_refused(txn, now_ms, *request, &refused.refusal)
            }
        }
    }

    fn on_link_refused(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        code: RefusalCode,
    ) -> Result<(), StoreError> {
        let replaced = self.account.replacement.as_ref().is_some_and(|r| r.list.is_some());
        if code == RefusalCode::NotAuthorised && replaced {
            // The list that replaces this device was published; the answer was lost.
            return self.become_replacement(txn, now_ms);
        }
        let is_greeting = matches!(self.link, Link::Greeting { .. });
        if code == RefusalCode::NotAuthorised && is_greeting && self.may_show_lists() {
            self.close(CloseWhy::NotListed);
            return Ok(());
        }
        self.close(CloseWhy::Refused(code));
        Ok(())
    }

    fn on_request_refused(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        request: u64,
        refusal: &Refusal,
    ) -> Result<(), StoreError> {
        match self.requests.remove(&request) {
            Some(Request::Fetch(peer)) => self.on_fetch_refused(txn, now_ms, peer, refusal),
            Some(Request::Resolve(domain)) => {
                self.on_resolve_refused(&domain, refusal.code);
                Ok(())
            }
            Some(Request::Replacement(version)) if refusal.code == RefusalCode::Conflict => {
                self.on_replacement_overtaken(txn, version)
            }
            Some(Request::Prekeys | Request::List(_) | Request::Replacement(_)) => {
                self.warn(Warning::OwnKeysRefused(refusal.code));
                Ok(())
            }
            None => Ok(()),
        }
    }
}
