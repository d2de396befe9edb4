use std::sync::Arc;

use understudy_core::{Failure, Step, StepResult};

use super::*;
use crate::testing::nexus::{FakeNexus, sha256};
use crate::testing::{Gate, context, nobody, pair, secret_file, serve};

#[tokio::test]
async fn a_nexus_with_the_right_data_passes_and_holds_the_nonce_afterwards() {
    let nexus = FakeNexus::start().await;
    nexus.put("maven-releases/a/b.jar", "the bytes", 10);
    nexus.put("dr-canary/understudy/nexus/c1", "canary", 20);
    let artifact = format!("{{ path: maven-releases/a/b.jar, sha256: {} }}", sha256(b"the bytes").to_uppercase());

    let try_ = Try::of(&nexus, &format!("repositories: [maven-releases], artifacts: [{artifact}]")).run().await;

    let done = try_.result.unwrap();
    let Finding::Nonce(path) = &done.finding else { panic!("{done:?}") };
    assert!(path.starts_with("dr-canary/understudy/nexus/nonce-"), "{path}");
    assert_eq!(nexus.inside().uploads, std::slice::from_ref(path));
    assert_eq!(try_.gate.permits(), 1);
    let [(key, note)] = try_.gate.notes().try_into().unwrap();
    let nonce: Nonce = serde_json::from_str(&note).unwrap();
    assert_eq!((key.as_str(), &nonce.path), ("nonce", path));
    assert_eq!(nexus.inside().files[path].0.as_ref().unwrap(), nonce.content.as_bytes());
    for part in [
        "Nexus 3.71.0-06 (OSS)",
        "node NODE-A",
        "2 checks healthy",
        "1 repositories",
        "1 artifacts whole (9 bytes)",
        "newest canary of 1970-01-01T00:00:20Z",
    ] {
        assert!(done.detail.contains(part), "{part}: {}", done.detail);
    }
}

#[tokio::test]
async fn a_nexus_that_is_still_starting_is_waited_for() {
    let nexus = FakeNexus::start().await;
    nexus.inside().starting = 3;

    let try_ = Try::of(&nexus, "repositories: [maven-releases]").run().await;

    assert!(try_.result.is_ok(), "{:?}", try_.result);
    assert!(try_.gate.shown.lock().unwrap()[0].contains("503 Service Unavailable from nginx, which is no Nexus"));
}

#[tokio::test]
async fn what_never_becomes_a_nexus_ends_with_the_time_and_may_be_tried_again() {
    let nexus = FakeNexus::start().await;
    nexus.inside().server = "nginx";

    let try_ = Try::of(&nexus, "within: 700ms, repositories: [maven-releases]").run().await;

    assert!(try_.fails(Failure::Transient).contains("200 OK from nginx, which is no Nexus"));
}

#[tokio::test]
async fn checks_that_are_still_ill_are_waited_for() {
    let nexus = FakeNexus::start().await;
    (nexus.inside().ill, nexus.inside().ill_for) = (Some("Blob Stores Ready"), 2);

    let try_ = Try::of(&nexus, "repositories: [maven-releases]").run().await;

    assert!(try_.result.is_ok(), "{:?}", try_.result);
    assert!(try_.gate.shown.lock().unwrap()[0].contains("Blob Stores Ready (as it is)"));
}

#[tokio::test]
async fn a_check_that_stays_ill_is_named_and_one_that_nobody_asked_for_is_not() {
    let nexus = FakeNexus::start().await;
    (nexus.inside().ill, nexus.inside().ill_for) = (Some("Scheduler"), u32::MAX);
    let message =
        Try::of(&nexus, "within: 500ms, repositories: [maven-releases]").run().await.fails(Failure::Transient);
    nexus.inside().ill = Some("Available CPUs");
    let unasked = Try::of(&nexus, "repositories: [maven-releases]").run().await;

    assert!(message.contains("Scheduler (as it is)"), "{message}");
    assert!(unasked.result.is_ok(), "{:?}", unasked.result);
}

#[tokio::test]
async fn a_frozen_state_that_was_replicated_is_named_with_its_remedy() {
    let nexus = FakeNexus::start().await;
    nexus.inside().frozen = Some("maintenance at A");

    let message = Try::of(&nexus, "repositories: [maven-releases]").run().await.fails(Failure::Permanent);

    assert!(message.contains("the frozen state of A was replicated"), "{message}");
    assert!(message.contains("(maintenance at A)"), "{message}");
    assert!(message.contains(&format!("{}/service/rest/v1/read-only/release`", nexus.url())), "{message}");
}

