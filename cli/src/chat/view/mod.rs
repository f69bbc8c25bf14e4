//! How the state looks: a pure function onto a frame. Decides nothing; where things are is in
//! `panes.rs` and `pager.rs`.

pub(crate) mod list;
mod overlay;
mod talk;

use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use tidings_client::Direction;
use tidings_client::driver::{DownWhy, LinkState};

use super::editor::Editor;
use super::model::{Focus, Model, Overlay, SearchState};
use super::panes::Panes;
use super::text;
use super::tick::Tick;
use crate::device::close_text;
use crate::home::address;

/// Draws everything.
pub(crate) fn view(model: &Model, frame: &mut Frame<'_>) {
    let panes = Panes::of(model);
    top(model, panes.top, frame);
    list::draw(model, panes.list, frame);
    for row in rows(panes.fence) {
        put(frame, row, Span::styled("│", dim()).into());
    }
    if model.open.is_some() {
        talk::draw(model, &panes, frame);
    } else {
        welcome(model, panes.messages, frame);
    }
    bottom(model, panes.bottom, frame);
    overlay::draw(model, frame);
}

// What all parts share.

/// Draws a line where there is room for it.
fn put(frame: &mut Frame<'_>, area: Rect, line: Line<'_>) {
    let area = area.intersection(frame.area());
    if !area.is_empty() {
        frame.render_widget(line, area);
    }
}

/// The rows of an area, from the top.
fn rows(area: Rect) -> impl Iterator<Item = Rect> {
    area.rows()
}

/// A colour, where colours are wanted.
fn fg(model: &Model, color: Color) -> Style {
    if model.color { Style::new().fg(color) } else { Style::new() }
}

const fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

const fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

const fn reversed() -> Style {
    Style::new().add_modifier(Modifier::REVERSED)
}

fn tick_style(model: &Model, tick: Tick) -> Style {
    match tick {
        Tick::Waits | Tick::Accepted | Tick::Delivered => dim(),
        Tick::Read => fg(model, Color::LightBlue).add_modifier(Modifier::BOLD),
        Tick::Failed => fg(model, Color::Red).add_modifier(Modifier::BOLD),
    }
}

