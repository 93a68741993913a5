//! The operators of formats (`source/common/formatter/stream_info_formatter.cc`, `http_specific_formatter.cc`).

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use super::{CallRecord, TlsFacts};
use crate::envoy::matchers::{query_parameter, without_query};
use crate::envoy::refusal::Refusal;

/// What an operator found.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Found {
    /// Text.
    Text(String),
    /// A number, which stays one in JSON.
    Number(u64),
    /// A value with structure.
    Json(Value),
}

impl Found {
    pub(super) fn into_text(self) -> String {
        match self {
            Self::Text(text) | Self::Json(Value::String(text)) => text,
            Self::Number(number) => number.to_string(),
            Self::Json(value) => value.to_string(),
        }
    }
}

/// One operator with its parameters.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Operator {
    name: &'static str,
    parameters: String,
}

/// Whether parameters and a length may follow (`CommandSyntaxChecker`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Syntax {
    Alone,
    Optional,
    Required,
}

macro_rules! operators {
    ($($syntax:ident: $($name:literal)*;)*) => {
        const OPERATORS: &[(&str, Syntax)] = &[$($(($name, Syntax::$syntax),)*)*];
    };
}

operators! {
    Alone: "REQUEST_DURATION" "REQUEST_TX_DURATION" "RESPONSE_DURATION" "RESPONSE_TX_DURATION" "DURATION" "BYTES_RECEIVED" "BYTES_SENT"
        "UPSTREAM_WIRE_BYTES_RECEIVED" "UPSTREAM_WIRE_BYTES_SENT" "PROTOCOL" "UPSTREAM_PROTOCOL" "RESPONSE_CODE"
        "CONNECTION_TERMINATION_DETAILS" "RESPONSE_FLAGS" "RESPONSE_FLAGS_LONG" "UPSTREAM_HOST" "UPSTREAM_HOST_NAME" "UPSTREAM_CLUSTER"
        "UPSTREAM_CLUSTER_RAW" "UPSTREAM_LOCAL_ADDRESS" "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" "UPSTREAM_LOCAL_PORT"
        "UPSTREAM_REMOTE_ADDRESS" "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" "UPSTREAM_REMOTE_PORT" "UPSTREAM_REQUEST_ATTEMPT_COUNT"
        "UPSTREAM_TRANSPORT_FAILURE_REASON" "UPSTREAM_LOCAL_CLOSE_REASON" "UPSTREAM_TLS_CIPHER" "UPSTREAM_TLS_VERSION"
        "UPSTREAM_PEER_SUBJECT" "UPSTREAM_PEER_ISSUER" "UPSTREAM_PEER_URI_SAN" "UPSTREAM_PEER_DNS_SAN" "UPSTREAM_PEER_CERT"
        "UPSTREAM_LOCAL_URI_SAN" "UPSTREAM_LOCAL_DNS_SAN" "UPSTREAM_LOCAL_SUBJECT" "DOWNSTREAM_LOCAL_ADDRESS"
        "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" "DOWNSTREAM_LOCAL_PORT" "DOWNSTREAM_DIRECT_LOCAL_ADDRESS" "DOWNSTREAM_REMOTE_ADDRESS"
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" "DOWNSTREAM_REMOTE_PORT" "DOWNSTREAM_DIRECT_REMOTE_ADDRESS"
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" "DOWNSTREAM_DIRECT_REMOTE_PORT" "DOWNSTREAM_TRANSPORT_FAILURE_REASON"
        "DOWNSTREAM_TLS_CIPHER" "DOWNSTREAM_TLS_VERSION" "DOWNSTREAM_PEER_SUBJECT" "DOWNSTREAM_PEER_ISSUER" "DOWNSTREAM_PEER_SERIAL"
        "DOWNSTREAM_PEER_URI_SAN" "DOWNSTREAM_PEER_DNS_SAN" "DOWNSTREAM_PEER_IP_SAN" "DOWNSTREAM_PEER_EMAIL_SAN"
        "DOWNSTREAM_PEER_FINGERPRINT_256" "DOWNSTREAM_PEER_CERT" "DOWNSTREAM_LOCAL_URI_SAN" "DOWNSTREAM_LOCAL_DNS_SAN"
        "DOWNSTREAM_LOCAL_SUBJECT" "CONNECTION_ID" "REQUESTED_SERVER_NAME" "ROUTE_NAME" "VIRTUAL_CLUSTER_NAME" "HOSTNAME"
        "FILTER_CHAIN_NAME" "GRPC_STATUS_NUMBER" "TRACE_ID";
    Optional: "START_TIME" "RESPONSE_CODE_DETAILS" "DOWNSTREAM_PEER_CERT_V_START" "DOWNSTREAM_PEER_CERT_V_END" "GRPC_STATUS" "PATH";
    Required: "REQ" "RESP" "TRAILER" "FILTER_STATE" "DYNAMIC_METADATA" "CLUSTER_METADATA" "METADATA" "ENVIRONMENT" "QUERY_PARAM";
}

