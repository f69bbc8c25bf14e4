//! What a scenario found, as numbers: for people as a table, for programs as JSON. Measures nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::ledger::{Faults, Ledger, Stage, Times};
use super::usage::Usage;
use crate::show;

/// Percentiles of a latency, in ms.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Spread {
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
}

/// Latencies from sending, in ms.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Latency {
    /// To ✓ at the sender.
    pub(super) accepted: Option<Spread>,
    /// To the recipient's device.
    pub(super) shown: Option<Spread>,
    /// To ✓✓ at the sender.
    pub(super) ticked: Option<Spread>,
}

/// What one node did for each message.
#[derive(Clone, Debug, Serialize)]
pub(super) struct NodeReport {
    pub(super) name: &'static str,
    pub(super) cpu_seconds_per_1000: f64,
    pub(super) peak_memory_mib: f64,
    pub(super) rows_written_per_message: f64,
    pub(super) rows_deleted_per_message: f64,
    pub(super) commits_per_message: f64,
    pub(super) fsyncs_per_message: f64,
    pub(super) events_per_commit: f64,
    /// A batch: handlers and durable commit.
    pub(super) ms_per_commit: f64,
}

/// One scenario.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    pub(super) scenario: &'static str,
    /// What was done, with its sizes.
    pub(super) what: String,
    pub(super) messages: usize,
    /// From the first message sent to the last ✓✓.
    pub(super) seconds: f64,
    pub(super) messages_per_second: f64,
    pub(super) latency_ms: Latency,
    /// Of all node processes together, user and system.
    pub(super) cpu_seconds_per_1000: f64,
    /// Of the load generator, which runs on the same machine.
    pub(super) load_cpu_seconds_per_1000: f64,
    pub(super) nodes: Vec<NodeReport>,
    #[serde(flatten)]
    pub(super) faults: Faults,
    /// What only this scenario measures; the unit is the end of the name.
    pub(super) figures: BTreeMap<String, f64>,
    /// Each message's times, for the plot.
    #[serde(skip)]
    pub(super) times: Vec<Times>,
}

impl Spread {
    fn of(mut all: Vec<Duration>) -> Option<Self> {
        all.sort_unstable();
        let ms = |duration: &Duration| duration.as_secs_f64() * 1000.0;
        let at = |percent: usize| all.get((all.len() - 1) * percent / 100).map(ms);
        let max = all.last().map(ms)?;
        Some(Self { p50: at(50)?, p90: at(90)?, p99: at(99)?, max })
    }
}

impl Latency {
    fn of(times: &[Times]) -> Self {
        let spread = |stage| Spread::of(times.iter().filter_map(|t| t.after(stage)).collect());
        Self {
            accepted: spread(Stage::Accepted),
            shown: spread(Stage::Shown),
            ticked: spread(Stage::Ticked),
        }
    }
}

/// All scenarios side by side.
pub(super) fn summary(reports: &[Report]) {
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
    let rows: Vec<Vec<String>> = reports
        .iter()
        .map(|report| {
            let latency = &report.latency_ms;
            let peak = report.nodes.iter().map(|node| node.peak_memory_mib).fold(0.0, f64::max);
            let has_messages = report.messages > 0;
            vec![
                report.scenario.to_owned(),
                report.messages.to_string(),
                format!("{:.0}", report.messages_per_second),
                number(latency.shown.map(|shown| shown.p50)),
                number(latency.shown.map(|shown| shown.p99)),
                number(latency.ticked.map(|ticked| ticked.p50)),
                number(latency.ticked.map(|ticked| ticked.p99)),
                if has_messages && !report.nodes.is_empty() {
                    format!("{:.4}", report.cpu_seconds_per_1000)
                } else {
                    "-".into()
                },
                if report.nodes.is_empty() { "-".into() } else { format!("{peak:.0}") },
                report.faults.lost.to_string(),
                report.faults.doubled.to_string(),
            ]
        })
        .collect();
    say!("");
    let head = [
        "scenario",
        "messages",
        "per s",
        "shown p50",
        "p99 ms",
        "✓✓ p50",
        "p99 ms",
        "CPU s/1,000",
        "peak MiB",
        "lost",
        "doubled",
    ];
    show::table(&head, &rows);
}

/// An error when something happened that must not.
pub(super) fn judge(reports: &[Report]) -> anyhow::Result<()> {
    for Report { scenario, faults, .. } in reports {
        anyhow::ensure!(
            faults.lost == 0 && faults.doubled == 0 && faults.failed == 0,
            "{scenario}: {} lost, {} doubled, {} failed: this is a bug, please report it with the \
             command and the nodes' logs (--dir keeps them)",
            faults.lost,
            faults.doubled,
            faults.failed
        );
    }
    Ok(())
}

