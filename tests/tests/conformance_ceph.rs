//! What the stand-ins of `rbd` and `ceph` answer, held to two real clusters in the same situation.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;
use understudy_tests::lab::alike::Findings;
use understudy_tests::lab::ceph::{Ceph, POOL};
use understudy_tests::lab::run::until;
use understudy_tests::lab::{Ground, Side};
use understudy_tests::standin;
use understudy_tests::standin::effects::Ledger;
use understudy_tests::standin::volume::{Content, Volume};

const IMAGE: &str = "nexus-data";
/// What runs the stand-in programs.
const PROGRAM: &str = env!("CARGO_BIN_EXE_lab_operator");
/// As the daemon calls both programs: bounded in every way, without librbd's own log on standard error.
const BOUNDED: [&str; 5] = [
    "--client-mount-timeout=3",
    "--rados-mon-op-timeout=3",
    "--rados-osd-op-timeout=3",
    "--log-to-stderr=false",
    "--err-to-stderr=false",
];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs real Ceph: tests/run conformance"]
async fn rbd_and_ceph_answer_alike_in_step_and_after_the_primary_died() {
    let both = Both::up(16).await;
    both.in_step().await;

    both.alike_in_step().await;
    both.alike_when_wrong().await;

    both.kill_primary().await;
    both.alike_after_the_death_of_a().await;
    both.findings.finish();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs real Ceph: tests/run conformance"]
async fn rbd_answers_alike_in_the_middle_of_a_sync_and_after_a_promote_there() {
    let both = Both::up(256).await;
    both.in_step().await;

    both.stop_in_the_middle_of_a_sync().await;
    both.same(Side::B, "rbd snap ls --all rbd/nexus-data --format json").await;
    both.same(Side::B, "rbd mirror image status rbd/nexus-data --format json").await;
    both.blocklist_the_daemon().await;
    both.same(Side::B, "rbd mirror image promote --force rbd/nexus-data").await;

    both.same(Side::B, "rbd info rbd/nexus-data --format json").await;
    both.same(Side::B, "rbd snap ls --all rbd/nexus-data --format json").await;
    both.findings.finish();
}

/// The real clusters and the stand-in's, led into the same situations.
struct Both {
    // Dropped after `real`, which lives in it.
    ground: Ground,
    real: Ceph,
    standin: standin::ceph::Ceph,
    programs: PathBuf,
    findings: Findings,
    _dir: tempfile::TempDir,
}

/// How a program ended and what it said.
#[derive(Debug)]
struct Answer {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Both {
    async fn up(objects: u32) -> Self {
        let ground = Ground::new().unwrap();
        let real = ground.ceph();
        real.up().await.unwrap();
        real.create(IMAGE, objects * 4).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let timing = standin::ceph::Timing::default();
        let standin = standin::ceph::Ceph::start(dir.path(), POOL, timing, Ledger::default()).await.unwrap();
        standin.create_image(standin::side::Side::A, IMAGE, Volume::new(Content::default()), objects.into());
        let programs = standin.write_programs(Path::new(PROGRAM)).unwrap();
        ground.say("two real clusters, and two that stand in");
        Self { ground, real, standin, programs, findings: Findings::default(), _dir: dir }
    }

    async fn in_step(&self) {
        let first = self.real.snapshots(Side::A, IMAGE).await.unwrap().last().unwrap().id;
        self.real.in_step(IMAGE, first).await.unwrap();
        self.standin.until_in_step(standin::side::Side::B, IMAGE).await;
        // The daemons report every 30 s what they do; only then does the status say so.
        for side in [Side::A, Side::B] {
            until("both daemons' reports", Duration::from_secs(90), || async {
                let status = self.real.rbd_json(side, &["mirror", "image", "status", "rbd/nexus-data"]).await.ok()?;
                let own = status["state"].as_str()?.starts_with("up+");
                let theirs = status["peer_sites"][0]["state"].as_str()?.starts_with("up+");
                let told = side == Side::A || status["description"].as_str()?.contains("local_snapshot_timestamp");
                (own && theirs && told && status["daemon_service"].is_object()).then_some(())
            })
            .await
            .unwrap();
        }
        self.ground.say("both pairs are in step");
    }

    async fn alike_in_step(&self) {
        for side in [Side::A, Side::B] {
            for question in [
                "rbd info rbd/nexus-data --format json",
                "rbd snap ls --all rbd/nexus-data --format json",
                "rbd status rbd/nexus-data --format json",
                "rbd mirror image status rbd/nexus-data --format json",
                "rbd mirror pool status rbd --verbose --format json",
                "rbd mirror pool info rbd --format json",
                "rbd ls rbd --format json",
                "ceph osd blocklist ls --format json",
            ] {
                self.same(side, question).await;
            }
        }
        for (question, pointer) in [
            ("rbd mirror image status rbd/nexus-data --format json", "/state"),
            ("rbd mirror image status rbd/nexus-data --format json", "/peer_sites/0/state"),
            ("rbd mirror pool status rbd --verbose --format json", "/summary"),
            ("rbd mirror pool status rbd --verbose --format json", "/daemons/0/health"),
            ("rbd info rbd/nexus-data --format json", "/mirroring/mode"),
            ("rbd info rbd/nexus-data --format json", "/mirroring/primary"),
            ("rbd info rbd/nexus-data --format json", "/objects"),
            ("rbd snap ls --all rbd/nexus-data --format json", "/0/namespace/state"),
            ("rbd snap ls --all rbd/nexus-data --format json", "/0/namespace/complete"),
            ("rbd snap ls --all rbd/nexus-data --format json", "/0/namespace/last_copied_object_number"),
        ] {
            for side in [Side::A, Side::B] {
                self.same_value(side, question, pointer).await;
            }
        }
    }

    async fn alike_when_wrong(&self) {
        for (side, question) in [
            (Side::B, "rbd info rbd/nope --format json"),
            (Side::B, "rbd snap ls --all rbd/nope --format json"),
            (Side::B, "rbd mirror image status rbd/nope --format json"),
            (Side::B, "rbd mirror image status nopool/nope --format json"),
            (Side::B, "rbd mirror image promote --force rbd/nope"),
            (Side::B, "rbd mirror image promote rbd/nexus-data"),
            (Side::A, "rbd mirror image promote rbd/nexus-data"),
            (Side::B, "rbd mirror image snapshot rbd/nexus-data"),
            (Side::B, "rbd --connect-timeout=3 ls rbd"),
            (Side::B, "rbd --id nobody ls rbd"),
        ] {
            self.same(side, question).await;
        }
    }

    async fn kill_primary(&self) {
        self.real.kill(Side::A).await.unwrap();
        self.standin.kill(standin::side::Side::A);
        self.ground.say("both primaries are dead");
    }

    async fn alike_after_the_death_of_a(&self) {
        // A bounded read on a cluster that is gone, as the storage probe does it.
        self.same(Side::A, "rbd ls rbd").await;
        self.same(Side::A, "rbd info rbd/nexus-data --format json").await;
        self.same(Side::B, "rbd mirror image status rbd/nexus-data --format json").await;
        self.same(Side::B, "rbd mirror image promote rbd/nexus-data").await;
        self.blocklist_the_daemon().await;
        self.same(Side::B, "ceph osd blocklist ls --format json").await;
        self.same(Side::B, "rbd status rbd/nexus-data --format json").await;
        self.same(Side::B, "rbd mirror image promote --force rbd/nexus-data").await;
        for question in [
            "rbd info rbd/nexus-data --format json",
            "rbd snap ls --all rbd/nexus-data --format json",
            "rbd mirror image promote --force rbd/nexus-data",
            "rbd snap create rbd/nexus-data@undo --no-progress",
            "rbd snap ls --all rbd/nexus-data --format json",
        ] {
            self.same(Side::B, question).await;
        }
        self.same_value(Side::B, "rbd info rbd/nexus-data --format json", "/mirroring/primary").await;
        self.ground.say("both standbys are promoted");
    }

    /// A freezes while an image of a gigabyte is on its way; the stand-in holds the copy at some object.
    async fn stop_in_the_middle_of_a_sync(&self) {
        let mut bench = Command::new("rbd");
        bench.arg("-c").arg(self.real.conf(Side::A)).args(["bench", "--io-type", "write", "--io-size", "4M"]);
        bench.args(["--io-threads", "2", "--io-total", "1G", "rbd/nexus-data"]);
        understudy_tests::lab::run::output(bench, Duration::from_secs(180)).await.unwrap();
        self.real.snapshot(IMAGE).await.unwrap();
        until("a sync under way", Duration::from_secs(60), || async {
            let copies = self.real.snapshots(Side::B, IMAGE).await.ok()?;
            let newest = &copies.last()?.namespace;
            (newest.complete == Some(false) && newest.last_copied_object_number > Some(8)).then_some(())
        })
        .await
        .unwrap();
        self.real.freeze(Side::A).await.unwrap();
        self.standin.hold_sync(Some(20));
        self.standin.take_snapshot(standin::side::Side::A, IMAGE, true).unwrap();
        self.standin.until(standin::side::Side::B, IMAGE, |image| image.mid_sync()).await;
        self.standin.freeze(standin::side::Side::A);
        self.ground.say("both primaries froze in the middle of a sync");
        // The daemon reports every 30 s.
        until("a report of the sync", Duration::from_secs(60), || async {
            let status = self.real.rbd_json(Side::B, &["mirror", "image", "status", "rbd/nexus-data"]).await.ok()?;
            status["description"].as_str()?.contains("syncing_percent").then_some(())
        })
        .await
        .unwrap();
    }

    async fn blocklist_the_daemon(&self) {
        let [mut real, mut standin] = ["ceph osd blocklist add ", "ceph osd blocklist add "].map(String::from);
        let watchers = "rbd status rbd/nexus-data --format json";
        real.push_str(&first_watcher(&self.ask_real(Side::B, watchers).await));
        standin.push_str(&first_watcher(&self.ask_standin(Side::B, watchers).await));
        for command in [&mut real, &mut standin] {
            command.push_str(" 3600");
        }
        let answers = (self.ask_real(Side::B, &real).await, self.ask_standin(Side::B, &standin).await);
        self.alike("ceph osd blocklist add", &answers.0, &answers.1);
    }

    /// Both must answer with the same exit code, the same shape and the same words.
    async fn same(&self, side: Side, question: &str) {
        let real = self.ask_real(side, question).await;
        let standin = self.ask_standin(side, question).await;
        self.alike(&format!("{side:?}: {question}"), &real, &standin);
    }

    /// Both must have the same value at `pointer`.
    async fn same_value(&self, side: Side, question: &str, pointer: &str) {
        let value = |answer: &Answer| json(answer).and_then(|json| json.pointer(pointer).cloned());
        let real = value(&self.ask_real(side, question).await);
        let standin = value(&self.ask_standin(side, question).await);
        self.findings.values(&format!("{side:?}: {question}: {pointer}"), &real, &standin);
    }

    fn alike(&self, question: &str, real: &Answer, standin: &Answer) {
        self.findings.values(&format!("{question}: exit code"), &real.code, &standin.code);
        match (json(real), json(standin)) {
            (Some(one), Some(other)) => self.findings.shapes(question, &one, &other),
            _ => self.findings.texts(question, &real.stdout, &standin.stdout),
        }
        self.findings.texts(question, &real.stderr, &standin.stderr);
    }

    async fn ask_real(&self, side: Side, question: &str) -> Answer {
        let (program, rest) = question.split_once(' ').unwrap();
        ask(Command::new(program), &self.real.conf(side), rest).await
    }

    async fn ask_standin(&self, side: Side, question: &str) -> Answer {
        let (program, rest) = question.split_once(' ').unwrap();
        let other = match side {
            Side::A => standin::side::Side::A,
            Side::B => standin::side::Side::B,
        };
        ask(Command::new(self.programs.join(program)), &self.standin.conf(other), rest).await
    }
}

async fn ask(mut program: Command, conf: &Path, rest: &str) -> Answer {
    program.arg("-c").arg(conf).args(rest.split(' ')).args(BOUNDED).stdin(Stdio::null()).kill_on_drop(true);
    let ended = tokio::time::timeout(Duration::from_secs(60), program.output()).await;
    let output = ended.unwrap_or_else(|_| panic!("{rest}: no end within a minute")).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Answer { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn json(answer: &Answer) -> Option<Value> {
    serde_json::from_str(&answer.stdout).ok()
}

fn first_watcher(answer: &Answer) -> String {
    let status = json(answer).unwrap();
    status["watchers"][0]["address"].as_str().expect("the mirror daemon watches the image").to_owned()
}
