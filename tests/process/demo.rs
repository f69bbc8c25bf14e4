//! Both demos to their end: each checks what it shows, and fails when anything is not as told.

use std::{path::Path, time::Duration};

use crate::{binary, cluster::test};

/// Handing over to a custodian takes half a minute by itself.
const DEMO: Duration = Duration::from_secs(280);

async fn ends_as_told(dir: &Path, args: &[&str], last: &str) {
    let mut command = binary::command(args);
    let demo = command.env("TMPDIR", dir).output();
    let said = tokio::time::timeout(DEMO, demo).await.expect("it takes too long");
    let said = said.expect("running the demo");
    let told = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.status.success() && told.contains(last), "{told}\n{said:?}");
}

#[test]
fn the_demo_ends_as_told() {
    test(async |dir| ends_as_told(dir, &["demo"], "one bit of a receipt changed: refused").await);
}

#[test]
fn the_demo_of_custodians_ends_as_told() {
    test(async |dir| {
        ends_as_told(dir, &["demo", "custody"], "one bit of a receipt changed: refused").await;
    });
}
