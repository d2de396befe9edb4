//! Reads another `understudy witness`, and signs for one.
//!
//! In: the witness' settings. Out: a [`WitnessReport`]. Each look asks `GET /v1/witness/PAIR?nonce=NONCE` with a nonce of its
//! own; the answer is a [`Testimony`] in JSON, with the header `x-understudy-signature: v1,<base64>`, the HMAC-SHA256 over
//! `NONCE.BODY` under the shared secret. The nonce makes it fresh: nobody can keep an answer and give it again.
//!
//! | outcome | report |
//! |---|---|
//! | signed, over our nonce, of our pair; it does not doubt itself | Sees its domains |
//! | the same, and it doubts itself | Blind |
//! | wrong or missing signature; another nonce, pair or kind; no 200; no JSON; longer than 64 KiB; silence; anything else | Absent, with the reason |
//!
//! A witness' silence is never evidence against anybody: what an Absent one may do, which is nothing, the core decides.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use tokio::time;
use understudy_config::Witness as Settings;
use understudy_core::{Domain, Reading, WitnessKind, WitnessReport};
use uuid::Uuid;

use crate::ProbeError;
use crate::http1::{Answer, Keep, Reach, Target};
use crate::shared::Shared;
use crate::sight::brief;

/// The header that carries the signature.
pub const SIGNATURE: &str = "x-understudy-signature";

/// Says how the signature is made; another way will have another number.
const SCHEME: &str = "v1,";

/// More domains than this no witness has.
const MOST_DOMAINS: usize = Domain::ALL.len();

/// What a witness answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Testimony {
    /// The nonce of the question.
    pub nonce: String,
    /// The pair.
    pub pair: String,
    /// Where it stands. A daemon that takes it for another kind gives it rights that it must not have (S2).
    pub kind: WitnessKind,
    /// Whether it doubts itself.
    pub blind: bool,
    /// The state of each domain that it watches.
    pub domains: Vec<DomainSeen>,
}

/// One domain as a witness sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainSeen {
    /// Which.
    pub domain: Domain,
    /// Its state.
    pub reading: Reading,
}

fn path(pair: &str, nonce: &str) -> String {
    format!("v1/witness/{pair}?nonce={nonce}")
}

/// The value of [`SIGNATURE`] for `body`, the answer to the question with `nonce`.
#[must_use]
pub fn sign(secret: &SecretString, nonce: &str, body: &[u8]) -> String {
    format!("{SCHEME}{}", BASE64_STANDARD.encode(mac(secret, nonce, body).finalize().into_bytes()))
}

/// Whether `signature` is that of `body`; takes the same time whatever is wrong with it.
fn is_signed(secret: &SecretString, nonce: &str, body: &[u8], signature: &str) -> bool {
    let Some(encoded) = signature.strip_prefix(SCHEME) else { return false };
    let Ok(tag) = BASE64_STANDARD.decode(encoded) else { return false };
    mac(secret, nonce, body).verify_slice(&tag).is_ok()
}

fn mac(secret: &SecretString, nonce: &str, body: &[u8]) -> Hmac<Sha256> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()).expect("a key of any length is good");
    mac.update(nonce.as_bytes());
    mac.update(b".");
    mac.update(body);
    mac
}

/// What one look at a witness in a grid brought.
#[derive(Debug, Clone, PartialEq)]
pub struct WitnessLook {
    /// When the look began, in milliseconds of `Now::boot_ms`.
    pub started_ms: u64,
    /// What it said.
    pub report: WitnessReport,
}

/// Another observer of a pair.
pub struct Witness {
    target: Target,
    pair: String,
    kind: WitnessKind,
    secret: SecretString,
    period: Duration,
    timeout: Duration,
}

impl Witness {
    /// The witness of `pair` that `settings` describe.
    ///
    /// # Errors
    /// [`ProbeError`] if its URL or its secret can not be used.
    pub fn new(settings: &Settings, pair: &str, shared: &mut Shared) -> Result<Self, ProbeError> {
        let reach = Reach { url: &settings.url, connect_to: None, ca: None };
        let timeout = settings.timeout.0;
        let target = Target::new(&reach, timeout * 2 / 3, shared)?;
        // Shows now, not at each look, whether the pair's name can stand in a URL.
        target.call_below(Method::GET, &path(pair, "0"), Keep::Whole)?;
        Ok(Self {
            target,
            pair: pair.to_owned(),
            kind: settings.kind,
            secret: settings.secret.read()?,
            period: settings.period.0,
            timeout,
        })
    }

    /// Start-to-start time of its grid.
    #[must_use]
    pub fn period(&self) -> Duration {
        self.period
    }

    /// Total time-out of one look.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Asks once; never takes longer than its time-out.
    pub async fn look(&self) -> WitnessReport {
        match time::timeout(self.timeout, self.ask()).await {
            Ok(Ok(testimony)) if testimony.blind => WitnessReport::Blind,
            Ok(Ok(testimony)) => {
                WitnessReport::Sees { domains: testimony.domains.iter().map(|s| (s.domain, s.reading)).collect() }
            }
            Ok(Err(why)) => WitnessReport::Absent { why: brief(&why).into_string() },
            Err(_elapsed) => WitnessReport::Absent { why: format!("no answer within {:?}", self.timeout) },
        }
    }

    async fn ask(&self) -> Result<Testimony, String> {
        let nonce = Uuid::new_v4().simple().to_string();
        let call = self.target.call_below(Method::GET, &path(&self.pair, &nonce), Keep::Whole);
        let answer = self.target.send(&call.map_err(|error| error.to_string())?).await.map_err(|fault| fault.detail)?;
        self.examine(&nonce, &answer)
    }

    /// The signature comes first: nothing of an unsigned answer is read.
    fn examine(&self, nonce: &str, answer: &Answer) -> Result<Testimony, String> {
        if answer.status != StatusCode::OK {
            return Err(format!("it answers {}", answer.status.as_u16()));
        }
        let testimony = signed_testimony(&self.secret, nonce, &answer.body, answer.header(SIGNATURE))?;
        let Testimony { nonce: of, pair, domains, .. } = &testimony;
        if of != nonce {
            return Err("it answers another question: its nonce is not ours".into());
        }
        if *pair != self.pair {
            return Err(format!("it speaks of another pair ({pair:.40})"));
        }
        if testimony.kind != self.kind {
            return Err(format!(
                "it stands at another place than the file says: it is a {}, not a {}",
                word(testimony.kind),
                word(self.kind)
            ));
        }
        if domains.len() > MOST_DOMAINS {
            return Err(format!("it speaks of {} domains, and there are {MOST_DOMAINS}", domains.len()));
        }
        Ok(testimony)
    }
}

/// What `body` says, if `signature` is the one over our nonce.
pub(crate) fn signed_testimony(
    secret: &SecretString,
    nonce: &str,
    body: &[u8],
    signature: &str,
) -> Result<Testimony, String> {
    if !is_signed(secret, nonce, body, signature) {
        return Err("its signature is wrong: do both sides have the same secret?".into());
    }
    serde_json::from_slice(body).map_err(|error| format!("its answer: {error}"))
}

fn word(kind: WitnessKind) -> &'static str {
    match kind {
        WitnessKind::PrimarySite => "primary_site",
        WitnessKind::ThirdSite => "third_site",
    }
}

#[cfg(test)]
mod tests;
