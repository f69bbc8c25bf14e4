//! `tidings admin federation`, `goodbye`, `reload` and `log`: what an administrator says of his own
//! node, and what was said.

use anyhow::Context as _;
use clap::Subcommand;
use serde_json::{Value, json};
use tidings_core::admin_log::{PAGE_MAX, entry_hash};
use tidings_core::schema::AdminLogRow;
use tidings_node::admin_link::{AdminRequest, ask};
use tidings_protocol::id::Hash;

use crate::admin::{Common, rows, time};
use crate::exit::Stopped;
use crate::show::{self, field};

/// Who may deal with this node when nothing else was said of them: show it, or set it.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  tidings admin federation --data /var/lib/tidings request\nWithout a word, it is shown."
)]
pub(crate) struct Federation {
    #[command(flatten)]
    common: Common,
    /// `open`, `request` or `closed`; `default` for what node.toml says.
    #[arg(value_parser = ["open", "request", "closed", "default"])]
    mode: Option<String>,
}

pub(crate) fn federation(args: &Federation) -> anyhow::Result<()> {
    let answer = asked(&args.common, &AdminRequest::Federation { mode: args.mode.clone() })?;
    if args.common.json {
        show::json(&answer);
        return Ok(());
    }
    let by_hand = answer.get("federation_by_hand") == Some(&Value::Bool(true));
    let whence = if by_hand { "set by hand" } else { "as node.toml says" };
    say!("{}, {whence}", field(&answer, "federation"));
    if field(&answer, "requests") != "0" {
        say!("{} nodes wait: see `tidings admin peers list`", field(&answer, "requests"));
    }
    Ok(())
}

/// Say to everybody, signed, that this node is gone for good: peers stop trying it, and what waits for
/// it elsewhere fails, with a word to the senders. It goes on running, and takes nothing new.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  tidings admin goodbye --data /var/lib/tidings --yes\nWith --take-back, it is there again."
)]
pub(crate) struct Goodbye {
    #[command(flatten)]
    common: Common,
    /// Yes, for good.
    #[arg(long, required_unless_present = "take_back")]
    yes: bool,
    /// Say instead that it is there again.
    #[arg(long, conflicts_with = "yes")]
    take_back: bool,
}

pub(crate) fn goodbye(args: &Goodbye) -> anyhow::Result<()> {
    let answer = asked(&args.common, &AdminRequest::Goodbye { take_back: args.take_back })?;
    if args.common.json {
        show::json(&answer);
    } else if args.take_back {
        say!("the node says that it is there");
    } else {
        say!(
            "the node has said goodbye to {} peers, and says so to whoever greets it; leave it running \
             until `tidings admin status` shows nothing to hand over",
            field(&answer, "peers_connected")
        );
        if answer.get("published") != Some(&Value::Bool(true)) {
            say!(
                "no other node has taken it yet, to tell those who are away: say it again once \
                 peers are connected"
            );
        }
    }
    Ok(())
}

/// Read node.toml again, as SIGHUP does: what may change while the node runs is changed, the rest is
/// named. Nothing changes when anything in it is wrong.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  tidings admin reload --data /var/lib/tidings")]
pub(crate) struct Reload {
    #[command(flatten)]
    common: Common,
}

pub(crate) fn reload(args: &Reload) -> anyhow::Result<()> {
    let answer = asked(&args.common, &AdminRequest::Reload)?;
    if args.common.json {
        show::json(&answer);
        return Ok(());
    }
    let names = |name: &str| {
        let names = answer.get(name).and_then(Value::as_array).into_iter().flatten();
        names.filter_map(Value::as_str).map(show::plain).collect::<Vec<_>>().join(", ")
    };
    let (changed, restart) = (names("changed"), names("needs_restart"));
    if changed.is_empty() && restart.is_empty() {
        say!("nothing has changed");
    }
    if !changed.is_empty() {
        say!("changed: {changed}");
    }
    if !restart.is_empty() {
        say!("needs a start: {restart}");
    }
    Ok(())
}

/// What administrators have changed.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  tidings admin log list --data /var/lib/tidings")]
pub(crate) struct Log {
    #[command(subcommand)]
    what: LogWhat,
}

#[derive(Subcommand)]
enum LogWhat {
    /// What administrators have changed, oldest first: when, who, what.
    #[command(after_help = "Example:\n  tidings admin log list --data /var/lib/tidings --json")]
    List {
        #[command(flatten)]
        common: Common,
        /// From this entry on.
        #[arg(long, default_value_t = 0)]
        from: u64,
    },
    /// Check that each entry names the one before it, up to the newest one that the node knows.
    #[command(
        after_help = "Example:\n  tidings admin log verify --data /var/lib/tidings --holds <hash>\nA hash that was noted earlier, from the node's log at a start, has to be among them."
    )]
    Verify {
        #[command(flatten)]
        common: Common,
        /// A hash that has to be among them.
        #[arg(long)]
        holds: Option<String>,
    },
}

