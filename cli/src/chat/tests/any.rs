//! Whatever the size of the window and the order of events, it holds.

use super::*;

/// Every state in which something is drawn.
fn states(desk: &mut Desk, state: u8) {
    match state {
        0 => {}
        1 => desk.press(KeyCode::F(1)),
        2 => desk.press(KeyCode::F(2)),
        3 => desk.ctrl('n'),
        4 => desk.ctrl('f'),
        5 => {
            desk.press(KeyCode::Esc);
            desk.press(KeyCode::Enter);
        }
        6 => desk.type_in("many\u{301} 漢字 words :smi"),
        7 => desk.key(KeyCode::Tab, KeyModifiers::NONE),
        8 => desk.model.open = None,
        _ => desk.notice(),
    }
}

impl Desk {
    fn notice(&mut self) {
        self.model.notice("something that is longer than the window is wide, surely");
    }
}

#[test]
fn no_size_is_too_small() {
    let long = "words and 漢字 and 👩‍👩‍👧‍👦 ".repeat(20);
    let messages = || {
        let mut answer = message(&bob(), 2, true, &long);
        answer.reply_to = Some(MsgId([1; 16]));
        vec![message(&bob(), 1, false, &long), answer]
    };
    for state in 0..10 {
        for width in [0, 1, 2, 3, 5, 8, 11, 13, 21, 35, 36, 63, 64, 65, 100] {
            for height in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 24] {
                let mut desk = Desk::with(80, 24, messages());
                states(&mut desk, state);
                desk.on(Event::Resize(Size { width, height }));
                desk.buffer();
                desk.on(Event::Drawn);
                desk.press(KeyCode::PageUp);
                desk.press(KeyCode::Up);
                desk.buffer();
            }
        }
    }
}

#[test]
fn a_terminal_that_is_already_smaller_than_was_said_is_no_harm() {
    let desk = Desk::with(80, 24, vec![message(&bob(), 1, false, "hello")]);
    for (width, height) in [(1, 1), (40, 3), (10, 24), (200, 60)] {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| view(&desk.model, frame)).unwrap();
    }
}

fn any_event() -> impl Strategy<Value = (u8, u16, u16)> {
    (0u8..40, 0u16..100, 0u16..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn no_order_of_events_breaks_it(steps in proptest::collection::vec(any_event(), 0..60)) {
        let texts = ["short", "漢字 with words ".repeat(9).leak(), "a\n\nb", ""];
        let all: Vec<_> = (1..=60).map(|n| {
            message(&bob(), n, n % 3 == 0, texts[usize::from(n) % texts.len()])
        }).collect();
        let mut desk = Desk::with(80, 24, all.clone());
        for (what, x, y) in steps {
            let codes = [
                KeyCode::Up, KeyCode::Down, KeyCode::Left, KeyCode::Right, KeyCode::Home,
                KeyCode::End, KeyCode::PageUp, KeyCode::PageDown, KeyCode::Enter, KeyCode::Esc,
                KeyCode::Tab, KeyCode::BackTab, KeyCode::Backspace, KeyCode::Delete, KeyCode::F(1),
                KeyCode::F(2), KeyCode::Char('a'), KeyCode::Char(':'), KeyCode::Char('?'),
                KeyCode::Char('r'), KeyCode::Char('/'), KeyCode::Char('漢'),
            ];
            match (codes.get(usize::from(what)), what) {
                (Some(code), _) => {
                    let held = if x > 80 { KeyModifiers::ALT } else { KeyModifiers::NONE };
                    desk.key(*code, held);
                }
                (None, 22..=25) => desk.ctrl(['n', 'f', 'k', 'w'][usize::from(what - 22)]),
                (None, 26) => desk.mouse(MouseEventKind::Down(MouseButton::Left), x, y),
                (None, 27) => desk.mouse(MouseEventKind::ScrollUp, x, y),
                (None, 28) => desk.mouse(MouseEventKind::ScrollDown, x, y),
                (None, 29) => desk.on(Event::Resize(Size { width: x, height: y })),
                (None, 30) => desk.on(Event::Paste("paste\n\u{1b}".to_owned())),
                (None, 31) => desk.on(Event::InFront(x > 50)),
                (None, 32) => desk.on(Event::Tick(NOW_MS + u64::from(x) * 1_000)),
                (None, _) => {
                    let from = usize::from(x) % all.len();
                    let to = (from + usize::from(y)).min(all.len());
                    let messages = all[from..to].to_vec();
                    let page = PageView { messages, earlier: from > 0, later: to < all.len() };
                    let at = desk.model.open.as_ref().and_then(|open| open.asked);
                    desk.on(Event::Page(bob(), at.unwrap_or(PageAt::Newest), page));
                }
            }
            desk.buffer();
            desk.commands.clear();
            desk.on(Event::Drawn);
            for command in &desk.commands {
                if let Command::Displayed(messages) = command {
                    prop_assert!(desk.model.overlay.is_none() && desk.model.in_front);
                    prop_assert!(messages.iter().all(|message| !message.mine));
                }
            }
            let is_new = matches!(desk.model.overlay, Some(Overlay::NewChat { .. }));
            prop_assert!(!is_new || desk.commands.is_empty());
        }
    }
}
