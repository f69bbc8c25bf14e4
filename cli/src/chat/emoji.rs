//! `:name:` becomes an emoji: what could be meant by what stands before the caret.

use super::editor::Editor;

/// Candidates that are offered.
const OFFERED_MAX: usize = 6;
/// Letters before anything is offered, so that `:-)` and `12:30` are left alone.
const LETTERS_MIN: usize = 2;

/// An emoji that may be meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// The emoji.
    pub(crate) emoji: &'static str,
    /// Its name, without colons.
    pub(crate) name: &'static str,
}

/// The name that is being typed, without its colon.
fn name_before(text: &str) -> Option<&str> {
    let (before, name) = text.rsplit_once(':')?;
    let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || "_+-".contains(c));
    let begins = before.chars().next_back().is_none_or(|c| !c.is_alphanumeric());
    (is_name && begins).then_some(name)
}

/// What may be meant, best first.
pub(crate) fn candidates(editor: &Editor) -> Vec<Candidate> {
    let Some(name) = name_before(editor.before()) else { return Vec::new() };
    let wanted = name.to_ascii_lowercase();
    let letters = wanted.chars().filter(char::is_ascii_alphanumeric).count();
    if letters < LETTERS_MIN {
        return Vec::new();
    }
    let mut found: Vec<(usize, usize, Candidate)> = Vec::new();
    for emoji in emojis::iter() {
        let named = emoji.shortcodes().filter_map(|name| name.find(&wanted).map(|at| (at, name)));
        if let Some((at, name)) = named.min_by_key(|(at, name)| (*at, name.len())) {
            found.push((at, name.len(), Candidate { emoji: emoji.as_str(), name }));
        }
    }
    found.sort_by_key(|(at, length, candidate)| (*at > 0, *length, candidate.name));
    found.into_iter().map(|(_, _, candidate)| candidate).take(OFFERED_MAX).collect()
}

/// Puts a candidate in the place of what was typed of it.
pub(crate) fn complete(editor: &mut Editor, candidate: Candidate) {
    if let Some(name) = name_before(editor.before()) {
        editor.replace_before(name.len() + 1, candidate.emoji);
    }
}

/// A colon was typed: when it closes the name of an emoji, that stands there now.
pub(crate) fn close(editor: &mut Editor) {
    let Some(open) = editor.before().strip_suffix(':') else { return };
    let Some(name) = name_before(open) else { return };
    let bytes = name.len() + 2;
    if let Some(emoji) = emojis::get_by_shortcode(name) {
        editor.replace_before(bytes, emoji.as_str());
    }
}

#[cfg(test)]
mod tests {
    use super::{candidates, close, complete};
    use crate::chat::editor::Editor;

    #[test]
    fn names_are_completed_best_first() {
        let mut editor = Editor::with("see :rock".to_owned());
        let offered = candidates(&editor);
        assert_eq!(offered[0].name, "rock");
        assert!(offered.iter().any(|candidate| candidate.name == "rocket"), "{offered:?}");
        let rocket = offered.iter().find(|candidate| candidate.name == "rocket").unwrap();
        complete(&mut editor, *rocket);
        assert_eq!(editor.text(), "see 🚀");
        assert_eq!(candidates(&Editor::with(":+1".to_owned())).len(), 0, "one letter is few");
    }

    #[test]
    fn a_closed_name_becomes_an_emoji_and_times_do_not() {
        for (typed, expected) in [
            (":rocket:", "🚀"),
            (":+1:", "👍"),
            ("a :tada:", "a 🎉"),
            ("at 12:30:", "at 12:30:"),
            (":none_such:", ":none_such:"),
            ("::", "::"),
        ] {
            let mut editor = Editor::with(typed.to_owned());
            close(&mut editor);
            assert_eq!(editor.text(), expected);
        }
        assert!(candidates(&Editor::with("12:30".to_owned())).is_empty());
        assert!(candidates(&Editor::with("plain".to_owned())).is_empty());
    }
}
