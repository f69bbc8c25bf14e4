//! The checks of a device: its files, its store, its way to its node, and the time there.

use std::time::Duration;

use tidings_client::driver::{Caller, caller};
use tidings_client::examine::examine;
use tidings_node::clock;
use tidings_store::{OpenError, RedbFile};

use super::report::Report;
use super::{link, machine};
use crate::home::{Account, Home};

/// Rows of each table that are read.
const ROWS_MAX: usize = 10_000;
/// A device does not watch its disk; nearly nothing left is too little.
const DISK_PERCENT_MAX: u64 = 99;

pub(crate) async fn check(report: &mut Report, home: &Home, within: Duration) {
    let files = home.files();
    let Some(account) = account(report, home) else { return };
    machine::permissions(
        report,
        &[(&files.dir, 0o022), (&files.key, 0o077), (&files.store, 0o077), (&files.account, 0o022)],
    );
    machine::disk(report, &files.dir, DISK_PERCENT_MAX);
    let caller = store(report, home);
    let Ok(peer) = account.peer() else {
        return report.failed(
            "account",
            "it names no node and user",
            "put account.json back from a backup",
        );
    };
    let trust = match home.trust() {
        Ok(trust) => trust,
        Err(error) => {
            let next = "put ca.pem back from a backup, or `tidings join` with --ca anew";
            return report.failed("certificate", format!("{error:#}"), next);
        }
    };
    let witness =
        link::check(report, &account.url, peer.node, &trust, within, caller.as_ref()).await;
    machine::clock(report, witness.as_slice(), clock::now_ms());
}

fn account(report: &mut Report, home: &Home) -> Option<Account> {
    match home.account() {
        Ok(Some(account)) => {
            report.ok("account", format!("{} at {}", account.name, account.node));
            Some(account)
        }
        Ok(None) => {
            let found = format!("{} is nobody's home", home.files().dir.display());
            report.failed("account", found, "ask for an invite, and `tidings join` it");
            None
        }
        Err(error) => {
            report.failed("account", format!("{error:#}"), "put it back from a backup");
            None
        }
    }
}

/// The device of the store, if it could be read.
fn store(report: &mut Report, home: &Home) -> Option<Caller> {
    let key = match home.read_key() {
        Ok(key) => {
            report.ok("keys", "the key of the store is here");
            key
        }
        Err(error) => {
            report.error("keys", error);
            return None;
        }
    };
    let file = match RedbFile::open(&home.files().store) {
        Ok(file) => file,
        Err(OpenError::Locked { .. }) => {
            report.ok("store", "another `tidings` has it open; end that to have it read");
            return None;
        }
        Err(error @ OpenError::NeedsRepair { .. }) => {
            report.warning("store", error.to_string(), "run `tidings inbox` once");
            return None;
        }
        Err(error) => {
            let next = "put device.redb back from a backup, or join anew with another --home";
            report.failed("store", format!("{:#}", anyhow::Error::new(error)), next);
            return None;
        }
    };
    let (mut examined, mut found) = (None, None);
    let looked = file.view(tidings_client::SCHEMA, &mut |txn| {
        examined = Some(examine(txn, &key, ROWS_MAX)?);
        found = caller(txn, &key)?;
        Ok(())
    });
    match (looked, examined) {
        (Ok(()), Some(found)) if found.is_joined => {
            let all = if found.is_all { "all" } else { "the first" };
            let waiting = match found.waiting {
                0 => "nothing waits to be sent or proved".to_owned(),
                waiting => format!("{waiting} wait to be sent or proved"),
            };
            report.ok("store", format!("{all} {} rows are readable; {waiting}", found.rows));
        }
        (Ok(()), _) => report.warning(
            "store",
            "joining did not come to an end",
            "`tidings join` again, with the same invite and name",
        ),
        (Err(error), _) => report.failed(
            "store",
            format!("{:#}", anyhow::Error::new(error)),
            "put device.redb and store.key back from one backup, or join anew with another --home",
        ),
    }
    found
}
