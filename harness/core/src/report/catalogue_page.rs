//! One page of Markdown from the scenarios themselves: what is proved, by which checks, in which states, and where to find it.
//! Nothing in it depends on a run, a date or a machine, so the same scenarios give the same page.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::Value;

use super::markdown::mechanism::embed;
use super::text::{Cell, Table, code, link, prose};
use super::verdict::plural;
use crate::outcome::{describe_expectation, redact};
use crate::scenario::{Catalogue, Change, Edit, INTACT, Probe, Scenario};

/// API groups whose fields are worth finding: those that configure a gateway or the mesh.
const GROUPS: [&str; 5] =
    ["networking.istio.io", "security.istio.io", "gateway.networking.k8s.io", "telemetry.istio.io", "extensions.istio.io"];
/// How many names of a field's path are kept.
const DEPTH: usize = 3;
/// Fields whose short texts are features themselves.
const TELLING: [&str; 7] = ["mode", "protocol", "resolution", "location", "action", "type", "maxProtocolVersion"];

/// The page. `folder` is the scenarios' folder as seen from the one above the page's own.
#[must_use]
pub fn catalogue_page(catalogue: &Catalogue, folder: &str) -> String {
    let scenarios = &catalogue.scenarios;
    let checks: usize = scenarios.iter().map(|s| s.checks.len()).sum();
    let mut out = format!(
        "# What the scenarios prove\n\n{} with {}. This page is made by `gateproof docs` from the scenarios alone; whether they hold is said \
         by the report of a run.\n\n",
        plural(scenarios.len(), "scenario"),
        plural(checks, "check")
    );
    contents(&mut out, scenarios);
    features(&mut out, scenarios);
    for scenario in scenarios {
        one(&mut out, scenario, folder);
    }
    out
}

fn anchor(scenario: &Scenario) -> String {
    let id: String = scenario.id.as_str().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    format!("scenario-{id}")
}

fn to(scenario: &Scenario) -> String {
    format!("[{}](#{})", prose(scenario.id.as_str()), anchor(scenario))
}

fn contents(out: &mut String, scenarios: &[Scenario]) {
    out.push_str("## Contents\n\n");
    let mut table = Table::new(["scenario", "about", "checks", "tags"]);
    for s in scenarios {
        let tags: Vec<String> = s.tags.iter().map(|t| code(t)).collect();
        table.row([Cell::ours(to(s)), Cell::prose(&s.title), Cell::ours(s.checks.len().to_string()), Cell::ours(tags.join(" "))]);
    }
    let _ = writeln!(out, "{}", table.finish());
    let mut by_tag: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for s in scenarios {
        for tag in &s.tags {
            by_tag.entry(tag).or_default().push(to(s));
        }
    }
    let mut table = Table::new(["tag", "scenarios"]);
    for (tag, links) in by_tag {
        table.row([Cell::code(tag), Cell::ours(links.join(", "))]);
    }
    let _ = writeln!(out, "### By tag\n\n{}", table.finish());
}

/// Every field of Istio's and the Gateway API's objects that some scenario sets or bends, and where.
fn features(out: &mut String, scenarios: &[Scenario]) {
    let mut found: BTreeMap<String, BTreeMap<String, BTreeSet<usize>>> = BTreeMap::new();
    for (at, s) in scenarios.iter().enumerate() {
        let mut seen = |kind: &str, field: String| {
            found.entry(kind.to_owned()).or_default().entry(field).or_default().insert(at);
        };
        for object in s.manifests.iter().chain(&s.extra_manifests).flat_map(|m| &m.objects) {
            if GROUPS.contains(&object.key.group()) {
                walk(&object.value["spec"], "", &mut |field| seen(&object.key.kind, field));
            }
        }
        for change in s.variations.iter().flat_map(|v| &v.changes) {
            let Change::Patch { key, edits } = change else { continue };
            for edit in edits.iter().filter(|_| GROUPS.contains(&key.group())) {
                if let Edit::Set { pointer, value } = edit
                    && let Some(below) = pointer.strip_prefix("/spec/")
                {
                    let names: Vec<&str> = below.split('/').filter(|p| *p != "-" && p.parse::<usize>().is_err()).collect();
                    walk(value, &names.join("."), &mut |field| seen(&key.kind, field));
                }
            }
        }
    }
    if found.is_empty() {
        return;
    }
    out.push_str("## By feature\n\nThe fields that scenarios set, or bend in a variation, by the kind of object.\n\n");
    for (kind, fields) in found {
        let mut table = Table::new(["field of `spec`", "scenarios"]);
        for (field, at) in fields {
            let links: Vec<String> = at.iter().map(|i| to(&scenarios[*i])).collect();
            table.row([Cell::code(&field), Cell::ours(links.join(", "))]);
        }
        let _ = writeln!(out, "<details><summary>{}</summary>\n\n{}\n</details>\n", prose(&kind), table.finish());
    }
}

