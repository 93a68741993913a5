//! Objects into the cluster and out of it again: server-side apply under one field manager, waits by watch.

mod control_plane;
mod hopeless;
mod rollout;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures::future::join_all;
use gateproof_core::names::{Namespaced, ObjectKey, ScenarioId};
use gateproof_core::plan::GATEWAY_API;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PropagationPolicy};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::time::timeout;

use hopeless::Images;

pub use control_plane::Istiod;

use crate::kube_ext::{Resources, is_settled};
use crate::provider::{ImageMap, Pace};
use crate::sync::{FIELD_MANAGER, OWNER_LABEL, Revision};

/// Why an object could not be applied or removed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The API server, or a webhook behind it, refused.
    #[error("{doing} {key}: {}", api_words(source))]
    Api {
        /// `applying`, `deleting`, …
        doing: &'static str,
        /// Which object.
        key: Box<ObjectKey>,
        /// The client's error.
        source: Box<kube::Error>,
    },
    /// Its kind is not there under that version.
    #[error("looking up {} for {key}: {words}; is the version one that the cluster serves?", key.api_version)]
    NotServed {
        /// Which object.
        key: Box<ObjectKey>,
        /// What the API server said.
        words: String,
    },
    /// Something of that name stands there that gateproof did not make.
    #[error("{key} exists already and was not made by gateproof (it lacks the label {OWNER_LABEL}); rename yours, or remove it first")]
    Foreign {
        /// Which object.
        key: Box<ObjectKey>,
    },
    /// istiod, or what it is made of, is not as expected.
    #[error("{doing}: {why}")]
    ControlPlane {
        /// What was being done.
        doing: String,
        /// What was seen instead.
        why: String,
    },
    /// What is waited for cannot come.
    #[error("{what} cannot end: {why}")]
    Hopeless {
        /// What was waited for.
        what: String,
        /// What is missing, and what would bring it.
        why: String,
    },
    /// The time was up.
    #[error("{what} not within {}: {last}", in_seconds(*limit))]
    TimedOut {
        /// What was waited for.
        what: String,
        /// The limit.
        limit: Duration,
        /// What was seen last.
        last: String,
    },
}

/// A limit as people say it.
fn in_seconds(limit: Duration) -> String {
    if limit < Duration::from_secs(1) { format!("{} ms", limit.as_millis()) } else { format!("{:.0} s", limit.as_secs_f64()) }
}

/// The API server's own words, without the client's wrapping.
fn api_words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

impl ApplyError {
    /// Of a kind that the API server does not tell of, with the version that was asked for: it is what is most often wrong.
    fn kind(key: &ObjectKey, source: kube::Error) -> Self {
        match &source {
            kube::Error::Api(status) if status.code == 404 => Self::NotServed { key: Box::new(key.clone()), words: status.message.clone() },
            _ => Self::api("looking up the kind of", key, source),
        }
    }

    pub(crate) fn api(doing: &'static str, key: &ObjectKey, source: kube::Error) -> Self {
        Self::Api { doing, key: Box::new(key.clone()), source: Box::new(source) }
    }
}

/// An object that stands in the cluster because of this run.
#[derive(Debug, Clone)]
pub struct Standing {
    /// What was sent, before image substitution and labels.
    pub declared: Value,
    /// The revision that the API server answered with.
    pub revision: Revision,
}

/// Applies and removes objects, and knows which stand.
pub struct Applier {
    client: Client,
    resources: Resources,
    images: ImageMap,
    standing: BTreeMap<ObjectKey, Standing>,
    /// Namespaces that the provider made and that other things live in: never removed.
    kept_namespaces: Vec<String>,
    leave_namespaces: bool,
    /// The only namespaces in which leftovers are looked for; None for all.
    only_in: Option<Vec<String>>,
    images_are_these: bool,
}

impl Applier {
    /// Over this client. `images` maps image references of manifests to those the cluster has.
    #[must_use]
    pub fn new(client: Client, resources: Resources, images: ImageMap, kept_namespaces: Vec<String>) -> Self {
        Self {
            client,
            resources,
            images,
            standing: BTreeMap::new(),
            leave_namespaces: false,
            kept_namespaces,
            only_in: None,
            images_are_these: false,
        }
    }

