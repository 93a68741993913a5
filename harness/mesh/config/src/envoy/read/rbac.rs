//! Role-based access control.

use super::common::{cidr, header, metadata_matcher, string};
use super::json::{Message, Read, constraint};
use crate::envoy::matchers::StringMatcher;
use crate::envoy::rbac::{Action, Permission, Policy, Principal, Rbac};
use crate::envoy::refusal::Refusal;
use crate::envoy::route::PathMatch;

/// Deeper ones are refused: protobuf's own limit is 100 messages within each other.
const DEPTH: usize = 48;

pub(super) fn rules(message: Message<'_>) -> Read<Rbac> {
    let mut policies = std::collections::BTreeMap::new();
    for (name, value) in message.entries("policies")? {
        let policy = Message::of(value, name)?;
        if policy.has("condition") || policy.has("checked_condition") {
            return Err(Refusal::unsupported("an RBAC condition in CEL"));
        }
        let permissions: Vec<_> = policy.messages("permissions")?.into_iter().map(|p| permission(p, 0)).collect::<Read<_>>()?;
        let principals: Vec<_> = policy.messages("principals")?.into_iter().map(|p| principal(p, 0)).collect::<Read<_>>()?;
        if permissions.is_empty() {
            return Err(constraint("Policy.Permissions: value must contain at least 1 item(s)"));
        }
        if principals.is_empty() {
            return Err(constraint("Policy.Principals: value must contain at least 1 item(s)"));
        }
        policies.insert(name.to_owned(), Policy { permissions, principals });
    }
    let action = match message.text("action")? {
        "" | "ALLOW" => Action::Allow,
        "DENY" => Action::Deny,
        "LOG" => Action::Log,
        other => return Err(Refusal::rejected(format!("INVALID_ARGUMENT: action: {other}"))),
    };
    Ok(Rbac { action, policies })
}

/// A `PathMatcher`.
fn path(message: Message<'_>) -> Read<StringMatcher> {
    string(message.part("path")?)
}

/// `StringMatcher`, or what stands in its place in the older API.
fn number(message: Message<'_>, field: &str) -> Read<u32> {
    Ok(message.number(field)?.unwrap_or_default())
}

fn permission(message: Message<'_>, depth: usize) -> Read<Permission> {
    if depth > DEPTH {
        return Err(Refusal::rejected("permission: too deep"));
    }
    let all = |field: &str| -> Read<Option<Vec<Permission>>> {
        let Some(set) = message.message(field)? else { return Ok(None) };
        Ok(Some(set.messages("rules")?.into_iter().map(|rule| permission(rule, depth + 1)).collect::<Read<_>>()?))
    };
    if let Some(rules) = all("and_rules")? {
        return Ok(Permission::And(rules));
    }
    if let Some(rules) = all("or_rules")? {
        return Ok(Permission::Or(rules));
    }
    if let Some(inner) = message.message("not_rule")? {
        return Ok(Permission::Not(Box::new(permission(inner, depth + 1)?)));
    }
    if message.has("any") {
        return Ok(Permission::Any);
    }
    if let Some(inner) = message.message("header")? {
        return Ok(Permission::Header(header(inner)?));
    }
    if let Some(inner) = message.message("url_path")? {
        return Ok(Permission::UrlPath(path(inner)?));
    }
    if let Some(inner) = message.message("uri_template")? {
        let (_, template) = inner.any("typed_config")?.ok_or_else(|| constraint("TypedExtensionConfig.TypedConfig: is required"))?;
        return Ok(match super::route::template(template.text("path_template")?)? {
            PathMatch::Template(pattern) => Permission::UriTemplate(pattern),
            _ => Permission::Any,
        });
    }
    if let Some(inner) = message.message("destination_ip")? {
        return Ok(Permission::DestinationIp(cidr(inner)?));
    }
    if message.has("destination_port") {
        let port = number(message, "destination_port")?;
        let port = u16::try_from(port).map_err(|_| constraint("Permission.DestinationPort: value must be less than or equal to 65535"))?;
        return Ok(Permission::DestinationPort(port));
    }
    if let Some(range) = message.message("destination_port_range")? {
        let (start, end) = (number(range, "start")?, number(range, "end")?);
        if start >= end {
            return Err(Refusal::rejected(format!("range start {start} cannot be greater or equal than range end {end}")));
        }
        return Ok(Permission::DestinationPortRange(start, end));
    }
    if let Some(inner) = message.message("requested_server_name")? {
        return Ok(Permission::RequestedServerName(string(inner)?));
    }
    if let Some(inner) = message.message("metadata")? {
        return Ok(Permission::Metadata(metadata_matcher(inner)?));
    }
    if let Some(inner) = message.message("sourced_metadata")? {
        return Ok(match inner.text("metadata_source")? {
            "ROUTE" => Permission::RouteMetadata(metadata_matcher(inner.part("metadata_matcher")?)?),
            _ => Permission::Metadata(metadata_matcher(inner.part("metadata_matcher")?)?),
        });
    }
    if message.has("matcher") {
        return Err(Refusal::unsupported("an RBAC permission by an extension"));
    }
    Err(constraint("Permission.Rule: is required"))
}

