//! What the stand-in of Nexus answers, held to a real one asked the same questions.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use understudy_tests::lab::alike::Findings;
use understudy_tests::lab::run::{output, until};
use understudy_tests::lab::site::Volume as RealVolume;
use understudy_tests::lab::writer::{PASSWORD, USER};
use understudy_tests::lab::{Ground, Side};
use understudy_tests::standin::effects::Ledger;
use understudy_tests::standin::install_crypto;
use understudy_tests::standin::nexus::{Nexus, Timing};
use understudy_tests::standin::volume::{Content, Volume};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real Nexus: tests/run conformance"]
async fn nexus_answers_alike() {
    let both = Both::up().await;

    both.endpoints().await;
    both.artifacts().await;
    both.checks().await;
    both.read_only().await;
    both.stopped().await;

    both.findings.finish();
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
enum Caller {
    Anonymous,
    Admin,
    Wrong,
}

struct Both {
    ground: Ground,
    real: String,
    standin: Nexus,
    http: reqwest::Client,
    findings: Findings,
}

#[derive(Debug)]
struct Answer {
    code: u16,
    server: Option<String>,
    etag: Option<String>,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

impl Both {
    async fn up() -> Self {
        install_crypto();
        let ground = Ground::new().unwrap();
        let site = ground.site(Side::A, &ground.ceph());
        // No image below it here: Nexus finds a directory.
        site.start_nexus(&RealVolume::data().image).await.unwrap();
        let standin = Nexus::new("alike", [127, 0, 0, 1].into(), Timing::default(), Ledger::default()).await.unwrap();
        standin.start(Volume::new(Content::default())).await.unwrap();
        let http = reqwest::Client::builder().timeout(Duration::from_secs(20)).build().unwrap();
        let real = format!("http://{}", site.nexus_address());
        let both = Self { ground, real, standin, http, findings: Findings::default() };
        until("the stand-in", Duration::from_secs(10), || async { both.standin.is_running().await.then_some(()) })
            .await
            .unwrap();
        both.ground.say("a real Nexus, and one that stands in");
        both
    }

    async fn endpoints(&self) {
        for path in [
            "/service/rest/v1/status",
            "/service/rest/v1/status/writable",
            "/service/rest/v1/status/check",
            "/service/rest/v1/read-only",
            "/service/rest/v1/repositories",
            "/service/rest/v1/system/node",
            "/service/rest/v1/lifecycle/phase",
            "/service/metrics/ping",
            "/service/metrics/healthcheck",
            "/service/rest/metrics/ping",
            "/service/rest/v1/nothing",
            "/repository/none/a",
        ] {
            for caller in [Caller::Anonymous, Caller::Admin, Caller::Wrong] {
                let (real, standin) = self.ask(Method::GET, path, caller, None).await;
                let place = format!("GET {path} as {caller:?}");
                self.findings.values(&format!("{place}: code"), &real.code, &standin.code);
                self.findings.values(&format!("{place}: server"), &real.server, &standin.server);
            }
        }
        for path in ["/service/rest/v1/read-only", "/service/rest/v1/system/node", "/service/rest/v1/repositories"] {
            self.same_shape(Method::GET, path, None).await;
        }
    }

    async fn artifacts(&self) {
        let repository = json!({
            "name": "alike", "online": true,
            "storage": { "blobStoreName": "default", "strictContentTypeValidation": false, "writePolicy": "ALLOW" },
            "raw": { "contentDisposition": "ATTACHMENT" },
        });
        let made = "/service/rest/v1/repositories/raw/hosted";
        for round in ["a repository", "the same again"] {
            let (real, standin) = self.ask(Method::POST, made, Caller::Admin, Some(Carried::Json(&repository))).await;
            self.findings.values(&format!("{round}: code"), &real.code, &standin.code);
        }
        self.same_shape(Method::GET, "/service/rest/v1/repositories", None).await;
        let path = "/repository/alike/a/b";
        for caller in [Caller::Anonymous, Caller::Wrong, Caller::Admin, Caller::Admin] {
            let (real, standin) = self.ask(Method::PUT, path, caller, Some(Carried::Bytes(b"some bytes"))).await;
            self.findings.values(&format!("PUT as {caller:?}: code"), &real.code, &standin.code);
        }
        let (real, standin) = self.ask(Method::GET, path, Caller::Anonymous, None).await;
        self.findings.values("GET: code", &real.code, &standin.code);
        self.findings.values("GET: etag", &real.etag, &standin.etag);
        self.findings.values("GET: body", &real.body, &standin.body);
        self.same_shape(Method::GET, "/service/rest/v1/assets?repository=alike", None).await;
        let (real, standin) =
            self.ask(Method::GET, "/service/rest/v1/assets?repository=alike", Caller::Admin, None).await;
        for pointer in ["/items/0/checksum/sha256", "/items/0/checksum/sha1", "/items/0/fileSize"] {
            let value = |answer: &Answer| answer.json().and_then(|json| json.pointer(pointer).cloned());
            self.findings.values(pointer, &value(&real), &value(&standin));
        }
        for (caller, path) in [
            (Caller::Anonymous, "/repository/alike/none"),
            (Caller::Anonymous, "/repository/alike/a/b?x=1"),
            (Caller::Admin, "/repository/alike/"),
        ] {
            let (real, standin) = self.ask(Method::GET, path, caller, None).await;
            self.findings.values(&format!("GET {path}: code"), &real.code, &standin.code);
        }
        for caller in [Caller::Anonymous, Caller::Admin, Caller::Admin] {
            let (real, standin) = self.ask(Method::DELETE, path, caller, None).await;
            self.findings.values(&format!("DELETE as {caller:?}: code"), &real.code, &standin.code);
        }
    }

    async fn checks(&self) {
        let (real, standin) = self.ask(Method::GET, "/service/rest/v1/status/check", Caller::Admin, None).await;
        let [real, standin] = [real, standin].map(|answer| answer.json().unwrap());
        let names = |checks: &Value| -> Vec<String> {
            let mut names: Vec<String> = checks.as_object().unwrap().keys().cloned().collect();
            names.sort();
            names
        };
        self.findings.values("the names of the checks", &names(&real), &names(&standin));
        // What the machine decides, such as its number of processors, may differ.
        for name in ["Lifecycle Phase", "Read-Only Detector", "Blob Stores Ready", "File Blob Stores Path", "Scheduler"]
        {
            self.findings.values(name, &real[name]["healthy"], &standin[name]["healthy"]);
        }
    }

    async fn read_only(&self) {
        let freeze = "/service/rest/v1/read-only/freeze";
        let release = "/service/rest/v1/read-only/release";
        for (method, path, caller) in [
            (Method::POST, freeze, Caller::Anonymous),
            (Method::POST, freeze, Caller::Admin),
            (Method::POST, freeze, Caller::Admin),
            (Method::GET, "/service/rest/v1/status", Caller::Anonymous),
            (Method::GET, "/service/rest/v1/status/writable", Caller::Anonymous),
            (Method::PUT, "/repository/alike/frozen", Caller::Admin),
            (Method::GET, "/repository/alike/none", Caller::Anonymous),
            (Method::POST, release, Caller::Admin),
            (Method::POST, release, Caller::Admin),
            (Method::PUT, "/repository/alike/thawed", Caller::Admin),
        ] {
            let body = (method == Method::PUT).then_some(Carried::Bytes(b"x"));
            let (real, standin) = self.ask(method.clone(), path, caller, body).await;
            self.findings.values(&format!("{method} {path} as {caller:?}: code"), &real.code, &standin.code);
        }
    }

    /// A Nexus that is gone refuses.
    async fn stopped(&self) {
        let site = self.ground.site(Side::A, &self.ground.ceph());
        let mut kill = tokio::process::Command::new(self.ground.parts.scripts.join("nexus-lab.sh"));
        kill.arg("kill").arg(site.data()).env("NEXUS_RUN", site.nexus_run());
        output(kill, Duration::from_secs(60)).await.unwrap();
        self.standin.kill().await;
        for url in [self.real.clone(), self.standin.url()] {
            let error = self.http.get(format!("{url}/service/rest/v1/status")).send().await.unwrap_err();
            assert!(error.is_connect(), "{url}: {error:?}");
        }
    }

    async fn same_shape(&self, method: Method, path: &str, body: Option<Carried<'_>>) {
        let (real, standin) = self.ask(method, path, Caller::Admin, body).await;
        self.findings.values(&format!("{path}: code"), &real.code, &standin.code);
        match (real.json(), standin.json()) {
            (Some(one), Some(other)) => self.findings.no_inventions(path, &one, &other),
            _ => self.findings.note(format!("{path}: no JSON: {real:?} {standin:?}")),
        }
    }

    async fn ask(&self, method: Method, path: &str, caller: Caller, body: Option<Carried<'_>>) -> (Answer, Answer) {
        let real = self.ask_one(&self.real, method.clone(), path, caller, body).await;
        (real, self.ask_one(&self.standin.url(), method, path, caller, body).await)
    }

    async fn ask_one(
        &self,
        url: &str,
        method: Method,
        path: &str,
        caller: Caller,
        body: Option<Carried<'_>>,
    ) -> Answer {
        let request = self.http.request(method, format!("{}{path}", url.trim_end_matches('/')));
        let request = match caller {
            Caller::Anonymous => request,
            Caller::Admin => request.basic_auth(USER, Some(PASSWORD)),
            Caller::Wrong => request.basic_auth(USER, Some("wrong")),
        };
        let request = match body {
            None => request,
            Some(Carried::Json(json)) => request.json(json),
            Some(Carried::Bytes(bytes)) => {
                request.header("content-type", "application/octet-stream").body(bytes.to_vec())
            }
        };
        let answer = request.send().await.unwrap();
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(String::from);
        let (server, etag) = (header("server"), header("etag"));
        Answer { code: answer.status().as_u16(), server, etag, body: answer.bytes().await.unwrap().to_vec() }
    }
}

/// What a request carries.
#[derive(Debug, Clone, Copy)]
enum Carried<'a> {
    Json(&'a Value),
    Bytes(&'a [u8]),
}
