//! Makes of a real answer one that nobody foresaw.
//!
//! In: seeds and a source of chance that begins with a number, so that a failure is found again. Out: inputs: changed,
//! cut, doubled, crossed with another seed, with numbers and words in them that parsers stumble over.

use super::LONGEST;

/// Chance from a number: splitmix64.
#[derive(Debug, Clone)]
pub struct Chance(u64);

/// What parsers stumble over.
const WORDS: [&[u8]; 38] = [
    b"null",
    b"true",
    b"false",
    b"0",
    b"-1",
    b"-0",
    b"1e999",
    b"1e-999",
    b"0.5",
    b"NaN",
    b"18446744073709551615",
    b"18446744073709551616",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"2147483647",
    b"4294967295",
    b"\"\"",
    b"[]",
    b"{}",
    b"[[",
    b"{\"",
    b"\\u0000",
    b"\\ud800",
    b"\xff\xfe",
    b"\xc3\x28",
    b"\x00",
    b"\r\n\r\n",
    b"\n",
    b"\x1b[2J",
    b": ",
    b"*a",
    b"&a ",
    b"<<: ",
    b"!!binary ",
    b"--- ",
    b"chunked",
    b"Content-Length: 99999999999",
    b"\n--8<--\n",
];

impl Chance {
    /// Chance that begins with `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 if there is none.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap_or(1)).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    /// A part of `length` bytes or less.
    fn part(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        let longest = (length - start).min(1 + self.below(64));
        start..start + self.below(longest + 1)
    }

    /// One of the seeds, changed one to eight times.
    ///
    /// # Panics
    /// Without a seed.
    pub fn input(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut input = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(8) {
            self.change(&mut input, seeds);
        }
        input.truncate(LONGEST);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let part = self.part(input.len());
        match self.below(10) {
            0 if !input.is_empty() => {
                let at = self.below(input.len());
                input[at] ^= 1 << self.below(8);
            }
            1 if !input.is_empty() => {
                let at = self.below(input.len());
                input[at] = self.byte();
            }
            2 => drop(input.drain(part)),
            3 => {
                let again = input[part.clone()].to_vec();
                drop(input.splice(part.end..part.end, again));
            }
            4 => input.truncate(part.start),
            5 => drop(input.splice(part, self.word())),
            6 => drop(input.splice(part.start..part.start, self.word())),
            7 => {
                let other = &seeds[self.below(seeds.len())];
                let of_other = self.part(other.len());
                drop(input.splice(part, other[of_other].to_vec()));
            }
            8 => self.replace_number(input),
            _ => {
                // Depth and length: a stack or a table may be as long as the input, and no longer.
                let many =
                    [&b"["[..], b"{\"a\":", b"- ", b"a", b"(", b"\x00"][self.below(6)].repeat(1 + self.below(3000));
                drop(input.splice(part.start..part.start, many));
            }
        }
    }

    fn word(&mut self) -> Vec<u8> {
        WORDS[self.below(WORDS.len())].to_vec()
    }

    /// One of the numbers in it becomes another.
    fn replace_number(&mut self, input: &mut Vec<u8>) {
        let from = self.below(input.len());
        let Some(start) = (from..input.len()).find(|at| input[*at].is_ascii_digit()) else { return };
        let end = (start..input.len()).find(|at| !input[*at].is_ascii_digit()).unwrap_or(input.len());
        let number = match self.below(4) {
            0 => self.next().to_string(),
            1 => (self.next() % 3).to_string(),
            2 => u64::MAX.to_string(),
            _ => i64::MAX.to_string(),
        };
        drop(input.splice(start..end, number.into_bytes()));
    }
}
