//! The mesh configuration and istiod's environment, while a state wants them otherwise.
//!
//! What was there is noted on the very object, in an annotation of ours, in the same write that changes it: whoever comes after a
//! run that was killed puts it back. Neither has a revision in istiod's `/debug/configz`. Of the mesh configuration
//! `/debug/mesh` says what istiod uses (`pilot/pkg/xds/debug.go`, `meshHandler`); a push context that is made after that has it
//! (`pilot/pkg/model/push_context.go`, `InitContext`), and the gate's mark is written later still. The environment is read when
//! istiod starts: its Deployment is rolled out, and the gate waits until every proxy is connected to what stands then.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use gateproof_core::names::{Namespaced, ObjectKey};
use gateproof_core::scenario::{ControlPlane, merge};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Map, Value, json};

use super::{ApplyError, rollout};
use crate::kube_ext::{PodHttp, glance};

/// The mesh configuration before a state changed it: a text in JSON's form, or `null` where there was none.
const MESH_BEFORE: &str = "gateproof.io/mesh-before";
/// The environment before a state changed it: the list of the container, or `null` where there was none.
const ENV_BEFORE: &str = "gateproof.io/env-before";
/// istiod's container.
const CONTAINER: &str = "discovery";
const DEBUG_PORT: u16 = 15014;
/// How long istiod may take to use a mesh configuration that was written. It watches the ConfigMap.
const TAKEN_UP: Duration = Duration::from_secs(20);
/// How long a mesh configuration that was put back after a killed run is waited for: it may be the same in effect, which
/// nothing shows.
const PUT_BACK: Duration = Duration::from_secs(5);
/// How often a write is tried that meets somebody else's.
const TRIES: usize = 5;

/// One istiod, and what a state has set in it.
pub struct Istiod {
    client: Client,
    http: PodHttp,
    at: Namespaced,
    may_change: bool,
    /// What is set now, or may be.
    set: ControlPlane,
    /// Whether the last change of the mesh configuration, or of the environment, was not seen to its end: it is made again.
    unsure: (bool, bool),
    /// What istiod used before its mesh configuration was changed.
    used: Option<Value>,
}

impl Istiod {
    /// The istiod of this Deployment. What it was set to is put back only where that may be changed at all.
    #[must_use]
    pub fn new(client: Client, http: PodHttp, at: Namespaced, may_change: bool) -> Self {
        Self { client, http, at, may_change, set: ControlPlane::default(), unsure: (false, false), used: None }
    }

    /// The same istiod, for somebody who has set nothing in it.
    #[must_use]
    pub fn untouched(&self) -> Self {
        Self::new(self.client.clone(), self.http.clone(), self.at.clone(), self.may_change)
    }

    /// Whether something is set, or may be.
    #[must_use]
    pub fn is_touched(&self) -> bool {
        !self.set.is_empty() || self.unsure.0 || self.unsure.1
    }

    /// Sets this and nothing else; what is not in it is as it was before any state. Says what was done.
    ///
    /// # Errors
    /// When the API refuses, istiod does not use what was written, or its new pods do not become ready in time.
    pub async fn set(&mut self, wanted: &ControlPlane, limit: Duration) -> Result<Vec<String>, ApplyError> {
        let mut done = Vec::new();
        // An istiod that does not start with what it was given cannot say which mesh configuration it uses: its environment goes
        // back first, and what one step meets does not keep the other from being done.
        let environment = if wanted.env.is_empty() { self.set_env(wanted, limit, &mut done).await } else { Ok(()) };
        let mesh = if wanted.mesh != self.set.mesh || self.unsure.0 {
            self.unsure.0 = true;
            let mesh = self.set_mesh(&wanted.mesh, &mut done).await;
            self.unsure.0 = mesh.is_err();
            mesh
        } else {
            Ok(())
        };
        environment?;
        mesh?;
        self.set_env(wanted, limit, &mut done).await?;
        Ok(done)
    }

