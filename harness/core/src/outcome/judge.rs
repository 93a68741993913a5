//! The verdict: every way in which what came back is not what was wanted.

use regex::Regex;
use serde_json::Value;

use super::describe::{describe_connection, describe_text_match};
use super::json_match::{self, PathMismatch};
use super::judge_path::{judge_absences, judge_path};
use super::text::{clip, similar_names};
use super::{AnalysisMessage, CallSeen, ConfigSeen, EvidenceKind, LogLine, Mismatch, Observation, PodSeen, ProxySeen, VersionSeen};
use crate::expression::CelExpression;
use crate::names::Namespaced;
use crate::scenario::{
    AnalysisExpect, CallExpect, CertificateExpect, Check, ConfigExpect, Connection, Expectation, LogsExpect, Probe, TextMatch,
};

/// Every mismatch between what was wanted and what was seen; empty when all is as wanted.
#[must_use]
pub fn judge(expect: &Expectation, seen: &Observation) -> Vec<Mismatch> {
    judge_named(expect, seen, None)
}

/// As [`judge`], knowing the question: a name that is not in a proxy's configuration is answered with similar ones.
#[must_use]
pub fn judge_check(check: &Check, seen: &Observation) -> Vec<Mismatch> {
    let asked = match &check.probe {
        Probe::ProxyConfig(probe) => Some(probe.name.as_str()),
        _ => None,
    };
    judge_named(&check.expect, seen, asked)
}

fn judge_named(expect: &Expectation, seen: &Observation, asked: Option<&str>) -> Vec<Mismatch> {
    let mut out = Vec::new();
    match (expect, seen) {
        (Expectation::Call(expect), Observation::Call(seen)) => call(expect, seen, &mut out),
        (Expectation::Logs(expect), Observation::Logs { lines }) => logs(expect, lines, &mut out),
        (Expectation::Config(expect), Observation::Config { replicas }) => config(expect, replicas, asked, &mut out),
        (Expectation::Object(expect), Observation::Object { name, value }) => object(expect, name, value.as_ref(), &mut out),
        (Expectation::Analysis(expect), Observation::Analysis { messages }) => analysis(expect, messages, &mut out),
        (Expectation::PodsReady { ready, of }, Observation::Pods { pods, without_pods }) => {
            pods_ready(*ready, *of, pods, without_pods, &mut out)
        }
        (Expectation::InSync { workloads }, Observation::ProxyStatus { proxies, unconnected }) => {
            in_sync(workloads, proxies, unconnected, &mut out)
        }
        (Expectation::VersionsAgree, Observation::Versions { seen }) => versions(seen, &mut out),
        (Expectation::Observe { .. }, Observation::Call(_)) => {}
        _ => out.push(of(EvidenceKind::State, "kind", "an answer that fits the question", "an answer of another kind")),
    }
    out
}

fn of(by: EvidenceKind, what: impl Into<String>, expected: impl Into<String>, observed: impl Into<String>) -> Mismatch {
    Mismatch { what: what.into(), expected: expected.into(), observed: observed.into(), by }
}

