//! Compares what a real part says with what its stand-in says.
//!
//! In: two answers to one question. Out: every difference that a reader of the answers could stumble over: other keys,
//! other types, another number of elements, other texts. Numbers, names that a part chose for itself and times differ
//! always; they are compared by their type alone. Start at [`Findings`].

use std::sync::Mutex;

use serde_json::Value;

/// Every difference that a test has seen, so that one run tells them all.
#[derive(Debug, Default)]
pub struct Findings(Mutex<Vec<String>>);

impl Findings {
    /// Adds a difference, and shows it.
    pub fn note(&self, difference: String) {
        eprintln!("differs: {difference}");
        self.0.lock().expect("no panic while held").push(difference);
    }

    /// Two JSON answers of one shape?
    pub fn shapes(&self, question: &str, real: &Value, standin: &Value) {
        for difference in differences(real, standin) {
            self.note(format!("{question}: {difference}"));
        }
    }

    /// Does the stand-in invent anything? What only the real part has may be left out: nobody reads it.
    pub fn no_inventions(&self, question: &str, real: &Value, standin: &Value) {
        let invented = differences(real, standin).into_iter().filter(|line| !line.contains(ONLY_REAL));
        for difference in invented {
            self.note(format!("{question}: {difference}"));
        }
    }

    /// Two texts that say the same?
    pub fn texts(&self, question: &str, real: &str, standin: &str) {
        if plain(real) != plain(standin) {
            self.note(format!("{question}: {real:?}, the stand-in says {standin:?}"));
        }
    }

    /// Two values that are equal?
    pub fn values<T: PartialEq + std::fmt::Debug>(&self, question: &str, real: &T, standin: &T) {
        if real != standin {
            self.note(format!("{question}: {real:?}, the stand-in says {standin:?}"));
        }
    }

    /// The end of the test.
    ///
    /// # Panics
    /// If there was any difference.
    pub fn finish(self) {
        let found = self.0.into_inner().expect("no panic while held");
        assert!(found.is_empty(), "{found:#?}");
    }
}

const ONLY_REAL: &str = ": only the real part has it: ";

/// Every place at which two answers are not of one shape.
#[must_use]
pub fn differences(real: &Value, standin: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("", real, standin, &mut found);
    found
}

fn compare(place: &str, real: &Value, standin: &Value, found: &mut Vec<String>) {
    match (real, standin) {
        (Value::Object(real), Value::Object(standin)) => {
            for (key, value) in real {
                match standin.get(key) {
                    Some(other) => compare(&format!("{place}/{key}"), value, other, found),
                    None => found.push(format!("{place}/{key}{ONLY_REAL}{value}")),
                }
            }
            for (key, value) in standin.iter().filter(|(key, _)| !real.contains_key(*key)) {
                found.push(format!("{place}/{key}: only the stand-in has it: {value}"));
            }
        }
        (Value::Array(real), Value::Array(standin)) => {
            if real.len() != standin.len() {
                found.push(format!("{place}: {} elements, the stand-in has {}", real.len(), standin.len()));
            }
            for (at, (one, other)) in real.iter().zip(standin).enumerate() {
                compare(&format!("{place}/{at}"), one, other, found);
            }
        }
        (Value::String(real), Value::String(standin)) => compare_texts(place, real, standin, found),
        (real, standin) if kind(real) == kind(standin) => {}
        (real, standin) => found.push(format!("{place}: {real}, the stand-in says {standin}")),
    }
}

/// Texts may hold JSON after some words, as the descriptions of `rbd mirror` do.
fn compare_texts(place: &str, real: &str, standin: &str, found: &mut Vec<String>) {
    let (words, json) = split(real);
    let (other_words, other_json) = split(standin);
    match (json, other_json) {
        (Some(json), Some(other)) => {
            if words != other_words {
                found.push(format!("{place}: {words:?}, the stand-in says {other_words:?}"));
            }
            compare(&format!("{place}/{{}}"), &json, &other, found);
        }
        (None, None) => {}
        _ => found.push(format!("{place}: {real:?}, the stand-in says {standin:?}")),
    }
}

fn split(text: &str) -> (&str, Option<Value>) {
    let Some(at) = text.find('{') else { return (text, None) };
    serde_json::from_str(&text[at..]).map_or((text, None), |json| (&text[..at], Some(json)))
}

fn kind(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        Value::String(_) => 3,
        Value::Array(_) => 4,
        Value::Object(_) => 5,
    }
}

/// A text without what differs from run to run: every number is `#`, and every word that a part chose for itself too.
#[must_use]
pub fn plain(text: &str) -> String {
    text.split_inclusive(char::is_whitespace)
        .map(|word| if word.contains(|c: char| c.is_ascii_digit()) { masked(word) } else { word.to_owned() })
        .collect()
}

fn masked(word: &str) -> String {
    let core = word.trim_matches(|letter: char| !letter.is_ascii_alphanumeric());
    if uuid::Uuid::try_parse(core).is_ok() {
        return word.replace(core, "UUID");
    }
    let mut text = String::new();
    for letter in word.chars() {
        match letter {
            '0'..='9' if text.ends_with('#') => {}
            '0'..='9' => text.push('#'),
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_of_one_shape_do_not_differ_whatever_their_numbers_and_names() {
        let real = json!({ "name": "a", "size": 1, "daemons": [{ "up": true }], "text": "syncing, {\"percent\":1}" });
        let standin =
            json!({ "name": "b", "size": 2, "daemons": [{ "up": false }], "text": "syncing, {\"percent\":9}" });

        assert_eq!(differences(&real, &standin), Vec::<String>::new());
    }

    #[test]
    fn another_key_type_length_or_embedded_key_is_a_difference() {
        let real = json!({ "id": "4", "only": 1, "list": [1], "text": "syncing, {\"percent\":1}", "state": "x {}" });
        let standin = json!({ "id": 4, "more": 1, "list": [], "text": "syncing, {\"per_cent\":1}", "state": "y {}" });

        let found = differences(&real, &standin);

        let places: Vec<&str> = found.iter().map(|line| line.split(':').next().unwrap_or_default()).collect();
        let expected = ["/id", "/list", "/only", "/state", "/text/{}/percent", "/text/{}/per_cent", "/more"];
        assert_eq!(places, expected);
    }

    #[test]
    fn numbers_in_a_text_are_masked() {
        assert_eq!(plain("the UID (7f0c3b6e-7d5b-4d8e-9f43-00000000000a) is"), "the UID (UUID) is");
        assert_eq!(plain("Snapshot ID: 17\n"), "Snapshot ID: #\n");
        assert_eq!(plain("10.0.0.1:0/33 until 2026-11-24T07:29"), "#.#.#.#:#/# until #-#-#T#:#");
    }
}
