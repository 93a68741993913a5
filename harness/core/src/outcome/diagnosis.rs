//! Where a check that failed first went wrong, as far as its observation shows.

use super::cause::Cause;
use super::describe::{describe_connection, describe_hop};
use super::layer::{Layer, first_broken, sentence};
use super::text::clip;
use super::{CallSeen, ConfigSeen, HopSeen, Mismatch, Observation, explain_details, explain_flags, explain_reset};
use crate::scenario::{Connection, Expectation};

/// Lines that name the first broken [`Layer`] and decode what proxies logged.
/// Empty without mismatches: nothing is explained about a check that is as wanted.
#[must_use]
pub fn diagnose(expect: &Expectation, seen: &Observation, mismatches: &[Mismatch]) -> Vec<String> {
    diagnose_with(expect, seen, mismatches, None)
}

/// The same beside a likely cause, which is told by itself: where it breaks an earlier layer than what was seen, that is the first.
#[must_use]
pub fn diagnose_with(expect: &Expectation, seen: &Observation, mismatches: &[Mismatch], cause: Option<&Cause>) -> Vec<String> {
    let Some(layer) = first_broken(expect, seen, mismatches) else { return Vec::new() };
    // What is amiss in the configuration comes before what it led to.
    let layer = cause.map_or(layer, |cause| cause.layer.min(layer));
    let mut out = vec![sentence(layer)];
    out.extend(told(expect, seen, mismatches, cause.is_some()));
    out
}

/// The layer at which a state was not reached, by the words of the failure; empty where they do not tell.
#[must_use]
pub fn diagnose_not_reached(words: &str) -> Vec<String> {
    let has = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
    let refused =
        ["denied the request", "is invalid", "strict decoding error", "not declared in schema", "could not find the requested resource"];
    let layer = if has(&refused) || (words.contains("namespaces \"") && words.contains("\" not found")) {
        Layer::Api
    } else if has(&["the proxies do not have the configuration"]) {
        Layer::Proxy
    } else if has(&["not within", "not ready", "roll-out of"]) {
        Layer::Endpoints
    } else {
        return Vec::new();
    };
    vec![sentence(layer)]
}

fn told(expect: &Expectation, seen: &Observation, mismatches: &[Mismatch], explained: bool) -> Vec<String> {
    match (expect, seen) {
        (Expectation::Call(expect), Observation::Call(seen)) => call(seen, &expect.connection, mismatches, explained),
        (_, Observation::Config { replicas }) => config(replicas),
        (_, Observation::Logs { lines }) if lines.is_empty() => {
            vec!["Log: there is no line since the state was applied; is the log turned on, and the container the right one?".to_owned()]
        }
        (_, Observation::ProxyStatus { proxies, .. }) => {
            let refused = proxies.iter().flat_map(|p| p.types.iter().map(move |(t, s)| (p, t, s)));
            let known = ["SYNCED", "STALE", "NOT SENT", "IGNORED"];
            refused
                .filter(|(_, _, s)| !known.contains(&s.as_str()))
                .map(|(p, t, s)| format!("Accepted by the proxy: no. {} refused {t}: {}", p.id, clip(s, 240)))
                .collect()
        }
        _ => Vec::new(),
    }
}

