//! `status` and `why` for the eye.

use std::collections::BTreeMap;
use std::fmt::Write;

use understudy_core::{
    COPY, Ending, GateState, ImageFacts, ImagePoint, LossBound, MirrorFacts, Now, PairName, PairView, Phase, Question,
    Request, Role, Run, SignalView, Step, StepEntry, StepStatus, WitnessReport, WitnessView,
};

use crate::api::Status;
use crate::text::{bar, between, copy_words, date_time, duration, table};

/// Width of a progress bar.
const BAR: usize = 20;

/// Everything, one block for each pair.
pub fn status_text(status: &Status) -> String {
    let view = &status.view;
    let mut text = format!("{}  understudy {}  {}\n", status.site, status.version, date_time(view.now.wall_ms));
    if let Some(doubt) = &view.doubt {
        let _ = writeln!(text, "WE DOUBT OURSELVES, so that nothing is decided: {doubt}");
    }
    let checks: Vec<String> = view.self_checks.iter().map(|c| format!("{} {}", c.name, c.state)).collect();
    let _ = writeln!(text, "self-checks: {}", or_none(&checks.join(", ")));
    for pair in &view.pairs {
        let said = status.progress.get(&PairName::from(pair.name.as_str()));
        text.push('\n');
        text.push_str(&pair_text(pair, view.now, said.unwrap_or(&BTreeMap::new())));
    }
    text
}

fn pair_text(pair: &PairView, now: Now, said: &BTreeMap<Step, String>) -> String {
    let (verdict, age) = (pair.verdict.to_string().to_uppercase(), duration(pair.verdict_for_ms));
    let mut text = format!(
        "{}  {verdict} for {age}  mode {}  {}  epoch {}\n",
        pair.name,
        pair.mode,
        role_words(&pair.role),
        pair.epoch
    );
    text.push_str(&table("  ", &signals(pair)));
    text.push_str(&table("  ", &facts(pair)));
    if let Some(request) = &pair.request {
        text.push_str(&question(request, now, pair.mirror.as_ref().is_some_and(MirrorFacts::is_mirror)));
    }
    if let Some(run) = &pair.run {
        text.push_str(&run_text(run, now, said));
    }
    text
}

fn signals(pair: &PairView) -> Vec<Vec<String>> {
    let mut rows = vec![["probe", "site", "domain", "state", "for", "last", "took", ""].map(String::from).to_vec()];
    rows.extend(pair.signals.iter().map(signal));
    rows
}

fn signal(signal: &SignalView) -> Vec<String> {
    let age = signal.age_ms.map_or("never".into(), |ms| format!("{} ago", duration(ms)));
    let flapping = if signal.changes > 1 { format!("{} changes; ", signal.changes) } else { String::new() };
    let votes = if signal.votes { "" } else { "never votes Down; " };
    vec![
        signal.name.clone(),
        signal.site.map_or("-".into(), |site| format!("{site:?}")),
        signal.domain.map_or("-".into(), |domain| domain.to_string()),
        signal.state.to_string(),
        duration(signal.for_ms),
        age,
        format!("{} ms", signal.latency_ms),
        format!("{flapping}{votes}{}", signal.detail.as_deref().unwrap_or_default()),
    ]
}

fn facts(pair: &PairView) -> Vec<Vec<String>> {
    let mut facts = vec![];
    let mut fact = |name: &str, value: String| facts.push(vec![name.to_owned(), value]);
    if let Some(hold) = pair.hold {
        fact(
            "hold-down",
            format!(
                "{} {} of {}, {} of {} rounds witnessed",
                bar(hold.held_ms, hold.needed_ms, BAR),
                duration(hold.held_ms.min(hold.needed_ms)),
                duration(hold.needed_ms),
                hold.rounds.min(hold.rounds_needed),
                hold.rounds_needed
            ),
        );
    }
    fact(
        "last life",
        pair.life.as_ref().map_or("never seen".into(), |(what, ms)| format!("{what}, {} ago", duration(*ms))),
    );
    fact("loss bound", bound_words(pair.bound));
    pair.points.iter().for_each(|point| fact("would leave", point_words(point)));
    let images = pair.mirror.iter().flat_map(|mirror| &mirror.images);
    images.for_each(|image| fact("mirror", image_words(image)));
    pair.witnesses.iter().for_each(|witness| fact("witness", witness_words(witness)));
    let shut: Vec<&GateState> = pair.gates.iter().filter(|gate| !gate.open).collect();
    let count = format!("{} of {} open", pair.gates.len() - shut.len(), pair.gates.len());
    fact("gates", if shut.is_empty() { count } else { format!("{count}; closed:") });
    shut.iter().for_each(|gate| fact("", format!("{}: {}", gate.gate, gate.value)));
    if let Some(pause) = &pair.pause {
        let end =
            pause.until_wall_ms.map_or("until `understudy resume`".into(), |at| format!("until {}", date_time(at)));
        fact("PAUSED", format!("by {} ({}), {end}", pause.by, pause.reason));
    }
    if pair.blocked_until_wall_ms.is_some() {
        fact("blocked", format!("no automatic failover until `understudy unblock {}`", pair.name));
    }
    facts
}

