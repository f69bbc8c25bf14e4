//! What lies over the rest: help, notices, the details of a message, a new conversation.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear};
use tidings_client::{MessageView, StatusView};

use super::{bold, dim, fg, one_line_editor, put, rows};
use crate::chat::editor::Editor;
use crate::chat::keys::HELP;
use crate::chat::model::{Model, Overlay};
use crate::chat::text;
use crate::device::status_text;
use crate::home::address;
use crate::status;

/// Columns of a window.
const WIDTH: u16 = 78;
/// Columns of the keys on the help page.
const KEY_COLUMNS: usize = 26;

pub(super) fn draw(model: &Model, frame: &mut Frame<'_>) {
    match &model.overlay {
        None => {}
        Some(Overlay::Help { scroll }) => page(frame, " Help ", help(model), *scroll),
        Some(Overlay::Notices { scroll }) => page(frame, " Notices ", notices(model), *scroll),
        Some(Overlay::Details { message, statuses, scroll }) => {
            page(frame, " Message ", details(model, message, statuses), *scroll);
        }
        Some(Overlay::NewChat { editor, problem }) => {
            new_chat(model, editor, problem.as_deref(), frame);
        }
    }
}

/// A box in the middle, cleared; returns what is inside.
fn window(frame: &mut Frame<'_>, title: &'static str, width: u16, height: u16) -> Rect {
    let all = frame.area();
    let (width, height) = (width.min(all.width), height.min(all.height));
    let x = all.x + (all.width - width) / 2;
    let y = all.y + (all.height - height) / 2;
    let area = Rect { x, y, width, height };
    frame.render_widget(Clear, area);
    // Where there is hardly any room the border would take all of it.
    if width < 12 || height < 5 {
        return area;
    }
    let block = Block::bordered().title(title).title_style(bold());
    let inside = block.inner(area);
    frame.render_widget(block, area);
    inside
}

fn page(frame: &mut Frame<'_>, title: &'static str, lines: Vec<Line<'static>>, scroll: usize) {
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX).saturating_add(2);
    let inside = window(frame, title, WIDTH, height);
    let last = lines.len().saturating_sub(usize::from(inside.height));
    let shown = lines.into_iter().skip(scroll.min(last));
    for (row, line) in rows(inside).zip(shown) {
        put(frame, row, line);
    }
}

fn help(model: &Model) -> Vec<Line<'static>> {
    let is_narrow = usize::from(model.size.width) < 2 * KEY_COLUMNS + 8;
    let mut lines = Vec::new();
    for (title, keys) in HELP {
        lines.push(Span::styled(format!(" {title}"), bold()).into());
        for (key, what) in *keys {
            if is_narrow {
                lines.push(format!("   {key}").into());
                lines.extend(wrapped(model, what, "     "));
                continue;
            }
            let space = " ".repeat(KEY_COLUMNS.saturating_sub(text::width(key)));
            lines.push(format!("   {key}{space}{what}").into());
        }
    }
    lines
}

/// Lines that fit into a window, behind an indent.
fn wrapped(model: &Model, said: &str, indent: &str) -> Vec<Line<'static>> {
    let columns = usize::from(model.size.width.min(WIDTH).saturating_sub(3));
    let lines = text::wrap(said, columns.saturating_sub(indent.len()));
    let line = |range| format!("{indent}{}", said.get(range).unwrap_or_default());
    lines.into_iter().map(|range| line(range).into()).collect()
}

fn notices(model: &Model) -> Vec<Line<'static>> {
    if model.notices.is_empty() {
        return vec![" Nothing to say.".into()];
    }
    let mut lines = Vec::new();
    for notice in model.notices.iter().rev() {
        lines.push(Span::styled(format!(" {}", clock(model, notice.at_ms)), dim()).into());
        lines.extend(wrapped(model, &notice.text, "   "));
    }
    lines
}

fn clock(model: &Model, at_ms: u64) -> String {
    let at = model.local(at_ms);
    at.map_or_else(|| "-".to_owned(), |at| at.strftime("%-d %b %Y %H:%M:%S").to_string())
}

/// What `tidings status` shows, and what else is known of a message.
fn details(model: &Model, view: &MessageView, statuses: &[StatusView]) -> Vec<Line<'static>> {
    let message = &view.message;
    let mut lines = Vec::new();
    let way = if message.mine { "to" } else { "from" };
    lines.extend(wrapped(model, &format!("{way} {}", address(&message.peer)), " "));
    if let Some(domain) = model.domains.get(&message.peer.node) {
        lines.push(format!(" that node is {domain}").into());
    }
    lines.push(format!(" message {}", message.msg).into());
    lines.push(format!(" number {} of device {}", view.sequence, view.device).into());
    lines.push(format!(" written {}", clock(model, view.created_ms)).into());
    lines.push(Line::default());
    if !message.mine {
        let read = if view.displayed { "displayed on a device of yours" } else { "not displayed" };
        lines.push(format!(" {read}").into());
        return lines;
    }
    if statuses.is_empty() {
        lines.push(" waiting: nothing is proved yet".into());
    }
    for status in statuses {
        let mut said =
            status::describe(status, status_text, |at_ms| clock(model, at_ms)).into_iter();
        let title = said.next().unwrap_or_default();
        let style = bold().patch(fg(model, ratatui::style::Color::Cyan));
        lines.extend(wrapped(model, &title, " ").into_iter().map(|line| line.style(style)));
        for event in said {
            lines.extend(wrapped(model, event.trim_start(), "   "));
        }
    }
    lines.push(Line::default());
    lines.push(Span::styled(" To check it without trusting anybody:", dim()).into());
    lines.push(format!(" tidings export {} --out message.evidence", message.msg).into());
    lines
}

fn new_chat(model: &Model, editor: &Editor, problem: Option<&str>, frame: &mut Frame<'_>) {
    let inside = window(frame, " Write to ", WIDTH, 9);
    let mut lines = rows(inside);
    if let Some(row) = lines.next() {
        one_line_editor(frame, row, " to: ", editor);
    }
    let mut said = Vec::new();
    said.push(Line::default());
    match problem {
        Some(problem) => {
            let style = fg(model, ratatui::style::Color::Red).patch(bold());
            let problem = text::one_line(problem);
            said.extend(wrapped(model, &problem, " ").into_iter().map(|line| line.style(style)));
        }
        None => said.extend(wrapped(
            model,
            "name@domain or name@<node id>; the name alone of somebody at your own node",
            " ",
        )),
    }
    said.push(Line::default());
    said.push(Span::styled(" Your own address:", dim()).into());
    said.extend(wrapped(model, &address(&model.me), " "));
    for (row, line) in lines.zip(said) {
        put(frame, row, line);
    }
}
