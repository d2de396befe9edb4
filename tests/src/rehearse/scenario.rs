//! The scenarios: each states what must happen, and fails loudly if it does not.

mod acting;
mod asked;
mod killed;
mod watching;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use anyhow::ensure;
use understudy_core::{Question, Record, Role, Verdict};

use crate::rehearse::play::{ARTIFACT, PAYLOAD, Play};
use crate::rehearse::show::Show;
use crate::rehearse::table::Table;

/// A scenario that is being played.
pub type Playing = Pin<Box<dyn Future<Output = anyhow::Result<Table>> + Send>>;

/// One scenario.
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What must happen, in a sentence.
    pub states: &'static str,
    /// Plays it in a directory.
    pub play: fn(PathBuf, Show) -> Playing,
}

macro_rules! scenarios {
    ($($name:literal, $play:path, $states:literal;)*) => {
        /// Every scenario; the first is the default.
        pub const ALL: &[Scenario] = &[$(Scenario {
            name: $name,
            states: $states,
            play: |directory, show| Box::pin($play(directory, show)),
        }),*];
    };
}

scenarios! {
    "site-down", asked::site_down, "A dies whole; a human confirms; the artifact comes back through the same public name, from B";
    "site-down-auto", asked::site_down_auto, "A dies whole; a third-site witness says so too; `auto` needs no human";
    "no-witness", asked::no_witness, "`auto` without a witness asks a human and does nothing by itself";
    "denied", asked::denied, "a human says no: nothing is written, and it is not asked again in this outage";
    "expired", asked::expired, "nobody answers: the question expires, is asked anew, and the old one is refused";
    "service-down", watching::service_down, "Nexus dies, its site lives: a page, never a forced promote";
    "flapping", watching::flapping, "A comes and goes: Suspect, no question, no failover";
    "we-are-cut-off", watching::we_are_cut_off, "our own link is dead: Blind, no question";
    "frozen-api", watching::frozen_api, "A's API server hangs, the rest lives: Suspect, nothing is done";
    "frozen-agent", watching::frozen_agent, "the daemon is stopped for 5 s: it doubts itself, accuses nobody, and still sees a real death";
    "stale-mirror", asked::stale_mirror, "the copy is too old: a plain yes is refused, a yes that names the loss is taken";
    "promote-hangs", acting::promote_hangs, "the promote hangs: Stuck and a page, neither killed nor repeated, the route untouched";
    "returns-before-promote", acting::returns_before_promote, "A lives again before the promote: the plan stops, the mirror comes back";
    "mid-sync", acting::mid_sync, "A dies in the middle of a sync: the older generation comes back, as the bound had named";
    "route-refused", acting::route_refused, "the route hook says no: the failover has failed, and says so";
    "answer-lost", acting::answer_lost, "the hook's effect lands, its answer does not: resolved by reading, one effect";
    "old-primary-returns", acting::old_primary_returns, "A returns after the failover: an alarm, never a switch back";
    "killed-everywhere", killed::killed_everywhere, "the daemon is killed after every single record: every run ends in the same state, with the same effects";
}

const SOON: Duration = Duration::from_secs(25);
const RUN: Duration = Duration::from_secs(45);
/// What a human says who accepts that A could not be fenced.
const WORD: &str = "the power company confirms the outage";

/// The verdict became this.
fn verdict(wanted: Verdict) -> impl Fn(&Record) -> bool {
    move |r| matches!(r, Record::Verdict { to, .. } if *to == wanted)
}

/// A run was begun.
fn run_started(r: &Record) -> bool {
    matches!(r, Record::RunStarted { .. })
}

/// A human was asked.
fn asked(r: &Record) -> bool {
    matches!(r, Record::Requested { .. })
}

/// A dies whole, and a human says yes.
async fn die_and_approve(play: &mut Play) -> anyhow::Result<()> {
    play.kill_a().await;
    play.until("the verdict is SiteDown", SOON, verdict(Verdict::SiteDown)).await?;
    let request = play.question(Question::Failover, SOON).await?;
    play.human(&["approve", request.id.as_str(), "--accept-unfenced", WORD]).await
}

/// B is active and the artifact comes back through the public name.
async fn b_serves(play: &mut Play) -> anyhow::Result<()> {
    play.until("B is active", SOON, |r| matches!(r, Record::RoleChanged { role: Role::AtB, .. })).await?;
    let back = play.download(ARTIFACT).await?;
    ensure!(back == PAYLOAD, "other bytes came back");
    play.say(&format!("user: {ARTIFACT} came back whole through the same public name, from B"));
    ensure!(play.stage.world.balancer.active() == "b", "the route does not lead to B");
    play.verify_journal().await
}
