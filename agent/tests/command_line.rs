//! The binary itself: its exit codes, its daemon, its socket, its signals.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

const DONE: i32 = 0;
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const REFUSED: i32 = 3;
const UNREACHABLE: i32 = 4;
const NOT_WELL: i32 = 5;

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn words_that_mean_nothing_are_a_usage_error() {
    for words in
        [&["dance"][..], &[], &["approve"], &["skip", "nexus-1", "dance", "--reason", "x"], &["pause", "--for", "5"]]
    {
        assert_eq!(code(&understudy(words)), USAGE, "{words:?}");
    }
}

#[test]
fn help_and_version_are_no_errors_and_every_command_teaches_by_an_example() {
    assert_eq!(code(&understudy(&["--version"])), DONE);
    let help = text(&understudy(&["--help"]));
    assert!(help.contains("Exit codes:"), "{help}");

    let commands = [
        "run",
        "witness",
        "check",
        "status",
        "why",
        "approve",
        "deny",
        "failover",
        "retry",
        "skip",
        "abandon",
        "unblock",
        "pause",
        "resume",
        "history",
        "report",
        "test",
        "replay",
        "schema",
        "completions",
    ];
    for command in commands {
        let output = understudy(&[command, "--help"]);
        assert_eq!(code(&output), DONE, "{command}");
        assert!(text(&output).contains("Example"), "{command}: {}", text(&output));
        assert!(help.contains(command), "{command} is not in {help}");
    }
    for command in ["verify", "show"] {
        assert!(text(&understudy(&["journal", command, "--help"])).contains("Example"), "{command}");
    }
}

#[test]
fn a_wrong_configuration_is_told_with_its_line_and_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.yaml");
    fs::write(&file, "site: b\nmode: confirm\nholddown: 5\n").unwrap();

    let output = understudy(&["check", path(&file)]);
    assert_eq!(code(&output), USAGE);
    assert!(errors(&output).contains(&format!("{}:3", file.display())), "{}", errors(&output));

    let missing = understudy(&["run", "--config", "/nowhere/understudy.yaml"]);
    assert_eq!(code(&missing), USAGE);
    assert!(errors(&missing).contains("/nowhere/understudy.yaml"), "{}", errors(&missing));
}

#[test]
fn a_good_configuration_passes_the_check_as_text_and_as_json() {
    let place = Place::new("");

    let output = understudy(&["check", path(&place.config)]);
    assert_eq!(code(&output), DONE, "{}", text(&output));
    assert!(text(&output).contains(": 0 errors,"), "{}", text(&output));

    let output = understudy(&["check", "--json", "--config", path(&place.config)]);
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(findings.as_array().unwrap().iter().all(|finding| finding["severity"] == "warning"), "{findings}");
}

#[test]
fn the_schema_is_json_and_completions_are_made() {
    let schema: serde_json::Value = serde_json::from_slice(&understudy(&["schema"]).stdout).unwrap();

    assert!(schema["properties"]["pairs"].is_object(), "{schema}");
    assert!(text(&understudy(&["completions", "bash"])).contains("understudy"));
}

#[test]
fn without_a_daemon_the_exit_code_is_4_and_the_remedy_is_told() {
    let place = Place::new("");

    for words in [&["status"][..], &["why", "nexus"], &["approve", "nexus-1"], &["resume"]] {
        let output = place.understudy(words);
        assert_eq!(code(&output), UNREACHABLE, "{words:?}: {}", errors(&output));
        assert!(errors(&output).contains("is it running"), "{}", errors(&output));
    }
}

#[test]
fn a_daemon_tells_systemd_answers_and_ends_in_order() {
    let place = Place::new("");
    let mut daemon = place.start();

    let status = place.json(&["status", "--json"]);
    assert_eq!((&status["site"], &status["view"]["pairs"][0]["name"]), (&"standby-b".into(), &"nexus".into()));
    assert!(text(&place.understudy(&["status"])).contains("nexus"));
    assert!(text(&place.understudy(&["why", "nexus"])).contains("CLOSED"));
    assert_eq!(place.understudy(&["why", "other"]).status.code(), Some(USAGE));

    daemon.terminate();
    assert_eq!(daemon.ended(), DONE);
    daemon.heard_until("STOPPING=1");
    let shown = text(&place.understudy(&["journal", "show"]));
    assert!(shown.contains("understudy 0.1.0 runs"), "{shown}");
    let verified = place.understudy(&["journal", "verify"]);
    assert_eq!(code(&verified), DONE, "{}", text(&verified));
    assert!(text(&verified).starts_with("sound: "), "{}", text(&verified));

    let replayed = place.understudy(&["replay"]);
    assert_eq!(code(&replayed), DONE, "{}{}", text(&replayed), errors(&replayed));
    assert!(text(&replayed).ends_with("no difference\n"), "{}", text(&replayed));
}

