//! What a scenario says, held against its manifests, its needs and the other scenarios.

use std::collections::{BTreeMap, BTreeSet};

use super::diagnose::{Mistake, Source, suggest};
use super::load::default_gateways;
use super::made::{Made, made_in};
use super::manifest;
use super::read::{Draft, Wanted};
use super::run_config::{RUN_CONFIG_MAP, not_brought};
use super::types::*;
use crate::names::{Namespaced, ObjectKey, ScenarioId};
use crate::outcome::json_match::glob;
use crate::plan::mutations;
use crate::plan::state::{self, StateObjects};

/// What a scenario needs, transitively, each after its own needs. Cycles and unknown ids end the walk there.
pub(super) fn beneath<'s>(id: &ScenarioId, needs: &dyn Fn(&ScenarioId) -> Option<&'s [ScenarioId]>) -> Vec<ScenarioId> {
    fn visit<'s>(
        id: &ScenarioId,
        needs: &dyn Fn(&ScenarioId) -> Option<&'s [ScenarioId]>,
        seen: &mut BTreeSet<ScenarioId>,
        out: &mut Vec<ScenarioId>,
    ) {
        let mut sorted: Vec<_> = needs(id).unwrap_or_default().iter().collect();
        sorted.sort();
        for need in sorted {
            if seen.insert(need.clone()) && needs(need).is_some() {
                visit(need, needs, seen, out);
                out.push(need.clone());
            }
        }
    }
    let (mut seen, mut out) = (BTreeSet::from([id.clone()]), Vec::new());
    visit(id, needs, &mut seen, &mut out);
    out
}

/// Adds every mistake that shows only when the drafts are seen together.
pub(super) fn judge(drafts: &mut BTreeMap<ScenarioId, Draft>, files: &BTreeMap<ScenarioId, BTreeMap<String, Source>>) {
    for draft in drafts.values_mut() {
        manifests(draft, files.get(&draft.folder).cloned().unwrap_or_default());
        changes(draft);
        unnoticed(draft);
    }
    rows(drafts);
    needs(drafts);
    let worlds: BTreeMap<_, _> = drafts.keys().map(|id| (id.clone(), World::of(id, drafts))).collect();
    for (id, draft) in drafts.iter_mut() {
        existing(draft, &worlds[id]);
    }
    shared(drafts);
    // Last, so that it is known who is broken: all rows of a scenario, where one is.
    let broken: BTreeSet<_> = drafts.values().filter(|d| !d.reader.mistakes.is_empty()).map(|d| d.folder.clone()).collect();
    let broken_beneath: Vec<_> = drafts.keys().map(|id| (id.clone(), first_broken(id, drafts, &broken))).collect();
    for (id, broken) in broken_beneath {
        let Some(draft) = drafts.get_mut(&id) else { continue };
        for (need, culprit) in broken {
            let at = draft.scenario.needs.iter().position(|n| *n == need).map_or(0..0, |i| draft.needs_at[i].clone());
            let message = if need == culprit {
                format!("needs `{need}`, which is broken")
            } else {
                format!("needs `{need}`, which needs `{culprit}`, which is broken")
            };
            draft.reader.wrong_help(at, message, format!("mend the mistakes of `{culprit}` first"));
        }
    }
}

fn first_broken(id: &ScenarioId, drafts: &BTreeMap<ScenarioId, Draft>, broken: &BTreeSet<ScenarioId>) -> Vec<(ScenarioId, ScenarioId)> {
    let needs = |id: &ScenarioId| drafts.get(id).map(|d| d.scenario.needs.as_slice());
    let broken = |id: &ScenarioId| drafts.get(id).is_some_and(|d| broken.contains(&d.folder));
    let direct = drafts.get(id).map(|d| d.scenario.needs.clone()).unwrap_or_default();
    let culprit = |need: &ScenarioId| beneath(need, &needs).into_iter().chain([need.clone()]).find(|n| n != id && broken(n));
    // In a circle everyone is broken; that is said where the circle is.
    let circle = |need: &ScenarioId| need == id || beneath(need, &needs).contains(id);
    direct.into_iter().filter(|need| !circle(need)).filter_map(|need| culprit(&need).map(|c| (need, c))).collect()
}

