//! The list of conversations: name, unread messages, the last message.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier};
use ratatui::text::Span;
use tidings_client::ConversationView;
use tidings_client::pages::UNREAD_COUNT_MAX;

use super::{both, dim, fg, put, rows, tick_style};
use crate::chat::model::{Focus, Model};
use crate::chat::text;
use crate::chat::tick::Tick;

/// Rows of one conversation, where there is room.
const ROWS: u16 = 2;

/// How many rows each conversation has, and the first one that is visible.
fn place(model: &Model, area: Rect) -> (u16, usize) {
    let each = if area.height >= 2 * ROWS { ROWS } else { 1 };
    let fit = usize::from(area.height / each).max(1);
    (each, (model.cursor + 1).saturating_sub(fit))
}

/// The conversation at a row of the screen.
pub(crate) fn at_row(model: &Model, area: Rect, y: u16) -> Option<usize> {
    let (each, first) = place(model, area);
    Some(first + usize::from(y.checked_sub(area.y)? / each))
}

pub(super) fn draw(model: &Model, area: Rect, frame: &mut Frame<'_>) {
    let (each, first) = place(model, area);
    let mut lines = rows(area);
    let open = model.open.as_ref().map(|open| &open.peer);
    for (at, view) in model.conversations.iter().enumerate().skip(first) {
        let Some(row) = lines.next() else { return };
        let is_open = open == Some(&view.peer);
        let is_chosen = model.focus == Focus::List && model.cursor == at;
        let mark = match (is_chosen, is_open) {
            (true, _) => "▶",
            (false, true) => "▎",
            (false, false) => " ",
        };
        let mut style = fg(model, if is_open { Color::Cyan } else { Color::Reset });
        if is_open || view.unread > 0 {
            style = style.add_modifier(Modifier::BOLD);
        }
        if is_chosen {
            style = style.add_modifier(Modifier::REVERSED);
        }
        let left = vec![
            Span::styled(mark, style),
            Span::styled(view.peer.name.to_string(), style),
            Span::styled(format!("@{}", model.domains.host(view.peer.node)), dim()),
        ];
        put(frame, row, both(left, badge(model, view), area.width));
        if each == ROWS
            && let Some(row) = lines.next()
        {
            let (left, right) = last(model, view);
            put(frame, row, both(left, right, area.width));
        }
    }
}

fn badge(model: &Model, view: &ConversationView) -> Vec<Span<'static>> {
    if view.key_changed {
        return vec![Span::styled("!key ", fg(model, Color::Red).add_modifier(Modifier::BOLD))];
    }
    let count = match view.unread {
        0 => return Vec::new(),
        UNREAD_COUNT_MAX.. => "999+".to_owned(),
        count => count.to_string(),
    };
    let style = fg(model, Color::Green).add_modifier(Modifier::BOLD | Modifier::REVERSED);
    vec![Span::styled(format!(" {count} "), style), Span::raw(" ")]
}

/// The last message, or what was begun.
fn last<'a>(model: &Model, view: &ConversationView) -> (Vec<Span<'a>>, Vec<Span<'a>>) {
    let is_open = model.open.as_ref().is_some_and(|open| open.peer == view.peer);
    if let Some(draft) = view.draft.as_ref().filter(|_| !is_open) {
        let begun = Span::styled(" draft: ", fg(model, Color::Yellow));
        return (vec![begun, Span::styled(text::one_line(&draft.text), dim())], Vec::new());
    }
    let Some(message) = &view.last else {
        return (vec![Span::styled(" nothing yet", dim())], Vec::new());
    };
    let mut left = vec![Span::raw(" ")];
    if message.message.mine {
        let tick = Tick::of(&message.statuses);
        left.push(Span::styled(format!("{} ", tick.sign()), tick_style(model, tick)));
    }
    left.push(Span::styled(text::one_line(&message.text), dim()));
    let at = model.local(message.created_ms);
    let is_today =
        at.as_ref().map(jiff::ZonedDateTime::date) == model.local(model.now_ms).map(|n| n.date());
    let format = if is_today { "%H:%M " } else { "%-d %b " };
    let at = at.map(|at| at.strftime(format).to_string()).unwrap_or_default();
    (left, vec![Span::styled(at, dim())])
}
