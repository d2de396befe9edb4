//! Follows the journal of a daemon that runs as a process of its own.
//!
//! In: its state directory. Out: its records, shown as they come, and waits for them. Another process writes them, so that a
//! wait looks at the files again and again, and has an end. Start reading at [`Follower::until`].

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::time::{Interval, MissedTickBehavior, interval};
use understudy_agent::journal::{self, Entry};

use crate::rehearse::show::Show;

/// Between two looks at the journal.
const LOOK: Duration = Duration::from_millis(25);

/// The journal so far.
pub struct Follower {
    state: PathBuf,
    story: Vec<Entry>,
    show: Show,
}

impl Follower {
    /// Nothing yet of the journal in `state`, which need not be there.
    #[must_use]
    pub fn new(state: PathBuf, show: Show) -> Self {
        Self { state, story: Vec::new(), show }
    }

    /// The records so far, the oldest first.
    #[must_use]
    pub fn story(&self) -> &[Entry] {
        &self.story
    }

    /// The number of the newest record.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.story.last().map_or(0, |entry| entry.seq)
    }

    /// Takes over what the journal has gained, and shows it.
    ///
    /// # Errors
    /// If the journal can not be read.
    pub fn look(&mut self) -> Result<()> {
        if !self.state.exists() {
            return Ok(());
        }
        for entry in journal::read_after(&self.state, self.newest(), usize::MAX)? {
            self.show.record(&entry);
            self.story.push(entry);
        }
        Ok(())
    }

    /// Waits for a record, also among those that are there.
    ///
    /// - `ended`: how the daemon ended, if it did.
    ///
    /// # Errors
    /// If it does not come within `limit`, or the daemon ends.
    pub async fn until(
        &mut self,
        what: &str,
        limit: Duration,
        mut ended: impl FnMut() -> Option<ExitStatus>,
        wanted: impl Fn(&Entry) -> bool,
    ) -> Result<Entry> {
        let (deadline, mut seen, mut looks) = (Instant::now() + limit, 0, looks());
        loop {
            looks.tick().await;
            self.look()?;
            if let Some(found) = self.story[seen..].iter().find(|entry| wanted(entry)) {
                return Ok(found.clone());
            }
            seen = self.story.len();
            if let Some(status) = ended() {
                bail!("the daemon ended ({status}) before this: {what}");
            }
            if Instant::now() > deadline {
                bail!("waited {limit:?} in vain for this: {what}");
            }
        }
    }

    /// Lets time pass, and demands that nothing of this is there or comes.
    ///
    /// # Errors
    /// If it is, or does.
    pub async fn never(&mut self, what: &str, during: Duration, unwanted: impl Fn(&Entry) -> bool) -> Result<()> {
        let (end, mut looks) = (Instant::now() + during, looks());
        while Instant::now() < end {
            looks.tick().await;
            self.look()?;
            if let Some(found) = self.story.iter().find(|entry| unwanted(entry)) {
                bail!("this must never come, and came: {what}: {:?}", found.record);
            }
        }
        Ok(())
    }
}

fn looks() -> Interval {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks
}
