//! An invite as people pass it on: `tidings:` and base32 over version ‖ node id ‖ secret ‖ URL ‖
//! two bytes of checksum. Who has the text can make an account; it names no person.

use crate::client_frame::InviteSecret;
use crate::id::{NodeId, hash};
use thiserror::Error;

/// What an invite says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InviteText {
    /// The node that made it.
    pub node: NodeId,
    /// Proves to the node that it did.
    pub secret: InviteSecret,
    /// Where devices reach the node.
    pub url: String,
}

/// A text is no invite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ParseInviteError {
    /// It does not begin or go on as one, or something is missing inside.
    #[error("an invite begins with `tidings:` and goes on with a-z and 2-7: copy all of it")]
    Shape,
    /// A version that we do not know.
    #[error("this invite has version {0}; this program knows version 1: update it")]
    Version(u8),
    /// A typing mistake, or a part is missing.
    #[error("the invite was damaged on its way: copy it again")]
    Checksum,
}

const PREFIX: &str = "tidings:";
/// Version of the text form of an invite.
const INVITE_VERSION: u8 = 1;

impl InviteText {
    /// The text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut raw = vec![INVITE_VERSION];
        raw.extend_from_slice(self.node.as_bytes());
        raw.extend_from_slice(self.secret.as_bytes());
        raw.extend_from_slice(self.url.as_bytes());
        let checksum = checksum(&raw);
        raw.extend_from_slice(&checksum);
        PREFIX.to_owned() + &data_encoding::BASE32_NOPAD.encode(&raw).to_lowercase()
    }

    /// Reads what stands between prefix and checksum, decoded.
    ///
    /// # Errors
    /// [`ParseInviteError`].
    pub fn from_raw(raw: &[u8]) -> Result<Self, ParseInviteError> {
        let (&version, rest) = raw.split_first().ok_or(ParseInviteError::Shape)?;
        if version != INVITE_VERSION {
            return Err(ParseInviteError::Version(version));
        }
        let (node, rest) = rest.split_first_chunk::<32>().ok_or(ParseInviteError::Shape)?;
        let (secret, url) = rest.split_first_chunk::<16>().ok_or(ParseInviteError::Shape)?;
        let url = std::str::from_utf8(url).map_err(|_| ParseInviteError::Shape)?.to_owned();
        Ok(Self { node: NodeId(*node), secret: InviteSecret(*secret), url })
    }
}

fn checksum(raw: &[u8]) -> [u8; 2] {
    let [first, second, ..] = hash("invite text checksum", &[raw]).0;
    [first, second]
}

impl std::str::FromStr for InviteText {
    type Err = ParseInviteError;

    fn from_str(text: &str) -> Result<Self, ParseInviteError> {
        let code = text.trim().strip_prefix(PREFIX).ok_or(ParseInviteError::Shape)?;
        let raw = data_encoding::BASE32_NOPAD
            .decode(code.to_ascii_uppercase().as_bytes())
            .map_err(|_| ParseInviteError::Shape)?;
        let (raw, sum) = raw
            .split_last_chunk::<2>()
            .filter(|(raw, _)| !raw.is_empty())
            .ok_or(ParseInviteError::Shape)?;
        if checksum(raw) != *sum {
            return Err(ParseInviteError::Checksum);
        }
        Self::from_raw(raw)
    }
}
#[cfg(test)]
mod tests {
    use crate::client_frame::InviteSecret;
    use crate::id::NodeId;

    use super::{InviteText, ParseInviteError};

    #[test]
    fn an_invite_comes_back_and_a_damaged_one_does_not() {
        let invite = InviteText {
            node: NodeId([7; 32]),
            secret: InviteSecret([9; 16]),
            url: "wss://acme.example".to_owned(),
        };
        let text = invite.to_text();
        assert_eq!(format!(" {text}\n").parse(), Ok(invite));
        assert_eq!(
            text.replacen("tidings:a", "tidings:b", 1).parse::<InviteText>(),
            Err(ParseInviteError::Checksum)
        );
        // U+017F, whose upper case is S.
        let (prefix, code) = text.split_at(8);
        let odd = format!("{prefix}{}", code.replacen('s', "\u{17f}", 1));
        assert_ne!(odd, text);
        assert_eq!(odd.parse::<InviteText>(), Err(ParseInviteError::Shape));
        for cut in 0..text.len() {
            assert!(text[..cut].parse::<InviteText>().is_err(), "cut at {cut}");
        }
    }
}
