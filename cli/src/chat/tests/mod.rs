//! Model and view together: events in, and what a terminal shows. No terminal, no store, no clock.

mod any;
mod reading;
mod writing;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use jiff::tz::TimeZone;
use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::layout::Size;
use ratatui::style::{Color, Modifier};
use tidings_client::driver::{DownWhy, LinkState};
use tidings_client::event::{
    ClientEffect, CloseWhy, ComposeError, MessageRef, NameError, Peer, SendText, ShownMessage,
    Status, Warning,
};
use tidings_client::{
    ConversationView, Direction, Draft, MessageView, PageAt, PageView, Searched, StatusView,
};
use tidings_protocol::address::UserName;
use tidings_protocol::id::{DeviceId, MsgId, NodeId};
use tidings_protocol::refusal::RefusalCode;

use super::model::{Command, Event, Focus, Model, Overlay, Scroll};
use super::text;
use super::view::view;
use crate::home::Account;

/// Wednesday, 5 August 2026, 12:00.
const NOW_MS: u64 = 1_785_931_200_000;
const MINUTE_MS: u64 = 60_000;

fn peer(name: &str, node: u8) -> Peer {
    Peer { node: NodeId([node; 32]), name: UserName::parse(name).unwrap() }
}

fn bob() -> Peer {
    peer("bob", 2)
}

fn message(with: &Peer, number: u8, mine: bool, said: &str) -> MessageView {
    let mut msg = [0; 16];
    msg[0] = number;
    MessageView {
        message: MessageRef { peer: with.clone(), msg: MsgId(msg), mine },
        device: DeviceId([7; 16]),
        sequence: u64::from(number),
        missing: 0,
        text: said.to_owned(),
        reply_to: None,
        answers: None,
        created_ms: NOW_MS - 100 * MINUTE_MS + u64::from(number) * MINUTE_MS,
        displayed: mine,
        statuses: Vec::new(),
    }
}

fn conversation(messages: &[MessageView], with: &Peer) -> ConversationView {
    let unread = messages.iter().filter(|view| !view.displayed);
    ConversationView {
        peer: with.clone(),
        last: messages.last().cloned(),
        unread: unread.clone().count(),
        first_unread: unread.clone().next().map(|view| view.message.msg),
        draft: None,
        key_changed: false,
    }
}

fn page(messages: Vec<MessageView>) -> PageView {
    PageView { messages, earlier: false, later: false }
}

/// alice's screen, with what has been said to bob.
struct Desk {
    model: Model,
    commands: Vec<Command>,
}

impl Desk {
    fn new(width: u16, height: u16) -> Self {
        let me = peer("alice", 1);
        let account = Account {
            node: me.node.to_text(),
            name: me.name.to_string(),
            url: "ws://localhost".to_owned(),
        };
        let model = Model::new(account, me, TimeZone::UTC, NOW_MS, Size { width, height });
        Self { model, commands: Vec::new() }
    }

    /// The conversation with bob is open.
    fn with(width: u16, height: u16, messages: Vec<MessageView>) -> Self {
        let mut desk = Self::new(width, height);
        let others = [message(&peer("carol", 3), 1, false, "are you there?")];
        desk.on(Event::List(vec![
            conversation(&messages, &bob()),
            conversation(&others, &others[0].message.peer),
        ]));
        let commands = desk.model.open(&bob());
        let Some(Command::LoadPage(_, at)) = commands.last().cloned() else { panic!("no page") };
        desk.on(Event::Page(bob(), at, page(messages)));
        desk.commands.clear();
        desk
    }

    fn on(&mut self, event: Event) {
        self.commands.extend(self.model.update(event));
    }

    fn key(&mut self, code: KeyCode, modifiers: KeyModifiers) {
        self.on(Event::Key(KeyEvent::new(code, modifiers)));
    }

    fn press(&mut self, code: KeyCode) {
        self.key(code, KeyModifiers::NONE);
    }

    fn ctrl(&mut self, letter: char) {
        self.key(KeyCode::Char(letter), KeyModifiers::CONTROL);
    }

    fn type_in(&mut self, said: &str) {
        said.chars().for_each(|c| self.press(KeyCode::Char(c)));
    }

    fn mouse(&mut self, kind: MouseEventKind, column: u16, row: u16) {
        self.on(Event::Mouse(MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE }));
    }

    fn buffer(&self) -> Buffer {
        let Size { width, height } = self.model.size;
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| view(&self.model, frame)).unwrap();
        terminal.backend().buffer().clone()
    }

    /// The screen as text.
    fn lines(&self) -> Vec<String> {
        let buffer = self.buffer();
        let mut lines = Vec::new();
        for y in 0..buffer.area.height {
            let mut line = String::new();
            let mut x = 0;
            while x < buffer.area.width {
                let symbol = buffer[(x, y)].symbol();
                line.push_str(symbol);
                x += u16::try_from(text::width(symbol)).unwrap().max(1);
            }
            lines.push(line.trim_end().to_owned());
        }
        lines
    }

    fn shows(&self, wanted: &str) {
        let lines = self.lines();
        let is_there = lines.iter().any(|line| line.contains(wanted));
        assert!(is_there, "{wanted:?} is not in\n{}", lines.join("\n"));
    }

    fn hides(&self, unwanted: &str) {
        let lines = self.lines();
        let is_there = lines.iter().any(|line| line.contains(unwanted));
        assert!(!is_there, "{unwanted:?} is in\n{}", lines.join("\n"));
    }

    fn sent(&self) -> Vec<&SendText> {
        let mut sent = Vec::new();
        for command in &self.commands {
            if let Command::Send(send) = command {
                sent.push(send);
            }
        }
        sent
    }

    /// What was said to be displayed, by its numbers.
    fn displayed(&mut self) -> Vec<u8> {
        self.commands.clear();
        self.on(Event::Drawn);
        let mut numbers = Vec::new();
        for command in &self.commands {
            if let Command::Displayed(messages) = command {
                numbers.extend(messages.iter().map(|message| message.msg.0[0]));
            }
        }
        numbers
    }
}
