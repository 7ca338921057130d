//! The screen of `nearside top`: a function of the state. In: what is known; out: cells of a
//! buffer, or, where there is no terminal, lines of text.

use super::pages;
use super::state::{Input, Page, Sample, State};
use crate::cli::figures::{rows, shown};
use crate::units::duration::Span;
use crate::units::size::Size;
use ratatui::buffer::{Buffer, Cell};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span as Piece};
use ratatui::widgets::{Paragraph, Row, Table, Widget};
use serde_json::Value;
use std::time::Duration;

/// Where nobody has said how wide it is.
const WIDTH: u16 = 100;

/// Invalidations on the screen, and outcomes with their latencies.
const RECENT: usize = 5;
const OUTCOMES: usize = 4;

/// What a key is called, and what it does.
const KEYS: &str = "1-5 pages  q quit  p pause  s sort  h hot by  / filter  Esc all  m mode";

/// And where a row can be chosen.
const CHOOSING: &str = "  j/k choose  i invalidate";

/// A list with its title and the heads of its columns, the first the widest.
pub(super) struct List {
    pub(super) title: String,
    pub(super) head: Vec<&'static str>,
    pub(super) rows: Vec<Vec<String>>,
}

/// Draws it.
pub(super) fn draw(state: &State, area: Rect, buffer: &mut Buffer) {
    let head = head(state);
    let height = u16::try_from(head.len()).unwrap_or(u16::MAX);
    let [top, middle, bottom] =
        Layout::vertical([Constraint::Length(height), Constraint::Fill(1), Constraint::Length(1)])
            .areas(area);
    Paragraph::new(head).render(top, buffer);
    Paragraph::new(foot(state)).render(bottom, buffer);
    let Some(sample) = &state.sample else {
        return;
    };
    match state.page {
        Page::Overview => overview(state, sample, middle, buffer),
        Page::Upstreams => {
            let servers = pages::list(state, sample);
            let needed = u16::try_from(servers.rows.len() + 3).unwrap_or(u16::MAX);
            let [above, below] =
                Layout::vertical([Constraint::Length(needed), Constraint::Fill(1)]).areas(middle);
            draw_list(state, &servers, above, buffer);
            draw_list(state, &pages::channels(sample), below, buffer);
        }
        _ => draw_list(state, &chosen(state, pages::list(state, sample), middle), middle, buffer),
    }
}

/// A part of each list.
fn overview(state: &State, sample: &Sample, middle: Rect, buffer: &mut Buffer) {
    let recent = recent(state, sample);
    let needed = u16::try_from(recent.rows.len() + 2).unwrap_or(u16::MAX);
    let [lists, last] =
        Layout::vertical([Constraint::Fill(1), Constraint::Length(needed)]).areas(middle);
    let [left, right] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).spacing(2).areas(lists);
    draw_list(state, &hot(state, sample), left, buffer);
    draw_list(state, &namespaces(state, sample), right, buffer);
    draw_list(state, &recent, last, buffer);
}

/// A list with its chosen row marked, from a row on from which that can be seen.
fn chosen(state: &State, mut list: List, area: Rect) -> List {
    let chosen = state.chosen.min(list.rows.len().saturating_sub(1));
    for (place, row) in list.rows.iter_mut().enumerate() {
        if let Some(name) = row.first_mut() {
            name.insert_str(0, if place == chosen { "> " } else { "  " });
        }
    }
    // Without title and head.
    let height = usize::from(area.height.saturating_sub(2)).max(1);
    list.rows.drain(..(chosen + 1).saturating_sub(height));
    list
}

/// The first page as lines of text, as many as it takes.
pub(super) fn text(state: &State) -> String {
    let length = |list: List| list.rows.len() + 2;
    let lists = state.sample.as_ref().map_or(0, |sample| {
        let both = length(hot(state, sample)).max(length(namespaces(state, sample)));
        both + length(recent(state, sample))
    });
    let height = u16::try_from(head(state).len() + lists + 1).unwrap_or(u16::MAX);
    let mut buffer = Buffer::empty(Rect::new(0, 0, WIDTH, height));
    draw(state, buffer.area, &mut buffer);
    // The last line is about keys.
    let lines = buffer.content.chunks(usize::from(WIDTH)).take(usize::from(height - 1));
    let line = |cells: &[Cell]| {
        let line: String = cells.iter().map(Cell::symbol).collect();
        line.trim_end().to_owned()
    };
    lines.map(line).collect::<Vec<_>>().join("\n")
}

