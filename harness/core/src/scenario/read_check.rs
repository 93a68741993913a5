//! A check: its probe, and the expectation that has to fit it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use serde_json::Value;

use super::raw;
use super::read::{Wanted, texts};
use super::read_cel::cel;
use super::reader::{Fields, Reader, ticked};
use super::types::*;
use super::yaml::{Kind, Node};
use crate::names::{HostName, Namespaced, ObjectKey};

type Wants = Vec<(Range<usize>, Wanted)>;

/// Probe and expectation of a check; None after a mistake.
pub(super) fn read_check(r: &mut Reader, fields: &Fields<'_>, wants: &mut Wants) -> Option<(Probe, Expectation)> {
    let before = r.mistakes.len();
    let given: Vec<_> = raw::PROBES.iter().filter_map(|(name, _)| Some((*name, fields.entry(name)?))).collect();
    let all: Vec<_> = raw::PROBES.iter().map(|(name, _)| *name).collect();
    let (name, node) = match given.as_slice() {
        [(name, (_, node))] => (*name, *node),
        [] => {
            r.wrong_help(fields.at.clone(), "the check has no probe", format!("expected one of {}", ticked(&all)));
            return None;
        }
        [_, second, ..] => {
            let names: Vec<_> = given.iter().map(|(name, _)| *name).collect();
            r.wrong_help(second.1.0.point(), format!("the check has several probes: {}", ticked(&names)), "make a check of each");
            return None;
        }
    };
    let probe = if node.is_null() && !matches!(name, "proxyStatus" | "versions") { None } else { probe(r, name, node, wants) };
    let expect = fields.get("expect").and_then(|expect| match name {
        "exec" | "http" => call(r, expect, name, probe.as_ref(), wants),
        "logs" => logs(r, expect),
        "proxyConfig" => config(r, expect, name).map(Expectation::Config),
        "object" => config(r, expect, name).map(Expectation::Object),
        "analyze" => analysis(r, expect),
        "pods" => pods(r, expect),
        "proxyStatus" => sync(r, expect, wants),
        _ => {
            let fields = expectation::<raw::VersionsExpectFile>(r, expect, name)?;
            r.only_true(&fields, "agree").then_some(Expectation::VersionsAgree)
        }
    });
    Some((probe?, expect?)).filter(|_| r.mistakes.len() == before)
}

fn workload(r: &mut Reader, fields: &Fields<'_>, key: &str, wants: &mut Wants) -> Option<Namespaced> {
    one_workload(r, fields.get(key)?, &format!("`{key}`"), wants)
}

fn one_workload(r: &mut Reader, node: &Node, what: &str, wants: &mut Wants) -> Option<Namespaced> {
    let name: Namespaced = r.name(node, what)?;
    wants.push((node.point(), Wanted::Workload(name.clone())));
    Some(name)
}

fn workloads(r: &mut Reader, fields: &Fields<'_>, key: &str, wants: &mut Wants) -> Vec<Namespaced> {
    r.list_of(fields, key).iter().filter_map(|item| one_workload(r, item, &format!("an item of `{key}`"), wants)).collect()
}

fn optional_line(r: &mut Reader, fields: &Fields<'_>, key: &str) -> Option<String> {
    fields.get(key).and_then(|node| r.line(node, &format!("`{key}`")))
}

fn timeout(r: &mut Reader, fields: &Fields<'_>, default: u64) -> Duration {
    fields.get("timeout").and_then(|node| r.duration(node, "`timeout`")).unwrap_or(Duration::from_secs(default))
}

