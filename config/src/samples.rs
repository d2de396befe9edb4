//! Settings for the tests of this crate.

use std::ffi::OsString;

use crate::{Config, LoadError, Loaded};

/// The least that a pair needs.
pub(crate) const LEAST: &str = "\
site: standby-b
mode: confirm
state: { file: /var/lib/understudy }
self_checks:
  - { name: own-api, kubernetes: standby }
pairs:
  - name: nexus-ddrs
    probes:
      - { name: web, http: { url: 'http://10.1.0.20:8081/' } }
      - { name: api, kubernetes: primary }
    site_down_when: { at_least: 2, of: [service, control_plane] }
    rpo_max: 15m
    storage:
      hooks:
        status: { command: { command: [/bin/role] } }
        promote: { command: { command: [/bin/promote] } }
    verify: { http: { url: 'http://10.2.0.20:8081/' } }
    route:
      - webhook: { url: 'https://lb.example.org/switch' }
";

pub(crate) fn load(text: &str) -> Result<Loaded, LoadError> {
    load_with(text, &[])
}

pub(crate) fn load_with(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, LoadError> {
    let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    Config::from_text("understudy.yaml", text, variables)
}

/// [`LEAST`] with `from` replaced by `to`, which must be in it.
pub(crate) fn changed(from: &str, to: &str) -> String {
    assert!(LEAST.contains(from), "{from:?} is not in the sample");
    LEAST.replacen(from, to, 1)
}

/// The text of the error that `text` gives.
pub(crate) fn refusal(text: &str) -> String {
    load(text).expect_err("the text must be refused").to_string()
}
