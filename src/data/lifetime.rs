//! The lifetime that a rule gives to what is SET without one (`write_ttl`). In: a request; out: the
//! milliseconds to be written behind it, if any. What a client says itself always holds.

use crate::command::Spec;
use crate::rules::Rules;
use crate::wire::request::Request;
use std::time::Duration;

/// Options of SET that say how long.
const SAID: [&[u8]; 5] = [b"EX", b"PX", b"EXAT", b"PXAT", b"KEEPTTL"];

/// What this request is to be given.
#[inline]
pub fn given(spec: &Spec, request: &Request<'_>, rules: &Rules) -> Option<Duration> {
    if !rules.give_lifetimes() {
        return None;
    }
    by_rule(spec, request, rules)
}

#[cold]
fn by_rule(spec: &Spec, request: &Request<'_>, rules: &Rules) -> Option<Duration> {
    if spec.name != "set" || request.len() < 3 {
        return None;
    }
    let says = |option: &[u8]| SAID.iter().any(|said| option.eq_ignore_ascii_case(said));
    if request.from(3).any(says) {
        return None;
    }
    rules.find(request.arg(1)).write_ttl
}

#[cfg(test)]
mod tests {
    use super::given;
    use crate::command::by_name;
    use crate::config::{Overrides, load};
    use crate::data::forward::write_words;
    use crate::rules::Rules;
    use crate::wire::request::{Limits, Request, Scan};
    use bytes::BytesMut;
    use std::time::Duration;

    #[test]
    fn only_a_set_that_says_nothing_is_given_a_lifetime() {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("proxy.toml");
        let rules = "[[rules]]\nmatch = 's:*'\nwrite_ttl = '90s'\n[[rules]]\nmatch = 'k*'\n";
        std::fs::write(&file, rules).unwrap();
        let overrides = Overrides { file: Some(file), ..Overrides::default() };
        let rules = Rules::compile(&load(&overrides).unwrap().settings);
        let limits = Limits { args_max: 9, bulk_max: 99, unauthenticated: false };
        for (line, expected) in [
            ("SET s:1 x", true),
            ("SET s:1 x NX GET", true),
            ("SET s:1 x EX 5", false),
            ("SET s:1 x nx pxat 5", false),
            ("SET s:1 x keepttl", false),
            ("SET k x", false),
            ("SET other x", false),
            ("SETNX s:1 x", false),
            ("GET s:1", false),
        ] {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            let (mut input, mut args) = (BytesMut::new(), Vec::new());
            write_words(&mut input, &words);
            Scan::default().next(&input, &mut args, &limits).unwrap();
            let request = Request::new(&input, &args);
            let spec = by_name(&line.split(' ').next().unwrap().to_lowercase()).unwrap();
            let given = given(spec, &request, &rules);
            assert_eq!(given, expected.then_some(Duration::from_secs(90)), "{line}");
        }
    }
}
