//! `[server]`: where clients come in, and how many, and how much each may ask for.

use crate::command;
use crate::config::check::{Notes, span};
use crate::config::tls::server_tls;
use crate::config::{Server, written};
use crate::net::address::Address;
use crate::units::size::Size;
use std::time::Duration;

/// More clients are not greeted at a time.
const HANDSHAKES_MAX: usize = 65_536;

pub(super) fn server(written: &written::Server, notes: &mut Notes) -> Option<Server> {
    let listen = written.listen.clone().unwrap_or_else(|| vec!["127.0.0.1:6380".to_owned()]);
    let tls = server_tls(&written.tls, notes);
    if listen.is_empty() && written.tls.listen.as_ref().is_none_or(Vec::is_empty) {
        notes.fault("server.listen: name at least one address, such as \"127.0.0.1:6380\"");
    }
    let parsed: Vec<Option<Address>> = listen
        .iter()
        .map(|address| notes.take(&format!("server.listen: `{address}`"), address.parse()))
        .collect();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let workers = written.workers.unwrap_or(cores);
    if !(1..=256).contains(&workers) {
        notes.fault(format!("server.workers: {workers} is not between 1 and 256"));
    }
    let max_clients = written.max_clients.unwrap_or(10_000);
    if max_clients == 0 {
        notes.fault("server.max_clients: 0 would let nobody in");
    }
    let max_pipeline = written.max_pipeline.unwrap_or(1024);
    if max_pipeline == 0 {
        notes.fault("server.max_pipeline: 0 would answer nothing");
    }
    let permissions = written.unix_permissions.clone().unwrap_or_else(|| "0770".to_owned());
    let bits = u32::from_str_radix(&permissions, 8).ok().filter(|bits| *bits <= 0o777);
    if bits.is_none() {
        notes.fault(format!("server.unix_permissions: `{permissions}` is not octal, as \"0770\""));
    }
    let bulk_max = written.max_request_size.unwrap_or(Size(512 << 20));
    if bulk_max.0 == 0 || bulk_max.0 > 512 << 20 {
        notes.fault("server.max_request_size: must be between 1 and 512mb, as in Redis");
    }
    let args_max = written.max_args.unwrap_or(1 << 20);
    if !(2..=1 << 20).contains(&args_max) {
        notes.fault("server.max_args: must be between 2 and 1048576, as in Redis");
    }
    let max_handshakes = written.max_handshakes.unwrap_or(1024);
    if !(1..=HANDSHAKES_MAX).contains(&max_handshakes) {
        notes.fault(format!(
            "server.max_handshakes: {max_handshakes} is not between 1 and {HANDSHAKES_MAX}"
        ));
    }
    let handshake_timeout = span(written.handshake_timeout, Duration::from_secs(5));
    if handshake_timeout.is_zero() {
        notes.fault("server.handshake_timeout: 0 would let nobody in");
    }
    let proxy_command = proxy_command(written, notes);
    let (tls_listen, tls) = tls?;
    Some(Server {
        listen: parsed.into_iter().collect::<Option<_>>()?,
        workers,
        max_clients,
        idle_timeout: span(written.idle_timeout, Duration::ZERO),
        tcp_keepalive: span(written.tcp_keepalive, Duration::from_mins(5)),
        tcp_backlog: written.tcp_backlog.unwrap_or(1024),
        max_request_size: bulk_max.as_usize(),
        max_args: args_max,
        client_output_limit: written.client_output_limit.unwrap_or(Size(64 << 20)).as_usize(),
        max_clients_memory: written.max_clients_memory.map(|size| size.0),
        max_pipeline,
        unix_permissions: bits?,
        proxy_command,
        proxy_protocol: written.proxy_protocol.unwrap_or(false),
        handshake_timeout,
        max_handshakes,
        handover: written.handover.clone(),
        tls_listen,
        tls,
    })
}

/// The word of nearside's own commands: one that no command of the table hides.
fn proxy_command(written: &written::Server, notes: &mut Notes) -> String {
    let word = written.proxy_command.clone().unwrap_or_else(|| "PROXY".to_owned());
    if command::find(word.as_bytes()).is_some() {
        notes.fault(format!("server.proxy_command: `{word}` is a command of Redis or Valkey"));
    }
    if word.len() > 64 || !word.bytes().all(|byte| byte.is_ascii_graphic()) {
        notes.fault(format!(
            "server.proxy_command: `{}` is not one word of at most 64 printable characters",
            word.escape_default()
        ));
    }
    word
}
