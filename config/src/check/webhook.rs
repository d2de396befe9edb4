//! HTTP calls: address, method, headers, and the variables of the body.

use serde_json::Value;

use super::Lint;
use super::address::Address;
use crate::{Key, Webhook};

/// Every variable that the texts of a webhook's body may use.
pub const BODY_VARIABLES: [&str; 8] = ["pair", "site", "run", "step", "epoch", "key", "event", "message"];

const METHODS: [&str; 5] = ["POST", "PUT", "PATCH", "GET", "DELETE"];

/// Headers whose value is a secret wherever they stand.
const SECRET_HEADERS: [&str; 4] = ["authorization", "proxy-authorization", "cookie", "x-api-key"];

pub(super) fn check(lint: &mut Lint<'_>, webhook: &Webhook, at: &Key) {
    check_url(lint, &webhook.url, &at.key("url"));
    if !METHODS.contains(&webhook.method.as_str()) {
        let message = format!("{:?} is no method that is known here", webhook.method);
        lint.error(&at.key("method"), message, format!("write one of {}", METHODS.join(", ")));
    }
    check_headers(lint, webhook, at);
    if let Some(body) = &webhook.body {
        for name in unknown_variables(body) {
            let message = format!("{{{{{name}}}}} is no variable of a body");
            lint.error(&at.key("body"), message, format!("write one of {}", BODY_VARIABLES.join(", ")));
        }
    }
    for (n, status) in webhook.expect.iter().enumerate() {
        check_status(lint, *status, &at.key("expect").item(n));
    }
    if let Some(expect) = &webhook.expect_json {
        check_pointer(lint, &expect.pointer, &at.key("expect_json").key("pointer"));
    }
}

fn check_headers(lint: &mut Lint<'_>, webhook: &Webhook, at: &Key) {
    for (name, value) in &webhook.headers {
        let at = at.key("headers").key(name);
        check_header_name(lint, name, &at);
        if SECRET_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
            lint.error(
                &at,
                "a secret stands here in clear text",
                "write it below secret_headers, as file:PATH or env:NAME",
            );
        }
        if value.contains(|c: char| c.is_control()) {
            lint.error(&at, "its value holds a control character", "write one line");
        }
    }
    for name in webhook.secret_headers.keys() {
        check_header_name(lint, name, &at.key("secret_headers").key(name));
    }
    let open =
        webhook.url.scheme() == "http" && !Address::of_url(&webhook.url).is_some_and(|address| address.is_loopback());
    if open && !webhook.secret_headers.is_empty() {
        lint.warn(&at.key("url"), "secret headers cross the network in clear text", "write https");
    }
}

fn check_header_name(lint: &mut Lint<'_>, name: &str, at: &Key) {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(token) {
        lint.error(at, format!("{name:?} is no header"), "write letters, digits and -");
    }
}

pub(super) fn check_url(lint: &mut Lint<'_>, url: &url::Url, at: &Key) {
    if !matches!(url.scheme(), "http" | "https") {
        lint.error(at, format!("{} is no HTTP", url.scheme()), "write https://…");
    }
    if !url.username().is_empty() || url.password().is_some() {
        lint.error(
            at,
            "a login stands here in clear text",
            "write it below secret_headers or credentials, by reference",
        );
    }
}

pub(super) fn check_status(lint: &mut Lint<'_>, status: u16, at: &Key) {
    if !(100..600).contains(&status) {
        lint.error(at, format!("{status} is no status of HTTP"), "write a number from 100 to 599");
    }
}

pub(super) fn check_pointer(lint: &mut Lint<'_>, pointer: &str, at: &Key) {
    if !pointer.is_empty() && !pointer.starts_with('/') {
        let message = format!("{pointer:?} is no JSON pointer");
        lint.error(at, message, "write /KEY/KEY, or an empty text for the whole answer");
    }
}

/// What stands between braces in the texts of `body` and is no variable.
fn unknown_variables(body: &Value) -> Vec<String> {
    match body {
        Value::String(text) => unknown_in_text(text),
        Value::Array(items) => items.iter().flat_map(unknown_variables).collect(),
        Value::Object(fields) => fields.values().flat_map(unknown_variables).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => Vec::new(),
    }
}

fn unknown_in_text(text: &str) -> Vec<String> {
    let behind_braces = text.split("{{").skip(1);
    let names = behind_braces.map(|after| after.split_once("}}").map_or(after, |(name, _)| name).trim());
    let closed = text.matches("{{").count() == text.matches("}}").count();
    names.filter(|name| !closed || !BODY_VARIABLES.contains(name)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn known_variables_pass_wherever_they_stand() {
        let all: String = BODY_VARIABLES.map(|name| format!("{{{{{name}}}}} ")).concat();
        let body = json!({ "text": all, "deep": [{ "spaced": "{{ pair }}" }], "number": 1, "plain": "} {" });

        assert_eq!(unknown_variables(&body), Vec::<String>::new());
    }

    #[test]
    fn unknown_and_unclosed_variables_are_named() {
        let body = json!({ "a": "{{pear}} {{pair}}", "b": ["{{sight}}"], "c": "{{pair" });

        assert_eq!(unknown_variables(&body), ["pear", "sight", "pair"]);
    }
}
