//! What is shown of what was said, and what is said to have been displayed.

use super::*;

fn statuses(status: Status) -> Vec<(DeviceId, Status)> {
    vec![(DeviceId([9; 16]), status)]
}

#[test]
fn a_conversation_is_drawn_with_days_names_times_and_ticks() {
    let mut yesterday = message(&bob(), 1, false, "hello alice");
    yesterday.created_ms -= 24 * 60 * MINUTE_MS;
    yesterday.displayed = true;
    let mut read = message(&bob(), 2, true, "hello bob");
    read.statuses = statuses(Status::Read);
    let mut delivered = message(&bob(), 3, true, "how are you?");
    delivered.statuses = statuses(Status::Delivered);
    let mut accepted = message(&bob(), 4, true, "and the others?");
    accepted.statuses = statuses(Status::Accepted);
    let waits = message(&bob(), 5, true, "well");
    let mut failed = message(&bob(), 6, true, "lost");
    failed.statuses = statuses(Status::Failed(None));
    let desk = Desk::with(90, 20, vec![yesterday, read, delivered, accepted, waits, failed]);
    desk.shows("Yesterday, Tuesday, 4 August 2026");
    desk.shows("Today, Wednesday, 5 August 2026");
    let lines = desk.lines();
    let tick = |said: &str| {
        let line = lines.iter().find(|line| line.contains(&format!("▎ {said}"))).unwrap();
        line.rsplit(' ').next().unwrap().to_owned()
    };
    assert_eq!(tick("hello bob"), "✓✓•");
    assert_eq!(tick("how are you?"), "✓✓");
    assert_eq!(tick("and the others?"), "✓");
    assert_eq!(tick("well"), "·");
    assert_eq!(tick("lost"), "✗");
    desk.shows("10:22 ▎ hello bob");
    desk.shows("carol@");
    desk.shows("are you there?");
    desk.shows("write to bob");
}

#[test]
fn ticks_grow_live_and_read_is_blue_unless_colours_are_unwanted() {
    let mut desk = Desk::with(90, 12, vec![message(&bob(), 1, true, "hello bob")]);
    let message = desk.model.open.as_ref().unwrap().page.messages[0].message.clone();
    let dot = |desk: &Desk| {
        let buffer = desk.buffer();
        let cell = buffer.content.iter().rev().find(|cell| cell.symbol() == "•");
        cell.map(|cell| (cell.fg, cell.modifier.contains(Modifier::BOLD)))
    };
    for (status, sign) in
        [(Status::Accepted, "✓"), (Status::Delivered, "✓✓"), (Status::Read, "✓✓•")]
    {
        let (message, device) = (message.clone(), Some(DeviceId([9; 16])));
        desk.on(Event::Device(ClientEffect::StatusChanged { message, device, status }));
        let lines = desk.lines();
        let line = lines.iter().find(|line| line.contains("▎ hello bob")).unwrap();
        assert!(line.ends_with(&format!(" {sign}")), "{line}");
    }
    // Nor does a page that was read before all that.
    let open = desk.model.open.as_ref().unwrap();
    let (peer, at, mut old) = (open.peer.clone(), open.page_at(), open.page.clone());
    old.messages[0].statuses.clear();
    desk.on(Event::Page(peer, at, old));
    let lines = desk.lines();
    assert!(lines.iter().any(|line| line.ends_with(" ✓✓•")), "{lines:?}");
    // A word that comes late takes nothing back.
    let (late, device) = (message.clone(), Some(DeviceId([9; 16])));
    let status = Status::Accepted;
    desk.on(Event::Device(ClientEffect::StatusChanged { message: late, device, status }));
    assert_eq!(dot(&desk), Some((Color::LightBlue, true)));
    desk.model.color = false;
    assert_eq!(dot(&desk), Some((Color::Reset, true)));
    let buffer = desk.buffer();
    let plain = |cell: &ratatui::buffer::Cell| cell.fg == Color::Reset && cell.bg == Color::Reset;
    assert!(buffer.content.iter().all(plain), "no colour at all");
}

