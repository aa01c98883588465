//! `include/attune.h` is what the sources say: generated, checked in, and never edited by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

fn generate() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(folder.join("cbindgen.toml")).expect("cbindgen.toml");
    let bindings = cbindgen::Builder::new().with_crate(folder).with_config(config).generate().expect("sources that cbindgen reads");
    let mut text = Vec::new();
    bindings.write(&mut text);
    String::from_utf8(text).expect("UTF-8")
}

#[test]
fn the_header_is_what_the_sources_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/attune.h");
    let generated = generate();
    if std::env::var_os("ATTUNE_UPDATE").is_some() {
        std::fs::write(&path, &generated).expect("writing the header");
    }
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    let line = generated.lines().zip(checked_in.lines()).position(|(a, b)| a != b).unwrap_or(0) + 1;
    let how = "run: ATTUNE_UPDATE=1 cargo test --release -p attune-ffi --test header";
    assert!(generated == checked_in, "include/attune.h is not what the sources say, from line {line} on; {how}");
}

#[test]
fn every_function_and_every_code_of_the_sources_is_in_the_header() {
    let header = generate();
    let mut names = Vec::new();
    for file in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).expect("sources") {
        let text = std::fs::read_to_string(file.expect("a file").path()).expect("a source");
        for line in text.lines() {
            let after = |start: &str| line.strip_prefix(start).and_then(|rest| rest.split(['(', ':', ' ']).next()).map(str::to_owned);
            names.extend(after("pub unsafe extern \"C\" fn ").or_else(|| after("pub extern \"C\" fn ")).or_else(|| after("pub const ")));
        }
    }
    assert!(names.len() > 60, "{} names", names.len());
    let missing: Vec<&String> = names.iter().filter(|name| !header.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
