//! The names of log events are a promise to whoever waits for one: README lists them all.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Every `event = "..."` of the source.
fn said(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            said(&path, names);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        let found = code.split("event = \"").skip(1).map(|rest| rest.split('"').next().unwrap());
        names.extend(found.map(str::to_owned));
    }
}

#[test]
fn readme_lists_every_event() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut names = BTreeSet::new();
    said(&root.join("src"), &mut names);
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let list = readme.split("the member `event`:").nth(1).unwrap().split("\n\n").next().unwrap();
    let listed: BTreeSet<String> = list.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    assert_eq!(names, listed);
}
