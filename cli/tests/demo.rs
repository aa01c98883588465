//! The demo keeps what it promises.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::Value;
use std::process::Command;

#[test]
fn the_demo_learns_to_follow_held_out_instructions_within_its_budget() {
    let output = Command::new(env!("CARGO_BIN_EXE_attune")).args(["demo", "--json", "--quiet"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let kinds = report["kinds"].as_array().unwrap();
    let sum = |key: &str| kinds.iter().map(|k| k[key].as_u64().unwrap()).sum::<u64>();
    let (before, after, total) = (sum("before"), sum("after"), sum("total"));
    assert_eq!(kinds.iter().map(|k| k["kind"].as_str().unwrap()).collect::<Vec<_>>(), ["ask", "do", "create", "reason", "refuse"]);
    assert!(total >= 50 && kinds.iter().all(|k| k["total"].as_u64().unwrap() >= 10), "{report}");
    assert!(before * 10 <= total, "at most a tenth may be followed before tuning: {report}");
    assert!(after * 10 >= total * 8, "at least four in five must be followed after tuning: {report}");
    for kind in kinds {
        assert!(kind["after"].as_u64().unwrap() * 2 >= kind["total"].as_u64().unwrap(), "at least half of each kind: {report}");
    }
    polite(&report["preference"], after, total);
    assert!(report["loss_after"].as_f64().unwrap() < report["loss_before"].as_f64().unwrap());
    let planned = report["planned_bytes"].as_u64().unwrap();
    assert!(planned <= report["budget_bytes"].as_u64().unwrap());
    if let Some(measured) = report["measured_bytes"].as_u64() {
        assert!(measured <= planned + planned / 10 + (4 << 20), "measured {measured}, planned {planned}");
    }
}

/// The person's taste is learnt on instructions that they said nothing about, and what the first tuning taught is still there.
fn polite(preference: &Value, before: u64, total: u64) {
    let number = |key: &str| preference[key].as_u64().unwrap_or_else(|| panic!("no {key}: {preference}"));
    assert_eq!(number("total"), total);
    assert!(number("edits") >= 200, "the tuned model's answers end by themselves: {preference}");
    assert!(number("liked_before") * 20 <= total, "at most one in twenty is polite by itself: {preference}");
    assert!(number("liked_after") * 10 >= total * 8, "at least four in five are polite after: {preference}");
    let kinds = preference["kinds_after"].as_array().unwrap();
    let after = kinds.iter().map(|k| k["after"].as_u64().unwrap()).sum::<u64>();
    assert!(after * 100 >= before * 85, "at least 85 % of what was followed before still is, {after} of {before}: {preference}");
    assert!(kinds.iter().all(|k| k["after"].as_u64().unwrap() * 3 >= k["total"].as_u64().unwrap()), "a third of each kind: {preference}");
}
