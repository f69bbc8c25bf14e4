//! How the state changes: one event in, commands out. What keys and the mouse do is in `keys.rs` and
//! `mouse.rs`. Pure: the clock comes in as an event, everything outside is a command.

use std::collections::VecDeque;

use tidings_client::driver::{DownWhy, LinkState};
use tidings_client::event::{
    ClientEffect, ComposeError, MessageRef, NameError, Peer, SendText, ShownMessage, Status,
    Warning,
};
use tidings_client::{ConversationView, Direction, Draft, MessageView, PageAt, PageView, Searched};
use tidings_protocol::id::{DeviceId, NodeId};
use tidings_protocol::limits::TEXT_BYTES_MAX;

use super::model::{Command, Event, Focus, Model, Open, Overlay, Scroll, SearchState};
use super::pager::Pager;
use super::text;
use crate::device::warning_text;
use crate::domain::Recipient;

/// Messages of a page.
pub(crate) const PAGE: usize = 200;
/// So near to the end of a page the next one is asked for.
const MARGIN: usize = 20;
/// Statuses that are remembered for what was read before them: reading takes far less time.
const TOLD_MAX: usize = 256;
/// More unread messages than so many, and the first of them is the middle of the first page.
const UNREAD_AT_END_MAX: usize = PAGE / 2;
/// How often a text that is being written is kept, in ms.
const DRAFT_EVERY_MS: u64 = 3_000;

impl Model {
    pub(crate) fn update(&mut self, event: Event) -> Vec<Command> {
        match event {
            Event::Key(key) => self.on_key(key),
            Event::Mouse(mouse) => self.on_mouse(mouse),
            Event::Paste(text) => self.on_paste(&text),
            Event::Resize(size) => {
                self.size = size;
                self.load_more()
            }
            Event::InFront(in_front) => {
                self.in_front = in_front;
                Vec::new()
            }
            Event::Tick(now_ms) => {
                self.now_ms = now_ms;
                self.keep_draft(DRAFT_EVERY_MS)
            }
            Event::Drawn => self.mark_displayed(),
            Event::Stop => self.quit(),
            Event::Link(link) => {
                self.on_link(link);
                Vec::new()
            }
            Event::Device(effect) => self.on_effect(effect),
            Event::List(views) => {
                self.conversations = views;
                self.cursor = 0;
                self.sort();
                self.cursor = 0;
                self.is_loaded = true;
                self.first.take().map(|to| self.begin(to)).unwrap_or_default()
            }
            Event::Conversation(peer, view) => {
                self.on_conversation(&peer, view.map(|view| *view));
                Vec::new()
            }
            Event::Page(peer, at, page) => self.on_page(&peer, at, page),
            Event::Details(message, found) => {
                if let Some(Overlay::Details { message: shown, statuses, .. }) = &mut self.overlay
                    && shown.message == message
                {
                    *statuses = found;
                }
                Vec::new()
            }
            Event::Domains(domains) => {
                self.domains = domains;
                Vec::new()
            }
            Event::Searched { peer, needle, direction, searched } => {
                self.on_searched(&peer, &needle, direction, searched)
            }
        }
    }

    /// Everything that was begun is kept, then the end.
    pub(crate) fn quit(&mut self) -> Vec<Command> {
        let mut commands = self.keep_draft(0);
        commands.push(Command::Quit);
        commands
    }

    fn on_link(&mut self, link: LinkState) {
        if let LinkState::Stopped(why) = &link {
            self.notice(why.to_string());
        }
        // While it is tried again the reason for the last failure still stands.
        let is_retry = link == LinkState::Opening && matches!(self.link, LinkState::Down { .. });
        if let (true, LinkState::Down { until_ms, why }) = (is_retry, &mut self.link) {
            // A loss that happens on every try is not news; the countdown is over.
            *until_ms = 0;
            if let DownWhy::Lost(said) = why {
                *said = text::one_line(said);
            }
            return;
        }
        self.link = link;
    }

    // The device.

