//! The receiving half of Standard Webhooks.
//!
//! In: headers and the raw body of a request, and the shared secret. Out: the `webhook-id`, when the
//! signature is right and fresh. Start at [`verify`].

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use sha2::Sha256;

/// How far a sender's clock may be off. Source: the reference implementations of Standard Webhooks.
const TOLERANCE_SECONDS: i64 = 300;

/// Why a delivery was not taken.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refusal {
    #[error("header {0} is missing or unreadable")]
    Header(&'static str),
    #[error("the timestamp is {0} s off")]
    Stale(i64),
    #[error("no signature matches")]
    Signature,
}

/// The shared secret, `whsec_BASE64` in its text form.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret")
    }
}

impl Secret {
    /// A secret made of `bytes`.
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// The text that a sender is configured with.
    pub fn text(&self) -> String {
        format!("whsec_{}", STANDARD.encode(&self.0))
    }

    /// One entry of `webhook-signature`.
    pub fn sign(&self, id: &str, timestamp: &str, body: &[u8]) -> String {
        let code = self.code(id, timestamp, body).finalize();
        format!("v1,{}", STANDARD.encode(code.into_bytes()))
    }

    fn code(&self, id: &str, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
        let mut code = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        code.update(format!("{id}.{timestamp}.").as_bytes());
        code.update(body);
        code
    }
}

/// Returns the delivery's id when one of its signatures is right and its time is near `now` (seconds).
pub fn verify(secret: &Secret, headers: &HeaderMap, body: &[u8], now: i64) -> Result<String, Refusal> {
    let header = |name: &'static str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.ok_or(Refusal::Header(name))
    };
    let (id, timestamp) = (header("webhook-id")?, header("webhook-timestamp")?);
    let sent: i64 = timestamp.parse().map_err(|_| Refusal::Header("webhook-timestamp"))?;
    if (now - sent).abs() > TOLERANCE_SECONDS {
        return Err(Refusal::Stale(now - sent));
    }
    let right = header("webhook-signature")?
        .split(' ')
        .filter_map(|signature| signature.strip_prefix("v1,"))
        .filter_map(|signature| STANDARD.decode(signature).ok())
        .any(|signature| secret.code(id, timestamp, body).verify_slice(&signature).is_ok());
    if right { Ok(id.to_owned()) } else { Err(Refusal::Signature) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_example_of_standard_webhooks_is_accepted() {
        // standard-webhooks/standard-webhooks, libraries' test vector.
        let secret = Secret::new(&STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap());
        let body = br#"{"test": 2432232314}"#;
        let (id, timestamp) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330");

        let signature = secret.sign(id, timestamp, body);

        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let headers = headers(id, timestamp, &format!("v1,AAAA {signature}"));
        assert_eq!(verify(&secret, &headers, body, 1_614_265_330), Ok(id.to_owned()));
    }

    #[test]
    fn a_changed_body_an_old_time_and_a_missing_header_are_refused() {
        let secret = Secret::new(b"0123456789abcdef0123456789abcdef");
        let signature = secret.sign("id", "1000", b"body");
        let headers = headers("id", "1000", &signature);

        assert_eq!(verify(&secret, &headers, b"Body", 1000), Err(Refusal::Signature));
        assert_eq!(verify(&secret, &headers, b"body", 1301), Err(Refusal::Stale(301)));
        let none = HeaderMap::new();
        assert_eq!(verify(&secret, &none, b"body", 1000), Err(Refusal::Header("webhook-id")));
    }

    fn headers(id: &str, timestamp: &str, signature: &str) -> HeaderMap {
        [("webhook-id", id), ("webhook-timestamp", timestamp), ("webhook-signature", signature)]
            .into_iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }
}
