//! What `tidings inspect` can read, how it tells one kind from another, and the cutting of frames.

use clap::ValueEnum;
use tidings_protocol::bundle::{Bundle, PrekeyUpload};
use tidings_protocol::client_frame::{ClientFrame, NodeFrame};
use tidings_protocol::descriptor::{Addresses, Delegation, Descriptor};
use tidings_protocol::device_list::DeviceList;
use tidings_protocol::envelope::EnvelopeHead;
use tidings_protocol::evidence::Evidence;
use tidings_protocol::frame::{HEADER_LENGTH_BYTES, LENGTH_BYTES};
use tidings_protocol::outline::{OutlineError, Part, read, read_inside};
use tidings_protocol::peer_frame::PeerFrame;
use tidings_protocol::shape::{Shape, Shaped};
use tidings_protocol::signed::Signed;
use tidings_protocol::statement::{Proof, Statement};

/// What bytes can be. In the order in which they are tried: those that little else looks like first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// What `tidings export` wrote.
    Evidence,
    /// Delegation and addresses of a node, as they stand in the DHT.
    Descriptor,
    /// The root key's word for an operational key, as in delegation.cbor.
    Delegation,
    /// Where a node can be reached: the address record.
    Addresses,
    /// One version of an account's list of devices.
    DeviceList,
    /// Signed statements with their paths.
    Proof,
    /// What a stranger needs to write to one device.
    Bundle,
    /// Fresh pre-keys of a device.
    PrekeyUpload,
    /// Header and targets of an envelope.
    Envelope,
    /// One statement, unsigned.
    Statement,
    /// From a device to its node: whole frames, or the header of one.
    ClientFrame,
    /// From a node to a device.
    NodeFrame,
    /// Between nodes.
    PeerFrame,
}

/// Bytes that were read as one kind.
#[derive(Debug)]
pub(crate) struct Sighting {
    pub(crate) kind: Kind,
    /// One value; of frames as many as there are.
    pub(crate) items: Vec<Item>,
}

/// One value.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) part: Part,
    /// The encoded value.
    pub(crate) bytes: Vec<u8>,
    /// What stands behind the header of a frame; absent when it is no whole frame.
    pub(crate) body: Option<Vec<u8>>,
}

impl Kind {
    /// Its name, as `--kind` takes it.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    const fn shape(self) -> &'static Shape {
        match self {
            Self::Evidence => Evidence::SHAPE,
            Self::Descriptor => Descriptor::SHAPE,
            Self::Delegation => Signed::<Delegation>::SHAPE,
            Self::Addresses => Signed::<Addresses>::SHAPE,
            Self::DeviceList => Signed::<DeviceList>::SHAPE,
            Self::Proof => Proof::SHAPE,
            Self::Bundle => Bundle::SHAPE,
            Self::PrekeyUpload => PrekeyUpload::SHAPE,
            Self::Envelope => EnvelopeHead::SHAPE,
            Self::Statement => Statement::SHAPE,
            Self::ClientFrame => ClientFrame::SHAPE,
            Self::NodeFrame => NodeFrame::SHAPE,
            Self::PeerFrame => PeerFrame::SHAPE,
        }
    }

    const fn is_frame(self) -> bool {
        matches!(self, Self::ClientFrame | Self::NodeFrame | Self::PeerFrame)
    }

    /// Reads the bytes as this kind.
    pub(crate) fn sight(self, bytes: &[u8]) -> Result<Sighting, OutlineError> {
        let items = match cut(bytes) {
            Some(frames) if self.is_frame() => {
                let item = |frame: &Cut<'_>| {
                    let part = read_inside(self.shape(), frame.header, frame.offset)?;
                    let body = Some(frame.body.to_vec());
                    Ok(Item { part, bytes: frame.header.to_vec(), body })
                };
                frames.iter().map(item).collect::<Result<_, _>>()?
            }
            Some(_) | None => {
                let part = read(self.shape(), bytes)?;
                vec![Item { part, bytes: bytes.to_vec(), body: None }]
            }
        };
        Ok(Sighting { kind: self, items })
    }
}

/// Everything that the bytes can be, likeliest first; or the kind that fits furthest, and where it
/// stops to fit.
pub(crate) fn guess(bytes: &[u8]) -> Result<Vec<Sighting>, (Kind, OutlineError)> {
    let mut sightings = Vec::new();
    let mut nearest: Option<(Kind, OutlineError)> = None;
    for kind in Kind::value_variants() {
        match kind.sight(bytes) {
            Ok(sighting) => sightings.push(sighting),
            Err(error) => {
                if nearest.as_ref().is_none_or(|(_, known)| error.offset > known.offset) {
                    nearest = Some((*kind, error));
                }
            }
        }
    }
    match nearest {
        Some(nearest) if sightings.is_empty() => Err(nearest),
        Some(_) | None => Ok(sightings),
    }
}

struct Cut<'a> {
    header: &'a [u8],
    /// Where the header begins.
    offset: usize,
    body: &'a [u8],
}

/// The frames that the bytes are, if they are nothing but whole frames.
fn cut(bytes: &[u8]) -> Option<Vec<Cut<'_>>> {
    let (mut frames, mut rest, mut at) = (Vec::new(), bytes, 0);
    while !rest.is_empty() {
        let (length, behind) = rest.split_first_chunk::<LENGTH_BYTES>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (frame, after) = behind.split_at_checked(length)?;
        let (header, inside) = frame.split_first_chunk::<HEADER_LENGTH_BYTES>()?;
        let (header, body) = inside.split_at_checked(usize::from(u16::from_be_bytes(*header)))?;
        frames.push(Cut { header, offset: at + LENGTH_BYTES + HEADER_LENGTH_BYTES, body });
        at += LENGTH_BYTES + length;
        rest = after;
    }
    (!frames.is_empty()).then_some(frames)
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use tidings_protocol::client_frame::{ClientFrame, Ping};
    use tidings_protocol::codec;
    use tidings_protocol::frame::Frame;

    use super::{Kind, guess};

    fn frame(number: u64, body: &'static [u8]) -> Vec<u8> {
        let header = Bytes::from(codec::encode(&ClientFrame::Ping(Ping { number })));
        let mut out = BytesMut::new();
        Frame { header, body: Bytes::from_static(body) }.encode_into(&mut out).unwrap();
        out.to_vec()
    }

    #[test]
    fn one_frame_several_and_a_header_alone_are_read() {
        let two = [frame(1, b"body"), frame(2, b"")].concat();
        let sighting = Kind::ClientFrame.sight(&two).unwrap();
        assert_eq!(sighting.items.len(), 2);
        assert_eq!(sighting.items[0].body.as_deref(), Some(b"body".as_slice()));
        assert_eq!(sighting.items[0].part.offset, 6);
        let header = codec::encode(&ClientFrame::Ping(Ping { number: 3 }));
        assert!(Kind::ClientFrame.sight(&header).unwrap().items[0].body.is_none());
        assert_eq!(guess(&header).unwrap()[0].kind, Kind::ClientFrame);
    }

    #[test]
    fn what_is_nothing_names_the_nearest_kind_and_the_place() {
        let mut bytes = frame(1, b"");
        let last = bytes.len() - 1;
        bytes[last] = 0x61;
        let (kind, error) = guess(&bytes).unwrap_err();
        assert_eq!((kind, error.offset), (Kind::ClientFrame, last));
        assert!(guess(b"").is_err() && guess(&[0; 32]).is_err());
    }
}
