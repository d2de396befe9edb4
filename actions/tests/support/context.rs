//! The one place that knows every field of an order and of a context, for tests.

use std::sync::Arc;

use understudy_actions::{Context, Gatekeeper};
use understudy_config::Pair;
use understudy_core::{RunId, Step, StepOrder};

/// The first try of `step` in the run of this name.
pub fn order(run: &str, step: Step) -> StepOrder {
    StepOrder {
        run: RunId(run.into()),
        step,
        attempt: 1,
        epoch: 1,
        key: format!("{run}/{step}"),
        resumed: false,
        images: vec![],
        points: vec![],
        nonce: None,
        notes: Default::default(),
        bound: None,
        start_before_ms: None,
    }
}

/// What a step has in its hands where it needs no API server and keeps nothing.
pub fn context(order: StepOrder, pair: impl Into<Arc<Pair>>, gate: Arc<dyn Gatekeeper>) -> Context {
    Context {
        order: Arc::new(order),
        pair: pair.into(),
        site: "standby-b".into(),
        primary: None,
        standby: None,
        state: std::env::temp_dir(),
        program: "understudy".into(),
        gate,
    }
}
