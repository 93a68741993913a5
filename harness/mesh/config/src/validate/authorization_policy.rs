//! What istiod says of an AuthorizationPolicy, and of a PeerAuthentication (Istio: `pkg/config/security`).

use serde_json::Value;

use super::names;
use super::problems::Problems;
use crate::istio::model::object;

/// Fields of a source, by the names under which Istio complains of them.
const SOURCE: [(&str, &str); 14] = [
    ("principals", "Principals"),
    ("requestPrincipals", "RequestPrincipals"),
    ("namespaces", "Namespaces"),
    ("serviceAccounts", "ServiceAccounts"),
    ("trustDomains", "TrustDomains"),
    ("ipBlocks", "IpBlocks"),
    ("remoteIpBlocks", "RemoteIpBlocks"),
    ("notPrincipals", "NotPrincipals"),
    ("notRequestPrincipals", "NotRequestPrincipals"),
    ("notNamespaces", "NotNamespaces"),
    ("notServiceAccounts", "NotServiceAccounts"),
    ("notTrustDomains", "NotTrustDomains"),
    ("notIpBlocks", "NotIpBlocks"),
    ("notRemoteIpBlocks", "NotRemoteIpBlocks"),
];

/// Fields of an operation.
const OPERATION: [(&str, &str); 8] = [
    ("ports", "Ports"),
    ("methods", "Methods"),
    ("paths", "Paths"),
    ("hosts", "Hosts"),
    ("notPorts", "NotPorts"),
    ("notMethods", "NotMethods"),
    ("notPaths", "NotPaths"),
    ("notHosts", "NotHosts"),
];

pub(super) fn check(policy: &Value) -> Problems {
    let mut problems = Problems::new();
    let spec = object::spec(policy);
    let action = match object::text(spec, "/action") {
        "" => "ALLOW",
        action => action,
    };
    problems.errors.extend(names::targets(spec).errors);
    problems.extend(names::selector(spec.get("selector")));
    // An empty list reads as none.
    let has_rules = !object::list(spec, "/rules").is_empty();
    let hint = "is meaningless as it will never be triggered, add an empty rule `{}` if you want it be triggered for every request";
    if action == "CUSTOM" {
        if !has_rules {
            problems.error(format!("CUSTOM action without `rules` {hint}"));
        } else if object::text(spec, "/provider/name").is_empty() {
            problems.error("`provider.name` must not be empty");
        }
        check_custom(spec, &mut problems);
    } else if spec.get("provider").is_some_and(Value::is_object) {
        problems.error(format!("`provider` must not be with non CUSTOM action, found {action}"));
    }
    if action == "DENY" && !has_rules {
        problems.error(format!("DENY action without `rules` {hint}"));
    }
    for (index, rule) in object::list(spec, "/rules").iter().enumerate() {
        check_rule(rule, index, action, &mut problems);
    }
    let prefix = format!("invalid policy {}.{}:", object::name(policy), object::namespace(policy));
    problems.errors = problems.errors.into_iter().map(|error| format!("{prefix} {error}")).collect();
    problems
}

/// Asking a server outside of the mesh is for what only a proxy without mutual TLS can know.
fn check_custom(spec: &Value, problems: &mut Problems) {
    let not_supported = |name: &str| format!("{name} is currently not supported with CUSTOM action");
    for rule in object::list(spec, "/rules") {
        for source in object::list(rule, "/from").iter().filter_map(|from| from.get("source")) {
            for (field, name) in SOURCE.iter().filter(|(field, _)| !field.to_ascii_lowercase().contains("ipblocks")) {
                let is_set = source.get(*field).and_then(Value::as_array).is_some_and(|list| !list.is_empty());
                problems.error_if(is_set, &not_supported(&format!("From.{name}")));
            }
        }
        for when in object::list(rule, "/when") {
            let key = object::text(when, "/key");
            let is_bad = matches!(key, "source.namespace" | "source.serviceAccount" | "source.trustDomain" | "source.principal")
                || key.starts_with("request.auth.");
            problems.error_if(is_bad, &not_supported(key));
        }
    }
}

