//! What makes two states the same: everything that can be seen of them, with each time as an age.

use std::fmt::{self, Debug, Write};
use std::hash::{DefaultHasher, Hasher};

use understudy_core::Now;

/// Where the clocks of a small world begin. No other number in a state is as large as these but below `BEYOND`.
pub const START: Now = Now { boot_ms: 1_000_000_000_000, wall_ms: 2_000_000_000_000, boot_id: 7 };
const BEYOND: u64 = 3_000_000_000_000;

/// 128 bits of `things`, seen at `now`: among a billion states two that differ share them with a chance below 1e-20.
pub fn digest(now: Now, things: &[&dyn Debug]) -> u128 {
    let mut ages = Ages::new(now);
    for thing in things {
        write!(ages, "{thing:?};").expect("hashing does not fail");
    }
    ages.end()
}

/// Takes a text in which each time is taken as its age.
struct Ages {
    now: Now,
    number: Option<u64>,
    bytes: Vec<u8>,
}

impl Ages {
    fn new(now: Now) -> Self {
        Self { now, number: None, bytes: Vec::with_capacity(16_384) }
    }

    fn end_number(&mut self) {
        let Some(number) = self.number.take() else { return };
        let (boot, wall) = (START.boot_ms, START.wall_ms.unsigned_abs());
        // A time that lies ahead and one that is past differ by the sign of the age.
        let (mark, value) = match number {
            n if n >= boot && n < wall => (b'b', n.wrapping_sub(self.now.boot_ms)),
            n if n >= wall && n < BEYOND => (b'w', n.wrapping_sub(self.now.wall_ms.unsigned_abs())),
            n => (b'n', n),
        };
        self.bytes.push(mark);
        self.bytes.extend(value.to_le_bytes());
    }

    fn end(mut self) -> u128 {
        self.end_number();
        let (mut one, mut other) = (DefaultHasher::new(), DefaultHasher::new());
        one.write(&self.bytes);
        other.write_u8(1);
        other.write(&self.bytes);
        u128::from(one.finish()) << 64 | u128::from(other.finish())
    }
}

impl Write for Ages {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text.as_bytes();
        while let Some(first) = rest.first() {
            if first.is_ascii_digit() {
                let digit = u64::from(first - b'0');
                self.number = Some(self.number.unwrap_or(0).wrapping_mul(10).wrapping_add(digit));
                rest = &rest[1..];
            } else {
                self.end_number();
                let end = rest.iter().position(u8::is_ascii_digit).unwrap_or(rest.len());
                self.bytes.extend_from_slice(&rest[..end]);
                rest = &rest[end..];
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_same_ages_are_the_same_state_and_other_ages_are_another() {
        let later = START + Duration::from_secs(9);
        let since = |now: Now, ms: u64| Now { boot_ms: now.boot_ms - ms, wall_ms: now.wall_ms - ms as i64, ..now };

        assert_eq!(
            digest(START, &[&(START + Duration::from_secs(1))]),
            digest(later, &[&(later + Duration::from_secs(1))])
        );
        assert_ne!(digest(later, &[&since(later, 5)]), digest(later, &[&since(later, 6)]));
        assert_ne!(digest(START, &[&5]), digest(START, &[&6]));
        assert_ne!(digest(START, &[&"a", &"b"]), digest(START, &[&"ab", &""]));
    }

    #[test]
    fn a_number_that_comes_in_two_pieces_is_one() {
        let mut pieces = Ages::new(START);
        pieces.write_str("x10").unwrap();
        pieces.write_str("00000000000y").unwrap();

        let mut whole = Ages::new(START);
        whole.write_str("x1000000000000y").unwrap();

        assert_eq!(pieces.end(), whole.end());
    }
}
