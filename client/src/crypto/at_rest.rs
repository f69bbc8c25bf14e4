//! Encrypts single rows of the local store. The key and its storage are the caller's.
//!
//! Sealed row = nonce (24) ‖ XChaCha20-Poly1305 of the value, with associated data
//! `tidings/1 row ‖ 0x00 ‖ length of table name (8, big-endian) ‖ table name ‖ row key`. A row thus
//! opens only in its own place; that it is the *newest* value of its place is not proved.
//! 24 random bytes are enough for a nonce for as many rows as a device will ever write.

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use thiserror::Error;

/// Bytes that sealing adds to a value.
pub const ROW_OVERHEAD_BYTES: usize = NONCE_BYTES + 16;

const NONCE_BYTES: usize = 24;
const PURPOSE: &[u8] = b"tidings/1 row\0";

/// The cipher refused to encrypt: more than 256 GiB.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("sealing a row of {table}: value too long")]
pub struct SealRowError {
    /// The table.
    pub table: String,
}

/// The row does not open with this key in this place.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("opening a row of {table}: wrong key, wrong place or damage")]
pub struct OpenRowError {
    /// The table.
    pub table: String,
}

/// Seals the value of one row; `nonce` is fresh from a secure generator.
///
/// # Errors
/// Only for values of absurd length.
pub fn seal_row(
    key: &[u8; 32],
    nonce: [u8; NONCE_BYTES],
    table: &str,
    row: &[u8],
    value: &[u8],
) -> Result<Vec<u8>, SealRowError> {
    let ciphertext = XChaCha20Poly1305::new(key.into())
        .encrypt(&XNonce::from(nonce), Payload { msg: value, aad: &place(table, row) })
        .map_err(|_| SealRowError { table: table.to_owned() })?;
    Ok([nonce.as_slice(), &ciphertext].concat())
}

/// Opens the value of one row.
///
/// # Errors
/// Wrong key, another row's value, or damage.
pub fn open_row(
    key: &[u8; 32],
    table: &str,
    row: &[u8],
    sealed: &[u8],
) -> Result<Vec<u8>, OpenRowError> {
    let error = || OpenRowError { table: table.to_owned() };
    let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or_else(error)?;
    XChaCha20Poly1305::new(key.into())
        .decrypt(&XNonce::from(*nonce), Payload { msg: ciphertext, aad: &place(table, row) })
        .map_err(|_| error())
}

fn place(table: &str, row: &[u8]) -> Vec<u8> {
    let len = u64::try_from(table.len()).unwrap_or(u64::MAX).to_be_bytes();
    [PURPOSE, &len, table.as_bytes(), row].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_opens_in_its_own_place_only() {
        let sealed = seal_row(&[1; 32], [2; 24], "session", b"bob", b"state").unwrap();
        assert_eq!(sealed.len(), 5 + ROW_OVERHEAD_BYTES);
        assert_eq!(open_row(&[1; 32], "session", b"bob", &sealed).unwrap(), b"state");
        assert!(open_row(&[9; 32], "session", b"bob", &sealed).is_err());
        assert!(open_row(&[1; 32], "session", b"carol", &sealed).is_err());
        assert!(open_row(&[1; 32], "sessio", b"nbob", &sealed).is_err());
        for i in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[i] ^= 0x80;
            assert!(open_row(&[1; 32], "session", b"bob", &bad).is_err());
            assert!(open_row(&[1; 32], "session", b"bob", &sealed[..i]).is_err());
        }
    }
}
