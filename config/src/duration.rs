//! Durations with their unit written out: `5s`, `1m 30s`, `250ms`. A bare number is refused.

use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time as it stands in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// `seconds` as a span; for defaults.
    #[must_use]
    pub const fn secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signed = jiff::SignedDuration::try_from(self.0).map_err(|_| fmt::Error)?;
        write!(f, "{signed:#}")
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written)
    }
}

struct Written;

impl Visitor<'_> for Written {
    type Value = Span;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number with its unit, such as 30s, 5m or 250ms")
    }

    fn visit_u64<E: de::Error>(self, bare: u64) -> Result<Span, E> {
        Err(E::custom(format!("{bare} has no unit: write {bare}s, {bare}m or {bare}ms")))
    }

    fn visit_i64<E: de::Error>(self, bare: i64) -> Result<Span, E> {
        Err(refused(bare))
    }

    fn visit_f64<E: de::Error>(self, bare: f64) -> Result<Span, E> {
        Err(E::custom(format!("{bare} has no unit: write it in whole numbers with their units, such as 1s 500ms")))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
        if let Ok(bare) = text.trim().parse() {
            return self.visit_u64(bare);
        }
        let parsed: jiff::SignedDuration = text.parse().map_err(|_| refused(text))?;
        Duration::try_from(parsed).map(Span).map_err(|_| refused(text))
    }
}

fn refused<E: de::Error>(written: impl fmt::Display) -> E {
    E::custom(format!("{written:.40} is no duration: write a number with its unit, such as 30s, 5m or 250ms"))
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "a number with its unit: 250ms, 30s, 5m, 12h", "examples": ["30s", "5m"] })
    }
}
