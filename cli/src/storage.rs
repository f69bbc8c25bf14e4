//! `tidings storage`: what a node's store holds, table by table, and giving back what its file does not
//! need. Changes no row.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use clap::Subcommand;
use serde_json::{Value, json};
use tidings_core::storage::born_ms;
use tidings_node::keys::STORE_FILE;
use tidings_store::{Item, OpenError};

use crate::progress::Progress;
use crate::show::{self, relative};
use crate::snapshot::{self, Giver};

/// What a node's store holds.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  tidings storage report --data /var/lib/tidings")]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Rows, bytes and the age of the oldest row of each table, of a node that runs or does not.
    #[command(after_help = "Example:\n  tidings storage report --data /var/lib/tidings --json")]
    Report {
        #[command(flatten)]
        folder: show::NodeFolder,
        /// Print one line of JSON.
        #[arg(long)]
        json: bool,
    },
    /// Give what is free inside the store's file back to the disk, of a node that is stopped. What
    /// is free there is used again in any case: this is for a file that was very large once.
    #[command(after_help = "Example:\n  tidings storage compact --data /var/lib/tidings")]
    Compact {
        #[command(flatten)]
        folder: show::NodeFolder,
        /// Print one line of JSON.
        #[arg(long)]
        json: bool,
    },
}

/// What was found in a table.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    name: String,
    rows: u64,
    bytes: u64,
    oldest_ms: Option<u64>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let (folder, json) = match &args.what {
        What::Report { folder, json } => (folder, json),
        What::Compact { folder, json } => return compact(&folder.data()?, *json),
    };
    let data = folder.data()?;
    let progress = Progress::uncounted("reading the store");
    let mut tables: Vec<Tally> = Vec::new();
    let giver = snapshot::each(&data, &mut |item| {
        tally(&mut tables, item);
        Ok(())
    })?;
    drop(progress);
    // It may be on its way while the node runs, and may not be readable.
    let file_bytes = fs::metadata(data.join(STORE_FILE)).map(|found| found.len()).ok();
    report(&tables, giver, file_bytes, *json);
    Ok(())
}

fn compact(data: &Path, as_json: bool) -> anyhow::Result<()> {
    let path = data.join(STORE_FILE);
    let bytes = || -> anyhow::Result<u64> {
        let found = fs::metadata(&path).with_context(|| {
            format!(
                "reading {}: name the folder of a node that has run with --data",
                path.display()
            )
        })?;
        Ok(found.len())
    };
    let before = bytes()?;
    ensure!(before > 0, "{} is empty: `tidings doctor` says what to do", path.display());
    let progress = Progress::uncounted("compacting the store");
    let done = tidings_store::compact(&path);
    drop(progress);
    done.map_err(|error| {
        let is_locked = matches!(error, OpenError::Locked { .. });
        let error = anyhow::Error::new(error);
        if is_locked {
            error.context("the node runs: stop it first, and start it again afterwards")
        } else {
            error
        }
    })?;
    let after = bytes()?;
    if as_json {
        show::json(&json!({ "before_bytes": before, "file_bytes": after }));
    } else {
        say!("{STORE_FILE} takes {after} bytes; before, it took {before}");
    }
    Ok(())
}

fn tally(tables: &mut Vec<Tally>, item: Item<'_>) {
    match item {
        Item::Table(name) => tables.push(Tally { name: name.to_owned(), ..Tally::default() }),
        Item::Row { key, value } => {
            let Some(table) = tables.last_mut() else { return };
            table.rows += 1;
            table.bytes += (key.len() + value.len()) as u64;
            let born = born_ms(&table.name, key, value);
            table.oldest_ms = match (table.oldest_ms, born) {
                (Some(oldest), Some(born)) => Some(oldest.min(born)),
                (oldest, born) => oldest.or(born),
            };
        }
    }
}

fn report(tables: &[Tally], giver: Giver, file_bytes: Option<u64>, as_json: bool) {
    let rows: u64 = tables.iter().map(|table| table.rows).sum();
    let bytes: u64 = tables.iter().map(|table| table.bytes).sum();
    if as_json {
        let each = |table: &Tally| -> Value {
            json!({
                "table": table.name,
                "rows": table.rows,
                "bytes": table.bytes,
                "oldest_ms": table.oldest_ms,
            })
        };
        show::json(&json!({
            "running": giver == Giver::RunningNode,
            "rows": rows,
            "bytes": bytes,
            "file_bytes": file_bytes,
            "tables": tables.iter().map(each).collect::<Vec<_>>(),
        }));
        return;
    }
    let each = |table: &Tally| {
        let oldest = relative(table.oldest_ms);
        vec![table.name.clone(), table.rows.to_string(), table.bytes.to_string(), oldest]
    };
    let mut lines: Vec<Vec<String>> = tables.iter().map(each).collect();
    lines.push(vec!["all".to_owned(), rows.to_string(), bytes.to_string(), String::new()]);
    show::table(&["TABLE", "ROWS", "BYTES", "OLDEST"], &lines);
    if let Some(file_bytes) = file_bytes {
        say!(
            "{STORE_FILE} takes {file_bytes} bytes; what is free in it is used again, and given back by \
             `tidings storage compact`"
        );
    }
}

/// Checks every row of a node's store against its layout, for `tidings doctor`.
pub(crate) fn check_rows(data: &Path) -> anyhow::Result<(u64, Option<String>)> {
    use tidings_core::layout::{LAYOUT, Layout};
    use tidings_protocol::outline;
    let (mut rows, mut broken) = (0, None);
    let mut layout: Option<&Layout> = None;
    snapshot::each(data, &mut |item| {
        match item {
            Item::Table(name) => layout = LAYOUT.iter().find(|known| known.table.name == name),
            Item::Row { value, .. } => {
                rows += 1;
                if let Some(Layout { table, value: Some(shape), .. }) = layout
                    && broken.is_none()
                    && let Err(error) = outline::read(shape, value)
                {
                    broken = Some(format!("a row of {} is damaged: {error}", table.name));
                }
            }
        }
        Ok(())
    })?;
    Ok((rows, broken))
}

#[cfg(test)]
mod tests {
    use tidings_store::Item;

    use super::{Tally, tally};

    #[test]
    fn rows_bytes_and_the_oldest_are_counted_for_each_table() {
        let mut tables = Vec::new();
        // The minute with which an eid begins.
        let eid = |minute: u32| [minute.to_be_bytes().as_slice(), &[0; 20]].concat();
        tally(&mut tables, Item::Table("accounts"));
        tally(&mut tables, Item::Table("seen"));
        for minute in [7, 5, 9] {
            tally(&mut tables, Item::Row { key: &eid(minute), value: b"" });
        }
        let accounts = Tally { name: "accounts".to_owned(), ..Tally::default() };
        let bytes = 3 * eid(0).len() as u64;
        let seen = Tally { name: "seen".to_owned(), rows: 3, bytes, oldest_ms: Some(5 * 60_000) };
        assert_eq!(tables, [accounts, seen]);
    }
}
