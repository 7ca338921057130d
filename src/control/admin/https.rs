//! The admin port by HTTPS: what `[admin.tls]` makes of it.
//!
//! In: a listening socket, and the snapshots, of which the newest says which certificate is shown.
//! Out: connections whose handshake is over. Handshakes run side by side and within their limit, so
//! that who stalls holds up nobody; when as many run as may, further connections wait to be
//! accepted.
//!
//! Invariant: nobody is answered in plain.

use axum::serve::Listener;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::net::greet::{OperatorStream, Refusal, greet_operator};
use crate::snapshot::Snapshots;

/// A connection, and whose it is.
type Greeted = (OperatorStream, SocketAddr);

/// Where operators come in.
pub(super) struct HttpsListener {
    tcp: TcpListener,
    snapshots: Arc<Snapshots>,
    /// Those that are not over; they end with this.
    handshakes: JoinSet<Option<Greeted>>,
    handshakes_max: usize,
}

impl HttpsListener {
    pub(super) fn new(tcp: TcpListener, snapshots: Arc<Snapshots>) -> Self {
        let handshakes_max = snapshots.newest().settings.server.max_handshakes;
        Self { tcp, snapshots, handshakes: JoinSet::new(), handshakes_max }
    }

    fn greet(&mut self, stream: TcpStream, from: SocketAddr) {
        let settings = &self.snapshots.newest().settings;
        let limit = settings.server.handshake_timeout;
        // Whatever became of the certificate: nobody is served in plain.
        let Some(tls) = settings.admin.tls.server.clone() else { return };
        self.handshakes.spawn(async move {
            match greet_operator(&tls, stream, limit).await {
                Ok(stream) => Some((stream, from)),
                Err(refusal) => {
                    tell(&refusal, from);
                    None
                }
            }
        });
    }
}

impl Listener for HttpsListener {
    type Io = OperatorStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> Greeted {
        loop {
            let has_room = self.handshakes.len() < self.handshakes_max;
            tokio::select! {
                Some(greeted) = self.handshakes.join_next() => {
                    if let Ok(Some(greeted)) = greeted {
                        return greeted;
                    }
                }
                (stream, from) = Listener::accept(&mut self.tcp), if has_room => {
                    self.greet(stream, from);
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

fn tell(refusal: &Refusal, from: SocketAddr) {
    if matches!(refusal, Refusal::Left) {
        tracing::debug!(remote_addr = %from, "a connection closed before its first byte");
        return;
    }
    tracing::warn!(
        event = "admin_rejected",
        reason = refusal.reason(),
        remote_addr = %from,
        error = %refusal,
        "a connection to the admin port was not let in"
    );
}
