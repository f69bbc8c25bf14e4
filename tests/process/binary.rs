//! The `tidings` binary beside this test: built once, run as a command. Knows no command's meaning.

use std::{
    ffi::OsStr,
    net::TcpListener,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::Stdio,
    sync::OnceLock,
};

use serde_json::Value;
use tokio::process::Command;

/// What the environment can say to the binary.
pub(crate) const SETTINGS: [&str; 4] =
    ["TIDINGS_DATA", "TIDINGS_HOME", "TIDINGS_LOG", "TIDINGS_FAILPOINT"];

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// The binary, built by the same cargo into the same folder and profile as this test.
pub(crate) fn path() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let test = std::env::current_exe().expect("the path of this test");
        // <target>/<profile>/deps/process-<hash>
        let profile_folder = test.ancestors().nth(2).expect("the profile's folder").to_owned();
        let target = profile_folder.parent().expect("the target folder");
        let profile = match profile_folder.file_name().and_then(OsStr::to_str) {
            Some("debug") | None => "dev",
            Some(name) => name,
        };
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = std::process::Command::new(cargo);
        // What cargo tells this test of its package would make build scripts run anew.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
                command.env_remove(&*name);
            }
        }
        let built = command
            .args(["build", "--package", "tidings", "--bin", "tidings", "--profile", profile])
            .arg("--target-dir")
            .arg(target)
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
            .stdin(Stdio::null())
            .output()
            .expect("running cargo");
        let said = String::from_utf8_lossy(&built.stderr);
        assert!(built.status.success(), "building the binary:\n{said}");
        profile_folder.join("tidings")
    })
}

/// The binary with a socket that it is handed over the way systemd does it: as number 3, with the
/// process named that it is for. The shell becomes that process.
pub(crate) fn command_with_socket(args: &[&str], held: &TcpListener) -> Command {
    const HAND_OVER: &str = "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\" 3<&0 0</dev/null";
    let mut command = Command::new("sh");
    command.args(["-c", HAND_OVER, "sh"]).arg(path()).args(args).kill_on_drop(true);
    let socket = held.try_clone().expect("a second handle of a socket");
    command.stdin(OwnedFd::from(socket));
    for name in SETTINGS {
        command.env_remove(name);
    }
    command
}

/// The binary with arguments, and none of the settings of whoever runs the test.
pub(crate) fn command<S: AsRef<OsStr>>(args: &[S]) -> Command {
    let mut command = Command::new(path());
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    for name in SETTINGS {
        command.env_remove(name);
    }
    command
}

/// The binary in a network namespace.
pub(crate) fn command_in(namespace: &str, args: &[&str]) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]).arg(path()).args(args);
    command.stdin(Stdio::null()).kill_on_drop(true);
    for name in SETTINGS {
        command.env_remove(name);
    }
    command
}

/// The process may have so many files open, and no more: it cannot raise that itself.
pub(crate) fn limit_files(command: &mut Command, most: u64) {
    within(command, &["sh", "-c", &format!("ulimit -n {most} && exec \"$@\""), "sh"]);
}

/// What comes before a command that is to see processes in `/proc`, and nothing of the machine. Only
/// root may.
pub(crate) const WITHOUT_MACHINE: [&str; 8] = [
    "unshare",
    "--mount",
    "--pid",
    "--kill-child",
    "sh",
    "-c",
    "mount -t proc -o subset=pid proc /proc && exec \"$@\"",
    "sh",
];

/// The command as the rest of another one.
pub(crate) fn within(command: &mut Command, outer: &[&str]) {
    let inner = command.as_std();
    let mut whole = Command::new(outer[0]);
    whole.args(&outer[1..]).arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => whole.env(name, value),
            None => whole.env_remove(name),
        };
    }
    whole.stdin(Stdio::null()).kill_on_drop(true);
    *command = whole;
}

/// Runs a command to its end.
pub(crate) async fn run<S: AsRef<OsStr>>(args: &[S]) -> Said {
    let done = command(args).output().await.expect("running the binary");
    Said {
        code: done.status.code(),
        out: String::from_utf8_lossy(&done.stdout).into_owned(),
        err: String::from_utf8_lossy(&done.stderr).into_owned(),
    }
}

/// Runs a command that must succeed, and reads its one line of JSON.
pub(crate) async fn json<S: AsRef<OsStr>>(args: &[S]) -> Value {
    let said = run(args).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    serde_json::from_str(&said.out).expect("one line of JSON")
}
