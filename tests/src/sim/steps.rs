//! The steps: small copies of `actions/src`, one operation at a time, so that a crash or a lost answer can fall between any
//! two of them.
//!
//! In: an order of the core. Out: writes that travel and land in the [`World`](super::world::World), and the step's result.
//! Each step keeps the shape of its original: what it reads first, what it notes before it writes, which failure it calls
//! transient, unknown or permanent. A write asks for a permit, travels, lands whether we live or not, and its answer comes
//! back or is lost. Start reading at `Sim::advance`.

mod promote;

use understudy_core::{Event, Failure, FenceOutcome, Finding, MirrorFacts, Step, StepOrder, StepResult, Ticket};

use super::fault::Kind;
use super::plot::FenceBy;
use super::shell::PAIR;
use super::world::Leads;
use super::{Ms, Sim, What};

pub use promote::{Process, Promote};

/// A call that is not answered is given up after this.
const CALL: Ms = 3_000;
/// A that gives no answer for this long is not asked any more.
const GIVE_UP: Ms = 4_000;
/// The whole fence.
const FENCE_WITHIN: Ms = 8_000;
/// How long a stranger may have an image open.
const STRANGER: Ms = 8_000;
/// How long Nexus at B may take to answer a verify.
const VERIFY_WITHIN: Ms = 8_000;
/// How long the proof from outside may take.
const ROUTE_CHECK_WITHIN: Ms = 15_000;

/// A step under way.
#[derive(Debug)]
pub struct Task {
    /// Its number.
    pub id: u32,
    /// What it was told.
    pub order: StepOrder,
    stage: u8,
    deadline: Ms,
    answered: Ms,
    sent: u32,
    left: Vec<usize>,
    no_leave: bool,
}

/// A write under way to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// The custom resource at A goes.
    DeleteAtA,
    /// A's images are demoted.
    DemoteAtA,
    /// rbd-mirror at B stops.
    StopMirror,
    /// rbd-mirror at B is refused.
    Blocklist,
    /// It is let in again.
    LiftBlocklist,
    /// rbd-mirror at B starts.
    StartMirror,
    /// Mirror snapshots of B's images.
    Schedule,
    /// Namespace, Secrets, volumes and claims.
    Restore,
    /// An image is promoted by a process of its own.
    StartPromote(usize),
    /// A snapshot of the promoted images.
    Undo,
    /// The custom resource at B.
    ApplyAtB,
    /// The nonce artifact.
    Nonce,
    /// A target of the route.
    Route(u8),
}

impl Write {
    fn goes_to_a(self) -> bool {
        matches!(self, Write::DeleteAtA | Write::DemoteAtA)
    }

    fn needs_api_at_b(self) -> bool {
        matches!(self, Write::Restore | Write::ApplyAtB)
    }
}

/// What a step hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Time went by.
    Timer,
    /// What it asked to remember is on disk, or is not.
    Noted(bool),
    /// Its write landed, and it was told.
    Landed,
    /// No answer.
    Lost,
    /// An error answer.
    Failed(Failure),
    /// No permit.
    NoLeave,
}

enum Next {
    Wait(Ms),
    Send(Write),
    Note(&'static str, String),
    End(StepResult),
}

fn done(detail: &str) -> Next {
    found(detail, Finding::Nothing)
}

fn found(detail: &str, finding: Finding) -> Next {
    Next::End(StepResult::Done { detail: detail.into(), finding })
}

fn failed(failure: Failure, message: impl Into<String>) -> Next {
    Next::End(StepResult::Failed { failure, message: message.into() })
}

impl Sim<'_> {
    /// Begins a try of a step; an earlier one ends.
    pub fn start_task(&mut self, order: StepOrder) {
        self.daemon.tasks.retain(|task| task.order.step != order.step);
        self.check_order(&order);
        self.tasks += 1;
        let (id, t) = (self.tasks, self.world.t);
        let task = Task { id, order, stage: 0, deadline: 0, answered: t, sent: 0, left: vec![], no_leave: false };
        self.daemon.tasks.push(task);
        let life = self.daemon.life;
        self.at(t + 1, What::Go { life, id, input: Input::Timer });
    }

