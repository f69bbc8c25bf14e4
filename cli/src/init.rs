//! `tidings init`: keys and configuration of a new node.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::json;
use tidings_node::config::{self, Config};
use tidings_node::{clock, keys};
use tidings_protocol::domain::Domain;
use tidings_protocol::name_record::record_text;

use crate::show;

/// Make a new node: its keys and its node.toml.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  tidings init /var/lib/tidings --domain acme.example
Afterwards move root.key to a safe place: the running node does not need it.")]
pub(crate) struct Args {
    /// The folder; it is made if it is not there.
    dir: PathBuf,
    /// A domain that the node claims; may be repeated.
    #[arg(long)]
    domain: Vec<String>,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let path = args.dir.join(config::FILE_NAME);
    let text = text_for(&args.domain);
    let checked = Config::parse(&text, &path).context("checking the domains")?;
    // It is written last, so where it is, somebody has made a node, or means to make another one.
    if path.try_exists().with_context(|| format!("looking for {}", path.display()))? {
        bail!(
            "{} exists: this folder belongs to a node already; choose another one, or remove the \
             file if there is no node",
            path.display()
        );
    }
    // Keys without it: an earlier `init` was cut short, or the file was removed.
    let node = match keys::owner(&checked.data)? {
        Some(node) => node,
        None => keys::create(&checked.data, &checked.domains, clock::now_ms())?,
    };
    write(&path, &text)?;
    if args.json {
        show::json(&json!({ "node": node.to_text(), "config": path.display().to_string() }));
        return Ok(());
    }
    say!("node id  {}", node.to_text());
    say!("config   {}", path.display());
    for domain in checked.domains.iter().filter_map(|text| Domain::parse(text).ok()) {
        say!("in DNS   {} TXT \"{}\"", domain.record_name(), record_text(&node));
    }
    say!("next     tidings node --data {}", args.dir.display());
    Ok(())
}

/// The example, with the domains filled in.
fn text_for(domains: &[String]) -> String {
    if domains.is_empty() {
        return config::EXAMPLE.to_owned();
    }
    let line = format!("domains = {}", serde_json::Value::from(domains));
    config::EXAMPLE.replacen("# domains = []", &line, 1)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let made = options.open(path).with_context(|| format!("making {}", path.display()));
    let written = made?.write_all(text.as_bytes());
    if written.is_err() {
        // Half of it would be taken for a node's.
        std::fs::remove_file(path).unwrap_or_default();
    }
    written.with_context(|| {
        format!("writing {}: make space, then run the same command again", path.display())
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tidings_node::config::Config;

    use super::{Args, run, text_for};

    #[test]
    fn a_node_is_made_in_a_new_folder_and_only_once() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("acme");
        let args = Args { dir: dir.clone(), domain: Vec::new(), json: true };
        run(&args).unwrap();
        assert!(Config::read(&dir.join("node.toml")).is_ok());
        assert!(run(&args).unwrap_err().to_string().contains("choose another one"));
    }

    #[test]
    fn what_was_cut_short_is_finished_and_a_node_without_its_root_key_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("acme");
        let args = Args { dir: dir.clone(), domain: Vec::new(), json: true };
        run(&args).unwrap();
        let key = || std::fs::read(dir.join("operational.key")).unwrap();
        let before = key();
        std::fs::remove_file(dir.join("node.toml")).unwrap();
        run(&args).unwrap();
        assert_eq!(key(), before, "it is the same node");
        std::fs::rename(dir.join("root.key"), folder.path().join("root.offline")).unwrap();
        assert!(run(&args).unwrap_err().to_string().contains("choose another one"));
        assert!(!dir.join("root.key").exists());
    }

    #[test]
    fn the_new_configuration_is_valid_and_names_the_domains() {
        let domains = ["acme.example".to_owned()];
        let path = Path::new("/srv/acme/node.toml");
        assert_eq!(Config::parse(&text_for(&domains), path).unwrap().domains, domains);
        assert!(Config::parse(&text_for(&[]), path).unwrap().domains.is_empty());
    }
}
