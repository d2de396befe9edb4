//! `UNDERSTUDY__…` variables, laid over the file by the `config` crate.
//!
//! `UNDERSTUDY__PAIRS__0__HOLD_DOWN=2m` stands for `pairs[0].hold_down`. The value is YAML, so that a list or a map can be given
//! too. A key is written in capitals, two underscores part it from the next, a number is an item of a list that the file has.

use std::collections::HashMap;
use std::ffi::OsString;

use ::config::{ConfigError, Map, Source, Value};

use crate::tree::{Key, Tree};
use crate::{Config, LoadError};

const PREFIX: &str = "UNDERSTUDY__";

/// One variable of ours.
#[derive(Debug, Clone)]
pub(crate) struct Variable {
    pub(crate) name: String,
    key: Key,
    value: Value,
}

/// Those of `variables` that are ours, by name.
pub(crate) fn ours(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Vec<Variable>, LoadError> {
    let mut ours = Vec::new();
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        ours.push(variable(name, value)?);
    }
    // The shorter key first: a whole map, then what is changed in it.
    ours.sort_by(|left: &Variable, right| left.key.cmp(&right.key));
    Ok(ours)
}

fn variable(name: &str, value: OsString) -> Result<Variable, LoadError> {
    let refuse = |message: &str| LoadError::Variable { name: name.to_owned(), message: message.to_owned() };
    let text = value.into_string().map_err(|_| refuse("its value is not UTF-8 text"))?;
    let mut key = Key::root();
    for segment in name[PREFIX.len()..].to_ascii_lowercase().split("__") {
        let plain = segment.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if segment.is_empty() || !plain {
            return Err(refuse("no key has this name: write UNDERSTUDY__KEY__KEY, such as UNDERSTUDY__PAIRS__0__MODE"));
        }
        key = segment.parse().map_or_else(|_| key.key(segment), |number| key.item(number));
    }
    let tree =
        Tree::read(&text).map_err(|_| refuse("its value can not be read: write it as it would stand in the file"))?;
    Ok(Variable { name: name.to_owned(), key, value: tree.into_value() })
}

/// `written`, with `variables` over it.
pub(crate) fn lay_over(written: Config, tree: &Tree, variables: &[Variable]) -> Result<Config, LoadError> {
    if variables.is_empty() {
        return Ok(written);
    }
    for variable in variables {
        check_items(tree, variable)?;
    }
    merged(tree, variables).map_err(|error| blame(tree, variables, &error))
}

/// A list is changed in place and never grows: an item past its end would leave a hole.
fn check_items(tree: &Tree, variable: &Variable) -> Result<(), LoadError> {
    for (list, number) in variable.key.items() {
        let has = tree.items(&list).unwrap_or(0);
        if number >= has {
            let message = format!("the file has {has} items in {list}, counted from 0: write the item into the file");
            return Err(LoadError::Variable { name: variable.name.clone(), message });
        }
    }
    Ok(())
}

fn merged(tree: &Tree, variables: &[Variable]) -> Result<Config, String> {
    let read = |error: ConfigError| error.to_string();
    let over =
        variables.iter().map(|variable| Layer(HashMap::from([(variable.key.to_string(), variable.value.clone())])));
    let mut layers = ::config::Config::builder().add_source(file(tree));
    for layer in over {
        layers = layers.add_source(layer);
    }
    let values: serde_json::Value = layers.build().and_then(::config::Config::try_deserialize).map_err(read)?;
    serde_json::from_value(values).map_err(|error| error.to_string())
}

fn file(tree: &Tree) -> Layer {
    match tree.clone().into_value().kind {
        ::config::ValueKind::Table(table) => Layer(table),
        _ => Layer(Map::new()),
    }
}

/// Which variable is the one that does not fit: the first that makes the settings unreadable.
fn blame(tree: &Tree, variables: &[Variable], message: &str) -> LoadError {
    let guilty = (1..=variables.len()).find_map(|n| merged(tree, &variables[..n]).err().map(|error| (n - 1, error)));
    let (at, message) = guilty.unwrap_or((variables.len() - 1, message.to_owned()));
    LoadError::Variable { name: variables[at].name.clone(), message: without_value(&message) }
}

/// serde repeats a text that it did not expect; it may be a secret.
fn without_value(message: &str) -> String {
    let Some((head, tail)) = message.split_once("string \"") else { return message.to_owned() };
    let tail = tail.rsplit_once("\", ").map_or("", |(_, tail)| tail);
    format!("{head}a text, {tail}")
}

/// Values by their keys.
#[derive(Debug, Clone)]
struct Layer(Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}
