//! Descriptions as servers write them, and what becomes of them.

use super::{Learned, Learner, ROWS_MAX, Strangers};
use crate::command::{KeySpec, Need, Refusal, Route, by_name};
use std::fmt::Write as _;

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

fn list(items: &[String]) -> String {
    format!("*{}\r\n{}", items.len(), items.concat())
}

/// Pairs, as RESP2 and as RESP3 write them.
fn map(is_resp3: bool, pairs: &[(&str, String)]) -> String {
    let written: String = pairs.iter().map(|(key, value)| bulk(key) + value).collect();
    let (kind, count) = if is_resp3 { ('%', pairs.len()) } else { ('*', pairs.len() * 2) };
    format!("{kind}{count}\r\n{written}")
}

/// `index:1 range:0,1,0 rw`, as COMMAND writes a key spec.
fn key_spec(resp3: bool, text: &str) -> String {
    let mut words = text.split(' ');
    let (begin, at) = words.next().unwrap().split_once(':').unwrap();
    let (find, how) = words.next().unwrap().split_once(':').unwrap();
    let flags: Vec<String> = words.map(|flag| format!("+{flag}\r\n")).collect();
    let names: &[&str] = match find {
        "range" => &["lastkey", "keystep", "limit"],
        "keynum" => &["keynumidx", "firstkey", "keystep"],
        _ => &[],
    };
    let numbers = how.split(',').map(|number| format!(":{number}\r\n"));
    let how: Vec<(&str, String)> = names.iter().copied().zip(numbers).collect();
    let at = map(resp3, &[("index", format!(":{at}\r\n"))]);
    let begin = map(resp3, &[("type", bulk(begin)), ("spec", at)]);
    let find = map(resp3, &[("type", bulk(find)), ("spec", map(resp3, &how))]);
    map(
        resp3,
        &[
            ("notes", bulk("a remark")),
            ("flags", list(&flags)),
            ("begin_search", begin),
            ("find_keys", find),
        ],
    )
}

fn row(resp3: bool, name: &str, flags: &str, specs: &[&str], subs: &[String]) -> String {
    let flags: Vec<String> = flags.split(' ').map(|flag| format!("+{flag}\r\n")).collect();
    let specs: Vec<String> = specs.iter().map(|spec| key_spec(resp3, spec)).collect();
    let number = |number: i64| format!(":{number}\r\n");
    list(&[
        bulk(name),
        number(-2),
        list(&flags),
        number(0),
        number(0),
        number(0),
        list(&[]),
        list(&[]),
        list(&specs),
        list(subs),
    ])
}

fn learn(strangers: Strangers, listed: &[(&str, &str)], rows: &[String]) -> Learned {
    let keys = |(name, text): &(&str, &str)| ((*name).to_owned(), KeySpec::parse(text).unwrap());
    let mut learner = Learner::new(strangers, listed.iter().map(keys).collect());
    learner.read(list(rows).as_bytes()).unwrap()
}

fn found(learned: &Learned, request: &str) -> Option<(KeySpec, Route)> {
    let words: Vec<&str> = request.split(' ').collect();
    learned.find(words.len(), |at| words[at].as_bytes()).map(|row| (row.keys, row.route))
}

#[test]
fn keys_are_where_command_says() {
    let range = |first, last, step| KeySpec::Range { first, last, step };
    for (specs, expected) in [
        (&["index:1 range:0,1,0 RW"][..], Some(KeySpec::One(1))),
        (&["index:2 range:0,1,0"], Some(KeySpec::One(2))),
        (&["index:1 range:-1,1,0"], Some(range(1, -1, 1))),
        (&["index:1 range:-2,1,0"], Some(range(1, -2, 1))),
        (&["index:1 range:-1,2,0"], Some(range(1, -1, 2))),
        (&["index:1 range:2,1,0"], Some(range(1, 3, 1))),
        (&["index:2 range:0,1,0", "index:1 range:0,1,0"], Some(range(1, 2, 1))),
        (&["index:1 range:0,1,0", "index:2 range:-1,1,0"], Some(range(1, -1, 1))),
        (&["index:2 keynum:0,1,1"], Some(KeySpec::Counted { count: 2, step: 1 })),
        (&["index:1 keynum:0,1,2"], Some(KeySpec::Counted { count: 1, step: 2 })),
        (&["index:1 range:0,1,0", "index:2 keynum:0,1,1"], Some(KeySpec::DestinationCounted)),
        // A channel is no key.
        (&["index:1 range:0,1,0 not_key", "index:2 range:0,1,0"], Some(KeySpec::One(2))),
        // The first half of what follows; a gap; an overlap; a word to look for; the unknown.
        (&["index:1 range:-1,1,2"], None),
        (&["index:1 range:0,1,0", "index:3 range:0,1,0"], None),
        (&["index:1 range:-1,1,0", "index:2 range:0,1,0"], None),
        (&["index:2 keynum:0,1,1", "index:5 range:0,1,0"], None),
        (&["index:2 keynum:0,2,1"], None),
        (&["keyword:2 range:0,1,0"], None),
        (&["unknown:2 range:0,1,0"], None),
        (&["index:1 unknown:0"], None),
        (&["index:1 range:0,1,0 incomplete"], None),
        (&["index:0 range:0,1,0"], None),
        (&["index:300 range:0,1,0"], None),
    ] {
        for resp3 in [false, true] {
            let rows = [row(resp3, "new", "write", specs, &[])];
            let learned = learn(Strangers::Learn, &[], &rows);
            let told = expected.map(|keys| (keys, Route::Forward));
            let untold = (KeySpec::None, Route::Refuse(Refusal::KeysUntold));
            assert_eq!(found(&learned, "NEW a"), Some(told.unwrap_or(untold)), "{specs:?}");
        }
    }
}

