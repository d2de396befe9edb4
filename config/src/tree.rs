//! The file as it is written: values with the place of each.
//!
//! In: YAML text. Out: a [`Tree`], from which the lint takes lines and the merge with the environment takes values. The settings
//! themselves are read by their types; see [`load`](crate::load).

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    at: Position,
    node: Node,
}

/// Line and column, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: u64,
    /// The column.
    pub column: u64,
}

#[derive(Debug, Clone)]
enum Node {
    Scalar(Scalar),
    List(Vec<Tree>),
    Map(Vec<Entry>),
}

#[derive(Debug, Clone)]
enum Scalar {
    Nothing,
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Text(String),
}

#[derive(Debug, Clone)]
struct Entry {
    key: String,
    at: Position,
    value: Tree,
}

impl Tree {
    /// Reads `text`.
    ///
    /// # Errors
    /// Whatever keeps it from being one YAML document.
    pub(crate) fn read(text: &str) -> Result<Self, serde_saphyr::Error> {
        serde_saphyr::from_str_with_options(text, crate::load::options())
    }

    /// Where `key` stands: the key itself where there is one, else the nearest thing around it.
    pub(crate) fn place(&self, key: &Key) -> Position {
        let mut tree = self;
        let mut at = self.at;
        for segment in &key.0 {
            match (segment, &tree.node) {
                (Segment::Name(name), Node::Map(entries)) => {
                    let Some(entry) = entries.iter().find(|entry| &entry.key == name) else { return at };
                    (at, tree) = (entry.at, &entry.value);
                }
                (Segment::Number(number), Node::List(items)) => {
                    let Some(item) = items.get(*number) else { return at };
                    (at, tree) = (item.at, item);
                }
                _ => return at,
            }
        }
        at
    }

    /// How many items the list at `key` has; `None` if no list is there.
    pub(crate) fn items(&self, key: &Key) -> Option<usize> {
        let mut tree = self;
        for segment in &key.0 {
            tree = match (segment, &tree.node) {
                (Segment::Name(name), Node::Map(entries)) => &entries.iter().find(|entry| &entry.key == name)?.value,
                (Segment::Number(number), Node::List(items)) => items.get(*number)?,
                _ => return None,
            };
        }
        match &tree.node {
            Node::List(items) => Some(items.len()),
            Node::Scalar(_) | Node::Map(_) => None,
        }
    }

    /// The value as the `config` crate has it.
    pub(crate) fn into_value(self) -> ::config::Value {
        let kind = match self.node {
            Node::Scalar(Scalar::Nothing) => ::config::ValueKind::Nil,
            Node::Scalar(Scalar::Bool(value)) => value.into(),
            Node::Scalar(Scalar::Signed(value)) => value.into(),
            Node::Scalar(Scalar::Unsigned(value)) => value.into(),
            Node::Scalar(Scalar::Float(value)) => value.into(),
            Node::Scalar(Scalar::Text(value)) => value.into(),
            Node::List(items) => ::config::ValueKind::Array(items.into_iter().map(Tree::into_value).collect()),
            Node::Map(entries) => ::config::ValueKind::Table(
                entries.into_iter().map(|entry| (entry.key, entry.value.into_value())).collect(),
            ),
        };
        ::config::Value::new(None, kind)
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::<Node>::deserialize(deserializer)?;
        Ok(Self { at: Position::of(referenced), node: value })
    }
}

impl Position {
    pub(crate) fn of(location: serde_saphyr::Location) -> Self {
        Self { line: location.line(), column: location.column() }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyNode)
    }
}

struct AnyNode;

impl<'de> Visitor<'de> for AnyNode {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Scalar::Nothing))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(Scalar::Bool(value)))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(Scalar::Signed(value)))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(Scalar::Unsigned(value)))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Scalar(Scalar::Float(value)))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(Scalar::Text(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = access.next_key::<Spanned<String>>()? {
            let at = Position::of(key.referenced);
            entries.push(Entry { key: key.value, at, value: access.next_value()? });
        }
        Ok(Node::Map(entries))
    }
}

/// The way to a setting: `pairs[0].probes[1].timeout`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(Vec<Segment>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Name(String),
    Number(usize),
}

impl Key {
    /// The way to the whole file.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// The key `name` below this one.
    #[must_use]
    pub fn key(&self, name: &str) -> Self {
        self.with(Segment::Name(name.to_owned()))
    }

    /// The item `number` of this list.
    #[must_use]
    pub fn item(&self, number: usize) -> Self {
        self.with(Segment::Number(number))
    }

    /// Each list on the way, with the number of the item that is taken from it.
    pub(crate) fn items(&self) -> impl Iterator<Item = (Key, usize)> {
        self.0.iter().enumerate().filter_map(|(at, segment)| match segment {
            Segment::Number(number) => Some((Key(self.0[..at].to_vec()), *number)),
            Segment::Name(_) => None,
        })
    }

    fn with(&self, segment: Segment) -> Self {
        let mut longer = self.clone();
        longer.0.push(segment);
        longer
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Name(name) if at == 0 => f.write_str(name)?,
                Segment::Name(name) => write!(f, ".{name}")?,
                Segment::Number(number) => write!(f, "[{number}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "site: b\npairs:\n  - name: one\n    hold_down: 90s\n  - name: two\n";

    fn line(key: &Key) -> u64 {
        Tree::read(TEXT).unwrap().place(key).line
    }

    #[test]
    fn a_key_is_found_at_its_own_line() {
        let pair = Key::root().key("pairs").item(0);

        assert_eq!(line(&pair.key("hold_down")), 4);
        assert_eq!(line(&Key::root().key("pairs").item(1)), 5);
        assert_eq!(pair.key("hold_down").to_string(), "pairs[0].hold_down");
    }

    #[test]
    fn a_key_that_is_not_written_is_placed_at_what_surrounds_it() {
        let pair = Key::root().key("pairs").item(1);

        assert_eq!(line(&pair.key("hold_down")), 5);
        assert_eq!(line(&Key::root().key("mode")), 1);
    }

    #[test]
    fn lists_are_counted() {
        let tree = Tree::read(TEXT).unwrap();

        assert_eq!(tree.items(&Key::root().key("pairs")), Some(2));
        assert_eq!(tree.items(&Key::root().key("site")), None);
    }
}
