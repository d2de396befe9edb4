//! The operator stand-in of one real site. See [`understudy_tests::lab::operator`].

use clap::Parser;
use understudy_tests::lab::operator::{Settings, run};
use understudy_tests::standin::install_crypto;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    install_crypto();
    run(Settings::parse()).await
}
