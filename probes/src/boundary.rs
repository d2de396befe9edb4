//! Every place of this crate where bytes from outside become readings; see [`understudy_config::boundary`].
//!
//! In: bytes of which nothing is known: a whole HTTP answer from its first byte on, what a program printed. Out: the
//! reading that a look makes of them. Start reading at [`ALL`].

use std::time::Duration;

use bytes::Bytes;
use secrecy::SecretString;
use tokio::io::AsyncWriteExt;
use understudy_config::boundary::{Boundary, Read, example, parts, said};
use understudy_core::{Reading, Reason};

use crate::fault::Fault;
use crate::http1::{Answer, Call, Keep, Reach, Target, exchange};
use crate::nexus::canary::{judge_get, judge_put};
use crate::nexus::{clock_error, judge_checks, success};
use crate::process::{Exit, Ran};
use crate::shared::Shared;
use crate::sight::Sight;
use crate::witness::{SIGNATURE, signed_testimony};
use crate::{ceph, kubernetes, rbd};

/// All of this crate.
pub const ALL: &[Boundary] = &[
    Boundary::new("ceph", "rbd ls", |printed| of_sight(ceph::judge(printed))),
    Boundary::new("ceph", "exit of rbd", exit_of_rbd),
    Boundary::new("http", "answer", answer),
    Boundary::new("http", "nexus status", |bytes| nexus(bytes, |answer| success(answer, Reason::NotWritable))),
    Boundary::new("http", "nexus checks", |bytes| nexus(bytes, checks)),
    Boundary::new("http", "nexus canary put", |bytes| nexus(bytes, judge_put)),
    Boundary::new("http", "nexus canary get", canary_get),
    Boundary::new("http", "kubernetes readyz", |bytes| of_sight(kubernetes::judge_ready(&whole(bytes)?))),
    Boundary::new("http", "kubernetes quorum read", |bytes| of_sight(kubernetes::judge_read(&whole(bytes)?))),
    Boundary::new("http", "witness", witness_over_http),
    Boundary::new("witness", "testimony", witness),
];

/// The secret and the nonce that a recorded testimony was signed with.
pub const WITNESS: (&str, &str) = ("shared", "0123456789");

/// A reading of Up is what a look was taken for; everything else is a refusal of some kind.
fn of_sight(sight: Sight) -> Read {
    match sight.reading {
        Reading::Up => Ok(format!("{sight:?}")),
        Reading::Down(_) | Reading::Unknown(_) => {
            Err(format!("{:?} {}", sight.reading, sight.detail.unwrap_or_default()))
        }
    }
}

/// First byte: the exit code. The rest: what it complained.
fn exit_of_rbd(bytes: &[u8]) -> Read {
    let (code, stderr) = bytes.split_first().ok_or("nothing")?;
    let stderr = String::from_utf8_lossy(stderr).into_owned();
    of_sight(ceph::of_failure(rbd::of_exit(&Ran { exit: Exit::Code((*code).into()), stdout: Vec::new(), stderr })))
}

fn answer(bytes: &[u8]) -> Read {
    let heard = hear(bytes, Keep::Whole);
    let date = heard.as_ref().map(|answer| clock_error(answer.header("date"), 1_700_000_000_000, Duration::ZERO));
    said(heard.as_ref().map(|answer| (answer.status, answer.body.len(), date.ok().flatten())).map_err(shown))
}

fn nexus(bytes: &[u8], judge: impl Fn(&Answer) -> Result<(), Sight>) -> Read {
    match judge(&whole(bytes)?) {
        Ok(()) => Ok("success".into()),
        Err(sight) => of_sight(sight),
    }
}

fn checks(answer: &Answer) -> Result<(), Sight> {
    success(answer, Reason::ServerError)?;
    let named = example().config.pairs.first().and_then(|pair| pair.nexus.as_ref()).map(|nexus| nexus.checks.clone());
    judge_checks(&answer.body, &named.unwrap_or_default())
}

fn canary_get(bytes: &[u8]) -> Read {
    match judge_get(hear(bytes, Keep::Beginning), &Bytes::from_static(b"what was written")) {
        Ok(()) => Ok("success".into()),
        Err(sight) => of_sight(sight),
    }
}

fn witness_over_http(bytes: &[u8]) -> Read {
    let answer = whole(bytes)?;
    let (secret, nonce) = WITNESS;
    said(signed_testimony(&SecretString::from(secret), nonce, &answer.body, answer.header(SIGNATURE)))
}

/// The signature, and what it signs.
fn witness(bytes: &[u8]) -> Read {
    let [signature, body] = parts(bytes);
    let signature = std::str::from_utf8(signature).map_err(|error| error.to_string())?;
    let (secret, nonce) = WITNESS;
    said(signed_testimony(&SecretString::from(secret), nonce, body, signature))
}

fn whole(bytes: &[u8]) -> Result<Answer, String> {
    hear(bytes, Keep::Whole).map_err(|fault| shown(&fault))
}

fn shown(fault: &Fault) -> String {
    format!("{:?} {}", fault.reading, fault.detail)
}

/// The answer that somebody gives who says `bytes` and hangs up, whatever he is asked.
fn hear(bytes: &[u8], keep: Keep) -> Result<Answer, Fault> {
    const ROOM: usize = 1024 * 1024;
    let runtime =
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers needs nothing");
    runtime.block_on(async {
        let (ours, theirs) = tokio::io::duplex(ROOM);
        let (_questions, mut answers) = tokio::io::split(theirs);
        let say = async {
            // Whoever has heard enough does not listen any more.
            let _ = answers.write_all(bytes).await;
            let _ = answers.shutdown().await;
        };
        let call = call(keep);
        let (heard, ()) = tokio::join!(exchange(ours, &call), say);
        heard
    })
}

fn call(keep: Keep) -> Call {
    let url = "http://192.0.2.1/".parse().expect("this is a URL");
    let reach = Reach { url: &url, connect_to: None, ca: None };
    let target = Target::new(&reach, Duration::from_secs(1), &mut Shared::new());
    target.and_then(|target| target.call(keep)).expect("an address needs no resolver and no roots")
}
