//! From the JSON of a `config_dump` to types, with Envoy's refusals.

mod access_log;
mod cluster;
mod common;
mod hcm;
mod http_filter;
mod json;
mod jwt;
mod listener;
mod network;
mod rbac;
mod route;
mod route_action;
mod tls;

pub(crate) use cluster::{cluster, endpoints};
pub(crate) use listener::listener;
pub(crate) use route::routes;
