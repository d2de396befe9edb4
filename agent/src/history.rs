//! What was decided, oldest first: runs, and questions that led to none.
//!
//! In: the journal's entries. Out: one [`Event`] for each decision.

use serde::Serialize;
use understudy_core::{Answer, Authority, Ending, PairName, Record};

use crate::journal::Entry;
use crate::text::{between, date_time, duration, printable, table};

/// A decision and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// Name of the run or request.
    pub id: String,
    /// `run` or `request`.
    pub kind: &'static str,
    /// Of which pair.
    pub pair: PairName,
    /// When it began, in milliseconds since the Unix epoch.
    pub at_wall_ms: i64,
    /// On whose word, or who answered.
    pub by: String,
    /// What came of it: `under way`, `succeeded`, `stopped`, `abandoned`, `open`, `approved`, `denied`, `void`.
    pub outcome: &'static str,
    /// Why, where that is not plain.
    pub why: Option<String>,
    /// How long it took, in milliseconds.
    pub took_ms: Option<u64>,
}

/// Every decision in these entries; of `pair` only, if one is named.
#[must_use]
pub fn history(entries: &[Entry], pair: Option<&str>) -> Vec<Event> {
    let mut events: Vec<(Event, understudy_core::Now)> = vec![];
    let ours = |entry: &&Entry| entry.record.pair().is_some_and(|named| pair.is_none_or(|p| named.as_str() == p));
    for entry in entries.iter().filter(ours) {
        match begun(entry) {
            Some(event) => events.push((event, entry.at)),
            None => close(&mut events, entry),
        }
    }
    events.into_iter().map(|(event, _)| event).collect()
}

fn begun(entry: &Entry) -> Option<Event> {
    let (id, kind, pair, by, outcome) = match &entry.record {
        Record::RunStarted { pair, run } => (run.id.to_string(), "run", pair, word_of(&run.authority), "under way"),
        Record::Requested { request } => (request.id.to_string(), "request", &request.pair, String::new(), "open"),
        _ => return None,
    };
    let at_wall_ms = entry.at.wall_ms;
    Some(Event { id, kind, pair: pair.clone(), at_wall_ms, by, outcome, why: None, took_ms: None })
}

fn word_of(authority: &Authority) -> String {
    match authority {
        Authority::Automatic { witness } => format!("policy, witness {witness}"),
        Authority::Approved { by, .. } => by.clone(),
        Authority::Forced { by, .. } => format!("{by}, by force"),
    }
}

fn close(events: &mut [(Event, understudy_core::Now)], entry: &Entry) {
    let (kind, id, outcome, by, why) = match &entry.record {
        Record::RunEnded { run, ending, .. } => match ending {
            Ending::Succeeded => ("run", run.as_str(), "succeeded", None, None),
            Ending::Stopped { why } => ("run", run.as_str(), "stopped", None, Some(why)),
            Ending::Abandoned { reason, .. } => ("run", run.as_str(), "abandoned", None, Some(reason)),
        },
        Record::Answered { request, by, answer, .. } => match answer {
            Answer::Approved { .. } => ("request", request.as_str(), "approved", Some(by), None),
            Answer::Denied { reason } => ("request", request.as_str(), "denied", Some(by), Some(reason)),
        },
        Record::Voided { request, why, .. } => ("request", request.as_str(), "void", None, Some(why)),
        _ => return,
    };
    let Some((event, began)) = events.iter_mut().rfind(|(event, _)| event.kind == kind && event.id == id) else {
        return;
    };
    event.outcome = outcome;
    event.by = by.cloned().unwrap_or_else(|| std::mem::take(&mut event.by));
    event.why = why.cloned();
    event.took_ms = Some(between(*began, entry.at));
}

/// The events as a table.
#[must_use]
pub fn to_text(events: &[Event]) -> String {
    if events.is_empty() {
        return "nothing was decided yet\n".into();
    }
    let mut rows = vec![["when", "what", "name", "pair", "outcome", "took", "by", ""].map(String::from).to_vec()];
    rows.extend(events.iter().map(|event| {
        let took = event.took_ms.map_or("-".into(), duration);
        let (kind, outcome) = (event.kind.to_owned(), event.outcome.to_owned());
        let why = event.why.clone().unwrap_or_default();
        let (id, pair) = (event.id.clone(), event.pair.to_string());
        vec![date_time(event.at_wall_ms), kind, id, pair, outcome, took, event.by.clone(), why]
    }));
    printable(&table("", &rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{approved, at, entries, pair, request, run_id, run_started};

    #[test]
    fn a_run_and_the_request_before_it_are_told_with_their_ends() {
        let journal = entries(vec![
            (at(0), Record::Requested { request: Box::new(request()) }),
            (at(1000), approved()),
            (at(1000), run_started()),
            (at(5000), Record::RunEnded { pair: pair(), run: run_id(), ending: Ending::Succeeded }),
        ]);

        let events = history(&journal, None);

        let told: Vec<_> = events.iter().map(|e| (e.kind, e.outcome, e.by.as_str(), e.took_ms)).collect();
        assert_eq!(
            told,
            [("request", "approved", "uid 1000", Some(1000)), ("run", "succeeded", "uid 1000", Some(4000))]
        );
    }

    #[test]
    fn what_is_not_over_is_told_as_such() {
        let journal =
            entries(vec![(at(0), Record::Requested { request: Box::new(request()) }), (at(1), run_started())]);

        let outcomes: Vec<_> = history(&journal, None).iter().map(|e| (e.outcome, e.took_ms)).collect();

        assert_eq!(outcomes, [("open", None), ("under way", None)]);
    }

    #[test]
    fn a_stopped_run_and_a_void_request_say_why() {
        let journal = entries(vec![
            (at(0), Record::Requested { request: Box::new(request()) }),
            (at(1), Record::Voided { pair: pair(), request: "nexus-1".into(), why: "it expired".into() }),
            (at(2), run_started()),
            (
                at(3),
                Record::RunEnded { pair: pair(), run: run_id(), ending: Ending::Stopped { why: "A lives".into() } },
            ),
        ]);

        let text = to_text(&history(&journal, None));

        assert!(text.contains("void") && text.contains("it expired"), "{text}");
        assert!(text.contains("stopped") && text.contains("A lives"), "{text}");
    }

    #[test]
    fn other_pairs_are_left_out_when_one_is_named() {
        let journal = entries(vec![(at(0), run_started())]);

        assert_eq!(history(&journal, Some("other")), []);
        assert_eq!(history(&journal, Some("nexus")).len(), 1);
    }
}
