//! Transport sockets.

use super::common::{data_source, string};
use super::json::{Message, Read, constraint, unknown_extension};
use crate::envoy::matchers::StringMatcher;
use crate::envoy::refusal::Refusal;
use crate::envoy::tls::{
    CertificateSource, CommonTls, DownstreamTls, SanMatcher, SanType, TlsVersion, UpstreamSocket, UpstreamTls, Validation,
};

const RAW: &str = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer";
const DOWNSTREAM: &str = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
const UPSTREAM: &str = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
const PROXY_PROTOCOL: &str = "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport";

/// Types that Envoy knows and this simulation does not.
const KNOWN: &str = "envoy.extensions.transport_sockets.";

fn other(socket: Message<'_>, kind: &str) -> Read<Refusal> {
    let name = socket.text("name")?;
    Ok(if kind.starts_with(KNOWN) { Refusal::unsupported(format!("transport socket {name}")) } else { unknown_extension(name, kind) })
}

pub(super) fn downstream(chain: Message<'_>) -> Read<Option<Box<DownstreamTls>>> {
    let Some(socket) = chain.message("transport_socket")? else { return Ok(None) };
    match socket.any("typed_config")? {
        Some((RAW, _)) => Ok(None),
        Some((DOWNSTREAM, context)) => {
            let common = common(context.part("common_tls_context")?)?;
            if common.certificates.is_empty() {
                return Err(Refusal::rejected("No TLS certificates found for server context"));
            }
            Ok(Some(Box::new(DownstreamTls {
                common,
                require_client_certificate: context.flag("require_client_certificate", false)?,
                require_sni: context.flag("require_sni", false)?,
            })))
        }
        Some((kind, _)) => Err(other(socket, kind)?),
        None => Err(unknown_extension(socket.text("name")?, "")),
    }
}

/// The socket, and the version of PROXY protocol that is written before it.
pub(super) fn upstream(socket: Option<Message<'_>>) -> Read<(UpstreamSocket, Option<u8>)> {
    let Some(socket) = socket else { return Ok((UpstreamSocket::Raw, None)) };
    match socket.any("typed_config")? {
        Some((RAW, _)) => Ok((UpstreamSocket::Raw, None)),
        Some((UPSTREAM, context)) => Ok((UpstreamSocket::Tls(Box::new(upstream_tls(context)?)), None)),
        Some((PROXY_PROTOCOL, wrapper)) => {
            let version = if wrapper.part("config")?.text("version")? == "V2" { 2 } else { 1 };
            // One level is all that makes sense, and all that a stack bears.
            match upstream_inner(wrapper.message("transport_socket")?)? {
                Some(inner) => Ok((inner, Some(version))),
                None => Err(Refusal::unsupported("PROXY protocol within PROXY protocol")),
            }
        }
        Some((kind, _)) => Err(other(socket, kind)?),
        None => Err(unknown_extension(socket.text("name")?, "")),
    }
}

fn upstream_inner(socket: Option<Message<'_>>) -> Read<Option<UpstreamSocket>> {
    let Some(socket) = socket else { return Ok(Some(UpstreamSocket::Raw)) };
    match socket.any("typed_config")? {
        Some((RAW, _)) => Ok(Some(UpstreamSocket::Raw)),
        Some((UPSTREAM, context)) => Ok(Some(UpstreamSocket::Tls(Box::new(upstream_tls(context)?)))),
        _ => Ok(None),
    }
}

fn upstream_tls(context: Message<'_>) -> Read<UpstreamTls> {
    let sni = context.text("sni")?;
    if sni.len() > 255 {
        return Err(constraint("UpstreamTlsContext.Sni: value length must be at most 255 bytes"));
    }
    let common = common(context.part("common_tls_context")?)?;
    let trusts = |v: &Validation| v.sds.is_some() || v.trusted_ca.is_some() || v.system_roots;
    if common.validation.as_ref().is_some_and(|v| !v.subject_alt_names.is_empty() && !trusts(v)) {
        return Err(Refusal::rejected("SAN-based verification of peer certificates without trusted CA is insecure and not allowed"));
    }
    Ok(UpstreamTls {
        common,
        sni: sni.to_owned(),
        auto_host_sni: context.flag("auto_host_sni", false)?,
        auto_sni_san_validation: context.flag("auto_sni_san_validation", false)?,
    })
}