impl Operator {
    pub(super) fn new(name: &str, parameters: Option<&str>, limit: Option<usize>) -> Result<Self, Refusal> {
        let Some((name, syntax)) = OPERATORS.iter().find(|(known, _)| *known == name) else {
            return Err(Refusal::rejected(format!("Not supported field in StreamInfo: {name}")));
        };
        match (syntax, parameters, limit) {
            (Syntax::Alone, Some(_), _) => return Err(Refusal::rejected(format!("{name} does not take any parameters"))),
            (Syntax::Alone, None, Some(_)) => {
                return Err(Refusal::rejected(format!("{name} does not allow length to be specified.")));
            }
            (Syntax::Required, None, _) => return Err(Refusal::rejected(format!("{name} requires parameters"))),
            _ => {}
        }
        let parameters = parameters.unwrap_or_default();
        if matches!(*name, "REQ" | "RESP" | "TRAILER") && parameters.matches('?').count() > 1 {
            return Err(Refusal::rejected(format!("More than 1 alternative header specified in token: {parameters}")));
        }
        if *name == "FILTER_STATE" && parameters.split_once(':').is_some_and(|(_, how)| !matches!(how, "PLAIN" | "TYPED" | "")) {
            if !parameters.contains(":FIELD:") {
                return Err(Refusal::rejected("Invalid filter state serialize type, only support PLAIN/TYPED/FIELD."));
            }
            return Err(Refusal::unsupported("a field of filter state"));
        }
        Ok(Self { name, parameters: parameters.to_owned() })
    }

    pub(super) fn evaluate(&self, call: &CallRecord) -> Option<Found> {
        let (down, up) = (&call.downstream, &call.upstream);
        match self.name {
            "REQ" => self.header(|name| call.request.get(name)),
            "RESP" => self.header(|name| call.response.get(name)),
            "TRAILER" => self.header(|name| call.trailers.get(name)),
            "START_TIME" => Some(Found::Text(time(call.start?, &self.parameters))),
            "DURATION" => millis(call.duration),
            "REQUEST_DURATION" => millis(call.request_duration),
            "RESPONSE_DURATION" => millis(call.response_duration),
            "RESPONSE_TX_DURATION" => millis(call.duration?.checked_sub(call.response_duration?)),
            "BYTES_RECEIVED" => Some(Found::Number(call.bytes_received)),
            "BYTES_SENT" => Some(Found::Number(call.bytes_sent)),
            "UPSTREAM_WIRE_BYTES_RECEIVED" => Some(Found::Number(up.bytes_received)),
            "UPSTREAM_WIRE_BYTES_SENT" => Some(Found::Number(up.bytes_sent)),
            "PROTOCOL" => call.protocol.clone().map(Found::Text),
            "UPSTREAM_PROTOCOL" => up.protocol.clone().map(Found::Text),
            "RESPONSE_CODE" => Some(Found::Number(call.response_code.map_or(0, u64::from))),
            "RESPONSE_CODE_DETAILS" if self.parameters == "ALLOW_WHITESPACES" => call.response_code_details.clone().map(Found::Text),
            "RESPONSE_CODE_DETAILS" => call.response_code_details.as_deref().map(|text| Found::Text(underscored(text))),
            "CONNECTION_TERMINATION_DETAILS" => call.connection_termination_details.clone().map(Found::Text),
            "RESPONSE_FLAGS" => Some(Found::Text(flags(call, super::Flag::short))),
            "RESPONSE_FLAGS_LONG" => Some(Found::Text(flags(call, super::Flag::long))),
            "UPSTREAM_HOST" | "UPSTREAM_HOST_NAME" | "UPSTREAM_REMOTE_ADDRESS" => up.host.clone().map(Found::Text),
            "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => Some(Found::Text(up.host.as_ref()?.parse::<SocketAddr>().ok()?.ip().to_string())),
            "UPSTREAM_REMOTE_PORT" => Some(Found::Number(up.host.as_ref()?.parse::<SocketAddr>().ok()?.port().into())),
            "UPSTREAM_CLUSTER" => {
                up.cluster_alt_name.clone().filter(|name| !name.is_empty()).or_else(|| up.cluster.clone()).map(Found::Text)
            }
            "UPSTREAM_CLUSTER_RAW" => up.cluster.clone().map(Found::Text),
            "UPSTREAM_REQUEST_ATTEMPT_COUNT" => Some(Found::Number(up.attempts.into())),
            "UPSTREAM_TRANSPORT_FAILURE_REASON" => some(&up.transport_failure.replace(' ', "_")),
            "UPSTREAM_LOCAL_CLOSE_REASON" => some(&up.local_close_reason),
            "CONNECTION_ID" => Some(Found::Number(down.connection_id)),
            "REQUESTED_SERVER_NAME" => some(&down.requested_server_name),
            "DOWNSTREAM_TRANSPORT_FAILURE_REASON" => some(&down.transport_failure.replace(' ', "_")),
            "ROUTE_NAME" => some(&call.route_name),
            "FILTER_CHAIN_NAME" => some(&call.filter_chain),
            "HOSTNAME" => some(&call.hostname),
            "FILTER_STATE" => self.filter_state(call),
            "DYNAMIC_METADATA" => metadata(&call.metadata, &self.parameters),
            "CLUSTER_METADATA" => metadata(&up.metadata, &self.parameters),
            "METADATA" => match self.parameters.split_once(':')? {
                ("DYNAMIC", rest) => metadata(&call.metadata, rest),
                ("CLUSTER", rest) => metadata(&up.metadata, rest),
                ("ROUTE", rest) => metadata(&call.route_metadata, rest),
                _ => None,
            },
            "ENVIRONMENT" => call.environment.get(&self.parameters).cloned().map(Found::Text),
            "QUERY_PARAM" => query_parameter(call.request.path(), &self.parameters).map(|text| Found::Text(text.to_owned())),
            "PATH" => self.path(call),
            "GRPC_STATUS" => Some(Found::Text(GRPC.get(grpc(call)?).map_or_else(|| "InvalidCode".to_owned(), |name| (*name).to_owned()))),
            "GRPC_STATUS_NUMBER" => Some(Found::Number(grpc(call)? as u64)),
            name => name
                .strip_prefix("DOWNSTREAM_")
                .map_or_else(|| upstream(name.strip_prefix("UPSTREAM_")?, call), |name| downstream(name, &self.parameters, call)),
        }
    }

