//! Directories → a catalogue of scenarios, and every mistake in them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::diagnose::{Mistake, Source};
use super::exceptions::{self, EXCEPTIONS_FILE, Ending};
use super::read::{Draft, read};
use super::rules;
use super::types::{Gateway, GatewayService, Scenario};
use super::values::{Applied, ValueOverrides};
use crate::names::{Namespaced, ScenarioId};

const SCENARIO_FILE: &str = "scenario.yaml";

/// Every scenario below a folder.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    /// Those without a mistake, sorted by id.
    pub scenarios: Vec<Scenario>,
    /// The others, sorted by id.
    pub broken: Vec<BrokenScenario>,
    /// Mistakes that belong to no scenario.
    pub root_mistakes: Vec<Mistake>,
    /// Entries of `exceptions.yaml` that end on a day, in the order written; see [`Catalogue::expired`].
    pub ending: Vec<Ending>,
}

/// A scenario that cannot be run, and why. One with a matrix is broken as a whole, since its rows are one file.
#[derive(Debug, Clone)]
pub struct BrokenScenario {
    /// Its path below the scenarios root.
    pub id: ScenarioId,
    /// Never empty; in the order of file and place. What is wrong in some rows only says in which.
    pub mistakes: Vec<Mistake>,
}

impl Catalogue {
    /// The scenario of that name, if it is not broken.
    #[must_use]
    pub fn get(&self, id: &ScenarioId) -> Option<&Scenario> {
        self.scenarios.binary_search_by(|s| s.id.cmp(id)).ok().map(|i| &self.scenarios[i])
    }

    /// What a scenario needs, transitively, each after what it needs itself; not the scenario itself.
    #[must_use]
    pub fn beneath(&self, scenario: &Scenario) -> Vec<&Scenario> {
        rules::beneath(&scenario.id, &|id| self.get(id).map(|s| s.needs.as_slice())).iter().filter_map(|id| self.get(id)).collect()
    }

    /// Every mistake, those of the root first.
    pub fn mistakes(&self) -> impl Iterator<Item = &Mistake> {
        self.root_mistakes.iter().chain(self.broken.iter().flat_map(|b| &b.mistakes))
    }
}

/// The gateways that every cluster has: `istio-system/istio-ingressgateway` and `istio-egressgateway`,
/// with the labels that Istio's `gateway` chart gives to releases of those names.
#[must_use]
pub fn default_gateways() -> Vec<Gateway> {
    let gateway = |name: &str, istio: &str, service| Gateway {
        at: Namespaced { namespace: "istio-system".to_owned(), name: name.to_owned() },
        labels: BTreeMap::from([("app".to_owned(), name.to_owned()), ("istio".to_owned(), istio.to_owned())]),
        service,
    };
    vec![
        gateway("istio-ingressgateway", "ingressgateway", GatewayService::NodePort { http: 31080, https: 31443 }),
        gateway("istio-egressgateway", "egressgateway", GatewayService::ClusterIp),
    ]
}

/// Reads every directory with a `scenario.yaml` below `root`. Input of any kind leads to mistakes, never to a panic.
#[must_use]
pub fn load_catalogue(root: &Path) -> Catalogue {
    load_catalogue_with(root, &ValueOverrides::default())
}

/// The same with values overridden from outside. An override that meets no declared value is a mistake of the root.
#[must_use]
pub fn load_catalogue_with(root: &Path, overrides: &ValueOverrides) -> Catalogue {
    let mut tree = Tree { root: root.to_owned(), ..Tree::default() };
    tree.walk(root, "", 0);
    catalogue_of(tree, overrides)
}

/// The YAML files below a root, before anything is known about them.
#[derive(Default)]
pub(super) struct Tree {
    pub(super) root: PathBuf,
    /// By path below the root, with `/` between parts.
    pub(super) files: BTreeMap<String, Arc<str>>,
    pub(super) mistakes: Vec<(String, Mistake)>,
}

impl Tree {
    pub(super) fn shown(&self, path: &str) -> String {
        self.root.join(path).display().to_string()
    }

