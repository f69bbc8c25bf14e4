//! SIGTERM: devices are told, the process ends cleanly and in time, and the next one goes on.

use std::time::Duration;

use tidings_client::event::CloseWhy;

use crate::cluster::{Cluster, test};

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
            let goodbyes = count_goodbyes(&cluster);
            cluster.acme.tell_to_stop();
            let ended = tokio::time::timeout(STOP, cluster.acme.ended()).await;
            assert!(ended.expect("in time").success());
            assert_eq!(count_goodbyes(&cluster), goodbyes + 1, "{:?}", cluster.alice.seen().closes);
            cluster.send(&format!("while it is away {round}"), 5).await;
            cluster.acme.start().await;
            cluster.alice.until_linked(links + 1).await;
            cluster.all_is_well().await;
        }
        cluster.globex.stop().await;
        cluster.send("while globex is away", 5).await;
        cluster.globex.start().await;
        cluster.all_is_well().await;
        cluster.end().await;
    });
}

fn count_goodbyes(cluster: &Cluster) -> usize {
    let seen = cluster.alice.seen();
    seen.closes.iter().filter(|why| matches!(why, CloseWhy::Goaway { .. })).count()
}
