//! The modules of the core import one way: each may use only what stands above it here.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Layers from the ground up; modules of one layer do not know each other.
const LAYERS: &[&[&str]] = &[
    &["error"],
    &["bits", "index", "room", "stop"],
    &["intervals", "key_lists", "trace", "hash", "stats"],
    &["generate", "read", "transform", "write"],
    &["forest"],
    &["profile"],
    &["curve", "policy"],
    &["replay"],
    &["serving"],
    &["engine"],
    &["fleet"],
    &["python"],
];

/// Names that the crate's root re-exports, and where they come from.
const ROOT: &[(&str, &str)] = &[
    ("Curve", "curve"),
    ("Error", "error"),
    ("Result", "error"),
    ("Forest", "forest"),
    ("Profile", "profile"),
    ("Stop", "stop"),
    ("TtlCurve", "curve"),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// The module of a file: the first part of its path below `rust/`.
fn module(path: &Path, root: &Path) -> String {
    let below = path.strip_prefix(root).unwrap();
    let first = below.components().next().unwrap().as_os_str();
    first.to_str().unwrap().trim_end_matches(".rs").to_owned()
}

/// Modules that a text names behind `crate::`, in code and not in comments.
fn uses(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        for (at, _) in code.match_indices("crate::") {
            if at > 0 && code.as_bytes()[at - 1] == b'$' {
                continue;
            }
            let rest = &code[at + "crate::".len()..];
            let names = match rest.strip_prefix('{') {
                Some(list) => list.split('}').next().unwrap_or_default(),
                None => rest,
            };
            let whole = |c: char| !(c.is_alphanumeric() || c == '_');
            let list = rest.starts_with('{');
            for name in names.split(',').take(if list { usize::MAX } else { 1 }) {
                let name = name.trim().split(whole).next().unwrap_or_default();
                if !name.is_empty() {
                    found.push((number + 1, name.to_owned()));
                }
            }
        }
    }
    found
}

#[test]
fn modules_import_only_what_is_below_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("rust");
    let level: BTreeMap<&str, usize> = LAYERS
        .iter()
        .enumerate()
        .flat_map(|(level, modules)| modules.iter().map(move |&module| (module, level)))
        .collect();
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut wrong = Vec::new();
    let mut seen = 0;
    for file in files {
        let from = module(&file, &root);
        if from == "lib" {
            continue;
        }
        let Some(&here) = level.get(from.as_str()) else {
            wrong.push(format!("{from}: give it a layer in this test"));
            continue;
        };
        for (line, name) in uses(&fs::read_to_string(&file).unwrap()) {
            let to = ROOT
                .iter()
                .find(|&&(exported, _)| exported == name)
                .map_or(name.as_str(), |&(_, module)| module);
            seen += 1;
            let below = level.get(to).is_some_and(|&there| there < here);
            if to != from && !below {
                wrong.push(format!("{}:{line}: uses {name}", file.display()));
            }
        }
    }
    assert!(seen > 50, "only {seen} uses were found: the scan is wrong");
    assert!(
        wrong.is_empty(),
        "imports against the layers:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn the_scan_sees_lists_and_skips_comments() {
    let text = "use crate::error::Error; // crate::python\nfn f(_: crate::Stop) {}\nuse crate::{read, \
                write::x};";
    let names: Vec<String> = uses(text).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["error", "Stop", "read", "write"]);
}
