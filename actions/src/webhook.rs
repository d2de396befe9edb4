//! Calls a webhook, signed as Standard Webhooks prescribe.
//!
//! In: the settings of the call and the [`Words`] that fill its body. Out: the answer's body, or an error that says
//! what may be done: refused, not taken, nothing sent, or nobody knows. The key of [`Words`] is `webhook-id` and
//! `idempotency-key` of every try, so that a receiver can tell a repetition. Start reading at [`call`].

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sha2::Sha256;
use understudy_config::{ExpectJson, Webhook};

use crate::http_client::{Answer, Endpoint, HttpError, LONGEST_ANSWER, Reach, shown};
use crate::{StepError, UnknownVariable, Words, fill};

/// Why a webhook did not do what it was called for.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The settings can not be used; nothing was sent.
    #[error("failed to prepare the call of {target}")]
    Unusable {
        /// What was to be called.
        target: String,
        /// What is wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There was no answer to judge.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The receiver said no: trying again will not help.
    #[error("{target} refused: {said}")]
    Refused {
        /// What was called.
        target: String,
        /// What it answered.
        said: String,
    },
    /// The receiver is not able to take it now, and says so itself (429, 503): trying again is safe.
    #[error("{target} did not take it now: {said}")]
    NotNow {
        /// What was called.
        target: String,
        /// What it answered.
        said: String,
    },
    /// The answer does not tell whether it was done: an error inside the receiver or a gateway, or not what was expected.
    #[error("{target} answered, but not whether it was done: {said}")]
    Unclear {
        /// What was called.
        target: String,
        /// What it answered.
        said: String,
    },
}

impl WebhookError {
    /// As the error of a call that changes nothing.
    #[must_use]
    pub fn of_read(self, what: impl Into<String>) -> StepError {
        let what = what.into();
        match self {
            WebhookError::Http(error) => error.of_read(what),
            WebhookError::Unusable { .. } | WebhookError::Refused { .. } => {
                StepError::Permanent { what, source: Some(Box::new(self)) }
            }
            WebhookError::NotNow { .. } | WebhookError::Unclear { .. } => {
                StepError::Transient { what, source: Some(Box::new(self)) }
            }
        }
    }

    /// As the error of a call that may have changed something.
    #[must_use]
    pub fn of_write(self, what: impl Into<String>) -> StepError {
        match self {
            WebhookError::Http(error) => error.of_write(what),
            WebhookError::Unclear { .. } => StepError::Unknown { what: what.into(), source: Some(Box::new(self)) },
            _ => self.of_read(what),
        }
    }

    /// Whether the same call may have another end soon.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            WebhookError::Unusable { .. } | WebhookError::Refused { .. } => false,
            WebhookError::Http(error) => !matches!(error, HttpError::Unusable { .. }),
            WebhookError::NotNow { .. } | WebhookError::Unclear { .. } => true,
        }
    }
}

/// Calls `hook` and returns its answer's body, of at most 64 KiB; empty if it was longer and nobody needed it.
///
/// - `words`: fill the body; `words.key` is the id of the delivery.
/// - `data`: what the standard event carries where the file gives no body of its own.
/// - `limit`: the time that is left for it, if that is less than the hook's own time-out.
///
/// # Errors
/// [`WebhookError`].
pub async fn call(hook: &Webhook, words: &Words, data: Value, limit: Duration) -> Result<Bytes, WebhookError> {
    let endpoint = Endpoint::open(Reach::from(hook), hook.timeout.0).await?.at_most(limit);
    let unusable = |source: BadCall| WebhookError::Unusable { target: endpoint.target().into(), source: source.into() };
    let method =
        Method::from_bytes(hook.method.as_bytes()).map_err(|_| unusable(BadCall::Method(hook.method.clone())))?;
    let (body, kind) = body_of(hook, &method, words, data).map_err(unusable)?;
    let headers = headers_of(hook, &words.key, &body, kind).map_err(unusable)?;
    let request = endpoint.request(method).headers(headers).body(body);
    let answer = take(&endpoint, request, hook.expect_json.is_some()).await?;
    judge(hook, endpoint.target(), answer)
}

