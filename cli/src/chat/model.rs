//! What the screen is about: conversations, the open one, what is being written. State only; how it
//! changes is in `update.rs` and `keys.rs`, how it looks in `view/`. Knows no terminal and no store.

use std::collections::{BTreeMap, VecDeque};

use crossterm::event::{KeyEvent, MouseEvent};
use jiff::{Timestamp, ZonedDateTime, tz::TimeZone};
use ratatui::layout::Size;
use tidings_client::driver::LinkState;
use tidings_client::event::{ClientEffect, MessageRef, Peer, SendText, Status};
use tidings_client::{
    ConversationView, Direction, Draft, MessageView, PageAt, PageView, Searched, StatusView,
};
use tidings_protocol::address::UserName;
use tidings_protocol::domain::Domain;
use tidings_protocol::id::{DeviceId, MsgId};

use super::editor::Editor;
use crate::domain::{Domains, Recipient};
use crate::home::Account;

/// Notices that are kept to be read.
const NOTICES_MAX: usize = 200;
/// For how long a notice stands at the bottom, in ms.
const NOTICE_MS: u64 = 10_000;

/// Everything that is on the screen or could be.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) account: Account,
    pub(crate) me: Peer,
    pub(crate) zone: TimeZone,
    /// Whether colours may be used. What they say is always said by shape too.
    pub(crate) color: bool,
    /// Unix ms, as of the last tick.
    pub(crate) now_ms: u64,
    pub(crate) size: Size,
    /// The terminal is in front, as far as it tells.
    pub(crate) in_front: bool,
    pub(crate) link: LinkState,
    pub(crate) conversations: Vec<ConversationView>,
    /// The conversations were read from the store.
    pub(crate) is_loaded: bool,
    /// Where the cursor of the list is.
    pub(crate) cursor: usize,
    pub(crate) open: Option<Open>,
    pub(crate) focus: Focus,
    pub(crate) overlay: Option<Overlay>,
    pub(crate) search: Option<Search>,
    pub(crate) notices: VecDeque<Notice>,
    /// The newest statuses that were told: what was read before them may be shown after them.
    pub(crate) told: VecDeque<(MessageRef, DeviceId, Status)>,
    /// Texts on their way to this disk, by token.
    pub(crate) sent: BTreeMap<u64, SendText>,
    pub(crate) tokens: u64,
    /// To be opened as soon as the conversations are known.
    pub(crate) first: Option<Recipient>,
    /// Nodes by the domains under which they are known.
    pub(crate) domains: Domains,
    /// Somebody at a domain whose node is being asked for, under the token of the question.
    pub(crate) resolving: Option<(u64, UserName, Domain)>,
}

/// The conversation that is open.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) peer: Peer,
    /// The part of it that is in memory.
    pub(crate) page: PageView,
    /// A page that was asked for.
    pub(crate) asked: Option<PageAt>,
    pub(crate) is_loaded: bool,
    pub(crate) scroll: Scroll,
    pub(crate) selected: Option<MessageRef>,
    /// To be made visible as soon as it is in memory.
    pub(crate) wanted: Option<MessageRef>,
    /// The first message that was unread when the conversation was opened.
    pub(crate) new_from: Option<MessageRef>,
    pub(crate) editor: Editor,
    pub(crate) reply_to: Option<MsgId>,
    /// What of it is in the store.
    pub(crate) saved: Option<Draft>,
    pub(crate) saved_ms: u64,
    /// Which offered emoji would be taken; none are offered when it is absent.
    pub(crate) offer: Option<usize>,
}

/// Which part of the conversation is on the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scroll {
    /// The end, whatever comes.
    Tail,
    /// From this row of this message on, counted from the first row of its text: what stands above
    /// that, a day or a name, depends on what is in memory.
    From { message: MessageRef, row: isize },
}

/// What keys go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Focus {
    List,
    Messages,
    Composer,
}

/// What lies over the rest.
#[derive(Debug)]
pub(crate) enum Overlay {
    Help { scroll: usize },
    Notices { scroll: usize },
    Details { message: Box<MessageView>, statuses: Vec<StatusView>, scroll: usize },
    NewChat { editor: Editor, problem: Option<String> },
}

/// A search in the open conversation.
#[derive(Debug, Default)]
pub(crate) struct Search {
    pub(crate) editor: Editor,
    pub(crate) state: SearchState,
}

/// How far a search is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum SearchState {
    #[default]
    Idle,
    Looking(Direction),
    Found(MessageRef),
    /// Nothing further in this direction.
    Nothing(Direction),
}

/// Something that the person should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) at_ms: u64,
    pub(crate) text: String,
}

/// What happened.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one at a time, and never stored")]
pub(crate) enum Event {
    Key(KeyEvent),
    Mouse(MouseEvent),
    Paste(String),
    Resize(Size),
    InFront(bool),
    /// The clock, in Unix ms.
    Tick(u64),
    /// What the model says is on the screen now.
    Drawn,
    /// The process is told to end.
    Stop,
    Link(LinkState),
    Device(ClientEffect),
    // Answers to commands.
    List(Vec<ConversationView>),
    Conversation(Peer, Option<Box<ConversationView>>),
    Page(Peer, PageAt, PageView),
    Details(MessageRef, Vec<StatusView>),
    Domains(Domains),
    Searched {
        peer: Peer,
        needle: String,
        direction: Direction,
        searched: Searched,
    },
}

