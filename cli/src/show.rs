//! Small things that several commands show or read in the same way.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tidings_node::clock;
use tidings_node::config::{self, Config};

/// Which node is meant.
#[derive(clap::Args)]
pub(crate) struct NodeFolder {
    /// The node's folder.
    #[arg(long, env = "TIDINGS_DATA", default_value = ".")]
    pub(crate) data: PathBuf,
}

impl NodeFolder {
    /// Where keys, store and socket are: as node.toml there says, or the folder itself.
    pub(crate) fn data(&self) -> anyhow::Result<PathBuf> {
        let path = self.data.join(config::FILE_NAME);
        if path.exists() { Ok(Config::read(&path)?.data) } else { Ok(self.data.clone()) }
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
    println!("{value}");
}

/// A field of an answer, as text without quotes; `-` when it is absent.
pub(crate) fn field(value: &Value, name: &str) -> String {
    match value.get(name) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// Text of others for a terminal: what would move its cursor or change its colours is made visible.
pub(crate) fn plain(text: &str) -> String {
    let visible = |c: char| if c.is_control() && c != '\t' { '\u{fffd}' } else { c };
    text.chars().map(visible).collect()
}

/// How long ago a time in Unix ms is, or how far ahead.
pub(crate) fn relative(at_ms: Option<u64>) -> String {
    let Some(at) = at_ms else { return "-".to_owned() };
    let now = clock::now_ms();
    if at <= now { format!("{} ago", span(now - at)) } else { format!("in {}", span(at - now)) }
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
        println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn a_message_cannot_speak_to_the_terminal() {
        assert_eq!(plain("tab\there, é 👍"), "tab\there, é 👍");
        assert_eq!(plain("\u{1b}[2J\u{9b}31m\u{7}"), "\u{fffd}[2J\u{fffd}31m\u{fffd}");
    }
}
