//! The step `verify` and the nonce's way through the public address, on a real Nexus.
//!
//! Needs the part that `tests/lab/parts.sh get nexus` gets; `tests/run real` says where it lies.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use understudy_actions::{Context, Gatekeeper, Later, Permit, StepError, run};
use understudy_config::Pair;
use understudy_core::{Failure, Finding, LossBound, Step, StepOrder, StepResult};
use understudy_tests::lab::Parts;

#[path = "../../actions/tests/support/context.rs"]
mod support;

use support::{context, order};

const CONTENT: &str = "the bytes of a known artifact";

#[tokio::test]
#[ignore = "needs a real Nexus: tests/run real"]
async fn verify_tells_a_sound_real_nexus_from_an_empty_a_frozen_and_a_foreign_one() {
    let nexus = RealNexus::start();
    nexus.fill().await;
    let node = nexus.node().await;

    // A sound one: all its words are understood, and the nonce is found again behind the "public" address.
    let notes = Notes::default();
    let done = nexus.step(Step::Verify, &nexus.settings(&node, "admin123"), &notes).await;
    let StepResult::Done { detail, finding: Finding::Nonce(path) } = done else { panic!("{done:?}") };
    println!("{detail}");
    for part in [
        "Nexus 3.71",
        &format!("login, node {node}"),
        "1 repositories",
        "1 artifacts whole (29 bytes)",
        "newest canary of 20",
    ] {
        assert!(detail.contains(part), "{part}: {detail}");
    }
    let proven = nexus.step(Step::RouteCheck, &nexus.settings(&node, "admin123"), &notes).await;
    assert!(matches!(proven, StepResult::Done { .. }), "{proven:?}");
    nexus.send(Method::DELETE, &format!("repository/{path}"), None).await;
    fails(
        nexus.step(Step::RouteCheck, &nexus.settings(&node, "admin123"), &notes).await,
        Failure::Transient,
        "404 Not Found",
    );

    // A foreign one, and one that does not let us in.
    let foreign = nexus.settings("NOT-THIS-NODE", "admin123");
    fails(nexus.step(Step::Verify, &foreign, &Notes::default()).await, Failure::Permanent, "not NOT-THIS-NODE");
    let locked_out = nexus.settings(&node, "another");
    fails(
        nexus.step(Step::Verify, &locked_out, &Notes::default()).await,
        Failure::Permanent,
        "the password of \"admin\" is wrong",
    );

    // One that was frozen by a human, as a copy of a frozen A is.
    nexus.send(Method::POST, "service/rest/v1/read-only/freeze", None).await;
    let frozen = nexus.step(Step::Verify, &nexus.settings(&node, "admin123"), &Notes::default()).await;
    fails(frozen, Failure::Permanent, "the frozen state of A was replicated");
    nexus.send(Method::POST, "service/rest/v1/read-only/release", None).await;

    // One whose blobs are gone, as a block snapshot leaves it: 200, the right length, no body.
    nexus.empty_blobs_with(CONTENT);
    let empty = nexus.step(Step::Verify, &nexus.settings(&node, "admin123"), &Notes::default()).await;
    fails(empty, Failure::Permanent, "came back with 0 bytes and then broke off: its content is gone");
}

fn fails(result: StepResult, expected: Failure, part: &str) {
    let StepResult::Failed { failure, message } = result else { panic!("{part}: {result:?}") };
    println!("{message}");
    assert_eq!(failure, expected, "{message}");
    assert!(message.contains(part), "{part}: {message}");
}

/// A Nexus of our own on loopback.
struct RealNexus {
    parts: Parts,
    dir: tempfile::TempDir,
    url: String,
    client: Client,
}

