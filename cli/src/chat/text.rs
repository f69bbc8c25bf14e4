//! Text as a terminal can show it: graphemes with their widths, lines that fit, and nothing in it that
//! a stranger could use against the terminal or its reader. Knows no colours and no messages.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation as _;
use unicode_width::UnicodeWidthStr as _;

/// Code points of one grapheme that are shown: the longest emoji have about a dozen, a pile of
/// accents can have thousands.
const GRAPHEME_CHARS_MAX: usize = 24;
/// What a tab becomes.
const TAB: &str = "    ";

/// The width of a text in columns.
pub(crate) fn width(text: &str) -> usize {
    text.graphemes(true).map(grapheme_width).sum()
}

fn grapheme_width(grapheme: &str) -> usize {
    if grapheme == "\n" { 0 } else { grapheme.width() }
}

/// A stranger's text made harmless: escape sequences and other controls become visible symbols,
/// what turns the direction of reading is taken out, and no grapheme has more accents than a terminal
/// can bear. Lines end with `\n` alone.
pub(crate) fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for grapheme in text.graphemes(true) {
        match grapheme {
            "\r\n" => out.push('\n'),
            other => out.extend(other.chars().take(GRAPHEME_CHARS_MAX).flat_map(shown)),
        }
    }
    out
}

