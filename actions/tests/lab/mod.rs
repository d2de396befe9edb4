//! Two real Ceph clusters that are up already, and trials of the storage steps on images of their own.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use understudy_actions::promote_keeper::Process;
use understudy_actions::{Context, Gatekeeper, Later, Permit, StepError};
use understudy_config::Pair;
use understudy_core::{Finding, ImageName, ImagePoint, Step, StepOrder, StepResult};

use crate::support::{context, order, until};

/// Through this variable a wrapper hands its arguments to the keeper process.
pub const KEEPER_ARGS: &str = "UNDERSTUDY_TEST_KEEPER_ARGS";

const OBJECT: u64 = 4 * 1024 * 1024;

/// Objects of an image whose sync takes some seconds.
pub const LARGE: u64 = 64;

/// rbd-mirror copies so many objects of an image at once (`rbd_concurrent_management_ops`), so that those are on their way
/// already when A stands still.
const AT_ONCE: u64 = 10;

/// Nothing here takes longer on a machine of two cores that others use too.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Writes a letter over a whole image, tells the first letter of each object, or holds the image open.
const DATA: &str = r#"
import rados, rbd, sys, time
conf, pool_image, what = sys.argv[1:4]
pool, name = pool_image.split("/")
with rados.Rados(conffile=conf) as cluster, cluster.open_ioctx(pool) as io:
    with rbd.Image(io, name, read_only=(what == "read")) as image:
        size = 4 * 1024 * 1024
        if what == "hold":
            print("open", flush=True)
            time.sleep(600)
        for n in range(image.size() // size):
            if what == "read":
                data = image.read(n * size, size)
                print(chr(data[0]) if data == data[:1] * size else "?", end="")
            else:
                image.write(what.encode() * size, n * size)
"#;

/// The laboratory, while nobody else uses it.
pub struct Lab {
    dir: PathBuf,
    began: Instant,
    _alone: fs::File,
}

impl Lab {
    /// Waits until nobody else uses it, and sets both sites right if the last test did not get as far as that.
    pub async fn free(test: &str) -> Self {
        let dir = std::env::var_os("UNDERSTUDY_REAL_CEPH").map(PathBuf::from);
        let dir = dir.expect("UNDERSTUDY_REAL_CEPH is not set: use tests/run real");
        let alone = fs::File::create(dir.join("in-use")).unwrap();
        flock(&alone, FlockOperation::LockExclusive).unwrap();
        let lab = Self { dir, began: Instant::now(), _alone: alone };
        lab.say(test);
        if lab.disturbed().exists() {
            lab.set_right().await;
        }
        lab
    }

    pub fn say(&self, what: &str) {
        eprintln!("[{:6.2} s] {what}", self.began.elapsed().as_secs_f64());
    }

    /// `ceph-lab.sh VERB SITE`.
    pub fn site(&self, verb: &str, site: &str) {
        self.script(&[verb, site]);
    }

    /// The words of `rbd` at a site.
    pub fn rbd(&self, site: &str) -> Vec<String> {
        vec!["rbd".into(), "-c".into(), self.conf(site)]
    }

    /// Images of a new pair, at A, enabled for mirroring.
    pub async fn trial(&self, name: &str, images: usize, objects: u64) -> Trial<'_> {
        fs::write(self.disturbed(), name).unwrap();
        let state = tempfile::tempdir().unwrap();
        let program = state.path().join("understudy");
        let me = std::env::current_exe().unwrap();
        let wrapper = format!(
            "#!/bin/sh\nexport {KEEPER_ARGS}=\"$(printf '%s\\n' \"$@\")\"\nexec '{}' --exact keeper_process --ignored --nocapture\n",
            me.display()
        );
        fs::write(&program, wrapper).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let stem = format!("{name}-{}", std::process::id());
        let images: Vec<String> = (0..images).map(|n| format!("rbd/{stem}-{n}")).collect();
        for image in &images {
            self.run("a", &["create", image, "--size", &format!("{}B", objects * OBJECT)]);
            self.run("a", &["mirror", "image", "enable", image, "snapshot"]);
        }
        Trial { lab: self, state, program, images, points: vec![], notes: Arc::default(), run: stem }
    }

    fn conf(&self, site: &str) -> String {
        self.dir.join(site).join("ceph.conf").display().to_string()
    }

    fn run(&self, site: &str, args: &[&str]) -> String {
        self.try_run(site, args).unwrap_or_else(|error| panic!("rbd {args:?} at {site}: {error}"))
    }

    fn try_run(&self, site: &str, args: &[&str]) -> Result<String, String> {
        let output = Command::new("rbd").args(["-c", &self.conf(site)]).args(args).output().unwrap();
        if output.status.success() {
            return Ok(String::from_utf8(output.stdout).unwrap());
        }
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn json(&self, site: &str, args: &[&str]) -> Value {
        serde_json::from_str(&self.run(site, &[args, &["--format", "json"]].concat())).unwrap()
    }

    fn data(&self, site: &str, image: &str, what: &str) -> Command {
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-c", DATA, &self.conf(site), image, what]);
        command
    }

    fn script(&self, args: &[&str]) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/lab/ceph-lab.sh");
        let status = Command::new("bash").arg(script).args(args).env("LAB", &self.dir).status().unwrap();
        assert!(status.success(), "ceph-lab.sh {args:?}: {status}");
    }

    /// This file is there from a trial's beginning until both sites are set right.
    fn disturbed(&self) -> PathBuf {
        self.dir.join("disturbed")
    }

    /// Both sites run, and both rbd-mirror are new.
    async fn set_right(&self) {
        self.script(&["thaw", "a"]);
        self.script(&["start", "a"]);
        // A killed one stays listed for a minute.
        let old = ["a", "b"].map(|site| (site, self.mirror_daemons(site)));
        for (site, _) in &old {
            self.script(&["kill-one", site, "rbd-mirror"]);
            self.script(&["start-one", site, "rbd-mirror"]);
        }
        for (site, old) in &old {
            let is_old = |daemon: &Value| old.iter().any(|old| old["service_id"] == daemon["service_id"]);
            // A daemon tells its number a moment after it is listed.
            let works = |daemon: &Value| !is_old(daemon) && daemon["instance_id"] != "" && daemon["health"] == "OK";
            let healthy = async || self.mirror_daemons(site).into_iter().find(works);
            until(&format!("a new rbd-mirror of {site} is healthy"), PATIENCE, healthy).await;
        }
        fs::remove_file(self.disturbed()).unwrap();
    }

    fn mirror_daemons(&self, site: &str) -> Vec<Value> {
        let status = self.json(site, &["mirror", "pool", "status", "rbd", "--verbose"]);
        status["daemons"].as_array().cloned().unwrap_or_default()
    }
}

