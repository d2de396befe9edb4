//! The binary `understudy`: the daemon and its command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    understudy_agent::main()
}
