//! `replay`: plays a daemon's recordings again and says where it would decide otherwise.

use std::path::Path;

use super::arguments::Replay;
use super::{Exit, Failure, Outcome, load, print_json};
use crate::replay::{ReplayError, Replayed, Side, replay as play};
use crate::text::{date_time, printable, say};

/// More is no list that somebody reads; `--json` has all of them.
const SHOWN: usize = 200;

/// `replay` of what lies at `path`.
pub fn replay(path: &Path, wanted: &Replay) -> Outcome {
    let rules = wanted.policy.as_deref().map(load).transpose()?.map(|loaded| loaded.policy());
    let mut replayed = play(path, rules.as_ref()).map_err(failed)?;
    if let Some(pair) = &wanted.pair {
        replayed.differences.retain(|difference| difference.pair.as_deref() == Some(pair));
    }
    let same = replayed.differences.is_empty();
    if wanted.json {
        print_json(&replayed)?;
    } else {
        say(&printable(&in_words(&replayed)));
    }
    Ok(if same { Exit::Done } else { Exit::Failed })
}

fn in_words(replayed: &Replayed) -> String {
    let Replayed { recordings, events, decisions, differences } = replayed;
    let mut text = String::new();
    for difference in differences.iter().take(SHOWN) {
        let sign = if difference.side == Side::Then { '-' } else { '+' };
        let pair = difference.pair.as_deref().unwrap_or("-");
        text += &format!("{}  {pair}  {sign} {}\n", date_time(difference.wall_ms), difference.decision);
    }
    if differences.len() > SHOWN {
        text += &format!("… and {} more; --json has all of them\n", differences.len() - SHOWN);
    }
    text += &format!("{recordings} recordings, {events} events, {decisions} decisions of then: ");
    match differences.len() {
        0 => text += "no difference\n",
        n => text += &format!("{n} differences (- only then, + only now)\n"),
    }
    text
}

fn failed(error: ReplayError) -> Failure {
    Failure::new(Exit::Usage, error)
}