fn probe(r: &mut Reader, name: &str, node: &Node, wants: &mut Wants) -> Option<Probe> {
    match name {
        "exec" => {
            let fields = r.fields::<raw::ExecFile>(node, "`exec`")?;
            let command: Vec<String> =
                r.list_of(&fields, "command").iter().filter_map(|item| r.text(item, "an item of `command`")).collect();
            if command.first().is_none_or(String::is_empty)
                && let Some(node) = fields.get("command")
            {
                r.wrong(node.point(), "the command is empty");
            }
            let (container, timeout) = (optional_line(r, &fields, "container"), timeout(r, &fields, 15));
            Some(Probe::Exec(ExecProbe { workload: workload(r, &fields, "in", wants)?, container, command, timeout }))
        }
        "http" => http(r, node, wants).map(Probe::Http),
        "logs" => {
            let fields = r.fields::<raw::LogsFile>(node, "`logs`")?;
            let container = optional_line(r, &fields, "container");
            Some(Probe::Logs(LogsProbe { workload: workload(r, &fields, "of", wants)?, container }))
        }
        "proxyConfig" => {
            let fields = r.fields::<raw::ProxyConfigFile>(node, "`proxyConfig`")?;
            let sections = [
                ("listeners", ConfigSection::Listeners),
                ("routes", ConfigSection::Routes),
                ("clusters", ConfigSection::Clusters),
                ("endpoints", ConfigSection::Endpoints),
                ("secrets", ConfigSection::Secrets),
            ];
            let given: Vec<_> = sections.iter().filter(|(key, _)| fields.has(key)).collect();
            let names: Vec<_> = sections.iter().map(|(key, _)| *key).collect();
            let workload = workload(r, &fields, "of", wants);
            let [(key, section)] = given.as_slice() else {
                r.wrong_help(
                    fields.at.clone(),
                    format!("`proxyConfig` names {} sections", given.len()),
                    format!("expected exactly one of {}", ticked(&names)),
                );
                return None;
            };
            Some(Probe::ProxyConfig(ProxyConfigProbe { name: optional_line(r, &fields, key)?, workload: workload?, section: *section }))
        }
        "analyze" => {
            let fields = r.fields::<raw::AnalyzeFile>(node, "`analyze`")?;
            let namespaces = r.lines_of(&fields, "namespaces");
            for item in fields.get("namespaces").map_or(&[][..], |n| if let Kind::List(items) = &n.kind { items } else { &[] }) {
                wants.extend(item.scalar().map(|s| (item.point(), Wanted::Namespace(s.trim().to_owned()))));
            }
            not_empty(r, &fields, "namespaces", namespaces.is_empty());
            Some(Probe::Analyze { namespaces })
        }
        "pods" => {
            let fields = r.fields::<raw::PodsFile>(node, "`pods`")?;
            let workloads = workloads(r, &fields, "of", wants);
            not_empty(r, &fields, "of", workloads.is_empty());
            Some(Probe::Pods { workloads })
        }
        "object" => {
            let fields = r.fields::<raw::ObjectFile>(node, "`object`")?;
            let (api_version, kind) = (optional_line(r, &fields, "apiVersion"), optional_line(r, &fields, "kind"));
            let name = object_name(r, fields.get("name")?, wants);
            let (namespace, name) = name?;
            Some(Probe::Object(ObjectKey { api_version: api_version?, kind: kind?, namespace, name }))
        }
        _ => {
            if !node.is_null() {
                r.fields::<raw::NoSettings>(node, &format!("`{name}`"))?;
            }
            Some(if name == "versions" { Probe::Versions } else { Probe::ProxyStatus })
        }
    }
}

/// `NAMESPACE/NAME`, or `NAME` alone.
fn object_name(r: &mut Reader, node: &Node, wants: &mut Wants) -> Option<(Option<String>, String)> {
    let text = r.line(node, "`name`")?;
    if !text.contains('/') {
        return Some((None, text));
    }
    let Namespaced { namespace, name } = r.name(node, "`name`")?;
    wants.push((node.point(), Wanted::Namespace(namespace.clone())));
    Some((Some(namespace), name))
}

fn not_empty(r: &mut Reader, fields: &Fields<'_>, key: &str, empty: bool) {
    if let (true, Some(Node { kind: Kind::List(items), at, .. })) = (empty, fields.get(key))
        && items.is_empty()
    {
        r.wrong(at.clone(), format!("`{key}` is empty"));
    }
}

