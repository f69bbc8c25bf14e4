//! `tidings contacts`: whom this device knows, safety numbers, and a changed account key.

use anyhow::{Context as _, ensure};
use serde_json::json;
use tidings_client::event::{ClientEvent, Peer};
use tidings_client::{PeerView, safety};
use tidings_protocol::key::PublicKey;

use crate::device;
use crate::home::{HomeFolder, address};
use crate::{show, style};

/// Show whom you know, with the safety number of each; accept a changed account key.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  tidings contacts
  tidings contacts bob --accept \"<the new number, once compared>\"
Both people see the same safety number, unless a node between them lies: read it to each other over \
the telephone, or hold the screens side by side.")]
pub(crate) struct Args {
    /// The address of one of them; all by default.
    who: Option<String>,
    /// Accept the changed account key of this contact, by the safety number that you have compared.
    #[arg(long, value_name = "SAFETY NUMBER", requires = "who")]
    accept: Option<String>,
    #[command(flatten)]
    folder: HomeFolder,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

/// A contact, and what to compare.
struct Contact {
    view: PeerView,
    number: Option<String>,
    offered: Option<String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let home = args.folder.home()?;
    let (account, driver) = home.open()?;
    let only = args.who.as_deref().map(|who| account.recipient(who)).transpose()?;
    let me = account.peer()?;
    let mut contacts = Vec::new();
    driver.view(&mut |core, txn| {
        let own = core.device_list().list.identity;
        let number = |key: &PublicKey, peer: &Peer| safety::safety_number((&own, &me), (key, peer));
        let known = core.peers(txn)?;
        let wanted =
            known.into_iter().filter(|view| only.as_ref().is_none_or(|it| view.peer == *it));
        contacts = wanted
            .map(|view| Contact {
                number: view.account_key.map(|key| number(&key, &view.peer)),
                offered: view.offered_key.map(|key| number(&key, &view.peer)),
                view,
            })
            .collect();
        Ok(())
    })?;
    if let Some(who) = &only {
        ensure!(
            !contacts.is_empty(),
            "{} is not known here: the key comes with the first message from or to them",
            address(who)
        );
    }
    let Some(typed) = &args.accept else {
        show(&contacts, args.json);
        return Ok(());
    };
    let contact = contacts.pop().context("a contact to accept the key of")?;
    let (Some(key), Some(number)) = (contact.view.offered_key, contact.offered) else {
        anyhow::bail!("the account key of {} has not changed", address(&contact.view.peer));
    };
    ensure!(
        safety::is_same(typed, &number),
        "that is not the safety number of the new key: compare `tidings contacts` on both sides again; \
         if the numbers differ, somebody stands between you"
    );
    let trust = home.trust()?;
    show::block_on(async {
        let running = device::start(driver, &account, &trust)?;
        let peer = contact.view.peer.clone();
        let done = running.handle().event(ClientEvent::AcceptKey { peer, key }).await;
        device::end(running, done.map_err(Into::into)).await
    })?;
    let whose = address(&contact.view.peer);
    if args.json {
        show::json(&json!({ "accepted": whose }));
    } else {
        say!(
            "accepted the new account key of {whose}; what waited goes on with the next `send` or `inbox`"
        );
    }
    Ok(())
}

fn show(contacts: &[Contact], as_json: bool) {
    if as_json {
        let all = contacts.iter().map(|contact| {
            json!({
                "address": address(&contact.view.peer),
                "account_key": contact.view.account_key.map(|key| key.to_string()),
                "safety_number": contact.number,
                "devices": contact.view.devices.len(),
                "offered_key": contact.view.offered_key.map(|key| key.to_string()),
                "offered_safety_number": contact.offered,
            })
        });
        show::json(&all.collect());
        return;
    }
    if contacts.is_empty() {
        style::note("nobody yet: `tidings send` or `tidings chat` with an address begins");
    }
    for Contact { view, number, offered } in contacts {
        let whose = address(&view.peer);
        style::line(style::paint(style::NAME, &whose));
        say!("  safety number  {}", number.as_deref().unwrap_or("not known yet"));
        say!("  devices        {}", view.devices.len());
        if let Some(offered) = offered {
            style::line(style::paint(style::BAD, "  the account key has changed"));
            say!("  new number     {offered}");
            say!(
                "  next           compare it with them, then `tidings contacts {whose} --accept '<new number>'`"
            );
        }
    }
}
