//! What is wrong with a YAML file, in words that name the place and the remedy.
//!
//! In: an error of the parser and the text. Out: a [`Problem`]. The value beside a key is never shown, for it may be a secret
//! that was written at the wrong place.

use std::fmt;

use serde_saphyr::{DefaultMessageFormatter, Error, MessageFormatter};

use crate::tree::Position;

/// What is wrong, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: String,
    /// Where in it.
    pub at: Option<Position>,
    /// What is wrong and what to write instead.
    pub message: String,
    /// The line, up to the place.
    pub snippet: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(Position { line, column }) = self.at {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)?;
        if let Some(snippet) = &self.snippet {
            write!(f, "\n{snippet}")?;
        }
        Ok(())
    }
}

/// A message with its end cut off, should it be longer than anybody reads: names that were written may stand in it, and those
/// may be of any length.
pub(crate) fn bounded(mut message: String) -> String {
    /// Characters.
    const LONGEST: usize = 1000;
    if let Some((end, _)) = message.char_indices().nth(LONGEST) {
        message.truncate(end);
        message.push('…');
    }
    message
}

impl Problem {
    pub(crate) fn of(error: &Error, file: &str, text: &str) -> Self {
        let error = innermost(error);
        let at = error.location().filter(|at| at.line() > 0).map(Position::of);
        let message = bounded(message(error));
        let snippet = at.and_then(|at| snippet(text, at, shown(error)));
        Self { file: file.to_owned(), at, message, snippet }
    }
}

fn innermost(error: &Error) -> &Error {
    match error {
        Error::WithSnippet { error, .. } | Error::AliasError { error, .. } => innermost(error),
        other => other,
    }
}

fn message(error: &Error) -> String {
    match error {
        Error::SerdeUnknownField { field, expected, .. } => unknown("key", field, expected),
        Error::SerdeUnknownVariant { variant, expected, .. } => unknown("value", variant, expected),
        Error::SerdeMissingField { field, .. } => format!("key {field:?} is missing: add it"),
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("key {key:?} stands here twice: keep one of the two")
        }
        Error::SerdeInvalidType { unexpected, expected, .. }
        | Error::SerdeInvalidValue { unexpected, expected, .. } => {
            format!("{} stands here: write {}", kind_of(unexpected), plain(expected))
        }
        Error::InvalidScalar { ty, .. } => format!("write {} here", scalar(ty)),
        Error::Unexpected { expected: "mapping start", .. } => "write a map of keys and values here".to_owned(),
        Error::Unexpected { expected: "sequence start", .. } => "write a list here".to_owned(),
        Error::Unexpected { expected: "string scalar" | "scalar", .. } => "write a single value here".to_owned(),
        Error::UnknownAnchor { .. } => {
            "no & of this name stands before this *: write the value itself, or its anchor first".to_owned()
        }
        Error::InvalidBooleanStrict { .. } => "write true or false here".to_owned(),
        Error::NullIntoString { .. } => "nothing stands here: write a text, or remove the key".to_owned(),
        Error::QuotingRequired { value, .. } => {
            format!("a text is wanted here, and {value} is read as something else: write it in quotes")
        }
        Error::ExpectedMappingEndAfterEnumVariantValue { .. } => {
            "exactly one kind may stand here: remove the others".to_owned()
        }
        Error::ExternallyTaggedEnumExpectedScalarOrMapping { .. }
        | Error::ExpectedStringKeyForExternallyTaggedEnum { .. }
        | Error::UnexpectedValueForUnitEnumVariant { .. } => {
            "write one kind here, as a key with its settings below it".to_owned()
        }
        Error::MultipleDocuments { .. } => {
            "a second document begins here: one file is one document, so remove the line with ---".to_owned()
        }
        Error::Eof { .. } => "the file is empty: start from config/example.yaml".to_owned(),
        Error::ExternalMessage { msg, .. } => {
            format!("{}: look at indentation, brackets and quotes here", printable(msg))
        }
        other => address(&printable(&DefaultMessageFormatter.format_message(other))),
    }
}

/// What the readers of URLs and addresses say, with the remedy and without the value.
fn address(message: &str) -> String {
    const OF_URLS: [&str; 7] = [
        "relative URL without a base",
        "invalid port number",
        "empty host",
        "invalid international domain name",
        "invalid IPv4 address",
        "invalid IPv6 address",
        "invalid domain character",
    ];
    if OF_URLS.iter().any(|start| message.starts_with(start)) {
        return "this is no URL: write https://HOST/PATH".to_owned();
    }
    match message {
        "invalid socket address syntax" => "this is no address: write IP:PORT, never a name".to_owned(),
        "invalid IP address syntax" => "this is no address: write an IP address, never a name".to_owned(),
        other => other.to_owned(),
    }
}

