//! An address that moves: connections are led to one server, and from some moment on new ones to
//! another.

use crate::harness::free_port;
use std::io::copy;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;

/// Listens for as long as the process lives.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) port: u16,
    server: Arc<AtomicU16>,
}

impl Relay {
    pub(crate) fn start(server: u16) -> Self {
        let port = free_port();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        let server = Arc::new(AtomicU16::new(server));
        let leads_to = Arc::clone(&server);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let port = leads_to.load(Ordering::SeqCst);
                // Refused there, so closed here.
                if let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
                    join(&client, &server).ok();
                }
            }
        });
        Self { port, server }
    }

    /// Whoever connects from now on comes to this server.
    pub(crate) fn lead_to(&self, server: u16) {
        self.server.store(server, Ordering::SeqCst);
    }
}

fn join(client: &TcpStream, server: &TcpStream) -> std::io::Result<()> {
    for (from, to) in [(client, server), (server, client)] {
        from.set_nodelay(true)?;
        let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
        thread::spawn(move || {
            copy(&mut from, &mut to).ok();
            from.shutdown(Shutdown::Both).ok();
            to.shutdown(Shutdown::Both).ok();
        });
    }
    Ok(())
}
