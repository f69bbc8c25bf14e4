//! `tidings trace`: the way of a message, hop by hop, each with what proves it; where the proofs end,
//! and who is the last that provably had it. From this device's store alone: it asks nobody and
//! guesses nothing. For outsiders there are `export` and `verify`.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tidings_client::StatusView;
use tidings_client::event::{MessageRef, Peer};
use tidings_client::rows::StatusEvent;
use tidings_node::clock;
use tidings_protocol::id::{DeviceId, MsgId, NodeId};
use tidings_protocol::statement::Claim;

use crate::device::parse_msg;
use crate::home::{HomeFolder, address};
use crate::{show, style};

/// Show the way of a message that you sent, hop by hop, and who provably had it last.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  tidings trace 0199c0ffee0000112233445566778899
Each step was signed by whom it names, and the signature is checked again here. To show the same to
somebody else: `tidings export`, and there `tidings verify`.")]
pub(crate) struct Args {
    /// The message's id, as `send` printed it.
    #[arg(value_parser = parse_msg)]
    message: MsgId,
    #[command(flatten)]
    folder: HomeFolder,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let (_, driver) = args.folder.home()?.open()?;
    let mut found: Option<(MessageRef, Vec<StatusView>)> = None;
    driver.view(&mut |core, txn| {
        if let Some(message) = core.find(txn, args.message)? {
            let statuses = core.statuses(txn, &message)?;
            found = Some((message, statuses));
        }
        Ok(())
    })?;
    let (message, statuses) = found.context("there is no such message here: check its id")?;
    ensure!(
        message.mine,
        "this message came from {}: its way is proved to the one who sent it",
        address(&message.peer)
    );
    let now_ms = clock::now_ms();
    let ways: Vec<Way> = statuses.iter().map(|view| Way::of(view, now_ms)).collect();
    if args.json {
        show::json(&json!({
            "message": message.msg.to_string(),
            "with": address(&message.peer),
            "devices": ways.iter().map(Way::as_json).collect::<Vec<_>>(),
        }));
        return Ok(());
    }
    say!("to {}", address(&message.peer));
    if ways.is_empty() {
        say!("it has not left this device: nothing is proved yet, and nothing is lost");
    }
    for way in &ways {
        way.print(&message.peer);
    }
    Ok(())
}

/// One signed step.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    claim: Claim,
    /// Absent for a device.
    node: Option<NodeId>,
    at_ms: u64,
    until_ms: Option<u64>,
    reason: Option<&'static str>,
    /// Hash of the batch that was signed, which names the evidence.
    root: Option<String>,
    /// The signature holds, and the key is the signer's.
    is_proved: bool,
}

/// Who provably has it.
#[derive(Debug, PartialEq, Eq)]
enum Holder {
    /// The device that wrote it.
    Writer,
    /// A node.
    Node(NodeId),
    /// The recipient's device.
    Recipient,
}

/// The way to one device.
#[derive(Debug)]
struct Way {
    device: DeviceId,
    /// In the order of the route, then of time.
    steps: Vec<Step>,
    /// The last that is proved to have it, and since when.
    holder: Holder,
    since_ms: Option<u64>,
    /// How it ended, if that is proved.
    end: Option<Claim>,
    /// Why it failed, and when, as this device knows by itself: nobody has signed that.
    failed_here: Option<(&'static str, u64)>,
    gaps: Vec<String>,
}

/// How far along the route a claim is.
const fn place(claim: Claim) -> u8 {
    match claim {
        Claim::Accepted => 0,
        Claim::Custody => 1,
        Claim::AtDest => 2,
        Claim::Undecryptable | Claim::Delivered | Claim::Failed | Claim::Closed => 3,
        Claim::Read => 4,
    }
}

/// A word that ends the way. What a device cannot open is sent again.
const fn is_end(claim: Claim) -> bool {
    matches!(claim, Claim::Delivered | Claim::Read | Claim::Failed | Claim::Closed)
}

impl Step {
    fn of(event: &StatusEvent) -> Option<Self> {
        let checked = event.proof.as_ref().map(|proof| proof.check().map_err(|_| ()));
        let root = match &checked {
            Some(Ok(checked)) => Some(checked.root.root.to_string()),
            Some(Err(())) | None => None,
        };
        Some(Self {
            claim: event.claim?,
            node: event.node,
            at_ms: event.at_ms,
            until_ms: event.until_ms,
            reason: event.reason.map(|reason| reason.name()),
            is_proved: event.key_checked && root.is_some(),
            root,
        })
    }

