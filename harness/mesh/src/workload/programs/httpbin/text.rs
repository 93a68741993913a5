//! Small things of HTTP and of Go that httpbin's answers need.

use std::collections::BTreeMap;
use std::time::Duration;

/// Values by name, as in a query or a form.
pub(super) type Values = BTreeMap<String, Vec<String>>;

/// `%41` and `+` undone; what is no valid escape stays as it is.
pub(super) fn unescape(text: &str, plus: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = text.get(at + 1..at + 3).filter(|_| *byte == b'%').and_then(|h| u8::from_str_radix(h, 16).ok());
        match hex {
            Some(value) => {
                out.push(value);
                at += 2;
            }
            None if plus && *byte == b'+' => out.push(b' '),
            None => out.push(*byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// `a=1&b`, decoded.
pub(super) fn values(query: &str) -> Values {
    let mut out = Values::new();
    for pair in query.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        out.entry(unescape(name, true)).or_default().push(unescape(value, true));
    }
    out
}

/// A header's name as Go writes it: `X-Request-Id`.
pub(crate) fn canonical(name: &str) -> String {
    let part = |part: &str| {
        let mut chars = part.chars();
        chars.next().map(|first| first.to_ascii_uppercase().to_string() + chars.as_str()).unwrap_or_default()
    };
    name.split('-').map(part).collect::<Vec<_>>().join("-")
}

/// Seconds, whole or not, or a duration of Go such as `1m30s`, `250ms`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at_checked(digits)?;
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(unit)?;
        let factor = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * factor;
        rest = after;
    }
    Duration::try_from_secs_f64(total).ok().filter(|_| !text.is_empty())
}

/// A part of a `multipart/form-data` body.
pub(super) struct Part {
    pub(super) name: String,
    pub(super) is_file: bool,
    pub(super) content: String,
}

/// The parts of a body (RFC 7578).
pub(super) fn multipart(body: &[u8], content_type: &str) -> Option<Vec<Part>> {
    let boundary = parameter(content_type, "boundary")?;
    let text = String::from_utf8_lossy(body);
    let mut parts = Vec::new();
    let delimiter = format!("--{boundary}");
    for piece in text.split(delimiter.as_str()).skip(1) {
        if piece.starts_with("--") {
            break;
        }
        let (head, content) = piece.split_once("\r\n\r\n")?;
        let content = content.strip_suffix("\r\n").unwrap_or(content);
        let disposition = head.lines().find(|l| l.to_ascii_lowercase().starts_with("content-disposition:"))?;
        let is_file = parameter(disposition, "filename").is_some();
        parts.push(Part { name: parameter(disposition, "name")?, is_file, content: content.to_owned() });
    }
    Some(parts)
}

/// `x` of `…; name="x"`.
fn parameter(header: &str, name: &str) -> Option<String> {
    header.split(';').skip(1).find_map(|part| {
        let (key, value) = part.trim().split_once('=')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"').to_owned())
    })
}

/// A status' reason phrase, as Go's `http.StatusText`.
pub(super) fn reason(code: u16) -> &'static str {
    hyper::StatusCode::from_u16(code).ok().and_then(|c| c.canonical_reason()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let found = values("a=1&a=x%20y+z&b&c=%zz");
        assert_eq!(found["a"], ["1", "x y z"]);
        assert_eq!((found["b"].as_slice(), found["c"].as_slice()), (["".to_owned()].as_slice(), ["%zz".to_owned()].as_slice()));
    }

    #[test]
    fn durations_are_seconds_or_gos() {
        assert_eq!(duration("1.5"), Some(Duration::from_millis(1500)));
        assert_eq!(duration("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(duration("10ms"), Some(Duration::from_millis(10)));
        assert_eq!((duration("x"), duration("-1"), duration("")), (None, None, None));
    }

    #[test]
    fn forms_with_parts_are_read() {
        let body = b"--X\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nb\r\n--X\r\nContent-Disposition: form-data; name=\"f\"; filename=\"n\"\r\n\r\nc\r\n--X--\r\n";
        let parts = multipart(body, "multipart/form-data; boundary=X").unwrap();
        assert_eq!(
            parts.iter().map(|p| (p.name.as_str(), p.is_file, p.content.as_str())).collect::<Vec<_>>(),
            [("a", false, "b"), ("f", true, "c")]
        );
    }
}
