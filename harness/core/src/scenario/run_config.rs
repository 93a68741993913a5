//! Pods that wait for the run's ConfigMap in a namespace that does not get it: they would never start.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::diagnose::{Mistake, Source};
use super::types::{KubeObject, Manifest, Scenario};
use super::yaml::{self, Kind, Node};

/// The ConfigMap that `runConfig` brings into a namespace.
pub const RUN_CONFIG_MAP: &str = "gateproof-run";

/// Mistakes in a scenario's manifests: pods that take the run's ConfigMap where neither the scenario nor what it needs has it brought.
/// `brought` are the namespaces that `runConfig` names, or that have an object of that name of somebody's own.
pub(super) fn not_brought(scenario: &Scenario, brought: &BTreeSet<&str>) -> Vec<Mistake> {
    let mut out = Vec::new();
    for manifest in scenario.manifests.iter().chain(&scenario.extra_manifests) {
        for object in &manifest.objects {
            let Some(namespace) = object.key.namespace.as_deref().filter(|n| !brought.contains(n)) else { continue };
            let mut found = Vec::new();
            takers(&object.value, &mut Vec::new(), &mut found);
            if !found.is_empty() {
                out.push(mistake(scenario, manifest, object, namespace, &found));
            }
        }
    }
    out
}

/// One step into a structure.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Item(usize),
}

/// Where pods take the ConfigMap and cannot do without it: as a volume, a part of one, or for their variables.
fn takers(value: &Value, at: &mut Vec<Step>, out: &mut Vec<Vec<Step>>) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                // A volume that no container mounts is not set up, and so not waited for.
                if let ("volumes", Value::Array(volumes), Some(_)) = (key.as_str(), inner, map.get("containers")) {
                    for (i, volume) in volumes.iter().enumerate().filter(|(_, volume)| is_mounted(map, volume)) {
                        at.extend([Step::Key(key.clone()), Step::Item(i)]);
                        takers(volume, at, out);
                        at.truncate(at.len() - 2);
                    }
                    continue;
                }
                at.push(Step::Key(key.clone()));
                let takes = matches!(key.as_str(), "configMap" | "configMapRef" | "configMapKeyRef");
                if takes && inner["name"] == RUN_CONFIG_MAP && inner["optional"] != true {
                    let name = Step::Key("name".to_owned());
                    out.push(at.iter().cloned().chain([name]).collect());
                } else {
                    takers(inner, at, out);
                }
                at.pop();
            }
        }
        Value::Array(items) => {
            for (i, inner) in items.iter().enumerate() {
                at.push(Step::Item(i));
                takers(inner, at, out);
                at.pop();
            }
        }
        _ => {}
    }
}

/// Whether a container of this pod mounts a volume.
fn is_mounted(pod: &Map<String, Value>, volume: &Value) -> bool {
    let containers = ["initContainers", "containers"].into_iter().filter_map(|key| pod.get(key)?.as_array()).flatten();
    containers.filter_map(|c| c["volumeMounts"].as_array()).flatten().any(|mount| mount["name"] == volume["name"])
}

/// One mistake for an object, at the first of its places: the others are mended by the same line.
fn mistake(scenario: &Scenario, manifest: &Manifest, object: &KubeObject, namespace: &str, found: &[Vec<Step>]) -> Mistake {
    let file = scenario.dir.join(&manifest.file).display().to_string();
    let source = Source { file: file.into(), text: manifest.text.as_str().into() };
    let message = format!("nothing brings ConfigMap `{RUN_CONFIG_MAP}` into the namespace `{namespace}`, so the pods would wait for it");
    let help = format!("add `runConfig: [{namespace}]` to the scenario");
    let (documents, _) = yaml::parse(&manifest.text);
    let mut nodes = Vec::new();
    documents.iter().for_each(|document| objects(document, &mut nodes));
    let line = |node: &Node| 1 + manifest.text.get(..node.point().start).map_or(0, |before| before.matches('\n').count());
    let node = nodes.into_iter().find(|node| line(node) == object.line);
    let places = found.iter().filter_map(|steps| Some(follow(node?, steps)?.point()));
    // What a value put there has no place of its own.
    let at = places.min_by_key(|at| at.start).unwrap_or_else(|| {
        let start = manifest.text.split_inclusive('\n').take(object.line.saturating_sub(1)).map(str::len).sum::<usize>();
        start..start + 1
    });
    Mistake::at(&source, at, message, Some(help))
}

