//! Every place of this crate where bytes from outside become values, one function each.
//!
//! In: bytes of which nothing is known. Out: what they were taken for, or why not. They are here for the checks that feed
//! them what nobody foresaw (`tests/fuzz`, and `tests/tests/boundaries.rs` on stable); the product calls the parsers
//! themselves. Probes, actions and agent have such a list too. Start reading at [`ALL`].

use std::fmt::{Debug, Display};
use std::path::Path;
use std::sync::LazyLock;

use crate::kubeconfig::Kubeconfig;
use crate::{Config, Loaded, Pair, Storage, bundle, check_settings, rbd};

/// What the bytes were taken for, or why they were refused.
pub type Read = Result<String, String>;

/// One place where bytes become values.
#[derive(Debug, Clone, Copy)]
pub struct Boundary {
    /// Whose bytes: seeds and fuzz targets are by these names.
    pub world: &'static str,
    /// What is read.
    pub name: &'static str,
    /// Reads it.
    pub read: fn(&[u8]) -> Read,
}

impl Boundary {
    /// One of them.
    #[must_use]
    pub const fn new(world: &'static str, name: &'static str, read: fn(&[u8]) -> Read) -> Self {
        Self { world, name, read }
    }
}

/// All of this crate.
pub const ALL: &[Boundary] = &[
    Boundary::new("ceph", "rbd info", |json| said(rbd::info(json))),
    Boundary::new("ceph", "rbd snap ls", |json| said(rbd::snapshots(json))),
    Boundary::new("ceph", "rbd mirror image status", |json| said(rbd::image_status(json))),
    Boundary::new("ceph", "rbd mirror pool status", |json| said(rbd::pool_status(json))),
    Boundary::new("ceph", "rbd status", |json| said(rbd::watchers(json))),
    Boundary::new("ceph", "rbd mirror snapshot schedule ls", |json| said(rbd::schedule(json))),
    Boundary::new("ceph", "ceph osd blocklist ls", |json| said(rbd::blocklist(json))),
    Boundary::new("ceph", "facts", facts),
    Boundary::new("config", "settings", settings),
    Boundary::new("config", "variables", variables),
    Boundary::new("kubeconfig", "kubeconfig", kubeconfig),
    Boundary::new("bundle", "lint", lint),
];

/// What stands between the documents of an input that holds several.
pub const BETWEEN: &[u8] = b"\n--8<--\n";

/// The documents of an input, `N` of them; those that are not there are empty.
#[must_use]
pub fn parts<const N: usize>(bytes: &[u8]) -> [&[u8]; N] {
    let mut rest = bytes;
    std::array::from_fn(|_| {
        let end = rest.windows(BETWEEN.len()).position(|window| window == BETWEEN);
        let part = &rest[..end.unwrap_or(rest.len())];
        rest = end.map_or(&[], |end| &rest[end + BETWEEN.len()..]);
        part
    })
}

/// A result of any parser as a [`Read`].
///
/// # Errors
/// Those of the parser, as text.
pub fn said(result: Result<impl Debug, impl Display>) -> Read {
    result.map(|value| format!("{value:?}")).map_err(|error| error.to_string())
}

/// The settings of `config/example.yaml`, where a reader needs some.
///
/// # Panics
/// Never: a test of this crate reads the example.
pub fn example() -> &'static Loaded {
    static EXAMPLE: LazyLock<Loaded> = LazyLock::new(|| {
        let text = include_str!("../example.yaml");
        Config::from_text("example.yaml", text, []).expect("a test of this crate reads it")
    });
    &EXAMPLE
}

fn example_pair() -> &'static Pair {
    example().config.pairs.first().expect("the example has a pair")
}

/// Status, info and snapshots of one image.
fn facts(bytes: &[u8]) -> Read {
    let [status, info, snapshots] = parts(bytes);
    let read = || {
        let (status, info) = (rbd::image_status(status)?, rbd::info(info)?);
        rbd::facts(&"rbd/image".into(), Some(&status), &info, &rbd::snapshots(snapshots)?)
    };
    said(read())
}

fn settings(bytes: &[u8]) -> Read {
    let text = utf8(bytes)?;
    let mut loaded = Config::from_text("fuzz.yaml", text, []).map_err(|error| error.to_string())?;
    // The lint would open the kubeconfigs that the bytes name.
    loaded.config.clusters = crate::Clusters::default();
    let findings = check_settings(&loaded);
    Ok(format!("{} {:?} {findings:?}", loaded.digest, loaded.policy()))
}

/// Lines `NAME=VALUE`, laid over the example.
fn variables(bytes: &[u8]) -> Read {
    let lines = utf8(bytes)?.lines().filter_map(|line| line.split_once('='));
    let variables = lines.map(|(name, value)| (name.into(), value.into()));
    let loaded = Config::from_text("example.yaml", include_str!("../example.yaml"), variables);
    said(loaded.map(|loaded| (loaded.digest, loaded.sources)))
}

fn kubeconfig(bytes: &[u8]) -> Read {
    said(Kubeconfig::of_text(Path::new("/nonexistent/kubeconfig"), utf8(bytes)?))
}

fn lint(bytes: &[u8]) -> Read {
    let pair = example_pair();
    let restore = pair.restore.as_ref().ok_or("the example restores nothing")?;
    debug_assert!(matches!(pair.storage, Storage::Rbd(_)), "the example has images");
    let manifests = bundle::manifests("fuzz.yaml", utf8(bytes)?).map_err(|fault| format!("{fault:?}"))?;
    match bundle::faults(&manifests, restore, pair) {
        faults if faults.is_empty() => Ok("sound".into()),
        faults => Err(faults.first().map_or_else(String::new, |fault| fault.message.clone())),
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|error| error.to_string())
}