    async fn set_env(&mut self, wanted: &ControlPlane, limit: Duration, done: &mut Vec<String>) -> Result<(), ApplyError> {
        if wanted.env == self.set.env && !self.unsure.1 {
            return Ok(());
        }
        // Known to be set before it is: a run that is broken off in between puts it back all the same.
        self.unsure.1 = true;
        self.set.env.extend(wanted.env.clone());
        self.write_env(&wanted.env, limit).await?;
        self.set.env.clone_from(&wanted.env);
        self.unsure.1 = false;
        let shown: Vec<String> = self.set.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let what = if shown.is_empty() { "as it was before".to_owned() } else { shown.join(", ") };
        done.push(format!("Deployment {}: environment {what}, rolled out", self.at));
        Ok(())
    }

    /// Puts back what a killed run left changed. Gives the objects that were.
    ///
    /// # Errors
    /// When the API refuses, or istiod does not become ready in time.
    pub async fn put_back(&mut self, limit: Duration) -> Result<Vec<ObjectKey>, ApplyError> {
        let mut back = Vec::new();
        if !self.may_change {
            return Ok(back);
        }
        let deployment = self.deployment();
        let found = deployment.get_opt(&self.at.name).await.map_err(|e| ApplyError::api("reading", &self.key(), e))?;
        let Some(found) = found else { return Ok(back) };
        let (key, maps) = self.config_map(&found);
        let map = maps.get_opt(&key.name).await.map_err(|e| ApplyError::api("reading", &key, e))?;
        if map.is_some_and(|map| map.annotations().contains_key(MESH_BEFORE)) {
            let used = self.uses().await.unwrap_or_default();
            self.write_mesh(&key, &maps, &Map::new()).await?;
            let began = Instant::now();
            while began.elapsed() < PUT_BACK && self.uses().await.is_ok_and(|now| now == used) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            back.push(key);
        }
        if found.annotations().contains_key(ENV_BEFORE) {
            self.write_env(&BTreeMap::new(), limit).await?;
            back.push(self.key());
        }
        Ok(back)
    }

    async fn set_mesh(&mut self, wanted: &Map<String, Value>, done: &mut Vec<String>) -> Result<(), ApplyError> {
        let found = self.deployment().get(&self.at.name).await.map_err(|e| ApplyError::api("reading", &self.key(), e))?;
        let (key, maps) = self.config_map(&found);
        if let Some(used) = self.used.clone() {
            self.write_mesh(&key, &maps, &Map::new()).await?;
            self.until_used(&key, |now| (*now != used).then(|| "it uses another than before".to_owned())).await?;
            (self.set.mesh, self.used) = (Map::new(), None);
        }
        if wanted.is_empty() {
            done.push(format!("{key}: mesh configuration as it was before"));
            return Ok(());
        }
        let pods = self.uses().await?;
        self.used = pods.into_values().next();
        self.set.mesh.clone_from(wanted);
        self.write_mesh(&key, &maps, wanted).await?;
        self.until_used(&key, |now| contradiction(wanted, now)).await?;
        done.push(format!("{key}: mesh configuration {}", Value::Object(wanted.clone())));
        Ok(())
    }

    /// Writes the mesh configuration with these parts, or as it was before without any.
    async fn write_mesh(&self, key: &ObjectKey, maps: &Api<DynamicObject>, parts: &Map<String, Value>) -> Result<(), ApplyError> {
        for attempt in 1.. {
            let map = maps.get(&key.name).await.map_err(|e| ApplyError::api("reading", key, e))?;
            let before = match map.annotations().get(MESH_BEFORE) {
                Some(noted) => read_note(key, noted)?,
                None => map.data.pointer("/data/mesh").cloned().unwrap_or(Value::Null),
            };
            let (text, note) = if parts.is_empty() {
                (before, Value::Null)
            } else {
                let mut mesh = match before.as_str().map(str::trim).filter(|text| !text.is_empty()) {
                    Some(yaml) => serde_saphyr::from_str(yaml)
                        .map_err(|error| self.unusable(format!("reading the key `mesh` of {key}"), error.to_string()))?,
                    None => Value::Null,
                };
                merge(&mut mesh, parts);
                (json!(format!("{mesh:#}")), json!(before.to_string()))
            };
            let patch = json!({"metadata": {"resourceVersion": map.resource_version(), "annotations": {MESH_BEFORE: note}}, "data": {"mesh": text}});
            match maps.patch(&key.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                Err(kube::Error::Api(status)) if status.code == 409 && attempt < TRIES => {}
                Err(error) => return Err(ApplyError::api("changing", key, error)),
                Ok(_) => break,
            }
        }
        Ok(())
    }

