//! Every place of this crate where bytes from outside become values; see [`understudy_config::boundary`].
//!
//! In: bytes of which nothing is known: a file of the journal, the body of an order. Out: what the daemon takes them for,
//! as far as into the core: an order is judged, and what comes of it is written down and read again. Start reading at [`ALL`].

use std::path::Path;

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderValue};
use understudy_config::boundary::{Boundary, Read, example, parts, said};
use understudy_core::{Command, Event, Now, PairId, Policy, Record, State, Ticket, resume, step};

use crate::api::auth::{bearer, role_for};
use crate::api::{Ordered, Status};
use crate::cli::text::status_text;
use crate::history::history;
use crate::journal::line::{self, Link};
use crate::journal::segment::{self, Segment};
use crate::journal::{Entry, JournalError};
use crate::report::report;

/// All of this crate.
pub const ALL: &[Boundary] = &[
    Boundary::new("journal", "segment", |bytes| said(entries(bytes).map(|entries| entries.len()))),
    Boundary::new("records", "records", of_records),
    Boundary::new("orders", "order", of_order),
    Boundary::new("orders", "token", of_token),
    Boundary::new("orders", "status at the command line", of_status),
];

const NOW: Now = Now { boot_ms: 1_000_000, wall_ms: 1_700_000_000_000, boot_id: 2 };

/// The records of the only segment of a journal.
fn entries(content: &[u8]) -> Result<Vec<Entry>, JournalError> {
    let segment = Segment::numbered(Path::new("/nonexistent"), 1);
    segment::chain_of(&segment, content)
}

/// Lines of records, each of which is sealed here: what a digest keeps out otherwise.
fn of_records(bytes: &[u8]) -> Read {
    let mut end = Link::start();
    let mut content = Vec::new();
    for record in bytes.split(|byte| *byte == b'\n').filter(|record| !record.is_empty()) {
        let line = line::sealed(&end, record);
        end = Link { seq: end.seq + 1, hash: line::hash_of(&line) };
        content.extend(line);
    }
    let entries = entries(&content).map_err(|error| error.to_string())?;
    let told = format!("{:?}", history(&entries, None));
    let runs = entries.iter().filter_map(|entry| match &entry.record {
        Record::RunStarted { run, .. } => Some(run.id.clone()),
        _ => None,
    });
    let reports: Vec<_> = runs.filter_map(|run| report(&entries, &run)).map(|report| report.to_text()).collect();
    let policy = policy_for(&entries);
    let (state, commands) = resumed(&policy, entries);
    Ok(format!("{told} {reports:?} {commands:?} {:?}", state.view(&policy, NOW)))
}

/// The order, and the records that came before it.
fn of_order(bytes: &[u8]) -> Read {
    let [order, records] = parts(bytes);
    let Ordered { pair, order } = Ordered::read(order)?;
    let role = role_for(&order);
    let entries = entries(records).map_err(|error| error.to_string())?;
    let policy = policy_for(&entries);
    let (state, _) = resumed(&policy, entries);
    let event = Event::Ordered { pair: PairId(0), by: "uid 0".into(), order, ticket: Ticket(1) };
    let (_, commands) = step(&policy, state, event, NOW);
    write_and_read(&commands);
    Ok(format!("{pair} {role:?} {commands:?}"))
}

/// What the core writes down must be what it reads again.
fn write_and_read(commands: &[Command]) {
    for command in commands {
        let Command::Journal(record) = command else { continue };
        let (line, _) = line::encode(&Link::start(), NOW, record);
        let read = line::decode(&line).map(|entry| entry.record);
        assert_eq!(read.as_ref(), Ok(record), "a record does not survive the journal");
    }
}

fn resumed(policy: &Policy, entries: Vec<Entry>) -> (State, Vec<Command>) {
    let records = entries.into_iter().map(|entry| (entry.at, entry.record));
    resume(policy, State::restore(policy, records, NOW), NOW)
}

/// The policy of the example, whose pair has the name of the first pair in the journal.
fn policy_for(entries: &[Entry]) -> Policy {
    let mut policy = example().policy();
    let named = entries.iter().find_map(|entry| entry.record.pair());
    if let (Some(name), Some(pair)) = (named, policy.pairs.first_mut()) {
        pair.name = name.clone();
    }
    policy
}

fn of_token(bytes: &[u8]) -> Read {
    let value = HeaderValue::from_bytes(bytes).map_err(|error| error.to_string())?;
    let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
    bearer(&headers).map(str::to_owned).map_err(|stranger| format!("{stranger:?}"))
}

fn of_status(bytes: &[u8]) -> Read {
    let status: Status =
        serde_json::from_slice(bytes).map_err(|error| error.to_string().chars().take(200).collect::<String>())?;
    Ok(status_text(&status))
}
