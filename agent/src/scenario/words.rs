//! The words of a timeline: `down(timed out)`, `up(2800ms)`, `down x3`, `hangs`.
//!
//! In: text. Out: what it means, or what to write instead.

use std::time::Duration;

use understudy_config::Span;
use understudy_core::{Domain, Failure, Reason};

/// What a probe or self-check sees at one look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// It answers after this time.
    Up(Duration),
    /// A mapped cause.
    Down(Reason),
    /// We can not tell.
    Unknown(Reason),
    /// The look brings no news at all.
    Silent,
}

/// What a witness says when it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Testimony {
    /// It sees these domains Up.
    Up(Vec<Domain>),
    /// It sees these domains Down.
    Down(Vec<Domain>),
    /// It can not tell.
    Unknown,
    /// It doubts itself.
    Blind,
    /// It gives no usable answer, for this reason.
    Silent(String),
}

/// How a step goes when it is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Going {
    /// It is done after this time.
    Done(Duration),
    /// The fence, as its outcome.
    Fence {
        /// Whether A itself showed that nothing of it can write.
        confirmed: bool,
    },
    /// It never ends.
    Hangs,
    /// It does not come about.
    Fails(Failure, String),
}

/// What befalls the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is not running for this long: no tick, no reading.
    Stalls(Duration),
    /// It is killed, and started again after this time.
    Restarts(Duration),
}

/// How long an ordinary answer takes.
const AT_ONCE: Duration = Duration::from_millis(5);
/// How long an ordinary step takes.
const STEP: Duration = Duration::from_secs(1);
/// No list says one word more often.
const MOST_TIMES: usize = 10_000;

const DOWN: [Reason; 12] = [
    Reason::Refused,
    Reason::Reset,
    Reason::TimedOut,
    Reason::ServerError,
    Reason::WrongIdentity,
    Reason::NotWritable,
    Reason::CheckFailed,
    Reason::CanaryRefused,
    Reason::CanaryDamaged,
    Reason::StorageSilent,
    Reason::ProgramSaysDown,
    Reason::WrongAnswer,
];
const UNKNOWN: [Reason; 14] = [
    Reason::Late,
    Reason::Unauthorized,
    Reason::Forbidden,
    Reason::Tls,
    Reason::LocalDns,
    Reason::Unreachable,
    Reason::Unparsable,
    Reason::TooLarge,
    Reason::ToolMissing,
    Reason::LocalFault,
    Reason::BadSignature,
    Reason::WitnessBlind,
    Reason::Starting,
    Reason::Unmapped,
];

struct Word<'a> {
    name: &'a str,
    argument: Option<&'a str>,
}

/// Reads `words` by `meaning`, each as often as it says.
pub fn each<T: Clone>(words: &[String], meaning: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    if words.is_empty() {
        return Err("nothing stands in this list: write at least one word".into());
    }
    let mut meant = Vec::new();
    for text in words {
        let (word, times) = times(text)?;
        meant.extend(std::iter::repeat_n(meaning(word)?, times));
    }
    Ok(meant)
}

fn times(text: &str) -> Result<(&str, usize), String> {
    let text = text.trim();
    let Some((word, count)) = text.rsplit_once(" x") else { return Ok((text, 1)) };
    let Ok(count) = count.parse::<usize>() else { return Ok((text, 1)) };
    if (1..=MOST_TIMES).contains(&count) {
        return Ok((word.trim(), count));
    }
    Err(format!("{text:?} repeats too often, or never: write a number from 1 to {MOST_TIMES}"))
}

fn word(text: &str) -> Result<Word<'_>, String> {
    let text = text.trim();
    match text.split_once('(') {
        None => Ok(Word { name: text, argument: None }),
        Some((name, rest)) => match rest.strip_suffix(')') {
            Some(argument) => Ok(Word { name: name.trim(), argument: Some(argument.trim()) }),
            None => Err(format!("{text:?} lacks its closing bracket")),
        },
    }
}

