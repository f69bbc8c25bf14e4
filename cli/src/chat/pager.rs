//! Messages as rows of the screen: which rows a message has, which of them are visible, and what
//! scrolling does. Works outwards from what is visible; never lays out a whole page.

use std::ops::Range;

use jiff::tz::TimeZone;
use ratatui::layout::Rect;
use tidings_client::MessageView;
use tidings_client::event::MessageRef;

use super::model::{Model, Open, Scroll, local};
use super::panes::Panes;
use super::text;

/// From this width on each message has its time beside it.
const WIDTH_WITH_TIME: u16 = 36;
/// A space, two ticks and the dot of a read message.
pub(crate) const TICK_COLUMNS: usize = 4;
/// A name is shown again after so long, in ms.
const NAME_AGAIN_MS: u64 = 15 * 60_000;

/// One row of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Row {
    /// Another day begins.
    Day(String),
    /// So many messages of the writer are missing here.
    Missing(u64),
    /// What follows was unread when the conversation was opened.
    New,
    Name,
    /// What is answered.
    Quote(String),
    /// A part of [`Block::text`].
    Text(Range<usize>),
}

/// The rows of one message, with what stands above it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) rows: Vec<Row>,
    /// What it says, harmless.
    pub(crate) text: String,
}

/// A block, or the part of it that is visible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Visible {
    /// In the page.
    pub(crate) index: usize,
    pub(crate) block: Block,
    pub(crate) rows: Range<usize>,
}

/// The open conversation in a pane.
pub(crate) struct Pager<'a> {
    open: &'a Open,
    zone: &'a TimeZone,
    now_ms: u64,
    area: Rect,
}

impl Block {
    fn first_text(&self) -> usize {
        self.rows.iter().position(|row| matches!(row, Row::Text(_))).unwrap_or(0)
    }
}

impl<'a> Pager<'a> {
    /// `None` while no conversation is open.
    pub(crate) fn of(model: &'a Model) -> Option<Self> {
        let open = model.open.as_ref()?;
        let area = Panes::of(model).messages;
        Some(Self { open, zone: &model.zone, now_ms: model.now_ms, area })
    }

    pub(crate) const fn has_time(&self) -> bool {
        self.area.width >= WIDTH_WITH_TIME
    }

    fn height(&self) -> usize {
        usize::from(self.area.height)
    }

    /// Columns before the text: the time, a bar, spaces.
    pub(crate) const fn gutter(&self) -> usize {
        if self.has_time() { 9 } else { 2 }
    }

    fn columns(&self) -> usize {
        usize::from(self.area.width).saturating_sub(self.gutter() + TICK_COLUMNS).max(1)
    }

    fn message(&self, index: usize) -> Option<&MessageView> {
        self.open.page.messages.get(index)
    }

    fn count(&self) -> usize {
        self.open.page.messages.len()
    }

    fn block(&self, index: usize) -> Block {
        let Some(view) = self.message(index) else {
            return Block { rows: Vec::new(), text: String::new() };
        };
        let before = index.checked_sub(1).and_then(|index| self.message(index));
        let mut rows = Vec::new();
        let day = |view: &MessageView| local(self.zone, view.created_ms).map(|at| at.date());
        let is_new_day = before.is_none_or(|before| day(before) != day(view));
        if is_new_day {
            rows.extend(self.day(view.created_ms).map(Row::Day));
        }
        if view.missing > 0 {
            rows.push(Row::Missing(view.missing));
        }
        if self.open.new_from.as_ref() == Some(&view.message) {
            rows.push(Row::New);
        }
        let goes_on = before.is_some_and(|before| {
            before.message.mine == view.message.mine
                && view.created_ms.saturating_sub(before.created_ms) < NAME_AGAIN_MS
        });
        if !goes_on || !rows.is_empty() {
            rows.push(Row::Name);
        }
        if view.reply_to.is_some() {
            let quote = view.answers.as_deref().map(text::one_line);
            rows.push(Row::Quote(quote.unwrap_or_else(|| "a message that is not here".to_owned())));
        }
        let text = text::harmless(&view.text);
        rows.extend(text::wrap(&text, self.columns()).into_iter().map(Row::Text));
        Block { rows, text }
    }

    /// The day of a time, as people say it.
    fn day(&self, at_ms: u64) -> Option<String> {
        let at = local(self.zone, at_ms)?;
        let said = at.strftime("%A, %-d %B %Y").to_string();
        let today = local(self.zone, self.now_ms)?.date();
        Some(match at.date() {
            date if date == today => format!("Today, {said}"),
            date if today.yesterday().is_ok_and(|day| day == date) => format!("Yesterday, {said}"),
            _ => said,
        })
    }

    /// Message and row at the top.
    fn top(&self) -> (usize, usize) {
        match &self.open.scroll {
            Scroll::From { message, row } => match self.open.index_of(message) {
                Some(index) => {
                    let block = self.block(index);
                    match block.first_text().checked_add_signed(*row) {
                        Some(row) => (index, row.min(block.rows.len().saturating_sub(1))),
                        // What stood above it is another message now.
                        None => self.up((index, block.first_text()), row.unsigned_abs()),
                    }
                }
                None => self.tail(),
            },
            Scroll::Tail => self.tail(),
        }
    }