fn call(expect: &CallExpect, seen: &CallSeen, out: &mut Vec<Mismatch>) {
    let traffic = |what: &str, expected: String, observed: String| of(EvidenceKind::Traffic, what, expected, observed);
    let no_answer = || format!("no response: {}", describe_connection(seen));
    for (what, wanted, text) in [("stdout", &expect.stdout, &seen.stdout), ("stderr", &expect.stderr, &seen.stderr)] {
        if let Some(wanted) = wanted {
            out.extend(text_mismatch(wanted, text.as_deref()).map(|(e, o)| traffic(what, e, o)));
        }
    }
    if let Some(code) = expect.exit_code.filter(|c| seen.exit_code != Some(*c)) {
        let observed = seen.exit_code.map_or("no exit code".to_owned(), |c| format!("{c}{}", said(seen)));
        out.push(traffic("exitCode", code.to_string(), observed));
    }
    if let Some(status) = expect.status.filter(|s| seen.status != Some(*s)) {
        out.push(traffic("status", status.to_string(), seen.status.map_or_else(no_answer, |s| s.to_string())));
    }
    // A status whose response broke off afterwards is not the answer that was wanted.
    let broke_off = seen.connection.as_ref().is_some_and(|c| *c != Connection::Answered);
    if expect.status.is_some() && expect.status == seen.status && expect.connection.is_empty() && broke_off {
        out.push(traffic("connection", "answered to the end".to_owned(), describe_connection(seen)));
    }
    if !expect.connection.is_empty() && !seen.connection.as_ref().is_some_and(|c| expect.connection.iter().any(|w| same_end(w, c))) {
        let wanted: Vec<String> = expect.connection.iter().map(super::describe::connection_words).collect();
        out.push(traffic("connection", wanted.join(", or "), describe_connection(seen)));
    }
    if let Some(wanted) = &expect.certificate {
        certificate(wanted, seen, out);
    }
    for (name, wanted) in &expect.headers {
        let observed = seen.headers.get(&name.to_ascii_lowercase()).map(String::as_str);
        if let Some((e, o)) = text_mismatch(wanted, observed) {
            let o = if observed.is_none() && seen.status.is_none() { no_answer() } else { o };
            out.push(traffic(&format!("headers.{name}"), e, o));
        }
    }
    if let Some(wanted) = &expect.body
        && let Some((e, o)) = text_mismatch(wanted, seen.body.as_deref())
    {
        out.push(traffic("body", e, if seen.body.is_none() { no_answer() } else { o }));
    }
    if expect.run_token {
        let has = |text: &Option<String>| text.as_ref().is_some_and(|t| t.contains(&seen.run_token));
        if seen.run_token.is_empty() || !(has(&seen.body) || has(&seen.stdout)) {
            let observed = match seen.body.as_ref().or(seen.stdout.as_ref()) {
                _ if seen.run_token.is_empty() => "this run has no token".to_owned(),
                Some(text) => format!("an answer without it: {}", quoted(text)),
                None => no_answer(),
            };
            out.push(traffic("runToken", "the answer holds this run's token".to_owned(), observed));
        }
    }
    judge_path(expect, seen, out);
    judge_absences(expect, seen, out);
}

fn said(seen: &CallSeen) -> String {
    let words = seen.connection_detail.as_deref().or(seen.stderr.as_deref()).map(|t| clip(t, 160)).filter(|t| !t.is_empty());
    words.map(|w| format!(" ({w})")).unwrap_or_default()
}

/// Alerts are compared by their words, however they are joined (`certificate_required`, `certificate required`).
fn same_end(wanted: &Connection, seen: &Connection) -> bool {
    match (wanted, seen) {
        (Connection::TlsAlert(a), Connection::TlsAlert(b)) => {
            let words = |t: &str| t.to_ascii_lowercase().replace(['_', '-'], " ");
            words(a).trim() == words(b).trim()
        }
        _ => wanted == seen,
    }
}

fn certificate(wanted: &CertificateExpect, seen: &CallSeen, out: &mut Vec<Mismatch>) {
    let (key, words) = match wanted {
        CertificateExpect::Secret(secret) => (secret.to_string(), format!("the certificate of secret {secret}")),
        CertificateExpect::Outside(host) => (host.to_string(), format!("the certificate of the outside host {host}")),
    };
    let known = seen.known_certificates.get(&key);
    let same = |a: &str, b: &str| a.replace(':', "").eq_ignore_ascii_case(&b.replace(':', ""));
    let observed = match (&seen.certificate, known) {
        (Some(c), Some(sha256)) if same(&c.sha256, sha256) => return,
        (Some(_), None) => format!("this run generated no certificate for {key}, so there is nothing to compare with"),
        (Some(c), Some(_)) => {
            let whose = seen.known_certificates.iter().find(|(_, sha256)| same(&c.sha256, sha256));
            let whose = whose.map_or("one that this run did not generate".to_owned(), |(name, _)| format!("that of {name}"));
            format!("{whose}: {}, sha256 {}", c.subject, clip(&c.sha256, 16))
        }
        (None, _) => format!("no certificate: {}", describe_connection(seen)),
    };
    out.push(of(EvidenceKind::Traffic, "certificate", words, observed));
}

