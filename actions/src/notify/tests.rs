use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::routing::any;
use http::{HeaderMap, StatusCode};
use serde_json::json;
use tokio::time::Instant;

use super::*;
use crate::testing::{nobody, scripted, serve, silent, yaml};

#[tokio::test]
async fn every_receiver_is_told_in_its_own_words() {
    let (standard, robot) = (Receiver::answering([]).await, Receiver::answering([]).await);
    let notify =
        [to(&standard.url, ""), to(&robot.url, "body: { text: '[{{event}}] {{pair}} at {{site}}: {{message}}' }")];

    let untold = send(&notify, &words(), &json!({ "kind": "stuck", "message": "step promote is stuck" })).await;

    assert_eq!(untold.len(), 0, "{untold:?}");
    let event = &standard.heard()[0].1;
    assert_eq!(event["type"], "understudy.page.v1");
    assert_eq!(event["data"]["kind"], "stuck");
    assert_eq!(robot.heard()[0].1, json!({ "text": "[page] nexus at standby-b: step promote is stuck" }));
}

#[tokio::test]
async fn a_receiver_that_fails_is_told_again_under_the_same_id() {
    let receiver = Receiver::answering([503, 500]).await;

    let untold = send(&[to(&receiver.url, "")], &words(), &json!({})).await;

    assert_eq!(untold.len(), 0, "{untold:?}");
    let ids: Vec<String> = receiver.heard().into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, ["evt_1", "evt_1", "evt_1"]);
}

#[tokio::test]
async fn a_refusal_is_not_repeated() {
    let receiver = Receiver::answering([403, 200]).await;

    let untold = send(&[to(&receiver.url, "")], &words(), &json!({})).await;

    assert!(matches!(untold[..], [Untold::Failed { .. }]), "{untold:?}");
    assert_eq!(receiver.heard().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_dead_receiver_keeps_nothing_from_the_others_and_is_given_up_in_time() {
    let (dead, hung) = (format!("http://{}/", nobody().await), format!("http://{}/", silent().await));
    let began = Instant::now();

    let untold = send(&[to(&dead, ""), to(&hung, "")], &words(), &json!({})).await;

    assert!(matches!(untold[..], [Untold::TooLate { .. }, Untold::TooLate { .. }]), "{untold:?}");
    // Side by side, not one after the other.
    assert!(began.elapsed() < WITHIN + TRY_WITHIN, "{:?}", began.elapsed());
}

#[tokio::test]
async fn one_that_says_yes_with_a_wrong_code_in_its_body_was_not_told() {
    // As chat robots answer: 200 and an error code.
    let robot =
        format!("http://{}/", scripted(b"HTTP/1.1 200 OK\r\ncontent-length: 18\r\n\r\n{\"errcode\": 93000}").await);

    let untold = send(&[to(&robot, "expect_json: { pointer: /errcode, equals: 0 }")], &words(), &json!({})).await;

    assert!(matches!(untold[..], [Untold::Failed { .. }]), "{untold:?}");
}

#[tokio::test]
async fn a_heartbeat_is_heard_or_it_is_said_why_not() {
    let receiver = Receiver::answering([200, 404]).await;
    let dead = yaml(&format!("{{ url: 'http://{}/SECRET' }}", nobody().await));
    let heartbeat: Heartbeat = yaml(&format!("{{ url: '{}' }}", receiver.url));

    let (heard, said, unheard) = (beat(&heartbeat).await, beat(&heartbeat).await, beat(&dead).await);

    assert!(heard.is_ok(), "{heard:?}");
    assert!(matches!(said, Err(Unheard::Said { status: StatusCode::NOT_FOUND, .. })), "{said:?}");
    let unheard = crate::http_client::chain(&unheard.unwrap_err());
    assert!(!unheard.contains("SECRET"), "{unheard}");
}

fn to(url: &str, settings: &str) -> Notify {
    yaml(&format!("webhook: {{ url: '{url}', {settings} }}"))
}

fn words() -> Words {
    Words {
        pair: "nexus".into(),
        site: "standby-b".into(),
        key: "evt_1".into(),
        event: "page".into(),
        message: "step promote is stuck".into(),
        ..Words::default()
    }
}

type Heard = Vec<(String, Value)>;
type Inbox = Arc<Mutex<(VecDeque<u16>, Heard)>>;

/// Gives these answers, and 200 from then on.
struct Receiver {
    url: String,
    inbox: Inbox,
}

impl Receiver {
    async fn answering(answers: impl Into<VecDeque<u16>>) -> Self {
        let inbox: Inbox = Arc::new(Mutex::new((answers.into(), vec![])));
        let take = |State(inbox): State<Inbox>, headers: HeaderMap, body: String| async move {
            let mut inbox = inbox.lock().unwrap();
            let id = headers.get("webhook-id").map_or("", |id| id.to_str().unwrap());
            inbox.1.push((id.to_owned(), serde_json::from_str(&body).unwrap_or_default()));
            StatusCode::from_u16(inbox.0.pop_front().unwrap_or(200)).unwrap()
        };
        let address = serve(Router::new().route("/", any(take)).with_state(inbox.clone())).await;
        Self { url: format!("http://{address}/"), inbox }
    }

    fn heard(&self) -> Heard {
        self.inbox.lock().unwrap().1.clone()
    }
}
