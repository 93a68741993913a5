//! What is collected, made fit to be kept: without secrets, of bounded size, in an order for people.

use std::sync::LazyLock;

use gateproof_core::outcome::redact;
use jiff::Timestamp;
use regex::Regex;
use serde_json::Value;

/// Stands where something was taken out.
const GONE: &str = "[redacted]";

/// Names whose text is a secret. `credentialName` and `secretName` are references, and often the cause itself.
static SENSITIVE: LazyLock<Regex> = LazyLock::new(|| {
    let names = "password|passwd|secret|token|credentials?|api[-_]?key|private[-_]?key|authorization|cookie|ca[-_]?bundle|certificates?";
    Regex::new(&format!("(?i)(?:{names})$")).expect("a constant pattern")
});
/// `--token=abc` and `--password abc` among arguments.
static FLAG: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)(--?[a-z0-9-]*(?:password|passwd|secret|token|api-?key|private-?key)(?:=|\s+))([^\s=-][^\s]*)")
        .expect("a constant pattern")
});

/// Takes secrets out of an object or a proxy's configuration by where they stand: the data of a Secret, inline data sources,
/// values under a telling name. What the API server keeps for itself goes too, it repeats the object.
pub(super) fn conceal(value: &mut Value) {
    match value {
        Value::Array(all) => {
            let flag = |v: &Value| v.as_str().is_some_and(|s| s.starts_with('-') && !s.contains('=') && SENSITIVE.is_match(s));
            let follows: Vec<usize> = (1..all.len()).filter(|i| flag(&all[i - 1])).collect();
            for at in follows {
                if all[at].as_str().is_some_and(|s| !s.starts_with('-')) {
                    all[at] = Value::from(GONE);
                }
            }
            all.iter_mut().for_each(conceal);
        }
        Value::Object(map) => {
            if map.get("kind").and_then(Value::as_str) == Some("Secret") {
                for part in ["data", "stringData"] {
                    for held in map.get_mut(part).and_then(Value::as_object_mut).into_iter().flat_map(|m| m.values_mut()) {
                        *held = Value::from("[not written]");
                    }
                }
            }
            map.remove("managedFields");
            if let Some(annotations) = map.get_mut("annotations").and_then(Value::as_object_mut) {
                annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
            }
            // An environment variable, a header.
            let named = ["name", "key"].iter().any(|k| map.get(*k).and_then(Value::as_str).is_some_and(|n| SENSITIVE.is_match(n)));
            for (key, held) in map.iter_mut() {
                let inline = matches!(key.as_str(), "inline_bytes" | "inlineBytes" | "inline_string" | "inlineString");
                if held.is_string() && (inline || SENSITIVE.is_match(key) || (named && matches!(key.as_str(), "value" | "raw_value"))) {
                    *held = Value::from(GONE);
                } else {
                    conceal(held);
                }
            }
        }
        Value::String(text) if FLAG.is_match(text) => *text = FLAG.replace_all(text, "${1}[redacted]").into_owned(),
        _ => {}
    }
}

/// The last look at every text before it is written.
pub(super) fn clean(text: &str) -> String {
    let text = redact(text);
    // Colours and other control characters of a log are for terminals.
    text.chars().filter(|c| *c == '\n' || *c == '\t' || !c.is_control()).collect()
}

/// An object as YAML, without secrets.
pub(super) fn yaml(mut value: Value) -> Result<String, String> {
    conceal(&mut value);
    serde_saphyr::to_string(&value).map_err(|e| e.to_string())
}

/// At most so many bytes, from the end: what is newest stands there.
pub(super) fn newest(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let mut from = text.len() - limit;
    while !text.is_char_boundary(from) {
        from += 1;
    }
    // From the next whole line on, where there is one.
    let from = text[from..].find('\n').map_or(from, |at| from + at + 1);
    format!("… {from} bytes before this are left out\n{}", &text[from..])
}

/// At most so many bytes, from the start.
pub(super) fn first(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let mut to = limit;
    while !text.is_char_boundary(to) {
        to -= 1;
    }
    format!("{}\n… {} bytes after this are left out\n", &text[..to], text.len() - to)
}

/// A folder's or a file's name: lower-case letters, digits and `-`, never empty, at most 60.
pub(super) fn slug(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            out.push(c.to_ascii_lowercase());
        } else if !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
    }
    out.truncate(60);
    let out = out.trim_end_matches('-');
    if out.is_empty() { "state".to_owned() } else { out.to_owned() }
}

/// When an event was last seen.
fn last_seen(event: &Value) -> Option<Timestamp> {
    let places =
        [&event["series"]["lastObservedTime"], &event["lastTimestamp"], &event["eventTime"], &event["metadata"]["creationTimestamp"]];
    places.iter().find_map(|v| v.as_str()?.parse().ok())
}

/// One event in a line, and whether it is a warning.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EventLine {
    pub(super) at: Timestamp,
    pub(super) text: String,
    pub(super) warning: bool,
}

/// Whether an event was seen since then. Kubernetes gives its times in whole seconds (`metav1.Time`), so one of the same second counts.
pub(super) fn is_since(at: Timestamp, since: Timestamp) -> bool {
    at.as_second() >= since.as_second()
}

