//! `tidings inspect --store`: tables and rows of a node's store, as text. The node must be stopped.
//! Of a device's store only what is not sealed: tables, sizes and keys.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use data_encoding::HEXLOWER;
use serde_json::{Map, Value, json};
use tidings_core::layout::{KeyPart, LAYOUT, Layout};
use tidings_node::keys::STORE_FILE;
use tidings_protocol::outline;
use tidings_store::{OpenError, RedbFile};

use super::render;
use crate::home;
use crate::show::{self, NodeFolder};
use crate::style::{BAD, DIM, NAME, line, paint};

/// Which store, and what of it.
pub(crate) struct Wanted<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) table: Option<&'a str>,
    pub(crate) limit: usize,
    pub(crate) json: bool,
}

pub(crate) fn run(wanted: &Wanted<'_>) -> anyhow::Result<()> {
    let (path, is_node) = path(wanted.folder)?;
    let file = open(&path, wanted.folder, is_node)?;
    let Some(table) = wanted.table else { return tables(&file, wanted.json) };
    let known: Vec<String> = file.tables()?.into_iter().map(|table| table.name).collect();
    ensure!(
        known.iter().any(|name| name == table),
        "there is no table {table:?}; there are: {}",
        known.join(", ")
    );
    let layout = LAYOUT.iter().find(|layout| is_node && layout.table.name == table);
    let rows = file.rows(table, &[], wanted.limit.saturating_add(1))?;
    let more = rows.len() > wanted.limit;
    let rows: Vec<Shown> =
        rows.iter().take(wanted.limit).map(|(key, value)| Shown::of(layout, key, value)).collect();
    if wanted.json {
        let rows: Vec<Value> = rows.iter().map(Shown::as_json).collect();
        show::json(&json!({ "table": table, "rows": rows, "more": more }));
        return Ok(());
    }
    rows.iter().flat_map(Shown::lines).for_each(line);
    if more {
        line(paint(DIM, format!("more rows follow: raise --limit above {}", wanted.limit)));
    }
    Ok(())
}

/// The file, and whether it is a node's.
fn path(folder: &Path) -> anyhow::Result<(PathBuf, bool)> {
    if folder.is_file() {
        let is_device = folder.file_name().is_some_and(|name| name == home::STORE);
        return Ok((folder.to_owned(), !is_device));
    }
    let node = NodeFolder { data: folder.to_owned() }.data()?.join(STORE_FILE);
    let device = folder.join(home::STORE);
    match (node.is_file(), device.is_file()) {
        (true, _) => Ok((node, true)),
        (false, true) => Ok((device, false)),
        (false, false) => bail!(
            "there is neither {STORE_FILE} nor {} in {}: name the folder of a node or device",
            home::STORE,
            folder.display()
        ),
    }
}

fn open(path: &Path, folder: &Path, is_node: bool) -> anyhow::Result<RedbFile> {
    RedbFile::open(path).map_err(|error| {
        let is_locked = matches!(error, OpenError::Locked { .. });
        let next = match (is_locked, is_node) {
            (true, true) => format!(
                "stop the node first, or ask it with `tidings admin status --data {}`",
                folder.display()
            ),
            (true, false) => "end the `tidings` that uses it first".to_owned(),
            (false, _) => return error.into(),
        };
        anyhow::Error::msg(next).context(error)
    })
}

fn tables(file: &RedbFile, as_json: bool) -> anyhow::Result<()> {
    let (state, tables) = (file.state().context("reading the store")?, file.tables()?);
    if as_json {
        let tables = tables
            .iter()
            .map(|table| json!({ "table": table.name, "rows": table.rows, "bytes": table.bytes }));
        show::json(&json!({
            "version": state.version,
            "commit": state.commit,
            "incarnation": state.lineage.incarnation,
            "boots": state.lineage.boots.len(),
            "tables": tables.collect::<Vec<_>>(),
        }));
        return Ok(());
    }
    say!(
        "version {}, commit {}, {} boots, incarnation {}",
        state.version,
        state.commit,
        state.lineage.boots.len(),
        state.lineage.incarnation
    );
    let row = |table: &tidings_store::TableSize| {
        vec![table.name.clone(), table.rows.to_string(), table.bytes.to_string()]
    };
    show::table(&["TABLE", "ROWS", "BYTES"], &tables.iter().map(row).collect::<Vec<_>>());
    Ok(())
}

/// One row.
struct Shown {
    /// The parts of its key.
    key: Vec<(&'static str, String)>,
    value: Content,
}

enum Content {
    Empty,
    Sealed { bytes: usize },
    Read(outline::Part),
    Broken(String),
}

impl Shown {
    fn of(layout: Option<&Layout>, key: &[u8], value: &[u8]) -> Self {
        let Some(layout) = layout else {
            let content = Content::Sealed { bytes: value.len() };
            return Self { key: vec![("key", HEXLOWER.encode(key))], value: content };
        };
        let value = match layout.value {
            None => Content::Empty,
            Some(shape) => match outline::read(shape, value) {
                Ok(part) => Content::Read(part),
                Err(error) => Content::Broken(error.to_string()),
            },
        };
        Self { key: parts(layout.key, key), value }
    }

    fn lines(&self) -> Vec<String> {
        let key: Vec<String> =
            self.key.iter().map(|(name, value)| format!("{} {value}", paint(NAME, name))).collect();
        let head = key.join("  ");
        match &self.value {
            Content::Empty => vec![head],
            Content::Sealed { bytes } => vec![format!("{head}  {bytes} bytes, sealed")],
            Content::Broken(why) => vec![format!("{head}  {}", paint(BAD, why))],
            Content::Read(part) => {
                std::iter::once(head).chain(render::lines("", part, 1)).collect()
            }
        }
    }

    fn as_json(&self) -> Value {
        let key: Map<String, Value> =
            self.key.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        match &self.value {
            Content::Empty => json!({ "key": key, "value": null }),
            Content::Sealed { bytes } => json!({ "key": key, "sealed_bytes": bytes }),
            Content::Broken(why) => json!({ "key": key, "broken": why }),
            Content::Read(part) => json!({ "key": key, "value": render::as_json(part) }),
        }
    }
}

/// The parts of a key; what is too short or too long is shown as it is.
fn parts(layout: &[KeyPart], key: &[u8]) -> Vec<(&'static str, String)> {
    let (mut rest, mut shown) = (key, Vec::new());
    for part in layout {
        let len = part.bytes().unwrap_or(rest.len());
        let Some((taken, after)) = rest.split_at_checked(len) else { break };
        rest = after;
        let text = match part {
            KeyPart::Fixed { name: "node", .. } => render::fixed("NodeId", taken),
            KeyPart::Fixed { name, .. } => render::fixed(name, taken),
            KeyPart::Number { .. } => {
                taken.iter().fold(0_u64, |sum, &byte| (sum << 8) | u64::from(byte)).to_string()
            }
            KeyPart::Text { .. } => format!("{:?}", String::from_utf8_lossy(taken)),
        };
        shown.push((part.name(), text));
    }
    if !rest.is_empty() {
        shown.push(("rest", HEXLOWER.encode(rest)));
    }
    shown
}
