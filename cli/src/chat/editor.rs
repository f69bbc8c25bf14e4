//! One text that is being written: a caret that moves by grapheme, and what can be done at it. Knows
//! no keys and no screen.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation as _;

use super::text;

/// A text and where the caret stands in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Editor {
    text: String,
    /// In bytes, between two graphemes.
    caret: usize,
    /// The column that moving up and down aims at.
    goal: Option<usize>,
    /// What was killed last.
    killed: String,
}

/// What can be done at the caret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edit {
    Left,
    Right,
    WordLeft,
    WordRight,
    Home,
    End,
    Backspace,
    Delete,
    KillWord,
    KillWordRight,
    KillToStart,
    KillToEnd,
    Yank,
}

impl Editor {
    pub(crate) fn with(text: String) -> Self {
        Self { caret: text.len(), text, ..Self::default() }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// What stands before the caret.
    pub(crate) fn before(&self) -> &str {
        self.text.get(..self.caret).unwrap_or_default()
    }

    fn after(&self) -> &str {
        self.text.get(self.caret..).unwrap_or_default()
    }

    /// Takes the text out; what was killed stays.
    pub(crate) fn take(&mut self) -> String {
        self.caret = 0;
        self.goal = None;
        core::mem::take(&mut self.text)
    }

    pub(crate) fn insert(&mut self, text: &str) {
        self.goal = None;
        let text = text::typed(text);
        self.text.insert_str(self.caret, &text);
        self.caret = self.boundary(self.caret + text.len());
    }

    /// Puts `text` in the place of the last `bytes` before the caret.
    pub(crate) fn replace_before(&mut self, bytes: usize, text: &str) {
        self.cut(self.caret.saturating_sub(bytes)..self.caret);
        self.insert(text);
    }

    pub(crate) fn edit(&mut self, edit: Edit) {
        self.goal = None;
        let caret = self.caret;
        match edit {
            Edit::Left => self.caret = self.left(),
            Edit::Right => self.caret = self.right(),
            Edit::WordLeft => self.caret = self.word_left(),
            Edit::WordRight => self.caret = self.word_right(),
            Edit::Home => self.caret = self.line_start(),
            Edit::End => self.caret = self.line_end(),
            Edit::Backspace => {
                self.cut(self.left()..caret);
            }
            Edit::Delete => {
                self.cut(caret..self.right());
            }
            Edit::KillWord => self.kill(self.word_left()..caret),
            Edit::KillWordRight => self.kill(caret..self.word_right()),
            Edit::KillToStart => self.kill(self.line_start()..caret),
            // At the end of a line, the end itself.
            Edit::KillToEnd if self.line_end() == caret => self.kill(caret..self.right()),
            Edit::KillToEnd => self.kill(caret..self.line_end()),
            Edit::Yank => self.insert(&self.killed.clone()),
        }
        // Words may end within a grapheme.
        self.caret = self.boundary(self.caret);
    }

    /// Moves by rows of a width. False when there is no row there.
    pub(crate) fn move_rows(&mut self, down: bool, width: usize) -> bool {
        let rows = self.rows(width);
        let (row, column) = self.caret_at(width);
        let goal = self.goal.unwrap_or(column);
        let wanted = if down { row.checked_add(1) } else { row.checked_sub(1) };
        let Some(range) = wanted.and_then(|row| rows.get(row)).cloned() else { return false };
        let is_soft = self.is_soft(&range);
        let line = self.text.get(range.clone()).unwrap_or_default();
        let mut columns = 0;
        let mut at = range.start;
        for part in line.graphemes(true) {
            columns += text::width(part);
            // The end of a row that goes on is the start of the next one.
            if columns > goal || (is_soft && at + part.len() == range.end) {
                break;
            }
            at += part.len();
        }
        self.caret = at;
        self.goal = Some(goal);
        true
    }

    /// The rows of the text at a width.
    pub(crate) fn rows(&self, width: usize) -> Vec<Range<usize>> {
        text::wrap(&self.text, width)
    }

    /// Row and column of the caret at a width.
    pub(crate) fn caret_at(&self, width: usize) -> (usize, usize) {
        let rows = self.rows(width);
        let row = rows.iter().rposition(|row| row.start <= self.caret).unwrap_or(0);
        let start = rows.get(row).map_or(0, |row| row.start);
        let before = self.text.get(start..self.caret).unwrap_or_default();
        (row, text::width(before))
    }

    /// Whether the row goes on in the next one without a line break.
    fn is_soft(&self, row: &Range<usize>) -> bool {
        self.text.get(row.end..).is_some_and(|rest| !rest.is_empty() && !rest.starts_with('\n'))
    }

    fn cut(&mut self, range: Range<usize>) -> String {
        self.caret = range.start;
        if self.text.get(range.clone()).is_none() {
            return String::new();
        }
        let cut = self.text.drain(range).collect();
        // What is left may have become one grapheme with what stands before it.
        self.caret = self.boundary(self.caret);
        cut
    }

    fn kill(&mut self, range: Range<usize>) {
        if !range.is_empty() {
            self.killed = self.cut(range);
        }
    }

    fn left(&self) -> usize {
        self.before().grapheme_indices(true).next_back().map_or(0, |(at, _)| at)
    }

    fn right(&self) -> usize {
        self.caret + self.after().graphemes(true).next().map_or(0, str::len)
    }

    fn word_left(&self) -> usize {
        let is_word = |(_, part): &(usize, &str)| !part.trim().is_empty();
        self.before().split_word_bound_indices().rev().find(is_word).map_or(0, |(at, _)| at)
    }

    fn word_right(&self) -> usize {
        let word =
            self.after().split_word_bound_indices().find(|(_, part)| !part.trim().is_empty());
        word.map_or(self.text.len(), |(at, part)| self.caret + at + part.len())
    }

    fn line_start(&self) -> usize {
        self.before().rfind('\n').map_or(0, |at| at + 1)
    }

    fn line_end(&self) -> usize {
        self.after().find('\n').map_or(self.text.len(), |at| self.caret + at)
    }

    /// The first place between two graphemes at or behind `at`.
    fn boundary(&self, at: usize) -> usize {
        let mut starts = self.text.grapheme_indices(true).map(|(start, _)| start);
        starts.find(|start| *start >= at).unwrap_or(self.text.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use unicode_segmentation::UnicodeSegmentation as _;

    use super::{Edit, Editor};

    /// The text with `|` at the caret.
    fn seen(editor: &Editor) -> String {
        format!("{}|{}", editor.before(), editor.after())
    }

    fn check(start: &str, edits: &[Edit], expected: &str) {
        let (before, after) = start.split_once('|').unwrap();
        let mut editor = Editor::with(before.to_owned());
        editor.text.push_str(after);
        for edit in edits {
            editor.edit(*edit);
        }
        assert_eq!(seen(&editor), expected, "{start:?} {edits:?}");
    }

    #[test]
    fn the_caret_moves_by_grapheme_word_and_line() {
        check("a👩‍👩‍👧‍👦|b", &[Edit::Left], "a|👩‍👩‍👧‍👦b");
        check("|e\u{301}x", &[Edit::Right], "e\u{301}|x");
        check("one two  |", &[Edit::WordLeft], "one |two  ");
        check("|  one two", &[Edit::WordRight], "  one| two");
        check("a\nbc|d\ne", &[Edit::Home], "a\n|bcd\ne");
        check("a\nbc|d\ne", &[Edit::End], "a\nbcd|\ne");
        check("|", &[Edit::Left, Edit::Right, Edit::WordLeft, Edit::WordRight], "|");
    }

    #[test]
    fn what_is_killed_can_be_put_back() {
        check("one two|", &[Edit::KillWord], "one |");
        check("one two|", &[Edit::KillWord, Edit::Home, Edit::Yank], "two|one ");
        check("a\nb|c\nd", &[Edit::KillToEnd], "a\nb|\nd");
        check("a|\nb", &[Edit::KillToEnd], "a|b");
        check("a\nb|c", &[Edit::KillToStart], "a\n|c");
        check("|one two", &[Edit::KillWordRight], "| two");
        check("a👍🏽|", &[Edit::Backspace], "a|");
        check("|漢b", &[Edit::Delete], "|b");
    }

    #[test]
    fn up_and_down_keep_the_column() {
        let mut editor = Editor::with("abcd\nx\nefgh".to_owned());
        editor.edit(Edit::Left);
        assert!(editor.move_rows(false, 20) && editor.move_rows(false, 20));
        assert_eq!(seen(&editor), "abc|d\nx\nefgh");
        assert!(!editor.move_rows(false, 20), "there is nothing above");
        assert!(editor.move_rows(true, 20));
        assert_eq!(seen(&editor), "abcd\nx|\nefgh");
        // Rows of one line that goes on.
        let mut editor = Editor::with("abcdef".to_owned());
        assert_eq!(editor.caret_at(3), (1, 3));
        assert!(editor.move_rows(false, 3));
        assert_eq!((seen(&editor).as_str(), editor.caret_at(3)), ("ab|cdef", (0, 2)));
    }

    #[test]
    fn what_is_pasted_keeps_its_lines_and_loses_its_controls() {
        let mut editor = Editor::with("<>".to_owned());
        editor.edit(Edit::Left);
        editor.insert("a\r\nb\u{1b}[31m");
        assert_eq!(seen(&editor), "<a\nb[31m|>");
        // An accent joins the letter before it.
        let mut editor = Editor::with("e".to_owned());
        editor.insert("\u{301}");
        editor.edit(Edit::Backspace);
        assert_eq!(seen(&editor), "|");
    }

    proptest! {
        #[test]
        fn the_caret_always_stands_between_graphemes(
            text in "[ab \n漢👍🏽\u{200d}\u{301}🇩🇪]{0,12}",
            steps in proptest::collection::vec(0usize..17, 0..24),
        ) {
            let mut editor = Editor::with(text);
            for step in steps {
                let edits = [
                    Edit::Left, Edit::Right, Edit::WordLeft, Edit::WordRight, Edit::Home, Edit::End,
                    Edit::Backspace, Edit::Delete, Edit::KillWord, Edit::KillWordRight,
                    Edit::KillToStart, Edit::KillToEnd, Edit::Yank,
                ];
                match (edits.get(step), step) {
                    (Some(edit), _) => editor.edit(*edit),
                    (None, 13) => drop(editor.move_rows(true, 4)),
                    (None, 14) => drop(editor.move_rows(false, 4)),
                    (None, 15) => editor.insert("\u{301}"),
                    (None, _) => editor.insert("🇩"),
                }
                let text = editor.text();
                let ends = text.grapheme_indices(true).map(|(at, _)| at).chain([text.len()]);
                prop_assert!(ends.into_iter().any(|at| at == editor.caret), "{editor:?}");
            }
        }
    }
}
