//! What many messages are made of.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use super::json::{Message, Read, constraint};
use crate::envoy::access_log::Format;
use crate::envoy::address::{Address, Cidr};
use crate::envoy::http_filter::Fraction;
use crate::envoy::matchers::{
    FullRegex, HeaderMatcher, HeaderPattern, MetadataMatcher, QueryMatcher, StringMatcher, StringPattern, Substitution, ValueMatcher,
};
use crate::envoy::network::TokenBucket;
use crate::envoy::refusal::Refusal;
use crate::envoy::route::{AppendAction, HeaderMutation, Mutations};
use crate::envoy::tls::DataSource;

pub(super) fn address(message: Message<'_>) -> Read<Address> {
    if let Some(socket) = message.message("socket_address")? {
        let host = socket.text("address")?;
        let port = socket.number::<u16>("port_value")?.unwrap_or_default();
        if host.is_empty() {
            return Err(constraint("SocketAddress.Address: value length must be at least 1 characters"));
        }
        return Ok(host
            .parse::<IpAddr>()
            .map_or_else(|_| Address::Name(host.to_owned(), port), |ip| Address::Ip(SocketAddr::new(ip, port))));
    }
    if let Some(pipe) = message.message("pipe")? {
        return Ok(Address::Pipe(pipe.text("path")?.to_owned()));
    }
    if let Some(internal) = message.message("envoy_internal_address")? {
        return Ok(Address::Internal(internal.text("server_listener_name")?.to_owned()));
    }
    Err(constraint("Address.Address: is required"))
}

pub(super) fn cidr(message: Message<'_>) -> Read<Cidr> {
    let prefix = message.text("address_prefix")?;
    let length = message.number::<u8>("prefix_len")?.unwrap_or_default();
    let malformed = || Refusal::rejected(format!("malformed IP address: {prefix}"));
    let ip: IpAddr = prefix.parse().map_err(|_| malformed())?;
    // Envoy truncates a length that is too great.
    let length = length.min(if ip.is_ipv4() { 32 } else { 128 });
    ipnet::IpNet::new(ip, length).map(|net| Cidr(net.trunc())).map_err(|_| malformed())
}

pub(super) fn cidrs(message: Message<'_>, field: &str) -> Read<Vec<Cidr>> {
    message.messages(field)?.into_iter().map(cidr).collect()
}

pub(super) fn regex(message: Message<'_>) -> Read<FullRegex> {
    let source = message.text("regex")?;
    if source.is_empty() {
        return Err(constraint("RegexMatcher.Regex: value length must be at least 1 characters"));
    }
    FullRegex::new(source)
}

pub(super) fn substitution(message: Message<'_>) -> Read<Substitution> {
    Substitution::new(message.part("pattern")?.text("regex")?, message.text("substitution")?)
}

pub(super) fn string(message: Message<'_>) -> Read<StringMatcher> {
    let own = |text: &str| text.to_owned();
    let pattern = if let Some(text) = message.some_text("exact")? {
        StringPattern::Exact(own(text))
    } else if let Some(text) = message.some_text("prefix")? {
        StringPattern::Prefix(own(text))
    } else if let Some(text) = message.some_text("suffix")? {
        StringPattern::Suffix(own(text))
    } else if let Some(text) = message.some_text("contains")? {
        StringPattern::Contains(own(text))
    } else if let Some(inner) = message.message("safe_regex")? {
        StringPattern::Regex(regex(inner)?)
    } else if message.has("custom") {
        return Err(Refusal::unsupported("a custom string matcher"));
    } else {
        return Err(constraint("StringMatcher.MatchPattern: is required"));
    };
    Ok(StringMatcher { pattern, ignore_case: message.flag("ignore_case", false)? })
}

pub(super) fn strings(message: Message<'_>, field: &str) -> Read<Vec<StringMatcher>> {
    message.messages(field)?.into_iter().map(string).collect()
}

