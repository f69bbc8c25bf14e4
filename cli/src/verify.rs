//! `tidings verify`: checks files of evidence, offline, with public keys alone.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tidings_protocol::codec;
use tidings_protocol::evidence::{
    EVIDENCE_VERSION, Evidence, Finding, IdlePart, ProvedSigner, TrustRoots, idle_parts, verify,
};
use tidings_protocol::id::NodeId;
use tidings_protocol::key::PublicKey;

use crate::exit::Stopped;
use crate::export::Roots;
use crate::progress::{self, Progress};
use crate::{show, style};

/// The most that is read of one file: evidence for one message has some thousand bytes.
const BYTES_MAX: u64 = 16 << 20;

/// Check evidence about a message. Needs no network, no node and no account.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  tidings verify hello.evidence --node <node id> --account <account key>
Only what is signed by the nodes and accounts that you name counts; compare their keys by other
means first. Exit code 0: every statement is proved; 6: not all.")]
pub(crate) struct Args {
    /// The files that `export` wrote.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A node that you trust to be who it is; may be repeated.
    #[arg(long, value_parser = parse_node)]
    node: Vec<NodeId>,
    /// An account key that you trust to be whose it is; may be repeated.
    #[arg(long, value_parser = parse_account)]
    account: Vec<PublicKey>,
    /// Print one line of JSON for each file.
    #[arg(long)]
    json: bool,
}

fn parse_node(text: &str) -> Result<NodeId, String> {
    NodeId::parse(text).map_err(|error| error.to_string())
}

fn parse_account(text: &str) -> Result<PublicKey, String> {
    let why = "an account key is 64 characters of 0-9 and a-f";
    PublicKey::from_hex(text).ok_or_else(|| why.to_owned())
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let roots = TrustRoots { nodes: args.node.clone(), accounts: args.account.clone() };
    let progress = (args.files.len() > 1).then(|| Progress::of(args.files.len(), "verifying"));
    let mut are_proved = true;
    for file in &args.files {
        let checked = check(file, &roots)?;
        are_proved &= checked.is_proved();
        progress::aside(|| checked.print(args));
        if let Some(progress) = &progress {
            progress.step();
        }
    }
    if are_proved { Ok(()) } else { Err(Stopped::NotProved.into()) }
}

/// One file.
struct Checked<'a> {
    file: &'a Path,
    evidence: Evidence,
    findings: Vec<Finding>,
    proved: usize,
    /// What no proved statement rests on, once all are proved.
    idle: Vec<IdlePart>,
}

fn check<'a>(file: &'a Path, roots: &TrustRoots) -> anyhow::Result<Checked<'a>> {
    let shown = file.display();
    let mut bytes = Vec::new();
    fs::File::open(file)
        .and_then(|from| from.take(BYTES_MAX + 1).read_to_end(&mut bytes))
        .with_context(|| format!("reading {shown}: name a file that `tidings export` wrote"))?;
    ensure!(
        bytes.len() as u64 <= BYTES_MAX,
        "{shown} is over {} MiB, which no evidence is: name a file that `tidings export` wrote",
        BYTES_MAX >> 20
    );
    let evidence: Evidence = codec::decode_canonical(&bytes).with_context(|| {
        format!("{shown} is no evidence: `tidings inspect {shown}` says what it is")
    })?;
    ensure!(
        evidence.version == EVIDENCE_VERSION,
        "{shown} has version {}; this program knows version {EVIDENCE_VERSION}: update it",
        evidence.version
    );
    let findings = verify(&evidence, roots);
    let proved = findings.iter().filter(|finding| finding.verdict.is_ok()).count();
    // While a statement is open, what it rests on is open too.
    let is_open = proved < findings.len();
    let idle = if is_open { Vec::new() } else { idle_parts(&evidence, roots) };
    Ok(Checked { file, evidence, findings, proved, idle })
}

impl Checked<'_> {
    const fn is_proved(&self) -> bool {
        self.proved > 0 && self.proved == self.findings.len() && self.idle.is_empty()
    }

    fn print(&self, args: &Args) {
        let Checked { file, evidence, findings, proved, idle } = self;
        if args.json {
            show::json(&json!({
                "file": file.display().to_string(),
                "message_label": evidence.message.to_string(),
                "statements": findings.iter().map(as_json).collect::<Vec<_>>(),
                "proved": proved,
                "idle": idle.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "nodes_named": Roots::nodes(evidence),
                "accounts_named": Roots::accounts(evidence),
            }));
            return;
        }
        if args.files.len() > 1 {
            style::line(style::paint(style::NAME, file.display()));
        }
        say!("message {}, as the exporter calls it; nothing here proves that", evidence.message);
        findings.iter().map(as_text).for_each(style::line);
        for part in idle {
            style::line(format!("{}      {part}", style::paint(style::BAD, "NOT")));
        }
        say!("{proved} of {} statements are proved", findings.len());
    }
}

fn as_text(finding: &Finding) -> String {
    let said = finding.statement.as_ref();
    let what = said.map_or_else(
        || "an unreadable statement".to_owned(),
        |said| format!("{} at {}", said.claim.name(), show::utc(said.at_ms)),
    );
    let line = match &finding.verdict {
        Ok(ProvedSigner::Node(node)) => {
            format!("{}   {what}, by node {}", style::paint(style::GOOD, "PROVED"), node.to_text())
        }
        Ok(ProvedSigner::Device { device, node, name, .. }) => {
            let proved = style::paint(style::GOOD, "PROVED");
            format!("{proved}   {what}, by device {device} of {name}@{}", node.to_text())
        }
        Err(doubt) => format!("{}      {what}: {doubt}", style::paint(style::BAD, "NOT")),
    };
    let about = said.map(|said| format!("\n         envelope {}", said.eid));
    let copy = said.and_then(|said| said.copy).map(|copy| format!("\n         copy {copy}"));
    [Some(line), about, copy].into_iter().flatten().collect()
}

fn as_json(finding: &Finding) -> Value {
    let said = finding.statement.as_ref();
    let signer = match &finding.verdict {
        Ok(ProvedSigner::Node(node)) => json!({ "node": node.to_text() }),
        Ok(ProvedSigner::Device { device, account, node, name }) => json!({
            "device": device.to_string(),
            "account": account.to_string(),
            "node": node.to_text(),
            "name": name.as_str(),
        }),
        Err(_) => Value::Null,
    };
    json!({
        "claim": said.map(|said| said.claim.name()),
        "envelope": said.map(|said| said.eid.to_string()),
        "copy": said.and_then(|said| said.copy).map(|copy| copy.to_string()),
        "at_ms": said.map(|said| said.at_ms),
        "proved": finding.verdict.is_ok(),
        "signer": signer,
        "doubt": finding.verdict.as_ref().err().map(ToString::to_string),
    })
}
