use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use http::HeaderMap;
use understudy_config::Pair;
use understudy_core::{Failure, Step};

use super::*;
use crate::testing::{Gate, context, pair, serve, yaml};

#[tokio::test]
async fn the_route_is_switched_and_read_back() {
    let balancer = Balancer::start(Fault::None).await;

    let (result, gate) = balancer.run("").await;

    let expected = format!("http://{0} led to a and leads to b now", balancer.address);
    assert_eq!(result.unwrap().detail, expected);
    assert_eq!(balancer.switches(), [("nexus-7-failover/route-0".to_owned(), "7".to_owned())]);
    assert_eq!(gate.permits(), 1);
}

#[tokio::test]
async fn what_leads_to_b_already_is_left_alone() {
    let balancer = Balancer::start(Fault::None).await;
    balancer.set("b");

    let (result, gate) = balancer.run("").await;

    assert!(result.is_ok(), "{result:?}");
    assert_eq!(balancer.switches(), []);
    assert_eq!(gate.permits(), 0);
}

#[tokio::test]
async fn a_value_that_is_neither_a_nor_b_stops_the_step_before_anything_is_sent() {
    let balancer = Balancer::start(Fault::None).await;
    balancer.set("maintenance");

    let error = balancer.run("").await.0.unwrap_err();

    assert_eq!(error.failure(), Failure::Permanent);
    assert!(error.to_string().contains(r#"leads to "maintenance", which is neither A ("a") nor B ("b")"#), "{error}");
    assert_eq!(balancer.switches(), []);
}

#[tokio::test]
async fn a_lost_answer_is_unknown_and_the_next_try_finds_the_work_done() {
    let balancer = Balancer::start(Fault::AnswerLost).await;

    let first = balancer.run("").await.0.unwrap_err();
    let (second, gate) = balancer.run("").await;

    assert_eq!(first.failure(), Failure::Unknown);
    assert!(second.is_ok(), "{second:?}");
    assert_eq!(balancer.switches().len(), 1);
    assert_eq!(gate.permits(), 0);
}

#[tokio::test]
async fn a_receiver_that_says_yes_and_does_nothing_is_found_out() {
    let balancer = Balancer::start(Fault::Lies).await;

    let (result, gate) = balancer.run("timeout: 500ms,").await;

    let error = result.unwrap_err();
    assert_eq!(error.failure(), Failure::Unknown);
    assert!(error.to_string().contains("still leads to a after 500ms"), "{error}");
    assert!(!gate.shown.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_switch_that_takes_its_time_is_waited_for() {
    let balancer = Balancer::start(Fault::After(3)).await;

    let result = balancer.run("").await.0;

    assert!(result.is_ok(), "{result:?}");
}

#[tokio::test]
async fn a_refusal_is_permanent() {
    let balancer = Balancer::start(Fault::Refuse).await;

    assert_eq!(balancer.run("").await.0.unwrap_err().failure(), Failure::Permanent);
    assert_eq!(balancer.active(), "a");
}

#[tokio::test]
async fn the_reader_is_told_the_headers_only_if_it_is_the_same_server() {
    let balancer = Balancer::start(Fault::None).await;
    let elsewhere = Balancer::start(Fault::None).await;
    elsewhere.set("b");
    let route = |reader: &Balancer| {
        let url = format!("http://{}", reader.address);
        yaml::<RouteWebhook>(&format!(
            "{{ url: 'http://{}/route', headers: {{ x-token: T }}, read: {{ url: '{url}/route', pointer: /active, expect: b }} }}",
            balancer.address
        ))
    };

    for reader in [&balancer, &elsewhere] {
        run(&step(&Arc::default()), &route(reader)).await.unwrap();
    }

    assert!(balancer.heard().iter().all(|headers| headers.contains_key("x-token")));
    assert!(elsewhere.heard().iter().all(|headers| !headers.contains_key("x-token")));
}

#[tokio::test]
async fn a_reader_that_answers_garbage_is_no_reason_to_switch() {
    let balancer = Balancer::start(Fault::Garbage).await;

    let error = balancer.run("").await.0.unwrap_err();

    assert_eq!(error.failure(), Failure::Transient);
    assert_eq!(balancer.switches(), []);
}

#[tokio::test]
async fn without_a_reader_the_answer_to_the_switch_must_say_it() {
    let balancer = Balancer::start(Fault::Lies).await;
    let route: RouteWebhook = yaml(&format!(
        "{{ url: 'http://{}/route', expect_json: {{ pointer: /active, equals: b }} }}",
        balancer.address
    ));

    let error = run(&step(&Arc::default()), &route).await.unwrap_err();
    balancer.shared.lock().unwrap().fault = Fault::None;
    let second = run(&step(&Arc::default()), &route).await;

    assert_eq!(error.failure(), Failure::Permanent);
    assert!(second.is_ok(), "{second:?}");
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    AnswerLost,
    Lies,
    Refuse,
    Garbage,
    /// The value changes with this look after the switch.
    After(u32),
}

struct Shared {
    active: String,
    fault: Fault,
    switches: Vec<(String, String)>,
    heard: Vec<HeaderMap>,
    pending: Option<u32>,
}

type State_ = State<Arc<Mutex<Shared>>>;

/// A load balancer with one route.
struct Balancer {
    address: std::net::SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

impl Balancer {
    async fn start(fault: Fault) -> Self {
        let shared = Shared { active: "a".into(), fault, switches: vec![], heard: vec![], pending: None };
        let shared = Arc::new(Mutex::new(shared));
        let router = Router::new().route("/route", get(look).post(switch)).with_state(shared.clone());
        Self { address: serve(router).await, shared }
    }

    async fn run(&self, settings: &str) -> (Result<StepDone, StepError>, Arc<Gate>) {
        let gate = Arc::<Gate>::default();
        let url = format!("http://{}/route", self.address);
        let route = yaml::<RouteWebhook>(&format!(
            "{{ url: '{url}', {settings} body: {{ target: b, epoch: '{{{{epoch}}}}' }}, \
               read: {{ url: '{url}', pointer: /active, expect: b, before: a }} }}"
        ));
        (run(&step(&gate), &route).await, gate)
    }

    fn set(&self, active: &str) {
        self.shared.lock().unwrap().active = active.into();
    }

    fn active(&self) -> String {
        self.shared.lock().unwrap().active.clone()
    }

    fn switches(&self) -> Vec<(String, String)> {
        self.shared.lock().unwrap().switches.clone()
    }

    fn heard(&self) -> Vec<HeaderMap> {
        self.shared.lock().unwrap().heard.clone()
    }
}

async fn look(State(shared): State_, headers: HeaderMap) -> String {
    let mut shared = shared.lock().unwrap();
    shared.heard.push(headers);
    if shared.fault == Fault::Garbage {
        return "<html>".into();
    }
    match shared.pending {
        Some(0) => shared.active = "b".into(),
        Some(looks) => shared.pending = Some(looks - 1),
        None => {}
    }
    json!({ "active": shared.active }).to_string()
}

async fn switch(State(shared): State_, headers: HeaderMap, body: String) -> (StatusCode, axum::body::Body) {
    let mut shared = shared.lock().unwrap();
    let body: Value = serde_json::from_str(&body).unwrap();
    if shared.fault == Fault::Refuse {
        return (StatusCode::FORBIDDEN, "no".into());
    }
    let key = headers["idempotency-key"].to_str().unwrap().to_owned();
    shared.switches.push((key, body["epoch"].as_str().unwrap_or_default().to_owned()));
    match shared.fault {
        Fault::Lies => {}
        Fault::After(looks) => shared.pending = Some(looks),
        _ => shared.active = "b".into(),
    }
    if shared.fault == Fault::AnswerLost {
        // A body that fails before its first byte ends the connection before the head is out.
        let lost = futures::stream::once(async { Err::<bytes::Bytes, _>(std::io::Error::other("lost")) });
        let answer = (StatusCode::OK, axum::body::Body::from_stream(lost));
        return answer;
    }
    (StatusCode::OK, json!({ "active": shared.active }).to_string().into())
}

fn step(gate: &Arc<Gate>) -> Context {
    let pair: Pair = pair("");
    context(pair, Step::Route(0), gate)
}
