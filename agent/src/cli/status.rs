//! `status` and `why`.

use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use understudy_core::{PairView, StepStatus, Verdict, View};

use super::arguments::{Status as WantedStatus, Why};
use super::text::{status_text, why_text};
use super::{Exit, Failure, Outcome, client, print_json};
use crate::api::Status;
use crate::text::{printable, say};

/// Time between two looks of `--watch`.
const LOOK: Duration = Duration::from_millis(500);
/// Clears the terminal and goes to its upper left corner.
const CLEAR: &str = "\u{1b}[2J\u{1b}[H";

/// `status`, once or again and again.
pub async fn status(socket: &Path, wanted: &WantedStatus) -> Outcome {
    if wanted.watch {
        return watch(socket, wanted.pair.as_deref()).await;
    }
    let status = look(socket, wanted.pair.as_deref()).await?;
    if wanted.json {
        print_json(&status)?;
    } else {
        say(&printable(&status_text(&status)));
    }
    Ok(if wanted.exit_code && !all_is_well(&status.view) { Exit::NotWell } else { Exit::Done })
}

async fn watch(socket: &Path, pair: Option<&str>) -> Outcome {
    let terminal = std::io::stdout().is_terminal();
    loop {
        // A daemon that restarts is waited for: this is when one wants to see.
        let text = match look(socket, pair).await {
            Ok(status) => status_text(&status),
            Err(Failure { exit: Exit::Unreachable, error }) => format!("{error:#}\n"),
            Err(failure) => return Err(failure),
        };
        let text = printable(&text);
        say(&if terminal { format!("{CLEAR}{text}") } else { format!("{text}\n") });
        tokio::time::sleep(LOOK).await;
    }
}

async fn look(socket: &Path, pair: Option<&str>) -> Result<Status, Failure> {
    let mut status: Status = client::get(socket, "/v1/status").await?;
    let Some(wanted) = pair else { return Ok(status) };
    let known: Vec<String> = status.view.pairs.iter().map(|pair| pair.name.clone()).collect();
    status.view.pairs.retain(|pair| pair.name == wanted);
    if status.view.pairs.is_empty() {
        return Err(Failure::usage(format!("there is no pair {wanted:?}; configured are: {}", known.join(", "))));
    }
    Ok(status)
}

/// `why`.
pub async fn why(socket: &Path, wanted: &Why) -> Outcome {
    // The name is checked before it becomes part of a path.
    let status = look(socket, Some(&wanted.pair)).await?;
    let pair = &status.view.pairs[0];
    if wanted.json {
        return print_json(pair);
    }
    say(&printable(&why_text(pair)));
    Ok(Exit::Done)
}

/// Nothing that a human should look at.
fn all_is_well(view: &View) -> bool {
    view.doubt.is_none() && view.pairs.iter().all(is_well)
}

fn is_well(pair: &PairView) -> bool {
    let open = pair.run.as_ref().filter(|run| !run.has_ended());
    let stuck = open.is_some_and(|run| run.steps.iter().any(|e| matches!(e.status, StepStatus::Stuck { .. })));
    pair.verdict == Verdict::Up && pair.request.is_none() && !stuck
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{request, run, view};

    #[test]
    fn all_is_well_only_if_nobody_has_to_look() {
        let mut well = view();
        well.pairs[0].verdict = Verdict::Up;
        assert!(all_is_well(&well));

        let not_well: [fn(&mut View); 4] = [
            |view| view.doubt = Some("own-api is Down".into()),
            |view| view.pairs[0].verdict = Verdict::Suspect,
            |view| view.pairs[0].request = Some(request()),
            |view| {
                let mut run = run();
                run.steps[0].status = StepStatus::Stuck { since: view.now, attempt: 1, message: "no".into() };
                view.pairs[0].run = Some(run);
            },
        ];
        for (n, change) in not_well.iter().enumerate() {
            let mut view = well.clone();
            change(&mut view);
            assert!(!all_is_well(&view), "case {n}");
        }
    }
}
