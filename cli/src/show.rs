//! Small things that several commands show or read in the same way.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use serde_json::Value;
use tidings_node::clock;
use tidings_node::config;

/// Which node is meant.
#[derive(Clone, clap::Args)]
pub(crate) struct NodeFolder {
    /// The node's folder.
    #[arg(long, env = "TIDINGS_DATA", default_value = ".")]
    pub(crate) data: PathBuf,
}

impl NodeFolder {
    /// Where keys, store and socket are: as node.toml there says, even while it is bad, or the folder
    /// itself.
    pub(crate) fn data(&self) -> anyhow::Result<PathBuf> {
        Ok(config::data_folder(&self.data)?)
    }
}

/// Runs what waits on a small runtime.
pub(crate) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?
        .block_on(work)
}

/// Prints a value for a script: one line.
pub(crate) fn json(value: &Value) {
    say!("{}", escaped(&value.to_string()));
}

/// JSON that a terminal can show as it is: what [`plain`] would replace is escaped, and means the same.
fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if is_plain(c) {
            text.push(c);
            continue;
        }
        // Outside of its strings, JSON has no such characters.
        for unit in c.encode_utf16(&mut [0; 2]) {
            text.push_str(&format!("\\u{unit:04x}"));
        }
    }
    text
}

/// A field of an answer, as text without quotes; `-` when it is absent.
pub(crate) fn field(value: &Value, name: &str) -> String {
    match value.get(name) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => plain(text),
        Some(other) => plain(&other.to_string()),
    }
}

/// One line of text that came from elsewhere, for a terminal: what would move its cursor, change its
/// colours, or show characters in another order than they stand is made visible.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if is_plain(c) { c } else { char::REPLACEMENT_CHARACTER }).collect()
}

/// The same for text of several lines.
pub(crate) fn plain_lines(text: &str) -> String {
    text.split('\n').map(plain).collect::<Vec<_>>().join("\n")
}

/// Neither a control character but the tab, nor one of Unicode's invisible ones: those of category Cf,
/// and the separators of lines and paragraphs. The joiners stay, which scripts and emoji need.
fn is_plain(c: char) -> bool {
    match c {
        '\t' | '\u{200c}' | '\u{200d}' => true,
        '\u{ad}'
        | '\u{61c}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{13430}'..='\u{1343f}'
        | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e007f}' => false,
        _ => !c.is_control(),
    }
}

/// How long ago a time in Unix ms is, or how far ahead.
pub(crate) fn relative(at_ms: Option<u64>) -> String {
    let Some(at) = at_ms else { return "-".to_owned() };
    let now = clock::now_ms();
    if at <= now { format!("{} ago", span(now - at)) } else { format!("in {}", span(at - now)) }
}

/// A time in Unix ms for those who have to agree on it: the same text everywhere.
pub(crate) fn utc(at_ms: u64) -> String {
    let at = i64::try_from(at_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    // Whoever signed it may have meant no time at all.
    at.map_or_else(
        || format!("Unix ms {at_ms}"),
        |at| at.strftime("%Y-%m-%d %H:%M:%S%.3f UTC").to_string(),
    )
}

/// A span of time in its largest unit.
fn span(ms: u64) -> String {
    let seconds = Duration::from_millis(ms).as_secs();
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Lines of columns, as wide as they need to be.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) {
    let head: Vec<String> = head.iter().map(ToString::to_string).collect();
    let all = || std::iter::once(&head).chain(rows);
    let width = |column: usize| {
        all().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    for row in all() {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        say!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::{escaped, plain, plain_lines, utc};

    #[test]
    fn a_time_is_the_same_text_everywhere() {
        assert_eq!(utc(0), "1970-01-01 00:00:00.000 UTC");
        assert_eq!(utc(1_796_000_000_123), "2026-11-30 00:53:20.123 UTC");
        assert_eq!(utc(u64::MAX), format!("Unix ms {}", u64::MAX));
    }

    #[test]
    fn a_message_cannot_speak_to_the_terminal() {
        assert_eq!(plain("tab\there, é 👍"), "tab\there, é 👍");
        assert_eq!(plain("\u{1b}[2J\u{9b}31m\u{7}"), "\u{fffd}[2J\u{fffd}31m\u{fffd}");
        assert_eq!(
            plain("a\u{202e}b\rc\0d\u{7f}\u{2066}\u{feff}"),
            "a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}\u{fffd}\u{fffd}"
        );
        assert_eq!(plain("one\ntwo"), "one\u{fffd}two", "no line is forged");
        assert_eq!(plain_lines("one\ntwo\u{1b}"), "one\ntwo\u{fffd}");
        assert_eq!(plain("👩\u{200d}🚀 می\u{200c}خواهم"), "👩\u{200d}🚀 می\u{200c}خواهم");
    }

    #[test]
    fn json_has_nothing_for_the_terminal_and_means_the_same() {
        let wild = "é 👍 \u{1b}[2J\u{7f}\u{9b}31m\u{202e}\u{e0041}\u{2028}";
        let text = escaped(&serde_json::json!({ "text": wild }).to_string());
        assert!(text.chars().all(super::is_plain), "{text}");
        assert!(text.contains("é 👍"), "{text}");
        let back: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(back["text"], wild);
    }
}
