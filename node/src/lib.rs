//! Who serves: the shell around `tidings-core`. One loop commits, links carry frames, everything
//! else reports to the loop. Decides nothing about messages; see `node/core`.
//!
//! [`config::Config`] says what a node is, [`start::start`] runs it, [`keys::create`] makes a new
//! one, [`admin_link::ask`] speaks to a running one, [`snapshot::open`] takes its
//! store, [`examine`] looks at one that may not run.

mod admin_custody;
pub mod admin_link;
mod admin_names;
pub mod admin_peers;
mod admin_queue;
mod admin_status;
mod alias;
mod bootstrap;
pub mod chance;
mod client_link;
mod client_listener;
mod client_queue;
pub mod clock;
pub mod config;
mod delegation;
mod disk;
pub mod event_log;
pub mod examine;
mod failpoint;
mod input;
pub mod keys;
mod limits;
mod links;
mod metrics;
pub mod p2p;
mod peer_link;
mod reload;
mod resolver;
mod run;
pub mod snapshot;
pub mod start;

pub use client_listener::TlsError;
pub use peer_link::judge_record;
pub use run::CommitFailed;