    /// Message and row at the top when the end is at the bottom.
    fn tail(&self) -> (usize, usize) {
        let (last, rows) = (self.count().saturating_sub(1), self.height());
        self.up((last, self.block(last).rows.len()), rows)
    }

    /// So many rows above a row, or the beginning.
    fn up(&self, (mut index, mut row): (usize, usize), mut rows: usize) -> (usize, usize) {
        while rows > row {
            rows -= row;
            let Some(before) = index.checked_sub(1) else { return (0, 0) };
            index = before;
            row = self.block(index).rows.len();
        }
        (index, row - rows)
    }

    fn down(&self, (mut index, mut row): (usize, usize), rows: usize) -> (usize, usize) {
        row += rows;
        while index < self.count() {
            let len = self.block(index).rows.len();
            if row < len {
                break;
            }
            row -= len;
            index += 1;
        }
        (index, row)
    }

    /// What is visible, from the top.
    pub(crate) fn visible(&self) -> Vec<Visible> {
        let (mut index, mut row) = self.top();
        let mut left = self.height();
        let mut all = Vec::new();
        while left > 0 && index < self.count() {
            let block = self.block(index);
            let end = block.rows.len().min(row + left);
            left -= end - row;
            all.push(Visible { index, block, rows: row..end });
            (index, row) = (index + 1, 0);
        }
        all
    }

    /// Messages of which the whole text is visible, or the end when it is higher than the pane.
    pub(crate) fn seen(&self) -> Vec<&MessageView> {
        let is_seen = |visible: &Visible| {
            let len = visible.block.rows.len();
            let first = visible.block.first_text();
            visible.rows.end == len
                && (visible.rows.start <= first || len - first > self.height())
                && self.area.width > 0
        };
        let seen = self.visible().into_iter().filter(is_seen);
        seen.filter_map(|visible| self.message(visible.index)).collect()
    }

    /// The message at a row of the pane.
    pub(crate) fn at_row(&self, row: u16) -> Option<&MessageView> {
        let visible = self.visible();
        let used: usize = visible.iter().map(|visible| visible.rows.len()).sum();
        let mut row = usize::from(row).checked_sub(self.height().saturating_sub(used))?;
        for visible in visible {
            if row < visible.rows.len() {
                return self.message(visible.index);
            }
            row -= visible.rows.len();
        }
        None
    }

    /// First and last visible message.
    pub(crate) fn ends(&self) -> Option<(usize, usize)> {
        let visible = self.visible();
        Some((visible.first()?.index, visible.last()?.index))
    }

    /// Rows from the top to the end of the page, counted no further than `most`.
    fn rows_below(&self, (index, row): (usize, usize), most: usize) -> usize {
        let mut rows = 0;
        for index in index..self.count() {
            rows += self.block(index).rows.len();
            if rows > most + row {
                break;
            }
        }
        rows.saturating_sub(row)
    }

    fn scroll_to(&self, top: (usize, usize)) -> Scroll {
        let is_end = self.rows_below(top, self.height()) <= self.height();
        match self.message(top.0) {
            Some(view) if !is_end || self.open.page.later => {
                let top = if is_end { self.tail() } else { top };
                let at = self.message(top.0).unwrap_or(view);
                let first = self.block(top.0).first_text();
                let row = top.1.cast_signed() - first.cast_signed();
                Scroll::From { message: at.message.clone(), row }
            }
            Some(_) | None => Scroll::Tail,
        }
    }

    /// Scrolled by so many rows.
    pub(crate) fn scrolled(&self, down: bool, rows: usize) -> Scroll {
        let top = self.top();
        self.scroll_to(if down { self.down(top, rows) } else { self.up(top, rows) })
    }

    /// Scrolled just so far that a message is visible.
    pub(crate) fn revealed(&self, message: &MessageRef) -> Scroll {
        let Some(index) = self.open.index_of(message) else { return self.open.scroll.clone() };
        let shown = self.visible().into_iter().find(|visible| visible.index == index);
        let is_whole = |visible: &Visible| visible.rows.len() == visible.block.rows.len();
        if shown.as_ref().is_some_and(is_whole) {
            return self.open.scroll.clone();
        }
        let len = self.block(index).rows.len();
        if (index, 0) < self.top() || len >= self.height() {
            return self.scroll_to((index, 0));
        }
        self.scroll_to(self.up((index, len), self.height()))
    }

    /// Scrolled so that a message stands at the top, or the end when that is closer.
    pub(crate) fn from(&self, message: &MessageRef) -> Scroll {
        self.open.index_of(message).map_or(Scroll::Tail, |index| self.scroll_to((index, 0)))
    }

    /// Scrolled so that a message stands in the middle.
    pub(crate) fn centred(&self, message: &MessageRef) -> Scroll {
        let Some(index) = self.open.index_of(message) else { return self.open.scroll.clone() };
        self.scroll_to(self.up((index, 0), self.height() / 2))
    }
}
