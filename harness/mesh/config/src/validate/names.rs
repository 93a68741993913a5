//! Names, numbers and durations, and what Istio says of bad ones (Istio: `pkg/config/validation/agent`, `pkg/config/labels`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use super::problems::Problems;
use crate::istio::model::object;

/// A pattern of this file; one that were wrong would match nothing.
fn pattern(text: &str) -> Option<Regex> {
    Regex::new(text).ok()
}

const LABEL: &str = "[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?";
static DNS_LABEL: LazyLock<Option<Regex>> = LazyLock::new(|| pattern(&format!("^{LABEL}$")));
static WILD_LABEL: LazyLock<Option<Regex>> = LazyLock::new(|| pattern(&format!(r"^(\*|(\*|\*-)?{LABEL})$")));
static TAG_VALUE: LazyLock<Option<Regex>> = LazyLock::new(|| pattern("^((?:[A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"));
static TAG_KEY: LazyLock<Option<Regex>> =
    LazyLock::new(|| pattern(&format!(r"^({LABEL}(?:\.{LABEL})*/)?((?:[A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$")));
static HEADER: LazyLock<Option<Regex>> = LazyLock::new(|| pattern(r"^[-_A-Za-z0-9!#$%&'*+.^`|~]+$"));

fn matches(pattern: &Option<Regex>, text: &str) -> bool {
    pattern.as_ref().is_some_and(|pattern| pattern.is_match(text))
}

/// Whether this is a DNS label; Istio takes capitals too.
pub(super) fn is_label(text: &str) -> bool {
    text.len() <= 63 && matches(&DNS_LABEL, text)
}

/// Whether this is the name of an HTTP header.
pub(super) fn is_header(text: &str) -> bool {
    matches(&HEADER, text)
}

