//! Which protocol a port speaks.

/// The protocol of a Service's or a server's port (Istio: `pkg/config/protocol`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// HTTP/1.1 in plaintext.
    Http,
    /// HTTP/2 in plaintext.
    Http2,
    /// gRPC.
    Grpc,
    /// gRPC-Web.
    GrpcWeb,
    /// HTTP within TLS that the mesh does not end.
    Https,
    /// TLS.
    Tls,
    /// Bytes.
    Tcp,
    /// MongoDB.
    Mongo,
    /// Redis.
    Redis,
    /// MySQL.
    Mysql,
    /// Istio's tunnel.
    Hbone,
    /// Datagrams; Istio ignores such ports.
    Udp,
    /// Not said: Envoy is to find out (protocol sniffing).
    Auto,
}

/// Ports whose clients wait for the server to speak, so that sniffing would break them (Istio: `pkg/config/kube/conversion.go`).
const NEVER_SNIFFED: [u16; 4] = [25, 53, 3306, 27017];

impl Protocol {
    /// Reads a name as Istio's objects write it, in any case.
    #[must_use]
    pub fn parse(name: &str) -> Protocol {
        match name.to_ascii_lowercase().as_str() {
            "http" => Protocol::Http,
            "http2" => Protocol::Http2,
            "grpc" => Protocol::Grpc,
            "grpc-web" => Protocol::GrpcWeb,
            "https" => Protocol::Https,
            "tls" => Protocol::Tls,
            "tcp" => Protocol::Tcp,
            "mongo" => Protocol::Mongo,
            "redis" => Protocol::Redis,
            "mysql" => Protocol::Mysql,
            "hbone" => Protocol::Hbone,
            "udp" => Protocol::Udp,
            _ => Protocol::Auto,
        }
    }

    /// The protocol of a Kubernetes Service's port: `appProtocol`, or what stands before the first `-` of its name
    /// (Istio: `ConvertProtocol`).
    #[must_use]
    pub fn of_service_port(number: u16, name: &str, transport: &str, app_protocol: Option<&str>) -> Protocol {
        if transport == "UDP" {
            return Protocol::Udp;
        }
        let name = match app_protocol {
            Some("kubernetes.io/h2c") => return Protocol::Http2,
            Some("kubernetes.io/ws") => return Protocol::Http,
            Some("kubernetes.io/wss") => return Protocol::Https,
            Some(said) => said,
            None => name,
        };
        if name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("grpc-web")) {
            return Protocol::GrpcWeb;
        }
        match Protocol::parse(name.split('-').next().unwrap_or_default()) {
            Protocol::Auto if NEVER_SNIFFED.contains(&number) => Protocol::Tcp,
            protocol => protocol,
        }
    }

    /// Whether requests can be read: HTTP of any version, without TLS.
    #[must_use]
    pub fn is_http(self) -> bool {
        matches!(self, Protocol::Http | Protocol::Http2 | Protocol::Grpc | Protocol::GrpcWeb)
    }

    /// Whether it is HTTP/2 for sure.
    #[must_use]
    pub fn is_http2(self) -> bool {
        matches!(self, Protocol::Http2 | Protocol::Grpc | Protocol::GrpcWeb)
    }

    /// Whether connections begin with TLS that the mesh does not end.
    #[must_use]
    pub fn is_tls(self) -> bool {
        matches!(self, Protocol::Https | Protocol::Tls)
    }

    /// Whether connections are handled as bytes.
    #[must_use]
    pub fn is_tcp(self) -> bool {
        matches!(self, Protocol::Tcp | Protocol::Https | Protocol::Tls | Protocol::Mongo | Protocol::Redis | Protocol::Mysql)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_named_by_its_prefix() {
        assert_eq!(Protocol::of_service_port(80, "http-web", "TCP", None), Protocol::Http);
        assert_eq!(Protocol::of_service_port(80, "grpc-web-x", "TCP", None), Protocol::GrpcWeb);
        assert_eq!(Protocol::of_service_port(80, "web", "TCP", None), Protocol::Auto);
        assert_eq!(Protocol::of_service_port(3306, "db", "TCP", None), Protocol::Tcp);
        assert_eq!(Protocol::of_service_port(80, "tcp", "TCP", Some("kubernetes.io/h2c")), Protocol::Http2);
        assert_eq!(Protocol::of_service_port(53, "dns", "UDP", None), Protocol::Udp);
    }
}
