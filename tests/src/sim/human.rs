//! The human at the pager, and those who interfere.
//!
//! In: notices. Out: orders, each some time later. What a human knows is what a notice or a look at the status says.

use understudy_core::{Event, LossBound, Notice, Order, PageKind, Question, Request, RequestId, Ticket};

use super::plot::Human;
use super::shell::PAIR;
use super::{Ms, Sim, What};

/// While the daemon does not answer, a human tries again after this time.
const TRY_AGAIN: Ms = 3_000;
/// How often.
const TRIES: u8 = 30;

/// How many questions a human answers before he has enough.
const PATIENCE: u32 = 3;

/// What a human is about to do.
#[derive(Debug, Clone)]
pub enum Act {
    /// Give an order.
    Give(Order),
    /// Look which steps are stuck, and try them again, or give up.
    Unstick,
}

/// What the humans were told, and what they are about to do.
#[derive(Debug, Default)]
pub struct Pager {
    /// Acts that are still to come.
    pub pending: u32,
    /// Pages, in order.
    pub pages: Vec<(Ms, PageKind)>,
    /// When a question was put last.
    pub asked: Option<Ms>,
    retried: u32,
    forced: bool,
    unsticking: bool,
    considered: u32,
    /// What became of the last order; none = nobody answered.
    obeyed: Option<bool>,
}

impl Sim<'_> {
    fn will(&mut self, after: Ms, act: Act) {
        self.pager.pending += 1;
        self.at(self.world.t + after, What::Human { act: Box::new(act), tries: 0 });
    }

    /// A notice reaches the humans.
    pub fn tell_human(&mut self, notice: &Notice) {
        let (t, after) = (self.world.t, self.plot.setting.acts_after);
        match notice {
            Notice::Request { escalated: true, .. } => {}
            Notice::Request { request, .. } => {
                self.pager.asked = Some(t);
                self.consider(request);
            }
            Notice::Page { kind, .. } => {
                self.pager.pages.push((t, *kind));
                match kind {
                    PageKind::Stuck if !self.pager.unsticking => {
                        self.pager.unsticking = true;
                        self.will(after, Act::Unstick);
                    }
                    PageKind::SiteDown | PageKind::StorageDown | PageKind::ServiceDown
                        if self.plot.setting.human == Human::Forces && !self.pager.forced =>
                    {
                        self.pager.forced = true;
                        let accept_unfenced = self.plot.setting.accepts_unfenced.then(|| "by force".to_owned());
                        let order = Order::Failover {
                            force: true,
                            reason: "we know better".into(),
                            accept_unfenced,
                            accept_loss_ms: Some(600_000),
                        };
                        self.will(after, Act::Give(order));
                    }
                    _ => {}
                }
            }
            Notice::RequestVoid { .. }
            | Notice::VerdictChanged { .. }
            | Notice::RunStarted { .. }
            | Notice::RunEnded { .. } => {}
        }
    }

    fn consider(&mut self, request: &Request) {
        self.pager.considered += 1;
        if self.pager.considered > PATIENCE {
            return;
        }
        let setting = &self.plot.setting;
        let after = setting.acts_after;
        let deny = || Order::Deny { request: request.id.clone(), reason: "not now".into() };
        let unwilling = request.question == Question::Unfenced && !setting.accepts_unfenced;
        let right = approval(request, setting.accepts_unfenced);
        match setting.human {
            Human::Never => {}
            Human::Denies => self.will(after, Act::Give(deny())),
            _ if unwilling => self.will(after, Act::Give(deny())),
            Human::Prompt | Human::Forces => self.will(after, Act::Give(right)),
            Human::Late => {
                let ttl = request.expires_ms - request.asked.boot_ms;
                let late = ttl - 2_000 + self.dice.below(4_000);
                self.will(late, Act::Give(right));
            }
            Human::Twice => {
                self.will(after, Act::Give(right.clone()));
                self.will(after + 300, Act::Give(right));
            }
            Human::Wrong => {
                let id = RequestId("nexus-999".into());
                self.will(
                    after,
                    Act::Give(Order::Approve { request: id, accept_unfenced: None, accept_loss_ms: None }),
                );
                let bare = Order::Approve { request: request.id.clone(), accept_unfenced: None, accept_loss_ms: None };
                self.will(after + 1_000, Act::Give(bare));
                self.will(after + 2_000, Act::Give(right));
            }
        }
    }

    /// A human acts.
    pub fn human(&mut self, act: Act, tries: u8) {
        let deaf = !self.daemon.runs || self.world.t < self.daemon.hangs_until;
        if deaf && tries < TRIES && self.daemon.refuses.is_none() {
            return self.at(self.world.t + TRY_AGAIN, What::Human { act: Box::new(act), tries: tries + 1 });
        }
        self.pager.pending -= 1;
        if deaf {
            self.pager.unsticking = false;
            return;
        }
        match act {
            Act::Give(order) => {
                let again = Act::Give(order.clone());
                if matches!(order, Order::Pause { .. }) && !self.world.faults.on(super::fault::Kind::OperatorPauses) {
                    // It was given late, and is not meant any more when it is heard.
                    self.will(1_000, Act::Give(Order::Resume));
                }
                if !self.order(order) && tries < TRIES {
                    // The daemon died over it: nobody knows, so it is given again.
                    self.pager.pending += 1;
                    self.at(self.world.t + TRY_AGAIN, What::Human { act: Box::new(again), tries: tries + 1 });
                }
            }
            Act::Unstick => self.unstick(),
        }
    }

    fn unstick(&mut self) {
        self.pager.unsticking = false;
        let durable = self.daemon.state.as_ref().and_then(|state| state.durable(PAIR));
        let Some(run) = durable.and_then(|d| d.open_run()) else { return };
        if run.stuck().next().is_none() {
            return;
        }
        let run = run.id.clone();
        if self.pager.retried < self.plot.setting.retries {
            self.pager.retried += 1;
            self.will(0, Act::Give(Order::Retry { run, step: None }));
        } else {
            self.will(0, Act::Give(Order::Abandon { run, reason: "it does not get on".into() }));
        }
    }

    /// Gives an order. Whether it was answered.
    pub fn order(&mut self, order: Order) -> bool {
        self.say(|| format!("a human orders {}", order_words(&order)));
        self.daemon.tickets += 1;
        let ticket = Ticket(self.daemon.tickets);
        self.pager.obeyed = None;
        self.take(Event::Ordered { pair: PAIR, by: "anna".into(), order, ticket });
        let obeyed = self.pager.obeyed;
        self.tally.orders += u64::from(obeyed == Some(true));
        self.tally.orders_refused += u64::from(obeyed == Some(false));
        obeyed.is_some()
    }

    /// What became of the last order.
    pub fn answered(&mut self, obeyed: bool) {
        self.pager.obeyed = Some(obeyed);
    }
}

