//! Breaks well-formed CBOR maps in every way that a reader has to notice. Knows definite lengths
//! only, which is all that our own encoder writes.

use data_encoding::HEXLOWER;

use super::Case;

/// Where the item that starts at `at` ends.
pub(crate) fn item_end(bytes: &[u8], at: usize) -> usize {
    let (major, info) = (bytes[at] >> 5, bytes[at] & 0x1f);
    let (value, mut end) = match info {
        0..=23 => (u64::from(info), at + 1),
        24..=27 => {
            let len = 1 << (info - 24);
            let value =
                bytes[at + 1..at + 1 + len].iter().fold(0, |sum, b| (sum << 8) | u64::from(*b));
            (value, at + 1 + len)
        }
        _ => panic!("an indefinite length at {at}"),
    };
    let value = usize::try_from(value).expect("a length");
    match major {
        2 | 3 => end + value,
        4 | 5 => {
            for _ in 0..value * usize::from(major - 3) {
                end = item_end(bytes, end);
            }
            end
        }
        6 => item_end(bytes, end),
        _ => end,
    }
}

/// A map that is the last item of some bytes, taken apart.
struct Map {
    before: Vec<u8>,
    entries: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Map {
    fn read(bytes: &[u8], at: usize) -> Self {
        let count = bytes[at] & 0x1f;
        assert!(bytes[at] >> 5 == 5 && count < 23, "a small map at {at}");
        let mut here = at + 1;
        let mut next = || {
            let start = here;
            here = item_end(bytes, here);
            bytes[start..here].to_vec()
        };
        let entries = (0..count).map(|_| (next(), next())).collect();
        assert_eq!(here, bytes.len(), "the map is the last item");
        Self { before: bytes[..at].to_vec(), entries }
    }

    fn write(&self, head: u8, end: &[u8]) -> Vec<u8> {
        let entries = self.entries.iter().flat_map(|(key, value)| [key.as_slice(), value]);
        [self.before.as_slice(), &[head], &entries.collect::<Vec<_>>().concat(), end].concat()
    }

    fn bytes(&self) -> Vec<u8> {
        self.write(0xa0 + u8::try_from(self.entries.len()).expect("a small map"), &[])
    }
}

/// A key nobody knows, and its value.
const UNKNOWN: (&[u8], &[u8]) = (&[0x18, 99], &[0xf5]);

/// The map at `at` with one more key, with its first key twice, and so on.
pub(crate) fn with_unknown_key(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut map = Map::read(bytes, at);
    map.entries.push((UNKNOWN.0.to_vec(), UNKNOWN.1.to_vec()));
    map.bytes()
}

/// The map at `at` with its first key once more at the end.
pub(crate) fn with_repeated_key(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut map = Map::read(bytes, at);
    map.entries.push(map.entries[0].clone());
    map.bytes()
}

/// The map at `at` without its first key.
pub(crate) fn without_first_key(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut map = Map::read(bytes, at);
    map.entries.remove(0);
    map.bytes()
}

/// The map at `at` with another first value.
pub(crate) fn with_first_value(bytes: &[u8], at: usize, value: &[u8]) -> Vec<u8> {
    let mut map = Map::read(bytes, at);
    map.entries[0].1 = value.to_vec();
    map.bytes()
}

/// The map at `at` with its first key written otherwise.
pub(crate) fn with_first_key(bytes: &[u8], at: usize, key: &[u8]) -> Vec<u8> {
    let mut map = Map::read(bytes, at);
    map.entries[0].0 = key.to_vec();
    map.bytes()
}

/// The map at `at` with its entries from the last to the first.
pub(crate) fn out_of_order(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut map = Map::read(bytes, at);
    map.entries.reverse();
    map.bytes()
}

/// The map at `at` with an end mark instead of a length.
pub(crate) fn indefinite(bytes: &[u8], at: usize) -> Vec<u8> {
    Map::read(bytes, at).write(0xbf, &[0xff])
}

/// An array of arrays of arrays.
pub(crate) fn depth_bomb() -> Vec<u8> {
    [vec![0x81; 200], vec![0]].concat()
}

/// What every reader refuses, whatever the map at `at` is.
pub(crate) fn broken(rule: &'static str, name: &str, bytes: &[u8], at: usize) -> Vec<Case> {
    let case = |reason: &str, expect, why: &str, bytes: Vec<u8>| {
        Case::new(rule, &join(name, reason), expect, why, bytes)
    };
    vec![
        case(
            "truncated",
            "malformed",
            "The last byte is missing.",
            bytes[..bytes.len() - 1].into(),
        ),
        case("trailing", "trailing", "A byte follows the value.", [bytes, &[0]].concat()),
        case("missing_key", "malformed", "Key 0 is missing.", without_first_key(bytes, at)),
        case("repeated_key", "malformed", "Key 0 stands twice.", with_repeated_key(bytes, at)),
        case("wrong_type", "malformed", "Key 0 is a text.", with_first_value(bytes, at, b"\x61x")),
    ]
}

/// What readers differ about: refused where bytes are signed or hashed, taken elsewhere.
/// `lenient` says which of the two this is.
pub(crate) fn odd(
    rule: &'static str,
    name: &str,
    bytes: &[u8],
    at: usize,
    lenient: bool,
) -> Vec<Case> {
    let case = |reason: &str, why: &str, odd: Vec<u8>| {
        let expect = if lenient { "lenient" } else { "not_canonical" };
        let case = Case::new(rule, &join(name, reason), expect, why, odd);
        if lenient { case.result("canonical", HEXLOWER.encode(bytes)) } else { case }
    };
    vec![
        case("unknown_key", "Key 99 is not known.", with_unknown_key(bytes, at)),
        case("long_key", "Key 0 takes two bytes.", with_first_key(bytes, at, &[0x18, 0])),
        case("out_of_order", "The keys descend.", out_of_order(bytes, at)),
        case("indefinite", "The map has an end mark for a length.", indefinite(bytes, at)),
    ]
}

fn join(name: &str, reason: &str) -> String {
    if name.is_empty() { reason.to_owned() } else { format!("{name}_{reason}") }
}
