use std::os::unix::fs::PermissionsExt;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::*;

const SHORT: Patience = Patience {
    connect: Duration::from_millis(300),
    read: Duration::from_millis(300),
    write: Duration::from_millis(300),
};

#[tokio::test]
async fn a_missing_kubeconfig_is_named() {
    let error = fail(&Cluster::Kubeconfig("/nowhere/a.yaml".into())).await;

    assert_eq!(error, "failed to read kubeconfig /nowhere/a.yaml");
}

#[tokio::test]
async fn a_kubeconfig_that_everybody_may_read_is_refused_with_the_remedy() {
    let (_keep, path) = kubeconfig("https://127.0.0.1:1", "{token: x}", 0o644);

    let error = fail(&Cluster::Kubeconfig(path.clone())).await;

    assert!(error.contains("(mode 644): run chmod o-rwx") && error.contains(path.to_str().unwrap()), "{error}");
}

#[tokio::test]
async fn a_file_that_is_no_kubeconfig_is_refused_with_the_remedy() {
    for text in ["", "nonsense", "clusters: []\n", "apiVersion: v1\nkind: Config\ncurrent-context: gone\n"] {
        let (_keep, path) = file(text, 0o600);
        let error = fail(&Cluster::Kubeconfig(path.clone())).await;
        assert!(error.contains("is not usable: try `kubectl --kubeconfig"), "{text:?}: {error}");
    }
}

#[tokio::test]
async fn a_login_by_plug_in_is_refused_because_it_may_hang() {
    let user = "{exec: {apiVersion: client.authentication.k8s.io/v1, command: aws}}";
    let (_keep, path) = kubeconfig("https://127.0.0.1:1", user, 0o600);

    let error = fail(&Cluster::Kubeconfig(path)).await;

    assert!(error.contains("logs in by the program aws, which may hang: put a token"), "{error}");
}

#[tokio::test]
async fn outside_of_a_pod_in_cluster_says_so() {
    assert!(fail(&Cluster::InCluster(true)).await.contains("no service account of a pod found"));
    assert!(fail(&Cluster::InCluster(false)).await.contains("in_cluster is false"));
}

#[tokio::test]
async fn a_server_that_takes_the_connection_and_is_silent_is_given_up() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = client_of(&server).await;
    let began = Instant::now();

    let answer = Api::<Secret>::namespaced(client, "n").get("a").await;

    assert!(answer.is_err());
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_refusal_for_now_is_not_repeated_by_kube() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = client_of(&server).await;
    let count = tokio::spawn(async move {
        let mut asked = 0;
        while let Ok(Ok((mut socket, _))) = tokio::time::timeout(Duration::from_millis(400), server.accept()).await {
            asked += 1;
            let mut text = [0; 4096];
            let _ = socket.read(&mut text).await;
            let answer = "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let _ = socket.write_all(answer.as_bytes()).await;
        }
        asked
    });

    let answer = Api::<Secret>::namespaced(client, "n").get("a").await;

    assert!(answer.is_err());
    assert_eq!(count.await.unwrap(), 1);
}

#[tokio::test]
async fn an_answer_without_an_end_is_cut_off() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = client_of(&server).await;
    let pump = tokio::spawn(async move {
        let (mut socket, _) = server.accept().await.unwrap();
        let mut text = [0; 4096];
        let _ = socket.read(&mut text).await;
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n";
        let _ = socket.write_all(head.as_bytes()).await;
        let mut sent = 0usize;
        let chunk = vec![b' '; 1024 * 1024];
        while socket.write_all(&chunk).await.is_ok() {
            sent += chunk.len();
        }
        sent
    });

    let answer = Api::<Secret>::namespaced(client, "n").get("a").await;

    assert!(answer.is_err());
    // What the kernel's buffers took beyond our limit is not ours.
    assert!(pump.await.unwrap() < LONGEST_ANSWER + 16 * 1024 * 1024);
}

async fn fail(cluster: &Cluster) -> String {
    match client(cluster, SHORT).await {
        Ok(_) => panic!("a client was made"),
        Err(error) => error.to_string(),
    }
}

async fn client_of(server: &TcpListener) -> kube::Client {
    let (_keep, path) = kubeconfig(&format!("http://{}", server.local_addr().unwrap()), "{token: x}", 0o600);
    client(&Cluster::Kubeconfig(path), SHORT).await.unwrap()
}

fn kubeconfig(server: &str, user: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
    let text = format!(
        "apiVersion: v1\nkind: Config\nclusters: [{{name: c, cluster: {{server: \"{server}\"}}}}]\n\
         users: [{{name: u, user: {user}}}]\ncontexts: [{{name: x, context: {{cluster: c, user: u}}}}]\ncurrent-context: x\n"
    );
    file(&text, mode)
}

fn file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kubeconfig");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    (directory, path)
}
