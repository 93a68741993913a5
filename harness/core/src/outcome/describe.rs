//! Short lines for the report's table: what is expected, what was observed.

use serde_json::Value;

use super::text::clip;
use super::{CallSeen, ConfigSeen, HopSeen, Observation};
use crate::scenario::{
    AnalysisExpect, CallExpect, CertificateExpect, ConfigExpect, Connection, Expectation, HopExpect, LogsExpect, TextMatch,
};

/// What is expected, one line for each thing.
#[must_use]
pub fn describe_expectation(e: &Expectation) -> Vec<String> {
    match e {
        Expectation::Call(call) => expected_call(call),
        Expectation::Logs(LogsExpect { contains, lacks }) => {
            let has = contains.iter().map(|t| format!("a log line that {}", describe_text_match(t)));
            has.chain(lacks.iter().map(|t| format!("no log line that {}", describe_text_match(t)))).collect()
        }
        Expectation::Config(ConfigExpect::Absent) => vec!["not in the proxy".to_owned()],
        Expectation::Object(ConfigExpect::Absent) => vec!["no such object".to_owned()],
        Expectation::Config(ConfigExpect::Present { contains, lacks, cel })
        | Expectation::Object(ConfigExpect::Present { contains, lacks, cel }) => {
            let has = contains.iter().map(|v| format!("has {}", json(v)));
            let has = has.chain(lacks.iter().map(|v| format!("lacks {}", json(v))));
            let lines: Vec<String> = has.chain(cel.iter().map(|c| format!("is true: {}", c.source()))).collect();
            let there = if matches!(e, Expectation::Object(_)) { "is there" } else { "is in the proxy" };
            if lines.is_empty() { vec![there.to_owned()] } else { lines }
        }
        Expectation::Analysis(AnalysisExpect::Clean) => vec!["no Error, no Warning".to_owned()],
        Expectation::Analysis(AnalysisExpect::Codes(codes)) => vec![format!("messages {}", codes.join(", "))],
        Expectation::PodsReady { ready, of } => vec![format!("every pod {ready}/{of} ready")],
        Expectation::InSync { workloads } if workloads.is_empty() => vec!["every proxy connected and in sync".to_owned()],
        Expectation::InSync { workloads } => {
            vec![format!("in sync: {}", workloads.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
        }
        Expectation::VersionsAgree => vec!["proxies and istiod of the same version".to_owned()],
        Expectation::Observe { .. } => vec!["whatever it is".to_owned()],
    }
}

fn expected_call(e: &CallExpect) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(e.status.map(|s| format!("status {s}")));
    if !e.connection.is_empty() {
        lines.push(format!("connection {}", e.connection.iter().map(connection_words).collect::<Vec<_>>().join(", or ")));
    }
    lines.extend(e.exit_code.map(|c| format!("exit code {c}")));
    lines.extend(e.stdout.iter().map(|t| format!("output {}", describe_text_match(t))));
    lines.extend(e.stderr.iter().map(|t| format!("error output {}", describe_text_match(t))));
    lines.extend(e.headers.iter().map(|(name, t)| format!("header {name} {}", describe_text_match(t))));
    lines.extend(e.body.iter().map(|t| format!("body {}", describe_text_match(t))));
    if e.run_token {
        lines.push("this run's token comes back".to_owned());
    }
    lines.extend(e.certificate.iter().map(|c| match c {
        CertificateExpect::Secret(secret) => format!("certificate of secret {secret}"),
        CertificateExpect::Outside(host) => format!("certificate of {host} itself"),
    }));
    lines.extend(e.path.iter().map(|h| format!("through {}", describe_hop_wanted(h))));
    lines.extend(e.absent_from.iter().map(|p| format!("not through {p}")));
    lines
}

/// What was observed, one line for each thing that the expectation asks about; of a call also how it ended.
#[must_use]
pub fn describe_observation(o: &Observation, e: &Expectation) -> Vec<String> {
    match (o, e) {
        (Observation::Call(seen), Expectation::Call(expect)) => observed_call(seen, expect),
        (Observation::Call(seen), _) => observed_call(seen, &CallExpect::default()),
        (Observation::Logs { lines }, _) => observed_logs(lines.iter().map(|l| l.text.as_str()), e),
        (Observation::Config { replicas }, _) => match replicas.as_slice() {
            [] => vec!["no replica was read".to_owned()],
            some => some.iter().map(observed_config).collect(),
        },
        (Observation::Object { name, value: None }, _) => vec![format!("no {name}")],
        (Observation::Object { name, value: Some(value) }, _) => observed_object(name, value),
        (Observation::Analysis { messages }, _) if messages.is_empty() => vec!["no message".to_owned()],
        (Observation::Analysis { messages }, _) => {
            messages.iter().map(|m| format!("{} {}: {}", m.level, m.code, clip(&m.text, 160))).collect()
        }
        (Observation::Pods { pods, without_pods }, _) => {
            let seen = pods.iter().map(|p| format!("{} {}/{} {}", p.pod, p.ready, p.of, p.phase));
            seen.chain(without_pods.iter().map(|w| format!("{w} has no pod"))).collect()
        }
        (Observation::ProxyStatus { proxies, unconnected }, _) => {
            let bad: Vec<&str> = proxies.iter().filter(|p| !p.synced).map(|p| p.id.as_str()).collect();
            let mut lines = vec![format!("{} of {} connected proxies in sync", proxies.len() - bad.len(), proxies.len())];
            lines.extend(bad.iter().map(|id| format!("not in sync: {id}")));
            lines.extend(unconnected.iter().map(|id| format!("not connected: {id}")));
            lines
        }
        (Observation::Versions { seen }, _) => seen.iter().map(|v| format!("{} {}", v.who, v.version)).collect(),
    }
}

/// Its conditions, which are what most questions are about; the whole object is among the evidence.
fn observed_object(name: &str, value: &Value) -> Vec<String> {
    let mut lines = vec![format!("{name} is there")];
    let text = |condition: &Value, key: &str| condition.get(key).and_then(Value::as_str).unwrap_or("-").to_owned();
    let mut add = |of: &str, holder: &Value| {
        let conditions = holder.get("conditions").and_then(Value::as_array).into_iter().flatten();
        lines.extend(conditions.map(|c| format!("{of}{} {} ({})", text(c, "type"), text(c, "status"), text(c, "reason"))));
    };
    let status = value.get("status").unwrap_or(&Value::Null);
    add("", status);
    for listener in status.get("listeners").and_then(Value::as_array).into_iter().flatten() {
        add(&format!("listener {}: ", text(listener, "name")), listener);
    }
    for parent in status.get("parents").and_then(Value::as_array).into_iter().flatten() {
        add(&format!("parent {}: ", text(&parent["parentRef"], "name")), parent);
    }
    lines
}

fn observed_call(seen: &CallSeen, expect: &CallExpect) -> Vec<String> {
    let mut lines = Vec::new();
    match seen.status {
        Some(status) => lines.push(format!("status {status}")),
        None if seen.connection.is_some() => lines.push(format!("connection {}", describe_connection(seen))),
        None => {}
    }
    if expect.exit_code.is_some() {
        lines.extend(seen.exit_code.map(|c| format!("exit code {c}")));
    }
    let quoted = |what: &str, text: &Option<String>| match text {
        Some(text) if !text.trim().is_empty() => format!("{what} `{}`", clip(text, 160)),
        _ => format!("{what} empty"),
    };
    if expect.stdout.is_some() {
        lines.push(quoted("output", &seen.stdout));
    }
    if expect.stderr.is_some() {
        lines.push(quoted("error output", &seen.stderr));
    }
    for name in expect.headers.keys() {
        let value = seen.headers.get(&name.to_ascii_lowercase());
        lines.push(value.map_or(format!("no header {name}"), |v| format!("header {name} `{}`", clip(v, 160))));
    }
    if expect.body.is_some() {
        lines.push(quoted("body", &seen.body));
    }
    if expect.run_token {
        let has = |t: &Option<String>| !seen.run_token.is_empty() && t.as_ref().is_some_and(|t| t.contains(&seen.run_token));
        lines.push(if has(&seen.body) || has(&seen.stdout) { "this run's token came back" } else { "without this run's token" }.to_owned());
    }
    if let (Some(_), Some(c)) = (&expect.certificate, &seen.certificate) {
        let whose = seen.known_certificates.iter().find(|(_, sha256)| sha256.eq_ignore_ascii_case(&c.sha256));
        let whose = whose.map_or("of nobody in this run".to_owned(), |(name, _)| format!("of {name}"));
        lines.push(format!("certificate {whose} ({}, sha256 {})", c.subject, clip(&c.sha256, 16)));
    } else if expect.certificate.is_some() {
        lines.push("no certificate".to_owned());
    }
    lines.extend(seen.hops.iter().map(|h| format!("through {}", describe_hop(h))));
    lines.extend(seen.missing_hops.iter().map(|m| format!("no line in the log of {}", m.proxy)));
    for absence in &seen.absences {
        lines.push(match (&absence.shown_by, absence.lines.len()) {
            (Some(by), 0) => format!("not through {} (shown by {})", absence.proxy, clip(by, 120)),
            (None, 0) => format!("whether through {} is not shown", absence.proxy),
            (_, n) => format!("through {} ({n} line(s))", absence.proxy),
        });
    }
    lines
}

fn observed_logs<'a>(lines: impl Iterator<Item = &'a str> + Clone, e: &Expectation) -> Vec<String> {
    let mut shown = vec![format!("{} line(s)", lines.clone().count())];
    if let Expectation::Logs(LogsExpect { contains, lacks }) = e {
        for wanted in contains.iter().chain(lacks) {
            let hit = lines.clone().find(|l| wanted.holds(l));
            shown.extend(hit.map(|l| format!("`{}`", clip(l, 200))));
        }
    }
    shown
}