    fn on_effect(&mut self, effect: ClientEffect) -> Vec<Command> {
        match effect {
            ClientEffect::Composed { token, message } => {
                self.sent.remove(&token);
                self.reload(&message.peer)
            }
            ClientEffect::NotComposed { token, why } => self.not_composed(token, why),
            ClientEffect::Resolved { token, found } => self.on_resolved(token, found),
            ClientEffect::Show(shown) => self.on_show(&shown),
            ClientEffect::StatusChanged { message, device, status } => {
                self.on_status(&message, device, status)
            }
            ClientEffect::ReadElsewhere { messages } => {
                let mut peers: Vec<Peer> = messages.iter().map(|m| m.peer.clone()).collect();
                self.note_displayed(&messages);
                peers.dedup();
                peers.into_iter().map(Command::LoadConversation).collect()
            }
            ClientEffect::Warn(warning) => self.on_warning(&warning),
            ClientEffect::Stopped(why) => {
                self.notice(why.to_string());
                Vec::new()
            }
            ClientEffect::ToNode { .. }
            | ClientEffect::CloseLink(_)
            | ClientEffect::Linked
            | ClientEffect::Joined
            | ClientEffect::JoinRefused(_) => Vec::new(),
        }
    }

    fn on_show(&mut self, shown: &ShownMessage) -> Vec<Command> {
        let peer = &shown.message.peer;
        if self.open.as_ref().is_none_or(|open| open.peer != *peer) && !shown.message.mine {
            let said = text::cut(&text::one_line(&shown.text), 60);
            self.notice(format!("{}: {said}", peer.name));
        }
        self.reload(peer)
    }

    /// What is known of a conversation is read again.
    fn reload(&mut self, peer: &Peer) -> Vec<Command> {
        let mut commands = vec![Command::LoadConversation(peer.clone())];
        if let Some(open) = self.open.as_mut().filter(|open| open.peer == *peer) {
            let at = open.page_at();
            open.asked = Some(at);
            commands.push(Command::LoadPage(peer.clone(), at));
        }
        commands
    }

    fn on_status(
        &mut self,
        message: &MessageRef,
        device: Option<DeviceId>,
        status: Status,
    ) -> Vec<Command> {
        let device = device.unwrap_or(DeviceId([0; 16]));
        let in_list = self.conversations.iter_mut().filter_map(|view| view.last.as_mut());
        let in_page = self.open.iter_mut().flat_map(|open| &mut open.page.messages);
        for view in in_list.chain(in_page).filter(|view| view.message == *message) {
            raise(view, device, status);
        }
        if self.told.len() == TOLD_MAX {
            self.told.pop_front();
        }
        self.told.push_back((message.clone(), device, status));
        match &self.overlay {
            Some(Overlay::Details { message: shown, .. }) if shown.message == *message => {
                vec![Command::LoadDetails(message.clone())]
            }
            Some(_) | None => Vec::new(),
        }
    }

    fn on_warning(&mut self, warning: &Warning) -> Vec<Command> {
        self.notice(text::one_line(&warning_text(warning)));
        if let Warning::KeyChanged(peer) = warning {
            vec![Command::LoadConversation(peer.clone())]
        } else {
            Vec::new()
        }
    }

    /// A text was not taken: it stands in its conversation again, as if it had not been sent.
    fn not_composed(&mut self, token: u64, why: ComposeError) -> Vec<Command> {
        self.notice(format!("not sent: {why}"));
        let Some(sent) = self.sent.remove(&token) else { return Vec::new() };
        if let Some(open) = self.open.as_mut().filter(|open| open.peer == sent.to) {
            if open.editor.is_empty() {
                open.editor.insert(&sent.text);
                open.reply_to = sent.reply_to;
            }
            return Vec::new();
        }
        let draft = Draft { text: sent.text, reply_to: sent.reply_to };
        vec![Command::SaveDraft(sent.to.clone(), Some(draft)), Command::LoadConversation(sent.to)]
    }

    // Answers.

    fn on_conversation(&mut self, peer: &Peer, view: Option<ConversationView>) {
        let Some(mut view) = view else { return };
        view.last.iter_mut().for_each(|last| raise_by(&self.told, last));
        match self.conversations.iter_mut().find(|known| known.peer == *peer) {
            Some(known) => *known = view,
            None => self.conversations.push(view),
        }
        self.sort();
    }