    /// Writes the environment with these variables, or as it was before without any, and waits until only pods that have it run.
    async fn write_env(&self, set: &BTreeMap<String, String>, limit: Duration) -> Result<(), ApplyError> {
        let (key, api) = (self.key(), self.deployment());
        for attempt in 1.. {
            let deployment = api.get(&self.at.name).await.map_err(|e| ApplyError::api("reading", &key, e))?;
            let mut containers = deployment.data.pointer("/spec/template/spec/containers").cloned().unwrap_or_default();
            let istiod = containers.as_array_mut().and_then(|all| all.iter_mut().find(|c| c["name"] == CONTAINER));
            let Some(istiod) = istiod.and_then(Value::as_object_mut) else {
                return Err(self.unusable(format!("changing {key}"), format!("it has no container `{CONTAINER}`")));
            };
            let before = match deployment.annotations().get(ENV_BEFORE) {
                Some(noted) => read_note(&key, noted)?,
                None => istiod.get("env").cloned().unwrap_or(Value::Null),
            };
            let note = if set.is_empty() { Value::Null } else { json!(before.to_string()) };
            match with_variables(before, set) {
                Value::Null => drop(istiod.remove("env")),
                env => drop(istiod.insert("env".to_owned(), env)),
            }
            let patch = json!({"metadata": {"resourceVersion": deployment.resource_version(), "annotations": {ENV_BEFORE: note}},
                "spec": {"template": {"spec": {"containers": containers}}}});
            match api.patch(&self.at.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                Err(kube::Error::Api(status)) if status.code == 409 && attempt < TRIES => {}
                Err(error) => return Err(ApplyError::api("changing", &key, error)),
                Ok(_) => break,
            }
        }
        rollout::renewed(&self.client, &self.at, limit).await
    }

    /// What each of its pods uses as mesh configuration.
    async fn uses(&self) -> Result<BTreeMap<String, Value>, ApplyError> {
        let doing = || format!("asking {} which mesh configuration it uses", self.at);
        let pods = glance::pods_of(&self.client, &self.at).await.map_err(|e| ApplyError::api("listing the pods of", &self.key(), e))?;
        let mut out = BTreeMap::new();
        for pod in pods.into_iter().filter(|pod| pod.is_ready() && !pod.is_leaving()) {
            let name = pod.metadata.name;
            let answer = self.http.get(&self.at.namespace, &name, DEBUG_PORT, "/debug/mesh", Duration::from_secs(5)).await;
            let body = answer.map_err(|error| self.unusable(doing(), error.to_string()))?;
            let mesh = serde_json::from_slice(&body).map_err(|error| self.unusable(doing(), format!("/debug/mesh of {name}: {error}")))?;
            out.insert(name, mesh);
        }
        if out.is_empty() { Err(self.unusable(doing(), "it has no ready pod".to_owned())) } else { Ok(out) }
    }