    fn by(&self) -> String {
        self.node
            .map_or_else(|| "that device".to_owned(), |node| format!("node {}", node.to_text()))
    }
}

impl Way {
    fn of(view: &StatusView, now_ms: u64) -> Self {
        let mut steps: Vec<Step> = view.events.iter().filter_map(Step::of).collect();
        steps.sort_by_key(|step| (place(step.claim), step.at_ms));
        let proved = || steps.iter().filter(|step| step.is_proved);
        let ended = proved().find(|step| is_end(step.claim));
        let is_held = |step: &&Step| {
            step.claim != Claim::Custody || step.until_ms.is_none_or(|until_ms| until_ms > now_ms)
        };
        let last = ended.or_else(|| proved().rfind(is_held));
        let holder = match last {
            None => Holder::Writer,
            Some(step) => step.node.map_or(Holder::Recipient, Holder::Node),
        };
        let known_here = |event: &StatusEvent| match (event.claim, event.reason) {
            (None, Some(reason)) => Some((reason.name(), event.at_ms)),
            (None, None) | (Some(_), _) => None,
        };
        // A way that somebody has proved to its end has ended so.
        let failed_here =
            if ended.is_some() { None } else { view.events.iter().rev().find_map(known_here) };
        let gaps = gaps(&steps, ended.map(|step| step.claim), now_ms);
        Self {
            device: view.device,
            holder,
            since_ms: last.map(|step| step.at_ms),
            end: ended.map(|step| step.claim),
            failed_here,
            steps,
            gaps,
        }
    }

    fn print(&self, peer: &Peer) {
        // Zeros stand for no device: it ended before it was sealed for one.
        if self.device == DeviceId([0; 16]) {
            say!("no device of {}: it was sealed for none", address(peer));
        } else {
            say!("device {}", self.device);
        }
        say!("  1. written here");
        for (number, step) in self.steps.iter().enumerate() {
            let word = if step.is_proved {
                style::paint(style::GOOD, "PROVED")
            } else {
                style::paint(style::BAD, "NOT PROVED")
            };
            let until = step.until_ms.map(|ms| format!(", until {}", show::relative(Some(ms))));
            let reason = step.reason.map(|reason| format!(" ({reason})"));
            style::line(format!(
                "  {}. {}{} by {}, {}{}: {word}",
                number + 2,
                step.claim.name(),
                reason.unwrap_or_default(),
                step.by(),
                show::relative(Some(step.at_ms)),
                until.unwrap_or_default(),
            ));
            if let Some(root) = &step.root {
                say!("       evidence: batch {root}");
            }
        }
        if let Some((reason, at_ms)) = self.failed_here {
            let word = style::paint(style::BAD, "NOT PROVED");
            let when = show::relative(Some(at_ms));
            style::line(format!("  -. failed ({reason}), known by this device, {when}: {word}"));
        }
        for gap in &self.gaps {
            style::line(format!("  {}: {gap}", style::paint(style::BAD, "gap")));
        }
        say!("  {}", self.verdict());
    }

    fn verdict(&self) -> String {
        let since = show::relative(self.since_ms);
        if let Some((reason, at_ms)) = self.failed_here {
            let when = show::relative(Some(at_ms));
            let holder = match &self.holder {
                Holder::Writer => "it has not left this device".to_owned(),
                Holder::Recipient => "that device had it last".to_owned(),
                Holder::Node(node) => format!("node {} had it last, {since}", node.to_text()),
            };
            return format!("ended: failed ({reason}), {when}, which nobody has signed; {holder}");
        }
        match (self.end, &self.holder) {
            (Some(Claim::Delivered | Claim::Read), _) => {
                format!("ended: that device has it, {since}")
            }
            (Some(claim), Holder::Node(node)) => {
                format!("ended: {} by node {}, {since}", claim.name(), node.to_text())
            }
            (Some(claim), Holder::Writer | Holder::Recipient) => {
                format!("ended: {}, {since}", claim.name())
            }
            (None, Holder::Writer) => "open: the last proven holder is this device".to_owned(),
            (None, Holder::Recipient) => {
                format!("open: the last proven holder is that device, {since}")
            }
            (None, Holder::Node(node)) => {
                format!("open: the last proven holder is node {}, {since}", node.to_text())
            }
        }
    }

