//! A stream sealed with a passphrase: Argon2id makes the key, STREAM over XChaCha20-Poly1305 seals it
//! in pieces, both of libraries. Knows nothing of what is in it.
//!
//! ```text
//! "tidings-backup/1\n"                        17 bytes
//! memory in KiB, passes, lanes of Argon2id    4 bytes each, big-endian
//! salt                                        16 bytes
//! nonce prefix of STREAM                      19 bytes
//! a piece of no bytes: its tag of 16 bytes, by which a wrong passphrase is told from damage
//! pieces of 65,536 bytes, the last one shorter, each with a tag of 16 bytes
//! ```
//!
//! STREAM binds each piece to its place and to being the last one or not, so that nothing can be
//! exchanged or cut off unseen. The 64 bytes before the pieces are associated data of each.

use std::io::{self, ErrorKind, Read, Write};

use aead_stream::{NewStream as _, StreamBE32, StreamPrimitive as _};
use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::Payload;
use thiserror::Error;
use tidings_node::chance::{NoRandomness, draw};
use zeroize::Zeroizing;

const MAGIC: &[u8; 17] = b"tidings-backup/1\n";
const SALT_BYTES: usize = 16;
const NONCE_BYTES: usize = 19;
const HEADER_BYTES: usize = MAGIC.len() + 3 * 4 + SALT_BYTES + NONCE_BYTES;
const PIECE_BYTES: usize = 64 * 1024;
const TAG_BYTES: usize = 16;

/// What a key costs: the second recommendation of RFC 9106, section 4: 64 MiB, three passes, four lanes.
const COST: Cost = Cost { memory_kib: 64 * 1024, passes: 3, lanes: 4 };
/// What a file of somebody else may make us spend at most: 1 GiB.
const COST_MAX: Cost = Cost { memory_kib: 1024 * 1024, passes: 16, lanes: 16 };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

/// A passphrase, which is wiped when it is dropped and never shown.
pub(crate) struct Passphrase(Zeroizing<String>);

impl Passphrase {
    pub(crate) const fn new(text: Zeroizing<String>) -> Self {
        Self(text)
    }
}

/// A sealed stream does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum OpenError {
    #[error("this is no backup of a node: it begins otherwise")]
    NoBackup,
    #[error("this backup asks for more memory or time than any that is ours: it was changed")]
    Costly,
    #[error("this passphrase does not open it: try another one; or its beginning was changed")]
    Passphrase,
    #[error("it was changed on the way, at about byte {at}: take another copy of it")]
    Changed { at: u64 },
    #[error("its end is missing: it was cut off on the way; take another copy of it")]
    CutOff,
}

/// A stream could not be begun.
#[derive(Debug, Error)]
pub(crate) enum BeginError {
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    #[error("making a key of the passphrase: {0}")]
    Key(argon2::Error),
    #[error("reading or writing the backup")]
    File(#[from] io::Error),
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// Both ends know the same: a cipher, and what each piece is bound to.
struct Pieces {
    stream: StreamBE32<XChaCha20Poly1305>,
    header: [u8; HEADER_BYTES],
    next: u32,
}

impl Pieces {
    fn of(header: [u8; HEADER_BYTES], passphrase: &Passphrase) -> Result<Self, BeginError> {
        let (cost, salt, nonce) = split(&header)?;
        let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32));
        let argon =
            Argon2::new(Algorithm::Argon2id, Version::V0x13, params.map_err(BeginError::Key)?);
        let mut key = Zeroizing::new([0; 32]);
        argon
            .hash_password_into(passphrase.0.as_bytes(), &salt, &mut *key)
            .map_err(BeginError::Key)?;
        let stream = StreamBE32::new((&*key).into(), &nonce.into());
        Ok(Self { stream, header, next: 0 })
    }

    fn seal(&mut self, piece: &[u8], is_last: bool) -> io::Result<Vec<u8>> {
        let payload = Payload { msg: piece, aad: &self.header };
        let sealed = self.stream.encrypt(self.next, is_last, payload);
        let sealed = sealed.map_err(|_| io::Error::other("a piece could not be sealed"))?;
        self.advance()?;
        Ok(sealed)
    }

    fn open(&mut self, sealed: &[u8], is_last: bool) -> io::Result<Vec<u8>> {
        let open = |is_last| {
            let payload = Payload { msg: sealed, aad: &self.header };
            self.stream.decrypt(self.next, is_last, payload).ok()
        };
        let Some(piece) = open(is_last) else {
            let before = (HEADER_BYTES + TAG_BYTES) as u64;
            let why = if self.next == 0 {
                OpenError::Passphrase
            } else if is_last && open(false).is_some() {
                OpenError::CutOff
            } else {
                let pieces = u64::from(self.next) - 1;
                OpenError::Changed { at: before + pieces * (PIECE_BYTES + TAG_BYTES) as u64 }
            };
            return Err(io::Error::new(ErrorKind::InvalidData, why));
        };
        self.advance()?;
        Ok(piece)
    }

