//! Somebody who uses Nexus: uploads artifacts, and keeps a list of what was acknowledged.
//!
//! In: a Nexus. Out: each artifact whose upload was answered with 201, with its SHA-256 and the time of the answer; and
//! later the comparison with what another Nexus serves, by hash, since a damaged artifact is answered with 200 too.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;
use tokio::time;
use tokio_util::sync::CancellationToken;

/// The user of every lab's Nexus.
pub const USER: &str = "admin";
/// The password of that user.
pub const PASSWORD: &str = "admin123";
/// The repository that is written to.
pub const REPOSITORY: &str = "releases";

/// One acknowledged upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    /// Below the repository.
    pub path: String,
    /// Hexadecimal.
    pub sha256: String,
    /// When the 201 came.
    pub at: SystemTime,
}

/// What another Nexus has of a list.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Came back whole.
    pub whole: Vec<Acknowledged>,
    /// 404.
    pub missing: Vec<Acknowledged>,
    /// Came back with other bytes, an empty body among them.
    pub damaged: Vec<Acknowledged>,
}

impl Comparison {
    /// When the oldest artifact was acknowledged that is not there whole.
    #[must_use]
    pub fn oldest_loss(&self) -> Option<SystemTime> {
        self.missing.iter().chain(&self.damaged).map(|lost| lost.at).min()
    }
}

/// A Nexus as its users see it.
#[derive(Debug, Clone)]
pub struct NexusClient {
    http: reqwest::Client,
    url: String,
}

impl NexusClient {
    /// Reaches the Nexus at `url`.
    ///
    /// # Errors
    /// If no HTTP client can be made.
    pub fn new(url: &str) -> Result<Self> {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
        Ok(Self { http, url: url.trim_end_matches('/').into() })
    }

    /// Makes a hosted repository for raw files.
    ///
    /// # Errors
    /// If Nexus does not answer 201.
    pub async fn create_repository(&self, name: &str) -> Result<()> {
        let body = json!({
            "name": name,
            "online": true,
            "storage": { "blobStoreName": "default", "strictContentTypeValidation": false, "writePolicy": "ALLOW" },
            "raw": { "contentDisposition": "ATTACHMENT" },
        });
        let url = format!("{}/service/rest/v1/repositories/raw/hosted", self.url);
        // The first request of a Nexus that has just started takes long on a busy machine.
        let request = self.http.post(url).timeout(Duration::from_secs(60)).basic_auth(USER, Some(PASSWORD));
        let answer = request.json(&body).send().await?;
        ensure!(answer.status().as_u16() == 201, "repository {name}: {}", answer.status());
        Ok(())
    }

    /// Uploads an artifact.
    ///
    /// # Errors
    /// If Nexus does not answer 201.
    pub async fn put(&self, path: &str, content: Vec<u8>) -> Result<Acknowledged> {
        let sha256 = hex(&Sha256::digest(&content));
        let request = self.http.put(format!("{}/repository/{REPOSITORY}/{path}", self.url));
        let request = request.basic_auth(USER, Some(PASSWORD)).header("content-type", "application/octet-stream");
        let answer = request.body(content).send().await?;
        ensure!(answer.status().as_u16() == 201, "PUT {path}: {}", answer.status());
        Ok(Acknowledged { path: path.into(), sha256, at: SystemTime::now() })
    }

    /// Compares a list with what this Nexus serves.
    ///
    /// # Errors
    /// If an answer is neither 200 nor 404, or none comes.
    pub async fn compare(&self, list: &[Acknowledged]) -> Result<Comparison> {
        let mut found = Comparison::default();
        for artifact in list {
            let url = format!("{}/repository/{REPOSITORY}/{}", self.url, artifact.path);
            let answer = self.http.get(&url).send().await.with_context(|| format!("GET {url}"))?;
            match answer.status().as_u16() {
                404 => found.missing.push(artifact.clone()),
                200 => match answer.bytes().await {
                    Ok(content) if hex(&Sha256::digest(&content)) == artifact.sha256 => {
                        found.whole.push(artifact.clone())
                    }
                    // A body that ends before its Content-Length is damage too.
                    Ok(_) | Err(_) => found.damaged.push(artifact.clone()),
                },
                other => anyhow::bail!("GET {url}: {other}"),
            }
        }
        Ok(found)
    }
}

/// A task that uploads without end.
pub struct Writer {
    list: Arc<Mutex<Vec<Acknowledged>>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Writer {
    /// Uploads an artifact of some kilobytes every `period`; one that fails is simply not on the list.
    #[must_use]
    pub fn start(nexus: NexusClient, period: Duration) -> Self {
        let list = Arc::new(Mutex::new(Vec::new()));
        let stop = CancellationToken::new();
        let task = tokio::spawn(write(nexus, period, list.clone(), stop.clone()));
        Self { list, stop, task }
    }

    /// What has been acknowledged so far.
    #[must_use]
    pub fn acknowledged(&self) -> Vec<Acknowledged> {
        self.list.lock().expect("nobody panics while holding the list").clone()
    }

    /// Stops and returns what was acknowledged.
    pub async fn stop(self) -> Vec<Acknowledged> {
        self.stop.cancel();
        // The task only ends by the token; a panic in it would show in the list being too short.
        let _ = self.task.await;
        let list = self.list.lock().expect("nobody panics while holding the list");
        list.clone()
    }
}

async fn write(nexus: NexusClient, period: Duration, list: Arc<Mutex<Vec<Acknowledged>>>, stop: CancellationToken) {
    let mut grid = time::interval(period);
    grid.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    for number in 0_u64.. {
        let upload = async {
            grid.tick().await;
            nexus.put(&format!("written/{number}"), content(number)).await
        };
        match stop.run_until_cancelled(upload).await {
            Some(Ok(acknowledged)) => list.lock().expect("nobody panics while holding the list").push(acknowledged),
            Some(Err(_)) => {}
            None => return,
        }
    }
}

/// 8 to 24 KiB that no other number has.
fn content(number: u64) -> Vec<u8> {
    let mut block = Sha256::digest(number.to_be_bytes());
    let blocks = 256 + usize::try_from(number % 512).expect("below 512");
    let mut content = Vec::with_capacity(blocks * block.len());
    for _ in 0..blocks {
        content.extend_from_slice(&block);
        block = Sha256::digest(block);
    }
    content
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
