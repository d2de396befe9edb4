use serde_json::json;

use super::*;

#[test]
fn a_pod_mounts_the_claims_that_it_names_and_no_other() {
    let pod = pod(json!({
        "metadata": { "name": "p" },
        "spec": { "containers": [], "volumes": [
            { "name": "a", "emptyDir": {} }, { "name": "b", "persistentVolumeClaim": { "claimName": "data" } } ] }
    }));

    assert!(mounts(&pod, "data"));
    assert!(!mounts(&pod, "data-2"));
}

#[test]
fn only_a_pod_that_has_ended_does_not_live() {
    for (phase, living) in
        [("Pending", true), ("Running", true), ("Unknown", true), ("Succeeded", false), ("Failed", false)]
    {
        assert_eq!(is_living(&pod(json!({ "metadata": {}, "status": { "phase": phase } }))), living, "{phase}");
    }
}

#[test]
fn a_summary_says_why_a_pod_does_not_run() {
    let pending = json!({
        "metadata": { "name": "p-0" },
        "status": { "phase": "Pending", "conditions": [{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable" }] }
    });
    let pulling = json!({
        "metadata": { "name": "p-1" },
        "status": { "phase": "Pending", "containerStatuses": [{
            "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": { "reason": "ImagePullBackOff" } } }] }
    });
    let ending = json!({ "metadata": { "name": "p-2", "deletionTimestamp": "2026-11-24T00:00:00Z" } });

    let text = summary(&[pod(pending), pod(pulling), pod(ending)]);

    assert_eq!(text, "pod p-0 Pending (Unschedulable), pod p-1 Pending (ImagePullBackOff), pod p-2 ending");
    assert_eq!(summary(&[]), "no pod yet");
}

#[test]
fn many_pods_are_counted_not_named() {
    let many: Vec<_> = (0..9).map(|n| pod(json!({ "metadata": { "name": format!("p-{n}") } }))).collect();

    assert!(summary(&many).ends_with("pod p-4 Pending, 4 more"));
}

fn pod(object: serde_json::Value) -> Pod {
    serde_json::from_value(object).unwrap()
}
