//! What nearside is made of: the crates that are built here, against `deny.toml`, which
//! is cargo-deny's own file. That tool says the same and more (advisories, with a network), but
//! takes longer to build than this.

#![expect(clippy::unwrap_used, reason = "a test")]

use spdx::{Expression, ParseMode};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

/// Each crate as cargo shows it (`name v1.2.3`, then where it comes from, if that is not the
/// registry), and its licence.
fn crates() -> BTreeSet<(String, String)> {
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let asked = Command::new(cargo)
        .args(["tree", "--locked", "--offline", "--edges=normal,build,dev"])
        .args(["--prefix=none", "--no-dedupe", "--format={p}\t{l}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    let listed = String::from_utf8(asked.stdout).unwrap();
    let split = |line: &str| line.split_once('\t').map(|(a, b)| (a.to_owned(), b.to_owned()));
    listed.lines().filter_map(split).collect()
}

fn rules() -> toml::Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deny.toml");
    fs::read_to_string(path).unwrap().parse().unwrap()
}

#[test]
fn everything_may_be_shipped() {
    let rules = rules();
    let allowed = rules["licenses"]["allow"].as_array().unwrap();
    let allowed: Vec<&str> = allowed.iter().map(|name| name.as_str().unwrap()).collect();
    let is_fit = |licence: &str| {
        Expression::parse_mode(licence, ParseMode::LAX)
            .is_ok_and(|terms| terms.evaluate(|term| allowed.contains(&&*term.to_string())))
    };
    let unfit: Vec<_> = crates().into_iter().filter(|(_, licence)| !is_fit(licence)).collect();
    assert!(unfit.is_empty(), "not in [licenses] allow: {unfit:#?}");
}

#[test]
fn nothing_is_banned_and_all_comes_from_the_registry() {
    let rules = rules();
    let banned = rules["bans"]["deny"].as_array().unwrap();
    let banned: Vec<&str> = banned.iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    let all = crates();
    assert!(all.len() > 100, "these are not all: {all:?}");
    for (shown, _) in all {
        let (name, rest) = shown.split_once(' ').unwrap();
        assert!(!banned.contains(&name), "{name} is banned");
        assert!(!rest.contains("://"), "not from the registry: {shown}");
    }
}
