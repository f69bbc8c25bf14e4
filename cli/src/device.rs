//! A person's device while a command runs it, and the words in which it is shown.

use std::time::Duration;

use anyhow::bail;
use tidings_client::driver::{Driver, DriverError, Handle, Running, Trust};
use tidings_client::event::{CertificateFault, ClientEffect, CloseWhy, Status, StopWhy, Warning};
use tidings_client::{ClientCore, crypto::PqSealer};
use tidings_protocol::id::MsgId;
use tidings_protocol::refusal::RefusalCode;
use tidings_protocol::statement::Reason;

use crate::exit::Stopped;
use crate::home::{Account, address};
use crate::style;

/// How often a device is asked how far it is.
const BEAT: Duration = Duration::from_millis(20);

/// Runs a device.
pub(crate) fn start(driver: Driver, account: &Account, trust: &Trust) -> anyhow::Result<Running> {
    Ok(driver.start(&account.url, trust)?)
}

/// The next effect; what a person should know beside it is said on the way.
pub(crate) async fn next_effect(running: &mut Running) -> anyhow::Result<ClientEffect> {
    loop {
        match next_effect_or_fault(running).await? {
            Ok(effect) => return Ok(effect),
            Err(fault) => warn(&Warning::Certificate(fault)),
        }
    }
}

/// The same for who would rather stop when the node's certificate is not accepted.
pub(crate) async fn next_effect_or_fault(
    running: &mut Running,
) -> anyhow::Result<Result<ClientEffect, CertificateFault>> {
    loop {
        match running.effect().await {
            Some(ClientEffect::Warn(Warning::Certificate(fault))) => return Ok(Err(fault)),
            Some(ClientEffect::Warn(warning)) => warn(&warning),
            // To connect again would only bring the same answer.
            Some(ClientEffect::CloseLink(CloseWhy::Refused(RefusalCode::NotAuthorised))) => {
                return Err(Stopped::NotListed.into());
            }
            Some(ClientEffect::CloseLink(CloseWhy::Refused(code))) if !code.may_retry() => {
                return Err(Stopped::LinkRefused { why: refusal_text(code) }.into());
            }
            Some(ClientEffect::CloseLink(why)) => {
                if let Some(text) = close_text(why) {
                    style::note(text);
                }
            }
            Some(ClientEffect::Stopped(StopWhy::Removed)) => return Err(Stopped::NotListed.into()),
            Some(ClientEffect::Stopped(why @ StopWhy::RolledBack)) => {
                return Err(Stopped::RolledBack(why).into());
            }
            Some(effect) => return Ok(Ok(effect)),
            None => bail!("the device ended by itself"),
        }
    }
}

/// Ends a device, whatever came of its work. Why it ended by itself, as on a full disk, comes before
/// what followed from that.
pub(crate) async fn end<T>(running: Running, done: anyhow::Result<T>) -> anyhow::Result<T> {
    match running.stop().await {
        Ok(()) | Err(DriverError::Gone) => done,
        Err(error) => Err(error.into()),
    }
}

/// How often a device is asked.
pub(crate) fn beat() -> tokio::time::Interval {
    tokio::time::interval(BEAT)
}

/// Waits until a question to the core is answered with yes. Effects have to be read meanwhile.
pub(crate) async fn until(
    handle: &Handle,
    is_so: fn(&ClientCore<PqSealer>) -> bool,
) -> anyhow::Result<()> {
    let mut beat = beat();
    loop {
        beat.tick().await;
        if handle.ask(move |core, _| Ok(is_so(core))).await? {
            return Ok(());
        }
    }
}

/// A message id as `send` printed it.
pub(crate) fn parse_msg(text: &str) -> Result<MsgId, String> {
    MsgId::from_hex(text).ok_or_else(|| "a message id is 32 characters of 0-9 and a-f".to_owned())
}

/// The word for a status, in `--json` too.
pub(crate) fn status_word(status: Status) -> &'static str {
    match status {
        Status::Queued => "queued",
        Status::Accepted => "accepted",
        Status::Held => "held",
        Status::AtDest => "at_destination",
        Status::Failed(_) => "failed",
        Status::Delivered => "delivered",
        Status::Read => "read",
    }
}

/// The same on a terminal: what was read is blue.
pub(crate) fn status_line(status: Status) -> String {
    let text = status_text(status);
    match status {
        Status::Read => style::paint(style::READ, text),
        Status::Failed(_) => style::paint(style::BAD, text),
        Status::Queued | Status::Accepted | Status::Held | Status::AtDest | Status::Delivered => {
            text
        }
    }
}

/// What a person sees.
pub(crate) fn status_text(status: Status) -> String {
    match status {
        Status::Queued => "waiting: it leaves when the node can be reached".to_owned(),
        Status::Accepted => "✓ accepted by your node".to_owned(),
        Status::Held => "✓ held by a custodian".to_owned(),
        Status::AtDest => "✓ at the recipient's node".to_owned(),
        Status::Failed(reason) => {
            let reason = reason.map_or("for an unknown reason", reason_text);
            format!("failed: {reason}")
        }
        Status::Delivered => "✓✓ delivered, signed by the recipient's device".to_owned(),
        Status::Read => "✓✓ read, signed by the recipient's device".to_owned(),
    }
}

/// Why a message will not be delivered, and what to do.
const fn reason_text(reason: Reason) -> &'static str {
    match reason {
        Reason::Expired => "its time ran out before it could be delivered: send it again",
        Reason::UnknownRecipient => "there is no such user or device there: check the address",
        Reason::DeviceRemoved => "that device was removed from its account",
        Reason::Policy => "one of the two nodes does not accept it: ask your administrator",
        Reason::TooLarge => "it is too large for the other node: send less at a time",
        Reason::Malformed => "it breaks a rule of the protocol: update the program",
        Reason::AccountDeleted => "the account was deleted",
        Reason::Dropped => "an administrator dropped it: send it again",
        Reason::Poison => "that device could not take it and set it aside",
        Reason::Retired => "that node is gone for good: ask for the person's new address",
    }
}

