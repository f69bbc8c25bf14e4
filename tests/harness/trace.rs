//! What happened, as one hash and, when asked for, as lines. Equal seeds must give equal hashes.

use sha2::{Digest as _, Sha256};

/// The record of a run.
#[derive(Debug)]
pub struct Trace {
    state: Sha256,
    steps: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// An empty record; with lines or without.
    #[must_use]
    pub fn new(with_lines: bool) -> Self {
        Self { state: Sha256::new(), steps: 0, lines: with_lines.then(Vec::new) }
    }

    /// Records something that happened: when, what, to whom, and the bytes of it.
    pub fn note(&mut self, at_ms: u64, what: &'static str, who: u64, bytes: &[u8]) {
        self.steps += 1;
        self.state.update(at_ms.to_be_bytes());
        self.state.update(what.as_bytes());
        self.state.update(who.to_be_bytes());
        self.state.update((bytes.len() as u64).to_be_bytes());
        self.state.update(bytes);
    }

    /// Adds a line for people, made only if somebody reads it.
    pub fn say(&mut self, at_ms: u64, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            let at_ms = at_ms - crate::world::EPOCH_MS;
            lines.push(format!("{:>6}.{:03}  {}", at_ms / 1_000, at_ms % 1_000, line()));
        }
    }

    /// How many things happened.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// The hash, and the lines.
    #[must_use]
    pub fn finish(self) -> ([u8; 32], Vec<String>) {
        (self.state.finalize().into(), self.lines.unwrap_or_default())
    }
}
