//! `acme.example`: a domain as it stands in an address, a delegation and the DNS. Knows no resolver and
//! binds nothing; what binds a domain to a node is in `name_record.rs` and in the delegation.

use core::fmt;

use thiserror::Error;

use crate::limits::DOMAIN_BYTES_MAX;

/// A domain in the one form in which domains are compared: lower-case ASCII, no dot at the end. What
/// people write in other scripts stands in it in its encoded form (`xn--`, RFC 5890).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Domain(String);

/// Why a text is not a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ParseDomainError {
    /// Other characters than ASCII: two domains must not look alike.
    #[error("a domain in other letters is written in its encoded form, which begins with xn--")]
    NotAscii,
    /// An IP address, or something that a resolver may take for one.
    #[error("an address of numbers is no domain")]
    Number,
    /// More than [`DOMAIN_BYTES_MAX`] bytes.
    #[error("a domain has at most {DOMAIN_BYTES_MAX} characters")]
    TooLong,
    /// Not labels of 1 to 63 letters, digits and inner hyphens with dots between them; or 56
    /// characters without a dot, which is the form of a node id.
    #[error("a domain is words of a-z, 0-9 and inner '-' with single dots between them")]
    Shape,
}

impl Domain {
    /// Reads a domain, in either case.
    ///
    /// # Errors
    /// [`ParseDomainError`], each with what is wrong.
    pub fn parse(text: &str) -> Result<Self, ParseDomainError> {
        if !text.is_ascii() {
            return Err(ParseDomainError::NotAscii);
        }
        let labels: Vec<&str> = text.split('.').collect();
        if !labels.iter().all(|label| is_label(label)) || (text.len() == 56 && labels.len() == 1) {
            return Err(ParseDomainError::Shape);
        }
        if text.len() > DOMAIN_BYTES_MAX {
            return Err(ParseDomainError::TooLong);
        }
        if labels.last().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit())) {
            return Err(ParseDomainError::Number);
        }
        Ok(Self(text.to_ascii_lowercase()))
    }

    /// The domain.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where its record stands in the DNS, from the root, with the dot at the end.
    #[must_use]
    pub fn record_name(&self) -> String {
        format!("_tidings.{}.", self.0)
    }
}

/// By RFC 1123.
fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

impl fmt::Display for Domain {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl crate::codec::Field for Domain {}
impl crate::shape::Shaped for Domain {
    const SHAPE: &'static crate::shape::Shape = &crate::shape::Shape::Text;
}
impl serde::Serialize for Domain {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}
impl<'de> serde::Deserialize<'de> for Domain {
    /// On the wire there is one form alone: another one is malformed.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match Self::parse(&text) {
            Ok(domain) if domain.0 == text => Ok(domain),
            Ok(_) => Err(<D::Error as serde::de::Error>::custom("a domain in upper case")),
            Err(error) => Err(<D::Error as serde::de::Error>::custom(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Domain, ParseDomainError};
    use crate::codec;

    #[test]
    fn each_wrong_domain_is_told_what_is_wrong_with_it() {
        for (text, wrong) in [
            ("b\u{fc}cher.example", ParseDomainError::NotAscii),
            ("acme\u{3002}example", ParseDomainError::NotAscii),
            ("127.0.0.1", ParseDomainError::Number),
            ("acme.1", ParseDomainError::Number),
            ("", ParseDomainError::Shape),
            ("acme..example", ParseDomainError::Shape),
            ("acme.example.", ParseDomainError::Shape),
            ("_tidings.acme.example", ParseDomainError::Shape),
            ("acme.example:53", ParseDomainError::Shape),
        ] {
            assert_eq!(Domain::parse(text), Err(wrong), "{text}");
        }
        let long = ["a".repeat(60).as_str(); 4].join(".") + ".b";
        assert_eq!(long.len(), 245);
        assert_eq!(Domain::parse(&long), Err(ParseDomainError::TooLong));
        assert!(Domain::parse(&long[1..]).is_ok());
        assert_eq!(Domain::parse(&"a".repeat(56)), Err(ParseDomainError::Shape));
    }

    #[test]
    fn a_domain_has_one_form_and_that_alone_travels() {
        let domain = Domain::parse("XN--BCHER-KVA.example").unwrap();
        assert_eq!(domain.as_str(), "xn--bcher-kva.example");
        assert_eq!(domain.record_name(), "_tidings.xn--bcher-kva.example.");
        assert_eq!(codec::decode::<Domain>(&codec::encode(&domain)), Ok(domain));
        assert!(codec::decode::<Domain>(&codec::encode(&"ACME.example".to_owned())).is_err());
    }
}
