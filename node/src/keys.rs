//! The keys of a node: files in its data folder that only its user may read. `create` makes them,
//! `load` reads them and renews the delegation while the root key is at hand.
//!
//! | file | what | who needs it |
//! |--|--|--|
//! | `root.key` | the organisation itself; its public half is the node id | renewing the delegation; may be kept elsewhere |
//! | `operational.key` | signs addresses and statements | the running node |
//! | `sealing.key` | X25519, for what passes through custodians | the running node |
//! | `transport.key` | names this process to libp2p | the running node |
//! | `delegation.cbor` | the root key's word for the operational key | the running node |

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use thiserror::Error;
use tidings_protocol::codec;
use tidings_protocol::descriptor::Delegation;
use tidings_protocol::id::NodeId;
use tidings_protocol::key::{SecretKey, X25519Key};
use tidings_protocol::signed::Signed;
use tracing::{info, warn};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::chance::{NoRandomness, draw};
use crate::p2p::TransportSeed;

const ROOT: &str = "root.key";
const OPERATIONAL: &str = "operational.key";
const SEALING: &str = "sealing.key";
const TRANSPORT: &str = "transport.key";
const DELEGATION: &str = "delegation.cbor";

/// A delegation is good for a year, and renewed in its last quarter.
const DELEGATION_LIFE_MS: u64 = 365 * 24 * 3600 * 1000;
const RENEW_BEFORE_MS: u64 = DELEGATION_LIFE_MS / 4;

/// The keys that a running node needs.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) node: NodeId,
    pub(crate) operational: SecretKey,
    pub(crate) transport: TransportSeed,
    pub(crate) delegation: Signed<Delegation>,
}

/// Keys could not be made or read.
#[derive(Debug, Error)]
pub enum KeyError {
    /// There are keys already.
    #[error("{} exists: this folder belongs to a node already; choose another one", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A key is not there.
    #[error(
        "{} is missing: put it back from a backup, or make a new node with `tidings init`",
        .path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Others can read a key.
    #[error(
        "others may read {} (mode {mode:o}): run `chmod 600 {}`, and make new keys if others had access",
        .path.display(), .path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file is damaged.
    #[error("{} is damaged: put it back from a backup", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The delegation is over, or for other keys, and the root key is not here to renew it.
    #[error("the delegation {why}: put {} here, start the node once, and take it away again", .root.display())]
    NeedsRoot {
        /// What is wrong with it.
        why: &'static str,
        /// Where the root key is expected.
        root: PathBuf,
    },
    /// A file could not be read or written.
    #[error("{doing} {}", .path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No random bytes.
    #[error("making new keys")]
    NoRandomness(#[from] NoRandomness),
}

/// Makes all keys of a new node in `data`, creating the folder, and says which node it is.
///
/// # Errors
/// [`KeyError::Exists`] when there are keys already, or another [`KeyError`].
pub fn create(data: &Path, domains: &[String], now_ms: u64) -> Result<NodeId, KeyError> {
    make_folder(data)?;
    let root = SecretKey::from_seed(&draw()?);
    let operational = SecretKey::from_seed(&draw()?);
    let sealing = Zeroizing::new(draw::<32>()?);
    let transport = Zeroizing::new(draw::<32>()?);
    write_key(&data.join(ROOT), &root.seed())?;
    write_key(&data.join(OPERATIONAL), &operational.seed())?;
    write_key(&data.join(SEALING), &sealing)?;
    write_key(&data.join(TRANSPORT), &transport)?;
    let wanted = Wanted { operational: &operational, sealing: &sealing, domains };
    write_delegation(data, &wanted.sign(&root, 0, now_ms))?;
    Ok(NodeId::of(&root.public()))
}

/// Reads the keys in `data`. If the root key is there, a delegation that runs out or that says
/// something else than wanted is renewed.
///
/// # Errors
/// [`KeyError`], each with the next step.
pub(crate) fn load(data: &Path, domains: &[String], now_ms: u64) -> Result<Keys, KeyError> {
    let operational = SecretKey::from_seed(&*read_key(&data.join(OPERATIONAL))?);
    let sealing = read_key(&data.join(SEALING))?;
    let transport = TransportSeed::from_bytes(*read_key(&data.join(TRANSPORT))?);
    let path = data.join(DELEGATION);
    let bytes = fs::read(&path).map_err(|source| reading(&path, source))?;
    let damaged = || KeyError::Damaged { path: path.clone() };
    let mut delegation: Signed<Delegation> = codec::decode(&bytes).map_err(|_| damaged())?;
    let held = delegation.peek().map_err(|_| damaged())?;
    delegation.open(&held.node.root_key()).map_err(|_| damaged())?;
    let wanted = Wanted { operational: &operational, sealing: &sealing, domains };
    if let Some(why) = wanted.differs_from(&held, now_ms) {
        let root_path = data.join(ROOT);
        match read_key(&root_path) {
            Ok(seed) => {
                delegation = wanted.sign(&SecretKey::from_seed(&seed), held.serial, now_ms);
                write_delegation(data, &delegation)?;
                info!(why, "the delegation was renewed");
            }
            Err(KeyError::Missing { .. }) if why == RUNS_OUT => {
                warn!("the delegation runs out soon; put root.key back and start the node once");
            }
            Err(KeyError::Missing { .. }) => {
                return Err(KeyError::NeedsRoot { why, root: root_path });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Keys { node: held.node, operational, transport, delegation })
}

const RUNS_OUT: &str = "runs out soon";

/// What the delegation should say.
struct Wanted<'a> {
    operational: &'a SecretKey,
    sealing: &'a [u8; 32],
    domains: &'a [String],
}

impl Wanted<'_> {
    fn sealing_key(&self) -> X25519Key {
        X25519Key(PublicKey::from(&StaticSecret::from(*self.sealing)).to_bytes())
    }

    fn differs_from(&self, held: &Delegation, now_ms: u64) -> Option<&'static str> {
        if held.not_after_ms <= now_ms {
            Some("is over")
        } else if held.operational != self.operational.public() {
            Some("is for another operational key")
        } else if held.sealing != self.sealing_key() {
            Some("is for another sealing key")
        } else if held.domains != self.domains {
            Some("names other domains than the configuration")
        } else if held.not_after_ms <= now_ms + RENEW_BEFORE_MS {
            Some(RUNS_OUT)
        } else {
            None
        }
    }

