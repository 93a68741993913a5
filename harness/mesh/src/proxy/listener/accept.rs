//! A connection from its arrival to the filters of its chain.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use gateproof_mesh_config::envoy::access_log::Downstream;
use gateproof_mesh_config::envoy::listener::ListenerFilterKind;
use gateproof_mesh_config::envoy::network::FilterStateValue;
use gateproof_mesh_config::envoy::{Address, CallRecord, ConnectionFacts, Flag, NetworkFilter, details};
use jiff::Timestamp;

use super::super::connection::Connection;
use super::super::env::Env;
use super::super::inspect;
use super::super::{http, read, tcp};
use super::{ChainRuntime, Drain, ListenerRuntime, Terminal};
use crate::net::Conn;

/// Serves one connection until it ends.
pub(in super::super) async fn handle(env: Arc<Env>, arrived: Arc<ListenerRuntime>, conn: Conn) {
    let listener = elsewhere(&env, &arrived, conn.original_destination()).unwrap_or(arrived);
    listener.total.inc();
    let _open = listener.active.held();
    let began = Instant::now();
    let mut record = CallRecord {
        start: Some(Timestamp::now()),
        downstream: Downstream {
            remote: Some(conn.peer_addr()),
            direct_remote: Some(conn.peer_addr()),
            local: Some(conn.original_destination()),
            direct_local: listener.spec.address.ip(),
            connection_id: env.next_connection(),
            ..Downstream::default()
        },
        hostname: env.node.pod.clone(),
        ..CallRecord::default()
    };
    let mut facts = ConnectionFacts {
        destination: conn.original_destination(),
        source: conn.peer_addr(),
        direct_source: conn.peer_addr(),
        server_name: String::new(),
        transport_protocol: String::new(),
        application_protocols: Vec::new(),
    };
    let inspected = async { inspect_all(&listener, &conn, &mut facts).await };
    let finished = match listener.spec.listener_filters_timeout {
        None => inspected.await,
        Some(limit) => match tokio::time::timeout(limit, inspected).await {
            Ok(finished) => finished,
            Err(_) => listener.spec.continue_on_listener_filters_timeout,
        },
    };
    if !finished {
        return;
    }
    record.downstream.requested_server_name.clone_from(&facts.server_name);
    record.downstream.transport_protocol =
        if facts.transport_protocol.is_empty() { "raw_buffer".to_owned() } else { facts.transport_protocol.clone() };
    let Some(chain) = chain_for(&listener, &facts) else {
        listener.no_chain.inc();
        record.flags.set(Flag::NoRouteFound);
        record.response_code_details = Some(details::FILTER_CHAIN_NOT_FOUND.to_owned());
        record.duration = Some(began.elapsed());
        env.journal.write(&listener.spec.access_log, &record);
        return;
    };
    record.filter_chain.clone_from(&chain.spec.name);
    let _open = chain.connections.held();
    if !admitted(&chain) {
        return;
    }
    for filter in &chain.spec.filters {
        if let NetworkFilter::SetFilterState(values) = filter {
            set_state(values, &mut record);
        }
    }
    let mut drain = chain.drain();
    let connection = Arc::new(Connection { env: env.clone(), listener, chain, record, began });
    let work = async {
        match &connection.chain.terminal {
            Terminal::Tcp(proxy) => tcp::run(&connection, proxy, conn).await,
            Terminal::Http(manager) => http::run(&connection, manager, conn).await,
            Terminal::Nothing => drop(conn),
        }
    };
    tokio::select! {
        biased;
        () = work => {}
        _ = drain.wait_for(|d| *d == Drain::Over) => {}
    }
}

/// The listener of a connection's original destination: that of its address and port, or that of its port
/// (`ConnectionHandlerImpl::findActiveTcpListenerByAddress`).
fn elsewhere(env: &Env, arrived: &ListenerRuntime, to: SocketAddr) -> Option<Arc<ListenerRuntime>> {
    if !arrived.spec.use_original_dst {
        return None;
    }
    let tables = read(&env.tables);
    let at = |wanted: SocketAddr| {
        let has =
            |l: &ListenerRuntime| [&l.spec.address].into_iter().chain(&l.spec.additional_addresses).any(|a| *a == Address::Ip(wanted));
        tables.listeners.values().find(|l| has(l)).cloned()
    };
    let any: std::net::IpAddr = if to.is_ipv4() { std::net::Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    at(to).or_else(|| at(SocketAddr::new(any, to.port())))
}

/// Runs the listener's filters; false: the client is gone.
async fn inspect_all(listener: &ListenerRuntime, conn: &Conn, facts: &mut ConnectionFacts) -> bool {
    for filter in listener.spec.listener_filters.iter().filter(|f| f.runs(facts.destination.port())) {
        match filter.kind {
            ListenerFilterKind::TlsInspector => match inspect::look(conn, inspect::client_hello).await {
                Err(_) => return false,
                Ok(None) => {}
                Ok(Some(hello)) => {
                    facts.transport_protocol = "tls".to_owned();
                    facts.server_name = hello.server_name;
                    facts.application_protocols = hello.alpn;
                }
            },
            // It has nothing to look at behind TLS (`http_inspector.cc`, `onAccept`).
            ListenerFilterKind::HttpInspector if facts.transport_protocol.is_empty() => match inspect::look(conn, inspect::http).await {
                Err(_) => return false,
                Ok(found) => facts.application_protocols.extend(found.map(str::to_owned)),
            },
            _ => {}
        }
    }
    true
}

fn chain_for(listener: &ListenerRuntime, facts: &ConnectionFacts) -> Option<Arc<ChainRuntime>> {
    let found = listener.spec.chain(facts)?;
    let index = listener.spec.filter_chains.iter().position(|c| std::ptr::eq(c, found));
    match index {
        Some(index) => listener.chains.get(index).cloned(),
        None => listener.default_chain.clone(),
    }
}

/// Whether filters that bound connections let this one in.
fn admitted(chain: &ChainRuntime) -> bool {
    chain.spec.filters.iter().enumerate().all(|(i, filter)| match filter {
        NetworkFilter::ConnectionLimit(limit) => u64::try_from(chain.connections.get()).unwrap_or(0) <= limit.max_connections,
        NetworkFilter::LocalRateLimit(bucket) => chain.take_token(i, bucket),
        _ => true,
    })
}

pub(in super::super) fn set_state(values: &[FilterStateValue], record: &mut CallRecord) {
    for value in values {
        let text = value.value.render(record);
        if !(text.is_empty() && value.skip_if_empty) {
            record.filter_state.insert(value.key.clone(), text);
        }
    }
}
