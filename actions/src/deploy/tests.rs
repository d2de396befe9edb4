use serde_json::json;

use super::*;

#[test]
fn every_condition_must_be_true_in_whatever_case() {
    let ready = json!({ "status": { "conditions": [
        { "type": "Initialized", "status": "True" }, { "type": "Deployed", "status": "true" }, { "type": "Running", "status": "TRUE" } ] } });
    let wanted = ["Initialized", "Deployed", "Running"].map(String::from);

    assert_eq!(unmet(&ready, &wanted), None);
    assert_eq!(unmet(&json!({}), &wanted), Some("no condition Initialized yet".into()));
}

#[test]
fn a_condition_that_is_not_true_is_named_with_its_reason() {
    let current = json!({ "status": { "conditions": [
        { "type": "Running", "status": "False", "reason": "Waiting", "message": "0 of 1 pods" } ] } });

    assert_eq!(unmet(&current, &["Running".into()]), Some("condition Running is False (Waiting: 0 of 1 pods)".into()));
}

#[test]
fn conditions_of_an_older_version_do_not_count() {
    let mut current = json!({
        "metadata": { "generation": 2 },
        "status": { "observedGeneration": 1, "conditions": [{ "type": "Running", "status": "True" }] }
    });

    assert_eq!(unmet(&current, &["Running".into()]), Some("the operator has not seen this version yet".into()));
    current["status"]["observedGeneration"] = json!(2);
    assert_eq!(unmet(&current, &["Running".into()]), None);
}
