//! The open conversation: its messages, and what is being written.

use std::ops::Range;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Clear;
use tidings_client::MessageView;

use super::{bold, both, caret, dim, fg, put, reversed, rows, tick_style};
use crate::chat::model::{Focus, Model, Open, Scroll};
use crate::chat::pager::{Block, Pager, Row, TICK_COLUMNS, Visible};
use crate::chat::panes::{PROMPT, Panes};
use crate::chat::text;
use crate::chat::tick::Tick;

pub(super) fn draw(model: &Model, panes: &Panes, frame: &mut Frame<'_>) {
    let Some(open) = &model.open else { return };
    head(model, open, panes.head, frame);
    messages(model, open, panes.messages, frame);
    reply(open, panes.reply, frame);
    composer(model, open, panes.composer, frame);
    offer(model, open, panes.composer, frame);
}

fn head(model: &Model, open: &Open, area: Rect, frame: &mut Frame<'_>) {
    let left = vec![
        Span::styled(format!(" {}", open.peer.name), bold()),
        Span::styled(format!("@{}", model.domains.host(open.peer.node)), dim()),
    ];
    let changed = model.conversation(&open.peer).is_some_and(|view| view.key_changed);
    let right = if changed {
        let said = "account key changed: messages wait ";
        vec![Span::styled(said, fg(model, Color::Red).add_modifier(Modifier::BOLD))]
    } else if open.scroll != Scroll::Tail {
        vec![Span::styled("↓ more below, End ", fg(model, Color::Yellow))]
    } else if panes_hide_list(model) && model.unread_elsewhere() > 0 {
        vec![Span::styled(format!("{} elsewhere ", model.unread_elsewhere()), bold())]
    } else {
        Vec::new()
    };
    put(frame, area, both(left, right, area.width).patch_style(Style::new().underlined()));
}

fn panes_hide_list(model: &Model) -> bool {
    Panes::of(model).list.is_empty()
}

fn messages(model: &Model, open: &Open, area: Rect, frame: &mut Frame<'_>) {
    let Some(pager) = Pager::of(model) else { return };
    let visible = pager.visible();
    let used: usize = visible.iter().map(|visible| visible.rows.len()).sum();
    if used == 0 && open.is_loaded {
        let said = format!(" Nothing was said yet. What you write goes to {}.", open.peer.name);
        put(frame, area, Span::styled(said, dim()).into());
        return;
    }
    let mut lines = rows(area).skip(usize::from(area.height).saturating_sub(used));
    for part in &visible {
        let Some(view) = open.page.messages.get(part.index) else { continue };
        let drawn = Drawn { model, open, view, block: &part.block, pager: &pager };
        for row in part.rows.clone() {
            let (Some(line), Some(area)) = (drawn.row(row, area.width), lines.next()) else {
                continue;
            };
            put(frame, area, line);
        }
    }
    loading(open, area, &visible, frame);
}

/// What comes next is on its way from the store.
fn loading(open: &Open, area: Rect, visible: &[Visible], frame: &mut Frame<'_>) {
    let is_at_start = visible.first().is_some_and(|part| part.index == 0 && part.rows.start == 0);
    if open.page.earlier && is_at_start {
        let first = Rect { height: area.height.min(1), ..area };
        put(frame, first, Span::styled(" earlier messages …", dim()).into());
    }
}

/// A message that is being drawn.
struct Drawn<'a> {
    model: &'a Model,
    open: &'a Open,
    view: &'a MessageView,
    block: &'a Block,
    pager: &'a Pager<'a>,
}

