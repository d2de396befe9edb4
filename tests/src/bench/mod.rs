//! How fast, how late and how large: each figure with the bar that it must clear.
//!
//! In: this machine. Out: [`Row`]s; a floor that a figure is compared with is measured in the same run. The program
//! `bench` prints them; docs/performance.md keeps one run. Start at [`Row`].

pub mod daemon;
pub mod detection;
pub mod failover;
pub mod looks;
pub mod memory;
pub mod serve;
pub mod simulate;
pub mod step;

use std::fmt;

use serde::Serialize;

/// On which side of the bar a figure must lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bar {
    /// Not above it.
    AtMost,
    /// Not below it.
    AtLeast,
}

/// One figure.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// What was measured.
    pub what: &'static str,
    /// The figure; none if it could not be taken, which misses every bar.
    pub figure: Option<f64>,
    /// The bar.
    pub bar: f64,
    /// Its side.
    pub side: Bar,
    /// Of both.
    pub unit: &'static str,
    /// How it came about, and what it was compared with.
    pub note: String,
}

impl Row {
    /// A figure that may not be above `bar`.
    #[must_use]
    pub fn at_most(what: &'static str, figure: f64, bar: f64, unit: &'static str, note: String) -> Self {
        Self { what, figure: Some(figure), bar, side: Bar::AtMost, unit, note }
    }

    /// A figure that may not be below `bar`.
    #[must_use]
    pub fn at_least(what: &'static str, figure: f64, bar: f64, unit: &'static str, note: String) -> Self {
        Self { what, figure: Some(figure), bar, side: Bar::AtLeast, unit, note }
    }

    /// A measurement that failed.
    #[must_use]
    pub fn failed(what: &'static str, error: &anyhow::Error) -> Self {
        Self { what, figure: None, bar: 0.0, side: Bar::AtMost, unit: "", note: format!("{error:#}") }
    }

    /// Whether the bar is cleared.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.figure.is_some_and(|figure| match self.side {
            Bar::AtMost => figure <= self.bar,
            Bar::AtLeast => figure >= self.bar,
        })
    }
}

/// A row of a Markdown table.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, bar, unit, note, .. } = self;
        let figure = self.figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.3} {unit}"));
        let side = if self.side == Bar::AtMost { "≤" } else { "≥" };
        let met = if self.is_met() { "met" } else { "MISSED" };
        write!(f, "| {what} | {figure} | {side} {bar} {unit} | {met} | {note} |")
    }
}

/// The value below which this share of `sorted` lies.
#[must_use]
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let at = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_on_the_wrong_side_of_its_bar_and_one_that_is_missing_are_missed() {
        let most = |figure| Row::at_most("memory", figure, 25.0, "MiB", String::new());
        let least = |figure| Row::at_least("speed", figure, 1.0, "M/s", String::new());

        assert!(most(25.0).is_met() && !most(25.1).is_met());
        assert!(least(1.0).is_met() && !least(0.9).is_met());
        assert!(!most(f64::NAN).is_met() && !least(f64::NAN).is_met());
        assert!(!Row::failed("memory", &anyhow::anyhow!("no daemon")).is_met());
    }

    #[test]
    fn a_quantile_is_a_value_of_the_sample() {
        let sample: Vec<f64> = (1..=100).map(f64::from).collect();

        assert_eq!((quantile(&sample, 0.5), quantile(&sample, 0.99), quantile(&sample, 1.0)), (50.0, 99.0, 100.0));
        assert!(quantile(&[], 0.5).is_nan());
    }
}
