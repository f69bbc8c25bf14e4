//! What the mouse does: a click opens, selects or goes on writing; the wheel scrolls what it is over.

use crossterm::event::{MouseButton, MouseEvent, MouseEventKind};
use ratatui::layout::Position;

use super::model::{Command, Focus, Model, Overlay};
use super::pager::Pager;
use super::panes::Panes;
use super::view::list;

/// Rows of one turn of the wheel.
const WHEEL_ROWS: usize = 3;

impl Model {
    pub(crate) fn on_mouse(&mut self, mouse: MouseEvent) -> Vec<Command> {
        let at = Position { x: mouse.column, y: mouse.row };
        match mouse.kind {
            MouseEventKind::ScrollUp => self.wheel(at, false),
            MouseEventKind::ScrollDown => self.wheel(at, true),
            MouseEventKind::Down(MouseButton::Left) => self.click(at),
            MouseEventKind::Down(_)
            | MouseEventKind::Up(_)
            | MouseEventKind::Drag(_)
            | MouseEventKind::Moved
            | MouseEventKind::ScrollLeft
            | MouseEventKind::ScrollRight => Vec::new(),
        }
    }

    fn wheel(&mut self, at: Position, down: bool) -> Vec<Command> {
        let step = |from: usize, by: usize| {
            if down { from.saturating_add(by) } else { from.saturating_sub(by) }
        };
        let is_over_list = Panes::of(self).list.contains(at);
        match &mut self.overlay {
            Some(
                Overlay::Help { scroll }
                | Overlay::Notices { scroll }
                | Overlay::Details { scroll, .. },
            ) => *scroll = step(*scroll, WHEEL_ROWS),
            Some(Overlay::NewChat { .. }) => {}
            None if is_over_list => {
                let last = self.conversations.len().saturating_sub(1);
                self.cursor = step(self.cursor, 1).min(last);
            }
            None => return self.scroll(down, WHEEL_ROWS),
        }
        Vec::new()
    }

    fn click(&mut self, at: Position) -> Vec<Command> {
        if self.overlay.is_some() {
            self.overlay = None;
            return Vec::new();
        }
        let panes = Panes::of(self);
        if panes.list.contains(at) {
            let clicked = list::at_row(self, panes.list, at.y);
            let peer = clicked.and_then(|at| self.conversations.get(at)).map(|v| v.peer.clone());
            return peer.map(|peer| self.open(&peer)).unwrap_or_default();
        }
        if panes.composer.contains(at) {
            self.focus = Focus::Composer;
        } else if panes.messages.contains(at) {
            let row = at.y - panes.messages.y;
            let view = Pager::of(self).and_then(|pager| pager.at_row(row).cloned());
            if let (Some(open), Some(view)) = (&mut self.open, view) {
                open.selected = Some(view.message);
                self.focus = Focus::Messages;
            }
        }
        Vec::new()
    }
}
