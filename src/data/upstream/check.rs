//! Asks upstream about credentials, on a connection of their own that ends with the answer.
//!
//! In: what a client logs in with, or that it has not. Out: whether upstream takes it, in its own
//! words. While upstream cannot be reached it is tried for as long as a request waits for a link.

use crate::data::login::Question;
use crate::data::worker::Worker;
use std::rc::Rc;
use std::time::Duration;

/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// What upstream says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// They are good.
    Accepted,
    /// They are not, in these words.
    Refused(Box<[u8]>),
    /// It could not be asked.
    Down,
}

/// Asks one question; the worker has the answer.
pub async fn run(worker: Rc<Worker>, question: Question) {
    let shared = &worker.shared;
    let (snapshot, live) = (worker.snapshot(), &shared.live);
    let wait = || {
        let wait = snapshot.limits.link_wait(live.is_upstream_up());
        // As who is connected, and asks.
        if live.is_upstream_silent() { wait.max(snapshot.limits.read_timeout) } else { wait }
    };
    let begun = shared.clock.now();
    let (answer, doubts) = loop {
        let doubts = shared.identities.doubts();
        match once(&worker, &question).await {
            Answer::Down if shared.clock.now().since(begun) < wait() => {
                tokio::time::sleep(PAUSE).await;
            }
            answer => break (answer, doubts),
        }
    };
    worker.checked(&question, &answer, doubts);
}

async fn once(worker: &Worker, question: &Question) -> Answer {
    let login = question.login.as_ref();
    let words: &[&[u8]] = match login.map(|login| (login.user(), login.reveal())) {
        Some((Some(user), password)) => &[b"AUTH", user, password],
        Some((None, password)) => &[b"AUTH", password],
        None => &[b"PING"],
    };
    match worker.shared.dialer.ask(words).await {
        Ok(reply) => understand(&reply, login.is_some()),
        Err(_) => Answer::Down,
    }
}

/// What an answer to AUTH or PING means.
fn understand(reply: &[u8], is_login: bool) -> Answer {
    let Some(text) = reply.strip_prefix(b"-").map(<[u8]>::trim_ascii_end) else {
        let is_fit = if is_login { reply == b"+OK\r\n" } else { reply == b"+PONG\r\n" };
        return if is_fit { Answer::Accepted } else { Answer::Down };
    };
    // Said before a command is read, of the connection.
    if text.starts_with(b"ERR max number of clients") || text.starts_with(b"DENIED") {
        return Answer::Down;
    }
    // Whoever is told anything else about PING has been let in.
    let is_refused = is_login || text.starts_with(b"NOAUTH") || text.starts_with(b"ERR operation");
    if is_refused { Answer::Refused(text.into()) } else { Answer::Accepted }
}

#[cfg(test)]
mod tests {
    use super::{Answer, understand};

    #[test]
    fn what_servers_say_of_credentials() {
        let refused = |text: &[u8]| Answer::Refused(text.into());
        for (reply, of_login, of_nobody) in [
            (&b"+OK\r\n"[..], Answer::Accepted, Answer::Down),
            (b"+PONG\r\n", Answer::Down, Answer::Accepted),
            (b"-WRONGPASS no\r\n", refused(b"WRONGPASS no"), Answer::Accepted),
            (b"-NOAUTH no\r\n", refused(b"NOAUTH no"), refused(b"NOAUTH no")),
            (b"-NOPERM ping\r\n", refused(b"NOPERM ping"), Answer::Accepted),
            (b"-LOADING it\r\n", refused(b"LOADING it"), Answer::Accepted),
            (b"-ERR max number of clients reached\r\n", Answer::Down, Answer::Down),
            (b"-DENIED Redis is running in protected mode\r\n", Answer::Down, Answer::Down),
            (b":1\r\n", Answer::Down, Answer::Down),
        ] {
            assert_eq!(understand(reply, true), of_login);
            assert_eq!(understand(reply, false), of_nobody);
        }
    }
}
