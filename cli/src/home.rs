//! Where a person's device is kept: a folder with the key of the store, the store, and which
//! account it is. One process at a time uses it.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};
use tidings_client::driver::{Driver, DriverError, Place, Trust};
use tidings_client::event::{Peer, Settings};
pub(crate) use tidings_node::chance::draw;
use tidings_protocol::address::{Address, UserName};
use tidings_protocol::id::NodeId;
use tidings_protocol::limits::MESSAGE_LIFE_MS_MAX;
use tidings_store::OpenError;

/// Which person is meant.
#[derive(clap::Args)]
pub(crate) struct HomeFolder {
    /// The person's folder [default: ~/.local/share/tidings].
    #[arg(long, env = "TIDINGS_HOME")]
    home: Option<PathBuf>,
}

/// Which account a home is, as it stands in `account.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Account {
    /// The node's id, as text.
    pub(crate) node: String,
    /// The user name there.
    pub(crate) name: String,
    /// Where the node takes devices.
    pub(crate) url: String,
}

/// A person's folder.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    dir: PathBuf,
    read_receipts: bool,
}

const ACCOUNT: &str = "account.json";
/// The store's name inside a home.
pub(crate) const STORE: &str = "device.redb";
const KEY: &str = "store.key";
/// Certificates that are trusted in place of the web's authorities, if the file is there.
const CA: &str = "ca.pem";
/// Stands in for `account.json` while a device is being made: what is beside it is worth nothing yet.
const UNFINISHED: &str = "account.json.new";
/// Takes the place of `account.json` once it is whole.
const NEXT: &str = "account.json.next";

impl HomeFolder {
    pub(crate) fn home(&self) -> anyhow::Result<Home> {
        if let Some(dir) = &self.home {
            return Ok(Home::at(dir.clone()));
        }
        let user = std::env::home_dir().context("you have no home folder: name one with --home")?;
        Ok(Home::at(user.join(".local/share/tidings")))
    }
}

impl Account {
    pub(crate) fn peer(&self) -> anyhow::Result<Peer> {
        let node = NodeId::parse(&self.node).context("reading the account's node id")?;
        let name = UserName::parse(&self.name).context("reading the account's name")?;
        Ok(Peer { node, name })
    }
}

/// An address as people pass it on.
pub(crate) fn address(peer: &Peer) -> String {
    Address::at_node(peer.name.clone(), peer.node).to_string()
}

/// The paths of a person's folder.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) dir: PathBuf,
    pub(crate) account: PathBuf,
    pub(crate) store: PathBuf,
    pub(crate) key: PathBuf,
}

impl Home {
    /// The home in a folder.
    pub(crate) const fn at(dir: PathBuf) -> Self {
        Self { dir, read_receipts: true }
    }

    /// The same, and others do not learn what is displayed.
    pub(crate) fn without_receipts(self) -> Self {
        Self { read_receipts: false, ..self }
    }

    pub(crate) fn files(&self) -> Files {
        let [account, store, key] = [ACCOUNT, STORE, KEY].map(|name| self.dir.join(name));
        Files { dir: self.dir.clone(), account, store, key }
    }

