//! The `rbd` and `ceph` programs of one site, each call bounded in time and answer.
//!
//! In: the pair's settings. Out: what the programs say, read by [`understudy_config::rbd`], or a [`StepError`] that tells
//! apart what may be tried again. A read never changes anything. A write takes a [`Permit`], and where it is not certain
//! what it did, it says so. The forced promote is the one call that is not made here: see
//! [`promote_keeper`](crate::promote_keeper). Start reading at [`Cli`].

use std::time::Duration;

use understudy_config::Rbd;
use understudy_config::rbd::{self as said, ImageStatus, Info, PoolStatus, Snapshot, Unreadable, Watcher};
use understudy_core::ImageName;

use crate::process::{self, Answer, Call, CallError, Exit};
use crate::{Permit, StepError};

/// The programs give up by themselves this long before they are killed, so that they still can say why.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The rights that a user of ours needs; with less, the mirror daemons are not seen.
const RIGHTS: &str = "mon 'profile rbd, allow r, allow command \"osd blocklist\" with blocklistop=rm' osd 'profile rbd' mgr 'profile rbd'";

/// Why a program did not say yes.
#[derive(Debug, thiserror::Error)]
enum CliError {
    /// There is no answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// It does not know the command or an option, so that it has done nothing.
    #[error("{name} failed with exit 1, it is too old, Ceph 16 or newer is needed: {last_words}")]
    TooOld { name: String, last_words: String },
    /// It said no.
    #[error("{name} failed with {exit}{remedy}{last_words}")]
    SaidNo { name: String, exit: Exit, remedy: String, last_words: String },
}

impl CliError {
    fn said_no(name: String, answer: Answer) -> Self {
        let unknown = ["unrecognised option", "error: unknown option"];
        if answer.exit == Exit::Other(1) && unknown.iter().any(|words| answer.last_words.contains(words)) {
            return CliError::TooOld { name, last_words: answer.last_words };
        }
        let remedy = match answer.exit {
            Exit::Denied => format!(", no access: check keyring and rights ({RIGHTS})"),
            Exit::Absent => ", no such pool or image".into(),
            Exit::Invalid => ", mirroring is off for it or this version of Ceph does not know the command".into(),
            Exit::Unreachable => ", the cluster does not answer".into(),
            _ => String::new(),
        };
        let last_words = if answer.last_words.is_empty() { String::new() } else { format!(": {}", answer.last_words) };
        CliError::SaidNo { name, exit: answer.exit, remedy, last_words }
    }

    /// It has read and nothing else: what will not get better by itself is permanent.
    fn of_read(self) -> StepError {
        let permanent = match &self {
            CliError::Call(CallError::Missing { .. } | CallError::TooMuch { .. }) | CliError::TooOld { .. } => true,
            CliError::Call(_) => false,
            CliError::SaidNo { exit, .. } => matches!(exit, Exit::Absent | Exit::Denied | Exit::Invalid),
        };
        let (what, source) = ("failed to look at the images".to_owned(), Some(Box::new(self) as _));
        if permanent { StepError::Permanent { what, source } } else { StepError::Transient { what, source } }
    }

    /// It was to change something: only a clear refusal means that nothing happened.
    fn of_write(self) -> StepError {
        let what = "failed to change the storage".to_owned();
        match &self {
            CliError::Call(CallError::Missing { .. }) | CliError::TooOld { .. } => {
                StepError::Permanent { what, source: Some(Box::new(self)) }
            }
            CliError::Call(CallError::NotStarted { .. }) => StepError::Transient { what, source: Some(Box::new(self)) },
            CliError::Call(_) => StepError::Unknown { what, source: Some(Box::new(self)) },
            CliError::SaidNo { exit: Exit::Absent | Exit::Denied | Exit::Invalid, .. } => {
                StepError::Permanent { what, source: Some(Box::new(self)) }
            }
            CliError::SaidNo { exit: Exit::Busy | Exit::ReadOnly | Exit::Exists, .. } => {
                StepError::Transient { what, source: Some(Box::new(self)) }
            }
            CliError::SaidNo { .. } => StepError::Unknown { what, source: Some(Box::new(self)) },
        }
    }

