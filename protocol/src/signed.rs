//! A signed value: the signed bytes as they were, and the signature. The bytes are never re-encoded.

use core::marker::PhantomData;

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

use crate::{
    codec::{self, DecodeError, Field},
    key::{BadSignature, PublicKey, Purpose, SecretKey, Signature},
    shape::{Shape, Shaped},
};

/// A type that is signed, always for the same purpose.
pub trait Sign: Serialize + DeserializeOwned {
    /// What a signature over this type means.
    const PURPOSE: Purpose;
}

/// Bytes of a `T` in canonical form and a signature over them, not yet checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Signed<T> {
    bytes: Bytes,
    signature: Signature,
    of: PhantomData<fn() -> T>,
}

/// Why a signed value was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OpenSignedError {
    /// The bytes are no canonical value of the type.
    #[error("reading a signed value")]
    Decode(#[from] DecodeError),
    /// The signature is by another key or over other bytes.
    #[error("checking a signed value")]
    Signature(#[from] BadSignature),
}

impl<T: Sign> Signed<T> {
    /// Signs a value.
    #[must_use]
    pub fn new(value: &T, key: &SecretKey) -> Self {
        let bytes = Bytes::from(codec::encode(value));
        let signature = key.sign(T::PURPOSE, &bytes);
        Self { bytes, signature, of: PhantomData }
    }

    /// Checks the signature over the received bytes, then reads them.
    ///
    /// # Errors
    /// [`OpenSignedError`].
    pub fn open(&self, key: &PublicKey) -> Result<T, OpenSignedError> {
        key.verify(T::PURPOSE, &self.bytes, &self.signature)?;
        Ok(codec::decode_canonical(&self.bytes)?)
    }

    /// Reads the value without checking who signed it: to learn which key it claims.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn peek(&self) -> Result<T, DecodeError> {
        codec::decode_canonical(&self.bytes)
    }

    /// The signed bytes.
    #[must_use]
    pub const fn signed_bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl<T> core::fmt::Debug for Signed<T> {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(out, "Signed({} bytes)", self.bytes.len())
    }
}

impl<T> Field for Signed<T> {}

impl<T: Shaped> Shaped for Signed<T> {
    const SHAPE: &'static Shape = &Shape::Signed(T::SHAPE);
}

impl<T> Serialize for Signed<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.bytes, &self.signature).serialize(serializer)
    }
}

impl<'de, T> serde::Deserialize<'de> for Signed<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (bytes, signature) = <(Bytes, Signature)>::deserialize(deserializer)?;
        Ok(Self { bytes, signature, of: PhantomData })
    }
}