fn question(request: &Request, now: Now, mirrored: bool) -> String {
    let asked = match request.question {
        Question::Failover => "may the failover start?",
        Question::Unfenced => "the fence of A was not confirmed: go on nevertheless?",
    };
    let left = duration(request.expires_ms.saturating_sub(now.boot_ms));
    let id = &request.id;
    let louder = if request.escalated { " (asked twice)" } else { "" };
    let mut text = format!("  QUESTION {id}: {asked}{louder} It expires in {left}.\n");
    let _ = writeln!(
        text,
        "    loss: {} now, {} when it expires",
        bound_words(request.bound),
        bound_words(request.bound_at_expiry)
    );
    // The core takes no consent to a loss that nobody can tell where it could be told.
    match request.needs_loss_consent && mirrored && request.bound_at_expiry == LossBound::Infinite {
        true => {
            text.push_str("    yes:  not now: nobody can tell what a promote would leave, so no loss can be accepted\n")
        }
        false => drop(writeln!(text, "    yes:  understudy approve {id}{}", consents(request))),
    }
    let _ = writeln!(text, "    no:   understudy deny {id} --reason …");
    text
}

fn consents(request: &Request) -> String {
    let loss = match request.bound_at_expiry {
        LossBound::AtMost(ms) if request.needs_loss_consent => format!(" --accept-loss {}s", ms.div_ceil(1000)),
        LossBound::Infinite if request.needs_loss_consent => " --accept-loss unlimited".into(),
        LossBound::AtMost(_) | LossBound::Infinite => String::new(),
    };
    let fence = match request.question {
        Question::Unfenced => " --accept-unfenced REASON",
        Question::Failover => "",
    };
    format!("{loss}{fence}")
}

fn run_text(run: &Run, now: Now, said: &BTreeMap<Step, String>) -> String {
    let over = run.steps.iter().filter(|entry| entry.status.is_over()).count();
    let all = run.steps.len();
    let progress = bar(over as u64, all as u64, BAR);
    let since = duration(between(run.started, ended(run).unwrap_or(now)));
    let mut text = format!("  run {}: {} {progress} {over} of {all} steps, {since}\n", run.id, phase_words(run));
    if run.has_ended() {
        let _ = writeln!(text, "    understudy report {}", run.id);
        return text;
    }
    let steps = run.steps.iter().map(|entry| step(entry, now, said.get(&entry.step)));
    text.push_str(&table("    ", &steps.collect::<Vec<_>>()));
    if let Some(stuck) = run.stuck().next() {
        let _ = writeln!(
            text,
            "    `understudy retry {} {stuck}` tries it again; `skip` and `abandon` with --reason",
            run.id
        );
    }
    text
}

fn step(entry: &StepEntry, now: Now, said: Option<&String>) -> Vec<String> {
    let took = |until: Now| entry.began.map_or(String::new(), |began| duration(between(began, until)));
    let said = || said.cloned().unwrap_or_default();
    let (state, time, detail) = match &entry.status {
        StepStatus::Pending => ("-".to_owned(), String::new(), String::new()),
        StepStatus::Running { attempt: 1, .. } => ("running".into(), took(now), said()),
        StepStatus::Running { attempt, .. } => (format!("running, try {attempt}"), took(now), said()),
        StepStatus::Waiting { attempt, message, .. } => {
            (format!("waits for try {attempt}"), took(now), message.clone())
        }
        StepStatus::Done { at, detail } => ("done".into(), took(*at), detail.clone()),
        StepStatus::Stuck { message, .. } => ("STUCK".into(), took(now), message.clone()),
        StepStatus::Skipped { by, reason } => ("skipped".into(), String::new(), format!("by {by}: {reason}")),
    };
    vec![entry.step.to_string(), state, time, detail]
}