    /// `NAME` or `NAME?OTHER`.
    fn header<'a>(&self, of: impl Fn(&str) -> Option<&'a str>) -> Option<Found> {
        let (name, other) = self.parameters.split_once('?').map_or((self.parameters.as_str(), None), |(n, o)| (n, Some(o)));
        of(name).or_else(|| of(other?)).map(|text| Found::Text(text.to_owned()))
    }

    fn filter_state(&self, call: &CallRecord) -> Option<Found> {
        let (key, how) = self.parameters.split_once(':').unwrap_or((&self.parameters, "TYPED"));
        let value = call.filter_state.get(key)?;
        Some(Found::Text(if how == "PLAIN" { value.clone() } else { Value::from(value.as_str()).to_string() }))
    }

    fn path(&self, call: &CallRecord) -> Option<Found> {
        let (query, which) = self.parameters.split_once(':').unwrap_or((&self.parameters, ""));
        let (path, original) = (call.request.get(":path"), call.request.get("x-envoy-original-path"));
        let path = match which {
            "PATH" => path,
            "ORIG" => original,
            _ => original.or(path),
        }?;
        Some(Found::Text(if query == "NQ" { without_query(path) } else { path }.to_owned()))
    }
}

fn downstream(name: &str, parameters: &str, call: &CallRecord) -> Option<Found> {
    let down = &call.downstream;
    match name {
        "LOCAL_ADDRESS" => address(down.local),
        "LOCAL_ADDRESS_WITHOUT_PORT" => ip(down.local),
        "LOCAL_PORT" => port(down.local),
        "DIRECT_LOCAL_ADDRESS" => address(down.direct_local),
        "REMOTE_ADDRESS" => address(down.remote),
        "REMOTE_ADDRESS_WITHOUT_PORT" => ip(down.remote),
        "REMOTE_PORT" => port(down.remote),
        "DIRECT_REMOTE_ADDRESS" => address(down.direct_remote),
        "DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => ip(down.direct_remote),
        "DIRECT_REMOTE_PORT" => port(down.direct_remote),
        "PEER_CERT_V_START" => Some(Found::Text(time(down.tls.as_ref()?.peer_valid_from?, parameters))),
        "PEER_CERT_V_END" => Some(Found::Text(time(down.tls.as_ref()?.peer_valid_to?, parameters))),
        name => tls(name, down.tls.as_ref()?),
    }
}

fn upstream(name: &str, call: &CallRecord) -> Option<Found> {
    match name {
        "LOCAL_ADDRESS" => address(call.upstream.local),
        "LOCAL_ADDRESS_WITHOUT_PORT" => ip(call.upstream.local),
        "LOCAL_PORT" => port(call.upstream.local),
        name => tls(name, call.upstream.tls.as_ref()?),
    }
}

