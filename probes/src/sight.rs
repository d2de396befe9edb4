//! What one way of looking came back with, before it is put on the clock.
//!
//! In: outcomes of sockets and programs. Out: a [`Sight`], which [`Probe::look`](crate::Probe::look) completes to a
//! [`Look`](crate::Look).

use understudy_core::{MirrorFacts, Reading, Reason};

/// The longest detail that is kept, in characters.
const LONGEST_DETAIL: usize = 200;

/// What a look came back with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sight {
    /// What it means.
    pub(crate) reading: Reading,
    /// A short text for the human, without secrets.
    pub(crate) detail: Option<Box<str>>,
    /// The mirrored images, if that was the look.
    pub(crate) mirror: Option<MirrorFacts>,
    /// How far the other side's clock may be from ours, in milliseconds, where the answer told.
    pub(crate) clock_error_ms: Option<u64>,
}

impl Sight {
    /// It lives.
    pub(crate) fn up() -> Self {
        Self { reading: Reading::Up, detail: None, mirror: None, clock_error_ms: None }
    }

    /// A mapped cause says that it does not work.
    pub(crate) fn down(reason: Reason, detail: impl AsRef<str>) -> Self {
        Self { reading: Reading::Down(reason), detail: Some(brief(detail.as_ref())), ..Self::up() }
    }

    /// We could not tell.
    pub(crate) fn unknown(reason: Reason, detail: impl AsRef<str>) -> Self {
        Self { reading: Reading::Unknown(reason), detail: Some(brief(detail.as_ref())), ..Self::up() }
    }

    /// The images were seen. Whether that is life is the core's business: it knows the look before.
    pub(crate) fn of_mirror(facts: MirrorFacts) -> Self {
        Self { reading: Reading::Unknown(Reason::NoAdvance), mirror: Some(facts), ..Self::up() }
    }
}

/// `text` on one line and not longer than [`LONGEST_DETAIL`].
pub(crate) fn brief(text: &str) -> Box<str> {
    let mut brief: String =
        text.trim().chars().take(LONGEST_DETAIL).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.trim().chars().count() > LONGEST_DETAIL {
        brief.pop();
        brief.push('…');
    }
    brief.into_boxed_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_is_one_line_of_bounded_length() {
        let long = brief(&format!(" two\nlines \u{1b}[2J {}", "ä".repeat(500)));

        assert!(long.starts_with("two lines  [2J ä"), "{long}");
        assert!(long.ends_with("ä…"));
        assert_eq!(long.chars().count(), LONGEST_DETAIL);
        assert_eq!(&*brief("short"), "short");
    }
}
