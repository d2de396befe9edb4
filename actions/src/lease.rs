//! The lease of a pair at B's API server: one writer, also where two daemons have directories of their own (S1).
//!
//! In: turns of the keeper. Out: until when the lease is ours, by our own clock. It is taken by compare-and-swap on the
//! object's resourceVersion. A lease of somebody else is taken over only after we have seen it unchanged for its whole
//! duration by our own clock, since clocks of two machines can not be compared. The lease carries the pair's epoch: whoever
//! takes it after another raises it, and nothing is written at an epoch that the lease does not carry, so that two holders
//! never share one. Start reading at [`LeaseKeeper::turn`].

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use tokio::time::{Instant, timeout};

use crate::{Permit, StepError};

/// A call that takes longer has failed: far less than a lease lasts.
const CALL: Duration = Duration::from_secs(4);

/// The annotation that carries the pair's epoch.
const EPOCH: &str = "understudy/epoch";

/// What a turn led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// It is ours until then.
    Ours {
        /// By our own clock, counted from before the write was sent.
        until: Instant,
        /// The epoch that it carries.
        epoch: u64,
    },
    /// Somebody else holds it.
    Theirs {
        /// Who.
        holder: String,
    },
    /// The API server did not answer, or another one was faster.
    Unknown {
        /// Why.
        why: String,
    },
}

/// Takes and keeps the lease of one pair.
pub struct LeaseKeeper {
    /// Where it lies; another client after a reload.
    leases: Mutex<Api<Lease>>,
    name: String,
    holder: String,
    lasts: Duration,
    boot: fn() -> Duration,
    state: Mutex<State>,
    /// Held from a read to the write that rests on it: steps that begin side by side must not overtake each other.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    /// Until when what we wrote last holds.
    until: Option<End>,
    /// Somebody else's lease as first seen: its resourceVersion, and when.
    seen: Option<(String, Instant)>,
}

/// Our own lease, as it was read.
struct Ours {
    lease: Lease,
    /// Whether it carries an earlier epoch than the order has.
    is_behind: bool,
}

/// An end by two clocks. The one that tokio's timers follow stands still while the machine is suspended; a lease does not.
#[derive(Clone, Copy)]
struct End {
    running: Instant,
    boot: Duration,
}

impl LeaseKeeper {
    /// A keeper of the lease `name` in `namespace`.
    ///
    /// - `holder`: the same for every process that works from one state directory, and for no other.
    #[must_use]
    pub fn new(client: &kube::Client, namespace: &str, name: String, holder: String, lasts: Duration) -> Self {
        let leases = Mutex::new(Api::namespaced(client.clone(), namespace));
        let (state, writing) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { leases, name, holder, lasts, boot: since_boot, state, writing }
    }

    /// Goes on by another client, whose kubeconfig was read anew. What is ours stays ours.
    pub fn go_on_by(&self, client: &kube::Client, namespace: &str) {
        *self.leases.lock().unwrap_or_else(PoisonError::into_inner) = Api::namespaced(client.clone(), namespace);
    }

    fn leases(&self) -> Api<Lease> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the lease, renews it, or says who has it.
    pub async fn turn(&self) -> Turn {
        let turn = self.try_turn().await;
        if !matches!(turn, Turn::Ours { .. }) {
            // What we wrote before still holds until its end: the lease is not given up for one lost answer.
            tracing::debug!(lease = %self.name, ?turn, "lease not renewed");
        }
        turn
    }

