//! How a running node looks: a pure function from what it said last to lines of text. Asks nobody.

use ratatui::Frame;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line as Text;
use serde_json::Value;

use crate::show::{field, plain};

/// What the columns need.
pub(crate) const WIDTH_MIN: usize = 80;
/// Lines above the peers, and the one below.
const FIXED_LINES: usize = 8;
/// Characters of a node id that tell it from others.
const ID_CHARS: usize = 14;

/// What the peers are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sort {
    /// What has waited longest.
    #[default]
    Oldest,
    /// How much waits.
    Waiting,
    /// How they stand, and whether they are linked.
    Standing,
    /// What they did.
    Score,
}

impl Sort {
    const fn name(self) -> &'static str {
        match self {
            Self::Oldest => "oldest",
            Self::Waiting => "waiting",
            Self::Standing => "standing",
            Self::Score => "score",
        }
    }
}

/// How a line is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Head,
    Bad,
}

/// A line of the picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) text: String,
    pub(crate) tone: Tone,
}

/// What is shown.
#[derive(Debug, Default)]
pub(crate) struct Top {
    now: Option<Value>,
    before: Option<Value>,
    pub(crate) sort: Sort,
    /// The first peer that is shown.
    pub(crate) first: usize,
    pub(crate) color: bool,
    /// Why the node could not be asked the last time.
    pub(crate) lost: Option<String>,
}

impl Top {
    /// The node has answered.
    pub(crate) fn take(&mut self, answer: Value) {
        self.before = self.now.replace(answer);
        self.lost = None;
    }

    /// The picture, in so many columns and at most so many lines.
    pub(crate) fn lines(&self, width: usize, height: usize) -> Vec<Line> {
        let null = Value::Null;
        let now = self.now.as_ref().unwrap_or(&null);
        let status = now.get("status").unwrap_or(&null);
        let at_ms = number(now, "at_ms");
        let mut lines = head(status);
        lines.push(plain_line(self.rates(now)));
        let lost = self.lost.as_deref().unwrap_or_default();
        let tone = if lost.is_empty() { Tone::Plain } else { Tone::Bad };
        lines.push(Line { text: plain(lost), tone });
        let columns =
            row(["NODE", "STANDING", "LINK", "WAITING", "OLDEST", "HELD", "DEAD", "SCORE", "SEEN"]);
        lines.push(Line { text: columns, tone: Tone::Head });
        let peers = self.sorted(now);
        let room = height.saturating_sub(FIXED_LINES);
        let first = self.first.min(peers.len().saturating_sub(room));
        for peer in peers.iter().skip(first).take(room) {
            lines.push(peer_line(peer, at_ms));
        }
        let hidden = peers.len().saturating_sub(room);
        let more = if hidden > 0 { format!("  ↑↓ {hidden} more") } else { String::new() };
        let keys = format!(
            "q quit  sorted by {}: o oldest  w waiting  l standing  s score{more}",
            self.sort.name()
        );
        lines.push(Line { text: keys, tone: Tone::Head });
        for line in &mut lines {
            line.text = line.text.chars().take(width).collect();
        }
        lines
    }

    /// What happened in the last second.
    fn rates(&self, now: &Value) -> String {
        let Some(before) = &self.before else { return "a second  …".to_owned() };
        let ms = number(now, "at_ms").saturating_sub(number(before, "at_ms")).max(1);
        let count = |value: &Value, what: &str| value.get("counts").map_or(0, |c| number(c, what));
        let rate = |what: &str| {
            // A node that was started anew counts from zero.
            let more = count(now, what).saturating_sub(count(before, what));
            format!("{what} {}", more.saturating_mul(1_000) / ms)
        };
        let all = ["accepted", "stored", "delivered", "ticked", "failed", "duplicate"].map(rate);
        format!("a second  {}", all.join("  "))
    }

    fn sorted<'a>(&self, now: &'a Value) -> Vec<&'a Value> {
        let peers = now.get("peers").and_then(Value::as_array);
        let mut peers: Vec<&Value> = peers.into_iter().flatten().collect();
        let score = |peer: &Value| {
            peer.get("score").and_then(Value::as_f64).map_or(0, |score| (score * 10.0).to_bits())
        };
        match self.sort {
            Sort::Oldest => {
                peers.sort_by_key(|peer| {
                    peer.get("oldest_ms").and_then(Value::as_u64).unwrap_or(u64::MAX)
                });
            }
            Sort::Waiting => {
                peers.sort_by_key(|peer| std::cmp::Reverse(number(peer, "waiting")));
            }
            Sort::Standing => {
                peers.sort_by_key(|peer| (field(peer, "standing"), field(peer, "connected")));
            }
            // Of numbers that are not negative, the bits grow as they do.
            Sort::Score => peers.sort_by_key(|peer| std::cmp::Reverse(score(peer))),
        }
        peers
    }
}