fn head(state: &State) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    if let Some(sample) = &state.sample {
        lines.push(who(state, sample));
        lines.extend(list(&sample.status, "upstreams").iter().map(|row| upstream(state, row)));
        lines.push(traffic(sample));
        lines.push(hits(state, sample));
        lines.push(memory(state, &sample.status));
        lines.extend(latencies(&sample.stats));
        let warnings = list(&sample.status, "warnings").iter();
        let warning = |warning| paint(state, format!("! {}", shown(Some(warning))), Color::Yellow);
        lines.extend(warnings.map(|one| Line::from(warning(one))));
    } else if state.lost.is_none() {
        lines.push(Line::from("nearside: asking"));
    }
    if state.page != Page::Overview {
        lines.push(pages_line(state));
    }
    if let Some(why) = &state.lost {
        let text = format!("LOST, trying again: {}", harmless(why));
        lines.push(Line::from(paint(state, text, Color::Red)));
    }
    lines.push(Line::default());
    lines
}

/// The pages, with the one that is shown.
fn pages_line(state: &State) -> Line<'static> {
    let pieces = (1..).zip(Page::ALL).map(|(key, page)| {
        let text = format!("{key} {}  ", page.word());
        if page == state.page {
            strong(state, format!("[{}]  ", text.trim()))
        } else {
            Piece::raw(text)
        }
    });
    Line::from(pieces.collect::<Vec<_>>())
}

fn who(state: &State, sample: &Sample) -> Line<'static> {
    let status = &sample.status;
    let mode = at(status, "/mode");
    let color = if mode == "cache" { Color::Green } else { Color::Yellow };
    let up = Span(Duration::from_secs(number(status, "/uptime_seconds")));
    let mut pieces = vec![
        strong(state, format!("nearside {}", at(status, "/version"))),
        Piece::raw(format!(" as {}, up {up}, mode ", at(status, "/instance"))),
        paint(state, mode, color),
    ];
    let version = at(status, "/key_version");
    if !version.is_empty() {
        pieces.push(Piece::raw(format!(", keys {version}")));
    }
    if status.get("draining") == Some(&Value::Bool(true)) {
        pieces.push(paint(state, ", draining".to_owned(), Color::Yellow));
    }
    if state.is_paused {
        pieces.push(paint(state, ", PAUSED".to_owned(), Color::Yellow));
    }
    Line::from(pieces)
}

fn upstream(state: &State, row: &Value) -> Line<'static> {
    let mut pieces = vec![Piece::raw(format!("upstream {} ", at(row, "/address")))];
    let word = |name: &str| {
        let word = at(row, &format!("/{name}"));
        let color = if word == "down" { Color::Red } else { Color::Green };
        paint(state, word, color)
    };
    pieces.extend([word("state"), Piece::raw(", tracking "), word("tracking")]);
    pieces.extend([Piece::raw(", channel "), word("channel")]);
    let links = number(row, "/connections");
    let p99 = row.get("p99_ms").and_then(Value::as_f64);
    let p99 = p99.map_or_else(String::new, |p99| format!(", p99 {p99:.2} ms"));
    let text = format!(
        ", {links} links, {} errors{p99}, {} {}",
        number(row, "/errors"),
        at(row, "/server"),
        at(row, "/version"),
    );
    pieces.push(Piece::raw(text));
    Line::from(pieces)
}

fn traffic(sample: &Sample) -> Line<'static> {
    let sent = window(sample, "10s", "upstream_requests_per_second");
    Line::from(format!(
        "{} clients, {} requests/s, {:.0} to upstream/s",
        number(&sample.status, "/clients"),
        number(&sample.status, "/ops_per_second"),
        sent.unwrap_or(0.0),
    ))
}

