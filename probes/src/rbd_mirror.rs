//! The mirrored images as they stand at B. Domain: `storage`. It never says Down: B's copy looks the same whether A died, A's
//! rbd-mirror died or the line was cut.
//!
//! For each image it asks for the status, then for the role (`info`), then for the snapshots, in this order: the status holds
//! the primary's time of the newest snapshot that is here whole, and lags behind, so that the time is never later than the
//! truth. Out come [`MirrorFacts`], always with every image of the pair and in the file's order. Whether they show an advance
//! of the primary, which is life, the core tells by the look before; a peer's state in the status is never used for that, since
//! it is the health of the peer's mirror daemon and not of its site. It only tells of a peer that is primary beside B.
//!
//! | outcome | reading |
//! |---|---|
//! | every image could be read | facts; Unknown(NoAdvance) until the core has compared them |
//! | `(13) Permission denied` beside exit 0: the user may not see the daemons | Unknown(Forbidden) |
//! | exit 13 or 108 | Unknown(Forbidden) |
//! | exit 110 or 111, or killed when time was up: *our* cluster is silent | Unknown(TimedOut) |
//! | exit 2 (no such image), 22 (not mirrored), anything else | Unknown(Unmapped) |
//! | not mirrored, mirrored by a journal, or printed something else than we know | Unknown(Unparsable) |
//! | more than 4 MiB | Unknown(TooLarge) |
//! | no program, or it does not know our options | Unknown(ToolMissing) |
//! | no `ceph.conf`, or the program could not be started | Unknown(LocalFault) |

use std::time::Duration;

use futures::StreamExt;
use tokio::time::Instant;
use understudy_config::rbd::{self as answers, Unreadable};
use understudy_config::{RbdMirrorLook, Storage};
use understudy_core::{ImageFacts, ImageName, MirrorFacts, Reason};

use crate::ProbeError;
use crate::rbd::{self, Failure};
use crate::sight::Sight;

/// So many images are read at the same time: each call is a process of about 30 MiB.
const AT_ONCE: usize = 4;

/// The mirrored images of a pair.
pub(crate) struct RbdMirror {
    command: Vec<String>,
    images: Vec<ImageName>,
}

/// Why an image could not be read.
enum Blind {
    /// The call failed.
    Failed(Failure),
    /// The answer can not be used.
    Unreadable(Unreadable),
    /// It worked, but the user may not see the daemons.
    LacksRights,
}

impl RbdMirror {
    pub(crate) fn new(look: &RbdMirrorLook, storage: &Storage) -> Result<Self, ProbeError> {
        let wrong = |why: String| Err(ProbeError::Setting { what: "rbd_mirror", why });
        let Storage::Rbd(rbd) = storage else {
            return wrong("the pair's storage is not rbd, so that it has no images".into());
        };
        let in_pool = |image: &String| image.split('/').next() == Some(&look.pool);
        if !rbd.images.iter().any(in_pool) {
            return wrong(format!("none of the pair's images is in pool {}", look.pool));
        }
        if rbd.rbd.is_empty() {
            return wrong("storage.rbd.rbd is empty: write a program".into());
        }
        Ok(Self { command: rbd.rbd.clone(), images: rbd.images.iter().cloned().map(ImageName).collect() })
    }

    pub(crate) async fn look(&self, within: Duration) -> Sight {
        let end = Instant::now() + within;
        let looks: Vec<_> = self.images.iter().map(|image| self.look_at(image, end)).collect();
        let found: Vec<_> = futures::stream::iter(looks).buffered(AT_ONCE).collect().await;
        let named = self.images.iter().zip(found);
        match named.map(|(image, found)| found.map_err(|blind| (image, blind))).collect() {
            Ok(images) => Sight::of_mirror(MirrorFacts { images }),
            Err((image, blind)) => blind.sight(image),
        }
    }

    async fn look_at(&self, image: &ImageName, end: Instant) -> Result<ImageFacts, Blind> {
        let name = image.as_str();
        let status = self.ask(&["mirror", "image", "status", name], end).await?;
        let status = answers::image_status(&status)?;
        let info = answers::info(&self.ask(&["info", name], end).await?)?;
        let snapshots = answers::snapshots(&self.ask(&["snap", "ls", "--all", name], end).await?)?;
        Ok(answers::facts(image, Some(&status), &info, &snapshots)?)
    }

    async fn ask(&self, question: &[&str], end: Instant) -> Result<Vec<u8>, Blind> {
        let question = [question, &["--format", "json"]].concat();
        let left = end.saturating_duration_since(Instant::now());
        let ran = rbd::run(&self.command, &question, left).await.map_err(Blind::Failed)?;
        if ran.stderr.contains("(13) Permission denied") {
            return Err(Blind::LacksRights);
        }
        Ok(ran.stdout)
    }
}

impl From<Unreadable> for Blind {
    fn from(unreadable: Unreadable) -> Self {
        Blind::Unreadable(unreadable)
    }
}

impl Blind {
    fn sight(self, image: &ImageName) -> Sight {
        let (reason, words) = match self {
            Blind::Unreadable(unreadable) => (Reason::Unparsable, unreadable.to_string()),
            Blind::LacksRights => {
                let remedy = "the user may not see the mirror daemons: give it mon 'profile rbd, allow r'";
                (Reason::Forbidden, remedy.to_owned())
            }
            Blind::Failed(failure) => match failure {
                Failure::Silent(words) => (Reason::TimedOut, words),
                Failure::Forbidden(words) => (Reason::Forbidden, words),
                Failure::NoTool(words) => (Reason::ToolMissing, words),
                Failure::Local(words) => (Reason::LocalFault, words),
                Failure::TooMuch(words) => (Reason::TooLarge, words),
                Failure::NotFound(words) | Failure::Other(words) => (Reason::Unmapped, words),
            },
        };
        Sight::unknown(reason, format!("{image}: {words}"))
    }
}

#[cfg(test)]
mod tests;
