//! One frame of either link: `u32 length ‖ u16 header length ‖ CBOR header ‖ raw bytes`, big-endian.
//!
//! The length counts everything behind itself. Knows nothing of what the header says; see
//! `client_frame.rs` and `peer_frame.rs`. The body is never decoded, so no node copies it.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::limits::FRAME_BYTES_MAX;

/// Bytes of the length word.
pub const LENGTH_BYTES: usize = 4;
/// Bytes of the header-length word.
pub const HEADER_LENGTH_BYTES: usize = 2;

/// A frame as it was cut from a stream: header still encoded, body untouched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The CBOR header.
    pub header: Bytes,
    /// The raw bytes behind it.
    pub body: Bytes,
}

/// Why bytes are not a frame. Each is the sender's fault and ends the link.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The length word names more than [`FRAME_BYTES_MAX`]; nothing was allocated for it.
    #[error("a frame of {len} bytes is over the limit of {FRAME_BYTES_MAX}")]
    TooLong {
        /// What the length word said.
        len: usize,
    },
    /// The header length does not fit into the frame.
    #[error("a header of {header} bytes does not fit into a frame of {len} bytes")]
    HeaderOverrun {
        /// What the header-length word said.
        header: usize,
        /// What the length word said.
        len: usize,
    },
    /// A datagram-like carrier (WebSocket) held more or less than one frame.
    #[error("a message must hold one whole frame; {bytes} bytes do not")]
    NotOneFrame {
        /// Bytes in the message.
        bytes: usize,
    },
}

impl Frame {
    /// Bytes that this frame takes on the wire, its length word included.
    #[must_use]
    pub fn wire_bytes(&self) -> usize {
        LENGTH_BYTES + HEADER_LENGTH_BYTES + self.header.len() + self.body.len()
    }

    /// Appends the frame to `out`.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] when header and body are over the limit, before anything is written.
    pub fn encode_into(&self, out: &mut BytesMut) -> Result<(), FrameError> {
        let len = HEADER_LENGTH_BYTES + self.header.len() + self.body.len();
        let too_long = FrameError::TooLong { len };
        if len > FRAME_BYTES_MAX {
            return Err(too_long);
        }
        let len_word = u32::try_from(len).map_err(|_| too_long.clone())?;
        let header_word = u16::try_from(self.header.len()).map_err(|_| too_long)?;
        out.reserve(LENGTH_BYTES + len);
        out.put_u32(len_word);
        out.put_u16(header_word);
        out.put_slice(&self.header);
        out.put_slice(&self.body);
        Ok(())
    }

    /// The frame as one contiguous message (a WebSocket message holds exactly one frame).
    ///
    /// # Errors
    /// As [`Frame::encode_into`].
    pub fn encode(&self) -> Result<Bytes, FrameError> {
        let mut out = BytesMut::with_capacity(self.wire_bytes());
        self.encode_into(&mut out)?;
        Ok(out.freeze())
    }

    /// Cuts the first whole frame from `input`, or `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] or [`FrameError::HeaderOverrun`]; the stream is useless after that.
    pub fn take_from(input: &mut BytesMut) -> Result<Option<Self>, FrameError> {
        let Some(len_word) = input.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let len = usize::try_from(u32::from_be_bytes(*len_word)).unwrap_or(usize::MAX);
        if len > FRAME_BYTES_MAX {
            return Err(FrameError::TooLong { len });
        }
        if input.len() < LENGTH_BYTES + len {
            return Ok(None);
        }
        input.advance(LENGTH_BYTES);
        Self::split(input.split_to(len).freeze(), len).map(Some)
    }

    /// Reads a message that must hold exactly one frame.
    ///
    /// # Errors
    /// Any [`FrameError`].
    pub fn decode(message: Bytes) -> Result<Self, FrameError> {
        let bytes = message.len();
        let mut rest = message;
        let Some(len_word) = rest.first_chunk::<LENGTH_BYTES>() else {
            return Err(FrameError::NotOneFrame { bytes });
        };
        let len = usize::try_from(u32::from_be_bytes(*len_word)).unwrap_or(usize::MAX);
        if len > FRAME_BYTES_MAX {
            return Err(FrameError::TooLong { len });
        }
        if bytes != LENGTH_BYTES + len {
            return Err(FrameError::NotOneFrame { bytes });
        }
        rest.advance(LENGTH_BYTES);
        Self::split(rest, len)
    }

    fn split(mut inner: Bytes, len: usize) -> Result<Self, FrameError> {
        let overrun = |header| FrameError::HeaderOverrun { header, len };
        let Some(header_word) = inner.first_chunk::<HEADER_LENGTH_BYTES>() else {
            return Err(overrun(0));
        };
        let header_len = usize::from(u16::from_be_bytes(*header_word));
        inner.advance(HEADER_LENGTH_BYTES);
        if header_len > inner.len() {
            return Err(overrun(header_len));
        }
        let header = inner.split_to(header_len);
        Ok(Self { header, body: inner })
    }
}