fn hits(state: &State, sample: &Sample) -> Line<'static> {
    let mut pieces = vec![Piece::raw("hits ")];
    for (name, behind) in [("10s", ", "), ("1m", ", "), ("10m", "")] {
        pieces.push(strong(state, percent(window(sample, name, "hit_ratio"))));
        pieces.push(Piece::raw(format!(" in {name}{behind}")));
    }
    Line::from(pieces)
}

/// A number of late.
fn window(sample: &Sample, window: &str, name: &str) -> Option<f64> {
    sample.stats.get("windows")?.get(window)?.get(name)?.as_f64()
}

fn memory(state: &State, status: &Value) -> Line<'static> {
    let of = |name: &str| number(status, &format!("/memory/{name}"));
    let (used, most) = (of("used_bytes"), of("max_bytes"));
    let tenths = usize::try_from(used.saturating_mul(10).checked_div(most).unwrap_or(0));
    let tenths = tenths.unwrap_or(0).min(10);
    let bar = format!("[{}{}]", "#".repeat(tenths), "-".repeat(10 - tenths));
    Line::from(vec![
        Piece::raw("memory "),
        strong(state, bar),
        Piece::raw(format!(
            " {} of {}, {} keys",
            Size(used).for_people(),
            Size(most).for_people(),
            of("entries")
        )),
    ])
}

/// How long answers took in the last minute, by outcome, the most frequent first.
fn latencies(stats: &Value) -> Vec<Line<'static>> {
    let all = stats.pointer("/windows/1m/latency").and_then(Value::as_object);
    let mut rows: Vec<(&String, &Value)> = all.into_iter().flatten().collect();
    rows.retain(|(_, took)| number(took, "/count") > 0);
    rows.sort_by_key(|(_, took)| std::cmp::Reverse(number(took, "/count")));
    let line = |(outcome, took): (&String, &Value)| {
        let names = [("p50", "p50_us"), ("p90", "p90_us"), ("p99", "p99_us"), ("p99.9", "p999_us")];
        let cells = names.map(|(title, name)| {
            let micros = took.get(name).and_then(Value::as_f64).unwrap_or(0.0);
            format!("{title} {micros:>8.0}")
        });
        Line::from(format!("{outcome:<12} us {}", cells.join("  ")))
    };
    rows.into_iter().take(OUTCOMES).map(line).collect()
}

fn hot(state: &State, sample: &Sample) -> List {
    let row = |row: &Value| {
        vec![
            hot_name(row),
            rate(row.get("rate_per_second")),
            percent(row.get("share").and_then(Value::as_f64)),
            if row.get("cached") == Some(&Value::Bool(true)) { "yes" } else { "no" }.to_owned(),
        ]
    };
    let by = at(&sample.hot, "/by");
    List {
        title: format!("hot keys by {by}"),
        head: vec!["key", "per s", "share", "held"],
        rows: kept(state, rows(&sample.hot, "keys").iter().map(row)),
    }
}

/// A hot key as it is shown.
pub(super) fn hot_name(row: &Value) -> String {
    let name = ["key", "key_base64"].into_iter().find_map(|name| row.get(name));
    let hash = || format!("{}:#{}", shown(row.get("namespace")), shown(row.get("key_hash")));
    name.map_or_else(hash, |name| shown(Some(name)))
}

fn namespaces(state: &State, sample: &Sample) -> List {
    let mut sorted: Vec<&Value> = rows(&sample.namespaces, "namespaces").iter().collect();
    sorted.sort_by(|a, b| state.sort.order(a, b));
    let row = |row: &Value| {
        vec![
            shown(row.get("namespace")),
            rate(row.get("reads_per_second")),
            percent(row.get("hit_ratio").and_then(Value::as_f64)),
            number(row, "/misses").to_string(),
            rate(row.get("bytes_per_second")),
        ]
    };
    List {
        title: format!("namespaces by {}, 1m", state.sort.word()),
        head: vec!["namespace", "reads/s", "hits", "misses", "bytes/s"],
        rows: kept(state, sorted.into_iter().map(row)),
    }
}

