//! The part of a verdict that rests on access logs: the path of a call, and where it did not pass.

use super::describe::{describe_hop, describe_hop_wanted};
use super::json_match::glob;
use super::{CallSeen, EvidenceKind, HopSeen, Mismatch};
use crate::names::Namespaced;
use crate::scenario::{CallExpect, HopExpect};

fn log(what: String, expected: String, observed: String) -> Mismatch {
    Mismatch { what, expected, observed, by: EvidenceKind::Log }
}

/// The fields of a line that are not as wanted: name, wanted, seen.
pub(super) fn hop_mismatches(want: &HopExpect, hop: &HopSeen) -> Vec<(&'static str, String, String)> {
    let e = &hop.entry;
    let mut found = Vec::new();
    let request = e.request.clone().unwrap_or_else(|| "- - -".to_owned());
    for (name, wanted, seen) in [
        ("request", &want.request, &request),
        ("cluster", &want.cluster, &e.cluster),
        ("flags", &want.flags, &e.flags),
        ("route", &want.route, &e.route),
        ("sni", &want.sni, &e.sni),
        ("details", &want.details, &e.details),
        ("termination", &want.termination, &e.termination),
    ] {
        if let Some(pattern) = wanted.as_ref().filter(|p| !glob(p, seen)) {
            found.push((name, pattern.clone(), seen.clone()));
        }
    }
    if let Some(code) = want.code.filter(|c| *c != e.code) {
        found.push(("code", code.to_string(), e.code.to_string()));
    }
    found
}

/// Expected hops are found in order among the lines; between them may be others.
pub(super) fn judge_path(expect: &CallExpect, seen: &CallSeen, out: &mut Vec<Mismatch>) {
    let mut from = 0;
    for (i, want) in expect.path.iter().enumerate() {
        let fits = |hop: &HopSeen| hop.proxy == want.proxy && hop_mismatches(want, hop).is_empty();
        match seen.hops[from..].iter().position(fits) {
            Some(at) => from += at + 1,
            None => missing_hop(i, want, seen, from, out),
        }
    }
    several_lines(expect, seen, out);
}

fn missing_hop(i: usize, want: &HopExpect, seen: &CallSeen, from: usize, out: &mut Vec<Mismatch>) {
    let closest = |hops: &[HopSeen]| {
        let of_proxy = hops.iter().filter(|h| h.proxy == want.proxy);
        of_proxy.map(|h| (hop_mismatches(want, h), h.clone())).min_by_key(|(found, _)| found.len())
    };
    match closest(&seen.hops[from..]).or_else(|| closest(&seen.hops)) {
        Some((found, hop)) if found.is_empty() => out.push(log(
            format!("path[{i}]"),
            format!("{} after the hop before it", describe_hop_wanted(want)),
            format!("its line is of an earlier place in the path: {}", describe_hop(&hop)),
        )),
        Some((found, hop)) => {
            for (name, wanted, actual) in found {
                out.push(log(format!("path[{i}].{name}"), wanted, format!("{actual} in the log of {} ({})", hop.proxy, hop.joined_by)));
            }
        }
        None => {
            let looked = seen.missing_hops.iter().find(|m| m.proxy == want.proxy).map(|m| format!("; looked for {}", m.looked_for));
            let instead = match seen.hops.as_slice() {
                [] => "no proxy's log has a line of this call".to_owned(),
                hops => {
                    let proxies: Vec<String> = hops.iter().map(|h| h.proxy.to_string()).collect();
                    format!("no line of this call in the log of {}; it is in that of {}", want.proxy, proxies.join(", "))
                }
            };
            out.push(log(format!("path[{i}]"), describe_hop_wanted(want), format!("{instead}{}", looked.unwrap_or_default())));
        }
    }
}

/// More lines of a proxy than its hops are retries, of which all but the last failed; anything else is not this path.
fn several_lines(expect: &CallExpect, seen: &CallSeen, out: &mut Vec<Mismatch>) {
    let mut done: Vec<&Namespaced> = Vec::new();
    for want in &expect.path {
        if done.contains(&&want.proxy) {
            continue;
        }
        done.push(&want.proxy);
        let wanted = expect.path.iter().filter(|h| h.proxy == want.proxy).count();
        let lines: Vec<&HopSeen> = seen.hops.iter().filter(|h| h.proxy == want.proxy).collect();
        let good = lines.iter().filter(|h| !h.entry.is_failure()).count();
        if lines.len() > wanted && good > wanted {
            let shown: Vec<String> = lines.iter().map(|h| describe_hop(h)).collect();
            out.push(log(
                "path".to_owned(),
                format!("{wanted} line(s) of {} (more only for failed attempts)", want.proxy),
                format!("{}: {}", lines.len(), shown.join("; ")),
            ));
        }
    }
}

/// No line of this call in that log, and something that shows that the log was read past the call.
pub(super) fn judge_absences(expect: &CallExpect, seen: &CallSeen, out: &mut Vec<Mismatch>) {
    for proxy in &expect.absent_from {
        let place = format!("absentFrom[{proxy}]");
        let wanted = format!("no line of this call in the log of {proxy}");
        let absence = seen.absences.iter().find(|a| a.proxy == *proxy);
        let mut lines: Vec<&HopSeen> = absence.map(|a| a.lines.iter().collect()).unwrap_or_default();
        for hop in seen.hops.iter().filter(|h| h.proxy == *proxy) {
            if !lines.contains(&hop) {
                lines.push(hop);
            }
        }
        for hop in &lines {
            out.push(log(place.clone(), wanted.clone(), format!("{} has ({}): {}", hop.pod, hop.joined_by, hop.entry.line)));
        }
        if lines.is_empty() && absence.is_none_or(|a| a.shown_by.is_none()) {
            let why = if absence.is_some() { "no later call of ours is in that log" } else { "that log was not read" };
            out.push(log(place, wanted, format!("absence not shown: {why}")));
        }
    }
}
