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
use understudy_actions::{Context, Gatekeeper, Later, Permit, StepError};
use understudy_core::{Finding, ImageName, ImagePoint, RunId, Step, StepOrder, StepResult};

/// Through this variable a wrapper hands its arguments to the keeper process.
pub const KEEPER_ARGS: &str = "UNDERSTUDY_TEST_KEEPER_ARGS";

const OBJECT: u64 = 4 * 1024 * 1024;

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
    /// Waits until nobody else uses it, and sets both sites right.
    pub fn free(test: &str) -> Self {
        let dir = std::env::var_os("UNDERSTUDY_REAL_CEPH").map(PathBuf::from);
        let dir = dir.expect("UNDERSTUDY_REAL_CEPH is not set: use tests/run real");
        let alone = fs::File::create(dir.join("in-use")).unwrap();
        flock(&alone, FlockOperation::LockExclusive).unwrap();
        let lab = Self { dir, began: Instant::now(), _alone: alone };
        lab.say(test);
        lab.set_right();
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

    /// Both sites run, and both rbd-mirror are new.
    fn set_right(&self) {
        self.script(&["thaw", "a"]);
        self.script(&["start", "a"]);
        for site in ["a", "b"] {
            self.script(&["kill-one", site, "rbd-mirror"]);
            self.script(&["start-one", site, "rbd-mirror"]);
        }
        for site in ["a", "b"] {
            let healthy = || {
                let status = self.json(site, &["mirror", "pool", "status", "rbd", "--verbose"]);
                // A daemon tells its number a moment after it is listed; a killed one is listed without for a minute.
                let told = |daemon: &Value| daemon["instance_id"] != "";
                status["summary"]["daemon_health"] == "OK"
                    && status["daemons"].as_array().is_some_and(|daemons| daemons.iter().any(told))
            };
            wait(&format!("rbd-mirror of {site} is healthy"), healthy);
        }
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
    pub async fn generation(&mut self, image: usize, letter: char) -> u64 {
        let id = self.snapshot_of(image, letter);
        wait("the generation is at B", || {
            self.newest_at_b(image).is_some_and(|last| last["primary_snap_id"] == id && last["complete"] == true)
        });
        id
    }

    /// The same, but freezes A when some of it is at B.
    pub async fn freeze_in_a_sync_of(&mut self, image: usize, letter: char) {
        self.snapshot_of(image, letter);
        wait("a sync is under way", || {
            self.newest_at_b(image)
                .is_some_and(|last| last["complete"] == false && last["last_copied_object_number"].as_u64() > Some(3))
        });
        self.lab.site("freeze", "a");
        self.lab.say(&format!("A frozen in the middle of a sync: {}", self.snapshots(image)));
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
        let run = RunId(self.run.clone());
        let order = StepOrder {
            key: format!("{run}/{step}"),
            run,
            step,
            attempt,
            epoch: 1,
            resumed: attempt > 1,
            images: self.images.iter().map(|image| ImageName::from(image.as_str())).collect(),
            points: self.points.clone(),
            nonce: None,
            notes: self.notes.lock().unwrap().clone(),
            bound: None,
            start_before_ms: None,
        };
        Context {
            order: Arc::new(order),
            pair: Arc::new(serde_saphyr::from_str(&pair).unwrap()),
            site: "b".into(),
            primary: None,
            standby: None,
            state: self.state.path().to_owned(),
            program: self.program.clone(),
            gate: Arc::new(Gate { step, notes: self.notes.clone() }),
        }
    }

    fn folder(&self, image: usize) -> PathBuf {
        let image = self.images[image].replace('/', "%2F");
        self.state.path().join("runs").join(&self.run).join(format!("promote-{image}-1"))
    }

    /// The process of the running promote.
    pub fn promote_process(&self, image: usize) -> Option<u64> {
        let running: Value = serde_json::from_slice(&fs::read(self.folder(image).join("running")).ok()?).ok()?;
        running["pid"].as_u64()
    }

    pub fn kill_keeper_and_promote(&self, image: usize) {
        let started: Value = serde_json::from_slice(&fs::read(self.folder(image).join("started")).unwrap()).unwrap();
        for pid in [started["by"]["pid"].as_u64(), self.promote_process(image)] {
            let pid = Pid::from_raw(pid.unwrap().try_into().unwrap()).unwrap();
            // The promote may have ended by itself meanwhile.
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
        self.lab.set_right();
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

/// Waits for something that other processes bring about.
pub async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !done() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(50));
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