fn recent(state: &State, sample: &Sample) -> List {
    let row = |row: &Value| {
        let value = ["value", "value_base64"].into_iter().find_map(|name| row.get(name)?.as_str());
        vec![
            harmless(value.unwrap_or_default()),
            at(row, "/kind"),
            at(row, "/source"),
            number(row, "/removed").to_string(),
            at(row, "/time"),
        ]
    };
    let mut rows = kept(state, rows(&sample.invalidations, "invalidations").iter().map(row));
    rows.truncate(RECENT);
    List {
        title: "invalidations".to_owned(),
        head: vec!["what", "kind", "by", "removed", "time"],
        rows,
    }
}

/// Those whose name has what is looked for.
fn kept(state: &State, rows: impl Iterator<Item = Vec<String>>) -> Vec<Vec<String>> {
    let fits = |row: &Vec<String>| row.first().is_some_and(|name| name.contains(&state.filter));
    rows.filter(fits).collect()
}

fn draw_list(state: &State, list: &List, area: Rect, buffer: &mut Buffer) {
    let widths = (0..list.head.len()).map(|column| {
        let cells = list.rows.iter().filter_map(|row| row.get(column));
        let head = list.head.get(column).map_or(0, |head| head.len());
        let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(head);
        match u16::try_from(widest) {
            _ if column == 0 => Constraint::Fill(1),
            widest => Constraint::Length(widest.unwrap_or(u16::MAX)),
        }
    });
    let [title, body] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
    strong(state, list.title.clone()).render(title, buffer);
    let line = |row: &Vec<String>| Row::new(row.clone());
    let head = Row::new(list.head.clone()).style(dim(state));
    let table = Table::new(list.rows.iter().map(line), widths).header(head);
    Widget::render(table, body, buffer);
}

/// What keys do now, or what came of one.
fn foot(state: &State) -> Line<'static> {
    let asked = |text: String| Line::from(paint(state, text, Color::Yellow));
    match (&state.input, &state.note) {
        (Input::Filter, _) => Line::from(format!("filter: {}_", harmless(&state.filter))),
        (Input::Mode, _) => Line::from("mode: c cache  o observe  b bypass  (others: stay)"),
        (Input::Sure(mode), _) => asked(format!("switch this proxy to {}? [y/N]", mode.as_str())),
        (Input::Forget(what), _) => {
            asked(format!("invalidate {}, here and at the peers? [y/N]", what.words))
        }
        (Input::Plain, Some(Ok(done))) => Line::from(done.clone()),
        (Input::Plain, Some(Err(why))) => Line::from(paint(state, harmless(why), Color::Red)),
        (Input::Plain, None) => {
            let is_choosing = matches!(state.page, Page::Keys | Page::Namespaces);
            let choosing = if is_choosing { CHOOSING } else { "" };
            let filter = match state.filter.as_str() {
                "" => String::new(),
                filter => format!("  (filter: {})", harmless(filter)),
            };
            Line::from(format!("{KEYS}{choosing}{filter}"))
        }
    }
}

fn paint(state: &State, text: String, color: Color) -> Piece<'static> {
    let style = if state.is_colored { Style::new().fg(color) } else { Style::new() };
    Piece::styled(text, style)
}

fn strong(state: &State, text: String) -> Piece<'static> {
    let style = Style::new().add_modifier(Modifier::BOLD);
    Piece::styled(text, if state.is_colored { style } else { Style::new() })
}

const fn dim(state: &State) -> Style {
    let style = Style::new();
    if state.is_colored { style.add_modifier(Modifier::DIM) } else { style }
}

pub(super) fn percent(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{:.1} %", ratio * 100.0))
}

pub(super) fn rate(value: Option<&Value>) -> String {
    value.and_then(Value::as_f64).map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"))
}

/// Text of the other side, which may be anything.
fn harmless(text: &str) -> String {
    shown(Some(&Value::from(text)))
}

