//! Turns what was read into lines for people and JSON for scripts. Secrets are named, never shown;
//! text of others is quoted, so that it cannot move the cursor.

use std::time::{Duration, UNIX_EPOCH};

use data_encoding::HEXLOWER;
use serde_json::{Map, json};
use tidings_protocol::id::NodeId;
use tidings_protocol::outline::{Part, Value};

use crate::style::{DIM, NAME, paint};

/// Types whose values are never shown: who has an invite's secret can make an account.
const SECRETS: &[&str] = &["InviteSecret"];
/// Bytes that mean nothing here are shown up to this length.
const BYTES_SHOWN: usize = 32;
/// From here on, a number of milliseconds is a time and not a span: the year 2001.
const TIME_MS_MIN: u64 = 1_000_000_000_000;

/// A value as indented lines.
pub(crate) fn lines(name: &str, part: &Part, indent: usize) -> Vec<String> {
    let head = |value: &str| {
        let pad = "  ".repeat(indent);
        if name.is_empty() {
            format!("{pad}{value}")
        } else {
            format!("{pad}{} {value}", paint(NAME, format!("{name}:")))
        }
    };
    // What has neither a name nor a type of its own takes no line.
    let under = |first: Option<String>, parts: Vec<(String, &Part)>| {
        let deeper = indent + usize::from(first.is_some());
        let below = parts.iter().flat_map(|(name, part)| lines(name, part, deeper));
        first.into_iter().chain(below).collect()
    };
    let unnamed = || (!name.is_empty()).then(|| head("").trim_end().to_owned());
    match &part.value {
        Value::List(items) if items.is_empty() => vec![head("none")],
        Value::List(items) => {
            let parts = items.iter().enumerate().map(|(at, item)| (format!("{at}"), item));
            under(unnamed(), parts.collect())
        }
        Value::Struct { name: kind, fields, unknown } => {
            let mut first = head(&paint(DIM, kind));
            if !unknown.is_empty() {
                first.push_str(&format!(" with keys that this program does not know: {unknown:?}"));
            }
            under(
                Some(first),
                fields.iter().map(|(name, part)| ((*name).to_owned(), part)).collect(),
            )
        }
        Value::Union { name: kind, variant, payload } => {
            under(Some(head(&paint(DIM, kind))), vec![((*variant).to_owned(), payload)])
        }
        Value::Signed { value, signature } => {
            let parts = vec![("signed".to_owned(), &**value), ("signature".to_owned(), signature)];
            under(unnamed(), parts)
        }
        Value::Number(_)
        | Value::Bool(_)
        | Value::Text(_)
        | Value::Bytes(_)
        | Value::Fixed { .. }
        | Value::Code { .. }
        | Value::Absent => vec![head(&word(name, &part.value))],
    }
}

/// A value without parts, in one word or two.
fn word(name: &str, value: &Value) -> String {
    match value {
        Value::Number(number) => match time(name, *number) {
            Some(time) => format!("{number} ({time})"),
            None => number.to_string(),
        },
        Value::Bool(yes) => yes.to_string(),
        Value::Text(text) => format!("{text:?}"),
        Value::Bytes(bytes) => match bytes.get(..BYTES_SHOWN) {
            Some(first) if bytes.len() > BYTES_SHOWN => {
                format!("{} bytes, {}..", bytes.len(), HEXLOWER.encode(first))
            }
            Some(_) | None => HEXLOWER.encode(bytes),
        },
        Value::Fixed { name, bytes } => fixed(name, bytes),
        Value::Code { word, .. } => (*word).to_owned(),
        Value::Absent => "absent".to_owned(),
        Value::List(_) | Value::Struct { .. } | Value::Union { .. } | Value::Signed { .. } => {
            "..".to_owned()
        }
    }
}

