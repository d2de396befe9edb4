//! What a setting is when the file does not say.

use crate::Span;

pub(super) fn segment_bytes() -> u64 {
    16 * 1024 * 1024
}

pub(super) fn period() -> Span {
    Span::secs(5)
}

pub(super) fn timeout() -> Span {
    Span::secs(3)
}

pub(super) fn heartbeat() -> Span {
    Span::secs(30)
}

pub(super) fn hold_down() -> Span {
    Span::secs(90)
}

/// Measured on Nexus 3.71 over ext4: a snapshot lacks up to 31.5 s of acknowledged uploads.
pub(super) fn writeback() -> Span {
    Span::secs(35)
}

pub(super) fn skew() -> Span {
    Span::secs(60)
}

pub(super) fn approval() -> Span {
    Span::secs(900)
}

pub(super) fn block() -> Span {
    Span::secs(12 * 3600)
}

pub(super) fn checks() -> Vec<String> {
    ["Lifecycle Phase", "Read-Only Detector", "Blob Stores Ready", "File Blob Stores Path", "Scheduler"]
        .map(String::from)
        .to_vec()
}

pub(super) fn canary() -> String {
    "dr-canary".into()
}

pub(super) fn fall() -> u32 {
    3
}

pub(super) fn rise() -> u32 {
    2
}

pub(super) fn rbd() -> Vec<String> {
    vec!["rbd".into()]
}

pub(super) fn ceph() -> Vec<String> {
    vec!["ceph".into()]
}

pub(super) fn call() -> Span {
    Span::secs(10)
}

pub(super) fn hook() -> Span {
    Span::secs(60)
}

pub(super) fn yes() -> bool {
    true
}

pub(super) fn bound() -> Span {
    Span::secs(60)
}

pub(super) fn conditions() -> Vec<String> {
    ["Initialized", "Deployed", "Running"].map(String::from).to_vec()
}

pub(super) fn ready() -> Span {
    Span::secs(1800)
}

pub(super) fn verify() -> Span {
    Span::secs(120)
}

pub(super) fn verify_valid() -> Span {
    Span::secs(600)
}

pub(super) fn method() -> String {
    "POST".into()
}

pub(super) fn ttl() -> Span {
    Span::secs(60)
}

pub(super) fn algorithm() -> String {
    "hmac-sha256".into()
}

pub(super) fn route_check() -> Span {
    Span::secs(120)
}