pub(super) fn at(value: &Value, pointer: &str) -> String {
    harmless(value.pointer(pointer).and_then(Value::as_str).unwrap_or_default())
}

pub(super) fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    rows(value, name)
}

#[cfg(test)]
mod tests {
    use super::{Input, Page, Sample, State, draw, text};
    use crate::cli::remote::Mode;
    use crate::cli::sort::Namespaces;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::buffer::Cell;
    use ratatui::style::Color;
    use serde_json::json;

    fn known() -> State {
        let window =
            |ratio: f64| json!({ "hit_ratio": ratio, "upstream_requests_per_second": 7.0 });
        let took =
            json!({ "count": 9, "p50_us": 80, "p90_us": 120, "p99_us": 900, "p999_us": 2000 });
        let upstream = json!({
            "address": "db:6379", "state": "up", "tracking": "down", "channel": "off",
            "server": "redis", "version": "7.2.4", "connections": 2, "errors": 1, "p99_ms": 0.9,
        });
        let minute = json!({
            "hit_ratio": 0.5,
            "latency": { "bypass": { "count": 0 }, "miss": took },
        });
        let row = |name: &str, reads: f64, ratio: Option<f64>| {
            json!({
                "namespace": name, "reads_per_second": reads, "hit_ratio": ratio, "misses": 3,
                "bytes_per_second": 10.0, "entries": 7, "bytes": 1536,
            })
        };
        let mut state = State::new(false);
        state.know(Ok(Box::new(Sample {
            upstreams: json!({
                "upstreams": [upstream],
                "channels": [{ "source": "eu", "address": "eu:6379", "state": "down" }],
            }),
            clients: json!({ "total": 12, "clients": [{
                "id": 7, "addr": "10.0.0.1:5", "name": "shop", "age_seconds": 60,
                "idle_seconds": 1, "db": 0, "command": "get", "commands": 9, "hits": 8,
                "unsent_bytes": 2048,
            }]}),
            status: json!({
                "version": "0.1.0", "instance": "host", "uptime_seconds": 3_600, "mode": "cache",
                "key_version": "v1", "clients": 12, "ops_per_second": 3456,
                "memory": { "entries": 5, "used_bytes": 1 << 20, "max_bytes": 4 << 20 },
                "upstreams": [upstream], "warnings": ["tracking: down"],
            }),
            stats: json!({ "windows": { "10s": window(0.981), "1m": minute, "10m": window(0.9) } }),
            hot: json!({ "by": "reads", "keys": [
                { "key": "orders:1\u{1b}", "rate_per_second": 90.5, "share": 0.5, "cached": true },
                { "key_hash": "00ff", "namespace": "users", "rate_per_second": 1, "share": 0.1 },
            ]}),
            namespaces: json!({ "namespaces": [
                row("orders", 90.0, Some(0.9)),
                row("users", 100.0, None),
            ]}),
            invalidations: json!({ "invalidations": [{
                "time": "2026-11-22T00:00:00.000Z", "source": "admin", "kind": "pattern",
                "value": "orders:*", "removed": 4,
            }]}),
        })));
        state
    }

    #[test]
    fn the_whole_screen() {
        let mut terminal = Terminal::new(TestBackend::new(84, 17)).unwrap();
        let state = known();
        terminal.draw(|frame| draw(&state, frame.area(), frame.buffer_mut())).unwrap();
        terminal.backend().assert_buffer_lines([
            "nearside 0.1.0 as host, up 1h, mode cache, keys v1                                  ",
            "upstream db:6379 up, tracking down, channel off, 2 links, 1 errors, p99 0.90 ms, red",
            "12 clients, 3456 requests/s, 7 to upstream/s                                        ",
            "hits 98.1 % in 10s, 50.0 % in 1m, 90.0 % in 10m                                     ",
            "memory [##--------] 1mb of 4mb, 5 keys                                              ",
            "miss         us p50       80  p90      120  p99      900  p99.9     2000            ",
            "! tracking: down                                                                    ",
            "                                                                                    ",
            "hot keys by reads                          namespaces by reads, 1m                  ",
            "key                     per s share  held  namespace   reads/s hits   misses bytes/s",
            "orders:1�               90.5  50.0 % yes   users       100.0   -      3      10.0   ",
            "users:#00ff             1.0   10.0 % no    orders      90.0    90.0 % 3      10.0   ",
            "                                                                                    ",
            "invalidations                                                                       ",
            "what                                  kind    by    removed time                    ",
            "orders:*                              pattern admin 4       2026-11-22T00:00:00.000Z",
            "1-5 pages  q quit  p pause  s sort  h hot by  / filter  Esc all  m mode             ",
        ]);
    }

