//! A device that was away for very long returns to all of it, whole and in order.

use std::time::Duration;

use tidings_client::event::Status;

use crate::cluster::{Cluster, test};

/// Messages that wait.
const BACKLOG: usize = 20_000;
/// How long their handing over may take, on a busy machine and however it was built.
const HANDED_OVER: Duration = Duration::from_secs(120);

#[test]
fn a_long_backlog_is_whole_and_in_order() {
    test(async |dir| {
        let mut cluster = Cluster::acquainted(dir).await;
        cluster.bob.leave().await;
        cluster.send("backlog", BACKLOG).await;
        cluster.alice.until_reached(Status::AtDest, 1 + BACKLOG).await;
        assert_eq!(cluster.globex.count("inbox").await, BACKLOG as u64);
        cluster.bob.come_back();
        let all = cluster.bob.until("the backlog", |seen| seen.shown.len() > BACKLOG);
        assert!(tokio::time::timeout(HANDED_OVER, all).await.is_ok(), "it takes too long");
        cluster.all_is_well().await;
        assert_eq!(cluster.globex.count("inbox").await, 0);
        cluster.end().await;
    });
}
