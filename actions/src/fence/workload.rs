//! Stops Nexus at A: its custom resource goes, since its operator brings back whatever else is deleted.
//!
//! In: A's API server. Out: [`Verdict::Confirmed`] once A itself says that the resource does not exist, that no pod
//! mounts a claim of the pair, and that no volume of the pair is attached to a node. What was sent proves nothing.
//!
//! A Nexus on a full disk does not end on a polite stop. Its pod is deleted by force then, after which the pod's absence
//! proves nothing: the object is gone at once, the process is not. What proves it then is a volume that was attached
//! before and is not any more, at a node that is Ready: its kubelet lets go of a volume when the process is gone.
//! Start reading at [`stop`].

pub(crate) mod site;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use kube::ResourceExt;
use kube::api::{DeleteParams, Preconditions, PropagationPolicy};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::{Instant, sleep_until, timeout_at};

use self::site::{Look, Site};
use super::Verdict;
use crate::kube_call::{is_refused, try_write};
use crate::{Context, StepError, deploy, pods, restore};

/// A that gives no answer for this long is not asked any more.
const GIVE_UP: Duration = Duration::from_secs(4);

/// A that refuses the connection is not asked any longer, if the settings do not say: it is dead, or starts again. A start
/// takes an API server seconds, after which A shows life by itself; to wait for it here would only make a dead A cost more.
const REFUSED_FOR: Duration = Duration::from_secs(1);

/// Between two looks: first the shortest, then twice as long each time. A polite stop takes seconds.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(300)];

/// A resource that comes back this often is put there by somebody else.
const MOST_DELETES: u32 = 5;

/// The note that pods were deleted by force. It outlives a crash: what proves the fence is another thing from then on.
const FORCED: &str = "forced";

/// What was known when pods were deleted by force.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Forced {
    /// Whether a volume of theirs was attached to a node: only then does its detachment prove anything.
    attached: bool,
    /// The nodes that they were on.
    nodes: BTreeSet<String>,
}

/// Stops the workload, and sees it stopped.
///
/// # Errors
/// Only what is our own fault: no lease, no journal.
pub(super) async fn stop(ctx: &Context, deadline: Instant) -> Result<Verdict, StepError> {
    let site = match timeout_at(deadline.min(Instant::now() + GIVE_UP), site_of(ctx)).await {
        Ok(Ok(site)) => site,
        Ok(Err(error)) => return Ok(Verdict::Unconfirmed(format!("workload of A: {}", error.whole()))),
        Err(_late) => return Ok(Verdict::Unconfirmed("workload of A: its API server did not answer in time".into())),
    };
    let refused_for = ctx.pair.fence.refused_for.map_or(REFUSED_FOR, |span| span.0);
    let total = deadline.saturating_duration_since(Instant::now());
    let polite = ctx.pair.fence.polite.map_or(total / 2, |polite| polite.0);
    // A note that can not be read proves nothing.
    let forced = ctx.noted(FORCED).map(|text| serde_json::from_str(text).unwrap_or_default());
    let stop =
        Stop { ctx, site, forced, polite_until: Instant::now() + polite, deletes: 0, dealt_with: BTreeSet::new() };
    stop.until(deadline, Silence::from_now(refused_for)).await
}

/// How long A has not answered, and when it is given up: never with a proof, only with nobody to give one.
struct Silence {
    answered: Instant,
    /// Since when, and how often in a row, the connection was refused.
    refused: Option<(Instant, u32)>,
    refused_for: Duration,
}

impl Silence {
    fn from_now(refused_for: Duration) -> Self {
        Self { answered: Instant::now(), refused: None, refused_for }
    }

    fn broken(&mut self) {
        (self.answered, self.refused) = (Instant::now(), None);
    }

    /// A look failed; the words for it.
    fn goes_on(&mut self, error: &StepError) -> String {
        if !is_refused(error) {
            self.refused = None;
            return error.whole();
        }
        let (_, times) = self.refused.get_or_insert_with(|| (Instant::now(), 0));
        *times += 1;
        format!("its API server refused the connection {times} times in a row, which proves nothing")
    }

    /// When A is given up, if it stays as it is.
    fn ends(&self) -> Instant {
        let silent = self.answered + GIVE_UP;
        self.refused.map_or(silent, |(since, _)| silent.min(since + self.refused_for))
    }
}

async fn site_of(ctx: &Context) -> Result<Site, StepError> {
    let client = ctx.primary.as_ref();
    let client = client.ok_or_else(|| StepError::permanent("there is no clusters.primary in the settings"))?;
    Site::new(client.clone(), deploy::load(ctx)?, &restore::bundle(ctx)?).await
}

/// Stopping, under way.
struct Stop<'a> {
    ctx: &'a Context,
    site: Site,
    forced: Option<Forced>,
    polite_until: Instant,
    deletes: u32,
    /// Pods that were deleted by force, by uid.
    dealt_with: BTreeSet<String>,
}