/// What is said of changes that `prove` makes has to be of one that it makes.
fn unnoticed(draft: &mut Draft) {
    if draft.scenario.unnoticed.is_empty() || !draft.reader.mistakes.is_empty() {
        return;
    }
    let made: Vec<String> = mutations(&draft.scenario).into_iter().map(|m| m.id).collect();
    for (unnoticed, at) in draft.scenario.unnoticed.iter().zip(draft.unnoticed_at.clone()) {
        if !made.iter().any(|id| glob(&unnoticed.change, id)) {
            let help = suggest(&unnoticed.change, made.iter().map(String::as_str));
            let help = help.unwrap_or_else(|| "`gateproof prove --json` writes down all that are made".to_owned());
            draft.reader.wrong_help(at, format!("`prove` makes no change `{}` of this scenario", unnoticed.change), help);
        }
    }
}

/// Files named and files there; their objects.
fn manifests(draft: &mut Draft, mut files: BTreeMap<String, Source>) {
    let mut named = draft.manifest_names.clone();
    let intact = named.len();
    for (variation, places) in draft.scenario.variations.iter().zip(&draft.changes_at) {
        for (change, place) in variation.changes.iter().zip(places) {
            let Change::With { file } = change else { continue };
            match named.iter().position(|(n, _)| n == file) {
                Some(i) if i < intact => {
                    draft.reader.wrong_help(place.at.clone(), format!("`{file}` is already there"), "it is among `manifests`");
                }
                Some(_) => {}
                None => named.push((file.clone(), place.object.clone())),
            }
        }
    }
    // What is named already is not what another name was meant to be.
    let there: Vec<String> = files.keys().filter(|file| !named.iter().any(|(name, _)| name == *file)).cloned().collect();
    let mut declared: BTreeMap<ObjectKey, String> = BTreeMap::new();
    for (i, (name, at)) in named.into_iter().enumerate() {
        let Some(source) = files.remove(&name) else {
            let help = suggest(&name, there.iter().map(String::as_str));
            draft.reader.wrong_help(
                at,
                format!("there is no manifest `{name}`"),
                help.unwrap_or_else(|| "the directory has no other manifest".to_owned()),
            );
            continue;
        };
        let read = manifest::read(&name, source, &mut draft.given);
        draft.reader.mistakes.extend(read.mistakes);
        let mut own: BTreeMap<ObjectKey, String> = BTreeMap::new();
        for (object, at) in read.manifest.objects.iter().zip(&read.places) {
            // A manifest that only a variation adds may hold the replacement of an intact object.
            let seen = if i < intact { &mut declared } else { &mut own };
            let key = unversioned(&object.key);
            if let Some(first) = seen.get(&key) {
                let help = Some(format!("first at {first}"));
                draft.reader.mistakes.push(Mistake::at(&read.source, at.clone(), format!("{} is declared twice", object.key), help));
            } else {
                seen.insert(key, format!("{}:{}", read.source.file, object.line));
            }
        }
        if i < intact { draft.scenario.manifests.push(read.manifest) } else { draft.scenario.extra_manifests.push(read.manifest) }
    }
    draft.unnamed = files.into_values().filter(|_| draft.readable).collect();
}

