//! From a file and the environment to [`Config`].
//!
//! The file is read by itself and typed first, so that its errors name line and column; only then the `config` crate lays the
//! `UNDERSTUDY__…` variables over it, and what came out is read once more. Start reading at [`Config::load`].

use std::ffi::OsString;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::explain::Problem;
use crate::tree::{Key, Position, Tree};
use crate::{Config, variables};

/// Settings, and where they came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// SHA-256 over the effective settings, hexadecimal. Secrets stand in the settings by reference only, so none is in it.
    pub digest: String,
    /// The file, then each variable that was laid over it.
    pub sources: Vec<String>,
    tree: Tree,
}

/// Why settings could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is missing or unreadable: name another, or give the daemon's user the right to read it.
    #[error("failed to read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No settings of ours are so long.
    #[error("{} is larger than {MAX_FILE_BYTES} bytes: this is no settings file", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// It is no text.
    #[error("{} is not UTF-8 text", path.display())]
    NotText {
        /// Which file.
        path: PathBuf,
    },
    /// Correct the file at the place named.
    #[error("{0}")]
    File(Problem),
    /// Correct or unset the variable.
    #[error("variable {name}: {message}")]
    Variable {
        /// Which variable.
        name: String,
        /// What is wrong and what to write instead.
        message: String,
    },
}

/// 1,000 pairs written out take about 3 MB.
const MAX_FILE_BYTES: u64 = 8 * 1024 * 1024;

impl Config {
    /// Reads the file at `path` and the `UNDERSTUDY__…` variables of this process.
    ///
    /// # Errors
    /// [`LoadError`], which names the place and the remedy.
    pub fn load(path: &Path) -> Result<Loaded, LoadError> {
        Self::load_with(path, std::env::vars_os())
    }

    /// Reads the file at `path` and lays those of `variables` over it whose names begin with `UNDERSTUDY__`.
    ///
    /// # Errors
    /// [`LoadError`], which names the place and the remedy.
    pub fn load_with(
        path: &Path,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Loaded, LoadError> {
        Self::from_text(&path.display().to_string(), &read(path)?, variables)
    }

    /// Reads `text`, which errors call `file`, and lays `variables` over it.
    ///
    /// # Errors
    /// [`LoadError`], which names the place and the remedy.
    pub fn from_text(
        file: &str,
        text: &str,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Loaded, LoadError> {
        let refused = |error: &serde_saphyr::Error| LoadError::File(Problem::of(error, file, text));
        // A fault of the YAML itself first: read by types, it would show as a key that is missing.
        let tree = Tree::read(text).map_err(|error| refused(&error))?;
        let written: Config = serde_saphyr::from_str_with_options(text, options()).map_err(|error| refused(&error))?;
        let variables = variables::ours(variables)?;
        let config = variables::lay_over(written, &tree, &variables)?;
        let sources = [file.to_owned()].into_iter().chain(variables.into_iter().map(|v| v.name)).collect();
        Ok(Loaded { digest: digest(&config), config, sources, tree })
    }
}

impl Loaded {
    /// Where `key` stands in the file; the nearest thing around it if it is not written there.
    #[must_use]
    pub fn place(&self, key: &Key) -> Position {
        self.tree.place(key)
    }

    /// The file's name, as it was given.
    #[must_use]
    pub fn file(&self) -> &str {
        self.sources.first().map_or("", String::as_str)
    }
}

/// Strict where YAML is lax: `yes` is no truth value, `12` is no text, an unknown tag is an error.
pub(crate) fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        strict_booleans: true,
        no_schema: true,
        reject_unsupported_tags: true,
        with_snippet: false,
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000 },
        // Each level takes the stack of a thread; settings have 9 of them, the body of a webhook some more.
        budget: serde_saphyr::budget! { max_depth: 32 },
    }
}

pub(crate) fn read(path: &Path) -> Result<String, LoadError> {
    read_bounded(path, MAX_FILE_BYTES).map_err(|source| match source.kind() {
        ErrorKind::FileTooLarge => LoadError::TooLarge { path: path.to_owned() },
        ErrorKind::InvalidData => LoadError::NotText { path: path.to_owned() },
        _ => LoadError::Read { path: path.to_owned(), source },
    })
}

/// The text of a file of at most `limit` bytes.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> std::io::Result<String> {
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(limit + 1).read_to_end(&mut text)?;
    if text.len() as u64 > limit {
        return Err(ErrorKind::FileTooLarge.into());
    }
    String::from_utf8(text).map_err(|_| std::io::Error::new(ErrorKind::InvalidData, "it is no UTF-8 text"))
}

