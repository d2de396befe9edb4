//! What must hold in the world, whatever the journal says; and the checker of invariants, fed with what the journal keeps.
//!
//! The checker knows records alone. The checks here know what the records can not: where each write really landed, who took
//! writes at the same time, which numbered writes are gone, whether A could be seen when a promote was sent, whether the
//! world came to rest. Start reading at [`Sim::check_data`].

use std::collections::BTreeMap;

use understudy_checker::Checker;
use understudy_core::{
    DurablePair, FenceProof, LossBound, Mode, PageKind, Phase, Policy, Record, Role, Step, StepOrder, Verdict,
    WitnessKind, millis,
};

use super::fault::{Kind, Until, When};
use super::plot::Human;
use super::shell::{PAIR, WE};
use super::steps::{Process, Write};
use super::world::{Leads, WRITE_EVERY};
use super::{Ms, Sim, Violation};

/// A that any probe finds alive for this long has been seen: a look each 2 s, and the time until a promote is sent.
const SURELY_SEEN: Ms = 5_000;
/// A prompt human answers so long before the request expires.
const ANSWERS_EARLY: Ms = 10_000;
/// Between two looks.
const ONE_LOOK: Ms = 2_000;
/// An A that serves beside an active B is told within this time.
const TOLD_WITHIN: Ms = 12_000;
/// A clock of A that is set forward by less than this between a snapshot and its copy can not be told from a late copy.
const UNNOTICED: Ms = 60_000;
/// A route may be under way this long after its step was allowed.
const ROUTE_TRAVELS: Ms = 4_000;

/// What the checks remember.
#[derive(Debug)]
pub struct Books {
    /// The first violation.
    pub violation: Option<Violation>,
    /// Somebody else changed the route.
    pub route_moved: bool,
    checker: Checker,
    fed: usize,
    counts: BTreeMap<&'static str, u64>,
    verdict: Verdict,
    proof: Option<FenceProof>,
    /// What allowed the last promote.
    promoted_with: Option<FenceProof>,
    forced: bool,
    witness_was_blindfold: bool,
    promised: Option<LossBound>,
    /// The bound ends where A was seen last, by word of a witness.
    ends_when_seen: bool,
    unseen: Unseen,
    /// Since when nobody could see A, at the consistency point.
    seen_until: Option<Ms>,
    third_sees_since: Option<Ms>,
    visible_since: Option<Ms>,
    serving_since: Option<Ms>,
    both: bool,
    returned: bool,
}

/// Since when nobody can see A. Who could be seen for less than surely enough was not.
#[derive(Debug, Default)]
struct Unseen {
    since: Option<Ms>,
    again: Option<Ms>,
}

impl Unseen {
    fn set(&mut self, unseen: bool, t: Ms) {
        if !unseen {
            self.again = self.again.or(Some(t));
        } else {
            self.since = self.since_when(t).or(Some(t));
            self.again = None;
        }
    }

    fn since_when(&self, t: Ms) -> Option<Ms> {
        self.since.filter(|_| self.again.is_none_or(|again| t - again < SURELY_SEEN))
    }
}

impl Books {
    /// Empty books.
    #[must_use]
    pub fn new(_policy: &Policy) -> Self {
        let names = [
            "world S1: writes within the lease",
            "world S2: no promote beside an A in sight",
            "world S2: no write in observe",
            "world S6: proof before a forced promote",
            "world S6: one writer of data",
            "world S6: the mirror is brought back",
            "world S8: lost writes within the bound",
            "world S9: deploy on promoted images",
            "world S9: route to verified data",
            "world S9: B serves at the end",
            "world S10: intent on disk before the effect",
            "world S10: one promote at a time",
            "world S12: a returned A is told",
            "world L2: the world settles",
            "world L2: a plain failover succeeds",
        ];
        Self {
            violation: None,
            route_moved: false,
            checker: Checker::default(),
            fed: 0,
            counts: names.into_iter().map(|name| (name, 0)).collect(),
            verdict: Verdict::Suspect,
            proof: None,
            promoted_with: None,
            forced: false,
            witness_was_blindfold: false,
            promised: None,
            ends_when_seen: false,
            unseen: Unseen::default(),
            seen_until: None,
            third_sees_since: Some(0),
            visible_since: None,
            serving_since: Some(0),
            both: false,
            returned: false,
        }
    }