fn head(status: &Value) -> Vec<Line> {
    let is = |name: &str| status.get(name) == Some(&Value::Bool(true));
    let peers = field(status, "peers_connected");
    let state = if status.get("retired_ms").is_some_and(|at| !at.is_null()) {
        "has said goodbye"
    } else {
        "serves"
    };
    let (disk, tone) = match (is("full"), is("full_for_peers")) {
        (true, _) => ("full", Tone::Bad),
        (false, true) => ("full for peers", Tone::Bad),
        (false, false) => ("has room", Tone::Plain),
    };
    let held = number(status, "queued")
        .saturating_sub(number(status, "waiting"))
        .saturating_sub(number(status, "dead"));
    vec![
        Line { text: format!("tidings  {}", field(status, "node")), tone: Tone::Head },
        plain_line(format!(
            "{state}, federation {}, {} requests, commit {}",
            field(status, "federation"),
            field(status, "requests"),
            field(status, "commit"),
        )),
        plain_line(format!(
            "accounts {}  devices {}  peers {peers}  for devices {}",
            field(status, "accounts"),
            field(status, "devices_connected"),
            field(status, "inbox"),
        )),
        Line {
            text: format!(
                "to hand over {}  held by peers {held}  dead letters {}  disk {disk}",
                field(status, "waiting"),
                field(status, "dead"),
            ),
            tone,
        },
    ]
}

fn peer_line(peer: &Value, at_ms: u64) -> Line {
    let id: String = field(peer, "node").chars().take(ID_CHARS).collect();
    let link = if field(peer, "connected") == "true" { "up" } else { "down" };
    let held = number(peer, "queued")
        .saturating_sub(number(peer, "waiting"))
        .saturating_sub(number(peer, "dead"));
    let cells = [
        id,
        field(peer, "standing"),
        link.to_owned(),
        field(peer, "waiting"),
        age(peer.get("oldest_ms").and_then(Value::as_u64), at_ms),
        held.to_string(),
        field(peer, "dead"),
        field(peer, "score"),
        age(peer.get("seen_ms").and_then(Value::as_u64), at_ms),
    ];
    let is_bad = number(peer, "dead") > 0 || (link == "down" && number(peer, "waiting") > 0);
    let text = row(cells.each_ref().map(String::as_str));
    Line { text, tone: if is_bad { Tone::Bad } else { Tone::Plain } }
}

fn row([node, standing, link, waiting, oldest, held, dead, score, seen]: [&str; 9]) -> String {
    format!(
        "{node:<14} {standing:<10} {link:<4} {waiting:>9} {oldest:>7} {held:>9} {dead:>6} {score:>6} {seen:>6}"
    )
}

const fn plain_line(text: String) -> Line {
    Line { text, tone: Tone::Plain }
}

fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or(0)
}

