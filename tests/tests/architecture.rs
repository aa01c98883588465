//! The house's own rules: which crate may know which, and that core stays free of `std` and `alloc`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Every crate of the workspace and which others of ours it may depend on, as the table in ARCHITECTURE.md has it.
const MAY_KNOW: [(&str, &[&str]); 11] = [
    ("attune-core", &[]),
    ("attune-cpu", &["attune-core"]),
    ("attune-candle", &[]),
    ("attune", &["attune-core", "attune-cpu"]),
    ("attune-ffi", &["attune"]),
    ("attune-c", &["attune-ffi"]),
    ("attune-jni", &["attune-ffi"]),
    ("attune-builtin", &[]),
    ("attune-pretrain", &["attune-core", "attune-builtin"]),
    ("attune-cli", &["attune", "attune-builtin"]),
    ("attune-tests", &["attune-core", "attune-cpu", "attune-candle", "attune", "attune-builtin"]),
];

type Graph = BTreeMap<String, Vec<String>>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Our crates and the dependencies that end up in what ships: those for tests alone are free.
fn graph(metadata: &Value) -> Graph {
    let packages = metadata["packages"].as_array().expect("packages");
    let name = |package: &Value| package["name"].as_str().expect("a name").to_owned();
    let dependencies = |package: &Value| {
        let all = package["dependencies"].as_array().expect("dependencies").iter();
        all.filter(|d| d["kind"] != "dev" && !d["path"].is_null()).map(name).collect()
    };
    packages.iter().map(|p| (name(p), dependencies(p))).collect()
}

/// What breaks the table: crates that it lacks or that are gone, and dependencies that it does not allow.
fn violations(graph: &Graph, table: &[(&str, &[&str])]) -> Vec<String> {
    let mut found = Vec::new();
    for (name, dependencies) in graph {
        match table.iter().find(|(n, _)| n == name) {
            None => found.push(format!("{name} is not in the table")),
            Some((_, allowed)) => {
                let forbidden = dependencies.iter().filter(|d| !allowed.contains(&d.as_str()));
                found.extend(forbidden.map(|d| format!("{name} must not depend on {d}")));
            }
        }
    }
    found.extend(table.iter().filter(|(name, _)| !graph.contains_key(*name)).map(|(name, _)| format!("{name} is gone")));
    found
}

#[test]
fn crates_know_only_those_below_them() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline", "--manifest-path"])
        .arg(root().join("Cargo.toml"))
        .output()
        .expect("cargo metadata");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let graph = graph(&metadata);
    assert_eq!(violations(&graph, &MAY_KNOW), [""; 0]);
    assert!(graph["attune-cpu"].contains(&"attune-core".to_owned()), "dependencies were not read");
}

#[test]
fn the_table_rejects_what_it_does_not_allow() {
    let graph = Graph::from([("attune-core".into(), vec!["attune".into()]), ("attune-new".into(), Vec::new())]);
    let table: [(&str, &[&str]); 2] = [("attune-core", &[]), ("attune-gone", &[])];
    let expected = ["attune-core must not depend on attune", "attune-new is not in the table", "attune-gone is gone"];
    assert_eq!(violations(&graph, &table), expected);
}

/// Every file of core but those of its tests.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("core's sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") && path.file_name().is_some_and(|n| n != "tests.rs") {
            found.push(path);
        }
    }
}

/// Lines of code that name `std` or `alloc`. Tests, which begin at `#[cfg(test)]` and end the file, are free, and so are comments.
fn outside_core(source: &str) -> Vec<String> {
    let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or(source);
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let names = |line: &str| {
        let words: Vec<&str> = line.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).collect();
        let path = words.iter().any(|w| ["std::", "alloc::", "::std::", "::alloc::"].iter().any(|p| w.starts_with(p)));
        path || line.contains("extern crate")
    };
    lines.filter(|line| names(line)).map(str::to_owned).collect()
}

#[test]
fn core_names_neither_std_nor_alloc() {
    let mut files = Vec::new();
    sources(&root().join("core/src"), &mut files);
    assert!(files.len() > 30, "{} files", files.len());
    for file in files {
        let found = outside_core(&std::fs::read_to_string(&file).expect("a source"));
        assert!(found.is_empty(), "{}: {found:?}", file.display());
    }
    let front = std::fs::read_to_string(root().join("core/src/lib.rs")).expect("core's front page");
    assert!(front.lines().any(|line| line == "#![no_std]"));
}

#[test]
fn the_search_for_std_finds_it() {
    let code = "use core::fmt;\n// std::fs is far\nuse std::fs;\nfn f() -> alloc::vec::Vec<u8> {}\nextern crate alloc;\n";
    assert_eq!(outside_core(code).len(), 3);
    assert!(outside_core("let b = allocate::all();\n#[cfg(test)]\nmod tests {\n use std::vec;\n}\n").is_empty());
}
