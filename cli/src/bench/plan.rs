//! Which scenario is run with which sizes: the quick set, the whole set, and what the command line
//! asks for instead. Runs nothing by itself but what it hands on.

use std::time::Duration;

use anyhow::{bail, ensure};
use clap::ValueEnum;

use super::Context;
use super::away::{NodeAway, drain};
use super::beside::Beside;
use super::flow::{Flow, Victim};
use super::idle::Idle;
use super::ledger::Stage;
use super::real::Real;
use super::report::Report;
use super::run::Load;
use super::world::Shape;

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Scenario {
    /// Two nodes, one message at a time.
    Latency,
    /// Two nodes, many senders, with receipts.
    Throughput,
    /// The same on one node.
    Local,
    /// Throughput at nodes with very many accounts.
    Crowd,
    /// Everything waits for one device, then it comes.
    Drain,
    /// Devices that are connected and say nothing, plain and with TLS.
    Idle,
    /// Either node is killed with -9 under load.
    Kill,
    /// The recipients' node is down while messages are sent to it.
    Outage,
    /// The same with very many messages.
    Backlog,
    /// One message at a time, while a third node is well, stands still, is down, and comes back to
    /// fifty times as many.
    Beside,
}

/// What needs no hand on the nodes: for real clients, and for two nodes that run already.
const WITHOUT_HANDS: [Scenario; 2] = [Scenario::Latency, Scenario::Throughput];

/// Sizes of the quick and of the whole set.
struct Sizes {
    quick: usize,
    full: usize,
}

impl Scenario {
    /// The scenarios that were asked for.
    pub(super) fn wanted(asked: &[Self], real: bool, told: usize) -> anyhow::Result<Vec<Self>> {
        let (all, what) = match (real, told) {
            (false, 0) => (Self::value_variants(), ""),
            (true, 0) => (&WITHOUT_HANDS[..], "--real goes with latency and throughput"),
            (false, 1) => (&[Self::Local][..], "one --at goes with local"),
            (false, 2) => (&WITHOUT_HANDS[..], "two --at go with latency and throughput"),
            (true, _) => bail!("--real starts nodes of its own: leave out --real or --at"),
            (false, _) => bail!("--at names the senders' node, and once more the recipients'"),
        };
        if asked.is_empty() {
            return Ok(all.to_vec());
        }
        for scenario in asked {
            ensure!(all.contains(scenario), "{what}: leave it out, or name one of these");
        }
        // Each once, in the order of asking.
        let mut wanted = Vec::new();
        for scenario in asked {
            if !wanted.contains(scenario) {
                wanted.push(*scenario);
            }
        }
        Ok(wanted)
    }

    const fn sizes(self) -> Sizes {
        match self {
            Self::Latency => Sizes { quick: 1_000, full: 5_000 },
            Self::Throughput | Self::Local | Self::Crowd => Sizes { quick: 50_000, full: 300_000 },
            Self::Drain => Sizes { quick: 20_000, full: 20_000 },
            Self::Idle => Sizes { quick: 2_000, full: 10_000 },
            Self::Kill => Sizes { quick: 20_000, full: 100_000 },
            Self::Outage => Sizes { quick: 5_000, full: 5_000 },
            Self::Backlog => Sizes { quick: 20_000, full: 1_000_000 },
            Self::Beside => Sizes { quick: 500, full: 4_000 },
        }
    }

