//! The API server's way of saying no: a `Status` object.
//!
//! In: what went wrong. Out: JSON with the reason, the code and the details that clients look at.

use http::StatusCode;
use serde_json::{Value, json};

use crate::standin::web::{self, Answer};

/// A refusal, ready to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    pub code: StatusCode,
    pub reason: &'static str,
    pub message: String,
    pub details: Value,
}

impl Refusal {
    fn new(code: StatusCode, reason: &'static str, message: String, details: Value) -> Self {
        Self { code, reason, message, details }
    }

    pub fn not_found(group: &str, plural: &str, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", qualified(plural, group));
        let details = json!({ "name": name, "group": group, "kind": plural });
        Self::new(StatusCode::NOT_FOUND, "NotFound", message, details)
    }

    pub fn already_exists(group: &str, plural: &str, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", qualified(plural, group));
        let details = json!({ "name": name, "group": group, "kind": plural });
        Self::new(StatusCode::CONFLICT, "AlreadyExists", message, details)
    }

    /// The object has changed since the caller read it.
    pub fn conflict(group: &str, plural: &str, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", qualified(plural, group));
        let details = json!({ "name": name, "group": group, "kind": plural });
        Self::new(StatusCode::CONFLICT, "Conflict", message, details)
    }

    /// Another field manager owns what an apply wants to set: pairs of manager and field.
    pub fn manager_conflict(conflicts: &[(String, String)]) -> Self {
        let causes: Vec<Value> = conflicts
            .iter()
            .map(|(manager, field)| {
                json!({
                    "reason": "FieldManagerConflict", "field": field,
                    "message": format!("conflict with \"{manager}\""),
                })
            })
            .collect();
        let message = match conflicts {
            [(manager, field)] => format!("Apply failed with 1 conflict: conflict with \"{manager}\": {field}"),
            several => {
                let told: Vec<String> =
                    several.iter().map(|(manager, field)| format!("conflict with \"{manager}\": {field}")).collect();
                format!("Apply failed with {} conflicts: {}", several.len(), told.join(", "))
            }
        };
        Self::new(StatusCode::CONFLICT, "Conflict", message, json!({ "causes": causes }))
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message.into(), Value::Null)
    }

    /// A field that the object may not have like this.
    pub fn invalid(kind: &str, group: &str, name: &str, field: &str, why: &str) -> Self {
        let message = format!("{kind} \"{name}\" is invalid: {field}: {why}");
        let cause = json!([{ "reason": "FieldValueInvalid", "message": why, "field": field }]);
        let details = json!({ "name": name, "group": group, "kind": kind, "causes": cause });
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message, details)
    }

    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized".to_owned(), Value::Null)
    }

    pub fn forbidden(user: &str, verb: &str, what: &str) -> Self {
        let message = format!("{what} is forbidden: User \"{user}\" cannot {verb} {what}");
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message, json!({}))
    }

    pub fn not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        let code = StatusCode::METHOD_NOT_ALLOWED;
        Self::new(code, "MethodNotAllowed", message.to_owned(), json!({}))
    }

    pub fn unsupported(content_type: &str) -> Self {
        let message = format!("the body of the request was in an unknown format: {content_type}");
        let code = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Self::new(code, "UnsupportedMediaType", message, json!({}))
    }

    /// A watch wants to begin before what is still known.
    pub fn too_old(wanted: u64, oldest: u64) -> Self {
        let message = format!("too old resource version: {wanted} ({oldest})");
        Self::new(StatusCode::GONE, "Expired", message, Value::Null)
    }

    /// A read that needed a quorum got none.
    pub fn etcd_read() -> Self {
        let message = "etcdserver: request timed out".to_owned();
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message, json!({}))
    }

    /// A write of which nobody knows whether it landed.
    pub fn etcd_write() -> Self {
        let message = "Timeout: request did not complete within requested timeout - context \
                       deadline exceeded";
        Self::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", message.to_owned(), json!({}))
    }

    pub fn body(&self) -> Value {
        let mut body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code.as_u16(),
        });
        if !self.details.is_null() {
            body["details"] = named(self.details.clone());
        }
        body
    }

    pub fn answer(&self) -> Answer {
        web::json(self.code, &self.body())
    }
}

fn qualified(plural: &str, group: &str) -> String {
    if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") }
}

/// The core group is not named.
fn named(mut details: Value) -> Value {
    if let Some(fields) = details.as_object_mut().filter(|fields| fields.get("group").is_some_and(|group| group == ""))
    {
        fields.remove("group");
    }
    details
}

/// What a DELETE answers when the object is gone at once.
pub fn deleted(group: &str, plural: &str, name: &str, uid: &Value) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": named(json!({ "name": name, "group": group, "kind": plural, "uid": uid })),
    })
}
