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
use tidings_protocol::key::SecretKey;
use tidings_protocol::sealed::SealingSecret;
use tidings_protocol::signed::Signed;
use tracing::{info, warn};
use zeroize::Zeroizing;

use crate::chance::{NoRandomness, draw};
use crate::delegation::{RUNS_OUT, Wanted};
use crate::p2p::TransportSeed;

/// The organisation itself: kept apart.
pub const ROOT_FILE: &str = "root.key";
const ROOT: &str = ROOT_FILE;
const OPERATIONAL: &str = "operational.key";
const SEALING: &str = "sealing.key";
const TRANSPORT: &str = "transport.key";
/// The root key's word for the operational key: without it, a folder is no node's.
pub const DELEGATION_FILE: &str = "delegation.cbor";
const DELEGATION: &str = DELEGATION_FILE;
/// What a running node needs beside its store and configuration.
pub const FILES: [&str; 4] = [OPERATIONAL, SEALING, TRANSPORT, DELEGATION];
/// The store's name inside the data folder. While it is there, no keys of another node are made.
pub const STORE_FILE: &str = "node.redb";

/// The keys that a running node needs.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) node: NodeId,
    pub(crate) operational: SecretKey,
    pub(crate) sealing: SealingSecret,
    pub(crate) transport: TransportSeed,
    pub(crate) delegation: Signed<Delegation>,
}

/// Keys could not be made or read.
#[derive(Debug, Error)]
pub enum KeyError {
    /// There is a node already, or a part of one that only a backup makes whole.
    #[error("{} exists: this folder belongs to a node already; choose another one", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The root key is another node's.
    #[error(
        "{} is the key of {found}, but this folder belongs to {held}: put the root key of that node \
         here, or none",
        .path.display()
    )]
    OtherNode {
        /// The file.
        path: PathBuf,
        /// Whose key it is.
        found: String,
        /// Whom the delegation names.
        held: String,
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

/// Makes all keys of a new node in `data`, creating the folder, and says which node it is. What an
/// earlier call began and did not finish is finished; what this call made is gone when it fails.
///
/// # Errors
/// [`KeyError::Exists`] when there is a node already, or another [`KeyError`].
pub fn create(data: &Path, domains: &[String], now_ms: u64) -> Result<NodeId, KeyError> {
    check_vacant(data)?;
    make_folder(data)?;
    let mut made = Vec::new();
    let created = create_keys(data, domains, now_ms, &mut made);
    if created.is_err() {
        for path in made {
            // The error that matters is the first one.
            fs::remove_file(path).unwrap_or_default();
        }
    }
    created
}

/// Which node the folder belongs to, if it has all keys of one, the root key perhaps aside.
///
/// # Errors
/// [`KeyError`]: a file is missing or damaged.
pub fn owner(data: &Path) -> Result<Option<NodeId>, KeyError> {
    match is_there(&data.join(DELEGATION))? {
        false => Ok(None),
        true => {
            for name in [OPERATIONAL, SEALING, TRANSPORT] {
                read_key(&data.join(name))?;
            }
            Ok(Some(read_delegation(&data.join(DELEGATION))?.1.node))
        }
    }
}

/// The root key is made first and the delegation last: without the one the other files are from a
/// backup, with the other the node is whole. Either way they are somebody's.
fn check_vacant(data: &Path) -> Result<(), KeyError> {
    let mut forbidden = vec![DELEGATION, STORE_FILE];
    if !is_there(&data.join(ROOT))? {
        forbidden.extend([OPERATIONAL, SEALING, TRANSPORT]);
    }
    for path in forbidden.into_iter().map(|name| data.join(name)) {
        if is_there(&path)? {
            return Err(KeyError::Exists { path });
        }
    }
    Ok(())
}

fn create_keys(
    data: &Path,
    domains: &[String],
    now_ms: u64,
    made: &mut Vec<PathBuf>,
) -> Result<NodeId, KeyError> {
    let mut key = |name| {
        let path = data.join(name);
        match read_key(&path) {
            Err(KeyError::Missing { .. }) => {}
            read => return read,
        }
        let seed = Zeroizing::new(draw::<32>()?);
        write_key(&path, &seed)?;
        made.push(path);
        Ok(seed)
    };
    let root = SecretKey::from_seed(&*key(ROOT)?);
    let operational = SecretKey::from_seed(&*key(OPERATIONAL)?);
    let sealing = key(SEALING)?;
    key(TRANSPORT)?;
    let wanted = Wanted { operational: &operational, sealing: &sealing, domains, custodians: &[] };
    write_delegation(data, &wanted.sign(&root, 0, now_ms))?;
    Ok(NodeId::of(&root.public()))
}

/// Reads the keys in `data`. If the root key is there, a delegation that runs out or that says
/// something else than wanted is renewed.
///
/// # Errors
/// [`KeyError`], each with the next step.
pub(crate) fn load(
    data: &Path,
    domains: &[String],
    custodians: &[NodeId],
    now_ms: u64,
) -> Result<Keys, KeyError> {
    if let Some(mode) = open_folder(data) {
        warn!(
            mode = format!("{mode:o}"),
            "others may change what is in the data folder: run `chmod 700 {}`",
            data.display()
        );
    }
    let Read { operational, sealing, transport, root, mut delegation, held } = read(data)?;
    let wanted = Wanted { operational: &operational, sealing: &sealing, domains, custodians };
    if let Some(why) = wanted.differs_from(&held, now_ms) {
        match root {
            Some(root) => {
                delegation = wanted.sign(&root, held.serial, now_ms);
                write_delegation(data, &delegation)?;
                info!(why, "the delegation was renewed");
            }
            None if why == RUNS_OUT => {
                warn!("the delegation runs out soon; put root.key back and start the node once");
            }
            None => return Err(KeyError::NeedsRoot { why, root: data.join(ROOT) }),
        }
    }
    let sealing = SealingSecret::from_bytes(&sealing);
    Ok(Keys { node: held.node, operational, sealing, transport, delegation })
}

/// What the keys of a node are like, for a look that changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The node.
    pub node: NodeId,
    /// When the delegation was signed, in Unix ms by the clock of that time.
    pub signed_ms: u64,
    /// When the delegation is over, in Unix ms.
    pub not_after_ms: u64,
    /// Why the delegation has to be signed anew, if it has to.
    pub renew: Option<&'static str>,
    /// Whether that may wait: the node starts without it.
    pub may_wait: bool,
    /// Whether the root key is at hand for it.
    pub has_root: bool,
}