    /// In a cluster that is not ours alone: other runs' objects elsewhere are not this one's to remove.
    #[must_use]
    pub fn looking_for_leftovers_only_in(mut self, namespaces: Vec<String>) -> Self {
        self.only_in = Some(namespaces);
        self
    }

    /// Leaves namespaces, emptied, where they are: in a cluster of our own that is kept, they go with it. Kubernetes takes
    /// 5 s to remove even an empty one (its `namespaceDeletionGracePeriod`), which every run would wait for.
    #[must_use]
    pub fn leaving_namespaces(mut self) -> Self {
        self.leave_namespaces = true;
        self
    }

    /// In a simulated mesh, which has all the images that it will ever have: one that it cannot pull now it never can.
    #[must_use]
    pub fn with_these_images_only(mut self) -> Self {
        self.images_are_these = true;
        self
    }

    /// One that knows of these objects that they stand, and of no others.
    #[must_use]
    pub fn knowing(&self, holds: impl Fn(&ObjectKey) -> bool) -> Self {
        Self {
            client: self.client.clone(),
            resources: self.resources.clone(),
            images: self.images.clone(),
            standing: self.standing.iter().filter(|(key, _)| holds(key)).map(|(key, standing)| (key.clone(), standing.clone())).collect(),
            kept_namespaces: self.kept_namespaces.clone(),
            leave_namespaces: self.leave_namespaces,
            only_in: self.only_in.clone(),
            images_are_these: self.images_are_these,
        }
    }

    /// Takes over what another knows to stand.
    pub fn take_over(&mut self, other: &mut Self) {
        self.standing.append(&mut other.standing);
    }

    /// What stands, by key.
    #[must_use]
    pub fn standing(&self) -> &BTreeMap<ObjectKey, Standing> {
        &self.standing
    }

    /// Applies objects that do not depend on one another, at once; does not wait for them to take effect.
    ///
    /// # Errors
    /// The first refusal; what was applied beside it stands and is known to stand.
    pub async fn apply_all(
        &mut self,
        objects: &[(ObjectKey, Value)],
        scenario: &ScenarioId,
    ) -> Result<Vec<(ObjectKey, Revision)>, ApplyError> {
        let looks = join_all(objects.iter().map(|(key, _)| self.refuse_foreign(key))).await;
        looks.into_iter().collect::<Result<Vec<()>, _>>()?;
        // Known to stand before it is sent: a run that is broken off in between takes it back all the same.
        let earlier: Vec<Option<Standing>> = objects
            .iter()
            .map(|(key, value)| {
                let sent = Standing { declared: value.clone(), revision: Revision::default() };
                self.standing.insert(key.clone(), sent)
            })
            .collect();
        let this = &*self;
        let answers = join_all(objects.iter().map(|(key, value)| this.send(key, value, scenario))).await;
        let mut versions = Vec::new();
        let mut first_error = None;
        for (((key, value), answer), earlier) in objects.iter().zip(answers).zip(earlier) {
            match answer {
                Ok(revision) => {
                    self.standing.insert(key.clone(), Standing { declared: value.clone(), revision: revision.clone() });
                    versions.push((key.clone(), revision));
                }
                Err(error) => {
                    match earlier {
                        Some(earlier) => self.standing.insert(key.clone(), earlier),
                        None => self.standing.remove(key),
                    };
                    first_error = first_error.or(Some(error));
                }
            }
        }
        first_error.map_or(Ok(versions), Err)
    }

    /// An error when something of that name stands there that is not ours.
    async fn refuse_foreign(&self, key: &ObjectKey) -> Result<(), ApplyError> {
        if self.standing.contains_key(key) || self.is_kept_namespace(key) {
            return Ok(());
        }
        let api = self.resources.api_for(key).await.map_err(|e| ApplyError::kind(key, e))?;
        match api.get_opt(&key.name).await {
            Ok(Some(found)) if !found.labels().contains_key(OWNER_LABEL) => Err(ApplyError::Foreign { key: Box::new(key.clone()) }),
            Ok(_) => Ok(()),
            Err(error) => Err(ApplyError::api("reading", key, error)),
        }
    }

