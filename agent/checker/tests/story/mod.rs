//! Stories that the core told in a small world, and ways to break one thing in them.

#![allow(dead_code, reason = "each test file uses its own part")]

#[path = "../../../core/tests/common/mod.rs"]
pub mod world;

use understudy_checker::{Checker, Counts, Invariant, Seen, Violation, check};
use understudy_core::*;
pub use world::*;

pub type Story = Vec<(Now, Record)>;

pub fn entries(story: &[(Now, Record)]) -> Vec<Seen> {
    (1..).zip(story).map(|(seq, (at, record))| Seen { seq, at: *at, record: record.clone() }).collect()
}

pub fn judge(story: &[(Now, Record)]) -> Result<Counts, Violation> {
    check(entries(story))
}

/// Asserts that `story` breaks `invariant`, and says `what`.
#[track_caller]
pub fn breaks(story: &[(Now, Record)], invariant: Invariant, what: &str) {
    let violation = judge(story).expect_err("the story is broken");
    assert!(
        violation.invariant == invariant && violation.what.contains(what),
        "expected {invariant} {what:?}, found {violation}"
    );
}

/// A failover that a human approved, who also accepted that the fence is not confirmed.
pub fn approved() -> Story {
    let mut world = World::failing_over(policy());
    world.play_until(None);
    world.run(2);
    world.journal.clone()
}

pub fn automatic_policy() -> Policy {
    let mut policy = policy();
    policy.pairs[0].mode = Mode::Auto;
    policy
}

/// A failover that nobody was asked for, with a witness.
pub fn automatic() -> Story {
    let mut world = World::healthy(automatic_policy());
    (world.sees, world.witness) = (DEAD, Says::Down);
    world.run(30);
    world.play_until(None);
    world.journal.clone()
}

/// A failover by force, with a living A that confirms its fence.
pub fn forced() -> Story {
    let mut world = World::healthy(policy());
    world.order(force(None)).expect("nothing is in the way");
    world.play_until(Some(Step::Fence));
    let at_wall_ms = world.now.wall_ms;
    let finding = Finding::Fence(FenceOutcome::Confirmed { how: "no pod".into(), at_wall_ms });
    world.end(Step::Fence, 1, StepResult::Done { detail: "fenced".into(), finding });
    world.play_until(None);
    world.journal.clone()
}

pub fn force(accept_unfenced: Option<String>) -> Order {
    Order::Failover { force: true, reason: "Ceph is lost".into(), accept_unfenced, accept_loss_ms: None }
}

/// A failover that stops after the quiesce, for A lives.
pub fn stopped() -> Story {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Bound));
    world.sees = ALIVE;
    world.run(3);
    world.done(Step::Bound);
    world.play_until(None);
    world.journal.clone()
}

pub fn without(story: &[(Now, Record)], gone: impl Fn(&Record) -> bool) -> Story {
    let left: Story = story.iter().filter(|(_, record)| !gone(record)).cloned().collect();
    assert!(left.len() < story.len(), "nothing was taken out");
    left
}

pub fn changed(story: &[(Now, Record)], change: impl Fn(&mut Record)) -> Story {
    let mut other = story.to_vec();
    other.iter_mut().for_each(|(_, record)| change(record));
    assert_ne!(other, story, "nothing was changed");
    other
}

/// `story` with `more` after the first record that is `wanted`, at the same time.
pub fn after(story: &[(Now, Record)], wanted: impl Fn(&Record) -> bool, more: Vec<Record>) -> Story {
    let at = position(story, wanted);
    let mut other = story[..=at].to_vec();
    other.extend(more.into_iter().map(|record| (story[at].0, record)));
    other.extend_from_slice(&story[at + 1..]);
    other
}

/// `story` up to the first record that is `wanted`.
pub fn until(story: &[(Now, Record)], wanted: impl Fn(&Record) -> bool) -> Story {
    story[..=position(story, wanted)].to_vec()
}

pub fn position(story: &[(Now, Record)], wanted: impl Fn(&Record) -> bool) -> usize {
    story.iter().position(|(_, record)| wanted(record)).expect("the story has such a record")
}

pub fn is_intent(wanted: Step) -> impl Fn(&Record) -> bool {
    move |record| matches!(record, Record::Intent { step, .. } if *step == wanted)
}

pub fn is_outcome(wanted: Step) -> impl Fn(&Record) -> bool {
    move |record| matches!(record, Record::Outcome { step, .. } if *step == wanted)
}

pub fn is_started(record: &Record) -> bool {
    matches!(record, Record::RunStarted { .. })
}

pub fn is_site_down(record: &Record) -> bool {
    matches!(record, Record::Verdict { to: Verdict::SiteDown, .. })
}

pub fn is_asked(record: &Record) -> bool {
    matches!(record, Record::Requested { .. })
}

pub fn is_answered(record: &Record) -> bool {
    matches!(record, Record::Answered { .. })
}

pub fn is_round(wanted: u32) -> impl Fn(&Record) -> bool {
    move |record| matches!(record, Record::Round { number, .. } if *number == wanted)
}

/// The first record that is `wanted`.
pub fn find(story: &[(Now, Record)], wanted: impl Fn(&Record) -> bool) -> Record {
    story[position(story, wanted)].1.clone()
}

pub fn run_of(story: &[(Now, Record)]) -> Run {
    match find(story, is_started) {
        Record::RunStarted { run, .. } => *run,
        other => panic!("{other:?} starts no run"),
    }
}

pub fn with_run(story: &[(Now, Record)], change: impl Fn(&mut Run)) -> Story {
    changed(story, |record| {
        if let Record::RunStarted { run, .. } = record {
            change(run)
        }
    })
}

/// Changes the rules that the story was written under.
pub fn under(story: &[(Now, Record)], change: impl Fn(&mut Policy)) -> Story {
    changed(story, |record| {
        if let Record::Ruled { policy } = record {
            change(policy)
        }
    })
}

pub fn name() -> PairName {
    "nexus".into()
}

pub fn started() -> Record {
    Record::Started { version: "test".into(), config_digest: "digest".into() }
}

pub fn doubt() -> Record {
    Record::Doubt { why: Some("own-api is Down".into()) }
}

/// A checker that has seen all of `story`.
pub fn seen(story: &[(Now, Record)]) -> Checker {
    let mut checker = Checker::default();
    entries(story).iter().for_each(|entry| checker.see(entry).expect("the story is good"));
    checker
}