fn version(message: Message<'_>, field: &str) -> Read<Option<TlsVersion>> {
    Ok(match message.text(field)? {
        "" | "TLS_AUTO" => None,
        "TLSv1_0" => Some(TlsVersion::V1_0),
        "TLSv1_1" => Some(TlsVersion::V1_1),
        "TLSv1_2" => Some(TlsVersion::V1_2),
        "TLSv1_3" => Some(TlsVersion::V1_3),
        unknown => return Err(Refusal::rejected(format!("INVALID_ARGUMENT: {field}: {unknown}"))),
    })
}

fn common(context: Message<'_>) -> Read<CommonTls> {
    let parameters = context.part("tls_params")?;
    let mut certificates = Vec::new();
    for secret in context.messages("tls_certificate_sds_secret_configs")? {
        certificates.push(CertificateSource::Sds(secret.text("name")?.to_owned()));
    }
    for pair in context.messages("tls_certificates")? {
        certificates.push(CertificateSource::Inline {
            chain: data_source(pair.part("certificate_chain")?)?,
            key: data_source(pair.part("private_key")?)?,
        });
    }
    Ok(CommonTls {
        certificates,
        validation: validation(context)?,
        alpn: context.texts("alpn_protocols")?,
        min_version: version(parameters, "tls_minimum_protocol_version")?,
        max_version: version(parameters, "tls_maximum_protocol_version")?,
        cipher_suites: parameters.texts("cipher_suites")?,
    })
}

fn validation(context: Message<'_>) -> Read<Option<Validation>> {
    if let Some(combined) = context.message("combined_validation_context")? {
        let mut validation = validation_context(combined.part("default_validation_context")?)?;
        validation.sds = Some(combined.part("validation_context_sds_secret_config")?.text("name")?.to_owned());
        return Ok(Some(validation));
    }
    if let Some(secret) = context.message("validation_context_sds_secret_config")? {
        return Ok(Some(Validation { sds: Some(secret.text("name")?.to_owned()), ..Validation::default() }));
    }
    context.message("validation_context")?.map(validation_context).transpose()
}

fn validation_context(context: Message<'_>) -> Read<Validation> {
    let any = |matcher: StringMatcher| SanMatcher { san_type: SanType::Any, matcher };
    let mut subject_alt_names: Vec<SanMatcher> =
        context.messages("match_subject_alt_names")?.into_iter().map(|m| Ok(any(string(m)?))).collect::<Read<_>>()?;
    for typed in context.messages("match_typed_subject_alt_names")? {
        let san_type = match typed.text("san_type")? {
            "DNS" => SanType::Dns,
            "URI" => SanType::Uri,
            "IP_ADDRESS" => SanType::Ip,
            "EMAIL" => SanType::Email,
            "OTHER_NAME" => SanType::OtherName,
            unknown => {
                let value = if unknown.is_empty() { "SAN_TYPE_UNSPECIFIED" } else { unknown };
                return Err(constraint(&format!("SubjectAltNameMatcher.SanType: value must not be in list [{value}]")));
            }
        };
        subject_alt_names.push(SanMatcher { san_type, matcher: string(typed.part("matcher")?)? });
    }
    if context.has("custom_validator_config") {
        return Err(Refusal::unsupported("a custom certificate validator"));
    }
    Ok(Validation {
        sds: None,
        trusted_ca: context.message("trusted_ca")?.map(data_source).transpose()?,
        system_roots: context.has("system_root_certs"),
        subject_alt_names,
        accept_untrusted: context.text("trust_chain_verification")? == "ACCEPT_UNTRUSTED",
        crl: context.has("crl"),
        spki: context.texts("verify_certificate_spki")?,
        hashes: context.texts("verify_certificate_hash")?,
    })
}
