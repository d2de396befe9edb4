//! What changes something: the order is made here and judged by the daemon.

use std::path::Path;

use understudy_core::{Order, PairName};

use super::arguments::{self as words, request_and_pair, run_and_pair};
use super::{Exit, Failure, Outcome, client, wait};
use crate::api::{Ordered, Status};
use crate::text::say;

/// Gives the order, prints the answer, and follows the run if that was asked for.
pub async fn give(socket: &Path, order: words::Order) -> Outcome {
    let follows = follows(&order);
    let orders = made(socket, order).await?;
    for ordered in &orders {
        let answer = client::order(socket, ordered).await?;
        let named = if orders.len() > 1 { format!("{}: ", ordered.pair) } else { String::new() };
        say(&format!("{named}{answer}\n"));
    }
    match orders.first().filter(|_| follows) {
        Some(ordered) => wait::until_run_ends(socket, &ordered.pair).await,
        None => Ok(Exit::Done),
    }
}

fn follows(order: &words::Order) -> bool {
    match order {
        words::Order::Approve(order) => order.follow.wait,
        words::Order::Failover(order) => order.follow.wait,
        words::Order::Retry(order) => order.follow.wait,
        words::Order::Skip(order) => order.follow.wait,
        words::Order::Deny(_)
        | words::Order::Abandon(_)
        | words::Order::Unblock(_)
        | words::Order::Pause(_)
        | words::Order::Resume(_) => false,
    }
}

/// The orders that the words mean: one, or one for each pair.
async fn made(socket: &Path, order: words::Order) -> Result<Vec<Ordered>, Failure> {
    let one = |pair: &str, order| Ok(vec![Ordered { pair: PairName::from(pair), order }]);
    match order {
        words::Order::Approve(said) => {
            let (request, pair) = request_and_pair(&said.request).ok_or_else(|| no_request(&said.request))?;
            let accept_loss_ms = said.accept.loss_ms();
            one(pair, Order::Approve { request, accept_unfenced: said.accept.accept_unfenced, accept_loss_ms })
        }
        words::Order::Deny(said) => {
            let (request, pair) = request_and_pair(&said.request).ok_or_else(|| no_request(&said.request))?;
            one(pair, Order::Deny { request, reason: said.reason })
        }
        words::Order::Failover(said) => {
            let accept_loss_ms = said.accept.loss_ms();
            let (force, reason, accept_unfenced) = (said.force, said.reason, said.accept.accept_unfenced);
            one(&said.pair, Order::Failover { force, reason, accept_unfenced, accept_loss_ms })
        }
        words::Order::Retry(said) => {
            let (run, pair) = run_and_pair(&said.run).ok_or_else(|| no_run(&said.run))?;
            one(pair, Order::Retry { run, step: said.step })
        }
        words::Order::Skip(said) => {
            let (run, pair) = run_and_pair(&said.run).ok_or_else(|| no_run(&said.run))?;
            one(pair, Order::Skip { run, step: said.step, reason: said.reason })
        }
        words::Order::Abandon(said) => {
            let (run, pair) = run_and_pair(&said.run).ok_or_else(|| no_run(&said.run))?;
            one(pair, Order::Abandon { run, reason: said.reason })
        }
        words::Order::Unblock(said) => one(&said.pair, Order::Unblock),
        words::Order::Pause(said) => {
            let order = Order::Pause { for_ms: said.for_ms, reason: said.reason };
            each(socket, said.pair, order, |_| true).await
        }
        words::Order::Resume(said) => each(socket, said.pair, Order::Resume, |pair| pair.pause.is_some()).await,
    }
}

/// The order for the pair that is named, else for every pair that it `concerns`.
async fn each(
    socket: &Path,
    named: Option<String>,
    order: Order,
    concerns: impl Fn(&understudy_core::PairView) -> bool,
) -> Result<Vec<Ordered>, Failure> {
    if let Some(pair) = named {
        return Ok(vec![Ordered { pair: PairName(pair), order }]);
    }
    let status: Status = client::get(socket, "/v1/status").await?;
    let concerned = status.view.pairs.iter().filter(|pair| concerns(pair));
    let orders: Vec<Ordered> =
        concerned.map(|pair| Ordered { pair: PairName(pair.name.clone()), order: order.clone() }).collect();
    if orders.is_empty() {
        return Err(Failure::new(Exit::Refused, anyhow::anyhow!("there is no pair that this concerns")));
    }
    Ok(orders)
}

fn no_request(said: &str) -> Failure {
    Failure::usage(format!(
        "{said:?} is no question: they are called PAIR-NUMBER; `understudy status` names the open one"
    ))
}

fn no_run(said: &str) -> Failure {
    Failure::usage(format!("{said:?} is no run: they are called PAIR-NUMBER; `understudy status` names the open one"))
}
