//! What the programs here are besides themselves: the daemon that they guard sites with, the keeper of its promotes, and the
//! stand-ins of rbd and ceph that it calls. So nothing has to be found or installed.

use std::process::ExitCode;

use understudy_agent::{Watcher, main_with};

use crate::standin::ceph::client;

/// Plays the role that the first argument names, if it names one. `words` begin with the program.
#[must_use]
pub fn play(words: &[String]) -> Option<ExitCode> {
    Some(match words.get(1)?.as_str() {
        "standin-rbd" | "standin-ceph" => client::cli_main(&words[1..]),
        "understudy" => main_with(&words[1..], Watcher::nobody()),
        "promote-keeper" => main_with(words, Watcher::nobody()),
        _ => return None,
    })
}