pub(super) fn header(message: Message<'_>) -> Read<HeaderMatcher> {
    let name = message.text("name")?;
    if name.is_empty() {
        return Err(constraint("HeaderMatcher.Name: value length must be at least 1 characters"));
    }
    let plain = |pattern| HeaderPattern::String(StringMatcher { pattern, ignore_case: false });
    let pattern = if let Some(inner) = message.message("string_match")? {
        HeaderPattern::String(string(inner)?)
    } else if let Some(text) = message.some_text("exact_match")? {
        plain(StringPattern::Exact(text.to_owned()))
    } else if let Some(text) = message.some_text("prefix_match")? {
        plain(StringPattern::Prefix(text.to_owned()))
    } else if let Some(text) = message.some_text("suffix_match")? {
        plain(StringPattern::Suffix(text.to_owned()))
    } else if let Some(text) = message.some_text("contains_match")? {
        plain(StringPattern::Contains(text.to_owned()))
    } else if let Some(inner) = message.message("safe_regex_match")? {
        plain(StringPattern::Regex(regex(inner)?))
    } else if let Some(range) = message.message("range_match")? {
        HeaderPattern::Range(range.number("start")?.unwrap_or_default(), range.number("end")?.unwrap_or_default())
    } else {
        HeaderPattern::Present(message.flag("present_match", true)?)
    };
    Ok(HeaderMatcher {
        name: name.to_ascii_lowercase(),
        pattern,
        invert: message.flag("invert_match", false)?,
        treat_missing_as_empty: message.flag("treat_missing_header_as_empty", false)?,
    })
}

pub(super) fn headers(message: Message<'_>, field: &str) -> Read<Vec<HeaderMatcher>> {
    message.messages(field)?.into_iter().map(header).collect()
}

pub(super) fn query(message: Message<'_>) -> Read<QueryMatcher> {
    let pattern = message.message("string_match")?.map(string).transpose()?;
    Ok(QueryMatcher { name: message.text("name")?.to_owned(), pattern: pattern.filter(|_| !message.has("present_match")) })
}

fn value(message: Message<'_>, depth: usize) -> Read<ValueMatcher> {
    if depth > 32 {
        return Err(Refusal::rejected("value matcher: too deep"));
    }
    if message.has("null_match") {
        return Ok(ValueMatcher::Null);
    }
    if let Some(double) = message.message("double_match")? {
        if let Some(range) = double.message("range")? {
            return Ok(ValueMatcher::Range(range.float("start")?.unwrap_or_default(), range.float("end")?.unwrap_or_default()));
        }
        return Ok(ValueMatcher::Number(double.float("exact")?.unwrap_or_default()));
    }
    if let Some(inner) = message.message("string_match")? {
        return Ok(ValueMatcher::String(string(inner)?));
    }
    if let Some(wanted) = message.some_flag("bool_match")? {
        return Ok(ValueMatcher::Bool(wanted));
    }
    if let Some(wanted) = message.some_flag("present_match")? {
        return Ok(ValueMatcher::Present(wanted));
    }
    if let Some(list) = message.message("list_match")? {
        return Ok(ValueMatcher::OneOf(Box::new(value(list.part("one_of")?, depth + 1)?)));
    }
    if let Some(or) = message.message("or_match")? {
        let matchers = or.messages("value_matchers")?;
        return Ok(ValueMatcher::Or(matchers.into_iter().map(|m| value(m, depth + 1)).collect::<Read<_>>()?));
    }
    Err(constraint("ValueMatcher.MatchPattern: is required"))
}

pub(super) fn metadata_matcher(message: Message<'_>) -> Read<MetadataMatcher> {
    Ok(MetadataMatcher {
        filter: message.text("filter")?.to_owned(),
        path: message.messages("path")?.into_iter().map(|segment| Ok(segment.text("key")?.to_owned())).collect::<Read<_>>()?,
        value: value(message.part("value")?, 0)?,
        invert: message.flag("invert", false)?,
    })
}

/// `metadata.filter_metadata`.
pub(super) fn metadata(message: Message<'_>) -> Read<BTreeMap<String, Value>> {
    let metadata = message.part("metadata")?;
    Ok(metadata.entries("filter_metadata")?.into_iter().map(|(name, value)| (name.to_owned(), value.clone())).collect())
}

pub(super) fn fraction(message: Message<'_>) -> Read<Fraction> {
    let denominator = match message.text("denominator")? {
        "" | "HUNDRED" => 100,
        "TEN_THOUSAND" => 10_000,
        "MILLION" => 1_000_000,
        other => return Err(Refusal::rejected(format!("INVALID_ARGUMENT: denominator: {other}"))),
    };
    Ok(Fraction { numerator: message.number("numerator")?.unwrap_or_default(), denominator })
}

