//! A kubeconfig file, as far as `check` needs it: is it usable, and which server does it lead to?
//!
//! What connects reads the file with the `kube` crate; here are only the faults that would otherwise show at disaster time.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::explain::bounded;

/// Where a kubeconfig leads.
#[derive(Debug, Clone)]
pub(crate) struct Kubeconfig {
    pub(crate) server: url::Url,
}

/// Why a kubeconfig is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KubeconfigError {
    #[error("{} can not be read: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is no kubeconfig{}", path.display(), line.map_or(String::new(), |line| format!(" (line {line})")))]
    NotOne { path: PathBuf, line: Option<u64> },
    #[error("{} has no current-context", path.display())]
    NoContext { path: PathBuf },
    #[error("{} names {what} {name:?} and does not have it", path.display())]
    Missing { path: PathBuf, what: &'static str, name: String },
    #[error("{} has no usable server address", path.display())]
    NoServer { path: PathBuf },
    #[error("{} needs {}, which can not be read: {source}", path.display(), file.display())]
    File { path: PathBuf, file: PathBuf, source: std::io::Error },
}

/// Certificates of many clusters inline stay far below this.
const MAX_BYTES: u64 = 1024 * 1024;

#[derive(Deserialize)]
struct File {
    #[serde(rename = "current-context", default)]
    current_context: String,
    #[serde(default)]
    contexts: Vec<Named<Context>>,
    #[serde(default)]
    clusters: Vec<Named<Server>>,
    #[serde(default)]
    users: Vec<Named<User>>,
}

/// kubeconfig has its own word for each kind beside the name.
#[derive(Deserialize)]
struct Named<T> {
    name: String,
    #[serde(alias = "context", alias = "cluster", alias = "user")]
    of: T,
}

#[derive(Deserialize)]
struct Context {
    cluster: String,
    user: String,
}

#[derive(Deserialize)]
struct Server {
    server: String,
    #[serde(rename = "certificate-authority")]
    authority: Option<PathBuf>,
}

#[derive(Deserialize)]
struct User {
    #[serde(rename = "client-certificate")]
    certificate: Option<PathBuf>,
    #[serde(rename = "client-key")]
    key: Option<PathBuf>,
    #[serde(rename = "tokenFile")]
    token: Option<PathBuf>,
}

impl Kubeconfig {
    /// Reads the current context of the file at `path`.
    pub(crate) fn read(path: &Path) -> Result<Self, KubeconfigError> {
        let text = crate::load::read_bounded(path, MAX_BYTES)
            .map_err(|source| KubeconfigError::Read { path: path.into(), source })?;
        Self::of_text(path, &text)
    }

    /// The same, of what stands in the file at `path`.
    pub(crate) fn of_text(path: &Path, text: &str) -> Result<Self, KubeconfigError> {
        let options = serde_saphyr::options! { with_snippet: false };
        let file: File = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let line = error.location().map(|at| at.line()).filter(|line| *line > 0);
            KubeconfigError::NotOne { path: path.into(), line }
        })?;
        file.current(path)
    }
}

impl File {
    fn current(&self, path: &Path) -> Result<Kubeconfig, KubeconfigError> {
        if self.current_context.is_empty() {
            return Err(KubeconfigError::NoContext { path: path.into() });
        }
        let context = find(&self.contexts, path, "context", &self.current_context)?;
        let cluster = find(&self.clusters, path, "cluster", &context.cluster)?;
        let user = find(&self.users, path, "user", &context.user)?;
        let files = [&cluster.authority, &user.certificate, &user.key, &user.token];
        for file in files.into_iter().flatten() {
            // Relative to the kubeconfig itself.
            let file = path.parent().unwrap_or(Path::new("")).join(file);
            std::fs::File::open(&file).map_err(|source| KubeconfigError::File { path: path.into(), file, source })?;
        }
        let server = cluster.server.parse::<url::Url>().ok().filter(url::Url::has_host);
        server.map(|server| Kubeconfig { server }).ok_or_else(|| KubeconfigError::NoServer { path: path.into() })
    }
}

fn find<'a, T>(list: &'a [Named<T>], path: &Path, what: &'static str, name: &str) -> Result<&'a T, KubeconfigError> {
    let found = list.iter().find(|named| named.name == name).map(|named| &named.of);
    found.ok_or_else(|| KubeconfigError::Missing { path: path.into(), what, name: bounded(name.to_owned()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
apiVersion: v1
kind: Config
current-context: dr
contexts: [{ name: dr, context: { cluster: b, user: watcher } }]
clusters: [{ name: b, cluster: { server: 'https://10.2.0.1:6443', certificate-authority-data: aGk= } }]
users: [{ name: watcher, user: { token: hunter2 } }]
";

    fn read(text: &str) -> Result<Kubeconfig, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        std::fs::write(&path, text).unwrap();
        let hidden = format!("{}/", directory.path().display());
        Kubeconfig::read(&path).map_err(|error| error.to_string().replace(&hidden, ""))
    }

    #[test]
    fn the_server_of_the_current_context_is_found() {
        assert_eq!(read(GOOD).unwrap().server.as_str(), "https://10.2.0.1:6443/");
    }

    #[test]
    fn each_fault_is_named_and_no_token_is_repeated() {
        for (from, to, expected) in [
            ("current-context: dr", "", "config has no current-context"),
            ("current-context: dr", "current-context: other", "config names context \"other\" and does not have it"),
            ("cluster: b,", "cluster: c,", "config names cluster \"c\" and does not have it"),
            ("user: watcher }", "user: nobody }", "config names user \"nobody\" and does not have it"),
            ("https://10.2.0.1:6443", "nonsense", "config has no usable server address"),
            (
                "token: hunter2",
                "token: hunter2, client-key: gone.pem",
                "config needs gone.pem, which can not be read: No such file or directory (os error 2)",
            ),
            ("{ token: hunter2 }", "hunter2", "config is no kubeconfig (line 6)"),
        ] {
            assert_eq!(read(&GOOD.replacen(from, to, 1)).unwrap_err(), expected);
        }
    }
}