    /// It was to change something that may be asked for twice: of a cluster that does not answer nothing need be known.
    fn of_repeatable(self) -> StepError {
        let silent =
            matches!(self, CliError::Call(CallError::Silent { .. }) | CliError::SaidNo { exit: Exit::Unreachable, .. });
        if silent {
            return StepError::Transient { what: "failed to change the storage".into(), source: Some(Box::new(self)) };
        }
        self.of_write()
    }
}

/// The programs of one site.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cli<'a> {
    rbd: &'a [String],
    ceph: &'a [String],
    timeout: Duration,
}

impl<'a> Cli<'a> {
    /// B's programs.
    pub(crate) fn of_standby(settings: &'a Rbd) -> Self {
        Self { rbd: &settings.rbd, ceph: &settings.ceph, timeout: settings.timeout.0 }
    }

    /// A's `rbd`, which only the fence uses.
    pub(crate) fn of_primary(rbd: &'a [String], timeout: Duration) -> Self {
        Self { rbd, ceph: &[], timeout }
    }

    /// `rbd info`.
    pub(crate) async fn info(&self, image: &ImageName) -> Result<Info, StepError> {
        let json = self.read(&["info", image.as_str()]).await?;
        understood(said::info(&json))
    }

    /// `rbd snap ls --all`.
    pub(crate) async fn snapshots(&self, image: &ImageName) -> Result<Vec<Snapshot>, StepError> {
        let json = self.read(&["snap", "ls", "--all", image.as_str()]).await?;
        understood(said::snapshots(&json))
    }

    /// `rbd mirror image status`.
    pub(crate) async fn status(&self, image: &ImageName) -> Result<ImageStatus, StepError> {
        let json = self.read(&["mirror", "image", "status", image.as_str()]).await?;
        understood(said::image_status(&json))
    }

    /// `rbd mirror pool status --verbose`.
    pub(crate) async fn pool_status(&self, pool: &str) -> Result<PoolStatus, StepError> {
        let json = self.read(&["mirror", "pool", "status", pool, "--verbose"]).await?;
        understood(said::pool_status(&json))
    }

    /// Who has the image open for writing: `rbd status`.
    pub(crate) async fn watchers(&self, image: &ImageName) -> Result<Vec<Watcher>, StepError> {
        let json = self.read(&["status", image.as_str()]).await?;
        understood(said::watchers(&json))
    }

    /// The intervals of the image's own schedule of mirror snapshots.
    pub(crate) async fn schedule(&self, image: &ImageName) -> Result<Vec<String>, StepError> {
        match self.call(&[&["mirror", "snapshot", "schedule", "ls"], &*by_options(image)].concat()).await {
            Ok(json) => understood(said::schedule(&json)),
            // So it says that there is none.
            Err(CliError::SaidNo { exit: Exit::Absent, .. }) => Ok(Vec::new()),
            Err(error) => Err(error.of_read()),
        }
    }

    /// Adds a schedule of mirror snapshots. Adding it twice is the same as once.
    pub(crate) async fn add_schedule(
        &self,
        image: &ImageName,
        interval: &str,
        permit: Permit,
    ) -> Result<(), StepError> {
        let args = [&["mirror", "snapshot", "schedule", "add"], &*by_options(image), &[interval]].concat();
        self.change(self.rbd_call(&args), permit, CliError::of_write).await
    }

    /// Takes a snapshot of a user's kind. One of the same name that is there already is an error.
    pub(crate) async fn take_snapshot(&self, snapshot: &str, permit: Permit) -> Result<(), StepError> {
        self.change(self.rbd_call(&["snap", "create", "--no-progress", snapshot]), permit, CliError::of_write).await
    }

    /// Demotes an image. Takes longer than a look, so it has its own limit.
    pub(crate) async fn demote(&self, image: &ImageName, within: Duration, permit: Permit) -> Result<(), StepError> {
        let call = self.rbd_call(&["mirror", "image", "demote", image.as_str()]);
        self.change(Call { within, ..call }, permit, CliError::of_write).await
    }

    /// The addresses that the OSDs refuse.
    pub(crate) async fn blocklist(&self) -> Result<Vec<String>, StepError> {
        let answer = answer(self.ceph_call(&["osd", "blocklist", "ls", "--format", "json"])).await;
        understood(said::blocklist(&answer.map_err(CliError::of_read)?))
    }