/// Without control characters, which a file could steer a terminal with.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// `unknown key "perod": did you mean "period"? known here: …`.
pub(crate) fn unknown(what: &str, written: &str, known: &[&str]) -> String {
    let known_here = known.join(", ");
    match nearest(written, known) {
        Some(near) => format!("unknown {what} {written:?}: did you mean {near:?}? Known here: {known_here}"),
        None => format!("unknown {what} {written:?}: known here: {known_here}"),
    }
}

/// The known word that a typing error away from `written`, if there is one.
fn nearest<'a>(written: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|word| (distance(written, word), *word))
        .filter(|(distance, word)| *distance <= 1 + word.len() / 4)
        .min()
        .map(|(_, word)| word)
}

/// Insertions, deletions and changes between two words (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, r) in right.iter().enumerate() {
            let changed = diagonal + usize::from(l != *r);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

/// The kind of what was written, without its value.
fn kind_of(unexpected: &str) -> &'static str {
    const KINDS: [(&str, &str); 7] = [
        ("boolean", "true or false"),
        ("integer", "a number"),
        ("floating", "a number"),
        ("string", "a text"),
        ("sequence", "a list"),
        ("map", "a map"),
        ("unit", "nothing"),
    ];
    KINDS.iter().find(|(start, _)| unexpected.starts_with(start)).map_or("something else", |(_, kind)| kind)
}

/// serde's words for what it wanted, without the names of our types.
fn plain(expected: &str) -> String {
    match expected {
        text if text.starts_with("struct ") => "a map of keys and values".to_owned(),
        text if text.starts_with("a sequence") => "a list".to_owned(),
        text if text.starts_with("a map") => "a map of keys and values".to_owned(),
        "a string" => "a text, in quotes where it could be read as something else".to_owned(),
        text => text.to_owned(),
    }
}

fn scalar(ty: &str) -> String {
    match ty {
        "u8" => "a whole number from 0 to 255".to_owned(),
        "u16" => "a whole number from 0 to 65535".to_owned(),
        "u32" | "u64" => "a whole number, 0 or more".to_owned(),
        "bool" | "boolean" => "true or false".to_owned(),
        other => format!("a valid {other}"),
    }
}

/// How many characters after the place may be shown: keys, never values.
fn shown(error: &Error) -> usize {
    match error {
        Error::SerdeUnknownField { field, .. } => field.chars().count(),
        Error::DuplicateMappingKey { key: Some(key), .. } => key.chars().count(),
        _ => 0,
    }
}

/// Of a line that is wider than a screen nothing is shown: line and column say where it is.
const WIDEST: usize = 200;

fn snippet(text: &str, at: Position, shown: usize) -> Option<String> {
    let line = text.lines().nth(usize::try_from(at.line).ok()?.checked_sub(1)?)?;
    let before = usize::try_from(at.column).ok()?.checked_sub(1)?;
    if before.saturating_add(shown) > WIDEST {
        return None;
    }
    let mut head: String = line.chars().take(before + shown).collect();
    if line.chars().count() > before + shown {
        head.push('…');
    }
    let margin = at.line.to_string();
    let carets = "^".repeat(shown.max(1));
    Some(format!("  {margin} | {head}\n  {:width$} | {:before$}{carets}", "", "", width = margin.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_is_recognized_and_another_word_is_not() {
        assert_eq!(nearest("perod", &["period", "name"]), Some("period"));
        assert_eq!(nearest("hold-down", &["hold_down", "name"]), Some("hold_down"));
        assert_eq!(nearest("colour", &["period", "name"]), None);
    }

    #[test]
    fn the_distance_counts_insertions_deletions_and_changes() {
        assert_eq!(distance("period", "period"), 0);
        assert_eq!(distance("perod", "period"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn a_snippet_ends_where_the_value_begins() {
        let text = "site: b\npassword: hunter2\n";

        let shown = snippet(text, Position { line: 2, column: 11 }, 0).unwrap();

        assert_eq!(shown, "  2 | password: …\n    |           ^");
    }

    #[test]
    fn a_message_is_cut_where_nobody_reads_on() {
        assert_eq!(bounded("short".into()), "short");
        assert_eq!(bounded("é".repeat(1001)), "é".repeat(1000) + "…");
    }

    #[test]
    fn of_a_line_without_end_nothing_is_shown() {
        let text = format!("{}: 1\n", "a".repeat(5000));

        assert_eq!(snippet(&text, Position { line: 1, column: 5001 }, 0), None);
        assert_eq!(snippet(&text, Position { line: 1, column: 1 }, 5000), None);
    }
}
