//! Shows a rehearsal as it happens: one line a thing, with the time since the curtain rose.

use std::time::Instant;

use understudy_agent::journal::Entry;
use understudy_agent::tell::sentence;

/// Where lines go.
#[derive(Debug, Clone, Copy)]
pub struct Show {
    began: Instant,
    quiet: bool,
}

impl Show {
    /// Shows on standard output, or nothing at all.
    #[must_use]
    pub fn new(quiet: bool) -> Self {
        Self { began: Instant::now(), quiet }
    }

    /// Something about the stage.
    pub fn say(&self, text: &str) {
        self.line(' ', text);
    }

    /// Something that a scenario or a human does.
    pub fn event(&self, text: &str) {
        self.line('*', text);
    }

    /// Something that the daemon wrote down.
    pub fn record(&self, entry: &Entry) {
        if let Some(text) = sentence(&entry.record) {
            self.line('>', &text);
        }
    }

    fn line(&self, mark: char, text: &str) {
        if !self.quiet {
            println!("{:7.2} s {mark} {text}", self.began.elapsed().as_secs_f64());
        }
    }
}
