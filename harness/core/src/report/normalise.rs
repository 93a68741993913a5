//! A run as lines that stay the same from run to run unless something changed.

use std::sync::LazyLock;

use regex::Regex;

use super::record::{CheckRecord, RunRecord, ScenarioRecord};
use super::text::{joined, plain, shorten};
use super::verdict::word;
use crate::outcome::{HopSeen, Outcome};

/// What differs in every run, and what stands for it. The order matters: whole things before their parts.
static RULES: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
    [
        (r"\b\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:Z|[+-]\d{2}:?\d{2})?", "<time>"),
        (r"\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d{1,2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT\b", "<time>"),
        (r"(?i)\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "<id>"),
        (r"(?i)\b(?:[0-9a-f]{2}:){5,}[0-9a-f]{2}\b", "<id>"),
        // A call's own token, and a sentinel's.
        (r"\bgp-[A-Za-z0-9]{1,8}-\d+\b", "<token>"),
        (r"(?i)\b(sha-?256[=: ]\s*)[0-9a-f]{8,}", "$1<id>"),
        // Letters and digits mixed in one long word: a run's token, a fingerprint.
        (r"(?i)\b[0-9a-f]{10,}(?:[0-9][a-f]|[a-f][0-9])[0-9a-f]*\b", "<id>"),
        (r"(?i)\b[0-9a-f]*(?:[0-9][a-f]|[a-f][0-9])[0-9a-f]{10,}\b", "<id>"),
        (r"(?i)\b[0-9a-f]{5,}(?:[0-9][a-f]|[a-f][0-9])[0-9a-f]{5,}\b", "<id>"),
        (r"\b[A-Za-z]*(?:[A-Za-z]\d|\d[A-Za-z])[A-Za-z0-9]{14,}\b", "<token>"),
        (r"(?i)\b((?:run[- ]?)?token[=: ]\s*)[A-Za-z0-9_-]*\d[A-Za-z0-9_-]*", "$1<token>"),
        // A pod of a Deployment: Kubernetes writes both suffixes in this alphabet.
        (r"\b([a-z0-9][a-z0-9-]*?)-[bcdfghjklmnpqrstvwxz2456789]{6,10}-[bcdfghjklmnpqrstvwxz2456789]{5}\b", "$1-<pod>"),
        (r"\b\d{1,3}(?:\.\d{1,3}){3}\b", "<ip>"),
        (r"\[[0-9a-fA-F:]*::?[0-9a-fA-F:]+\]", "<ip>"),
        // Ports that a kernel hands out, 32768 and up; declared ones stay.
        (r"(<ip>|\blocalhost|\bport):? ?(?:3276[89]|327[7-9]\d|32[89]\d\d|3[3-9]\d{3}|[4-6]\d{4})\b", "$1:<port>"),
        (r"\b\d+(?:\.\d+)? ?(?:ms|µs|us|s|seconds?|milliseconds?|minutes?)\b", "<duration>"),
        (r"\b\d+ bytes\b", "<n> bytes"),
    ]
    .into_iter()
    .map(|(pattern, stands_for)| {
        #[allow(clippy::expect_used)]
        let regex = Regex::new(pattern).expect("a constant pattern");
        (regex, stands_for)
    })
    .collect()
});

/// A text without what is another in every run.
fn stable(text: &str) -> String {
    let mut text = plain(text);
    for (regex, stands_for) in RULES.iter() {
        text = regex.replace_all(&text, *stands_for).into_owned();
    }
    text
}

/// One line for each check: its state and what was observed, without tokens, ephemeral ports, addresses,
/// pod-name suffixes, times and sizes. Sorted by scenario; within one, in its own order.
#[must_use]
pub fn stable_lines(record: &RunRecord) -> Vec<String> {
    let mut scenarios: Vec<&ScenarioRecord> = record.scenarios.iter().collect();
    scenarios.sort_by(|a, b| a.id.cmp(&b.id));
    scenarios.iter().flat_map(|s| s.checks.iter().map(|c| stable_line(s, c))).collect()
}