    fn sign(&self, root: &SecretKey, serial_before: u64, now_ms: u64) -> Signed<Delegation> {
        let delegation = Delegation {
            node: NodeId::of(&root.public()),
            serial: now_ms.max(serial_before + 1),
            operational: self.operational.public(),
            sealing: self.sealing_key(),
            custodians: Vec::new(),
            domains: self.domains.to_vec(),
            not_after_ms: now_ms + DELEGATION_LIFE_MS,
        };
        Signed::new(&delegation, root)
    }
}

/// Makes the folder, for its user alone, if it is not there.
fn make_folder(data: &Path) -> Result<(), KeyError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(data).map_err(|source| {
        KeyError::File { doing: "making the folder", path: data.to_owned(), source }
    })
}

fn write_key(path: &Path, seed: &[u8; 32]) -> Result<(), KeyError> {
    let mut text = Zeroizing::new(data_encoding::HEXLOWER.encode(seed));
    text.push('\n');
    write_new(path, text.as_bytes())
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), KeyError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.and_then(|()| sync_folder(path)).map_err(|source| {
        if source.kind() == ErrorKind::AlreadyExists {
            KeyError::Exists { path: path.to_owned() }
        } else {
            KeyError::File { doing: "writing", path: path.to_owned(), source }
        }
    })
}

/// Replaces the delegation in one step, so that a crash leaves the old or the new one.
fn write_delegation(data: &Path, delegation: &Signed<Delegation>) -> Result<(), KeyError> {
    let path = data.join(DELEGATION);
    let new = data.join("delegation.cbor.new");
    match fs::remove_file(&new) {
        Err(source) if source.kind() != ErrorKind::NotFound => {
            return Err(KeyError::File { doing: "removing", path: new, source });
        }
        Ok(()) | Err(_) => {}
    }
    write_new(&new, &codec::encode(delegation))?;
    fs::rename(&new, &path).and_then(|()| sync_folder(&path)).map_err(|source| KeyError::File {
        doing: "replacing",
        path,
        source,
    })
}

fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn read_key(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let found = fs::metadata(path).map_err(|source| reading(path, source))?;
    let mode = found.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Open { path: path.to_owned(), mode });
    }
    let text = fs::read(path).map(Zeroizing::new).map_err(|source| reading(path, source))?;
    let damaged = || KeyError::Damaged { path: path.to_owned() };
    let seed = data_encoding::HEXLOWER_PERMISSIVE
        .decode(text.trim_ascii())
        .map(Zeroizing::new)
        .map_err(|_| damaged())?;
    seed.as_slice().try_into().map(Zeroizing::new).map_err(|_| damaged())
}

fn reading(path: &Path, source: io::Error) -> KeyError {
    let path = path.to_owned();
    if source.kind() == ErrorKind::NotFound {
        KeyError::Missing { path }
    } else {
        KeyError::File { doing: "reading", path, source }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::{DELEGATION_LIFE_MS, KeyError, create, load};

    const NOW: u64 = 1_800_000_000_000;

    #[test]
    fn keys_that_were_made_are_read_back_and_never_made_twice() {
        let folder = tempfile::tempdir().unwrap();
        let node = create(folder.path(), &[], NOW).unwrap();
        let keys = load(folder.path(), &[], NOW).unwrap();
        assert_eq!(keys.node, node);
        assert_eq!(keys.delegation.open(&node.root_key()).unwrap().serial, NOW);
        assert!(matches!(create(folder.path(), &[], NOW), Err(KeyError::Exists { .. })));
        for entry in fs::read_dir(folder.path()).unwrap() {
            let mode = entry.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        create(folder.path(), &[], NOW).unwrap();
        let path = folder.path().join("operational.key");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = load(folder.path(), &[], NOW).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }

    #[test]
    fn the_delegation_is_renewed_with_the_root_key_and_only_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let node = create(folder.path(), &[], NOW).unwrap();
        let domains = ["acme.example".to_owned()];
        let keys = load(folder.path(), &domains, NOW).unwrap();
        let renewed = keys.delegation.open(&node.root_key()).unwrap();
        assert_eq!((renewed.domains.as_slice(), renewed.serial), (domains.as_slice(), NOW + 1));

        fs::remove_file(folder.path().join("root.key")).unwrap();
        assert!(matches!(load(folder.path(), &[], NOW), Err(KeyError::NeedsRoot { .. })));
        let soon = NOW + DELEGATION_LIFE_MS - 1;
        assert!(load(folder.path(), &domains, soon).is_ok(), "there is time left");
        assert!(matches!(load(folder.path(), &domains, soon + 1), Err(KeyError::NeedsRoot { .. })));
    }
}