/// `up`, `up(2800ms)`, `down`, `down(timed out)`, `unknown(forbidden)`, `silent`.
pub fn look(text: &str) -> Result<Look, String> {
    let said = word(text)?;
    match (said.name, said.argument) {
        ("up", None) => Ok(Look::Up(AT_ONCE)),
        ("up", Some(after)) => span(after).map(Look::Up),
        ("down", None) => Ok(Look::Down(Reason::Refused)),
        ("down", Some(cause)) => reason(cause, &DOWN, &UNKNOWN, "Down", "unknown").map(Look::Down),
        ("unknown", None) => Ok(Look::Unknown(Reason::Unmapped)),
        ("unknown", Some(cause)) => reason(cause, &UNKNOWN, &DOWN, "Unknown", "down").map(Look::Unknown),
        ("silent", None) => Ok(Look::Silent),
        _ => {
            Err(format!("{text:?} says nothing of a look: write up, up(2800ms), down(refused), unknown(tls) or silent"))
        }
    }
}

fn reason(text: &str, fit: &[Reason], others: &[Reason], state: &str, other_word: &str) -> Result<Reason, String> {
    let named = |reason: &&Reason| key_of(**reason) == text.replace(' ', "_");
    if let Some(reason) = fit.iter().find(named) {
        return Ok(*reason);
    }
    if others.iter().any(|reason| named(&reason)) {
        return Err(format!("{text:?} is never a cause of {state}: write {other_word}({text})"));
    }
    let known: Vec<String> = fit.iter().map(|reason| key_of(*reason).replace('_', " ")).collect();
    Err(format!("{text:?} is no cause of {state}: known are {}", known.join(", ")))
}

