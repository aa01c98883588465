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
    assert!(report["loss_after"].as_f64().unwrap() < report["loss_before"].as_f64().unwrap());
    let planned = report["planned_bytes"].as_u64().unwrap();
    assert!(planned <= report["budget_bytes"].as_u64().unwrap());
    if let Some(measured) = report["measured_bytes"].as_u64() {
        assert!(measured <= planned + planned / 10 + (4 << 20), "measured {measured}, planned {planned}");
    }
}
