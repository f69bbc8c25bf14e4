//! The record that binds a domain to a node in the DNS: TXT at `_tidings.<domain>`, with the text
//! `v=tidings1; node=<node id>`. Reads and writes it, and asks nobody. It is one half: the node's
//! delegation has to name the domain as well.

use crate::{
    id::NodeId,
    limits::{NAME_RECORD_BYTES_MAX, NAME_RECORDS_MAX},
};

/// What every record of ours begins with.
const BEGINNING: &[u8] = b"v=tidings1";

/// What the records of one name say together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameRecords {
    /// This node.
    Node(NodeId),
    /// None of them is one of ours.
    Absent,
    /// Two different nodes.
    Contradicting,
    /// One of ours cannot be read, or there are too many.
    Unreadable,
}

/// The text of the record that names a node.
#[must_use]
pub fn record_text(node: &NodeId) -> String {
    format!("v=tidings1; node={}", node.to_text())
}

impl NameRecords {
    /// Reads all TXT records of a name, each with its pieces joined. What does not begin as one of ours
    /// is passed over; one of ours that is wrong spoils them all, so that a slip is noticed.
    #[must_use]
    pub fn read<'a>(records: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut found = None;
        for (count, record) in records.into_iter().enumerate() {
            if count >= NAME_RECORDS_MAX {
                return Self::Unreadable;
            }
            if !is_ours(record) {
                continue;
            }
            match (read_record(record), found) {
                (None, _) => return Self::Unreadable,
                (Some(node), Some(other)) if node != other => return Self::Contradicting,
                (Some(node), _) => found = Some(node),
            }
        }
        found.map_or(Self::Absent, Self::Node)
    }
}

/// `v=tidings1`, and then the end, a space or a semicolon.
fn is_ours(record: &[u8]) -> bool {
    record
        .strip_prefix(BEGINNING)
        .is_some_and(|rest| rest.first().is_none_or(|byte| matches!(byte, b';' | b' ' | b'\t')))
}

/// The node that a record names. Its fields stand between semicolons, with space around them as one
/// likes; there is one, `node`. A later version has another beginning.
fn read_record(record: &[u8]) -> Option<NodeId> {
    if record.len() > NAME_RECORD_BYTES_MAX {
        return None;
    }
    let text = core::str::from_utf8(record).ok()?;
    let blank = [' ', '\t'];
    let mut fields = text.split(';').map(|field| field.trim_matches(blank));
    let (version, node) = (fields.next()?, fields.next()?);
    // A semicolon at the end is no field.
    if version.as_bytes() != BEGINNING || fields.any(|field| !field.is_empty()) {
        return None;
    }
    NodeId::parse(node.strip_prefix("node=")?).ok()
}

#[cfg(test)]
mod tests {
    use super::{NameRecords, record_text};
    use crate::id::NodeId;

    const ACME: NodeId = NodeId([1; 32]);

    fn read(records: &[&str]) -> NameRecords {
        NameRecords::read(records.iter().map(|record| record.as_bytes()))
    }

    #[test]
    fn what_is_written_is_read() {
        let text = record_text(&ACME);
        assert_eq!(read(&[&text]), NameRecords::Node(ACME));
        assert_eq!(read(&[&text, "v=spf1 -all", &text]), NameRecords::Node(ACME));
        let free = format!("v=tidings1 ;\tnode={} ; ", ACME.to_text().to_uppercase());
        assert_eq!(read(&[&free]), NameRecords::Node(ACME));
    }

    #[test]
    fn what_is_not_ours_is_passed_over() {
        for other in ["", "v=tidings10; node=x", "v=tidings", "V=TIDINGS1", "hello", "\u{fffd}"] {
            assert_eq!(read(&[other]), NameRecords::Absent, "{other}");
        }
        assert_eq!(read(&[]), NameRecords::Absent);
    }

    #[test]
    fn one_of_ours_that_is_wrong_spoils_them_all() {
        let text = record_text(&ACME);
        let typo = text.replace('a', "b");
        for wrong in [
            "v=tidings1",
            "v=tidings1;",
            "v=tidings1; node=",
            "v=tidings1; nodes=x",
            typo.as_str(),
            &format!("{text}; {}", &text[12..]),
            &format!("{text}; key=1"),
            &text.replace(';', ""),
            &format!("{text}{}", " ".repeat(512)),
        ] {
            assert_eq!(read(&[wrong]), NameRecords::Unreadable, "{wrong}");
            assert_eq!(read(&[&text, wrong]), NameRecords::Unreadable, "{wrong}");
        }
        let bytes: &[u8] = b"v=tidings1; node=\xff";
        assert_eq!(NameRecords::read([bytes]), NameRecords::Unreadable);
    }

    #[test]
    fn two_nodes_are_none_and_too_many_records_are_not_read() {
        let (one, other) = (record_text(&ACME), record_text(&NodeId([2; 32])));
        assert_eq!(read(&[&one, &other]), NameRecords::Contradicting);
        let many = vec![one.as_str(); 17];
        assert_eq!(read(&many), NameRecords::Unreadable);
        assert_eq!(read(&many[1..]), NameRecords::Node(ACME));
    }
}
