//! Other YAML files than the settings, read as strictly: an unknown key, a wrong unit or a duplicate names its line and the
//! remedy.
//!
//! In: text and a type. Out: a [`Document`], which knows the place of each of its keys.

use std::path::Path;

use serde::de::DeserializeOwned;

use crate::explain::Problem;
use crate::load::{LoadError, options, read};
use crate::tree::{Key, Position, Tree};

/// What a YAML file holds, and where each part of it stands.
#[derive(Debug, Clone)]
pub struct Document<T> {
    /// What it holds.
    pub content: T,
    file: String,
    tree: Tree,
}

impl<T: DeserializeOwned> Document<T> {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`LoadError`], which names the place and the remedy.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        Self::from_text(&path.display().to_string(), &read(path)?)
    }

    /// Reads `text`, which errors call `file`.
    ///
    /// # Errors
    /// [`LoadError::File`], which names the place and the remedy.
    pub fn from_text(file: &str, text: &str) -> Result<Self, LoadError> {
        let refused = |error: &serde_saphyr::Error| LoadError::File(Problem::of(error, file, text));
        let tree = Tree::read(text).map_err(|error| refused(&error))?;
        let content = serde_saphyr::from_str_with_options(text, options()).map_err(|error| refused(&error))?;
        Ok(Self { content, file: file.to_owned(), tree })
    }
}

impl<T> Document<T> {
    /// Where `key` stands; the nearest thing around it if it is not written there.
    #[must_use]
    pub fn place(&self, key: &Key) -> Position {
        self.tree.place(key)
    }

    /// What is wrong at `key`, beyond what the types tell.
    #[must_use]
    pub fn problem(&self, key: &Key, message: impl Into<String>) -> Problem {
        Problem { file: self.file.clone(), at: Some(self.place(key)), message: message.into(), snippet: None }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_fault_beyond_the_types_is_told_at_its_place() {
        let read: Document<BTreeMap<String, u32>> = Document::from_text("a.yaml", "one: 1\ntwo: 2\n").unwrap();

        let problem = read.problem(&Key::root().key("two"), "two is too many: write one");

        assert_eq!(problem.to_string(), "a.yaml:2:1: two is too many: write one");
    }

    #[test]
    fn a_duplicate_key_is_refused() {
        let refused = Document::<BTreeMap<String, u32>>::from_text("a.yaml", "one: 1\none: 2\n").unwrap_err();

        assert!(refused.to_string().starts_with("a.yaml:2:1: key \"one\" stands here twice"), "{refused}");
    }
}
