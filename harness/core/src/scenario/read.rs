//! One `scenario.yaml` → a draft: values read as far as they can be, and the places that rules need later.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use super::control_plane;
use super::diagnose::{Source, closest};
use super::exceptions::Exceptions;
use super::expand::{self, Given};
use super::raw;
use super::read_check::read_check;
use super::reader::{Fields, Reader, ticked};
use super::types::*;
use super::values::Applied;
use super::yaml::{self, Kind, Node};
use crate::names::{HostName, Namespaced, ObjectKey, ScenarioId};

/// Something named in a scenario that has to exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    Workload(Namespaced),
    Gateway(Namespaced),
    Certificate(Namespaced),
    Outside(HostName),
    Namespace(String),
    State(String),
}

/// Where a change and its edits were written.
pub(super) struct ChangePlace {
    pub(super) at: Range<usize>,
    pub(super) object: Range<usize>,
    pub(super) edits: Vec<Range<usize>>,
}

/// A scenario that was read but not yet held against its manifests and its needs.
pub(super) struct Draft {
    pub(super) scenario: Scenario,
    /// The directory's path; the same as the id where the scenario has no matrix.
    pub(super) folder: ScenarioId,
    pub(super) given: Given,
    pub(super) reader: Reader,
    /// The file is a map, so that what it does not name is indeed named nowhere.
    pub(super) readable: bool,
    pub(super) wanted: Vec<(Range<usize>, Wanted)>,
    pub(super) needs_at: Vec<Range<usize>>,
    /// Parallel to gateways, outside and certificates.
    pub(super) gateways_at: Vec<Range<usize>>,
    pub(super) outside_at: Vec<Range<usize>>,
    pub(super) certificates_at: Vec<Range<usize>>,
    pub(super) unnoticed_at: Vec<Range<usize>>,
    pub(super) manifest_names: Vec<(String, Range<usize>)>,
    /// Files of the directory that it does not name.
    pub(super) unnamed: Vec<Source>,
    pub(super) variations_at: Vec<Range<usize>>,
    /// Parallel to variations and their changes.
    pub(super) changes_at: Vec<Vec<ChangePlace>>,
}

/// Reads the file once, or once for each row of its matrix; what cannot be read is a mistake and left out.
pub(super) fn read(folder: &ScenarioId, dir: &Path, source: &Source, applied: &mut Applied<'_>) -> Vec<Draft> {
    let (documents, error) = yaml::parse(&source.text);
    let mut draft = Draft::new(folder, dir, Reader { source: source.clone(), mistakes: Vec::new() }, Given::nothing());
    if let Some(error) = error {
        // What was parsed before it is half a file: complaints about it would mislead.
        draft.reader.wrong(error.at..error.at + 1, format!("not YAML: {}", error.message));
        return vec![draft];
    }
    let Some(document) = documents.first().filter(|d| !d.is_null()) else {
        draft.reader.wrong_help(0..0, "the scenario is empty", "expected at least `title` and `checks`");
        return vec![draft];
    };
    let mut reader = draft.reader;
    if let Some(second) = documents.get(1) {
        reader.wrong(second.point(), "a scenario is one YAML document");
    }
    let given = expand::given(&mut reader, document, folder, applied);
    given
        .into_iter()
        .map(|given| {
            let mut document = document.clone();
            let mut draft = Draft::new(folder, dir, Reader { source: source.clone(), mistakes: reader.mistakes.clone() }, given);
            draft.given.put_into_file(&mut document, &mut draft.reader);
            draft.fill(&document);
            draft
        })
        .collect()
}

fn empty(folder: &ScenarioId, dir: &Path, given: &Given) -> Scenario {
    let (id, row) = given.row.clone().unzip();
    Scenario {
        id: id.unwrap_or_else(|| folder.clone()),
        dir: dir.to_owned(),
        row,
        values: given.in_force(),
        title: String::new(),
        mechanism: String::new(),
        tags: Vec::new(),
        needs: Vec::new(),
        gateways: Vec::new(),
        outside: Vec::new(),
        certificates: Vec::new(),
        run_config: Vec::new(),
        manifests: Vec::new(),
        extra_manifests: Vec::new(),
        variations: Vec::new(),
        checks: Vec::new(),
        not_tested: Vec::new(),
        unnoticed: Vec::new(),
        key_points: Vec::new(),
        might_be_missing: Vec::new(),
        next_work: Vec::new(),
        corrections: Vec::new(),
        exceptions: Exceptions::default(),
    }
}

