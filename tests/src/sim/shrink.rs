//! From a story that fails to the shortest one that fails in the same way.

use super::Violation;
use super::fault::{Fault, Until, When};
use super::plot::{Human, Plot};
use super::run::play_or_panic;

/// A plot whose story is violated in the same invariant, and from which nothing can be taken away.
#[must_use]
pub fn shrink(plot: &Plot, violation: &Violation) -> Plot {
    let fails = |plot: &Plot| play_or_panic(plot).violation.is_some_and(|v| v.invariant == violation.invariant);
    let mut plot = plot.clone();
    loop {
        let before = plot.clone();
        for n in (0..plot.faults.len()).rev() {
            let mut fewer = plot.faults.clone();
            fewer.remove(n);
            keep_if(&mut plot, |plot| plot.with(fewer), &fails);
        }
        keep_if(&mut plot, plain, &fails);
        for n in 0..plot.faults.len() {
            keep_if(&mut plot, |plot| simpler(plot, n), &fails);
        }
        if plot.faults == before.faults {
            return plot;
        }
    }
}

fn keep_if(plot: &mut Plot, change: impl FnOnce(&Plot) -> Plot, fails: &impl Fn(&Plot) -> bool) {
    let other = change(plot);
    if fails(&other) {
        *plot = other;
    }
}

/// Everything that only adds noise is off.
fn plain(plot: &Plot) -> Plot {
    let mut plain = plot.clone();
    plain.setting.human = Human::Prompt;
    plain.setting.segment = usize::MAX;
    plain.policy.pairs[0].images.truncate(1);
    plain
}

/// A fault that lasts for a round time.
fn simpler(plot: &Plot, n: usize) -> Plot {
    let mut faults = plot.faults.clone();
    let Fault { begins, ends, .. } = &mut faults[n];
    if let When::At(at) = begins {
        *at = *at / 1_000 * 1_000;
    }
    if let Until::For(ms) = ends {
        *ms = (*ms / 5_000).max(1) * 5_000;
    }
    plot.with(faults)
}