    fn as_json(&self) -> Value {
        let step = |step: &Step| {
            json!({
                "claim": step.claim.name(),
                "node": step.node.map(|node| node.to_text()),
                "at_ms": step.at_ms,
                "until_ms": step.until_ms,
                "reason": step.reason,
                "proved": step.is_proved,
                "batch": step.root,
            })
        };
        let (holder, node) = match &self.holder {
            Holder::Writer => ("this_device", None),
            Holder::Node(node) => ("node", Some(node.to_text())),
            Holder::Recipient => ("that_device", None),
        };
        json!({
            "device": self.device.to_string(),
            "steps": self.steps.iter().map(step).collect::<Vec<_>>(),
            "ended": self.end.map(|claim| claim.name()),
            "holder": holder,
            "holder_node": node,
            "since_ms": self.since_ms,
            "failed_here": self.failed_here.map(|(reason, at_ms)| {
                json!({ "reason": reason, "at_ms": at_ms })
            }),
            "gaps": self.gaps,
        })
    }
}

/// The recipient's device has said that it has it.
fn is_there(end: Option<Claim>) -> bool {
    matches!(end, Some(Claim::Delivered | Claim::Read))
}

/// What a whole chain would have and this one has not. The recipient's node need not have spoken: where
/// the device was there, its own word comes at once.
fn gaps(steps: &[Step], end: Option<Claim>, now_ms: u64) -> Vec<String> {
    let has = |claim| steps.iter().any(|step| step.is_proved && step.claim == claim);
    let mut gaps = Vec::new();
    for step in steps.iter().filter(|step| !step.is_proved) {
        gaps.push(format!(
            "{} by {} is said, and cannot be traced to its root key here",
            step.claim.name(),
            step.by()
        ));
    }
    let reached = has(Claim::AtDest) || has(Claim::Custody) || is_there(end);
    if reached && !has(Claim::Accepted) {
        gaps.push("nothing proves that your node accepted it".to_owned());
    }
    let is_over = |step: &&Step| {
        let until_ms = step.until_ms.unwrap_or(u64::MAX);
        step.is_proved && step.claim == Claim::Custody && until_ms <= now_ms
    };
    if end.is_none() {
        gaps.extend(steps.iter().filter(is_over).map(|step| {
            format!(
                "{} held it until {}, and no end is proved",
                step.by(),
                show::relative(step.until_ms)
            )
        }));
    }
    gaps
}

#[cfg(test)]
mod tests {
    use tidings_protocol::{id::NodeId, statement::Claim};

    use super::{Step, gaps};

    fn step(claim: Claim, until_ms: Option<u64>, is_proved: bool) -> Step {
        let node = Some(NodeId([1; 32]));
        Step { claim, node, at_ms: 5, until_ms, reason: None, root: None, is_proved }
    }

    #[test]
    fn a_whole_chain_has_no_gap_and_each_missing_link_is_named() {
        let whole = [Claim::Accepted, Claim::Custody, Claim::AtDest, Claim::Delivered]
            .map(|claim| step(claim, None, true));
        assert_eq!(gaps(&whole, Some(Claim::Delivered), 9), Vec::<String>::new());
        let [accepted, _, at_dest, delivered] = whole;
        let named = |steps: &[Step], end, what: &str| {
            let gaps = gaps(steps, end, 9);
            assert!(gaps.len() == 1 && gaps[0].contains(what), "{gaps:?}");
        };
        named(&[accepted, step(Claim::Custody, Some(8), true)], None, "held it until");
        named(&[at_dest], None, "your node accepted");
        let at_once = [step(Claim::Accepted, None, true), delivered];
        assert_eq!(gaps(&at_once, Some(Claim::Delivered), 9), Vec::<String>::new());
        named(&[step(Claim::AtDest, None, false)], None, "cannot be traced");
    }
}
