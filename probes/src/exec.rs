//! Asks a program of the user's. Domain: `service`, if the file does not say otherwise.
//!
//! | outcome | reading |
//! |---|---|
//! | exit 0 | Up |
//! | exit 1 | Down(ProgramSaysDown) |
//! | any other code, or ended by a signal | Unknown(Unmapped) |
//! | not ended within the time-out: killed with its process group | Unknown(TimedOut) |
//! | more than 64 KiB on either pipe: killed with its process group | Unknown(TooLarge) |
//! | no such program, or no right to run it | Unknown(ToolMissing) |
//! | could not be started | Unknown(LocalFault) |
//!
//! The first line that it prints is shown as the detail, so it must print no secret. Each look starts a process, which costs
//! about a hundred times as much as a look by a socket.

use std::time::Duration;

use understudy_config::ExecLook;
use understudy_core::Reason;

use crate::ProbeError;
use crate::process::{Exit, NotRun, Ran, run};
use crate::sight::{Sight, brief};

/// No program that says Up or Down has more to say.
const MOST_BYTES: usize = 64 * 1024;

/// A program of the user's.
pub(crate) struct Exec {
    words: Vec<String>,
}

impl Exec {
    pub(crate) fn new(look: &ExecLook) -> Result<Self, ProbeError> {
        if look.command.is_empty() {
            return Err(ProbeError::Setting { what: "exec.command", why: "it is empty: write a program".into() });
        }
        Ok(Self { words: look.command.clone() })
    }

    pub(crate) async fn look(&self, within: Duration) -> Sight {
        match run(&self.words, within, MOST_BYTES).await {
            Ok(ran) => judge(&ran),
            Err(not_run) => of_not_run(&not_run),
        }
    }
}

fn judge(ran: &Ran) -> Sight {
    let says = first_line(ran);
    match ran.exit {
        Exit::Code(0) => Sight { detail: (!says.is_empty()).then(|| brief(&says)), ..Sight::up() },
        Exit::Code(1) => Sight::down(Reason::ProgramSaysDown, says),
        Exit::Code(code) => Sight::unknown(Reason::Unmapped, format!("exit {code}: {says}")),
        Exit::Signal(signal) => Sight::unknown(Reason::Unmapped, format!("ended by signal {signal}")),
    }
}

/// What it means that a program did not end by itself; never Down.
pub(crate) fn of_not_run(not_run: &NotRun) -> Sight {
    let reason = match not_run {
        NotRun::Missing(_) => Reason::ToolMissing,
        NotRun::Fault(_) => Reason::LocalFault,
        NotRun::Silent(_) => Reason::TimedOut,
        NotRun::TooMuch(_) => Reason::TooLarge,
    };
    Sight::unknown(reason, not_run.to_string())
}

fn first_line(ran: &Ran) -> String {
    let stdout = String::from_utf8_lossy(&ran.stdout);
    let mut lines = stdout.lines().chain(ran.stderr.lines());
    lines.find(|line| !line.trim().is_empty()).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use understudy_core::Reading::{Down, Unknown, Up};

    use super::*;
    use crate::testing::PATIENCE;

    #[tokio::test]
    async fn every_way_to_end_has_its_reading() {
        let table = [
            ("exit 0", Up),
            ("echo fine; exit 0", Up),
            ("exit 1", Down(Reason::ProgramSaysDown)),
            ("exit 2", Unknown(Reason::Unmapped)),
            ("exit 255", Unknown(Reason::Unmapped)),
            ("kill -KILL $$", Unknown(Reason::Unmapped)),
            ("cat /dev/zero", Unknown(Reason::TooLarge)),
            ("/nonexistent/program", Unknown(Reason::Unmapped)),
        ];
        for (script, reading) in table {
            assert_eq!(look(&["/bin/sh", "-c", script], PATIENCE).await.reading, reading, "{script}");
        }
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_or_never_ends_can_not_say_down() {
        let missing = look(&["/nonexistent/program"], PATIENCE).await;
        let endless = look(&["/bin/sh", "-c", "while :; do wait; sleep 600; done"], Duration::from_millis(100)).await;

        assert_eq!(missing.reading, Unknown(Reason::ToolMissing));
        assert_eq!(endless.reading, Unknown(Reason::TimedOut));
    }

    #[tokio::test]
    async fn its_first_line_is_shown() {
        let down = look(&["/bin/sh", "-c", "echo; echo pump 3 is off >&2; exit 1"], PATIENCE).await;

        assert_eq!(down.detail.as_deref(), Some("pump 3 is off"));
    }

    #[test]
    fn a_command_of_no_words_is_refused() {
        assert!(Exec::new(&ExecLook { command: vec![] }).is_err());
    }

    async fn look(words: &[&str], within: Duration) -> Sight {
        let command = words.iter().map(|word| (*word).to_owned()).collect();
        Exec::new(&ExecLook { command }).unwrap().look(within).await
    }
}