    /// A step goes on.
    pub fn go(&mut self, life: u32, id: u32, input: Input) {
        let mut input = input;
        loop {
            let Some(at) = self.daemon.tasks.iter().position(|task| task.id == id) else { return };
            let mut task = self.daemon.tasks.swap_remove(at);
            let next = self.advance(&mut task, input);
            match next {
                Next::Wait(ms) => {
                    self.daemon.tasks.push(task);
                    self.at(self.world.t + ms, What::Go { life, id, input: Input::Timer });
                    return;
                }
                Next::Note(key, value) => {
                    let (run, step) = (task.order.run.clone(), task.order.step);
                    self.daemon.tasks.push(task);
                    self.daemon.tickets += 1;
                    let ticket = Ticket(self.daemon.tickets);
                    self.take(Event::StepNoted { pair: PAIR, run, step, key: key.into(), value, ticket });
                    if self.daemon.life != life {
                        return;
                    }
                    let acks = std::mem::take(&mut self.daemon.acks);
                    let go_on = acks.iter().any(|(given, go_on)| *given == ticket && *go_on);
                    input = Input::Noted(go_on);
                }
                Next::Send(write) => match self.permit(task.order.epoch) {
                    Ok(_left) => {
                        self.check_write(&task.order, write);
                        let order = task.order.clone();
                        self.daemon.tasks.push(task);
                        self.send(life, id, &order, write);
                        return;
                    }
                    Err(why) if task.order.step == Step::Promote => {
                        self.daemon.tasks.push(task);
                        self.say(|| format!("  no leave to promote: {why}"));
                        input = Input::NoLeave;
                    }
                    Err(why) => {
                        return self.end_task(
                            life,
                            &task,
                            failed(Failure::Transient, format!("no leave to write: {why}")),
                        );
                    }
                },
                next @ Next::End(_) => return self.end_task(life, &task, next),
            }
        }
    }

    fn end_task(&mut self, life: u32, task: &Task, next: Next) {
        let Next::End(result) = next else { return };
        // The effect is there, and nobody has written down how it ended.
        if self.boundary(life) {
            return;
        }
        let (run, step, attempt) = (task.order.run.clone(), task.order.step, task.order.attempt);
        self.take(Event::StepEnded { pair: PAIR, run, step, attempt, result });
    }

    fn send(&mut self, life: u32, id: u32, order: &StepOrder, write: Write) {
        // Leave was given and nothing is sent yet.
        if self.boundary(life) {
            return;
        }
        let t = self.world.t;
        let arrives = if write.goes_to_a() { self.world.reaches_a() } else { true };
        let refused = write.needs_api_at_b() && self.world.faults.hit(Kind::OwnApiDown);
        if !arrives {
            return self.at(t + CALL, What::Go { life, id, input: Input::Lost });
        }
        if refused {
            return self.at(t + 1, What::Go { life, id, input: Input::Failed(Failure::Transient) });
        }
        let run = order.run.as_str().to_owned();
        let travels = if write.goes_to_a() { self.plot.setting.latency } else { 1 };
        self.at(t + travels, What::Land { life, id, write, run });
    }