/// None when the text matches; otherwise what was wanted and what is there.
fn text_mismatch(wanted: &TextMatch, text: Option<&str>) -> Option<(String, String)> {
    let observed = match text {
        Some(text) => match matches(wanted, text) {
            Ok(true) => return None,
            Ok(false) => quoted(text),
            Err(why) => why,
        },
        None => "nothing".to_owned(),
    };
    Some((describe_text_match(wanted), observed))
}

fn matches(wanted: &TextMatch, text: &str) -> Result<bool, String> {
    match wanted {
        TextMatch::Equals(all) => Ok(text.trim() == all.trim()),
        TextMatch::Contains(part) => Ok(text.contains(part.as_str())),
        TextMatch::Matches(pattern) => Ok(Regex::new(pattern).map_err(|e| format!("not a regular expression: {e}"))?.is_match(text)),
    }
}

fn quoted(text: &str) -> String {
    if text.trim().is_empty() { "an empty text".to_owned() } else { format!("`{}`", clip(text, 240)) }
}

fn logs(expect: &LogsExpect, lines: &[LogLine], out: &mut Vec<Mismatch>) {
    for (i, wanted) in expect.contains.iter().enumerate() {
        let found = matcher(wanted);
        if !lines.iter().any(|l| found(&l.text)) {
            let observed = match lines.last() {
                Some(last) => format!("none of {} line(s); the last: `{}`", lines.len(), clip(&last.text, 200)),
                None => "no line at all".to_owned(),
            };
            out.push(of(EvidenceKind::Log, format!("contains[{i}]"), format!("a line that {}", describe_text_match(wanted)), observed));
        }
    }
    for (i, wanted) in expect.lacks.iter().enumerate() {
        let found = matcher(wanted);
        for line in lines.iter().filter(|l| found(&l.text)).take(3) {
            let expected = format!("no line that {}", describe_text_match(wanted));
            out.push(of(EvidenceKind::Log, format!("lacks[{i}]"), expected, format!("{}: `{}`", line.pod, clip(&line.text, 240))));
        }
    }
}

/// A compiled comparison: logs are long. What is no regular expression (the loader refuses it) matches nothing.
fn matcher(wanted: &TextMatch) -> Box<dyn Fn(&str) -> bool + '_> {
    match wanted {
        TextMatch::Matches(pattern) => match Regex::new(pattern) {
            Ok(regex) => Box::new(move |text| regex.is_match(text)),
            Err(_) => Box::new(|_| false),
        },
        other => Box::new(move |text| matches(other, text) == Ok(true)),
    }
}

fn config(expect: &ConfigExpect, replicas: &[ConfigSeen], asked: Option<&str>, out: &mut Vec<Mismatch>) {
    let kind = EvidenceKind::ProxyConfig;
    if replicas.is_empty() {
        out.push(of(kind, "config", "the configuration of at least one replica", "no replica was read"));
    }
    for replica in replicas {
        let place = |what: &str| format!("{} {what}", replica.pod);
        match expect {
            ConfigExpect::Absent => {
                for (name, _) in &replica.entries {
                    out.push(of(kind, place(name), "no entry of that name", format!("`{name}` is there")));
                }
            }
            ConfigExpect::Present { contains, lacks, cel } => {
                if replica.entries.is_empty() {
                    out.push(of(kind, place("entries"), wanted_name(contains, asked), names_instead(contains, asked, &replica.all_names)));
                    continue;
                }
                // One entry has all that is wanted; what is unwanted is in none.
                for (name, value) in &replica.entries {
                    out.extend(unwanted(value, lacks).map(|m| of(kind, place(&format!("{name} {}", m.path)), m.wanted, m.actual)));
                }
                let misses = |entry: &(String, Value)| -> Vec<PathMismatch> {
                    let missing = contains.iter().filter_map(|w| json_match::contains(&entry.1, w).err()).flatten();
                    missing.chain(untrue(&entry.1, cel)).collect()
                };
                let closest = replica.entries.iter().map(|e| (misses(e), e)).min_by_key(|(found, _)| found.len());
                if let Some((found, (name, _))) = closest {
                    let nearest = if replica.entries.len() > 1 {
                        format!(" (the closest of {} entries)", replica.entries.len())
                    } else {
                        String::new()
                    };
                    out.extend(found.into_iter().map(|m| of(kind, place(&format!("{name}{nearest} {}", m.path)), m.wanted, m.actual)));
                }
            }
        }
    }
}