impl Draft {
    fn new(folder: &ScenarioId, dir: &Path, reader: Reader, given: Given) -> Self {
        Self {
            scenario: empty(folder, dir, &given),
            folder: folder.clone(),
            given,
            reader,
            readable: false,
            wanted: Vec::new(),
            needs_at: Vec::new(),
            gateways_at: Vec::new(),
            outside_at: Vec::new(),
            certificates_at: Vec::new(),
            unnoticed_at: Vec::new(),
            manifest_names: Vec::new(),
            unnamed: Vec::new(),
            variations_at: Vec::new(),
            changes_at: Vec::new(),
        }
    }

    fn fill(&mut self, document: &Node) {
        let Some(file) = self.reader.fields::<raw::ScenarioFile>(document, "a scenario") else { return };
        // Where the list of manifests is misspelt, what they hold is not missing.
        let keys = match &document.kind {
            Kind::Map(pairs) => pairs.iter().filter_map(|(key, _)| key.scalar()).collect(),
            _ => Vec::new(),
        };
        self.readable = keys.contains(&"manifests") || !keys.iter().any(|key| closest(key, ["manifests"]).is_some());
        let r = &mut self.reader;
        self.scenario.title = r.line_of(&file, "title");
        if self.scenario.title.contains('\n') {
            r.wrong(file.at.clone(), "`title` has more than one line");
        }
        if let Some(row) = &self.scenario.row {
            self.scenario.title += &format!(" ({row})");
        }
        self.scenario.mechanism = r.line_of(&file, "mechanism");
        self.scenario.tags = r.lines_of(&file, "tags");
        self.scenario.key_points = r.lines_of(&file, "keyPoints");
        self.scenario.might_be_missing = r.lines_of(&file, "mightBeMissing");
        self.scenario.next_work = r.lines_of(&file, "nextWork");
        for item in r.list_of(&file, "needs") {
            if let Some(need) = r.name::<ScenarioId>(item, "a scenario that is needed") {
                if self.scenario.needs.contains(&need) {
                    r.wrong(item.point(), format!("`{need}` is needed twice"));
                    continue;
                }
                self.scenario.needs.push(need);
                self.needs_at.push(item.point());
            }
        }
        self.gateways(&file);
        self.outside(&file);
        self.certificates(&file);
        self.prose(&file);
        let r = &mut self.reader;
        for item in r.list_of(&file, "runConfig") {
            if let Some(namespace) = r.line(item, "a namespace") {
                self.wanted.push((item.point(), Wanted::Namespace(namespace.clone())));
                self.scenario.run_config.push(namespace);
            }
        }
        for item in r.list_of(&file, "manifests") {
            if let Some(name) = r.line(item, "a manifest") {
                if self.manifest_names.iter().any(|(n, _)| *n == name) {
                    r.wrong(item.point(), format!("`{name}` is named twice"));
                    continue;
                }
                self.manifest_names.push((name, item.point()));
            }
        }
        for item in self.reader.list_of(&file, "variations") {
            self.variation(item);
        }
        self.checks(&file);
    }

    fn gateways(&mut self, file: &Fields<'_>) {
        let r = &mut self.reader;
        for item in r.list_of(file, "gateways") {
            let Some(fields) = r.fields::<raw::GatewayFile>(item, "a gateway") else { continue };
            let labels = fields.get("labels").map(|node| texts(r, node, "`labels`")).unwrap_or_default();
            let service = fields.get("service").and_then(|node| service(r, node)).unwrap_or(GatewayService::ClusterIp);
            let Some(at) = fields.get("at").and_then(|node| r.name::<Namespaced>(node, "a gateway")) else { continue };
            if self.scenario.gateways.iter().any(|g| g.at == at) {
                r.wrong(fields.at.clone(), format!("the gateway `{at}` is declared twice"));
                continue;
            }
            self.scenario.gateways.push(Gateway { at, labels: labels.into_iter().collect(), service });
            self.gateways_at.push(fields.at.clone());
        }
    }