/// Events seen since then, oldest first, at most so many of the newest.
pub(super) fn events(all: &[Value], since: Timestamp, at_most: usize) -> Vec<EventLine> {
    let mut recent: Vec<(Timestamp, &Value)> =
        all.iter().filter_map(|e| Some((last_seen(e)?, e))).filter(|(t, _)| is_since(*t, since)).collect();
    recent.sort_by_key(|(t, _)| *t);
    let from = recent.len().saturating_sub(at_most);
    let line = |(time, event): &(Timestamp, &Value)| {
        let text = |v: &Value| v.as_str().unwrap_or("-").to_owned();
        let count = event["series"]["count"].as_i64().or_else(|| event["count"].as_i64()).filter(|n| *n > 1);
        let about = &event["involvedObject"];
        let message = text(&event["message"]).split_whitespace().collect::<Vec<_>>().join(" ");
        EventLine {
            at: *time,
            text: format!(
                "{}  {:7}  {}  {} {}: {message}{}",
                time.strftime("%H:%M:%S"),
                text(&event["type"]),
                text(&event["reason"]),
                text(&about["kind"]),
                text(&about["name"]),
                count.map(|n| format!(" (seen {n} times)")).unwrap_or_default()
            ),
            warning: event["type"] == "Warning",
        }
    };
    recent[from..].iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_go_by_where_they_stand() {
        let mut pod = json!({
            "kind": "Pod",
            "metadata": {"managedFields": [{"f": 1}], "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "a": "b"}},
            "spec": {"containers": [{
                "env": [
                    {"name": "DB_PASSWORD", "value": "hunter2"}, {"name": "LEVEL", "value": "debug"},
                    {"name": "API_KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "api"}}},
                ],
                "args": ["--token", "hunter2", "--verbose", "--client-secret=hunter2"],
                "command": ["sh", "-c", "run --password hunter2 --port 80"],
            }]},
        });
        conceal(&mut pod);
        let text = pod.to_string();
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("debug") && text.contains("--verbose") && text.contains("--port 80") && text.contains("\"keys\""), "{text}");
        assert!(!text.contains("managedFields") && !text.contains("last-applied"), "{text}");
    }

    #[test]
    fn a_secret_says_which_keys_it_has_and_nothing_of_them() {
        let mut secret = json!({"kind": "Secret", "type": "kubernetes.io/tls", "data": {"tls.crt": "QUJD", "tls.key": "REVG"}});
        conceal(&mut secret);
        assert_eq!(secret["data"], json!({"tls.crt": "[not written]", "tls.key": "[not written]"}));
    }

    #[test]
    fn references_to_secrets_stay() {
        let mut gateway = json!({"kind": "Gateway", "spec": {"servers": [{"tls": {"credentialName": "httpbin-tls", "mode": "SIMPLE"}}]}});
        let before = gateway.clone();
        conceal(&mut gateway);
        assert_eq!(gateway, before);
    }

    #[test]
    fn a_proxys_inline_data_goes() {
        let mut dump = json!({"secret": {"name": "kubernetes://httpbin-tls", "tls_certificate": {
            "certificate_chain": {"inline_bytes": "QUJD"}, "private_key": {"inline_string": "REVG"}}}});
        conceal(&mut dump);
        let text = dump.to_string();
        assert!(!text.contains("QUJD") && !text.contains("REVG") && text.contains("kubernetes://httpbin-tls"), "{text}");
    }

    #[test]
    fn a_forwarded_certificate_goes() {
        let seen =
            clean("By=spiffe://a;Cert=\"-----BEGIN%20CERTIFICATE-----%0AMIIC%2Bx%0A-----END%20CERTIFICATE-----%0A\";Subject=\"\"\x1b[0m");
        assert_eq!(seen, "By=spiffe://a;Cert=\"[redacted PEM: CERTIFICATE]\";Subject=\"\"[0m");
    }

    #[test]
    fn texts_are_cut_at_the_end_that_matters_less() {
        assert_eq!(newest("one\ntwo\nthree\n", 9), "… 8 bytes before this are left out\nthree\n");
        assert_eq!(first("äbc", 1), "\n… 4 bytes after this are left out\n");
        assert_eq!((newest("a", 5), first("a", 5)), ("a".to_owned(), "a".to_owned()));
    }

    #[test]
    fn slugs_are_names_of_folders() {
        assert_eq!(slug("without the VirtualService (20)"), "without-the-virtualservice-20");
        assert_eq!(slug("../../etc"), "etc");
        assert_eq!(slug("…"), "state");
        assert_eq!(slug(&"x".repeat(90)).len(), 60);
    }

    #[test]
    fn events_are_the_newest_of_the_run_in_order() {
        let event = |time: &str, reason: &str| {
            json!({"lastTimestamp": time, "type": "Warning", "reason": reason, "message": "m\n", "count": 3,
                   "involvedObject": {"kind": "Pod", "name": "p"}})
        };
        let all = [event("2026-11-22T10:00:05Z", "c"), event("2026-11-22T09:00:00Z", "old"), event("2026-11-22T10:00:01Z", "a"), json!({})];
        let lines = events(&all, "2026-11-22T10:00:00Z".parse().unwrap(), 10);
        let texts: Vec<&str> = lines.iter().map(|l| l.text.as_str()).collect();
        assert_eq!(texts, ["10:00:01  Warning  a  Pod p: m (seen 3 times)", "10:00:05  Warning  c  Pod p: m (seen 3 times)"]);
        assert_eq!(events(&all, "2026-11-22T10:00:00Z".parse().unwrap(), 1)[0].text, texts[1]);
        // Events have no fractions of a second: a run that began in theirs has seen them.
        assert_eq!(events(&all, "2026-11-22T10:00:05.7Z".parse().unwrap(), 10).len(), 1);
    }
}
