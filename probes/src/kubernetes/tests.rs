use understudy_core::Reading::{Down, Unknown, Up};

use super::*;
use crate::testing::{Asked, Identity, PATIENCE, Reply, Server, Then, config as settings, nobody};

const PASSED: &str = "[+]ping ok\n[+]etcd ok\n[+]shutdown ok\nreadyz check passed\n";
const NAMESPACE: &str = r#"{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"default"}}"#;

#[tokio::test]
async fn a_living_server_is_up() {
    let cluster = Cluster::new(|_| None).await;

    assert_eq!(cluster.look().await.reading, Up);
    let mut paths: Vec<String> = cluster.server.asked().into_iter().map(|a| a.path).collect();
    paths.sort();
    assert_eq!(paths, ["/api/v1/namespaces/default", "/readyz?verbose"]);
    assert!(cluster.server.asked().iter().all(|a| a.header("authorization") == Some("Bearer t0ken")));
}

#[tokio::test]
async fn every_answer_of_readyz_has_its_reading() {
    let failed = |lines: &str| format!("[+]ping ok\n{lines}[+]log ok\nreadyz check failed\n");
    let table = [
        (200, PASSED.to_owned(), Up),
        (200, "ok".to_owned(), Unknown(Reason::Unparsable)),
        (200, "<html>".to_owned(), Unknown(Reason::Unparsable)),
        (500, failed("[-]etcd failed: reason withheld\n"), Down(Reason::ServerError)),
        (500, failed("[-]etcd-readiness failed: reason withheld\n"), Down(Reason::ServerError)),
        (500, failed("[-]etcd failed: x\n[-]poststarthook/rbac failed: x\n"), Down(Reason::ServerError)),
        (500, failed("[-]shutdown failed: process is shutting down\n"), Down(Reason::ServerError)),
        (500, failed("[-]poststarthook/rbac/bootstrap-roles failed: not finished\n"), Unknown(Reason::Starting)),
        (500, failed("[-]informer-sync failed: x\n[-]poststarthook/a failed: x\n"), Unknown(Reason::Starting)),
        (500, failed("[-]autoregister-completion failed: x\n"), Unknown(Reason::Starting)),
        (500, failed("[-]kms-provider-0 failed: x\n"), Unknown(Reason::Unmapped)),
        (500, failed(""), Unknown(Reason::Unmapped)),
        (500, "<html>a proxy's page</html>".to_owned(), Unknown(Reason::Unmapped)),
        (502, "bad gateway".to_owned(), Unknown(Reason::Unmapped)),
        (401, "Unauthorized".to_owned(), Unknown(Reason::Unauthorized)),
        (403, "forbidden".to_owned(), Unknown(Reason::Forbidden)),
        (404, "404 page not found".to_owned(), Unknown(Reason::Unmapped)),
        (302, String::new(), Unknown(Reason::Unmapped)),
    ];
    for (code, body, reading) in table {
        let answer = Reply::of(code, &[], &body);
        let cluster = Cluster::new(move |asked| asked.path.starts_with("/readyz").then(|| answer.clone())).await;

        assert_eq!(cluster.look().await.reading, reading, "{code} {body}");
    }
}

