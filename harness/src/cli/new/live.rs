//! What stands in a cluster, and what it answers: only asked, never changed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anstream::{eprintln, println};
use gateproof_core::names::{Namespaced, ScenarioId};
use gateproof_core::outcome::{CallSeen, Observation};
use gateproof_core::plan::Plan;
use gateproof_core::scenario::{Connection, Scenario, load_catalogue};
use jiff::Timestamp;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::GroupVersionKind;
use kube::discovery::pinned_kind;
use kube::{Client, ResourceExt};
use serde_json::Value;

use super::draft::{Live, Seen, draft};
use super::{File, NewFlags, put};
use crate::cli::run::{exit_of, options};
use crate::cli::{Common, EXIT_CLUSTER, EXIT_GREEN, EXIT_INPUT, EXIT_INTERRUPTED, Lines, on_runtime};
use crate::probe::{Witnesses, World};
use crate::run::drive::unless_interrupted;
use crate::run::{Session, SessionError};

/// The kinds that a draft exports, newest version first.
const KINDS: [(&str, &[&str], &str); 6] = [
    ("networking.istio.io", &["v1", "v1beta1"], "Gateway"),
    ("gateway.networking.k8s.io", &["v1", "v1beta1"], "Gateway"),
    ("networking.istio.io", &["v1", "v1beta1"], "ServiceEntry"),
    ("networking.istio.io", &["v1", "v1beta1"], "DestinationRule"),
    ("networking.istio.io", &["v1", "v1beta1"], "VirtualService"),
    ("gateway.networking.k8s.io", &["v1", "v1beta1"], "HTTPRoute"),
];

/// Drafts a scenario from a namespace.
pub(super) fn new_from_cluster(
    common: &Common,
    flags: &NewFlags,
    id: &ScenarioId,
    namespace: &str,
    caller: Option<Namespaced>,
) -> Result<u8, u8> {
    let mut provide = flags.provide.clone();
    let was_named = provide.provider.provider.is_some();
    if !was_named {
        let provider = if provide.provider.context.is_some() { "existing" } else { "kind" };
        provide.provider.provider = Some(provider.to_owned());
    }
    if provide.provider.provider.as_deref() == Some("embedded") {
        eprintln!(
            "error: the simulated mesh is made anew in each process: there is nothing deployed in it to draft from; name a --context"
        );
        return Err(EXIT_INPUT);
    }
    let scratch = std::env::temp_dir().join(format!("gateproof-new-{}", std::process::id()));
    let mut options = options(common, &provide, &scratch)?;
    if !was_named {
        let existing = provide.provider.context.is_some();
        let why = if existing { "for a --context was named" } else { "gateproof's kept cluster, for no --context was named" };
        why.clone_into(&mut options.chosen);
    }
    // Nothing is applied, removed or made: that is what --verify-only is.
    (options.verify_only, options.provider.reuse_only, options.provider.keep) = (true, true, true);
    if let crate::provider::Choice::Existing(existing) = &mut options.provider.choice {
        existing.verify_only = true;
    }
    let work = || async {
        let mut session = Session::begin(&options, &Plan::default(), Arc::new(Lines::new(false))).await?;
        let world = &session.engine().world;
        let written = write(common, flags, id, namespace, caller.as_ref(), world).await;
        session.leave().await?;
        Ok::<_, SessionError>(written)
    };
    let answer = on_runtime(|| unless_interrupted(work()));
    let _ = std::fs::remove_dir_all(&scratch);
    answer.ok_or(EXIT_INTERRUPTED)?.map_err(|error| {
        eprintln!("error: {error}");
        exit_of(&error)
    })?
}

async fn write(
    common: &Common,
    flags: &NewFlags,
    id: &ScenarioId,
    namespace: &str,
    caller: Option<&Namespaced>,
    world: &World,
) -> Result<u8, u8> {
    let live = read(&world.client, namespace).await.map_err(|error| {
        eprintln!("error: failed to read the namespace {namespace}: {error}");
        EXIT_CLUSTER
    })?;
    if live.objects.is_empty() {
        eprintln!(
            "error: the namespace {namespace} has no Gateway, VirtualService, ServiceEntry, DestinationRule or HTTPRoute to draft from"
        );
        return Err(EXIT_INPUT);
    }
    let drafted = draft(&live, &load_catalogue(&common.scenarios), caller);
    let when = Timestamp::now().strftime("%Y-%m-%d").to_string();
    let mut answers = vec![None; drafted.calls.len()];
    if !flags.no_look {
        // What is asked is read from a file, as any other run would read it, and a call is one only with an answer to expect. That
        // file stands aside: nothing that was not seen is left behind, however this ends.
        let assumed = vec![Some(Seen { status: Some(200), ..Seen::default() }); drafted.calls.len()];
        let aside = aside(&common.scenarios, &drafted.files(id, &assumed, &when)).map_err(|error| {
            eprintln!("error: failed to write a first draft to a temporary folder: {error}");
            EXIT_INPUT
        })?;
        match load_catalogue(aside.path()).get(id) {
            Some(scenario) => answers = look(world, scenario).await,
            None => eprintln!("warning: the calls were not made, since the draft has mistakes"),
        }
    }
    put(&common.scenarios, id, drafted.files(id, &answers, &when))?;
    let place = common.scenarios.join(id.as_str()).join("scenario.yaml");
    let seen = answers.iter().flatten().filter(|s| s.why_not.is_none()).count();
    println!("{} calls drafted, {seen} of them answered once; read {}", drafted.calls.len(), place.display());
    println!("gateproof lint{}                            # names what is still to be decided", common.again());
    Ok(EXIT_GREEN)
}

