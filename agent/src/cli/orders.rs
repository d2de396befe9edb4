//! What changes something: the order is made here and judged by the daemon.

use std::path::Path;

use clap::Parser as _;
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

/// What the words mean: an order for one pair, or for each that it concerns.
enum Meant {
    One(Ordered),
    Each { order: Order, concerns: fn(&understudy_core::PairView) -> bool },
}

fn meant(order: words::Order) -> Result<Meant, Failure> {
    let one = |pair: &str, order| Ok(Meant::One(Ordered { pair: PairName::from(pair), order }));
    let each = |named: Option<String>, order, concerns| match named {
        Some(pair) => Ok(Meant::One(Ordered { pair: PairName(pair), order })),
        None => Ok(Meant::Each { order, concerns }),
    };
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
            each(said.pair, Order::Pause { for_ms: said.for_ms, reason: said.reason }, |_| true)
        }
        words::Order::Resume(said) => each(said.pair, Order::Resume, |pair| pair.pause.is_some()),
    }
}

async fn made(socket: &Path, order: words::Order) -> Result<Vec<Ordered>, Failure> {
    let (order, concerns) = match meant(order)? {
        Meant::One(ordered) => return Ok(vec![ordered]),
        Meant::Each { order, concerns } => (order, concerns),
    };
    let status: Status = client::get(socket, "/v1/status").await?;
    let concerned = status.view.pairs.iter().filter(|pair| concerns(pair));
    let orders: Vec<Ordered> =
        concerned.map(|pair| Ordered { pair: PairName(pair.name.clone()), order: order.clone() }).collect();
    if orders.is_empty() {
        return Err(Failure::new(Exit::Refused, anyhow::anyhow!("there is no pair that this concerns")));
    }
    Ok(orders)
}

/// The orders that a line of the command line gives, without its first word `understudy`; `pairs` are all there are.
///
/// # Errors
/// What is wrong with the line.
pub fn orders_in_words(line: &str, pairs: &[PairName]) -> Result<Vec<(PairName, Order)>, String> {
    let words = split(line)?;
    let parsed = words::Arguments::try_parse_from(std::iter::once("understudy".to_owned()).chain(words));
    let words::Command::Order(order) = parsed.map_err(|error| first_line(&error.to_string()))?.command else {
        return Err(format!(
            "{line:?} changes nothing: write approve, deny, failover, retry, skip, abandon, unblock, pause or resume"
        ));
    };
    match meant(order).map_err(|failure| failure.error.to_string())? {
        Meant::One(Ordered { pair, order }) => Ok(vec![(pair, order)]),
        Meant::Each { order, .. } => Ok(pairs.iter().map(|pair| (pair.clone(), order.clone())).collect()),
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// A line as a shell takes it apart: words between spaces, quotes around words with spaces.
fn split(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed: write it again at the end of its words".into());
    }
    words.extend(word);
    Ok(words)
}

fn no_request(said: &str) -> Failure {
    Failure::usage(format!(
        "{said:?} is no question: they are called PAIR-NUMBER; `understudy status` names the open one"
    ))
}

fn no_run(said: &str) -> Failure {
    Failure::usage(format!("{said:?} is no run: they are called PAIR-NUMBER; `understudy status` names the open one"))
}
