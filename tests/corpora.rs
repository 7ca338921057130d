//! What fuzzing has found worth keeping, once more: every file of `fuzz/corpus/TARGET` through the
//! function that the target calls. How to look for more: fuzz/README.md.

#![expect(clippy::indexing_slicing, reason = "a test")]

#[path = "../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "public for the programs in fuzz/targets")]
mod targets;

use std::fs;
use std::path::Path;

type Target = fn(&[u8]);

#[test]
fn all_that_was_kept_is_played_again() {
    let all: &[(&str, Target)] = &[
        ("requests", targets::requests),
        ("replies", targets::replies),
        ("inline", targets::inline),
        ("globs", targets::globs),
        ("names", targets::names),
        ("config", targets::config),
        ("message", targets::message),
        ("script", targets::script),
        ("proxy_header", targets::proxy_header),
        ("write_behind_log", targets::write_behind_log),
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let targets = fs::read_dir(root.join("targets")).unwrap().count();
    assert_eq!(targets, all.len(), "a target whose corpus is not played");
    for (name, target) in all {
        let mut played = 0;
        for entry in fs::read_dir(root.join("corpus").join(name)).unwrap() {
            let path = entry.unwrap().path();
            target(&fs::read(&path).unwrap());
            played += 1;
        }
        assert!(played > 0, "{name} has no corpus");
    }
}
