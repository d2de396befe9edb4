//! Canaries: small artifacts that a look writes and reads back, and that tell after a failover how much came over.
//!
//! Each look writes the next of [`SLOTS`] places in turn, below `understudy/PAIR/` of the canary repository, in a folder of its
//! own for each daemon and probe, so that no two of them ever write the same place. The oldest is removed before its place
//! comes round again, since a repository may forbid overwriting; a place that is taken all the same (400) is freed and tried once
//! more. What a canary holds is never the same twice: a stale copy is
//! not taken for it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, StatusCode};
use understudy_config::Nexus as Settings;
use understudy_core::{Reason, millis};
use url::Url;
use uuid::Uuid;

use super::{Nexus, Whose, success, with_login};
use crate::fault::{Fault, Stage};
use crate::http1::{Answer, Call, Keep, Target};
use crate::sight::Sight;
use crate::{ProbeError, clock};

/// So many canaries are kept: at a period of 30 s, those of the last half hour, far more than any loss that is accepted.
const SLOTS: u64 = 64;

/// The canaries of one probe.
pub(super) struct Canaries {
    /// What PUT, GET and DELETE of each place are made from: its path lacks the place's number.
    template: Call,
    instance: String,
    /// Goes on from where it would be if the daemon had never been restarted.
    next: AtomicU64,
}

impl Canaries {
    pub(super) fn new(
        target: &Target,
        folder: &str,
        instance: &str,
        period: Duration,
        settings: &Settings,
    ) -> Result<Self, ProbeError> {
        let path = encoded(&format!("repository/{folder}/{instance}/canary-"));
        let template = with_login(target.call_below(Method::GET, &path, Keep::Beginning)?, settings)?;
        let first = clock::now().wall_ms.unsigned_abs() / millis(period).max(1);
        Ok(Self { template, instance: instance.to_owned(), next: AtomicU64::new(first) })
    }

    /// Writes one and reads it back.
    pub(super) async fn look(&self, nexus: &Nexus) -> Result<Sight, Sight> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let body = self.body(number);
        let put = self.put(number, body.clone());
        let (mut answer, error_ms) = nexus.ask(&put).await?;
        if answer.status == StatusCode::BAD_REQUEST && Whose::of(&answer) == Whose::Nexus {
            // The place was not free, after a restart or a look that failed, and the repository forbids overwriting.
            self.remove(&nexus.target, number).await?;
            answer = nexus.target.send(&put).await?;
        }
        judge_put(&answer)?;
        nexus.is_ours(&answer).await?;
        judge_get(nexus.target.send(&self.call(Method::GET, number)).await, &body)?;
        Ok(Sight { clock_error_ms: error_ms, ..Sight::up() })
    }

    /// Removes the canary whose place comes next. Missing is fine.
    pub(super) async fn remove_oldest(&self, target: &Target) -> Result<(), Fault> {
        self.remove(target, self.next.load(Ordering::Relaxed)).await
    }

    async fn remove(&self, target: &Target, number: u64) -> Result<(), Fault> {
        target.send(&self.call(Method::DELETE, number)).await.map(|_answer| ())
    }

    fn body(&self, number: u64) -> Bytes {
        let written = jiff::Timestamp::now();
        let nonce = Uuid::new_v4();
        let Self { instance, .. } = self;
        format!("understudy canary\nof {instance}\nnumber {number}\nwritten {written}\nnonce {nonce}\n").into()
    }

    fn put(&self, number: u64, body: Bytes) -> Call {
        let mut call = self.call(Method::PUT, number);
        // Nexus 3.71 takes a form for a form and fails on a large one.
        call.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        call.body = body;
        call
    }

    fn call(&self, method: Method, number: u64) -> Call {
        self.template.further(method, number % SLOTS)
    }
}

pub(crate) fn judge_put(answer: &Answer) -> Result<(), Sight> {
    if answer.status.is_server_error() && Whose::of(answer) == Whose::Nexus {
        return Err(Sight::down(Reason::CanaryRefused, format!("{} to the PUT of a canary", answer.status.as_u16())));
    }
    if answer.status == StatusCode::NOT_FOUND && Whose::of(answer) == Whose::Nexus {
        return Err(Sight::unknown(Reason::Unmapped, "there is no canary repository: create a raw hosted one"));
    }
    success(answer, Reason::CanaryRefused)
}

pub(crate) fn judge_get(answer: Result<Answer, Fault>, written: &Bytes) -> Result<(), Sight> {
    let damaged = |how: String| Err(Sight::down(Reason::CanaryDamaged, how));
    let answer = match answer {
        Ok(answer) => answer,
        // Its length was told, and its bytes are gone.
        Err(fault) if fault.stage == Stage::Body => return damaged(format!("it broke off: {}", fault.detail)),
        Err(fault) => return Err(fault.into()),
    };
    match (answer.status, Whose::of(&answer)) {
        (StatusCode::NOT_FOUND, Whose::Nexus) => return damaged("404 right after it was acknowledged".into()),
        _ => success(&answer, Reason::ServerError)?,
    }
    if answer.body == written && !answer.cut {
        return Ok(());
    }
    damaged(format!("{} bytes came back, and not those that were written", answer.body.len()))
}

/// `path` with everything that has no place in a path encoded.
fn encoded(path: &str) -> String {
    let mut url = Url::parse("http://nowhere/").expect("this is a URL");
    url.set_path(path);
    url.path().trim_start_matches('/').to_owned()
}
