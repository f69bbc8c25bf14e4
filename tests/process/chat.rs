//! Two people chat in two terminals, through two nodes: what a newcomer does after reading README.

use std::path::Path;

use crate::{
    binary,
    cluster::test,
    server::{Server, text},
    tty::Tty,
};

const WINDOW: [u16; 2] = [24, 90];
const ENTER: &str = "\r";
const ESCAPE: &str = "\x1b";
const F1: &str = "\x1bOP";
const CTRL_F: &str = "\x06";
const CTRL_L: &str = "\x0c";
const CTRL_N: &str = "\x0e";
const CTRL_Q: &str = "\x11";
/// Light blue, of sixteen colours.
const BLUE: vt100::Color = vt100::Color::Idx(12);

/// acme and globex, alice at the one and bob at the other.
struct Town {
    acme: Server,
    globex: Server,
    alice: String,
    bob: String,
    /// bob's address.
    address: String,
}

impl Town {
    async fn start(dir: &Path) -> Self {
        let mut acme = Server::make("acme", dir.join("acme"), None, "").await;
        acme.start().await;
        let known = acme.address().await;
        let mut globex = Server::make("globex", dir.join("globex"), Some(&known), "").await;
        globex.start().await;
        let home = |name: &str| text(&dir.join(name)).to_owned();
        let (alice, bob) = (home("alice"), home("bob"));
        let mut address = String::new();
        for (name, home, server) in [("alice", &alice, &acme), ("bob", &bob, &globex)] {
            let invite = server.invite(1).await;
            let said =
                binary::json(&["join", &invite, "--name", name, "--home", home, "--json"]).await;
            said["address"].as_str().expect("an address").clone_into(&mut address);
        }
        Self { acme, globex, alice, bob, address }
    }

    async fn end(mut self) {
        self.globex.stop().await;
        self.acme.stop().await;
    }
}

#[test]
fn two_terminals_chat_with_live_ticks_while_a_node_comes_and_goes() {
    test(async |dir| {
        let mut town = Town::start(dir).await;
        let mut alice = Tty::start("alice", WINDOW, &["chat", "--home", &town.alice]);
        let mut bob = Tty::start("bob", WINDOW, &["chat", "--home", &town.bob]);
        alice.shows("● connected").await;
        bob.shows("● connected").await;
        alice.shows("Nobody has written yet").await;
        alice.keys(&format!("{CTRL_N}{}", town.address)).await;
        alice.shows("to: bob@").await;
        alice.keys(ENTER).await;
        alice.shows("write to bob").await;
        alice.keys("hello bob :rocket:").await;
        alice.shows("hello bob 🚀").await;
        alice.keys(ENTER).await;
        alice.ticks("hello bob 🚀", "✓✓").await;
        // There, and not read: bob has not opened it.
        bob.shows(" 1 ").await;
        bob.shows("alice: hello bob 🚀").await;
        bob.keys(ENTER).await;
        bob.shows("▎ hello bob 🚀").await;
        alice.ticks("hello bob 🚀", "✓✓•").await;
        assert_eq!(alice.color_of("•"), Some(BLUE));
        bob.keys(&format!("\x1b[200~two lines\n漢字\x1b[201~{ENTER}")).await;
        alice.shows("▎ two lines").await;
        alice.shows("▎ 漢字").await;
        bob.ticks("漢字", "✓✓•").await;

        town.globex.stop().await;
        bob.shows("reconnecting").await;
        bob.keys(&format!("while away{ENTER}")).await;
        bob.ticks("while away", "·").await;
        alice.keys(&format!("are you there?{ENTER}")).await;
        alice.ticks("are you there?", "✓").await;
        town.globex.start().await;
        bob.shows("● connected").await;
        bob.ticks("while away", "✓✓•").await;
        alice.ticks("are you there?", "✓✓•").await;
        alice.shows("▎ while away").await;

        bob.resize([9, 34]);
        bob.shows("› write to alice").await;
        bob.shows("▎ are you there?").await;
        bob.resize([1, 1]);
        bob.resize(WINDOW);
        bob.shows("▎ hello bob 🚀").await;
        bob.keys(F1).await;
        bob.shows("┌ Help ").await;
        bob.keys(ESCAPE).await;
        bob.until("no help", |tty| tty.rows().iter().all(|row| !row.contains("┌ Help "))).await;
        bob.keys(CTRL_F).await;
        bob.shows("search:").await;
        bob.keys("HELLO").await;
        bob.shows("▶ hello bob 🚀").await;
        bob.keys(CTRL_Q).await;
        bob.ended().await;
        alice.tell_to_stop();
        alice.ended().await;
        town.end().await;
    });
}

#[test]
fn one_command_has_a_home_and_what_was_begun_is_kept() {
    test(async |dir| {
        let mut town = Town::start(dir).await;
        let said = binary::run(&["send", &town.address, "hello bob", "--home", &town.alice]).await;
        assert_eq!(said.code, Some(0), "{said:?}");
        town.acme.stop().await;
        let args = ["chat", &town.address, "--home", &town.alice];
        let mut alice = Tty::start("alice", WINDOW, &args);
        alice.shows("reconnecting").await;
        alice.shows("write to bob").await;
        let other = binary::run(&["inbox", "--home", &town.alice]).await;
        assert_eq!(other.code, Some(1));
        assert!(other.err.contains("another `tidings` command uses"), "{other:?}");
        alice.keys(&format!("sent into the dark{ENTER}dear bob")).await;
        alice.ticks("sent into the dark", "·").await;
        alice.shows("› dear bob").await;
        alice.keys(CTRL_Q).await;
        alice.ended().await;
        town.acme.start().await;
        let mut alice = Tty::start("alice", WINDOW, &args);
        alice.shows("› dear bob").await;
        alice.ticks("sent into the dark", "✓").await;
        alice.tell_to_stop();
        alice.ended().await;
        let piped = binary::run(&["chat", "--home", &town.alice]).await;
        assert!(piped.err.contains("a chat needs a terminal"), "{piped:?}");
        // With a draft here, and an unread message there.
        for home in [&town.alice, &town.bob] {
            let well = binary::run(&["doctor", "--home", home]).await;
            assert_eq!(well.code, Some(0), "{well:?}");
        }
        town.end().await;
    });
}

#[test]
fn a_panic_gives_the_terminal_back_and_is_read_on_it() {
    test(async |dir| {
        let town = Town::start(dir).await;
        let args = ["chat", "--home", &town.alice];
        let env = [("TIDINGS_FAILPOINT", "chat_redraw"), ("RUST_BACKTRACE", "0")];
        let mut alice = Tty::start_with("alice", WINDOW, &args, &env);
        alice.shows("● connected").await;
        alice.keys(CTRL_L).await;
        let said = alice.ended_with(101).await;
        assert!(said.iter().any(|row| row.contains("asked for this panic")), "{said:?}");
        town.end().await;
    });
}