fn check_rule(rule: &Value, index: usize, action: &str, problems: &mut Problems) {
    let found = format!("found at rule {index}");
    let list = |owner: &Value, field: &str| owner.get(field).and_then(Value::as_array).cloned();
    let (mut has_source, mut has_operation, mut source_on_tcp, mut operation_on_tcp) = (false, false, false, false);
    for from in object::list(rule, "/from") {
        let Some(source) = from.get("source").filter(|source| source.is_object()) else {
            problems.error(format!("`from.source` must not be nil, {found}"));
            continue;
        };
        has_source = true;
        let has = |field: &str| !object::list(source, &format!("/{field}")).is_empty();
        let names_some = ["principals", "notPrincipals", "namespaces", "notNamespaces"].iter().any(|field| has(field));
        let names_accounts = has("serviceAccounts") || has("notServiceAccounts");
        let text = format!("cannot set serviceAccounts with namespaces or principals, {found}");
        problems.error_if(names_some && names_accounts, &text);
        problems.error_if(!SOURCE.iter().any(|(field, _)| has(field)), &format!("`from.source` must not be empty, {found}"));
        for field in ["ipBlocks", "notIpBlocks", "remoteIpBlocks", "notRemoteIpBlocks"] {
            problems.errors.extend(addresses(&object::texts(source, &format!("/{field}"))));
        }
        for (field, name) in SOURCE {
            let values = object::texts(source, &format!("/{field}"));
            problems.check(match name {
                "ServiceAccounts" | "NotServiceAccounts" => service_accounts(name, &values),
                "TrustDomains" | "NotTrustDomains" => trust_domains(name, &values),
                _ => filled(name, &values),
            });
        }
        let on_tcp =
            SOURCE.iter().filter(|(field, _)| !field.to_ascii_lowercase().contains("requestprincipals") && !field.ends_with("rustDomains"));
        source_on_tcp |= on_tcp.into_iter().any(|(field, _)| list(source, field).is_some());
    }
    for to in object::list(rule, "/to") {
        let Some(operation) = to.get("operation").filter(|operation| operation.is_object()) else {
            problems.error(format!("`to.operation` must not be nil, {found}"));
            continue;
        };
        has_operation = true;
        let values = |field: &str| object::texts(operation, &format!("/{field}"));
        let is_bare = OPERATION.iter().all(|(field, _)| values(field).is_empty());
        problems.error_if(is_bare, &format!("`to.operation` must not be empty, {found}"));
        problems.errors.extend(ports(&values("ports")));
        problems.errors.extend(ports(&values("notPorts")));
        for (field, name) in OPERATION {
            problems.check(filled(name, &values(field)));
        }
        problems.check(templates("Paths", &values("paths")));
        problems.check(templates("NotPaths", &values("notPaths")));
        operation_on_tcp |= list(operation, "ports").is_some() || list(operation, "notPorts").is_some();
    }
    for when in object::list(rule, "/when") {
        check_when(when, problems);
    }
    if action == "DENY" && ((has_source && !has_operation && !source_on_tcp) || (has_operation && !operation_on_tcp)) {
        problems.warn(
            "configured AuthorizationPolicy will deny all traffic to TCP ports under its scope due to the use of only HTTP attributes in \
             a DENY rule; it is recommended to explicitly specify the port",
        );
    }
}

fn check_when(when: &Value, problems: &mut Problems) {
    let key = object::text(when, "/key");
    let (values, not_values) = (object::texts(when, "/values"), object::texts(when, "/notValues"));
    if key.is_empty() {
        problems.error("`key` must not be empty");
    } else if values.is_empty() && not_values.is_empty() {
        problems.error(format!("at least one of `values` or `notValues` must be set for key {key}"));
    } else {
        for (name, values) in [("value", values), ("notValue", not_values)] {
            if let Some(error) = attribute(key, &values) {
                problems.error(format!("invalid `{name}` for `key` {key}: {error}"));
            }
        }
    }
}

/// What is wrong with the values of a condition, as one error.
fn attribute(key: &str, values: &[&str]) -> Option<String> {
    if let Err(error) = filled(key, values) {
        return Some(error);
    }
    let listed = |errors: Vec<String>| Problems::error_text(&errors, true);
    let bracketed = || {
        let open = key.find('[').unwrap_or(0);
        let is_good = key.ends_with(']') && open > 0 && open + 2 < key.len();
        (!is_good).then(|| format!("bad key ({key}): should have format a[b]"))
    };
    match key {
        "source.ip" | "remote.ip" | "destination.ip" => listed(addresses(values)),
        "destination.port" => listed(ports(values)),
        "source.serviceAccount" => service_accounts(key, values).err(),
        "source.trustDomain" => wildcards(key, values).err(),
        "source.namespace"
        | "source.principal"
        | "request.auth.principal"
        | "request.auth.audiences"
        | "request.auth.presenter"
        | "connection.sni" => None,
        "destination.namespace" => Some(format!("attribute {key} is replaced by the metadata.namespace")),
        "destination.name" | "destination.user" => Some(format!("deprecated attribute {key}: only supported in v1alpha1")),
        _ if key.starts_with("destination.labels") => Some(format!("attribute {key} is replaced by the workload selector")),
        _ if ["request.headers", "request.auth.claims", "experimental."].iter().any(|start| key.starts_with(start)) => bracketed(),
        _ => Some(format!("unknown attribute: {key}")),
    }
}

fn filled(key: &str, values: &[&str]) -> Result<(), String> {
    if values.contains(&"") { Err(format!("empty value not allowed, found in {key}")) } else { Ok(()) }
}