    /// How often each check had something to judge.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, u64> {
        let own = self.counts.iter().map(|(name, n)| ((*name).to_owned(), *n));
        let theirs = self.checker.counts().iter().map(|(invariant, n)| (format!("checker {invariant}"), *n));
        own.chain(theirs).collect()
    }
}

impl Sim<'_> {
    /// Something was violated; the first one counts.
    pub fn violate(&mut self, invariant: &str, what: impl Into<String>) {
        if self.books.violation.is_none() {
            self.books.violation = Some(Violation { invariant: invariant.into(), at: self.world.t, what: what.into() });
        }
    }

    fn judge_that(&mut self, check: &'static str, holds: bool, what: impl FnOnce() -> String) {
        *self.books.counts.entry(check).or_default() += 1;
        if !holds {
            self.violate(check, what());
        }
    }

    /// Gives the checker what is on disk by now.
    pub fn tell_checker(&mut self) {
        let journal = &self.daemon.journal;
        let mut broken = None;
        for kept in &journal.kept[self.books.fed..journal.flushed] {
            if let Err(violation) = self.books.checker.see(kept) {
                broken = Some(violation);
                break;
            }
        }
        self.books.fed = self.daemon.journal.flushed;
        if let Some(violation) = broken {
            self.violate(&format!("checker {}", violation.invariant), violation.to_string());
        }
    }

    /// What the story follows of the records, as they are written.
    pub fn note_record(&mut self, record: &Record) {
        match record {
            Record::Started { .. } => self.books.verdict = Verdict::Suspect,
            Record::Verdict { to, .. } => self.books.verdict = *to,
            Record::FenceProven { proof, .. } => self.books.proof = Some(proof.clone()),
            Record::RunStarted { run, .. } => {
                self.books.forced = run.authority.is_forced();
                self.books.ends_when_seen = run.served_until_wall_ms.is_some();
                self.books.proof = None;
            }
            Record::OldPrimaryReturned { .. } => self.books.returned = true,
            _ => {}
        }
    }

    /// A step is about to run.
    pub fn check_order(&mut self, order: &StepOrder) {
        let journal = &self.daemon.journal;
        let intended = journal.kept[..journal.flushed].iter().rev().any(|kept| {
            matches!(&kept.record, Record::Intent { run, step, attempt, .. }
                if *run == order.run && *step == order.step && *attempt == order.attempt)
        });
        // A segment that was rotated away holds the intent of a step that is resumed; its snapshot knows of it.
        let intended = intended || order.resumed;
        self.judge_that("world S10: intent on disk before the effect", intended, || {
            format!("{} try {} runs without an intent on disk", order.step, order.attempt)
        });
        if order.step == Step::Promote {
            self.books.promised = order.bound;
        }
    }

    /// A write is about to be sent.
    pub fn check_write(&mut self, order: &StepOrder, write: Write) {
        let (t, lease) = (self.world.t, self.lease);
        let within = lease.holder == WE && lease.epoch == order.epoch && t < lease.renewed + self.plot.setting.lease;
        self.judge_that("world S1: writes within the lease", within, || {
            format!("{write:?} of epoch {} is sent under {lease:?}", order.epoch)
        });
        let observes = self.plot.policy.pairs[0].mode == Mode::Observe;
        self.judge_that("world S2: no write in observe", !observes, || format!("{write:?} is sent in observe"));
        match write {
            Write::ApplyAtB => {
                let promoted = self.world.images.iter().all(|image| image.primary_b && !image.half && !image.orphan);
                self.judge_that("world S9: deploy on promoted images", promoted && self.world.restored, || {
                    "Nexus is deployed before every image is promoted".into()
                });
            }
            Write::Route(_) => {
                let valid = millis(self.plot.policy.pairs[0].plan.verify_valid) + ROUTE_TRAVELS;
                let verified = self.verified.is_some_and(|at| t - at <= valid);
                self.judge_that("world S9: route to verified data", verified, || {
                    "the route is switched without a verify that is young".into()
                });
            }
            _ => {}
        }
    }

    /// A promote is about to run.
    pub fn check_promote(&mut self, image: usize, run: &str) {
        let witness = self.plot.policy.pairs[0].witnesses.iter().any(|w| w.kind == WitnessKind::ThirdSite);
        // An A that was down when it counted may come back: nobody fenced it. So may one that the witness could not see.
        let lately = |since: Option<Ms>| since.is_none_or(|since| self.world.t - since < SURELY_SEEN);
        self.books.witness_was_blindfold =
            witness && (lately(self.books.third_sees_since) || lately(self.world.taken_a.since));
        self.books.promoted_with = self.books.proof.clone();
        let earlier = self.promotes.iter().filter(|p| p.image == image);
        let alone = earlier.clone().all(|p| p.state != Process::Runs && (p.run != run || p.judged.is_some()));
        self.judge_that("world S10: one promote at a time", alone, || {
            format!("image {image} is promoted again, and nobody was told of the promote before")
        });
        let proven = self.books.proof.is_some();
        self.judge_that("world S6: proof before a forced promote", proven, || "nothing allows this promote".into());
        let seen_for = self.books.visible_since.map_or(0, |since| self.world.t - since);
        let unseen = seen_for <= SURELY_SEEN || self.books.forced;
        self.judge_that("world S2: no promote beside an A in sight", unseen, || {
            format!("A is alive and in sight since {seen_for} ms")
        });
    }

    /// The consistency point is read.
    pub fn note_point(&mut self) {
        self.point_read = self.world.t;
        self.books.seen_until = self.books.unseen.since_when(self.world.t);
    }

    /// A promote has ended well: what is gone?
    pub fn check_loss(&mut self, image: usize) {
        let content = self.world.images[image].content.unwrap_or_default();
        // An A that nobody could see any more may have gone on: that such an A is down is what its witness stands for, and
        // what it took afterwards is in no bound (S8).
        let end = self.books.seen_until.filter(|_| self.books.ends_when_seen);
        let end = end.map_or(Ms::MAX, |since| since + ONE_LOOK).min(self.point_read);
        let taken = &self.world.taken_a;
        let first = taken.first_within(content, end);
        let last = taken.past.iter().copied().chain(taken.since.map(|since| (since, end)));
        let last = last.map(|(_, until)| until.min(end)).max().unwrap_or(0);
        let lost = first.map_or(0, |first| last.saturating_sub(first) + WRITE_EVERY);
        // What A's clock was set by and nobody could measure before A was gone is in no bound (S8).
        let unmeasured = self.world.a_clock_unmeasured.filter(|by| *by < UNNOTICED).unwrap_or(0);
        let within = match self.books.promised {
            Some(LossBound::AtMost(bound)) => lost <= bound + unmeasured,
            Some(LossBound::Infinite) | None => false,
        };
        let promised = self.books.promised;
        self.judge_that("world S8: lost writes within the bound", within, || {
            format!("the writes of {lost} ms are lost, the bound was {promised:?}")
        });
    }

    /// Something changed that data depend on.
    pub fn check_data(&mut self) {
        let t = self.world.t;
        let visible = self.a_is_visible();
        self.books.visible_since = if visible { self.books.visible_since.or(Some(t)) } else { None };
        let third = !self.world.faults.on(Kind::WitnessCut) && !self.world.a_is_still();
        self.books.third_sees_since = if third { self.books.third_sees_since.or(Some(t)) } else { None };
        self.books.unseen.set(!visible && !third, t);
        let serves = self.a_serves_in_sight();
        self.books.serving_since = if serves { self.books.serving_since.or(Some(t)) } else { None };
        let both = self.world.a_takes_writes() && self.world.nexus_b_serves();
        if both && !self.books.both {
            let allowed = match &self.books.promoted_with {
                Some(FenceProof::Accepted(_)) => true,
                Some(FenceProof::Witnessed { .. }) => self.books.witness_was_blindfold,
                Some(FenceProof::Confirmed) => self.world.cr_put_back,
                None => false,
            };
            let proof = self.books.promoted_with.clone();
            self.judge_that("world S6: one writer of data", allowed, || {
                format!("A and B take writes at the same time, although {proof:?}")
            });
        }
        self.books.both = both;
    }

    fn in_sight(&self) -> bool {
        let f = &self.world.faults;
        let cut = [Kind::SiteCut, Kind::CutThere, Kind::CutBack, Kind::ProbeErrors, Kind::SlowNetwork];
        !self.world.a_is_still() && !cut.into_iter().any(|kind| f.on(kind))
    }

    fn a_is_visible(&self) -> bool {
        let f = &self.world.faults;
        self.in_sight() && (!f.on(Kind::ApiDies) || !f.on(Kind::CephDies))
    }

    fn a_serves_in_sight(&self) -> bool {
        let f = &self.world.faults;
        self.in_sight() && self.world.cr_at_a && !f.on(Kind::NexusDies) && !f.on(Kind::Flaps)
    }

    fn durable(&self) -> Option<&DurablePair> {
        self.daemon.state.as_ref().and_then(|state| state.durable(PAIR))
    }

    /// What is still to happen before the world is at rest.
    pub fn unsettled(&self) -> Option<String> {
        let daemon = &self.daemon;
        if daemon.refuses.is_some() {
            return None;
        }
        if !daemon.runs || self.world.t < daemon.hangs_until {
            return Some("the daemon does not run".into());
        }
        if self.pager.pending > 0 {
            return Some("a human is about to act".into());
        }
        let durable = self.durable()?;
        if durable.pause.is_some() {
            return Some("the pair is paused".into());
        }
        match durable.open_run() {
            Some(run) => {
                let stuck = run.stuck().next().is_some();
                let paged = self.pager.pages.iter().any(|(_, kind)| *kind == PageKind::Stuck);
                let acts = run.running().any(|(step, ..)| !(step.is_recheck() && run.phase != Phase::Forward));
                let still = !acts && self.daemon.tasks.is_empty();
                let waits = matches!(run.phase, Phase::Forward | Phase::BringingBack { .. }) && stuck && paged;
                (!(waits && still)).then(|| format!("run {} is under way: {:?}", run.id, statuses(run)))
            }
            None => match durable.role {
                Role::AtB if self.is_about_to_tell() => Some("an A that serves is about to be told".into()),
                Role::AtB | Role::Moving { .. } => None,
                Role::AtA => self.unsettled_at_a(durable),
            },
        }
    }

    /// An A that serves is told once it was seen, by a daemon that runs.
    fn is_about_to_tell(&self) -> bool {
        let since = self.books.serving_since.map(|since| since.max(self.daemon.awake_since));
        !self.books.returned && since.is_some_and(|since| self.world.t - since <= TOLD_WITHIN)
    }

    fn unsettled_at_a(&self, durable: &DurablePair) -> Option<String> {
        let paged = |kind| self.pager.pages.iter().any(|(_, of)| *of == kind);
        let told = match self.books.verdict {
            Verdict::Up => true,
            Verdict::SiteDown => durable.request.is_some() || self.pager.asked.is_some() || paged(PageKind::SiteDown),
            Verdict::ServiceDown => paged(PageKind::ServiceDown),
            Verdict::StorageDown => paged(PageKind::StorageDown),
            // A that some see and others do not is nobody's decision.
            Verdict::Suspect => self.world.t > self.quiet_since + 60_000 && self.a_is_disputed(),
            Verdict::Blind => false,
        };
        (!told).then(|| format!("the verdict is {}", self.books.verdict))
    }

    fn a_is_disputed(&self) -> bool {
        let f = &self.world.faults;
        let partly = [Kind::CutThere, Kind::CutBack, Kind::SiteCut, Kind::CephDies, Kind::ApiDies, Kind::NexusDies];
        partly.into_iter().any(|kind| f.on(kind))
            || !self.world.cr_at_a
            || self.world.images.iter().any(|i| !i.primary_a)
    }

    /// The world is at rest: is it well?
    pub fn check_end(&mut self) {
        self.judge_that("world L2: the world settles", true, String::new);
        let Some(durable) = self.durable() else {
            return self.ended("the daemon refuses to start");
        };
        let (role, open) = (durable.role.clone(), durable.open_run().is_some());
        let stopped = durable.run.is_some();
        match role {
            Role::AtA if stopped => self.ended("A is active, a run was stopped"),
            Role::AtA => self.ended("A is active"),
            Role::Moving { .. } if open => self.ended("stuck and paged"),
            Role::Moving { .. } => self.ended("given up half-way"),
            Role::AtB => self.ended("B is active"),
        }
        if role == Role::AtB {
            let well = self.world.nexus_b_serves() && self.world.route == [Leads::ToB; 2];
            let moved = self.books.route_moved;
            self.judge_that("world S9: B serves at the end", well || moved, || "B is active and does not serve".into());
            if self.books.serving_since.is_some_and(|since| self.world.t - since > TOLD_WITHIN) {
                let told = self.books.returned;
                self.judge_that("world S12: a returned A is told", told, || {
                    "A serves again, and nobody is told".into()
                });
            }
        }
        if role == Role::AtA && stopped && !open {
            let back = self.world.mirror_runs && !self.world.mirror_refused;
            self.judge_that("world S6: the mirror is brought back", back, || "rbd-mirror at B was left stopped".into());
        }
        if self.is_plain() {
            self.judge_that("world L2: a plain failover succeeds", role == Role::AtB, || {
                "A is dead, the human prompt, nothing else is wrong, and B is not active".into()
            });
        }
    }

    fn ended(&mut self, how: &str) {
        *self.tally.endings.entry(how.to_owned()).or_default() += 1;
    }

    /// A dead site, a human who answers rightly, and nothing else.
    fn is_plain(&self) -> bool {
        let rules = &self.plot.policy.pairs[0];
        let [fault] = self.plot.faults[..] else { return false };
        let dead = fault.kind == Kind::SiteDies && fault.ends == Until::Ever && fault.begins != When::Boundary(0);
        let setting = &self.plot.setting;
        // Who answers when the request has almost expired accepts a loss that the fence alone may exceed: he is asked anew.
        let in_time = setting.acts_after + ANSWERS_EARLY < millis(rules.approval_ttl);
        let willing = setting.human == Human::Prompt && setting.accepts_unfenced && in_time;
        // A copy in the middle of its first sync has no generation to go back to: nobody can accept that loss.
        let known = self.world.images.iter().all(|image| image.syncing.is_none() || image.whole.len() > 1);
        dead && willing && known && rules.mode == Mode::Confirm
    }
}

fn statuses(run: &understudy_core::Run) -> Vec<String> {
    use understudy_core::StepStatus as S;
    let open = run.steps.iter().filter(|entry| !entry.status.is_over());
    let word = |status: &S| match status {
        S::Pending => "pending",
        S::Running { .. } => "running",
        S::Waiting { .. } => "waiting",
        S::Stuck { .. } => "stuck",
        S::Done { .. } | S::Skipped { .. } => "over",
    };
    open.map(|entry| format!("{} {}", entry.step, word(&entry.status))).collect()
}