/// What no row of a scenario names or takes.
fn rows(drafts: &mut BTreeMap<ScenarioId, Draft>) {
    let folders: BTreeSet<ScenarioId> = drafts.values().map(|draft| draft.folder.clone()).collect();
    for folder in folders {
        let mut group: Vec<&mut Draft> = drafts.values_mut().filter(|draft| draft.folder == folder).collect();
        let Some(first) = group.first() else { continue };
        let by_all = |file: &str| group.iter().all(|draft| draft.unnamed.iter().any(|source| *source.file == *file));
        let unnamed: Vec<Source> = first.unnamed.iter().filter(|source| by_all(&source.file)).cloned().collect();
        // Where something could not be read, a value may be taken there.
        let whole = group.iter().all(|draft| draft.readable && draft.reader.mistakes.is_empty());
        let lost = |name: &str| group.iter().all(|draft| draft.given.unused().any(|(other, _)| other == name));
        let unused: Vec<_> = first.given.unused().filter(|(name, _)| whole && lost(name)).map(|(name, at)| (name.to_owned(), at)).collect();
        for draft in &mut group {
            for source in &unnamed {
                let help = Some("name it under `manifests`, or in a variation's `with`, or take it away".to_owned());
                draft.reader.mistakes.push(Mistake::of_file(&*source.file, "the file is named nowhere in the scenario", help));
            }
            for (name, at) in &unused {
                let help = format!("write `$(value:{name})` in a check or a manifest, or take the value away");
                draft.reader.wrong_help(at.clone(), format!("nothing takes the value `{name}`"), help);
            }
        }
    }
}

/// The same object may be written in two versions of its API.
fn unversioned(key: &ObjectKey) -> ObjectKey {
    ObjectKey { api_version: key.group().to_owned(), ..key.clone() }
}

/// Objects named by kind and name get their API version; each change must change something that is there.
fn changes(draft: &mut Draft) {
    let all: BTreeSet<ObjectKey> = {
        let manifests = draft.scenario.manifests.iter().chain(&draft.scenario.extra_manifests);
        manifests.flat_map(|m| m.objects.iter().map(|o| o.key.clone())).collect()
    };
    let manifests_fine = draft.readable && draft.scenario.manifests.len() == draft.manifest_names.len();
    for (v, places) in draft.changes_at.iter().enumerate() {
        for (c, place) in places.iter().enumerate() {
            let (Change::WithoutObject { key } | Change::Patch { key, .. }) = &mut draft.scenario.variations[v].changes[c] else {
                continue;
            };
            let same = |k: &&ObjectKey| k.kind == key.kind && k.namespace == key.namespace && k.name == key.name;
            let found: Vec<_> = all.iter().filter(same).collect();
            match found.as_slice() {
                [one] => *key = (*one).clone(),
                [] if manifests_fine => {
                    let shown: Vec<String> = all.iter().map(ToString::to_string).collect();
                    let help = suggest(&key.to_string(), shown.iter().map(String::as_str)).unwrap_or_default();
                    draft.reader.wrong_help(place.object.clone(), format!("no manifest of the scenario has {key}"), help);
                }
                [] => {}
                [first, ..] => {
                    // Several API groups have that kind: the first that the intact scenario has.
                    let intact = draft.scenario.manifests.iter().flat_map(|m| &m.objects).map(|o| &o.key);
                    *key = intact.filter(|k| found.contains(k)).min().unwrap_or(first).clone();
                }
            }
        }
    }
    if !draft.reader.mistakes.is_empty() {
        return; // The objects are not complete; what the changes do to them cannot be said.
    }
    let mut wrong = Vec::new();
    for (variation, places) in draft.scenario.variations.iter().zip(&draft.changes_at) {
        let mut objects = StateObjects::intact(&draft.scenario);
        for (change, place) in variation.changes.iter().zip(places) {
            if let Err(error) = state::apply(&draft.scenario, &mut objects, change) {
                let at = error.edit().and_then(|i| place.edits.get(i)).unwrap_or(&place.object).clone();
                wrong.push((at, error.to_string()));
            }
        }
    }
    for (at, message) in wrong {
        draft.reader.wrong(at, message);
    }
}

