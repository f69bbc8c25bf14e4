//! The simulator on the command line: runs seeds, or replays one. Exits with 1 when a rule does not
//! hold, and prints the one command that shows it again.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line speaks")]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tidings_tests::{
    disk::StoreKind,
    options::{Options, Request, SealerKind},
    runner::{Outcome, run_caught},
    sabotage::Broken,
};

const HELP: &str = "\
Runs a whole federation in virtual time, from a seed.

  cargo sim --seed N            replay one seed
  cargo sim --seeds FROM..TO    run seeds; the default is 0..1000
  cargo sim --minutes M         run seeds from FROM on until M minutes have passed

  --step S                      with --seeds: every S-th seed
  --trace                       print what happens (with --seed)
  --store mem|redb              the store of every machine (default mem)
  --sealer stub|real            the encryption of every device (default stub)
  --broken NAME                 break a rule on purpose; --broken list names them
  --jobs J                      threads (default 2)
  --keep-going                  do not stop at the first violation; summarise them";

/// What the command line asks for.
struct Asked {
    from: u64,
    to: u64,
    step: u64,
    one: bool,
    minutes: Option<u64>,
    jobs: usize,
    keep_going: bool,
    base: Request,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)) {
        Ok(Some(asked)) => run_all(&asked),
        Ok(None) => ExitCode::SUCCESS,
        Err(wrong) => {
            eprintln!("{wrong}\n\n{HELP}");
            ExitCode::from(2)
        }
    }
}

fn parse(args: impl Iterator<Item = String>) -> Result<Option<Asked>, String> {
    let base = Request::of(0);
    let (from, to) = (0, 1_000);
    let (minutes, jobs) = (None, 2);
    let mut asked = Asked { from, to, step: 1, one: false, minutes, jobs, keep_going: false, base };
    let mut args = args;
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--help" | "-h" => {
                println!("{HELP}");
                return Ok(None);
            }
            "--seed" => {
                let seed = number(&value()?)?;
                (asked.from, asked.to, asked.one) = (seed, seed + 1, true);
            }
            "--seeds" => {
                let range = value()?;
                let (from, to) = range.split_once("..").ok_or("--seeds wants FROM..TO")?;
                (asked.from, asked.to) = (number(from)?, number(to)?);
            }
            "--minutes" => {
                asked.minutes = Some(number(&value()?)?);
                asked.to = u64::MAX;
            }
            "--step" => asked.step = number(&value()?)?.max(1),
            "--jobs" => asked.jobs = usize::try_from(number(&value()?)?).unwrap_or(1).max(1),
            "--trace" => asked.base.trace = true,
            "--keep-going" => asked.keep_going = true,
            "--store" => {
                asked.base.store = match value()?.as_str() {
                    "mem" => StoreKind::Mem,
                    "redb" => StoreKind::Redb,
                    other => return Err(format!("there is no store '{other}'")),
                };
            }
            "--sealer" => {
                asked.base.sealer = match value()?.as_str() {
                    "stub" => SealerKind::Stub,
                    "real" => SealerKind::Real,
                    other => return Err(format!("there is no sealer '{other}'")),
                };
            }
            "--broken" => {
                let name = value()?;
                if name == "list" {
                    Broken::ALL.iter().for_each(|(name, _)| println!("{name}"));
                    return Ok(None);
                }
                let broken = Broken::parse(&name).ok_or(format!("there is no '{name}'"))?;
                asked.base.broken = Some(broken);
            }
            other => return Err(format!("'{other}' is not understood")),
        }
    }
    Ok(Some(asked))
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("'{text}' is not a number"))
}

#[expect(clippy::disallowed_methods, reason = "real minutes, which no seed sees")]
fn run_all(asked: &Asked) -> ExitCode {
    if asked.one {
        println!("seed {}: {}", asked.from, Options::of(asked.from));
    }
    let next = AtomicU64::new(asked.from);
    let stop_at = Mutex::new(asked.to);
    let results = Mutex::new(Summary::default());
    let began = Instant::now();
    let time_is_up = || {
        let limit = asked.minutes.map(|minutes| Duration::from_secs(minutes.saturating_mul(60)));
        limit.is_some_and(|limit| began.elapsed() >= limit)
    };
    thread::scope(|scope| {
        for _ in 0..asked.jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(asked.step, Ordering::Relaxed);
                    if seed >= get(&stop_at) || time_is_up() {
                        return;
                    }
                    let outcome = run_caught(Request { seed, ..asked.base });
                    let failed = outcome.violation.is_some();
                    report(asked, seed, &outcome);
                    if let Ok(mut summary) = results.lock() {
                        summary.add(seed, outcome);
                    }
                    if failed && !asked.keep_going {
                        set(&stop_at, 0);
                    }
                }
            });
        }
    });
    let summary = results.into_inner().unwrap_or_default();
    summary.print();
    if summary.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn get(cell: &Mutex<u64>) -> u64 {
    cell.lock().map_or(0, |value| *value)
}

fn set(cell: &Mutex<u64>, to: u64) {
    if let Ok(mut value) = cell.lock() {
        *value = to;
    }
}

fn report(asked: &Asked, seed: u64, outcome: &Outcome) {
    outcome.lines.iter().for_each(|line| println!("{line}"));
    if let Some(violation) = &outcome.violation {
        println!("seed {seed}: {violation}");
        println!("  {}", Options::of(seed));
        println!("  replay: {} --trace", Request { seed, ..asked.base }.command());
    }
    if asked.one {
        let hash: String =
            outcome.trace_hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        println!(
            "trace {hash}, {} steps in {} virtual s",
            outcome.steps,
            outcome.virtual_ms / 1_000
        );
    }
}

#[derive(Default)]
struct Summary {
    seeds: u64,
    steps: u64,
    messages: u64,
    counts: BTreeMap<&'static str, u64>,
    violations: BTreeMap<&'static str, Vec<u64>>,
}

impl Summary {
    fn add(&mut self, seed: u64, outcome: Outcome) {
        self.seeds += 1;
        self.steps += outcome.steps;
        self.messages += outcome.messages;
        for (what, count) in outcome.counts {
            *self.counts.entry(what).or_default() += count;
        }
        if let Some(violation) = outcome.violation {
            self.violations.entry(violation.id).or_default().push(seed);
        }
    }

    fn print(&self) {
        println!("{} seeds, {} messages, {} steps", self.seeds, self.messages, self.steps);
        let counts: Vec<String> =
            self.counts.iter().map(|(what, count)| format!("{what} {count}")).collect();
        println!("seen: {}", counts.join(", "));
        for (id, seeds) in &self.violations {
            let first: Vec<String> = seeds.iter().take(12).map(u64::to_string).collect();
            println!("{id} does not hold in {} seeds: {} ..", seeds.len(), first.join(" "));
        }
    }
}
