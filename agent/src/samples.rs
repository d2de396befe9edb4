//! Records for tests: one of every kind.

use std::collections::BTreeMap;

use understudy_core::*;

/// The pair that every sample speaks of.
pub fn pair() -> PairName {
    "nexus".into()
}

/// The run that every sample speaks of.
pub fn run_id() -> RunId {
    "nexus-1".into()
}

/// `ms` after the machine's boot.
pub fn at(ms: u64) -> Now {
    Now { boot_ms: ms, wall_ms: 1_700_000_000_000 + i64::try_from(ms).unwrap(), boot_id: 1 }
}

pub fn started() -> Record {
    Record::Started { version: "0.1.0".into(), config_digest: "d1".into() }
}

pub fn snapshot() -> Record {
    let mut durable = DurablePair { run: Some(run()), request: Some(request()), ..DurablePair::default() };
    durable.times.learn(&"pool/image".into(), 7, 1_700_000_000_000);
    Record::Snapshot { pairs: BTreeMap::from([(pair(), durable)]) }
}

pub fn signal(probe: &str) -> Record {
    Record::Signal { pair: pair(), probe: probe.into(), from: Reading::Up, to: Reading::Down(Reason::Refused) }
}

pub fn verdict() -> Record {
    let cause = "web is Down(refused)".to_owned();
    Record::Verdict { pair: pair(), from: Verdict::Up, to: Verdict::Suspect, cause }
}

pub fn evidence() -> Evidence {
    Evidence {
        verdict: Verdict::SiteDown,
        down_since_wall_ms: 1_700_000_000_000,
        signals: vec![SignalEvidence {
            name: "web".into(),
            state: Reading::Down(Reason::Refused),
            since_wall_ms: 1_700_000_000_000,
        }],
        points: vec![point()],
        config_digest: "d1".into(),
    }
}

fn point() -> ImagePoint {
    ImagePoint {
        image: "pool/image".into(),
        newest_complete: Some(7),
        mid_sync: false,
        snapshot: Some(7),
        source_time_ms: Some(1_700_000_000_000),
    }
}

pub fn request() -> Request {
    Request {
        id: "nexus-1".into(),
        pair: pair(),
        question: Question::Failover,
        evidence: evidence(),
        asked: at(100),
        expires_ms: 900_100,
        expires_wall_ms: 1_700_000_900_100,
        bound: LossBound::AtMost(60_000),
        bound_at_expiry: LossBound::AtMost(960_000),
        needs_loss_consent: false,
        escalated: false,
    }
}

pub fn approved() -> Record {
    let answer = Answer::Approved { accept_unfenced: Some("power is off".into()), accept_loss_ms: None };
    Record::Answered { pair: pair(), request: "nexus-1".into(), by: "uid 1000".into(), answer }
}

/// The steps of the samples' run.
pub fn steps() -> Vec<Step> {
    use Step::*;
    vec![
        Recheck,
        Fence,
        ConsistencyPoint,
        Quiesce,
        Restore,
        Bound,
        PromoteRecheck,
        Promote,
        UndoPoint,
        MirrorBack,
        Deploy,
        Verify,
        Route(0),
        RouteCheck,
        Report,
    ]
}

pub fn run() -> Run {
    let entry = |step| StepEntry { step, began: None, status: StepStatus::Pending };
    Run {
        id: run_id(),
        epoch: 1,
        authority: Authority::Approved { request: "nexus-1".into(), by: "uid 1000".into() },
        evidence: evidence(),
        started: at(200),
        life_since_ms: 100,
        accepted: LossBound::AtMost(960_000),
        writeback_ms: 35_000,
        served_until_wall_ms: None,
        out_of_sight: false,
        steps: steps().into_iter().map(entry).collect(),
        phase: Phase::Forward,
        fence: None,
        unfenced: None,
        points: vec![],
        bound: None,
        nonce: None,
        notes: BTreeMap::from([("promote/pid".to_owned(), "4711".to_owned())]),
        recheck_since_ms: None,
    }
}

pub fn run_started() -> Record {
    Record::RunStarted { pair: pair(), run: Box::new(run()) }
}

