//! Runs `rbd` with all its time-outs set, and says what its exit codes mean.
//!
//! `rbd` waits 300 s for a dead cluster and for ever for a dead OSD, so that each call carries all three of its limits, and a
//! kill timer on top (`client_mount` alone bounds connecting, the other two what follows). It exits with the error number of
//! what failed. Used by [`crate::rbd_mirror`] and [`crate::ceph`]; what it prints is read by [`understudy_config::rbd`].

use std::time::Duration;

use crate::process::{self, Exit, NotRun, Ran};

/// `rbd mirror pool status --verbose` of a thousand images is about 1 MiB; a listing of ten thousand images less.
pub(crate) const MOST_BYTES: usize = 4 * 1024 * 1024;

/// How a call of `rbd` failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The cluster did not answer: exit 110 or 111, or killed when time was up.
    Silent(String),
    /// Exit 13: wrong key, unknown user, missing right. Exit 108: our client is blocklisted.
    Forbidden(String),
    /// Exit 2: no such pool or image; during a resync the image is gone for half a minute.
    NotFound(String),
    /// `rbd` is missing, or too old to know an option.
    NoTool(String),
    /// On our side: no `ceph.conf`, no process, no memory.
    Local(String),
    /// It printed too much.
    TooMuch(String),
    /// Anything else, such as exit 22: not mirrored.
    Other(String),
}

/// Runs `command` (the program and its leading arguments) with `arguments`, for at most `within`.
pub(crate) async fn run(command: &[String], arguments: &[&str], within: Duration) -> Result<Ran, Failure> {
    let mut words = command.to_vec();
    words.extend(arguments.iter().map(|word| (*word).to_owned()));
    words.extend(limits(within));
    match process::run(&words, within, MOST_BYTES).await {
        Ok(Ran { exit: Exit::Code(0), stdout, stderr }) => Ok(Ran { exit: Exit::Code(0), stdout, stderr }),
        Ok(ran) => Err(of_exit(&ran)),
        Err(not_run) => Err(of_not_run(&not_run)),
    }
}

/// The limits in whole seconds, shorter than the kill timer where that leaves a second: then `rbd` itself says what it waited for.
fn limits(within: Duration) -> impl Iterator<Item = String> {
    let seconds = within.as_secs().saturating_sub(1).max(1);
    let limits = ["--client-mount-timeout", "--rados-mon-op-timeout", "--rados-osd-op-timeout"];
    let quiet = ["--log-to-stderr=false", "--err-to-stderr=false"];
    limits.into_iter().flat_map(move |name| [name.to_owned(), seconds.to_string()]).chain(quiet.map(String::from))
}

pub(crate) fn of_exit(ran: &Ran) -> Failure {
    const ESHUTDOWN: i32 = 108;
    const ETIMEDOUT: i32 = 110;
    const ECONNREFUSED: i32 = 111;
    let says = ran.stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    let code = match ran.exit {
        Exit::Code(code) => code,
        Exit::Signal(signal) => return Failure::Other(format!("ended by signal {signal}")),
    };
    let words = format!("exit {code}: {says}");
    match code {
        ETIMEDOUT | ECONNREFUSED => Failure::Silent(words),
        13 | ESHUTDOWN => Failure::Forbidden(words),
        2 => Failure::NotFound(words),
        1 if ran.stderr.contains("unable to open config file") => Failure::Local(words),
        1 if knows_not(&ran.stderr) => Failure::NoTool(format!("{words}: it is too old, rbd 16 or newer is needed")),
        _ => Failure::Other(words),
    }
}

/// What it says of an option that it does not know, and of a command.
fn knows_not(stderr: &str) -> bool {
    stderr.contains("unrecognised option") || stderr.contains("error: unknown option")
}

fn of_not_run(not_run: &NotRun) -> Failure {
    let words = not_run.to_string();
    match not_run {
        NotRun::Missing(_) => Failure::NoTool(format!("{words}: install ceph-common, or correct its path")),
        NotRun::Fault(_) => Failure::Local(words),
        NotRun::Silent(_) => Failure::Silent(words),
        NotRun::TooMuch(_) => Failure::TooMuch(words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_carries_all_three_limits_and_less_than_the_kill_timer() {
        let words: Vec<String> = limits(Duration::from_millis(5900)).collect();

        let expected = [
            "--client-mount-timeout",
            "4",
            "--rados-mon-op-timeout",
            "4",
            "--rados-osd-op-timeout",
            "4",
            "--log-to-stderr=false",
            "--err-to-stderr=false",
        ];
        assert_eq!(words, expected);
        assert_eq!(limits(Duration::from_millis(500)).nth(1).unwrap(), "1", "0 would be no limit");
    }
}
