//! Rules that hold for every type that travels: what is read is written back, and the outline that
//! people are shown agrees with what links read.

use serde::{Serialize, de::DeserializeOwned};
use tidings_protocol::{
    codec::{decode, decode_canonical, encode},
    outline,
    shape::Shaped,
};

/// Reads the bytes as a `T`, and holds the codec and the outline together.
pub(crate) fn read<T>(bytes: &[u8]) -> Option<T>
where
    T: Serialize + DeserializeOwned + PartialEq + core::fmt::Debug + Shaped,
{
    let read: Option<T> = decode(bytes).ok();
    let canonical: Option<T> = decode_canonical(bytes).ok();
    match (&read, &canonical) {
        (Some(value), _) => {
            let again = encode(value);
            assert_eq!(decode_canonical::<T>(&again).as_ref(), Ok(value), "written and read again");
        }
        (None, canonical) => assert!(canonical.is_none(), "canonical and not readable"),
    }
    if let Some(value) = &canonical {
        assert_eq!(encode(value), bytes, "canonical, but written otherwise");
    }
    read
}

/// The same for a type whose every byte string that holds a value was checked too: if the whole is in
/// canonical form, the outline must be able to show it.
pub(crate) fn shown<T: Serialize + DeserializeOwned + Shaped>(bytes: &[u8]) {
    if decode_canonical::<T>(bytes).is_ok() {
        outline::read(T::SHAPE, bytes).expect("the outline shows what was read and checked");
    }
}

/// Whatever the bytes are, the outline ends, and its offsets lie inside.
pub(crate) fn outlined<T: Shaped>(bytes: &[u8]) {
    match outline::read(T::SHAPE, bytes) {
        Ok(part) => assert_eq!(part.offset, 0),
        Err(error) => assert!(error.offset <= bytes.len(), "{error}"),
    }
}
