//! `tidings join`: makes an account with an invite.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::json;
use tidings_client::ClientCore;
use tidings_client::driver::{Driver, Running};
use tidings_client::event::{ClientEffect, ClientEvent};
use tidings_protocol::address::UserName;
use tidings_protocol::client_frame::NameSource;
use tidings_protocol::invite::InviteText;
use tidings_protocol::limits::DEVICE_LABEL_BYTES_MAX;

use crate::device::{self, fault_text, next_effect, next_effect_or_fault};
use crate::exit::Stopped;
use crate::home::{Account, Home, HomeFolder, address, read_trust};
use crate::show;

/// Make an account at a node, with an invite from it.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  tidings join \"$(tidings invite --data acme)\" --name alice
  tidings join tidings:aeaq... --name alice --ca acme-ca.pem")]
pub(crate) struct Args {
    /// The invite's text, all of it.
    invite: InviteText,
    /// Your name there: a-z, 0-9, '.', '_' and '-'.
    #[arg(long)]
    name: String,
    /// What this device is called in your list of devices.
    #[arg(long, default_value = "command line", value_parser = parse_label)]
    label: String,
    /// Trust the certificates in this PEM file and no others, for a node whose organisation has an
    /// authority of its own. They are kept in the home as `ca.pem`.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    #[command(flatten)]
    folder: HomeFolder,
    /// Seconds to wait for the node.
    #[arg(long, default_value_t = 30)]
    timeout: u64,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

fn parse_label(text: &str) -> Result<String, String> {
    if text.len() > DEVICE_LABEL_BYTES_MAX {
        return Err(format!("a label has at most {DEVICE_LABEL_BYTES_MAX} bytes"));
    }
    Ok(text.to_owned())
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    UserName::parse(&args.name).context("reading --name")?;
    let home = args.folder.home()?;
    let account = Account {
        node: args.invite.node.to_text(),
        name: args.name.clone(),
        url: args.invite.url.clone(),
    };
    let ca = args.ca.as_deref().map(read_trust).transpose()?;
    let driver = open(&home, &account, &args.label)?;
    let trust = match ca {
        Some((trust, pem)) => {
            home.keep_trust(&pem)?;
            trust
        }
        None => home.trust()?,
    };
    // The one before was ended before it could say so: then only the rest is to be done.
    let is_joined = driver.core().is_joined();
    let mut named = Vec::new();
    let joined = show::block_on(async {
        let joining = join(device::start(driver, &account, &trust)?, args, is_joined, &mut named);
        tokio::time::timeout(Duration::from_secs(args.timeout), joining)
            .await
            .unwrap_or_else(|_| Err(Stopped::Unreachable { url: account.url.clone() }.into()))
    });
    if let Err(error) = joined {
        // Nothing was made at the node: the folder is free for another attempt.
        if matches!(error.downcast_ref(), Some(Stopped::Refused { .. })) {
            home.clear()?;
        }
        return Err(error);
    }
    home.keep_address(&account)?;
    let address = address(&account.peer()?);
    if args.json {
        show::json(&json!({ "address": address, "domain_addresses": named }));
    } else {
        say!("you are {address}");
        for named in named {
            say!("and {named}");
        }
    }
    Ok(())
}

/// A new device, or the one whose joining did not come to an end: the node may know it already.
fn open(home: &Home, account: &Account, label: &str) -> anyhow::Result<Driver> {
    let Some(known) = home.account()? else { return home.create(account, label) };
    let driver = home.open_device(&known)?;
    let is_same = (&known.node, &known.name) == (&account.node, &account.name);
    if driver.core().is_joined() {
        ensure!(
            is_same,
            "this is the home of {}: choose another one with --home",
            address(&known.peer()?)
        );
        return Ok(driver);
    }
    // No node has taken a device with too long a label: nothing is lost with it.
    let mut devices = driver.core().device_list().list.devices.iter();
    if is_same && devices.all(|device| device.label.len() <= DEVICE_LABEL_BYTES_MAX) {
        return Ok(driver);
    }
    drop(driver);
    home.create(account, label)
}

async fn join(
    mut running: Running,
    args: &Args,
    is_joined: bool,
    named: &mut Vec<String>,
) -> anyhow::Result<()> {
    let joined = ask_to_join(&mut running, args, is_joined).await;
    let joined = match joined {
        Ok(()) => domain_addresses(&mut running, &args.name, named).await,
        Err(error) => Err(error),
    };
    device::end(running, joined).await
}

async fn ask_to_join(running: &mut Running, args: &Args, is_joined: bool) -> anyhow::Result<()> {
    let handle = running.handle();
    handle.event(ClientEvent::Join { invite: args.invite.secret }).await?;
    let mut joined = is_joined;
    loop {
        let effect = match next_effect_or_fault(running).await? {
            Ok(effect) => effect,
            Err(fault) => {
                let (url, why) = (args.invite.url.clone(), fault_text(fault));
                return Err(Stopped::NotTrusted { url, why }.into());
            }
        };
        if let ClientEffect::JoinRefused(code) = effect {
            return Err(Stopped::Refused { why: code.advice() }.into());
        }
        joined |= effect == ClientEffect::Joined;
        if joined && effect == ClientEffect::Linked {
            break;
        }
    }
    // Others can write to this device while it is away only once its keys are at the node.
    device::until(&handle, ClientCore::is_settled).await
}

/// The addresses by domain under which others find the newcomer: those that the DNS confirms.
async fn domain_addresses(
    running: &mut Running,
    name: &str,
    named: &mut Vec<String>,
) -> anyhow::Result<()> {
    let handle = running.handle();
    for domain in handle.ask(|core, _| Ok(core.own_domains())).await? {
        handle.event(ClientEvent::Resolve { domain: domain.clone(), token: 0 }).await?;
        while !matches!(next_effect(running).await?, ClientEffect::Resolved { .. }) {}
        let names = handle.ask(|core, txn| core.names(txn)).await?;
        let mut bound = names.iter().filter(|view| view.source == NameSource::Dns);
        if bound.any(|view| view.domain == domain) {
            named.push(format!("{name}@{domain}"));
        }
    }
    Ok(())
}