/// Unknown needs and cycles.
fn needs(drafts: &mut BTreeMap<ScenarioId, Draft>) {
    let graph: BTreeMap<ScenarioId, Vec<ScenarioId>> = drafts.iter().map(|(id, d)| (id.clone(), d.scenario.needs.clone())).collect();
    let rows: Vec<(ScenarioId, String)> = drafts.iter().map(|(id, d)| (d.folder.clone(), id.to_string())).collect();
    for (id, draft) in drafts.iter_mut() {
        for (need, at) in draft.scenario.needs.iter().zip(&draft.needs_at) {
            if !graph.contains_key(need) {
                let others: Vec<&str> = graph.keys().filter(|k| *k != id).map(ScenarioId::as_str).collect();
                let rows: Vec<String> = rows.iter().filter(|(folder, _)| folder == need).map(|(_, row)| format!("`{row}`")).collect();
                let help = match rows.as_slice() {
                    [] => suggest(need.as_str(), others.iter().copied()).unwrap_or_else(|| "there is no other scenario".to_owned()),
                    rows => format!("it has rows, of which one can be needed: {}", rows.join(", ")),
                };
                draft.reader.wrong_help(at.clone(), format!("there is no scenario `{need}`"), help);
            } else if let Some(path) = way(need, id, &graph) {
                let path: Vec<_> = path.iter().map(ScenarioId::as_str).collect();
                draft.reader.wrong_help(
                    at.clone(),
                    "the needs go in a circle",
                    format!("`{id}` needs `{}`", path.join("`, which needs `")),
                );
            }
        }
    }
}

/// A way along `needs`, both ends included.
fn way(from: &ScenarioId, to: &ScenarioId, graph: &BTreeMap<ScenarioId, Vec<ScenarioId>>) -> Option<Vec<ScenarioId>> {
    let mut open = vec![vec![from.clone()]];
    let mut seen = BTreeSet::from([from.clone()]);
    while let Some(path) = open.pop() {
        let last = path.last()?;
        if last == to {
            return Some(path);
        }
        for next in graph.get(last).into_iter().flatten().filter(|n| seen.insert((*n).clone())) {
            open.push(path.iter().cloned().chain([next.clone()]).collect());
        }
    }
    None
}

/// What stands while a scenario runs.
struct World {
    workloads: BTreeSet<String>,
    gateways: BTreeSet<String>,
    certificates: BTreeSet<String>,
    outside: BTreeSet<String>,
    namespaces: BTreeSet<String>,
    /// Namespaces that have the run's ConfigMap.
    run_config: BTreeSet<String>,
    /// Objects of the needs, and whose they are.
    objects: BTreeMap<ObjectKey, ScenarioId>,
    /// All that is needed could be read, so that what is not here is nowhere.
    complete: bool,
}

impl World {
    fn of(id: &ScenarioId, drafts: &BTreeMap<ScenarioId, Draft>) -> Self {
        let needs = |id: &ScenarioId| drafts.get(id).map(|d| d.scenario.needs.as_slice());
        let below = beneath(id, &needs);
        let mut world = Self {
            workloads: BTreeSet::from(["istio-system/istiod".to_owned()]),
            gateways: BTreeSet::new(),
            certificates: BTreeSet::new(),
            outside: BTreeSet::new(),
            namespaces: ["istio-system", "default", "kube-system"].map(str::to_owned).into(),
            run_config: BTreeSet::new(),
            objects: BTreeMap::new(),
            complete: true,
        };
        world.add_gateways(&default_gateways());
        for member in below.iter().chain([id]) {
            let Some(draft) = drafts.get(member) else { continue };
            let scenario = &draft.scenario;
            let unknown_need = scenario.needs.iter().any(|n| !drafts.contains_key(n));
            world.complete &= !unknown_need && (member == id || draft.reader.mistakes.is_empty());
            world.complete &= draft.readable && scenario.manifests.len() == draft.manifest_names.len();
            world.add_gateways(&scenario.gateways);
            world.certificates.extend(scenario.certificates.iter().map(|c| c.secret.to_string()));
            world.outside.extend(scenario.outside.iter().map(|o| o.host.to_string()));
            world.run_config.extend(scenario.run_config.iter().cloned());
            let extra = scenario.extra_manifests.iter().filter(|_| member == id);
            for object in scenario.manifests.iter().chain(extra).flat_map(|m| &m.objects) {
                world.add_object(object);
                if member != id {
                    world.objects.insert(unversioned(&object.key), member.clone());
                }
            }
        }
        world
    }

