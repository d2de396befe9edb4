//! A receiver of `notify` webhooks: pages, requests for approval, heartbeats.
//!
//! In: signed JSON at any path. Out: the list of what came, each with its path and id, and a way to
//! wait for the next one that fits. A delivery repeated under the same id is kept once and counted.
//! Start at [`Receiver`].

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use http::{Request, StatusCode};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::effects::{Kind, Ledger};
use super::port::Port;
use super::web::{self, Answer};
use super::webhook::{self, Secret};

/// One delivery.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub path: String,
    /// Its `webhook-id`.
    pub id: String,
    pub body: Value,
    /// How often it was sent.
    pub times: usize,
}

/// A webhook receiver that writes down what it gets.
pub struct Receiver {
    port: Port,
    inbox: Arc<Inbox>,
}

struct Inbox {
    secret: Secret,
    ledger: Ledger,
    broken: AtomicBool,
    deliveries: Mutex<Vec<Delivery>>,
    count: watch::Sender<usize>,
}

impl Receiver {
    pub async fn start(ip: IpAddr, secret: Secret, ledger: Ledger) -> io::Result<Self> {
        let inbox = Arc::new(Inbox {
            secret,
            ledger,
            broken: AtomicBool::new(false),
            deliveries: Mutex::default(),
            count: watch::channel(0).0,
        });
        let taking = inbox.clone();
        let service = web::service(move |request| take(taking.clone(), request));
        Ok(Self { port: Port::open(ip, web::handler(service)).await?, inbox })
    }

    pub fn port(&self) -> &Port {
        &self.port
    }

    /// The address of one kind of notification.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.port.address())
    }

    /// Answers 500 to everything from now on, or no longer.
    pub fn set_broken(&self, broken: bool) {
        self.inbox.broken.store(broken, Ordering::Relaxed);
    }

    /// All that came so far, oldest first.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.inbox.deliveries.lock().expect("no panic while held").clone()
    }

    /// Waits for a delivery that fits, also among those that are there.
    pub async fn wait_for(&self, fits: impl Fn(&Delivery) -> bool) -> Delivery {
        let mut count = self.inbox.count.subscribe();
        loop {
            if let Some(found) = self.deliveries().into_iter().find(|delivery| fits(delivery)) {
                return found;
            }
            // The sender lives as long as self.
            let _ = count.changed().await;
        }
    }
}

async fn take(inbox: Arc<Inbox>, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().trim_start_matches('/').to_owned();
    let (parts, body) = request.into_parts();
    if inbox.broken.load(Ordering::Relaxed) {
        return web::empty(StatusCode::INTERNAL_SERVER_ERROR);
    }
    let Ok(body) = web::collect(body).await else { return web::empty(StatusCode::BAD_REQUEST) };
    let now = jiff::Timestamp::now().as_second();
    let id = match webhook::verify(&inbox.secret, &parts.headers, &body, now) {
        Ok(id) => id,
        Err(refusal) => {
            let error = json!({ "error": refusal.to_string() });
            return web::json(StatusCode::UNAUTHORIZED, &error);
        }
    };
    let Ok(body) = serde_json::from_slice::<Value>(&body) else {
        return web::empty(StatusCode::BAD_REQUEST);
    };
    {
        let mut deliveries = inbox.deliveries.lock().expect("no panic while held");
        if let Some(known) = deliveries.iter_mut().find(|known| known.id == id) {
            known.times += 1;
        } else {
            inbox.ledger.record(Kind::Notify, "notify", &path, Some(&id), "");
            deliveries.push(Delivery { path, id, body, times: 1 });
        }
    }
    inbox.count.send_modify(|count| *count += 1);
    web::empty(StatusCode::NO_CONTENT)
}