/// Tells the path of every field down to some depth, lists skipped; of telling fields also the value.
fn walk(value: &Value, path: &str, seen: &mut dyn FnMut(String)) {
    let deep = path.split('.').count();
    match value {
        Value::Array(items) => items.iter().for_each(|item| walk(item, path, seen)),
        Value::Object(map) if path.is_empty() || deep < DEPTH => {
            for (key, below) in map {
                walk(below, &if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, seen);
            }
        }
        _ if path.is_empty() => {}
        // A map of labels or the like would be a list of names.
        Value::String(text) if TELLING.contains(&path.rsplit('.').next().unwrap_or(path)) && text.len() <= 40 => {
            seen(format!("{path}: {text}"));
        }
        _ => seen(path.to_owned()),
    }
}

fn one(out: &mut String, scenario: &Scenario, folder: &str) {
    let place = format!("{folder}/{}", scenario.folder());
    let _ = writeln!(out, "<a id=\"{}\"></a>\n\n## {}: {}\n", anchor(scenario), prose(scenario.id.as_str()), prose(&scenario.title));
    let mut facts = vec![link(&format!("{place}/scenario.yaml"), &format!("../{place}/scenario.yaml"))];
    if !scenario.tags.is_empty() {
        facts.push(scenario.tags.iter().map(|t| code(t)).collect::<Vec<_>>().join(" "));
    }
    if !scenario.needs.is_empty() {
        let needs: Vec<String> = scenario.needs.iter().map(|n| code(n.as_str())).collect();
        facts.push(format!("stands on {}", needs.join(", ")));
    }
    if !scenario.outside.is_empty() {
        let hosts: Vec<String> = scenario.outside.iter().map(|o| code(o.host.as_str())).collect();
        facts.push(format!("hosts outside the mesh: {}", hosts.join(", ")));
    }
    let _ = writeln!(out, "{}\n", facts.join(" · "));
    if !scenario.mechanism.trim().is_empty() {
        let _ = writeln!(out, "### How it works\n\n{}", embed(&scenario.mechanism, 3, &place));
    }
    let manifests = scenario.manifests.iter().chain(&scenario.extra_manifests);
    let files: Vec<String> = manifests
        .map(|m| {
            let objects: Vec<String> = m.objects.iter().map(|o| code(&o.key.to_string())).collect();
            format!("- {}: {}", link(&m.file, &format!("../{place}/{}", m.file)), objects.join(", "))
        })
        .collect();
    if !files.is_empty() {
        let _ = writeln!(out, "### Manifests\n\n{}\n", files.join("\n"));
    }
    let mut table = Table::new(["check", "what it proves", "in state", "asked", "expected"]);
    for c in &scenario.checks {
        let given = if c.given == INTACT { Cell::ours(INTACT) } else { Cell::code(&c.given) };
        table.row([
            Cell::prose(&c.name),
            Cell::prose(&c.proves),
            given,
            Cell::prose(&asked(&c.probe)),
            Cell::lines(&describe_expectation(&c.expect), "…"),
        ]);
    }
    let _ = writeln!(out, "### Checks\n\n{}", table.finish());
    let mut table = Table::new(["variation", "what departs, and why"]);
    for v in &scenario.variations {
        let refused = if v.refused { Cell::ours("proxies are expected to refuse it") } else { Cell::ours("") };
        table.row([Cell::code(&v.name), Cell::prose(&v.about).below(refused)]);
    }
    section(out, "Variations", table.finish());
    let mut table = Table::new(["what an earlier document claimed", "what is so"]);
    for c in &scenario.corrections {
        table.row([Cell::prose(&c.claim), Cell::prose(&c.instead)]);
    }
    section(out, "Corrections", table.finish());
    let mut table = Table::new(["not tested", "why"]);
    for n in &scenario.not_tested {
        table.row([Cell::prose(&n.what), Cell::prose(&n.why)]);
    }
    section(out, "Deliberately not tested", table.finish());
    let mut table = Table::new(["a change that no check notices", "why"]);
    for n in &scenario.unnoticed {
        table.row([Cell::code(&n.change), Cell::prose(&n.why)]);
    }
    section(out, "Not noticed by `prove`", table.finish());
    let lists = [("Key points", &scenario.key_points), ("What you might be missing", &scenario.might_be_missing)];
    for (title, sentences) in lists {
        let items: Vec<String> = sentences.iter().map(|s| format!("- {}\n", prose(s))).collect();
        section(out, title, items.concat());
    }
}

fn section(out: &mut String, title: &str, body: String) {
    if !body.is_empty() {
        let _ = writeln!(out, "### {title}\n\n{body}");
    }
}

/// As much of a text as a cell of a table has room for.
fn short(text: &str) -> String {
    const ROOM: usize = 60;
    let mut out: String = text.chars().take(ROOM).collect();
    if text.chars().nth(ROOM).is_some() {
        out.push('…');
    }
    out
}

