//! `tidings export`: writes what is proved about a message into a file for others.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use serde_json::json;
use tidings_protocol::codec;
use tidings_protocol::evidence::Evidence;
use tidings_protocol::id::MsgId;

use crate::device::parse_msg;
use crate::home::HomeFolder;
use crate::show;

/// Write the evidence for a message into a file that anybody can check.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  tidings export 0199c0ffee0000112233445566778899 --out hello.evidence
The file proves who held which ciphertext and when; it holds no text.")]
pub(crate) struct Args {
    /// The message's id, as `send` printed it.
    #[arg(value_parser = parse_msg)]
    message: MsgId,
    /// The file; by default the id of the message and `.evidence`.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Replace the file if it is there.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    folder: HomeFolder,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let (_, driver) = args.folder.home()?.open()?;
    let mut found: Option<Evidence> = None;
    driver.view(&mut |core, txn| {
        if let Some(message) = core.find(txn, args.message)? {
            found = Some(core.evidence(txn, &message)?);
        }
        Ok(())
    })?;
    let evidence = found.context("there is no such message here: check its id")?;
    ensure!(
        !evidence.proofs.is_empty(),
        "nothing is proved about this message: there are ticks only for one that was sent from here \
         and accepted; `tidings status {}` says where it stands",
        args.message
    );
    let out = args.out.clone().unwrap_or_else(|| format!("{}.evidence", args.message).into());
    write(&out, &codec::encode(&evidence), args.force)?;
    let nodes: Vec<String> = Roots::nodes(&evidence);
    let accounts: Vec<String> = Roots::accounts(&evidence);
    if args.json {
        show::json(
            &json!({ "file": out.display().to_string(), "nodes": nodes, "accounts": accounts }),
        );
        return Ok(());
    }
    say!("wrote {}", out.display());
    say!("to check it, once these keys were compared by other means:");
    let node = nodes.iter().map(|node| format!(" --node {node}"));
    let account = accounts.iter().map(|account| format!(" --account {account}"));
    let file = quoted(&out.display().to_string());
    say!("  tidings verify {file}{}", node.chain(account).collect::<String>());
    Ok(())
}

fn write(out: &Path, bytes: &[u8], force: bool) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).create_new(!force);
    let written = options.open(out).and_then(|mut file| file.write_all(bytes));
    if written.as_ref().is_err_and(|error| error.kind() == ErrorKind::AlreadyExists) {
        bail!("{} exists: name another file with --out, or replace it with --force", out.display());
    }
    written.with_context(|| format!("writing {}", out.display()))
}

/// A word for a shell, in quotes where it needs them.
fn quoted(word: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%".contains(c);
    if !word.is_empty() && !word.starts_with('-') && word.chars().all(is_bare) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// What a bundle names as its roots; to be trusted by other means only.
pub(crate) struct Roots;

impl Roots {
    pub(crate) fn nodes(evidence: &Evidence) -> Vec<String> {
        let nodes = evidence.delegations.iter().filter_map(|signed| signed.peek().ok());
        sorted(nodes.map(|delegation| delegation.node.to_text()))
    }

    pub(crate) fn accounts(evidence: &Evidence) -> Vec<String> {
        let lists = evidence.lists.iter().filter_map(|signed| signed.peek().ok());
        sorted(lists.map(|list| list.identity.to_string()))
    }
}

fn sorted(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut texts: Vec<String> = texts.collect();
    texts.sort();
    texts.dedup();
    texts
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_path_is_one_word_for_the_shell() {
        assert_eq!(quoted("/tmp/hello-1.evidence"), "/tmp/hello-1.evidence");
        assert_eq!(quoted("my letters/bob's"), r"'my letters/bob'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