/// The reason as the journal writes it.
fn key_of(reason: Reason) -> String {
    serde_json::to_value(reason).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// `up`, `down`, `down(service)`, `blind`, `silent`, `silent(bad signature)`, `unknown`.
pub fn testimony(text: &str) -> Result<Testimony, String> {
    let said = word(text)?;
    match (said.name, said.argument) {
        ("up", argument) => domains(argument).map(Testimony::Up),
        ("down", argument) => domains(argument).map(Testimony::Down),
        ("unknown", None) => Ok(Testimony::Unknown),
        ("blind", None) => Ok(Testimony::Blind),
        ("silent", why) => Ok(Testimony::Silent(why.unwrap_or("no answer").to_owned())),
        _ => Err(format!(
            "{text:?} is nothing that a witness says: write up, down, down(service), unknown, blind, silent or \
             silent(bad signature)"
        )),
    }
}

fn domains(argument: Option<&str>) -> Result<Vec<Domain>, String> {
    match argument {
        None => Ok(vec![Domain::Service, Domain::ControlPlane]),
        Some(list) => list.split([',', ' ']).filter(|name| !name.is_empty()).map(domain).collect(),
    }
}

/// `service`, `control_plane`, `storage`.
pub fn domain(text: &str) -> Result<Domain, String> {
    let found = Domain::ALL.into_iter().find(|domain| domain.to_string() == text);
    found.ok_or_else(|| format!("{text:?} is no domain: write service, control_plane or storage"))
}

/// `done`, `done(40s)`, `confirmed`, `not confirmed`, `hangs`, `fails(…)`, `breaks(…)`, `unclear(…)`.
pub fn going(text: &str) -> Result<Going, String> {
    let said = word(text)?;
    let because = || said.argument.unwrap_or("it went wrong").to_owned();
    match (said.name, said.argument) {
        ("done", None) => Ok(Going::Done(STEP)),
        ("done", Some(after)) => span(after).map(Going::Done),
        ("confirmed", None) => Ok(Going::Fence { confirmed: true }),
        ("not confirmed", None) => Ok(Going::Fence { confirmed: false }),
        ("hangs", None) => Ok(Going::Hangs),
        ("fails", _) => Ok(Going::Fails(Failure::Transient, because())),
        ("breaks", _) => Ok(Going::Fails(Failure::Permanent, because())),
        ("unclear", _) => Ok(Going::Fails(Failure::Unknown, because())),
        _ => Err(format!(
            "{text:?} is no way for a step to go: write done, done(40s), hangs, fails(why) where another try may help, \
             breaks(why) where none does, unclear(why) where nobody knows whether it happened; for the fence confirmed or \
             not confirmed"
        )),
    }
}

/// `stalls(5s)`, `restarts`, `restarts(10s)`.
pub fn fate(text: &str) -> Result<Fate, String> {
    let said = word(text)?;
    match (said.name, said.argument) {
        ("stalls", Some(time)) => span(time).map(Fate::Stalls),
        ("restarts", None) => Ok(Fate::Restarts(STEP)),
        ("restarts", Some(time)) => span(time).map(Fate::Restarts),
        _ => Err(format!("{text:?} befalls no daemon: write stalls(5s) or restarts(10s)")),
    }
}

/// `+30s`, `-2s`, in milliseconds.
pub fn jump(text: &str) -> Result<i64, String> {
    let (sign, rest) = match (text.strip_prefix('+'), text.strip_prefix('-')) {
        (Some(rest), _) => (1, rest),
        (_, Some(rest)) => (-1, rest),
        (None, None) => return Err(format!("{text:?} has no direction: write +30s or -30s")),
    };
    Ok(sign * understudy_core::signed(understudy_core::millis(span(rest)?)))
}

/// A duration with its unit.
pub fn span(text: &str) -> Result<Duration, String> {
    use serde::de::IntoDeserializer;
    use serde::de::value::{Error, StrDeserializer};
    let deserializer: StrDeserializer<'_, Error> = text.into_deserializer();
    let parsed = <Span as serde::Deserialize>::deserialize(deserializer);
    parsed.map(|span| span.0).map_err(|error| error.to_string())
}

/// One of `known`, by name; spaces and underscores are the same.
pub fn one_of<T: Copy>(text: &str, what: &str, known: &[(&str, T)]) -> Result<T, String> {
    let wanted = text.replace('_', " ");
    let found = known.iter().find(|(name, _)| *name == wanted).map(|(_, meant)| *meant);
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    found.ok_or_else(|| format!("{text:?} is no {what}: write one of {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_read_with_its_cause_and_its_time() {
        assert_eq!(look("down(timed out)"), Ok(Look::Down(Reason::TimedOut)));
        assert_eq!(look("down"), Ok(Look::Down(Reason::Refused)));
        assert_eq!(look("up(2800ms)"), Ok(Look::Up(Duration::from_millis(2800))));
        assert_eq!(look("unknown(local_dns)"), Ok(Look::Unknown(Reason::LocalDns)));
    }

    #[test]
    fn a_cause_of_unknown_can_not_be_written_as_one_of_down() {
        let refused = look("down(forbidden)").unwrap_err();

        assert_eq!(refused, "\"forbidden\" is never a cause of Down: write unknown(forbidden)");
    }

    #[test]
    fn every_reason_is_a_cause_of_one_state_or_none_that_is_looked_up() {
        let all = DOWN.iter().chain(&UNKNOWN).map(|reason| key_of(*reason)).collect::<std::collections::BTreeSet<_>>();

        assert_eq!(all.len(), DOWN.len() + UNKNOWN.len());
    }

    #[test]
    fn a_word_may_stand_for_several_looks() {
        let meant = each(&["up x3".into(), "down".into()], look).unwrap();

        assert_eq!(meant.len(), 4);
        assert!(each(&["up x0".into()], look).is_err());
    }

    #[test]
    fn a_jump_has_a_direction() {
        assert_eq!(jump("-2s"), Ok(-2000));
        assert!(jump("2s").unwrap_err().contains("+30s"));
    }

    #[test]
    fn a_bracket_that_is_not_closed_is_told() {
        assert!(going("fails(no").unwrap_err().contains("closing bracket"));
    }
}
