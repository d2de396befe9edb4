//! Web servers that answer at once, in a process of their own, so that what they cost is not counted as ours.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::Stdio;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";

/// A process with servers in it; killed when dropped.
pub struct Servers {
    /// Where they listen.
    pub addresses: Vec<SocketAddr>,
    process: Child,
}

impl Servers {
    /// Starts so many servers on `host`, an address of the loopback.
    pub async fn start(host: &str, count: usize) -> anyhow::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["serve", host, &count.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut lines = BufReader::new(process.stdout.take().context("the servers have no output")?).lines();
        let mut addresses = Vec::new();
        while addresses.len() < count {
            let line = lines.next_line().await?.context("the servers ended before they listened")?;
            addresses.push(line.parse()?);
        }
        Ok(Self { addresses, process })
    }

    /// SIGKILL; returns when the signal is sent.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        Ok(self.process.start_kill()?)
    }
}

/// The process: prints where it listens, then answers until it is killed.
pub async fn run(host: &str, count: usize) -> anyhow::Result<()> {
    for _ in 0..count {
        let listener = TcpListener::bind((host, 0)).await?;
        println!("{}", listener.local_addr()?);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream));
            }
        });
    }
    std::io::stdout().flush()?;
    std::future::pending().await
}

/// A client that goes away early is his own affair.
async fn answer(mut stream: TcpStream) {
    let (mut request, mut length) = ([0; 1024], 0);
    while !request[..length].ends_with(b"\r\n\r\n") {
        match stream.read(&mut request[length..]).await {
            Ok(0) | Err(_) => return,
            Ok(more) => length += more,
        }
    }
    let _ = stream.write_all(ANSWER).await;
}
