//! What istiod says of a Gateway.

use serde_json::Value;

use super::names::{self, Spoken};
use super::problems::Problems;
use crate::istio::model::object;

pub(super) fn check(gateway: &Value) -> Problems {
    let mut problems = Problems::new();
    let name = object::name(gateway);
    if !names::is_label(name) {
        problems.error(format!("invalid gateway name: {name:?}"));
    }
    let servers = object::list(gateway, "/spec/servers");
    problems.error_if(servers.is_empty(), "gateway must have at least one server");
    for server in servers {
        check_server(server, &mut problems);
    }
    let mut names_seen = Vec::new();
    for server in servers.iter().filter(|server| server.get("port").is_some_and(Value::is_object)) {
        let name = object::text(server, "/port/name");
        if names_seen.contains(&name) {
            problems.error(format!("port names in servers must be unique: duplicate name {name}"));
        }
        names_seen.push(name);
        if names::spoken(object::text(server, "/port/protocol")) != Spoken::Http && object::flag(server, "/tls/httpsRedirect") {
            problems.warn("tls.httpsRedirect should only be used with http servers");
        }
    }
    problems
}

fn check_server(server: &Value, problems: &mut Problems) {
    let hosts = object::texts(server, "/hosts");
    problems.error_if(hosts.is_empty(), "server config must contain at least one host");
    for host in hosts {
        problems.extend(names::namespaced_host(host, true));
    }
    let bind = object::text(server, "/bind");
    let port_problems = check_port(server.get("port").filter(|port| port.is_object()), bind);
    let is_port_good = port_problems.errors.is_empty();
    problems.extend(port_problems);
    if let Some(path) = bind.strip_prefix("unix://") {
        problems.check(unix_address(path));
        if names::number(server, "/port/number") != 0 {
            problems.error("port number must be 0 for unix domain socket");
        }
    } else if !bind.is_empty() {
        problems.check(names::ip(bind));
    }
    let tls = server.get("tls").filter(|tls| tls.is_object());
    problems.extend(tls.map(check_tls).unwrap_or_default());
    if !is_port_good {
        return;
    }
    match (names::spoken(object::text(server, "/port/protocol")), tls) {
        (Spoken::Tls, None) => problems.error("server must have TLS settings for HTTPS/TLS protocols"),
        (Spoken::Tls, Some(_)) | (_, None) => {}
        // Of a server in plain text only its redirect counts; passthrough is the mode that an unset one reads as.
        (Spoken::Http, Some(tls)) => {
            let is_passthrough = matches!(object::text(tls, "/mode"), "" | "PASSTHROUGH" | "AUTO_PASSTHROUGH");
            let files = ["/caCertificates", "/privateKey", "/serverCertificate"];
            let has_files = files.iter().any(|file| !object::text(tls, file).is_empty());
            problems.error_if(!is_passthrough || has_files, "server cannot have TLS settings for plain text HTTP ports");
        }
        (_, Some(_)) => problems.error("server cannot have TLS settings for non HTTPS/TLS ports"),
    }
}

fn check_port(port: Option<&Value>, bind: &str) -> Problems {
    let mut problems = Problems::new();
    let Some(port) = port else {
        problems.error("port is required");
        return problems;
    };
    let protocol = object::text(port, "/protocol");
    if names::spoken(protocol) == Spoken::Unknown {
        let known = "HTTP, HTTP2, GRPC, GRPC-WEB, MONGO, REDIS, MYSQL, TCP";
        problems.error(format!("invalid protocol {protocol:?}, supported protocols are {known}"));
    }
    let number = names::number(port, "/number");
    if number > 0 || !bind.starts_with("unix://") {
        problems.check(names::port(number));
    }
    problems.error_if(names::number(port, "/targetPort") > 0, "targetPort has no impact on Gateways");
    problems
}

pub(super) fn unix_address(path: &str) -> Result<(), String> {
    match path {
        "" => Err("unix address must not be empty".to_owned()),
        _ if path.starts_with('@') || (path.starts_with('/') && !path.ends_with('/')) => Ok(()),
        _ => Err(format!("{path} is not an absolute path to a file")),
    }
}

/// TLS settings of a server; of a Sidecar's ingress too.
pub(super) fn check_tls(tls: &Value) -> Problems {
    let mut problems = Problems::new();
    let text = |field: &str| object::text(tls, field);
    let has = |field: &str| !text(field).is_empty();
    let has_list = |field: &str| !object::list(tls, field).is_empty();
    let mode = match text("/mode") {
        "" => "PASSTHROUGH",
        mode => mode,
    };
    let is_old = matches!(text("/minProtocolVersion"), "TLSV1_0" | "TLSV1_1");
    if is_old && !has_list("/cipherSuites") {
        problems
            .warn("TLS version below TLSV1_2 require setting compatible ciphers as by default they no longer include compatible ciphers.");
    }
    if mode == "ISTIO_MUTUAL" {
        for (is_set, what) in [
            (has("/serverCertificate"), "server certificate"),
            (has("/privateKey"), "private key"),
            (has("/caCertificates"), "CA bundle"),
            (has_list("/tlsCertificates"), "tlsCertificates"),
            (has("/credentialName"), "credentialName"),
            (has_list("/credentialNames"), "credentialNames"),
        ] {
            problems.error_if(is_set, &format!("ISTIO_MUTUAL TLS cannot have associated {what}"));
        }
        return problems;
    }
    let has_credential = has("/credentialName") || has_list("/credentialNames");
    if matches!(mode, "PASSTHROUGH" | "AUTO_PASSTHROUGH") {
        let files = ["/caCrl", "/serverCertificate", "/privateKey", "/caCertificates"];
        if files.iter().any(|file| has(file)) || has_list("/tlsCertificates") || has_credential {
            problems.warn(format!("{mode} mode does not use certificates, they will be ignored"));
        }
    }
    let sources = [
        has("/serverCertificate") && has("/privateKey"),
        has("/credentialName"),
        has_list("/credentialNames"),
        has_list("/tlsCertificates"),
    ];
    if sources.into_iter().filter(|is_set| *is_set).count() > 1 {
        problems
            .error("only one of credential_name, credential_names, server_certificate/private_key, tls_certificates should be specified");
    }
    let is_terminated = matches!(mode, "SIMPLE" | "MUTUAL" | "OPTIONAL_MUTUAL");
    if is_terminated && has_credential {
        return problems;
    }
    if is_terminated {
        let kind = if mode == "SIMPLE" { "SIMPLE TLS" } else { "MUTUAL TLS" };
        if mode != "SIMPLE" && !has("/caCertificates") {
            problems.error(format!("{kind} requires a client CA bundle"));
        }
        let own = std::slice::from_ref(tls);
        let pairs = if has_list("/tlsCertificates") { object::list(tls, "/tlsCertificates") } else { own };
        if pairs.len() > 2 {
            problems.warn(format!("{kind} can support up to 2 server certificates"));
        }
        for pair in pairs {
            let lacks = |field: &str| object::text(pair, field).is_empty();
            problems.error_if(lacks("/serverCertificate"), &format!("{kind} requires a server certificate"));
            problems.error_if(lacks("/privateKey"), &format!("{kind} requires a private key"));
        }
    }
    if has("/caCrl") {
        let text = "CRL is not supported with credentialName. CRL has to be specified in the credential";
        problems.error_if(has("/credentialName"), text);
        problems.error_if(mode == "SIMPLE", "CRL is not supported with SIMPLE TLS");
    }
    problems
}
