//! What keys and pasting do, and the page that says so. Where a key goes depends on what lies on top
//! and on what has the focus.

#![expect(clippy::wildcard_enum_match_arm, reason = "all other keys do nothing there")]

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tidings_client::Direction;

use super::editor::{Edit, Editor};
use super::emoji;
use super::model::{Command, Focus, Model, Overlay, Search};
use super::pager::Pager;
use super::panes::{PROMPT, Panes};
use crate::domain::Recipient;

/// The help screen: what one does, and with which keys.
pub(crate) const HELP: &[(&str, &[(&str, &str)])] = &[
    (
        "Everywhere",
        &[
            ("F1, ?", "this page (? outside of a text)"),
            ("Tab, Shift-Tab", "composer, list, messages"),
            ("Alt-↑ Alt-↓", "conversation before, after"),
            ("PgUp PgDn, wheel", "scroll"),
            ("Ctrl-N", "write to a new address"),
            ("Ctrl-F", "search in this conversation"),
            ("F2", "notices"),
            ("Ctrl-L", "draw everything anew"),
            ("Ctrl-Z", "back to the shell; fg returns"),
            ("Ctrl-Q, Ctrl-C", "quit; what you wrote is kept"),
        ],
    ),
    (
        "Writing",
        &[
            ("Enter", "send"),
            ("Alt-Enter, Ctrl-J", "another line"),
            (":name: Tab ↑ ↓", "emoji"),
            ("Ctrl-← Ctrl-→", "by word"),
            ("Home End, Ctrl-A Ctrl-E", "ends of the line"),
            ("Ctrl-K Ctrl-U Ctrl-W", "kill to end, start, word"),
            ("Ctrl-Y", "put back what was killed"),
            ("↑, Esc", "to the messages"),
        ],
    ),
    (
        "Messages",
        &[
            ("↑ ↓, k j, click", "select"),
            ("Enter", "details: each state, its signer"),
            ("r", "answer"),
            ("/", "search"),
            ("Home End, g G", "beginning, end"),
            ("Esc, i", "back to writing"),
        ],
    ),
    (
        "Searching",
        &[("Enter, ↑", "older"), ("↓", "newer"), ("Esc", "end; the message is selected")],
    ),
    (
        "Ticks",
        &[
            ("·", "on this disk: it leaves when it can"),
            ("✓", "signed by your node: it has it"),
            ("✓✓", "signed by a device of theirs: there"),
            ("✓✓•", "signed by that device: displayed"),
            ("✗", "it will not be delivered"),
        ],
    ),
];

/// A key with what was held.
struct Press {
    code: KeyCode,
    ctrl: bool,
    alt: bool,
    shift: bool,
}

impl Model {
    pub(crate) fn on_key(&mut self, key: KeyEvent) -> Vec<Command> {
        if key.kind == KeyEventKind::Release {
            return Vec::new();
        }
        let has = |modifier| key.modifiers.contains(modifier);
        let press = Press {
            code: key.code,
            ctrl: has(KeyModifiers::CONTROL),
            alt: has(KeyModifiers::ALT),
            shift: has(KeyModifiers::SHIFT),
        };
        if let Some(commands) = self.everywhere(&press) {
            return commands;
        }
        if self.overlay.is_some() {
            return self.in_overlay(&press);
        }
        if self.search.is_some() {
            return self.in_search(&press);
        }
        if let Some(commands) = self.on_main(&press) {
            return commands;
        }
        match self.focus {
            Focus::List => self.in_list(&press),
            Focus::Messages => self.in_messages(&press),
            Focus::Composer => self.in_composer(&press),
        }
    }

    fn everywhere(&mut self, press: &Press) -> Option<Vec<Command>> {
        Some(match (press.code, press.ctrl) {
            (KeyCode::Char('q' | 'c'), true) => self.quit(),
            (KeyCode::Char('l'), true) => vec![Command::Redraw],
            (KeyCode::Char('z'), true) => {
                let mut commands = self.keep_draft(0);
                commands.push(Command::Suspend);
                commands
            }
            (KeyCode::F(1), _) => self.toggle(Overlay::Help { scroll: 0 }),
            (KeyCode::F(2), _) => self.toggle(Overlay::Notices { scroll: 0 }),
            (KeyCode::Char('n'), true) => self.toggle(Overlay::new_chat()),
            _ => return None,
        })
    }

