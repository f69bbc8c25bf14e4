//! The only file that names ciborium: deterministic CBOR with small integer keys (RFC 8949 §4.2).
//!
//! [`encode`] writes the one canonical form. [`decode`] ignores unknown keys, so that a newer peer
//! may say more; [`decode_canonical`] refuses them, and every other deviation from the canonical
//! form, and is used for everything that is signed or hashed. Knows nothing of what the types mean.

use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

/// Nesting that any of our types needs, doubled; a bomb of brackets ends here.
pub const RECURSION_MAX: usize = 32;

/// Why bytes are not a value of the expected type.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Not CBOR, or CBOR of another shape.
    #[error("decoding {type_name}: {why}")]
    Malformed {
        /// The type that was expected.
        type_name: &'static str,
        /// What ciborium or serde found wrong.
        why: String,
    },
    /// A whole value, and then more bytes.
    #[error("decoding {type_name}: {bytes} bytes too many")]
    Trailing {
        /// The type that was expected.
        type_name: &'static str,
        /// How many bytes were left.
        bytes: usize,
    },
    /// The value is readable but not in its one canonical form: unknown or repeated keys, keys out
    /// of order, a number or length longer than it need be.
    #[error("decoding {type_name}: not in canonical form")]
    NotCanonical {
        /// The type that was expected.
        type_name: &'static str,
    },
}

/// Encodes a wire value in its canonical form.
#[must_use]
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    encode_with_room(value, 128)
}

/// Encodes with room for so many bytes from the start. For secrets: a buffer that has to grow leaves
/// copies of them behind.
#[must_use]
#[expect(clippy::expect_used, reason = "a Vec takes every byte and our types always serialise")]
pub fn encode_with_room<T: Serialize>(value: &T, bytes: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes);
    ciborium::into_writer(value, &mut out).expect("a value serialises into memory");
    out
}

/// Decodes a wire value; unknown keys are ignored, trailing bytes are not.
///
/// # Errors
/// [`DecodeError::Malformed`] or [`DecodeError::Trailing`].
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let type_name = short_name::<T>();
    let mut rest = bytes;
    let value = ciborium::de::from_reader_with_recursion_limit(&mut rest, RECURSION_MAX)
        .map_err(|error| DecodeError::Malformed { type_name, why: why(&error) })?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(DecodeError::Trailing { type_name, bytes: rest.len() })
    }
}

fn why(error: &ciborium::de::Error<std::io::Error>) -> String {
    if let ciborium::de::Error::Io(_) = error {
        return "the bytes end too early".to_owned();
    }
    error.to_string()
}

/// Decodes a value that was signed or hashed: only its canonical form is accepted.
///
/// # Errors
/// Any [`DecodeError`].
pub fn decode_canonical<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let value: T = decode(bytes)?;
    if encode(&value) == bytes {
        Ok(value)
    } else {
        Err(DecodeError::NotCanonical { type_name: short_name::<T>() })
    }
}

/// The first number of a tagged value `[tag, payload]`, so that a frame of an unknown type can be
/// told from a broken one.
#[must_use]
pub fn peek_tag(bytes: &[u8]) -> Option<u64> {
    let (&first, rest) = bytes.split_first()?;
    if first != 0x82 {
        return None;
    }
    match rest {
        [tag @ 0..=0x17, ..] => Some(u64::from(*tag)),
        [0x18, tag, ..] => Some(u64::from(*tag)),
        [..] => None,
    }
}

fn short_name<T>() -> &'static str {
    let full = core::any::type_name::<T>();
    full.rsplit("::").next().unwrap_or(full)
}

/// A field of a wire struct: says when it is left out, and what its absence means.
pub trait Field: Sized {
    /// True when the field is left out of the map.
    fn is_absent(&self) -> bool {
        false
    }
    /// The value that a missing key stands for, if it may be missing.
    fn when_absent() -> Option<Self> {
        None
    }
}

impl<T> Field for Option<T> {
    fn is_absent(&self) -> bool {
        self.is_none()
    }
    fn when_absent() -> Option<Self> {
        Some(None)
    }
}
impl<T> Field for Vec<T> {}
impl Field for u8 {}
impl Field for u16 {}
impl Field for u32 {}
impl Field for u64 {}
impl Field for bool {}
impl Field for String {}
impl Field for bytes::Bytes {}

