//! Posts the watch: probes, witnesses, leases and readiness, each as a task of its own beside the loop.
//!
//! In: the configuration. Out: events, until the guard is relieved.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use understudy_actions::kube_client::{self, Patience};
use understudy_config::{Cluster, Clusters, Loaded, Pair};
use understudy_core::{Event, PairId, Policy};
use understudy_probes::{
    BootClock, Grid, Look, Looks, Probe, Round, Shared, Witness, WitnessLook, look_now, watch as watch_grid,
};

use crate::copy_age::CopyAge;
use crate::inbox::Inbox;
use crate::lease::{self, Lease};
use crate::readiness;
use crate::runner::Means;

/// How long the tasks may take to end.
const RELIEF: Duration = Duration::from_secs(3);

/// Everything that runs beside the loop for the pairs as configured.
pub struct Guard {
    stop: CancellationToken,
    tasks: TaskTracker,
    /// Asks for a self-check now, each.
    own: Vec<Arc<Notify>>,
    /// Asks for every look of a pair now, each.
    pairs: Vec<Vec<Arc<Notify>>>,
    /// Whether the pair's lease is wanted, and the lease.
    leases: Vec<(watch::Sender<bool>, Lease)>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Guard {
    /// Starts every task.
    ///
    /// - `before`: the guard that it takes the place of; its leases are kept, by clients of the settings of now.
    ///
    /// # Errors
    /// What is wrong with a setting that only shows when it is used: a secret, a kubeconfig, a file of roots.
    pub async fn post(
        loaded: &Loaded,
        policy: &Policy,
        inbox: &Inbox,
        before: Option<&Guard>,
    ) -> anyhow::Result<(Self, Vec<Means>)> {
        let config = &loaded.config;
        let clients = Clients::of(&config.clusters).await?;
        let holder = lease::holder(&config.state.file)?;
        let mut guard = Self {
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            own: vec![],
            pairs: vec![],
            leases: vec![],
        };
        let inbox = &inbox.of_guard(guard.stop.clone());
        let mut shared = Shared::new();
        for (n, check) in config.self_checks.iter().enumerate() {
            let probe = Probe::of_self_check(check, config, &mut shared).await;
            let probe = probe.with_context(|| format!("self-check {}", check.name))?;
            let check = position(n);
            let grid = Grid::scattered(probe.period(), n);
            let now = guard.watch(probe, grid, inbox, move |look| {
                [Some(Event::SelfRead { check, observation: look.observation }), None]
            });
            guard.own.push(now);
        }
        let mut means = Vec::new();
        for (n, pair) in config.pairs.iter().enumerate() {
            let id = PairId(u32::try_from(n).context("too many pairs")?);
            let looks = guard.post_pair(id, pair, loaded, policy, inbox, &mut shared).await?;
            guard.pairs.push(looks);
            let lease = match before.and_then(|guard| guard.leases.get(n)) {
                Some((_, lease)) => lease.kept(pair),
                None => Lease::of(pair, clients.standby.as_ref(), &holder),
            };
            means.push(guard.post_means(id, pair, loaded, &clients, lease, inbox));
        }
        // Last, since until here the settings may prove unusable, and then the old guard stays.
        for ((_, lease), pair) in guard.leases.iter().zip(&config.pairs) {
            lease.go_on_by(clients.standby.as_ref(), pair);
        }
        guard.tasks.close();
        Ok((guard, means))
    }

    async fn post_pair(
        &self,
        id: PairId,
        pair: &Pair,
        loaded: &Loaded,
        policy: &Policy,
        inbox: &Inbox,
        shared: &mut Shared,
    ) -> anyhow::Result<Vec<Arc<Notify>>> {
        let rules = &policy.pairs[id.at()];
        let mut looks = Vec::new();
        let settings: Vec<_> = pair.probes.iter().chain(&pair.standby_probes).collect();
        for (n, setting) in settings.iter().enumerate() {
            let probe = Probe::of_pair(setting, pair, rules.probes[n].site, &loaded.config, shared).await;
            let probe = probe.with_context(|| format!("probe {} of pair {}", setting.name, pair.name))?;
            let at = position(n);
            let grid = Grid::scattered(probe.period(), place_of(id, n));
            looks.push(self.watch(probe, grid, inbox, move |look| events_of(id, at, look)));
        }
        for (n, setting) in pair.witnesses.iter().enumerate() {
            let witness = Witness::new(setting, &pair.name, shared);
            let witness = witness.with_context(|| format!("witness {} of pair {}", setting.name, pair.name))?;
            let at = position(n);
            let grid = Grid::scattered(witness.period(), place_of(id, settings.len() + n));
            looks.push(self.watch(witness, grid, inbox, move |WitnessLook { started_ms, report }| {
                [Some(Event::WitnessRead { pair: id, witness: at, started_ms, report }), None]
            }));
        }
        if let Some(age) = CopyAge::of(pair, &loaded.config.site) {
            // Its place is behind the probes of the file.
            let (at, turn) = (position(settings.len()), place_of(id, settings.len() + pair.witnesses.len()));
            let grid = Grid::scattered(rules.probes[settings.len()].period, turn);
            looks.push(self.watch(age, grid, inbox, move |look| events_of(id, at, look)));
        }
        Ok(looks)
    }

    /// Looks on the grid, and apart from it whenever the notify says so; neither delays the other.
    fn watch<L: Looks + 'static>(
        &self,
        who: L,
        grid: Grid,
        inbox: &Inbox,
        events: impl Fn(L::Seen) -> [Option<Event>; 2] + Clone + Send + Sync + 'static,
    ) -> Arc<Notify> {
        let now = Arc::new(Notify::new());
        let probe = Arc::new(who);
        let (on_grid, told, tells) = (probe.clone(), inbox.clone(), events.clone());
        self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(async move {
            watch_grid(&*on_grid, grid, &BootClock, move |round: Round<L::Seen>| {
                tell(&told, tells(round.look));
                ControlFlow::Continue(())
            })
            .await;
        }));
        let (asked, told) = (now.clone(), inbox.clone());
        self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(async move {
            loop {
                asked.notified().await;
                // Readings of the very millisecond in which they were asked for do not count.
                tokio::time::sleep(Duration::from_millis(2)).await;
                tell(&told, events(look_now(&*probe).await));
            }
        }));
        now
    }

    fn post_means(
        &mut self,
        id: PairId,
        pair: &Pair,
        loaded: &Loaded,
        clients: &Clients,
        lease: Lease,
        inbox: &Inbox,
    ) -> Means {
        let (wanted, wants) = watch::channel(false);
        self.leases.push((wanted, lease.clone()));
        let keeping = lease::keep(id, lease.clone(), pair.limits.lease.0, wants, inbox.clone());
        self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(keeping));
        let means = Means {
            pair: Arc::new(pair.clone()),
            primary: clients.primary.clone(),
            standby: clients.standby.clone(),
            lease,
        };
        let has_standby = loaded.config.clusters.standby.is_some();
        let looking = readiness::watch(id, means.clone(), has_standby, inbox.clone());
        self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(looking));
        means
    }

    /// Makes every look now that the pair's decision rests on, apart from the grid.
    pub fn look_now(&self, pair: PairId) {
        let looks = self.own.iter().chain(self.pairs.get(pair.at()).into_iter().flatten());
        looks.for_each(|look| look.notify_one());
    }

    /// Takes the pair's lease and keeps it.
    pub fn hold_lease(&self, pair: PairId) {
        if let Some((lease, _)) = self.leases.get(pair.at()) {
            lease.send_replace(true);
        }
    }

    /// Ends every task, within a limit.
    pub async fn end(&self) {
        self.stop.cancel();
        if tokio::time::timeout(RELIEF, self.tasks.wait()).await.is_err() {
            tracing::warn!("some probes were still under way when the daemon stopped");
        }
        futures::future::join_all(self.leases.iter().map(|(_, lease)| lease::release(lease))).await;
    }
}