/// Reads the keys in `data` as [`load`] does, and renews nothing.
///
/// # Errors
/// [`KeyError`], each with the next step.
pub fn examine(
    data: &Path,
    domains: &[String],
    custodians: &[NodeId],
    now_ms: u64,
) -> Result<Held, KeyError> {
    let Read { operational, sealing, root, held, .. } = read(data)?;
    let wanted = Wanted { operational: &operational, sealing: &sealing, domains, custodians };
    let renew = wanted.differs_from(&held, now_ms);
    Ok(Held {
        node: held.node,
        signed_ms: held.serial,
        not_after_ms: held.not_after_ms,
        may_wait: renew.is_none_or(|why| why == RUNS_OUT),
        renew,
        has_root: root.is_some(),
    })
}

/// Everything that is read at a start.
struct Read {
    operational: SecretKey,
    sealing: Zeroizing<[u8; 32]>,
    transport: TransportSeed,
    root: Option<SecretKey>,
    delegation: Signed<Delegation>,
    held: Delegation,
}

fn read(data: &Path) -> Result<Read, KeyError> {
    let operational = SecretKey::from_seed(&*read_key(&data.join(OPERATIONAL))?);
    let sealing = read_key(&data.join(SEALING))?;
    let transport = TransportSeed::from_bytes(*read_key(&data.join(TRANSPORT))?);
    let (delegation, held) = read_delegation(&data.join(DELEGATION))?;
    let root = read_root(&data.join(ROOT), held.node)?;
    Ok(Read { operational, sealing, transport, root, delegation, held })
}

