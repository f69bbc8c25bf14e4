//! The real binary, as processes on this machine: killed, stopped, restored, starved and insulted.
//! People are real devices in this process, over real WebSockets. Says nothing about speed.
//!
//! Every test has a folder of its own; when it fails, the folder stays and its path is printed: the
//! nodes' logs are in `<node>/node.log`.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test, whose helpers stand outside of its test functions"
)]

#[path = "process/backlog.rs"]
mod backlog;
#[path = "process/backup.rs"]
mod backup;
#[path = "process/bench.rs"]
mod bench;
#[path = "process/binary.rs"]
mod binary;
#[path = "process/canary.rs"]
mod canary;
#[path = "process/chat.rs"]
mod chat;
#[path = "process/clocks.rs"]
mod clocks;
#[path = "process/cluster.rs"]
mod cluster;
#[path = "process/commands.rs"]
mod commands;
#[path = "process/configuration.rs"]
mod configuration;
#[path = "process/contacts.rs"]
mod contacts;
#[path = "process/crashes.rs"]
mod crashes;
#[path = "process/custody.rs"]
mod custody;
#[path = "process/dead.rs"]
mod dead;
#[path = "process/demo.rs"]
mod demo;
#[path = "process/deploy.rs"]
mod deploy;
#[path = "process/dns.rs"]
mod dns;
#[path = "process/failpoints.rs"]
mod failpoints;
#[path = "process/full_disk.rs"]
mod full_disk;
#[path = "process/home.rs"]
mod home;
#[path = "process/hostile.rs"]
mod hostile;
#[path = "process/inbox.rs"]
mod inbox;
#[path = "process/names.rs"]
mod names;
#[path = "process/namespaces.rs"]
mod namespaces;
#[path = "process/network.rs"]
mod network;
#[path = "process/peers.rs"]
mod peers;
#[path = "process/person.rs"]
mod person;
#[path = "process/programs.rs"]
mod programs;
#[path = "process/proxy.rs"]
mod proxy;
#[path = "process/relay.rs"]
mod relay;
#[path = "process/reload.rs"]
mod reload;
#[path = "process/restore.rs"]
mod restore;
#[path = "process/routes.rs"]
mod routes;
#[path = "process/server.rs"]
mod server;
#[path = "process/starved.rs"]
mod starved;
#[path = "process/stop.rs"]
mod stop;
#[path = "process/terminal.rs"]
mod terminal;
#[path = "process/tls.rs"]
mod tls;
#[path = "process/tools.rs"]
mod tools;
#[path = "process/tty.rs"]
mod tty;
