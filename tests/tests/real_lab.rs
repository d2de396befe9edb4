//! The laboratory itself, driven by hand: what the failovers rely on is there.

use std::path::Path;
use std::time::{Duration, SystemTime};

use understudy_tests::lab::ceph::spec;
use understudy_tests::lab::site::{Volume, nothing_remains};
use understudy_tests::lab::writer::{REPOSITORY, Writer};
use understudy_tests::lab::{Lab, Side};
use understudy_tests::standin::install_crypto;

/// The database writes its store up to this much later than it acknowledges.
const H2_DELAY: Duration = Duration::from_secs(1);
const OPERATOR: &str = env!("CARGO_BIN_EXE_lab_operator");

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the real parts: tests/run real"]
async fn a_nexus_on_a_mirrored_image_is_served_by_the_other_site_after_the_first_was_killed() {
    install_crypto();
    let lab = Lab::up().await.unwrap();
    let (data, image) = (Volume::data(), Volume::data().image);
    lab.a.provision(std::slice::from_ref(&data)).await.unwrap();
    lab.say("A has a volume");
    lab.a.start_operator(Path::new(OPERATOR)).unwrap();
    lab.a.deploy(&[]).await.unwrap();
    lab.a.nexus().unwrap().create_repository(REPOSITORY).await.unwrap();
    lab.say("A runs a Nexus");
    let writer = Writer::start(lab.a.nexus().unwrap(), Duration::from_millis(100));
    until_written(&writer, 20).await;
    lab.a.sync(&image).await.unwrap();
    let synced = SystemTime::now();
    let snapshot = lab.ceph.snapshot(&image).await.unwrap();
    lab.ceph.in_step(&image, snapshot).await.unwrap();
    lab.say("B is in step");

    lab.a.kill().await.unwrap();
    let acknowledged = writer.stop().await;
    nothing_remains(&lab.a).await.unwrap();
    lab.say("A is dead, and nothing of it remains");
    promote_by_hand(&lab, &image).await;
    lab.say("B is promoted");
    lab.b.restore(&[data]).await.unwrap();
    lab.b.start_operator(Path::new(OPERATOR)).unwrap();
    lab.b.deploy(&[]).await.unwrap();
    lab.say("B runs a Nexus");

    let found = lab.b.nexus().unwrap().compare(&acknowledged).await.unwrap();
    lab.say(&format!("{} of {} artifacts came back whole", found.whole.len(), acknowledged.len()));
    assert!(!found.whole.is_empty());
    if let Some(lost) = found.oldest_loss() {
        assert!(lost > synced - H2_DELAY, "lost although it was written before the snapshot: {found:?}");
    }
}

async fn until_written(writer: &Writer, number: usize) {
    understudy_tests::lab::run::until("uploads", Duration::from_secs(30), || async {
        (writer.acknowledged().len() >= number).then_some(())
    })
    .await
    .unwrap();
}

async fn promote_by_hand(lab: &Lab, image: &str) {
    let status = lab.ceph.rbd_json(Side::B, &["status", &spec(image)]).await.unwrap();
    for watcher in status["watchers"].as_array().unwrap() {
        let address = watcher["address"].as_str().unwrap();
        lab.ceph.ceph(Side::B, &["osd", "blocklist", "add", address, "3600"]).await.unwrap();
    }
    lab.ceph.rbd(Side::B, &["mirror", "image", "promote", "--force", &spec(image)]).await.unwrap();
    assert!(lab.ceph.is_primary(Side::B, image).await.unwrap());
}