/// Left and right on one line; the right one stays when there is room for one only.
fn both<'a>(left: Vec<Span<'a>>, right: Vec<Span<'a>>, columns: u16) -> Line<'a> {
    let columns = usize::from(columns);
    let wide = |spans: &[Span<'_>]| spans.iter().map(|span| text::width(&span.content)).sum();
    let (mut room, right_width): (usize, usize) = (columns, wide(&right));
    room = room.saturating_sub(right_width + usize::from(right_width > 0));
    let mut spans = Vec::new();
    for span in left {
        let cut = text::cut(&span.content, room);
        room -= text::width(&cut);
        spans.push(Span::styled(cut, span.style));
    }
    let used: usize = wide(&spans);
    spans.push(Span::raw(" ".repeat(columns.saturating_sub(used + right_width))));
    spans.extend(right);
    Line::from(spans)
}

/// One line that is being written, with the caret in view.
fn one_line_editor(frame: &mut Frame<'_>, area: Rect, prompt: &str, editor: &Editor) {
    let columns = usize::from(area.width).saturating_sub(text::width(prompt) + 1);
    let before = text::width(editor.before());
    // The end of what stands before the caret is what is worked on.
    let mut skipped = String::new();
    let mut start = 0;
    for (at, c) in editor.text().char_indices() {
        if before.saturating_sub(text::width(&skipped)) <= columns {
            start = at;
            break;
        }
        skipped.push(c);
        start = at + c.len_utf8();
    }
    let shown = editor.text().get(start..).unwrap_or_default().to_owned();
    put(frame, area, Line::from(vec![Span::styled(prompt.to_owned(), bold()), shown.into()]));
    let column = text::width(prompt) + before - text::width(&skipped);
    caret(frame, area, 0, column);
}

/// Puts the terminal's cursor into an area, if it is in it.
fn caret(frame: &mut Frame<'_>, area: Rect, row: usize, column: usize) {
    let add = |from: u16, by: usize| from.saturating_add(u16::try_from(by).unwrap_or(u16::MAX));
    let at = Position { x: add(area.x, column), y: add(area.y, row) };
    if area.intersection(frame.area()).contains(at) {
        frame.set_cursor_position(at);
    }
}

// The frame around list and conversation.

fn top(model: &Model, area: Rect, frame: &mut Frame<'_>) {
    let (sign, said, color) = link(model);
    let mut left = vec![Span::styled(" tidings ", bold())];
    if area.width >= 60 {
        left.push(Span::styled(address(&model.me), dim()));
    }
    let most = usize::from(area.width).saturating_sub(12);
    let said = text::cut(&said, most);
    let right = vec![Span::styled(format!("{sign} {said} "), fg(model, color))];
    put(frame, area, both(left, right, area.width));
}

/// Sign, words and colour for the link.
fn link(model: &Model) -> (&'static str, String, Color) {
    let (until_ms, why) = match &model.link {
        LinkState::Up => return ("●", "connected".to_owned(), Color::Green),
        LinkState::Opening => return ("◌", "connecting".to_owned(), Color::Yellow),
        LinkState::Stopped(why) => return ("✗", format!("stopped: {why}"), Color::Red),
        LinkState::Down { until_ms, why } => (*until_ms, why),
    };
    let when = match until_ms.saturating_sub(model.now_ms).div_ceil(1_000) {
        0 => "reconnecting".to_owned(),
        seconds => format!("reconnecting in {seconds} s"),
    };
    match why {
        DownWhy::Lost(said) => ("○", format!("{when}: {}", text::one_line(said)), Color::Yellow),
        DownWhy::Closed(why) => match close_text(*why) {
            Some(said) => ("✗", format!("{said} ({when})"), Color::Red),
            None => ("○", when, Color::Yellow),
        },
    }
}

fn welcome(model: &Model, area: Rect, frame: &mut Frame<'_>) {
    let own = address(&model.me);
    let mut said = vec![
        "Choose a conversation on the left, or press Ctrl-N to write to somebody.".to_owned(),
        String::new(),
        "Your own address, to give away:".to_owned(),
        own,
        String::new(),
        "F1 shows all keys.".to_owned(),
    ];
    if model.is_loaded && model.conversations.is_empty() {
        said.splice(0..1, ["Nobody has written yet. Press Ctrl-N to begin.".to_owned()]);
    }
    let columns = usize::from(area.width.saturating_sub(2)).max(1);
    let mut lines = Vec::new();
    for text in &said {
        lines.extend(text::wrap(text, columns).into_iter().filter_map(|line| text.get(line)));
    }
    for (row, line) in rows(area).skip(1).zip(lines) {
        put(frame, row, format!(" {line}").into());
    }
}

fn bottom(model: &Model, area: Rect, frame: &mut Frame<'_>) {
    if let Some(search) = &model.search {
        let state = match &search.state {
            SearchState::Idle => "Enter older, ↓ newer, Esc ends",
            SearchState::Looking(_) => "looking …",
            SearchState::Found(_) => "Enter older, ↓ newer, Esc selects",
            SearchState::Nothing(Direction::Older) => "nothing older",
            SearchState::Nothing(Direction::Newer) => "nothing newer",
        };
        let room = u16::try_from(text::width(state)).unwrap_or(0) + 2;
        let width = if area.width >= room + 24 { area.width - room } else { area.width };
        let rest = Rect { x: area.x + width, width: area.width - width, ..area };
        put(frame, rest, Span::styled(format!(" {state}"), dim()).into());
        one_line_editor(frame, Rect { width, ..area }, " search: ", &search.editor);
        return;
    }
    if let Some(notice) = model.fresh_notice() {
        let style = fg(model, Color::Yellow);
        let said = text::cut(&format!(" {}", notice.text), usize::from(area.width));
        put(frame, area, Span::styled(said, style).into());
        return;
    }
    let hint = match (&model.overlay, model.focus) {
        (Some(Overlay::NewChat { .. }), _) => " Enter opens it, Esc closes",
        (Some(_), _) => " ↑ ↓ scroll, Esc closes",
        (None, Focus::List) => " Enter opens, n new, Tab goes on, F1 help, Ctrl-Q quits",
        (None, Focus::Messages) => " Enter details, r answers, / searches, Esc writes, F1 help",
        (None, Focus::Composer) => " Enter sends, Alt-Enter new line, Ctrl-F search, F1 help",
    };
    put(frame, area, Span::styled(hint, dim()).into());
}
