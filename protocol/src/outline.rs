//! Reads bytes by a shape, for people: every part with its name, its place and its value, or the
//! offset at which something else was expected. Slower and stricter than `codec.rs`, which is what
//! links use: values of indefinite length, tags and floats are refused. Checks no signature.

use core::fmt;

use thiserror::Error;

use crate::{
    codec::RECURSION_MAX,
    shape::{FieldShape, Shape},
};

/// A part of what was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where it begins, from the first byte of the whole.
    pub offset: usize,
    /// What it is.
    pub value: Value,
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number.
    Number(u64),
    /// True or false.
    Bool(bool),
    /// Text.
    Text(String),
    /// Bytes that mean nothing here.
    Bytes(Vec<u8>),
    /// Bytes with a meaning.
    Fixed {
        /// The type.
        name: &'static str,
        /// They themselves.
        bytes: Vec<u8>,
    },
    /// A number from a list; without a word when the list does not have it.
    Code {
        /// The number.
        number: u64,
        /// Its word.
        word: &'static str,
    },
    /// An optional part that is not there.
    Absent,
    /// Some of the same.
    List(Vec<Part>),
    /// Named parts.
    Struct {
        /// The type.
        name: &'static str,
        /// Name and part, as they came.
        fields: Vec<(&'static str, Part)>,
        /// Keys that this program does not know.
        unknown: Vec<u64>,
    },
    /// One of several.
    Union {
        /// The type.
        name: &'static str,
        /// Which.
        variant: &'static str,
        /// Its payload.
        payload: Box<Part>,
    },
    /// A value and the signature over it, which was not checked.
    Signed {
        /// The value.
        value: Box<Part>,
        /// The signature.
        signature: Box<Part>,
    },
}

/// Bytes are not what they were taken for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("at byte {offset}, expected {expected}, found {found}")]
pub struct OutlineError {
    /// Where, from the first byte of the whole.
    pub offset: usize,
    /// What should stand there.
    pub expected: String,
    /// What does, without its contents.
    pub found: Found,
}

/// What stands where something else was expected; says nothing of its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// No more bytes.
    End,
    /// An unsigned number.
    Number,
    /// A negative number.
    Negative,
    /// So many bytes.
    Bytes(u64),
    /// So many bytes of text.
    Text(u64),
    /// So many items.
    Array(u64),
    /// So many pairs.
    Map(u64),
    /// A tag, float or value of indefinite length.
    Other,
    /// True, false or null.
    Simple,
    /// As many bytes behind the whole value.
    Trailing(usize),
    /// It is of the right kind, but none of those that there may be.
    Unknown(u64),
    /// A key for the second time.
    Twice(u64),
    /// It is nested too deeply.
    TooDeep,
    /// It is not UTF-8.
    NotUtf8,
}

impl fmt::Display for Found {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::End => out.write_str("the end"),
            Self::Number => out.write_str("a number"),
            Self::Negative => out.write_str("a negative number"),
            Self::Bytes(len) => write!(out, "{len} bytes"),
            Self::Text(len) => write!(out, "text of {len} bytes"),
            Self::Array(len) => write!(out, "an array of {len}"),
            Self::Map(len) => write!(out, "a map of {len}"),
            Self::Other => out.write_str("a tag, a float or an indefinite length"),
            Self::Simple => out.write_str("true, false or null"),
            Self::Trailing(len) => write!(out, "{len} more bytes"),
            Self::Unknown(number) => write!(out, "{number}, which this program does not know"),
            Self::Twice(key) => write!(out, "key {key} for the second time"),
            Self::TooDeep => out.write_str("values nested too deeply"),
            Self::NotUtf8 => out.write_str("bytes that are no UTF-8"),
        }
    }
}

/// Reads one whole value.
///
/// # Errors
/// [`OutlineError`], with the first place that does not fit.
pub fn read(shape: &Shape, bytes: &[u8]) -> Result<Part, OutlineError> {
    read_inside(shape, bytes, 0)
}

/// Reads one whole value that begins at byte `base` of something larger, in whose bytes the offsets
/// count.
///
/// # Errors
/// [`OutlineError`], with the first place that does not fit.
pub fn read_inside(shape: &Shape, bytes: &[u8], base: usize) -> Result<Part, OutlineError> {
    Reader { bytes, base, at: 0, depth: 0 }.whole(shape)
}

/// What the first three bits of a value say (RFC 8949, 3.1).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Major {
    Number,
    Negative,
    Bytes,
    Text,
    Array,
    Map,
    Tag,
    Simple,
}

/// The head of a value.
#[derive(Clone, Copy)]
struct Head {
    major: Major,
    /// Absent for floats and an indefinite length.
    argument: Option<u64>,
}