fn approval(request: &Request, accepts_unfenced: bool) -> Order {
    let accept_loss_ms = match request.bound_at_expiry {
        LossBound::AtMost(ms) if request.needs_loss_consent => Some(ms),
        LossBound::AtMost(_) | LossBound::Infinite => None,
    };
    let accept_unfenced = accepts_unfenced.then(|| "power is cut".to_owned());
    Order::Approve { request: request.id.clone(), accept_unfenced, accept_loss_ms }
}

fn order_words(order: &Order) -> String {
    match order {
        Order::Approve { request, accept_unfenced, .. } if accept_unfenced.is_some() => {
            format!("approve {request} --accept-unfenced")
        }
        Order::Approve { request, .. } => format!("approve {request}"),
        Order::Deny { request, .. } => format!("deny {request}"),
        Order::Failover { .. } => "failover --force".into(),
        Order::Retry { run, .. } => format!("retry {run}"),
        Order::Skip { run, step, .. } => format!("skip {run} {step}"),
        Order::Abandon { run, .. } => format!("abandon {run}"),
        Order::Pause { .. } => "pause".into(),
        Order::Resume => "resume".into(),
        Order::Unblock => "unblock".into(),
    }
}

/// A notice in words.
#[must_use]
pub fn words(notice: &Notice) -> String {
    match notice {
        Notice::Request { request, escalated } => {
            format!("request {} ({:?}){}", request.id, request.question, if *escalated { ", again" } else { "" })
        }
        Notice::RequestVoid { request, why } => format!("request {request} is void: {why}"),
        Notice::Page { kind, message } => format!("PAGE {kind:?}: {message}"),
        Notice::VerdictChanged { to, .. } => format!("verdict {to}"),
        Notice::RunStarted { run, accepted } => format!("run {run} begins, accepted {accepted}"),
        Notice::RunEnded { run, how, .. } => format!("run {run} ended: {how}"),
    }
}
