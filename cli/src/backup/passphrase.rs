//! Where a passphrase comes from: a file that its user alone may read, or the terminal.

use std::fs;
use std::io::{IsTerminal as _, stdin};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use zeroize::Zeroizing;

use super::sealed::Passphrase;

/// Shorter ones are guessed.
const CHARS_MIN: usize = 12;

/// Where the passphrase is.
#[derive(clap::Args)]
pub(crate) struct Source {
    /// A file whose first line is the passphrase; without it, you are asked.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl Source {
    /// For a new backup: typed twice.
    pub(crate) fn for_new(&self) -> anyhow::Result<Passphrase> {
        let text = match &self.passphrase_file {
            Some(path) => read(path)?,
            None => {
                let text = ask("Passphrase for the backup: ")?;
                ensure!(*text == *ask("The same again: ")?, "the two differ: nothing was written");
                text
            }
        };
        ensure!(
            text.chars().count() >= CHARS_MIN,
            "a passphrase of less than {CHARS_MIN} characters is guessed: take a longer one"
        );
        Ok(Passphrase::new(text))
    }

    /// For one that is there.
    pub(crate) fn for_old(&self) -> anyhow::Result<Passphrase> {
        let text = match &self.passphrase_file {
            Some(path) => read(path)?,
            None => ask("Passphrase of the backup: ")?,
        };
        Ok(Passphrase::new(text))
    }
}

fn ask(question: &str) -> anyhow::Result<Zeroizing<String>> {
    if !stdin().is_terminal() {
        bail!("there is no terminal to ask for the passphrase: name a file with --passphrase-file");
    }
    rpassword::prompt_password(question).map(Zeroizing::new).context("reading the passphrase")
}

fn read(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let reading = || format!("reading the passphrase from {}", path.display());
    let mode = fs::metadata(path).with_context(reading)?.mode() & 0o777;
    ensure!(
        mode & 0o077 == 0,
        "others may read {} (mode {mode:o}): run `chmod 600 {}`",
        path.display(),
        path.display()
    );
    let text = fs::read_to_string(path).map(Zeroizing::new).with_context(reading)?;
    let first = text.lines().next().unwrap_or_default();
    ensure!(!first.is_empty(), "the first line of {} is empty", path.display());
    Ok(Zeroizing::new(first.to_owned()))
}