/// Bytes with a meaning, unless they are secret.
pub(crate) fn fixed(name: &str, bytes: &[u8]) -> String {
    if SECRETS.contains(&name) {
        return format!("secret, {} bytes, not shown", bytes.len());
    }
    match NodeId::from_slice(bytes) {
        Some(node) if name == "NodeId" => node.to_text(),
        Some(_) | None => HEXLOWER.encode(bytes),
    }
}

/// The date of a number of milliseconds, if it is one.
pub(crate) fn time(name: &str, number: u64) -> Option<String> {
    // Beyond the year 9999 there is no text for a date.
    let is_date = (TIME_MS_MIN..253_402_300_800_000).contains(&number);
    let is_time = name.ends_with("_ms") || name == "serial";
    (is_date && is_time)
        .then(|| httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(number)))
}

/// The same for scripts.
pub(crate) fn as_json(part: &Part) -> serde_json::Value {
    match &part.value {
        Value::Number(number) => json!(number),
        Value::Bool(yes) => json!(yes),
        Value::Text(text) => json!(text),
        Value::Bytes(bytes) => json!(HEXLOWER.encode(bytes)),
        Value::Fixed { name, bytes } => json!(fixed(name, bytes)),
        Value::Code { word, .. } => json!(word),
        Value::Absent => serde_json::Value::Null,
        Value::List(items) => items.iter().map(as_json).collect(),
        Value::Struct { fields, unknown, .. } => {
            let mut map: Map<String, serde_json::Value> =
                fields.iter().map(|(name, part)| ((*name).to_owned(), as_json(part))).collect();
            if !unknown.is_empty() {
                map.insert("unknown_keys".to_owned(), json!(unknown));
            }
            map.into()
        }
        Value::Union { variant, payload, .. } => json!({ *variant: as_json(payload) }),
        Value::Signed { value, signature } => {
            json!({ "signed": as_json(value), "signature": as_json(signature) })
        }
    }
}

#[cfg(test)]
mod tests {
    use tidings_protocol::client_frame::{ClientFrame, InviteSecret, Join};
    use tidings_protocol::codec;
    use tidings_protocol::device_list::{Device, DeviceList};
    use tidings_protocol::id::NodeId;
    use tidings_protocol::key::{SecretKey, Signature, X25519Key};
    use tidings_protocol::outline::read;
    use tidings_protocol::shape::Shaped as _;
    use tidings_protocol::signed::Signed;

    use super::{as_json, lines};

    #[test]
    fn secrets_and_escapes_do_not_reach_the_terminal() {
        let key = SecretKey::from_seed(&[1; 32]);
        let device = Device {
            key: key.public(),
            identity: X25519Key([2; 32]),
            added_ms: 1_790_000_000_000,
            label: "\u{1b}[2Jlaptop\n".to_owned(),
        };
        let list = DeviceList {
            identity: key.public(),
            node: NodeId([3; 32]),
            name: tidings_protocol::address::UserName::parse("alice").unwrap(),
            version: 0,
            previous: None,
            devices: vec![device],
            issued_ms: 1_790_000_000_000,
            signer: None,
        };
        let join = ClientFrame::Join(Join {
            request: 1,
            invite: InviteSecret([0xab; 16]),
            list: Signed::new(&list, &key),
            proof: Signature([4; 64]),
        });
        let part = read(ClientFrame::SHAPE, &codec::encode(&join)).unwrap();
        let text = lines("", &part, 0).join("\n");
        assert!(text.contains("not shown") && !text.contains("abababab"), "{text}");
        assert!(text.contains("\\u{1b}[2Jlaptop\\n"), "{text}");
        assert!(text.contains(&NodeId([3; 32]).to_text()), "{text}");
        assert!(text.contains("1790000000000 (Mon, 21 Sep 2026"), "{text}");
        let json = as_json(&part);
        assert!(!json.to_string().contains("abababab"));
        assert_eq!(json["Join"]["list"]["signed"]["name"], "alice");
    }
}