fn http(r: &mut Reader, node: &Node, wants: &mut Wants) -> Option<HttpProbe> {
    let fields = r.fields::<raw::HttpFile>(node, "`http`")?;
    let from = match fields.get("from") {
        Some(node) if node.scalar() == Some("outside") => Some(Caller::Outside),
        Some(node) if node.scalar().is_some_and(|s| !s.contains('/')) => {
            r.wrong_help(
                node.point(),
                format!("nobody is called {}", node.called()),
                "expected `outside` or the NAMESPACE/NAME of a Deployment",
            );
            None
        }
        _ => workload(r, &fields, "from", wants).map(Caller::Workload),
    };
    let gateway = fields.get("gateway").and_then(|node| {
        let gateway: Namespaced = r.name(node, "`gateway`")?;
        wants.push((node.point(), Wanted::Gateway(gateway.clone())));
        Some(gateway)
    });
    if from == Some(Caller::Outside) && !fields.has("gateway") {
        r.wrong_help(fields.at.clone(), "a call from outside does not say through which gateway", "add `gateway: NAMESPACE/NAME`");
    }
    let url = fields.get("url").and_then(|node| url(r, node));
    if let Some((Scheme::Http, ..)) = url {
        for key in ["sni", "verify", "clientCertificate"].into_iter().filter(|key| fields.has(key)) {
            let at = fields.entry(key).map_or(fields.at.clone(), |(key, _)| key.point());
            r.wrong_help(at, format!("`{key}` does not fit a call without TLS"), "make the URL `https://…` or take it away");
        }
    }
    let sni = fields.get("sni").and_then(|node| r.name::<HostName>(node, "`sni`"));
    let method = optional_line(r, &fields, "method").unwrap_or_else(|| "GET".to_owned());
    if !method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') {
        r.wrong_help(
            fields.at.clone(),
            format!("`{method}` is no HTTP method"),
            format!("expected upper case, such as `{}`", method.to_ascii_uppercase()),
        );
    }
    let headers = fields.get("headers").map(|node| texts(r, node, "`headers`")).unwrap_or_default();
    for (name, _) in &headers {
        if ["host", "user-agent"].contains(&name.to_ascii_lowercase().as_str()) {
            r.wrong_help(
                fields.at.clone(),
                format!("the header `{name}` is gateproof's own"),
                "the URL gives the Host; a call is found again in logs by its User-Agent",
            );
        }
    }
    let verify = match fields.get("verify").map(|node| (node, node.scalar())) {
        None | Some((_, Some("runCas"))) => Verify::RunCas,
        Some((_, Some("insecure"))) => Verify::Insecure,
        Some((node, _)) => {
            r.wrong_help(node.point(), format!("`verify` cannot be {}", node.called()), "expected `runCas` or `insecure`");
            Verify::RunCas
        }
    };
    let client_certificate = fields.get("clientCertificate").and_then(|node| {
        let secret: Namespaced = r.name(node, "`clientCertificate`")?;
        wants.push((node.point(), Wanted::Certificate(secret.clone())));
        Some(secret)
    });
    let body = fields.get("body").and_then(|node| r.text(node, "`body`"));
    let timeout = timeout(r, &fields, 10);
    let (scheme, host, port, path) = url?;
    Some(HttpProbe { from: from?, gateway, scheme, host, port, path, sni, method, headers, body, verify, client_certificate, timeout })
}