pub(super) fn is_ip(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

fn preconditions(name: &str) -> Result<(), String> {
    match name.len() {
        0 => Err("empty domain name not allowed".to_owned()),
        256.. => Err(format!("domain name {name:?} too long (max 255)")),
        _ => Ok(()),
    }
}

fn labels(domain: &str) -> Result<(), String> {
    let parts: Vec<&str> = domain.split('.').collect();
    let top = parts.last().copied().unwrap_or_default();
    if top.parse::<i64>().is_ok() {
        return Err(format!("domain name {domain:?} invalid (top level domain {top:?} cannot be all-numeric)"));
    }
    // The last part may be empty: a name with a dot at its end.
    let checked = if top.is_empty() { parts.get(..parts.len() - 1).unwrap_or_default() } else { &parts };
    match checked.iter().find(|label| !is_label(label)) {
        Some(label) => Err(format!("domain name {domain:?} invalid (label {label:?} invalid)")),
        None => Ok(()),
    }
}

/// A full domain name.
pub(super) fn fqdn(name: &str) -> Result<(), String> {
    preconditions(name)?;
    labels(name)
}

/// A domain name whose first label may be or begin with a wildcard.
pub(super) fn wildcard_domain(name: &str) -> Result<(), String> {
    preconditions(name)?;
    let (first, rest) = name.split_once('.').map_or((name, None), |(first, rest)| (first, Some(rest)));
    if !(first.len() <= 63 && matches(&WILD_LABEL, first)) {
        return Err(format!("domain name {name:?} invalid (label {first:?} invalid)"));
    }
    rest.map_or(Ok(()), labels)
}

/// The same for a VirtualService of a gateway, which may also name what sidecars send as SNI.
pub(super) fn gateway_domain(has_sni: bool, name: &str) -> Result<(), String> {
    preconditions(name)?;
    if !(has_sni && name.starts_with("outbound_")) {
        return wildcard_domain(name);
    }
    let format = "outbound_.<port>_.<subset>_.<hostname>";
    let parts: Vec<&str> = name.split('_').collect();
    let (port, host) = match parts.as_slice() {
        [_, port, _, host, ..] => (port.trim_matches('.'), host.trim_matches('.')),
        _ => return Err(format!("domain name {name} invalid, should follow '{format}' format")),
    };
    let bad = |part: &str| Err(format!("domain name {name:?} invalid (label {part:?} invalid). should follow {format} format"));
    if !port.contains(|letter: char| letter.is_ascii_digit()) {
        return bad(port);
    }
    if !host.contains(|letter: char| letter.is_ascii_alphabetic()) {
        return bad(host);
    }
    Ok(())
}

/// A wildcard is a whole label.
pub(super) fn partial_wildcard(host: &str) -> Result<(), String> {
    match host.contains('*') && host.len() != 1 && !host.starts_with("*.") {
        true => Err(format!("partial wildcard {host:?} not allowed")),
        false => Ok(()),
    }
}

/// `NAMESPACE/HOST` of a Sidecar, or that or `HOST` of a Gateway.
pub(super) fn namespaced_host(host: &str, is_gateway: bool) -> Problems {
    let mut problems = Problems::new();
    let Some((namespace, name)) = host.split_once('/') else {
        if is_gateway {
            return host_part(host, true);
        }
        problems.error("host must be of form namespace/dnsName");
        return problems;
    };
    problems.error_if(namespace.is_empty() || name.is_empty(), "config namespace and dnsName in host entry cannot be empty");
    if is_gateway {
        if !matches!(namespace, "*" | ".") && !is_label(namespace) {
            problems.error(format!("invalid namespace value {namespace:?} in gateway"));
        }
    } else {
        let bare = namespace.strip_prefix('~').unwrap_or(namespace);
        if !matches!(bare, "" | "*" | ".") && !is_label(bare) {
            problems.error(format!("invalid namespace value {namespace:?} in sidecar"));
        }
    }
    problems.extend(host_part(name, is_gateway));
    problems
}

fn host_part(host: &str, is_gateway: bool) -> Problems {
    let mut problems = Problems::new();
    problems.error_if(host != "*" && !host.contains('.'), "short names (non FQDN) are not allowed");
    if let Err(error) = wildcard_domain(host) {
        // A Sidecar's host is told twice.
        if !is_gateway {
            problems.error(error.clone());
        }
        if !is_ip(host) {
            problems.error(error);
        }
    }
    problems.check(partial_wildcard(host));
    problems
}

pub(super) fn port(number: i64) -> Result<(), String> {
    if (1..=65535).contains(&number) { Ok(()) } else { Err(format!("port number {number} must be in the range 1..65535")) }
}

/// The number at a pointer, zero if there is none.
pub(super) fn number(value: &Value, pointer: &str) -> i64 {
    value.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

pub(super) fn ip(text: &str) -> Result<(), String> {
    if is_ip(text) { Ok(()) } else { Err(format!("{text} is not a valid IP")) }
}

pub(super) fn subnet(text: &str) -> Result<(), String> {
    if text.matches('/').count() != 1 {
        return ip(text);
    }
    if text.parse::<ipnet::IpNet>().is_ok() { Ok(()) } else { Err(format!("{text} is not a valid CIDR block")) }
}

/// Labels as selectors and subsets name them.
pub(super) fn tags(value: Option<&Value>) -> Problems {
    let mut problems = Problems::new();
    for (key, value) in value.map(object::text_map).unwrap_or_default() {
        if !matches(&TAG_KEY, &key) {
            problems.error(format!("invalid tag key: {key:?}"));
        }
        if !matches(&TAG_VALUE, &value) {
            problems.error(format!("invalid tag value: {value:?}"));
        }
    }
    problems
}

pub(super) fn port_name(name: &str) -> Result<(), String> {
    if is_label(name) { Ok(()) } else { Err(format!("invalid port name: {name}")) }
}

/// What a protocol's name means to Istio (`pkg/config/protocol`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoken {
    Http,
    Tls,
    Tcp,
    Udp,
    Unknown,
}

pub(crate) fn spoken(protocol: &str) -> Spoken {
    match protocol.to_ascii_lowercase().as_str() {
        "http" | "http2" | "grpc" | "grpc-web" | "http_proxy" | "hbone" => Spoken::Http,
        "https" | "tls" => Spoken::Tls,
        "tcp" | "mongo" | "redis" | "mysql" => Spoken::Tcp,
        "udp" => Spoken::Udp,
        _ => Spoken::Unknown,
    }
}

pub(super) fn protocol(name: &str) -> Result<(), String> {
    if name.is_empty() || spoken(name) != Spoken::Unknown { Ok(()) } else { Err(format!("unsupported protocol: {name}")) }
}

/// A duration in nanoseconds, in Go's form (`1h2m3.5s`, `100ms`).
pub(super) fn nanoseconds(text: &str) -> Option<i128> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0_i128;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !(letter.is_ascii_digit() || letter == '.'))?;
        let (number, unit_on) = rest.split_at(end);
        let unit_end = unit_on.find(|letter: char| letter.is_ascii_digit() || letter == '.').unwrap_or(unit_on.len());
        let (unit, next) = unit_on.split_at(unit_end);
        let scale: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let mut part = whole.checked_mul(scale)?;
        let mut digit_scale = scale;
        for digit in fraction.chars() {
            digit_scale /= 10;
            part = part.checked_add(i128::from(digit.to_digit(10)?) * digit_scale)?;
        }
        total = total.checked_add(part)?;
        rest = next;
    }
    Some(sign * total)
}

