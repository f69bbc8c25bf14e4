//! What single commands do where an output, a file or a node is not as they would like it.

use std::{
    fs::{self, OpenOptions},
    process::{Output, Stdio},
};

use crate::{
    backup::{PASSPHRASE, backup, done, passphrase_in, restore},
    binary,
    cluster::{Cluster, in_time, test},
    server::{Server, text, until},
};

/// Runs a command whose output goes there.
async fn into(args: &[&str], output: Stdio) -> Output {
    let mut command = binary::command(args);
    let running = command.stdout(output).stderr(Stdio::piped()).spawn().expect("running");
    in_time("an end", running.wait_with_output()).await.expect("waiting")
}

#[test]
fn help_that_cannot_be_written_is_no_success() {
    test(async |_| {
        for args in [vec!["--help"], vec!["send", "--help"], vec!["--version"]] {
            let full = OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
            let said = into(&args, full.into()).await;
            assert_eq!(said.status.code(), Some(1), "{args:?}");
            assert!(String::from_utf8_lossy(&said.stderr).contains("writing to standard output"));
            // A pipe that nobody reads.
            let (reading, writing) = std::io::pipe().expect("a pipe");
            drop(reading);
            let said = into(&args, writing.into()).await;
            assert_eq!(said.status.code(), Some(141), "{args:?}");
            let said = binary::run(&args).await;
            assert!(said.code == Some(0) && !said.out.contains('\u{1b}'), "{said:?}");
        }
        let wrong = binary::run(&["sned"]).await;
        assert_eq!((wrong.code, wrong.out.as_str()), (Some(2), ""), "{wrong:?}");
    });
}

#[test]
fn a_demo_whose_reader_goes_away_leaves_no_folder() {
    test(async |dir| {
        let mut command = binary::command(&["demo"]);
        command.env("TMPDIR", dir).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut demo = command.spawn().expect("starting the demo");
        let made = || fs::read_dir(dir).expect("a folder").count();
        until("the demo to begin", async || made() > 0).await;
        drop(demo.stdout.take());
        let ended = in_time("the demo to end", demo.wait()).await.expect("waiting");
        assert_eq!(ended.code(), Some(141));
        // Its nodes end a moment later.
        until("the folder to be gone", async || made() == 0).await;
    });
}

#[test]
fn an_inbox_without_its_node_shows_what_is_here_and_says_so() {
    test(async |dir| {
        let mut cluster = Cluster::acquainted(dir).await;
        cluster.bob.leave().await;
        cluster.globex.stop().await;
        let home = cluster.bob.home.clone();
        let args = ["inbox", "--all", "--timeout", "1", "--home", text(&home)];
        let said = in_time("what is here", binary::run(&args)).await;
        assert_eq!(said.code, Some(3), "{said:?}");
        assert!(said.out.contains("hello 1"), "{said:?}");
        assert!(said.err.contains("cannot be reached"), "{said:?}");
        cluster.globex.start().await;
        let said = in_time("the same", binary::run(&["inbox", "--home", text(&home)])).await;
        assert_eq!(said.code, Some(0), "{said:?}");
    });
}

#[test]
fn an_export_replaces_a_file_only_when_it_is_told_to() {
    test(async |dir| {
        let mut cluster = Cluster::acquainted(dir).await;
        let views = cluster.alice.conversation(&cluster.bob.peer).await;
        let message = views[0].message.msg.to_string();
        cluster.alice.leave().await;
        let (out, home) = (dir.join("evidence"), cluster.alice.home.clone());
        fs::write(&out, "a letter that is long, and not to be lost").expect("writing");
        let args = ["export", &message, "--home", text(&home), "--out", text(&out)];
        let said = binary::run(&args).await;
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.err.contains("--force"), "{said:?}");
        assert!(fs::read(&out).expect("the letter").starts_with(b"a letter"));
        let said = binary::run(&[args.as_slice(), &["--force"]].concat()).await;
        assert_eq!(said.code, Some(0), "{said:?}");
        // A time that people read, and no Unix ms.
        let checked = binary::run(&["verify", text(&out)]).await;
        assert_eq!(checked.code, Some(6), "{checked:?}");
        assert!(checked.out.contains(" UTC") && !checked.out.contains("Unix ms"), "{checked:?}");
    });
}

#[test]
fn of_two_backups_to_one_name_one_is_made_and_whole() {
    test(async |dir| {
        let mut acme = Server::make("acme", dir.join("acme"), None, "").await;
        acme.start().await;
        acme.invite(3).await;
        let (file, word) = (dir.join("acme.backup"), passphrase_in(dir, "word", PASSPHRASE));
        let two = async || {
            tokio::join!(backup(&acme, &file, &word, &[]), backup(&acme, &file, &word, &[]))
        };
        let (one, other) = two().await;
        let codes = [one.code, other.code];
        assert!(codes.contains(&Some(0)), "{one:?} {other:?}");
        assert!(codes != [Some(0), Some(0)], "one has replaced the other");
        done(&restore(&file, &dir.join("new"), &word).await);
        // Nothing is left beside it.
        let begins =
            |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with("acme.backup");
        let left = fs::read_dir(dir).expect("a folder").filter_map(Result::ok).filter(begins);
        assert_eq!(left.count(), 1);
        acme.stop().await;
    });
}

#[test]
fn doctor_finds_a_flipped_bit_in_the_store_of_a_node_that_is_stopped() {
    test(async |dir| {
        let mut cluster = Cluster::acquainted(dir).await;
        cluster.globex.stop().await;
        let folder = cluster.globex.folder.clone();
        let store = folder.join("node.redb");
        let args = ["doctor", "--json", "--data", text(&folder)];
        let said = binary::run(&args).await;
        assert!(said.out.contains("every page is whole"), "{said:?}");
        let whole = fs::read(&store).expect("a store");
        let (mut found, mut asked) = (0, 0);
        // Here and there: not every place of a file is in use.
        for at in (4_096..whole.len()).step_by(whole.len() / 24) {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&store, &damaged).expect("writing");
            let said = binary::run(&args).await;
            asked += 1;
            found += u32::from(said.code == Some(7) && said.out.contains("from a backup"));
            assert!(fs::read(&store).expect("a store") == damaged, "doctor changed the store");
        }
        assert!(found > 0, "none of {asked} was found");
        fs::write(&store, whole).expect("writing");
        cluster.globex.start().await;
        cluster.all_is_well().await;
        cluster.end().await;
    });
}
