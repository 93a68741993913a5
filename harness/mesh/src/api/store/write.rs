//! Creating, updating, applying.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{State, Store, defaults, meta};
use crate::api::admission::{AdmissionRequest, Operation};
use crate::api::error::ApiError;
use crate::api::fields::{Manager, Managers, Schema, apply};
use crate::api::registry::Resource;

/// What is done about fields that a kind does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

/// Which part of an object is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subresource {
    /// All but the status.
    Main,
    /// The status alone.
    Status,
    /// The number of replicas.
    Scale,
}

/// How a write is meant.
#[derive(Debug, Clone, Default)]
pub(crate) struct WriteOptions {
    pub(crate) manager: String,
    /// The version that the client writes in; empty for the one that objects are kept in.
    pub(crate) version: String,
    pub(crate) dry_run: bool,
    pub(crate) validation: FieldValidation,
    pub(crate) force: bool,
}

impl WriteOptions {
    pub(crate) fn by(manager: &str) -> Self {
        Self { manager: manager.to_owned(), ..Self::default() }
    }
}

/// What a write gives.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) object: Arc<Value>,
    pub(crate) warnings: Vec<String>,
    pub(crate) created: bool,
}

/// What is read, changed and written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) resource: &'a Arc<Resource>,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) part: Subresource,
}

/// A change of an object, with the managers when the change has settled them itself.
type Changed = (Value, Option<Managers>);

impl Store {
    /// Makes an object.
    ///
    /// # Errors
    /// When its kind is not served, its name is taken, its namespace is not there, or a review refuses it.
    pub fn create(&self, object: Value, manager: &str) -> Result<Arc<Value>, ApiError> {
        let (resource, namespace) = self.place(&object)?;
        self.create_in(&resource, &namespace, object, &WriteOptions::by(manager)).map(|w| w.object)
    }

    /// Replaces an object but for its status; with a `metadata.resourceVersion` only that version of it.
    ///
    /// # Errors
    /// When it is not there, has changed meanwhile, or a review refuses it.
    pub fn update(&self, object: Value, manager: &str) -> Result<Arc<Value>, ApiError> {
        let (resource, namespace) = self.place(&object)?;
        let name = meta::text(&object, "name").to_owned();
        let target = Target { resource: &resource, namespace: &namespace, name: &name, part: Subresource::Main };
        self.change(target, &WriteOptions::by(manager), &|_| Ok(object.clone())).map(|w| w.object)
    }

    /// Reads an object, changes it and writes it, as often as somebody else comes between. The status stays.
    ///
    /// # Errors
    /// When it is not there, or a review refuses the change.
    pub fn modify(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        manager: &str,
        change: impl Fn(&mut Value),
    ) -> Result<Arc<Value>, ApiError> {
        let resource = self.resource(kind).ok_or_else(ApiError::no_resource)?;
        let target = Target { resource: &resource, namespace, name, part: Subresource::Main };
        let changed = |current: &Value| {
            let mut object = current.clone();
            change(&mut object);
            Ok(object)
        };
        self.change(target, &WriteOptions::by(manager), &changed).map(|w| w.object)
    }

    /// Merges (RFC 7386) into an object's status; nothing is written when that changes nothing.
    ///
    /// # Errors
    /// When it is not there.
    pub fn patch_status(&self, kind: &str, namespace: &str, name: &str, status: &Value, manager: &str) -> Result<Arc<Value>, ApiError> {
        let resource = self.resource(kind).ok_or_else(ApiError::no_resource)?;
        let part = if resource.status { Subresource::Status } else { Subresource::Main };
        let changed = |current: &Value| {
            let mut object = current.clone();
            super::patch::merge(&mut object, &json!({"status": status}));
            Ok(object)
        };
        self.change(Target { resource: &resource, namespace, name, part }, &WriteOptions::by(manager), &changed).map(|w| w.object)
    }

    /// Server-side apply, with force.
    ///
    /// # Errors
    /// When the kind is not served, the namespace is not there, or a review refuses.
    pub fn apply(&self, object: Value, manager: &str) -> Result<Arc<Value>, ApiError> {
        let (resource, namespace) = self.place(&object)?;
        let name = meta::text(&object, "name").to_owned();
        let options = WriteOptions { force: true, ..WriteOptions::by(manager) };
        let target = Target { resource: &resource, namespace: &namespace, name: &name, part: Subresource::Main };
        self.apply_to(target, &object, &options).map(|w| w.object)
    }