    /// A write reaches its target, whether or not who sent it lives.
    pub fn land(&mut self, life: u32, id: u32, write: Write, run: &str) {
        let t = self.world.t;
        let local = matches!(write, Write::StartPromote(_));
        let mut answer = Input::Landed;
        let mut lands = true;
        if !write.goes_to_a() && !local {
            for (kind, failure) in [
                (Kind::ErrorTransient, Failure::Transient),
                (Kind::ErrorUnknown, Failure::Unknown),
                (Kind::ErrorPermanent, Failure::Permanent),
            ] {
                if self.world.faults.on(kind) && self.dice.chance(60) {
                    self.world.faults.feel(kind);
                    answer = Input::Failed(failure);
                    lands = failure == Failure::Unknown && self.dice.chance(50);
                    break;
                }
            }
        }
        if lands {
            if let Err(failure) = self.effect(write, run) {
                answer = Input::Failed(failure);
            }
            self.world.reckon();
            self.check_data();
        }
        let lost = (write.goes_to_a() && !self.world.heard_of_a())
            || (!local && self.world.faults.on(Kind::LostAnswers) && self.dice.chance(60));
        if lost && lands {
            self.world.faults.hit(Kind::LostAnswers);
        }
        // The effect has landed, and who sent it does not know.
        if self.daemon.life == life && self.boundary(life) {
            return;
        }
        let (input, after) = if lost { (Input::Lost, CALL) } else { (answer, 1) };
        self.at(t + after, What::Go { life, id, input });
    }

    fn effect(&mut self, write: Write, run: &str) -> Result<(), Failure> {
        self.say(|| format!("  world: {write:?} lands"));
        let world = &mut self.world;
        match write {
            Write::DeleteAtA => {
                world.cr_at_a = false;
                if world.faults.hit(Kind::OperatorRecreates) {
                    self.at(self.world.t + 1_500, What::PutBack);
                }
            }
            Write::DemoteAtA => world.images.iter_mut().for_each(|image| image.primary_a = false),
            Write::StopMirror => world.mirror_runs = false,
            Write::Blocklist => world.mirror_refused = true,
            Write::LiftBlocklist => world.mirror_refused = false,
            Write::StartMirror => world.mirror_runs = true,
            Write::Schedule => world.schedule = true,
            Write::Restore => world.restored = true,
            Write::Undo => world.images.iter_mut().for_each(|image| image.undo = true),
            Write::ApplyAtB => {
                let up_at = world.t + self.plot.setting.nexus_starts;
                if world.nexus_b_up_at.is_none() {
                    world.nexus_b_up_at = Some(up_at);
                    self.at(up_at, What::Reckon);
                }
            }
            Write::Nonce => world.nonce = world.nexus_b_serves(),
            Write::Route(n) => {
                let target = &mut world.route[usize::from(n)];
                // Compare-and-set: somebody may have been here since we read.
                if *target != Leads::ToA {
                    return Err(Failure::Transient);
                }
                *target = Leads::ToB;
            }
            Write::StartPromote(image) => self.start_promote(image, run),
        }
        Ok(())
    }

    /// The next operation of a step.
    fn advance(&mut self, task: &mut Task, input: Input) -> Next {
        let step = task.order.step;
        match input {
            Input::Noted(false) if step != Step::Promote => {
                return failed(Failure::Transient, "failed to journal a note: the run is paused or was stopped");
            }
            Input::Lost if step != Step::Fence => return failed(Failure::Unknown, format!("{step}: no answer")),
            Input::Failed(failure) if step != Step::Fence => {
                return failed(failure, format!("{step}: an error answer"));
            }
            _ => {}
        }
        match step {
            Step::Recheck | Step::PromoteRecheck => failed(Failure::Permanent, "the core's own step"),
            Step::Fence => self.fence(task),
            Step::ConsistencyPoint => self.consistency_point(task),
            Step::Quiesce => self.quiesce(task),
            Step::Restore => self.restore(input),
            Step::Bound => self.bound(task),
            Step::Promote => self.promote(task, input),
            Step::UndoPoint => self.undo_point(),
            Step::Deploy => self.deploy(task),
            Step::Verify => self.verify(task, input),
            Step::Route(n) => self.route(n, input),
            Step::RouteCheck => self.route_check(task),
            Step::MirrorBack => self.mirror_back(task),
            Step::Report => done(""),
        }
    }