/// The duration at a pointer, if there is one: at least a millisecond and no finer.
pub(super) fn duration(value: &Value, pointer: &str) -> Result<(), String> {
    let Some(length) = value.pointer(pointer).and_then(Value::as_str).and_then(nanoseconds) else {
        return Ok(());
    };
    if length < 1_000_000 {
        return Err("duration must be greater than 1ms".to_owned());
    }
    if length % 1_000_000 != 0 {
        return Err("only durations to ms precision are supported".to_owned());
    }
    Ok(())
}

/// Whether every host that one stands for the other does too, or the other way round (Istio: `host.Name.Matches`).
pub(crate) fn hosts_overlap(one: &str, other: &str) -> bool {
    match (one.strip_prefix('*'), other.strip_prefix('*')) {
        (Some(one), Some(other)) => one.ends_with(other) || other.ends_with(one),
        (Some(one), None) => other.ends_with(one),
        (None, Some(other)) => one.ends_with(other),
        (None, None) => one == other,
    }
}

/// Whether all that `one` stands for, `other` does (Istio: `host.Name.SubsetOf`).
pub(crate) fn host_within(one: &str, other: &str) -> bool {
    match (one.strip_prefix('*'), other.strip_prefix('*')) {
        (Some(one), Some(other)) => one.ends_with(other),
        (Some(_), None) => false,
        (None, Some(other)) => one.ends_with(other),
        (None, None) => one == other,
    }
}

/// Names in `exportTo`.
pub(super) fn export_to(object: &Value, is_service_entry: bool) -> Problems {
    let mut problems = Problems::new();
    let namespace = object::namespace(object);
    let all = object::texts(object, "/spec/exportTo");
    let has_selector = object::text(object, "/kind") == "DestinationRule" && object.pointer("/spec/workloadSelector").is_some();
    let mut seen: Vec<&str> = Vec::new();
    for &word in &all {
        let key = if word == "." { namespace } else { word };
        if seen.contains(&key) {
            match key == word {
                true => problems.error(format!("duplicate entries in exportTo for entry {word}")),
                false => problems.error(format!("duplicate entries in exportTo: . and current namespace {namespace}")),
            }
        } else if matches!(key, "*" | ".") || (key == "~" && is_service_entry) || is_label(key) {
            seen.push(key);
        } else if key == "~" {
            problems.error("exportTo ~ (none) is not allowed for Istio configuration objects");
        } else {
            problems.error("only .,*, or a valid DNS 1123 label is allowed as exportTo entry");
        }
    }
    if has_selector && !seen.is_empty() {
        match (seen.contains(&namespace), seen.len()) {
            (true, 1) => {}
            (true, _) => problems.error("destination rule with workload selector cannot have multiple entries in exportTo"),
            (false, _) => problems.error("destination rule with workload selector cannot have exportTo beyond current namespace"),
        }
    }
    let is_mixed = |word: &str| seen.contains(&word) && all.len() > 1;
    problems.error_if(is_mixed("*"), "cannot have both public (*) and non-public exportTo values for a resource");
    problems.error_if(is_mixed("~"), "cannot export service entry to no one (~) and someone");
    problems
}

/// `selector.matchLabels`, or the `workloadSelector` of a DestinationRule.
pub(super) fn selector(selector: Option<&Value>) -> Problems {
    let mut problems = Problems::new();
    let Some(selector) = selector.filter(|selector| selector.is_object()) else {
        return problems;
    };
    let labels = selector.get("matchLabels").map(object::text_map).unwrap_or_default();
    problems.extend(selector_labels(&labels));
    if labels.is_empty() {
        problems.warn("workload selector specified without labels");
    }
    problems
}