    fn add_gateways(&mut self, gateways: &[Gateway]) {
        for gateway in gateways {
            self.gateways.insert(gateway.at.to_string());
            self.workloads.insert(gateway.at.to_string());
            self.namespaces.insert(gateway.at.namespace.clone());
        }
    }

    fn add_object(&mut self, object: &KubeObject) {
        let ObjectKey { kind, namespace, name, .. } = &object.key;
        match (kind.as_str(), namespace) {
            ("Deployment", Some(ns)) => drop(self.workloads.insert(format!("{ns}/{name}"))),
            ("Namespace", None) => drop(self.namespaces.insert(name.clone())),
            ("ConfigMap", Some(ns)) if name == RUN_CONFIG_MAP => drop(self.run_config.insert(ns.clone())),
            // Istio deploys a Gateway of the Gateway API by itself.
            ("Gateway", Some(ns)) if object.key.group() == "gateway.networking.k8s.io" => {
                let class = object.value.pointer("/spec/gatewayClassName").and_then(|c| c.as_str()).unwrap_or("istio");
                self.workloads.insert(format!("{ns}/{name}-{class}"));
                self.gateways.insert(format!("{ns}/{name}-{class}"));
            }
            _ => {}
        }
    }
}

/// Everything that is named has to be somewhere.
fn existing(draft: &mut Draft, world: &World) {
    let states: BTreeSet<String> = draft.scenario.variations.iter().map(|v| v.name.clone()).chain([INTACT.to_owned()]).collect();
    let mut used = BTreeSet::new();
    for (at, wanted) in std::mem::take(&mut draft.wanted) {
        let (what, name, known) = match &wanted {
            Wanted::State(name) => {
                used.insert(name.clone());
                ("variation", name.clone(), &states)
            }
            Wanted::Workload(name) => ("Deployment", name.to_string(), &world.workloads),
            Wanted::Gateway(name) => ("gateway", name.to_string(), &world.gateways),
            Wanted::Certificate(name) => ("declared certificate", name.to_string(), &world.certificates),
            Wanted::Outside(host) => ("declared host outside", host.to_string(), &world.outside),
            Wanted::Namespace(name) => ("namespace", name.clone(), &world.namespaces),
        };
        if known.contains(&name) || (!world.complete && !matches!(wanted, Wanted::State(_))) {
            continue;
        }
        let help = suggest(&name, known.iter().map(String::as_str)).unwrap_or_else(|| "the scenario and its needs declare none".to_owned());
        draft.reader.wrong_help(at, format!("there is no {what} `{name}`"), help);
    }
    for (variation, at) in draft.scenario.variations.iter().zip(&draft.variations_at) {
        if !used.contains(&variation.name) && !variation.name.is_empty() && variation.name != INTACT {
            draft.reader.wrong_help(
                at.clone(),
                format!("no check is given `{}`", variation.name),
                "add a check with `given`, or take the variation away",
            );
        }
    }
    made(draft, world);
    if world.complete {
        let mistakes = not_brought(&draft.scenario, &world.run_config.iter().map(String::as_str).collect());
        draft.reader.mistakes.extend(mistakes);
    }
    let doubles = draft.scenario.manifests.iter().flat_map(|m| m.objects.iter().map(move |o| (m, o)));
    let doubles: Vec<_> = doubles.filter_map(|(m, o)| Some((m, o, world.objects.get(&unversioned(&o.key))?))).collect();
    for (manifest, object, owner) in doubles {
        let help = "an object belongs to one scenario; a variation's `patch` cannot reach those of the needs".to_owned();
        let message = format!("{} belongs to `{owner}`, which is needed", object.key);
        let mistake = at_object(&draft.scenario, manifest, object, message, help);
        draft.reader.mistakes.push(mistake);
    }
}

/// A mistake at the line where an object begins.
fn at_object(scenario: &Scenario, manifest: &Manifest, object: &KubeObject, message: String, help: String) -> Mistake {
    let file = scenario.dir.join(&manifest.file).display().to_string();
    let source = Source { file: file.into(), text: manifest.text.as_str().into() };
    let start = manifest.text.split_inclusive('\n').take(object.line.saturating_sub(1)).map(str::len).sum::<usize>();
    let end = start + manifest.text[start..].find('\n').unwrap_or(manifest.text.len() - start);
    Mistake::at(&source, start..end, message, Some(help))
}

