//! What is asked of the upstream once, at the start: who it is, how many databases it has, and
//! whether it holds keys that nobody behind nearside can see; and, again whenever it may have
//! become another server, which commands it has.
//!
//! Who the server is and how many databases it has are needed in every mode (HELLO, SELECT), and
//! without tracking there may be no other link that asks.
//!
//! With a version prefix an existing database looks empty to every client. That is right after a
//! new version, and a nasty surprise on the first day; so it is said once, at the start and by
//! `nearside validate`. A few pages of SCAN are looked at, never the whole keyspace.

use crate::cache::DATABASES_MAX;
use crate::command::Route;
use crate::command::learned::{Learned, Learner, Strangers};
use crate::config::Settings;
use crate::keys::Names;
use crate::live::{Live, Server};
use crate::net::dialer::{Dialer, OpenError, Opened};
use crate::net::stream::Stream;
use crate::wire::handshake::{HandshakeError, Options};
use crate::wire::reply::{self, Scan};
use crate::wire::write::{self, Proto};
use anyhow::Context;
use bytes::BytesMut;
use std::fmt;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Pages of SCAN looked at, and the COUNT of each.
const PAGES_MAX: u64 = 16;
const PAGE: u64 = 1000;

/// Databases that a server has if nobody has set another number.
const DATABASES_DEFAULT: u32 = 16;

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

/// Gets to know the upstream and publishes what it learns; answers a connection to ask more.
pub async fn meet(dialer: &Dialer, live: &Live) -> anyhow::Result<Stream> {
    let mut stream = match dialer.open(&options(dialer, Proto::Resp3)).await {
        Ok(Opened { stream, server: Some(server), .. }) => {
            live.set_server(server.into());
            stream
        }
        // What does not know HELLO, or refuses it, is asked in the old way.
        Ok(_) | Err(OpenError::Handshake(HandshakeError::NoProto(_))) => {
            by_info(dialer, live).await?
        }
        Err(error) if error.is_refusal() => by_info(dialer, live).await.map_err(|_| error)?,
        Err(error) => return Err(error.into()),
    };
    live.set_upstream_up(true);
    let counting = count_databases(&mut stream, dialer.target.database);
    live.set_databases(within(dialer, counting).await?.min(DATABASES_MAX));
    Ok(stream)
}

/// A server that takes questions may still leave one unanswered.
async fn within<T>(
    dialer: &Dialer,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    tokio::time::timeout(dialer.timeout, work)
        .await
        .unwrap_or_else(|_| Err(OpenError::Silent(dialer.timeout).into()))
}

fn options(dialer: &Dialer, proto: Proto) -> Options<'_> {
    Options {
        proto,
        username: dialer.username(),
        password: dialer.password(),
        database: dialer.target.database,
        name: Some(&dialer.name),
        tracking: None,
        asks_id: false,
    }
}

/// Meets a server without HELLO: what INFO says must do.
async fn by_info(dialer: &Dialer, live: &Live) -> anyhow::Result<Stream> {
    let mut stream = dialer.open(&options(dialer, Proto::Resp2)).await?.stream;
    let info = within(dialer, ask(&mut stream, &[b"INFO", b"server"])).await?;
    let info = String::from_utf8_lossy(reply::bulk(&info).unwrap_or_default()).into_owned();
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
    live.set_server_without_hello(Server {
        name: "redis".to_owned(),
        version: version.unwrap_or("0.0.0").trim().to_owned(),
        role: "master".to_owned(),
    });
    Ok(stream)
}

/// How many databases there are. CONFIG GET is often forbidden, and says 16 of a cluster, so it is
/// tried out: the first number that SELECT refuses is looked for by doubling, then by halving.
/// With the usual 16 that is three questions, one of them the way back to `home`.
async fn count_databases(stream: &mut Stream, home: u32) -> anyhow::Result<u32> {
    // All below `known` can be selected; `refused` cannot.
    let (mut known, mut refused) = (1, DATABASES_DEFAULT);
    while is_selected(stream, refused).await? {
        known = refused + 1;
        if known > DATABASES_MAX {
            break;
        }
        refused *= 2;
    }
    // Nearly everywhere the first question was one too far.
    let mut middle = refused - 1;
    while known < refused {
        if is_selected(stream, middle).await? {
            known = middle + 1;
        } else {
            refused = middle;
        }
        middle = known.midpoint(refused);
    }
    // Where every SELECT was refused, this connection is where it was.
    if known > 1 {
        anyhow::ensure!(is_selected(stream, home).await?, "the server refuses SELECT {home} now");
    }
    Ok(known)
}

