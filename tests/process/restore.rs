//! A node whose data folder is an old copy: what it has forgotten is found out and sent again.

use tidings_client::event::Status;

use crate::{
    cluster::{Cluster, test},
    server::until,
};

#[test]
fn a_restored_globex_gets_again_what_it_had_forgotten() {
    test(async |dir| {
        let mut cluster = Cluster::acquainted(dir).await;
        let backup = dir.join("backup");
        cluster.globex.stop().await;
        cluster.globex.back_up(&backup);
        cluster.globex.start().await;
        // Delivered, and forgotten by the copy.
        cluster.send("delivered", 20).await;
        cluster.all_is_well().await;
        // Taken by globex, acknowledged to acme, and nowhere else at the destination.
        cluster.bob.leave().await;
        cluster.send("taken", 20).await;
        cluster.alice.until_reached(Status::AtDest, 41).await;
        cluster.globex.stop().await;
        cluster.globex.restore(&backup);
        cluster.globex.start().await;
        cluster.bob.come_back();
        cluster.send("afterwards", 20).await;
        cluster.all_is_well().await;
        let noticed = cluster.globex.metric("tidings_envelopes_total{what=\"rolled_back\"}").await;
        assert!(noticed >= 1.0, "globex did not notice that it was restored");
        cluster.end().await;
    });
}

#[test]
fn a_restored_acme_gets_again_what_it_had_forgotten() {
    test(async |dir| {
        let mut cluster = Cluster::acquainted(dir).await;
        let backup = dir.join("backup");
        cluster.acme.stop().await;
        cluster.acme.back_up(&backup);
        cluster.acme.start().await;
        cluster.send("delivered", 20).await;
        cluster.all_is_well().await;
        // Acknowledged to alice, and on no other disk.
        cluster.globex.stop().await;
        cluster.send("accepted", 20).await;
        cluster.alice.until_reached(Status::Accepted, 41).await;
        until("acme to keep them", async || cluster.acme.count("queued").await == 20).await;
        cluster.acme.stop().await;
        cluster.acme.restore(&backup);
        cluster.acme.start().await;
        cluster.globex.start().await;
        cluster.send("afterwards", 20).await;
        cluster.all_is_well().await;
        let odd = cluster.alice.seen().odd.clone();
        assert!(odd.iter().any(|odd| odd.contains("NodeRolledBack")), "{odd:?}");
        cluster.end().await;
    });
}