/// One pair of images.
pub struct Trial<'a> {
    pub lab: &'a Lab,
    state: tempfile::TempDir,
    program: PathBuf,
    images: Vec<String>,
    points: Vec<ImagePoint>,
    notes: Arc<Mutex<BTreeMap<String, String>>>,
    run: String,
}

impl Trial<'_> {
    pub fn points(&self) -> &[ImagePoint] {
        &self.points
    }

    pub fn set_points(&mut self, points: Vec<ImagePoint>) {
        self.points = points;
    }

    /// Writes `letter` over the whole image at A, takes a mirror snapshot and waits until it is whole at B; its number.
    pub async fn generation(&self, image: usize, letter: char) -> u64 {
        let id = self.snapshot_of(image, letter);
        self.until_whole(image, id).await;
        id
    }

    /// Writes the generations `A`, `B` and so on, and freezes A in the middle of the copy of one of them, the third or a
    /// later one: a copy may be over before A stands still. The number of the newest whole generation, and the letter of
    /// the one before it.
    pub async fn freeze_in_a_sync(&self, image: usize) -> (u64, char) {
        self.generation(image, 'A').await;
        let mut newest = self.generation(image, 'B').await;
        for (before, letter) in ('A'..).zip('C'..='J') {
            let id = self.snapshot_of(image, letter);
            self.until_some_of(image, id).await;
            self.lab.site("freeze", "a");
            if self.is_unfinished(image, id) {
                self.lab.say(&format!("A frozen in the middle of the copy of {letter}: {}", self.snapshots(image)));
                return (newest, before);
            }
            self.lab.say(&format!("the copy of {letter} was over, or about to be, before A stood still"));
            self.lab.site("thaw", "a");
            self.until_whole(image, id).await;
            newest = id;
        }
        panic!("every copy was over before A stood still");
    }

    async fn until_whole(&self, image: usize, id: u64) {
        let whole = |last: &Value| last["primary_snap_id"] == id && last["complete"] == true;
        until("the generation is at B", PATIENCE, async || self.newest_at_b(image).filter(whole)).await;
    }

    async fn until_some_of(&self, image: usize, id: u64) {
        let some = |last: &Value| {
            last["primary_snap_id"] == id
                && (last["complete"] == true || last["last_copied_object_number"].as_u64() > Some(3))
        };
        until("some of the generation is at B", PATIENCE, async || self.newest_at_b(image).filter(some)).await;
    }

    /// Whether the copy of a generation can not end while A stands still.
    fn is_unfinished(&self, image: usize, id: u64) -> bool {
        self.newest_at_b(image).is_some_and(|last| {
            last["primary_snap_id"] == id
                && last["complete"] == false
                && last["last_copied_object_number"].as_u64().is_some_and(|copied| copied + 2 * AT_ONCE < LARGE)
        })
    }

    /// The newest mirror snapshot at B; none while the image is not there yet.
    fn newest_at_b(&self, image: usize) -> Option<Value> {
        let listed = self.lab.try_run("b", &["snap", "ls", "--all", &self.images[image], "--format", "json"]).ok()?;
        let snapshots: Value = serde_json::from_str(&listed).ok()?;
        Some(snapshots.as_array()?.last()?["namespace"].clone())
    }

    fn snapshot_of(&self, image: usize, letter: char) -> u64 {
        let image = &self.images[image];
        let written = self.lab.data("a", image, &letter.to_string()).status().unwrap();
        assert!(written.success());
        let said = self.lab.run("a", &["mirror", "image", "snapshot", image]);
        said.trim().rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// The letter of each object at B; `?` for one that is mixed.
    pub fn stamps(&self, image: usize) -> Vec<char> {
        let output = self.lab.data("b", &self.images[image], "read").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().chars().collect()
    }

    /// A client at B that has the image open.
    pub async fn workload(&self, image: usize) -> Child {
        // A copy can not be opened for writing, so that this one watches as a client that has it mapped does.
        let mut child = self.lab.data("b", &self.images[image], "hold").stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
        assert_eq!(line, "open\n");
        child
    }

    /// Role and whether it can be written to, at B.
    pub fn role(&self, image: usize) -> (bool, bool) {
        let info = self.lab.json("b", &["info", &self.images[image]]);
        let non_primary = info["features"].as_array().unwrap().iter().any(|feature| feature == "non-primary");
        (info["mirroring"]["primary"] == true, !non_primary)
    }

    /// The mirror snapshots at B, in short.
    pub fn snapshots(&self, image: usize) -> String {
        let short = |snapshot: &Value| {
            let of = &snapshot["namespace"];
            let orphan = of["state"] == "non-primary" && of["primary_mirror_uuid"] == "";
            let state = if orphan { "orphan" } else { of["state"].as_str().unwrap_or("user") };
            format!("{}:{state}:{}:{}", snapshot["id"], of["primary_snap_id"], of["complete"])
        };
        let snapshots = self.lab.json("b", &["snap", "ls", "--all", &self.images[image]]);
        snapshots.as_array().unwrap().iter().map(short).collect::<Vec<_>>().join(" ")
    }

    /// Takes back a promote that did not finish.
    pub fn demote_by_hand(&self, image: usize) {
        self.lab.run("b", &["mirror", "image", "demote", &self.images[image]]);
    }

    /// How long a promote by hand takes.
    pub async fn promote_by_hand(&self, image: usize) -> Duration {
        let began = Instant::now();
        self.lab.run("b", &["mirror", "image", "promote", "--force", &self.images[image]]);
        began.elapsed()
    }

    /// Runs a step that must come about.
    pub async fn step(&mut self, step: Step, attempt: u32) -> Finding {
        let began = Instant::now();
        let result = understudy_actions::run(self.context(step, attempt)).await;
        let StepResult::Done { detail, finding } = result else { panic!("{step}: {result:?}") };
        self.lab.say(&format!("{step}: {:.2?}: {detail}", began.elapsed()));
        finding
    }

    pub fn context(&self, step: Step, attempt: u32) -> Context {
        let words = |program: &str| format!("[{program}, -c, {}]", self.lab.conf("b"));
        let pair = format!(
            "{{ name: real, probes: [], site_down_when: {{ at_least: 1, of: [service] }}, rpo_max: 15m, route: [], verify: {{}}, \
               storage: {{ rbd: {{ images: [{}], rbd: {}, ceph: {}, timeout: 20s, schedule: 1m }} }} }}",
            self.images.join(", "),
            words("rbd"),
            words("ceph")
        );
        let order = StepOrder {
            attempt,
            resumed: attempt > 1,
            images: self.images.iter().map(|image| ImageName::from(image.as_str())).collect(),
            points: self.points.clone(),
            notes: self.notes.lock().unwrap().clone(),
            ..order(&self.run, step)
        };
        let pair: Pair = serde_saphyr::from_str(&pair).unwrap();
        let gate = Arc::new(Gate { step, notes: self.notes.clone() });
        Context {
            site: "b".into(),
            state: self.state.path().to_owned(),
            program: self.program.clone(),
            ..context(order, pair, gate)
        }
    }

    fn folder(&self, image: usize) -> PathBuf {
        let image = self.images[image].replace('/', "%2F");
        self.state.path().join("runs").join(&self.run).join(format!("promote-{image}-1"))
    }

    /// The process of the promote, once it runs.
    pub fn promote_process(&self, image: usize) -> Option<Process> {
        serde_json::from_slice(&fs::read(self.folder(image).join("running")).ok()?).ok()
    }

    pub fn kill_keeper_and_promote(&self, image: usize) {
        let started: Value = serde_json::from_slice(&fs::read(self.folder(image).join("started")).unwrap()).unwrap();
        let keeper = serde_json::from_value(started["by"].clone()).unwrap();
        // Either may have ended by itself meanwhile.
        for process in [keeper, self.promote_process(image).unwrap()].iter().filter(|process| process.lives()) {
            let pid = Pid::from_raw(process.pid.try_into().unwrap()).unwrap();
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    /// What the quiesce blocklisted is off the list.
    pub fn assert_mirror_is_back(&self) {
        let noted = self.notes.lock().unwrap()["quiesce/blocklisted"].clone();
        let noted: Vec<String> = serde_json::from_str(&noted).unwrap();
        let output = Command::new("ceph").args(["-c", &self.lab.conf("b"), "osd", "blocklist", "ls"]).output().unwrap();
        let listed = String::from_utf8(output.stdout).unwrap();
        assert!(!noted.is_empty() && noted.iter().all(|address| !listed.contains(address)), "{noted:?} in {listed}");
        for image in 0..self.images.len() {
            assert_eq!(self.role(image), (true, true));
        }
    }

    /// Sets both sites right and removes the images.
    pub async fn end(self) {
        self.lab.set_right().await;
        for image in &self.images {
            for site in ["a", "b"] {
                // Best effort: a copy that its primary lost goes away by itself.
                let _ = self.lab.try_run(site, &["mirror", "image", "disable", "--force", image]);
                let _ = self.lab.try_run(site, &["snap", "purge", "--no-progress", image]);
                let _ = self.lab.try_run(site, &["rm", "--no-progress", image]);
            }
        }
    }
}

/// A gate that is always open and remembers what was noted.
struct Gate {
    step: Step,
    notes: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Gatekeeper for Gate {
    fn permit(&self) -> Later<'_, Result<Permit, StepError>> {
        Box::pin(async { Ok(Permit::until(tokio::time::Instant::now() + Duration::from_secs(20))) })
    }

    fn note<'a>(&'a self, key: &'a str, value: String) -> Later<'a, Result<(), StepError>> {
        self.notes.lock().unwrap().insert(format!("{}/{key}", self.step), value);
        Box::pin(async { Ok(()) })
    }

    fn progress(&self, _text: String) {}
}