/// What the nodes and the load generator used for a run.
pub(super) struct Used {
    /// Name, use and peak of memory in KiB of each node.
    pub(super) nodes: Vec<(&'static str, Usage, u64)>,
    /// CPU seconds of the load generator.
    pub(super) load_cpu_s: f64,
}

impl Report {
    /// Makes it from what the ledger holds at the end.
    pub(super) fn new(scenario: &'static str, what: String, ledger: &Ledger, used: &Used) -> Self {
        let times: Vec<Times> = ledger.times().collect();
        let first = times.iter().map(|times| times.sent).min().unwrap_or_default();
        let last = times.iter().filter_map(|t| t.ticked.or(t.shown).or(t.accepted)).max();
        let seconds = last.unwrap_or_default().saturating_sub(first).as_secs_f64();
        let messages = times.len();
        let count = (messages as f64).max(1.0);
        let nodes: Vec<NodeReport> = used
            .nodes
            .iter()
            .map(|(name, usage, peak_kib)| node_report(name, usage, *peak_kib, count))
            .collect();
        Self {
            scenario,
            what,
            messages,
            seconds,
            messages_per_second: if seconds > 0.0 { messages as f64 / seconds } else { 0.0 },
            latency_ms: Latency::of(&times),
            cpu_seconds_per_1000: nodes.iter().map(|node| node.cpu_seconds_per_1000).sum(),
            load_cpu_seconds_per_1000: used.load_cpu_s * 1000.0 / count,
            nodes,
            faults: ledger.faults(),
            figures: BTreeMap::new(),
            times,
        }
    }

    /// Messages had to wait for somebody who was away: how long says nothing of the nodes.
    pub(super) const fn only_waited(&mut self) {
        self.latency_ms.shown = None;
        self.latency_ms.ticked = None;
    }

    /// Adds what only this scenario measures.
    pub(super) fn figure(&mut self, name: &str, value: f64) {
        self.figures.insert(name.to_owned(), value);
    }

    /// Prints it for people.
    pub(super) fn print(&self) {
        say!("\n{}: {}", self.scenario, self.what);
        let row = |what: &str, value: String| say!("  {what:<18} {value}");
        if self.messages > 0 {
            row(
                "messages/s",
                format!(
                    "{:.0}  ({} in {:.2} s)",
                    self.messages_per_second, self.messages, self.seconds
                ),
            );
        }
        for (name, spread) in [
            ("sent → ✓", self.latency_ms.accepted),
            ("sent → shown", self.latency_ms.shown),
            ("sent → ✓✓", self.latency_ms.ticked),
        ] {
            if let Some(Spread { p50, p90, p99, max }) = spread {
                row(name, format!("p50 {p50:.2}  p90 {p90:.2}  p99 {p99:.2}  max {max:.2} ms"));
            }
        }
        if self.messages > 0 && !self.nodes.is_empty() {
            row(
                "CPU s per 1,000",
                format!(
                    "{:.4}  (load generator {:.4})",
                    self.cpu_seconds_per_1000, self.load_cpu_seconds_per_1000
                ),
            );
        }
        for node in &self.nodes {
            row(node.name, node.line(self.messages > 0));
        }
        for (name, value) in &self.figures {
            row(&name.replace('_', " "), format!("{value:.3}"));
        }
        let Faults { lost, doubled, pushed_again, refused, failed } = self.faults;
        row(
            "lost, doubled",
            format!(
                "{lost}, {doubled}  (pushed again {pushed_again}, refused for a while {refused}, failed {failed})"
            ),
        );
    }
}

impl NodeReport {
    fn line(&self, with_messages: bool) -> String {
        let memory = format!("peak {:.0} MiB", self.peak_memory_mib);
        if !with_messages {
            return memory;
        }
        format!(
            "CPU {:.4} s per 1,000, {memory}; for each message {:.2} rows written, {:.2} deleted, {:.3} commits, {:.3} fsyncs; {:.1} events and {:.2} ms per commit",
            self.cpu_seconds_per_1000,
            self.rows_written_per_message,
            self.rows_deleted_per_message,
            self.commits_per_message,
            self.fsyncs_per_message,
            self.events_per_commit,
            self.ms_per_commit
        )
    }
}

fn node_report(name: &'static str, used: &Usage, peak_kib: u64, messages: f64) -> NodeReport {
    NodeReport {
        name,
        cpu_seconds_per_1000: used.cpu_s * 1000.0 / messages,
        peak_memory_mib: peak_kib as f64 / 1024.0,
        rows_written_per_message: used.puts / messages,
        rows_deleted_per_message: used.deletes / messages,
        commits_per_message: used.commits / messages,
        fsyncs_per_message: used.syncs / messages,
        events_per_commit: used.events / used.commits.max(1.0),
        ms_per_commit: used.commit_s * 1000.0 / used.commits.max(1.0),
    }
}
