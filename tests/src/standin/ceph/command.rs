//! Runs one command line of `rbd` or `ceph` against the model.
//!
//! In: a [`Call`]. Out: what the real program printed and how it ended in the same state, after about
//! as long, or never. Exit codes and texts are those of the fixtures of 16.2.15; a text that was not
//! measured is marked so. Start at [`run`].

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::client::{Call, Output};
use super::line::{Line, Unrecognised};
use super::model::{Caps, Cluster, Condition, Image, MirrorState, Process, Schedule};
use super::render::{self, View};
use super::{PromoteFault, Shared, State};
use crate::standin::effects::Kind;
use crate::standin::side::Side;
use crate::standin::volume::{Content, Disk};

const VERSION: &str = "ceph version 16.2.15 (618f440892089921c3e944a991122ddc44e60516) pacific (stable)\n";

/// Runs one call to its end. Dropping the future is SIGKILL to the program.
pub(super) async fn run(shared: &Shared, call: Call) -> Output {
    let line = match Line::parse(&call.tool, &call.args, &call.ceph_args) {
        Ok(line) => line,
        Err(Unrecognised(option)) => {
            return fail(1, &format!("{}: unrecognised option '{option}'\n", call.tool));
        }
    };
    if line.flag("version") {
        return print(VERSION);
    }
    let session = match connect(shared, &call.tool, line).await {
        Ok(session) => session,
        Err(output) => return output,
    };
    let output = match call.tool.as_str() {
        "rbd" => session.rbd().await,
        _ => session.ceph().await,
    };
    session.deliver(output).await
}

fn print(text: impl Into<Vec<u8>>) -> Output {
    Output { code: 0, stdout: text.into(), stderr: Vec::new() }
}

fn fail(code: u8, stderr: &str) -> Output {
    Output { code, stdout: Vec::new(), stderr: stderr.into() }
}

/// A line of librbd's own log, which both programs mix into standard error.
fn log(level: i8, text: &str) -> String {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%3f+0000");
    format!("{now} 7f2e8528d380 {level:2} {text}\n\n")
}

/// Finds the cluster and proves who asks, as `global_init` and the monitor do.
async fn connect<'a>(shared: &'a Shared, tool: &str, line: Line) -> Result<Session<'a>, Output> {
    let conf = line.option("conf").unwrap_or("/etc/ceph/ceph.conf").to_owned();
    let found = Side::BOTH.into_iter().find(|side| {
        let wanted = std::fs::canonicalize(&conf);
        let known = std::fs::canonicalize(&shared.lock().model.at(*side).conf);
        matches!((wanted, known), (Ok(wanted), Ok(known)) if wanted == known)
    });
    let Some(side) = found else {
        let text = format!("global_init: unable to open config file from search list {conf}\n");
        return Err(fail(1, &text));
    };
    let session = Session { shared, side, caps: Caps::Admin, line, tool: tool.to_owned() };
    if session.away() {
        return Err(session.unreachable().await);
    }
    let caps = session.authenticate().ok_or_else(|| session.permission_denied())?;
    Ok(Session { caps, ..session })
}

/// One connected program.
struct Session<'a> {
    shared: &'a Shared,
    side: Side,
    caps: Caps,
    line: Line,
    tool: String,
}

type Answer = Result<Output, Output>;