    fn on_page(&mut self, peer: &Peer, at: PageAt, page: PageView) -> Vec<Command> {
        let Some(open) = self.open.as_mut().filter(|open| open.peer == *peer) else {
            return Vec::new();
        };
        if open.asked == Some(at) {
            open.asked = None;
        }
        let is_first = !open.is_loaded;
        open.page = page;
        open.page.messages.iter_mut().for_each(|view| raise_by(&self.told, view));
        open.is_loaded = true;
        if is_first {
            let is_new = |view: &&MessageView| !(view.message.mine || view.displayed);
            let first_new = open.page.messages.iter().find(is_new);
            open.new_from = first_new.map(|view| view.message.clone());
        }
        let wanted = open
            .wanted
            .take_if(|wanted| open.page.messages.iter().any(|view| view.message == *wanted));
        let first = open.new_from.clone().filter(|_| is_first);
        let scroll = Pager::of(self).and_then(|pager| match (wanted, first) {
            (Some(wanted), _) => Some(pager.centred(&wanted)),
            (None, Some(new)) => Some(pager.from(&new)),
            (None, None) => None,
        });
        if let (Some(open), Some(scroll)) = (&mut self.open, scroll) {
            open.scroll = scroll;
        }
        self.load_more()
    }

    // Addresses.

    /// Opens the conversation with somebody, once the node of a domain is known.
    pub(crate) fn begin(&mut self, to: Recipient) -> Vec<Command> {
        match to {
            Recipient::Peer(peer) => self.open(&peer),
            Recipient::Named { name, domain } => {
                self.tokens += 1;
                self.notice(format!("asking your node for {domain}"));
                self.resolving = Some((self.tokens, name, domain.clone()));
                vec![Command::Resolve(domain, self.tokens)]
            }
        }
    }

    fn on_resolved(&mut self, token: u64, found: Result<NodeId, NameError>) -> Vec<Command> {
        // Another address may have been typed since.
        let Some((_, name, domain)) = self.resolving.take_if(|(asked, ..)| *asked == token) else {
            return Vec::new();
        };
        let said = match found {
            Ok(node) if (Peer { node, name: name.clone() }) != self.me => {
                let mut commands = vec![Command::LoadDomains];
                commands.extend(self.open(&Peer { node, name }));
                return commands;
            }
            Ok(_) => "that is your own address".to_owned(),
            Err(error) => format!("{domain}: {error}"),
        };
        match &mut self.overlay {
            Some(Overlay::NewChat { problem, .. }) => *problem = Some(said),
            Some(Overlay::Help { .. } | Overlay::Notices { .. } | Overlay::Details { .. })
            | None => self.notice(said),
        }
        Vec::new()
    }

    // Moving.

    /// Opens a conversation, or goes on writing in it.
    pub(crate) fn open(&mut self, peer: &Peer) -> Vec<Command> {
        self.focus = Focus::Composer;
        self.overlay = None;
        if let Some(at) = self.conversations.iter().position(|view| view.peer == *peer) {
            self.cursor = at;
        }
        if self.open.as_ref().is_some_and(|open| open.peer == *peer) {
            return Vec::new();
        }
        let mut commands = self.keep_draft(0);
        self.search = None;
        let known = self.conversation(peer).cloned();
        if known.is_none() {
            self.conversations.insert(0, begun(peer));
            self.cursor = 0;
        }
        let mut open = Open::new(peer.clone(), known.as_ref().and_then(|view| view.draft.clone()));
        let at = match known {
            Some(ConversationView { unread, first_unread: Some(first), .. })
                if unread > UNREAD_AT_END_MAX =>
            {
                PageAt::Around(first)
            }
            Some(_) | None => PageAt::Newest,
        };
        open.asked = Some(at);
        self.open = Some(open);
        commands.push(Command::LoadPage(peer.clone(), at));
        commands
    }