/// The delegation, and what it says; signed by the root key of the node that it names.
fn read_delegation(path: &Path) -> Result<(Signed<Delegation>, Delegation), KeyError> {
    let bytes = fs::read(path).map_err(|source| reading(path, source))?;
    let damaged = || KeyError::Damaged { path: path.to_owned() };
    let delegation: Signed<Delegation> = codec::decode(&bytes).map_err(|_| damaged())?;
    let node = delegation.peek().map_err(|_| damaged())?.node;
    let held = delegation.open(&node.root_key()).map_err(|_| damaged())?;
    Ok((delegation, held))
}

/// The root key, if it is at hand. It is checked at every start, not only when it is needed: a key
/// that others may read, or that is another node's, is not found out a year later.
fn read_root(path: &Path, node: NodeId) -> Result<Option<SecretKey>, KeyError> {
    let root = match read_key(path) {
        Ok(seed) => SecretKey::from_seed(&seed),
        Err(KeyError::Missing { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let found = NodeId::of(&root.public());
    if found != node {
        let (found, held) = (found.to_text(), node.to_text());
        return Err(KeyError::OtherNode { path: path.to_owned(), found, held });
    }
    Ok(Some(root))
}

/// Makes the folder, for its user alone, if it is not there.
fn make_folder(data: &Path) -> Result<(), KeyError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(data).map_err(|source| {
        KeyError::File { doing: "making the folder", path: data.to_owned(), source }
    })
}

/// The mode of a folder in which others may replace files, whatever the modes of those are.
fn open_folder(data: &Path) -> Option<u32> {
    let mode = fs::metadata(data).ok()?.mode() & 0o1777;
    (mode & 0o022 != 0 && mode & 0o1000 == 0).then_some(mode)
}

fn write_key(path: &Path, seed: &[u8; 32]) -> Result<(), KeyError> {
    let mut text = Zeroizing::new(data_encoding::HEXLOWER.encode(seed));
    text.push('\n');
    write_new(path, text.as_bytes())
}

/// Writes a file under another name and gives it its own, so that a crash leaves all of it or
/// nothing; never replaces one.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), KeyError> {
    let failed = |source: io::Error| {
        if source.kind() == ErrorKind::AlreadyExists {
            KeyError::Exists { path: path.to_owned() }
        } else {
            KeyError::File { doing: "writing", path: path.to_owned(), source }
        }
    };
    let new = write_beside(path, bytes).map_err(failed)?;
    let linked = fs::hard_link(&new, path);
    // What stays under that name is replaced by the next attempt.
    fs::remove_file(&new).unwrap_or_default();
    linked.and_then(|()| sync_folder(path)).map_err(failed)
}

/// Writes a file for its user alone under the name that the one at `path` has while it is new.
fn write_beside(path: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        fs::remove_file(&new).unwrap_or_default();
    }
    written.map(|()| new)
}

/// Replaces the delegation in one step, so that a crash leaves the old or the new one.
fn write_delegation(data: &Path, delegation: &Signed<Delegation>) -> Result<(), KeyError> {
    let path = data.join(DELEGATION);
    write_beside(&path, &codec::encode(delegation))
        .and_then(|new| fs::rename(new, &path))
        .and_then(|()| sync_folder(&path))
        .map_err(|source| KeyError::File { doing: "writing", path, source })
}

fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn is_there(path: &Path) -> Result<bool, KeyError> {
    path.try_exists().map_err(|source| reading(path, source))
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

    use crate::delegation::DELEGATION_LIFE_MS;

    use super::{KeyError, create, load, open_folder, owner};

    const NOW: u64 = 1_800_000_000_000;

    #[test]
    fn keys_that_were_made_are_read_back_and_never_made_twice() {
        let folder = tempfile::tempdir().unwrap();
        let node = create(folder.path(), &[], NOW).unwrap();
        let keys = load(folder.path(), &[], &[], NOW).unwrap();
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
        let error = load(folder.path(), &[], &[], NOW).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_root_key_that_others_may_read_or_that_is_damaged_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        create(folder.path(), &[], NOW).unwrap();
        let path = folder.path().join("root.key");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(load(folder.path(), &[], &[], NOW), Err(KeyError::Open { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "0123").unwrap();
        assert!(matches!(load(folder.path(), &[], &[], NOW), Err(KeyError::Damaged { .. })));
    }

    #[test]
    fn a_folder_that_others_may_write_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        for (mode, expected) in
            [(0o700, None), (0o755, None), (0o777, Some(0o777)), (0o770, Some(0o770))]
        {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(open_folder(folder.path()), expected);
        }
    }

    #[test]
    fn a_node_whose_root_key_is_elsewhere_is_not_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        create(&data, &[], NOW).unwrap();
        let root = folder.path().join("root.offline");
        fs::rename(data.join("root.key"), &root).unwrap();
        let names = || {
            let names = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name());
            names.collect::<std::collections::BTreeSet<_>>()
        };
        let before = names();
        assert!(matches!(create(&data, &[], NOW), Err(KeyError::Exists { .. })));
        fs::rename(data.join("delegation.cbor"), folder.path().join("delegation")).unwrap();
        assert!(matches!(create(&data, &[], NOW), Err(KeyError::Exists { .. })));
        fs::rename(folder.path().join("delegation"), data.join("delegation.cbor")).unwrap();
        assert_eq!(names(), before);
    }

    #[test]
    fn the_root_key_of_another_node_is_refused_even_if_none_is_needed() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let node = create(folder.path(), &[], NOW).unwrap();
        let foreign = create(other.path(), &[], NOW).unwrap();
        fs::copy(other.path().join("root.key"), folder.path().join("root.key")).unwrap();
        for domains in [vec![], vec!["acme.example".to_owned()]] {
            let error = load(folder.path(), &domains, &[], NOW).unwrap_err();
            assert!(matches!(error, KeyError::OtherNode { .. }), "{error}");
            assert!(error.to_string().contains(&node.to_text()), "{error}");
            assert!(error.to_string().contains(&foreign.to_text()), "{error}");
        }
    }

    #[test]
    fn what_was_begun_is_finished_as_the_same_node() {
        let folder = tempfile::tempdir().unwrap();
        let node = create(folder.path(), &[], NOW).unwrap();
        for gone in ["delegation.cbor", "transport.key", "sealing.key", "operational.key"] {
            fs::remove_file(folder.path().join("delegation.cbor")).unwrap();
            // The first one is gone already.
            fs::remove_file(folder.path().join(gone)).unwrap_or_default();
            assert_eq!(owner(folder.path()).unwrap(), None);
            assert_eq!(create(folder.path(), &[], NOW).unwrap(), node, "{gone}");
            assert_eq!(owner(folder.path()).unwrap(), Some(node));
            assert_eq!(load(folder.path(), &[], &[], NOW).unwrap().node, node);
        }
        fs::remove_file(folder.path().join("delegation.cbor")).unwrap();
        fs::write(folder.path().join("node.redb"), "").unwrap();
        assert!(matches!(create(folder.path(), &[], NOW), Err(KeyError::Exists { .. })));
    }

    #[test]
    fn what_was_made_is_gone_when_the_rest_cannot_be_made() {
        let folder = tempfile::tempdir().unwrap();
        // Stands in the way of the last file.
        fs::create_dir(folder.path().join("delegation.cbor.new")).unwrap();
        assert!(matches!(create(folder.path(), &[], NOW), Err(KeyError::File { .. })));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_delegation_is_renewed_with_the_root_key_and_only_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let node = create(folder.path(), &[], NOW).unwrap();
        let domains = ["acme.example".to_owned()];
        let keys = load(folder.path(), &domains, &[], NOW).unwrap();
        let renewed = keys.delegation.open(&node.root_key()).unwrap();
        assert_eq!((renewed.domains.as_slice(), renewed.serial), (domains.as_slice(), NOW + 1));

        fs::remove_file(folder.path().join("root.key")).unwrap();
        assert!(matches!(load(folder.path(), &[], &[], NOW), Err(KeyError::NeedsRoot { .. })));
        let soon = NOW + DELEGATION_LIFE_MS - 1;
        assert!(load(folder.path(), &domains, &[], soon).is_ok(), "there is time left");
        assert!(matches!(
            load(folder.path(), &domains, &[], soon + 1),
            Err(KeyError::NeedsRoot { .. })
        ));
    }
}
