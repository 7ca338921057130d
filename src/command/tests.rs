//! The table as a whole: every row found, every near miss not, and what must hold between columns.

use super::{
    CacheRule, Choices, Class, Disposition, Flags, HARDENED, KeySpec, Need, Policy, Refusal,
    ReplyRule, ReplyShape, Route, Spec, Unknown, all, by_name, find, find_sub, own, resolve,
};

fn spec(name: &str) -> &'static Spec {
    by_name(name).unwrap_or_else(|| panic!("{name}"))
}

fn commands() -> impl Iterator<Item = &'static Spec> {
    all().iter().filter(|spec| !spec.name.contains('|'))
}

/// `GeT`: every other letter in the other case.
fn mixed(name: &str) -> String {
    let other = |(at, letter): (usize, char)| {
        if at % 2 == 0 { letter.to_ascii_uppercase() } else { letter }
    };
    name.chars().enumerate().map(other).collect()
}

#[test]
fn every_row_is_found_in_any_case() {
    assert_eq!(all().len(), 601);
    for (at, spec) in all().iter().enumerate() {
        assert_eq!(usize::from(spec.index), at);
        assert!(std::ptr::eq(by_name(spec.name).unwrap(), spec), "{}", spec.name);
        for word in [spec.word().to_owned(), spec.word().to_ascii_uppercase(), mixed(spec.word())] {
            let found = match spec.name.split_once('|') {
                None => find(word.as_bytes()),
                Some((container, _)) => find_sub(by_name(container).unwrap(), word.as_bytes()),
            };
            assert!(std::ptr::eq(found.unwrap(), spec), "{word} of {}", spec.name);
        }
    }
}

