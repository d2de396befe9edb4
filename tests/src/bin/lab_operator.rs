//! The operator stand-in of one real site; or, called as the stand-in of `rbd` or `ceph`, that program.
//! See [`understudy_tests::lab::operator`] and [`understudy_tests::standin::ceph::client`].

use std::process::ExitCode;

use clap::Parser;
use understudy_tests::lab::operator::{Settings, run};
use understudy_tests::standin::ceph::client::cli_main;
use understudy_tests::standin::install_crypto;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|word| word.starts_with("standin-")) {
        return cli_main(&args);
    }
    install_crypto();
    let outcome = tokio::runtime::Runtime::new()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run(Settings::parse())));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab-operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}
