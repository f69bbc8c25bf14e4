//! `alice@acme.example` and `alice@<node id>`: what people type. Names are resolved elsewhere; inside
//! there is only (node id, name).

use core::fmt;

use thiserror::Error;

use crate::{
    domain::{Domain, ParseDomainError},
    id::{NodeId, ParseNodeIdError},
};

/// Characters of a user name at most.
pub const USER_NAME_CHARS_MAX: usize = 64;

/// A user name at a node: `[a-z0-9._-]{1,64}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct UserName(String);

/// The node part of an address as it was typed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Host {
    /// A node id, which proves itself.
    Node(NodeId),
    /// A domain, which has to be bound to a node id by DNS or an alias first.
    Domain(Domain),
}

/// An address as it was typed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Address {
    /// Who.
    pub name: UserName,
    /// Where.
    pub host: Host,
}

/// Why a text is not an address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ParseAddressError {
    /// There is no `@`.
    #[error("an address looks like alice@acme.example or alice@<node id>")]
    NoAt,
    /// The name has other characters, none, or more than 64.
    #[error("a user name is 1 to 64 characters of a-z, 0-9, '.', '_' and '-'")]
    Name,
    /// The part behind the `@` is neither a domain nor a node id.
    #[error("'{host}' is neither a domain nor a node id")]
    Host {
        /// What was typed there.
        host: String,
        /// Why it is no domain.
        source: ParseDomainError,
    },
    /// It has the length of a node id but is none.
    #[error("the part behind the @ looks like a node id")]
    NodeId(#[source] ParseNodeIdError),
}

impl UserName {
    /// Checks a user name.
    ///
    /// # Errors
    /// [`ParseAddressError::Name`].
    pub fn parse(text: &str) -> Result<Self, ParseAddressError> {
        let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-');
        if (1..=USER_NAME_CHARS_MAX).contains(&text.len()) && text.chars().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseAddressError::Name)
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl crate::codec::Field for UserName {}
impl crate::shape::Shaped for UserName {
    const SHAPE: &'static crate::shape::Shape = &crate::shape::Shape::Text;
}
impl serde::Serialize for UserName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}
impl<'de> serde::Deserialize<'de> for UserName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(<D::Error as serde::de::Error>::custom)
    }
}

impl Address {
    /// The address of a name at a node id.
    #[must_use]
    pub const fn at_node(name: UserName, node: NodeId) -> Self {
        Self { name, host: Host::Node(node) }
    }

    /// Reads what a person typed.
    ///
    /// # Errors
    /// [`ParseAddressError`], each with what is wrong.
    pub fn parse(text: &str) -> Result<Self, ParseAddressError> {
        let (name, host) = text.split_once('@').ok_or(ParseAddressError::NoAt)?;
        let name = UserName::parse(name)?;
        let host = if host.len() == 56 && !host.contains('.') {
            Host::Node(NodeId::parse(host).map_err(ParseAddressError::NodeId)?)
        } else {
            let wrong = |source| ParseAddressError::Host { host: host.to_owned(), source };
            Host::Domain(Domain::parse(host).map_err(wrong)?)
        };
        Ok(Self { name, host })
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Node(node) => write!(out, "{}@{}", self.name, node.to_text()),
            Host::Domain(domain) => write!(out, "{}@{domain}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Address, Host, ParseAddressError, UserName};
    use crate::domain::Domain;
    use crate::id::{NodeId, ParseNodeIdError};
    use crate::key::SecretKey;

    #[test]
    fn what_was_parsed_prints_and_parses_as_the_same() {
        let node = NodeId::of(&SecretKey::from_seed(&[1; 32]).public());
        for text in ["alice@acme.example", "a@b", &format!("b.o_b-9@{}", node.to_text())] {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.to_string(), text);
            assert_eq!(Address::parse(&address.to_string()), Ok(address));
        }
        let address = Address::at_node(UserName::parse("bob").unwrap(), node);
        assert_eq!(Address::parse(&address.to_string()), Ok(address));
    }

    #[test]
    fn a_node_id_in_upper_case_is_the_same_address() {
        let node = NodeId::of(&SecretKey::from_seed(&[1; 32]).public());
        let upper = format!("alice@{}", node.to_text().to_uppercase());
        assert_eq!(Address::parse(&upper).unwrap().host, Host::Node(node));
    }

    #[test]
    fn a_host_of_56_characters_is_a_node_id_unless_it_has_a_dot() {
        let long = "a".repeat(56);
        assert_eq!(
            Address::parse(&format!("alice@{long}")),
            Err(ParseAddressError::NodeId(ParseNodeIdError::Version(0)))
        );
        let dotted = format!("{}.example", "a".repeat(48));
        assert_eq!(dotted.len(), 56);
        let host = Host::Domain(Domain::parse(&dotted).unwrap());
        assert_eq!(Address::parse(&format!("alice@{dotted}")).unwrap().host, host);
    }

    #[test]
    fn text_of_many_bytes_never_panics() {
        for text in ["\u{1f44b}@\u{1f44b}", "@", "@@", "alice@\u{130}", &"\u{212a}".repeat(56)] {
            assert!(Address::parse(text).is_err(), "{text}");
            assert!(NodeId::parse(text).is_err(), "{text}");
        }
        // 56 characters of more than one byte each, some of which fold to ASCII.
        assert!(NodeId::parse(&"\u{131}".repeat(56)).is_err());
    }

    #[test]
    fn a_typing_mistake_in_any_place_of_a_node_id_is_noticed() {
        let text = NodeId::of(&SecretKey::from_seed(&[1; 32]).public()).to_text();
        for at in 0..text.len() {
            let other = if &text[at..=at] == "a" { "b" } else { "a" };
            let typo = format!("{}{other}{}", &text[..at], &text[at + 1..]);
            assert!(NodeId::parse(&typo).is_err(), "{typo}");
        }
    }
}