/// Declares a struct that travels as a CBOR map with small integer keys, in ascending order. A field
/// `x: Bytes as T` holds an encoded `T` that is not decoded with the rest.
macro_rules! wire_struct {
    ($(#[$meta:meta])* pub struct $name:ident {
        $($(#[$field_meta:meta])* $key:literal => $field:ident : $ty:ty $(as $inner:ty)?),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name { $($(#[$field_meta])* pub $field: $ty),* }

        impl $crate::codec::Field for $name {}

        impl $crate::shape::Shaped for $name {
            const SHAPE: &'static $crate::shape::Shape = &$crate::shape::Shape::Struct {
                name: stringify!($name),
                fields: &[$($crate::shape::FieldShape {
                    key: $key,
                    name: stringify!($field),
                    shape: $crate::shape_of!($ty $(, $inner)?),
                }),*],
            };
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap as _;
                use $crate::codec::Field as _;
                let present = 0usize $(+ usize::from(!self.$field.is_absent()))*;
                let mut map = serializer.serialize_map(Some(present))?;
                $(if !self.$field.is_absent() {
                    map.serialize_entry::<u64, _>(&$key, &self.$field)?;
                })*
                map.end()
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct MapVisitor;
                impl<'de> serde::de::Visitor<'de> for MapVisitor {
                    type Value = $name;
                    fn expecting(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                        out.write_str(concat!("a map for ", stringify!($name)))
                    }
                    fn visit_map<A: serde::de::MapAccess<'de>>(
                        self,
                        mut map: A,
                    ) -> Result<Self::Value, A::Error> {
                        use serde::de::Error as _;
                        $(let mut $field: Option<$ty> = None;)*
                        while let Some(key) = map.next_key::<u64>()? {
                            match key {
                                $($key => {
                                    if $field.is_some() {
                                        return Err(A::Error::custom(concat!(
                                            "key ", stringify!($key), " stands twice")));
                                    }
                                    $field = Some(map.next_value()?);
                                })*
                                _ => { map.next_value::<serde::de::IgnoredAny>()?; }
                            }
                        }
                        Ok($name { $($field: match $field {
                            Some(value) => value,
                            None => <$ty as $crate::codec::Field>::when_absent().ok_or_else(||
                                A::Error::custom(concat!("key ", stringify!($key), " (",
                                    stringify!($field), ") is missing")))?,
                        }),* })
                    }
                }
                deserializer.deserialize_map(MapVisitor)
            }
        }
    };
}

/// Declares a union that travels as `[tag, payload]`.
macro_rules! wire_union {
    ($(#[$meta:meta])* pub enum $name:ident {
        $($(#[$variant_meta:meta])* $tag:literal => $variant:ident($ty:ty)),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_meta])* $variant($ty)),* }

        impl $crate::codec::Field for $name {}

        impl $crate::shape::Shaped for $name {
            const SHAPE: &'static $crate::shape::Shape = &$crate::shape::Shape::Union {
                name: stringify!($name),
                variants: &[$($crate::shape::FieldShape {
                    key: $tag,
                    name: stringify!($variant),
                    shape: $crate::shape_of!($ty),
                }),*],
            };
        }

        impl $name {
            /// True when this version of the protocol knows the tag.
            #[must_use]
            pub const fn knows_tag(tag: u64) -> bool {
                false $(|| tag == $tag)*
            }
            /// The name of the variant, for counters and logs.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self { $(Self::$variant(_) => stringify!($variant)),* }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self { $(Self::$variant(payload) => ($tag as u64, payload).serialize(serializer)),* }
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct PairVisitor;
                impl<'de> serde::de::Visitor<'de> for PairVisitor {
                    type Value = $name;
                    fn expecting(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                        out.write_str(concat!("[tag, payload] for ", stringify!($name)))
                    }
                    fn visit_seq<A: serde::de::SeqAccess<'de>>(
                        self,
                        mut seq: A,
                    ) -> Result<Self::Value, A::Error> {
                        use serde::de::Error as _;
                        let tag: u64 = seq.next_element()?.ok_or_else(|| A::Error::custom("no tag"))?;
                        let value = match tag {
                            $($tag => $name::$variant(
                                seq.next_element()?.ok_or_else(|| A::Error::custom("no payload"))?,
                            ),)*
                            other => return Err(A::Error::custom(format_args!("unknown tag {other}"))),
                        };
                        if seq.next_element::<serde::de::IgnoredAny>()?.is_some() {
                            return Err(A::Error::custom("more than a tag and a payload"));
                        }
                        Ok(value)
                    }
                }
                deserializer.deserialize_seq(PairVisitor)
            }
        }
    };
}

