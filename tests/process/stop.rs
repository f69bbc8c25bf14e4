//! SIGTERM: devices are told, the process ends cleanly and in time, and the next one goes on.

use std::{net::TcpListener, time::Duration};

use tidings_client::event::CloseWhy;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::cluster::{Cluster, test};
use crate::person::Seen;

/// What `docs/operate.md` promises.
const STOP: Duration = Duration::from_secs(10);

#[test]
fn a_node_that_stops_says_goodbye_and_goes_on() {
    test(async |dir| {
        let mut cluster = Cluster::acquainted(dir).await;
        for round in 0..2 {
            // Some are on their way while it stops.
            cluster.send(&format!("round {round}"), 50).await;
            let links = cluster.alice.seen().linked;
            let goodbyes = count_goodbyes(&cluster.alice.seen());
            cluster.acme.tell_to_stop();
            let ended = tokio::time::timeout(STOP, cluster.acme.ended()).await;
            assert!(ended.expect("in time").success());
            // The device may still be at it when the process has ended.
            let is_told = |seen: &Seen| count_goodbyes(seen) > goodbyes;
            cluster.alice.until("the goodbye", is_told).await;
            cluster.send(&format!("while it is away {round}"), 5).await;
            cluster.acme.start().await;
            cluster.alice.until_linked(links + 1).await;
            cluster.all_is_well().await;
            assert_eq!(count_goodbyes(&cluster.alice.seen()), goodbyes + 1, "one goodbye each");
        }
        cluster.globex.stop().await;
        cluster.send("while globex is away", 5).await;
        cluster.globex.start().await;
        cluster.all_is_well().await;
        cluster.end().await;
    });
}

#[test]
fn nobody_is_refused_while_a_node_with_a_socket_of_its_supervisor_starts_anew() {
    test(async |dir| {
        let mut cluster = Cluster::acquainted(dir).await;
        cluster.acme.stop().await;
        let address = ("127.0.0.1", cluster.acme.ports[1]);
        cluster.acme.held = Some(TcpListener::bind(address).expect("the port of a node"));
        cluster.acme.start().await;
        cluster.alice.until_linked(2).await;
        cluster.send("before", 20).await;
        cluster.acme.stop().await;
        // No process is there: the connection stands, and waits.
        let mut waiting = TcpStream::connect(address).await.expect("a connection");
        waiting.write_all(b"GET / HTTP/1.1\r\nhost: acme\r\n\r\n").await.expect("a question");
        cluster.acme.start().await;
        let mut answer = [0; 9];
        let answered = waiting.read_exact(&mut answer);
        tokio::time::timeout(STOP, answered).await.expect("in time").expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 ");
        cluster.send("after", 20).await;
        cluster.all_is_well().await;
        cluster.end().await;
    });
}

fn count_goodbyes(seen: &Seen) -> usize {
    seen.closes.iter().filter(|why| matches!(why, CloseWhy::Goaway { .. })).count()
}