/// Equal for equal settings within one build of the daemon, whatever the file looks like.
fn digest(config: &Config) -> String {
    Sha256::digest(format!("{config:?}")).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{LEAST, changed, load, load_with, refusal};
    use crate::{Look, Span};

    #[test]
    fn an_unknown_key_is_named_with_its_place_and_the_likely_word() {
        let text = changed("rpo_max: 15m", "rpo_mx: 15m");

        let message = refusal(&text);

        assert!(
            message.starts_with(
                "understudy.yaml:12:5: unknown key \"rpo_mx\": did you mean \"rpo_max\"? Known here: name, mode, "
            ),
            "{message}"
        );
        assert!(message.ends_with("\n  12 |     rpo_mx…\n     |     ^^^^^^"), "{message}");
    }

    #[test]
    fn what_is_nested_too_deep_is_refused_and_ends_no_stack() {
        for depth in [40, 60, 1000, 100_000] {
            let text = changed("rpo_max: 15m", &format!("rpo_max: {}15m{}", "[".repeat(depth), "]".repeat(depth)));

            assert!(load(&text).is_err(), "{depth}");
        }
    }

    #[test]
    fn a_duplicate_key_is_refused() {
        let text = changed("rpo_max: 15m", "rpo_max: 15m\n    rpo_max: 16m");

        let message = refusal(&text);

        assert!(
            message.starts_with("understudy.yaml:13:5: key \"rpo_max\" stands here twice: keep one of the two"),
            "{message}"
        );
    }

    #[test]
    fn a_duration_without_its_unit_is_refused_at_its_place() {
        let text = changed("rpo_max: 15m", "rpo_max: 15");

        let message = refusal(&text);

        assert!(message.starts_with("understudy.yaml:12:14: 15 has no unit: write 15s, 15m or 15ms"), "{message}");
    }

    #[test]
    fn a_probe_that_looks_in_two_ways_is_refused() {
        let text = changed("kubernetes: primary }", "kubernetes: primary, tcp: { address: '10.1.0.1:1' } }");

        let message = refusal(&text);

        assert!(message.starts_with("understudy.yaml:10:"), "{message}");
        assert!(message.contains("\"api\" looks in 2 ways (kubernetes, tcp): keep one"), "{message}");
    }

    #[test]
    fn a_probe_that_does_not_say_how_is_refused() {
        let message = refusal(&changed("{ name: api, kubernetes: primary }", "{ name: api }"));

        assert!(message.starts_with("understudy.yaml:10:"), "{message}");
        assert!(message.contains("\"api\" does not say how to look"), "{message}");
    }

    #[test]
    fn a_secret_written_out_is_never_repeated() {
        for (from, to) in [
            ("'https://lb.example.org/switch' }", "'https://lb.example.org/switch', secret: hunter2 }"),
            ("'https://lb.example.org/switch' }", "'https://lb.example.org/switch', secrt: hunter2 }"),
            ("name: nexus-ddrs", "name: nexus-ddrs\n    nexus: hunter2"),
        ] {
            let message = refusal(&changed(from, to));

            assert!(!message.contains("hunter2"), "{message}");
        }
    }

    #[test]
    fn garbage_is_refused_without_a_panic() {
        for text in ["", "[", "\u{0}", "a: b: c", "- 1", "{}", "site: [", "&a [*a]", "---\na: 1\n---\nb: 2"] {
            refusal(text);
        }
    }

    #[test]
    fn a_bomb_of_aliases_is_refused() {
        let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
        for n in 1..9 {
            let before = format!("*a{}", n - 1);
            text += &format!("a{n}: &a{n} [{}]\n", vec![before; 9].join(","));
        }

        refusal(&text);
        assert!(Tree::read(&text).is_err());
    }

    #[test]
    fn a_file_that_is_too_large_is_refused_before_it_is_read_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("large.yaml");
        std::fs::File::create(&path).unwrap().set_len(MAX_FILE_BYTES + 1).unwrap();

        let error = Config::load_with(&path, []).unwrap_err();

        assert!(matches!(error, LoadError::TooLarge { .. }), "{error}");
    }

    #[test]
    fn a_file_that_is_no_text_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("garbage.yaml");
        std::fs::write(&path, [0xff, 0xfe, 0x00]).unwrap();

        let error = Config::load_with(&path, []).unwrap_err();

        assert!(matches!(error, LoadError::NotText { .. }), "{error}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Config::load_with(Path::new("/nowhere/understudy.yaml"), []).unwrap_err();

        assert_eq!(error.to_string(), "failed to read /nowhere/understudy.yaml");
    }

    #[test]
    fn a_variable_lies_over_the_file() {
        let loaded = load_with(
            LEAST,
            &[
                ("UNDERSTUDY__PAIRS__0__HOLD_DOWN", "2m"),
                ("UNDERSTUDY__PAIRS__0__PROBES__1__FALL", "5"),
                ("UNDERSTUDY__DOUBT__STALL", "3s"),
                ("HOME", "/root"),
                ("UNDERSTUDY_PAIR", "of a hook"),
            ],
        )
        .unwrap();

        let pair = &loaded.config.pairs[0];
        assert_eq!(pair.hold_down, Span::secs(120));
        assert_eq!(pair.probes[1].fall, 5);
        assert!(matches!(pair.probes[0].look, Look::Http(_)), "what no variable names stays as it was");
        assert_eq!(loaded.config.doubt.stall, Span::secs(3));
        assert_eq!(
            loaded.sources,
            [
                "understudy.yaml",
                "UNDERSTUDY__DOUBT__STALL",
                "UNDERSTUDY__PAIRS__0__HOLD_DOWN",
                "UNDERSTUDY__PAIRS__0__PROBES__1__FALL"
            ]
        );
    }

    #[test]
    fn the_merge_changes_nothing_but_what_a_variable_names() {
        let text = changed(
            "url: 'https://lb.example.org/switch'",
            "url: 'https://lb.example.org/switch', headers: { X-Site.Name: 'yes' }, body: { apiVersion: 1, a.b: [null, 1.5, '07'] }",
        );

        let plain = load(&text).unwrap();
        let merged = load_with(&text, &[("UNDERSTUDY__SITE", "standby-b")]).unwrap();

        assert_eq!(plain.config, merged.config);
        assert_eq!(plain.digest, merged.digest);
    }

    #[test]
    fn the_variable_that_does_not_fit_is_named() {
        let good = ("UNDERSTUDY__SITE", "b");
        for (name, value, expected) in [
            (
                "UNDERSTUDY__MODE",
                "yolo",
                "variable UNDERSTUDY__MODE: unknown variant `yolo`, expected one of `observe`, `confirm`, `auto`",
            ),
            (
                "UNDERSTUDY__PAIRS__0__HOLD_DOWN",
                "30",
                "variable UNDERSTUDY__PAIRS__0__HOLD_DOWN: 30 has no unit: write 30s, 30m or 30ms",
            ),
            (
                "UNDERSTUDY__PAIRS__3__HOLD_DOWN",
                "30s",
                "variable UNDERSTUDY__PAIRS__3__HOLD_DOWN: the file has 1 items in pairs, counted from 0: write the item into the file",
            ),
            (
                "UNDERSTUDY__NO-KEY",
                "1",
                "variable UNDERSTUDY__NO-KEY: no key has this name: write UNDERSTUDY__KEY__KEY, such as UNDERSTUDY__PAIRS__0__MODE",
            ),
            (
                "UNDERSTUDY__SITE",
                "[",
                "variable UNDERSTUDY__SITE: its value can not be read: write it as it would stand in the file",
            ),
        ] {
            let error = load_with(LEAST, &[good, (name, value)]).unwrap_err();

            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn a_secret_in_the_wrong_variable_is_never_repeated() {
        let error = load_with(LEAST, &[("UNDERSTUDY__PAIRS__0__NEXUS", "hunter2")]).unwrap_err();

        assert_eq!(
            error.to_string(),
            "variable UNDERSTUDY__PAIRS__0__NEXUS: invalid type: a text, expected struct Nexus"
        );
    }

    #[test]
    fn the_digest_follows_the_settings_and_not_the_looks_of_the_file() {
        let digest = |text: &str| load(text).unwrap().digest;

        assert_eq!(digest(LEAST), digest(&format!("# a comment\n{LEAST}")));
        assert_eq!(digest(LEAST), digest(&changed("rpo_max: 15m", "rpo_max: 15m\n    hold_down: 1m 30s")));
        assert_ne!(digest(LEAST), digest(&changed("rpo_max: 15m", "rpo_max: 16m")));
        assert_eq!(digest(LEAST).len(), 64);
    }
}