/// What of the settings can not be sent.
#[derive(Debug, thiserror::Error)]
enum BadCall {
    #[error("{0:?} is no HTTP method")]
    Method(String),
    #[error(transparent)]
    Variable(#[from] UnknownVariable),
    #[error("header {0:?} is no header, or its value is none")]
    Header(String),
    #[error(transparent)]
    Secret(#[from] understudy_config::SecretError),
    #[error("the signing secret begins with whsec_ and is not base64 after it")]
    SigningSecret,
}

/// An answer that is too long is no error where only its status counts.
async fn take(endpoint: &Endpoint, request: reqwest::RequestBuilder, body_counts: bool) -> Result<Answer, HttpError> {
    let mut body = Vec::new();
    let head = endpoint.stream(request, |chunk| {
        body.extend_from_slice(chunk);
        body.len() <= LONGEST_ANSWER
    });
    let head = head.await?;
    if !head.whole && body_counts {
        return Err(HttpError::TooLong { target: endpoint.target().into(), limit: LONGEST_ANSWER });
    }
    body.truncate(LONGEST_ANSWER);
    Ok(head.with(body.into()))
}

/// The body and its content type. A GET or HEAD has none unless the file gives one.
fn body_of(hook: &Webhook, method: &Method, words: &Words, data: Value) -> Result<(String, &'static str), BadCall> {
    if let Some(body) = &hook.body {
        return Ok((fill(body, words)?.to_string(), "application/json"));
    }
    if matches!(*method, Method::GET | Method::HEAD) {
        return Ok((String::new(), ""));
    }
    Ok((event(words, data).to_string(), "application/cloudevents+json"))
}

/// A CloudEvent in structured mode (CloudEvents 1.0).
fn event(words: &Words, data: Value) -> Value {
    json!({
        "specversion": "1.0",
        "id": words.key,
        "source": format!("/understudy/{}", words.site),
        "type": format!("understudy.{}.v1", words.event),
        "subject": words.pair,
        "time": jiff::Timestamp::now().to_string(),
        "datacontenttype": "application/json",
        "data": data,
    })
}

fn headers_of(hook: &Webhook, id: &str, body: &str, kind: &'static str) -> Result<HeaderMap, BadCall> {
    let mut headers = HeaderMap::new();
    if !kind.is_empty() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    headers.extend(configured(hook)?);
    let timestamp = unix_seconds().to_string();
    headers.insert("webhook-id", header_value("webhook-id", id)?);
    headers.insert("idempotency-key", header_value("idempotency-key", id)?);
    headers.insert("webhook-timestamp", header_value("webhook-timestamp", &timestamp)?);
    if let Some(secret) = &hook.secret {
        let signature = sign(&secret.read()?, id, &timestamp, body)?;
        headers.insert("webhook-signature", header_value("webhook-signature", &signature)?);
    }
    Ok(headers)
}

/// The headers that the file gives to `hook`, open and secret; for other calls of the same server.
///
/// # Errors
/// [`WebhookError::Unusable`].
pub(crate) fn own_headers(hook: &Webhook) -> Result<HeaderMap, WebhookError> {
    configured(hook).map_err(|source| WebhookError::Unusable { target: shown(&hook.url), source: source.into() })
}

fn configured(hook: &Webhook) -> Result<HeaderMap, BadCall> {
    let mut headers = HeaderMap::new();
    for (name, value) in &hook.headers {
        let mut value = header_value(name, value)?;
        value.set_sensitive(is_login(name));
        headers.insert(header_name(name)?, value);
    }
    for (name, secret) in &hook.secret_headers {
        let mut value = header_value(name, secret.read()?.expose_secret())?;
        value.set_sensitive(true);
        headers.insert(header_name(name)?, value);
    }
    Ok(headers)
}

/// Whether a header that the file gives openly is a login all the same: no reason to have it in the journal too.
fn is_login(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["authorization", "cookie", "token", "secret", "password", "api-key", "apikey"]
        .iter()
        .any(|word| name.contains(word))
}

fn header_name(name: &str) -> Result<HeaderName, BadCall> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| BadCall::Header(name.into()))
}