fn principal(message: Message<'_>, depth: usize) -> Read<Principal> {
    if depth > DEPTH {
        return Err(Refusal::rejected("principal: too deep"));
    }
    let all = |field: &str| -> Read<Option<Vec<Principal>>> {
        let Some(set) = message.message(field)? else { return Ok(None) };
        Ok(Some(set.messages("ids")?.into_iter().map(|id| principal(id, depth + 1)).collect::<Read<_>>()?))
    };
    if let Some(ids) = all("and_ids")? {
        return Ok(Principal::And(ids));
    }
    if let Some(ids) = all("or_ids")? {
        return Ok(Principal::Or(ids));
    }
    if let Some(inner) = message.message("not_id")? {
        return Ok(Principal::Not(Box::new(principal(inner, depth + 1)?)));
    }
    if message.has("any") {
        return Ok(Principal::Any);
    }
    if let Some(inner) = message.message("authenticated")? {
        return Ok(Principal::Authenticated(inner.message("principal_name")?.map(string).transpose()?));
    }
    if let Some(inner) = message.message("source_ip")?.or(message.message("direct_remote_ip")?) {
        return Ok(Principal::DirectRemoteIp(cidr(inner)?));
    }
    if let Some(inner) = message.message("remote_ip")? {
        return Ok(Principal::RemoteIp(cidr(inner)?));
    }
    if let Some(inner) = message.message("header")? {
        return Ok(Principal::Header(header(inner)?));
    }
    if let Some(inner) = message.message("url_path")? {
        return Ok(Principal::UrlPath(path(inner)?));
    }
    if let Some(inner) = message.message("metadata")? {
        return Ok(Principal::Metadata(metadata_matcher(inner)?));
    }
    if let Some(inner) = message.message("sourced_metadata")? {
        return Ok(match inner.text("metadata_source")? {
            "ROUTE" => Principal::RouteMetadata(metadata_matcher(inner.part("metadata_matcher")?)?),
            _ => Principal::Metadata(metadata_matcher(inner.part("metadata_matcher")?)?),
        });
    }
    if let Some(inner) = message.message("filter_state")? {
        return Ok(Principal::FilterState(inner.text("key")?.to_owned(), string(inner.part("string_match")?)?));
    }
    if let Some(inner) = message.message("custom")? {
        return custom(inner);
    }
    Err(constraint("Principal.Identifier: is required"))
}

/// `envoy.rbac.principals.mtls_authenticated`: like `authenticated`, with a certificate that was checked.
fn custom(extension: Message<'_>) -> Read<Principal> {
    match extension.any("typed_config")? {
        Some(("envoy.extensions.rbac.principals.mtls_authenticated.v3.Config", config)) => {
            let matcher = config.message("san_matcher")?.map(|san| string(san.part("matcher")?)).transpose()?;
            Ok(Principal::MtlsAuthenticated(matcher))
        }
        Some(_) => Err(Refusal::unsupported(format!("RBAC principal {}", extension.text("name")?))),
        None => Err(super::json::unknown_extension(extension.text("name")?, "")),
    }
}