impl Head {
    /// The simple values that we use (RFC 8949, 3.3).
    const fn simple(self) -> Option<Simple> {
        match (self.major, self.argument) {
            (Major::Simple, Some(20)) => Some(Simple::False),
            (Major::Simple, Some(21)) => Some(Simple::True),
            (Major::Simple, Some(22)) => Some(Simple::Null),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Simple {
    False,
    True,
    Null,
}

struct Reader<'a> {
    bytes: &'a [u8],
    /// Where `bytes` begin in the whole.
    base: usize,
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn whole(mut self, shape: &Shape) -> Result<Part, OutlineError> {
        let part = self.part(shape)?;
        match self.bytes.len() - self.at {
            0 => Ok(part),
            left => Err(self.wrong(self.at, "the end", Found::Trailing(left))),
        }
    }

    fn wrong(&self, at: usize, expected: impl Into<String>, found: Found) -> OutlineError {
        OutlineError { offset: self.base + at, expected: expected.into(), found }
    }

    /// The head at the present place, without moving on.
    fn peek(&self) -> Option<(Head, usize)> {
        let (&first, rest) = self.bytes.get(self.at..)?.split_first()?;
        let low = first & 0x1f;
        let major = match first >> 5 {
            0 => Major::Number,
            1 => Major::Negative,
            2 => Major::Bytes,
            3 => Major::Text,
            4 => Major::Array,
            5 => Major::Map,
            6 => Major::Tag,
            _ => Major::Simple,
        };
        let wide = |len: usize| {
            let bytes = rest.get(..len)?;
            Some(bytes.iter().fold(0, |number, &byte| (number << 8) | u64::from(byte)))
        };
        let (argument, len) = match low {
            0..=23 => (Some(u64::from(low)), 0),
            24 => (Some(wide(1)?), 1),
            25 => (Some(wide(2)?), 2),
            26 => (Some(wide(4)?), 4),
            27 => (Some(wide(8)?), 8),
            _ => (None, 0),
        };
        // A float has the major number of simple values, and is none.
        let is_float = major == Major::Simple && low > 24;
        let argument = argument.filter(|_| !is_float);
        Some((Head { major, argument }, 1 + len))
    }

    fn found(&self) -> Found {
        let Some((head, _)) = self.peek() else { return Found::End };
        let Some(argument) = head.argument else { return Found::Other };
        match head.major {
            Major::Number => Found::Number,
            Major::Negative => Found::Negative,
            Major::Bytes => Found::Bytes(argument),
            Major::Text => Found::Text(argument),
            Major::Array => Found::Array(argument),
            Major::Map => Found::Map(argument),
            Major::Simple if head.simple().is_some() => Found::Simple,
            Major::Tag | Major::Simple => Found::Other,
        }
    }

    /// Takes a head of this kind.
    fn head(&mut self, major: Major, expected: &str) -> Result<u64, OutlineError> {
        match self.peek() {
            Some((Head { major: found, argument: Some(argument) }, len)) if found == major => {
                self.at += len;
                Ok(argument)
            }
            Some(_) | None => Err(self.wrong(self.at, expected, self.found())),
        }
    }

    /// Takes a simple value, if there is one.
    fn simple(&mut self) -> Option<Simple> {
        let (head, len) = self.peek()?;
        let simple = head.simple()?;
        self.at += len;
        Some(simple)
    }

    fn string(&mut self, major: Major, expected: &str) -> Result<&'a [u8], OutlineError> {
        let start = self.at;
        let len = self.head(major, expected)?;
        let taken = usize::try_from(len)
            .ok()
            .and_then(|len| self.at.checked_add(len))
            .and_then(|end| self.bytes.get(self.at..end));
        let Some(taken) = taken else {
            let left = self.bytes.len() - self.at;
            let expected = format!("{len} bytes of {expected}");
            return Err(self.wrong(start, expected, Found::Trailing(left)));
        };
        self.at += taken.len();
        Ok(taken)
    }

    fn part(&mut self, shape: &Shape) -> Result<Part, OutlineError> {
        let offset = self.base + self.at;
        if self.depth >= RECURSION_MAX {
            return Err(self.wrong(self.at, shape.name(), Found::TooDeep));
        }
        self.depth += 1;
        let value = self.value(shape)?;
        self.depth -= 1;
        Ok(Part { offset, value })
    }

    fn value(&mut self, shape: &Shape) -> Result<Value, OutlineError> {
        let start = self.at;
        Ok(match *shape {
            Shape::Number { bits } => {
                let number = self.head(Major::Number, shape.name())?;
                if bits < 64 && number >> bits != 0 {
                    let expected = format!("a number of {bits} bits");
                    return Err(self.wrong(start, expected, Found::Unknown(number)));
                }
                Value::Number(number)
            }
            Shape::Bool => match self.simple() {
                Some(Simple::False) => Value::Bool(false),
                Some(Simple::True) => Value::Bool(true),
                Some(Simple::Null) => return Err(self.wrong(start, shape.name(), Found::Simple)),
                None => return Err(self.wrong(start, shape.name(), self.found())),
            },
            Shape::Text => {
                let bytes = self.string(Major::Text, shape.name())?;
                let text = core::str::from_utf8(bytes)
                    .map_err(|_| self.wrong(start, shape.name(), Found::NotUtf8))?;
                Value::Text(text.to_owned())
            }
            Shape::Bytes => Value::Bytes(self.string(Major::Bytes, shape.name())?.to_vec()),
            Shape::Fixed { name, len } => self.fixed(name, len)?,
            Shape::Code { name, words } => {
                let number = self.head(Major::Number, name)?;
                match words.iter().find(|(code, _)| u64::from(*code) == number) {
                    Some((_, word)) => Value::Code { number, word },
                    None => return Err(self.wrong(start, name, Found::Unknown(number))),
                }
            }
            Shape::Optional(inner) => {
                if self.peek().is_some_and(|(head, _)| head.simple() == Some(Simple::Null)) {
                    self.simple();
                    Value::Absent
                } else {
                    self.part(inner)?.value
                }
            }
            Shape::List(inner) => {
                let len =
                    self.head(Major::Array, &format!("a list, each of it {}", inner.name()))?;
                Value::List((0..len).map(|_| self.part(inner)).collect::<Result<_, _>>()?)
            }
            Shape::Struct { name, fields } => self.map(name, fields)?,
            Shape::Row { name, fields } => self.row(name, fields)?,
            Shape::Union { name, variants } => self.union(name, variants)?,
            Shape::Encoded(inner) => return self.encoded(inner).map(|part| part.value),
            Shape::Signed(inner) => {
                self.array(2, &format!("[signed {}, signature]", inner.name()))?;
                let value = Box::new(self.encoded(inner)?);
                let offset = self.base + self.at;
                let signature = self.fixed("Signature", 64)?;
                Value::Signed { value, signature: Box::new(Part { offset, value: signature }) }
            }
        })
    }

    fn fixed(&mut self, name: &'static str, len: usize) -> Result<Value, OutlineError> {
        let (start, found) = (self.at, self.found());
        let bytes = self.string(Major::Bytes, name)?;
        if bytes.len() != len {
            return Err(self.wrong(start, format!("{name} of {len} bytes"), found));
        }
        Ok(Value::Fixed { name, bytes: bytes.to_vec() })
    }

    /// What stands encoded inside of a byte string; its offsets count in the whole.
    fn encoded(&mut self, inner: &Shape) -> Result<Part, OutlineError> {
        let bytes = self.string(Major::Bytes, &format!("bytes that hold {}", inner.name()))?;
        let base = self.base + self.at - bytes.len();
        Reader { bytes, base, at: 0, depth: self.depth }.whole(inner)
    }

    fn array(&mut self, len: u64, expected: &str) -> Result<(), OutlineError> {
        let (start, found) = (self.at, self.found());
        if self.head(Major::Array, expected)? == len {
            Ok(())
        } else {
            Err(self.wrong(start, expected, found))
        }
    }

    fn map(
        &mut self,
        name: &'static str,
        fields: &'static [FieldShape],
    ) -> Result<Value, OutlineError> {
        let pairs = self.head(Major::Map, &format!("a map for {name}"))?;
        let (mut read, mut unknown): (Vec<(&'static str, Part)>, Vec<u64>) = Default::default();
        for _ in 0..pairs {
            let start = self.at;
            let key = self.head(Major::Number, &format!("a key of {name}"))?;
            let Some(field) = fields.iter().find(|field| field.key == key) else {
                unknown.push(key);
                self.skip()?;
                continue;
            };
            if read.iter().any(|(known, _)| *known == field.name) {
                return Err(self.wrong(start, format!("a key of {name}"), Found::Twice(key)));
            }
            read.push((field.name, self.part(field.shape)?));
        }
        let is_missing = |field: &&FieldShape| {
            !matches!(field.shape, Shape::Optional(_))
                && read.iter().all(|(known, _)| *known != field.name)
        };
        if let Some(field) = fields.iter().find(is_missing) {
            let expected = format!("key {} ({}) of {name}", field.key, field.name);
            return Err(self.wrong(self.at, expected, self.found()));
        }
        Ok(Value::Struct { name, fields: read, unknown })
    }

    fn row(
        &mut self,
        name: &'static str,
        fields: &'static [FieldShape],
    ) -> Result<Value, OutlineError> {
        self.array(fields.len() as u64, &format!("an array of {} for {name}", fields.len()))?;
        let part = |field: &FieldShape| Ok((field.name, self.part(field.shape)?));
        let fields = fields.iter().map(part).collect::<Result<_, _>>()?;
        Ok(Value::Struct { name, fields, unknown: Vec::new() })
    }

    fn union(
        &mut self,
        name: &'static str,
        variants: &'static [FieldShape],
    ) -> Result<Value, OutlineError> {
        self.array(2, &format!("[tag, payload] of {name}"))?;
        let start = self.at;
        let tag = self.head(Major::Number, &format!("a tag of {name}"))?;
        let Some(variant) = variants.iter().find(|variant| variant.key == tag) else {
            return Err(self.wrong(start, format!("a tag of {name}"), Found::Unknown(tag)));
        };
        let payload = Box::new(self.part(variant.shape)?);
        Ok(Value::Union { name, variant: variant.name, payload })
    }

    /// Passes over a value of any shape.
    fn skip(&mut self) -> Result<(), OutlineError> {
        let mut left: u64 = 1;
        while left > 0 {
            left -= 1;
            let wrong = |reader: &Self| reader.wrong(reader.at, "a value", reader.found());
            let Some((Head { major, argument: Some(argument) }, len)) = self.peek() else {
                return Err(wrong(self));
            };
            match major {
                Major::Bytes | Major::Text => {
                    self.string(major, "a value")?;
                    continue;
                }
                Major::Array => left = left.saturating_add(argument),
                Major::Map => left = left.saturating_add(argument.saturating_mul(2)),
                Major::Number | Major::Negative | Major::Simple => {}
                Major::Tag => return Err(wrong(self)),
            }
            self.at += len;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Found, OutlineError, Value, read};
    use crate::{
        client_frame::ClientFrame,
        codec::encode,
        hello::Mark,
        id::BootId,
        shape::{Shape, Shaped},
    };

    fn mark() -> Vec<u8> {
        encode(&Mark { boot: BootId([9; 16]), commit: 300 })
    }

    fn refused(shape: &Shape, bytes: &[u8]) -> (usize, String, Found) {
        let OutlineError { offset, expected, found } = read(shape, bytes).unwrap_err();
        (offset, expected, found)
    }

    #[test]
    fn a_value_is_read_with_names_and_places() {
        let part = read(Mark::SHAPE, &mark()).unwrap();
        let Value::Struct { name, fields, unknown } = part.value else { panic!("a struct") };
        assert_eq!((name, unknown.len()), ("Mark", 0));
        let [(boot, first), (commit, second)] = fields.as_slice() else { panic!("two fields") };
        assert_eq!((*boot, first.offset), ("boot", 2));
        assert_eq!((*commit, second.offset, &second.value), ("commit", 20, &Value::Number(300)));
    }

    #[test]
    fn an_error_names_the_offset_and_what_was_expected() {
        let bytes = mark();
        assert_eq!(
            refused(Mark::SHAPE, &bytes[..20]),
            (20, "a number".to_owned(), Found::End),
            "cut before the number"
        );
        let (offset, expected, found) = refused(Mark::SHAPE, &bytes[..10]);
        assert_eq!((offset, found), (2, Found::Trailing(7)));
        assert!(expected.contains("16 bytes of BootId"), "{expected}");
        let trailing = [bytes.as_slice(), &[0]].concat();
        assert_eq!(refused(Mark::SHAPE, &trailing).2, Found::Trailing(1));
        // {0: boot, 0: boot}
        let twice = [&[0xa2], &bytes[1..19], &bytes[1..19]].concat();
        assert_eq!(refused(Mark::SHAPE, &twice).2, Found::Twice(0));
        assert_eq!(refused(Mark::SHAPE, b"\xa0").1, "key 0 (boot) of Mark");
        assert_eq!(
            refused(ClientFrame::SHAPE, &[0x82, 0x18, 99]),
            (1, "a tag of ClientFrame".to_owned(), Found::Unknown(99))
        );
    }

    #[test]
    fn what_is_not_known_is_passed_over() {
        let mut bytes = mark();
        bytes[0] += 1;
        // 7: [{1: -1}, true]
        bytes.extend_from_slice(&[7, 0x82, 0xa1, 1, 0x20, 0xf5]);
        let part = read(Mark::SHAPE, &bytes).unwrap();
        assert!(matches!(part.value, Value::Struct { unknown, .. } if unknown == [7]));
    }

    #[test]
    fn lengths_that_lie_cost_nothing() {
        for bytes in [
            [0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff].as_slice(),
            &[0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0x9f, 0xff],
            &[0xf9, 0, 0],
            &[],
        ] {
            assert!(read(&Shape::List(u64::SHAPE), bytes).is_err());
            assert!(read(Mark::SHAPE, bytes).is_err());
            assert!(read(&Shape::Bytes, bytes).is_err());
        }
    }
}