fn wildcards(key: &str, values: &[&str]) -> Result<(), String> {
    filled(key, values)?;
    for value in values {
        let count = value.matches('*').count();
        if count > 1 {
            return Err(format!("at most one wildcard is allowed, found in {key}: {value:?}"));
        }
        if count == 1 && !value.starts_with('*') && !value.ends_with('*') {
            return Err(format!("wildcard is only allowed at the start or end, found in {key}: {value:?}"));
        }
    }
    Ok(())
}

fn trust_domains(key: &str, values: &[&str]) -> Result<(), String> {
    wildcards(key, values)?;
    match values.iter().find(|value| value.contains('/')) {
        Some(value) => Err(format!("trust domain must not contain '/', found in {key}: {value:?}")),
        None => Ok(()),
    }
}

fn service_accounts(key: &str, values: &[&str]) -> Result<(), String> {
    if values.len() > 16 {
        return Err("may not have more than 16 values".to_owned());
    }
    let format = "expected format 'serviceAccount' or 'namespace/serviceAccount', found";
    for value in values {
        let parts: Vec<&str> = value.split('/').collect();
        match parts.as_slice() {
            [""] => return Err(format!("empty value not allowed, found in {key}")),
            _ if value.contains('*') => return Err(format!("wildcard not allowed, found in {key}")),
            _ if value.len() > 320 => return Err(format!("value cannot exceed 320 characters, found {value:?} in {key}")),
            ["", _] => return Err(format!("{format} empty namespace {value:?} in {key}")),
            [_, ""] => return Err(format!("{format} empty serviceAccount {value:?} in {key}")),
            [_] | [_, _] => {}
            _ => return Err(format!("{format} {value:?} in {key}")),
        }
    }
    Ok(())
}

/// Every address or range that cannot be read.
fn addresses(values: &[&str]) -> Vec<String> {
    let bad = |value: &&str| match value.contains('/') {
        true => names::subnet(value).err().map(|_| format!("bad CIDR range ({value}): {}", bad_prefix(value))),
        false => (!names::is_ip(value)).then(|| format!("bad IP address ({value})")),
    };
    values.iter().filter_map(bad).collect()
}

/// What Go says of a range that it cannot read.
fn bad_prefix(value: &str) -> String {
    let (address, bits) = value.rsplit_once('/').unwrap_or((value, ""));
    let why = if !names::is_ip(address) {
        format!("ParseAddr({address:?}): unable to parse IP")
    } else if bits.is_empty() || !bits.chars().all(|letter| letter.is_ascii_digit()) {
        format!("bad bits after slash: {bits:?}")
    } else {
        "prefix length out of range".to_owned()
    };
    format!("netip.ParsePrefix({value:?}): {why}")
}

fn ports(values: &[&str]) -> Vec<String> {
    let bad = |value: &&str| match value.parse::<u32>() {
        Ok(port) if port <= 65535 => None,
        Ok(_) => Some(format!("bad port ({value}): <nil>")),
        Err(_) => Some(format!("bad port ({value}): strconv.ParseUint: parsing {value:?}: invalid syntax")),
    };
    values.iter().filter_map(bad).collect()
}

/// Templates in paths: `{*}` a segment, `{**}` the rest.
fn templates(key: &str, paths: &[&str]) -> Result<(), String> {
    for path in paths {
        let is_template = path.contains("{*}") || path.contains("{**}");
        let path = path.trim_matches('/');
        let fail = |why: &str| Err(format!("invalid or unsupported path {path}, found in {key}. {why}"));
        let mut has_rest = false;
        for segment in path.split('/') {
            match segment {
                "{*}" | "{**}" if has_rest => return fail("{**} is not the last operator"),
                "{*}" => {}
                "{**}" => has_rest = true,
                _ if segment.contains(['{', '}']) => return fail("Contains '{' or '}' beyond a supported path template"),
                _ if is_template && !segment.chars().all(is_literal) => {
                    return fail(&format!("Contains segment {segment} with invalid string literal"));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// What a segment of a path may hold (RFC 3986, `pchar`).
fn is_literal(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "-._~%!$&'()+,;:@=".contains(letter)
}

/// PeerAuthentication.
pub(super) fn check_peer(policy: &Value) -> Problems {
    let mut problems = Problems::new();
    let spec = object::spec(policy);
    let has_labels = spec.pointer("/selector/matchLabels").and_then(Value::as_object).is_some_and(|labels| !labels.is_empty());
    let ports = spec.get("portLevelMtls").and_then(Value::as_object);
    let has_ports = ports.is_some_and(|ports| !ports.is_empty());
    problems.error_if(has_ports && !has_labels, "mesh/namespace peer authentication cannot have port level mTLS");
    let is_empty = ports.is_some_and(serde_json::Map::is_empty);
    problems.error_if(is_empty, "port level mTLS, if defined, must have at least one element");
    problems.extend(names::selector(spec.get("selector")));
    problems
}
