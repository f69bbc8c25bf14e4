//! `tidings inspect`: shows what bytes of ours say, and what stands in a store. Asks nobody, changes
//! nothing, opens nothing that is sealed.

mod input;
mod kind;
mod remarks;
mod render;
mod store;

use std::path::PathBuf;

use anyhow::bail;
use serde_json::json;
use tidings_node::clock;
use tidings_protocol::invite::InviteText;
use tidings_protocol::outline::OutlineError;

use crate::show;
use crate::style::{BAD, DIM, GOOD, NAME, line, paint};
use input::Input;
use kind::{Kind, Sighting, guess};
use remarks::{Remark, remarks};

/// Show what bytes of ours say, or what stands in a store.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  tidings inspect hello.evidence
  tidings inspect /var/lib/tidings/delegation.cbor --json
  tidings inspect 8209a10001 --kind client-frame
  tidings inspect - < frames.bin
  tidings inspect --store /var/lib/tidings
  tidings inspect --store /var/lib/tidings peers --limit 10")]
pub(crate) struct Args {
    /// A file, `-` for standard input, or the bytes themselves in hex or base64; an invite's text.
    /// With --store, a table.
    what: Option<String>,
    /// What the bytes are; by default what they look like.
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// Look into the store of a stopped node: its folder. Of a device's folder, only sizes and keys.
    #[arg(long, conflicts_with = "kind")]
    store: Option<PathBuf>,
    /// Rows to show, with --store.
    #[arg(long, default_value_t = 50)]
    limit: usize,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if let Some(folder) = &args.store {
        let (table, limit) = (args.what.as_deref(), args.limit);
        return store::run(&store::Wanted { folder, table, limit, json: args.json });
    }
    let input = Input::take(args.what.as_deref())?;
    if let Some(text) = &input.text
        && text.starts_with("tidings:")
    {
        return show_invite(&text.parse()?, args.json);
    }
    let sightings = see(&input, args.kind)?;
    let Some((first, others)) = sightings.split_first() else {
        bail!("these bytes are nothing: name another file");
    };
    let also: Vec<String> = others.iter().map(|other| other.kind.name()).collect();
    if args.json {
        show_json(first, &also);
    } else {
        show_text(first, &also);
    }
    Ok(())
}

/// What the input is, by its likeliest reading that is anything.
fn see(input: &Input, kind: Option<Kind>) -> anyhow::Result<Vec<Sighting>> {
    let mut nearest: Option<(Kind, OutlineError)> = None;
    for bytes in &input.readings {
        let seen = match kind {
            Some(kind) => kind.sight(bytes).map(|one| vec![one]).map_err(|error| (kind, error)),
            None => guess(bytes),
        };
        match seen {
            Ok(sightings) => return Ok(sightings),
            Err((kind, error)) => {
                if nearest.as_ref().is_none_or(|(_, known)| error.offset > known.offset) {
                    nearest = Some((kind, error));
                }
            }
        }
    }
    match (nearest, kind) {
        (Some((_, error)), Some(kind)) => {
            bail!("this is no {}: {error}; without --kind, the kind is guessed", kind.name())
        }
        (Some((kind, error)), None) => bail!(
            "this is nothing that is known here; nearest to {}, but {error}. If you know what it is, \
             name it with --kind",
            kind.name()
        ),
        (None, _) => bail!("these bytes are nothing: name another file"),
    }
}

fn show_text(sighting: &Sighting, also: &[String]) {
    let now = clock::now_ms();
    for item in &sighting.items {
        line(format!("{}, {} bytes", paint(NAME, sighting.kind.name()), item.bytes.len()));
        render::lines("", &item.part, 1).into_iter().for_each(line);
        for Remark { holds, text } in remarks(sighting.kind, item, now) {
            line(match holds {
                Some(true) => format!("{} {text}", paint(GOOD, "holds")),
                Some(false) => format!("{} {text}", paint(BAD, "does not hold:")),
                None => text,
            });
        }
    }
    if !also.is_empty() {
        line(paint(DIM, format!("could also be, with --kind: {}", also.join(", "))));
    }
}

fn show_json(sighting: &Sighting, also: &[String]) {
    let now = clock::now_ms();
    let items = sighting.items.iter().map(|item| {
        let remarks = remarks(sighting.kind, item, now);
        json!({
            "value": render::as_json(&item.part),
            "body_bytes": item.body.as_ref().map(Vec::len),
            "remarks": remarks.iter().map(Remark::as_json).collect::<Vec<_>>(),
        })
    });
    show::json(&json!({
        "kind": sighting.kind.name(),
        "items": items.collect::<Vec<_>>(),
        "could_also_be": also,
    }));
}

fn show_invite(invite: &InviteText, as_json: bool) -> anyhow::Result<()> {
    let node = invite.node.to_text();
    if as_json {
        let value = json!({ "node": node, "url": invite.url });
        show::json(&json!({ "kind": "invite", "items": [{ "value": value }] }));
        return Ok(());
    }
    line(format!("{}, whose secret is not shown", paint(NAME, "invite")));
    say!("  node: {node}\n  url: {:?}", invite.url);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::input::Input;
    use super::kind::Kind;
    use super::see;

    fn seen(text: &str, kind: Option<Kind>) -> anyhow::Result<Vec<Kind>> {
        let sightings = see(&Input::take(Some(text))?, kind)?;
        Ok(sightings.iter().map(|sighting| sighting.kind).collect())
    }

    #[test]
    fn every_vector_that_is_good_is_seen_as_what_it_is() {
        let rules = [
            ("client_frame", Kind::ClientFrame),
            ("node_frame", Kind::NodeFrame),
            ("peer_frame", Kind::PeerFrame),
            ("envelope_head", Kind::Envelope),
            ("statement", Kind::Statement),
            ("proof", Kind::Proof),
            ("descriptor", Kind::Descriptor),
            ("device_list", Kind::DeviceList),
            ("evidence", Kind::Evidence),
        ];
        for (rule, kind) in rules {
            let folder = format!("{}/../tests/vectors/{rule}", env!("CARGO_MANIFEST_DIR"));
            let mut count = 0;
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let text = std::fs::read_to_string(&path).unwrap();
                let vector: serde_json::Value = serde_json::from_str(&text).unwrap();
                if vector["expect"] != "ok" {
                    continue;
                }
                let hex = vector["hex"].as_str().unwrap();
                let kinds = seen(hex, None).unwrap_or_else(|error| panic!("{path:?}: {error:#}"));
                assert!(kinds.contains(&kind), "{path:?}: {kinds:?}");
                assert_eq!(seen(hex, Some(kind)).unwrap(), [kind], "{path:?}");
                count += 1;
            }
            assert!(count > 0, "{rule} has no good vector");
        }
    }

    #[test]
    fn an_error_names_the_place_and_the_next_step() {
        let error = |text, kind| format!("{:#}", seen(text, kind).unwrap_err());
        let text = error("8209a1", Some(Kind::ClientFrame));
        assert!(text.contains("at byte 3, expected a key of Ping, found the end"), "{text}");
        let text = error("8209a1", None);
        assert!(text.contains("nearest to client-frame") && text.contains("--kind"), "{text}");
        // What could be a private key is not repeated.
        let text = error(&"ab".repeat(32), None);
        assert!(!text.contains("abab"), "{text}");
    }
}