    /// Runs it, in one or several variants, and hands on each report as it comes.
    pub(super) async fn run(
        self,
        context: &Context<'_>,
        tell: &mut dyn FnMut(Report),
    ) -> anyhow::Result<()> {
        let args = context.args;
        let pairs = args.senders.map_or(if args.real { 20 } else { 100 }, usize::from);
        let window = usize::from(args.window);
        let Sizes { quick, full } = self.sizes();
        let usual = if args.full { full } else { quick };
        let asked = args.messages.map(|messages| usize::try_from(messages).unwrap_or(usual));
        let load = |window, until| Load {
            messages: asked.unwrap_or(usual),
            window,
            until,
            body_bytes: usize::from(args.body),
        };
        let (waiting, ticked) = (load(window, Stage::Accepted), load(window, Stage::Ticked));
        let flow = |name, shape| Flow { name, shape, senders: pairs, crowd: 0, load: ticked };
        match self {
            Self::Latency if args.real => tell(Real::latency(asked, args.full).run(context).await?),
            Self::Throughput if args.real => {
                tell(Real::throughput(asked, args.full, pairs, window).run(context).await?);
            }
            Self::Latency => {
                let one = load(1, Stage::Ticked);
                let alone = flow("latency", Shape::Federated);
                tell(Flow { senders: 1, load: one, ..alone }.run(context, None).await?);
            }
            Self::Throughput => {
                tell(flow("throughput", Shape::Federated).run(context, None).await?)
            }
            Self::Local => tell(flow("local", Shape::Local).run(context, None).await?),
            Self::Crowd => {
                let crowd = if args.full { 100_000 } else { 2_000 };
                let among = Flow { crowd, ..flow("crowd", Shape::Federated) };
                tell(among.run(context, None).await?);
            }
            Self::Drain => tell(drain(context, pairs, waiting).await?),
            Self::Idle => {
                for idle in idles(context, usual) {
                    tell(idle.run(context).await?);
                }
            }
            Self::Kill => {
                for (name, victim) in [("kill-acme", Victim::Acme), ("kill-globex", Victim::Globex)]
                {
                    tell(flow(name, Shape::Federated).run(context, Some(victim)).await?);
                }
            }
            Self::Outage => {
                let away = args.away.unwrap_or(if args.full { 60 } else { 5 });
                let away = Duration::from_secs(u64::from(away));
                tell(NodeAway { name: "outage", pairs, load: waiting, away }.run(context).await?);
            }
            Self::Backlog => {
                let away = Duration::from_secs(args.away.map_or(0, u64::from));
                tell(NodeAway { name: "backlog", pairs, load: waiting, away }.run(context).await?);
            }
            Self::Beside => {
                let measured = load(1, Stage::Ticked);
                Beside { pairs, measured, window }.run(context, tell).await?;
            }
        }
        Ok(())
    }
}

fn idles(context: &Context<'_>, usual: usize) -> [Idle; 2] {
    let asked = context.args.connections.map(usize::from);
    // This process needs some files beside its connections, the node as well.
    let files = context.open_files_max.saturating_sub(500);
    let connections = asked.unwrap_or(usual).min(files).max(1);
    // Long enough for each device to ask twice whether the node is there.
    let hold = Duration::from_secs(if context.args.full { 65 } else { 5 });
    [("idle", false), ("idle-tls", true)].map(|(name, with_tls)| Idle {
        name,
        connections,
        hold,
        with_tls,
    })
}

#[cfg(test)]
mod tests {
    use super::Scenario;

    #[test]
    fn real_clients_go_with_two_scenarios() {
        assert_eq!(Scenario::wanted(&[], false, 0).unwrap().len(), 10);
        assert_eq!(Scenario::wanted(&[], true, 0).unwrap().len(), 2);
        let twice = [Scenario::Kill, Scenario::Latency, Scenario::Kill];
        let once = [Scenario::Kill, Scenario::Latency];
        assert_eq!(Scenario::wanted(&twice, false, 0).unwrap(), once);
        assert!(Scenario::wanted(&[Scenario::Latency], true, 0).is_ok());
        let refused = Scenario::wanted(&[Scenario::Kill], true, 0).unwrap_err();
        assert!(refused.to_string().contains("latency and throughput"));
    }

    #[test]
    fn nodes_that_run_already_are_not_stopped() {
        assert_eq!(Scenario::wanted(&[], false, 1).unwrap(), [Scenario::Local]);
        assert!(Scenario::wanted(&[Scenario::Throughput], false, 2).is_ok());
        for (asked, real, told) in [
            (Scenario::Kill, false, 2),
            (Scenario::Local, false, 2),
            (Scenario::Latency, false, 1),
            (Scenario::Latency, true, 2),
            (Scenario::Latency, false, 3),
        ] {
            assert!(Scenario::wanted(&[asked], real, told).is_err(), "{asked:?} {real} {told}");
        }
    }
}