    fn walk(&mut self, dir: &Path, prefix: &str, depth: usize) {
        let unreadable = |error: &std::io::Error| {
            let help = "`--scenarios` or GATEPROOF_SCENARIOS names the folder with the scenarios; `gateproof new` writes a first one";
            let help = (depth == 0).then(|| help.to_owned());
            Mistake::of_file(dir.display().to_string(), format!("the folder cannot be read: {error}"), help)
        };
        let entries = match std::fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) => return self.mistakes.push((prefix.to_owned(), unreadable(&error))),
        };
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    self.mistakes.push((prefix.to_owned(), unreadable(&error)));
                    continue;
                }
            };
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
            if name.starts_with('.') {
                continue;
            }
            // A symlinked directory is not followed: it could lead back here.
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                if depth < 16 {
                    self.walk(&entry.path(), &path, depth + 1);
                }
            } else if name.ends_with(".yaml") || name.ends_with(".yml") {
                match std::fs::read(entry.path()).map(String::from_utf8) {
                    Ok(Ok(text)) => drop(self.files.insert(path, text.into())),
                    Ok(Err(_)) => {
                        self.mistakes.push((path.clone(), Mistake::of_file(self.shown(&path), "the file is not UTF-8 text", None)))
                    }
                    Err(error) => self
                        .mistakes
                        .push((path.clone(), Mistake::of_file(self.shown(&path), format!("the file cannot be read: {error}"), None))),
                }
            }
        }
    }
}

/// The pure part: from texts to the catalogue.
pub(super) fn catalogue_of(tree: Tree, overrides: &ValueOverrides) -> Catalogue {
    if tree.files.contains_key(SCENARIO_FILE) {
        let help = "give the folder above it, or move it into a folder of its own".to_owned();
        let mistake = Mistake::of_file(tree.shown(SCENARIO_FILE), "the scenarios folder is itself a scenario", Some(help));
        return Catalogue { root_mistakes: vec![mistake], ..Catalogue::default() };
    }
    let excepted = tree.files.get(EXCEPTIONS_FILE).map(|text| Source { file: tree.shown(EXCEPTIONS_FILE).into(), text: Arc::clone(text) });
    let mut root_mistakes = Vec::new();
    let mut files: BTreeMap<ScenarioId, BTreeMap<String, Source>> = BTreeMap::new();
    let mut folders: BTreeMap<ScenarioId, Source> = BTreeMap::new();
    for (path, text) in &tree.files {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        if name != SCENARIO_FILE {
            continue;
        }
        let source = Source { file: tree.shown(path).into(), text: Arc::clone(text) };
        match ScenarioId::new(dir) {
            Ok(id) => drop(folders.insert(id, source)),
            Err(error) => root_mistakes.push(Mistake::of_file(
                &*source.file,
                format!("`{dir}` is no scenario's name"),
                Some(format!("expected {}", error.expected)),
            )),
        }
    }
    let mut applied = Applied::new(overrides);
    let mut drafts = drafts(&tree, &folders, &mut applied);
    let owner = |path: &str| {
        let mut dir = path;
        while let Some((above, _)) = dir.rsplit_once('/') {
            if let Ok(id) = ScenarioId::new(above)
                && folders.contains_key(&id)
            {
                return Some(id);
            }
            dir = above;
        }
        None
    };
    let mut lost: Vec<(ScenarioId, Mistake)> = Vec::new();
    for (path, text) in &tree.files {
        let name = path.rsplit('/').next().unwrap_or(path);
        if name == SCENARIO_FILE || path == EXCEPTIONS_FILE {
            continue;
        }
        let misnamed = name == "scenario.yml";
        match owner(path) {
            Some(id) if !misnamed => {
                let below = path[id.as_str().len() + 1..].to_owned();
                files.entry(id).or_default().insert(below, Source { file: tree.shown(path).into(), text: Arc::clone(text) });
            }
            _ if misnamed => root_mistakes.push(Mistake::of_file(
                tree.shown(path),
                "the file is not read",
                Some("a scenario's file is called `scenario.yaml`".to_owned()),
            )),
            _ => root_mistakes.push(Mistake::of_file(
                tree.shown(path),
                "the file belongs to no scenario",
                Some("put it beside a `scenario.yaml` that names it".to_owned()),
            )),
        }
    }
    for (path, mistake) in tree.mistakes {
        match owner(&path).or_else(|| ScenarioId::new(path).ok().filter(|id| folders.contains_key(id))) {
            Some(id) => lost.push((id, mistake)),
            None => root_mistakes.push(mistake),
        }
    }
    for (folder, mistake) in lost {
        for draft in drafts.values_mut().filter(|draft| draft.folder == folder) {
            draft.reader.mistakes.push(mistake.clone());
        }
    }
    // A file that cannot be read may declare what an override means.
    if drafts.values().all(|draft| draft.readable) {
        root_mistakes.extend(applied.unused());
    }
    if drafts.is_empty() && root_mistakes.is_empty() {
        let help = Some("a scenario is a directory with a `scenario.yaml`".to_owned());
        root_mistakes.push(Mistake::of_file(tree.root.display().to_string(), "the folder has no scenario in it", help));
    }
    rules::judge(&mut drafts, &files);
    let mut catalogue = Catalogue { root_mistakes, ..Catalogue::default() };
    let mut by_folder: BTreeMap<ScenarioId, Vec<Draft>> = BTreeMap::new();
    for draft in drafts.into_values() {
        by_folder.entry(draft.folder.clone()).or_default().push(draft);
    }
    for (id, drafts) in by_folder {
        if drafts.iter().all(|draft| draft.reader.mistakes.is_empty()) {
            catalogue.scenarios.extend(drafts.into_iter().map(|draft| draft.scenario));
            continue;
        }
        let own = drafts.first().map(|draft| Arc::clone(&draft.reader.source.file)).unwrap_or_default();
        let mut mistakes = merged(drafts);
        mistakes.sort_by(|a, b| (a.file != *own, &a.file, a.line, a.column).cmp(&(b.file != *own, &b.file, b.line, b.column)));
        catalogue.broken.push(BrokenScenario { id, mistakes });
    }
    catalogue.scenarios.sort_by(|a, b| a.id.cmp(&b.id));
    if let Some(source) = excepted {
        exceptions::apply(&mut catalogue, source);
    }
    catalogue
}

