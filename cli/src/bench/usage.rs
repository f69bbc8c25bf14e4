//! What the nodes' processes used: CPU and memory by the kernel's account, rows, commits and fsyncs
//! by their own. Starts nothing.

use std::net::SocketAddr;
use std::ops::{AddAssign, Sub};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use tidings_node::clock::Stopwatch;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::server::Server;

/// Pages that are written to find out what an fsync takes.
const FSYNC_TRIES: usize = 101;
const PAGE_BYTES: usize = 4096;

/// What one or several processes used since they started.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    /// User and system, in seconds.
    pub(super) cpu_s: f64,
    /// Rows written.
    pub(super) puts: f64,
    /// Rows deleted.
    pub(super) deletes: f64,
    /// Durable commits.
    pub(super) commits: f64,
    /// Times that the store's file was synced.
    pub(super) syncs: f64,
    /// Events that the batches of the loop held.
    pub(super) events: f64,
    /// Time in handlers and commits, in seconds.
    pub(super) commit_s: f64,
}

/// Memory of one process now and at most, in KiB.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Memory {
    pub(super) now_kib: u64,
    pub(super) peak_kib: u64,
}

impl Sub for Usage {
    type Output = Self;

    /// What was used between `earlier` and `self`.
    fn sub(self, earlier: Self) -> Self {
        Self {
            cpu_s: self.cpu_s - earlier.cpu_s,
            puts: self.puts - earlier.puts,
            deletes: self.deletes - earlier.deletes,
            commits: self.commits - earlier.commits,
            syncs: self.syncs - earlier.syncs,
            events: self.events - earlier.events,
            commit_s: self.commit_s - earlier.commit_s,
        }
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.cpu_s += other.cpu_s;
        self.puts += other.puts;
        self.deletes += other.deletes;
        self.commits += other.commits;
        self.syncs += other.syncs;
        self.events += other.events;
        self.commit_s += other.commit_s;
    }
}

impl Usage {
    /// Of a node that runs.
    pub(super) async fn of(server: &Server) -> anyhow::Result<Self> {
        let metrics = scrape(server.admin).await?;
        let store = |work| value(&metrics, &format!("tidings_store_total{{work=\"{work}\"}}"));
        Ok(Self {
            cpu_s: cpu_seconds(pid(server)?)?,
            puts: store("puts"),
            deletes: store("deletes"),
            commits: store("commits"),
            syncs: store("syncs"),
            events: value(&metrics, "tidings_batch_events_sum"),
            commit_s: value(&metrics, "tidings_commit_seconds_sum"),
        })
    }
}

fn pid(server: &Server) -> anyhow::Result<u32> {
    server.pid().with_context(|| format!("{} does not run", server.name))
}

/// CPU seconds of a process, user and system, children not included.
pub(super) fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    // The second field is the name in brackets, which may hold anything; utime is the 14th.
    let ticks: u64 = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Memory of a node's process.
pub(super) fn memory(server: &Server) -> anyhow::Result<Memory> {
    let path = format!("/proc/{}/status", pid(server)?);
    let status = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    match (kib("VmRSS:"), kib("VmHWM:")) {
        (Some(now_kib), Some(peak_kib)) => Ok(Memory { now_kib, peak_kib }),
        (_, _) => bail!("{path} does not say how much memory is used"),
    }
}

/// What a node counts, as its metrics listener says it.
pub(super) async fn scrape(admin: SocketAddr) -> anyhow::Result<String> {
    let exchange = async {
        let mut stream = TcpStream::connect(admin).await?;
        let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<String, std::io::Error>(answer)
    };
    exchange.await.with_context(|| format!("reading http://{admin}/metrics"))
}

/// One line of the metrics; 0 for what was not counted yet.
pub(super) fn value(metrics: &str, name: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0)
}

/// The median time in ms that overwriting one page of a file with fsync takes in a folder: what a
/// store does whose file does not grow.
pub(crate) fn fsync_ms(dir: &Path) -> anyhow::Result<f64> {
    let mut took = Vec::new();
    let mut measure = || {
        // Without a name: whatever happens, nothing is left in the folder.
        let file = tempfile::tempfile_in(dir)?;
        file.write_all_at(&vec![0; FSYNC_TRIES * PAGE_BYTES], 0)?;
        file.sync_all()?;
        for page in 0..FSYNC_TRIES {
            let watch = Stopwatch::start();
            file.write_all_at(&[1; PAGE_BYTES], (page * PAGE_BYTES) as u64)?;
            file.sync_data()?;
            took.push(watch.elapsed());
        }
        anyhow::Ok(())
    };
    measure().with_context(|| format!("measuring fsync in {}", dir.display()))?;
    took.sort();
    Ok(took.get(took.len() / 2).map_or(0.0, |median| median.as_secs_f64() * 1000.0))
}

#[cfg(test)]
mod tests {
    use super::{cpu_seconds, value};

    #[test]
    fn a_metric_is_found_by_its_whole_name() {
        let text = "tidings_store_total{work=\"puts\"} 42\ntidings_batch_events_sum 7.5\n";
        assert_eq!(value(text, "tidings_store_total{work=\"puts\"}"), 42.0);
        assert_eq!(value(text, "tidings_batch_events_sum"), 7.5);
        assert_eq!(value(text, "tidings_batch_events"), 0.0);
    }

    #[test]
    fn this_process_has_used_some_time() {
        assert!(cpu_seconds(std::process::id()).unwrap() >= 0.0);
        assert!(cpu_seconds(u32::MAX).is_err());
    }
}