/// Every gate with its value, and what would flip the decision.
pub fn why_text(pair: &PairView) -> String {
    let (verdict, role) = (pair.verdict, role_words(&pair.role));
    let mut text = format!("{}: {verdict} for {}, {role}\n", pair.name, duration(pair.verdict_for_ms));
    let domains: Vec<String> = pair.domains.iter().map(|(domain, state)| format!("{domain} {state:?}")).collect();
    let _ = writeln!(text, "domains: {}", domains.join(", "));
    let _ = writeln!(text, "\nto a failover that a human approves, these must be open:");
    text.push_str(&table("  ", &gates(&pair.gates)));
    let _ = writeln!(text, "\nto one without a human (mode auto), these:");
    text.push_str(&table("  ", &gates(&pair.automatic)));
    let _ = writeln!(text, "\nthe shortest way from here to a trigger:");
    if pair.would_flip.is_empty() {
        text.push_str("  none: it is triggered\n");
    }
    for flip in &pair.would_flip {
        let _ = writeln!(text, "  - {flip}");
    }
    text
}

fn gates(gates: &[GateState]) -> Vec<Vec<String>> {
    let word = |gate: &GateState| if gate.open { "open" } else { "CLOSED" }.to_owned();
    gates.iter().map(|gate| vec![word(gate), gate.gate.to_string(), gate.value.clone()]).collect()
}

fn role_words(role: &Role) -> String {
    match role {
        Role::AtA => "A is active".into(),
        Role::Moving { run } => format!("moving ({run})"),
        Role::AtB => "B is active".into(),
    }
}

fn phase_words(run: &Run) -> String {
    match &run.phase {
        Phase::Forward => "under way".into(),
        Phase::BringingBack { why } => format!("STOPPING, the mirror is brought back ({why})"),
        Phase::Ended { ending: Ending::Succeeded, .. } => "succeeded".into(),
        Phase::Ended { ending: Ending::Stopped { why }, .. } => format!("stopped before the promote ({why})"),
        Phase::Ended { ending: Ending::Abandoned { by, reason }, .. } => format!("ABANDONED by {by} ({reason})"),
    }
}

fn ended(run: &Run) -> Option<Now> {
    match run.phase {
        Phase::Ended { at, .. } => Some(at),
        Phase::Forward | Phase::BringingBack { .. } => None,
    }
}

fn bound_words(bound: LossBound) -> String {
    match bound {
        LossBound::AtMost(ms) => format!("at most {}", duration(ms)),
        LossBound::Infinite => "nobody can tell".into(),
    }
}

fn point_words(point: &ImagePoint) -> String {
    if point.image.as_str() == COPY {
        return copy_words(point.source_time_ms);
    }
    let taken = point.source_time_ms.map_or("at an unknown time".into(), |ms| format!("at {}", date_time(ms)));
    let which = point.snapshot.map_or("no known snapshot".into(), |id| format!("snapshot {id}, taken {taken}"));
    let note = if point.mid_sync { " (a sync is under way: the one before the newest)" } else { "" };
    format!("{}: {which}{note}", point.image)
}

fn image_words(image: &ImageFacts) -> String {
    if image.image.as_str() == COPY {
        return copy_words(image.source_time_ms);
    }
    let role = if image.primary { "PRIMARY here" } else { "copy" };
    let newest =
        image.newest_complete.map_or("no complete snapshot".into(), |id| format!("complete up to snapshot {id}"));
    let sync = match (image.syncing, image.progress) {
        (Some(id), Some((done, all))) => format!(", copying {id} {}", bar(done, all, BAR)),
        (Some(id), None) => format!(", copying {id}"),
        (None, _) => String::new(),
    };
    let orphan = if image.orphan { ", NOT CLEAN: an unfinished promote" } else { "" };
    format!("{}: {role}, {newest}{sync}{orphan}", image.image)
}

