//! The in-process upstream: a small real RESP server.
