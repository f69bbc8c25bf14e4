//! What a wire value looks like, as data: the names, keys and types of `codec.rs`'s declarations, so
//! that a tool can show bytes to a person. No link uses it. Reading by a shape is `outline.rs`.

use bytes::Bytes;

/// What bytes have to look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// An unsigned number below 2 to the power of `bits`.
    Number {
        /// 8, 16, 32 or 64.
        bits: u32,
    },
    /// True or false.
    Bool,
    /// Text in UTF-8.
    Text,
    /// Bytes that mean nothing here: sealed, or somebody else's.
    Bytes,
    /// A byte string that holds one encoded value.
    Encoded(&'static Self),
    /// So many bytes with a meaning.
    Fixed {
        /// The type.
        name: &'static str,
        /// How many.
        len: usize,
    },
    /// A number from a list.
    Code {
        /// The type.
        name: &'static str,
        /// Number and word.
        words: &'static [(u8, &'static str)],
    },
    /// It may be absent: left out of a map, or null.
    Optional(&'static Self),
    /// Any number of the same.
    List(&'static Self),
    /// A map with small numbers as keys.
    Struct {
        /// The type.
        name: &'static str,
        /// Its fields, by key.
        fields: &'static [FieldShape],
    },
    /// An array with a field in each place.
    Row {
        /// The type.
        name: &'static str,
        /// Its fields; the keys are the places.
        fields: &'static [FieldShape],
    },
    /// `[tag, payload]`.
    Union {
        /// The type.
        name: &'static str,
        /// Its variants, by tag.
        variants: &'static [FieldShape],
    },
    /// `[bytes, signature]`, where the bytes hold one encoded value.
    Signed(&'static Self),
}

/// A field, or a variant of a union.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldShape {
    /// Key, place or tag.
    pub key: u64,
    /// Its name.
    pub name: &'static str,
    /// What it looks like.
    pub shape: &'static Shape,
}

/// A type that has a shape.
pub trait Shaped {
    /// The shape.
    const SHAPE: &'static Shape;
}

/// Bytes that hold an encoded `T`.
pub trait Holds<T> {
    /// The shape.
    const SHAPE: &'static Shape;
}

impl Shape {
    /// What a person calls it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Number { .. } => "a number",
            Self::Bool => "true or false",
            Self::Text => "text",
            Self::Bytes | Self::Encoded(_) => "bytes",
            Self::List(_) => "a list",
            Self::Fixed { name, .. }
            | Self::Code { name, .. }
            | Self::Struct { name, .. }
            | Self::Row { name, .. }
            | Self::Union { name, .. } => name,
            Self::Optional(inner) | Self::Signed(inner) => inner.name(),
        }
    }
}

impl Shaped for u8 {
    const SHAPE: &'static Shape = &Shape::Number { bits: 8 };
}
impl Shaped for u16 {
    const SHAPE: &'static Shape = &Shape::Number { bits: 16 };
}
impl Shaped for u32 {
    const SHAPE: &'static Shape = &Shape::Number { bits: 32 };
}
impl Shaped for u64 {
    const SHAPE: &'static Shape = &Shape::Number { bits: 64 };
}
impl Shaped for bool {
    const SHAPE: &'static Shape = &Shape::Bool;
}
impl Shaped for String {
    const SHAPE: &'static Shape = &Shape::Text;
}
impl Shaped for Bytes {
    const SHAPE: &'static Shape = &Shape::Bytes;
}
impl<T: Shaped> Shaped for Option<T> {
    const SHAPE: &'static Shape = &Shape::Optional(T::SHAPE);
}
impl<T: Shaped> Shaped for Vec<T> {
    const SHAPE: &'static Shape = &Shape::List(T::SHAPE);
}
impl<T: Shaped> Holds<T> for Bytes {
    const SHAPE: &'static Shape = &Shape::Encoded(T::SHAPE);
}
impl<T: Shaped> Holds<T> for Option<Bytes> {
    const SHAPE: &'static Shape = &Shape::Optional(<Bytes as Holds<T>>::SHAPE);
}
impl<T: Shaped> Holds<T> for Vec<Bytes> {
    const SHAPE: &'static Shape = &Shape::List(<Bytes as Holds<T>>::SHAPE);
}

/// The shape of a field: `shape_of!(type)`, or `shape_of!(type, what its bytes hold)`.
#[macro_export]
macro_rules! shape_of {
    ($ty:ty) => {
        <$ty as $crate::shape::Shaped>::SHAPE
    };
    ($ty:ty, $inner:ty) => {
        <$ty as $crate::shape::Holds<$inner>>::SHAPE
    };
}