    async fn try_turn(&self) -> Turn {
        let _writing = self.writing.lock().await;
        let found = match timeout(CALL, self.leases().get_opt(&self.name)).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => return Turn::Unknown { why: error.to_string() },
            Err(_) => return Turn::Unknown { why: format!("no answer within {CALL:?}") },
        };
        let epoch = match &found {
            None => 0,
            Some(lease) if !self.may_write(lease) => return Turn::Theirs { holder: holder_of(lease).to_owned() },
            Some(lease) => match epoch_of(lease) {
                Ok(epoch) if holder_of(lease) == self.holder => epoch,
                Ok(epoch) => match epoch.checked_add(1) {
                    Some(next) => next,
                    None => {
                        return Turn::Unknown {
                            why: format!("no epoch follows {epoch}: correct the lease's annotation {EPOCH}"),
                        };
                    }
                },
                Err(why) => return Turn::Unknown { why },
            },
        };
        match self.write(found.as_ref(), epoch).await {
            Ok(until) => Turn::Ours { until, epoch },
            Err(why) => Turn::Unknown { why },
        }
    }

    /// Writes the lease as ours, by compare-and-swap on what was `found`; until when it is ours then.
    async fn write(&self, found: Option<&Lease>, epoch: u64) -> Result<Instant, String> {
        // The lease counts from before the write is sent, so that it never seems longer to us than to others.
        let (began, boot) = (Instant::now(), (self.boot)());
        let (params, taken) = (PostParams::default(), self.taken(found, epoch));
        let write = match found {
            None => timeout(CALL, self.leases().create(&params, &taken)).await,
            Some(_) => timeout(CALL, self.leases().replace(&self.name, &params, &taken)).await,
        };
        match write {
            Ok(Ok(_)) => {
                let end = End { running: began + self.lasts, boot: boot + self.lasts };
                *self.lock() = State { until: Some(end), seen: None };
                Ok(end.running)
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {CALL:?}")),
        }
    }

    /// Ours, nobody's, or seen unchanged for its whole duration.
    fn may_write(&self, lease: &Lease) -> bool {
        let holder = holder_of(lease);
        if holder == self.holder || holder.is_empty() {
            return true;
        }
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds).unwrap_or(0);
        let theirs = Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).max(self.lasts);
        let mut state = self.lock();
        match &state.seen {
            Some((seen, since)) if *seen == version => since.elapsed() > theirs,
            _ => {
                state.seen = Some((version, Instant::now()));
                false
            }
        }
    }

    fn taken(&self, before: Option<&Lease>, epoch: u64) -> Lease {
        let now = MicroTime(k8s_openapi::jiff::Timestamp::now());
        let spec = before.and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let same = before.is_some_and(|lease| holder_of(lease) == self.holder);
        let transitions = spec.lease_transitions.unwrap_or(0);
        Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                resource_version: before.and_then(|lease| lease.metadata.resource_version.clone()),
                annotations: Some([(EPOCH.to_owned(), epoch.to_string())].into()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.holder.clone()),
                lease_duration_seconds: Some(i32::try_from(self.lasts.as_secs().max(1)).unwrap_or(i32::MAX)),
                acquire_time: if same { spec.acquire_time } else { Some(now.clone()) },
                renew_time: Some(now),
                lease_transitions: Some(if same || before.is_none() {
                    transitions
                } else {
                    transitions.saturating_add(1)
                }),
                ..LeaseSpec::default()
            }),
        }
    }

    /// Leave for one write of `epoch`: the lease is read again, is ours, carries that epoch, and lasts longer than `margin`.
    /// An epoch that is new to the lease is written into it first.
    ///
    /// # Errors
    /// [`StepError::NoLease`].
    pub async fn permit(&self, margin: Duration, epoch: u64) -> Result<Permit, StepError> {
        let no = |why: String| Err(StepError::NoLease(why));
        if self.lock().until.is_none() {
            return no("the lease is not ours".into());
        }
        if self.read_ours(epoch).await?.is_behind {
            let _writing = self.writing.lock().await;
            // Another step of the same run may have written it meanwhile.
            let ours = self.read_ours(epoch).await?;
            if ours.is_behind
                && let Err(why) = self.write(Some(&ours.lease), epoch).await
            {
                return no(format!("lease {} does not take epoch {epoch}: {why}", self.name));
            }
        }
        let Some(until) = self.lock().until else { return no("the lease is not ours".into()) };
        let left =
            until.running.saturating_duration_since(Instant::now()).min(until.boot.saturating_sub((self.boot)()));
        if left <= margin {
            return no(format!("lease {} ends too soon", self.name));
        }
        Ok(Permit::until(Instant::now() + left))
    }

    /// Reads the lease again, for an order of `epoch`.
    async fn read_ours(&self, epoch: u64) -> Result<Ours, StepError> {
        let no = |why: String| Err(StepError::NoLease(why));
        let lease = match timeout(CALL, self.leases().get_opt(&self.name)).await {
            Ok(Ok(Some(lease))) => lease,
            Ok(Ok(None)) => return no(format!("lease {} is gone", self.name)),
            Ok(Err(error)) => return no(format!("lease {} can not be read: {error}", self.name)),
            Err(_) => return no(format!("lease {} can not be read: no answer within {CALL:?}", self.name)),
        };
        let holder = holder_of(&lease);
        if holder != self.holder {
            self.lock().until = None;
            return no(format!("lease {} is held by {holder}", self.name));
        }
        match epoch_of(&lease) {
            Ok(known) if known > epoch => {
                no(format!("lease {} is at epoch {known}, and this order of {epoch}", self.name))
            }
            Ok(known) => Ok(Ours { lease, is_behind: known < epoch }),
            Err(why) => no(why),
        }
    }

    /// Lets the lease go, so that another need not wait for its end.
    pub async fn release(&self) {
        let _writing = self.writing.lock().await;
        if self.lock().until.take().is_none() {
            return;
        }
        let Ok(Ok(Some(mut lease))) = timeout(CALL, self.leases().get_opt(&self.name)).await else { return };
        if holder_of(&lease) != self.holder {
            return;
        }
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
        }
        let released = timeout(CALL, self.leases().replace(&self.name, &PostParams::default(), &lease)).await;
        if !matches!(released, Ok(Ok(_))) {
            tracing::debug!(lease = %self.name, "the lease was not released; it ends by itself");
        }
    }
}

/// What is read of a lease; for [`crate::boundary`].
pub(crate) fn read_whole(lease: &Lease) -> Result<(String, u64), String> {
    Ok((holder_of(lease).to_owned(), epoch_of(lease)?))
}

fn holder_of(lease: &Lease) -> &str {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
}

/// The epoch that the lease carries; 0 if nobody wrote one.
fn epoch_of(lease: &Lease) -> Result<u64, String> {
    let Some(text) = lease.metadata.annotations.as_ref().and_then(|all| all.get(EPOCH)) else { return Ok(0) };
    text.parse().map_err(|_| format!("the lease's annotation {EPOCH} is no number: {text:?}"))
}

/// Time since the machine started, suspended or not.
fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let (seconds, nanos) = (u64::try_from(now.tv_sec), u32::try_from(now.tv_nsec));
    Duration::new(seconds.unwrap_or_default(), nanos.unwrap_or_default())
}

#[cfg(test)]
mod tests;
