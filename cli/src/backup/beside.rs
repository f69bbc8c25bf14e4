//! A backup under another name, beside the one that it is to have, until it is whole. Two that are made at
//! once for one name have files of their own, and the second one to be whole replaces nothing.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use data_encoding::HEXLOWER;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use tidings_node::chance::draw;

/// What the names end with.
const END: &str = ".new";

/// The folder that a file is in.
pub(super) fn folder(file: &Path) -> &Path {
    let parent = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// A name that nobody else draws.
pub(super) fn fresh(file: &Path) -> anyhow::Result<PathBuf> {
    let mut name = begin(file)?;
    name.push(HEXLOWER.encode(&draw::<8>()?));
    name.push(END);
    Ok(folder(file).join(name))
}

fn begin(file: &Path) -> anyhow::Result<OsString> {
    let name = file.file_name();
    let name = name.with_context(|| format!("{} is no name for a file", file.display()))?;
    let mut begin = name.to_owned();
    begin.push(".");
    Ok(begin)
}

/// Removes what backups left that were killed: files of this name whose writer is gone.
pub(super) fn sweep(file: &Path) -> anyhow::Result<()> {
    let begin = begin(file)?;
    let is_ours = |name: &OsStr| {
        let drawn = name.as_bytes().strip_prefix(begin.as_bytes());
        let drawn = drawn.and_then(|rest| rest.strip_suffix(END.as_bytes()));
        drawn.is_some_and(|drawn| drawn.len() == 16 && HEXLOWER.decode(drawn).is_ok())
    };
    for entry in fs::read_dir(folder(file))? {
        let path = entry?.path();
        // One that is just being given its name is gone.
        if path.file_name().is_some_and(is_ours)
            && File::open(&path).is_ok_and(|left| left.try_lock().is_ok())
        {
            fs::remove_file(&path).or_else(gone)?;
        }
    }
    Ok(())
}

fn gone(error: io::Error) -> io::Result<()> {
    if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Gives a whole backup its name, if nothing has it.
pub(super) fn name(new: &Path, file: &Path) -> anyhow::Result<()> {
    let named = match renameat_with(CWD, new, CWD, file, RenameFlags::NOREPLACE) {
        // Some file systems cannot do that in one step; a second name is as good.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            fs::hard_link(new, file).and_then(|()| fs::remove_file(new))
        }
        named => named.map_err(io::Error::from),
    };
    match named {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("{} exists by now: name another file, no backup is replaced", file.display())
        }
        named => named.with_context(|| format!("naming {}", file.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::{fresh, name, sweep};

    #[test]
    fn of_two_for_one_name_the_first_one_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("acme.backup");
        let [one, two] = ["one", "two"].map(|text| {
            let new = fresh(&file).unwrap();
            fs::write(&new, text).unwrap();
            new
        });
        assert_ne!(one, two);
        name(&one, &file).unwrap();
        let error = name(&two, &file).unwrap_err();
        assert!(error.to_string().contains("no backup is replaced"), "{error}");
        assert_eq!(fs::read(&file).unwrap(), b"one");
    }

    #[test]
    fn what_a_killed_one_left_is_swept_and_what_somebody_writes_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("acme.backup");
        let [left, written] = [fresh(&file).unwrap(), fresh(&file).unwrap()];
        let others = ["acme.backup.new", "acme.backup.old.new", "globex.backup"];
        let others = others.map(|other| dir.path().join(other));
        for path in [&left, &file].into_iter().chain(&others) {
            fs::write(path, "something").unwrap();
        }
        let writer = File::create(&written).unwrap();
        writer.lock().unwrap();
        sweep(&file).unwrap();
        assert!(!left.exists() && written.exists() && file.exists());
        assert!(others.iter().all(|other| other.exists()), "they are not ours");
        drop(writer);
        sweep(&file).unwrap();
        assert!(!written.exists());
    }
}
