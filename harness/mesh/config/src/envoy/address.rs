//! Addresses as resources name them.

use std::net::{IpAddr, SocketAddr};

/// `envoy.config.core.v3.Address`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// An address and a port.
    Ip(SocketAddr),
    /// A name to be resolved, and a port: for clusters of type `STRICT_DNS` and `LOGICAL_DNS`.
    Name(String, u16),
    /// A Unix domain socket, by its path.
    Pipe(String),
    /// `envoy_internal_address`: a listener of the same proxy, by its name.
    Internal(String),
}

impl Address {
    /// The port, where there is one.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Ip(address) => Some(address.port()),
            Self::Name(_, port) => Some(*port),
            Self::Pipe(_) | Self::Internal(_) => None,
        }
    }

    /// The address, if it is one already.
    pub fn ip(&self) -> Option<SocketAddr> {
        match self {
            Self::Ip(address) => Some(*address),
            _ => None,
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ip(address) => write!(f, "{address}"),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
            Self::Pipe(path) => f.write_str(path),
            Self::Internal(name) => write!(f, "envoy://{name}/"),
        }
    }
}

/// `envoy.config.core.v3.CidrRange`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr(pub ipnet::IpNet);

impl Cidr {
    /// Whether the range holds the address.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.0.contains(&ip)
    }
}