    /// Which account this home is, if it is one.
    pub(crate) fn account(&self) -> anyhow::Result<Option<Account>> {
        let path = self.dir.join(ACCOUNT);
        match fs::read(&path) {
            Ok(bytes) => {
                let account = serde_json::from_slice(&bytes);
                Ok(Some(account.with_context(|| format!("reading {}", path.display()))?))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// Opens the device of a person who has joined.
    pub(crate) fn open(&self) -> anyhow::Result<(Account, Driver)> {
        let Some(account) = self.account()? else {
            self.refuse_orphans()?;
            bail!(
                "{} is nobody's home: ask for an invite, and `tidings join` it",
                self.dir.display()
            );
        };
        let driver = self.open_device(&account)?;
        ensure!(driver.core().is_joined(), "joining did not come to an end: `tidings join` again");
        Ok((account, driver))
    }

    /// A device without `account.json` is not ours to make anew, nor to delete: it may be somebody's.
    fn refuse_orphans(&self) -> anyhow::Result<()> {
        if self.dir.join(UNFINISHED).exists() {
            return Ok(());
        }
        let there = [STORE, KEY].map(|name| self.dir.join(name)).into_iter().find(|it| it.exists());
        let Some(there) = there else { return Ok(()) };
        bail!(
            "{} is there, but not {ACCOUNT}, which says whose device it is: put {ACCOUNT} back from a \
             backup, or name another folder with --home",
            there.display()
        )
    }

    pub(crate) fn open_device(&self, account: &Account) -> anyhow::Result<Driver> {
        let store = self.dir.join(STORE);
        // Opening it would make an empty one.
        ensure!(
            store.exists(),
            "{} is missing: put it back from a backup, or join with an invite into another folder",
            store.display()
        );
        let place = self.place(account, self.read_key()?)?;
        match Driver::open(&place) {
            Err(DriverError::Open(OpenError::Locked { .. })) => bail!(
                "another `tidings` command uses {}: go on there, or end it and run this again",
                self.dir.display()
            ),
            opened => opened.with_context(|| format!("opening {}", self.dir.display())),
        }
    }

    /// Makes a device of a new account.
    pub(crate) fn create(&self, account: &Account, label: &str) -> anyhow::Result<Driver> {
        let context = || format!("making {}", self.dir.display());
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .with_context(context)?;
        if self.account()?.is_none() {
            self.refuse_orphans()?;
        }
        self.clear()?;
        let place = self.place(account, draw()?)?;
        let unfinished = self.dir.join(UNFINISHED);
        write_new(&unfinished, &serde_json::to_vec_pretty(account)?)?;
        write_key(&self.dir, &place)?;
        let identity = tidings_client::driver::new_account(&place.settings, label)?;
        let driver = Driver::create(&place, &identity)?;
        // Last: a home with this file is whole.
        fs::rename(&unfinished, self.dir.join(ACCOUNT)).with_context(context)?;
        sync_folder(&self.dir)?;
        Ok(driver)
    }

    /// Whose certificates this home trusts.
    pub(crate) fn trust(&self) -> anyhow::Result<Trust> {
        let path = self.dir.join(CA);
        if path.exists() { Ok(read_trust(&path)?.0) } else { Ok(Trust::default()) }
    }

    /// From now on these certificates are trusted and no others.
    pub(crate) fn keep_trust(&self, pem: &[u8]) -> anyhow::Result<()> {
        let path = self.dir.join(CA);
        fs::write(&path, pem).with_context(|| format!("writing {}", path.display()))
    }

    /// The node takes devices at another address now.
    pub(crate) fn keep_address(&self, account: &Account) -> anyhow::Result<()> {
        if self.account()?.as_ref() == Some(account) {
            return Ok(());
        }
        let (next, path) = (self.dir.join(NEXT), self.dir.join(ACCOUNT));
        let context = || format!("writing {}", path.display());
        if next.exists() {
            fs::remove_file(&next).with_context(context)?;
        }
        write_new(&next, &serde_json::to_vec_pretty(account)?)?;
        fs::rename(&next, &path).with_context(context)?;
        sync_folder(&self.dir)
    }

    /// Removes a device that never joined.
    pub(crate) fn clear(&self) -> anyhow::Result<()> {
        // A kill in between leaves either nothing to lose or the mark that says so.
        if self.dir.join(ACCOUNT).exists() {
            let context = || format!("removing {}", self.dir.join(ACCOUNT).display());
            fs::rename(self.dir.join(ACCOUNT), self.dir.join(UNFINISHED)).with_context(context)?;
        }
        for name in [STORE, KEY, CA, UNFINISHED] {
            let path = self.dir.join(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("removing {}", path.display()));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn place(&self, account: &Account, store_key: [u8; 32]) -> anyhow::Result<Place> {
        let Peer { node, name } = account.peer()?;
        let settings = Settings {
            node,
            name,
            read_receipts: self.read_receipts,
            message_life_ms: MESSAGE_LIFE_MS_MAX,
        };
        Ok(Place { path: self.dir.join(STORE), store_key, settings })
    }

    pub(crate) fn read_key(&self) -> anyhow::Result<[u8; 32]> {
        let path = self.dir.join(KEY);
        let found = fs::metadata(&path)
            .with_context(|| format!("reading {}: put it back from a backup", path.display()))?;
        ensure!(
            found.mode() & 0o077 == 0,
            "others may read {}: run `chmod 600 {}`",
            path.display(),
            path.display()
        );
        let text = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let bytes = data_encoding::HEXLOWER.decode(text.trim_ascii()).ok();
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .with_context(|| format!("{} is damaged: put it back from a backup", path.display()))
    }
}

/// Reads a PEM file with certificates to trust; the file's bytes too.
pub(crate) fn read_trust(path: &Path) -> anyhow::Result<(Trust, Vec<u8>)> {
    let context = || format!("reading the certificates in {}", path.display());
    let pem = fs::read(path).with_context(context)?;
    let trust = Trust::only(&pem).with_context(context)?;
    Ok((trust, pem))
}

/// Writes what makes a folder the home of the device at `place`, all but the store itself.
pub(crate) fn write(dir: &Path, place: &Place, url: &str) -> anyhow::Result<()> {
    let (node, name) = (place.settings.node.to_text(), place.settings.name.to_string());
    write_key(dir, place)?;
    write_account(dir, &Account { node, name, url: url.to_owned() })
}

fn write_key(dir: &Path, place: &Place) -> anyhow::Result<()> {
    write_new(&dir.join(KEY), data_encoding::HEXLOWER.encode(&place.store_key).as_bytes())
}

fn write_account(dir: &Path, account: &Account) -> anyhow::Result<()> {
    write_new(&dir.join(ACCOUNT), &serde_json::to_vec_pretty(account)?)
}

fn write_new(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.with_context(|| format!("writing {}", path.display()))?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// A new name is on disk only once its folder is.
fn sync_folder(dir: &Path) -> anyhow::Result<()> {
    let synced = fs::File::open(dir).and_then(|folder| folder.sync_all());
    synced.with_context(|| format!("writing {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use tidings_protocol::id::NodeId;

    use super::{Account, Home};

    #[test]
    fn a_home_is_made_once_and_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path().join("alice"));
        assert!(home.open().is_err());
        let node = NodeId([1; 32]).to_text();
        let account = Account { node, name: "alice".to_owned(), url: "ws://localhost".to_owned() };
        drop(home.create(&account, "laptop").unwrap());
        assert!(!home.dir.join(super::UNFINISHED).exists());
        assert_eq!(home.account().unwrap(), Some(account.clone()));
        assert!(!home.open_device(&account).unwrap().core().is_joined());
        home.clear().unwrap();
        assert_eq!(home.account().unwrap(), None);
    }

    fn alice() -> Account {
        let node = NodeId([1; 32]).to_text();
        Account { node, name: "alice".to_owned(), url: "ws://localhost".to_owned() }
    }

    #[test]
    fn a_device_without_its_account_is_neither_opened_nor_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path().join("alice"));
        drop(home.create(&alice(), "laptop").unwrap());
        std::fs::remove_file(home.files().account).unwrap();
        let said = home.open().unwrap_err().to_string();
        assert!(said.contains("put account.json back") && !said.contains("invite"), "{said}");
        let said = home.create(&alice(), "laptop").unwrap_err().to_string();
        assert!(said.contains("put account.json back"), "{said}");
        assert!(home.files().store.exists() && home.files().key.exists());
        std::fs::remove_file(home.files().store).unwrap();
        assert!(home.create(&alice(), "laptop").is_err(), "the key of a lost store is kept too");
        assert!(home.files().key.exists());
    }

    #[test]
    fn a_lost_store_is_not_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path().join("alice"));
        drop(home.create(&alice(), "laptop").unwrap());
        std::fs::remove_file(home.files().store).unwrap();
        let said = home.open().unwrap_err().to_string();
        assert!(said.contains("device.redb is missing"), "{said}");
        assert!(!home.files().store.exists());
    }

    #[test]
    fn a_home_that_was_never_finished_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path().join("alice"));
        drop(home.create(&alice(), "laptop").unwrap());
        // As a kill before the last step leaves it.
        std::fs::rename(home.files().account, home.dir.join(super::UNFINISHED)).unwrap();
        assert!(home.open().unwrap_err().to_string().contains("invite"));
        drop(home.create(&alice(), "laptop").unwrap());
        assert_eq!(home.account().unwrap(), Some(alice()));
    }
}