    fn fence(&mut self, task: &mut Task) -> Next {
        let unconfirmed = |why: &str| {
            let outcome = FenceOutcome::Unconfirmed { why: why.into() };
            found(&format!("not confirmed: {why}"), Finding::Fence(outcome))
        };
        let t = self.world.t;
        if task.deadline == 0 {
            (task.deadline, task.answered) = (t + FENCE_WITHIN, t);
        }
        let by = self.plot.setting.fence;
        let dead = match by {
            FenceBy::Nothing => return unconfirmed("the pair's settings name no fence"),
            FenceBy::Workload => Kind::ApiDies,
            FenceBy::Demote => Kind::CephDies,
        };
        let answers = self.world.reaches_a() && self.world.heard_of_a() && !self.world.faults.hit(dead);
        if !answers {
            let over = t >= task.answered + GIVE_UP || t >= task.deadline;
            return if over { unconfirmed("A does not answer") } else { Next::Wait(1_000) };
        }
        task.answered = t;
        let stopped = match by {
            FenceBy::Workload => !self.world.cr_at_a,
            _ => self.world.images.iter().all(|image| !image.primary_a),
        };
        if stopped {
            let at_wall_ms = self.now().wall_ms;
            let outcome = FenceOutcome::Confirmed { how: "A itself says so".into(), at_wall_ms };
            return found("A itself says so", Finding::Fence(outcome));
        }
        if t >= task.deadline || task.sent >= 5 {
            return unconfirmed("it did not stop in time");
        }
        task.sent += 1;
        Next::Send(if by == FenceBy::Workload { Write::DeleteAtA } else { Write::DemoteAtA })
    }

    fn consistency_point(&mut self, task: &mut Task) -> Next {
        if task.stage == 0 {
            task.stage = 1;
            return Next::Wait(150);
        }
        self.world.sync();
        if self.world.images.iter().any(|image| image.orphan) {
            return failed(Failure::Permanent, "an image bears the mark of a forced promote that did not finish");
        }
        let tells = !self.world.faults.hit(Kind::StatusSilent);
        self.note_point();
        let images = self.world.images.iter().map(|image| image.facts(tells)).collect();
        found("read", Finding::Mirror(MirrorFacts { images }))
    }

    fn quiesce(&mut self, task: &mut Task) -> Next {
        task.stage += 1;
        match task.stage {
            1 if task.order.notes.get("quiesce/command").is_some_and(|said| said == "stopped") => {
                task.stage = 3;
                self.quiesce(task)
            }
            1 => Next::Note("command", "stopping".into()),
            2 => Next::Send(Write::StopMirror),
            3 => Next::Note("command", "stopped".into()),
            4 => Next::Note("blocklisted", "[\"10.2.0.1:0/77\"]".into()),
            5 => {
                task.deadline = self.world.t + STRANGER;
                Next::Send(Write::Blocklist)
            }
            _ => self.see_none_left(task),
        }
    }

    fn see_none_left(&mut self, task: &mut Task) -> Next {
        if self.world.mirror_runs && !self.world.mirror_refused {
            task.sent += 1;
            return if task.sent > 5 {
                failed(Failure::Transient, "rbd-mirror keeps coming back")
            } else {
                Next::Send(Write::Blocklist)
            };
        }
        if !self.world.is_open() {
            return done("rbd-mirror stopped; no watcher left");
        }
        if self.world.t >= task.deadline {
            return failed(Failure::Permanent, "a workload has an image open");
        }
        Next::Wait(500)
    }

    fn restore(&mut self, input: Input) -> Next {
        if self.world.faults.hit(Kind::OwnApiDown) {
            return failed(Failure::Transient, "B's API server does not answer");
        }
        if self.world.restored || input == Input::Landed { done("as it should be") } else { Next::Send(Write::Restore) }
    }

