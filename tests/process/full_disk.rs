//! A disk that fills up, on a small file system that is mounted for the test. Needs the right to
//! mount; without it the tests say so and do nothing.

use std::{
    cell::RefCell,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tidings_client::event::Status;

use crate::{
    cluster::{Cluster, test},
    person::Person,
    server::{Server, text, until},
};

/// A file system of its own, unmounted at the end.
pub(crate) struct SmallDisk(pub(crate) PathBuf);

impl SmallDisk {
    /// `None`, with a word, where mounting is not allowed.
    pub(crate) fn mount(at: PathBuf, mib: u32) -> Option<Self> {
        fs::create_dir_all(&at).expect("making a folder");
        let size = format!("size={mib}m,mode=700");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs", text(&at)]).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(at)),
            Ok(output) => {
                crate::tools::skipped(String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                crate::tools::skipped(format_args!("running mount: {error}"));
                None
            }
        }
    }

    /// Fills the disk up to the last bytes that are left.
    pub(crate) fn fill(&self, left: u64) {
        let stat = rustix::fs::statvfs(&self.0).expect("asking for free space");
        let free = stat.f_bavail * stat.f_frsize;
        let bytes = usize::try_from(free.saturating_sub(left)).expect("a small disk");
        fs::write(self.0.join("filler"), vec![0; bytes]).expect("filling the disk");
    }

    pub(crate) fn make_space(&self) {
        fs::remove_file(self.0.join("filler")).expect("making space");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process of a failed test may still be ending.
        let unmounted = Command::new("umount").args(["-l", text(&self.0)]).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted", self.0.display());
        }
    }
}

/// alice's node is on a small disk.
async fn cluster_on(disk: &SmallDisk, dir: &Path, extra: &str) -> Cluster {
    let mut hub = Server::make("hub", dir.join("hub"), None, "").await;
    hub.start().await;
    let known = hub.address().await;
    let mut acme = Server::make("acme", disk.0.join("acme"), Some(&known), extra).await;
    let mut globex = Server::make("globex", dir.join("globex"), Some(&known), "").await;
    acme.start().await;
    globex.start().await;
    let alice = Person::join("alice", &acme, dir.join("alice")).await;
    let bob = Person::join("bob", &globex, dir.join("bob")).await;
    let mut cluster = Cluster { hub, acme, globex, alice, bob, sent: Vec::new() };
    cluster.send("hello", 1).await;
    cluster.all_is_well().await;
    cluster
}

#[test]
fn a_disk_that_is_nearly_full_takes_nothing_new_and_loses_nothing() {
    test(async |dir| {
        let Some(disk) = SmallDisk::mount(dir.join("disk"), 64) else { return };
        let mut cluster = cluster_on(&disk, dir, "").await;
        // Accepted before: kept.
        cluster.globex.stop().await;
        cluster.send("accepted", 10).await;
        cluster.alice.until_reached(Status::Accepted, 11).await;
        disk.fill(2 * 1024 * 1024);
        is_full(&cluster.acme, true).await;
        assert!(cluster.acme.page("/readyz").await.contains("the disk is full"));
        assert!(cluster.acme.page("/livez").await.contains("200 OK"));
        // Refused: kept by alice's device.
        cluster.send("queued", 10).await;
        until("a refusal", async || {
            cluster.acme.metric("tidings_refusals_total{reason=\"Quota\"}").await > 0.0
        })
        .await;
        assert_eq!(cluster.alice.reached(Status::Accepted), 11);
        // What was accepted goes on meanwhile.
        cluster.globex.start().await;
        cluster.alice.until_reached(Status::Delivered, 11).await;
        disk.make_space();
        is_full(&cluster.acme, false).await;
        cluster.all_is_well().await;
        cluster.end().await;
    });
}

async fn is_full(server: &Server, wanted: bool) {
    until("the node to notice its disk", async || {
        server.ask("status").await["full"].as_bool() == Some(wanted)
    })
    .await;
}

#[test]
fn a_commit_without_space_ends_the_process_and_loses_nothing() {
    test(async |dir| {
        // So large that the ballast is taken.
        let Some(disk) = SmallDisk::mount(dir.join("disk"), 128) else { return };
        let mut cluster = cluster_on(&disk, dir, "disk_percent_max = 100\n").await;
        let ballast = cluster.acme.folder.join("ballast");
        until("the ballast", async || ballast.exists()).await;
        cluster.globex.stop().await;
        disk.fill(64 * 1024);
        // Long texts, until no page is left.
        let long = "long ".repeat(2_000);
        let mut rounds = 0;
        while !cluster.acme.is_over() {
            rounds += 1;
            assert!(rounds < 100, "the disk does not fill up");
            let accepted = cluster.alice.reached(Status::Accepted);
            cluster.send(&long, 10).await;
            let (alice, acme) = (&cluster.alice, RefCell::new(&mut cluster.acme));
            until("an answer, or the end", async || {
                acme.borrow_mut().is_over() || alice.reached(Status::Accepted) >= accepted + 10
            })
            .await;
        }
        let ended = cluster.acme.ended().await;
        assert_eq!(ended.code(), Some(1), "{ended}");
        let log = fs::read_to_string(cluster.acme.log()).expect("reading the log");
        assert!(log.contains("committing a batch"), "{log}");
        // What the ballast held is enough to start and to go on, until somebody makes space.
        assert!(!ballast.exists() && log.contains("the ballast was released"), "{log}");
        cluster.acme.start().await;
        disk.make_space();
        cluster.globex.start().await;
        cluster.all_is_well().await;
        cluster.end().await;
    });
}