    /// 256 TiB later, no number is left.
    fn advance(&mut self) -> io::Result<()> {
        let next = self.next.checked_add(1);
        self.next = next.ok_or_else(|| io::Error::other("a backup is too long"))?;
        Ok(())
    }
}

fn split(
    header: &[u8; HEADER_BYTES],
) -> Result<(Cost, [u8; SALT_BYTES], [u8; NONCE_BYTES]), OpenError> {
    let rest = header.strip_prefix(MAGIC).ok_or(OpenError::NoBackup)?;
    let (cost, rest) = rest.split_first_chunk::<12>().ok_or(OpenError::NoBackup)?;
    let (salt, nonce) = rest.split_first_chunk::<SALT_BYTES>().ok_or(OpenError::NoBackup)?;
    let nonce = nonce.try_into().map_err(|_| OpenError::NoBackup)?;
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *cost;
    let [memory_kib, passes, lanes] =
        [[a, b, c, d], [e, f, g, h], [i, j, k, l]].map(u32::from_be_bytes);
    let cost = Cost { memory_kib, passes, lanes };
    let is_ours = memory_kib <= COST_MAX.memory_kib
        && (1..=COST_MAX.passes).contains(&passes)
        && (1..=COST_MAX.lanes).contains(&lanes);
    if is_ours { Ok((cost, *salt, nonce)) } else { Err(OpenError::Costly) }
}

/// Seals what is written to it. Only [`SealedWriter::end`] makes the stream whole.
pub(crate) struct SealedWriter<W> {
    to: W,
    pieces: Pieces,
    waiting: Zeroizing<Vec<u8>>,
}

impl<W: Write> SealedWriter<W> {
    pub(crate) fn begin(to: W, passphrase: &Passphrase) -> Result<Self, BeginError> {
        Self::begin_at(to, passphrase, COST)
    }

    fn begin_at(mut to: W, passphrase: &Passphrase, cost: Cost) -> Result<Self, BeginError> {
        let (salt, nonce) = (draw::<SALT_BYTES>()?, draw::<NONCE_BYTES>()?);
        let cost = [cost.memory_kib, cost.passes, cost.lanes].map(u32::to_be_bytes).concat();
        let header = [MAGIC, cost.as_slice(), &salt, &nonce].concat();
        let header = header.try_into().map_err(|_| OpenError::NoBackup)?;
        let mut pieces = Pieces::of(header, passphrase)?;
        to.write_all(&header)?;
        to.write_all(&pieces.seal(&[], false)?)?;
        Ok(Self { to, pieces, waiting: Zeroizing::new(Vec::with_capacity(PIECE_BYTES)) })
    }

    /// Writes the last piece, and gives back what was written to.
    pub(crate) fn end(mut self) -> io::Result<W> {
        let sealed = self.pieces.seal(&self.waiting, true)?;
        self.to.write_all(&sealed)?;
        self.to.flush()?;
        Ok(self.to)
    }
}

impl<W: Write> Write for SealedWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full piece waits until more comes: the last one is sealed otherwise.
        if self.waiting.len() == PIECE_BYTES && !bytes.is_empty() {
            let sealed = self.pieces.seal(&self.waiting, false)?;
            self.to.write_all(&sealed)?;
            self.waiting.clear();
        }
        let room = PIECE_BYTES - self.waiting.len();
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.waiting.extend_from_slice(taken);
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        // What waits is sealed when its piece is full.
        Ok(())
    }
}

/// Opens what [`SealedWriter`] has sealed. An [`OpenError`] comes inside of the [`io::Error`].
pub(crate) struct SealedReader<R> {
    from: R,
    pieces: Pieces,
    /// Sealed bytes that were read ahead: one more than a piece tells that it is not the last one.
    ahead: Vec<u8>,
    piece: Zeroizing<Vec<u8>>,
    given: usize,
    is_over: bool,
}

impl<R: Read> SealedReader<R> {
    pub(crate) fn begin(mut from: R, passphrase: &Passphrase) -> Result<Self, BeginError> {
        let (mut header, mut tag) = ([0; HEADER_BYTES], [0; TAG_BYTES]);
        read_all(&mut from, &mut header, OpenError::NoBackup)?;
        read_all(&mut from, &mut tag, OpenError::CutOff)?;
        let mut pieces = Pieces::of(header, passphrase)?;
        pieces.open(&tag, false).map_err(|error| match why(&error) {
            Some(why) => BeginError::Open(why),
            None => BeginError::File(error),
        })?;
        let piece = Zeroizing::default();
        Ok(Self { from, pieces, ahead: Vec::new(), piece, given: 0, is_over: false })
    }

    fn next_piece(&mut self) -> io::Result<()> {
        const SEALED_BYTES: usize = PIECE_BYTES + TAG_BYTES;
        let wanted = SEALED_BYTES + 1 - self.ahead.len();
        (&mut self.from).take(wanted as u64).read_to_end(&mut self.ahead)?;
        let is_last = self.ahead.len() <= SEALED_BYTES;
        let rest = if is_last { Vec::new() } else { self.ahead.split_off(SEALED_BYTES) };
        self.piece = Zeroizing::new(self.pieces.open(&self.ahead, is_last)?);
        (self.ahead, self.given, self.is_over) = (rest, 0, is_last);
        Ok(())
    }
}