#[test]
fn a_scenario_tells_by_its_exit_code_whether_all_is_as_expected() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("site-lost.yaml");
    let scenario = |verdict: &str| {
        let text = format!(
            "timeline:\n  - {{ at: 0s, see: {{ a: down }} }}\n  - {{ at: 2m, expect: {{ verdict: {verdict} }} }}\n"
        );
        fs::write(&file, text).unwrap();
        understudy(&["test", path(dir.path())])
    };

    let good = scenario("SiteDown");
    assert_eq!(code(&good), DONE, "{}", text(&good));
    let bad = scenario("Up");
    assert_eq!(code(&bad), FAILED);
    assert!(text(&bad).contains("expected  verdict Up") && text(&bad).contains('^'), "{}", text(&bad));
    let wrong = scenario("Upp");
    assert_eq!(code(&wrong), USAGE);
    assert!(errors(&wrong).contains("site-lost.yaml:3"), "{}", errors(&wrong));
    assert_eq!(code(&understudy(&["replay", path(dir.path())])), USAGE);
}

#[test]
fn a_watchdog_is_told_that_the_loop_turns() {
    let place = Place::new("");

    let daemon = place.start_with(|command| {
        command.env("WATCHDOG_USEC", "200000");
    });

    daemon.heard_until("WATCHDOG=1");
}

#[test]
fn orders_are_answered_refused_and_outlive_a_kill() {
    let place = Place::new("");
    let mut daemon = place.start();

    let paused = place.understudy(&["pause", "nexus", "--reason", "maintenance"]);
    assert_eq!(code(&paused), DONE, "{}", errors(&paused));
    let refused = place.understudy(&["approve", "nexus-7"]);
    assert_eq!(code(&refused), REFUSED);
    assert!(errors(&refused).contains("nothing is asked now"), "{}", errors(&refused));
    assert_eq!(code(&place.understudy(&["failover", "nexus", "--reason", "x"])), REFUSED);
    assert_eq!(code(&place.understudy(&["retry", "nonsense"])), USAGE);
    daemon.kill();

    let _daemon = place.start();
    let uid = rustix::process::getuid().as_raw();
    let pause = place.json(&["why", "nexus", "--json"])["pause"].clone();
    assert_eq!((&pause["by"], &pause["reason"]), (&format!("uid {uid}").into(), &"maintenance".into()));
    assert_eq!(code(&place.understudy(&["resume"])), DONE);
    assert_eq!(code(&place.understudy(&["resume"])), REFUSED);
    let journal = text(&place.understudy(&["journal", "show", "--json", "--pair", "nexus"]));
    assert!(journal.contains("\"order\":\"approve nexus-7\""), "{journal}");
}

#[test]
fn status_tells_by_its_exit_code_whether_somebody_must_look() {
    let place = Place::new("");
    let _daemon = place.start();

    // Nobody answers where the probe looks.
    assert_eq!(code(&place.understudy(&["status", "--exit-code"])), NOT_WELL);
    assert_eq!(code(&place.understudy(&["status"])), DONE);
}

#[test]
fn a_second_daemon_on_the_same_directory_is_refused_and_the_first_goes_on() {
    let place = Place::new("");
    let daemon = place.start();

    let second = place.understudy(&["run"]);

    assert_eq!(code(&second), FAILED);
    let expected = format!("is in use by process {} on ", daemon.child.id());
    assert!(errors(&second).contains(&expected), "{}", errors(&second));
    assert_eq!(code(&place.understudy(&["status"])), DONE);
}

#[test]
fn a_port_in_use_keeps_the_daemon_from_starting_and_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let place = Place::new(&format!("listen: {{ address: \"{address}\" }}"));

    let output = place.understudy(&["run"]);

    assert_eq!(code(&output), FAILED);
    let expected = format!(
        "understudy: failed to listen on {address}: another program has it; stop that one, or change listen.address"
    );
    assert!(errors(&output).lines().any(|line| line.starts_with(&expected)), "{}", errors(&output));
    // It had not begun: nothing is left of it but an empty past.
    let shown = text(&place.understudy(&["journal", "show"]));
    assert!(!shown.contains("runs"), "{shown}");
}