    fn outside(&mut self, file: &Fields<'_>) {
        let r = &mut self.reader;
        for item in r.list_of(file, "outside") {
            let mut addresses = 1;
            let host = if let Kind::Map(_) = &item.kind {
                let Some(fields) = r.fields::<raw::OutsideHostFile>(item, "a host outside") else { continue };
                if let Some(node) = fields.get("addresses") {
                    let expected = "a number from 1 to 8";
                    addresses = r.number::<u8>(node, "`addresses`", expected).unwrap_or(1);
                    if !(1..=8).contains(&addresses) {
                        r.wrong_help(node.point(), format!("a host cannot have {addresses} addresses"), format!("expected {expected}"));
                    }
                }
                fields.get("host").and_then(|node| r.name::<HostName>(node, "a host outside"))
            } else {
                r.name::<HostName>(item, "a host outside")
            };
            let Some(host) = host else { continue };
            if self.scenario.outside.iter().any(|o| o.host == host) {
                r.wrong(item.point(), format!("the host `{host}` is declared twice"));
                continue;
            }
            self.scenario.outside.push(OutsideHost { host, addresses });
            self.outside_at.push(item.point());
        }
    }

    fn certificates(&mut self, file: &Fields<'_>) {
        let r = &mut self.reader;
        for item in r.list_of(file, "certificates") {
            let Some(fields) = r.fields::<raw::CertificateFile>(item, "a certificate") else { continue };
            let hosts: Vec<HostName> = r.list_of(&fields, "hosts").iter().filter_map(|host| r.name(host, "a certificate's host")).collect();
            if hosts.is_empty() && fields.get("hosts").is_some_and(|h| matches!(&h.kind, Kind::List(l) if l.is_empty())) {
                r.wrong(fields.at.clone(), "a certificate for no host");
            }
            let Some(secret) = fields.get("secret").and_then(|node| r.name::<Namespaced>(node, "a certificate's secret")) else { continue };
            if self.scenario.certificates.iter().any(|c| c.secret == secret) {
                r.wrong(fields.at.clone(), format!("the secret `{secret}` is declared twice"));
                continue;
            }
            self.wanted.push((fields.at.clone(), Wanted::Namespace(secret.namespace.clone())));
            self.scenario.certificates.push(Certificate { secret, hosts });
            self.certificates_at.push(fields.at.clone());
        }
    }

    fn prose(&mut self, file: &Fields<'_>) {
        let r = &mut self.reader;
        for item in r.list_of(file, "notTested") {
            if let Some(fields) = r.fields::<raw::NotTestedFile>(item, "an entry of `notTested`") {
                self.scenario.not_tested.push(NotTested { what: r.line_of(&fields, "what"), why: r.line_of(&fields, "why") });
            }
        }
        for item in r.list_of(file, "unnoticed") {
            if let Some(fields) = r.fields::<raw::UnnoticedFile>(item, "an entry of `unnoticed`") {
                let at = fields.get("change").map_or_else(|| fields.at.clone(), |node| node.at.clone());
                self.scenario.unnoticed.push(Unnoticed { change: r.line_of(&fields, "change"), why: r.line_of(&fields, "why") });
                self.unnoticed_at.push(at);
            }
        }
        for item in r.list_of(file, "corrections") {
            if let Some(fields) = r.fields::<raw::CorrectionFile>(item, "a correction") {
                self.scenario.corrections.push(Correction { claim: r.line_of(&fields, "claim"), instead: r.line_of(&fields, "instead") });
            }
        }
    }