/// The question in a few words; code in backticks.
fn asked(probe: &Probe) -> String {
    match probe {
        Probe::Exec(p) => format!("`{}` in {}", redact(&p.command.join(" ")), p.workload),
        Probe::Http(p) => {
            let scheme = if p.scheme == crate::scenario::Scheme::Https { "https" } else { "http" };
            let from = match &p.from {
                crate::scenario::Caller::Outside => "outside".to_owned(),
                crate::scenario::Caller::Workload(w) => w.to_string(),
            };
            let port = if matches!((scheme, p.port), ("http", 80) | ("https", 443)) { String::new() } else { format!(":{}", p.port) };
            let through = p.gateway.as_ref().map(|g| format!(" to {g}")).unwrap_or_default();
            let sni = p.sni.as_ref().map(|s| format!(", server name `{s}`")).unwrap_or_default();
            let headers: String =
                p.headers.iter().map(|(name, value)| format!(", `{}`", short(&redact(&format!("{name}: {value}"))))).collect();
            let body = p.body.as_ref().map(|body| format!(", body `{}`", short(&redact(body)))).unwrap_or_default();
            let presents = p.client_certificate.as_ref().map(|at| format!(", with the certificate of {at}")).unwrap_or_default();
            let path = redact(&p.path);
            format!("{} `{scheme}://{}{port}{path}` from {from}{through}{sni}{headers}{body}{presents}", p.method, p.host)
        }
        Probe::Logs(p) => format!("log of {}", p.workload),
        Probe::ProxyConfig(p) => format!("configuration of {}: `{}`", p.workload, p.name),
        Probe::Analyze { namespaces } => format!("analysis of {}", namespaces.join(", ")),
        Probe::Pods { workloads } => {
            format!("pods of {}", workloads.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
        }
        Probe::ProxyStatus => "what istiod says of each proxy".to_owned(),
        Probe::Versions => "versions".to_owned(),
        Probe::Object(key) => format!("`{key}`"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::scenario::load_catalogue;

    fn shipped() -> Catalogue {
        load_catalogue(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios"))
    }

    #[test]
    fn the_page_has_every_check_with_what_it_proves_and_is_the_same_each_time() {
        let catalogue = shipped();
        let page = catalogue_page(&catalogue, "scenarios");
        assert_eq!(page, catalogue_page(&shipped(), "scenarios"));
        for s in &catalogue.scenarios {
            assert!(page.contains(&format!("<a id=\"{}\"></a>", anchor(s))) && page.contains(&prose(&s.title)), "{}", s.id);
            for c in &s.checks {
                assert!(page.contains(&prose(&c.name)), "{}: {}", s.id, c.name);
            }
            for v in &s.variations {
                assert!(page.contains(&prose(&v.about)) || page.contains(&code(&v.name)), "{}: {}", s.id, v.name);
            }
        }
        let rows = page.lines().filter(|l| l.starts_with("| ")).count();
        assert!(rows > catalogue.scenarios.iter().map(|s| s.checks.len()).sum::<usize>());
        assert_eq!(page.matches("<details>").count(), page.matches("</details>").count());
    }

    #[test]
    fn a_call_is_told_with_what_it_brings_and_no_token() {
        let catalogue = shipped();
        let of = |id: &str| catalogue.scenarios.iter().find(|s| s.id.as_str() == id).unwrap();
        let all = |id: &str| of(id).checks.iter().map(|c| asked(&c.probe)).collect::<Vec<_>>().join("\n");
        let jwt = all("30-security/jwt");
        assert!(jwt.contains(", `authorization: Bearer [redacted]`") && jwt.contains("?token=[redacted") && !jwt.contains("eyJ"), "{jwt}");
        assert!(all("10-ingress/tls-modes").contains(", with the certificate of "));
        assert!(short(&"é".repeat(99)).ends_with("é…"));
    }

    #[test]
    fn a_field_that_only_a_variation_sets_is_found_too() {
        let page = catalogue_page(&shipped(), "scenarios");
        assert!(page.contains("`servers.tls.mode: PASSTHROUGH`"), "a field of a manifest");
        assert!(page.contains("`servers.tls.mode: SIMPLE`"));
        assert!(page.contains("`http.match`") || page.contains("`http.match.uri`"), "{page}");
    }

    #[test]
    fn fields_are_told_without_places_in_lists_and_only_so_deep() {
        let mut seen = Vec::new();
        let spec = json!({"http": [{"retries": {"attempts": 3}, "match": [{"uri": {"prefix": "/"}}]}], "tls": {"mode": "MUTUAL"}});
        walk(&spec, "", &mut |f| seen.push(f));
        seen.sort();
        assert_eq!(seen, ["http.match.uri", "http.retries.attempts", "tls.mode: MUTUAL"]);
    }
}