#[test]
fn a_journal_from_a_newer_version_is_neither_read_nor_changed() {
    let place = Place::new("");
    let mut daemon = place.start();
    daemon.terminate();
    daemon.ended();
    let segment = place.state().join("journal-000001.jsonl");
    let mut newer = fs::read_to_string(&segment).unwrap();
    newer.push_str("{\"v\":2,\"anything\":\"else\"}\n");
    fs::write(&segment, &newer).unwrap();

    for words in [&["run"][..], &["journal", "verify"], &["journal", "show"]] {
        let output = place.understudy(words);
        assert_eq!(code(&output), FAILED, "{words:?}");
        let expected = format!(
            "journal at {}:{} was written by another version of understudy (line version 2, this one knows 1): run that \
             version, or a newer one",
            segment.display(),
            newer.lines().count()
        );
        assert!(errors(&output).contains(&expected), "{words:?}: {}", errors(&output));
    }
    assert_eq!(fs::read_to_string(&segment).unwrap(), newer);
}

#[test]
fn a_damaged_journal_keeps_the_daemon_from_starting_and_is_told_by_verify() {
    let place = Place::new("");
    let mut daemon = place.start();
    daemon.terminate();
    daemon.ended();
    let segment = place.state().join("journal-000001.jsonl");
    let damaged = fs::read_to_string(&segment).unwrap().replacen("started", "STARTED", 1);
    fs::write(&segment, damaged).unwrap();

    for words in [&["run"][..], &["journal", "verify"]] {
        let output = place.understudy(words);
        assert_eq!(code(&output), FAILED, "{words:?}");
        assert!(errors(&output).contains("journal is damaged at"), "{}", errors(&output));
        assert!(errors(&output).contains("journal-000001.jsonl:1"), "{}", errors(&output));
    }
    let json = place.json_of(&["journal", "verify", "--json"], FAILED);
    assert_eq!(json["sound"], false, "{json}");
}

#[test]
fn a_directory_without_a_journal_is_not_called_sound() {
    let dir = tempfile::tempdir().unwrap();

    let output = understudy(&["journal", "verify", path(dir.path())]);

    assert_eq!(code(&output), USAGE);
    assert!(errors(&output).contains("there is no journal in"), "{}", errors(&output));
}

#[test]
fn a_reload_takes_a_good_file_whole_and_a_bad_one_not_at_all() {
    let place = Place::new("");
    let daemon = place.start();
    let good = fs::read_to_string(&place.config).unwrap();

    fs::write(&place.config, good.replace("mode: observe", "mode: confirm")).unwrap();
    daemon.signal(rustix::process::Signal::HUP);
    place.until(|| place.json(&["status", "--json"])["view"]["pairs"][0]["mode"] == "confirm");

    fs::write(&place.config, good.replace("mode: observe", "mode: autopilot")).unwrap();
    daemon.signal(rustix::process::Signal::HUP);
    place.until(|| place.log().contains("the old one stays"));
    let status: serde_json::Value = place.at_socket(&["status", "--json"]);
    assert_eq!(status["view"]["pairs"][0]["mode"], "confirm");
}

#[test]
fn a_witness_signs_what_it_sees_and_never_becomes_a_daemon() {
    let listen = "listen: { address: \"127.0.0.1:0\", witness: { kind: third_site, secret: env:WITNESS } }\ntelemetry: { log_format: json }";
    let place = Place::new(listen);
    let text = fs::read_to_string(&place.config).unwrap().replace("mode: observe", "mode: confirm");
    fs::write(&place.config, text).unwrap();
    let daemon = place.start_as("witness", |command| {
        command.env("WITNESS", "shared");
    });
    let address = place.logged_address();

    let answer = get(&address, "/v1/witness/nexus?nonce=0123456789");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("x-understudy-signature: v1,"), "{answer}");
    assert!(answer.contains("\"nonce\":\"0123456789\""), "{answer}");
    assert!(get(&address, "/v1/status").starts_with("HTTP/1.1 404"));
    assert!(get(&address, "/ready").starts_with("HTTP/1.1 204"));
    let mode = || place.json(&["status", "--json"])["view"]["pairs"][0]["mode"].clone();
    assert_eq!(mode(), "observe");

    daemon.signal(rustix::process::Signal::HUP);
    place.until(|| place.log().contains("a witness does not reload"));
    assert_eq!(mode(), "observe");
}

#[test]
fn a_witness_without_a_secret_does_not_start() {
    let place = Place::new("");

    let output = place.understudy(&["witness"]);

    assert_eq!(code(&output), USAGE);
    assert!(errors(&output).contains("set listen.address and listen.witness"), "{}", errors(&output));
}

#[test]
fn a_socket_that_answers_nonsense_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let answering = std::thread::spawn(move || {
        let (mut stream, _): (UnixStream, _) = listener.accept().unwrap();
        let mut head = [0; 1024];
        let _asked = stream.read(&mut head).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]").unwrap();
    });

    let output = understudy(&["status", "--socket", path(&socket)]);

    answering.join().unwrap();
    assert_eq!(code(&output), FAILED);
    assert!(errors(&output).contains("is it of another version?"), "{}", errors(&output));
}

