//! The programs `rbd` and `ceph`, as far as the daemon can tell.
//!
//! In: `standin-rbd --socket S ARGS…` or `standin-ceph --socket S ARGS…`. The words are sent to the
//! model and its answer is printed; while there is none, this process waits, and when it is killed the
//! model sees the connection end. Out: an exit code. Start at [`cli_main`].

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// What a program was called with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Call {
    /// `rbd` or `ceph`.
    pub tool: String,
    pub args: Vec<String>,
    pub ceph_args: String,
}

/// What it says and how it ends.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Output {
    pub code: u8,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

/// An [`Output`] as it travels.
#[derive(Serialize, Deserialize)]
pub(super) struct Reply {
    pub(super) code: u8,
    stdout: String,
    stderr: String,
}

impl From<Output> for Reply {
    fn from(output: Output) -> Self {
        Self { code: output.code, stdout: STANDARD.encode(output.stdout), stderr: STANDARD.encode(output.stderr) }
    }
}

/// Runs `standin-rbd` or `standin-ceph`; `args` begins with that word. It starts no runtime and no
/// thread, so that it costs no more than a small program does.
pub fn cli_main(args: &[String]) -> ExitCode {
    match call(args) {
        Ok(reply) => print(&reply).unwrap_or(ExitCode::FAILURE),
        Err(error) => {
            eprintln!("standin: failed to reach the clusters: {error}");
            ExitCode::FAILURE
        }
    }
}

pub(super) fn call(args: &[String]) -> io::Result<Reply> {
    let [tool, option, socket, rest @ ..] = args else {
        return Err(io::Error::other("expected standin-TOOL --socket PATH"));
    };
    let Some(tool) = tool.strip_prefix("standin-").filter(|_| option == "--socket") else {
        return Err(io::Error::other("expected standin-TOOL --socket PATH"));
    };
    let call =
        Call { tool: tool.to_owned(), args: rest.to_vec(), ceph_args: std::env::var("CEPH_ARGS").unwrap_or_default() };
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(&serde_json::to_vec(&call)?)?;
    stream.write_all(b"\n")?;
    let reply = io::read_to_string(stream)?;
    Ok(serde_json::from_str(&reply)?)
}

fn print(reply: &Reply) -> io::Result<ExitCode> {
    let decode = |text: &str| STANDARD.decode(text).map_err(io::Error::other);
    io::stderr().write_all(&decode(&reply.stderr)?)?;
    io::stdout().write_all(&decode(&reply.stdout)?)?;
    io::stdout().flush()?;
    Ok(ExitCode::from(reply.code))
}
