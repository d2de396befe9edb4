//! The socket through which the stand-in programs reach the model.
//!
//! In: one JSON line per connection. Out: one JSON reply. When the other end closes before that, its
//! process was killed, and the command stops where it stands. Start at [`serve`].

use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::client::{Call, Reply};
use super::{Shared, command};

pub(super) async fn serve(listener: UnixListener, shared: Arc<Shared>) {
    let mut commands = tokio::task::JoinSet::new();
    loop {
        // An error here is a client that left while it waited.
        if let Ok((stream, _)) = listener.accept().await {
            commands.spawn(answer(stream, shared.clone()));
        }
        while commands.try_join_next().is_some() {}
    }
}

async fn answer(stream: UnixStream, shared: Arc<Shared>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    let call: Call = serde_json::from_str(&line).ok()?;
    let mut nothing = [0; 1];
    let output = tokio::select! {
        output = command::run(&shared, call) => output,
        // The process is dead; what it had begun stays begun.
        _ = stream.read(&mut nothing) => return None,
    };
    let reply = serde_json::to_vec(&Reply::from(output)).ok()?;
    stream.write_all(&reply).await.ok()
}
