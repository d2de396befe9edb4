//! What is wrong with settings that can be read: every finding names its place and its remedy.
//!
//! In: [`Loaded`] settings, and the files that they name. Out: [`Finding`]s. An error is what makes a failover impossible or
//! unsafe: `understudy check` and `run` refuse. A warning is what an engineer should know. Start reading at [`check`].

mod address;
mod files;
mod listen;
mod plan;
mod probes;
mod quorum;
mod reach;
mod route;
mod storage;
mod webhook;

use std::fmt;

use crate::explain::bounded;
use crate::kubeconfig::Kubeconfig;
use crate::{Cluster, Config, Key, Loaded, Pair, Position};

pub use webhook::BODY_VARIABLES;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The daemon does not start with it.
    Error,
    /// Worth knowing.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        })
    }
}

/// What is wrong, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The file.
    pub file: String,
    /// The line in it, from 1; of what surrounds the key if it is not written there.
    pub line: u64,
    /// The setting, such as `pairs[0].hold_down`.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { severity, file, line, key, message, remedy } = self;
        write!(f, "{file}:{line}: {severity}: {key}: {message}; {remedy}")
    }
}

/// Everything that is wrong with `loaded`, errors first, each in the order of the file.
#[must_use]
pub fn check(loaded: &Loaded) -> Vec<Finding> {
    let mut lint = Lint::new(loaded);
    settings(&mut lint);
    files::check(&mut lint);
    lint.sorted()
}

/// The part of [`check`] that looks at no secret and at no file but the kubeconfigs: for a machine that is not the standby's.
#[must_use]
pub fn check_settings(loaded: &Loaded) -> Vec<Finding> {
    let mut lint = Lint::new(loaded);
    settings(&mut lint);
    lint.sorted()
}

fn settings(lint: &mut Lint<'_>) {
    listen::check(lint);
    probes::check_self_checks(lint);
    for (pair, at) in lint.pairs() {
        probes::check(lint, pair, &at);
        quorum::check(lint, pair, &at);
        storage::check(lint, pair, &at);
        plan::check(lint, pair, &at);
        route::check(lint, pair, &at);
    }
    reach::check(lint);
}

/// The findings so far, and what they are made from.
struct Lint<'a> {
    loaded: &'a Loaded,
    primary: Option<Kubeconfig>,
    standby: Option<Kubeconfig>,
    found: Vec<(Position, Finding)>,
}

impl<'a> Lint<'a> {
    fn new(loaded: &'a Loaded) -> Self {
        let clusters = &loaded.config.clusters;
        let server = |cluster: &Option<Cluster>| match cluster {
            Some(Cluster::Kubeconfig(path)) => Kubeconfig::read(path).ok(),
            Some(Cluster::InCluster(_)) | None => None,
        };
        let (primary, standby) = (server(&clusters.primary), server(&clusters.standby));
        Self { loaded, primary, standby, found: Vec::new() }
    }

