//! Fills the variables of a webhook's body: `{{pair}}`, `{{epoch}}` and the like, inside any text of any JSON.
//!
//! In: a JSON value as it stands in the file, and the [`Words`] of the moment. Out: the value to send. An unknown
//! variable is an error, so that a typing error is found by `understudy check`, which knows the same list, and not by the
//! receiver. Start reading at [`fill`].

use serde_json::Value;

use crate::Context;

/// Every variable that a body may use.
pub use understudy_config::BODY_VARIABLES as VARIABLES;

/// A body uses a variable that does not exist, or does not close one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{{{{{name}}}}} is no variable of a body; there are: {}", VARIABLES.join(", "))]
pub struct UnknownVariable {
    /// What stands between the braces.
    pub name: String,
}

/// What the variables stand for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Words {
    /// The pair's name; empty where the daemon itself speaks.
    pub pair: String,
    /// The name of our place.
    pub site: String,
    /// The run, if there is one.
    pub run: String,
    /// The step, if there is one.
    pub step: String,
    /// The epoch of the run.
    pub epoch: String,
    /// The idempotency key: the same over every try and every restart.
    pub key: String,
    /// What kind of event, such as `step` or `page`.
    pub event: String,
    /// A sentence for a human.
    pub message: String,
}

impl Words {
    /// The words of a step under way.
    #[must_use]
    pub fn of_step(ctx: &Context, message: impl Into<String>) -> Self {
        let order = &ctx.order;
        Self {
            pair: ctx.pair.name.clone(),
            site: ctx.site.to_string(),
            run: order.run.to_string(),
            step: order.step.to_string(),
            epoch: order.epoch.to_string(),
            key: order.key.clone(),
            event: "step".into(),
            message: message.into(),
        }
    }

    fn get(&self, variable: &str) -> Option<&str> {
        Some(match variable {
            "pair" => &self.pair,
            "site" => &self.site,
            "run" => &self.run,
            "step" => &self.step,
            "epoch" => &self.epoch,
            "key" => &self.key,
            "event" => &self.event,
            "message" => &self.message,
            _ => return None,
        })
    }
}

/// `value` with every variable in its texts replaced; the names of fields are left as they are.
///
/// # Errors
/// [`UnknownVariable`], which names it.
pub fn fill(value: &Value, words: &Words) -> Result<Value, UnknownVariable> {
    Ok(match value {
        Value::String(text) => Value::String(fill_text(text, words)?),
        Value::Array(items) => Value::Array(items.iter().map(|item| fill(item, words)).collect::<Result<_, _>>()?),
        Value::Object(fields) => {
            let filled = fields.iter().map(|(name, field)| Ok((name.clone(), fill(field, words)?)));
            Value::Object(filled.collect::<Result<_, _>>()?)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    })
}

fn unknown(name: &str) -> UnknownVariable {
    UnknownVariable { name: name.to_owned() }
}

/// What was filled in is not looked at again: a message may hold `{{` itself.
fn fill_text(text: &str, words: &Words) -> Result<String, UnknownVariable> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        filled.push_str(before);
        let (variable, behind) = after.split_once("}}").ok_or_else(|| unknown(after))?;
        let variable = variable.trim();
        filled.push_str(words.get(variable).ok_or_else(|| unknown(variable))?);
        rest = behind;
    }
    filled.push_str(rest);
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_variable_is_replaced_in_every_text_at_any_depth() {
        let all = VARIABLES.map(|variable| format!("{{{{{variable}}}}}")).join(" ");

        let filled = fill(&json!({ "a": [{ "b": all }], "n": 7, "t": true, "z": null }), &words());

        let expected = json!({ "a": [{ "b": "P S R T E K V M" }], "n": 7, "t": true, "z": null });
        assert_eq!(filled, Ok(expected));
    }

    #[test]
    fn an_unknown_variable_is_an_error_that_lists_the_known_ones() {
        let error = fill(&json!(["{{ pair }}", "{{pears}}"]), &words()).unwrap_err();

        assert_eq!(
            error.to_string(),
            "{{pears}} is no variable of a body; there are: pair, site, run, step, epoch, key, event, message"
        );
    }

    #[test]
    fn a_variable_that_is_not_closed_is_an_error() {
        assert_eq!(fill(&json!("x {{pair"), &words()), Err(unknown("pair")));
    }

    #[test]
    fn what_was_filled_in_is_not_filled_again() {
        let words = Words { message: "{{key}}".into(), ..words() };

        assert_eq!(fill(&json!("{{message}}"), &words), Ok(json!("{{key}}")));
    }

    fn words() -> Words {
        let [pair, site, run, step, epoch, key, event, message] =
            ["P", "S", "R", "T", "E", "K", "V", "M"].map(String::from);
        Words { pair, site, run, step, epoch, key, event, message }
    }
}