    /// The conversation before or after the open one.
    pub(crate) fn open_next(&mut self, down: bool) -> Vec<Command> {
        let open = self.open.as_ref().map(|open| &open.peer);
        let now = self.conversations.iter().position(|view| Some(&view.peer) == open);
        let next = match (now, down) {
            (None, _) => Some(0),
            (Some(now), true) => now.checked_add(1),
            (Some(now), false) => now.checked_sub(1),
        };
        let peer = next.and_then(|next| self.conversations.get(next)).map(|view| view.peer.clone());
        peer.map(|peer| self.open(&peer)).unwrap_or_default()
    }

    pub(crate) fn scroll(&mut self, down: bool, rows: usize) -> Vec<Command> {
        let scroll = Pager::of(self).map(|pager| pager.scrolled(down, rows));
        if let (Some(open), Some(scroll)) = (&mut self.open, scroll) {
            open.scroll = scroll;
        }
        self.load_more()
    }

    /// To the end of the conversation, or to the beginning of what is in memory.
    pub(crate) fn scroll_to_end(&mut self, down: bool) -> Vec<Command> {
        let Some(open) = &mut self.open else { return Vec::new() };
        if !down {
            return self.scroll(false, usize::MAX / 4);
        }
        open.scroll = Scroll::Tail;
        if !open.page.later {
            return Vec::new();
        }
        open.asked = Some(PageAt::Newest);
        vec![Command::LoadPage(open.peer.clone(), PageAt::Newest)]
    }

    /// Asks for what comes next when what is visible is near the end of the page.
    fn load_more(&mut self) -> Vec<Command> {
        let ends = Pager::of(self).and_then(|pager| pager.ends());
        let (Some(open), Some((first, last))) = (&mut self.open, ends) else { return Vec::new() };
        let above = open.page.earlier && first < MARGIN;
        let below = open.page.later && last + MARGIN >= open.page.messages.len();
        let near = if above { first } else { last };
        let Some(view) = open.page.messages.get(near).filter(|_| above || below) else {
            return Vec::new();
        };
        let at = PageAt::Around(view.message.msg);
        if open.asked.is_some() {
            return Vec::new();
        }
        if open.scroll == Scroll::Tail && below {
            // The end of the page is not the end of the conversation.
            open.scroll = Scroll::From { message: view.message.clone(), row: 0 };
        }
        open.asked = Some(at);
        vec![Command::LoadPage(open.peer.clone(), at)]
    }

    /// Selects a message and makes it visible, from the store if need be.
    pub(crate) fn go_to(&mut self, message: &MessageRef) -> Vec<Command> {
        let Some(open) = &mut self.open else { return Vec::new() };
        open.selected = Some(message.clone());
        if open.index_of(message).is_none() {
            let at = PageAt::Around(message.msg);
            open.wanted = Some(message.clone());
            open.asked = Some(at);
            return vec![Command::LoadPage(open.peer.clone(), at)];
        }
        let scroll = Pager::of(self).map(|pager| pager.revealed(message));
        if let (Some(open), Some(scroll)) = (&mut self.open, scroll) {
            open.scroll = scroll;
        }
        self.load_more()
    }

    // Reading and writing.

    /// What can be read on the screen was read.
    fn mark_displayed(&mut self) -> Vec<Command> {
        if !self.in_front || self.overlay.is_some() {
            return Vec::new();
        }
        let Some(pager) = Pager::of(self) else { return Vec::new() };
        let seen = pager.seen().into_iter().filter(|view| !(view.message.mine || view.displayed));
        let messages: Vec<MessageRef> = seen.map(|view| view.message.clone()).collect();
        let Some(first) = messages.first() else { return Vec::new() };
        let peer = first.peer.clone();
        self.note_displayed(&messages);
        vec![Command::Displayed(messages), Command::LoadConversation(peer)]
    }

    fn note_displayed(&mut self, messages: &[MessageRef]) {
        let in_page = self.open.iter_mut().flat_map(|open| &mut open.page.messages);
        for view in in_page.filter(|view| messages.contains(&view.message)) {
            view.displayed = true;
        }
    }