/// That an object is missing is the state of the cluster; only what one says is evidence of its own.
fn object(expect: &ConfigExpect, name: &str, value: Option<&Value>, out: &mut Vec<Mismatch>) {
    match (expect, value) {
        (ConfigExpect::Absent, None) => {}
        (ConfigExpect::Absent, Some(_)) => out.push(of(EvidenceKind::State, name, "no such object", "it is there")),
        (ConfigExpect::Present { .. }, None) => out.push(of(EvidenceKind::State, name, "an object", "it is not there")),
        (ConfigExpect::Present { contains, lacks, cel }, Some(value)) => {
            let missing = contains.iter().filter_map(|wanted| json_match::contains(value, wanted).err()).flatten();
            let all = missing.chain(unwanted(value, lacks)).chain(untrue(value, cel));
            out.extend(all.map(|m| of(EvidenceKind::Object, format!("{name} {}", m.path), m.wanted, m.actual)));
        }
    }
}

fn unwanted<'a>(entry: &'a Value, lacks: &'a [Value]) -> impl Iterator<Item = PathMismatch> + 'a {
    lacks.iter().filter(|w| json_match::contains(entry, w).is_ok()).map(|w| {
        let wanted = format!("nothing like {}", clip(&w.to_string(), 200));
        PathMismatch { path: "$".into(), wanted, actual: "it is there".into() }
    })
}

/// Expressions that do not hold, with what they read.
fn untrue<'a>(entry: &'a Value, cel: &'a [CelExpression]) -> impl Iterator<Item = PathMismatch> + 'a {
    cel.iter().filter_map(|expression| {
        let miss = expression.holds(entry).err()?;
        Some(PathMismatch { path: "cel".into(), wanted: format!("true: {}", expression.source()), actual: miss.to_string() })
    })
}

fn name_of<'a>(contains: &'a [Value], asked: Option<&'a str>) -> Option<&'a str> {
    asked.or_else(|| contains.iter().find_map(|c| c.get("name").and_then(Value::as_str)))
}

fn wanted_name(contains: &[Value], asked: Option<&str>) -> String {
    name_of(contains, asked).map_or("an entry of that name".to_owned(), |name| format!("an entry named `{name}`"))
}

fn names_instead(contains: &[Value], asked: Option<&str>, all: &[String]) -> String {
    const MOST: usize = 8;
    if all.is_empty() {
        return "the section is empty".to_owned();
    }
    match name_of(contains, asked) {
        Some(name) => format!("none; similar names: {}", similar_names(name, all, MOST).join(", ")),
        None => {
            let more = if all.len() > MOST { format!(", … ({} in all)", all.len()) } else { String::new() };
            format!("none; names there: {}{more}", all.iter().take(MOST).cloned().collect::<Vec<_>>().join(", "))
        }
    }
}

fn analysis(expect: &AnalysisExpect, messages: &[AnalysisMessage], out: &mut Vec<Mismatch>) {
    match expect {
        AnalysisExpect::Clean => {
            let bad = |m: &&AnalysisMessage| ["error", "warning"].iter().any(|l| m.level.eq_ignore_ascii_case(l));
            for m in messages.iter().filter(bad) {
                let observed = format!("{} {}: {}", m.level, m.code, clip(&m.text, 300));
                out.push(of(EvidenceKind::Analysis, "analysis", "no Error and no Warning", observed));
            }
        }
        AnalysisExpect::Codes(codes) => {
            for code in codes.iter().filter(|c| messages.iter().all(|m| m.code != **c)) {
                let there: Vec<&str> = messages.iter().map(|m| m.code.as_str()).collect();
                let observed = if there.is_empty() { "no message".to_owned() } else { format!("only {}", there.join(", ")) };
                out.push(of(EvidenceKind::Analysis, "analysis", format!("a message {code}"), observed));
            }
        }
    }
}