pub(crate) fn log(args: &Log) -> anyhow::Result<()> {
    match &args.what {
        LogWhat::List { common, from } => {
            let entries = Value::from(all_entries(common, *from)?);
            if common.json {
                show::json(&entries);
                return Ok(());
            }
            let row = |entry: &Value| {
                vec![
                    field(entry, "seq"),
                    time(entry, "at_ms"),
                    field(entry, "who"),
                    field(entry, "what"),
                    field(entry, "about"),
                ]
            };
            show::table(&["ENTRY", "WHEN", "USER", "WHAT", "ABOUT"], &rows(&entries, row));
            Ok(())
        }
        LogWhat::Verify { common, holds } => {
            let entries = all_entries(common, 0)?;
            let status = asked(common, &AdminRequest::Status)?;
            let newest = status.get("log_hash").and_then(Value::as_str);
            let wrong = fault(&entries, newest, holds.as_deref());
            if common.json {
                show::json(&json!({
                    "entries": entries.len(),
                    "hash": newest,
                    "holds": wrong.is_none(),
                    "why": wrong,
                }));
            } else if let Some(wrong) = &wrong {
                say!("NOT whole: {wrong}");
            } else {
                say!("{} entries, each names the one before", entries.len());
                say!("newest hash  {}", newest.unwrap_or("-"));
            }
            if wrong.is_some() { Err(Stopped::LogNotWhole.into()) } else { Ok(()) }
        }
    }
}

fn asked(common: &Common, request: &AdminRequest) -> anyhow::Result<Value> {
    let data = common.folder.data()?;
    show::block_on(async { Ok(ask(&data, request).await?) })
}

fn all_entries(common: &Common, from: u64) -> anyhow::Result<Vec<Value>> {
    let (mut all, mut from) = (Vec::new(), from);
    loop {
        let answer = asked(common, &AdminRequest::Log { from })?;
        let page = answer.as_array().context("the node's answer is no log")?;
        all.extend(page.iter().cloned());
        let last = page.last().and_then(|entry| entry.get("seq")).and_then(Value::as_u64);
        match last {
            Some(last) if page.len() == PAGE_MAX => from = last + 1,
            Some(_) | None => return Ok(all),
        }
    }
}

/// What is wrong with a log, as it was read, if anything is. The hashes are computed here.
fn fault(entries: &[Value], newest: Option<&str>, holds: Option<&str>) -> Option<String> {
    let mut before: Option<(u64, String)> = None;
    let mut is_held = holds.is_none();
    for entry in entries {
        let Some((seq, row)) = read(entry) else { return Some("an entry is none".to_owned()) };
        let previous = row.previous.map(|hash| hash.to_string());
        if let Some((last, hash)) = &before
            && (seq != last + 1 || previous.as_ref() != Some(hash))
        {
            return Some(format!("entry {seq} does not follow entry {last}"));
        }
        let hash = entry_hash(seq, &row).to_string();
        if field(entry, "hash") != hash {
            return Some(format!("entry {seq} has another hash than it says"));
        }
        is_held |= holds == Some(hash.as_str());
        before = Some((seq, hash));
    }
    if before.as_ref().map(|(_, hash)| hash.as_str()) != newest {
        return Some("the newest entry is another one than the node says".to_owned());
    }
    (!is_held).then(|| "the hash that was noted is not among them".to_owned())
}

#[expect(clippy::wildcard_enum_match_arm, reason = "any other value is read, or is none")]
fn read(entry: &Value) -> Option<(u64, AdminLogRow)> {
    let text = |name: &str| Some(entry.get(name)?.as_str()?.to_owned());
    let previous = match entry.get("previous")? {
        Value::Null => None,
        hash => Some(Hash::from_hex(hash.as_str()?)?),
    };
    let who = match entry.get("who")? {
        Value::Null => None,
        who => Some(u32::try_from(who.as_u64()?).ok()?),
    };
    let (what, about) = (text("what")?, text("about")?);
    let row = AdminLogRow { previous, at_ms: entry.get("at_ms")?.as_u64()?, who, what, about };
    Some((entry.get("seq")?.as_u64()?, row))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tidings_core::admin_log::entry_hash;

    use super::{fault, read};

    fn log() -> Vec<Value> {
        let mut entries = Vec::new();
        let mut previous = Value::Null;
        for seq in 1..=3_u64 {
            let mut entry = json!({
                "seq": seq, "previous": previous, "at_ms": 5, "who": 0, "what": "invite",
                "about": "", "hash": "",
            });
            let (_, row) = read(&entry).unwrap();
            previous = Value::from(entry_hash(seq, &row).to_string());
            entry["hash"] = previous.clone();
            entries.push(entry);
        }
        entries
    }

    #[test]
    fn a_log_that_was_changed_anywhere_is_found_out() {
        let entries = log();
        let newest = entries[2]["hash"].as_str().map(str::to_owned);
        let newest = newest.as_deref();
        assert_eq!(fault(&entries, newest, entries[1]["hash"].as_str()), None);
        assert_eq!(fault(&[], None, None), None);
        assert_eq!(fault(&entries[1..], newest, None), None, "the oldest may be gone");
        let mut changed = entries.clone();
        changed[1]["about"] = json!("another");
        assert!(fault(&changed, newest, None).unwrap().contains("entry 2"));
        let mut gone = entries.clone();
        gone.remove(1);
        assert!(fault(&gone, newest, None).unwrap().contains("entry 3"));
        assert!(fault(&entries[..2], newest, None).unwrap().contains("newest"));
        assert!(fault(&entries, newest, Some("00")).unwrap().contains("noted"));
    }
}
