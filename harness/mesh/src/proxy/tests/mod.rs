//! Proxies between hosts, with real bytes.

mod captured;
mod config;
mod http;
mod tcp;
mod tls;
mod world;