/// Declares a closed list of numbers with names.
macro_rules! wire_code {
    ($(#[$meta:meta])* pub enum $name:ident {
        $($(#[$variant_meta:meta])* $code:literal => $variant:ident),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($(#[$variant_meta])* $variant),* }

        impl $crate::codec::Field for $name {}

        impl $crate::shape::Shaped for $name {
            const SHAPE: &'static $crate::shape::Shape = &$crate::shape::Shape::Code {
                name: stringify!($name),
                words: &[$(($code, stringify!($variant))),*],
            };
        }

        impl $name {
            /// Every value, in the order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];
            /// The number on the wire.
            #[must_use]
            pub const fn code(self) -> u8 {
                match self { $(Self::$variant => $code),* }
            }
            /// The value with this number, if the list has it.
            #[must_use]
            pub const fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }
            /// The name, for logs, metrics and `--json`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant)),* }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_u8(self.code())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let code = u8::deserialize(deserializer)?;
                Self::from_code(code).ok_or_else(|| {
                    <D::Error as serde::de::Error>::custom(format_args!(
                        "{} has no number {code}", stringify!($name)))
                })
            }
        }
    };
}

/// Declares a fixed number of bytes with a meaning; travels as a byte string, prints as hex.
macro_rules! wire_bytes {
    ($(#[$meta:meta])* pub struct $name:ident([u8; $len:literal]);) => {
        $crate::codec::wire_bytes!(unprinted $(#[$meta])* pub struct $name([u8; $len]););

        impl core::fmt::Display for $name {
            fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                out.write_str(&data_encoding::HEXLOWER.encode(&self.0))
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                let hex = data_encoding::HEXLOWER.encode(&self.0);
                write!(out, concat!(stringify!($name), "({})"), hex.get(..12).unwrap_or(&hex))
            }
        }
    };
    // A secret that travels: nothing prints it by itself.
    (secret $(#[$meta:meta])* pub struct $name:ident([u8; $len:literal]);) => {
        $crate::codec::wire_bytes!(unprinted $(#[$meta])* pub struct $name([u8; $len]););

        impl $name {
            /// Lower-case hex, for whoever it is made for.
            #[must_use]
            pub fn to_hex(self) -> String {
                data_encoding::HEXLOWER.encode(&self.0)
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                out.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    };
    (unprinted $(#[$meta:meta])* pub struct $name:ident([u8; $len:literal]);) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;
            /// The bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8] {
                &self.0
            }
            /// Reads exactly [`Self::LEN`] bytes.
            #[must_use]
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }
            /// Reads lower- or upper-case hex of exactly [`Self::LEN`] bytes.
            #[must_use]
            pub fn from_hex(text: &str) -> Option<Self> {
                let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?;
                Self::from_slice(&bytes)
            }
        }

        impl $crate::codec::Field for $name {}

        impl $crate::shape::Shaped for $name {
            const SHAPE: &'static $crate::shape::Shape =
                &$crate::shape::Shape::Fixed { name: stringify!($name), len: $len };
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                serde_bytes::ByteArray::<$len>::deserialize(deserializer)
                    .map(|array| Self(array.into_array()))
            }
        }
    };
}

pub(crate) use {wire_bytes, wire_code, wire_struct, wire_union};

#[cfg(test)]
mod tests {
    use super::{DecodeError, decode, decode_canonical, encode};
    use crate::hello::Mark;
    use crate::id::BootId;

    fn mark() -> Mark {
        Mark { boot: BootId([9; 16]), commit: 300 }
    }

    #[test]
    fn a_value_comes_back_and_nothing_else_is_taken_for_it() {
        let bytes = encode(&mark());
        assert_eq!(decode_canonical::<Mark>(&bytes), Ok(mark()));
        let trailing = [bytes.as_slice(), &[0]].concat();
        assert_eq!(
            decode::<Mark>(&trailing),
            Err(DecodeError::Trailing { type_name: "Mark", bytes: 1 })
        );
        for cut in 0..bytes.len() {
            assert!(decode::<Mark>(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn an_unknown_key_is_ignored_but_not_in_canonical_form() {
        // {0: h'09'*16, 1: 300, 7: true}
        let mut bytes = encode(&mark());
        bytes[0] += 1;
        bytes.extend_from_slice(&[7, 0xf5]);
        assert_eq!(decode::<Mark>(&bytes), Ok(mark()));
        assert_eq!(
            decode_canonical::<Mark>(&bytes),
            Err(DecodeError::NotCanonical { type_name: "Mark" })
        );
    }

    #[test]
    fn a_number_longer_than_it_need_be_is_not_canonical() {
        let mut bytes = encode(&Mark { boot: BootId([9; 16]), commit: 5 });
        bytes.pop();
        bytes.extend_from_slice(&[0x18, 5]);
        assert!(decode::<Mark>(&bytes).is_ok());
        assert!(decode_canonical::<Mark>(&bytes).is_err());
    }
}