/// Why the link was ended, where a person can do something about it.
pub(crate) fn close_text(why: CloseWhy) -> Option<String> {
    match why {
        CloseWhy::NotOurNode => Some("this is another node than yours: check its URL".to_owned()),
        CloseWhy::Broke => Some("the node broke a rule of the protocol: update both".to_owned()),
        CloseWhy::Refused(code) => {
            Some(format!("the node refused the link: {}", refusal_text(code)))
        }
        CloseWhy::Silent
        | CloseWhy::Goaway { .. }
        | CloseWhy::NewDeviceId
        | CloseWhy::NotListed => None,
    }
}

/// Why the node does not serve this device, and what to do. Some codes are answers to the device lists
/// that it was shown, for it had forgotten them.
const fn refusal_text(code: RefusalCode) -> &'static str {
    match code {
        RefusalCode::BadInvite => {
            "it does not know this account any more, since it was put back to a copy from before you \
             joined. Ask its administrator for an invite, and use it with the same name and folder: \
             `tidings join`. If you just did: that invite is unknown, used up or too old"
        }
        RefusalCode::NameTaken => {
            "it was put back to a copy from before you joined, and somebody else has your name there by \
             now. `inbox --all` still shows what is here; to go on, join with an invite under another \
             name, into another folder"
        }
        RefusalCode::Conflict => {
            "it was put back, and another device of this account has gone on from there with another \
             list of devices. `inbox --all` still shows what is here; to go on, link this device again, \
             or join with an invite into another folder"
        }
        RefusalCode::Busy
        | RefusalCode::Quota
        | RefusalCode::Draining
        | RefusalCode::Expired
        | RefusalCode::TooLarge
        | RefusalCode::Malformed
        | RefusalCode::Refused
        | RefusalCode::UnknownRecipient
        | RefusalCode::NotAuthorised
        | RefusalCode::WrongNode
        | RefusalCode::Unreachable
        | RefusalCode::Version
        | RefusalCode::RolledBack
        | RefusalCode::StaleKey
        | RefusalCode::Retired
        | RefusalCode::UnknownDomain
        | RefusalCode::UnboundDomain
        | RefusalCode::Loop
        | RefusalCode::HopLimit => code.advice(),
    }
}

/// What is wrong with the node's certificate, and what to do.
pub(crate) const fn fault_text(fault: CertificateFault) -> &'static str {
    match fault {
        CertificateFault::UnknownIssuer => {
            "the node's certificate is signed by nobody that you trust: if the organisation has an \
             authority of its own, get its certificate from them and `tidings join` with --ca; \
             else do not go on"
        }
        CertificateFault::OutOfDate => {
            "the node's certificate is out of date: check the time of this machine, and ask the \
             node's administrator to renew it"
        }
        CertificateFault::OtherName => {
            "the node's certificate is for another name than that of its URL: ask the node's \
             administrator for one that names it"
        }
        CertificateFault::Unusable => {
            "the node's certificate cannot be used for a server: ask its administrator for one that \
             is not an authority's own"
        }
    }
}

fn warn(warning: &Warning) {
    style::note(warning_text(warning));
}

/// What a person should read.
pub(crate) fn warning_text(warning: &Warning) -> String {
    match warning {
        Warning::KeyChanged(peer) => format!(
            "the account key of {} has changed; what you write to them waits until you have \
             compared safety numbers: `tidings contacts` shows them",
            address(peer)
        ),
        Warning::BadList(peer) => format!("a node lies about the devices of {}", address(peer)),
        Warning::ListsDiffer { peer, own: true } => {
            format!("{} sees other devices of your account than you: a node lies", address(peer))
        }
        Warning::ListsDiffer { peer, own: false } => {
            format!("{} sees other devices of an account than you: a node lies", address(peer))
        }
        Warning::Forked(message) => {
            format!("a message of {} does not continue their last one", address(&message.peer))
        }
        Warning::Undecryptable { peer } => {
            let from = peer.as_ref().map_or_else(|| "somebody".to_owned(), address);
            format!("a message of {from} could not be opened; it is asked for again")
        }
        Warning::NoDevices(peer) => {
            format!("{} has no device yet; your message waits", address(peer))
        }
        Warning::CannotLookUp { peer, code } => {
            format!("{}: {}; your message waits", address(peer), code.advice())
        }
        Warning::NameChanged { domain, pinned, offered } => format!(
            "your node now says that {domain} is {}. This device keeps {}, and sends there. Ask them on \
             another way; if they have moved: `tidings contacts name@{domain} --accept-node {}`",
            offered.to_text(),
            pinned.to_text(),
            offered.to_text()
        ),
        Warning::BadName(domain) => format!(
            "your node names a node for {domain} that does not claim it: it lies, or is broken; nothing \
             was pinned"
        ),
        Warning::BadStatement(_) => "a receipt that proves nothing was put aside".to_owned(),
        Warning::Clock { offset_ms } => {
            format!("the clocks of this machine and of the node differ by {} s", offset_ms / 1000)
        }
        Warning::NodeRolledBack => {
            "the node was restored from an old copy; what is not final is sent again".to_owned()
        }
        Warning::DeviceRolledBack => {
            "this device was restored from an old copy; it takes a new id".to_owned()
        }
        Warning::OwnKeysRefused(code) => format!("the node refused your keys: {}", code.advice()),
        Warning::Certificate(fault) => fault_text(*fault).to_owned(),
    }
}