    fn place(&self, object: &Value) -> Result<(Arc<Resource>, String), ApiError> {
        let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
        let resource = self.lock().registry.of(text("apiVersion"), text("kind")).ok_or_else(ApiError::no_resource)?;
        let namespace = if resource.namespaced { meta::text(object, "namespace").to_owned() } else { String::new() };
        Ok((resource, namespace))
    }

    pub(crate) fn create_in(
        &self,
        resource: &Arc<Resource>,
        namespace: &str,
        object: Value,
        options: &WriteOptions,
    ) -> Result<Written, ApiError> {
        self.create_with(resource, namespace, object, None, options)
    }

    fn create_with(
        &self,
        resource: &Arc<Resource>,
        namespace: &str,
        mut object: Value,
        applied: Option<Managers>,
        options: &WriteOptions,
    ) -> Result<Written, ApiError> {
        if !object.is_object() {
            return Err(ApiError::bad_request("the object provided is not a map"));
        }
        if !meta::text(&object, "resourceVersion").is_empty() {
            return Err(ApiError::bad_request("resourceVersion should not be set on objects to be created"));
        }
        let name = match (meta::text(&object, "name"), meta::text(&object, "generateName")) {
            ("", prefix) if !prefix.is_empty() => {
                let mut state = self.lock();
                let draw = state.draw();
                format!("{prefix}{}", meta::suffix(state.seed, draw))
            }
            (name, _) => name.to_owned(),
        };
        self.lock().check_namespace(resource, namespace, &name)?;
        for key in
            ["managedFields", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink"]
        {
            meta::unset(&mut object, key);
        }
        meta::set(&mut object, "name", json!(name));
        stand(resource, namespace, &mut object);
        if resource.status
            && let Some(map) = object.as_object_mut()
        {
            map.remove("status");
        }
        if resource.kind == "CustomResourceDefinition" {
            meta::set(&mut object, "finalizers", json!([]));
            meta::set_finalizers(&mut object, &[]);
        }
        defaults::fill(resource, &mut object);
        let target = Target { resource, namespace, name: &name, part: Subresource::Main };
        let warnings = self.review(target, None, &mut object, options)?;
        defaults::fill(resource, &mut object);
        defaults::check(resource, &name, &object, None)?;
        let managers = applied.unwrap_or_else(|| {
            let mut managers = Managers::default();
            managers.updated(
                schema(resource),
                &Value::Object(Map::new()),
                &object,
                &manager(resource, options, Subresource::Main, false),
                &self.now(),
            );
            managers
        });
        managers.write(&mut object);
        let key = State::key(resource, namespace, &name);
        let object = self.transact(|state| {
            state.check_namespace(resource, namespace, &name)?;
            if state.at(&key).is_some() {
                return Err(ApiError::already_exists(resource, &name));
            }
            state.allocate(resource, &mut object, None);
            if options.dry_run {
                meta::set(&mut object, "creationTimestamp", json!(state.now()));
                return Ok(Arc::new(object));
            }
            Ok(state.insert(resource, key, object))
        })?;
        Ok(Written { object, warnings, created: true })
    }

    /// Reads, changes, writes; again when somebody came between and the caller did not say a version.
    pub(crate) fn change(
        &self,
        target: Target<'_>,
        options: &WriteOptions,
        change: &dyn Fn(&Value) -> Result<Value, ApiError>,
    ) -> Result<Written, ApiError> {
        loop {
            let current = self.read(target.resource, target.namespace, target.name)?;
            let changed = change(&current)?;
            if changed == *current {
                return Ok(Written { object: current, warnings: Vec::new(), created: false });
            }
            if let Some(written) = self.write(target, options, &current, (changed, None))? {
                return Ok(written);
            }
        }
    }

    pub(crate) fn apply_to(&self, target: Target<'_>, configuration: &Value, options: &WriteOptions) -> Result<Written, ApiError> {
        let resource = target.resource;
        if configuration.pointer("/metadata/managedFields").is_some_and(|m| !m.is_null()) {
            return Err(ApiError::bad_request("metadata.managedFields must be nil"));
        }
        let by = manager(resource, options, target.part, true);
        let ignored: &[&[&str]] = if resource.status && target.part == Subresource::Main { &[&["status"]] } else { &[] };
        let mut configuration = configuration.clone();
        stand(resource, target.namespace, &mut configuration);
        defaults_of_configuration(resource, &mut configuration);
        let merge = |live: &Value| apply(schema(resource), live, &configuration, &by, options.force, ignored, &self.now());
        loop {
            match self.read(resource, target.namespace, target.name) {
                Ok(current) => {
                    let uid = meta::text(&configuration, "uid");
                    if !uid.is_empty() && uid != meta::text(&current, "uid") {
                        return Err(uid_differs(resource, target.name, uid, meta::text(&current, "uid")));
                    }
                    let applied = merge(&current)?;
                    if let Some(written) = self.write(target, options, &current, (applied.object, Some(applied.managers)))? {
                        return Ok(written);
                    }
                }
                Err(error) if target.part != Subresource::Main => return Err(error),
                Err(_) => {
                    if !meta::text(&configuration, "uid").is_empty() {
                        return Err(uid_differs(resource, target.name, meta::text(&configuration, "uid"), ""));
                    }
                    let start = json!({"metadata": {"name": target.name}});
                    let applied = merge(&start)?;
                    match self.create_with(resource, target.namespace, applied.object, Some(applied.managers), options) {
                        // Somebody made it meanwhile: then it is merged.
                        Err(error) if error.reason == "AlreadyExists" => {}
                        other => return other,
                    }
                }
            }
        }
    }

    /// Writes over `current`; None when somebody came between.
    fn write(
        &self,
        target: Target<'_>,
        options: &WriteOptions,
        current: &Arc<Value>,
        changed: Changed,
    ) -> Result<Option<Written>, ApiError> {
        let Target { resource, namespace, name, part } = target;
        let (mut object, applied) = changed;
        if !object.is_object() {
            return Err(ApiError::bad_request("the object provided is not a map"));
        }
        let asked = meta::text(&object, "resourceVersion").to_owned();
        if !asked.is_empty() && asked != meta::text(current, "resourceVersion") {
            return Err(ApiError::modified(resource, name));
        }
        let uid = meta::text(&object, "uid");
        if !uid.is_empty() && uid != meta::text(current, "uid") {
            return Err(uid_differs(resource, name, uid, meta::text(current, "uid")));
        }
        keep_what_is_not_written(resource, part, current, &mut object);
        stand(resource, namespace, &mut object);
        let mut warnings = Vec::new();
        if part == Subresource::Main {
            defaults::fill(resource, &mut object);
            if !meta::same(current, &object) {
                warnings = self.review(target, Some(current), &mut object, options)?;
                keep_what_is_not_written(resource, part, current, &mut object);
                defaults::fill(resource, &mut object);
                defaults::check(resource, name, &object, Some(current))?;
            }
        }
        if resource.generation && specification(resource, current) != specification(resource, &object) {
            let generation = current.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0);
            meta::set(&mut object, "generation", json!(generation + 1));
        }
        let managers = applied.unwrap_or_else(|| {
            let mut managers = Managers::read(current);
            managers.updated(schema(resource), current, &object, &manager(resource, options, part, false), &self.now());
            managers
        });
        managers.write(&mut object);
        let key = State::key(resource, namespace, name);
        self.transact(|state| {
            let now = state.at(&key).cloned().ok_or_else(|| ApiError::not_found(resource, name))?;
            if !Arc::ptr_eq(&now, current) {
                // A version that the caller said differs from the newer one, so the next round refuses.
                return Ok(None);
            }
            state.allocate(resource, &mut object, Some(&now));
            let written = |object| Ok(Some(Written { object, warnings, created: false }));
            if meta::same(&now, &object) && now.pointer("/metadata/managedFields") == object.pointer("/metadata/managedFields") {
                return written(now);
            }
            written(if options.dry_run { Arc::new(object) } else { state.put(resource, key.clone(), object) })
        })
    }