fn tls(name: &str, tls: &TlsFacts) -> Option<Found> {
    some(&match name {
        "TLS_CIPHER" => tls.cipher.clone(),
        "TLS_VERSION" => tls.version.clone(),
        "PEER_SUBJECT" => tls.peer_subject.clone(),
        "PEER_ISSUER" => tls.peer_issuer.clone(),
        "PEER_SERIAL" => tls.peer_serial.clone(),
        "PEER_FINGERPRINT_256" => tls.peer_fingerprint_256.clone(),
        "PEER_CERT" => tls.peer_certificate.clone(),
        "PEER_URI_SAN" => tls.peer_uri_sans.join(","),
        "PEER_DNS_SAN" => tls.peer_dns_sans.join(","),
        "PEER_IP_SAN" => tls.peer_ip_sans.join(","),
        "PEER_EMAIL_SAN" => tls.peer_email_sans.join(","),
        "LOCAL_URI_SAN" => tls.local_uri_sans.join(","),
        "LOCAL_DNS_SAN" => tls.local_dns_sans.join(","),
        "LOCAL_SUBJECT" => tls.local_subject.clone(),
        _ => return None,
    })
}

/// `Grpc::Status::WellKnownGrpcStatus` in camel case, by number.
const GRPC: &[&str] = &[
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

fn grpc(call: &CallRecord) -> Option<usize> {
    call.trailers.get("grpc-status").or_else(|| call.response.get("grpc-status"))?.parse().ok()
}

fn some(text: &str) -> Option<Found> {
    (!text.is_empty()).then(|| Found::Text(text.to_owned()))
}

fn millis(time: Option<Duration>) -> Option<Found> {
    time.map(|time| Found::Number(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
}

fn address(address: Option<SocketAddr>) -> Option<Found> {
    address.map(|address| Found::Text(address.to_string()))
}

fn ip(address: Option<SocketAddr>) -> Option<Found> {
    address.map(|address| Found::Text(address.ip().to_string()))
}

fn port(address: Option<SocketAddr>) -> Option<Found> {
    address.map(|address| Found::Number(address.port().into()))
}

fn underscored(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_whitespace() { '_' } else { c }).collect()
}

fn flags(call: &CallRecord, name: fn(super::Flag) -> &'static str) -> String {
    let all: Vec<_> = call.flags.iter().map(name).collect();
    if all.is_empty() { "-".to_owned() } else { all.join(",") }
}

/// `NAMESPACE:KEY:KEY`.
fn metadata(metadata: &std::collections::BTreeMap<String, Value>, parameters: &str) -> Option<Found> {
    let mut keys = parameters.split(':');
    let mut value = metadata.get(keys.next()?)?;
    for key in keys {
        value = value.get(key)?;
    }
    (!value.is_null()).then(|| Found::Json(value.clone()))
}

/// Envoy's `DateFormatter`: `strftime`, with `%s`, `%f` and `%Nf` for fractions of a second, and `%E3S`, `%E*S` of Abseil.
fn time(at: jiff::Timestamp, format: &str) -> String {
    let format = if format.is_empty() { "%Y-%m-%dT%H:%M:%E3SZ" } else { format };
    let nanos = format!("{:09}", at.subsec_nanosecond().unsigned_abs());
    let fraction = |digits: usize| nanos.get(..digits.clamp(1, 9)).unwrap_or_default().to_owned();
    let mut out = String::new();
    let mut rest = format;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let mut characters = after.chars();
        let Some(first) = characters.next() else {
            out.push('%');
            return out;
        };
        let second = after.chars().nth(1);
        let digit = |c: char| c.to_digit(10).map(|d| d as usize);
        let taken = match (first, second) {
            ('f', _) => {
                out.push_str(&fraction(9));
                1
            }
            (d, Some('f')) if digit(d).is_some() => {
                out.push_str(&fraction(digit(d).unwrap_or(9)));
                2
            }
            ('s', _) => {
                out.push_str(&at.as_second().to_string());
                1
            }
            ('E', Some(d)) if after.chars().nth(2) == Some('S') && (digit(d).is_some() || d == '*') => {
                out.push_str(&strftime(at, "%S"));
                out.push('.');
                out.push_str(&fraction(digit(d).unwrap_or(9)));
                3
            }
            (other, _) => {
                out.push_str(&strftime(at, &format!("%{other}")));
                other.len_utf8()
            }
        };
        rest = after.get(taken..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

fn strftime(at: jiff::Timestamp, format: &str) -> String {
    jiff::fmt::strtime::format(format, &at.to_zoned(jiff::tz::TimeZone::UTC)).unwrap_or_else(|_| format.to_owned())
}