pub fn intent(step: Step, attempt: u32) -> Record {
    let key = format!("nexus-1/{step}");
    Record::Intent { pair: pair(), run: run_id(), step, attempt, key, epoch: 1, lease_until_ms: Some(900_000) }
}

pub fn done(step: Step, attempt: u32, finding: Finding) -> Record {
    let result = StepResult::Done { detail: format!("{step} was read back"), finding };
    Record::Outcome { pair: pair(), run: run_id(), step, attempt, result, again_ms: None }
}

pub fn failed(step: Step, attempt: u32, again_ms: Option<u64>) -> Record {
    let result = StepResult::Failed { failure: Failure::Transient, message: format!("{step} was refused") };
    Record::Outcome { pair: pair(), run: run_id(), step, attempt, result, again_ms }
}

fn looked(at_ms: u64) -> Finding {
    let reading = Reading::Down(Reason::Refused);
    Finding::Rechecked(vec![Look { probe: "web".into(), reading, started_ms: Some(at_ms) }])
}

pub fn mirror_facts() -> MirrorFacts {
    MirrorFacts {
        images: vec![ImageFacts {
            image: "pool/image".into(),
            primary: false,
            newest_complete: Some(7),
            syncing: None,
            progress: Some((10, 10)),
            source_time_ms: Some(1_700_000_000_000),
            orphan: false,
            peer_primary: false,
        }],
    }
}

/// One record of every kind, in no meaningful order.
pub fn every_kind() -> Vec<Record> {
    let gate = GateState { gate: Gate::Rpo, open: true, value: "60.0 s of 15m".into() };
    let pause = Pause { by: "uid 1000".into(), reason: "upgrade".into(), until_wall_ms: Some(1_700_000_000_000) };
    vec![
        started(),
        snapshot(),
        Record::SelfCheck { check: "own-api".into(), from: Reading::Up, to: Reading::Unknown(Reason::Stale) },
        Record::Doubt { why: Some("stalled for 3 s".into()) },
        signal("web"),
        verdict(),
        Record::HoldDownBegan { pair: pair() },
        Record::Round { pair: pair(), number: 1, held_ms: 5000 },
        Record::HoldDownBroken { pair: pair(), cause: "web is Up".into() },
        Record::Shadow { pair: pair(), would_act: false, decided_by: Some("witness".into()) },
        Record::Gates { pair: pair(), at: Step::PromoteRecheck, gates: vec![gate] },
        Record::Requested { request: Box::new(request()) },
        Record::Escalated { pair: pair(), request: "nexus-1".into() },
        approved(),
        Record::Voided { pair: pair(), request: "nexus-1".into(), why: "web is Up".into() },
        Record::Refused { pair: pair(), by: "uid 7".into(), order: "approve".into(), why: "expired".into() },
        run_started(),
        intent(Step::Route(0), 1),
        Record::Noted { pair: pair(), run: run_id(), step: Step::Promote, key: "pid".into(), value: "4711".into() },
        done(Step::ConsistencyPoint, 1, Finding::Mirror(mirror_facts())),
        failed(Step::Deploy, 1, Some(5000)),
        Record::Stuck { pair: pair(), run: run_id(), step: Step::Deploy, message: "not ready".into() },
        Record::Retried { pair: pair(), run: run_id(), step: Step::Deploy, by: "uid 1000".into() },
        Record::Skipped {
            pair: pair(),
            run: run_id(),
            step: Step::Deploy,
            by: "uid 1000".into(),
            reason: "done by hand".into(),
        },
        Record::UnfencedAccepted {
            pair: pair(),
            run: run_id(),
            consent: Consent { by: "uid 1000".into(), reason: "power is off".into() },
            accepted: LossBound::AtMost(960_000),
        },
        Record::RunStopping { pair: pair(), run: run_id(), why: "A lives".into() },
        Record::RunEnded { pair: pair(), run: run_id(), ending: Ending::Succeeded },
        Record::RoleChanged { pair: pair(), role: Role::Moving { run: run_id() }, epoch: 1 },
        Record::Led { pair: pair(), epoch: 3 },
        Record::FenceProven { pair: pair(), run: run_id(), proof: FenceProof::Witnessed { witness: "third".into() } },
        Record::Paused { pair: pair(), pause },
        Record::Resumed { pair: pair(), by: None },
        Record::Blocked { pair: pair(), until_wall_ms: 1_700_000_000_000 },
        Record::Unblocked { pair: pair(), by: "uid 1000".into() },
        Record::SourceTime { pair: pair(), image: "pool/image".into(), snapshot: 7, time_ms: 1_700_000_000_000 },
        Record::ClockError { pair: pair(), error_ms: 20 },
        Record::SeenAlive { pair: pair() },
        Record::OldPrimaryReturned { pair: pair(), seen: "web is Up".into() },
        Record::Ruled { policy: Box::new(policy()) },
        Record::Witness { pair: pair(), witness: "third".into(), says: WitnessSays::Down },
        Record::Life { pair: pair(), what: "probe web".into() },
        Record::Paged { pair: Some(pair()), kind: PageKind::Stuck },
        Record::Recording { segment: "recording-000001.jsonl".into(), sha256: "00".into() },
    ]
}