    /// The lines below the head.
    fn lines(state: &State, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(state, frame.area(), frame.buffer_mut())).unwrap();
        let cells = terminal.backend().buffer().content();
        let line = |cells: &[Cell]| cells.iter().map(Cell::symbol).collect::<String>();
        let lines = cells.chunks(usize::from(width)).map(line);
        lines.skip(9).map(|line| line.trim_end().to_owned()).collect()
    }

    #[test]
    fn each_page_has_its_list() {
        let mut state = known();
        state.page = Page::Namespaces;
        state.chosen = 1;
        let all = lines(&state, 100, 14);
        assert_eq!((all.len(), all[0].as_str()), (5, "namespaces by reads, 1m"));
        assert!(
            all[1].starts_with("namespace ") && all[1].ends_with(" keys held held"),
            "{all:#?}"
        );
        assert!(all[2].starts_with("  users ") && all[2].ends_with(" 7         1.5kb"), "{all:#?}");
        assert!(all[3].starts_with("> orders "), "{all:#?}");
        assert!(all[4].ends_with("  m mode  j/k choose  i invalidate"), "{all:#?}");
        // What is chosen is seen.
        let few = lines(&state, 100, 13);
        assert!(few[2].starts_with("> orders") && few.len() == 4, "{few:#?}");
        state.page = Page::Keys;
        let keys = lines(&state, 100, 14);
        assert!(keys[2].starts_with("  orders:1\u{fffd}") && keys[3].starts_with("> users:#00ff"));
        state.page = Page::Upstreams;
        let servers = lines(&state, 100, 17).join("\n");
        for words in ["db:6379", "redis 7.2.4", "invalidation channel heard at\n", "eu:6379"] {
            assert!(servers.contains(words), "no {words} in\n{servers}");
        }
        state.page = Page::Clients;
        let clients = lines(&state, 100, 13);
        assert_eq!(clients[0], "clients by id, of 12");
        assert!(clients[2].starts_with("> 10.0.0.1:5 shop") && clients[2].ends_with("2kb"));
    }

    #[test]
    fn what_is_asked_and_what_is_lost() {
        let mut state = known();
        state.sort = Namespaces::HitRatio;
        state.filter = "ord".to_owned();
        state.input = Input::Sure(Mode::Bypass);
        state.know(Err("no proxy at http://h".to_owned()));
        let text = text(&state);
        assert!(text.contains("LOST, trying again: no proxy at http://h"), "{text}");
        assert!(!text.contains("users") && text.contains("by hit ratio, lowest first"), "{text}");
        let mut terminal = Terminal::new(TestBackend::new(40, 5)).unwrap();
        state.is_colored = true;
        terminal.draw(|frame| draw(&state, frame.area(), frame.buffer_mut())).unwrap();
        let cells = terminal.backend().buffer().content();
        let last: String = cells[160..].iter().map(Cell::symbol).collect();
        assert_eq!(last.trim_end(), "switch this proxy to bypass? [y/N]");
        assert_eq!(cells[160].fg, Color::Yellow);
    }

    #[test]
    fn before_the_first_answer() {
        assert_eq!(text(&State::new(false)), "nearside: asking\n");
    }

    #[test]
    fn lists_take_as_many_lines_as_they_need() {
        let text = text(&known());
        assert!(text.ends_with("2026-11-22T00:00:00.000Z"), "{text}");
        assert_eq!(text.lines().count(), 15, "{text}");
    }
}
