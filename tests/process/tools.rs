//! Programs of others that some tests need: found where they are, installed where that is allowed, else
//! the reason why the test is skipped. Uses none of them.

use std::{
    env,
    fmt::Display,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
};

/// What a program costs to install.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// Some MiB: installed by root on Debian without being asked for.
    Small,
    /// More than that: installed only where `TIDINGS_TEST_INSTALL` is set.
    Large,
}

/// A program of a Debian package. `None`, with a word, where it is not and cannot be had.
pub(crate) fn program(name: &str, package: &str, size: Size) -> Option<PathBuf> {
    had(name, package, size, || in_path(name))
}

/// A file of a Debian package.
pub(crate) fn file(path: &str, package: &str, size: Size) -> Option<PathBuf> {
    had(path, package, size, || Path::new(path).exists().then(|| PathBuf::from(path)))
}

/// Says why a test is skipped, past the harness, which keeps what passing tests print to itself.
pub(crate) fn skipped(why: impl Display) {
    // Without anybody who reads there is nobody to tell.
    writeln!(io::stderr(), "skipped: {why}").unwrap_or_default();
}

fn had(
    what: &str,
    package: &str,
    size: Size,
    find: impl Fn() -> Option<PathBuf>,
) -> Option<PathBuf> {
    if let Some(found) = find() {
        return Some(found);
    }
    let why = match may_install(size) {
        Ok(()) => match install(package) {
            Ok(()) => return find(),
            Err(why) => why,
        },
        Err(why) => why,
    };
    skipped(format_args!("{what} of the Debian package {package} is not here: {why}"));
    None
}

fn in_path(name: &str) -> Option<PathBuf> {
    // What administrators run is not in everybody's path.
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

fn may_install(size: Size) -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("only root may install it".to_owned());
    }
    if !Path::new("/etc/debian_version").exists() {
        return Err("this is no Debian".to_owned());
    }
    if size == Size::Large && env::var_os("TIDINGS_TEST_INSTALL").is_none() {
        return Err("it is large; set TIDINGS_TEST_INSTALL=1 to have it installed".to_owned());
    }
    Ok(())
}

/// One at a time: the package manager has one lock.
fn install(package: &str) -> Result<(), String> {
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _turn = INSTALLING.lock().map_err(|_| "an earlier installation broke off".to_owned())?;
    // A service that a package brings along is not to be started by a test.
    let policy = Path::new("/usr/sbin/policy-rc.d");
    let is_ours = !policy.exists() && fs::write(policy, "#!/bin/sh\nexit 101\n").is_ok();
    if is_ours {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(policy, mode).map_err(|error| error.to_string())?;
    }
    let done = apt(&["install", "-y", "-qq", "--no-install-recommends", package]).or_else(|_| {
        // The lists may be missing or old.
        apt(&["update", "-qq"])?;
        apt(&["install", "-y", "-qq", "--no-install-recommends", package])
    });
    if is_ours {
        fs::remove_file(policy).map_err(|error| error.to_string())?;
    }
    done
}

fn apt(args: &[&str]) -> Result<(), String> {
    let done = Command::new("apt-get")
        .args(["-o", "DPkg::Lock::Timeout=120"])
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("running apt-get: {error}"))?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(format!("apt-get {}: {}", args.join(" "), said.lines().last().unwrap_or_default()))
}

/// Runs a program to its end, and gives what it said.
pub(crate) fn run(program: &Path, args: &[&str]) -> Result<String, String> {
    let done = Command::new(program).args(args).stdin(Stdio::null()).output();
    let done = done.map_err(|error| format!("running {}: {error}", program.display()))?;
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    if done.status.success() { Ok(said) } else { Err(said) }
}