pub fn signal_view(name: &str, state: Reading) -> SignalView {
    SignalView {
        name: name.into(),
        site: Some(Site::A),
        domain: Some(Domain::Service),
        votes: true,
        state,
        for_ms: 61_000,
        last: state,
        age_ms: Some(1500),
        latency_ms: 12,
        changes: 0,
        detail: Some("connection refused".into()),
    }
}

/// One pair in the middle of a hold-down.
pub fn view() -> View {
    let gates = vec![
        GateState { gate: Gate::Verdict, open: false, value: "Suspect, needs SiteDown".into() },
        GateState { gate: Gate::Rpo, open: true, value: "loss bound 60.0 s, limit 900.0 s".into() },
    ];
    View {
        now: at(1000),
        doubt: None,
        self_checks: vec![SignalView { site: None, domain: None, votes: false, ..signal_view("own-api", Reading::Up) }],
        pairs: vec![PairView {
            name: "nexus".into(),
            mode: Mode::Confirm,
            role: Role::AtA,
            epoch: 0,
            verdict: Verdict::Suspect,
            verdict_for_ms: 30_000,
            domains: vec![(Domain::Service, DomainState::Down), (Domain::Storage, DomainState::NoVoter)],
            signals: vec![signal_view("web", Reading::Down(Reason::Refused))],
            witnesses: vec![WitnessView {
                name: "third".into(),
                kind: WitnessKind::ThirdSite,
                report: WitnessReport::Blind,
                age_ms: Some(2000),
            }],
            hold: Some(HoldView { held_ms: 45_000, needed_ms: 90_000, rounds: 2, rounds_needed: 3 }),
            life: Some(("peer".into(), 70_000)),
            points: vec![point()],
            mirror: Some(mirror_facts()),
            bound: LossBound::AtMost(60_000),
            clock_error_ms: Some(20),
            automatic: gates.clone(),
            gates,
            would_flip: vec!["45 s more of hold-down, 2 of 3 rounds witnessed".into()],
            request: None,
            run: None,
            pause: None,
            blocked_until_wall_ms: None,
        }],
    }
}

/// Records as entries of a journal, numbered from 1.
pub fn entries(records: Vec<(Now, Record)>) -> Vec<crate::journal::Entry> {
    let entry =
        |(seq, (at, record))| crate::journal::Entry { seq, at, record, hash: String::new(), prev: String::new() };
    (1..).zip(records).map(entry).collect()
}

/// The gates as asked at `step`, all open.
pub fn open_gates(step: Step) -> Record {
    let open = |gate| GateState { gate, open: true, value: "open".into() };
    let gates = vec![open(Gate::Verdict), open(Gate::Mode), open(Gate::Rpo)];
    Record::Gates { pair: pair(), at: step, gates }
}

