//! An API server made of a closure: each request is answered as the test says, and remembered.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use kube::client::Body;
use serde_json::{Value, json};
use tower::service_fn;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: Method,
    pub path: String,
    pub query: String,
    /// JSON, or null.
    pub body: Value,
}

impl Asked {
    pub fn is_watch(&self) -> bool {
        self.query.contains("watch=true")
    }

    /// `METHOD path`.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// What the server does about a request.
pub enum Reply {
    /// A code and JSON.
    Json(u16, Value),
    /// A code and something that is no JSON.
    Text(u16, &'static str),
    /// Nothing, for ever.
    Never,
}

impl Reply {
    pub fn ok(object: impl Into<Value>) -> Self {
        Reply::Json(200, object.into())
    }

    pub fn list(items: Vec<Value>) -> Self {
        Reply::ok(
            json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": "100" }, "items": items }),
        )
    }

    /// The server's own word that there is no such object.
    pub fn absent(name: &str) -> Self {
        Reply::status(404, "NotFound", &format!("\"{name}\" not found"), json!({ "name": name }))
    }

    pub fn status(code: u16, reason: &str, message: &str, details: Value) -> Self {
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure",
            "code": code, "reason": reason, "message": message, "details": details,
        });
        Reply::Json(code, status)
    }
}

/// What was asked so far.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<Vec<Asked>>>);

impl Ledger {
    pub fn all(&self) -> Vec<Asked> {
        self.0.lock().unwrap().clone()
    }

    /// The requests that change something.
    pub fn writes(&self) -> Vec<Asked> {
        self.all().into_iter().filter(|asked| asked.method != Method::GET).collect()
    }

    pub fn write_lines(&self) -> Vec<String> {
        self.writes().iter().map(Asked::line).collect()
    }
}

/// A client of a server that answers as `answer` says.
pub fn server(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> (kube::Client, Ledger) {
    let ledger = Ledger::default();
    let (kept, answer) = (ledger.clone(), Arc::new(answer));
    let service = service_fn(move |request: Request<Body>| {
        let (kept, answer) = (kept.clone(), answer.clone());
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let asked = Asked {
                method: head.method,
                path: head.uri.path().to_owned(),
                query: head.uri.query().unwrap_or_default().to_owned(),
                body: serde_json::from_slice(&body).unwrap_or_default(),
            };
            kept.0.lock().unwrap().push(asked.clone());
            let (code, text) = match answer(&asked) {
                Reply::Json(code, value) => (code, value.to_string()),
                Reply::Text(code, text) => (code, text.to_owned()),
                Reply::Never => std::future::pending().await,
            };
            let response = Response::builder().status(code).body(Full::new(Bytes::from(text))).unwrap();
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(response)
        }
    });
    (kube::Client::new(service, "default"), ledger)
}

/// Objects by path, read and applied as a server does it, without rights, watches or defaults.
#[derive(Clone, Default)]
pub struct Shelf(Arc<Mutex<std::collections::BTreeMap<String, Value>>>);

impl Shelf {
    pub fn put(&self, path: &str, object: Value) {
        self.0.lock().unwrap().insert(path.to_owned(), object);
    }

    pub fn take(&self, path: &str) {
        self.0.lock().unwrap().remove(path);
    }

    pub fn at(&self, path: &str) -> Option<Value> {
        self.0.lock().unwrap().get(path).cloned()
    }

    /// The answer of a server that holds these objects.
    pub fn answer(&self, asked: &Asked) -> Reply {
        if asked.is_watch() {
            return Reply::Text(200, "");
        }
        let name = asked.path.rsplit('/').next().unwrap_or_default();
        match asked.method {
            Method::PATCH => {
                let mut object = self
                    .at(&asked.path)
                    .unwrap_or_else(|| json!({ "metadata": { "uid": "u-b", "resourceVersion": "5" } }));
                fold(&mut object, &asked.body);
                self.put(&asked.path, object.clone());
                Reply::ok(object)
            }
            Method::DELETE => {
                self.take(&asked.path);
                Reply::ok(json!({ "kind": "Status", "status": "Success" }))
            }
            _ => match self.at(&asked.path) {
                Some(object) => Reply::ok(object),
                None => self.list(&asked.path).unwrap_or_else(|| Reply::absent(name)),
            },
        }
    }

    /// The objects right below a collection's path.
    fn list(&self, path: &str) -> Option<Reply> {
        let is_collection = ["pods", "persistentvolumeclaims", "volumeattachments", "events", "nexuses"];
        if !is_collection.iter().any(|end| path.ends_with(&format!("/{end}"))) {
            return None;
        }
        let shelf = self.0.lock().unwrap();
        let below = shelf.iter().filter(|(key, _)| key.rsplit_once('/').is_some_and(|(parent, _)| parent == path));
        Some(Reply::list(below.map(|(_, object)| object.clone()).collect()))
    }
}

fn fold(target: &mut Value, change: &Value) {
    let (Value::Object(fields), Value::Object(changes)) = (&mut *target, change) else {
        *target = change.clone();
        return;
    };
    for (key, change) in changes {
        if change.is_null() {
            fields.remove(key);
        } else {
            fold(fields.entry(key.clone()).or_insert(json!({})), change);
        }
    }
}

/// A directory with one claim, its volume and a Secret, and the settings of a pair that restores it.
pub fn bundle() -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let bundle = json!({ "apiVersion": "v1", "kind": "List", "items": [
        { "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "root" }, "data": { "password": "eHh4" } },
        { "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": "pv-1" }, "spec": {
            "storageClassName": "block", "persistentVolumeReclaimPolicy": "Delete",
            "csi": { "driver": "rbd.csi.ceph.com", "volumeHandle": "h-1" } } },
        { "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": "data" }, "spec": {
            "storageClassName": "block", "volumeName": "pv-1" } },
    ] });
    std::fs::write(directory.path().join("bundle.json"), bundle.to_string()).unwrap();
    let settings =
        format!("namespace: nexus-dr, restore: {{ bundle: '{}', bound_within: 10s }},", directory.path().display());
    (directory, settings)
}

/// The manifest of the Nexus that the pair deploys, below `directory`.
pub fn manifest(directory: &std::path::Path) -> std::path::PathBuf {
    let path = directory.join("nexus.yaml");
    let text = "apiVersion: operator.alaudadevops.io/v1alpha1\nkind: Nexus\nmetadata: {name: nexus-ddrs}\nspec: {}\n";
    std::fs::write(&path, text).unwrap();
    path
}
