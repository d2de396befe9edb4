//! A load balancer that follows webhooks.
//!
//! In: HTTP at its public address, forwarded byte for byte to the active site; signed webhooks at its
//! own address. `POST /hooks/route` with `{"target": "b"}` moves the route; `expected`, if given, must
//! be what is active now (compare-and-set); the same idempotency key again is answered and has no
//! second effect. `GET /hooks/route` tells what is active. `POST /hooks/once` is a hook that is *not*
//! idempotent: a second call with another effect under way is an objection. Out: `{"ok":true,"active":"b"}`
//! and a line in the ledger for each effect. Start at [`LoadBalancer`].

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::effects::{Kind, Ledger};
use super::port::Port;
use super::web::{self, Answer};
use super::webhook::{self, Secret};

/// How the route hook misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    #[default]
    None,
    /// 403 to everything; no effect.
    Refuse,
    /// The next effect lands and the connection ends without an answer; the call after it is sound.
    AnswerLost,
    /// The effect lands, the answer comes after this time.
    Slow(Duration),
    /// 200 with `{"ok":false}`; no effect.
    SaysNo,
    /// 200 and `{"ok":true}` without any effect: only a look from outside finds out.
    Lies,
}

/// A load balancer with its public address and its hook address.
pub struct LoadBalancer {
    public: Port,
    hooks: Port,
    state: Arc<Shared>,
}

struct Shared {
    secret: Secret,
    ledger: Ledger,
    state: Mutex<State>,
}

struct State {
    sites: BTreeMap<String, SocketAddr>,
    active: String,
    fault: Fault,
    /// What was answered to each idempotency key.
    answered: BTreeMap<String, (StatusCode, Value)>,
    /// How often the hook that must not be repeated was called.
    once: usize,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }
}

impl LoadBalancer {
    /// Forwards to `active`, one of `sites`.
    pub async fn start(
        ip: IpAddr,
        sites: BTreeMap<String, SocketAddr>,
        active: &str,
        secret: Secret,
        ledger: Ledger,
    ) -> io::Result<Self> {
        let state = Arc::new(Shared {
            secret,
            ledger,
            state: Mutex::new(State {
                sites,
                active: active.to_owned(),
                fault: Fault::None,
                answered: BTreeMap::new(),
                once: 0,
            }),
        });
        let (forwarding, hooking) = (state.clone(), state.clone());
        let forward = web::service(move |request| forward(forwarding.clone(), request));
        let hook = web::service(move |request| hook(hooking.clone(), request));
        Ok(Self {
            public: Port::open(ip, web::handler(forward)).await?,
            hooks: Port::open(ip, web::handler(hook)).await?,
            state,
        })
    }

    /// Where users come in.
    pub fn public(&self) -> &Port {
        &self.public
    }

    pub fn public_url(&self) -> String {
        format!("http://{}", self.public.address())
    }

    /// Where webhooks are taken.
    pub fn hooks(&self) -> &Port {
        &self.hooks
    }

    pub fn hook_url(&self) -> String {
        format!("http://{}/hooks/route", self.hooks.address())
    }

    /// The site that the public address leads to.
    pub fn active(&self) -> String {
        self.state.lock().active.clone()
    }

    pub fn set_fault(&self, fault: Fault) {
        self.state.lock().fault = fault;
    }

    /// How often the hook that must not be repeated was called.
    pub fn once_calls(&self) -> usize {
        self.state.lock().once
    }
}

async fn forward(state: Arc<Shared>, request: Request<Incoming>) -> Answer {
    let target = {
        let state = state.lock();
        state.sites.get(&state.active).copied()
    };
    let Some(target) = target else { return bad_gateway() };
    relay(target, request).await.unwrap_or_else(|_| bad_gateway())
}

async fn relay(
    target: SocketAddr,
    request: Request<Incoming>,
) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(target).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let answer = sender.send_request(request).await?;
    // A body that the site cuts short is cut short for the client too.
    Ok(answer.map(|body| body.map_err(io::Error::other).boxed()))
}

fn bad_gateway() -> Answer {
    let page = "<html><body><h1>502 Bad Gateway</h1>\nNo server is available.\n</body></html>\n";
    let mut answer = web::typed(StatusCode::BAD_GATEWAY, "text/html", page);
    answer.headers_mut().insert(header::SERVER, HeaderValue::from_static("standin-lb"));
    answer
}

async fn hook(state: Arc<Shared>, request: Request<Incoming>) -> Answer {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let (parts, body) = request.into_parts();
    let Ok(body) = web::collect(body).await else { return web::empty(StatusCode::BAD_REQUEST) };
    match (method, path.as_str()) {
        (Method::GET, "/hooks/route") => web::json(StatusCode::OK, &json!({ "active": state.lock().active })),
        (Method::POST, "/hooks/route") => {
            let fault = state.lock().fault;
            let (status, answer) = route(&state, fault, &parts.headers, &body);
            match fault {
                Fault::AnswerLost => {
                    state.lock().fault = Fault::None;
                    lost()
                }
                Fault::Slow(delay) => {
                    tokio::time::sleep(delay).await;
                    web::json(status, &answer)
                }
                _ => web::json(status, &answer),
            }
        }
        (Method::POST, "/hooks/once") => once(&state, &parts.headers, &body),
        _ => web::empty(StatusCode::NOT_FOUND),
    }
}

