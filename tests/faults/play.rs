//! Rows of the scripted upstream: one client asks for what is struck, four others work on the same
//! link meanwhile.

use crate::client::{Client, write};
use crate::crew::{Crew, Fate, in_flight};
use crate::judge::judge;
use crate::order::Order;
use crate::report::{self, Tally};
use crate::strikes::{Asks, Comes, Strike, strikes};
use crate::target::{QUICK, Target};
use crate::upstream::{POISON, Upstream, bulk};
use crate::verbs::Verb;
use nearside::units::clock::Clock;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The rows that are wanted.
pub(crate) fn play(order: &Order, tallies: &mut Vec<Tally>) {
    for strike in strikes().iter().filter(|strike| order.wants(strike.row)) {
        let modes: &[&'static str] = match strike.comes {
            Comes::Proof | Comes::Undetectable if order.is_nearside() => &["fills", "strict"],
            _ => &[""],
        };
        for verify in modes {
            let mut tally = Tally::new(strike.row, strike.what);
            tally.verify = verify;
            // The bystanders' patience may end: the other rows go on.
            let played = catch_unwind(AssertUnwindSafe(|| one(strike, &mut tally, order)));
            tally.rule(played.is_ok(), || "not played to its end".to_owned());
            tally.show();
            tallies.push(tally);
        }
    }
}

fn one(strike: &Strike, tally: &mut Tally, order: &Order) {
    let verb = (strike.verb)();
    let takes_long = matches!(verb, Verb::Delay(_) | Verb::Hang | Verb::StopReading);
    let times = order.times(if takes_long { 1 } else { 3 });
    let upstream = Upstream::start(order.upstream_port()).unwrap();
    let verify = tally.verify;
    let setting = format!("cache.verify = \"{verify}\"");
    let mut settings = if verify.is_empty() { vec![] } else { vec![setting.as_str()] };
    // Where every error counts, a machine that does much else is not to bring any about.
    if !matches!(strike.comes, Comes::Answer | Comes::Words) {
        settings.extend(QUICK);
    }
    let target = Target::start(order.which, upstream.port, &settings);
    if strike.asks == Asks::Append && strike.comes == Comes::Words {
        tally.what.push_str(" to a write");
    }
    tally.is_told_wrong =
        strike.comes == Comes::Undetectable || strike.comes == Comes::Proof && verify == "fills";
    let crew = Crew::start(target.port, strike.proto, order.seed);
    let before = target.resident();
    upstream.arm(verb);
    let told = strike_often(strike, times, tally, &crew, &target);
    tally.injected = upstream.strikes();
    upstream.disarm();
    // Whoever has a pipeline out on a link that ends loses it, once.
    tally.allowed = Some(match strike.comes {
        Comes::Answer | Comes::Words => 0,
        _ => in_flight(times),
    });
    let list = format!("{}{POISON}list", target.prefix());
    let executed = Client::dial(upstream.port).unwrap().ask(&["LRANGE", &list, "0", "-1"]);
    tally.compare(&told, &report::executed(&executed.unwrap()));
    judge(tally, crew, &target, upstream.port);
    if strike.comes == Comes::Undetectable {
        tally.kept.clear();
    }
    if matches!(strike.row, "F13" | "F14" | "F15") && target.pid().is_some() {
        let more = target.resident().saturating_sub(before) >> 10;
        tally.notes.push(format!("memory +{more} KB"));
    }
}

/// What became of the writes that were struck.
fn strike_often(
    strike: &Strike,
    times: u64,
    tally: &mut Tally,
    crew: &Crew,
    target: &Target,
) -> BTreeMap<String, Fate> {
    let clock = Clock::system();
    let mut culprit = Culprit { strike, port: target.port, conn: None, told: BTreeMap::new() };
    for number in 0..times {
        if strike.is_calm {
            crew.rest();
        }
        let (begun, before) = (clock.now(), target.resident());
        culprit.ask(number, tally);
        if strike.is_calm && matches!(strike.row, "F13" | "F14") {
            // Nobody else has asked for anything meanwhile.
            let more = target.resident().saturating_sub(before) >> 10;
            tally.rule(more <= 1024, || format!("{more} KB more memory for a header"));
        }
        crew.go_on();
        crew.until_well();
        tally.recovered(clock.now().since(begun));
    }
    culprit.told
}

/// Who asks for what is struck.
struct Culprit<'s> {
    strike: &'s Strike,
    port: u16,
    conn: Option<Client>,
    told: BTreeMap<String, Fate>,
}

impl Culprit<'_> {
    fn ask(&mut self, number: u64, tally: &mut Tally) {
        let (key, value) = (format!("{POISON}{number}"), format!("strike.{number}"));
        let mut request = Vec::new();
        match self.strike.asks {
            Asks::Get => write(&mut request, &["GET", &key]),
            Asks::Mget => write(&mut request, &["MGET", &key, &format!("{key}.too")]),
            Asks::Exists => write(&mut request, &["EXISTS", &key, &format!("{key}.too")]),
            Asks::Append => {
                self.told.insert(value.clone(), Fate::Unknown);
                write(&mut request, &["RPUSH", &format!("{POISON}list"), &value]);
            }
        }
        match self.exchange(&request) {
            Ok(reply) => self.judge(&reply, &key, value, tally),
            Err(ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                tally.hung += 1;
                self.conn = None;
            }
            Err(_) => {
                tally.culprit += 1;
                self.conn = None;
                tally.rule(self.strike.comes != Comes::Answer, || "no answer".to_owned());
            }
        }
    }

    fn exchange(&mut self, request: &[u8]) -> Result<Vec<u8>, ErrorKind> {
        let of = |error: std::io::Error| error.kind();
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => Client::dial(self.port).map_err(of)?,
        };
        if self.strike.proto == 3 {
            conn.words("HELLO 3").map_err(of)?;
        }
        conn.send(request).map_err(of)?;
        let reply = conn.reply().map_err(of)?;
        self.conn = Some(conn);
        Ok(reply)
    }

    fn judge(&mut self, reply: &[u8], key: &str, value: String, tally: &mut Tally) {
        let shown = || reply.escape_ascii().to_string();
        if let Verb::Error(text) = (self.strike.verb)() {
            tally.culprit += 1;
            let expected = format!("-{text}\r\n");
            return tally.rule(reply == expected.as_bytes(), || format!("the words: {}", shown()));
        }
        if reply.starts_with(b"-") {
            tally.culprit += 1;
            let is_undone = String::from_utf8_lossy(reply).contains("not executed");
            if self.strike.asks == Asks::Append {
                self.told.insert(value, if is_undone { Fate::Refused } else { Fate::Unknown });
            }
            return tally.rule(self.strike.comes != Comes::Answer, shown);
        }
        let is_right = match self.strike.asks {
            Asks::Get => reply == bulk(key.as_bytes()),
            Asks::Mget => {
                let more = bulk(format!("{key}.too").as_bytes());
                reply == [&b"*2\r\n"[..], &bulk(key.as_bytes()), &more].concat()
            }
            Asks::Exists => reply == b":2\r\n",
            Asks::Append => reply.starts_with(b":"),
        };
        if is_right && self.strike.asks == Asks::Append {
            self.told.insert(value, Fate::Done);
        } else if !is_right {
            tally.wrong.push(format!("the culprit was told {}", shown()));
        }
    }
}