/// What a Secret takes from a certificate has to be declared, and a variation may not write a key down either.
fn made(draft: &mut Draft, world: &World) {
    let unknown = |made: &Made| made.of().map(ToString::to_string).filter(|name| world.complete && !world.certificates.contains(name));
    let help = |name: &str| {
        suggest(name, world.certificates.iter().map(String::as_str)).unwrap_or_else(|| "declare it under `certificates`".to_owned())
    };
    let scenario = &draft.scenario;
    let mut mistakes = Vec::new();
    for manifest in scenario.manifests.iter().chain(&scenario.extra_manifests) {
        for object in &manifest.objects {
            for name in made_in(object).iter().filter_map(|(_, made)| unknown(made)) {
                mistakes.push(at_object(scenario, manifest, object, format!("there is no declared certificate `{name}`"), help(&name)));
            }
        }
    }
    draft.reader.mistakes.extend(mistakes);
    let mut wrong = Vec::new();
    for (variation, places) in scenario.variations.iter().zip(&draft.changes_at) {
        for (change, place) in variation.changes.iter().zip(places) {
            let Change::Patch { key, edits } = change else { continue };
            for (i, edit) in edits.iter().enumerate().filter(|_| key.kind == "Secret") {
                let Edit::Set { pointer, value } = edit else { continue };
                let at = place.edits.get(i).unwrap_or(&place.object).clone();
                let found = value.as_str().and_then(Made::parse);
                if let Some(name) = found.as_ref().and_then(unknown) {
                    wrong.push((at, format!("there is no declared certificate `{name}`"), help(&name)));
                } else if pointer.ends_with("/tls.key") && found.is_none() {
                    let help = "`$(key:NAMESPACE/NAME)` takes that of a declared certificate".to_owned();
                    wrong.push((at, "a private key is kept in a variation".to_owned(), help));
                }
            }
        }
    }
    for (at, message, help) in wrong {
        draft.reader.wrong_help(at, message, help);
    }
}

/// One cluster serves all scenarios: what two of them declare has to be the same.
fn shared(drafts: &mut BTreeMap<ScenarioId, Draft>) {
    let mut gateways: BTreeMap<Namespaced, (Gateway, String)> =
        default_gateways().into_iter().map(|g| (g.at.clone(), (g, "the cluster".to_owned()))).collect();
    let mut outside = BTreeMap::new();
    let mut certificates = BTreeMap::new();
    for (id, draft) in drafts.iter_mut() {
        let mut clash = |at: &std::ops::Range<usize>, what: &str, other: &str| {
            draft.reader.wrong_help(
                at.clone(),
                format!("{what} is declared otherwise by {other}"),
                "one cluster serves all scenarios: declare it the same, or under another name",
            );
        };
        let own = format!("`{id}`");
        for (gateway, at) in draft.scenario.gateways.iter().zip(&draft.gateways_at) {
            let (first, other) = gateways.entry(gateway.at.clone()).or_insert_with(|| (gateway.clone(), own.clone()));
            if first != gateway {
                clash(at, &format!("the gateway `{}`", gateway.at), other);
            }
        }
        for (host, at) in draft.scenario.outside.iter().zip(&draft.outside_at) {
            let (first, other) = outside.entry(host.host.clone()).or_insert_with(|| (host.clone(), own.clone()));
            if first != host {
                clash(at, &format!("the host `{}`", host.host), other);
            }
        }
        for (certificate, at) in draft.scenario.certificates.iter().zip(&draft.certificates_at) {
            let (first, other) = certificates.entry(certificate.secret.clone()).or_insert_with(|| (certificate.clone(), own.clone()));
            if first != certificate {
                clash(at, &format!("the secret `{}`", certificate.secret), other);
            }
        }
    }
}
