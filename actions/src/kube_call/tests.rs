use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use serde_json::json;

use super::*;
use crate::kube_client::{Patience, client};
use crate::testing::kube::{Reply, server};
use crate::testing::{Gate, nobody};
use understudy_core::Failure;

#[tokio::test]
async fn only_the_servers_word_about_this_name_means_absent() {
    let cases = [
        (Reply::absent("a"), true),
        (Reply::absent("another"), false),
        (Reply::Text(404, "404 page not found"), false),
        (Reply::status(404, "NotFound", "the server could not find the requested resource", json!({})), false),
        (Reply::Json(404, json!({ "error": "no such route" })), false),
    ];
    for (number, (reply, is_absent)) in cases.into_iter().enumerate() {
        let found = get(&secrets(reply), "Secret", "a").await;
        assert_eq!(matches!(found, Ok(None)), is_absent, "case {number}: {found:?}");
        if !is_absent {
            assert!(found.is_err(), "case {number}");
        }
    }
}

#[tokio::test]
async fn a_read_that_fails_may_be_tried_again() {
    for code in [401, 403, 429, 500, 503, 504] {
        let error = get(&secrets(Reply::status(code, "X", "no", json!({}))), "Secret", "a").await.unwrap_err();
        assert_eq!(error.failure(), Failure::Transient, "{code}");
    }
}

#[tokio::test]
async fn a_refused_write_says_whether_anything_may_have_happened() {
    let cases = [
        (400, Failure::Permanent),
        (401, Failure::Transient),
        (403, Failure::Transient),
        (404, Failure::Permanent),
        (409, Failure::Transient),
        (422, Failure::Permanent),
        (429, Failure::Transient),
        (500, Failure::Unknown),
        (502, Failure::Unknown),
        (503, Failure::Unknown),
        (504, Failure::Unknown),
    ];
    for (code, expected) in cases {
        let api = secrets(Reply::status(code, "X", "no", json!({})));
        let error = create(&api, &Gate::default()).await.unwrap_err();
        assert_eq!(error.failure(), expected, "{code}");
    }
}

#[tokio::test]
async fn an_answer_that_is_no_status_leaves_a_write_unknown() {
    for reply in [Reply::Json(502, json!({ "error": "bad gateway" })), Reply::Text(200, "garbage")] {
        let error = create(&secrets(reply), &Gate::default()).await.unwrap_err();
        assert_eq!(error.failure(), Failure::Unknown);
    }
}

#[tokio::test]
async fn a_write_that_found_nobody_there_did_nothing() {
    let path = tempfile::tempdir().unwrap();
    let file = path.path().join("k");
    let text = format!(
        "{{apiVersion: v1, kind: Config, current-context: x, clusters: [{{name: c, cluster: {{server: \"http://{}\"}}}}], \
         users: [{{name: u, user: {{token: t}}}}], contexts: [{{name: x, context: {{cluster: c, user: u}}}}]}}",
        nobody().await
    );
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let client = client(&understudy_config::Cluster::Kubeconfig(file), Patience::default()).await.unwrap();

    let error = create(&Api::namespaced(client, "n"), &Gate::default()).await.unwrap_err();

    assert_eq!(error.failure(), Failure::Transient);
}

#[tokio::test(start_paused = true)]
async fn a_write_without_an_answer_is_unknown_after_a_bounded_time() {
    let began = tokio::time::Instant::now();

    let error = create(&secrets(Reply::Never), &Gate::default()).await.unwrap_err();

    assert_eq!(error.failure(), Failure::Unknown);
    assert_eq!(began.elapsed(), WRITE_WITHIN);
}

#[tokio::test]
async fn without_a_permit_nothing_is_sent() {
    struct Closed;
    impl Gatekeeper for Closed {
        fn permit(&self) -> crate::Later<'_, Result<crate::Permit, StepError>> {
            Box::pin(async { Err(StepError::NoLease("held by another".into())) })
        }
        fn note<'a>(&'a self, _: &'a str, _: String) -> crate::Later<'a, Result<(), StepError>> {
            Box::pin(async { Ok(()) })
        }
        fn progress(&self, _: String) {}
    }
    let (client, asked) = server(|_| Reply::ok(json!({})));

    let error = create(&Api::namespaced(client, "n"), &Closed).await.unwrap_err();

    assert!(matches!(error, StepError::NoLease(_)));
    assert!(asked.all().is_empty());
}

#[tokio::test]
async fn a_permit_that_has_run_out_sends_nothing() {
    struct Late;
    impl Gatekeeper for Late {
        fn permit(&self) -> crate::Later<'_, Result<crate::Permit, StepError>> {
            Box::pin(async { Ok(crate::Permit::until(tokio::time::Instant::now())) })
        }
        fn note<'a>(&'a self, _: &'a str, _: String) -> crate::Later<'a, Result<(), StepError>> {
            Box::pin(async { Ok(()) })
        }
        fn progress(&self, _: String) {}
    }
    let (client, asked) = server(|_| Reply::ok(json!({})));

    let error = create(&Api::namespaced(client, "n"), &Late).await.unwrap_err();

    assert!(matches!(error, StepError::NoLease(_)));
    assert!(asked.all().is_empty());
}

#[test]
fn an_error_shows_the_servers_words_once_and_shortened() {
    let status = Status::failure(&"long ".repeat(500), "Invalid").with_code(422);
    let fault = CallFault::of(kube::Error::Api(Box::new(status)));

    let text = fault.to_string();

    assert!(text.starts_with("422 Invalid: long long") && text.len() < 450, "{text}");
}

fn secrets(reply: Reply) -> Api<Secret> {
    let reply = Arc::new(std::sync::Mutex::new(Some(reply)));
    let (client, _) = server(move |_| reply.lock().unwrap().take().expect("one request"));
    Api::namespaced(client, "n")
}

async fn create(api: &Api<Secret>, gate: &dyn Gatekeeper) -> Result<Secret, StepError> {
    write(gate, "create a Secret", api.create(&kube::api::PostParams::default(), &Secret::default())).await
}
