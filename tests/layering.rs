//! Holds every module to its floor: imports go down only (see `src/lib.rs`).
#![allow(missing_docs, clippy::unwrap_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};

const FLOORS: [(&str, u8); 15] = [
    ("config", 0),
    ("telemetry", 1),
    ("auth", 2),
    ("cache", 2),
    ("limits", 2),
    ("routing", 2),
    ("tls", 2),
    ("traffic", 2),
    ("upstream", 2),
    ("acme", 3),
    ("snapshot", 4),
    ("proxy", 5),
    ("admin", 6),
    ("server", 7),
    ("cli", 8),
];

fn floor(module: &str) -> Option<u8> {
    FLOORS
        .iter()
        .find(|(name, _)| *name == module)
        .map(|(_, floor)| *floor)
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The modules that `crate::…` names in a text, with the number of their line.
fn imports(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("//") {
            continue;
        }
        for after in line.split("crate::").skip(1) {
            let group: Vec<&str> = match after.strip_prefix('{') {
                Some(group) => {
                    let group = group.split('}').next().unwrap_or_default();
                    group.split(',').map(str::trim).collect()
                }
                None => vec![after],
            };
            for path in group {
                let end = path
                    .find(|c: char| !c.is_alphanumeric() && c != '_')
                    .unwrap_or(path.len());
                found.push((number + 1, path[..end].to_owned()));
            }
        }
    }
    found
}

#[test]
fn modules_import_from_lower_floors_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut wrong = Vec::new();
    for file in files {
        let inside = file.strip_prefix(&root).unwrap();
        if inside.components().count() < 2 {
            continue;
        }
        let module = inside
            .components()
            .next()
            .unwrap()
            .as_os_str()
            .to_str()
            .unwrap();
        let own = floor(module).unwrap_or_else(|| panic!("{module} has no floor: give it one"));
        for (line, other) in imports(&std::fs::read_to_string(&file).unwrap()) {
            if other != module && floor(&other).is_some_and(|other| other >= own) {
                wrong.push(format!(
                    "{}:{line}: {module} imports {other}",
                    file.display()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_language_knows_no_framework() {
    let mut files = Vec::new();
    sources(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config"),
        &mut files,
    );
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for foreign in ["pingora", "tokio"] {
            let uses = text.lines().any(|line| {
                line.contains(&format!("{foreign}::")) && !line.trim_start().starts_with("//")
            });
            assert!(!uses, "{} uses {foreign}", file.display());
        }
    }
}

#[test]
fn imports_are_found() {
    let text = "use crate::proxy::Gateway;\nuse crate::{server, cli::run};\n// crate::admin\n";
    let expected = [(1, "proxy"), (2, "server"), (2, "cli")];
    assert_eq!(
        imports(text),
        expected.map(|(line, name)| (line, name.to_owned()))
    );
}
