//! Times, durations and tables as a human reads them.

use std::fmt::Write as _;
use std::io::Write as _;

use understudy_core::Now;

/// Milliseconds since the Unix epoch, as date and time in UTC.
pub fn date_time(wall_ms: i64) -> String {
    format_time(wall_ms, "%Y-%m-%d %H:%M:%S UTC")
}

/// Milliseconds since the Unix epoch, as time of day in UTC.
pub fn time_of_day(wall_ms: i64) -> String {
    format!("{}.{:03}", format_time(wall_ms, "%H:%M:%S"), wall_ms.rem_euclid(1000))
}

/// The copy of storage by hooks, of which a time is known and no snapshot.
pub fn copy_words(as_of_ms: Option<i64>) -> String {
    as_of_ms.map_or("the copy, of an unknown time".into(), |ms| format!("the copy as of {}", date_time(ms)))
}

fn format_time(wall_ms: i64, format: &str) -> String {
    match jiff::Timestamp::from_millisecond(wall_ms) {
        Ok(time) => time.strftime(format).to_string(),
        Err(_) => format!("{wall_ms} ms after 1970"),
    }
}

/// A length of time, with as much detail as its size deserves.
pub fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{}.{} s", seconds, ms % 1000 / 100),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {:02} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// The time from `from` to `to`, in milliseconds: by the clock that suspend and clock steps do not change, within one boot.
pub fn between(from: Now, to: Now) -> u64 {
    if from.boot_id == to.boot_id {
        to.boot_ms.saturating_sub(from.boot_ms)
    } else {
        u64::try_from(to.wall_ms.saturating_sub(from.wall_ms)).unwrap_or(0)
    }
}

/// `rows` with their columns aligned, each behind `indent`; the last column is left as it is.
pub fn table(indent: &str, rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = indent.to_owned();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A bar of `width` characters, filled as far as `done` of `whole`.
pub fn bar(done: u64, whole: u64, width: usize) -> String {
    let filled = match whole {
        0 => 0,
        whole => usize::try_from(done.min(whole) * width as u64 / whole).unwrap_or(width),
    };
    format!("[{}{}]", "#".repeat(filled), ".".repeat(width - filled))
}

/// `text` without what could steer a terminal: what sites, hooks and tokens say is printed, never obeyed.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// Prints `text`. Whoever has closed the other end of the pipe has seen enough.
pub fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush())
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        eprintln!("understudy: failed to print: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_is_told_in_its_own_unit() {
        let told = [0, 999, 61_500, 3_660_000, 90_000_000].map(duration);

        assert_eq!(told, ["0 ms", "999 ms", "1 min 01 s", "1 h 01 min", "1 d 01 h"]);
    }

    #[test]
    fn times_are_utc() {
        assert_eq!(date_time(1_700_000_000_123), "2023-11-14 22:13:20 UTC");
        assert_eq!(time_of_day(1_700_000_000_123), "22:13:20.123");
    }

    #[test]
    fn times_of_two_boots_are_compared_by_the_wall_clock() {
        let before = Now { boot_ms: 900_000, wall_ms: 1000, boot_id: 1 };
        let after = Now { boot_ms: 5, wall_ms: 3500, boot_id: 2 };

        assert_eq!(between(before, after), 2500);
        assert_eq!(between(before, Now { boot_ms: 900_100, wall_ms: 0, boot_id: 1 }), 100);
    }

    #[test]
    fn columns_are_aligned_and_no_line_ends_in_blanks() {
        let rows = [vec!["a".to_owned(), "b".to_owned()], vec!["long".to_owned(), String::new()]];

        assert_eq!(table("  ", &rows), "  a     b\n  long\n");
    }

    #[test]
    fn a_bar_is_never_longer_than_its_width() {
        assert_eq!(
            [bar(0, 10, 4), bar(5, 10, 4), bar(20, 10, 4), bar(1, 0, 4)],
            ["[....]", "[##..]", "[####]", "[....]"]
        );
    }

    #[test]
    fn what_could_steer_a_terminal_is_not_printed() {
        assert_eq!(printable("a\u{1b}[2Jb\nc"), "a\u{fffd}[2Jb\nc");
    }
}