fn witness_words(witness: &WitnessView) -> String {
    let kind = match witness.kind {
        understudy_core::WitnessKind::PrimarySite => "at A, may only veto",
        understudy_core::WitnessKind::ThirdSite => "at a third site",
    };
    let said = match &witness.report {
        WitnessReport::Absent { why } => format!("no usable answer: {why}"),
        WitnessReport::Blind => "doubts itself".into(),
        WitnessReport::Sees { domains } => {
            let seen: Vec<String> = domains.iter().map(|(domain, reading)| format!("{domain} {reading}")).collect();
            or_none(&seen.join(", ")).to_owned()
        }
    };
    let age = witness.age_ms.map_or(String::new(), |ms| format!(", {} ago", duration(ms)));
    format!("{} ({kind}): {said}{age}", witness.name)
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "none" } else { text }
}

#[cfg(test)]
mod tests {
    use understudy_core::DurablePair;

    use super::*;
    use crate::samples::{at, failed, intent, request, run_started, view};

    #[test]
    fn a_status_shows_signals_hold_down_loss_witnesses_and_closed_gates() {
        let text = status_text(&status(|_| {}));

        for part in [
            "standby-b  understudy 0.1.0",
            "self-checks: own-api Up",
            "nexus  SUSPECT for 30.0 s  mode confirm  A is active  epoch 0",
            "web    A     service  Down(refused)  1 min 01 s  1.5 s ago  12 ms  connection refused",
            "hold-down    [##########..........] 45.0 s of 1 min 30 s, 2 of 3 rounds witnessed",
            "loss bound   at most 1 min 00 s",
            "third (at a third site): doubts itself, 2.0 s ago",
            "1 of 2 open; closed:",
            "verdict: Suspect, needs SiteDown",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn a_question_is_shown_with_its_price_its_end_and_the_commands_that_answer_it() {
        let text = status_text(&status(|pair| {
            pair.request = Some(Request { needs_loss_consent: true, expires_ms: 61_000, ..request() });
        }));

        for part in [
            "QUESTION nexus-1: may the failover start? It expires in 1 min 00 s.",
            "loss: at most 1 min 00 s now, at most 16 min 00 s when it expires",
            "understudy approve nexus-1 --accept-loss 960s",
            "understudy deny nexus-1 --reason",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn a_loss_that_nobody_can_tell_is_not_offered_for_consent_where_there_are_snapshots() {
        let unknown = |mirrored: bool| {
            status_text(&status(move |pair| {
                let bound_at_expiry = LossBound::Infinite;
                pair.request = Some(Request { needs_loss_consent: true, bound_at_expiry, ..request() });
                pair.mirror = pair.mirror.take().filter(|_| mirrored);
            }))
        };

        assert!(unknown(true).contains("yes:  not now: nobody can tell"), "{}", unknown(true));
        assert!(unknown(false).contains("approve nexus-1 --accept-loss unlimited"), "{}", unknown(false));
    }

    #[test]
    fn a_run_shows_each_step_what_it_says_and_what_moves_it_on() {
        let mut durable = DurablePair::default();
        durable.apply(&run_started(), at(200));
        durable.apply(&intent(Step::Fence, 1), at(300));
        durable.apply(&failed(Step::Fence, 1, None), at(400));
        durable.apply(&intent(Step::Deploy, 2), at(500));

        let text = status_text(&status(|pair| pair.run = durable.run.clone()));

        for part in [
            "run nexus-1: under way [....................] 0 of 15 steps, 800 ms",
            "fence              STUCK           700 ms  fence was refused",
            "deploy             running, try 2  500 ms  2 of 3 pods",
            "`understudy retry nexus-1 fence` tries it again",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn doubt_about_ourselves_stands_on_top() {
        let mut status = status(|_| {});
        status.view.doubt = Some("own-api is Down".into());

        let text = status_text(&status);

        assert!(text.lines().nth(1).unwrap().starts_with("WE DOUBT OURSELVES"), "{text}");
    }

    #[test]
    fn why_lists_every_gate_and_what_would_flip_it() {
        let text = why_text(&view().pairs[0]);

        for part in [
            "domains: service Down, storage NoVoter",
            "CLOSED  verdict  Suspect, needs SiteDown",
            "open    rpo      loss bound 60.0 s, limit 900.0 s",
            "- 45 s more of hold-down, 2 of 3 rounds witnessed",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    fn status(change: impl FnOnce(&mut PairView)) -> Status {
        let mut view = view();
        change(&mut view.pairs[0]);
        let progress = BTreeMap::from([("nexus".into(), BTreeMap::from([(Step::Deploy, "2 of 3 pods".to_owned())]))]);
        Status { site: "standby-b".into(), version: "0.1.0".into(), view, progress }
    }
}