fn position(n: usize) -> u16 {
    u16::try_from(n).unwrap_or(u16::MAX)
}

/// Another number for each look of each pair, by which its grid's phase is chosen.
fn place_of(pair: PairId, n: usize) -> usize {
    /// More looks than any pair has.
    const LOOKS: usize = 64;
    (pair.at() + 1) * LOOKS + n
}

/// A look at the mirrored images tells facts; every other look is a reading. A's clock is compared by the way.
fn events_of(pair: PairId, probe: u16, look: Look) -> [Option<Event>; 2] {
    let clock = look.clock_error_ms.map(|error_ms| Event::ClockCompared { pair, error_ms });
    let seen = match look.mirror {
        Some(facts) => Event::MirrorRead { pair, probe, started_ms: look.observation.started_ms, facts },
        None => Event::Read { pair, probe, observation: look.observation },
    };
    [Some(seen), clock]
}

/// A probe never waits for the loop; a loop that is thousands of events behind hangs, and its silence is told by systemd.
fn tell(inbox: &Inbox, events: [Option<Event>; 2]) {
    for event in events.into_iter().flatten() {
        if !inbox.event_now(event) {
            tracing::error!("the event loop is too far behind: a reading is lost");
        }
    }
}

/// Clients of the two API servers, for steps.
pub struct Clients {
    primary: Option<kube::Client>,
    standby: Option<kube::Client>,
}

impl Clients {
    /// Clients of those that are configured. Nothing is sent yet.
    ///
    /// # Errors
    /// An unusable kubeconfig, with its remedy.
    pub async fn of(clusters: &Clusters) -> anyhow::Result<Self> {
        let one = async |which: &str, cluster: Option<&Cluster>| match cluster {
            None => anyhow::Ok(None),
            Some(cluster) => {
                let client = kube_client::client(cluster, Patience::default()).await;
                Ok(Some(client.with_context(|| format!("clusters.{which}"))?))
            }
        };
        Ok(Self {
            primary: one("primary", clusters.primary.as_ref()).await?,
            standby: one("standby", clusters.standby.as_ref()).await?,
        })
    }
}
