//! One writer, also where two daemons have directories of their own: the lease against the stand-in API server.

use std::path::Path;
use std::time::Duration;

use understudy_actions::kube_client::{Patience, client};
use understudy_actions::lease::{LeaseKeeper, Turn};
use understudy_config::Cluster;
use understudy_tests::standin::effects::Ledger;
use understudy_tests::standin::install_crypto;
use understudy_tests::standin::kube::{Kube, Timing};
use understudy_tests::standin::port::loopback;

const LASTS: Duration = Duration::from_secs(2);
const MARGIN: Duration = Duration::from_millis(500);

async fn server(directory: &Path) -> (Kube, kube::Client) {
    install_crypto();
    let kube = Kube::start("b", loopback(), Timing::default(), Ledger::default()).await.expect("it starts");
    let path = directory.join("kubeconfig");
    std::fs::write(&path, kube.kubeconfig()).expect("it is written");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&path, private).expect("it is made private");
    let client = client(&Cluster::Kubeconfig(path), Patience::default()).await.expect("it is usable");
    (kube, client)
}

fn keeper(client: &kube::Client, holder: &str) -> LeaseKeeper {
    LeaseKeeper::new(client, "default", "understudy-nexus".into(), holder.into(), LASTS)
}

#[tokio::test]
async fn only_the_holder_gets_leave_to_write() {
    let directory = tempfile::tempdir().expect("there is a place");
    let (_kube, client) = server(directory.path()).await;
    let (one, other) = (keeper(&client, "one"), keeper(&client, "other"));

    assert!(matches!(one.turn().await, Turn::Ours { .. }));
    assert_eq!(other.turn().await, Turn::Theirs { holder: "one".into() });

    one.permit(MARGIN, 0).await.expect("it is ours");
    assert!(other.permit(MARGIN, 0).await.is_err());
}

#[tokio::test]
async fn a_process_from_the_same_directory_goes_on_at_once() {
    let directory = tempfile::tempdir().expect("there is a place");
    let (_kube, client) = server(directory.path()).await;
    assert!(matches!(keeper(&client, "one").turn().await, Turn::Ours { .. }));

    assert!(matches!(keeper(&client, "one").turn().await, Turn::Ours { .. }));
}

#[tokio::test]
async fn a_lease_is_taken_over_only_after_it_was_seen_unchanged_for_its_whole_time() {
    let directory = tempfile::tempdir().expect("there is a place");
    let (_kube, client) = server(directory.path()).await;
    let (one, other) = (keeper(&client, "one"), keeper(&client, "other"));
    assert!(matches!(one.turn().await, Turn::Ours { .. }));

    let began = std::time::Instant::now();
    while !matches!(other.turn().await, Turn::Ours { .. }) {
        tokio::task::yield_now().await;
    }

    assert!(began.elapsed() >= LASTS, "taken over after {:?}", began.elapsed());
    let refused = one.permit(MARGIN, 0).await.expect_err("it is the other's now");
    assert!(refused.to_string().contains("held by other"), "{refused}");
}

#[tokio::test]
async fn a_lease_that_can_not_be_read_gives_no_leave() {
    let directory = tempfile::tempdir().expect("there is a place");
    let (kube, client) = server(directory.path()).await;
    let one = keeper(&client, "one");
    assert!(matches!(one.turn().await, Turn::Ours { .. }));

    kube.kill().await;

    assert!(one.permit(MARGIN, 0).await.is_err());
}

#[tokio::test]
async fn a_lease_that_ends_within_the_margin_gives_no_leave() {
    let directory = tempfile::tempdir().expect("there is a place");
    let (_kube, client) = server(directory.path()).await;
    let one = keeper(&client, "one");
    assert!(matches!(one.turn().await, Turn::Ours { .. }));

    assert!(one.permit(LASTS, 0).await.is_err());
}

#[tokio::test]
async fn a_released_lease_is_free_at_once() {
    let directory = tempfile::tempdir().expect("there is a place");
    let (_kube, client) = server(directory.path()).await;
    let (one, other) = (keeper(&client, "one"), keeper(&client, "other"));
    assert!(matches!(one.turn().await, Turn::Ours { .. }));

    one.release().await;

    assert!(matches!(other.turn().await, Turn::Ours { .. }));
    assert!(one.permit(MARGIN, 0).await.is_err());
}