/// Every scenario's file as it reads, once for each row of its matrix.
fn drafts(tree: &Tree, folders: &BTreeMap<ScenarioId, Source>, applied: &mut Applied<'_>) -> BTreeMap<ScenarioId, Draft> {
    let mut out = BTreeMap::new();
    for (folder, source) in folders {
        for mut draft in read(folder, &tree.root.join(folder.as_str()), source, applied) {
            let mut id = draft.scenario.id.clone();
            if id != *folder && folders.contains_key(&id) {
                let help = "a row is called by its scenario's path and its own name; give it another";
                draft.reader.wrong_help(0..0, format!("a row is called as the scenario `{id}` below this one"), help);
                id = folder.clone();
            }
            out.insert(id, draft);
        }
    }
    out
}

/// The mistakes of a scenario's rows: what is the same in all of them once, and of the others in which they are.
fn merged(drafts: Vec<Draft>) -> Vec<Mistake> {
    let rows = drafts.len();
    let mut found: Vec<(Mistake, BTreeSet<String>)> = Vec::new();
    for draft in drafts {
        let row = draft.scenario.row.unwrap_or_default();
        for mistake in draft.reader.mistakes {
            match found.iter_mut().find(|(known, _)| rows > 1 && known.is_as(&mistake)) {
                Some((_, of)) => drop(of.insert(row.clone())),
                None => found.push((mistake, BTreeSet::from([row.clone()]))),
            }
        }
    }
    let told = |(mut mistake, of): (Mistake, BTreeSet<String>)| {
        if of.len() < rows {
            let of: Vec<String> = of.iter().map(|row| format!("`{row}`")).collect();
            mistake.message += &format!(", in the row {}", of.join(" and "));
        }
        mistake
    };
    found.into_iter().map(told).collect()
}
