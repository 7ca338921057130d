//! The ports: where nearside listens. Opened here, or inherited from the service manager or from
//! the process whose place this one takes; given to the one that takes this one's place.

use crate::app::parts::listen_options;
use crate::config::Settings;
use crate::control::admin::{self, Check, Offer};
use crate::net::address::Address;
use crate::net::handover::{self, Estate, Succession};
use crate::net::inherited::Inherited;
use crate::net::listen::{self, ListenOptions, Listener};
use anyhow::{Context as _, bail};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;

/// Only this user may ask for the sockets.
const PRIVATE: u32 = 0o600;

/// How often it is asked whether this process is ready to stand alone.
const READY_TICK: Duration = Duration::from_millis(50);

/// What was there before this process, if anything was.
#[derive(Debug, Default)]
pub(super) struct Legacy {
    sockets: Inherited,
    /// The process whose place this one takes.
    before: Option<Succession>,
}

/// Everything that listens.
#[derive(Debug, Default)]
pub(super) struct Ports {
    /// Clients, in plain and by TLS.
    pub clients: (Vec<Listener>, Vec<Listener>),
    /// HTTP.
    pub http: Vec<(TcpListener, Offer)>,
    /// Where the next process will ask.
    pub heir: Option<Heir>,
}

impl Legacy {
    /// The service manager's sockets, or those of the process that listens at `server.handover`.
    pub(super) fn claim(settings: &Settings) -> anyhow::Result<Self> {
        let sockets = Inherited::from_service_manager().map_err(anyhow::Error::msg)?;
        let Some(path) = settings.server.handover.as_ref().filter(|_| sockets.left().is_empty())
        else {
            return Ok(Self { sockets, before: None });
        };
        let asked = handover::ask(path).map_err(anyhow::Error::msg).context("server.handover")?;
        Ok(asked
            .map_or_else(Self::default, |(sockets, before)| Self { sockets, before: Some(before) }))
    }

    /// A socket that nobody listens to would let its clients wait for ever. (What a process leaves
    /// that another configuration has no use for ends with it.)
    pub(super) fn is_used(&self) -> anyhow::Result<()> {
        let left = self.sockets.left();
        if self.before.is_none() && !left.is_empty() {
            bail!(
                "the service manager passes sockets that no setting names: {}: add them to \
                 server.listen, server.tls.listen, admin.listen or metrics.listen, or take them \
                 out of the socket unit",
                left.join(", ")
            );
        }
        Ok(())
    }

    /// Has the process before go as soon as this one is `ready`.
    pub(super) async fn succeed(self, ready: impl Fn() -> Vec<Check>) {
        let Some(before) = self.before else { return };
        let mut ticks = tokio::time::interval(READY_TICK);
        while !ready().iter().all(|check| check.ok) {
            ticks.tick().await;
        }
        match before.complete(&self.sockets) {
            Ok(()) => tracing::info!(event = "handover", "the process before this one may go"),
            Err(error) => tracing::warn!(
                event = "handover_failed",
                error = %error,
                "the process before this one is gone already"
            ),
        }
    }
}

impl Ports {
    /// For clients, and for who takes this process's place.
    pub(super) fn for_clients(settings: &Settings, legacy: &mut Legacy) -> anyhow::Result<Self> {
        Self::with(Vec::new(), settings, legacy)
    }

    /// All of them.
    pub(super) async fn open(settings: &Settings, legacy: &mut Legacy) -> anyhow::Result<Self> {
        let mut http = Vec::new();
        for (key, address, offer) in http_ports(settings) {
            http.push((admin::bind(key, address, &mut legacy.sockets).await?, offer));
        }
        let ports = Self::with(http, settings, legacy)?;
        legacy.is_used()?;
        Ok(ports)
    }

    fn with(
        http: Vec<(TcpListener, Offer)>,
        settings: &Settings,
        legacy: &mut Legacy,
    ) -> anyhow::Result<Self> {
        let mut all = |key, addresses: &[Address]| {
            let options = listen_options(key, settings);
            let mut listeners = Vec::new();
            for address in addresses {
                listeners.extend(listen::bind(address, &options, &mut legacy.sockets)?);
            }
            anyhow::Ok(listeners)
        };
        let server = &settings.server;
        let clients =
            (all("server.listen", &server.listen)?, all("server.tls.listen", &server.tls_listen)?);
        let mut ports = Self { clients, http, heir: None };
        if let Some(path) = &server.handover {
            let key = "server.handover";
            let options = ListenOptions { key, backlog: 1, unix_permissions: PRIVATE };
            let path = Address::Unix(path.clone());
            for door in listen::bind(&path, &options, &mut legacy.sockets)? {
                ports.heir = Some(Heir { estate: ports.estate(&door)?, door });
            }
        }
        Ok(ports)
    }

    /// Where clients are accepted, in plain and by TLS, with the ports that the system chose.
    pub(super) fn addresses(&self) -> [Vec<SocketAddr>; 2] {
        [&self.clients.0, &self.clients.1]
            .map(|all| all.iter().filter_map(Listener::local_address).collect())
    }

    /// What the next process is given.
    fn estate(&self, door: &Listener) -> std::io::Result<Estate> {
        let mut estate = Estate::default();
        for listener in self.clients.0.iter().chain(&self.clients.1).chain([door]) {
            estate.add(listener)?;
        }
        for (listener, _) in &self.http {
            estate.add_socket(listener)?;
        }
        Ok(estate)
    }
}

/// What waits for the process that takes this one's place.
#[derive(Debug)]
pub(super) struct Heir {
    door: Listener,
    estate: Estate,
}

impl Heir {
    /// Returns when it has.
    pub(super) async fn wait(self) {
        self.estate.give(self.door).await;
    }
}

/// The ports for HTTP, by their keys, and what each has to offer.
pub(super) fn http_ports(settings: &Settings) -> impl Iterator<Item = (&'static str, &str, Offer)> {
    let admin = settings.admin.listen.as_deref().map(|at| ("admin.listen", at, Offer::All));
    let metrics = settings.metrics.listen.as_deref();
    admin.into_iter().chain(metrics.map(|at| ("metrics.listen", at, Offer::Metrics)))
}