    fn bound(&mut self, task: &mut Task) -> Next {
        if task.stage == 0 {
            task.stage = 1;
            return Next::Wait(700);
        }
        if self.world.faults.hit(Kind::OwnApiDown) {
            return failed(Failure::Transient, "B's API server does not answer");
        }
        if self.world.restored { done("Bound") } else { failed(Failure::Transient, "not Bound in time") }
    }

    fn undo_point(&mut self) -> Next {
        if self.world.images.iter().all(|image| image.undo) { done("kept") } else { Next::Send(Write::Undo) }
    }

    fn deploy(&mut self, task: &mut Task) -> Next {
        if self.world.faults.hit(Kind::OwnApiDown) {
            return failed(Failure::Transient, "B's API server does not answer");
        }
        let t = self.world.t;
        if task.deadline == 0 {
            task.deadline = t + understudy_core::millis(self.plot.policy.pairs[0].plan.ready_within);
            return Next::Send(Write::ApplyAtB);
        }
        if self.world.nexus_b_serves() {
            return done("Nexus runs");
        }
        self.world.faults.hit(Kind::NexusBDies);
        if t >= task.deadline { failed(Failure::Permanent, "Nexus is not ready in time") } else { Next::Wait(1_000) }
    }

    fn verify(&mut self, task: &mut Task, input: Input) -> Next {
        let t = self.world.t;
        if task.deadline == 0 {
            task.deadline = t + VERIFY_WITHIN;
        }
        if !self.world.nexus_b_serves() {
            self.world.faults.hit(Kind::NexusBDies);
            let over = t >= task.deadline;
            return if over { failed(Failure::Transient, "verify did not end in time") } else { Next::Wait(1_000) };
        }
        if input != Input::Landed {
            return Next::Send(Write::Nonce);
        }
        self.verified = Some(t);
        found("the right data", Finding::Nonce("dr-canary/nonce".into()))
    }

    fn route(&mut self, n: u8, input: Input) -> Next {
        match (self.world.route[usize::from(n)], input) {
            (Leads::ToB, _) => done("leads to B"),
            (Leads::Elsewhere, _) => failed(Failure::Permanent, "it leads to neither A nor B"),
            (Leads::ToA, Input::Landed) => failed(Failure::Unknown, "it took the switch and leads to A"),
            (Leads::ToA, _) => Next::Send(Write::Route(n)),
        }
    }

    fn route_check(&mut self, task: &mut Task) -> Next {
        let t = self.world.t;
        if task.deadline == 0 {
            task.deadline = t + ROUTE_CHECK_WITHIN;
        }
        let world = &mut self.world;
        let (cached, until) = world.cached;
        // A resolver asks anew when its answer is too old.
        if t >= until && !world.faults.hit(Kind::StaleResolver) {
            world.cached = (world.route[1], t + self.plot.setting.ttl);
        }
        let forgotten = cached == Leads::ToB || world.cached.0 == Leads::ToB;
        let proven = world.route.iter().all(|leads| *leads == Leads::ToB) && world.nonce && world.nexus_b_serves();
        if proven && forgotten {
            return done("proven from outside");
        }
        if t >= task.deadline {
            failed(Failure::Transient, "the route is not proven in time")
        } else {
            Next::Wait(1_000)
        }
    }

    fn mirror_back(&mut self, task: &mut Task) -> Next {
        let stopped = task.order.notes.contains_key("quiesce/command");
        let world = &self.world;
        let promoted = world.images.iter().all(|image| image.primary_b && !image.half);
        if world.mirror_refused && task.order.notes.contains_key("quiesce/blocklisted") {
            Next::Send(Write::LiftBlocklist)
        } else if stopped && !world.mirror_runs {
            Next::Send(Write::StartMirror)
        } else if promoted && !world.schedule {
            Next::Send(Write::Schedule)
        } else {
            done("rbd-mirror as before")
        }
    }
}
