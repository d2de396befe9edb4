//! Asks another `understudy witness` what it sees of A. What each kind of witness may do is for the core to say.
//!
//! The answer is signed over our nonce: `x-understudy-signature: v1,` and the base64 of the HMAC-SHA256, keyed with the shared
//! secret, of `NONCE.BODY`. Body: `{"nonce", "pair", "blind", "domains": [{"domain", "reading"}]}`.
//!
//! | outcome | report |
//! |---|---|
//! | signature right, nonce and pair ours, it is fit to judge | Sees: its domains |
//! | the same, it doubts itself | Blind |
//! | silence, any error, any other code, wrong or missing signature, another nonce or pair, unparsable or too large | Absent |

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use tokio::time;
use understudy_config as config;
use understudy_core::{Domain, Reading, WitnessReport};
use url::Url;

use crate::ProbeError;
use crate::http1::{Keep, Reach, Target};
use crate::shared::Shared;

/// The header that carries the signature.
pub const SIGNATURE: &str = "x-understudy-signature";

/// What a witness answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Testimony {
    /// The question's nonce.
    pub nonce: String,
    /// The pair that was asked for.
    pub pair: String,
    /// Whether it doubts itself.
    pub blind: bool,
    /// The domains that it watches.
    pub domains: Vec<DomainSeen>,
}

/// One domain as a witness sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainSeen {
    /// Which.
    pub domain: Domain,
    /// All its probes together.
    pub reading: Reading,
}

/// The signature of an answer.
#[must_use]
pub fn sign(secret: &SecretString, nonce: &str, body: &[u8]) -> String {
    format!("v1,{}", BASE64_STANDARD.encode(code(secret, nonce, body).finalize().into_bytes()))
}

fn code(secret: &SecretString, nonce: &str, body: &[u8]) -> Hmac<Sha256> {
    let mut code = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes())
        .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
    code.update(nonce.as_bytes());
    code.update(b".");
    code.update(body);
    code
}

fn is_signed(secret: &SecretString, nonce: &str, body: &[u8], header: &str) -> bool {
    let Some(Ok(given)) = header.strip_prefix("v1,").map(|text| BASE64_STANDARD.decode(text)) else { return false };
    code(secret, nonce, body).verify_slice(&given).is_ok()
}

/// Another observer, ready to be asked.
pub struct Witness {
    url: Url,
    pair: String,
    secret: SecretString,
    timeout: Duration,
    shared: Target,
}

impl Witness {
    /// The witness of the settings, asked about `pair`.
    ///
    /// # Errors
    /// [`ProbeError`] if its URL or its secret is unusable.
    pub fn new(settings: &config::Witness, pair: &str, shared: &mut Shared) -> Result<Self, ProbeError> {
        let unreadable =
            |error: config::SecretError| ProbeError::Setting { what: "secret of the witness", why: error.to_string() };
        let secret = settings.secret.read().map_err(unreadable)?;
        let reach = Reach { url: &settings.url, connect_to: None, ca: None };
        let target = Target::new(&reach, settings.timeout.0 * 2 / 3, shared)?;
        Ok(Self {
            url: settings.url.clone(),
            pair: pair.to_owned(),
            secret,
            timeout: settings.timeout.0,
            shared: target,
        })
    }

    /// Asks once; never takes longer than its time-out.
    pub async fn look(&self) -> WitnessReport {
        match time::timeout(self.timeout, self.ask()).await {
            Ok(Ok(report)) => report,
            Ok(Err(why)) => WitnessReport::Absent { why },
            Err(_) => WitnessReport::Absent { why: format!("no answer within {:?}", self.timeout) },
        }
    }

    async fn ask(&self) -> Result<WitnessReport, String> {
        let nonce = uuid::Uuid::new_v4().simple().to_string();
        let path = format!("/v1/witness/{}?nonce={nonce}", self.pair);
        let mut call = self.shared.call(Keep::Whole).map_err(|error| error.to_string())?;
        call.uri = path.parse().map_err(|_| format!("{} can not be asked about {}", self.url, self.pair))?;
        let answer = self.shared.send(&call).await.map_err(|fault| fault.detail)?;
        if !answer.status.is_success() {
            return Err(format!("it answers {}", answer.status.as_u16()));
        }
        if !is_signed(&self.secret, &nonce, &answer.body, answer.header(SIGNATURE)) {
            return Err("its signature is wrong".into());
        }
        let said: Testimony =
            serde_json::from_slice(&answer.body).map_err(|_| "its answer can not be understood".to_owned())?;
        judge(said, &nonce, &self.pair)
    }
}

fn judge(said: Testimony, nonce: &str, pair: &str) -> Result<WitnessReport, String> {
    if said.nonce != nonce || said.pair != pair {
        return Err("it answers another question".into());
    }
    if said.blind {
        return Ok(WitnessReport::Blind);
    }
    Ok(WitnessReport::Sees { domains: said.domains.into_iter().map(|seen| (seen.domain, seen.reading)).collect() })
}
