//! Hosts beyond the cluster, with httpbin on them.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use tokio::task::JoinSet;

use super::httpbin::{Flavour, Httpbin};
use super::serve::{serve, server_config};
use crate::net::{Bind, Host, Network};

/// A server's TLS on port 443, with `h2` and `http/1.1`.
#[derive(Clone, Default)]
pub struct OutsideTls {
    /// The certificate chain in PEM form.
    pub chain_pem: String,
    /// The private key in PEM form.
    pub key_pem: String,
    /// Whose clients' certificates are asked for, in PEM form; none is asked for without it.
    pub client_ca_pem: Option<String>,
    /// Whether a client without a certificate is turned away.
    pub client_required: bool,
}

impl std::fmt::Debug for OutsideTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutsideTls").field("client_required", &self.client_required).finish_non_exhaustive()
    }
}

/// Why a host beyond the cluster does not stand.
#[derive(Debug, thiserror::Error)]
pub enum OutsideError {
    /// The address or a port is taken.
    #[error("placing a host outside the mesh at {ip}: {error}")]
    Address {
        /// The address.
        ip: IpAddr,
        /// The network's words.
        error: io::Error,
    },
    /// The certificate or key is of no use.
    #[error("a host outside the mesh: {0}")]
    Tls(io::Error),
}

/// A host beyond the cluster. It is gone when this is dropped; its names stay until they are removed.
pub struct OutsideHost {
    host: Host,
    _servers: JoinSet<()>,
}

impl OutsideHost {
    /// Where it is on the network.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }
}

/// Puts a host on the network that answers HTTP on port 80 and, with `tls`, HTTPS on 443. Each of `names` resolves to
/// it, beside the addresses that the name has already. Must be called within a tokio runtime.
///
/// # Errors
/// When the address is taken or the certificate is of no use.
pub fn serve_outside(network: &Network, ip: IpAddr, names: &[String], tls: Option<&OutsideTls>) -> Result<OutsideHost, OutsideError> {
    let address = |error| OutsideError::Address { ip, error };
    let config = tls.map(|t| server_config(&t.chain_pem, &t.key_pem, t.client_ca_pem.as_deref(), t.client_required)).transpose();
    let config = config.map_err(OutsideError::Tls)?;
    let host = network.add(ip).map_err(address)?;
    let server = Httpbin::new(Flavour::Go, &BTreeMap::new(), names.first().map_or("outside", String::as_str));
    let mut servers = JoinSet::new();
    servers.spawn(serve(host.listen(Bind::Any, 80).map_err(address)?, None, server.clone().handler()));
    if let Some(config) = config {
        servers.spawn(serve(host.listen(Bind::Any, 443).map_err(address)?, Some(config), server.handler()));
    }
    for name in names {
        let mut all = network.names().resolve(name).unwrap_or_default();
        if !all.contains(&ip) {
            all.push(ip);
            all.sort();
        }
        network.names().set(name, all);
    }
    Ok(OutsideHost { host, _servers: servers })
}
