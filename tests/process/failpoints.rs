//! Each named step of `node/src/failpoint.rs`, at either node: the process dies there while messages
//! are on their way, starts again, and everything ends well.

use std::{cell::RefCell, path::Path};

use tidings_client::event::Status;

use crate::{
    cluster::{Cluster, Side, test},
    server::until,
};

/// All steps, as `docs/operate.md` lists them.
const STEPS: [&str; 8] = [
    "before_commit",
    "after_commit_before_effects",
    "after_effects",
    "before_client_send",
    "before_peer_send",
    "after_peer_read",
    "after_client_read",
    "before_drain",
];
/// Messages of one burst, and bursts; each burst passes every step at least once.
const BURST: usize = 4;
const BURSTS: usize = 5;

#[test]
fn acme_may_die_at_every_step() {
    test(async |dir| every_step(dir, Side::Acme).await);
}

#[test]
fn globex_may_die_at_every_step() {
    test(async |dir| every_step(dir, Side::Globex).await);
}

#[test]
fn every_step_is_tried() {
    let source = include_str!("../../node/src/failpoint.rs");
    let named = source.lines().filter_map(|line| line.trim().strip_prefix("/// `"));
    let named: Vec<&str> = named.filter_map(|line| line.split('`').next()).collect();
    assert_eq!(named, STEPS);
}

async fn every_step(dir: &Path, side: Side) {
    if !cfg!(debug_assertions) {
        crate::tools::skipped("a release build knows no failpoints");
        return;
    }
    let mut cluster = Cluster::acquainted(dir).await;
    cluster.side(side).stop().await;
    for step in STEPS {
        die_at(&mut cluster, side, step).await;
        cluster.side(side).start().await;
        cluster.all_is_well().await;
        cluster.side(side).stop().await;
    }
    cluster.side(side).start().await;
    cluster.all_is_well().await;
    cluster.end().await;
}

async fn die_at(cluster: &mut Cluster, side: Side, step: &str) {
    let at_end = step == "before_drain";
    // The third pass: not while the node starts, and with messages before and after.
    cluster.side(side).start_doomed(step, if at_end { 1 } else { 3 }).await;
    for burst in 0..BURSTS {
        let before = cluster.alice.reached(Status::Delivered);
        cluster.send(&format!("{step}, burst {burst},"), BURST).await;
        if at_end && burst == BURSTS / 2 {
            cluster.side(side).tell_to_stop();
        }
        if at_end && burst >= BURSTS / 2 {
            continue;
        }
        let (alice, server) = match side {
            Side::Acme => (&cluster.alice, &mut cluster.acme),
            Side::Globex => (&cluster.alice, &mut cluster.globex),
        };
        let server = RefCell::new(server);
        until("a burst to arrive, or the node to die", async || {
            server.borrow_mut().is_over() || alice.reached(Status::Delivered) >= before + BURST
        })
        .await;
    }
    cluster.side(side).died().await;
}
