//! The name server steps against a real BIND, a secondary of it that lags, and a real unbound with its cache.
//!
//! Each test has servers of its own, on free ports, in a directory of its own.
//! `tests/run steps` installs what they need.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use understudy_actions::{Gatekeeper, Later, Permit, StepError, run};
use understudy_config::Pair;
use understudy_core::{Failure, Step, StepResult};

mod support;

use support::{context, order, until};

const A: &str = "10.1.0.20";
const B: &str = "10.2.0.20";
const OTHER: &str = "10.3.0.20";
/// The old answer's time to live.
const TTL: Duration = Duration::from_secs(4);
const KEY: &str = "dGhlIHNoYXJlZCBrZXkgb2YgdGhlIHRlc3Qgem9uZSAxMjM=";
const WRONG_KEY: &str = "YW5vdGhlciBrZXkgb2YgdGhlIHZlcnkgc2FtZSBsZW5ndGg=";
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
#[ignore = "needs a real BIND"]
async fn a_real_server_switches_with_the_right_key_and_a_second_time_changes_nothing() {
    let bind = Server::primary().await;

    let first = route(&bind, KEY, "", Open::default()).await;
    let second = route(&bind, KEY, "", Open::default()).await;

    let expected = "nexus.example.net. led to 10.1.0.20 (ttl 4 s) and leads to 10.2.0.20 (ttl 60 s) now";
    assert_eq!(detail(first), expected);
    assert_eq!(detail(second), "nexus.example.net. leads to 10.2.0.20 already");
    assert_eq!(bind.addresses(), [B]);
}

#[tokio::test]
#[ignore = "needs a real BIND"]
async fn a_real_server_refuses_a_wrong_and_an_unknown_key_and_the_step_names_each() {
    let bind = Server::primary().await;

    let wrong = failed(route(&bind, WRONG_KEY, "", Open::default()).await);
    let unknown = failed(route(&bind, KEY, "key_name: stranger,", Open::default()).await);

    assert_eq!(wrong.0, Failure::Permanent);
    assert!(wrong.1.contains("the signature is wrong"), "{}", wrong.1);
    assert_eq!(unknown.0, Failure::Permanent);
    assert!(unknown.1.contains("does not know the TSIG key stranger"), "{}", unknown.1);
    assert_eq!(bind.addresses(), [A]);
}

#[tokio::test]
#[ignore = "needs a real BIND"]
async fn a_name_that_a_key_may_not_update_stays_as_it_is() {
    let bind = Server::primary().await;

    let (failure, message) = failed(route(&bind, KEY, "name: fixed,", Open::default()).await);

    assert_eq!(failure, Failure::Permanent);
    assert!(message.contains("is the key allowed to update this name"), "{message}");
}

#[tokio::test]
#[ignore = "needs a real BIND"]
async fn a_second_writer_between_read_and_write_wins_at_a_real_server() {
    let bind = Arc::new(Server::primary().await);
    let overtaken = Open { before_the_write: Some(bind.clone()) };

    let (failure, message) = failed(route(&bind, KEY, "", overtaken).await);
    let again = failed(route(&bind, KEY, "", Open::default()).await);

    assert_eq!(failure, Failure::Transient);
    assert!(message.contains("was changed since it was read"), "{message}");
    assert!(again.1.contains("which is neither A (10.1.0.20) nor B"), "{}", again.1);
    assert_eq!(bind.addresses(), [OTHER]);
}

#[tokio::test]
#[ignore = "needs a real BIND"]
async fn a_real_secondary_takes_no_update_and_is_told_from_the_primary() {
    let bind = Server::primary().await;
    let secondary = Server::secondary(&bind).await;

    let (_, message) = failed(route(&secondary, KEY, "", Open::default()).await);

    assert!(message.contains("is the server the zone's primary?"), "{message}");
    assert_eq!(bind.addresses(), [A]);
}

#[tokio::test]
#[ignore = "needs a real BIND"]
async fn a_secondary_that_lags_keeps_the_route_unproven_and_is_named() {
    let bind = Server::primary().await;
    let secondary = Server::secondary(&bind).await;
    detail(route(&bind, KEY, "", Open::default()).await);
    let both = format!("authoritative: ['{}', '{}'], within: 2s", bind.address, secondary.address);

    let (_, lagging) = failed(check(&both).await);
    secondary.transfer().await;
    let proven = detail(check(&both).await);

    let named = format!("authoritative server {} answers with 10.1.0.20", secondary.address);
    assert!(lagging.contains(&named), "{lagging}");
    assert!(proven.contains("answered with B"), "{proven}");
}