/// What is to be done. Questions are answered by events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    LoadList,
    LoadConversation(Peer),
    LoadPage(Peer, PageAt),
    LoadDetails(MessageRef),
    LoadDomains,
    /// Ask which node a domain stands for.
    Resolve(Domain, u64),
    /// One step of a search.
    Search {
        peer: Peer,
        needle: String,
        direction: Direction,
        from: Option<MessageRef>,
    },
    Send(SendText),
    Displayed(Vec<MessageRef>),
    SaveDraft(Peer, Option<Draft>),
    /// Draw everything anew, whatever the terminal shows.
    Redraw,
    /// Give the terminal back until the process is continued.
    Suspend,
    /// End, once everything before is done.
    Quit,
}

impl Model {
    /// Nothing is known yet; the first command is [`Command::LoadList`].
    pub(crate) fn new(account: Account, me: Peer, zone: TimeZone, now_ms: u64, size: Size) -> Self {
        Self {
            account,
            me,
            zone,
            color: true,
            now_ms,
            size,
            in_front: true,
            link: LinkState::Opening,
            conversations: Vec::new(),
            is_loaded: false,
            cursor: 0,
            open: None,
            focus: Focus::List,
            overlay: None,
            search: None,
            notices: VecDeque::new(),
            told: VecDeque::new(),
            sent: BTreeMap::new(),
            tokens: 0,
            first: None,
            domains: Domains::default(),
            resolving: None,
        }
    }

    pub(crate) fn conversation(&self, peer: &Peer) -> Option<&ConversationView> {
        self.conversations.iter().find(|view| view.peer == *peer)
    }

    /// What was begun first, then by the newest message.
    pub(crate) fn sort(&mut self) {
        let chosen = self.conversations.get(self.cursor).map(|view| view.peer.clone());
        let open = self.open.as_ref().map(|open| &open.peer);
        self.conversations.sort_by_key(|view| {
            let last = view.last.as_ref().map(|last| (last.created_ms, last.message.msg));
            let is_begun = last.is_none() && (view.draft.is_some() || open == Some(&view.peer));
            core::cmp::Reverse((is_begun, last))
        });
        let is_chosen = |view: &ConversationView| Some(&view.peer) == chosen.as_ref();
        self.cursor = self.conversations.iter().position(is_chosen).unwrap_or(self.cursor);
    }

    pub(crate) fn notice(&mut self, text: impl Into<String>) {
        if self.notices.len() >= NOTICES_MAX {
            self.notices.pop_front();
        }
        self.notices.push_back(Notice { at_ms: self.now_ms, text: text.into() });
    }

    /// The notice that stands at the bottom now.
    pub(crate) fn fresh_notice(&self) -> Option<&Notice> {
        self.notices.back().filter(|notice| notice.at_ms + NOTICE_MS > self.now_ms)
    }

    /// A time in the person's zone; none for a time that no calendar has.
    pub(crate) fn local(&self, at_ms: u64) -> Option<ZonedDateTime> {
        local(&self.zone, at_ms)
    }

    /// Unread messages in all conversations but the open one.
    pub(crate) fn unread_elsewhere(&self) -> usize {
        let open = self.open.as_ref().map(|open| &open.peer);
        let others = self.conversations.iter().filter(|view| Some(&view.peer) != open);
        others.map(|view| view.unread).sum()
    }
}

pub(crate) fn local(zone: &TimeZone, at_ms: u64) -> Option<ZonedDateTime> {
    let at = Timestamp::from_millisecond(i64::try_from(at_ms).ok()?).ok()?;
    Some(at.to_zoned_datetime(zone.clone()))
}

impl Open {
    pub(crate) fn new(peer: Peer, draft: Option<Draft>) -> Self {
        let written = draft.clone().unwrap_or_default();
        Self {
            peer,
            page: PageView { messages: Vec::new(), earlier: false, later: false },
            asked: None,
            is_loaded: false,
            scroll: Scroll::Tail,
            selected: None,
            wanted: None,
            new_from: None,
            editor: Editor::with(written.text),
            reply_to: written.reply_to,
            saved: draft,
            saved_ms: 0,
            offer: None,
        }
    }

    pub(crate) fn index_of(&self, message: &MessageRef) -> Option<usize> {
        self.page.messages.iter().position(|view| view.message == *message)
    }

    pub(crate) fn selected_view(&self) -> Option<&MessageView> {
        let index = self.index_of(self.selected.as_ref()?)?;
        self.page.messages.get(index)
    }

    /// What is being written, as it would be kept.
    pub(crate) fn draft(&self) -> Option<Draft> {
        let (text, reply_to) = (self.editor.text().to_owned(), self.reply_to);
        (!text.is_empty() || reply_to.is_some()).then_some(Draft { text, reply_to })
    }

    /// The page that shows what is on the screen now, as it will be.
    pub(crate) fn page_at(&self) -> PageAt {
        match (&self.wanted, &self.scroll) {
            (Some(message), _) | (None, Scroll::From { message, .. }) => {
                PageAt::Around(message.msg)
            }
            (None, Scroll::Tail) => PageAt::Newest,
        }
    }
}
