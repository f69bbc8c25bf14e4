//! What an administrator asks about domains, and the answers, as JSON. The socket is in
//! `admin_link.rs`; what a name stands for is the core's part.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidings_core::effect::{ChangeKind, NameCheck, NameFound, NameStatus, OwnDomain};
use tidings_core::event::{AdminCommand, NameCommand};
use tidings_protocol::client_frame::NameSource;
use tidings_protocol::domain::Domain;
use tidings_protocol::id::NodeId;

use crate::admin_peers::parse_node;

/// What to do, as it stands in a line: `{"ask": "names", "what": "alias", "domain": .., "node": ..}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case", deny_unknown_fields)]
pub enum NameQuestion {
    /// All that are pinned, and all aliases.
    List,
    /// This domain stands for this node.
    Alias {
        /// The domain.
        domain: String,
        /// The node's id.
        node: String,
    },
    /// What has changed about the domain holds from now on.
    Accept {
        /// The domain.
        domain: String,
    },
    /// Neither pinned nor an alias any more.
    Forget {
        /// The domain.
        domain: String,
    },
    /// Ask the DNS and the node now.
    Check {
        /// The domain.
        domain: String,
    },
}

impl NameQuestion {
    pub(crate) fn command(&self) -> Result<AdminCommand, String> {
        let read = |text: &str| {
            Domain::parse(text).map_err(|error| format!("'{text}' is no domain: {error}"))
        };
        let command = match self {
            Self::List => NameCommand::List,
            Self::Alias { domain, node } => {
                NameCommand::Alias { domain: read(domain)?, node: parse_node(node)? }
            }
            Self::Accept { domain } => NameCommand::Accept { domain: read(domain)? },
            Self::Forget { domain } => NameCommand::Forget { domain: read(domain)? },
            Self::Check { domain } => NameCommand::Check { domain: read(domain)? },
        };
        Ok(AdminCommand::Names(command))
    }
}

pub(crate) fn name(name: &NameStatus) -> Value {
    json!({
        "domain": name.domain.as_str(),
        "node": name.node.to_text(),
        "source": source_word(name.source),
        "since_ms": name.since_ms,
        "confirmed_ms": name.confirmed_ms,
        "change": name.change.map(change_word),
        "change_node": name.change_node.map(NodeId::to_text),
        "change_ms": name.change_ms,
    })
}

pub(crate) fn check(check: &NameCheck) -> Value {
    json!({
        "domain": check.domain.as_str(),
        "found": found_word(check.found),
        "node": check.node.map(NodeId::to_text),
        "pinned": check.pinned.as_ref().map(name),
    })
}

pub(crate) fn own_domain(own: &OwnDomain) -> Value {
    json!({
        "domain": own.domain.as_str(),
        "found": own.found.map(found_word),
        "node": own.node.map(NodeId::to_text),
    })
}

const fn source_word(source: NameSource) -> &'static str {
    match source {
        NameSource::Dns => "dns",
        NameSource::Alias => "alias",
    }
}

const fn change_word(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Moved => "moved",
        ChangeKind::Unclaimed => "unclaimed",
        ChangeKind::Withdrawn => "withdrawn",
        ChangeKind::NoRecord => "no_record",
    }
}

const fn found_word(found: NameFound) -> &'static str {
    match found {
        NameFound::Bound => "bound",
        NameFound::Unclaimed => "unclaimed",
        NameFound::Unasked => "unasked",
        NameFound::OtherNode => "other_node",
        NameFound::Absent => "absent",
        NameFound::Contradicting => "contradicting",
        NameFound::Unreadable => "unreadable",
        NameFound::Silent => "silent",
    }
}

#[cfg(test)]
mod tests {
    use super::NameQuestion;
    use crate::admin_link::AdminRequest;

    #[test]
    fn a_question_about_names_is_one_line() {
        let check = NameQuestion::Check { domain: "acme.example".to_owned() };
        let line = r#"{"ask":"names","what":"check","domain":"acme.example"}"#;
        let request = AdminRequest::Names(check.clone());
        assert_eq!(serde_json::to_string(&request).unwrap(), line);
        assert_eq!(serde_json::from_str::<AdminRequest>(line).ok(), Some(request));
        assert!(check.command().is_ok());
        for wrong in ["127.0.0.1", "b\u{fc}cher.example", ""] {
            let question = NameQuestion::Accept { domain: wrong.to_owned() };
            assert!(question.command().unwrap_err().contains("is no domain"), "{wrong}");
        }
        let (domain, node) = ("acme.example".to_owned(), "acme".to_owned());
        assert!(NameQuestion::Alias { domain, node }.command().is_err());
    }
}
