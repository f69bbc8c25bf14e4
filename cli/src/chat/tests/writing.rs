//! What is written and sent, where it is kept, and how one moves about.

use super::*;

#[test]
fn wide_characters_keep_their_columns() {
    let desk = Desk::with(40, 14, vec![message(&bob(), 1, true, &"漢字👩‍👩‍👧‍👦e\u{301}".repeat(8))]);
    let lines = desk.lines();
    let rows: Vec<&String> = lines.iter().filter(|line| line.contains('▎')).collect();
    assert!(rows.len() > 1);
    for row in rows {
        assert!(text::width(row) <= 40, "{row}");
    }
    let mut desk = Desk::with(40, 14, Vec::new());
    desk.type_in("漢e\u{301}x");
    desk.press(KeyCode::Left);
    desk.press(KeyCode::Backspace);
    desk.press(KeyCode::Enter);
    assert_eq!(desk.sent()[0].text, "漢x");
}

#[test]
fn what_is_sent_leaves_the_line_and_comes_back_when_it_is_not_taken() {
    let mut desk = Desk::with(90, 14, Vec::new());
    desk.type_in("one");
    desk.key(KeyCode::Enter, KeyModifiers::ALT);
    desk.on(Event::Paste("two\r\nthree".to_owned()));
    desk.shows("› one");
    desk.shows("three");
    desk.press(KeyCode::Enter);
    let sent = desk.sent()[0].clone();
    assert_eq!((sent.text.as_str(), sent.to), ("one\ntwo\nthree", bob()));
    desk.shows("write to bob");
    let (token, why) = (sent.token, ComposeError::OutboxFull);
    desk.on(Event::Device(ClientEffect::NotComposed { token, why }));
    desk.shows("› one");
    desk.shows("not sent: composing a text: too many messages are waiting");
    desk.commands.clear();
    desk.press(KeyCode::Enter);
    let token = desk.sent()[0].token;
    let taken = message(&bob(), 9, true, "one");
    let composed = ClientEffect::Composed { token, message: taken.message.clone() };
    desk.on(Event::Device(composed));
    assert!(desk.commands.contains(&Command::LoadPage(bob(), PageAt::Newest)));
    desk.on(Event::Page(bob(), PageAt::Newest, page(vec![taken])));
    desk.shows("▎ one");
    // Too much is refused before it is taken away.
    desk.commands.clear();
    desk.on(Event::Paste("x".repeat(17_000)));
    desk.press(KeyCode::Enter);
    assert!(desk.sent().is_empty());
    desk.shows("too long by 616 bytes");
}

#[test]
fn an_answer_names_its_question() {
    let mut asked = message(&bob(), 1, false, "shall we?");
    asked.displayed = true;
    let mut desk = Desk::with(90, 14, vec![asked.clone()]);
    desk.press(KeyCode::Up);
    desk.shows("▶ shall we?");
    desk.press(KeyCode::Char('r'));
    desk.shows("↳ answers: shall we?");
    desk.type_in("yes");
    desk.press(KeyCode::Enter);
    assert_eq!(desk.sent()[0].reply_to, Some(asked.message.msg));
    let mut answer = message(&bob(), 2, true, "yes");
    answer.reply_to = Some(asked.message.msg);
    answer.answers = Some("shall\nwe?".to_owned());
    desk.on(Event::Page(bob(), PageAt::Newest, page(vec![asked, answer])));
    desk.shows("↳ shall we?");
}

#[test]
fn nothing_that_was_begun_is_lost_by_leaving() {
    let mut desk = Desk::with(90, 14, Vec::new());
    desk.type_in("dear bob");
    desk.on(Event::Tick(NOW_MS + 5_000));
    let draft = Draft { text: "dear bob".to_owned(), reply_to: None };
    assert!(desk.commands.contains(&Command::SaveDraft(bob(), Some(draft.clone()))));
    desk.commands.clear();
    desk.type_in("!");
    desk.key(KeyCode::Up, KeyModifiers::ALT);
    let draft = Draft { text: "dear bob!".to_owned(), ..draft };
    assert_eq!(desk.commands[0], Command::SaveDraft(bob(), Some(draft.clone())));
    desk.shows("draft: dear bob!");
    desk.key(KeyCode::Down, KeyModifiers::ALT);
    desk.shows("› dear bob!");
    desk.commands.clear();
    desk.type_in("?");
    desk.on(Event::Stop);
    let draft = Draft { text: "dear bob!?".to_owned(), ..draft };
    assert_eq!(desk.commands, [Command::SaveDraft(bob(), Some(draft)), Command::Quit]);
    // What is sent leaves no draft behind, and only after it is on disk.
    desk.commands.clear();
    desk.press(KeyCode::Enter);
    assert!(matches!(desk.commands[0], Command::Send(_)));
    assert_eq!(desk.commands[1], Command::SaveDraft(bob(), None));
}