/// True if this database is there. A server that is busy or loading says nothing about that.
async fn is_selected(stream: &mut Stream, database: u32) -> anyhow::Result<bool> {
    let digits = database.to_string();
    let answer = ask(stream, &[b"SELECT", digits.as_bytes()]).await?;
    let is_refused = answer.starts_with(b"-ERR ") || answer.starts_with(b"-NOPERM ");
    let is_there = &answer[..] == b"+OK\r\n";
    anyhow::ensure!(
        is_there || is_refused,
        "the server answers SELECT with \"{}\"",
        answer.trim_ascii().escape_ascii()
    );
    Ok(is_there)
}

/// Pause between two looks at whether upstream has become another server.
const LOOK: Duration = Duration::from_millis(250);

/// Asks upstream which commands it has, at the start and whenever it may have become another
/// server, for as long as the process lives.
pub async fn learn(dialer: &Dialer, live: &Live, mut learner: Learner) {
    let mut met = 0;
    loop {
        tokio::time::sleep(LOOK).await;
        let meetings = live.meetings();
        if meetings == met || !live.is_upstream_up() {
            continue;
        }
        // Otherwise it broke meanwhile, and is met again.
        if let Ok(told) = within(dialer, commands(dialer)).await {
            met = meetings;
            keep(learner.read(&told), &learner, live, &told);
        }
    }
}

async fn commands(dialer: &Dialer) -> anyhow::Result<BytesMut> {
    let mut opened = dialer.open(&options(dialer, Proto::Resp2)).await?;
    ask(&mut opened.stream, &[b"COMMAND"]).await
}

/// Publishes what was learned, and says what of it matters to an operator.
fn keep(learned: Option<Learned>, learner: &Learner, live: &Live, told: &[u8]) {
    let asks = learner.strangers() != Strangers::Reject;
    let Some(learned) = learned else {
        let told = told.get(..told.len().min(100)).unwrap_or_default().trim_ascii();
        if asks {
            tracing::warn!(
                event = "commands_not_learned",
                "upstream answers COMMAND with \"{}\": commands.unknown has no effect (its user \
                 needs +command)",
                told.escape_ascii()
            );
        }
        // Nothing is known of this server, and what was known of another is no help.
        live.set_learned(Learned::default());
        return;
    };
    let (mut names, mut refused) = (Vec::new(), Vec::new());
    for row in learned.rows() {
        match row.route {
            Route::Refuse(why) => refused.push(format!("{} ({})", row.name, why.reason())),
            _ => names.push(row.name),
        }
    }
    live.set_learned(learned);
    if asks {
        tracing::info!(
            event = "commands_learned",
            learned = %names.join(" "),
            refused = %refused.join(", "),
            "commands that only upstream knows"
        );
    }
}

/// Looks for keys outside the prefix, over a connection that [`meet`] or the like has opened.
pub async fn hidden(stream: &mut Stream, settings: &Settings) -> anyhow::Result<Option<Hidden>> {
    let names = &settings.names;
    // Without a prefix of all other keys nothing is hidden.
    if names.usual().is_empty() {
        return Ok(None);
    }
    let size = ask(stream, &[b"DBSIZE"]).await?;
    let keys = reply::integer(&size).context("DBSIZE was refused")?;
    // What nearside keeps there itself is nobody's data.
    if keys <= i64::from(settings.own_keys()) {
        return Ok(None);
    }
    let pattern = names.pattern(b"*");
    let count = PAGE.to_string();
    let mut cursor = b"0".to_vec();
    for _ in 0..PAGES_MAX {
        let scan: [&[u8]; 6] = [b"SCAN", &cursor, b"MATCH", &pattern, b"COUNT", count.as_bytes()];
        let page = ask(stream, &scan).await?;
        let mut parts = reply::elements(&page);
        let next = parts.next().and_then(reply::bulk).context("SCAN was refused")?;
        if parts.next().is_some_and(|found| reply::elements(found).any(|key| is_seen(key, names))) {
            return Ok(None);
        }
        cursor = next.to_vec();
        if cursor == b"0" {
            break;
        }
    }
    let prefix = String::from_utf8_lossy(names.usual().as_bytes()).into_owned();
    Ok(Some(Hidden { keys, is_certain: cursor == b"0", prefix }))
}

/// True for the name of a key of clients.
fn is_seen(name: &[u8], names: &Names) -> bool {
    reply::bulk(name).is_some_and(|name| names.strip(name).is_some())
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
