//! Which part of the screen is for what, at any size. Pure arithmetic; draws nothing.

use ratatui::layout::Rect;

use super::model::{Focus, Model};

/// Below this width there is room for the list or for the conversation.
const WIDE: u16 = 64;
const LIST_WIDTH: u16 = 28;
/// Rows of the text that is being written, at most.
const COMPOSER_ROWS_MAX: usize = 8;
/// Columns before the text that is being written: a prompt and a space.
pub(crate) const PROMPT: u16 = 2;

/// The parts; those that have no room are empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Panes {
    /// Who one is, and how the link is.
    pub(crate) top: Rect,
    pub(crate) list: Rect,
    /// A line between list and conversation.
    pub(crate) fence: Rect,
    /// With whom the conversation is.
    pub(crate) head: Rect,
    pub(crate) messages: Rect,
    /// The message that is being answered.
    pub(crate) reply: Rect,
    pub(crate) composer: Rect,
    /// Search, notices and hints.
    pub(crate) bottom: Rect,
}

impl Panes {
    pub(crate) fn of(model: &Model) -> Self {
        let all = Rect::new(0, 0, model.size.width, model.size.height);
        let mut panes = Self::default();
        let (top, rest) = split_top(all, u16::from(all.height >= 6));
        let wants_bottom = all.height >= 4 || (model.search.is_some() && all.height >= 2);
        let (rest, bottom) = split_bottom(rest, u16::from(wants_bottom));
        (panes.top, panes.bottom) = (top, bottom);
        let talk = if rest.width >= WIDE {
            panes.list = Rect { width: LIST_WIDTH, ..rest };
            panes.fence = Rect { x: rest.x + LIST_WIDTH, width: 1, ..rest };
            Rect { x: rest.x + LIST_WIDTH + 1, width: rest.width - LIST_WIDTH - 1, ..rest }
        } else if model.open.is_none() || model.focus == Focus::List {
            panes.list = rest;
            return panes;
        } else {
            rest
        };
        let Some(open) = &model.open else {
            panes.messages = talk;
            return panes;
        };
        let (head, talk) = split_top(talk, u16::from(all.height >= 8));
        let columns = usize::from(talk.width.saturating_sub(PROMPT + 1).max(1));
        let most = COMPOSER_ROWS_MAX.min(usize::from(talk.height / 3)).max(1);
        let rows = open.editor.rows(columns).len().clamp(1, most);
        let (talk, composer) = split_bottom(talk, u16::try_from(rows).unwrap_or(1));
        let wants_reply = open.reply_to.is_some() && talk.height >= 4;
        let (messages, reply) = split_bottom(talk, u16::from(wants_reply));
        Self { head, messages, reply, composer, ..panes }
    }
}

fn split_top(area: Rect, rows: u16) -> (Rect, Rect) {
    let rows = rows.min(area.height);
    let rest = Rect { y: area.y + rows, height: area.height - rows, ..area };
    (Rect { height: rows, ..area }, rest)
}

fn split_bottom(area: Rect, rows: u16) -> (Rect, Rect) {
    let rows = rows.min(area.height);
    let rest = Rect { height: area.height - rows, ..area };
    (rest, Rect { y: area.y + area.height - rows, height: rows, ..area })
}