#[test]
fn a_new_chat_begins_with_an_address() {
    let mut desk = Desk::new(90, 20);
    desk.on(Event::List(Vec::new()));
    desk.shows("Nobody has written yet");
    desk.ctrl('n');
    desk.type_in("nobody at all");
    desk.press(KeyCode::Enter);
    desk.shows("reading 'nobody at all'");
    (0..20).for_each(|_| desk.press(KeyCode::Backspace));
    desk.type_in("alice");
    desk.press(KeyCode::Enter);
    desk.shows("that is your own address");
    desk.ctrl('u');
    let dave = peer("dave", 4);
    desk.on(Event::Paste(format!(" {}\n", crate::home::address(&dave))));
    desk.press(KeyCode::Enter);
    assert_eq!(desk.commands.last(), Some(&Command::LoadPage(dave.clone(), PageAt::Newest)));
    desk.on(Event::Page(dave, PageAt::Newest, page(Vec::new())));
    desk.shows("What you write goes to dave");
    desk.type_in("hi dave");
    desk.press(KeyCode::Enter);
    assert_eq!(desk.sent()[0].to.name.as_str(), "dave");
}

#[test]
fn the_link_is_said_in_words() {
    let mut desk = Desk::new(120, 12);
    desk.shows("◌ connecting");
    desk.on(Event::Link(LinkState::Up));
    desk.shows("● connected");
    let until_ms = NOW_MS + 4_200;
    let why = DownWhy::Lost("Connection refused".to_owned());
    desk.on(Event::Link(LinkState::Down { until_ms, why }));
    desk.shows("○ reconnecting in 5 s: Connection refused");
    desk.on(Event::Tick(NOW_MS + 3_500));
    desk.shows("reconnecting in 1 s");
    desk.on(Event::Link(LinkState::Opening));
    desk.shows("○ reconnecting: Connection refused");
    let why = DownWhy::Closed(CloseWhy::Refused(RefusalCode::NotAuthorised));
    desk.on(Event::Link(LinkState::Down { until_ms, why }));
    desk.shows("✗ the node refused the link: this device is not, or no longer, listed");
    desk.on(Event::Device(ClientEffect::Warn(Warning::NoDevices(bob()))));
    desk.shows("has no device yet; your message waits");
    desk.press(KeyCode::F(2));
    desk.shows("Notices");
}

#[test]
fn the_mouse_opens_selects_and_scrolls() {
    let mut first = message(&bob(), 1, false, "hello alice");
    first.displayed = true;
    let mut desk = Desk::with(90, 14, vec![first]);
    let row = desk.lines().iter().position(|line| line.contains("▎ hello alice")).unwrap();
    let click = MouseEventKind::Down(MouseButton::Left);
    desk.mouse(click, 60, u16::try_from(row).unwrap());
    desk.shows("▶ hello alice");
    desk.mouse(click, 60, 12);
    assert_eq!(desk.model.focus, Focus::Composer);
    desk.mouse(click, 3, 4);
    assert_eq!(desk.model.open.as_ref().unwrap().peer.name.as_str(), "carol");
    desk.mouse(click, 3, 13);
    desk.mouse(click, 3, 9);
    assert_eq!(desk.model.open.as_ref().unwrap().peer.name.as_str(), "carol", "nobody is there");
}

#[test]
fn emoji_are_offered_and_taken() {
    let mut desk = Desk::with(90, 20, Vec::new());
    desk.type_in("go :rocke");
    desk.shows("🚀 :rocket:");
    desk.press(KeyCode::Tab);
    desk.type_in(" :tada:");
    desk.press(KeyCode::Enter);
    assert_eq!(desk.sent()[0].text, "go 🚀 🎉");
}

#[test]
fn a_domain_is_asked_for_and_then_opened_or_explained() {
    let mut desk = Desk::new(80, 24);
    let asked = |desk: &mut Desk| {
        desk.ctrl('n');
        desk.on(Event::Paste("carol@globex.example".to_owned()));
        desk.press(KeyCode::Enter);
        let Some(Command::Resolve(domain, token)) = desk.commands.last().cloned() else {
            panic!("{:?}", desk.commands)
        };
        assert_eq!(domain.as_str(), "globex.example");
        token
    };
    let token = asked(&mut desk);
    let found = Err(NameError::Refused(RefusalCode::UnknownDomain));
    desk.on(Event::Device(ClientEffect::Resolved { token, found }));
    desk.shows("globex.example: the domain");
    desk.press(KeyCode::Esc);
    let token = asked(&mut desk);
    // The answer to a question that was given up opens nothing.
    let found = Ok(NodeId([9; 32]));
    desk.on(Event::Device(ClientEffect::Resolved { token: token - 1, found }));
    assert!(matches!(desk.model.overlay, Some(Overlay::NewChat { .. })));
    desk.on(Event::Device(ClientEffect::Resolved { token, found }));
    let open = desk.model.open.as_ref().map(|open| open.peer.clone());
    assert_eq!(open, Some(peer("carol", 9)));
    assert!(desk.model.overlay.is_none());
}