impl RealNexus {
    fn start() -> Self {
        understudy_tests::standin::install_crypto();
        let parts = Parts::from_env().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let nexus = Self { parts, dir, url: format!("http://127.0.0.1:{port}"), client: Client::new() };
        let started =
            nexus.script("start").arg(&nexus.parts.nexus).arg(nexus.data()).arg(port.to_string()).status().unwrap();
        assert!(started.success(), "the real Nexus did not start");
        nexus
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn script(&self, verb: &str) -> Command {
        let mut command = Command::new(self.parts.scripts.join("nexus-lab.sh"));
        command.arg(verb).env("NEXUS_RUN", self.dir.path().join("run"));
        command
    }

    /// Repositories, an artifact, a canary.
    async fn fill(&self) {
        for name in ["raw-hosted", "dr-canary"] {
            let body = json!({
                "name": name, "online": true, "raw": { "contentDisposition": "ATTACHMENT" },
                "storage": { "blobStoreName": "default", "strictContentTypeValidation": false, "writePolicy": "ALLOW" },
            });
            self.send(Method::POST, "service/rest/v1/repositories/raw/hosted", Some(body.to_string())).await;
        }
        self.send(Method::PUT, "repository/raw-hosted/known", Some(CONTENT.into())).await;
        for canary in 0..12 {
            let path = format!("repository/dr-canary/understudy/nexus/host-1/canary-{canary}");
            self.send(Method::PUT, &path, Some(format!("canary {canary}"))).await;
        }
    }

    async fn node(&self) -> String {
        let answer: Value =
            serde_json::from_str(&self.send(Method::GET, "service/rest/v1/system/node", None).await).unwrap();
        answer["nodeId"].as_str().unwrap().to_owned()
    }

    async fn send(&self, method: Method, path: &str, body: Option<String>) -> String {
        let kind = if path.starts_with("repository/") { "application/octet-stream" } else { "application/json" };
        let request = self.client.request(method, format!("{}/{path}", self.url)).basic_auth("admin", Some("admin123"));
        let answer = request.header("content-type", kind).body(body.unwrap_or_default()).send().await.unwrap();
        let (status, text): (StatusCode, String) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{path}: {status} {text}");
        text
    }

    /// Takes the content of each blob that holds these bytes, as data that never reached the disk.
    fn empty_blobs_with(&self, content: &str) {
        let mut emptied = 0;
        each_file(&self.data().join("blobs"), &mut |path| {
            if path.extension().is_some_and(|e| e == "bytes")
                && std::fs::read(path).is_ok_and(|b| b == content.as_bytes())
            {
                std::fs::write(path, "").unwrap();
                emptied += 1;
            }
        });
        assert_eq!(emptied, 1);
    }

    /// The settings of a pair whose B, and whose public address, is this Nexus.
    fn settings(&self, node: &str, password: &str) -> String {
        use std::os::unix::fs::PermissionsExt;

        let file = self.dir.path().join(format!("password-{password}"));
        std::fs::write(&file, password).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let digest: String = Sha256::digest(CONTENT).iter().map(|byte| format!("{byte:02x}")).collect();
        format!(
            "{{ name: nexus, probes: [], site_down_when: {{ at_least: 1, of: [service] }}, rpo_max: 15m, route: [], \
               storage: {{ hooks: {{ status: {{ command: {{ command: ['true'] }} }}, promote: {{ command: {{ command: ['true'] }} }} }} }}, \
               nexus: {{ primary: {{ url: 'http://a.invalid' }}, standby: {{ url: '{url}' }}, public: {{ url: '{url}' }}, \
                 node_id: {node}, credentials: {{ user: admin, password: 'file:{file}' }}, \
                 checks: [Lifecycle Phase, Read-Only Detector, Blob Stores Ready, File Blob Stores Path, Scheduler] }}, \
               verify: {{ within: 30s, repositories: [raw-hosted], \
                 artifacts: [{{ path: raw-hosted/known, sha256: {digest} }}] }}, \
               route_check: {{ within: 2s }} }}",
            url = self.url,
            file = file.display(),
        )
    }

    async fn step(&self, step: Step, settings: &str, notes: &Notes) -> StepResult {
        let pair: Pair = serde_saphyr::from_str(settings).unwrap();
        let bound = Some(LossBound::AtMost(60_000));
        let order = StepOrder { notes: notes.taken(), bound, ..order("nexus-1-failover", step) };
        let gate = Arc::new(Gate { notes: notes.clone(), step });
        run(Context { state: self.dir.path().into(), ..context(order, pair, gate) }).await
    }
}

impl Drop for RealNexus {
    fn drop(&mut self) {
        // A failed test must not leave a Java process behind.
        let _ = self.script("kill").arg(self.data()).status();
    }
}

fn each_file(dir: &Path, visit: &mut impl FnMut(&Path)) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { each_file(&path, visit) } else { visit(&path) }
    }
}

/// What the journal would hold.
#[derive(Clone, Default)]
struct Notes(Arc<std::sync::Mutex<Vec<(String, String)>>>);

impl Notes {
    fn taken(&self) -> std::collections::BTreeMap<String, String> {
        self.0.lock().unwrap().iter().cloned().collect()
    }
}

struct Gate {
    notes: Notes,
    step: Step,
}

impl Gatekeeper for Gate {
    fn permit(&self) -> Later<'_, Result<Permit, StepError>> {
        Box::pin(async { Ok(Permit::until(Instant::now() + Duration::from_secs(20))) })
    }

    fn note<'a>(&'a self, key: &'a str, value: String) -> Later<'a, Result<(), StepError>> {
        self.notes.0.lock().unwrap().push((format!("{}/{key}", self.step), value));
        Box::pin(async { Ok(()) })
    }

    fn progress(&self, text: String) {
        println!("  {text}");
    }
}