    /// Waits until nothing speaks against what any pod uses.
    async fn until_used(&self, key: &ObjectKey, against: impl Fn(&Value) -> Option<String>) -> Result<(), ApplyError> {
        let began = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            // A pod may be going away while it is asked.
            let wrong = match self.uses().await {
                Ok(uses) => uses.iter().find_map(|(pod, mesh)| Some(format!("{pod}: {}", against(mesh)?))),
                Err(error) => Some(error.to_string()),
            };
            let Some(last) = wrong else { return Ok(()) };
            if began.elapsed() > TAKEN_UP {
                let last = format!("{last}; istiod's log says why, where it refused the configuration (`invalid mesh config`)");
                return Err(ApplyError::TimedOut { what: format!("istiod uses {key}"), limit: TAKEN_UP, last });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    fn deployment(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.at.namespace, &ApiResource::erase::<Deployment>(&()))
    }

    /// The ConfigMap that istiod watches: `istio`, or `istio-REVISION` (`pilot/pkg/bootstrap/mesh.go`, `getMeshConfigMapName`).
    fn config_map(&self, deployment: &DynamicObject) -> (ObjectKey, Api<DynamicObject>) {
        let name = match revision(&deployment.data) {
            "" | "default" => "istio".to_owned(),
            revision => format!("istio-{revision}"),
        };
        let key =
            ObjectKey { api_version: "v1".to_owned(), kind: "ConfigMap".to_owned(), namespace: Some(self.at.namespace.clone()), name };
        (key, Api::namespaced_with(self.client.clone(), &self.at.namespace, &ApiResource::erase::<ConfigMap>(&())))
    }

    fn key(&self) -> ObjectKey {
        rollout::deployment_key(&self.at)
    }

    fn unusable(&self, doing: String, why: String) -> ApplyError {
        ApplyError::ControlPlane { doing, why }
    }
}

/// istiod's revision: the variable `REVISION` of its container, which the chart sets.
fn revision(deployment: &Value) -> &str {
    let containers = deployment.pointer("/spec/template/spec/containers").and_then(Value::as_array);
    let istiod = containers.into_iter().flatten().find(|c| c["name"] == CONTAINER);
    let env = istiod.and_then(|c| c["env"].as_array()).into_iter().flatten();
    env.filter(|variable| variable["name"] == "REVISION").find_map(|variable| variable["value"].as_str()).unwrap_or_default()
}

fn read_note(key: &ObjectKey, noted: &str) -> Result<Value, ApplyError> {
    serde_json::from_str(noted).map_err(|error| ApplyError::ControlPlane {
        doing: format!("reading what {key} was before, from its annotation"),
        why: format!("{error}; put the object right by hand and take the annotation away"),
    })
}

/// A container's variables with some set: in their places where there are such, else after all others.
fn with_variables(before: Value, set: &BTreeMap<String, String>) -> Value {
    if set.is_empty() {
        return before;
    }
    let Value::Array(mut list) = before else {
        return set.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
    };
    for (name, value) in set {
        let variable = json!({"name": name, "value": value});
        match list.iter_mut().find(|known| known["name"] == name.as_str()) {
            Some(known) => *known = variable,
            None => list.push(variable),
        }
    }
    Value::Array(list)
}

/// Why it cannot be that this was taken over into that: protobuf's JSON form of a MeshConfig, which leaves out what is a type's
/// zero value, the first name of an enumeration among them (`REGISTRY_ONLY`).
fn contradiction(set: &Map<String, Value>, uses: &Value) -> Option<String> {
    set.iter().find_map(|(key, value)| differs(key, value, field(uses, key)))
}

fn differs(at: &str, set: &Value, uses: Option<&Value>) -> Option<String> {
    match (set, uses) {
        (Value::Object(set), uses) => {
            set.iter().find_map(|(key, value)| differs(&format!("{at}.{key}"), value, uses.and_then(|uses| field(uses, key))))
        }
        (set, None | Some(Value::Null)) => (!may_be_left_out(set)).then(|| format!("{at} is not in what it uses")),
        // istiod adds its own (`extensionProviders`, `pkg/config/mesh/mesh.go`).
        (Value::Array(set), Some(Value::Array(uses))) if set.iter().all(|item| item["name"].is_string()) => set.iter().find_map(|item| {
            let at = format!("{at}[{}]", item["name"]);
            differs(&at, item, uses.iter().find(|known| known["name"] == item["name"]))
        }),
        (Value::Array(set), Some(Value::Array(uses))) if set.len() == uses.len() => {
            set.iter().zip(uses).enumerate().find_map(|(n, (set, uses))| differs(&format!("{at}[{n}]"), set, Some(uses)))
        }
        (set, Some(uses)) => (!is_same(set, uses)).then(|| format!("{at} is {uses} in what it uses, not {set}")),
    }
}

/// A field by its name, or by the same in protobuf's JSON form (`access_log_file` is `accessLogFile`).
fn field<'a>(of: &'a Value, key: &str) -> Option<&'a Value> {
    of.get(key).or_else(|| {
        let mut words = key.split('_');
        let first = words.next().unwrap_or_default().to_owned();
        let camel = words.fold(first, |mut out, word| {
            let mut letters = word.chars();
            out.extend(letters.next().map(|c| c.to_ascii_uppercase()));
            out + letters.as_str()
        });
        of.get(camel)
    })
}

/// The first names of MeshConfig's enumerations (`istio.io/api`, `mesh/v1alpha1/config.proto`). Of another one that is
/// left out it is not known whether istiod has taken it over.
const FIRST_NAMES: [&str; 6] = ["REGISTRY_ONLY", "TEXT", "UNSPECIFIED", "DO_NOT_UPGRADE", "DEFAULT", "TLS_AUTO"];