#[test]
fn flags_decide_what_is_done() {
    let key = &["index:1 range:0,1,0"][..];
    let none = KeySpec::None;
    let refused = |why| (none, Route::Refuse(why));
    for (flags, specs, listed, expected) in [
        ("readonly fast", key, "", (KeySpec::One(1), Route::Forward)),
        ("write module", key, "", refused(Refusal::Module)),
        ("write module", key, "i1..-1", (KeySpec::parse("i1..-1").unwrap(), Route::Forward)),
        ("readonly module", &[][..], "none", (none, Route::Forward)),
        ("readonly", &[], "", (none, Route::ForwardUnlessPrefixed)),
        ("loading", &[], "", refused(Refusal::Stranger)),
        ("admin readonly", key, "i1", refused(Refusal::Stranger)),
        ("pubsub", &[], "", refused(Refusal::Stranger)),
        ("write blocking", key, "", (KeySpec::One(1), Route::Own(Need::Block))),
        ("readonly blocking", &[], "", refused(Refusal::Stranger)),
    ] {
        let listed: &[(&str, &str)] = if listed.is_empty() { &[] } else { &[("a.new", listed)] };
        let learned = learn(Strangers::Learn, listed, &[row(true, "A.NEW", flags, specs, &[])]);
        assert_eq!(found(&learned, "a.new x"), Some(expected), "{flags}");
        let row = learned.rows()[0];
        assert_eq!(row.writes(), !flags.contains("readonly"), "{flags}");
        assert!(!row.cacheable());
    }
    let passed = learn(Strangers::Pass, &[], &[row(true, "new", "write module", key, &[])]);
    assert_eq!(found(&passed, "new x"), Some((none, Route::Own(Need::Unknown))));
    assert!(passed.rows()[0].writes_everything());
}

#[test]
fn rows_of_the_table_win_and_what_the_server_lacks_is_known() {
    let key = &["index:1 range:0,1,0"];
    let sub = row(true, "client|new", "readonly", &["index:2 range:0,1,0"], &[]);
    let rows = [
        row(true, "get", "readonly", &["index:5 range:0,1,0"], &[]),
        row(true, "client", "loading", &[], &[row(true, "client|id", "fast", &[], &[]), sub]),
        row(true, "new", "readonly", key, &[]),
    ];
    let learned = learn(Strangers::Learn, &[], &rows);
    let names: Vec<&str> = learned.rows().iter().map(|row| row.name).collect();
    assert_eq!(names, ["client|new", "new"]);
    assert_eq!(found(&learned, "Client NEW k"), Some((KeySpec::One(2), Route::Forward)));
    assert_eq!(found(&learned, "client"), None);
    assert_eq!(found(&learned, "newer a"), None);
    for (name, lacks) in
        [("get", false), ("client|id", false), ("client|kill", true), ("set", true)]
    {
        assert_eq!(learned.lacks(by_name(name).unwrap()), lacks, "{name}");
    }
    assert!(!Learned::default().lacks(by_name("set").unwrap()));
    assert!(learn(Strangers::Reject, &[], &rows).rows().is_empty());
}

#[test]
fn a_server_that_comes_back_costs_no_new_rows_and_no_server_costs_many() {
    let mut learner = Learner::new(Strangers::Learn, Vec::new());
    let read = |learner: &mut Learner, rows: &[String]| {
        learner.read(list(rows).as_bytes()).unwrap().rows().to_vec()
    };
    let one = [row(false, "new", "readonly", &["index:1 range:0,1,0"], &[])];
    let first = read(&mut learner, &one);
    assert!(std::ptr::eq(first[0], read(&mut learner, &one)[0]));
    let changed = [row(false, "new", "readonly", &["index:2 range:0,1,0"], &[])];
    assert_eq!(read(&mut learner, &changed)[0].keys, KeySpec::One(2));
    let many: Vec<String> = (0..2 * ROWS_MAX)
        .map(|number| {
            let mut name = "new".to_owned();
            write!(name, "{number}").unwrap();
            row(false, &name, "readonly", &["index:1 range:0,1,0"], &[])
        })
        .collect();
    assert_eq!(read(&mut learner, &many).len(), ROWS_MAX - 2);
    assert_eq!(learner.made.len(), ROWS_MAX);
}

#[test]
fn what_is_no_list_of_commands_is_refused() {
    let mut learner = Learner::new(Strangers::Learn, Vec::new());
    for reply in [
        "-NOPERM this user has no permissions to run the 'command' command\r\n",
        "*0\r\n",
        "*1\r\n*1\r\n$3\r\nget\r\n",
        "*1\r\n:1\r\n",
        "+OK\r\n",
    ] {
        assert!(learner.read(reply.as_bytes()).is_none(), "{reply}");
    }
    // Redis 6 says first, last and step alone.
    let old = "*1\r\n*6\r\n$3\r\nnew\r\n:-2\r\n*1\r\n+write\r\n:1\r\n:-1\r\n:2\r\n";
    let learned = learner.read(old.as_bytes()).unwrap();
    let expected = (KeySpec::Range { first: 1, last: -1, step: 2 }, Route::Forward);
    assert_eq!(found(&learned, "new a 1"), Some(expected));
}