/// An answer that ends before its first byte.
fn lost() -> Answer {
    let mut answer = web::empty(StatusCode::OK);
    answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("1"));
    *answer.body_mut() = web::never_sent();
    answer
}

fn route(state: &Shared, fault: Fault, headers: &HeaderMap, body: &Bytes) -> (StatusCode, Value) {
    let refuse = |status, error: String| (status, json!({ "ok": false, "error": error }));
    if fault == Fault::Refuse {
        return refuse(StatusCode::FORBIDDEN, "not allowed".to_owned());
    }
    let now = jiff::Timestamp::now().as_second();
    let id = match webhook::verify(&state.secret, headers, body, now) {
        Ok(id) => id,
        Err(refusal) => return refuse(StatusCode::UNAUTHORIZED, refusal.to_string()),
    };
    let key = idempotency_key(headers).unwrap_or(id);
    let wanted: Value = serde_json::from_slice(body).unwrap_or_default();
    let Some(target) = wanted["target"].as_str() else {
        return refuse(StatusCode::BAD_REQUEST, "field target is missing".to_owned());
    };
    let mut inner = state.lock();
    if let Some(answered) = inner.answered.get(&key) {
        return answered.clone();
    }
    if !inner.sites.contains_key(target) {
        return refuse(StatusCode::UNPROCESSABLE_ENTITY, format!("no site {target}"));
    }
    match fault {
        Fault::SaysNo => return (StatusCode::OK, json!({ "ok": false, "active": inner.active })),
        Fault::Lies => return (StatusCode::OK, json!({ "ok": true, "active": target })),
        _ => {}
    }
    let expected = wanted["expected"].as_str();
    if expected.is_some_and(|expected| expected != inner.active) {
        let error = format!("active is {}", inner.active);
        let body = json!({ "ok": false, "active": inner.active, "error": error });
        return (StatusCode::CONFLICT, body);
    }
    let answer = (StatusCode::OK, json!({ "ok": true, "active": target }));
    if inner.active != target {
        target.clone_into(&mut inner.active);
        state.ledger.record(Kind::Route, "lb", "active", Some(&key), target);
    }
    inner.answered.insert(key, answer.clone());
    answer
}

fn once(state: &Shared, headers: &HeaderMap, body: &Bytes) -> Answer {
    let now = jiff::Timestamp::now().as_second();
    if let Err(refusal) = webhook::verify(&state.secret, headers, body, now) {
        return web::json(StatusCode::UNAUTHORIZED, &json!({ "error": refusal.to_string() }));
    }
    let mut inner = state.lock();
    inner.once += 1;
    let key = idempotency_key(headers);
    state.ledger.record(Kind::Route, "lb", "once", key.as_deref(), &inner.once.to_string());
    if inner.once == 1 {
        web::json(StatusCode::OK, &json!({ "ok": true }))
    } else {
        let error = format!("called {} times", inner.once);
        web::json(StatusCode::CONFLICT, &json!({ "ok": false, "error": error }))
    }
}