fn observed_config(replica: &ConfigSeen) -> String {
    match replica.entries.as_slice() {
        [] => format!("{}: not there (of {} names)", replica.pod, replica.all_names.len()),
        entries => format!("{}: {}", replica.pod, entries.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")),
    }
}

fn json(value: &Value) -> String {
    format!("`{}`", clip(&value.to_string(), 160))
}

/// A phrase that fits after "output" or "a line that".
pub(super) fn describe_text_match(t: &TextMatch) -> String {
    match t {
        TextMatch::Equals(text) => format!("is `{}`", clip(text, 160)),
        TextMatch::Contains(text) => format!("has `{}`", clip(text, 160)),
        TextMatch::Matches(text) => format!("matches /{}/", clip(text, 160)),
    }
}

/// How a connection ended, in a word or two.
#[must_use]
pub fn connection_words(c: &Connection) -> String {
    match c {
        Connection::Answered => "answered".to_owned(),
        Connection::Closed => "closed".to_owned(),
        Connection::Reset => "reset".to_owned(),
        Connection::Refused => "refused".to_owned(),
        Connection::Timeout => "timed out".to_owned(),
        Connection::DnsFailure => "not made: the name has no address".to_owned(),
        Connection::TlsAlert(name) => format!("ended by TLS alert `{name}`"),
        Connection::Other(what) => format!("not judged as an ending ({what})"),
        Connection::CertificateRejected => "not made: the caller refused the server's certificate".to_owned(),
    }
}

/// How the call's connection ended, with the caller's own words: `closed (curl 35: …)`.
#[must_use]
pub fn describe_connection(seen: &CallSeen) -> String {
    let Some(connection) = &seen.connection else { return "no connection was observed".to_owned() };
    let words = connection_words(connection);
    let detail = seen.connection_detail.as_deref().map(|d| clip(d, 160)).filter(|d| !d.is_empty());
    match (connection, detail) {
        (Connection::Answered, _) => seen.status.map_or(words.clone(), |s| format!("{words} with status {s}")),
        (_, Some(detail)) => format!("{words} ({detail})"),
        (_, None) => words,
    }
}

/// A line in short: `istio-system/istio-egressgateway: outbound|443||httpbin.org, flags -`.
pub(super) fn describe_hop(h: &HopSeen) -> String {
    let e = &h.entry;
    let mut parts = vec![e.cluster.clone()];
    if e.is_http() {
        parts.push(format!("code {}", e.code));
    }
    parts.push(format!("flags {}", e.flags));
    for (name, value) in [("route", &e.route), ("sni", &e.sni), ("termination", &e.termination)] {
        if value != "-" && !value.is_empty() {
            parts.push(format!("{name} {value}"));
        }
    }
    let cluster = if e.cluster == "-" { parts.remove(0).replace('-', "no cluster") } else { parts.remove(0) };
    format!("{}: {}", h.proxy, [vec![cluster], parts].concat().join(", "))
}

/// A wanted hop, in the same way.
pub(super) fn describe_hop_wanted(h: &HopExpect) -> String {
    let mut parts: Vec<String> = h.cluster.iter().cloned().collect();
    parts.extend(h.request.iter().map(|v| format!("request {v}")));
    parts.extend(h.code.map(|c| format!("code {c}")));
    parts.extend(h.flags.iter().map(|v| format!("flags {v}")));
    parts.extend(h.route.iter().map(|v| format!("route {v}")));
    parts.extend(h.sni.iter().map(|v| format!("sni {v}")));
    parts.extend(h.details.iter().map(|v| format!("details {v}")));
    parts.extend(h.termination.iter().map(|v| format!("termination {v}")));
    if parts.is_empty() { h.proxy.to_string() } else { format!("{}: {}", h.proxy, parts.join(", ")) }
}