    fn variation(&mut self, item: &Node) {
        let r = &mut self.reader;
        let Some(fields) = r.fields::<raw::VariationFile>(item, "a variation") else { return };
        let name = r.line_of(&fields, "name");
        let about = r.line_of(&fields, "about");
        if name == INTACT {
            r.wrong_help(fields.at.clone(), format!("a variation cannot be called `{INTACT}`"), "that is the state without any change");
        } else if self.scenario.variations.iter().any(|v| v.name == name) && !name.is_empty() {
            r.wrong(fields.at.clone(), format!("a second variation is called `{name}`"));
        }
        let mut changes = Vec::new();
        let mut places = Vec::new();
        if fields.get("changes").is_some_and(|c| matches!(&c.kind, Kind::List(l) if l.is_empty())) {
            r.wrong(fields.at.clone(), "a variation that changes nothing");
        }
        for item in r.list_of(&fields, "changes") {
            let mut place = ChangePlace { at: item.point(), object: item.point(), edits: Vec::new() };
            if let Some(change) = change(r, item, &mut place, &mut self.wanted) {
                changes.push(change);
                places.push(place);
            }
        }
        let refused = fields.get("refused").and_then(|node| r.boolean(node, "`refused`")).unwrap_or(false);
        self.scenario.variations.push(Variation { name, about, changes, refused });
        self.variations_at.push(fields.at);
        self.changes_at.push(places);
    }

    fn checks(&mut self, file: &Fields<'_>) {
        let items = self.reader.list_of(file, "checks");
        if items.is_empty() && file.get("checks").is_some_and(|c| matches!(c.kind, Kind::List(_))) {
            self.reader.wrong_help(file.at.clone(), "the scenario has no checks", "without one it proves nothing");
        }
        for item in items {
            let Some(fields) = self.reader.fields::<raw::CheckFile>(item, "a check") else { continue };
            let before = self.reader.mistakes.len();
            let name = self.reader.line_of(&fields, "name");
            let name_at = fields.get("name").map_or(fields.at.clone(), Node::point);
            if name.contains('\n') || name.contains("::") {
                self.reader.wrong(name_at.clone(), "a check's name is one line without `::`, since it becomes a test's name");
            }
            if !name.is_empty() && self.scenario.checks.iter().any(|c| c.name == name) {
                self.reader.wrong(name_at, format!("a second check is called `{name}`"));
            }
            let proves = self.reader.line_of(&fields, "proves");
            let given = match fields.get("given").and_then(|node| Some((node, self.reader.line(node, "`given`")?))) {
                Some((node, given)) => {
                    self.wanted.push((node.point(), Wanted::State(given.clone())));
                    given
                }
                None => INTACT.to_owned(),
            };
            let asked = read_check(&mut self.reader, &fields, &mut self.wanted);
            if let Some((probe, expect)) = asked {
                self.scenario.checks.push(Check { name, proves, given, probe, expect });
            } else if self.reader.mistakes.len() == before {
                // A check must never vanish without a word.
                self.reader.wrong(fields.at.clone(), "the check cannot be read");
            }
        }
    }
}

fn service(r: &mut Reader, node: &Node) -> Option<GatewayService> {
    if node.scalar() == Some("clusterIp") {
        return Some(GatewayService::ClusterIp);
    }
    if node.scalar().is_some() {
        r.wrong_help(
            node.point(),
            format!("a gateway's service cannot be {}", node.called()),
            "expected `clusterIp` or `nodePort: {http: …, https: …}`",
        );
        return None;
    }
    let (_, ports) = r.one_of(node, "a gateway's service", &["nodePort"])?;
    let fields = r.fields::<raw::NodePortFile>(ports, "`nodePort`")?;
    let mut port = |key: &str| {
        let node = fields.get(key)?;
        let expected = "a node port from 30000 to 32767";
        let port = r.number::<u16>(node, &format!("`{key}`"), expected)?;
        if !(30000..=32767).contains(&port) {
            r.wrong_help(node.point(), format!("`{port}` is no node port"), format!("expected {expected}"));
            return None;
        }
        Some(port)
    };
    let (http, https) = (port("http"), port("https"));
    Some(GatewayService::NodePort { http: http?, https: https? })
}

const CHANGES: &[&str] = &["without", "withoutObject", "with", "patch", "scale", "controlPlane"];