    /// Opens an overlay, or closes it when it is of the same kind.
    fn toggle(&mut self, overlay: Overlay) -> Vec<Command> {
        let is_same = self
            .overlay
            .as_ref()
            .is_some_and(|open| core::mem::discriminant(open) == core::mem::discriminant(&overlay));
        self.overlay = (!is_same).then_some(overlay);
        Vec::new()
    }

    fn in_overlay(&mut self, press: &Press) -> Vec<Command> {
        if press.code == KeyCode::Esc {
            self.overlay = None;
            return Vec::new();
        }
        let page = usize::from(self.size.height / 2).max(1);
        match &mut self.overlay {
            Some(Overlay::NewChat { editor, problem }) => {
                if press.code == KeyCode::Enter {
                    return self.begin_chat();
                }
                if write(editor, press) {
                    *problem = None;
                }
            }
            Some(
                Overlay::Help { scroll }
                | Overlay::Notices { scroll }
                | Overlay::Details { scroll, .. },
            ) => match press.code {
                KeyCode::Down | KeyCode::Char('j') => *scroll += 1,
                KeyCode::Up | KeyCode::Char('k') => *scroll = scroll.saturating_sub(1),
                KeyCode::PageDown | KeyCode::Char(' ') => *scroll += page,
                KeyCode::PageUp => *scroll = scroll.saturating_sub(page),
                KeyCode::Enter | KeyCode::Char('q' | '?') => self.overlay = None,
                _ => {}
            },
            None => {}
        }
        Vec::new()
    }

