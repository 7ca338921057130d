//! Addresses, sockets, TLS.
