//! How a person starts: the `tidings` binary. One file per command; this one only names them.
//!
//! Exit codes: see `exit.rs`, and `tidings --help`.

#[macro_use]
mod out;

mod admin;
mod admin_node;
mod backup;
mod bench;
mod chat;
mod completions;
mod contacts;
mod custody;
mod dead;
mod demo;
mod device;
mod doctor;
mod exit;
mod export;
mod home;
mod inbox;
mod init;
mod inspect;
mod invite;
mod join;
mod man;
mod node;
#[cfg(test)]
mod page_test;
mod peers;
mod progress;
mod restore;
mod send;
mod server;
mod show;
mod snapshot;
mod status;
mod storage;
mod style;
mod top;
mod trace;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Messages between organisations: provable, encrypted from device to device, never lost.
#[derive(Parser)]
#[command(version, after_help = exit::help(), arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::Args),
    Bench(bench::Args),
    Init(init::Args),
    Node(node::Args),
    Invite(invite::Args),
    Admin(admin::Args),
    Backup(backup::Args),
    Restore(restore::Args),
    Storage(storage::Args),
    Join(join::Args),
    Chat(chat::Args),
    Contacts(contacts::Args),
    Send(send::Args),
    Inbox(inbox::Args),
    Status(status::Args),
    Trace(trace::Args),
    Export(export::Args),
    Verify(verify::Args),
    Doctor(doctor::Args),
    Inspect(inspect::Args),
    Completions(completions::Args),
    Man(man::Args),
}

fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(Cli { command }) => command,
        // Help and version are an output like any other.
        Err(asked) if !asked.use_stderr() => {
            out::text(asked.render().ansi());
            return ExitCode::SUCCESS;
        }
        Err(wrong) => wrong.exit(),
    };
    let done = match command {
        Command::Demo(args) => demo::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Node(args) => node::run(&args),
        Command::Invite(args) => invite::run(&args),
        Command::Admin(args) => admin::run(&args),
        Command::Backup(args) => backup::run(&args),
        Command::Restore(args) => restore::run(&args),
        Command::Storage(args) => storage::run(&args),
        Command::Join(args) => join::run(&args),
        Command::Chat(args) => chat::run(&args),
        Command::Contacts(args) => contacts::run(&args),
        Command::Send(args) => send::run(&args),
        Command::Inbox(args) => inbox::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Trace(args) => trace::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The sources too: the last one is often what the system said.
            style::error(&error);
            exit::code_of(&error)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        fn check(command: &clap::Command, path: &str) {
            for sub in command.get_subcommands() {
                let path = format!("{path} {}", sub.get_name());
                check(sub, &path);
                let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains(&format!("{path} ")), "{path} has no example");
            }
        }
        check(&super::Cli::command(), "tidings");
    }
}