    /// Opens the conversation with whoever was typed.
    fn begin_chat(&mut self) -> Vec<Command> {
        let Some(Overlay::NewChat { editor, problem }) = &mut self.overlay else {
            return Vec::new();
        };
        let typed = editor.text().trim();
        let said = match self.account.recipient(typed) {
            Ok(Recipient::Peer(peer)) if peer == self.me => "that is your own address".to_owned(),
            Ok(to) => return self.begin(to),
            Err(_) if typed.is_empty() => "write an address: name@domain".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        *problem = Some(said);
        Vec::new()
    }

    fn in_search(&mut self, press: &Press) -> Vec<Command> {
        match (press.code, press.ctrl) {
            (KeyCode::Esc, _) => {
                self.search = None;
                let selected = self.open.as_ref().is_some_and(|open| open.selected.is_some());
                self.focus = if selected { Focus::Messages } else { Focus::Composer };
                Vec::new()
            }
            (KeyCode::Enter | KeyCode::Up, _) => self.look(Direction::Older, false),
            (KeyCode::Down, _) => self.look(Direction::Newer, false),
            (KeyCode::PageUp, _) => self.scroll_page(false),
            (KeyCode::PageDown, _) => self.scroll_page(true),
            _ => {
                let Some(search) = &mut self.search else { return Vec::new() };
                let before = search.editor.text().to_owned();
                write(&mut search.editor, press);
                if search.editor.text() == before {
                    return Vec::new();
                }
                self.look(Direction::Older, true)
            }
        }
    }

    /// Keys that mean the same in list, messages and composer.
    fn on_main(&mut self, press: &Press) -> Option<Vec<Command>> {
        let offers = self.focus == Focus::Composer && !self.offered().is_empty();
        Some(match (press.code, press.ctrl, press.alt) {
            (KeyCode::Tab, ..) if offers => return None,
            (KeyCode::Tab, ..) => self.next_focus(true),
            (KeyCode::BackTab, ..) => self.next_focus(false),
            (KeyCode::Up, _, true) => self.open_next(false),
            (KeyCode::Down, _, true) => self.open_next(true),
            (KeyCode::PageUp, ..) => self.scroll_page(false),
            (KeyCode::PageDown, ..) => self.scroll_page(true),
            (KeyCode::Char('f'), true, _) => self.begin_search(),
            (KeyCode::Char('?'), ..) if self.focus != Focus::Composer => {
                self.toggle(Overlay::Help { scroll: 0 })
            }
            _ => return None,
        })
    }

    fn next_focus(&mut self, forwards: bool) -> Vec<Command> {
        if self.open.is_none() {
            self.focus = Focus::List;
            return Vec::new();
        }
        self.focus = match (self.focus, forwards) {
            (Focus::Composer, true) | (Focus::Messages, false) => Focus::List,
            (Focus::List, true) | (Focus::Composer, false) => Focus::Messages,
            (Focus::Messages, true) | (Focus::List, false) => Focus::Composer,
        };
        if self.focus == Focus::Messages {
            self.select_last();
        }
        Vec::new()
    }

    fn scroll_page(&mut self, down: bool) -> Vec<Command> {
        let rows = usize::from(Panes::of(self).messages.height);
        self.scroll(down, rows.saturating_sub(2).max(1))
    }

    fn begin_search(&mut self) -> Vec<Command> {
        if self.open.is_some() {
            self.search = Some(Search::default());
        }
        Vec::new()
    }

    fn in_list(&mut self, press: &Press) -> Vec<Command> {
        let last = self.conversations.len().saturating_sub(1);
        match press.code {
            KeyCode::Down | KeyCode::Char('j') => self.cursor = (self.cursor + 1).min(last),
            KeyCode::Up | KeyCode::Char('k') => self.cursor = self.cursor.saturating_sub(1),
            KeyCode::Home | KeyCode::Char('g') => self.cursor = 0,
            KeyCode::End | KeyCode::Char('G') => self.cursor = last,
            KeyCode::Char('n') => return self.toggle(Overlay::new_chat()),
            KeyCode::Enter => {
                let chosen = self.conversations.get(self.cursor).map(|view| view.peer.clone());
                return chosen.map(|peer| self.open(&peer)).unwrap_or_default();
            }
            KeyCode::Esc if self.open.is_some() => self.focus = Focus::Composer,
            _ => {}
        }
        Vec::new()
    }

    fn in_messages(&mut self, press: &Press) -> Vec<Command> {
        match press.code {
            KeyCode::Up | KeyCode::Char('k') => self.select(false),
            KeyCode::Down | KeyCode::Char('j') => self.select(true),
            KeyCode::Home | KeyCode::Char('g') => self.scroll_to_end(false),
            KeyCode::End | KeyCode::Char('G') => {
                let commands = self.scroll_to_end(true);
                self.select_last();
                commands
            }
            KeyCode::Enter => self.show_details(),
            KeyCode::Char('r') => {
                if let Some(open) = &mut self.open {
                    open.reply_to = open.selected.take().map(|message| message.msg);
                }
                self.write_on()
            }
            KeyCode::Char('/') => self.begin_search(),
            KeyCode::Esc | KeyCode::Char('i') => self.write_on(),
            _ => Vec::new(),
        }
    }

    /// Back to the composer, without a selection.
    fn write_on(&mut self) -> Vec<Command> {
        self.focus = Focus::Composer;
        if let Some(open) = &mut self.open {
            open.selected = None;
        }
        Vec::new()
    }

    fn show_details(&mut self) -> Vec<Command> {
        let view = self.open.as_ref().and_then(|open| open.selected_view()).cloned();
        let Some(view) = view else { return Vec::new() };
        let command = Command::LoadDetails(view.message.clone());
        let message = Box::new(view);
        self.overlay = Some(Overlay::Details { message, statuses: Vec::new(), scroll: 0 });
        vec![command]
    }

    /// Selects the message after or before the selected one; behind the last one is the composer.
    fn select(&mut self, down: bool) -> Vec<Command> {
        let Some(open) = &self.open else { return Vec::new() };
        let now = open.selected.as_ref().and_then(|message| open.index_of(message));
        let Some(now) = now else {
            self.select_last();
            return Vec::new();
        };
        let next = if down { now.checked_add(1) } else { now.checked_sub(1) };
        let message = next.and_then(|next| open.page.messages.get(next));
        match message.map(|view| view.message.clone()) {
            Some(message) => self.go_to(&message),
            None if down && !open.page.later => self.write_on(),
            None => Vec::new(),
        }
    }

    /// Selects the last message that is visible.
    fn select_last(&mut self) {
        let ends = Pager::of(self).and_then(|pager| pager.ends());
        if let (Some(open), Some((_, last))) = (&mut self.open, ends) {
            open.selected = open.page.messages.get(last).map(|view| view.message.clone());
        }
    }

    /// The emoji that are offered for what stands before the caret.
    pub(crate) fn offered(&self) -> Vec<emoji::Candidate> {
        match &self.open {
            Some(open) if open.offer.is_some() => emoji::candidates(&open.editor),
            Some(_) | None => Vec::new(),
        }
    }

    fn in_composer(&mut self, press: &Press) -> Vec<Command> {
        let offered = self.offered();
        let columns = usize::from(Panes::of(self).composer.width.saturating_sub(PROMPT + 1).max(1));
        let Some(open) = &mut self.open else { return Vec::new() };
        if let (Some(chosen), Some(last)) = (open.offer, offered.len().checked_sub(1)) {
            match press.code {
                KeyCode::Tab => {
                    if let Some(candidate) = offered.get(chosen.min(last)) {
                        emoji::complete(&mut open.editor, *candidate);
                    }
                    open.offer = None;
                    return Vec::new();
                }
                KeyCode::Up => open.offer = Some(chosen.min(last).saturating_sub(1)),
                KeyCode::Down => open.offer = Some((chosen + 1).min(last)),
                KeyCode::Esc => open.offer = None,
                _ => return self.type_in(press),
            }
            return Vec::new();
        }
        match (press.code, press.alt || press.shift) {
            (KeyCode::Enter, false) => self.send(),
            (KeyCode::Enter, true) => self.paste_in("\n"),
            (KeyCode::Char('j'), _) if press.ctrl => self.paste_in("\n"),
            (KeyCode::Up, _) if !open.editor.move_rows(false, columns) => {
                self.focus = Focus::Messages;
                self.select_last();
                Vec::new()
            }
            (KeyCode::Down, _) => {
                open.editor.move_rows(true, columns);
                Vec::new()
            }
            (KeyCode::Up, _) => Vec::new(),
            (KeyCode::Esc, _) if open.reply_to.take().is_some() => Vec::new(),
            (KeyCode::Esc, _) => {
                self.focus = Focus::Messages;
                self.select_last();
                Vec::new()
            }
            _ => self.type_in(press),
        }
    }

    fn type_in(&mut self, press: &Press) -> Vec<Command> {
        if press.code == KeyCode::Enter {
            return self.send();
        }
        let Some(open) = &mut self.open else { return Vec::new() };
        if write(&mut open.editor, press) {
            if press.code == KeyCode::Char(':') {
                emoji::close(&mut open.editor);
            }
            open.offer = Some(0);
        }
        Vec::new()
    }

    fn paste_in(&mut self, text: &str) -> Vec<Command> {
        if let Some(open) = &mut self.open {
            open.editor.insert(text);
            open.offer = None;
        }
        Vec::new()
    }

    pub(crate) fn on_paste(&mut self, text: &str) -> Vec<Command> {
        let line = || text.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some(overlay) = &mut self.overlay {
            if let Overlay::NewChat { editor, problem } = overlay {
                editor.insert(&line());
                *problem = None;
            }
            return Vec::new();
        }
        if let Some(search) = &mut self.search {
            search.editor.insert(&line());
            return self.look(Direction::Older, true);
        }
        if self.open.is_some() {
            self.focus = Focus::Composer;
        }
        self.paste_in(text)
    }
}

impl Overlay {
    fn new_chat() -> Self {
        Self::NewChat { editor: Editor::default(), problem: None }
    }
}

/// Types or edits. False when the key does neither.
fn write(editor: &mut Editor, press: &Press) -> bool {
    let edit = match (press.code, press.ctrl, press.alt) {
        (KeyCode::Char(c), false, false) => {
            editor.insert(c.encode_utf8(&mut [0; 4]));
            return true;
        }
        (KeyCode::Left, true, _) | (KeyCode::Left, _, true) => Edit::WordLeft,
        (KeyCode::Char('b'), false, true) => Edit::WordLeft,
        (KeyCode::Right, true, _) | (KeyCode::Right, _, true) => Edit::WordRight,
        (KeyCode::Char('f'), false, true) => Edit::WordRight,
        (KeyCode::Left, ..) | (KeyCode::Char('b'), true, false) => Edit::Left,
        (KeyCode::Right, ..) => Edit::Right,
        (KeyCode::Home, ..) | (KeyCode::Char('a'), true, _) => Edit::Home,
        (KeyCode::End, ..) | (KeyCode::Char('e'), true, _) => Edit::End,
        (KeyCode::Backspace, true, _) | (KeyCode::Backspace, _, true) => Edit::KillWord,
        (KeyCode::Char('w'), true, _) => Edit::KillWord,
        (KeyCode::Backspace, ..) | (KeyCode::Char('h'), true, _) => Edit::Backspace,
        (KeyCode::Char('d'), false, true) | (KeyCode::Delete, true, _) => Edit::KillWordRight,
        (KeyCode::Delete, ..) | (KeyCode::Char('d'), true, _) => Edit::Delete,
        (KeyCode::Char('k'), true, _) => Edit::KillToEnd,
        (KeyCode::Char('u'), true, _) => Edit::KillToStart,
        (KeyCode::Char('y'), true, _) => Edit::Yank,
        _ => return false,
    };
    editor.edit(edit);
    true
}
