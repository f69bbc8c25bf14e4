//! A node that is given little: few open files, so that it accepts nobody more, says so, serves those
//! who are there, and accepts again when there is room; and no word of how much memory there is.

use std::{fs, net::TcpStream, path::Path};

use tidings_client::event::Status;

use crate::{
    binary,
    cluster::{Cluster, test},
    person::Person,
    server::until,
    tools,
};

/// What a node needs for itself and for few others, and no more.
const FILES: u64 = 96;

#[test]
fn a_node_without_file_descriptors_serves_who_is_there_and_pauses_accepting() {
    test(async |dir| {
        let mut cluster = Cluster::acquainted(dir).await;
        cluster.acme.stop().await;
        cluster.acme.files_max = Some(FILES);
        cluster.acme.start().await;
        cluster.alice.until_linked(2).await;
        cluster.send("with room", 5).await;
        cluster.all_is_well().await;

        let address = ("127.0.0.1", cluster.acme.ports[1]);
        let strangers: Vec<TcpStream> =
            (0..FILES).map(|_| TcpStream::connect(address).expect("the queue has room")).collect();
        let log = cluster.acme.log();
        let says_so = async || {
            let log = fs::read_to_string(&log).expect("reading a log");
            log.contains("raise the limit on open files")
        };
        until("a word in the log", says_so).await;
        cluster.send("without room", 20).await;
        cluster.alice.until_reached(Status::Delivered, 26).await;
        assert!(!cluster.acme.is_over());

        cluster.all_is_well().await;
        drop(strangers);
        let mut carol = Person::join("carol", &cluster.acme, dir.join("carol")).await;
        let bob = cluster.bob.peer.clone();
        carol.write(&bob, &["there is room again".to_owned()]).await;
        carol.until_reached(Status::Delivered, 1).await;
        carol.leave().await;
        cluster.end().await;
    });
}

#[test]
fn a_node_that_is_not_told_how_much_memory_there_is_links_all_the_same() {
    test(async |dir| {
        let outer = binary::WITHOUT_MACHINE;
        if let Err(why) = tools::run(Path::new(outer[0]), &[&outer[1..], &["true"]].concat()) {
            return tools::skipped(format_args!("a `/proc` of one's own: {}", why.trim()));
        }
        let mut cluster = Cluster::start(dir).await;
        cluster.globex.stop().await;
        cluster.globex.sees_machine = false;
        cluster.globex.start().await;
        cluster.send("hello", 1).await;
        cluster.all_is_well().await;
        cluster.globex.kill().await;
        cluster.globex.sees_machine = true;
        cluster.globex.start().await;
        cluster.end().await;
    });
}
