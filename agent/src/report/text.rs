//! A report for the eye.

use std::fmt::Write;

use understudy_core::{Answer, Authority, COPY, FenceOutcome, ImagePoint};

use super::{Answered, Outcome, Report, StepReport};
use crate::text::{copy_words, date_time, duration, printable, table, time_of_day};

impl Report {
    /// The report as text, without anything that could steer a terminal.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "run {} of pair {}: {}", self.run, self.pair, self.outcome_words());
        text.push_str(&table("  ", &self.facts()));
        let _ = writeln!(text, "\nhow long it took");
        text.push_str(&table("  ", &self.durations()));
        let _ = writeln!(text, "\ntimeline, from the first sign");
        let moments = self
            .timeline
            .iter()
            .map(|m| vec![time_of_day(m.at_wall_ms), format!("+{}", duration(m.after_ms)), m.what.clone()]);
        text.push_str(&table("  ", &moments.collect::<Vec<_>>()));
        printable(&text)
    }

    fn outcome_words(&self) -> String {
        let why = self.why.as_deref().unwrap_or("see below");
        match self.outcome {
            Outcome::UnderWay => match &self.why {
                Some(why) => format!("stopping: {why}"),
                None => "under way".into(),
            },
            Outcome::Stuck => "STUCK, a step needs a human".into(),
            Outcome::Succeeded => "succeeded, B is the active site".into(),
            Outcome::Stopped => format!("STOPPED before the promote: {why}"),
            Outcome::Abandoned => format!("ABANDONED after the promote by {why}"),
        }
    }

    fn facts(&self) -> Vec<Vec<String>> {
        let mut facts = vec![
            row("started", date_time(self.started_wall_ms)),
            row("on the word of", authority_words(&self.authority)),
            row("fence", self.fence.as_ref().map_or("did not end".into(), fence_words)),
            row("loss accepted", format!("at most {}", self.loss.accepted)),
        ];
        if let Some(bound) = self.loss.bound {
            facts.push(row("loss bound", format!("at most {bound}, at the consistency point")));
        }
        facts.extend(self.loss.points.iter().map(|point| row("promote left", point_words(point))));
        facts.extend(self.answers.iter().map(|answer| row("answer", answer_words(answer))));
        facts
    }

    fn durations(&self) -> Vec<Vec<String>> {
        let stage = |name: &str, took: Option<u64>, what: &str| {
            vec![name.to_owned(), String::new(), took.map_or("-".into(), duration), String::new(), what.to_owned()]
        };
        let mut rows = vec![
            ["", "begins", "took", "tries", ""].map(String::from).to_vec(),
            stage("detection", self.stages.detection_ms, "first sign until SiteDown"),
            stage("decision", self.stages.decision_ms, "SiteDown until the run began"),
        ];
        rows.extend(self.steps.iter().map(step_row));
        rows.push(stage("run", Some(self.stages.run_ms), "its start until its end"));
        rows.push(stage("total", Some(self.stages.total_ms), "first sign until the end"));
        rows
    }
}

fn row(name: &str, value: String) -> Vec<String> {
    vec![name.to_owned(), value]
}

fn step_row(step: &StepReport) -> Vec<String> {
    let began = step.began_after_ms.map_or("-".into(), |ms| format!("+{}", duration(ms)));
    let took = step.took_ms.map_or_else(|| step.state.to_owned(), duration);
    vec![step.step.to_string(), began, took, step.tries.to_string(), step.detail.clone()]
}

fn authority_words(authority: &Authority) -> String {
    match authority {
        Authority::Automatic { witness } => format!("the policy, with witness {witness}"),
        Authority::Approved { request, by } => format!("{by}, who approved request {request}"),
        Authority::Forced { by, reason } => format!("{by}, who forced it: {reason}"),
    }
}

fn fence_words(fence: &FenceOutcome) -> String {
    match fence {
        FenceOutcome::Confirmed { how, at_wall_ms } => format!("confirmed at {}: {how}", time_of_day(*at_wall_ms)),
        FenceOutcome::Unconfirmed { why } => format!("NOT CONFIRMED: {why}"),
    }
}

fn point_words(point: &ImagePoint) -> String {
    if point.image.as_str() == COPY {
        return copy_words(point.source_time_ms);
    }
    let taken = point.source_time_ms.map_or("at an unknown time".into(), |ms| format!("at {}", date_time(ms)));
    let which = point.snapshot.map_or("no known snapshot".into(), |id| format!("snapshot {id}, taken {taken}"));
    let note = if point.mid_sync { ", the one before the sync that was under way" } else { "" };
    format!("{}: {which}{note}", point.image)
}

fn answer_words(answered: &Answered) -> String {
    let Answered { request, by, at_wall_ms, answer } = answered;
    let at = time_of_day(*at_wall_ms);
    match answer {
        Answer::Denied { reason } => format!("{by} denied {request} at {at}: {reason}"),
        Answer::Approved { accept_unfenced, accept_loss_ms } => {
            let unfenced = accept_unfenced.as_ref().map(|why| format!(", accepting an unconfirmed fence: {why}"));
            let loss = accept_loss_ms.map(|ms| match ms {
                understudy_core::ANY_LOSS => ", accepting any loss".to_owned(),
                ms => format!(", accepting a loss of {}", duration(ms)),
            });
            format!("{by} approved {request} at {at}{}{}", unfenced.unwrap_or_default(), loss.unwrap_or_default())
        }
    }
}