    fn review(&self, target: Target<'_>, old: Option<&Value>, object: &mut Value, options: &WriteOptions) -> Result<Vec<String>, ApiError> {
        let mut warnings = Vec::new();
        let mut unknown = Vec::new();
        for admission in &self.inner.admission {
            let request = AdmissionRequest {
                store: self,
                operation: if old.is_some() { Operation::Update } else { Operation::Create },
                resource: target.resource,
                namespace: target.namespace,
                name: target.name,
                object,
                old,
                dry_run: options.dry_run,
            };
            let reviewed = admission.review(&request).map_err(|denial| denial.into_error(target.resource, target.name))?;
            warnings.extend(reviewed.warnings);
            unknown.extend(reviewed.unknown_fields);
            if let Some(changed) = reviewed.object {
                *object = changed;
            }
        }
        let words: Vec<String> = unknown.iter().map(|field| format!("unknown field {field:?}")).collect();
        match options.validation {
            // Source: `apimachinery/pkg/runtime/error.go`, strictDecodingError.
            FieldValidation::Strict if !words.is_empty() => {
                return Err(ApiError::bad_request(format!("strict decoding error: {}", words.join(", "))));
            }
            FieldValidation::Warn => warnings.extend(words),
            _ => {}
        }
        Ok(warnings)
    }
}