fn stable_line(scenario: &ScenarioRecord, check: &CheckRecord) -> String {
    let mut facts: Vec<String> = Vec::new();
    match &check.outcome {
        Outcome::Passed | Outcome::Flaky => {}
        Outcome::Failed { mismatches } => {
            facts.extend(mismatches.iter().map(|m| format!("{}: {} instead of {}", m.what, m.observed, m.expected)));
        }
        Outcome::Error { message } => facts.push(message.clone()),
        Outcome::Skipped { reason } => facts.push(reason.clone()),
    }
    facts.extend(joined(&check.observed).lines().map(str::to_owned));
    if !check.hops.is_empty() {
        facts.push(format!("hops {}", check.hops.iter().map(hop).collect::<Vec<_>>().join(" then ")));
    }
    let mut seen: Vec<String> = Vec::new();
    for fact in facts.iter().map(|f| shorten(&stable(f), 240)).filter(|f| !f.is_empty()) {
        if !seen.contains(&fact) {
            seen.push(fact);
        }
    }
    let head = format!("{}::{} ({}): {}", scenario.id, plain(&check.name), plain(&check.given), word(&check.outcome));
    if seen.is_empty() { head } else { format!("{head}; {}", seen.join("; ")) }
}

/// What of a hop is the same in every run.
fn hop(hop: &HopSeen) -> String {
    let entry = &hop.entry;
    let mut out = format!("{} {} {}", hop.proxy, entry.code, entry.cluster);
    if !["", "-"].contains(&entry.flags.as_str()) {
        out.push_str(&format!(" flags {}", entry.flags));
    }
    if !["", "-"].contains(&entry.route.as_str()) {
        out.push_str(&format!(" route {}", entry.route));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::stable;

    #[test]
    fn what_another_run_would_change_is_gone_and_what_was_declared_stays() {
        for (given, wanted) in [
            ("seen at 2026-06-07T01:49:40.123Z", "seen at <time>"),
            ("pod istio-egressgateway-6d9f8b7c5d-x2k4z answered", "pod istio-egressgateway-<pod> answered"),
            ("10.255.126.47:49456 to 44.213.156.185:443", "<ip>:<port> to <ip>:443"),
            ("outbound|443||httpbin.org", "outbound|443||httpbin.org"),
            ("outbound|8000||httpbin.mesh-test.svc.cluster.local", "outbound|8000||httpbin.mesh-test.svc.cluster.local"),
            ("NodePort 172.18.0.2:31080", "NodePort <ip>:31080"),
            ("connected to localhost:45123 in 12 ms", "connected to localhost:<port> in <duration>"),
            ("the body holds 4f9a1c07b2e84d21", "the body holds <id>"),
            ("request 5f0c7c1e-1f0f-4b8a-9f5e-0123456789ab", "request <id>"),
            (
                "istio-egressgateway-<pod> logged the later sentinel gp-2564947d-3",
                "istio-egressgateway-<pod> logged the later sentinel <token>",
            ),
            ("looked for token gp-9886eeeb-12 or addresses", "looked for token <token> or addresses"),
            ("certificate CN=a, sha256 174787945c8cdae5…", "certificate CN=a, sha256 <id>…"),
            ("fingerprint 174787945c8cdae5 and 17478794512345c8", "fingerprint <id> and <id>"),
            ("status 200, route catch-all", "status 200, route catch-all"),
            ("istio-ingressgateway and dual-gateway", "istio-ingressgateway and dual-gateway"),
            ("2 of 2 ready, Istio 1.30.0", "2 of 2 ready, Istio 1.30.0"),
            ("[fd00::1]:443", "<ip>:443"),
            ("route http.8080", "route http.8080"),
        ] {
            assert_eq!(stable(given), wanted);
        }
    }
}
