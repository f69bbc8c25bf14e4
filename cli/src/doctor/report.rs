//! What `tidings doctor` has found: one line for each check, with the next step where one is needed.

use anstyle::Style;
use serde_json::{Value, json};

use crate::exit::Stopped;
use crate::show::{self, plain};
use crate::style::{BAD, DIM, GOOD, WARNING, line, paint};

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ok,
    /// It works, and somebody should look at it.
    Warning,
    /// It does not work, or will not at the next start.
    Failed,
}

impl Outcome {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }

    const fn style(self) -> Style {
        match self {
            Self::Ok => GOOD,
            Self::Warning => WARNING,
            Self::Failed => BAD,
        }
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) check: &'static str,
    pub(crate) outcome: Outcome,
    pub(crate) found: String,
    /// What to do; absent when all is well.
    pub(crate) next: Option<String>,
}

/// All checks so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) findings: Vec<Finding>,
}

impl Report {
    pub(crate) fn ok(&mut self, check: &'static str, found: impl Into<String>) {
        self.add(check, Outcome::Ok, found.into(), None);
    }

    pub(crate) fn warning(
        &mut self,
        check: &'static str,
        found: impl Into<String>,
        next: impl Into<String>,
    ) {
        self.add(check, Outcome::Warning, found.into(), Some(next.into()));
    }

    pub(crate) fn failed(
        &mut self,
        check: &'static str,
        found: impl Into<String>,
        next: impl Into<String>,
    ) {
        self.add(check, Outcome::Failed, found.into(), Some(next.into()));
    }

    /// An error whose text says what is wrong, and behind a colon what to do.
    pub(crate) fn error(&mut self, check: &'static str, error: impl Into<anyhow::Error>) {
        let error = error.into();
        let text = error.to_string();
        let (found, next) =
            text.split_once(": ").unwrap_or((&text, "look at what the system said"));
        let why: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
        let found =
            if why.is_empty() { found.to_owned() } else { format!("{found} ({})", why.join(": ")) };
        self.failed(check, found, next);
    }

    fn add(&mut self, check: &'static str, outcome: Outcome, found: String, next: Option<String>) {
        self.findings.push(Finding { check, outcome, found, next });
    }

    fn count(&self, outcome: Outcome) -> usize {
        self.findings.iter().filter(|finding| finding.outcome == outcome).count()
    }

    /// Prints all of it; an error when a check failed.
    pub(crate) fn end(&self, as_json: bool) -> anyhow::Result<()> {
        let (failed, checks) = (self.count(Outcome::Failed), self.findings.len());
        if as_json {
            show::json(&self.as_json());
        } else {
            self.findings.iter().for_each(print);
            let warnings = self.count(Outcome::Warning);
            line(format!("checks: {checks}, warnings: {warnings}, failed: {failed}"));
        }
        if failed == 0 { Ok(()) } else { Err(Stopped::Unwell { failed, checks }.into()) }
    }

    fn as_json(&self) -> Value {
        let checks = self.findings.iter().map(|finding| {
            json!({
                "check": finding.check,
                "result": finding.outcome.word(),
                "found": finding.found,
                "next": finding.next,
            })
        });
        json!({ "ok": self.count(Outcome::Failed) == 0, "checks": checks.collect::<Vec<_>>() })
    }
}

fn print(finding: &Finding) {
    let word = finding.outcome.word();
    let pad = " ".repeat(8_usize.saturating_sub(word.len()));
    let mark = paint(finding.outcome.style(), word);
    line(format!("{mark}{pad} {:<12} {}", finding.check, plain(&finding.found)));
    if let Some(next) = &finding.next {
        line(format!("{:22}{} {}", "", paint(DIM, "next:"), plain(next)));
    }
}

#[cfg(test)]
mod tests {
    use super::Report;

    #[test]
    fn a_failed_check_fails_the_command_and_a_warning_does_not() {
        let mut report = Report::default();
        report.ok("config", "it is valid");
        report.warning("disk", "it is nearly full", "make space");
        assert!(report.end(true).is_ok());
        let denied = anyhow::anyhow!("permission denied");
        report.error("keys", denied.context("others may read root.key: run `chmod`"));
        let last = report.findings.last().unwrap();
        assert_eq!(last.found, "others may read root.key (permission denied)");
        assert_eq!(last.next.as_deref(), Some("run `chmod`"));
        assert_eq!(
            report.end(true).unwrap_err().to_string().split(':').next(),
            Some("1 of 3 checks failed")
        );
        assert_eq!(report.as_json()["checks"][1]["result"], "warning");
    }
}