fn idempotency_key(headers: &HeaderMap) -> Option<String> {
    headers.get("idempotency-key").and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// A request as a webhook's sender builds it.
pub fn signed(secret: &Secret, url: &str, id: &str, body: &Value) -> Result<Request<Full<Bytes>>, http::Error> {
    let (timestamp, body) = (jiff::Timestamp::now().as_second().to_string(), body.to_string());
    Request::post(url)
        .header(header::CONTENT_TYPE, "application/json")
        .header("webhook-id", id)
        .header("webhook-signature", secret.sign(id, &timestamp, body.as_bytes()))
        .header("webhook-timestamp", timestamp)
        .body(Full::new(body.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::standin::notify::Receiver;
    use crate::standin::port::loopback;

    #[tokio::test]
    async fn the_public_address_leads_to_the_active_site_and_moves_with_the_hook() {
        let world = World::start().await;
        assert_eq!(world.public().await, (200, "site a".to_owned()));

        let answer = world.route("k1", json!({ "target": "b", "expected": "a" })).await.unwrap();

        assert_eq!(answer, (200, json!({ "ok": true, "active": "b" })));
        assert_eq!(world.public().await, (200, "site b".to_owned()));
        assert_eq!(world.effects(), 1);
    }

    #[tokio::test]
    async fn a_dead_site_is_a_502_of_the_balancer() {
        let world = World::start().await;
        world.a.kill().await;

        assert_eq!(world.public().await.0, 502);
    }

    #[tokio::test]
    async fn the_same_key_again_is_answered_and_has_no_second_effect() {
        let world = World::start().await;
        let body = json!({ "target": "b", "expected": "a" });

        let first = world.route("k1", body.clone()).await.unwrap();
        let second = world.route("k1", body).await.unwrap();

        assert_eq!(first, second);
        assert_eq!(world.effects(), 1);
    }

    #[tokio::test]
    async fn compare_and_set_refuses_when_something_else_is_active() {
        let world = World::start().await;

        let answer = world.route("k1", json!({ "target": "a", "expected": "b" })).await.unwrap();

        assert_eq!(answer.0, 409);
        assert_eq!(answer.1["active"], "a");
        assert_eq!(world.effects(), 0);
    }

    #[tokio::test]
    async fn each_fault_answers_and_acts_as_it_is_named() {
        // fault, status (None: no answer at all), active afterwards
        let table = [
            (Fault::Refuse, Some(403), "a"),
            (Fault::AnswerLost, None, "b"),
            (Fault::Slow(Duration::from_millis(30)), Some(200), "b"),
            (Fault::SaysNo, Some(200), "a"),
            (Fault::Lies, Some(200), "a"),
        ];
        for (fault, status, active) in table {
            let world = World::start().await;
            world.balancer.set_fault(fault);

            let answer = world.route("k1", json!({ "target": "b" })).await;

            assert_eq!(answer.as_ref().map(|(status, _)| *status), status, "{fault:?}");
            assert_eq!(world.balancer.active(), active, "{fault:?}");
            if fault == Fault::SaysNo {
                assert_eq!(answer.unwrap().1["ok"], false);
            }
        }
    }

    #[tokio::test]
    async fn a_forged_signature_has_no_effect() {
        let world = World::start().await;
        let forged = Secret::new(b"not the secret, not the secret");

        let answer = send(&forged, &world.balancer.hook_url(), "k", &json!({ "target": "b" })).await;

        assert_eq!(answer.unwrap().0, 401);
        assert_eq!(world.balancer.active(), "a");
    }

    #[tokio::test]
    async fn the_hook_that_must_not_be_repeated_objects_to_a_second_call() {
        let world = World::start().await;
        let url = format!("http://{}/hooks/once", world.balancer.hooks().address());

        let first = send(&world.secret, &url, "k1", &json!({})).await.unwrap();
        let second = send(&world.secret, &url, "k1", &json!({})).await.unwrap();

        assert_eq!((first.0, second.0), (200, 409));
        assert_eq!(world.balancer.once_calls(), 2);
    }

    #[tokio::test]
    async fn a_notification_is_kept_once_however_often_it_is_sent() {
        let secret = Secret::new(b"0123456789abcdef0123456789abcdef");
        let receiver = Receiver::start(loopback(), secret.clone(), Ledger::default()).await.unwrap();
        let url = receiver.url("pager");

        for _attempt in 0..2 {
            send(&secret, &url, "page-1", &json!({ "severity": "page" })).await.unwrap();
        }

        let page = receiver.wait_for(|delivery| delivery.path == "pager").await;
        assert_eq!((page.times, page.body["severity"].as_str()), (2, Some("page")));
        assert_eq!(receiver.deliveries().len(), 1);
    }

    struct World {
        balancer: LoadBalancer,
        secret: Secret,
        ledger: Ledger,
        a: Port,
        _b: Port,
    }

    impl World {
        async fn start() -> Self {
            let (a, b) = (page("site a").await, page("site b").await);
            let sites = [("a", &a), ("b", &b)].map(|(name, port)| (name.to_owned(), port.address())).into();
            let secret = Secret::new(b"0123456789abcdef0123456789abcdef");
            let ledger = Ledger::default();
            let balancer = LoadBalancer::start(loopback(), sites, "a", secret.clone(), ledger.clone()).await.unwrap();
            Self { balancer, secret, ledger, a, _b: b }
        }

        async fn public(&self) -> (u16, String) {
            let answer = client().get(self.balancer.public_url()).send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        }

        async fn route(&self, key: &str, body: Value) -> Option<(u16, Value)> {
            send(&self.secret, &self.balancer.hook_url(), key, &body).await
        }

        fn effects(&self) -> usize {
            self.ledger.of(Kind::Route).len()
        }
    }

    async fn page(text: &'static str) -> Port {
        let service = web::service(move |_request| async move { web::typed(StatusCode::OK, "text/plain", text) });
        Port::open(loopback(), web::handler(service)).await.unwrap()
    }

    fn client() -> reqwest::Client {
        crate::standin::install_crypto();
        reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap()
    }

    async fn send(secret: &Secret, url: &str, id: &str, body: &Value) -> Option<(u16, Value)> {
        let (parts, body) = signed(secret, url, id, body).unwrap().into_parts();
        let answer = client()
            .post(url)
            .headers(parts.headers)
            .body(body.collect().await.unwrap().to_bytes())
            .send()
            .await
            .ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.json().await.unwrap_or_default()))
    }
}
