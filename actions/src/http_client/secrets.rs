//! What of an answer nobody may read: the secrets that we sent ourselves.
//!
//! Beginnings of answers stand in messages, and messages in the journal (X2). A receiver that echoes the request, as debug
//! pages and gateways do, would put our own login there. So every answer is handed on with these places hidden.
//!
//! In: the request as it is sent; its sensitive headers count, among them the login of a URL. Out: [`Secrets::hide`].

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

/// What stands where a secret stood.
const HIDDEN: &[u8] = b"(hidden)";

/// Shorter ones are no secrets, and hiding them would tear any answer to pieces.
const SHORTEST: usize = 4;

/// The secrets of one request, the longest first.
#[derive(Default)]
pub(super) struct Secrets(Vec<Vec<u8>>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

impl Secrets {
    pub(super) fn of(request: &reqwest::Request) -> Self {
        let mut all = Vec::new();
        for value in request.headers().values().filter(|value| value.is_sensitive()) {
            all.extend(forms_of(value.as_bytes()));
        }
        all.retain(|secret: &Vec<u8>| secret.len() >= SHORTEST);
        all.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        all.dedup();
        Self(all)
    }

    /// `answer` without them.
    pub(super) fn hide(&self, answer: Bytes) -> Bytes {
        self.0.iter().fold(answer, |answer, secret| match find(&answer, secret) {
            Some(first) => without(&answer, secret, first).into(),
            None => answer,
        })
    }
}

/// A header's value as a receiver may show it: whole, without its scheme (`Bearer`), decoded (`Basic`), and each of them
/// as it stands in a JSON text.
fn forms_of(value: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = vec![value.to_vec()];
    if let Some(at) = value.iter().rposition(|byte| *byte == b' ') {
        let (scheme, credentials) = (&value[..at], &value[at + 1..]);
        forms.push(credentials.to_vec());
        if scheme.eq_ignore_ascii_case(b"basic")
            && let Ok(login) = STANDARD.decode(credentials)
        {
            forms.extend(login.iter().position(|byte| *byte == b':').map(|colon| login[colon + 1..].to_vec()));
            forms.push(login);
        }
    }
    let quoted = |form: &Vec<u8>| {
        let text = serde_json::Value::from(std::str::from_utf8(form).ok()?).to_string();
        Some(text.as_bytes()[1..text.len() - 1].to_vec())
    };
    let quoted: Vec<Vec<u8>> = forms.iter().filter_map(quoted).collect();
    forms.extend(quoted);
    forms
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

fn without(text: &[u8], secret: &[u8], first: usize) -> Vec<u8> {
    let (mut clean, mut rest, mut next) = (Vec::with_capacity(text.len()), text, Some(first));
    while let Some(at) = next {
        clean.extend_from_slice(&rest[..at]);
        clean.extend_from_slice(HIDDEN);
        rest = &rest[at + secret.len()..];
        next = find(rest, secret);
    }
    clean.extend_from_slice(rest);
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(request: reqwest::RequestBuilder, answer: &'static str) -> String {
        let request = request.build().unwrap();
        String::from_utf8(Secrets::of(&request).hide(Bytes::from_static(answer.as_bytes())).to_vec()).unwrap()
    }

    fn get(url: &str) -> reqwest::RequestBuilder {
        super::super::provide_crypto();
        reqwest::Client::new().get(url)
    }

    fn sensitive(value: &str) -> http::HeaderValue {
        let mut value = http::HeaderValue::from_str(value).unwrap();
        value.set_sensitive(true);
        value
    }

    #[test]
    fn a_secret_header_is_hidden_wherever_and_however_it_is_echoed() {
        let request = || get("http://x/").header("x-token", sensitive("Bearer T0\"KEN")).header("x-open", "plain");

        let answer = "{\"X-Token\": \"Bearer T0\\\"KEN\", \"raw\": 'T0\"KEN', \"again\": \"T0\\\"KENT0\\\"KEN\", \"x-open\": \"plain\"}";

        let expected =
            "{\"X-Token\": \"(hidden)\", \"raw\": '(hidden)', \"again\": \"(hidden)(hidden)\", \"x-open\": \"plain\"}";
        assert_eq!(hidden(request(), answer), expected);
    }

    #[test]
    fn a_login_is_hidden_encoded_and_decoded_also_that_of_a_url() {
        for request in [get("http://x/").basic_auth("anna", Some("s3cret")), get("http://anna:s3cret@x/")] {
            // YW5uYTpzM2NyZXQ= is anna:s3cret.
            let answer = "Authorization: Basic YW5uYTpzM2NyZXQ= (anna:s3cret), password s3cret of anna";

            assert_eq!(hidden(request, answer), "Authorization: (hidden) ((hidden)), password (hidden) of anna");
        }
    }

    #[test]
    fn what_holds_no_secret_is_handed_on_as_it_is() {
        assert_eq!(
            hidden(get("http://x/").header("x-token", sensitive("abc")), "abc is too short"),
            "abc is too short"
        );
        assert_eq!(hidden(get("http://x/"), "{}"), "{}");
    }
}
