//! `tidings contacts`: whom this device knows, safety numbers, and a changed account key.

use anyhow::{Context as _, ensure};
use serde_json::json;
use tidings_client::driver::Driver;
use tidings_client::event::{ClientEvent, Peer};
use tidings_client::{NameView, PeerView, safety};
use tidings_protocol::client_frame::NameSource;
use tidings_protocol::domain::Domain;
use tidings_protocol::id::NodeId;
use tidings_protocol::key::PublicKey;

use crate::device;
use crate::domain::{self, Domains, Recipient};
use crate::home::{Account, Home, HomeFolder, address};
use crate::{show, style};

/// Show whom you know, with the safety number of each; accept a changed account key.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  tidings contacts
  tidings contacts bob@globex.example --accept-node <the node id that they told you>
  tidings contacts bob --accept \"<the new number, once compared>\"
Both people see the same safety number, unless a node between them lies: read it to each other over \
the telephone, or hold the screens side by side.")]
pub(crate) struct Args {
    /// The address of one of them; all by default.
    who: Option<String>,
    /// Accept the changed account key of this contact, by the safety number that you have compared.
    #[arg(long, value_name = "SAFETY NUMBER", requires = "who")]
    accept: Option<String>,
    /// Accept that the domain in WHO stands for another node than before, for all of its people. They
    /// are new contacts then, with keys of their own.
    #[arg(long, value_name = "NODE ID", requires = "who", conflicts_with = "accept", value_parser = parse_node)]
    accept_node: Option<NodeId>,
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
    let who = args.who.as_deref().map(|who| account.recipient(who)).transpose()?;
    let names = domain::names(&driver)?;
    if let Some(node) = args.accept_node {
        let Some(Recipient::Named { domain, .. }) = who else {
            anyhow::bail!("name an address with the domain, like bob@globex.example");
        };
        return accept_node(&home, &account, driver, &names, (&domain, node), args.json);
    }
    let only = match &who {
        None => None,
        Some(to) => {
            let text = args.who.as_deref().unwrap_or_default();
            let known = domain::known(&driver, to)?;
            Some(known.with_context(|| format!(
                "{text} is not known here: its domain is looked up with the first `tidings send`"
            ))?)
        }
    };
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
        show(&contacts, &names, args.json);
        return Ok(());
    };
    let contact = contacts.pop().context("a contact to accept the key of")?;
    accept_key(&home, &account, driver, &contact, typed, args.json)
}

/// From now on the account key whose number was typed is the contact's.
fn accept_key(
    home: &Home,
    account: &Account,
    driver: Driver,
    contact: &Contact,
    typed: &str,
    as_json: bool,
) -> anyhow::Result<()> {
    let (Some(key), Some(number)) = (contact.view.offered_key, &contact.offered) else {
        anyhow::bail!("the account key of {} has not changed", address(&contact.view.peer));
    };
    ensure!(
        safety::is_same(typed, number),
        "that is not the safety number of the new key: compare `tidings contacts` on both sides again; \
         if the numbers differ, somebody stands between you"
    );
    let trust = home.trust()?;
    show::block_on(async {
        let running = device::start(driver, account, &trust)?;
        let peer = contact.view.peer.clone();
        let done = running.handle().event(ClientEvent::AcceptKey { peer, key }).await;
        device::end(running, done.map_err(Into::into)).await
    })?;
    let whose = address(&contact.view.peer);
    if as_json {
        show::json(&json!({ "accepted": whose }));
    } else {
        say!(
            "accepted the new account key of {whose}; what waited goes on with the next `send` or `inbox`"
        );
    }
    Ok(())
}

fn parse_node(text: &str) -> Result<NodeId, String> {
    NodeId::parse(text).map_err(|error| error.to_string())
}

/// From now on the domain stands for the node that the own node names.
fn accept_node(
    home: &Home,
    account: &Account,
    driver: Driver,
    names: &[NameView],
    (domain, node): (&Domain, NodeId),
    as_json: bool,
) -> anyhow::Result<()> {
    let offered = names.iter().find(|view| view.domain == *domain).and_then(|view| view.offered);
    let offered = offered.with_context(|| format!("nothing has changed about {domain}"))?;
    ensure!(
        offered == node,
        "your node says that {domain} is {}: that is not the node that you name",
        offered.to_text()
    );
    let trust = home.trust()?;
    show::block_on(async {
        let running = device::start(driver, account, &trust)?;
        let accepted = ClientEvent::AcceptNode { domain: domain.clone(), node };
        let done = running.handle().event(accepted).await;
        device::end(running, done.map_err(Into::into)).await
    })?;
    if as_json {
        show::json(&json!({ "domain": domain.as_str(), "accepted_node": node.to_text() }));
    } else {
        say!("{domain} stands for {} now; compare safety numbers with its people", node.to_text());
    }
    Ok(())
}

fn show(contacts: &[Contact], names: &[NameView], as_json: bool) {
    let name_of = |contact: &Contact| names.iter().find(|view| view.node == contact.view.peer.node);
    if as_json {
        let all = contacts.iter().map(|contact| {
            json!({
                "address": address(&contact.view.peer),
                "domain": name_of(contact).map(|name| name.domain.as_str()),
                "domain_source": name_of(contact).map(|name| name.source.name()),
                "domain_offered_node": name_of(contact).and_then(|name| name.offered).map(NodeId::to_text),
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
    let domains = Domains::of(names);
    for contact in contacts {
        let Contact { view, number, offered } = contact;
        let whose = domains.address(&view.peer);
        style::line(style::paint(style::NAME, &whose));
        if let Some(name) = name_of(contact) {
            let by = match name.source {
                NameSource::Dns => "by the DNS, and the node claims it",
                NameSource::Alias => "by an alias of your node's administrator",
            };
            say!("  node           {}", view.peer.node.to_text());
            say!("  domain         {by}");
        }
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
    for name in names {
        if let Some(offered) = name.offered {
            style::line(style::paint(style::BAD, format!("{} has changed", name.domain)));
            say!("  stands for     {}", name.node.to_text());
            say!("  your node says {}", offered.to_text());
            say!(
                "  next           ask them on another way, then `tidings contacts name@{} --accept-node \
                 <node id>`",
                name.domain
            );
        }
    }
}
