//! One record as one line, and back.
//!
//! `{"v":1,"seq":N,"at":{…},"prev":"HASH","record":{…},"hash":"HASH"}` and a line feed. `hash` is the SHA-256 of all bytes
//! before `,"hash":`; `prev` is the `hash` of the line before, so that the chain covers every byte of every line.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use understudy_core::{Now, Record};

/// Version of the line's form. A reader refuses any other.
const VERSION: u32 = 1;
/// What the first line is chained to.
const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const HASH_KEY: &str = ",\"hash\":\"";
const END: &str = "\"}\n";
const HEX_LEN: usize = 64;

/// The end of a chain: what the next line must continue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Number of the last line.
    pub seq: u64,
    /// Its hash.
    pub hash: String,
}

impl Link {
    /// Before the first line.
    pub fn start() -> Self {
        Self { seq: 0, hash: NOTHING.to_owned() }
    }
}

/// A record as the journal holds it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// Its number, from 1, without gaps.
    pub seq: u64,
    /// When it was written.
    pub at: Now,
    /// What happened.
    pub record: Record,
    /// Its own hash.
    pub hash: String,
    /// The hash of the one before.
    #[serde(skip)]
    pub prev: String,
}

impl Entry {
    /// The end of the chain if this is the last line.
    pub fn link(&self) -> Link {
        Link { seq: self.seq, hash: self.hash.clone() }
    }
}

/// Why a line is refused.
#[derive(Debug, PartialEq, Eq)]
pub enum BadLine {
    /// Not what was written.
    Damaged(String),
    /// Whole, but not for this version to read.
    Unknown(String),
}

#[derive(Serialize)]
struct Unsealed<'a> {
    v: u32,
    seq: u64,
    at: Now,
    prev: &'a str,
    record: &'a Record,
}

#[derive(Deserialize)]
struct Sealed {
    seq: u64,
    at: Now,
    prev: String,
    record: serde_json::Value,
}

#[derive(Deserialize)]
struct Version {
    v: u64,
}

/// The line that continues `end`, with its line feed, and the new end.
pub fn encode(end: &Link, at: Now, record: &Record) -> (Vec<u8>, Link) {
    let unsealed = Unsealed { v: VERSION, seq: end.seq + 1, at, prev: &end.hash, record };
    let mut line = serde_json::to_string(&unsealed).expect("a record has text keys only and no failing serializer");
    line.pop();
    let hash = sha256(line.as_bytes());
    line.push_str(HASH_KEY);
    line.push_str(&hash);
    line.push_str(END);
    (line.into_bytes(), Link { seq: end.seq + 1, hash })
}

/// Reads a line, with its line feed, whatever it continues.
pub fn decode(line: &[u8]) -> Result<Entry, BadLine> {
    if let Ok(Version { v }) = serde_json::from_slice(line)
        && v != u64::from(VERSION)
    {
        return Err(BadLine::Unknown(format!("line version {v}, this one knows {VERSION}")));
    }
    let hash = check_hash(line)?;
    let sealed: Sealed =
        serde_json::from_slice(line).map_err(|e| BadLine::Damaged(format!("no journal line: {}", brief(&e))))?;
    // The line is what was written, so a record that can not be read is one that this version does not know.
    let record = serde_json::from_value(sealed.record)
        .map_err(|e| BadLine::Unknown(format!("unknown record: {}", brief(&e))))?;
    Ok(Entry { seq: sealed.seq, at: sealed.at, record, hash, prev: sealed.prev })
}

/// The beginning of an error, which may repeat the whole line.
fn brief(error: &serde_json::Error) -> String {
    const LONGEST_CHARS: usize = 200;
    error.to_string().chars().take(LONGEST_CHARS).collect()
}

/// Whether `entry` is the line after `end`.
pub fn continues(end: &Link, entry: &Entry) -> Result<(), BadLine> {
    if Some(entry.seq) != end.seq.checked_add(1) {
        return Err(BadLine::Damaged(format!("record {} follows record {}", entry.seq, end.seq)));
    }
    if entry.prev != end.hash {
        return Err(BadLine::Damaged(format!(
            "record {} does not continue the chain of record {}",
            entry.seq, end.seq
        )));
    }
    Ok(())
}

fn check_hash(line: &[u8]) -> Result<String, BadLine> {
    let damaged = |what: &str| BadLine::Damaged(what.to_owned());
    let tail_len = HASH_KEY.len() + HEX_LEN + END.len();
    let body_len = line.len().checked_sub(tail_len).ok_or_else(|| damaged("shorter than any journal line"))?;
    let (body, tail) = line.split_at(body_len);
    let hash = sha256(body);
    let expected = format!("{HASH_KEY}{hash}{END}");
    if tail != expected.as_bytes() {
        return Err(damaged("its hash does not match its content"));
    }
    Ok(hash)
}

/// A line around `record`, whatever it is, with the digest that makes it whole; for [`crate::boundary`].
pub(crate) fn sealed(end: &Link, record: &[u8]) -> Vec<u8> {
    let head = format!(
        r#"{{"v":{VERSION},"seq":{},"at":{{"boot_ms":1,"wall_ms":1,"boot_id":1}},"prev":"{}","record":"#,
        end.seq + 1,
        end.hash
    );
    let mut line = [head.as_bytes(), record].concat();
    let hash = sha256(&line);
    line.extend([HASH_KEY, &hash, END].concat().into_bytes());
    line
}

/// The digest that stands in a line of [`sealed`].
pub(crate) fn hash_of(sealed: &[u8]) -> String {
    let digest = sealed.len().checked_sub(HEX_LEN + END.len()).and_then(|start| sealed.get(start..start + HEX_LEN));
    String::from_utf8_lossy(digest.unwrap_or_default()).into_owned()
}

fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().fold(String::with_capacity(HEX_LEN), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
