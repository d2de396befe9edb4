//! Has the OSDs of B refuse the local rbd-mirror, and takes that back.
//!
//! A forced promote that meets a running rbd-mirror in the middle of a sync hangs for ever, and a daemon that was killed
//! leaves a watch and locks that have to time out. Both are over at once when the OSDs refuse that very client. Which
//! client is an rbd-mirror is known by its number: the `instance_id` of a daemon of the pool. Whoever else has an image
//! open is a workload, and is never touched.
//!
//! In: the images. Out: no watcher on any of them. Start reading at [`clear`].

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::try_join_all;
use tokio::time::{self, Instant};
use understudy_config::rbd::Watcher;
use understudy_core::{ImageName, Step};

use crate::rbd::{Cli, pool_of};
use crate::{Context, StepError};

/// Longer than any failover takes; when it is over, every promote still looks for watchers by itself.
const EXPIRY_SECONDS: u64 = 3600;

/// The note of the quiesce in which the addresses are kept, as a JSON list.
const NOTE: &str = "blocklisted";

/// How long [`clear`] has patience, and with what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// With a client that is no living rbd-mirror. Ceph forgets a client that died without a word after 30 s
    /// (`osd_client_watch_timeout`), and a killed rbd-mirror is not listed any more when its successor is.
    pub stranger: Duration,
    /// With all of it: an rbd-mirror that can reach A comes back under a new number, and is refused again; monitors that do
    /// not answer are asked again.
    pub all: Duration,
    /// Between two looks at a stranger.
    pub pause: Duration,
}

/// See [`Patience`].
pub(crate) const PATIENCE: Patience =
    Patience { stranger: Duration::from_secs(40), all: Duration::from_secs(90), pause: Duration::from_millis(250) };

/// A client that has an image open.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Open {
    /// Where it comes from.
    pub address: String,
    /// Which image.
    pub image: ImageName,
    /// Whether it is an rbd-mirror of this site.
    pub mirror: bool,
}

/// Who has an image of the pair open for writing.
pub(crate) async fn opened(cli: &Cli<'_>, images: &[ImageName]) -> Result<Vec<Open>, StepError> {
    let watchers = try_join_all(images.iter().map(|image| cli.watchers(image))).await?;
    if watchers.iter().all(Vec::is_empty) {
        return Ok(Vec::new());
    }
    // After the watchers, so that a daemon that came meanwhile is known by its number.
    let mirrors = mirrors(cli, images).await?;
    let open = |image: &ImageName, watcher: Watcher| Open {
        mirror: mirrors.contains(&watcher.client),
        address: watcher.address,
        image: image.clone(),
    };
    Ok(images.iter().zip(watchers).flat_map(|(image, of)| of.into_iter().map(|w| open(image, w))).collect())
}

/// The client number of every rbd-mirror of this site that the pools or the images name.
async fn mirrors(cli: &Cli<'_>, images: &[ImageName]) -> Result<BTreeSet<u64>, StepError> {
    let pools: BTreeSet<&str> = images.iter().map(pool_of).collect();
    let pools = try_join_all(pools.into_iter().map(|pool| cli.pool_status(pool)));
    let statuses = try_join_all(images.iter().map(|image| cli.status(image)));
    let (pools, statuses) = tokio::try_join!(pools, statuses)?;
    let by_pool = pools.into_iter().flat_map(|pool| pool.instance_ids);
    Ok(by_pool.chain(statuses.into_iter().filter_map(|status| status.instance_id)).collect())
}

/// Refuses every rbd-mirror that has an image of the pair open, until there is no watcher any more.
///
/// - `noted`: the addresses that are noted so far. The note is one list, so that each new one is written with all others.
/// - Returns that list with the new ones.
///
/// # Errors
/// [`StepError::Permanent`] if a workload has an image open, [`StepError::Transient`] if patience is over.
pub(crate) async fn clear(
    ctx: &Context,
    cli: &Cli<'_>,
    patience: Patience,
    mut noted: Vec<String>,
) -> Result<Vec<String>, StepError> {
    let began = Instant::now();
    loop {
        let open = opened(cli, &ctx.order.images).await?;
        if open.is_empty() {
            return Ok(noted);
        }
        ctx.gate.progress(format!("still open: {}", list(&open)));
        if let Some(stranger) = open.iter().find(|open| !open.mirror) {
            if began.elapsed() >= patience.stranger {
                return Err(StepError::permanent(workload(stranger)));
            }
            time::sleep(patience.pause).await;
        } else {
            match refuse(ctx, cli, &open, &mut noted).await {
                // It is gone at once; so the next look needs no pause.
                Ok(()) => {}
                // It may have been done all the same: the next look tells.
                Err(StepError::Transient { what, source }) if began.elapsed() < patience.all => {
                    ctx.gate.progress(format!("asked again: {}", StepError::Transient { what, source }.whole()));
                    time::sleep(patience.pause).await;
                }
                Err(error) => return Err(error),
            }
        }
        if began.elapsed() >= patience.all {
            return Err(StepError::transient(format!("rbd-mirror keeps coming back: {}; stop it", list(&open))));
        }
    }
}

async fn refuse(ctx: &Context, cli: &Cli<'_>, open: &[Open], noted: &mut Vec<String>) -> Result<(), StepError> {
    let addresses: BTreeSet<&String> = open.iter().map(|open| &open.address).collect();
    for address in addresses {
        if !noted.contains(address) {
            noted.push(address.clone());
            ctx.gate.note(NOTE, serde_json::json!(noted).to_string()).await?;
        }
        // Also one that was noted before: whoever noted it may have died before it was refused.
        cli.blocklist_add(address, EXPIRY_SECONDS, ctx.gate.permit().await?).await?;
    }
    Ok(())
}

/// Takes back what the quiesce refused, and nothing else. Returns how many addresses it took off.
///
/// # Errors
/// [`StepError`] if the list can not be read or changed.
pub(crate) async fn lift(ctx: &Context, cli: &Cli<'_>) -> Result<usize, StepError> {
    let noted = noted(ctx)?;
    if noted.is_empty() {
        return Ok(0);
    }
    let refused = cli.blocklist().await?;
    let ours: Vec<&String> = noted.iter().filter(|address| refused.contains(address)).collect();
    for address in &ours {
        cli.blocklist_remove(address, ctx.gate.permit().await?).await?;
    }
    Ok(ours.len())
}

/// The addresses that a quiesce of this run has refused, or was about to.
pub(crate) fn noted(ctx: &Context) -> Result<Vec<String>, StepError> {
    let Some(note) = ctx.order.notes.get(&format!("{}/{NOTE}", Step::Quiesce)) else { return Ok(Vec::new()) };
    serde_json::from_str(note).map_err(|error| StepError::Permanent {
        what: format!("failed to understand the note {note:?} of what was blocklisted"),
        source: Some(Box::new(error)),
    })
}

/// What a human is told of a client that is no rbd-mirror.
pub(crate) fn workload(open: &Open) -> String {
    format!(
        "{} has {} open and is no rbd-mirror that `rbd mirror pool status {} --verbose` names: a workload is never cut off; \
         stop it, then retry (if it is rbd-mirror, our user lacks the right to see it: mon 'profile rbd, allow r')",
        open.address,
        open.image,
        pool_of(&open.image)
    )
}

/// Each client once, with its image.
pub(crate) fn list(open: &[Open]) -> String {
    let one =
        |open: &Open| format!("{} by {}{}", open.image, open.address, if open.mirror { " (rbd-mirror)" } else { "" });
    open.iter().map(one).collect::<Vec<_>>().join(", ")
}