/// A copy of the scenarios with these files among them.
fn aside(scenarios: &Path, files: &[File]) -> std::io::Result<tempfile::TempDir> {
    fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(to)?;
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            let target = to.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                copy(&entry.path(), &target)?;
            } else {
                std::fs::copy(entry.path(), target)?;
            }
        }
        Ok(())
    }
    let aside = tempfile::tempdir()?;
    if scenarios.is_dir() {
        copy(scenarios, aside.path())?;
    }
    for (name, text) in files {
        let path = aside.path().join(name);
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        std::fs::write(path, text)?;
    }
    Ok(aside)
}

/// Everything that a draft is made of.
pub(super) async fn read(client: &Client, namespace: &str) -> Result<Live, kube::Error> {
    let home: Api<DynamicObject> = all(client, "", "v1", "Namespace").await?;
    let mut live = Live { namespace: namespace.to_owned(), ..Live::default() };
    live.home = serde_json::to_value(home.get(namespace).await?).unwrap_or_default();
    for (group, versions, kind) in KINDS {
        for object in list(client, group, versions, kind).await? {
            if text(&object, "/metadata/namespace") == namespace {
                live.objects.push(object.clone());
            }
            if (group, kind) == ("networking.istio.io", "Gateway") {
                live.gateways.push(object);
            }
        }
    }
    for object in list(client, "apps", &["v1"], "Deployment").await? {
        let labels = object.pointer("/spec/template/metadata/labels").and_then(Value::as_object).into_iter().flatten();
        let labels: BTreeMap<String, String> = labels.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect();
        let at = format!("{}/{}", text(&object, "/metadata/namespace"), text(&object, "/metadata/name"));
        live.workloads.extend(Namespaced::parse(&at).ok().map(|at| (at, labels)));
    }
    Ok(live)
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

async fn all(client: &Client, group: &str, version: &str, kind: &str) -> Result<Api<DynamicObject>, kube::Error> {
    let (resource, _) = pinned_kind(client, &GroupVersionKind::gvk(group, version, kind)).await?;
    Ok(Api::all_with(client.clone(), &resource))
}

/// Objects of a kind in the first version that is served, sorted by name; none where no version is.
async fn list(client: &Client, group: &str, versions: &[&str], kind: &str) -> Result<Vec<Value>, kube::Error> {
    for version in versions {
        let Ok(api) = all(client, group, version, kind).await else { continue };
        let mut found = api.list(&ListParams::default()).await?.items;
        found.sort_by_key(|o| (o.namespace(), o.name_any()));
        let api_version = if group.is_empty() { (*version).to_owned() } else { format!("{group}/{version}") };
        let whole = |object: &DynamicObject| {
            let mut value = serde_json::to_value(object).unwrap_or_default();
            // Items of a list may come without what the list says.
            if let Some(map) = value.as_object_mut() {
                map.insert("apiVersion".to_owned(), Value::from(api_version.as_str()));
                map.insert("kind".to_owned(), Value::from(kind));
            }
            value
        };
        return Ok(found.iter().map(whole).collect());
    }
    Ok(Vec::new())
}

/// Makes every call of a drafted scenario once, and says what was seen.
pub(super) async fn look(world: &World, scenario: &Scenario) -> Vec<Option<Seen>> {
    let mut out = Vec::new();
    for check in &scenario.checks {
        let gateway = match &check.probe {
            gateproof_core::scenario::Probe::Http(probe) => probe.gateway.clone(),
            _ => None,
        };
        // What a route is for may change something where it leads, and this is somebody's cluster.
        if let gateproof_core::scenario::Probe::Http(probe) = &check.probe
            && !["GET", "HEAD", "OPTIONS"].contains(&probe.method.as_str())
        {
            let why_not = Some(format!("Not called: {} may change something.", probe.method));
            out.push(Some(Seen { why_not, ..Seen::default() }));
            continue;
        }
        let witnesses = Witnesses { path: gateway.into_iter().collect(), ..Witnesses::default() };
        let since = world.logs.now();
        out.push(Some(match world.ask(&check.probe, &witnesses, &since).await {
            Ok(Observation::Call(call)) => seen(&call),
            Ok(_) => Seen { why_not: Some("the answer was none of a call".to_owned()), ..Seen::default() },
            Err(error) => Seen { why_not: Some(format!("The call could not be made: {error}")), ..Seen::default() },
        }));
    }
    out
}

fn seen(call: &CallSeen) -> Seen {
    let hop = call.hops.first().map(|h| (h.entry.route.clone(), h.entry.cluster.clone()));
    let ended = match &call.connection {
        Some(Connection::Closed | Connection::Reset) => Some("[closed, reset]".to_owned()),
        Some(Connection::Refused) => Some("refused".to_owned()),
        Some(Connection::CertificateRejected) => Some("certificateRejected".to_owned()),
        Some(Connection::DnsFailure) => Some("dnsFailure".to_owned()),
        Some(Connection::TlsAlert(name)) => Some(format!("{{tlsAlert: {}}}", Value::from(name.as_str()))),
        // That nothing came in time says nothing about what should come.
        _ => None,
    };
    let why_not = (call.status.is_none() && ended.is_none()).then(|| {
        let detail = call.connection_detail.clone().unwrap_or_else(|| "no connection was observed".to_owned());
        format!("The call was made, and it shows nothing that could be expected: {detail}")
    });
    Seen { status: call.status, ended, hop, why_not }
}
