//! Access logs.

use super::common::{fraction, header, metadata_matcher};
use super::json::{Message, Read, constraint, unknown_extension};
use crate::envoy::access_log::{AccessLog, Comparison, Flag, Format, LogFilter, LogSink};
use crate::envoy::http_filter::Fraction;
use crate::envoy::refusal::Refusal;

/// Envoy's own format, where none is given (`SubstitutionFormatUtils::defaultSubstitutionFormatter`).
const DEFAULT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% \
%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \
\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n";

pub(super) fn logs(message: Message<'_>) -> Read<Vec<AccessLog>> {
    message.messages("access_log")?.into_iter().map(log).collect()
}

fn log(message: Message<'_>) -> Read<AccessLog> {
    let name = message.text("name")?;
    let Some((url, config)) = message.any("typed_config")? else { return Err(unknown_extension(name, "")) };
    let Some(kind) = url.strip_prefix("envoy.extensions.access_loggers.") else { return Err(unknown_extension(name, url)) };
    let sink = match kind {
        "file.v3.FileAccessLog" => {
            let path = config.text("path")?;
            if path.is_empty() {
                return Err(constraint("FileAccessLog.Path: value length must be at least 1 characters"));
            }
            LogSink::File(path.to_owned())
        }
        "stream.v3.StdoutAccessLog" => LogSink::Stdout,
        "stream.v3.StderrAccessLog" => LogSink::Stderr,
        _ => LogSink::Ignored(name.to_owned()),
    };
    let format = if matches!(sink, LogSink::Ignored(_)) { Format::parse("")? } else { format(config)? };
    Ok(AccessLog { filter: message.message("filter")?.map(|f| filter(f, 0)).transpose()?, sink, format })
}

fn format(config: Message<'_>) -> Read<Format> {
    if let Some(text) = config.some_text("format")?.filter(|text| !text.is_empty()) {
        return Format::parse(text);
    }
    if let Some(json) = config.get("json_format").or(config.get("typed_json_format")) {
        return Format::parse_json(json);
    }
    let Some(format) = config.message("log_format")? else { return Format::parse(DEFAULT) };
    if let Some(json) = format.get("json_format") {
        return Format::parse_json(json);
    }
    let text = match format.message("text_format_source")? {
        Some(source) => source.some_text("inline_string")?.ok_or_else(|| Refusal::unsupported("a log format from a file"))?,
        None => format.text("text_format")?,
    };
    let read = Format::parse(text)?;
    Ok(if format.flag("omit_empty_values", false)? { read.omitting_empty() } else { read })
}

fn comparison(message: Message<'_>) -> Read<(Comparison, u64)> {
    let comparison = message.part("comparison")?;
    let op = match comparison.text("op")? {
        "" | "EQ" => Comparison::Eq,
        "GE" => Comparison::Ge,
        "LE" => Comparison::Le,
        "NE" => Comparison::Ne,
        other => return Err(Refusal::rejected(format!("INVALID_ARGUMENT: op: {other}"))),
    };
    Ok((op, comparison.part("value")?.number("default_value")?.unwrap_or_default()))
}

fn filter(message: Message<'_>, depth: usize) -> Read<LogFilter> {
    if depth > 32 {
        return Err(Refusal::rejected("access log filter: too deep"));
    }
    let list = |inner: Message<'_>| -> Read<Vec<_>> { inner.messages("filters")?.into_iter().map(|f| filter(f, depth + 1)).collect() };
    if let Some(inner) = message.message("response_flag_filter")? {
        let named =
            |short: &String| Flag::from_short(short).ok_or_else(|| constraint("ResponseFlagFilter.Flags[0]: value must be in list"));
        return Ok(LogFilter::Flags(inner.texts("flags")?.iter().map(named).collect::<Read<_>>()?));
    }
    if let Some(inner) = message.message("status_code_filter")? {
        let (op, value) = comparison(inner)?;
        return Ok(LogFilter::Status(op, value));
    }
    if let Some(inner) = message.message("duration_filter")? {
        let (op, value) = comparison(inner)?;
        return Ok(LogFilter::Duration(op, value));
    }
    if message.has("not_health_check_filter") {
        return Ok(LogFilter::NotHealthCheck);
    }
    if message.has("traceable_filter") {
        return Ok(LogFilter::Traceable);
    }
    if let Some(inner) = message.message("runtime_filter")? {
        let share = inner.message("percent_sampled")?.map(fraction).transpose()?;
        return Ok(LogFilter::Runtime(share.unwrap_or(Fraction { numerator: 0, denominator: 100 })));
    }
    if let Some(inner) = message.message("and_filter")? {
        return Ok(LogFilter::And(list(inner)?));
    }
    if let Some(inner) = message.message("or_filter")? {
        return Ok(LogFilter::Or(list(inner)?));
    }
    if let Some(inner) = message.message("header_filter")? {
        return Ok(LogFilter::Header(header(inner.part("header")?)?));
    }
    if let Some(inner) = message.message("metadata_filter")? {
        let matcher = inner.message("matcher")?.map(metadata_matcher).transpose()?;
        return Ok(LogFilter::Metadata(matcher, inner.flag("match_if_key_not_found", true)?));
    }
    Err(Refusal::unsupported("this access log filter"))
}