impl Stop<'_> {
    async fn until(mut self, deadline: Instant, mut silence: Silence) -> Result<Verdict, StepError> {
        let (mut last, mut shown) = (None, String::new());
        let [mut pause, longest] = PAUSES;
        loop {
            let limit = deadline.min(silence.answered + GIVE_UP);
            let left = match timeout_at(limit, self.turn()).await {
                Ok(Ok(None)) => return Ok(Verdict::Confirmed(self.how())),
                Ok(Ok(Some(left))) => {
                    silence.broken();
                    last = Some(left.clone());
                    left
                }
                // Ours, not A's: the step itself fails.
                Ok(Err(error @ (StepError::NoLease(_) | StepError::NotNoted(_)))) => return Err(error),
                Ok(Err(error)) => silence.goes_on(&error),
                // The end of the fence cuts a look short: what the one before it saw is still the best answer.
                Err(_late) if Instant::now() >= deadline && last.is_some() => last.clone().unwrap_or_default(),
                Err(_late) => "its API server does not answer".into(),
            };
            if left != shown {
                self.ctx.gate.progress(format!("workload of A: {left}"));
                shown.clone_from(&left);
            }
            let now = Instant::now();
            let end = deadline.min(silence.ends());
            if now >= end {
                return Ok(Verdict::Unconfirmed(format!("workload of A: {left}")));
            }
            sleep_until(end.min(now + pause)).await;
            pause = longest.min(2 * pause);
        }
    }

    /// One look, and one push if something is left; none if the workload is proven gone.
    async fn turn(&mut self) -> Result<Option<String>, StepError> {
        let look = self.site.look().await?;
        let left = self.left(&look).await;
        if left.is_some() {
            self.push(&look).await?;
        }
        Ok(left)
    }

    /// What is left of the workload; none if it is proven gone.
    async fn left(&self, look: &Look) -> Option<String> {
        let left = look.left(&self.site);
        if left.is_some() {
            return left;
        }
        let forced = self.forced.as_ref()?;
        if !forced.attached {
            let why =
                "pods were deleted by force and none of their volumes was attached: nothing proves that they ended";
            return Some(why.into());
        }
        self.site.not_ready(&forced.nodes).await
    }

    fn how(&self) -> String {
        let how = format!("A's API server says: no {}, no pod with its volumes, no volume attached", self.site.title());
        if self.forced.is_some() { format!("{how} (its pods were deleted by force)") } else { how }
    }

    /// One more push: the resource goes; pods that do not end go by force.
    async fn push(&mut self, look: &Look) -> Result<(), StepError> {
        if let Some(resource) = &look.resource
            && resource.metadata.deletion_timestamp.is_none()
        {
            return self.delete_resource(resource).await;
        }
        if Instant::now() >= self.polite_until {
            self.force(look).await?;
        }
        Ok(())
    }

    async fn delete_resource(&mut self, resource: &kube::api::DynamicObject) -> Result<(), StepError> {
        if self.deletes >= MOST_DELETES {
            return Ok(());
        }
        self.deletes += 1;
        self.keep_copy(resource)?;
        let uid = resource.uid().unwrap_or_default();
        self.ctx.gate.note("deleted", format!("{} with uid {uid}", self.site.title())).await?;
        self.ctx.gate.progress(format!("deleting {} at A", self.site.title()));
        let params = DeleteParams { propagation_policy: Some(PropagationPolicy::Background), ..only(&uid) };
        let deleted = try_write(&*self.ctx.gate, self.site.resources.delete(&resource.name_any(), &params)).await?;
        if let Err(fault) = deleted {
            // The next look says what came of it.
            tracing::debug!(resource = self.site.title(), cause = %fault, "the delete at A was not answered well");
        }
        Ok(())
    }

    /// Whoever brings A back needs the resource as it was.
    fn keep_copy(&self, resource: &kube::api::DynamicObject) -> Result<(), StepError> {
        let path = self.copy_path();
        let failed = |error: std::io::Error| {
            StepError::NotNoted(format!("a copy of A's resource in {}: {error}", path.display()))
        };
        let directory = path.parent().expect("a file in the run's directory");
        std::fs::create_dir_all(directory).map_err(failed)?;
        private_write(&path, json!(resource).to_string().as_bytes()).map_err(failed)
    }

    fn copy_path(&self) -> PathBuf {
        self.ctx.state.join("runs").join(self.ctx.order.run.as_str()).join("fenced-resource.json")
    }

    /// Deletes by force what is ending already, or what nobody brings back; a pod that its controller still wants would
    /// only be replaced.
    async fn force(&mut self, look: &Look) -> Result<(), StepError> {
        let stuck = look.pods.iter().filter(|pod| look.resource.is_none() || pod.metadata.deletion_timestamp.is_some());
        let stuck: Vec<_> = stuck.filter(|pod| !self.dealt_with.contains(&pod.uid().unwrap_or_default())).collect();
        if stuck.is_empty() {
            return Ok(());
        }
        let nodes = stuck.iter().filter_map(|pod| pod.spec.as_ref()?.node_name.clone());
        let before = self.forced.get_or_insert_with(|| Forced { attached: true, ..Forced::default() });
        before.attached &= !look.attached_to.is_empty();
        before.nodes.extend(nodes);
        self.ctx.gate.note(FORCED, json!(before).to_string()).await?;
        for pod in stuck {
            let uid = pod.uid().unwrap_or_default();
            self.ctx.gate.progress(format!("deleting pod {} at A by force", pods::name(pod)));
            let params = DeleteParams { grace_period_seconds: Some(0), ..only(&uid) };
            let deleted = try_write(&*self.ctx.gate, self.site.pods.delete(pods::name(pod), &params)).await?;
            match deleted {
                Ok(_) => drop(self.dealt_with.insert(uid)),
                Err(fault) => tracing::debug!(pod = pods::name(pod), cause = %fault, "a pod at A was not deleted"),
            }
        }
        Ok(())
    }
}

/// Deletes the object of this uid, and no later one of the same name.
fn only(uid: &str) -> DeleteParams {
    let uid = Some(uid.to_owned());
    DeleteParams { preconditions: Some(Preconditions { uid, resource_version: None }), ..DeleteParams::default() }
}

/// Values of a chart may be secrets: for the daemon's user alone.
fn private_write(path: &std::path::Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