#[tokio::test]
#[ignore = "needs a real BIND and a real unbound"]
async fn a_real_cache_is_followed_until_its_time_to_live_is_over() {
    let bind = Server::primary().await;
    let cache = Server::cache(&bind).await;
    assert_eq!(cache.addresses(), [A], "the cache is filled before the switch");
    let filled = Instant::now();
    detail(route(&bind, KEY, "", Open::default()).await);
    assert_eq!(cache.addresses(), [A], "a cache goes on answering with A");

    let said = detail(
        check(&format!("authoritative: ['{}'], resolvers: ['{}'], within: 20s", bind.address, cache.address)).await,
    );

    assert!(said.contains(&format!("resolver {} answers with B", cache.address)), "{said}");
    let after = filled.elapsed();
    println!("measured: a cache of {TTL:?} forgot the old address {after:.1?} after it had learnt it");
    assert!(after >= TTL - Duration::from_secs(1), "{after:?}");
}

/// A name server in a directory and a process of its own.
struct Server {
    address: SocketAddr,
    directory: tempfile::TempDir,
    child: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{} said: {}", self.address, std::fs::read_to_string(self.log()).unwrap_or_default());
        }
    }
}

impl Server {
    /// The zone's primary.
    async fn primary() -> Self {
        let zone = format!(
            "$TTL {ttl}\n@ SOA ns hostmaster 1 3600 3600 86400 {ttl}\n@ NS ns\nns A 127.0.0.1\nnexus A {A}\nfixed A {A}\n",
            ttl = TTL.as_secs()
        );
        Self::named(
            "type primary; file \"example.net.db\"; update-policy { grant understudy name nexus.example.net. A AAAA; \
             grant other name nexus.example.net. A; }; allow-transfer { any; }; notify no;",
            Some(&zone),
        )
        .await
    }

    /// A secondary that nobody tells of changes: it lags until [`Self::transfer`].
    async fn secondary(primary: &Self) -> Self {
        let SocketAddr::V4(address) = primary.address else { unreachable!("every server here has an IPv4 address") };
        let zone = format!(
            "type secondary; file \"example.net.db\"; primaries port {} {{ {}; }}; notify no;",
            address.port(),
            address.ip()
        );
        Self::named(&zone, None).await
    }

    async fn named(zone: &str, content: Option<&str>) -> Self {
        let (directory, address) = (directory(), free_address());
        let path = directory.path().display().to_string();
        if let Some(content) = content {
            std::fs::write(directory.path().join("example.net.db"), content).unwrap();
        }
        let keys = [("understudy", KEY), ("other", WRONG_KEY)]
            .map(|(name, key)| format!("key {name} {{ algorithm hmac-sha256; secret \"{key}\"; }};\n"));
        let control = free_address();
        let settings = format!(
            "options {{ directory \"{path}\"; listen-on port {port} {{ {ip}; }}; listen-on-v6 {{ none; }}; recursion no; \
               pid-file \"named.pid\"; session-keyfile \"session.key\"; managed-keys-directory \"{path}\"; \
               dnssec-validation no; }};\n{keys}\
             controls {{ inet {control_ip} port {control_port} allow {{ any; }} keys {{ understudy; }}; }};\n\
             zone \"example.net\" {{ {zone} }};\n",
            ip = address.ip(),
            port = address.port(),
            keys = keys.concat(),
            control_ip = control.ip(),
            control_port = control.port(),
        );
        let file = directory.path().join("named.conf");
        std::fs::write(&file, settings).unwrap();
        let rndc = format!(
            "key understudy {{ algorithm hmac-sha256; secret \"{KEY}\"; }};\n\
             options {{ default-key understudy; default-server {}; default-port {}; }};\n",
            control.ip(),
            control.port()
        );
        std::fs::write(directory.path().join("rndc.conf"), rndc).unwrap();
        Self::start("named", &["-g", "-c", &file.display().to_string()], directory, address).await
    }

    /// A caching resolver that asks `of` about the zone.
    async fn cache(of: &Self) -> Self {
        let (directory, address) = (directory(), free_address());
        let settings = format!(
            "server:\n  interface: {}@{}\n  username: \"\"\n  chroot: \"\"\n  directory: \"{}\"\n  pidfile: \"\"\n  \
             use-syslog: no\n  do-daemonize: no\n  do-not-query-localhost: no\n  access-control: 127.0.0.0/8 allow\n  \
             module-config: \"iterator\"\nremote-control:\n  control-enable: no\n\
             stub-zone:\n  name: \"example.net\"\n  stub-addr: {}@{}\n",
            address.ip(),
            address.port(),
            directory.path().display(),
            of.address.ip(),
            of.address.port()
        );
        let file = directory.path().join("unbound.conf");
        std::fs::write(&file, settings).unwrap();
        Self::start("unbound", &["-d", "-p", "-c", &file.display().to_string()], directory, address).await
    }