fn header_value(name: &str, value: &str) -> Result<HeaderValue, BadCall> {
    // The value may be a secret, so that only the name is told.
    HeaderValue::from_str(value).map_err(|_| BadCall::Header(name.into()))
}

fn unix_seconds() -> u64 {
    // A clock before 1970 makes every signature stale, which the receiver will say.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// `v1,BASE64` of HMAC-SHA256 over `ID.TIMESTAMP.BODY`.
///
/// # Source
/// Standard Webhooks, "Signature scheme".
fn sign(secret: &SecretString, id: &str, timestamp: &str, body: &str) -> Result<String, BadCall> {
    let text = secret.expose_secret();
    let key = match text.strip_prefix("whsec_") {
        Some(encoded) => STANDARD.decode(encoded).map_err(|_| BadCall::SigningSecret)?,
        None => text.as_bytes().to_vec(),
    };
    let mut code = Hmac::<Sha256>::new_from_slice(&key).map_err(|_| BadCall::SigningSecret)?;
    code.update(format!("{id}.{timestamp}.{body}").as_bytes());
    Ok(format!("v1,{}", STANDARD.encode(code.finalize().into_bytes())))
}

pub(crate) fn judge(hook: &Webhook, target: &str, answer: Answer) -> Result<Bytes, WebhookError> {
    let Answer { status, body, .. } = answer;
    let (target, said) = (target.to_owned(), said(status, &body));
    let expected = if hook.expect.is_empty() { status.is_success() } else { hook.expect.contains(&status.as_u16()) };
    if !expected {
        return Err(match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => WebhookError::NotNow { target, said },
            // The receiver or a gateway before it may have failed after the effect.
            status if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT => {
                WebhookError::Unclear { target, said }
            }
            _ => WebhookError::Refused { target, said },
        });
    }
    if let Some(expected) = &hook.expect_json {
        judge_json(expected, target, said, &body)?;
    }
    Ok(body)
}

fn judge_json(expected: &ExpectJson, target: String, said: String, body: &[u8]) -> Result<(), WebhookError> {
    let Ok(answer) = serde_json::from_slice::<Value>(body) else {
        return Err(WebhookError::Unclear { target, said: format!("{said}, which is not JSON") });
    };
    let ExpectJson { pointer, equals } = expected;
    match answer.pointer(pointer) {
        Some(found) if found == equals => Ok(()),
        Some(found) => {
            let found = shortened(&found.to_string());
            Err(WebhookError::Refused { target, said: format!("{pointer} of its answer is {found}, not {equals}") })
        }
        None => Err(WebhookError::Unclear { target, said: format!("its answer has no {pointer}, expected {equals}") }),
    }
}

/// The status, and the beginning of the body if it is text.
fn said(status: StatusCode, body: &[u8]) -> String {
    let hint = if status.is_redirection() { ", and redirects are not followed: write the last address" } else { "" };
    match std::str::from_utf8(body) {
        Ok(text) if !text.trim().is_empty() => format!("{status}{hint}: {}", shortened(text)),
        _ => format!("{status}{hint}"),
    }
}

/// So much of an answer is shown in a message.
const SHOWN_CHARS: usize = 200;

/// One line of at most 200 characters.
pub(crate) fn shortened(text: &str) -> String {
    let mut line: String =
        text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN_CHARS + 1).collect();
    if line.chars().count() > SHOWN_CHARS {
        line.pop();
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests;