/// `RuntimeFractionalPercent`: its default, since nothing sets runtime keys.
pub(super) fn runtime_fraction(message: Message<'_>, field: &str) -> Read<Option<Fraction>> {
    message.message(field)?.map(|runtime| fraction(runtime.part("default_value")?)).transpose()
}

pub(super) fn data_source(message: Message<'_>) -> Read<DataSource> {
    if let Some(text) = message.some_text("inline_string")?.or(message.some_text("inline_bytes")?) {
        return Ok(DataSource::Inline(text.to_owned()));
    }
    if let Some(path) = message.some_text("filename")? {
        return Ok(DataSource::File(path.to_owned()));
    }
    Err(Refusal::unsupported("a data source other than inline or file"))
}

pub(super) fn token_bucket(message: Message<'_>) -> Read<TokenBucket> {
    let max_tokens = message.number("max_tokens")?.unwrap_or_default();
    if max_tokens == 0 {
        return Err(constraint("TokenBucket.MaxTokens: value must be greater than 0"));
    }
    let fill_interval = message.duration("fill_interval")?.ok_or_else(|| constraint("TokenBucket.FillInterval: is required"))?;
    if fill_interval.is_zero() {
        return Err(constraint("TokenBucket.FillInterval: value must be greater than 0s"));
    }
    if fill_interval.as_millis() < 50 {
        return Err(Refusal::rejected("local rate limit token bucket fill timer must be >= 50ms"));
    }
    Ok(TokenBucket { max_tokens, tokens_per_fill: message.number("tokens_per_fill")?.unwrap_or(1), fill_interval })
}

pub(super) fn header_mutations(message: Message<'_>, field: &str) -> Read<Vec<HeaderMutation>> {
    message.messages(field)?.into_iter().map(header_mutation).collect()
}

/// Both generations: `append` (default true) and `append_action`.
fn header_mutation(message: Message<'_>) -> Read<HeaderMutation> {
    let header = message.part("header")?;
    let name = header.text("key")?;
    if name.is_empty() {
        return Err(constraint("HeaderValue.Key: value length must be at least 1 characters"));
    }
    if name.starts_with(':') || name.eq_ignore_ascii_case("host") {
        return Err(Refusal::rejected(":-prefixed or host headers may not be modified"));
    }
    let action = match (message.text("append_action")?, message.some_flag("append")?) {
        ("" | "APPEND_IF_EXISTS_OR_ADD", None | Some(true)) => AppendAction::AppendIfExistsOrAdd,
        ("" | "APPEND_IF_EXISTS_OR_ADD", Some(false)) => AppendAction::OverwriteIfExistsOrAdd,
        ("ADD_IF_ABSENT", _) => AppendAction::AddIfAbsent,
        ("OVERWRITE_IF_EXISTS_OR_ADD", _) => AppendAction::OverwriteIfExistsOrAdd,
        ("OVERWRITE_IF_EXISTS", _) => AppendAction::OverwriteIfExists,
        (other, _) => return Err(Refusal::rejected(format!("INVALID_ARGUMENT: append_action: {other}"))),
    };
    let value = Format::parse_value(header.text("value")?)?;
    Ok(HeaderMutation { name: name.to_ascii_lowercase(), value, action, keep_empty: message.flag("keep_empty_value", false)? })
}

fn removals(message: Message<'_>, field: &str) -> Read<Vec<String>> {
    let names = message.texts(field)?;
    // `HeaderParser::configure`: for requests and responses alike.
    if names.iter().any(|name| name.starts_with(':') || name.eq_ignore_ascii_case("host")) {
        return Err(Refusal::rejected(":-prefixed or host headers may not be removed"));
    }
    Ok(names)
}

pub(super) fn mutations(message: Message<'_>) -> Read<Mutations> {
    Ok(Mutations {
        request_add: header_mutations(message, "request_headers_to_add")?,
        request_remove: removals(message, "request_headers_to_remove")?,
        response_add: header_mutations(message, "response_headers_to_add")?,
        response_remove: removals(message, "response_headers_to_remove")?,
    })
}