#[test]
fn a_reader_who_has_seen_enough_is_no_error() {
    let place = Place::new("");
    let mut daemon = place.start();
    daemon.terminate();
    daemon.ended();

    let mut shown =
        place.command(&["journal", "show", "--json"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(shown.stdout.take());
    let output = shown.wait_with_output().unwrap();

    assert_eq!((code(&output), errors(&output).as_str()), (DONE, ""));
}

/// A place for a daemon: settings, state, log, and the socket by which systemd would be told.
struct Place {
    dir: TempDir,
    config: PathBuf,
    /// Keeps the address of the self-check open.
    _neutral: TcpListener,
}

impl Place {
    fn new(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let neutral = TcpListener::bind("127.0.0.2:0").unwrap();
        let config = dir.path().join("understudy.yaml");
        let text = format!(
            "site: standby-b
mode: observe
state: {{ file: \"{state}\" }}
self_checks:
  - {{ name: neutral, tcp: {{ address: \"{neutral}\" }}, period: 500ms, timeout: 400ms }}
pairs:
  - name: nexus
    probes:
      - {{ name: web, domain: service, http: {{ url: \"http://127.0.0.3:9/\" }}, period: 500ms, timeout: 400ms }}
    site_down_when: {{ at_least: 1, of: [service] }}
    hold_down: 30s
    rpo_max: 15m
    storage:
      hooks:
        status: {{ command: {{ command: [/bin/true] }} }}
        promote: {{ command: {{ command: [/bin/true] }} }}
    verify: {{ http: {{ url: \"http://127.0.0.4:9/\" }} }}
    route: []
{more}
",
            state = dir.path().join("state").display(),
            neutral = neutral.local_addr().unwrap(),
        );
        fs::write(&config, text).unwrap();
        Self { dir, config, _neutral: neutral }
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_understudy"));
        command.args(words).arg("--config").arg(&self.config).stdin(Stdio::null());
        command
    }

    fn understudy(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    fn json(&self, words: &[&str]) -> serde_json::Value {
        self.json_of(words, DONE)
    }

    fn json_of(&self, words: &[&str], expected: i32) -> serde_json::Value {
        let output = self.understudy(words);
        assert_eq!(code(&output), expected, "{}", errors(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// As a human does whose configuration can not be read at the moment.
    fn at_socket(&self, words: &[&str]) -> serde_json::Value {
        let socket = self.state().join("understudy.sock");
        let output = understudy(&[words, &["--socket", path(&socket)]].concat());
        assert_eq!(code(&output), DONE, "{}", errors(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn logged_address(&self) -> String {
        let log = self.log();
        let line = log.lines().find(|line| line.contains("the API listens")).expect("it is logged before it is ready");
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["address"].as_str().unwrap().to_owned()
    }

    /// Looks until it is so; each look takes a while by itself.
    fn until(&self, so: impl Fn() -> bool) {
        let began = std::time::Instant::now();
        while !so() {
            assert!(began.elapsed() < PATIENCE, "waited in vain: {}", self.log());
            std::thread::yield_now();
        }
    }

    fn start(&self) -> Daemon {
        self.start_with(|_| ())
    }

    fn start_with(&self, change: impl FnOnce(&mut Command)) -> Daemon {
        self.start_as("run", change)
    }

    /// Starts the daemon and waits until it tells systemd that it is ready.
    fn start_as(&self, word: &str, change: impl FnOnce(&mut Command)) -> Daemon {
        let socket = self.dir.path().join("notify");
        let _absent = fs::remove_file(&socket);
        let notify = UnixDatagram::bind(&socket).unwrap();
        notify.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut command = self.command(&[word]);
        let log = fs::OpenOptions::new().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        command.env("NOTIFY_SOCKET", &socket).stdout(Stdio::null()).stderr(log);
        change(&mut command);
        let daemon = Daemon { child: command.spawn().unwrap(), notify, log: self.dir.path().join("log") };
        daemon.heard_until("READY=1");
        daemon
    }
}

struct Daemon {
    child: Child,
    notify: UnixDatagram,
    log: PathBuf,
}

impl Daemon {
    fn heard_until(&self, wanted: &str) {
        let mut message = [0; 256];
        loop {
            let Ok(len) = self.notify.recv(&mut message) else {
                panic!("{wanted} was not told: {}", fs::read_to_string(&self.log).unwrap_or_default());
            };
            if std::str::from_utf8(&message[..len]).unwrap().contains(wanted) {
                return;
            }
        }
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    fn terminate(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn ended(&mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

fn understudy(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_understudy")).args(words).stdin(Stdio::null()).output().unwrap()
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it was not killed")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