/// A failover as the journal tells it, from the first sign to the change of role.
pub fn failover() -> Vec<(Now, Record)> {
    let verdict = |from, to| Record::Verdict { pair: pair(), from, to, cause: "the story goes so".into() };
    let round = |number, held_ms| Record::Round { pair: pair(), number, held_ms };
    let consent = Consent { by: "uid 1000".into(), reason: "power is off".into() };
    let accepted = LossBound::AtMost(960_000);
    let time_ms = 1_700_000_000_000;
    let mut story = vec![
        (at(0), started()),
        (at(10), Record::SourceTime { pair: pair(), image: "pool/image".into(), snapshot: 7, time_ms }),
        (at(11), Record::ClockError { pair: pair(), error_ms: 20 }),
        (at(1000), signal("web")),
        (at(1000), verdict(Verdict::Up, Verdict::Suspect)),
        (at(2000), Record::HoldDownBegan { pair: pair() }),
        (at(5000), round(1, 3000)),
        (at(8000), round(2, 6000)),
        (at(11_000), round(3, 9000)),
        (at(12_000), verdict(Verdict::Suspect, Verdict::SiteDown)),
        (at(12_000), Record::Requested { request: Box::new(request()) }),
        (at(15_000), approved()),
        (at(15_000), open_gates(Step::Recheck)),
        (at(15_000), Record::RunStarted { pair: pair(), run: Box::new(Run { started: at(15_000), ..run() }) }),
        (at(15_000), Record::RoleChanged { pair: pair(), role: Role::Moving { run: run_id() }, epoch: 1 }),
        (at(15_000), Record::Blocked { pair: pair(), until_wall_ms: 1_700_003_600_000 }),
        (at(15_100), intent(Step::Recheck, 1)),
        (at(15_200), open_gates(Step::Recheck)),
        (at(15_200), done(Step::Recheck, 1, looked(15_150))),
        (at(15_200), intent(Step::Fence, 1)),
        (
            at(16_200),
            done(Step::Fence, 1, Finding::Fence(FenceOutcome::Unconfirmed { why: "A does not answer".into() })),
        ),
        (at(16_200), Record::UnfencedAccepted { pair: pair(), run: run_id(), consent, accepted }),
    ];
    let mut clock = 16_200;
    for step in steps().into_iter().skip(2) {
        let finding = match step {
            Step::ConsistencyPoint => Finding::Mirror(mirror_facts()),
            Step::PromoteRecheck => looked(clock + 250),
            Step::Verify => Finding::Nonce("understudy/nonce".into()),
            _ => Finding::Nothing,
        };
        story.push((at(clock), intent(step, 1)));
        if step.is_recheck() {
            story.push((at(clock + 500), open_gates(step)));
        }
        story.push((at(clock + 500), done(step, 1, finding)));
        clock += 500;
    }
    story.push((at(clock), Record::RunEnded { pair: pair(), run: run_id(), ending: Ending::Succeeded }));
    story.push((at(clock), Record::RoleChanged { pair: pair(), role: Role::AtB, epoch: 2 }));
    story
}

/// One pair with one probe.
pub fn policy() -> Policy {
    let second = std::time::Duration::from_secs(1);
    let probe = ProbePolicy {
        name: "web".into(),
        site: Site::A,
        domain: Domain::Service,
        votes: true,
        period: second,
        timeout: second,
        fall: 3,
        rise: 2,
    };
    let plan = PlanPolicy {
        mirrored: true,
        aged: false,
        kubernetes: true,
        undo_point: true,
        routes: vec!["webhook".into()],
        route_check: true,
        attempts: 3,
        retry_after: second,
        step_overdue: 60 * second,
        ready_within: 60 * second,
        promote_overdue: 60 * second,
        verify_valid: 60 * second,
        lease_margin: 5 * second,
    };
    Policy {
        config_digest: "d1".into(),
        self_checks: vec![],
        stall: second,
        clock_jump: second,
        doubt: second,
        blind_page: second,
        automatic_max: 1,
        automatic_window: second,
        pairs: vec![PairPolicy {
            name: pair(),
            mode: Mode::Confirm,
            probes: vec![probe],
            witnesses: vec![],
            at_least: 1,
            of: vec![Domain::Service],
            hold_down: 10 * second,
            veto_within: 3 * second,
            flap: Flap { changes: 4, window: 600 * second, quiet: 60 * second },
            rpo_max: 900 * second,
            writeback_window: 35 * second,
            skew_max: 60 * second,
            approval_ttl: 900 * second,
            recovery_block: 3600 * second,
            images: vec!["pool/image".into()],
            plan,
        }],
    }
}