#[tokio::test]
async fn every_answer_of_the_quorum_read_has_its_reading() {
    let status =
        |reason: &str| format!(r#"{{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"{reason}"}}"#);
    let table = [
        (200, NAMESPACE.to_owned(), Up),
        (404, status("NotFound"), Up),
        (404, "404 page not found\n".to_owned(), Unknown(Reason::Unmapped)),
        (200, status("NotFound"), Unknown(Reason::Unparsable)),
        (200, "<html>".to_owned(), Unknown(Reason::Unparsable)),
        (500, status("InternalError"), Down(Reason::ServerError)),
        (503, status("ServiceUnavailable"), Down(Reason::ServerError)),
        (504, status("Timeout"), Down(Reason::ServerError)),
        (504, "<html>".to_owned(), Unknown(Reason::Unmapped)),
        (429, status("TooManyRequests"), Unknown(Reason::Unmapped)),
        (401, status("Unauthorized"), Unknown(Reason::Unauthorized)),
        (403, status("Forbidden"), Unknown(Reason::Forbidden)),
        (200, format!("{NAMESPACE}{}", " ".repeat(100_000)), Unknown(Reason::TooLarge)),
    ];
    for (code, body, reading) in table {
        let answer = Reply::of(code, &[], &body);
        let cluster = Cluster::new(move |asked| asked.path.starts_with("/api/").then(|| answer.clone())).await;

        assert_eq!(cluster.look().await.reading, reading, "{code} {body:.80}");
    }
}

#[tokio::test]
async fn what_could_not_be_told_outweighs_what_is_down() {
    let etcd_down = "[-]etcd failed: reason withheld\nreadyz check failed\n";
    let no_right = Cluster::new(move |asked| {
        let ready = asked.path.starts_with("/readyz");
        Some(if ready { Reply::of(500, &[], etcd_down) } else { Reply::of(403, &[], "") })
    })
    .await;

    assert_eq!(no_right.look().await.reading, Unknown(Reason::Forbidden));
}

#[tokio::test(start_paused = true)]
async fn a_frozen_etcd_is_down_by_the_list_or_by_silence() {
    let hang = || Some(Reply::raw("", Then::Hang));
    let list = || Some(Reply::of(500, &[], "[-]etcd failed: reason withheld\nreadyz check failed\n"));
    let list_and_silence =
        Cluster::new(move |asked| if asked.path.starts_with("/readyz") { list() } else { hang() }).await;
    let silence = Cluster::new(move |_| hang()).await;
    let ready_and_silence =
        Cluster::new(move |asked| if asked.path.starts_with("/readyz") { None } else { hang() }).await;

    assert_eq!(list_and_silence.look().await.reading, Down(Reason::ServerError));
    assert_eq!(silence.look().await.reading, Down(Reason::TimedOut));
    assert_eq!(ready_and_silence.look().await.reading, Down(Reason::TimedOut));
}

#[tokio::test(start_paused = true)]
async fn a_frozen_server_takes_the_connection_and_hangs_in_the_handshake() {
    let frozen = Server::listener(b"", Then::Hang).await;
    let identity = Identity::of(&["127.0.0.1"]);

    assert_eq!(look_at(&frozen.to_string(), &identity, TOKEN).await.reading, Down(Reason::TimedOut));
}

#[tokio::test]
async fn a_killed_server_is_refused_and_a_dying_one_resets() {
    let identity = Identity::of(&["127.0.0.1"]);
    let dying = Server::listener(b"", Then::Reset).await;

    assert_eq!(look_at(&nobody().await.to_string(), &identity, TOKEN).await.reading, Down(Reason::Refused));
    assert_eq!(look_at(&dying.to_string(), &identity, TOKEN).await.reading, Down(Reason::Reset));
}

#[tokio::test]
async fn a_server_of_another_authority_is_a_tls_fault() {
    let cluster = Cluster::new(|_| None).await;
    let other = Identity::of(&["127.0.0.1"]);

    let sight = look_at(&cluster.server.address.to_string(), &other, TOKEN).await;

    assert_eq!(sight.reading, Unknown(Reason::Tls));
}

#[tokio::test]
async fn a_token_file_is_read_anew_for_each_look() {
    let identity = Identity::of(&["127.0.0.1"]);
    let server = Server::secure(&identity, answer(|_| None)).await;
    let token = tempfile::NamedTempFile::new().unwrap();
    let user = format!("tokenFile: {}", token.path().display());
    let probe = probe(&server.address.to_string(), &identity, &user).await.unwrap();

    std::fs::write(token.path(), "first\n").unwrap();
    assert_eq!(probe.look(PATIENCE).await.reading, Up);
    std::fs::write(token.path(), "second\n").unwrap();
    assert_eq!(probe.look(PATIENCE).await.reading, Up);
    std::fs::remove_file(token.path()).unwrap();
    assert_eq!(probe.look(PATIENCE).await.reading, Unknown(Reason::LocalFault));

    let tokens: Vec<String> =
        server.asked().iter().map(|a| a.header("authorization").unwrap_or_default().to_owned()).collect();
    assert_eq!(tokens, ["Bearer first", "Bearer first", "Bearer second", "Bearer second"]);
}

#[tokio::test]
async fn all_probes_of_a_cluster_share_its_tls_configuration() {
    let identity = Identity::of(&["127.0.0.1"]);
    let mut shared = Shared::new();

    let first = probe_with("127.0.0.1:6443", &identity, TOKEN, &mut shared).await.unwrap();
    let second = probe_with("127.0.0.1:6443", &identity, TOKEN, &mut shared).await.unwrap();

    assert!(Arc::ptr_eq(&first.access, &second.access));
}

#[tokio::test]
async fn logins_that_depend_on_somebody_else_are_refused() {
    let identity = Identity::of(&["127.0.0.1"]);
    for (user, part) in [
        ("exec: { apiVersion: client.authentication.k8s.io/v1, command: aws, interactiveMode: Never }", "exec"),
        ("auth-provider: { name: oidc, config: {} }", "auth-provider"),
        ("token: t, as: admin", "impersonation"),
    ] {
        let error = probe("127.0.0.1:6443", &identity, user).await.err().unwrap().to_string();

        assert!(error.contains(part) && error.contains("a token or a client certificate"), "{error}");
    }
}

#[tokio::test]
async fn a_kubeconfig_that_can_not_be_used_is_named() {
    let missing = settings(nobody().await, "", "kubernetes: primary");

    let error = crate::testing::probe(&missing).await.err().unwrap().to_string();

    assert!(error.contains("clusters.primary") && error.contains("/nonexistent/primary.yaml"), "{error}");
}

const TOKEN: &str = "token: t0ken";

/// A server that lives, but for what the script says.
struct Cluster {
    server: Server,
    identity: Identity,
}

impl Cluster {
    async fn new(script: impl Fn(&Asked) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let identity = Identity::of(&["127.0.0.1"]);
        Self { server: Server::secure(&identity, answer(script)).await, identity }
    }

    async fn look(&self) -> Sight {
        look_at(&self.server.address.to_string(), &self.identity, TOKEN).await
    }
}

fn answer(script: impl Fn(&Asked) -> Option<Reply> + Send + Sync + 'static) -> impl Fn(&Asked) -> Reply + Send + Sync {
    move |asked| {
        script(asked).unwrap_or_else(|| {
            let body = if asked.path.starts_with("/readyz") { PASSED } else { NAMESPACE };
            Reply::of(200, &[], body)
        })
    }
}

async fn look_at(address: &str, identity: &Identity, user: &str) -> Sight {
    probe(address, identity, user).await.unwrap().look(PATIENCE).await
}

async fn probe(address: &str, identity: &Identity, user: &str) -> Result<Kubernetes, ProbeError> {
    probe_with(address, identity, user, &mut Shared::new()).await
}

async fn probe_with(
    address: &str,
    identity: &Identity,
    user: &str,
    shared: &mut Shared,
) -> Result<Kubernetes, ProbeError> {
    let kubeconfig = tempfile::NamedTempFile::new().unwrap();
    let text = format!(
        "\
apiVersion: v1
kind: Config
current-context: here
contexts: [{{ name: here, context: {{ cluster: c, user: u }} }}]
clusters: [{{ name: c, cluster: {{ server: 'https://{address}', certificate-authority: {ca} }} }}]
users: [{{ name: u, user: {{ {user} }} }}]
",
        ca = identity.ca.path().display()
    );
    std::fs::write(kubeconfig.path(), text).unwrap();
    let mut config = settings("127.0.0.1:1".parse().unwrap(), "", "kubernetes: primary");
    config.clusters.primary = Some(understudy_config::Cluster::Kubeconfig(kubeconfig.path().to_owned()));
    let pair = Some((&config.pairs[0], understudy_core::Site::A));
    let place = Place { name: "api", pair, config: &config, period: PATIENCE, connect_within: PATIENCE };
    Kubernetes::new(Which::Primary, &place, shared).await
}