impl<'a> Drawn<'a> {
    fn row(&self, row: usize, columns: u16) -> Option<Line<'a>> {
        let warn = fg(self.model, Color::Yellow);
        Some(match self.block.rows.get(row)? {
            Row::Day(day) => ruled(day, columns, dim()),
            Row::New => ruled("new", columns, warn.add_modifier(Modifier::BOLD)),
            Row::Missing(count) => {
                let who = self.writer();
                let plural = if *count == 1 { "message" } else { "messages" };
                ruled(&format!("{count} {plural} of {who} missing here"), columns, warn)
            }
            Row::Name => {
                let name =
                    Span::styled(self.writer(), self.bar_style().add_modifier(Modifier::BOLD));
                Line::from(vec![Span::raw(" ".repeat(self.pager.gutter())), name])
            }
            Row::Quote(said) => {
                let mut spans = self.gutter(false);
                let room = usize::from(columns).saturating_sub(self.pager.gutter() + 3);
                spans.push(Span::styled(format!("↳ {}", text::cut(said, room)), dim()));
                Line::from(spans)
            }
            Row::Text(range) => self.text(row, range.clone(), columns),
        })
    }

    fn writer(&self) -> String {
        if self.view.message.mine { "you".to_owned() } else { self.open.peer.name.to_string() }
    }

    fn is_selected(&self) -> bool {
        self.open.selected.as_ref() == Some(&self.view.message)
    }

    fn bar_style(&self) -> Style {
        fg(self.model, if self.view.message.mine { Color::Green } else { Color::Cyan })
    }

    /// The time on the first row of the text, a bar on all.
    fn gutter(&self, is_first: bool) -> Vec<Span<'a>> {
        let mut spans = Vec::new();
        if self.pager.has_time() {
            let at = self.model.local(self.view.created_ms).filter(|_| is_first);
            let at = at.map(|at| at.strftime("%H:%M").to_string()).unwrap_or_default();
            spans.push(Span::styled(format!(" {at:>5} "), dim()));
        }
        let bar = if self.is_selected() { "▶" } else { "▎" };
        spans.push(Span::styled(bar, self.bar_style()));
        spans.push(Span::raw(" "));
        spans.truncate(if self.pager.has_time() { 3 } else { 2 });
        spans
    }

    fn text(&self, row: usize, range: Range<usize>, columns: u16) -> Line<'a> {
        let before = row.checked_sub(1).and_then(|row| self.block.rows.get(row));
        let is_first = !matches!(before, Some(Row::Text(_)));
        let is_last = row + 1 == self.block.rows.len();
        let mut left = self.gutter(is_first);
        let style = if self.is_selected() { bold() } else { Style::new() };
        left.extend(self.marked(range, style));
        let mut right = Vec::new();
        if self.view.message.mine {
            let tick = Tick::of(&self.view.statuses);
            let sign = if is_last { tick.sign() } else { "" };
            let sign = format!("{sign:<width$}", width = TICK_COLUMNS - 1);
            right.push(Span::styled(sign, tick_style(self.model, tick)));
        }
        both(left, right, columns)
    }

    /// The text, with what is searched marked.
    fn marked(&self, range: Range<usize>, style: Style) -> Vec<Span<'a>> {
        let needle = self.model.search.as_ref().map_or("", |search| search.editor.text());
        let mut spans = Vec::new();
        let mut at = range.start;
        let part = |from: usize, to: usize| self.block.text.get(from..to).unwrap_or_default();
        for found in text::find_all(&self.block.text, needle) {
            let (start, end) = (found.start.max(at), found.end.min(range.end));
            if start < end {
                spans.push(Span::styled(part(at, start).to_owned(), style));
                let mark = fg(self.model, Color::Yellow).patch(reversed());
                spans.push(Span::styled(part(start, end).to_owned(), mark));
                at = end;
            }
        }
        spans.push(Span::styled(part(at, range.end).to_owned(), style));
        spans
    }
}

/// Words in the middle of a line.
fn ruled<'a>(said: &str, columns: u16, style: Style) -> Line<'a> {
    let columns = usize::from(columns);
    let said = text::cut(&format!(" {said} "), columns);
    let left = columns.saturating_sub(text::width(&said)) / 2;
    let right = columns.saturating_sub(text::width(&said) + left);
    Span::styled(format!("{}{said}{}", "─".repeat(left), "─".repeat(right)), style).into()
}

fn reply(open: &Open, area: Rect, frame: &mut Frame<'_>) {
    let Some(reply_to) = open.reply_to else { return };
    let mut answered = open.page.messages.iter().filter(|view| view.message.msg == reply_to);
    let said = answered.next().map(|view| text::one_line(&view.text));
    let said = said.unwrap_or_else(|| "a message further up".to_owned());
    let said = text::cut(&format!(" ↳ answers: {said}"), usize::from(area.width));
    put(frame, area, Span::styled(said, dim()).into());
}

fn composer(model: &Model, open: &Open, area: Rect, frame: &mut Frame<'_>) {
    let columns = usize::from(area.width.saturating_sub(PROMPT + 1).max(1));
    let lines = open.editor.rows(columns);
    let (row, column) = open.editor.caret_at(columns);
    let first = (row + 1).saturating_sub(usize::from(area.height.max(1)));
    let has_focus = model.focus == Focus::Composer && model.search.is_none();
    let prompt = if has_focus { fg(model, Color::Green).patch(bold()) } else { dim() };
    for (at, (area, line)) in rows(area).zip(lines.iter().skip(first)).enumerate() {
        let sign = if at == 0 { "› " } else { "  " };
        let said = text::harmless(open.editor.text().get(line.clone()).unwrap_or_default());
        put(frame, area, Line::from(vec![Span::styled(sign, prompt), Span::raw(said)]));
    }
    if open.editor.is_empty() && area.height > 0 {
        let x = area.x.saturating_add(PROMPT);
        let hint = Rect { x, width: area.width.saturating_sub(PROMPT), ..area };
        put(frame, hint, Span::styled(format!("write to {}", open.peer.name), dim()).into());
    }
    if has_focus && model.overlay.is_none() {
        caret(frame, area, row - first, usize::from(PROMPT) + column);
    }
}

/// Emoji that may be meant, above what is being written.
fn offer(model: &Model, open: &Open, composer: Rect, frame: &mut Frame<'_>) {
    if model.focus != Focus::Composer {
        return;
    }
    let offered = model.offered();
    let chosen = open.offer.unwrap_or(0).min(offered.len().saturating_sub(1));
    let height = u16::try_from(offered.len()).unwrap_or(0).min(composer.y);
    let width = composer.width.saturating_sub(PROMPT).min(32);
    let x = composer.x.saturating_add(PROMPT);
    let area = Rect { x, y: composer.y - height, width, height }.intersection(frame.area());
    frame.render_widget(Clear, area);
    for (at, (row, candidate)) in rows(area).zip(&offered).enumerate() {
        let mark = if at == chosen { "▶" } else { " " };
        let style = if at == chosen { bold() } else { dim() };
        let said = format!("{mark}{} :{}:", candidate.emoji, candidate.name);
        let right = if at == chosen { "Tab " } else { "" };
        let left = vec![Span::styled(said, style)];
        put(
            frame,
            row,
            both(left, vec![Span::styled(right, dim())], width).patch_style(reversed()),
        );
    }
}
