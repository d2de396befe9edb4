//! What is past, read from the journal's files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;
use understudy_checker::{Counts, Seen, Violation, check};
use understudy_core::{Record, RunId};

use super::arguments::{History, Journal, Report, Show, Verify};
use super::{Exit, Failure, Outcome, print_json};
use crate::journal::{Entry, JournalError, read_all};
use crate::recording::compare;
use crate::report::Outcome as RunOutcome;
use crate::tell::sentence;
use crate::text::{date_time, printable, say};

/// `history`.
pub fn history(directory: &Path, wanted: &History) -> Outcome {
    let events = crate::history::history(&read(directory)?, wanted.pair.as_deref());
    if wanted.json {
        return print_json(&events);
    }
    say(&crate::history::to_text(&events));
    Ok(Exit::Done)
}

/// `report`.
pub fn report(directory: &Path, wanted: &Report) -> Outcome {
    let entries = read(directory)?;
    let run = match &wanted.run {
        Some(run) => RunId(run.clone()),
        None => last_run(&entries).ok_or_else(|| Failure::usage("there was no run yet"))?,
    };
    let unknown = || Failure::usage(format!("the journal knows no run {run}; `understudy history` lists them"));
    let report = crate::report::report(&entries, &run).ok_or_else(unknown)?;
    if wanted.json {
        print_json(&report)?;
    } else {
        say(&report.to_text());
    }
    Ok(match report.outcome {
        RunOutcome::Succeeded => Exit::Done,
        RunOutcome::UnderWay => Exit::NotWell,
        RunOutcome::Stuck | RunOutcome::Stopped | RunOutcome::Abandoned => Exit::Failed,
    })
}

fn last_run(entries: &[Entry]) -> Option<RunId> {
    entries.iter().rev().find_map(|entry| match &entry.record {
        Record::RunStarted { run, .. } => Some(run.id.clone()),
        _ => None,
    })
}

/// `journal verify` and `journal show`. `default` names the directory where the command does not.
pub fn journal(default: impl Fn() -> Result<PathBuf, Failure>, wanted: &Journal) -> Outcome {
    let named = match wanted {
        Journal::Verify(Verify { directory, .. }) | Journal::Show(Show { directory, .. }) => directory.clone(),
    };
    let directory = named.map_or_else(default, Ok)?;
    match wanted {
        Journal::Verify(wanted) => verified(&directory, wanted.json),
        Journal::Show(wanted) => shown(&directory, wanted),
    }
}

fn verified(directory: &Path, as_json: bool) -> Outcome {
    let entries = match read(directory) {
        Err(Failure { exit: Exit::Failed, error }) if as_json => {
            print_json(&json!({ "sound": false, "chain": error.to_string() }))?;
            return Ok(Exit::Failed);
        }
        read => read?,
    };
    let found = judged(&entries)
        .map_err(|broken| format!("{broken}; the promise was that {}", broken.invariant.promise()))
        .and_then(|counts| Ok((counts, compare(directory, &entries).map_err(|altered| altered.to_string())?)));
    let (exit, sound) = if found.is_ok() { (Exit::Done, true) } else { (Exit::Failed, false) };
    let records = entries.len();
    let runs = entries.iter().filter(|entry| matches!(entry.record, Record::RunStarted { .. })).count();
    if as_json {
        let violation = found.as_ref().err();
        let judged: BTreeMap<String, u64> =
            found.iter().flat_map(|(counts, _)| counts).map(|(invariant, n)| (invariant.to_string(), *n)).collect();
        print_json(
            &json!({ "sound": sound, "records": records, "runs": runs, "judged": judged, "violation": violation }),
        )?;
        return Ok(exit);
    }
    match found {
        Ok((counts, recordings)) => {
            say(&format!(
                "sound: {records} records, {runs} runs, {recordings} recordings; chain and every rule hold\n"
            ));
            let judged: Vec<String> = counts.iter().map(|(invariant, n)| format!("{invariant} {n}")).collect();
            say(&format!("judged: {}\n", judged.join(", ")));
        }
        Err(violation) => say(&printable(&format!("NOT SOUND: {violation}\n"))),
    }
    Ok(exit)
}

fn judged(entries: &[Entry]) -> Result<Counts, Violation> {
    check(entries.iter().map(|entry| Seen { seq: entry.seq, at: entry.at, record: entry.record.clone() }))
}

fn shown(directory: &Path, wanted: &Show) -> Outcome {
    let of_pair = |entry: &Entry| {
        wanted.pair.as_ref().is_none_or(|pair| entry.record.pair().is_some_and(|named| named.as_str() == pair))
    };
    for entry in read(directory)?.iter().filter(|entry| entry.seq > wanted.after && of_pair(entry)) {
        if wanted.json {
            say(&format!("{}\n", serde_json::to_string(entry).map_err(anyhow::Error::from)?));
            continue;
        }
        let pair = entry.record.pair().map_or("-", |pair| pair.as_str());
        let what = sentence(&entry.record).unwrap_or_else(|| bookkeeping(&entry.record));
        say(&printable(&format!("{:>6}  {}  {pair}  {what}\n", entry.seq, date_time(entry.at.wall_ms))));
    }
    Ok(Exit::Done)
}

/// What `sentence` leaves out, in its own words.
fn bookkeeping(record: &Record) -> String {
    match record {
        Record::Snapshot { pairs } => format!("segment begins with the state of {} pairs", pairs.len()),
        Record::SourceTime { image, snapshot, time_ms, .. } => {
            format!("the primary took snapshot {snapshot} of {image} at {}", date_time(*time_ms))
        }
        Record::ClockError { error_ms, .. } => format!("the clocks differ by at most {error_ms} ms"),
        Record::Ruled { policy } => format!("judges by the rules of {}", policy.config_digest),
        Record::Paged { kind, .. } => format!("a human is woken: {kind:?}"),
        Record::Recording { segment, .. } => format!("recording {segment} is complete"),
        other => format!("{other:?}"),
    }
}

fn read(directory: &Path) -> Result<Vec<Entry>, Failure> {
    let entries = read_all(directory).map_err(failed)?;
    if entries.is_empty() {
        return Err(Failure::usage(format!("there is no journal in {}", directory.display())));
    }
    Ok(entries)
}

fn failed(error: JournalError) -> Failure {
    let exit = if matches!(error, JournalError::Io { .. }) { Exit::Usage } else { Exit::Failed };
    Failure::new(exit, error)
}