#[test]
fn near_misses_are_not_found() {
    for spec in commands() {
        let name = spec.name.as_bytes();
        let mut misses = vec![
            [name, b"\0"].concat(),
            [name, b" "].concat(),
            [b" ", name].concat(),
            [name, b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"].concat(),
        ];
        for at in 0..name.len() {
            for bit in [0x01, 0x20, 0x40, 0x80] {
                let mut miss = name.to_vec();
                miss[at] ^= bit;
                misses.push(miss);
            }
            misses.push([&name[..at], &name[at + 1..]].concat());
        }
        for miss in misses {
            let legal = commands().any(|row| row.name.as_bytes().eq_ignore_ascii_case(&miss));
            assert_eq!(find(&miss).is_some(), legal, "{}", miss.escape_ascii());
        }
    }
    assert!(find(b"").is_none());
    assert!(find(&b"a".repeat(1 << 16)).is_none());
    assert!(find(b"client|setname").is_none());
    assert!(find_sub(spec("get"), b"get").is_none());
    assert!(find_sub(spec("client"), b"").is_none());
}

#[test]
fn requests_resolve_to_their_rows() {
    let resolved = |words: &[&'static str]| resolve(words.len(), |at| words[at].as_bytes());
    assert_eq!(resolved(&["GET", "a"]).unwrap().name, "get");
    assert_eq!(resolved(&["Client", "SetName", "a"]).unwrap().name, "client|setname");
    assert_eq!(resolved(&["client"]).unwrap().name, "client");
    assert_eq!(resolved(&["command"]).unwrap().name, "command");
    assert!(matches!(resolved(&[]), Err(Unknown::Command)));
    assert!(matches!(resolved(&["getx"]), Err(Unknown::Command)));
    assert!(matches!(
        resolved(&["client", "getx"]),
        Err(Unknown::Subcommand(Spec { name: "client", .. }))
    ));
}

#[test]
fn arity() {
    for (name, argc, expected) in [
        ("get", 2, true),
        ("get", 1, false),
        ("get", 3, false),
        ("mget", 1, false),
        ("mget", 2, true),
        ("mget", 2000, true),
        ("client", 1, false),
        ("command", 1, true),
        ("client|setname", 3, true),
    ] {
        assert_eq!(spec(name).accepts(argc), expected, "{name} {argc}");
    }
}

#[test]
fn what_is_cached() {
    assert_eq!(all().iter().filter(|spec| spec.cacheable()).count(), 76 + 2);
    for spec in all() {
        let is_routed = matches!(spec.route, Route::Cacheable | Route::CacheableByKey);
        assert_eq!(spec.cacheable(), is_routed, "{}", spec.name);
        if spec.cacheable() {
            assert!(!spec.writes() && !spec.carries_no_value(), "{}", spec.name);
            assert_eq!((spec.class, spec.reply), (Class::CacheableRead, ReplyRule::AsIs));
            let of_one_key = spec.keys.single() == Some(1) || spec.keys == KeySpec::Sort;
            assert_eq!(of_one_key, spec.cache != CacheRule::Multi, "{}", spec.name);
        } else if spec.class == Class::CacheableRead {
            assert_eq!((spec.keys.single(), spec.route), (None, Route::Forward), "{}", spec.name);
        }
    }
    let shape = |name| spec(name).shape;
    assert_eq!((shape("get"), shape("mget")), (ReplyShape::SameButNull, ReplyShape::SameButNull));
    assert_eq!((shape("exists"), shape("lrange")), (ReplyShape::Same, ReplyShape::Same));
    assert_eq!((shape("hmget"), shape("zscore")), (ReplyShape::Differs, ReplyShape::Differs));
    assert_eq!(
        (shape("georadius_ro"), shape("lpos")),
        (ReplyShape::Differs, ReplyShape::SameButNull)
    );
    let by_field: Vec<&str> = all()
        .iter()
        .filter(|spec| spec.cache == CacheRule::HashField)
        .map(|spec| spec.name)
        .collect();
    let expected = "hexists hexpiretime hget hgetall hkeys hlen hmget hpexpiretime hstrlen hvals";
    assert_eq!(by_field.join(" "), expected);
}

#[test]
fn what_writes() {
    for (name, writes, everything) in [
        ("get", false, false),
        ("set", true, false),
        ("flushall", true, true),
        ("swapdb", true, true),
        ("eval", true, false),
        ("eval_ro", false, false),
        ("script|load", false, false),
    ] {
        let found = (spec(name).writes(), spec(name).writes_everything());
        assert_eq!(found, (writes, everything), "{name}");
    }
    let silent: Vec<&str> = all()
        .iter()
        .filter(|spec| spec.carries_no_value() && spec.keys != KeySpec::None)
        .map(|spec| spec.name)
        .collect();
    let expected = "acl|dryrun memory|usage object|encoding object|freq object|idletime \
                    object|refcount pttl ttl";
    assert_eq!(silent.join(" "), expected);
    assert!(spec("ping").carries_no_value());
    assert!(["type", "expiretime"].iter().all(|name| !spec(name).carries_no_value()));
}

#[test]
fn dispositions() {
    use Disposition::{Cacheable, Edited, Forward, Local, Own, Refuse, Script};
    for (request, plain, prefixed) in [
        ("get a", Cacheable, Cacheable),
        ("exists a b", Cacheable, Cacheable),
        ("set a 1", Forward, Forward),
        ("sinter a b", Forward, Forward),
        ("sort_ro a get #", Cacheable, Cacheable),
        ("sort_ro a get b_*", Forward, Forward),
        ("publish a b", Forward, Forward),
        ("config get a", Edited, Edited),
        ("command", Forward, Forward),
        ("command docs", Forward, Forward),
        ("client id", Local, Local),
        ("hello 3", Local, Local),
        ("client kill a", Local, Local),
        ("client tracking on", Own(Need::Tracking), Own(Need::Tracking)),
        ("cluster info", Refuse(Refusal::Cluster), Refuse(Refusal::Cluster)),
        ("cluster keyslot a", Forward, Forward),
        ("sync", Refuse(Refusal::SharedLink), Refuse(Refusal::SharedLink)),
        ("monitor", Own(Need::Monitor), Own(Need::Monitor)),
        ("multi", Own(Need::Transaction), Own(Need::Transaction)),
        ("blpop a 0", Own(Need::Block), Own(Need::Block)),
        ("subscribe a", Own(Need::Subscribe), Own(Need::Subscribe)),
        ("eval s 0", Script, Script),
        ("fcall f 0", Script, Script),
        ("script load s", Script, Script),
        ("script flush", Script, Script),
        ("script exists s", Forward, Forward),
        ("script kill", Own(Need::Aside), Own(Need::Aside)),
        ("function load s", Script, Script),
        ("function delete l", Script, Script),
        ("function list", Forward, Forward),
        ("script debug yes", Refuse(Refusal::SharedLink), Refuse(Refusal::SharedLink)),
        ("shutdown", Refuse(Refusal::Dangerous), Refuse(Refusal::Dangerous)),
        ("module list", Forward, Forward),
        ("restore-asking a 0 b", Refuse(Refusal::Internal), Refuse(Refusal::Internal)),
        ("xread streams a 0", Forward, Forward),
        ("xread block 0 streams a 0", Own(Need::Block), Own(Need::Block)),
        ("flushall", Forward, Refuse(Refusal::OtherVersions)),
        ("ft.search i *", Forward, Refuse(Refusal::OtherVersions)),
        ("swapdb 0 1", Forward, Forward),
    ] {
        let words: Vec<&str> = request.split(' ').collect();
        let arg = |at: usize| words[at].as_bytes();
        let spec = resolve(words.len(), arg).unwrap();
        for (policy, expected) in [
            (Policy::new(false, &Choices::default()), plain),
            (Policy::new(true, &Choices::default()), prefixed),
        ] {
            let found = spec.disposition(&policy, words.len(), arg);
            assert_eq!(found, expected, "{request} {policy:?}");
        }
    }
}

#[test]
fn choices_lift_and_add_refusals() {
    let rows = |names: &str| names.split(' ').filter_map(by_name).collect::<Vec<_>>();
    let hardened =
        Choices { hardened: true, allow: rows("config|set"), deny: rows("get shutdown") };
    let allowed = Choices { allow: rows("debug migrate shutdown sync"), ..Choices::default() };
    for (name, by_hardened, by_allowed) in [
        ("flushall", Route::Refuse(Refusal::Hardened), Route::ForwardUnlessPrefixed),
        ("swapdb", Route::Refuse(Refusal::Hardened), Route::Forward),
        ("config|set", Route::Edited, Route::Edited),
        ("config|get", Route::Edited, Route::Edited),
        ("get", Route::Refuse(Refusal::Denied), Route::Cacheable),
        ("shutdown", Route::Refuse(Refusal::Denied), Route::Forward),
        ("debug", Route::Refuse(Refusal::Dangerous), Route::ForwardUnlessPrefixed),
        ("migrate", Route::Refuse(Refusal::Dangerous), Route::Forward),
        // A shared connection is no place for it, whoever asks.
        ("sync", Route::Refuse(Refusal::SharedLink), Route::Refuse(Refusal::SharedLink)),
        ("cluster|reset", Route::Refuse(Refusal::Cluster), Route::Refuse(Refusal::Cluster)),
    ] {
        assert_eq!(Policy::new(false, &hardened).route(spec(name)), by_hardened, "{name}");
        assert_eq!(Policy::new(false, &allowed).route(spec(name)), by_allowed, "{name}");
    }
    for name in HARDENED {
        let policy = Policy::new(false, &Choices { hardened: true, ..Choices::default() });
        let row = by_name(name).or_else(|| own::by_name(name)).unwrap();
        assert!(matches!(policy.route(row), Route::Refuse(_)), "{name}");
    }
    // What may be allowed and names no key counts as a write of everything.
    assert!(spec("debug").writes_everything() && !spec("migrate").writes_everything());
}

#[test]
fn a_tenant_is_refused_what_is_not_known_to_stay_inside() {
    let choices = Choices { allow: vec![spec("publish")], ..Choices::default() };
    let policy = Policy::of_tenant(&choices);
    for (name, route) in [
        ("get", Route::Cacheable),
        ("flushall", Route::ForwardUnlessPrefixed),
        ("info", Route::Edited),
        ("publish", Route::Forward),
        ("spublish", Route::Refuse(Refusal::Tenant)),
        ("monitor", Route::Refuse(Refusal::Tenant)),
        ("bf.add", Route::Refuse(Refusal::Tenant)),
        ("debug", Route::Refuse(Refusal::Dangerous)),
        ("ft.search", Route::ForwardUnlessPrefixed),
    ] {
        assert_eq!(policy.route(spec(name)), route, "{name}");
    }
    for (request, refused) in [
        ("xread streams a 0", false),
        ("xread count 1 streams a 0", false),
        ("xread newer 1 streams a 0", true),
        ("xread streams a b 0", true),
    ] {
        let words: Vec<&str> = request.split(' ').collect();
        let found = spec("xread").disposition(&policy, words.len(), |at| words[at].as_bytes());
        assert_eq!(found == Disposition::Refuse(Refusal::Unread), refused, "{request}");
    }
    assert_eq!(policy.only_shows(own::by_name("proxy|config").unwrap()), Some(Refusal::Tenant));
    assert_eq!(policy.only_shows(own::by_name("proxy|stats").unwrap()), None);
}

/// What may end, change or hold a shared connection never reaches it, whatever the table says.
#[test]
fn a_shared_connection_is_safe() {
    for spec in all() {
        let safe = match spec.route {
            Route::Refuse(_)
            | Route::Local
            | Route::Cacheable
            | Route::CacheableByKey
            | Route::Own(_) => true,
            Route::OwnIfBlocking => spec.keys == KeySpec::Streams,
            Route::Forward | Route::Edited | Route::ForwardUnlessPrefixed | Route::Script => {
                !matches!(spec.class, Class::Pinned | Class::Blocking | Class::Unsupported)
                    && !spec.flags.has(Flags::BLOCKING)
                    && !spec.name.starts_with("client")
            }
        };
        assert!(safe, "{}", spec.name);
    }
}

#[test]
fn a_row_stays_small() {
    assert!(size_of::<Spec>() <= 64, "{}", size_of::<Spec>());
}