    pub(crate) fn send(&mut self) -> Vec<Command> {
        let Some(open) = &mut self.open else { return Vec::new() };
        if open.editor.text().trim().is_empty() {
            return Vec::new();
        }
        if open.editor.text().len() > TEXT_BYTES_MAX {
            let more = open.editor.text().len() - TEXT_BYTES_MAX;
            self.notice(format!("too long by {more} bytes: send it in parts"));
            return Vec::new();
        }
        self.tokens += 1;
        let send = SendText {
            to: open.peer.clone(),
            text: open.editor.take(),
            reply_to: open.reply_to.take(),
            token: self.tokens,
        };
        open.scroll = Scroll::Tail;
        open.new_from = None;
        open.selected = None;
        open.offer = None;
        self.sent.insert(self.tokens, send.clone());
        let mut commands = vec![Command::Send(send)];
        // The draft goes only after the text is in the store: the commands keep their order.
        commands.extend(self.keep_draft(0));
        commands
    }

    /// Keeps what is being written, when it has changed and was not kept for so long.
    pub(crate) fn keep_draft(&mut self, every_ms: u64) -> Vec<Command> {
        let now_ms = self.now_ms;
        let Some(open) = &mut self.open else { return Vec::new() };
        let draft = open.draft();
        if draft == open.saved || now_ms < open.saved_ms.saturating_add(every_ms) {
            return Vec::new();
        }
        open.saved.clone_from(&draft);
        open.saved_ms = now_ms;
        let peer = open.peer.clone();
        if let Some(view) = self.conversations.iter_mut().find(|view| view.peer == peer) {
            view.draft.clone_from(&draft);
        }
        vec![Command::SaveDraft(peer, draft)]
    }

    // Searching.

    /// Looks for the next message that has what is searched; `afresh` begins at the end.
    pub(crate) fn look(&mut self, direction: Direction, afresh: bool) -> Vec<Command> {
        let (Some(search), Some(open)) = (&mut self.search, &self.open) else { return Vec::new() };
        let needle = search.editor.text().to_owned();
        if needle.is_empty() {
            search.state = SearchState::Idle;
            return Vec::new();
        }
        search.state = SearchState::Looking(direction);
        let from = open.selected.clone().filter(|_| !afresh);
        vec![Command::Search { peer: open.peer.clone(), needle, direction, from }]
    }

    fn on_searched(
        &mut self,
        peer: &Peer,
        needle: &str,
        direction: Direction,
        searched: Searched,
    ) -> Vec<Command> {
        let (Some(search), Some(open)) = (&mut self.search, &self.open) else { return Vec::new() };
        let is_current = search.editor.text() == needle
            && search.state == SearchState::Looking(direction)
            && open.peer == *peer;
        if !is_current {
            return Vec::new();
        }
        match searched {
            Searched::Found(message) => {
                search.state = SearchState::Found(message.clone());
                self.go_to(&message)
            }
            Searched::GoOn(from) => {
                let (peer, needle, from) = (peer.clone(), needle.to_owned(), Some(from));
                vec![Command::Search { peer, needle, direction, from }]
            }
            Searched::End => {
                search.state = SearchState::Nothing(direction);
                Vec::new()
            }
        }
    }
}

/// A conversation in which nothing was said.
fn begun(peer: &Peer) -> ConversationView {
    ConversationView {
        peer: peer.clone(),
        last: None,
        unread: 0,
        first_unread: None,
        draft: None,
        key_changed: false,
    }
}

/// What was told of a message since it was read.
fn raise_by(told: &VecDeque<(MessageRef, DeviceId, Status)>, view: &mut MessageView) {
    let message = view.message.clone();
    for (_, device, status) in told.iter().filter(|(about, ..)| *about == message) {
        raise(view, *device, *status);
    }
}

/// What is known at a device never decreases.
fn raise(view: &mut MessageView, device: DeviceId, status: Status) {
    match view.statuses.iter_mut().find(|(known, _)| *known == device) {
        Some((_, known)) if status.rank() > known.rank() => *known = status,
        Some(_) => {}
        None => view.statuses.push((device, status)),
    }
}
