//! The words around a header and a body.

use bytes::Bytes;
use tidings_protocol::frame::Frame;

use super::Case;

pub(crate) fn cases() -> Vec<Case> {
    let frame = |header: &'static [u8], body: Vec<u8>| Frame {
        header: Bytes::from_static(header),
        body: body.into(),
    };
    let bytes = |frame: &Frame| frame.encode().expect("a frame within its limit").to_vec();
    let ok = |reason: &str, why: &str, frame: &Frame| {
        Case::new("frame", reason, "ok", why, bytes(frame))
            .result("header_bytes", frame.header.len())
            .result("body_bytes", frame.body.len())
    };
    let ping = bytes(&frame(b"\x82\x09\xa1\x00\x05", Vec::new()));
    let bad = |reason: &str, expect, why: &str, bytes: &[u8]| {
        Case::new("frame", reason, expect, why, bytes)
    };
    vec![
        ok("header_only", "A ping.", &frame(b"\x82\x09\xa1\x00\x05", Vec::new())),
        ok("with_body", "Bytes behind the header.", &frame(b"\x82\x09\xa1\x00\x05", vec![1, 2, 3])),
        ok(
            "empty",
            "No header, no body: a frame, though no link knows it.",
            &frame(b"", Vec::new()),
        ),
        bad("nothing", "not_one_frame", "No bytes at all.", &[]),
        bad("half_a_length", "not_one_frame", "The length word is cut.", &ping[..3]),
        bad("truncated", "not_one_frame", "The last byte is missing.", &ping[..ping.len() - 1]),
        bad(
            "two_frames",
            "not_one_frame",
            "A message holds one frame.",
            &[&*ping, &*ping].concat(),
        ),
        bad("trailing", "not_one_frame", "A byte follows.", &[&*ping, &[0]].concat()),
        bad("too_long", "too_long", "One byte over the limit.", &[0, 1, 0, 1, 0, 0]),
        bad("giant", "too_long", "4 GiB are claimed, nothing follows.", &[0xff; 6]),
        bad("no_header_word", "header_overrun", "The length says 1.", &[0, 0, 0, 1, 0]),
        bad("length_zero", "header_overrun", "No room for the header word.", &[0, 0, 0, 0]),
        bad(
            "header_overrun",
            "header_overrun",
            "A header of 2 in 3 bytes.",
            &[0, 0, 0, 3, 0, 2, 0],
        ),
    ]
}
