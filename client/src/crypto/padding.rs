//! Pads plaintexts to a few sizes, so that ciphertexts say little about length. No encryption.
//!
//! Buckets: 160, 320, 640, 1,280, 2,560, 5,120 bytes, then multiples of 5,120 up to
//! [`PADDED_BYTES_MAX`]. Padding is one byte 0x80 and zeros (ISO/IEC 7816-4), at least one byte.

use thiserror::Error;

/// Largest padded size: eleven steps of 5,120, which leaves room in an envelope for targets.
pub const PADDED_BYTES_MAX: usize = 11 * BUCKET_STEP;
/// Longest plaintext that can be padded.
pub const PLAINTEXT_BYTES_MAX: usize = PADDED_BYTES_MAX - 1;

const BUCKET_FIRST: usize = 160;
/// Above this, doubling would waste more than it hides.
const BUCKET_STEP: usize = 5_120;
const MARK: u8 = 0x80;

/// The plaintext is longer than [`PLAINTEXT_BYTES_MAX`].
#[derive(Debug, Error, PartialEq, Eq)]
#[error("padding {len} bytes: too long")]
pub struct PadError {
    /// Bytes of the plaintext.
    pub len: usize,
}

/// The bytes do not end in padding.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("removing padding: none is there")]
pub struct UnpadError;

/// Pads to the next bucket.
///
/// # Errors
/// When the plaintext is longer than [`PLAINTEXT_BYTES_MAX`].
pub fn pad(plaintext: &[u8]) -> Result<Vec<u8>, PadError> {
    let len = plaintext.len();
    if len > PLAINTEXT_BYTES_MAX {
        return Err(PadError { len });
    }
    let mut padded = Vec::with_capacity(bucket(len + 1));
    padded.extend_from_slice(plaintext);
    padded.push(MARK);
    padded.resize(bucket(len + 1), 0);
    Ok(padded)
}

/// Takes the padding off.
///
/// # Errors
/// When there is none.
pub fn unpad(mut padded: Vec<u8>) -> Result<Vec<u8>, UnpadError> {
    while padded.last() == Some(&0) {
        padded.pop();
    }
    if padded.pop() == Some(MARK) { Ok(padded) } else { Err(UnpadError) }
}

fn bucket(len: usize) -> usize {
    if len > BUCKET_STEP {
        return len.next_multiple_of(BUCKET_STEP);
    }
    let mut bucket = BUCKET_FIRST;
    while bucket < len {
        bucket *= 2;
    }
    bucket
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_the_documented_ones() {
        let size = |len| pad(&vec![7; len]).unwrap().len();
        let sizes = [0, 159, 160, 319, 320, 1_279, 1_280, 5_119, 5_120, 10_239, 10_240];
        let buckets = [160, 160, 320, 320, 640, 1_280, 2_560, 5_120, 10_240, 10_240, 15_360];
        assert_eq!(sizes.map(size), buckets);
        assert_eq!(size(PLAINTEXT_BYTES_MAX), PADDED_BYTES_MAX);
        assert_eq!(pad(&vec![0; PADDED_BYTES_MAX]), Err(PadError { len: PADDED_BYTES_MAX }));
    }

    #[test]
    fn bytes_without_padding_are_refused() {
        for bad in [vec![], vec![0; 160], vec![1], vec![0x80, 1, 0]] {
            assert_eq!(unpad(bad), Err(UnpadError));
        }
    }

    proptest! {
        #[test]
        fn padding_comes_off(mut text in proptest::collection::vec(any::<u8>(), 0..700), tail in 0..3) {
            text.resize(text.len() + usize::try_from(tail).unwrap(), if tail == 1 { 0x80 } else { 0 });
            prop_assert_eq!(unpad(pad(&text).unwrap()).unwrap(), text);
        }
    }
}
