//! What the upstream holds already: keys that nobody behind nearside can see.
//!
//! With a version prefix an existing database looks empty to every client. That is right after a
//! new version, and a nasty surprise on the first day; so it is said once, at the start and by
//! `nearside validate`. A few pages of SCAN are looked at, never the whole keyspace.

use crate::keys::Prefix;
use crate::net::dialer::Dialer;
use crate::net::stream::Stream;
use crate::wire::handshake::Options;
use crate::wire::reply::{self, Scan};
use crate::wire::write::{self, Proto};
use anyhow::Context;
use bytes::BytesMut;
use std::fmt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Pages of SCAN looked at, and the COUNT of each.
const PAGES_MAX: u64 = 16;
const PAGE: u64 = 1000;

/// Keys of the upstream that lie outside the prefix in force, while none lies under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hidden {
    /// DBSIZE.
    pub keys: i64,
    /// False if only the first pages were looked at.
    pub is_certain: bool,
    /// The prefix that none of them has.
    pub prefix: String,
}

impl fmt::Display for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keys, is_certain, prefix } = self;
        let none = if *is_certain { "none" } else { "none of those looked at" };
        write!(
            f,
            "upstream has {keys} keys, {none} under `{prefix}`: clients see an empty database \
             (keys.version = \"\" shows existing data)"
        )
    }
}

/// Looks at the upstream once, over a connection of its own.
pub async fn hidden(dialer: &Dialer, prefix: &Prefix) -> anyhow::Result<Option<Hidden>> {
    if prefix.is_empty() {
        return Ok(None);
    }
    let options = Options {
        proto: Proto::Resp2,
        username: dialer.username(),
        password: dialer.password(),
        database: dialer.target.database,
        name: Some(&dialer.name),
        tracking: None,
    };
    let (mut stream, _) = dialer.open(&options).await?;
    let size = ask(&mut stream, &[b"DBSIZE"]).await?;
    let keys = reply::integer(&size).context("DBSIZE was refused")?;
    if keys == 0 {
        return Ok(None);
    }
    // A prefix has no character with a meaning in globs.
    let pattern = [prefix.as_bytes(), b"*"].concat();
    let count = PAGE.to_string();
    let mut cursor = b"0".to_vec();
    for _ in 0..PAGES_MAX {
        let scan: [&[u8]; 6] = [b"SCAN", &cursor, b"MATCH", &pattern, b"COUNT", count.as_bytes()];
        let page = ask(&mut stream, &scan).await?;
        let mut parts = reply::elements(&page);
        let next = parts.next().and_then(reply::bulk).context("SCAN was refused")?;
        if parts.next().is_some_and(|found| reply::elements(found).next().is_some()) {
            return Ok(None);
        }
        cursor = next.to_vec();
        if cursor == b"0" {
            break;
        }
    }
    let prefix = String::from_utf8_lossy(prefix.as_bytes()).into_owned();
    Ok(Some(Hidden { keys, is_certain: cursor == b"0", prefix }))
}

/// One command, one reply.
async fn ask(stream: &mut Stream, command: &[&[u8]]) -> anyhow::Result<BytesMut> {
    let mut bytes = BytesMut::new();
    write::array(&mut bytes, command.len());
    for argument in command {
        write::bulk(&mut bytes, argument);
    }
    stream.write_all_buf(&mut bytes).await?;
    stream.flush().await?;
    let mut scan = Scan::default();
    loop {
        if let Some(length) = scan.next(&bytes)? {
            return Ok(bytes.split_to(length));
        }
        anyhow::ensure!(stream.read_buf(&mut bytes).await? > 0, "the server closed the connection");
    }
}
