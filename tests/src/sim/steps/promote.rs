//! The promote, whose process lives apart from us: how it runs, ends, hangs or dies, and the step that starts and judges it.

use understudy_core::{Failure, StepOrder};

use super::{Input, Next, Task, Write, done, failed};
use crate::sim::fault::Kind;
use crate::sim::{Ms, Sim, What};

/// A promote, which lives apart from us.
#[derive(Debug)]
pub struct Promote {
    /// Which image.
    pub image: usize,
    /// Of which run.
    pub run: String,
    /// Where it stands.
    pub state: Process,
    /// The attempt at which a human was told of its end.
    pub judged: Option<u32>,
    /// Whether it hangs.
    pub hangs: bool,
}

/// Where a process stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// It lives.
    Runs,
    /// It ended and said how.
    Ended,
    /// It is gone and said nothing.
    Died,
}

impl Sim<'_> {
    pub(super) fn start_promote(&mut self, image: usize, run: &str) {
        self.check_promote(image, run);
        self.tally.promotes += 1;
        let hangs = self.world.faults.hit(Kind::PromoteHangs) || self.world.is_open();
        let promote = Promote { image, run: run.into(), state: Process::Runs, judged: None, hangs };
        self.promotes.push(promote);
        let n = self.promotes.len() - 1;
        if !hangs {
            let slow = if self.world.faults.hit(Kind::PromoteSlow) { self.dice.between(8_000, 30_000) } else { 0 };
            let ends = self.world.t + self.plot.setting.promote_takes + slow;
            self.at(ends, What::PromoteEnds(n));
        }
    }

    /// A promote ends by itself.
    pub fn end_promote(&mut self, n: usize) {
        let promote = &mut self.promotes[n];
        if promote.state != Process::Runs {
            return;
        }
        promote.state = Process::Ended;
        let image = promote.image;
        if self.world.faults.hit(Kind::PromoteDies) {
            return self.say(|| format!("  world: the promote of image {image} ends, and nothing happened"));
        }
        if self.world.faults.hit(Kind::PromoteHalf) {
            let by_name = self.dice.chance(50);
            self.say(|| format!("  world: the promote of image {image} dies half-way"));
            return self.leave_half(image, by_name);
        }
        self.finish_promote(image);
    }

    fn finish_promote(&mut self, image: usize) {
        self.say(|| format!("  world: image {image} is primary at B"));
        self.world.images[image].promote();
        if !self.plot.policy.pairs[0].plan.kubernetes && self.world.nexus_b_up_at.is_none() {
            // Somebody else starts Nexus as soon as it has its volume.
            let up_at = self.world.t + self.plot.setting.nexus_starts;
            self.world.nexus_b_up_at = Some(up_at);
            self.at(up_at, What::Reckon);
        }
        self.world.reckon();
        self.check_loss(image);
        self.check_data();
    }

    fn leave_half(&mut self, image: usize, by_name: bool) {
        let image = &mut self.world.images[image];
        if by_name {
            image.primary_b = true;
            image.half = true;
        } else {
            image.orphan = true;
        }
    }

    /// The machine that the promotes run on loses power.
    pub fn lose_processes(&mut self) {
        for n in 0..self.promotes.len() {
            if self.promotes[n].state == Process::Runs {
                self.promotes[n].state = Process::Died;
                let image = self.promotes[n].image;
                match self.dice.below(4) {
                    0 => self.finish_promote(image),
                    1 => self.leave_half(image, false),
                    2 => self.leave_half(image, true),
                    _ => {}
                }
            }
        }
    }

    pub(super) fn promote(&mut self, task: &mut Task, input: Input) -> Next {
        const PAUSE: Ms = 250;
        let ours = |p: &Promote| p.run == task.order.run.as_str();
        match task.stage {
            0 => {
                if self.promotes.iter().any(|p| ours(p) && p.state == Process::Runs) {
                    return Next::Wait(PAUSE);
                }
                if let Some(why) = self.judge(&task.order) {
                    return failed(Failure::Permanent, why);
                }
                let images = &self.world.images;
                if images.iter().all(|image| image.primary_b) {
                    return done("every image is primary");
                }
                if let Some(why) = self.earlier_run_promotes() {
                    return failed(Failure::Permanent, why);
                }
                if self.now().boot_ms >= task.order.start_before_ms.unwrap_or(u64::MAX) {
                    return if self.promotes.iter().any(ours) {
                        failed(Failure::Permanent, "the agent was away since this try was ordered")
                    } else {
                        failed(Failure::NotBegun, "its recheck is too old by now")
                    };
                }
                let images = &self.world.images;
                task.left = (0..images.len()).filter(|n| !images[*n].primary_b).rev().collect();
                if let Some(why) = self.may_not_promote(task) {
                    return failed(Failure::Permanent, why);
                }
                task.stage = 1;
                self.promote(task, Input::Timer)
            }
            1 => {
                task.no_leave |= input == Input::NoLeave;
                match task.left.pop() {
                    Some(image) => Next::Send(Write::StartPromote(image)),
                    None => {
                        task.stage = 2;
                        Next::Note("rbd/data", "{\"folder\":\"runs\"}".into())
                    }
                }
            }
            // A promote that runs is waited for whatever the journal says.
            _ if self.promotes.iter().any(|p| ours(p) && p.state == Process::Runs) => Next::Wait(PAUSE),
            _ => match self.judge(&task.order) {
                Some(why) => failed(Failure::Permanent, why),
                None if task.no_leave => failed(Failure::Transient, "no leave to promote every image"),
                None => done("every image is primary"),
            },
        }
    }

    /// What is wrong with a promote that has ended, and with the images; from here on a human is asked.
    fn judge(&mut self, order: &StepOrder) -> Option<String> {
        let mut wrong = None;
        for promote in &mut self.promotes {
            let spent = promote.judged.is_some_and(|attempt| attempt < order.attempt);
            if promote.run != order.run.as_str() || promote.state == Process::Runs || spent {
                continue;
            }
            let image = &self.world.images[promote.image];
            if !image.primary_b || image.half || image.orphan {
                promote.judged = Some(order.attempt);
                wrong = Some(format!("the promote of {} ended: it is not primary", image.name));
            }
        }
        let unclean = self.world.images.iter().find(|image| image.orphan || image.half);
        wrong.or_else(|| unclean.map(|image| format!("{} is not clean", image.name)))
    }

    /// Whatever run it was of: while a promote lives nobody starts another.
    fn earlier_run_promotes(&self) -> Option<String> {
        let runs = self.promotes.iter().find(|p| p.state == Process::Runs)?;
        Some(format!("nothing was promoted: the promote of image {} by {} still runs", runs.image, runs.run))
    }

    fn may_not_promote(&mut self, task: &Task) -> Option<String> {
        if task.left.is_empty() {
            return None;
        }
        self.world.sync();
        if self.world.is_open() {
            return Some("nothing was promoted: still open".into());
        }
        let changed = task.left.iter().any(|n| !self.world.images[*n].is_copy_of(&task.order.points));
        changed.then(|| "nothing was promoted: the copy changed since it was read".into())
    }
}
