//! The TCP proxy: `source/common/tcp_proxy/tcp_proxy.cc`.

mod relay;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use gateproof_mesh_config::envoy::cluster::Discovery;
use gateproof_mesh_config::envoy::listener::ListenerFilterKind;
use gateproof_mesh_config::envoy::{CallRecord, Flag, NetworkFilter, TcpProxy};

use super::connection::Connection;
use super::tls::Hello;
use super::upstream::{ClusterRuntime, Connected, Reset};
use crate::net::Conn;

pub(super) use relay::{Ending, Relay};

/// Copies bytes between a client and a cluster until both are done.
///
/// As in Envoy the upstream is connected to as soon as the chain is chosen, before the client's TLS handshake.
pub(super) async fn run(connection: &Arc<Connection>, proxy: &TcpProxy, conn: Conn) {
    let mut record = connection.record.clone();
    relay(connection, proxy, conn, &mut record).await;
    record.duration = Some(connection.began.elapsed());
    connection.env.journal.write(&proxy.access_log, &record);
    connection.write_listener_log(&record);
}

async fn relay(connection: &Arc<Connection>, proxy: &TcpProxy, conn: Conn, record: &mut CallRecord) {
    let env = &connection.env;
    let by_server_name = connection.chain.spec.filters.iter().any(|f| matches!(f, NetworkFilter::SniCluster));
    let name = match proxy.cluster(env.random.next()) {
        _ if by_server_name => record.downstream.requested_server_name.clone(),
        Some(name) => name.to_owned(),
        None => String::new(),
    };
    let Some(cluster) = env.cluster(&name) else {
        record.flags.set(Flag::NoClusterFound);
        return;
    };
    record.upstream.cluster = Some(name);
    record.upstream.cluster_alt_name.clone_from(&cluster.alt_name);
    record.upstream.metadata.clone_from(&cluster.spec.metadata);

    // Where nothing had to be looked at, this is known as soon as the connection is accepted.
    if !looks(connection) && cluster.spec.discovery != Discovery::OriginalDst && cluster.members().hosts.is_empty() {
        cluster.stats.cx_none_healthy.inc();
        record.flags.set(Flag::NoHealthyUpstream);
        conn.end_unread();
        return;
    }

    let mut upstream = None;
    let mut client = None;
    {
        let mut connecting = pin!(connect(&cluster, proxy, conn.original_destination(), record));
        let mut securing = pin!(connection.secure(conn));
        while upstream.is_none() || client.is_none() {
            tokio::select! {
                biased;
                connected = &mut connecting, if upstream.is_none() => match connected {
                    Some(connected) => upstream = Some(connected),
                    None => return,
                },
                secured = &mut securing, if client.is_none() => match secured {
                    Ok(secured) => client = Some(secured),
                    Err(words) => {
                        client = None;
                        drop(words);
                        break;
                    }
                },
            }
        }
    }
    let Some(upstream) = upstream else { return };
    record.upstream.local = Some(upstream.local);
    record.upstream.tls = upstream.tls;
    let Some((stream, tls)) = client else { return };
    record.downstream.tls = tls;

    let gate = { |record: &CallRecord| connection.refused(record) };
    let copy = Relay::new(stream, upstream.stream, proxy.idle_timeout, record, gate);
    let ending = match proxy.max_downstream_connection_duration {
        None => copy.await,
        Some(limit) => match tokio::time::timeout(limit, copy).await {
            Ok(ending) => ending,
            Err(_) => {
                record.flags.set(Flag::DurationTimeout);
                return;
            }
        },
    };
    match ending {
        Ending::Finished | Ending::Idle | Ending::ClientReset => {}
        Ending::UpstreamReset => record.flags.set(Flag::UpstreamRemoteReset),
        Ending::UpstreamFailed(words) => record.upstream.transport_failure = words,
        Ending::Refused(details) => record.connection_termination_details = Some(details),
    }
    drop(upstream.held);
}

/// Whether the listener reads the first bytes of a connection before it chooses a chain.
fn looks(connection: &Connection) -> bool {
    let reads = |kind: &ListenerFilterKind| {
        matches!(kind, ListenerFilterKind::TlsInspector | ListenerFilterKind::HttpInspector | ListenerFilterKind::ProxyProtocol)
    };
    connection.listener.spec.listener_filters.iter().any(|filter| reads(&filter.kind))
}

/// Connects, as often as the filter may; None: it is over, and the record says why.
async fn connect(cluster: &ClusterRuntime, proxy: &TcpProxy, to: SocketAddr, record: &mut CallRecord) -> Option<Connected> {
    let mut tried = Vec::new();
    loop {
        let Ok(host) = cluster.choose(Some(to), &tried) else {
            record.flags.set(Flag::NoHealthyUpstream);
            return None;
        };
        record.upstream.attempts += 1;
        match cluster.connect(&host, &Hello::default()).await {
            Ok(connected) => {
                record.upstream.host = Some(host.address.to_string());
                return Some(connected);
            }
            Err(failure) if failure.reset == Reset::Overflow => {
                record.flags.set(Flag::UpstreamOverflow);
                return None;
            }
            Err(failure) => {
                cluster.went(&host, 503);
                record.flags.set(Flag::UpstreamConnectionFailure);
                record.upstream.host = Some(host.address.to_string());
                record.upstream.transport_failure = failure.transport;
                tried.push(host.address);
                if record.upstream.attempts >= proxy.max_connect_attempts.max(1) {
                    record.flags.set(Flag::UpstreamRetryLimitExceeded);
                    return None;
                }
            }
        }
    }
}
