//! Dead letters at the command line: listed, sent again, and dropped, of which the sender is told. To
//! become one takes an envelope hours, and is `core/tests/dead.rs`'s: here they are written into the
//! store of a node that stands still.

use std::path::Path;

use serde_json::Value;
use tidings_client::event::Status;
use tidings_core::schema::{self, DEAD_LETTERS, DeadLetterRow, OUTBOX, OutboxRow, SCHEMA};
use tidings_protocol::{refusal::RefusalCode, statement::Reason};
use tidings_store::{BootId, Opening, RedbOptions, RedbStore, Store as _};

use crate::{
    binary::{self, Said},
    cluster::{Cluster, test},
    server::{Server, text, until},
};

/// How often they were sent in vain.
const TRIES: u32 = 16;

/// Makes a dead letter of the first envelopes that wait, as if globex had refused them just now.
fn set_aside(store: &Path, count: usize, now_ms: u64) {
    let opening = Opening { boot: BootId([9; 16]), incarnation: 0 };
    let options = RedbOptions::default();
    let mut store = RedbStore::open(store, SCHEMA, opening, options).expect("opening a store");
    let set_aside = store.batch(&mut |txn| {
        for (key, bytes) in txn.range(OUTBOX, &[], &[0xff; 13], count)? {
            let OutboxRow { eid, .. } = schema::decode(&bytes)?;
            let refusal = Some(RefusalCode::Malformed);
            let (since_ms, last_ms) = (now_ms, now_ms);
            let row = DeadLetterRow { eid, since_ms, attempts: TRIES, last_ms, refusal };
            schema::put(txn, DEAD_LETTERS, &key, &row)?;
        }
        Ok(())
    });
    set_aside.expect("writing to a store");
}

async fn dead(at: &Server, words: &[&str]) -> Said {
    binary::run(&[&["admin", "dead"], words, &["--data", text(&at.folder)]].concat()).await
}

/// A number of what `peers show` says of globex.
async fn count(cluster: &Cluster, name: &str) -> Option<u64> {
    let globex = cluster.globex.id.to_text();
    let said = cluster.acme.ask(&format!("peers show {globex}")).await;
    said["counts"].get(name).unwrap_or(&said[name]).as_u64()
}

#[test]
fn dead_letters_are_listed_sent_again_and_dropped_with_a_word_to_the_sender() {
    test(async |dir| {
        let mut cluster = Cluster::acquainted(dir).await;
        let before = count(&cluster, "envelopes_out").await.expect("a number");
        // They are sent, and nobody answers.
        cluster.globex.freeze();
        cluster.send("number", 3).await;
        cluster.alice.until_reached(Status::Accepted, 4).await;
        until("all to be sent", async || {
            count(&cluster, "envelopes_out").await == Some(before + 3)
        })
        .await;
        cluster.globex.kill().await;
        let accepted_ms = cluster.acme.ask("queue").await[0]["accepted_ms"].as_u64();
        cluster.acme.stop().await;
        set_aside(&cluster.acme.folder.join("node.redb"), 2, accepted_ms.expect("a time"));
        cluster.acme.start().await;
        cluster.globex.start().await;
        cluster
            .bob
            .until("what is no dead letter", |seen| seen.shown.contains(&"number 3".into()))
            .await;
        assert_eq!(cluster.bob.shown(), ["hello 1", "number 3"]);
        let Cluster { acme, globex, alice, bob, .. } = &mut cluster;
        let letters = acme.ask("dead list").await;
        let letters: Vec<&Value> = letters.as_array().into_iter().flatten().collect();
        let [first, second] = letters.as_slice() else { panic!("two dead letters: {letters:?}") };
        for letter in [first, second] {
            assert_eq!(letter["node"], globex.id.to_text().as_str());
            assert_eq!(
                (&letter["attempts"], &letter["refusal"]),
                (&TRIES.into(), &"Malformed".into())
            );
        }
        assert_eq!(acme.count("dead").await, 2);
        assert_eq!(acme.metric("tidings_peer_dead{").await, 2.0);
        let first = first["eid"].as_str().expect("an id");
        let said = dead(acme, &["redrive", first]).await;
        assert_eq!((said.code, said.out.as_str()), (Some(0), "sent again: 1\n"), "{said:?}");
        bob.until("what was sent again", |seen| seen.shown.len() == 3).await;
        let said = dead(acme, &["drop", "--peer", &globex.id.to_text()]).await;
        assert_eq!((said.code, said.out.as_str()), (Some(0), "dropped: 1\n"), "{said:?}");
        alice.until_nothing_waits().await;
        let views = alice.conversation(&bob.peer).await;
        let ended = views.iter().map(|view| view.statuses.first().map(|(_, status)| *status));
        let ended: Vec<Option<Status>> = ended.collect();
        let failed =
            ended.iter().filter(|status| **status == Some(Status::Failed(Some(Reason::Dropped))));
        assert_eq!((ended.len(), failed.count()), (4, 1), "{ended:?}");
        assert_eq!((acme.count("dead").await, acme.count("queued").await), (0, 0));
        let none = dead(acme, &["drop", "--all"]).await;
        assert_eq!(none.out, "dropped: 0\n", "{none:?}");
        let unknown = dead(acme, &["redrive", first]).await;
        assert_eq!(unknown.code, Some(4), "{unknown:?}");
        cluster.end().await;
    });
}
