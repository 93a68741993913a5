//! The JWT filter.

use std::collections::BTreeMap;
use std::time::Duration;

use super::common::{data_source, headers, string};
use super::json::{Message, Read, constraint};
use super::route;
use crate::envoy::jwt::{JwksSource, JwtAuthn, Provider, Requirement, Rule};
use crate::envoy::refusal::Refusal;
use crate::envoy::tls::DataSource;

pub(super) fn filter(config: Message<'_>) -> Read<JwtAuthn> {
    let mut providers = BTreeMap::new();
    for (name, value) in config.entries("providers")? {
        providers.insert(name.to_owned(), provider(name, Message::of(value, name)?)?);
    }
    let known = |wanted: &Requirement| -> Read<()> { check(wanted, &providers) };
    let mut requirement_map = BTreeMap::new();
    for (name, value) in config.entries("requirement_map")? {
        let requirement = requirement(Message::of(value, name)?, 0)?;
        known(&requirement)?;
        requirement_map.insert(name.to_owned(), requirement);
    }
    let mut rules = Vec::new();
    for message in config.messages("rules")? {
        let matches = message.part("match")?;
        let requires = match (message.message("requires")?, message.some_text("requirement_name")?) {
            (Some(inner), _)
                if inner.has("provider_name")
                    || inner.has("provider_and_audiences")
                    || inner.has("requires_any")
                    || inner.has("requires_all")
                    || inner.has("allow_missing_or_failed")
                    || inner.has("allow_missing") =>
            {
                Some(requirement(inner, 0)?)
            }
            (None, Some(name)) => Some(requirement_map.get(name).cloned().ok_or_else(|| {
                Refusal::rejected(format!(
                    "Wrong requirement_name: {name}. It should be one of [{}]",
                    requirement_map.keys().cloned().collect::<Vec<_>>().join(",")
                ))
            })?),
            _ => None,
        };
        requires.as_ref().map(known).transpose()?;
        rules.push(Rule { path: route::path(matches)?, headers: headers(matches, "headers")?, requires });
    }
    Ok(JwtAuthn { providers, rules, requirement_map, bypass_cors_preflight: config.flag("bypass_cors_preflight", false)? })
}

/// A requirement names providers of the filter (`Verifier::create`).
fn check(requirement: &Requirement, providers: &BTreeMap<String, Provider>) -> Read<()> {
    match requirement {
        Requirement::Provider(name) | Requirement::ProviderAndAudiences(name, _) if !providers.contains_key(name) => {
            Err(Refusal::rejected(format!("Required provider ['{name}'] is not configured.")))
        }
        Requirement::Any(list) | Requirement::All(list) => list.iter().try_for_each(|inner| check(inner, providers)),
        _ => Ok(()),
    }
}

fn provider(name: &str, message: Message<'_>) -> Read<Provider> {
    let jwks = if let Some(remote) = message.message("remote_jwks")? {
        let uri = remote.part("http_uri")?;
        JwksSource::Remote {
            uri: uri.text("uri")?.to_owned(),
            cluster: uri.text("cluster")?.to_owned(),
            timeout: uri.duration("timeout")?.unwrap_or(Duration::from_secs(5)),
        }
    } else if let Some(local) = message.message("local_jwks")? {
        match data_source(local)? {
            DataSource::Inline(text) => JwksSource::Inline(text),
            DataSource::File(_) => return Err(Refusal::unsupported("JWKS in a file")),
        }
    } else {
        return Err(constraint("JwtProvider.JwksSourceSpecifier: is required"));
    };
    let pairs = |field: &str, first: &str, second: &str| -> Read<Vec<(String, String)>> {
        message.messages(field)?.into_iter().map(|pair| Ok((pair.text(first)?.to_owned(), pair.text(second)?.to_owned()))).collect()
    };
    let mut provider = Provider {
        name: name.to_owned(),
        issuer: message.text("issuer")?.to_owned(),
        audiences: message.texts("audiences")?,
        subject: message.message("subjects")?.map(string).transpose()?,
        jwks,
        forward: message.flag("forward", false)?,
        forward_payload_header: message.text("forward_payload_header")?.to_owned(),
        from_headers: pairs("from_headers", "name", "value_prefix")?,
        from_params: message.texts("from_params")?,
        from_cookies: message.texts("from_cookies")?,
        payload_in_metadata: message.text("payload_in_metadata")?.to_owned(),
        header_in_metadata: message.text("header_in_metadata")?.to_owned(),
        space_delimited_claims: message.part("normalize_payload_in_metadata")?.texts("space_delimited_claims")?,
        clock_skew: Duration::from_secs(message.number("clock_skew_seconds")?.filter(|skew: &u64| *skew > 0).unwrap_or(60)),
        claim_to_headers: pairs("claim_to_headers", "header_name", "claim_name")?,
    };
    // `Extractor::create`: where no place is named, these two are looked at.
    if provider.from_headers.is_empty() && provider.from_params.is_empty() && provider.from_cookies.is_empty() {
        provider.from_headers.push(("authorization".to_owned(), "Bearer ".to_owned()));
        provider.from_params.push("access_token".to_owned());
    }
    Ok(provider)
}

fn requirement(message: Message<'_>, depth: usize) -> Read<Requirement> {
    if depth > 32 {
        return Err(Refusal::rejected("JWT requirement: too deep"));
    }
    let list =
        |inner: Message<'_>| -> Read<Vec<_>> { inner.messages("requirements")?.into_iter().map(|r| requirement(r, depth + 1)).collect() };
    if let Some(name) = message.some_text("provider_name")? {
        return Ok(Requirement::Provider(name.to_owned()));
    }
    if let Some(inner) = message.message("provider_and_audiences")? {
        return Ok(Requirement::ProviderAndAudiences(inner.text("provider_name")?.to_owned(), inner.texts("audiences")?));
    }
    if let Some(inner) = message.message("requires_any")? {
        return Ok(Requirement::Any(list(inner)?));
    }
    if let Some(inner) = message.message("requires_all")? {
        return Ok(Requirement::All(list(inner)?));
    }
    if message.has("allow_missing_or_failed") {
        return Ok(Requirement::AllowMissingOrFailed);
    }
    if message.has("allow_missing") {
        return Ok(Requirement::AllowMissing);
    }
    Err(Refusal::unsupported("this JWT requirement"))
}