/// A text on one line.
pub(crate) fn one_line(text: &str) -> String {
    harmless(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a character is shown as.
fn shown(c: char) -> impl Iterator<Item = char> {
    let (text, symbol) = match c {
        '\n' | '\u{2028}' | '\u{2029}' | '\u{85}' => ("\n", None),
        '\t' => (TAB, None),
        '\u{0}'..='\u{1f}' => ("", char::from_u32(u32::from(c) + 0x2400)),
        '\u{7f}' => ("\u{2421}", None),
        '\u{80}'..='\u{9f}' => ("\u{fffd}", None),
        _ if turns_direction(c) => ("", None),
        other => ("", Some(other)),
    };
    text.chars().chain(symbol)
}

/// Marks, embeddings, overrides and isolates of the bidirectional algorithm.
const fn turns_direction(c: char) -> bool {
    matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

/// What is pasted or typed here, as it may be sent: without controls, lines end with `\n`.
pub(crate) fn typed(text: &str) -> String {
    let text = text.replace("\r\n", "\n").replace('\r', "\n").replace('\t', TAB);
    text.chars().filter(|c| *c == '\n' || !c.is_control()).collect()
}

/// The lines of a text that is [`harmless`], none wider than `max` columns unless one grapheme is.
/// Broken after white space where there is some. Ranges of bytes, without the `\n`.
pub(crate) fn wrap(text: &str, max: usize) -> Vec<Range<usize>> {
    let mut lines = Vec::new();
    let mut start = 0;
    for line in text.split('\n') {
        wrap_line(text, start..start + line.len(), max.max(1), &mut lines);
        start += line.len() + 1;
    }
    lines
}

fn wrap_line(text: &str, all: Range<usize>, max: usize, lines: &mut Vec<Range<usize>>) {
    let Some(line) = text.get(all.clone()) else { return };
    let mut from = all.start;
    let mut columns = 0;
    // Where the line may be broken, and the columns before that.
    let mut gap: Option<(usize, usize)> = None;
    for (at, grapheme) in line.grapheme_indices(true) {
        let at = all.start + at;
        let width = grapheme_width(grapheme);
        let is_space = grapheme == " ";
        // White space may hang over the edge.
        if columns + width > max && !is_space && at > from {
            let (to, before) = gap.take().unwrap_or((at, columns));
            lines.push(from..to);
            from = to;
            columns -= before;
            if columns + width > max && at > from {
                lines.push(from..at);
                from = at;
                columns = 0;
            }
        }
        columns += width;
        if is_space {
            gap = Some((at + grapheme.len(), columns));
        }
    }
    lines.push(from..all.end);
}

/// A text cut to `max` columns, with an ellipsis when something is missing.
pub(crate) fn cut(text: &str, max: usize) -> String {
    if width(text) <= max {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut columns = 0;
    for grapheme in text.graphemes(true) {
        columns += grapheme_width(grapheme);
        if columns >= max {
            break;
        }
        out.push_str(grapheme);
    }
    if max > 0 {
        out.push('…');
    }
    out
}

/// Where `needle` stands in `text`, whatever the case of either. Ranges of bytes in `text`.
pub(crate) fn find_all(text: &str, needle: &str) -> Vec<Range<usize>> {
    let needle: Vec<String> = needle.graphemes(true).map(str::to_lowercase).collect();
    if needle.is_empty() {
        return Vec::new();
    }
    let parts: Vec<(usize, &str)> = text.grapheme_indices(true).collect();
    let folded: Vec<String> = parts.iter().map(|(_, part)| part.to_lowercase()).collect();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(window) = folded.get(at..at + needle.len()) {
        if window == needle.as_slice() {
            let start = parts.get(at).map_or(0, |(start, _)| *start);
            let end = parts.get(at + needle.len()).map_or(text.len(), |(end, _)| *end);
            found.push(start..end);
            at += needle.len();
        } else {
            at += 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{cut, find_all, harmless, one_line, typed, width, wrap};

    fn wrapped(text: &str, max: usize) -> Vec<&str> {
        wrap(text, max).into_iter().map(|line| &text[line]).collect()
    }

    #[test]
    fn lines_break_at_spaces_and_long_words_anywhere() {
        assert_eq!(wrapped("one two three", 7), ["one two ", "three"]);
        assert_eq!(wrapped("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(wrapped("ab cdefgh", 4), ["ab ", "cdef", "gh"]);
        assert_eq!(wrapped("a\n\nb", 9), ["a", "", "b"]);
        assert_eq!(wrapped("", 9), [""]);
    }

    #[test]
    fn wide_and_combined_characters_are_never_torn() {
        assert_eq!(wrapped("漢字漢字", 5), ["漢字", "漢字"]);
        assert_eq!(wrapped("👩‍👩‍👧‍👦👩‍👩‍👧‍👦", 3), ["👩‍👩‍👧‍👦", "👩‍👩‍👧‍👦"]);
        assert_eq!(wrapped("e\u{301}e\u{301}", 1), ["e\u{301}", "e\u{301}"]);
        assert_eq!(wrapped("漢", 1), ["漢"]);
        assert_eq!(width("漢e\u{301}👍"), 5);
    }

    #[test]
    fn what_could_harm_a_terminal_or_its_reader_is_made_visible_or_taken_out() {
        assert_eq!(harmless("\u{1b}[31mred\u{7}"), "␛[31mred␇");
        assert_eq!(harmless("evil\u{202e}gpj.exe"), "evilgpj.exe");
        assert_eq!(harmless("\u{2066}a\u{2069}\u{200f}"), "a");
        assert_eq!(harmless("a\r\nb\u{2028}c\u{9b}2J"), "a\nb\nc\u{fffd}2J");
        assert_eq!(harmless("a\tb"), "a    b");
        assert_eq!(harmless("👩‍👩‍👧‍👦🏳️‍🌈ç"), "👩‍👩‍👧‍👦🏳️‍🌈ç");
        let pile = format!("a{}", "\u{301}".repeat(5_000));
        assert_eq!(harmless(&pile).chars().count(), 24);
        assert_eq!(one_line(" a\n\u{1b} b "), "a ␛ b");
        assert_eq!(typed("a\r\nb\u{1b}[c\td"), "a\nb[c    d");
    }

    #[test]
    fn a_cut_text_says_so() {
        assert_eq!(cut("hello", 5), "hello");
        assert_eq!(cut("hello", 4), "hel…");
        assert_eq!(cut("漢字漢", 4), "漢…");
        assert_eq!(cut("hello", 0), "");
    }

    #[test]
    fn a_search_minds_neither_case_nor_accents_in_two_parts() {
        assert_eq!(find_all("Äpfel und äPFEL", "äpfel"), [0..6, 11..17]);
        assert_eq!(find_all("aaaaa", "aa"), [0..2, 2..4]);
        assert!(find_all("abc", "").is_empty());
        assert_eq!(find_all("e\u{301}e.e", "e"), [3..4, 5..6]);
    }

    proptest! {
        #[test]
        fn wrapping_loses_nothing_and_fits(text in "[a-c 漢👍e\u{301}\n]{0,60}", max in 2usize..12) {
            let lines = wrap(&text, max);
            let mut end = 0;
            for line in &lines {
                prop_assert!(line.start == end || text[end..line.start] == *"\n");
                end = line.end;
                prop_assert!(width(text[line.clone()].trim_end_matches(' ')) <= max);
            }
            prop_assert_eq!(end, text.len());
        }

        #[test]
        fn harmless_text_has_no_controls_left(text in "\\PC{0,20}[\u{0}-\u{9f}\u{202a}-\u{202e}]{0,20}") {
            let text = harmless(&text);
            prop_assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
            prop_assert_eq!(harmless(&text), text);
        }
    }
}