#[test]
fn only_what_was_really_on_the_screen_is_said_to_be_displayed() {
    let messages: Vec<_> =
        (1..=40).map(|n| message(&bob(), n, n == 5, &format!("number {n}"))).collect();
    let mut desk = Desk::with(90, 16, messages);
    // It opens where the unread ones begin, and says so.
    desk.shows("─ new ─");
    desk.shows("number 1");
    desk.hides("number 20");
    let first = desk.displayed();
    assert_eq!(first.first(), Some(&1));
    assert!(first.len() > 4 && !first.contains(&5) && !first.contains(&20), "{first:?}");
    assert!(desk.displayed().is_empty(), "each once");
    // Nothing while something lies over it, or while the terminal is not in front.
    desk.press(KeyCode::PageDown);
    desk.press(KeyCode::F(1));
    assert!(desk.displayed().is_empty());
    desk.press(KeyCode::Esc);
    desk.on(Event::InFront(false));
    assert!(desk.displayed().is_empty());
    desk.on(Event::InFront(true));
    let second = desk.displayed();
    assert!(!second.is_empty() && second[0] > first[first.len() - 1], "{first:?} {second:?}");
    // In a narrow window the list hides the conversation.
    desk.on(Event::Resize(Size { width: 30, height: 16 }));
    desk.model.focus = Focus::List;
    desk.press(KeyCode::Esc);
    desk.key(KeyCode::Tab, KeyModifiers::NONE);
    assert_eq!(desk.model.focus, Focus::List);
    desk.hides("▎ number");
    assert!(desk.displayed().is_empty());
}

#[test]
fn what_a_stranger_writes_cannot_touch_the_terminal() {
    let evil = "\u{1b}[2J\u{1b}]0;owned\u{7} \u{202e}txt.exe\u{9b}31m\rover\u{8}\u{0}";
    let accents = format!("z{}", "\u{301}".repeat(1_000));
    let mut gap = message(&bob(), 2, false, &accents);
    gap.missing = 2;
    let desk = Desk::with(90, 14, vec![message(&bob(), 1, false, evil), gap]);
    for cell in desk.buffer().content {
        assert!(!cell.symbol().chars().any(char::is_control), "{:?}", cell.symbol());
        assert!(cell.symbol().chars().count() <= 24);
        assert!(!cell.symbol().contains('\u{202e}'));
    }
    desk.shows("␛[2J␛]0;owned␇ txt.exe");
    desk.shows("2 messages of bob missing here");
}

#[test]
fn scrolling_reads_on_page_by_page_and_stays_where_it_is_when_something_comes() {
    let read =
        |n| MessageView { displayed: true, ..message(&bob(), n, false, &format!("number {n}.")) };
    let all: Vec<_> = (1..=200).map(read).collect();
    let mut desk = Desk::with(90, 16, all[100..].to_vec());
    desk.shows("number 200.");
    desk.model.open.as_mut().unwrap().page.earlier = true;
    for _ in 0..40 {
        desk.press(KeyCode::PageUp);
    }
    let Some(Command::LoadPage(_, PageAt::Around(middle))) = desk.commands.last().cloned() else {
        panic!("{:?}", desk.commands)
    };
    let before = desk.lines();
    desk.on(Event::Page(bob(), PageAt::Around(middle), page(all.clone())));
    let visible = |lines: &[String]| {
        lines.iter().filter(|line| line.contains("▎ number")).cloned().collect::<Vec<_>>()
    };
    let after = desk.lines();
    for (before, after) in before.iter().zip(&after).filter(|(before, _)| before.contains("▎ n"))
    {
        assert_eq!(before, after, "the view does not jump");
    }
    desk.shows("↓ more below");
    desk.press(KeyCode::Up);
    desk.press(KeyCode::End);
    desk.shows("number 200.");
    // Up in the history, a new message moves nothing.
    desk.mouse(MouseEventKind::ScrollUp, 60, 5);
    let before = visible(&desk.lines());
    let mut more = all;
    more.push(message(&bob(), 201, false, "number 201."));
    let open = desk.model.open.as_mut().unwrap();
    open.asked = Some(PageAt::Newest);
    desk.on(Event::Page(bob(), PageAt::Newest, page(more)));
    assert_eq!(visible(&desk.lines()), before);
    desk.mouse(MouseEventKind::ScrollDown, 60, 5);
    desk.mouse(MouseEventKind::ScrollDown, 60, 5);
    desk.shows("number 201.");
    assert_eq!(desk.model.open.as_ref().unwrap().scroll, Scroll::Tail);
}