fn url(r: &mut Reader, node: &Node) -> Option<(Scheme, HostName, u16, String)> {
    let text = r.line(node, "`url`")?;
    let parse = || {
        let (scheme, rest) = match text.split_once("://")? {
            ("http", rest) => (Scheme::Http, rest),
            ("https", rest) => (Scheme::Https, rest),
            _ => return None,
        };
        let (authority, path) = rest.find(['/', '?']).map_or((rest, ""), |i| rest.split_at(i));
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, port.parse().ok().filter(|p| *p > 0)?),
            None => (authority, if scheme == Scheme::Http { 80 } else { 443 }),
        };
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let printable = path.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
        printable.then_some((scheme, HostName::new(host).ok()?, port, path))
    };
    let parsed = parse();
    if parsed.is_none() {
        r.wrong_help(
            node.point(),
            format!("`{text}` is no URL that can be called"),
            "expected `http://` or `https://`, a host name, perhaps `:PORT`, and an ASCII path",
        );
    }
    parsed
}

fn expectation<'n, T: schemars::JsonSchema + 'static>(r: &mut Reader, node: &'n Node, probe: &str) -> Option<Fields<'n>> {
    let before = r.mistakes.len();
    let fields = r.fields::<T>(node, &format!("an expectation of `{probe}`"))?;
    if matches!(&node.kind, Kind::Map(pairs) if pairs.is_empty()) {
        nothing(r, node, before);
        return None;
    }
    Some(fields)
}

/// Said unless something else is wrong with the expectation already.
fn nothing(r: &mut Reader, node: &Node, before: usize) {
    if r.mistakes.len() > before {
        return;
    }
    r.wrong_help(node.point(), "the expectation expects nothing", "whatever came back would pass");
}

fn call(r: &mut Reader, node: &Node, name: &str, probe: Option<&Probe>, wants: &mut Wants) -> Option<Expectation> {
    let before = r.mistakes.len();
    let fields = expectation::<raw::CallExpectFile>(r, node, name)?;
    unfitting(r, &fields, name, probe);
    let mut out = CallExpect {
        stdout: text_match(r, &fields, "stdout"),
        stderr: text_match(r, &fields, "stderr"),
        body: text_match(r, &fields, "body"),
        exit_code: fields.get("exitCode").and_then(|n| r.number(n, "`exitCode`", "a number such as 0")),
        status: fields.get("status").and_then(|n| r.number::<u16>(n, "`status`", "a status such as 200")),
        run_token: r.only_true(&fields, "runToken"),
        absent_from: workloads(r, &fields, "absentFrom", wants),
        ..CallExpect::default()
    };
    if let (Some(status), Some(node)) = (out.status, fields.get("status"))
        && !(100..600).contains(&status)
    {
        r.wrong_help(node.point(), format!("`{status}` is no HTTP status"), "expected 100 to 599");
    }
    for item in fields.get("connection").map_or(&[][..], |n| r.list_or_one(n, "`connection`")) {
        out.connection.extend(connection(r, item));
    }
    out.certificate = fields.get("certificate").and_then(|n| certificate(r, n, wants));
    if let Some(node) = fields.get("headers") {
        out.headers = headers(r, node);
    }
    for item in r.list_of(&fields, "path") {
        out.path.extend(hop(r, item, wants));
    }
    route_shorthand(r, &fields, probe, &mut out);
    if !out.connection.is_empty() && !out.connection.contains(&Connection::Answered) {
        for key in ["status", "headers", "body", "runToken"].into_iter().filter(|key| fields.has(key)) {
            r.wrong_help(
                fields.at.clone(),
                format!("`{key}` and `connection` exclude each other"),
                "a connection that ended so had no answer",
            );
        }
    }
    let asks = out.stdout.is_some() || out.stderr.is_some() || out.exit_code.is_some() || out.status.is_some() || out.certificate.is_some();
    let asks = asks || out.body.is_some() || out.run_token || !(out.connection.is_empty() && out.headers.is_empty());
    if !asks && out.path.is_empty() && out.absent_from.is_empty() {
        nothing(r, node, before);
        return None;
    }
    Some(Expectation::Call(Box::new(out)))
}

/// Fields that this very probe cannot answer.
fn unfitting(r: &mut Reader, fields: &Fields<'_>, name: &str, probe: Option<&Probe>) {
    let (keys, why): (&[&str], &str) = match probe {
        _ if name == "http" && !matches!(probe, Some(Probe::Http(HttpProbe { scheme: Scheme::Http, .. }))) => {
            (&["stdout", "stderr", "exitCode"], "only `exec` has it")
        }
        Some(Probe::Http(_)) => {
            (&["stdout", "stderr", "exitCode", "certificate"], "only `exec` has standard output, only `https://` a certificate")
        }
        Some(Probe::Exec(exec)) if exec.command.first().is_none_or(|c| c.rsplit('/').next() != Some("curl")) => (
            &["status", "connection", "certificate", "headers", "body", "route", "path", "absentFrom"],
            "of a command other than `curl`, only its output and exit code are known",
        ),
        _ => (&[], ""),
    };
    for (key, at) in keys.iter().filter_map(|key| Some((key, fields.entry(key)?.0.point()))) {
        r.wrong_help(at, format!("`{key}` does not fit this probe"), why);
    }
}

/// `route: NAME` on a call through a gateway.
fn route_shorthand(r: &mut Reader, fields: &Fields<'_>, probe: Option<&Probe>, out: &mut CallExpect) {
    let Some((key, _)) = fields.entry("route") else { return };
    let at = key.point();
    let route = optional_line(r, fields, "route");
    if fields.has("path") {
        r.wrong_help(at, "`route` and `path` exclude each other", "give the route in the hop: `path: [{proxy: …, route: …}]`");
        return;
    }
    match probe {
        Some(Probe::Http(HttpProbe { gateway: Some(gateway), .. })) => out.path.extend(route.map(|route| HopExpect {
            proxy: gateway.clone(),
            request: None,
            cluster: None,
            flags: None,
            route: Some(route),
            sni: None,
            details: None,
            termination: None,
            code: None,
        })),
        Some(Probe::Http(_)) => {
            r.wrong_help(at, "`route` needs a call with a `gateway`", "name the proxy instead: `path: [{proxy: …, route: …}]`")
        }
        Some(Probe::Exec(exec)) if exec.command.first().is_some_and(|c| c.ends_with("curl")) => {
            r.wrong_help(at, "`route` needs a call with a `gateway`", "name the proxy instead: `path: [{proxy: …, route: …}]`");
        }
        _ => {}
    }
}

const ENDINGS: &[(&str, Connection)] = &[
    ("answered", Connection::Answered),
    ("closed", Connection::Closed),
    ("reset", Connection::Reset),
    ("refused", Connection::Refused),
    ("timeout", Connection::Timeout),
    ("dnsFailure", Connection::DnsFailure),
    ("certificateRejected", Connection::CertificateRejected),
];

fn connection(r: &mut Reader, node: &Node) -> Option<Connection> {
    let Some(text) = node.scalar() else {
        let (_, alert) = r.one_of(node, "`connection`", &["tlsAlert"])?;
        return Some(Connection::TlsAlert(r.line(alert, "`tlsAlert`")?));
    };
    let known = ENDINGS.iter().find(|(name, _)| *name == text).map(|(_, ending)| ending.clone());
    if known.is_none() && !node.is_null() {
        let names: Vec<_> = ENDINGS.iter().map(|(name, _)| *name).collect();
        let help = super::diagnose::closest(text, names.iter().copied())
            .map_or_else(|| format!("expected one of {} or `tlsAlert: NAME`", ticked(&names)), |near| format!("did you mean `{near}`?"));
        r.wrong_help(node.point(), format!("no connection ends as `{text}`"), help);
    }
    known
}

fn certificate(r: &mut Reader, node: &Node, wants: &mut Wants) -> Option<CertificateExpect> {
    match r.one_of(node, "`certificate`", &["secret", "outside"])? {
        ("secret", value) => {
            let secret: Namespaced = r.name(value, "`secret`")?;
            wants.push((value.point(), Wanted::Certificate(secret.clone())));
            Some(CertificateExpect::Secret(secret))
        }
        (_, value) => {
            let host: HostName = r.name(value, "`outside`")?;
            wants.push((value.point(), Wanted::Outside(host.clone())));
            Some(CertificateExpect::Outside(host))
        }
    }
}

fn headers(r: &mut Reader, node: &Node) -> BTreeMap<String, TextMatch> {
    let Kind::Map(pairs) = &node.kind else {
        r.wrong_help(node.point(), format!("`headers` cannot be {}", node.called()), "expected a map from header to text");
        return BTreeMap::new();
    };
    let mut out = BTreeMap::new();
    for (key, value) in pairs {
        let Some(name) = r.line(key, "a header's name") else { continue };
        if value.is_null() {
            r.wrong(key.point(), format!("the header `{name}` has no value"));
        }
        let Some(wanted) = one_match(r, value, &format!("the header `{name}`"), TextMatch::Equals) else { continue };
        if out.insert(name.to_ascii_lowercase(), wanted).is_some() {
            r.wrong(key.point(), format!("the header `{name}` is given twice"));
        }
    }
    out
}

fn hop(r: &mut Reader, node: &Node, wants: &mut Wants) -> Option<HopExpect> {
    if node.is_null() {
        return None;
    }
    let fields = r.fields::<raw::HopFile>(node, "a hop of `path`")?;
    let mut pattern = |key: &str| optional_line(r, &fields, key);
    let (cluster, flags, route, sni) = (pattern("cluster"), pattern("flags"), pattern("route"), pattern("sni"));
    let (request, details, termination) = (pattern("request"), pattern("details"), pattern("termination"));
    let code = fields.get("code").and_then(|n| r.number(n, "`code`", "a code such as 200, or 0 for TCP"));
    Some(HopExpect { proxy: workload(r, &fields, "proxy", wants)?, request, cluster, flags, route, sni, details, termination, code })
}

fn text_match(r: &mut Reader, fields: &Fields<'_>, key: &str) -> Option<TextMatch> {
    one_match(r, fields.get(key)?, &format!("`{key}`"), TextMatch::Equals)
}

fn one_match(r: &mut Reader, node: &Node, what: &str, plain: fn(String) -> TextMatch) -> Option<TextMatch> {
    if node.scalar().is_some() {
        let text = r.text(node, what)?;
        let wanted = plain(text);
        return check_match(r, node, wanted);
    }
    let (how, value) = r.one_of(node, what, &["equals", "contains", "matches"])?;
    let text = r.text(value, what)?;
    let wanted = match how {
        "equals" => TextMatch::Equals(text),
        "contains" => TextMatch::Contains(text),
        _ => TextMatch::Matches(text),
    };
    check_match(r, value, wanted)
}

fn check_match(r: &mut Reader, node: &Node, wanted: TextMatch) -> Option<TextMatch> {
    match &wanted {
        TextMatch::Contains(part) if part.is_empty() => {
            r.wrong(node.point(), "every text contains the empty text");
            return None;
        }
        TextMatch::Matches(regex) => {
            if let Err(error) = regex::Regex::new(regex) {
                let error = error.to_string();
                let last = error.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                r.wrong_help(node.point(), format!("`{regex}` is no regular expression"), last);
                return None;
            }
        }
        _ => {}
    }
    Some(wanted)
}

fn logs(r: &mut Reader, node: &Node) -> Option<Expectation> {
    let before = r.mistakes.len();
    let fields = expectation::<raw::LogsExpectFile>(r, node, "logs")?;
    let mut list = |key: &str| -> Vec<TextMatch> {
        let items = fields.get(key).map_or(&[][..], |n| r.list_or_one(n, &format!("`{key}`")));
        items.iter().filter_map(|item| one_match(r, item, &format!("`{key}`"), TextMatch::Contains)).collect()
    };
    let out = LogsExpect { contains: list("contains"), lacks: list("lacks") };
    if out.contains.is_empty() && out.lacks.is_empty() {
        nothing(r, node, before);
        return None;
    }
    Some(Expectation::Logs(out))
}

fn config(r: &mut Reader, node: &Node, probe: &str) -> Option<ConfigExpect> {
    let before = r.mistakes.len();
    let fields = expectation::<raw::ConfigExpectFile>(r, node, probe)?;
    let (absent, present) = (r.only_true(&fields, "absent"), r.only_true(&fields, "present"));
    let mut list = |key: &str| -> Vec<Value> {
        let items = fields.get(key).map_or(&[][..], |n| r.list_or_one(n, &format!("`{key}`")));
        let mut out = Vec::new();
        for item in items.iter().filter(|i| !i.is_null()) {
            match &item.kind {
                Kind::Map(pairs) if !pairs.is_empty() => out.push(item.to_json()),
                _ => r.wrong_help(
                    item.point(),
                    format!("`{key}` cannot be {}", item.called()),
                    "expected a structure with at least one field, such as `{name: …}`",
                ),
            }
        }
        out
    };
    let (contains, lacks) = (list("contains"), list("lacks"));
    let cel = cel(r, &fields);
    if absent {
        if fields.has("present") || fields.has("contains") || fields.has("lacks") || fields.has("cel") {
            r.wrong_help(fields.at.clone(), "`absent` stands alone", "what is not there has no content");
        }
        return Some(ConfigExpect::Absent);
    }
    if !present && contains.is_empty() && lacks.is_empty() && cel.is_empty() {
        nothing(r, node, before);
        return None;
    }
    Some(ConfigExpect::Present { contains, lacks, cel })
}

fn analysis(r: &mut Reader, node: &Node) -> Option<Expectation> {
    let before = r.mistakes.len();
    let fields = expectation::<raw::AnalysisExpectFile>(r, node, "analyze")?;
    let clean = r.only_true(&fields, "clean");
    let codes = r.lines_of(&fields, "codes");
    for code in codes.iter().filter(|c| !c.strip_prefix("IST").is_some_and(|n| n.len() == 4 && n.bytes().all(|b| b.is_ascii_digit()))) {
        r.wrong_help(fields.at.clone(), format!("`{code}` is no code of istioctl analyze"), "expected one such as `IST0101`");
    }
    match (clean, codes.is_empty()) {
        (true, true) => Some(Expectation::Analysis(AnalysisExpect::Clean)),
        (false, false) => Some(Expectation::Analysis(AnalysisExpect::Codes(codes))),
        (true, false) => {
            r.wrong(fields.at.clone(), "`clean` and `codes` exclude each other");
            None
        }
        (false, true) => {
            nothing(r, node, before);
            None
        }
    }
}

fn pods(r: &mut Reader, node: &Node) -> Option<Expectation> {
    let fields = expectation::<raw::PodsExpectFile>(r, node, "pods")?;
    let node = fields.get("ready")?;
    let text = r.text(node, "`ready`")?;
    let numbers = text.split_once('/').and_then(|(ready, of)| Some((ready.parse().ok()?, of.parse().ok()?)));
    match numbers {
        Some((ready, of)) if ready <= of && of > 0 => Some(Expectation::PodsReady { ready, of }),
        _ => {
            r.wrong_help(node.point(), format!("`ready` cannot be `{text}`"), "expected so many of so many containers, such as `2/2`");
            None
        }
    }
}

fn sync(r: &mut Reader, node: &Node, wants: &mut Wants) -> Option<Expectation> {
    let fields = expectation::<raw::SyncExpectFile>(r, node, "proxyStatus")?;
    let workloads = match fields.get("synced")? {
        Node { kind: Kind::Scalar { .. }, .. } => r.only_true(&fields, "synced").then(Vec::new)?,
        _ => workloads(r, &fields, "synced", wants),
    };
    Some(Expectation::InSync { workloads })
}