/// What the mismatches do not say themselves. Where the cause is known, guesses at it are left out.
fn call(seen: &CallSeen, expected_ends: &[Connection], mismatches: &[Mismatch], explained: bool) -> Vec<String> {
    let mut out = Vec::new();
    if let Some(end) = seen.connection.as_ref().filter(|end| **end != Connection::Answered && !expected_ends.contains(end)) {
        let words = describe_connection(seen);
        let shown = mismatches.iter().any(|m| m.observed.contains(&words));
        let said = if shown { String::new() } else { format!("{words}. ") };
        if !(shown && explained) {
            out.push(format!("Connection: {said}{}", if explained { "" } else { what_it_says(end) }).trim_end().to_owned());
        }
    }
    // The last proxy that the call reached knows most about why it went no further.
    let troubled: Vec<&HopSeen> = seen.hops.iter().filter(|h| !reasons(h).is_empty()).collect();
    for hop in &troubled {
        out.push(format!("{}: {}", describe_hop(hop), reasons(hop).join("; ")));
    }
    if let (Some(last), true) = (seen.hops.last(), troubled.is_empty()) {
        let reached = if last.entry.upstream_host == "-" { String::new() } else { format!(" and went on to {}", last.entry.upstream_host) };
        out.push(format!("Path: the last log line of the call is that of {}{reached}.", describe_hop(last)));
        if last.entry.cluster == "PassthroughCluster" {
            out.push(
                "PassthroughCluster: no configuration of this proxy matched the destination; it let the call through unchanged.".to_owned(),
            );
        } else if last.entry.cluster == "BlackHoleCluster" {
            out.push(
                "BlackHoleCluster: no configuration of this proxy matched the destination; unknown destinations are closed.".to_owned(),
            );
        }
    }
    if seen.hops.is_empty() && !seen.missing_hops.is_empty() && !explained {
        out.push("Path: no proxy that was asked logged the call: it did not reach one, or their access log is off.".to_owned());
    }
    out
}

/// What a line says about a failure, decoded; empty when it tells of none.
fn reasons(hop: &HopSeen) -> Vec<String> {
    let e = &hop.entry;
    let flags = explain_flags(&e.flags);
    // That it was tried until it was given up says nothing beside what each try failed by.
    let telling = flags.iter().filter(|(flag, _)| *flag != "URX" || flags.len() == 1);
    let mut out: Vec<String> = telling.map(|(flag, words)| format!("{flag}: {words}")).collect();
    for details in [&e.details, &e.termination] {
        // The upstream's own answer is no fault of a proxy.
        if details != "via_upstream"
            && let Some(words) = explain_details(details)
        {
            // The reason in the braces says more than that there was one.
            out.push(format!("{details}: {}", explain_reset(details).unwrap_or(words)));
        }
    }
    if e.upstream_failure != "-" && !e.upstream_failure.is_empty() {
        out.push(format!("upstream: {}", clip(&e.upstream_failure.replace('_', " "), 240)));
    }
    out
}

fn what_it_says(end: &Connection) -> &'static str {
    match end {
        Connection::Answered => "",
        Connection::Closed => {
            "The peer took the connection and closed it before an answer: for TLS, often no filter chain for the server name."
        }
        Connection::Reset => {
            "The peer took the connection and reset it: for TLS, often no filter chain, or plaintext to a port that wants mTLS."
        }
        Connection::Refused => "Nobody listens at that address: no listener on that port, or no pod behind it.",
        Connection::Timeout => "Nothing came in time: an address that nobody has, packets dropped, or an upstream that does not answer.",
        Connection::DnsFailure => {
            "The caller found no address for the name; no proxy was asked. A host outside the mesh is declared under `outside` in scenario.yaml."
        }
        Connection::TlsAlert(_) => "The peer ended the TLS handshake; the alert's name says why.",
        Connection::Other(_) => "The call itself failed before or beside any connection; the caller's words say how.",
        Connection::CertificateRejected => {
            "The handshake reached a server, but its certificate is not one the caller trusts for that name."
        }
    }
}

fn config(replicas: &[ConfigSeen]) -> Vec<String> {
    let without: Vec<&str> = replicas.iter().filter(|r| r.entries.is_empty()).map(|r| r.pod.as_str()).collect();
    if without.is_empty() || without.len() == replicas.len() {
        return Vec::new();
    }
    vec![format!("In the proxy: replicas differ; {} of {} do not have it: {}.", without.len(), replicas.len(), without.join(", "))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_api_refuses_breaks_the_first_layer() {
        for words in [
            "applying VirtualService a/b: failed to create typed patch object (a/b): .spec.subsett: field not declared in schema",
            "looking up networking.istio.io/v2 for VirtualService a/b: the server could not find the requested resource",
            "applying DestinationRule bilings/b: namespaces \"bilings\" not found",
            "applying Gateway a/b: admission webhook denied the request: x",
        ] {
            assert!(diagnose_not_reached(words)[0].starts_with("First broken layer: accepted by the API (1 of 7)"), "{words}");
        }
        assert_eq!(diagnose_not_reached("reading the pods of a/b: the connection broke"), Vec::<String>::new());
    }
}