fn schema(resource: &Resource) -> Schema<'_> {
    Schema { group: &resource.group, kind: &resource.kind }
}

fn manager(resource: &Resource, options: &WriteOptions, part: Subresource, applies: bool) -> Manager {
    let subresource = match part {
        Subresource::Main => "",
        Subresource::Status => "status",
        Subresource::Scale => "scale",
    };
    let api_version = if options.version.is_empty() { resource.api_version() } else { resource.in_version(&options.version) };
    let name = if options.manager.is_empty() { "unknown".to_owned() } else { options.manager.clone() };
    Manager { name, applies, api_version, subresource: subresource.to_owned() }
}

/// Kind, version and namespace as the object is kept.
fn stand(resource: &Resource, namespace: &str, object: &mut Value) {
    if let Some(map) = object.as_object_mut() {
        map.insert("apiVersion".to_owned(), json!(resource.api_version()));
        map.insert("kind".to_owned(), json!(resource.kind));
    }
    // Go's types do not tell null from absent.
    if !resource.is_defined() {
        meta::drop_nulls(object);
    }
    if resource.namespaced {
        meta::set(object, "namespace", json!(namespace));
    } else {
        meta::unset(object, "namespace");
    }
}

/// `stringData` is a way of writing `data`: an apply owns what it becomes.
fn defaults_of_configuration(resource: &Resource, configuration: &mut Value) {
    if resource.group.is_empty() && resource.kind == "Secret" && configuration.get("stringData").is_some() {
        defaults::fill(resource, configuration);
    }
}

/// What a write to this part must leave as it is.
fn keep_what_is_not_written(resource: &Resource, part: Subresource, current: &Value, object: &mut Value) {
    if part == Subresource::Main {
        for key in [
            "name",
            "uid",
            "creationTimestamp",
            "generation",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "resourceVersion",
            "generateName",
        ] {
            match current.pointer("/metadata").and_then(|m| m.get(key)) {
                Some(value) => meta::set(object, key, value.clone()),
                None => meta::unset(object, key),
            }
        }
        let kept: &[&str] = if resource.status { &["status"] } else { &[] };
        let is_namespace = resource.group.is_empty() && resource.plural == "namespaces";
        let Some(map) = object.as_object_mut() else { return };
        // Finalizers of a namespace's specification go by its own subresource.
        for key in kept.iter().chain(if is_namespace { &["spec"][..] } else { &[] }) {
            match current.get(*key) {
                Some(value) => map.insert((*key).to_owned(), value.clone()),
                None => map.remove(*key),
            };
        }
        return;
    }
    let mut out = current.clone();
    match part {
        Subresource::Status => {
            if let Some(map) = out.as_object_mut() {
                match object.get("status") {
                    Some(status) => map.insert("status".to_owned(), status.clone()),
                    None => map.remove("status"),
                };
            }
        }
        _ => {
            if let (Some(replicas), Some(spec)) =
                (object.pointer("/spec/replicas").cloned(), out.get_mut("spec").and_then(Value::as_object_mut))
            {
                spec.insert("replicas".to_owned(), replicas);
            }
        }
    }
    *object = out;
}

/// What the generation counts changes of.
fn specification(resource: &Resource, object: &Value) -> Map<String, Value> {
    let mut map: Map<String, Value> = object.as_object().cloned().unwrap_or_default();
    for key in ["metadata", "apiVersion", "kind"] {
        map.remove(key);
    }
    if resource.status {
        map.remove("status");
    }
    map
}

fn uid_differs(resource: &Resource, name: &str, asked: &str, found: &str) -> ApiError {
    ApiError::conflict(resource, name, &format!("Precondition failed: UID in precondition: {asked}, UID in object meta: {found}"))
}