#[tokio::test]
async fn a_freeze_by_a_task_of_its_own_is_waited_for() {
    let nexus = FakeNexus::start().await;
    nexus.inside().frozen = Some("task");

    let message =
        Try::of(&nexus, "within: 500ms, repositories: [maven-releases]").run().await.fails(Failure::Transient);

    assert!(message.contains("takes no writes, and was frozen by nobody"), "{message}");
}

#[tokio::test]
async fn a_wrong_password_is_named_and_not_shown() {
    let nexus = FakeNexus::start().await;
    let mut try_ = Try::of(&nexus, "repositories: [maven-releases]");
    try_.password = "S3CRET";

    let message = try_.run().await.fails(Failure::Permanent);

    assert!(message.contains(r#"the password of "admin" is wrong (401)"#), "{message}");
    assert!(!message.contains("S3CRET"), "{message}");
}

#[tokio::test]
async fn another_node_is_another_nexus() {
    let nexus = FakeNexus::start().await;
    let mut try_ = Try::of(&nexus, "repositories: [maven-releases]");
    try_.nexus = "node_id: NODE-A,";
    nexus.inside().node = "NODE-X".into();

    let message = try_.run().await.fails(Failure::Permanent);

    assert!(message.contains("is node NODE-X, not NODE-A"), "{message}");
    assert_eq!(nexus.inside().uploads.len(), 0);
}

#[tokio::test]
async fn a_node_that_may_not_be_seen_fails_only_if_it_is_to_be_compared() {
    let nexus = FakeNexus::start().await;
    nexus.inside().may_see_node = false;
    let mut compared = Try::of(&nexus, "repositories: [maven-releases]");
    compared.nexus = "node_id: NODE-A,";

    let free = Try::of(&nexus, "repositories: [maven-releases]").run().await;
    let message = compared.run().await.fails(Failure::Permanent);

    assert!(free.result.is_ok(), "{:?}", free.result);
    assert!(message.contains("may not see the node's id"), "{message}");
}

#[tokio::test]
async fn a_missing_repository_is_named() {
    let nexus = FakeNexus::start().await;

    let message = Try::of(&nexus, "repositories: [maven-releases, npm, pypi]").run().await.fails(Failure::Permanent);

    assert!(message.contains("has no repository npm, pypi"), "{message}");
}

#[tokio::test]
async fn an_artifact_that_is_empty_missing_or_another_never_passes() {
    let nexus = FakeNexus::start().await;
    nexus.put("maven-releases/other", "other bytes", 10);
    nexus.put_broken("maven-releases/empty", 10);
    let digest = sha256(b"the bytes");
    for (path, expected) in [
        ("other", "came back with 11 bytes and sha256"),
        ("empty", "came back with 0 bytes and then broke off: its content is gone"),
        ("missing", "404 Not Found"),
    ] {
        let settings = format!("artifacts: [{{ path: maven-releases/{path}, sha256: {digest} }}]");

        let message = Try::of(&nexus, &settings).run().await.fails(Failure::Permanent);

        assert!(message.contains(expected), "{path}: {message}");
    }
    assert_eq!(nexus.inside().uploads.len(), 0);
}

#[tokio::test]
async fn the_newest_canary_that_came_over_whole_is_told_and_nonces_are_no_canaries() {
    let nexus = FakeNexus::start().await;
    for (file, at) in [("c1", 10), ("c2", 40), ("c3", 70)] {
        nexus.put(&format!("dr-canary/understudy/nexus/{file}"), "canary", at);
    }
    nexus.put_broken("dr-canary/understudy/nexus/c4", 100);
    nexus.put("dr-canary/understudy/nexus/nonce-of-an-earlier-run", "n", 400);
    nexus.put("dr-canary/understudy/another-pair/c9", "canary", 400);

    let detail = Try::of(&nexus, "").run().await.result.unwrap().detail;

    assert!(detail.contains("newest canary of 1970-01-01T00:01:10Z, 1 newer ones lost their content"), "{detail}");
}

#[tokio::test]
async fn nothing_checked_is_a_failure() {
    let nexus = FakeNexus::start().await;
    nexus.put_broken("dr-canary/understudy/nexus/c1", 100);

    let message = Try::of(&nexus, "").run().await.fails(Failure::Permanent);
    let without = run(&context(pair(""), Step::Verify, &Arc::default())).await.unwrap_err();

    assert!(message.contains("nothing of A's data was checked"), "{message}");
    assert!(without.to_string().contains("nothing of A's data was checked"), "{without}");
    assert_eq!(nexus.inside().uploads.len(), 0);
}

#[tokio::test]
async fn a_lost_answer_to_the_upload_is_unknown_and_the_next_try_finds_it_there() {
    let nexus = FakeNexus::start().await;
    nexus.inside().lose_answer = true;
    let first = Try::of(&nexus, "repositories: [maven-releases]").run().await;
    let mut second = Try::of(&nexus, "repositories: [maven-releases]");
    second.notes = first.gate.notes();

    first.fails(Failure::Unknown);
    let second = second.run().await;

    assert!(second.result.is_ok(), "{:?}", second.result);
    assert_eq!(nexus.inside().uploads.len(), 1);
    assert_eq!((second.gate.permits(), second.gate.notes().len()), (0, 0));
}

#[tokio::test]
async fn each_refusal_of_the_upload_is_told_apart() {
    let nexus = FakeNexus::start().await;
    for (status, failure, expected) in [
        (403, Failure::Permanent, "403 Forbidden"),
        (400, Failure::Permanent, "400 Bad Request"),
        (500, Failure::Unknown, "500 Internal Server Error"),
        (503, Failure::Unknown, "503 Service Unavailable"),
        (404, Failure::Permanent, "there is no repository dr-canary at B; create a raw hosted repository"),
    ] {
        nexus.inside().refuse_uploads = Some(http::StatusCode::from_u16(status).unwrap());

        let message = Try::of(&nexus, "repositories: [maven-releases]").run().await.fails(failure);

        assert!(message.contains(expected), "{status}: {message}");
    }
}

#[tokio::test]
async fn an_address_where_nobody_listens_may_still_come_up() {
    let nexus = FakeNexus::start().await;
    let mut try_ = Try::of(&nexus, "within: 300ms, repositories: [maven-releases]");
    try_.url = format!("http://{}", nobody().await);

    try_.run().await.fails(Failure::Transient);
}

#[tokio::test]
async fn without_a_nexus_a_get_must_answer_as_it_should() {
    let router = axum::Router::new().route("/health", axum::routing::get(|| async { "all is well" }));
    let url = format!("http://{}", serve(router).await);
    for (settings, expected) in [
        (format!("{{ url: '{url}/health', contains: well }}"), Ok("answers as it should")),
        (format!("{{ url: '{url}/health', contains: ill }}"), Err("its answer lacks \"ill\"")),
        (format!("{{ url: '{url}/health', expect: [204] }}"), Err("it answered 200 OK")),
        (format!("{{ url: '{url}/missing' }}"), Err("it answered 404 Not Found")),
    ] {
        let pair = pair(&format!("verify: {{ within: 200ms, http: {settings} }}"));

        let result = run(&context(pair, Step::Verify, &Arc::default())).await;

        match (result, expected) {
            (Ok(done), Ok(expected)) => {
                assert!(done.detail.contains(expected) && done.finding == Finding::Nothing, "{done:?}")
            }
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
            (result, _) => panic!("{settings}: {result:?}"),
        }
    }
}

/// One try of the step.
struct Try {
    url: String,
    verify: String,
    nexus: &'static str,
    password: &'static str,
    notes: Vec<(String, String)>,
}

struct Tried {
    result: Result<StepDone, StepError>,
    gate: Arc<Gate>,
}

impl Try {
    fn of(nexus: &FakeNexus, verify: &str) -> Self {
        Self { url: nexus.url(), verify: verify.into(), nexus: "", password: "right", notes: vec![] }
    }

    async fn run(self) -> Tried {
        let password = secret_file(self.password);
        let place = format!("{{ url: '{}' }}", self.url);
        let pair = pair(&format!(
            "nexus: {{ primary: {{ url: 'http://a.invalid' }}, standby: {place}, public: {{ url: 'http://p.invalid' }}, {} \
               checks: [Scheduler, Blob Stores Ready], credentials: {{ user: admin, password: 'file:{}' }} }}, verify: {{ {} }}",
            self.nexus,
            password.path().display(),
            self.verify
        ));
        let gate = Arc::<Gate>::default();
        let mut ctx = context(pair, Step::Verify, &gate);
        let order = Arc::get_mut(&mut ctx.order).unwrap();
        order.notes = self.notes.into_iter().map(|(key, value)| (format!("verify/{key}"), value)).collect();
        Tried { result: run(&ctx).await, gate }
    }
}

impl Tried {
    /// The message of the failure, which must be of this class.
    fn fails(self, expected: Failure) -> String {
        match self.result.expect_err("it did not fail").into_result() {
            StepResult::Failed { failure, message } => {
                assert_eq!(failure, expected, "{message}");
                message
            }
            done => panic!("{done:?}"),
        }
    }
}