impl<R: Read> Read for SealedReader<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.given == self.piece.len() && !self.is_over {
            self.next_piece()?;
        }
        let mut rest = self.piece.get(self.given..).unwrap_or_default();
        let count = rest.read(into)?;
        self.given += count;
        Ok(count)
    }
}

fn read_all(from: &mut impl Read, into: &mut [u8], short: OpenError) -> Result<(), BeginError> {
    from.read_exact(into).map_err(|error| {
        if error.kind() == ErrorKind::UnexpectedEof {
            short.into()
        } else {
            BeginError::File(error)
        }
    })
}

/// What is wrong with a backup, if it was a backup that could not be read.
pub(crate) fn why(error: &io::Error) -> Option<OpenError> {
    error.get_ref()?.downcast_ref::<OpenError>().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Cost = Cost { memory_kib: 64, passes: 1, lanes: 1 };

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(Zeroizing::new(text.to_owned()))
    }

    fn seal(bytes: &[u8]) -> Vec<u8> {
        let mut writer = SealedWriter::begin_at(Vec::new(), &passphrase("correct"), CHEAP).unwrap();
        writer.write_all(bytes).unwrap();
        writer.end().unwrap()
    }

    fn open(sealed: &[u8], text: &str) -> Result<Vec<u8>, OpenError> {
        let mut reader = match SealedReader::begin(sealed, &passphrase(text)) {
            Ok(reader) => reader,
            Err(BeginError::Open(error)) => return Err(error),
            Err(error) => panic!("{error}"),
        };
        let mut opened = Vec::new();
        reader.read_to_end(&mut opened).map_err(|error| why(&error).expect("a reason"))?;
        Ok(opened)
    }

    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect()
    }

    #[test]
    fn what_was_sealed_opens_whatever_its_length() {
        for len in [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES] {
            let sealed = seal(&pattern(len));
            let pieces = len.div_ceil(PIECE_BYTES).max(1);
            let tags = (pieces + 1) * TAG_BYTES;
            assert_eq!(sealed.len(), HEADER_BYTES + len + tags, "{len}");
            assert_eq!(open(&sealed, "correct").unwrap(), pattern(len), "{len}");
        }
    }

    #[test]
    fn another_passphrase_is_told_apart_from_damage() {
        let sealed = seal(&pattern(2 * PIECE_BYTES));
        assert_eq!(open(&sealed, "wrong"), Err(OpenError::Passphrase));
        // Also where there is one piece and no more.
        let mut small = seal(b"a few rows");
        assert_eq!(open(&small, "wrong"), Err(OpenError::Passphrase));
        let first = HEADER_BYTES + TAG_BYTES;
        small[first + 3] ^= 1;
        assert_eq!(open(&small, "correct"), Err(OpenError::Changed { at: first as u64 }));
        assert_eq!(open(b"PK\x03\x04", "correct"), Err(OpenError::NoBackup));
        assert_eq!(open(&[7; 200], "correct"), Err(OpenError::NoBackup));
    }

    #[test]
    fn every_change_and_every_cut_is_found() {
        let sealed = seal(&pattern(2 * PIECE_BYTES + 10));
        let first = HEADER_BYTES + TAG_BYTES;
        let second = first + PIECE_BYTES + TAG_BYTES;
        let mut changed = sealed.clone();
        changed[second + 5] ^= 1;
        assert_eq!(open(&changed, "correct"), Err(OpenError::Changed { at: second as u64 }));
        for at in [0, MAGIC.len() + 3, HEADER_BYTES - 1, HEADER_BYTES, sealed.len() - 1] {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(open(&changed, "correct").is_err(), "byte {at}");
        }
        // Whole pieces, parts of pieces, and all of them.
        for len in [HEADER_BYTES + 3, second, second + PIECE_BYTES + TAG_BYTES] {
            assert_eq!(open(&sealed[..len], "correct"), Err(OpenError::CutOff), "{len}");
        }
        for len in [0, HEADER_BYTES, first, first + 20, second + 3, sealed.len() - 1] {
            assert!(open(&sealed[..len], "correct").is_err(), "{len}");
        }
        // Pieces in another order, and something behind the last one.
        let piece = PIECE_BYTES + TAG_BYTES;
        let (head, pieces) = sealed.split_at(first);
        let swapped = [head, &pieces[piece..2 * piece], &pieces[..piece], &pieces[2 * piece..]];
        assert!(open(&swapped.concat(), "correct").is_err());
        assert!(open(&[sealed.as_slice(), b"more"].concat(), "correct").is_err());
    }

    #[test]
    fn a_file_cannot_make_us_spend_what_it_likes() {
        let mut sealed = seal(b"");
        sealed[MAGIC.len()] = 0xff;
        assert_eq!(open(&sealed, "correct"), Err(OpenError::Costly));
    }
}
