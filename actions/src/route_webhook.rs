//! Switches one target of the route by a webhook, as compare-and-set on the value read before.
//!
//! In: the call that switches and the one that reads. Out: the step is done when the value read back means B. A value
//! that means neither A nor B stops the step: somebody else is at work there. A lost answer is an unknown outcome, and
//! the next try begins by reading. Start reading at [`run`].

use http::{Method, StatusCode};
use serde_json::{Value, json};
use understudy_config::{ReadBack, RouteWebhook, Webhook};

use crate::http_client::{Answer, Endpoint, LONGEST_ANSWER, Reach, shown};
use crate::looks::Looks;
use crate::webhook::{self, shortened};
use crate::{Context, StepDone, StepError, Words};

/// What the value read says of the route.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Where {
    /// It leads to B.
    AtB,
    /// It leads to A, so that it may be switched.
    AtA(String),
}

/// Switches `route` and reads it back. Safe to repeat: what leads to B already is left alone, and every try carries the
/// same idempotency key.
///
/// # Errors
/// [`StepError::Permanent`] if the value is neither A's nor B's, or the receiver refuses.
pub async fn run(ctx: &Context, route: &RouteWebhook) -> Result<StepDone, StepError> {
    let Some(read) = &route.read else {
        // The answer to the switch must say it all: `expect` and `expect_json` of the call.
        let said = apply(ctx, &route.call, None).await?;
        return Ok(StepDone::saying(format!("switched by {}, which answered {said}", name(&route.call))));
    };
    let before = match check(&route.call, read).await? {
        Where::AtB => return Ok(StepDone::saying(format!("{} leads to {} already", name(&route.call), read.expect))),
        Where::AtA(before) => before,
    };
    apply(ctx, &route.call, Some(&before)).await?;
    await_done(ctx, &route.call, read).await?;
    Ok(StepDone::saying(format!(
        "{} led to {} and leads to {} now",
        name(&route.call),
        shortened(&before),
        read.expect
    )))
}

/// Reads where the route leads.
async fn check(call: &Webhook, read: &ReadBack) -> Result<Where, StepError> {
    let value = value_of(call, read).await?;
    if value == read.expect {
        return Ok(Where::AtB);
    }
    match &read.before {
        Some(before) if *before != value => Err(StepError::permanent(format!(
            "{} leads to {:?}, which is neither A ({before:?}) nor B ({:?}): somebody else changed it; put it right, then retry",
            name(call),
            shortened(&value),
            read.expect
        ))),
        _ => Ok(Where::AtA(value)),
    }
}

/// Sends the switch, and returns what was answered.
async fn apply(ctx: &Context, call: &Webhook, before: Option<&str>) -> Result<String, StepError> {
    let words = Words::of_step(ctx, format!("route of {} to {}", ctx.pair.name, ctx.site));
    let data = json!({
        "run": words.run, "step": words.step, "epoch": ctx.order.epoch, "message": words.message, "before": before,
    });
    let permit = ctx.gate.permit().await?;
    let left = permit.remaining();
    if left.is_zero() {
        return Err(StepError::NoLease("the lease leaves no time for the switch".into()));
    }
    let answer = webhook::call(call, &words, data, left)
        .await
        .map_err(|error| error.of_write(format!("failed to switch the route by {}", name(call))))?;
    Ok(match shortened(&String::from_utf8_lossy(&answer)) {
        empty if empty.is_empty() => "yes".into(),
        said => said,
    })
}

/// Reads until the value means B, for as long as the call itself may take.
async fn await_done(ctx: &Context, call: &Webhook, read: &ReadBack) -> Result<(), StepError> {
    let mut looks = Looks::within(call.timeout.0);
    loop {
        let Where::AtA(value) = check(call, read).await? else { return Ok(()) };
        ctx.gate.progress(format!("{} still leads to {value}", name(call)));
        if !looks.next().await {
            return Err(StepError::unknown(format!(
                "{} took the switch and still leads to {value} after {:?}",
                name(call),
                call.timeout.0
            )));
        }
    }
}

/// The value that says where the route leads.
async fn value_of(call: &Webhook, read: &ReadBack) -> Result<String, StepError> {
    let what = || format!("failed to read the route at {}", shown(&read.url));
    let reach = Reach { url: &read.url, connect_to: None, ca: call.ca.as_ref() };
    let endpoint = Endpoint::open(reach, call.timeout.0).await.map_err(|error| error.of_read(what()))?;
    let mut request = endpoint.request(Method::GET);
    // Only the server that gets the switch is told its secrets.
    if read.url.origin() == call.url.origin() {
        request = request.headers(webhook::own_headers(call).map_err(|error| error.of_read(what()))?);
    }
    let Answer { status, body, .. } =
        endpoint.call(request, LONGEST_ANSWER).await.map_err(|error| error.of_read(what()))?;
    match status {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            return Err(StepError::permanent(format!("{}: it answered {status}", what())));
        }
        _ => return Err(StepError::transient(format!("{}: it answered {status}", what()))),
    }
    value_in(&body, read, what)
}

/// The value in the body of an answer.
pub(crate) fn value_in(body: &[u8], read: &ReadBack, what: impl Fn() -> String) -> Result<String, StepError> {
    let answer: Value = serde_json::from_slice(body)
        .map_err(|source| StepError::Transient { what: what(), source: Some(Box::new(source)) })?;
    match answer.pointer(&read.pointer) {
        Some(Value::String(value)) => Ok(value.clone()),
        Some(value) => Ok(value.to_string()),
        None => Err(StepError::permanent(format!("{}: its answer has no {}", what(), read.pointer))),
    }
}

fn name(call: &Webhook) -> String {
    shown(&call.url)
}

#[cfg(test)]
mod tests;