    /// Has the OSDs refuse one client, by `ADDRESS:PORT/NONCE`, for `seconds`. Adding it twice prolongs it, so that an answer
    /// that is lost is asked for again.
    pub(crate) async fn blocklist_add(&self, address: &str, seconds: u64, permit: Permit) -> Result<(), StepError> {
        let call = self.ceph_call(&["osd", "blocklist", "add", address, &seconds.to_string()]);
        self.change(call, permit, CliError::of_repeatable).await
    }

    /// Takes an address off the blocklist. One that is not there is no error.
    pub(crate) async fn blocklist_remove(&self, address: &str, permit: Permit) -> Result<(), StepError> {
        self.change(self.ceph_call(&["osd", "blocklist", "rm", address]), permit, CliError::of_repeatable).await
    }

    /// The words of a forced promote. It has no limit of its own: an operation that is given up half-way would leave a
    /// promote half-way. Only connecting is limited, since then nothing was sent.
    pub(crate) fn promote_words(&self, image: &ImageName) -> Vec<String> {
        let connect = ["--client-mount-timeout".to_owned(), self.own_limit().to_string()];
        let promote = ["mirror", "image", "promote", "--force", image.as_str()].map(String::from);
        [self.rbd, &connect[..], &promote[..]].concat()
    }

    async fn read(&self, args: &[&str]) -> Result<Vec<u8>, StepError> {
        self.call(args).await.map_err(CliError::of_read)
    }

    async fn call(&self, args: &[&str]) -> Result<Vec<u8>, CliError> {
        answer(self.rbd_call(&[args, &["--format", "json"]].concat())).await
    }

    async fn change(&self, call: Call, permit: Permit, failed: fn(CliError) -> StepError) -> Result<(), StepError> {
        let left = permit.remaining();
        if left.is_zero() {
            return Err(StepError::NoLease(format!("the lease leaves no time for {}", call.name)));
        }
        let within = call.within.min(left);
        answer(Call { within, ..call }).await.map(drop).map_err(failed)
    }

    /// All three limits are needed: each is about another part of the way.
    fn rbd_call(&self, args: &[&str]) -> Call {
        let seconds = self.own_limit().to_string();
        let mut words = self.rbd.to_vec();
        for limit in ["--client-mount-timeout", "--rados-mon-op-timeout", "--rados-osd-op-timeout"] {
            words.extend([limit.to_owned(), seconds.clone()]);
        }
        self.call_of("rbd", words, args)
    }

    fn ceph_call(&self, args: &[&str]) -> Call {
        let words = [self.ceph, &["--connect-timeout".to_owned(), self.own_limit().to_string()]].concat();
        self.call_of("ceph", words, args)
    }

    fn call_of(&self, program: &str, mut words: Vec<String>, args: &[&str]) -> Call {
        words.extend(args.iter().map(|arg| (*arg).to_owned()));
        let said: Vec<&str> = args.iter().copied().filter(|arg| !matches!(*arg, "--format" | "json")).collect();
        Call { name: format!("{program} {}", said.join(" ")), words, env: Vec::new(), within: self.timeout }
    }

    fn own_limit(&self) -> u64 {
        self.timeout.saturating_sub(LAST_WORDS).as_secs().max(1)
    }
}

async fn answer(call: Call) -> Result<Vec<u8>, CliError> {
    let name = call.name.clone();
    match process::run(call).await? {
        Answer { exit: Exit::Fine, stdout, .. } => Ok(stdout),
        other => Err(CliError::said_no(name, other)),
    }
}

/// Trying again would bring the same answer.
fn understood<T>(answer: Result<T, Unreadable>) -> Result<T, StepError> {
    let what = || "failed to look at the images".to_owned();
    answer.map_err(|error| StepError::Permanent { what: what(), source: Some(Box::new(error)) })
}

/// The pool of `POOL/IMAGE` or `POOL/NAMESPACE/IMAGE`, with its namespace.
pub(crate) fn pool_of(image: &ImageName) -> &str {
    image.as_str().rsplit_once('/').map_or("rbd", |(pool, _)| pool)
}

/// The image as the options that the schedule commands want.
fn by_options(image: &ImageName) -> Vec<&str> {
    let (pool, name) = image.as_str().rsplit_once('/').unwrap_or(("rbd", image.as_str()));
    match pool.split_once('/') {
        Some((pool, namespace)) => vec!["--pool", pool, "--namespace", namespace, "--image", name],
        None => vec!["--pool", pool, "--image", name],
    }
}
