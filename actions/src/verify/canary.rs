//! The newest canary that came over whole, and what it says of the loss.

use std::time::Duration;

use understudy_config::{Look, NexusLook};
use understudy_core::{LossBound, bound_after};

use crate::Context;
use crate::nexus_api::{Asset, NexusApi};
use crate::nonce::Nonce;

/// So many of the newest canaries are downloaded. Those of the last half minute are expected to be empty, and each
/// further one is older by a period of the canary probe.
const MOST_DOWNLOADS: usize = 40;

/// Where the probe that writes canaries runs elsewhere.
const USUAL_PERIOD: Duration = Duration::from_secs(30);

/// A canary is a few hundred bytes.
const LONGEST_CANARY: u64 = 1024 * 1024;

/// What was found of the canaries.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Survivors {
    /// When the newest whole one was written, by the clock of A's Nexus.
    pub(super) newest: Option<jiff::Timestamp>,
    /// How many newer ones are listed and have lost their content.
    pub(super) broken: usize,
    /// How many there are at all.
    pub(super) listed: usize,
}

/// Downloads canaries from the newest on, until one comes back whole with the digest that it is listed with.
pub(super) async fn newest_whole(api: &NexusApi, repository: &str, mut listed: Vec<Asset>) -> Survivors {
    listed.retain(|asset| !Nonce::is_one(&asset.path));
    listed.sort_by_key(|asset| std::cmp::Reverse(asset.last_modified));
    let mut survivors = Survivors { listed: listed.len(), ..Survivors::default() };
    for asset in listed.into_iter().take(MOST_DOWNLOADS) {
        let found = api.download(&format!("{repository}/{}", asset.path), LONGEST_CANARY).await;
        if found.is_ok_and(|found| asset.checksum.sha256.as_ref().is_none_or(|listed| *listed == found.sha256)) {
            survivors.newest = asset.last_modified;
            return survivors;
        }
        survivors.broken += 1;
    }
    survivors
}

/// The newest canary beside the loss that was named.
pub(super) fn in_words(survivors: &Survivors, ctx: &Context) -> String {
    let Survivors { newest, broken, listed } = survivors;
    let lost = if *broken > 0 { format!(", {broken} newer ones lost their content") } else { String::new() };
    let Some(newest) = newest else {
        return format!("no canary came over whole ({listed} listed)");
    };
    match measured(*newest, ctx) {
        None => format!("newest canary of {newest}{lost}; the loss that was named is {}", named(ctx)),
        Some(loss) => {
            let over = if loss.exceeds(bound_after(named(ctx), period(ctx))) {
                "; THIS IS MORE THAN WAS NAMED: either A took no canary for so long, or the bound was wrong"
            } else {
                ""
            };
            format!(
                "newest canary of {newest}{lost}; measured by it, at most {loss} were lost, {} were named{over}",
                named(ctx)
            )
        }
    }
}

fn named(ctx: &Context) -> LossBound {
    ctx.order.bound.unwrap_or(LossBound::Infinite)
}

/// How often a canary is written.
fn period(ctx: &Context) -> Duration {
    let canary = ctx.pair.probes.iter().find(|probe| probe.look == Look::Nexus(NexusLook::Canary));
    canary.map_or(USUAL_PERIOD, |probe| probe.period.0)
}

/// The loss that the newest survivor shows: the named one is `end − source time + write-back window + clock error`, and
/// what was really kept reaches to the canary instead of to `source time − write-back window`.
///
/// Both times are by A's clock. There is one canary a period, so that the measure may be too great by one period.
fn measured(newest: jiff::Timestamp, ctx: &Context) -> Option<LossBound> {
    let LossBound::AtMost(named) = named(ctx) else { return None };
    let points: Option<Vec<i64>> = ctx.order.points.iter().map(|point| point.source_time_ms).collect();
    let oldest = points?.into_iter().min()?;
    let behind = oldest - newest.as_millisecond();
    let window = i64::try_from(ctx.pair.writeback_window.0.as_millis()).ok()?;
    let loss = i64::try_from(named).ok()?.saturating_add(behind).saturating_sub(window);
    Some(LossBound::AtMost(u64::try_from(loss).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use understudy_core::{ImagePoint, Step};

    use super::*;
    use crate::testing::{Gate, context, pair};

    #[test]
    fn the_loss_that_a_canary_shows_stands_beside_the_one_that_was_named() {
        // Snapshot at 100 s, A's end at 130 s: 30 s of age and 35 s of write-back are named.
        let words = |written: i64| said(written, LossBound::AtMost(65_000), Some(100_000));

        assert_eq!(
            words(70_000),
            "newest canary of 1970-01-01T00:01:10Z; measured by it, at most 60.0 s were lost, 65.0 s were named"
        );
        // Canaries come every 30 s: one period more proves nothing yet.
        assert!(words(35_000).ends_with("at most 95.0 s were lost, 65.0 s were named"));
        assert!(words(34_000).contains("at most 96.0 s were lost, 65.0 s were named; THIS IS MORE THAN WAS NAMED"));
    }

    #[test]
    fn where_no_bound_was_known_nothing_is_measured() {
        for (bound, source) in [(LossBound::Infinite, Some(100_000)), (LossBound::AtMost(65_000), None)] {
            let words = said(70_000, bound, source);

            assert!(words.starts_with("newest canary of 1970-01-01T00:01:10Z; the loss that was named is"), "{words}");
        }
    }

    #[test]
    fn that_none_came_over_is_said() {
        let ctx = ctx(LossBound::AtMost(1), Some(1));

        let words = in_words(&Survivors { listed: 3, broken: 3, newest: None }, &ctx);

        assert_eq!(words, "no canary came over whole (3 listed)");
    }

    fn said(written: i64, bound: LossBound, source: Option<i64>) -> String {
        let newest = Some(jiff::Timestamp::from_millisecond(written).unwrap());
        in_words(&Survivors { newest, broken: 0, listed: 1 }, &ctx(bound, source))
    }

    fn ctx(bound: LossBound, source_time_ms: Option<i64>) -> Context {
        let mut ctx = context(pair(""), Step::Verify, &Arc::<Gate>::default());
        let order = Arc::get_mut(&mut ctx.order).unwrap();
        order.bound = Some(bound);
        order.points = vec![ImagePoint {
            image: "pool/image".into(),
            newest_complete: Some(1),
            mid_sync: false,
            snapshot: Some(1),
            source_time_ms,
        }];
        ctx
    }
}