pub(super) fn selector_labels(labels: &BTreeMap<String, String>) -> Problems {
    let mut problems = Problems::new();
    for (key, value) in labels {
        let text = format!("{key}={value}");
        if key.is_empty() {
            problems.error(format!("empty key is not supported in selector: {text:?}"));
        }
        if key.contains('*') || value.contains('*') {
            problems.error(format!("wildcard is not supported in selector: {text:?}"));
        }
    }
    problems
}

/// `workloadSelector` of a kind called `what`: a warning without labels.
///
/// # Errors
///
/// When the labels are bad: that is then all that istiod says of the object.
pub(super) fn workload_selector(spec: &Value, what: &str, problems: &mut Problems) -> Result<(), Problems> {
    let Some(selector) = spec.get("workloadSelector").filter(|selector| selector.is_object()) else { return Ok(()) };
    let labels = selector.get("labels").map(object::text_map).unwrap_or_default();
    let bad = selector_labels(&labels);
    if !bad.errors.is_empty() {
        return Err(bad);
    }
    if labels.is_empty() {
        problems.warn(format!("{what}: workload selector specified without labels, will be applied to all services in namespace"));
    }
    Ok(())
}

/// `targetRef` and `targetRefs`, and that there is but one way of selecting.
pub(super) fn targets(spec: &Value) -> Problems {
    let mut problems = Problems::new();
    let single = spec.get("targetRef").filter(|one| one.is_object());
    let all = object::list(spec, "/targetRefs");
    let ways = [spec.get("selector").is_some_and(Value::is_object), single.is_some(), !all.is_empty()];
    let count = ways.into_iter().filter(|is_set| *is_set).count();
    problems.error_if(count > 1, "only one of targetRefs or workloadSelector can be set");
    for target in single.into_iter().chain(all) {
        problems.error_if(object::text(target, "/name").is_empty(), "targetRef name must be set");
        let is_foreign = !object::text(target, "/namespace").is_empty();
        problems.error_if(is_foreign, "targetRef namespace must not be set; cross namespace referencing is not supported");
        let (group, kind) = (object::text(target, "/group"), object::text(target, "/kind"));
        let known = [
            ("core", "Service"),
            ("networking.istio.io", "ServiceEntry"),
            ("gateway.networking.k8s.io", "Gateway"),
            ("gateway.networking.k8s.io", "GatewayClass"),
        ];
        let canonical = if group.is_empty() { "core" } else { group };
        if !known.contains(&(canonical, kind)) {
            let allowed = "[core/v1/Service networking.istio.io/v1/ServiceEntry gateway.networking.k8s.io/v1/Gateway \
                           gateway.networking.k8s.io/v1/GatewayClass]";
            problems.error(format!("targetRef must be to one of {allowed} but was {group}/{kind}"));
        }
    }
    problems
}

/// What Go says of a pattern that Envoy could not read.
pub(super) fn regular_expression(text: &str, place: &str) -> Result<(), String> {
    if text.len() > 1024 {
        return Err(format!("{place:?}: regex is too large, max length allowed is 1024"));
    }
    let Err(error) = Regex::new(text) else {
        return Ok(());
    };
    let error = error.to_string();
    let tail = |at: char| text.rfind(at).and_then(|index| text.get(index..)).unwrap_or(text).to_owned();
    let reason = if error.contains("unclosed character class") {
        format!("missing closing ]: `{}`", tail('['))
    } else if error.contains("unclosed group") {
        format!("missing closing ): `{text}`")
    } else if error.contains("unopened group") {
        format!("unexpected ): `{text}`")
    } else if error.contains("repetition operator missing expression") {
        format!("missing argument to repetition operator: `{}`", text.chars().find(|letter| "*+?".contains(*letter)).unwrap_or('*'))
    } else {
        format!("invalid pattern: `{text}`")
    };
    let hint = "Istio uses RE2 style regex-based match (https://github.com/google/re2/wiki/Syntax)";
    Err(format!("{place:?}: error parsing regexp: {reason}; {hint}"))
}
