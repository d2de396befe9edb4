//! How old B's copy is, by the age hook of storage that is promoted by hooks: the look that gives such a pair a loss bound (S8).
//!
//! In: the hook. Out: looks like those of a mirror, with one image: the copy, as of a time. It can only speak for life, when
//! that time goes on; an age that is not known, or only grows, accuses nobody (S4). Start reading at [`CopyAge`].

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use understudy_actions::{Words, storage};
use understudy_config::{Hook, Pair};
use understudy_core::{MirrorFacts, Observation, Reading, Reason};
use understudy_probes::{Late, Look, Looks, clock};

/// Ages are told in whole seconds, by a hook that takes its time: only what goes on by more than this is an advance.
const ADVANCE_MS: i64 = 5_000;
/// So much of a complaint is shown.
const SHOWN_CHARS: usize = 200;

/// Looks at the copy's age.
pub struct CopyAge {
    hook: Hook,
    words: Words,
    timeout: Duration,
    /// As of when the copy was, by the last look that counted.
    as_of_ms: Mutex<Option<i64>>,
}

impl CopyAge {
    /// The look at the pair's copy, if its storage can tell an age.
    #[must_use]
    pub fn of(pair: &Pair, site: &str) -> Option<Self> {
        let hook = pair.storage.copy_age()?;
        let message = format!("how old is the copy of {} at {site}?", pair.name);
        let words =
            Words { pair: pair.name.clone(), site: site.into(), event: "look".into(), message, ..Words::default() };
        Some(Self { hook: hook.clone(), words, timeout: hook.timeout(), as_of_ms: Mutex::default() })
    }

    /// The facts without what rounding makes of them. What is older than before is believed at once.
    fn steady(&self, mut facts: MirrorFacts) -> MirrorFacts {
        let mut known = self.as_of_ms.lock().unwrap_or_else(PoisonError::into_inner);
        for image in &mut facts.images {
            let Some(as_of_ms) = image.source_time_ms else { continue };
            let steady =
                known.filter(|known| as_of_ms.abs_diff(*known) <= ADVANCE_MS.unsigned_abs()).unwrap_or(as_of_ms);
            *known = Some(steady);
            (image.source_time_ms, image.newest_complete) = (Some(steady), u64::try_from(steady).ok());
        }
        facts
    }
}

impl Looks for CopyAge {
    type Seen = Look;

    async fn look(&self) -> Look {
        let (started_ms, began) = (clock::now().boot_ms, Instant::now());
        let seen = storage::copy_age(&self.hook, &self.words).await;
        let latency_ms = u32::try_from(began.elapsed().as_millis()).unwrap_or(u32::MAX);
        match seen {
            Ok(facts) => {
                Look { mirror: Some(self.steady(facts)), ..unknown(Reason::NoAdvance, "", started_ms, latency_ms) }
            }
            Err(error) => unknown(Reason::Unmapped, &error.whole(), started_ms, latency_ms),
        }
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }

    fn late(&self, Late { started_ms, latency_ms, detail }: Late) -> Look {
        unknown(Reason::Late, &detail, started_ms, latency_ms)
    }
}

fn unknown(reason: Reason, why: &str, started_ms: u64, latency_ms: u32) -> Look {
    let why: String = why.chars().take(SHOWN_CHARS).collect();
    let detail = (!why.is_empty()).then(|| why.into_boxed_str());
    let observation = Observation { reading: Reading::Unknown(reason), started_ms, latency_ms, detail };
    Look { observation, mirror: None, clock_error_ms: None }
}

#[cfg(test)]
mod tests {
    use understudy_core::ImageFacts;

    use super::*;

    fn age() -> CopyAge {
        let hook: Hook = serde_json::from_value(serde_json::json!({ "command": { "command": ["age"] } })).unwrap();
        let timeout = hook.timeout();
        CopyAge { hook, words: Words::default(), timeout, as_of_ms: Mutex::default() }
    }

    fn as_of(ms: i64) -> MirrorFacts {
        let image = ImageFacts {
            image: "copy".into(),
            primary: false,
            newest_complete: u64::try_from(ms).ok(),
            syncing: None,
            progress: None,
            source_time_ms: Some(ms),
            orphan: false,
            peer_primary: false,
        };
        MirrorFacts { images: vec![image] }
    }

    #[test]
    fn what_rounding_adds_is_no_advance_and_what_replication_adds_is_one() {
        let age = age();

        let told: Vec<_> = [100_000, 101_000, 99_500, 104_900, 105_001, 109_000].map(|ms| age.steady(as_of(ms))).into();

        assert_eq!(told, [100_000, 100_000, 100_000, 100_000, 105_001, 105_001].map(as_of));
    }

    #[test]
    fn a_copy_that_went_back_is_believed_at_once() {
        let age = age();
        age.steady(as_of(100_000));

        assert_eq!(age.steady(as_of(40_000)), as_of(40_000));
    }

    #[tokio::test]
    async fn an_age_that_can_not_be_read_accuses_nobody() {
        let look = age().look().await;

        assert_eq!(look.observation.reading, Reading::Unknown(Reason::Unmapped));
        assert!(look.mirror.is_none());
        assert!(look.observation.detail.is_some_and(|why| why.contains("hook age") || why.contains("\"age\"")));
    }
}
