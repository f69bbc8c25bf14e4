//! Where the bytes come from that `tidings inspect` is to read: a file, standard input, or the
//! command line; as they are, in hex or in base64.

use std::fs::File;
use std::io::{IsTerminal as _, Read};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD, HEXLOWER_PERMISSIVE};

/// Bytes at most: more than anything that travels, or that `export` writes.
const BYTES_MAX: u64 = 16 << 20;

/// Something to be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Input {
    /// What it can be, likeliest first: as it is, and out of hex or base64.
    pub(crate) readings: Vec<Vec<u8>>,
    /// The text, if it is text.
    pub(crate) text: Option<String>,
}

impl Input {
    /// What a person named; standard input when nothing is named.
    pub(crate) fn take(named: Option<&str>) -> anyhow::Result<Self> {
        match named {
            None if std::io::stdin().is_terminal() => bail!(
                "name a file, or give the bytes in hex or base64: `tidings inspect --help` has examples"
            ),
            None | Some("-") => {
                Self::of(limited(std::io::stdin()).context("reading standard input")?)
            }
            Some(named) if Path::new(named).exists() => {
                let path = Path::new(named);
                ensure!(path.is_file(), "{named} is no file: for a store, use --store {named}");
                let file = File::open(path).and_then(limited);
                Self::of(file.with_context(|| format!("reading {named}"))?)
            }
            Some(text) => {
                let input = Self::of(text.as_bytes().to_vec())?;
                // A name that is no file is a mistake, not bytes.
                let is_bytes = input.readings.len() > 1 || text.starts_with("tidings:");
                ensure!(is_bytes, "there is no file {text:?}, and it is neither hex nor base64");
                Ok(input)
            }
        }
    }

    fn of(bytes: Vec<u8>) -> anyhow::Result<Self> {
        ensure!(!bytes.is_empty(), "there is nothing to read: it is empty");
        ensure!(
            bytes.len() as u64 <= BYTES_MAX,
            "it is over {} MiB, which nothing of ours is: name another file",
            BYTES_MAX >> 20
        );
        let text = String::from_utf8(bytes.clone()).ok().map(|text| text.trim().to_owned());
        let mut readings = text.as_deref().map(decoded).unwrap_or_default();
        readings.push(bytes);
        Ok(Self { readings, text })
    }
}

fn limited(from: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn decoded(text: &str) -> Vec<Vec<u8>> {
    let text: String = text.split_whitespace().collect();
    [HEXLOWER_PERMISSIVE, BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD]
        .iter()
        .filter_map(|encoding| encoding.decode(text.as_bytes()).ok())
        .filter(|bytes| !bytes.is_empty())
        .fold(Vec::new(), |mut all, bytes| {
            if !all.contains(&bytes) {
                all.push(bytes);
            }
            all
        })
}

#[cfg(test)]
mod tests {
    use super::Input;

    #[test]
    fn hex_and_base64_are_undone_and_bytes_stay() {
        let hex = Input::take(Some("82 09\nA1")).unwrap();
        assert_eq!(hex.readings[0], [0x82, 9, 0xa1]);
        let base64 = Input::take(Some("ggmh_-8=")).unwrap();
        assert_eq!(base64.readings[0], [0x82, 9, 0xa1, 0xff, 0xef]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bytes");
        std::fs::write(&path, [0xff, 0]).unwrap();
        let raw = Input::take(path.to_str()).unwrap();
        assert_eq!((raw.readings, raw.text), (vec![vec![0xff, 0]], None));
    }

    #[test]
    fn a_mistake_says_what_to_do() {
        let error = |named: &str| Input::take(Some(named)).unwrap_err().to_string();
        assert!(error("evidence.file").contains("no file"));
        assert!(error("/").contains("--store"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty");
        std::fs::write(&path, []).unwrap();
        assert!(error(path.to_str().unwrap()).contains("empty"));
    }
}
