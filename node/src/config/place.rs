//! Where a node's data are, also while its `node.toml` is bad: who mends that has to be able to speak to
//! the node that runs. Reads the one line; what the others say is not looked at.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Config, ConfigError, FILE_NAME};
use crate::admin_link::SOCKET;

#[derive(Deserialize)]
struct DataAlone {
    data: Option<String>,
}

/// Where keys, store and socket of a node are: as `node.toml` in `folder` says, or `folder` itself when
/// it says nothing of that, or is not there.
///
/// # Errors
/// [`ConfigError`], when a bad file does not say it either, and no node runs in `folder`.
pub fn data_folder(folder: &Path) -> Result<PathBuf, ConfigError> {
    let path = folder.join(FILE_NAME);
    if !path.exists() {
        return Ok(folder.to_owned());
    }
    let refused = match Config::read(&path) {
        Ok(config) => return Ok(config.data),
        Err(refused) => refused,
    };
    let text = fs::read(&path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    match text.ok().as_deref().and_then(data_of) {
        Some(data) => Ok(folder.join(data).components().collect()),
        None if folder.join(SOCKET).exists() => Ok(folder.to_owned()),
        None => Err(refused),
    }
}

/// What the text of a bad file names as its data: of a file that can be read as TOML, and of one that
/// cannot, the line by itself.
fn data_of(text: &str) -> Option<String> {
    if let Ok(DataAlone { data }) = toml::from_str(text) {
        return data;
    }
    let lines = text.lines().filter(|line| line.trim_start().starts_with("data"));
    lines.filter_map(|line| toml::from_str::<DataAlone>(line).ok()).find_map(|line| line.data)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{SOCKET, data_folder, data_of};

    #[test]
    fn a_bad_file_still_says_where_the_data_are() {
        for text in [
            "data = \"acme\"\nlisten_peer = []\n",
            "listen_peers = 7\ndata = \"acme\"\n",
            "# data = \"old\"\n  data = 'acme' # here\nthis is no toml\n",
            "store_cache_mib = [\ndata = \"acme\"\n",
            "\u{fffd}\ndata = \"acme\"\ndata = \"other\"\n",
        ] {
            assert_eq!(data_of(text).as_deref(), Some("acme"), "{text}");
        }
        for text in ["", "data\n", "data = 7\n", "data = \"acme\nx", "database = \"acme\"\n[\n"] {
            assert_eq!(data_of(text), None, "{text}");
        }
    }

    #[test]
    fn a_file_that_says_nothing_is_no_matter_where_a_node_runs() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        assert_eq!(data_folder(at).unwrap(), at, "no file is needed");
        fs::write(at.join("node.toml"), [0xff, 0xfe, 0]).unwrap();
        let refused = data_folder(at).unwrap_err();
        assert!(refused.to_string().contains("node.toml"), "{refused}");
        fs::write(at.join(SOCKET), "").unwrap();
        assert_eq!(data_folder(at).unwrap(), at);
        fs::write(at.join("node.toml"), "data = \"elsewhere\"\nnonsense\n").unwrap();
        assert_eq!(data_folder(at).unwrap(), at.join("elsewhere"));
    }
}