impl Session<'_> {
    fn away(&self) -> bool {
        self.shared.lock().model.at(self.side).condition == Condition::Away
    }

    /// Nobody answers: refused and frozen look the same and cost the same.
    async fn unreachable(&self) -> Output {
        let hunt = |limit: Duration| tokio::time::sleep(self.shared.timing.hunt.map_or(limit, |most| most.min(limit)));
        if self.tool == "ceph" {
            let own = self.line.seconds("connect-timeout");
            let limit = own.or(self.line.seconds("client-mount-timeout"));
            hunt(limit.unwrap_or(self.shared.timing.mount_timeout)).await;
            return match own {
                Some(_) => fail(1, "timed out\n"),
                None => fail(1, "[errno 110] RADOS timed out (error connecting to the cluster)\n"),
            };
        }
        let limit = self.line.seconds("client-mount-timeout");
        let limit = limit.unwrap_or(self.shared.timing.mount_timeout);
        hunt(limit).await;
        let seconds = limit.as_secs();
        let note = log(0, &format!("monclient(hunting): authenticate timed out after {seconds}"));
        let mut stderr = if self.line.logs() { note } else { String::new() };
        stderr.push_str("rbd: couldn't connect to the cluster!\n");
        if matches!(self.line.words.first().map(String::as_str), Some("ls" | "list")) {
            stderr.push_str("rbd: listing images failed: (110) Connection timed out\n");
        }
        fail(110, &stderr)
    }

    fn authenticate(&self) -> Option<Caps> {
        let state = self.shared.lock();
        let cluster = state.model.at(self.side);
        let user = cluster.users.get(self.line.user())?;
        let keyring = match self.line.option("keyring") {
            Some(keyring) => keyring.into(),
            None => cluster.conf.with_extension("keyring"),
        };
        let text = std::fs::read_to_string(keyring).ok()?;
        let section = format!("[client.{}]", self.line.user());
        let key =
            text.split_once(&section)?.1.lines().find_map(|line| {
                line.trim().strip_prefix("key").map(|rest| rest.trim_start_matches([' ', '=']).trim())
            })?;
        (key == user.key).then_some(user.caps)
    }

    fn permission_denied(&self) -> Output {
        let method = "monclient(hunting): handle_auth_bad_method server allowed_methods [2] \
                      but i only support [2,1]";
        let mut stderr = if self.line.logs() { log(-1, method) } else { String::new() };
        if self.tool == "ceph" {
            stderr.push_str("[errno 13] RADOS permission denied (error connecting to the cluster)\n");
        } else {
            stderr.push_str("rbd: couldn't connect to the cluster!\n");
            if matches!(self.line.words.first().map(String::as_str), Some("ls" | "list")) {
                stderr.push_str("rbd: listing images failed: (13) Permission denied\n");
            }
        }
        fail(13, &stderr)
    }

    /// Hands an answer out, unless the cluster died under the command: then there is none.
    async fn deliver(&self, answer: Answer) -> Output {
        if self.away() {
            match self.line.seconds("rados-osd-op-timeout") {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
            return fail(110, "rbd: error opening image: (110) Connection timed out\n");
        }
        answer.unwrap_or_else(|output| output)
    }

    /// Fails as an operation on a dead OSD does: after its own limit, or never.
    async fn osd(&self, what: &str) -> Result<(), Output> {
        if self.shared.lock().model.at(self.side).osd_up {
            return Ok(());
        }
        let Some(limit) = self.line.seconds("rados-osd-op-timeout") else {
            return std::future::pending().await;
        };
        tokio::time::sleep(limit).await;
        Err(fail(110, &format!("rbd: {what}: (110) Connection timed out\n")))
    }

    fn pool(&self, pool: &str) -> Result<(), Output> {
        if self.shared.lock().model.pool == pool {
            return Ok(());
        }
        Err(fail(2, &format!("rbd: error opening pool '{pool}': (2) No such file or directory\n")))
    }

    /// Opens the image named at `place` and looks at it.
    async fn open<T>(&self, place: usize, look: impl FnOnce(&View<'_>, &Image) -> T) -> Result<(String, T), Output> {
        let (pool, name, _) = self.line.image(place);
        self.pool(&pool)?;
        self.osd(&format!("error opening image {name}")).await?;
        let state = self.shared.lock();
        let view = self.view(&state);
        let Some(image) = view.cluster.images.get(&name) else {
            return Err(no_image(&name));
        };
        let seen = look(&view, image);
        Ok((name, seen))
    }

    /// As [`Session::open`], for a command that needs mirroring.
    async fn open_mirrored<T>(
        &self,
        place: usize,
        look: impl FnOnce(&View<'_>, &Image) -> T,
    ) -> Result<(String, T), Output> {
        let (name, (mirrored, seen)) = self.open(place, |view, image| (image.mirrored, look(view, image))).await?;
        if mirrored { Ok((name, seen)) } else { Err(fail(22, "rbd: mirroring not enabled on the image\n")) }
    }

    fn view<'s>(&'s self, state: &'s State) -> View<'s> {
        let cluster: &Cluster = state.model.at(self.side);
        View {
            cluster,
            pool: &state.model.pool,
            timing: &self.shared.timing,
            // Without the right to read the monitor's services, daemons are invisible.
            services: self.caps != Caps::AgentWithoutMonRead && cluster.mgr_up,
        }
    }

    /// Only whoever may write goes on. The text was not measured.
    fn may_write(&self) -> Result<(), Output> {
        if self.caps == Caps::ReadOnly {
            return Err(fail(1, "rbd: error opening image: (1) Operation not permitted\n"));
        }
        Ok(())
    }

    fn show(&self, json: &Value, plain: impl FnOnce() -> String) -> Output {
        if self.line.json() { print(format!("{json}\n")) } else { print(plain()) }
    }

    async fn rbd(&self) -> Answer {
        let words: Vec<&str> = self.line.words.iter().map(String::as_str).collect();
        tokio::time::sleep(self.shared.timing.read).await;
        match words.as_slice() {
            ["info", ..] => {
                let (name, mut json) = self.open(1, render::info).await?;
                json["name"] = name.into();
                Ok(self.show(&json, || render::plain(&json)))
            }
            ["status", ..] => {
                let (_, json) = self.open(1, render::watchers).await?;
                Ok(self.show(&json, || render::plain(&json)))
            }
            ["ls" | "list", ..] => self.list(words.get(1)).await,
            ["snap", "ls" | "list", ..] => {
                let all = self.line.flag("all");
                let (_, json) = self.open(2, |_, image| render::snaps(image, all)).await?;
                Ok(self.show(&json, || render::plain(&json)))
            }
            ["snap", "create", ..] => self.create_snap().await,
            ["snap", "rm" | "remove", ..] => self.remove_snap().await,
            ["export", ..] => {
                let (_, bytes) = self.open(1, |_, image| render::bytes(image)).await?;
                Ok(print(bytes))
            }
            ["mirror", "image", "status", ..] => {
                let (name, mut json) = self.open_mirrored(3, |view, image| render::status(view, "", image)).await?;
                json["name"] = name.into();
                let note = self.services_note();
                let mut output = self.show(&json, || render::status_plain(&json));
                output.stderr.extend_from_slice(note.as_bytes());
                Ok(output)
            }
            ["mirror", "image", "promote", ..] => self.promote().await,
            ["mirror", "image", "demote", ..] => self.demote().await,
            ["mirror", "image", "snapshot", ..] => self.mirror_snapshot().await,
            ["mirror", "image", "resync", ..] => self.resync().await,
            ["mirror", "pool", "status", ..] => self.pool_status(words.get(3)).await,
            ["mirror", "pool", "info", ..] => {
                self.pool(words.get(3).unwrap_or(&"rbd"))?;
                let json = render::pool_info(&self.view(&self.shared.lock()));
                Ok(self.show(&json, || render::plain(&json)))
            }
            ["mirror", "snapshot", "schedule", "ls" | "list", ..] => self.schedules(),
            ["mirror", "snapshot", "schedule", "add", interval] => self.change_schedule(interval, true),
            ["mirror", "snapshot", "schedule", "remove" | "rm", interval] => self.change_schedule(interval, false),
            ["mirror", "snapshot", "schedule", "status", ..] => self.schedule_status().await,
            _ => Err(fail(1, &format!("rbd: error parsing command '{}'\n", words.join(" ")))),
        }
    }

    async fn list(&self, pool: Option<&&str>) -> Answer {
        self.pool(pool.copied().or(self.line.option("pool")).unwrap_or("rbd"))?;
        self.osd("listing images failed").await?;
        let names: Vec<String> = self.shared.lock().model.at(self.side).images.keys().cloned().collect();
        let json = Value::from(names.clone());
        Ok(self.show(&json, || names.iter().map(|name| format!("{name}\n")).collect()))
    }

    fn services_note(&self) -> String {
        let cluster_has_mgr = self.shared.lock().model.at(self.side).mgr_up;
        if !cluster_has_mgr {
            "rbd: failed to query services: (110) Connection timed out\n".to_owned()
        } else if self.caps == Caps::AgentWithoutMonRead {
            "rbd: failed to query services: (13) Permission denied\n".to_owned()
        } else {
            String::new()
        }
    }

    async fn without_mgr(&self) -> bool {
        if self.shared.lock().model.at(self.side).mgr_up {
            return false;
        }
        let limit = self.line.seconds("rados-mon-op-timeout");
        tokio::time::sleep(limit.unwrap_or(self.shared.timing.mount_timeout)).await;
        true
    }

    async fn pool_status(&self, pool: Option<&&str>) -> Answer {
        self.pool(pool.copied().or(self.line.option("pool")).unwrap_or("rbd"))?;
        self.osd("failed to retrieve mirror mode").await?;
        self.without_mgr().await;
        let json = {
            let state = self.shared.lock();
            render::pool_status(&self.view(&state), self.line.flag("verbose"))
        };
        let mut output = self.show(&json, || render::plain(&json));
        output.stderr.extend_from_slice(self.services_note().as_bytes());
        Ok(output)
    }

    /// What a schedule command is about: the pool, or one image of it.
    fn level(&self) -> Result<Option<String>, Output> {
        self.pool(self.line.option("pool").unwrap_or("rbd"))?;
        Ok(self.line.option("image").map(str::to_owned))
    }

    /// With `--recursive` every level is listed; else only the one asked for, and exit 2 where it has none.
    fn schedules(&self) -> Answer {
        let level = self.level()?;
        let state = self.shared.lock();
        let view = self.view(&state);
        if self.line.flag("recursive") {
            let json = render::schedules(&view);
            return Ok(self.show(&json, || render::plain(&json)));
        }
        let own = view.cluster.schedules.iter().filter(|schedule| schedule.image == level);
        let items: Value = own.map(render::interval).collect();
        if items.as_array().is_none_or(Vec::is_empty) {
            return Err(fail(2, ""));
        }
        Ok(self.show(&items, || render::plain(&items)))
    }

    /// Adds or removes a schedule; adding one that is there changes nothing.
    fn change_schedule(&self, interval: &str, add: bool) -> Answer {
        self.may_write()?;
        let image = self.level()?;
        let minutes = interval.strip_suffix('m').and_then(|number| number.parse::<u32>().ok());
        let Some(minutes) = minutes.filter(|minutes| *minutes > 0) else {
            let verb = if add { "add" } else { "remove" };
            let why = format!("(22) Invalid argument: Invalid interval ({interval})");
            return Err(fail(22, &format!("rbd: rbd mirror snapshot schedule {verb} failed: {why}\n")));
        };
        let target = image.clone().unwrap_or_else(|| "pool".to_owned());
        let wanted = Schedule { image, minutes };
        let mut state = self.shared.lock();
        let schedules = &mut state.model.at_mut(self.side).schedules;
        let there = schedules.contains(&wanted);
        if there != add {
            schedules.retain(|schedule| *schedule != wanted);
            schedules.extend(add.then_some(wanted));
            let detail = if add { interval } else { "removed" };
            self.shared.ledger.record(Kind::Schedule, self.side.name(), &target, None, detail);
        }
        Ok(print(""))
    }

    async fn schedule_status(&self) -> Answer {
        if self.without_mgr().await {
            return Err(fail(74, "rbd: invalid schedule status JSON received\n"));
        }
        let json = render::schedule_status(&self.view(&self.shared.lock()));
        Ok(self.show(&json, || render::plain(&json)))
    }

    async fn create_snap(&self) -> Answer {
        self.may_write()?;
        let (pool, name, snap) = self.line.image(2);
        let (_, (primary, taken)) = self
            .open(2, |_, image| {
                let taken = image.snaps.iter().any(|one| Some(&one.name) == snap.as_ref());
                (image.primary() || !image.mirrored, taken)
            })
            .await?;
        let Some(snap) = snap else { return Err(fail(22, "rbd: snapshot name was not specified\n")) };
        if !primary {
            return Err(fail(30, "rbd: failed to create snapshot: (30) Read-only file system\n"));
        }
        if taken {
            return Err(fail(17, "rbd: failed to create snapshot: (17) File exists\n"));
        }
        tokio::time::sleep(self.shared.timing.snapshot).await;
        self.change(&name, |image| {
            let content = image.volume.content();
            image.push_snap(snap.clone(), None, content);
        });
        let target = format!("{pool}/{name}@{snap}");
        self.shared.ledger.record(Kind::Snapshot, self.side.name(), &target, None, "user");
        let progress = if self.line.flag("no-progress") { "" } else { "Creating snap: 100% complete...done.\n" };
        Ok(Output { stderr: progress.into(), ..print("") })
    }

    async fn remove_snap(&self) -> Answer {
        self.may_write()?;
        let (_, name, snap) = self.line.image(2);
        self.open(2, |_, _| ()).await?;
        let removed = self.change(&name, |image| {
            let before = image.snaps.len();
            image.snaps.retain(|one| one.mirror.is_some() || Some(&one.name) != snap.as_ref());
            image.snaps.len() < before
        });
        match removed {
            Some(true) => Ok(Output { stderr: b"Removing snap: 100% complete...done.\n".to_vec(), ..print("") }),
            _ => Err(fail(2, "rbd: failed to remove snapshot: (2) No such file or directory\n")),
        }
    }

    fn change<T>(&self, name: &str, change: impl FnOnce(&mut Image) -> T) -> Option<T> {
        self.shared.lock().model.at_mut(self.side).images.get_mut(name).map(change)
    }

    fn peer_uuid(&self) -> String {
        self.shared.lock().model.at(self.side).peer_uuid.clone()
    }

    async fn mirror_snapshot(&self) -> Answer {
        self.may_write()?;
        let (name, primary) = self.open_mirrored(3, |_, image| image.primary()).await?;
        if !primary {
            // Not measured; librbd refuses with EINVAL.
            return Err(fail(22, "rbd: error creating snapshot: (22) Invalid argument\n"));
        }
        tokio::time::sleep(self.shared.timing.snapshot).await;
        let (peer, unwritten) = (self.peer_uuid(), self.shared.timing.unwritten);
        let id = self.change(&name, |image| image.snap_primary(MirrorState::Primary, &peer, unwritten));
        self.shared.ledger.record(Kind::Snapshot, self.side.name(), &name, None, "mirror");
        Ok(print(format!("Snapshot ID: {}\n", id.unwrap_or_default())))
    }

    async fn demote(&self) -> Answer {
        self.may_write()?;
        let (name, primary) = self.open_mirrored(3, |_, image| image.primary()).await?;
        if !primary {
            // Not measured; the text is librbd's.
            let note = log(-1, "librbd::mirror::DemoteRequest: handle_get_info: image is not primary");
            return Err(self.refused(22, "demoting image to non-primary", &note));
        }
        tokio::time::sleep(self.shared.timing.demote).await;
        let peer = self.peer_uuid();
        self.change(&name, |image| image.demote(&peer));
        self.shared.ledger.record(Kind::Demote, self.side.name(), &name, None, "non-primary");
        Ok(print("Image demoted to non-primary\n"))
    }

    async fn resync(&self) -> Answer {
        self.may_write()?;
        let (name, primary) = self.open_mirrored(3, |_, image| image.primary()).await?;
        if primary {
            let text = "librbd::api::Mirror: image_resync: image is primary, cannot resync to itself";
            let note = if self.line.logs() { log(-1, text) } else { String::new() };
            return Err(fail(22, &format!("{note}rbd: error flagging image resync\n")));
        }
        self.change(&name, |image| image.resync = Some(std::time::Instant::now()));
        self.shared.ledger.record(Kind::Resync, self.side.name(), &name, None, "flagged");
        Ok(print("Flagged image for resync from primary\n"))
    }

    fn refused(&self, code: u8, what: &str, note: &str) -> Output {
        let note = if self.line.logs() { note } else { "" };
        fail(code, &format!("rbd: error {what}\n{note}"))
    }

    fn promote_refused(&self, code: u8, why: &str) -> Output {
        let what = "librbd::mirror::PromoteRequest: 0x56430f544680 handle_get_info:";
        let end = log(-1, "librbd::api::Mirror: image_promote: failed to promote image");
        let note = format!("{}{end}", log(-1, &format!("{what} {why}")));
        self.refused(code, "promoting image to primary", &note)
    }

    async fn promote(&self) -> Answer {
        self.may_write()?;
        let force = self.line.flag("force");
        let (name, newest) = self
            .open_mirrored(3, |_, image| {
                let newest = image.newest().map(|(_, mirror)| mirror.clone());
                (newest, image.settled)
            })
            .await?;
        let fault = self.shared.lock().promote_fault;
        match fault {
            PromoteFault::None => {}
            PromoteFault::Hang => std::future::pending().await,
            PromoteFault::Fail(code) => {
                let code = u8::try_from(code).unwrap_or(1);
                return Err(self.promote_refused(code, "failed to promote image"));
            }
        }
        let (Some(newest), settled) = newest else {
            return Err(fail(22, "rbd: mirroring not enabled on the image\n"));
        };
        if newest.state == MirrorState::Primary {
            return Err(self.promote_refused(22, "image is already primary"));
        }
        if newest.state == MirrorState::NonPrimary {
            if force {
                return self.promote_by_force(&name).await;
            }
            let why = "image is primary within a remote cluster or demotion is not propagated yet";
            return Err(self.promote_refused(16, why));
        }
        let fresh = settled.is_some_and(|at| at.elapsed() < self.shared.timing.settle);
        if newest.state == MirrorState::NonPrimaryDemoted && (!newest.complete || fresh) {
            let why = "failed to promote image: (30) Read-only file system";
            return Err(self.promote_refused(30, why));
        }
        // Also where this site itself was demoted and the peer has gone on: no protection at all.
        tokio::time::sleep(self.shared.timing.promote).await;
        Ok(self.become_primary(&name, None, false))
    }

    /// Begins with an orphan snapshot, waits until the mirror daemon lets go, then rolls back what was
    /// half copied. Killed in between, the orphan stays, and hides the half copy from the next try.
    async fn promote_by_force(&self, name: &str) -> Answer {
        let rollback = self.change(name, |image| {
            let rollback = image.rollback();
            let half = image.mid_sync();
            image.snap_orphan();
            (rollback, half)
        });
        let (rollback, half) = rollback.unwrap_or_default();
        while self.daemon_holds(name, half) {
            tokio::time::sleep(self.shared.timing.tick).await;
        }
        tokio::time::sleep(self.shared.timing.force_promote).await;
        Ok(self.become_primary(name, rollback, true))
    }

    /// A daemon in the middle of a copy waits for its peer and never lets go; a killed one holds its
    /// watch until that times out; one that is idle lets go at once.
    fn daemon_holds(&self, name: &str, half: bool) -> bool {
        let state = self.shared.lock();
        let cluster = state.model.at(self.side);
        let Some(image) = cluster.images.get(name) else { return false };
        let watches = cluster.daemon_watches(image, self.shared.timing.watch);
        let dead = cluster.daemon.process == Process::Dead;
        watches && (dead || (half && image.sync.is_some()))
    }

    fn become_primary(&self, name: &str, rollback: Option<Content>, force: bool) -> Output {
        let peer = self.peer_uuid();
        self.change(name, |image| image.promote(&peer, rollback, force));
        self.shared.ledger.record(Kind::Promote, self.side.name(), name, None, if force { "force" } else { "" });
        print("Image promoted to primary\n")
    }

    async fn ceph(&self) -> Answer {
        let words: Vec<&str> = self.line.words.iter().map(String::as_str).collect();
        tokio::time::sleep(self.shared.timing.read).await;
        match words.as_slice() {
            ["status"] => Ok(self.cluster_status()),
            [] if self.line.flag("status") => Ok(self.cluster_status()),
            ["health", ..] => {
                let json = render::health();
                let text = if self.line.json() { format!("\n{json}") } else { "HEALTH_OK\n".to_owned() };
                Ok(print(text))
            }
            ["fsid"] => Ok(print(format!("{}\n", self.shared.lock().model.at(self.side).fsid))),
            ["osd", "blocklist" | "blacklist", "ls"] => Ok(self.blocklisted()),
            ["osd", "blocklist" | "blacklist", "add", address, rest @ ..] => self.block(address, rest.first()).await,
            ["osd", "blocklist" | "blacklist", "rm", address] => self.unblock(address).await,
            _ => Err(fail(22, "no valid command found\nError EINVAL: invalid command\n")),
        }
    }

    fn cluster_status(&self) -> Output {
        let json = render::cluster_status(&self.view(&self.shared.lock()));
        if self.line.json() { print(format!("\n{json}\n")) } else { print(render::plain(&json)) }
    }

    fn blocklisted(&self) -> Output {
        let state = self.shared.lock();
        let list = &state.model.at(self.side).blocklist;
        let time = |at: &Timestamp| at.strftime("%Y-%m-%dT%H:%M:%S.%6f+0000").to_string();
        let json: Value =
            list.iter().map(|(address, until)| serde_json::json!({ "addr": address, "until": time(until) })).collect();
        let plain = list.iter().map(|(address, until)| format!("{address} {}\n", time(until))).collect();
        // The second, empty list is the one of address ranges.
        let stdout = if self.line.json() { format!("\n{json}[]") } else { plain };
        Output { stderr: format!("listed {} entries\n", list.len()).into(), ..print(stdout) }
    }

    async fn block(&self, address: &str, seconds: Option<&&str>) -> Answer {
        self.may_write()?;
        let nonce = address.rsplit_once('/').and_then(|(_, nonce)| nonce.parse::<u32>().ok());
        if nonce.is_none() || !address.contains(':') {
            return Err(fail(22, "Error EINVAL: unable to parse entity addr\n"));
        }
        tokio::time::sleep(self.shared.timing.blocklist).await;
        let seconds = seconds.and_then(|text| text.parse().ok()).unwrap_or(3600.0);
        let length = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        let until = Timestamp::now() + length;
        {
            let mut state = self.shared.lock();
            let cluster = state.model.at_mut(self.side);
            cluster.blocklist.insert(address.to_owned(), until);
            if cluster.daemon.address == address {
                cluster.daemon.blocklisted = Some(std::time::Instant::now());
                cluster.heard_own = None;
                cluster.images.values_mut().for_each(|image| image.stop_copying());
            }
            for image in cluster.images.values_mut() {
                // A workload that is shut out gets write errors for ever.
                if image.workloads.iter().any(|watcher| watcher.address == address) {
                    image.workloads.clear();
                    image.volume.set_disk(Disk::ReadOnly(std::time::Instant::now()));
                }
            }
        }
        self.shared.ledger.record(Kind::Blocklist, self.side.name(), address, None, "");
        let until = until.strftime("%Y-%m-%dT%H:%M:%S.%6f+0000");
        let note = format!("blocklisting {address} until {until} ({seconds} sec)\n");
        Ok(Output { stderr: note.into(), ..print("") })
    }

    async fn unblock(&self, address: &str) -> Answer {
        self.may_write()?;
        tokio::time::sleep(self.shared.timing.blocklist).await;
        let was = self.shared.lock().model.at_mut(self.side).blocklist.remove(address);
        let note = if was.is_some() {
            self.shared.ledger.record(Kind::Unblock, self.side.name(), address, None, "");
            format!("un-blocklisting {address}\n")
        } else {
            format!("{address} isn't blocklisted\n")
        };
        Ok(Output { stderr: note.into(), ..print("") })
    }
}

fn no_image(name: &str) -> Output {
    fail(2, &format!("rbd: error opening image {name}: (2) No such file or directory\n"))
}