#[test]
fn a_search_marks_what_it_finds_and_goes_on_both_ways() {
    let said = ["red apples", "green pears", "RED cherries"];
    let messages: Vec<_> =
        (1..).zip(said).map(|(n, said)| message(&bob(), n, true, said)).collect();
    let mut desk = Desk::with(90, 14, messages.clone());
    desk.ctrl('f');
    desk.type_in("red");
    let Some(Command::Search { needle, direction, from, .. }) = desk.commands.last() else {
        panic!("{:?}", desk.commands)
    };
    assert_eq!((needle.as_str(), *direction, from), ("red", Direction::Older, &None));
    let found = |n: usize| Searched::Found(messages[n].message.clone());
    let answer = |desk: &mut Desk, direction, searched| {
        let needle = "red".to_owned();
        desk.on(Event::Searched { peer: bob(), needle, direction, searched });
    };
    answer(&mut desk, Direction::Older, found(2));
    desk.shows("▶ RED cherries");
    let marked = |desk: &Desk| {
        let buffer = desk.buffer();
        let cells = buffer.content.iter().filter(|c| c.modifier.contains(Modifier::REVERSED));
        cells.map(|cell| cell.symbol().to_owned()).collect::<String>()
    };
    assert!(marked(&desk).contains("redRED"), "{}", marked(&desk));
    desk.press(KeyCode::Enter);
    let Some(Command::Search { from, .. }) = desk.commands.last() else { panic!("no search") };
    assert_eq!(from.as_ref(), Some(&messages[2].message));
    // A step that found nothing goes on by itself.
    answer(&mut desk, Direction::Older, Searched::GoOn(messages[1].message.clone()));
    let Some(Command::Search { from, .. }) = desk.commands.last() else { panic!("no search") };
    assert_eq!(from.as_ref(), Some(&messages[1].message));
    answer(&mut desk, Direction::Older, found(0));
    desk.shows("▶ red apples");
    desk.press(KeyCode::Down);
    answer(&mut desk, Direction::Newer, Searched::End);
    desk.shows("nothing newer");
    // A message outside of the page is fetched.
    let far = message(&bob(), 99, true, "infrared");
    desk.press(KeyCode::Enter);
    answer(&mut desk, Direction::Older, Searched::Found(far.message.clone()));
    let around = PageAt::Around(far.message.msg);
    assert_eq!(desk.commands.last(), Some(&Command::LoadPage(bob(), around)));
    desk.on(Event::Page(bob(), around, page(vec![far])));
    desk.shows("▶ infrared");
    desk.press(KeyCode::Esc);
    assert_eq!(desk.model.focus, Focus::Messages);
}

#[test]
fn details_show_who_signed_what_and_how_to_check_it() {
    use tidings_client::rows::StatusEvent;
    use tidings_protocol::statement::Claim;

    let mut desk = Desk::with(90, 30, vec![message(&bob(), 1, true, "hello bob")]);
    desk.press(KeyCode::Esc);
    desk.press(KeyCode::Enter);
    desk.shows("waiting: nothing is proved yet");
    let Some(Command::LoadDetails(of)) = desk.commands.last().cloned() else { panic!("nothing") };
    let event = |claim, node| StatusEvent {
        claim: Some(claim),
        at_ms: NOW_MS,
        reason: None,
        until_ms: None,
        node,
        key: Some(tidings_protocol::key::PublicKey([5; 32])),
        key_checked: true,
        proof: None,
    };
    let events = vec![event(Claim::Accepted, Some(NodeId([1; 32]))), event(Claim::Delivered, None)];
    let found = StatusView { device: DeviceId([9; 16]), status: Status::Delivered, events };
    desk.on(Event::Details(of, vec![found]));
    desk.shows("✓✓ delivered, signed by the");
    desk.shows("5 Aug 2026 12:00:00, by node");
    desk.shows("Delivered, 5 Aug 2026 12:00:00, by that device");
    desk.shows("tidings export 01000000000000000000000000000000 --out message.evidence");
    desk.press(KeyCode::Esc);
    assert!(desk.model.overlay.is_none());
}

#[test]
fn what_comes_elsewhere_is_counted_and_named() {
    let mut desk = Desk::with(90, 14, vec![message(&bob(), 1, true, "hello bob")]);
    let carol = peer("carol", 3);
    let mut said = message(&carol, 2, false, "\u{1b}news");
    said.created_ms = NOW_MS;
    let shown = ShownMessage {
        message: said.message.clone(),
        device: said.device,
        sequence: 2,
        missing: 0,
        is_late: false,
        text: said.text.clone(),
        reply_to: None,
        created_ms: said.created_ms,
    };
    desk.on(Event::Device(ClientEffect::Show(shown)));
    desk.shows("carol: ␛news");
    assert_eq!(desk.commands, [Command::LoadConversation(carol.clone())]);
    let view = ConversationView { unread: 2, ..conversation(&[said], &carol) };
    desk.on(Event::Conversation(carol.clone(), Some(Box::new(view))));
    assert_eq!(desk.model.conversations[0].peer, carol, "the newest is first");
    desk.shows(" 2 ");
    desk.on(Event::Resize(Size { width: 40, height: 14 }));
    desk.shows("2 elsewhere");
}
