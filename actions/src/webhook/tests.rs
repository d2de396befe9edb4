use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::any;
use serde_json::json;
use understudy_core::Failure;

use super::*;
use crate::testing::{nobody, scripted, serve, yaml};

/// The example of the Standard Webhooks reference implementations.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[test]
fn the_signature_is_that_of_the_reference_implementation() {
    let body = r#"{"test": 2432232314}"#;

    let signature = sign(&SECRET.into(), "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body).unwrap();

    assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

#[test]
fn a_raw_secret_signs_with_its_own_bytes() {
    let encoded = format!("whsec_{}", STANDARD.encode("a raw secret"));

    let (raw, same) = (sign(&"a raw secret".into(), "i", "1", "b"), sign(&encoded.into(), "i", "1", "b"));

    assert_eq!(raw.unwrap(), same.unwrap());
}

#[tokio::test]
async fn headers_body_and_signature_arrive_as_the_file_says() {
    let receiver = Receiver::answering(200, "ok").await;
    let secrets = tempfile::tempdir().unwrap();
    let (sign_with, token) = (secret(&secrets, "sign", SECRET), secret(&secrets, "token", "Bearer T0KEN"));
    let hook: Webhook = yaml(&format!(
        "{{ url: '{}', method: PUT, headers: {{ X-Origin: dr }}, secret_headers: {{ Authorization: '{token}' }}, \
           secret: '{sign_with}', body: {{ site: b, epoch: '{{{{epoch}}}}', of: ['{{{{pair}}}}'] }} }}",
        receiver.url
    ));

    let answer = call(&hook, &words(), json!({}), LONG).await.unwrap();

    assert_eq!(answer, "ok");
    let [request] = receiver.requests().try_into().unwrap();
    assert_eq!(request.method, "PUT");
    let sent: Value = serde_json::from_str(&request.body).unwrap();
    assert_eq!(sent, json!({ "site": "b", "epoch": "7", "of": ["nexus"] }));
    let header = |name: &str| request.headers[name].to_str().unwrap().to_owned();
    assert_eq!(header("x-origin"), "dr");
    assert_eq!(header("authorization"), "Bearer T0KEN");
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("webhook-id"), "nexus-7-failover/route-0");
    assert_eq!(header("idempotency-key"), "nexus-7-failover/route-0");
    let expected = sign(&SECRET.into(), &header("webhook-id"), &header("webhook-timestamp"), &request.body).unwrap();
    assert_eq!(header("webhook-signature"), expected);
    let late = unix_seconds() - header("webhook-timestamp").parse::<u64>().unwrap();
    assert!(late < 60, "{late}");
}

#[tokio::test]
async fn without_a_body_in_the_file_a_cloud_event_is_sent() {
    let receiver = Receiver::answering(204, "").await;
    let hook: Webhook = yaml(&format!("{{ url: '{}' }}", receiver.url));

    call(&hook, &words(), json!({ "message": "hello" }), LONG).await.unwrap();

    let [request] = receiver.requests().try_into().unwrap();
    let event: Value = serde_json::from_str(&request.body).unwrap();
    assert_eq!(request.headers["content-type"], "application/cloudevents+json");
    assert_eq!(event["specversion"], "1.0");
    assert_eq!(event["id"], "nexus-7-failover/route-0");
    assert_eq!(event["source"], "/understudy/standby-b");
    assert_eq!(event["type"], "understudy.step.v1");
    assert_eq!(event["subject"], "nexus");
    assert_eq!(event["data"], json!({ "message": "hello" }));
}

#[tokio::test]
async fn a_get_has_no_body() {
    let receiver = Receiver::answering(200, "").await;
    let hook: Webhook = yaml(&format!("{{ url: '{}', method: GET }}", receiver.url));

    call(&hook, &words(), json!({}), LONG).await.unwrap();

    assert_eq!(receiver.requests()[0].body, "");
}

#[tokio::test]
async fn each_answer_is_judged_by_what_may_be_done_about_it() {
    use Failure::{Permanent, Transient, Unknown};
    let json_field = "expect_json: { pointer: /ok, equals: true }";
    let table = [
        (200, "", "", None),
        (204, "", "", None),
        (202, "", "expect: [202]", None),
        (200, "", "expect: [202]", Some(Permanent)),
        (409, "", "expect: [200, 409]", None),
        (302, "", "", Some(Permanent)),
        (400, "", "", Some(Permanent)),
        (401, "", "", Some(Permanent)),
        (403, "", "", Some(Permanent)),
        (408, "", "", Some(Unknown)),
        (429, "", "", Some(Transient)),
        (503, "", "", Some(Transient)),
        (500, "", "", Some(Unknown)),
        (502, "", "", Some(Unknown)),
        (504, "", "", Some(Unknown)),
        (200, r#"{"ok":true}"#, json_field, None),
        (200, r#"{"ok":false}"#, json_field, Some(Permanent)),
        (200, r#"{"fine":true}"#, json_field, Some(Unknown)),
        (200, "<html>", json_field, Some(Unknown)),
    ];
    for (status, body, settings, expected) in table {
        let receiver = Receiver::answering(status, body).await;
        let hook: Webhook = yaml(&format!("{{ url: '{}', {settings} }}", receiver.url));

        let failure = call(&hook, &words(), json!({}), LONG).await.err().map(|e| e.of_write("x").failure());

        assert_eq!(failure, expected, "{status} {body:?} {settings}");
    }
}

#[tokio::test]
async fn a_lost_answer_is_unknown_and_a_refused_connection_is_not() {
    let lost: Webhook = yaml(&format!("{{ url: 'http://{}/' }}", scripted(b"").await));
    let refused: Webhook = yaml(&format!("{{ url: 'http://{}/' }}", nobody().await));

    let (lost, refused) =
        (call(&lost, &words(), json!({}), LONG).await, call(&refused, &words(), json!({}), LONG).await);

    assert_eq!(lost.unwrap_err().of_write("x").failure(), Failure::Unknown);
    assert_eq!(refused.unwrap_err().of_write("x").failure(), Failure::Transient);
}

#[tokio::test]
async fn a_long_answer_is_no_error_where_its_status_is_enough() {
    let long: &'static str = "x".repeat(2 * LONGEST_ANSWER).leak();
    let receiver = Receiver::answering(200, long).await;
    let plain: Webhook = yaml(&format!("{{ url: '{}' }}", receiver.url));
    let by_field: Webhook =
        yaml(&format!("{{ url: '{}', expect_json: {{ pointer: /ok, equals: true }} }}", receiver.url));

    let answer = call(&plain, &words(), json!({}), LONG).await.unwrap();
    let error = call(&by_field, &words(), json!({}), LONG).await.unwrap_err();

    assert_eq!(answer.len(), LONGEST_ANSWER);
    assert_eq!(error.of_write("x").failure(), Failure::Unknown);
}

#[tokio::test]
async fn what_can_not_be_sent_is_permanent_and_sends_nothing_and_shows_no_secret() {
    let receiver = Receiver::answering(200, "").await;
    let secrets = tempfile::tempdir().unwrap();
    let broken = secret(&secrets, "broken", "whsec_SECRET!");
    let two_lines = secret(&secrets, "lines", "SECRET\nSECRET");
    let table = [
        ("method: 'GE T'".to_owned(), "no HTTP method"),
        ("body: { a: '{{nobody}}' }".to_owned(), "{{nobody}} is no variable"),
        ("headers: { 'a b': c }".to_owned(), "header \"a b\""),
        (format!("secret_headers: {{ authorization: '{two_lines}' }}"), "header \"authorization\""),
        (format!("secret: '{broken}'"), "not base64"),
        ("secret: 'file:/no/such/secret'".to_owned(), "/no/such/secret"),
    ];
    for (settings, expected) in table {
        let hook: Webhook = yaml(&format!("{{ url: '{}', {settings} }}", receiver.url));

        let error = call(&hook, &words(), json!({}), LONG).await.unwrap_err().of_write("x");

        assert_eq!(error.failure(), Failure::Permanent, "{settings}");
        let text = format!("{:?}", error.into_result());
        assert!(text.contains(&expected.replace('"', "\\\"")), "{settings}: {text}");
        assert!(!text.contains("SECRET"), "{settings}: {text}");
    }
    assert_eq!(receiver.requests().len(), 0);
}

#[tokio::test]
async fn a_receiver_that_echoes_the_request_puts_no_secret_of_ours_into_a_message() {
    let secrets = tempfile::tempdir().unwrap();
    let token = secret(&secrets, "token", "Bearer T0KEN");
    let echo = |headers: HeaderMap| async move { (StatusCode::BAD_REQUEST, format!("bad request: {headers:?} T0KEN")) };
    let address = serve(Router::new().route("/", any(echo))).await;
    let hook: Webhook = yaml(&format!(
        "{{ url: 'http://anna:s3cret@{address}/', headers: {{ X-Api-Key: OPEN-KEY }}, secret_headers: {{ X-Token: '{token}' }} }}"
    ));

    let error = call(&hook, &words(), json!({}), LONG).await.unwrap_err();

    let said = error.of_write("the switch").whole();
    assert!(said.contains("400 Bad Request: bad request:") && said.contains("(hidden)"), "{said}");
    for secret in ["T0KEN", "OPEN-KEY", "s3cret", "YW5uYTpzM2NyZXQ"] {
        assert!(!said.contains(secret), "{secret}: {said}");
    }
}

#[test]
fn what_is_shown_of_an_answer_is_one_short_line() {
    assert_eq!(shortened(" a\r\nb\u{1b}[1m "), "a  b [1m");
    assert_eq!(shortened(&"x".repeat(500)).chars().count(), SHOWN_CHARS + 1);
}

const LONG: Duration = Duration::from_secs(20);

fn words() -> Words {
    Words {
        pair: "nexus".into(),
        site: "standby-b".into(),
        epoch: "7".into(),
        key: "nexus-7-failover/route-0".into(),
        event: "step".into(),
        ..Words::default()
    }
}

fn secret(directory: &tempfile::TempDir, name: &str, value: &str) -> String {
    use std::os::unix::fs::PermissionsExt;

    let path = directory.path().join(name);
    std::fs::write(&path, value).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    format!("file:{}", path.display())
}

#[derive(Debug)]
struct Request {
    method: String,
    headers: HeaderMap,
    body: String,
}

type Inbox = Arc<Mutex<Vec<Request>>>;

/// Takes every request and gives always the same answer.
struct Receiver {
    url: String,
    inbox: Inbox,
}

impl Receiver {
    async fn answering(status: u16, body: &'static str) -> Self {
        let inbox = Inbox::default();
        let take = move |State(inbox): State<Inbox>, method: Method, headers: HeaderMap, text: String| async move {
            inbox.lock().unwrap().push(Request { method: method.to_string(), headers, body: text });
            (StatusCode::from_u16(status).unwrap(), body).into_response()
        };
        let address = serve(Router::new().route("/", any(take)).with_state(inbox.clone())).await;
        Self { url: format!("http://{address}/"), inbox }
    }

    fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.inbox.lock().unwrap())
    }
}