/// The objects of a document: itself, or the items of a list.
fn objects<'n>(node: &'n Node, out: &mut Vec<&'n Node>) {
    match node.get("items").map(|items| &items.kind) {
        Some(Kind::List(items)) if node.get("kind").and_then(Node::scalar).is_some_and(|k| k.ends_with("List")) => {
            items.iter().for_each(|item| objects(item, out));
        }
        _ => out.push(node),
    }
}

fn follow<'n>(node: &'n Node, steps: &[Step]) -> Option<&'n Node> {
    steps.iter().try_fold(node, |node, step| match (step, &node.kind) {
        (Step::Key(key), _) => node.get(key),
        (Step::Item(i), Kind::List(items)) => items.get(*i),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::load;

    const DEPLOYMENT: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: ledger}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: clerk, namespace: ledger}
spec:
  template:
    spec:
      volumes:
      - name: run
        configMap:
          name: gateproof-run
      containers:
      - {name: curl, image: curlimages/curl, volumeMounts: [{name: run, mountPath: /run}], env: [{name: T, valueFrom: {configMapKeyRef: {name: gateproof-run, key: token}}}]}
";

    fn told(more: &str, manifest: &str, base: &str) -> Vec<String> {
        let checks = "checks: [{name: v, proves: p, versions: , expect: {agree: true}}]\n";
        let scenario = format!("title: t\nneeds: [b]\nmanifests: [m.yaml]\n{more}{checks}");
        let base = format!("title: b\n{base}{checks}");
        let own = "apiVersion: v1\nkind: Namespace\nmetadata: {name: ledger}\n";
        let files = [("a/scenario.yaml", scenario.as_str()), ("a/m.yaml", manifest), ("b/scenario.yaml", &base), ("b/n.yaml", own)];
        let files = if base.contains("n.yaml") { &files[..] } else { &files[..3] };
        load(files).mistakes().map(ToString::to_string).collect()
    }

    #[test]
    fn a_pod_that_would_wait_for_the_runs_config_is_told_with_its_place() {
        let said = told("", DEPLOYMENT, "");
        assert_eq!(said.len(), 1, "{said:#?}");
        assert!(
            said[0].starts_with("scenarios/a/m.yaml:14:17: nothing brings ConfigMap `gateproof-run` into the namespace `ledger`"),
            "{said:?}"
        );
        assert!(said[0].contains("add `runConfig: [ledger]`"), "{said:?}");
        let by_variable = DEPLOYMENT.replace("        configMap:\n          name: gateproof-run\n", "        emptyDir: {}\n");
        assert!(told("", &by_variable, "")[0].starts_with("scenarios/a/m.yaml:15:"), "{:?}", told("", &by_variable, ""));
    }

    #[test]
    fn where_it_is_brought_or_can_be_done_without_nothing_is_wrong() {
        assert_eq!(told("runConfig: [ledger]\n", DEPLOYMENT, ""), Vec::<String>::new());
        let optional = DEPLOYMENT.replace("name: gateproof-run", "optional: true, name: gateproof-run").replace(
            "        configMap:\n          optional: true, name: gateproof-run\n",
            "        configMap: {optional: true, name: gateproof-run}\n",
        );
        assert_eq!(told("", &optional, ""), Vec::<String>::new());
        let own = format!("{DEPLOYMENT}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: gateproof-run, namespace: ledger}}\n");
        assert_eq!(told("", &own, ""), Vec::<String>::new());
        // What is needed may have it brought.
        let unused = "volumes: [{name: run, configMap: {name: gateproof-run}}]\n      containers: [{name: c, image: curl}]\n";
        let unused = format!("{}{unused}", &DEPLOYMENT[..DEPLOYMENT.find("volumes:").unwrap()]);
        assert_eq!(told("", &unused, ""), Vec::<String>::new(), "nobody mounts it");
        let second = DEPLOYMENT.replace("apiVersion: v1\nkind: Namespace\nmetadata: {name: ledger}\n---\n", "");
        assert_eq!(told("", &second, "manifests: [n.yaml]\nrunConfig: [ledger]\n"), Vec::<String>::new());
        assert_eq!(told("", &second, "manifests: [n.yaml]\n").len(), 1);
    }
}
