//! The node does not list this device, though the account's newest list does: it was put back to a
//! copy from before that list. The device shows it the lists on the next link, and greets behind them.

use tidings_protocol::{
    client_frame::{ClientFrame, InviteSecret, ShowLists},
    hello::Challenge,
    limits::LISTS_PER_ANSWER_MAX,
    refusal::RefusalCode,
};
use tidings_store::{StoreError, Txn};

use crate::{crypto::Sealer, event::CloseWhy, link::Link, machine::ClientCore};

/// What is known of showing the lists, since the node last welcomed this device.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    turn: Turn,
    /// For a node that does not know the account any more.
    pub(crate) invite: Option<InviteSecret>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Turn {
    /// The node has refused no hello.
    #[default]
    Hello,
    /// It has: the lists come first on the next link.
    Lists,
    /// It has taken them: a hello that it refuses now is refused for good.
    HelloBehindLists,
}

/// The versions that are shown on a link at the moment.
#[derive(Debug)]
pub(crate) struct Page {
    request: u64,
    /// The first of them, by its place in the chain.
    first: usize,
    /// The node took the ones before.
    is_behind_another: bool,
}

impl Lists {
    pub(crate) const fn are_to_be_shown(&self) -> bool {
        matches!(self.turn, Turn::Lists)
    }
}

impl Link {
    pub(crate) const fn is_showing(&self, answered: u64) -> bool {
        matches!(self, Self::Showing { page: Page { request, .. }, .. } if *request == answered)
    }
}

impl<S: Sealer> ClientCore<S> {
    /// A hello was refused because this device is not listed. True when the lists come next; they come
    /// once before each refusal for good.
    pub(crate) fn may_show_lists(&mut self) -> bool {
        let is_first = self.lists.turn == Turn::Hello;
        let may = is_first && self.own_list.device(&self.device).is_some();
        self.lists.turn = if may { Turn::Lists } else { Turn::Hello };
        may
    }

    pub(crate) fn show_newest_lists(&mut self, now_ms: u64, challenge: Challenge) {
        // However this link ends, the next one begins with the hello.
        self.lists.turn = Turn::Hello;
        let first = self.account.lists.len().saturating_sub(LISTS_PER_ANSWER_MAX);
        self.show_lists(now_ms, challenge, first, false);
    }

    fn show_lists(
        &mut self,
        now_ms: u64,
        challenge: Challenge,
        first: usize,
        is_behind_another: bool,
    ) {
        let request = self.number_request();
        let lists = self.account.lists.iter().skip(first).take(LISTS_PER_ANSWER_MAX);
        let lists = lists.cloned().collect();
        let invite = self.lists.invite;
        self.tell_node(ClientFrame::ShowLists(ShowLists { request, lists, invite }));
        let page = Page { request, first, is_behind_another };
        self.link = Link::Showing { since_ms: now_ms, challenge, page };
    }

    pub(crate) fn on_lists_taken(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let Link::Showing { challenge, page, .. } = &self.link else { return Ok(()) };
        let (challenge, next) = (challenge.clone(), page.first + LISTS_PER_ANSWER_MAX);
        if next < self.account.lists.len() {
            self.show_lists(now_ms, challenge, next, true);
            return Ok(());
        }
        self.lists.turn = Turn::HelloBehindLists;
        self.say_hello(txn, now_ms, challenge)
    }

    /// Those before are shown when the node lacks them. Not behind some that it has taken: it lies.
    pub(crate) fn on_lists_refused(&mut self, now_ms: u64, code: RefusalCode) {
        let Link::Showing { challenge, page, .. } = &self.link else { return };
        if code == RefusalCode::Conflict && page.first > 0 && !page.is_behind_another {
            let first = page.first.saturating_sub(LISTS_PER_ANSWER_MAX);
            let challenge = challenge.clone();
            self.show_lists(now_ms, challenge, first, false);
            return;
        }
        self.close(CloseWhy::Refused(code));
    }

    /// A node that knows no lists on this link says nothing: what it refuses next is refused for good.
    pub(crate) const fn showed_to_silence(&mut self) {
        if matches!(self.link, Link::Showing { .. }) {
            self.lists.turn = Turn::HelloBehindLists;
        }
    }
}