fn may_be_left_out(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty() || FIRST_NAMES.contains(&text.as_str()),
        Value::Array(items) => items.is_empty(),
        other => *other == json!(false) || *other == json!(0) || other.is_null(),
    }
}

/// Whether two scalars say the same: numbers and texts alike, durations in any unit.
fn is_same(one: &Value, other: &Value) -> bool {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let (one, other) = (text(one), text(other));
    one == other || seconds(&one).zip(seconds(&other)).is_some_and(|(one, other)| (one - other).abs() < 1e-9)
}

fn seconds(text: &str) -> Option<f64> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let unit = match &text[split..] {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    text[..split].parse::<f64>().ok().map(|number| number * unit)
}

#[cfg(test)]
mod tests {
    use gateproof_mesh::{Mesh, Options};

    use super::*;

    #[test]
    fn what_istiod_uses_is_read_as_protobuf_writes_it() {
        let uses = json!({"accessLogFile": "/dev/stdout", "connectTimeout": "0.500s", "outboundTrafficPolicy": {}, "proxyListenPort": 15001,
            "enableAutoMtls": true, "trustDomainAliases": ["a", "b"], "defaultConfig": {"proxyMetadata": {"A_B": "1"}},
            "extensionProviders": [{"name": "prometheus"}, {"name": "ours", "zipkin": {"port": 9411}}]});
        let against = |set: Value| contradiction(set.as_object().unwrap(), &uses);
        for set in [
            json!({"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}),
            json!({"connectTimeout": "500ms", "proxyListenPort": "15001", "access_log_file": "/dev/stdout"}),
            json!({"trustDomainAliases": ["a", "b"], "enableTracing": false, "caCertificates": []}),
            json!({"defaultConfig": {"proxyMetadata": {"A_B": 1}}}),
            json!({"extensionProviders": [{"name": "ours", "zipkin": {"port": 9411}}]}),
        ] {
            assert_eq!(against(set.clone()), None, "{set}");
        }
        for (set, why) in [
            (json!({"connectTimeout": "5s"}), "connectTimeout is \"0.500s\" in what it uses, not \"5s\""),
            (json!({"enableAutoMtls": false}), "enableAutoMtls is true in what it uses, not false"),
            (json!({"nosuch": {"a": "b"}}), "nosuch.a is not in what it uses"),
            (
                json!({"extensionProviders": [{"name": "theirs", "zipkin": {"port": 1}}]}),
                "extensionProviders[\"theirs\"].name is not in what it uses",
            ),
            (json!({"trustDomainAliases": ["a"]}), "trustDomainAliases is [\"a\",\"b\"] in what it uses, not [\"a\"]"),
            (json!({"trustDomainAliases": ["a", "c"]}), "trustDomainAliases[1] is \"b\" in what it uses, not \"c\""),
        ] {
            assert_eq!(against(set).as_deref(), Some(why));
        }
        let open = json!({"outboundTrafficPolicy": {"mode": "ALLOW_ANY"}});
        let set = json!({"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}});
        assert!(
            contradiction(set.as_object().unwrap(), &open).is_some(),
            "the policy that stood before is not taken for the one that was set"
        );
    }

    #[test]
    fn variables_are_set_in_their_places_and_taken_back_exactly() {
        let before = json!([{"name": "REVISION", "value": "default"}, {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]);
        let set = BTreeMap::from([("A".to_owned(), "1".to_owned()), ("B".to_owned(), "2".to_owned())]);
        let after = with_variables(before.clone(), &set);
        assert_eq!(after, json!([{"name": "REVISION", "value": "default"}, {"name": "A", "value": "1"}, {"name": "B", "value": "2"}]));
        assert_eq!(with_variables(before.clone(), &BTreeMap::new()), before);
        assert_eq!(with_variables(Value::Null, &BTreeMap::new()), Value::Null);
        assert_eq!(with_variables(Value::Null, &set), json!([{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]));
    }

    #[test]
    fn the_revision_is_the_containers_own() {
        let of = |env: Value| {
            json!({"spec": {"template": {"spec": {"containers": [{"name": "other", "env": [{"name": "REVISION", "value": "no"}]},
            {"name": "discovery", "env": env}]}}}})
        };
        assert_eq!(revision(&of(json!([{"name": "REVISION", "value": "canary"}]))), "canary");
        assert_eq!(revision(&of(Value::Null)), "");
    }

    fn istiod_of(mesh: &Mesh) -> Istiod {
        let at = Namespaced { namespace: "istio-system".to_owned(), name: "istiod".to_owned() };
        Istiod::new(mesh.client(), PodHttp::new(mesh.client()), at, true)
    }

    /// What a state may change, as it stands: the mesh configuration, istiod's containers, and our annotations on both.
    fn stands(mesh: &Mesh) -> (Value, Value, [Value; 2]) {
        let map = mesh.store().get("ConfigMap", "istio-system", "istio").unwrap();
        let istiod = mesh.store().get("apps/Deployment", "istio-system", "istiod").unwrap();
        let notes = [&map["metadata"]["annotations"][MESH_BEFORE], &istiod["metadata"]["annotations"][ENV_BEFORE]].map(Value::clone);
        (map["data"].clone(), istiod["spec"]["template"]["spec"]["containers"].clone(), notes)
    }

    fn closed() -> ControlPlane {
        ControlPlane {
            mesh: json!({"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}).as_object().unwrap().clone(),
            env: BTreeMap::from([("PILOT_SCOPE_GATEWAY_TO_NAMESPACE".to_owned(), "true".to_owned())]),
        }
    }

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn what_a_state_sets_is_in_use_when_it_stands_and_is_put_back_exactly() {
        let mesh = Mesh::start(Options::default()).await.unwrap();
        let (before, mut istiod) = (stands(&mesh), istiod_of(&mesh));
        let done = istiod.set(&closed(), LIMIT).await.unwrap();
        assert_eq!(done.len(), 2, "{done:?}");
        assert_eq!(istiod.uses().await.unwrap().len(), 1, "the earlier pod is gone");
        assert!(istiod.uses().await.unwrap().values().all(|mesh| mesh["outboundTrafficPolicy"] == json!({})));
        let (_, containers, notes) = stands(&mesh);
        assert_eq!(containers[0]["env"], json!([{"name": "PILOT_SCOPE_GATEWAY_TO_NAMESPACE", "value": "true"}]));
        assert!(notes.iter().all(Value::is_string), "{notes:?}");
        // Another state's instead of this one's.
        let other = ControlPlane { mesh: json!({"dnsRefreshRate": "5s"}).as_object().unwrap().clone(), env: BTreeMap::new() };
        istiod.set(&other, LIMIT).await.unwrap();
        let uses = istiod.uses().await.unwrap();
        assert!(uses.values().all(|m| m["outboundTrafficPolicy"]["mode"] == "ALLOW_ANY" && m["dnsRefreshRate"] == "5s"), "{uses:?}");
        istiod.set(&ControlPlane::default(), LIMIT).await.unwrap();
        assert_eq!(stands(&mesh), before);
        assert_eq!(istiod.set(&ControlPlane::default(), LIMIT).await.unwrap(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn what_a_killed_run_left_is_put_back_by_the_next() {
        let mesh = Mesh::start(Options::default()).await.unwrap();
        let before = stands(&mesh);
        // Two states, the second changing what the first had changed: what counts is what was there before both.
        let mut killed = istiod_of(&mesh);
        killed.set(&closed(), LIMIT).await.unwrap();
        drop(killed);
        let mut killed = istiod_of(&mesh);
        killed.set(&ControlPlane { env: BTreeMap::from([("OTHER".to_owned(), "1".to_owned())]), ..closed() }, LIMIT).await.unwrap();
        drop(killed);
        let mut not_allowed = Istiod { may_change: false, ..istiod_of(&mesh) };
        assert_eq!(not_allowed.put_back(LIMIT).await.unwrap(), Vec::new());
        let back = istiod_of(&mesh).put_back(LIMIT).await.unwrap();
        assert_eq!(
            back.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["ConfigMap istio-system/istio", "Deployment istio-system/istiod"]
        );
        assert_eq!(stands(&mesh), before);
        assert_eq!(istiod_of(&mesh).put_back(LIMIT).await.unwrap(), Vec::new());
    }
}