    fn config(&self) -> &'a Config {
        &self.loaded.config
    }

    fn pairs(&self) -> impl Iterator<Item = (&'a Pair, Key)> + use<'a> {
        let list = Key::root().key("pairs");
        self.config().pairs.iter().enumerate().map(move |(at, pair)| (pair, list.item(at)))
    }

    fn error(&mut self, key: &Key, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Error, key, message.into(), remedy.into());
    }

    fn warn(&mut self, key: &Key, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Warning, key, message.into(), remedy.into());
    }

    fn add(&mut self, severity: Severity, key: &Key, message: String, remedy: String) {
        let position = self.loaded.place(key);
        let file = self.loaded.file().to_owned();
        let (message, remedy) = (bounded(message), bounded(remedy));
        let finding = Finding { severity, file, line: position.line, key: key.to_string(), message, remedy };
        self.found.push((position, finding));
    }

    /// Names that stand twice, among things that are told apart by their names.
    fn unique<'n>(&mut self, names: impl IntoIterator<Item = (&'n str, Key)>) {
        let mut seen = std::collections::BTreeMap::new();
        for (name, key) in names {
            if let Some(first) = seen.insert(name, key.clone()) {
                self.error(&key, format!("{name:?} is also the name of {first}"), "give each its own name");
            }
        }
    }

    fn sorted(mut self) -> Vec<Finding> {
        self.found.sort_by_key(|(position, finding)| (finding.severity, *position));
        self.found.into_iter().map(|(_, finding)| finding).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{changed, load};

    /// Two sites, a load balancer and a receiver on one machine, with timers as short as a rehearsal's.
    const ON_LOOPBACK: &str = "\
site: standby-b
mode: confirm
state: { file: /tmp/b }
self_checks:
  - { name: neutral, tcp: { address: '127.0.0.1:9999' }, period: 500ms, timeout: 400ms }
pairs:
  - name: nexus
    nexus:
      primary: { url: 'http://127.0.0.1:8081/' }
      standby: { url: 'http://127.0.0.1:8082/' }
      public: { url: 'http://127.0.0.1:8080/' }
      credentials: { user: admin, password: 'env:PASSWORD' }
    probes:
      - { name: web, nexus: status, period: 500ms, timeout: 400ms }
      - { name: disk, nexus: canary, period: 500ms, timeout: 400ms }
      - { name: other, domain: control_plane, http: { url: 'http://127.0.0.1:6443/' }, period: 500ms, timeout: 400ms }
    site_down_when: { at_least: 2, of: [service, control_plane] }
    hold_down: 1500ms
    rpo_max: 15m
    writeback_window: 35s
    approval_ttl: 1m
    storage:
      hooks:
        status: { command: { command: [role] } }
        promote: { command: { command: [promote] } }
        age: { command: { command: [age] } }
    fence: { hooks: [{ command: { command: [power-off] } }] }
    verify: { artifacts: [{ path: r/a, sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 }] }
    route:
      - webhook: { url: 'http://127.0.0.1:8079/switch', secret: 'env:HOOK', expect_json: { pointer: /ok, equals: true } }
    route_check: {}
    notify: [{ webhook: { url: 'http://127.0.0.1:8078/' } }]
heartbeat: { url: 'http://127.0.0.1:8077/' }
";

    fn findings(text: &str) -> Vec<String> {
        let found = check_settings(&load(text).unwrap());
        found.iter().map(|finding| format!("{} {}", finding.severity, finding.key)).collect()
    }

    #[test]
    fn two_sites_on_one_machine_are_told_apart_by_their_ports() {
        assert_eq!(findings(ON_LOOPBACK), Vec::<String>::new());
    }

    #[test]
    fn on_one_machine_too_a_receiver_at_the_port_of_a_lies_in_a() {
        let in_a = ON_LOOPBACK.replace("127.0.0.1:8079", "127.0.0.1:8081");
        let by_public_name = ON_LOOPBACK.replace("127.0.0.1:8081", "127.0.0.1:8080");

        assert_eq!(findings(&in_a), ["error pairs[0].route[0].webhook.url"]);
        assert_eq!(findings(&by_public_name), ["error pairs[0].nexus.primary"]);
    }

    #[test]
    fn errors_come_before_warnings_and_each_has_line_key_and_remedy() {
        let found = check(&load(&changed("at_least: 2", "at_least: 0")).unwrap());

        let severities: Vec<Severity> = found.iter().map(|finding| finding.severity).collect();
        assert!(severities.is_sorted() && severities.contains(&Severity::Warning), "{severities:?}");
        let first = &found[0];
        assert_eq!((first.line, first.key.as_str()), (5, "self_checks[0].kubernetes"), "{first}");
        assert!(found.iter().all(|finding| finding.line > 0 && !finding.remedy.is_empty()));
    }

    #[test]
    fn settings_alone_are_checked_without_a_look_at_files_and_secrets() {
        let text =
            changed("'https://lb.example.org/switch' }", "'https://lb.example.org/switch', secret: 'file:/nowhere' }");
        let loaded = load(&text).unwrap();
        let about_files = |findings: Vec<Finding>| findings.iter().filter(|f| f.message.contains("/nowhere")).count();

        assert_eq!(about_files(check_settings(&loaded)), 0);
        assert_eq!(about_files(check(&loaded)), 1);
    }
}