fn pods_ready(ready: u32, containers: u32, pods: &[PodSeen], without_pods: &[Namespaced], out: &mut Vec<Mismatch>) {
    let wanted = format!("{ready} of {containers} containers ready");
    for workload in without_pods {
        out.push(of(EvidenceKind::State, workload.to_string(), wanted.clone(), "no pod, or no such Deployment"));
    }
    if pods.is_empty() && without_pods.is_empty() {
        out.push(of(EvidenceKind::State, "pods", wanted.clone(), "no pod was seen"));
    }
    for pod in pods.iter().filter(|p| (p.ready, p.of) != (ready, containers)) {
        let observed = format!("{} of {} ({})", pod.ready, pod.of, pod.phase);
        out.push(of(EvidenceKind::State, format!("{} {}", pod.workload, pod.pod), wanted.clone(), observed));
    }
}

/// Whether istiod's `POD.NAMESPACE` is a pod of the Deployment: its name, its ReplicaSet's hash, its own suffix.
fn is_of(id: &str, workload: &Namespaced) -> bool {
    id.rsplit_once('.')
        .is_some_and(|(pod, namespace)| namespace == workload.namespace && pod.rsplitn(3, '-').nth(2) == Some(workload.name.as_str()))
}

fn in_sync(workloads: &[Namespaced], proxies: &[ProxySeen], unconnected: &[String], out: &mut Vec<Mismatch>) {
    let kind = EvidenceKind::State;
    if proxies.is_empty() {
        out.push(of(kind, "proxies", "proxies connected to istiod", "none is connected"));
    }
    let asked_for = |id: &str| workloads.is_empty() || workloads.iter().any(|w| is_of(id, w));
    for id in unconnected.iter().filter(|id| asked_for(id)) {
        out.push(of(kind, id.clone(), "its proxy is connected to istiod", "istiod does not list it"));
    }
    for workload in workloads.iter().filter(|w| !proxies.is_empty() && !proxies.iter().any(|p| is_of(&p.id, w))) {
        let there: Vec<&str> = proxies.iter().map(|p| p.id.as_str()).take(8).collect();
        out.push(of(kind, workload.to_string(), "a proxy of it is connected to istiod", format!("none; connected: {}", there.join(", "))));
    }
    for proxy in proxies.iter().filter(|p| asked_for(&p.id) && !p.synced) {
        let bad: Vec<String> = proxy.types.iter().filter(|(_, s)| s != "SYNCED").map(|(t, s)| format!("{t} {}", clip(s, 160))).collect();
        let observed = if bad.is_empty() { "not in sync".to_owned() } else { bad.join(", ") };
        out.push(of(kind, proxy.id.clone(), "all that was sent is acknowledged", observed));
    }
}

fn versions(seen: &[VersionSeen], out: &mut Vec<Mismatch>) {
    let kind = EvidenceKind::State;
    let (planes, rest): (Vec<&VersionSeen>, Vec<&VersionSeen>) =
        seen.iter().filter(|v| !is_client(&v.who)).partition(|v| v.who.starts_with("istiod") || v.who.starts_with("pilot"));
    let Some(plane) = planes.first() else {
        out.push(of(kind, "istiod", "a version of the control plane", "none was seen"));
        return;
    };
    if rest.is_empty() {
        out.push(of(kind, "proxies", format!("proxies of version {}", plane.version.trim()), "no proxy was seen"));
    }
    for other in planes[1..].iter().chain(&rest).filter(|v| v.version.trim() != plane.version.trim()) {
        out.push(of(kind, other.who.clone(), format!("{}, as {} says", plane.version.trim(), plane.who), other.version.trim()));
    }
}

/// A client of another version is warned of elsewhere; it changes nothing about the mesh.
fn is_client(who: &str) -> bool {
    who.starts_with("istioctl") || who.starts_with("client")
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