    /// Starts the program and waits until it answers for the zone.
    async fn start(program: &str, args: &[&str], directory: tempfile::TempDir, address: SocketAddr) -> Self {
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("{program} does not start: {error}"));
        let server = Self { address, directory, child };
        // A name that no test asks for: the cache must not learn the one under test from this.
        let answers = async || (!server.ask("ns.example.net").is_empty()).then_some(());
        until(&format!("{program} answers"), PATIENCE, answers).await;
        server
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// The addresses that it answers for the name under test.
    fn addresses(&self) -> Vec<String> {
        self.ask("nexus.example.net")
    }

    fn ask(&self, name: &str) -> Vec<String> {
        let (server, port) = (format!("@{}", self.address.ip()), self.address.port().to_string());
        let answer =
            Command::new("dig").args([&server, "-p", &port, "+short", "+tries=1", "+time=1", name, "A"]).output();
        let text = String::from_utf8(answer.expect("dig is there").stdout).unwrap();
        text.lines().filter(|line| line.parse::<IpAddr>().is_ok()).map(str::to_owned).collect()
    }

    /// Somebody else's update, with a key of his own.
    fn overtake(&self) {
        let script = format!(
            "server {} {}\nzone example.net\nupdate delete nexus.example.net A\nupdate add nexus.example.net 60 A {OTHER}\nsend\n",
            self.address.ip(),
            self.address.port()
        );
        let file = self.directory.path().join("overtake");
        std::fs::write(&file, script).unwrap();
        let key = format!("hmac-sha256:other:{WRONG_KEY}");
        let done = Command::new("nsupdate").args(["-y", &key]).arg(&file).output().expect("nsupdate is there");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// Has a secondary fetch the zone, and waits until it answers with it.
    async fn transfer(&self) {
        let settings = self.directory.path().join("rndc.conf");
        let told = Command::new("rndc").arg("-c").arg(settings).args(["retransfer", "example.net"]).output().unwrap();
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
        until("the secondary has fetched the zone", PATIENCE, async || (self.addresses() == [B]).then_some(())).await;
    }
}

/// Readable by all: named and unbound may give up their rights.
fn directory() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("understudy-dns-").tempdir().unwrap()
}

/// A port that is free at this moment. BIND listens only on addresses that an interface has by name, which is this one.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

/// A gate that opens always; somebody else may write right before.
#[derive(Default)]
struct Open {
    before_the_write: Option<Arc<Server>>,
}

impl Gatekeeper for Open {
    fn permit(&self) -> Later<'_, Result<Permit, StepError>> {
        if let Some(server) = &self.before_the_write {
            server.overtake();
        }
        Box::pin(async { Ok(Permit::until(tokio::time::Instant::now() + Duration::from_secs(30))) })
    }

    fn note<'a>(&'a self, _: &'a str, _: String) -> Later<'a, Result<(), StepError>> {
        Box::pin(async { Ok(()) })
    }

    fn progress(&self, text: String) {
        println!("  … {text}");
    }
}

async fn route(server: &Server, key: &str, more: &str, gate: Open) -> StepResult {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), key).unwrap();
    let name = if more.contains("name: fixed") { "" } else { "name: nexus," };
    let key_name = if more.contains("key_name") { "" } else { "key_name: understudy," };
    let target = format!(
        "route: [{{ dns_update: {{ server: '{}', zone: example.net, {name} {key_name} {more} from: [{A}], to: [{B}], \
         ttl: 60s, timeout: 3s, tsig: 'file:{}' }} }}]",
        server.address,
        secret.path().display()
    );
    step(Step::Route(0), &target, gate).await
}

async fn check(settings: &str) -> StepResult {
    let check = format!(
        "route: [], route_check: {{ name: nexus.example.net, expect: [{B}], nonce_through_public: false, {settings} }}"
    );
    step(Step::RouteCheck, &check, Open::default()).await
}

async fn step(step: Step, settings: &str, gate: Open) -> StepResult {
    let text = format!(
        "{{ name: nexus, probes: [], site_down_when: {{ at_least: 1, of: [service] }}, rpo_max: 15m, verify: {{}}, \
           storage: {{ hooks: {{ status: {{ command: {{ command: ['true'] }} }}, \
             promote: {{ command: {{ command: ['true'] }} }} }} }}, {settings} }}"
    );
    let pair: Pair = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    run(context(order("nexus-1", step), pair, Arc::new(gate))).await
}

fn detail(result: StepResult) -> String {
    match result {
        StepResult::Done { detail, .. } => detail,
        failed => panic!("{failed:?}"),
    }
}

fn failed(result: StepResult) -> (Failure, String) {
    match result {
        StepResult::Failed { failure, message } => (failure, message),
        done => panic!("{done:?}"),
    }
}