    async fn send(&self, key: &ObjectKey, value: &Value, scenario: &ScenarioId) -> Result<Revision, ApplyError> {
        let api = self.resources.api_for(key).await.map_err(|e| ApplyError::kind(key, e))?;
        let mut object = value.clone();
        substitute_images(&mut object, &self.images);
        if !self.is_kept_namespace(key) {
            // Labels that are no map are for the API to refuse.
            if object["metadata"]["labels"].is_null() || object["metadata"]["labels"].is_object() {
                object["metadata"]["labels"][OWNER_LABEL] = json!(label_value(scenario));
            }
        }
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let answer: DynamicObject =
            api.patch(&key.name, &params, &Patch::Apply(&object)).await.map_err(|e| ApplyError::api("applying", key, e))?;
        Ok(Revision { uid: answer.uid().unwrap_or_default(), generation: answer.metadata.generation.unwrap_or(0) })
    }

    fn is_kept_namespace(&self, key: &ObjectKey) -> bool {
        key.kind == "Namespace" && self.kept_namespaces.contains(&key.name)
    }

    /// Deletes objects and waits until they are gone; a Deployment's pods included.
    ///
    /// # Errors
    /// When the API refuses, or an object is still there after `limit`.
    pub async fn remove_all(&mut self, keys: &[ObjectKey], limit: Duration) -> Result<(), ApplyError> {
        let this = &*self;
        let answers = join_all(keys.iter().map(|key| this.remove(key, limit))).await;
        let mut first_error = None;
        for (key, answer) in keys.iter().zip(answers) {
            match answer {
                Ok(()) => {
                    self.standing.remove(key);
                }
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    async fn remove(&self, key: &ObjectKey, limit: Duration) -> Result<(), ApplyError> {
        if self.is_kept_namespace(key) || (self.leave_namespaces && key.kind == "Namespace") {
            return Ok(());
        }
        let api = match self.resources.api_for(key).await {
            Ok(api) => api,
            // Its CRD is gone, and with it the object.
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            Err(error) => return Err(ApplyError::api("looking up the kind of", key, error)),
        };
        let policy = if key.kind == "Deployment" { PropagationPolicy::Foreground } else { PropagationPolicy::Background };
        let params = DeleteParams { propagation_policy: Some(policy), ..DeleteParams::default() };
        let uid = match api.delete(&key.name, &params).await {
            Ok(either) => either.left().and_then(|object| object.uid()),
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            Err(error) => return Err(ApplyError::api("deleting", key, error)),
        };
        let Some(uid) = uid else { return Ok(()) };
        match timeout(limit, await_condition(api, &key.name, conditions::is_deleted(&uid))).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(ApplyError::TimedOut { what: format!("removal of {key}"), limit, last: error.to_string() }),
            Err(_) => Err(ApplyError::TimedOut { what: format!("removal of {key}"), limit, last: "it is still there".to_owned() }),
        }
    }

    /// Removes what an earlier, killed run left of these kinds: every object that carries our label. Returns what it found.
    ///
    /// # Errors
    /// When the API refuses, or something does not go.
    pub async fn remove_leftovers(&mut self, kinds: &[(String, String)], limit: Duration) -> Result<Vec<ObjectKey>, ApplyError> {
        let mut found = Vec::new();
        for (api_version, kind) in kinds {
            let placeholder = ObjectKey { api_version: api_version.clone(), kind: kind.clone(), namespace: None, name: "*".to_owned() };
            let api = match self.resources.api_all(api_version, kind).await {
                Ok(api) => api,
                Err(kube::Error::Api(status)) if status.code == 404 => continue,
                Err(error) => return Err(ApplyError::api("looking up the kind of", &placeholder, error)),
            };
            let list =
                api.list(&ListParams::default().labels(OWNER_LABEL)).await.map_err(|e| ApplyError::api("listing", &placeholder, e))?;
            let near = |object: &DynamicObject| {
                let place = if kind == "Namespace" { object.metadata.name.clone() } else { object.namespace() };
                self.only_in.as_ref().is_none_or(|only| place.is_some_and(|p| only.contains(&p)))
            };
            if kind == "Namespace" && self.leave_namespaces {
                continue;
            }
            found.extend(list.items.into_iter().filter(near).map(|object| ObjectKey {
                api_version: api_version.clone(),
                kind: kind.clone(),
                namespace: object.namespace(),
                name: object.name_any(),
            }));
        }
        // Namespaces last: what is in them should go by its own deletion, not hang in theirs.
        let (namespaces, others): (Vec<_>, Vec<_>) = found.iter().cloned().partition(|k| k.kind == "Namespace");
        self.remove_all(&others, limit).await?;
        self.remove_all(&namespaces, limit).await?;
        Ok(found)
    }

    /// Waits until these Deployments have rolled out and these CRDs are established.
    ///
    /// # Errors
    /// When one has not after `limit`, or earlier where it is certain that it never will; the message carries the pods' own reasons.
    pub async fn until_ready(&self, keys: &[ObjectKey], limit: Duration, pace: Pace) -> Result<(), ApplyError> {
        // Controllers that copy Secrets into namespaces, and operators that make them, take seconds; of those in clusters of others
        // nothing is known.
        const OURS: Duration = Duration::from_secs(5);
        const OTHERS: Duration = Duration::from_secs(20);
        let named = self.named();
        let by_pods = self.may_be_made_by_pods();
        let look = pace.pause(if self.leave_namespaces { OURS } else { OTHERS });
        let images = if self.images_are_these { Images::AreThese } else { Images::MayCome };
        let hope = rollout::Hope { look, images, named: &named, by_pods };
        let began = Instant::now();
        for key in keys {
            let left = limit.saturating_sub(began.elapsed());
            match key.kind.as_str() {
                "Deployment" => rollout::deployment(&self.client, key, left, Some(&hope)).await?,
                "CustomResourceDefinition" => rollout::crd(&self.client, key, left).await?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Every text in objects that stand and run no pods: the name of what a controller makes of one of them is among these.
    fn named(&self) -> BTreeSet<String> {
        fn texts(value: &Value, out: &mut BTreeSet<String>) {
            match value {
                Value::String(text) => drop(out.insert(text.clone())),
                Value::Array(items) => items.iter().for_each(|item| texts(item, out)),
                Value::Object(map) => map.values().for_each(|value| texts(value, out)),
                _ => {}
            }
        }
        let mut out = BTreeSet::new();
        // Kubernetes' own kinds make no ConfigMap and no Secret by themselves; pods that might are known by what they may do, below.
        let theirs =
            |key: &&ObjectKey| !matches!(key.group(), "" | "apps" | "batch" | "policy" | "networking.istio.io" | "security.istio.io");
        self.standing.iter().filter(|(key, _)| theirs(key)).for_each(|(_, standing)| texts(&standing.declared, &mut out));
        // Annotations ask others for something, too: OpenShift's serving certificates, for one.
        for standing in self.standing.values() {
            texts(&standing.declared["metadata"]["annotations"], &mut out);
        }
        out
    }

    /// Whether pods of this run may make ConfigMaps or Secrets themselves: a Job may run, or a role allows it.
    fn may_be_made_by_pods(&self) -> bool {
        let allows = |declared: &Value| {
            let of = |rule: &Value, field: &str, wanted: &[&str]| {
                rule[field].as_array().into_iter().flatten().filter_map(Value::as_str).any(|text| wanted.contains(&text))
            };
            let mut rules = declared["rules"].as_array().into_iter().flatten();
            rules.any(|rule| of(rule, "verbs", &["create", "patch", "*"]) && of(rule, "resources", &["secrets", "configmaps", "*"]))
        };
        self.standing.iter().any(|(key, standing)| key.group() == "batch" || allows(&standing.declared))
    }

    /// Waits until the Deployments that istiod made for Gateways, and their pods, are gone.
    ///
    /// # Errors
    /// When one is still there after `limit`.
    pub async fn until_gone(&self, keys: &[ObjectKey], limit: Duration) -> Result<(), ApplyError> {
        let began = Instant::now();
        for key in keys {
            rollout::gone(&self.client, key, limit.saturating_sub(began.elapsed())).await?;
        }
        Ok(())
    }

    /// Waits until istiod has said of these Gateways and routes what it makes of them as they are now: then it has them. Who is
    /// nobody's is waited for in vain, and not for long; those are returned.
    ///
    /// # Errors
    /// When the API refuses.
    pub async fn until_noticed(&self, keys: &[ObjectKey], pace: Pace) -> Result<Vec<ObjectKey>, ApplyError> {
        const LIMIT: Duration = Duration::from_secs(3);
        const LOOK: Duration = Duration::from_millis(50);
        let began = Instant::now();
        let noticed = |key: ObjectKey| async move {
            let key = &key;
            let api = self.resources.api_for(key).await.map_err(|e| ApplyError::kind(key, e))?;
            while began.elapsed() < pace.pause(LIMIT) {
                let object = api.get_opt(&key.name).await.map_err(|e| ApplyError::api("reading", key, e))?;
                if object.and_then(|object| serde_json::to_value(object).ok()).is_none_or(|value| is_settled(&value)) {
                    return Ok(None);
                }
                tokio::time::sleep(pace.pause(LOOK)).await;
            }
            Ok(Some(key.clone()))
        };
        // At once: one that nobody answers takes no time from the others.
        let keys = keys.iter().filter(|key| key.group() == GATEWAY_API).cloned();
        let answers: Vec<Result<Option<ObjectKey>, ApplyError>> = join_all(keys.map(noticed)).await;
        Ok(answers.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    /// Scales a Deployment to one replica when it has none.
    ///
    /// # Errors
    /// When the API refuses, or the pod does not come in time.
    pub async fn at_least_one(&self, workload: &Namespaced, limit: Duration) -> Result<(), ApplyError> {
        if rollout::replicas(&self.client, workload).await? == 0 {
            rollout::scale(&self.client, workload, 1, limit).await?;
        }
        Ok(())
    }

    /// How many replicas a Deployment asks for.
    ///
    /// # Errors
    /// When the API refuses.
    pub async fn replicas(&self, workload: &Namespaced) -> Result<u32, ApplyError> {
        rollout::replicas(&self.client, workload).await
    }

    /// Sets a Deployment's replicas, waits until its pods are as many, and returns how many it had.
    ///
    /// # Errors
    /// When the API refuses, or the pods do not follow in time.
    pub async fn scale(&self, workload: &Namespaced, replicas: u32, limit: Duration) -> Result<u32, ApplyError> {
        rollout::scale(&self.client, workload, replicas, limit).await
    }
}

/// A label value that stands for a scenario: `/` is not allowed in one.
fn label_value(scenario: &ScenarioId) -> String {
    scenario.as_str().replace('/', "_")
}

fn substitute_images(value: &mut Value, images: &ImageMap) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                match inner.as_str().filter(|_| key == "image") {
                    Some(image) => *inner = json!(images.resolve(image)),
                    None => substitute_images(inner, images),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| substitute_images(item, images)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_substituted_wherever_they_stand_and_only_on_an_exact_match() {
        let role = |image: &str| BTreeMap::from([("web".to_owned(), image.to_owned())]);
        let images = ImageMap::by_role(&role("a/b:1"), &role("mine:2"));
        let mut object = json!({"spec": {"template": {"spec": {"containers": [{"image": "a/b:1"}, {"image": "a/b:10"}]}}}});
        substitute_images(&mut object, &images);
        let containers = &object["spec"]["template"]["spec"]["containers"];
        assert_eq!((containers[0]["image"].as_str(), containers[1]["image"].as_str()), (Some("mine:2"), Some("a/b:10")));
    }

    #[test]
    fn a_nested_scenario_has_a_label_value() {
        assert_eq!(label_value(&ScenarioId::new("20-egress/dual-gateway").unwrap()), "20-egress_dual-gateway");
    }
}