/// How long ago that is, in its largest unit.
fn age(then_ms: Option<u64>, at_ms: u64) -> String {
    let Some(then_ms) = then_ms else { return "-".to_owned() };
    let seconds = at_ms.saturating_sub(then_ms) / 1_000;
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7_199 => format!("{}m", seconds / 60),
        7_200..=172_799 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Draws the picture.
pub(crate) fn draw(top: &mut Top, frame: &mut Frame<'_>) {
    let area = frame.area();
    let peers = top.now.as_ref().and_then(|now| now.get("peers")?.as_array()).map_or(0, Vec::len);
    // What was scrolled beyond the end is not to be scrolled back through.
    top.first = top.first.min(peers);
    let lines = top.lines(usize::from(area.width), usize::from(area.height));
    for (line, row) in lines.into_iter().zip(area.rows()) {
        let style = match line.tone {
            Tone::Plain => Style::new(),
            Tone::Head => Style::new().add_modifier(Modifier::BOLD),
            Tone::Bad if top.color => Style::new().fg(Color::Yellow),
            Tone::Bad => Style::new().add_modifier(Modifier::UNDERLINED),
        };
        frame.render_widget(Text::styled(line.text, style), row);
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::{Value, json};

    use super::{Sort, Top, draw};

    const NOW_MS: u64 = 1_790_000_000_000;

    fn peer(name: &str, waiting: u64, oldest_s: Option<u64>, score: f64) -> Value {
        json!({
            "node": format!("{name}aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
            "standing": "allowed", "connected": waiting == 0, "queued": waiting + 2,
            "waiting": waiting, "oldest_ms": oldest_s.map(|s| NOW_MS - s * 1_000), "dead": 0,
            "score": score, "seen_ms": NOW_MS - 5_000,
        })
    }

    fn answer(at_ms: u64, accepted: u64, peers: &[Value]) -> Value {
        json!({
            "at_ms": at_ms,
            "status": {
                "node": "acme", "federation": "request", "requests": 2, "commit": 77, "accounts": 3,
                "devices_connected": 4, "peers_connected": 1, "inbox": 9, "waiting": 5,
                "queued": 12, "dead": 1, "full": false, "full_for_peers": false,
                "retired_ms": null,
            },
            "peers": peers,
            "counts": { "accepted": accepted, "stored": 0 },
        })
    }

    fn screen(top: &mut Top, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(top, frame)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let cell = |x, y| buffer[(x, y)].symbol().to_owned();
        (0..height)
            .map(|y| (0..width).map(|x| cell(x, y)).collect::<String>().trim_end().to_owned())
            .collect()
    }

    fn two() -> Vec<Value> {
        vec![peer("globex", 3, Some(90), 0.5), peer("initech", 9, Some(7_300), 21.0)]
    }

    #[test]
    fn the_node_its_rates_and_its_peers_are_on_one_small_screen() {
        let mut top = Top::default();
        top.take(answer(NOW_MS - 2_000, 100, &two()));
        top.take(answer(NOW_MS, 150, &two()));
        let lines = screen(&mut top, 80, 24);
        assert_eq!(lines[0], "tidings  acme");
        assert_eq!(lines[1], "serves, federation request, 2 requests, commit 77");
        assert_eq!(lines[2], "accounts 3  devices 4  peers 1  for devices 9");
        assert_eq!(lines[3], "to hand over 5  held by peers 6  dead letters 1  disk has room");
        assert!(lines[4].starts_with("a second  accepted 25  stored 0"), "{}", lines[4]);
        assert!(lines[6].starts_with("NODE ") && lines[6].ends_with("  SEEN"), "{}", lines[6]);
        assert!(lines[7].starts_with("initechaaaaaaa allowed"), "{}", lines[7]);
        let cells: Vec<&str> = lines[7].split_whitespace().skip(2).collect();
        assert_eq!(cells, ["down", "9", "2h", "2", "0", "21.0", "5s"]);
        assert!(lines[8].starts_with("globexaaaaaaaa"), "{}", lines[8]);
        assert!(lines[9].starts_with("q quit"), "{}", lines[9]);
        assert!(lines[10..].iter().all(String::is_empty));
    }

    #[test]
    fn peers_are_sorted_by_what_is_asked_for() {
        let mut top = Top::default();
        top.take(answer(NOW_MS, 0, &[peer("a", 1, Some(9), 3.0), peer("b", 5, Some(2), 1.0)]));
        let mut firsts = Vec::new();
        for sort in [Sort::Oldest, Sort::Waiting, Sort::Score] {
            top.sort = sort;
            firsts.push(screen(&mut top, 80, 24)[7].chars().next().unwrap());
        }
        assert_eq!(firsts, ['a', 'b', 'a']);
    }

    #[test]
    fn more_peers_than_lines_are_reached_by_scrolling_and_nothing_is_too_small() {
        let many: Vec<Value> = (0..60_u8)
            .map(|n| peer(&format!("n{n:02}"), 1, Some(100 - u64::from(n)), 0.0))
            .collect();
        let mut top = Top::default();
        top.take(answer(NOW_MS, 0, &many));
        let lines = screen(&mut top, 80, 24);
        assert!(lines[7].starts_with("n00") && lines[23].contains("44 more"), "{lines:?}");
        top.first = 10_000;
        let lines = screen(&mut top, 80, 24);
        assert!(lines[22].starts_with("n59"), "{lines:?}");
        for (width, height) in [(1, 1), (10, 3), (80, 8), (300, 2)] {
            screen(&mut top, width, height);
        }
        screen(&mut Top::default(), 80, 24);
    }

    #[test]
    fn a_node_that_is_gone_is_said_and_its_last_picture_stays() {
        let mut top = Top::default();
        top.take(answer(NOW_MS, 0, &two()));
        top.lost = Some("no node runs\u{1b}[2J".to_owned());
        let lines = screen(&mut top, 80, 24);
        assert_eq!(lines[5], "no node runs\u{fffd}[2J");
        assert_eq!(lines[0], "tidings  acme");
        top.take(answer(NOW_MS, 0, &two()));
        assert_eq!(screen(&mut top, 80, 24)[5], "");
    }
}
