//! Names of upstreams: asked for afresh before each connection, for after a failover they lead
//! elsewhere.
//!
//! A host and a port in, addresses out. Invariant: a name that has led somewhere goes on to lead
//! there while nobody can say where it leads, so an outage of name servers is none of upstream's.

use parking_lot::Mutex;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::lookup_host;

/// What one name led to last.
#[derive(Debug, Default)]
pub struct Lookup {
    last: Mutex<Vec<SocketAddr>>,
}

impl Lookup {
    /// Where the name leads; if that cannot be found out within `limit`, where it led last.
    pub async fn find(
        &self,
        host: &str,
        port: u16,
        limit: Duration,
    ) -> io::Result<Vec<SocketAddr>> {
        let last = self.last.lock().clone();
        let asked = lookup_host((host, port));
        let found = if last.is_empty() {
            asked.await
        } else {
            let late = |_| Err(io::Error::from(io::ErrorKind::TimedOut));
            tokio::time::timeout(limit, asked).await.unwrap_or_else(late)
        };
        let found: Vec<SocketAddr> = match found {
            Ok(found) => found.collect(),
            Err(_) if !last.is_empty() => return Ok(last),
            Err(error) => return Err(error),
        };
        self.last.lock().clone_from(&found);
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::Lookup;
    use std::time::Duration;

    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn what_was_found_last_is_kept_while_nobody_knows() {
        let lookup = Lookup::default();
        // An empty label: no resolver has to be asked.
        assert!(lookup.find("no..host", 1, LONG).await.is_err());
        let first = lookup.find("127.0.0.2", 1, LONG).await.unwrap();
        assert_eq!(first, ["127.0.0.2:1".parse().unwrap()]);
        assert_eq!(lookup.find("no..host", 1, LONG).await.unwrap(), first);
        let second = lookup.find("127.0.0.3", 1, LONG).await.unwrap();
        assert_eq!(second, ["127.0.0.3:1".parse().unwrap()]);
        assert_eq!(lookup.find("no..host", 1, LONG).await.unwrap(), second);
    }
}
