//! Domains in addresses, as people type and read them: from what was typed to a node id, by what is
//! pinned in the home or by asking the own node; and back, for showing. What is pinned, and when, is the
//! client's part.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use tidings_client::crypto::PqSealer;
use tidings_client::driver::{Driver, Running};
use tidings_client::event::{ClientEffect, ClientEvent, NameError, Peer};
use tidings_client::{ClientCore, NameView};
use tidings_protocol::address::{Address, Host, UserName};
use tidings_protocol::domain::Domain;
use tidings_protocol::id::NodeId;
use tidings_store::{StoreError, Txn};
use tokio::time::timeout;

use crate::device::next_effect;
use crate::exit::Stopped;
use crate::home::{Account, address};

/// Who is meant by what a person typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Recipient {
    /// Somebody at a node.
    Peer(Peer),
    /// Somebody at the node that a domain stands for.
    Named { name: UserName, domain: Domain },
}

impl Account {
    /// Who is meant by what a person typed: an address, or a bare name at the own node.
    pub(crate) fn recipient(&self, text: &str) -> anyhow::Result<Recipient> {
        if !text.contains('@') {
            let name = UserName::parse(text).with_context(|| format!("reading '{text}'"))?;
            return Ok(Recipient::Peer(Peer { name, ..self.peer()? }));
        }
        let address = Address::parse(text).with_context(|| format!("reading '{text}'"))?;
        Ok(match address.host {
            Host::Node(node) => Recipient::Peer(Peer { node, name: address.name }),
            Host::Domain(domain) => Recipient::Named { name: address.name, domain },
        })
    }
}

/// Who that is, as far as it is known here without asking anybody.
pub(crate) fn known(driver: &Driver, to: &Recipient) -> anyhow::Result<Option<Peer>> {
    match to {
        Recipient::Peer(peer) => Ok(Some(peer.clone())),
        Recipient::Named { name, domain } => {
            let pinned = names(driver)?.into_iter().find(|view| view.domain == *domain);
            Ok(pinned.map(|view| Peer { node: view.node, name: name.clone() }))
        }
    }
}

/// All domains that are pinned in this home.
pub(crate) fn names(driver: &Driver) -> anyhow::Result<Vec<NameView>> {
    let mut names = Vec::new();
    driver.view(&mut |core, txn| {
        names = core.names(txn)?;
        Ok(())
    })?;
    Ok(names)
}

/// Who that is, by what is pinned or by asking the own node. What is pinned is compared with the node's
/// answer on the way; a difference is said as a warning.
pub(crate) async fn resolve(
    running: &mut Running,
    to: &Recipient,
    within: Duration,
) -> anyhow::Result<Peer> {
    let (name, domain) = match to {
        Recipient::Peer(peer) => return Ok(peer.clone()),
        Recipient::Named { name, domain } => (name.clone(), domain.clone()),
    };
    let asked = ClientEvent::Resolve { domain: domain.clone(), token: 0 };
    running.handle().event(asked).await?;
    let answer = async {
        loop {
            if let ClientEffect::Resolved { found, .. } = next_effect(running).await? {
                return anyhow::Ok(found);
            }
        }
    };
    match timeout(within, answer).await {
        Ok(found) => match found? {
            Ok(node) => Ok(Peer { node, name }),
            Err(error) => Err(no_name(&domain, error).into()),
        },
        Err(_) => {
            let why = "your node did not answer in time: run the same command again".to_owned();
            Err(Stopped::NoName { domain: domain.to_string(), why, may_retry: true }.into())
        }
    }
}

/// Why a domain led nowhere.
pub(crate) fn no_name(domain: &Domain, error: NameError) -> Stopped {
    let may_retry = matches!(error, NameError::Refused(code) if code.may_retry());
    Stopped::NoName { domain: domain.to_string(), why: error.to_string(), may_retry }
}

/// A node under the domain by which the person knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Domains(BTreeMap<NodeId, Domain>);

impl Domains {
    pub(crate) fn of(views: &[NameView]) -> Self {
        // Of several the first in the order of the alphabet.
        let pairs = views.iter().rev().map(|view| (view.node, view.domain.clone()));
        Self(pairs.collect())
    }

    pub(crate) fn read(core: &ClientCore<PqSealer>, txn: &dyn Txn) -> Result<Self, StoreError> {
        Ok(Self::of(&core.names(txn)?))
    }

    pub(crate) fn get(&self, node: &NodeId) -> Option<&Domain> {
        self.0.get(node)
    }

    /// What stands behind the @.
    pub(crate) fn host(&self, node: NodeId) -> String {
        self.get(&node).map_or_else(|| node.to_text(), Domain::to_string)
    }

    /// An address as the person knows it.
    pub(crate) fn address(&self, peer: &Peer) -> String {
        match self.get(&peer.node) {
            Some(domain) => format!("{}@{domain}", peer.name),
            None => address(peer),
        }
    }
}

#[cfg(test)]
mod tests {
    use tidings_client::NameView;
    use tidings_protocol::client_frame::NameSource;
    use tidings_protocol::domain::Domain;
    use tidings_protocol::id::NodeId;

    use super::{Domains, Recipient};
    use crate::home::{Account, address};

    fn account() -> Account {
        let (node, name) = (NodeId([1; 32]).to_text(), "alice".to_owned());
        Account { node, name, url: "ws://localhost".to_owned() }
    }

    #[test]
    fn a_bare_name_is_somebody_at_the_own_node() {
        let [acme, globex] = [NodeId([1; 32]), NodeId([2; 32])];
        let peer = |text: &str| match account().recipient(text).unwrap() {
            Recipient::Peer(peer) => peer,
            Recipient::Named { domain, .. } => panic!("{domain}"),
        };
        let bob = peer("bob");
        assert_eq!((bob.node, bob.name.as_str()), (acme, "bob"));
        let carol = peer(&format!("carol@{}", globex.to_text()));
        assert_eq!(carol.node, globex);
        assert_eq!(peer(&address(&carol)), carol);
        assert!(account().recipient("Carol").is_err());
    }

    #[test]
    fn a_domain_is_read_and_shown_in_its_one_form() {
        let named = account().recipient("carol@GLOBEX.example").unwrap();
        let Recipient::Named { name, domain } = named else { panic!("{named:?}") };
        assert_eq!((name.as_str(), domain.as_str()), ("carol", "globex.example"));
        let error = account().recipient("carol@gl\u{f6}bex.example").unwrap_err();
        assert!(format!("{error:#}").contains("xn--"), "{error:#}");
        let view = |domain: &str| NameView {
            domain: Domain::parse(domain).unwrap(),
            node: NodeId([2; 32]),
            source: NameSource::Dns,
            since_ms: 1,
            offered: None,
        };
        let domains = Domains::of(&[view("a.example"), view("globex.example")]);
        assert_eq!(domains.host(NodeId([2; 32])), "a.example");
        assert_eq!(domains.host(NodeId([3; 32])), NodeId([3; 32]).to_text());
    }
}
