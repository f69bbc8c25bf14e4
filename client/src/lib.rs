//! Who speaks: encryption, device state and conversations of one device.
//!
//! [`ClientCore`] is pure: no I/O, no clock, no randomness of its own; builds for wasm. The link to
//! the node and the store in a file are behind the feature `driver`.

pub mod account;
mod bundles;
mod compose;
mod content_in;

pub mod crypto;
mod delegations;
mod devices;
pub mod draft;
#[cfg(feature = "driver")]
pub mod driver;
pub mod event;
mod evidence;
pub mod examine;
mod hold;
mod inbox;
mod link;
mod link_in;
mod machine;
mod names;
pub mod order;
mod outbox;
pub mod pages;
mod query;
mod receipts;
mod repair;
mod replace;
pub mod rows;
pub mod safety;
pub mod schema;
mod seal;
mod show_lists;
mod status;
mod vault;
mod walk;

pub use account::Identity;
pub use draft::Draft;
pub use event::{ClientEffect, ClientEvent};
pub use machine::{ClientCore, OpenClientError, Opening};
pub use names::NameView;
pub use pages::{ConversationView, Direction, PageAt, PageView, Searched};
pub use query::{MessageView, PeerView, StatusView};
pub use schema::SCHEMA;
pub use walk::Which;

/// One way to break the contract at a device. Each must be caught by the simulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// What came before is shown again.
    NoDeviceDedup,
    /// The word of the recipient's node is shown as delivery.
    TickByNode,
    /// An acceptance from before the node's store was rolled back is believed.
    AcceptAnyIncarnation,
    /// A rolled-back node is not sent again what it has lost.
    NoResubmission,
    /// A device that was put back to an older image forgets what it still had to send.
    ForgetWhenRestored,
}

impl<S: crypto::Sealer> ClientCore<S> {
    /// Breaks this device from now on.
    #[cfg(feature = "sabotage")]
    pub const fn sabotage(&mut self, how: Option<Sabotage>) {
        self.sabotage = how;
    }

    #[cfg(feature = "sabotage")]
    fn is_sabotaged(&self, how: Sabotage) -> bool {
        self.sabotage == Some(how)
    }

    #[cfg(not(feature = "sabotage"))]
    #[expect(clippy::unused_self, reason = "the same call with and without the feature")]
    const fn is_sabotaged(&self, _how: Sabotage) -> bool {
        false
    }
}

/// What a device has counted since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Copies that were answered before and came again.
    pub duplicates: u64,
    /// Copies that could not be opened.
    pub undecryptable: u64,
    /// Statements that were put aside.
    pub bad_statements: u64,
    /// Sessions that were begun afresh because they had come apart.
    pub repairs: u64,
    /// Messages sealed again for a device that could not open them.
    pub resends: u64,
    /// Submissions sent again verbatim.
    pub resubmissions: u64,
    /// Times at which the node had no one-time pre-keys left: it was started, or many wrote first.
    pub prekeys_lost: u64,
    /// Messages whose life was over here before it was their turn to be shown.
    pub expired_unshown: u64,
    /// Warnings of any kind.
    pub warnings: u64,
}
