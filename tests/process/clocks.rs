//! A process with a false clock (libfaketime): nothing is lost by it, and all goes on once the clock is
//! right again.

use tidings_client::event::Status;

use crate::{
    cluster::{Cluster, test},
    server::{text, until},
    tools::{self, Size},
};

/// Where Debian puts the library, by the machine's architecture.
fn library() -> Option<std::path::PathBuf> {
    let machine = format!("{}-linux-gnu", std::env::consts::ARCH);
    let path = format!("/usr/lib/{machine}/faketime/libfaketimeMT.so.1");
    tools::file(&path, "libfaketime", Size::Small)
}

#[test]
fn a_node_whose_clock_is_an_hour_slow_takes_nothing_and_loses_nothing() {
    let Some(library) = library() else { return };
    test(async |dir| {
        let mut cluster = Cluster::acquainted(dir).await;
        cluster.globex.stop().await;
        cluster.globex.env = vec![
            ("LD_PRELOAD", text(&library).to_owned()),
            ("FAKETIME", "-1h".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        cluster.globex.start().await;
        cluster.send("from the future", 10).await;
        cluster.alice.until_reached(Status::Accepted, 11).await;
        // By its clock, acme has signed its addresses in the future.
        until("globex to refuse what is too new", async || {
            cluster.globex.metric("tidings_refusals_total").await > 0.0
        })
        .await;
        assert_eq!(cluster.bob.shown().len(), 1, "nothing from the future is taken");
        cluster.globex.stop().await;
        cluster.globex.env.clear();
        cluster.globex.start().await;
        cluster.all_is_well().await;
        cluster.end().await;
    });
}