fn change(r: &mut Reader, node: &Node, place: &mut ChangePlace, wanted: &mut Vec<(Range<usize>, Wanted)>) -> Option<Change> {
    if node.scalar() == Some("withoutAll") {
        return Some(Change::WithoutAll);
    }
    if node.is_null() {
        return None;
    }
    if node.scalar().is_some() {
        let help = format!("expected `withoutAll` or a map with one of {}", ticked(CHANGES));
        r.wrong_help(node.point(), format!("a change cannot be {}", node.called()), help);
        return None;
    }
    let (tag, value) = r.one_of(node, "a change", CHANGES)?;
    place.object = value.point();
    match tag {
        "without" => Some(Change::Without { file: r.line(value, "`without`")? }),
        "with" => Some(Change::With { file: r.line(value, "`with`")? }),
        "withoutObject" => Some(Change::WithoutObject { key: object_name(r, value)? }),
        "scale" => {
            let fields = r.fields::<raw::ScaleFile>(value, "`scale`")?;
            let replicas = fields.get("replicas").and_then(|n| r.number(n, "`replicas`", "a number such as 0"));
            let node = fields.get("workload")?;
            let workload: Namespaced = r.name(node, "`workload`")?;
            wanted.push((node.point(), Wanted::Workload(workload.clone())));
            Some(Change::Scale { workload, replicas: replicas? })
        }
        "controlPlane" => control_plane::read(r, value).map(Change::ControlPlane),
        _ => {
            let fields = r.fields::<raw::PatchFile>(value, "`patch`")?;
            let mut edits = Vec::new();
            let set = fields.get("set");
            if let Some(Node { kind: Kind::Map(pairs), .. }) = set {
                for (key, value) in pairs {
                    edits.extend(pointer(r, key).map(|pointer| Edit::Set { pointer, value: value.to_json() }));
                    place.edits.extend((edits.len() > place.edits.len()).then(|| key.point()));
                }
            } else if let Some(node) = set {
                r.wrong_help(node.point(), format!("`set` cannot be {}", node.called()), "expected a map from JSON pointer to value");
            }
            for item in r.list_of(&fields, "remove") {
                edits.extend(pointer(r, item).map(|pointer| Edit::Remove { pointer }));
                place.edits.extend((edits.len() > place.edits.len()).then(|| item.point()));
            }
            if !fields.has("set") && !fields.has("remove") {
                r.wrong_help(fields.at.clone(), "a patch that edits nothing", "add `set` or `remove`");
            }
            let object = fields.get("object")?;
            place.object = object.point();
            Some(Change::Patch { key: object_name(r, object)?, edits })
        }
    }
}

fn pointer(r: &mut Reader, node: &Node) -> Option<String> {
    let text = r.text(node, "a JSON pointer")?;
    if text.starts_with('/') && text.len() > 1 {
        return Some(text);
    }
    r.wrong_help(node.point(), format!("`{text}` is no JSON pointer"), "expected one such as `/spec/servers/0/tls/mode`");
    None
}

/// `KIND NAMESPACE/NAME`; the API version is filled in once the object is found.
fn object_name(r: &mut Reader, node: &Node) -> Option<ObjectKey> {
    let text = r.line(node, "an object")?;
    let key = text.split_once(' ').map(|(kind, rest)| {
        let (namespace, name) = match rest.trim().split_once('/') {
            Some((namespace, name)) => (Some(namespace.to_owned()), name),
            None => (None, rest.trim()),
        };
        ObjectKey { api_version: String::new(), kind: kind.to_owned(), namespace, name: name.to_owned() }
    });
    match key {
        Some(key) if !key.name.is_empty() => Some(key),
        _ => {
            r.wrong_help(
                node.point(),
                format!("`{text}` names no object"),
                "expected `KIND NAMESPACE/NAME`, such as `Gateway istio-system/egress`",
            );
            None
        }
    }
}

/// A map from text to text.
pub(super) fn texts(r: &mut Reader, node: &Node, what: &str) -> Vec<(String, String)> {
    let Kind::Map(pairs) = &node.kind else {
        r.wrong_help(node.point(), format!("{what} cannot be {}", node.called()), "expected a map from text to text");
        return Vec::new();
    };
    let mut out = BTreeMap::new();
    let mut order = Vec::new();
    for (key, value) in pairs {
        let (Some(key_text), Some(text)) = (r.text(key, what), r.text(value, what)) else {
            if value.is_null() {
                r.wrong(key.point(), format!("{what} has a key without a value"));
            }
            continue;
        };
        if out.insert(key_text.clone(), text).is_some() {
            r.wrong(key.point(), format!("`{key_text}` is given twice"));
        } else {
            order.push(key_text);
        }
    }
    order.into_iter().filter_map(|key| out.remove_entry(&key)).collect()
}
