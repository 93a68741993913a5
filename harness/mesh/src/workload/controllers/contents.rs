//! What a pod's containers find in their environment and volumes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::injection::TOKEN_MOUNT;
use super::view::{list, name, namespace, text, texts};
use crate::api::Store;
use crate::workload::programs::{Files, Volume};

/// Why a container cannot be started yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NotYet {
    /// The environment names what is not there: `CreateContainerConfigError`.
    Config(String),
    /// A volume does: the pod waits, and an event says why.
    Mount(String),
}

/// A ConfigMap's or Secret's content.
fn content(store: &Store, kind: &str, ns: &str, name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
    let object = store.get(kind, ns, name)?;
    let decode = |text: String| STANDARD.decode(&text).unwrap_or_else(|_| text.into_bytes());
    let mut out = BTreeMap::new();
    if kind == "Secret" {
        out.extend(texts(&object, "/data").into_iter().map(|(k, v)| (k, decode(v))));
    } else {
        out.extend(texts(&object, "/data").into_iter().map(|(k, v)| (k, v.into_bytes())));
        out.extend(texts(&object, "/binaryData").into_iter().map(|(k, v)| (k, decode(v))));
    }
    Some(out)
}

fn kind_word(kind: &str) -> &'static str {
    if kind == "Secret" { "secret" } else { "configmap" }
}

/// A field of the pod, by its path (Kubernetes, "Downward API").
fn field(pod: &Value, path: &str, ip: IpAddr, node_ip: IpAddr) -> String {
    let quoted = |map: BTreeMap<String, String>| map.iter().map(|(k, v)| format!("{k}={v:?}")).collect::<Vec<_>>().join("\n");
    let keyed = |prefix: &str| path.strip_prefix(prefix).and_then(|p| p.strip_prefix("['")).and_then(|p| p.strip_suffix("']"));
    match path {
        "metadata.name" => name(pod).to_owned(),
        "metadata.namespace" => namespace(pod).to_owned(),
        "metadata.uid" => text(pod, "/metadata/uid").to_owned(),
        "metadata.labels" => quoted(texts(pod, "/metadata/labels")),
        "metadata.annotations" => quoted(texts(pod, "/metadata/annotations")),
        "spec.nodeName" => text(pod, "/spec/nodeName").to_owned(),
        "spec.serviceAccountName" => text(pod, "/spec/serviceAccountName").to_owned(),
        "status.podIP" | "status.podIPs" => ip.to_string(),
        "status.hostIP" | "status.hostIPs" => node_ip.to_string(),
        _ => match (keyed("metadata.labels"), keyed("metadata.annotations")) {
            (Some(key), _) => texts(pod, "/metadata/labels").remove(key).unwrap_or_default(),
            (_, Some(key)) => texts(pod, "/metadata/annotations").remove(key).unwrap_or_default(),
            _ => String::new(),
        },
    }
}

/// `$(NAME)` of what is known, `$$` for a dollar. Source: Kubernetes `third_party/forked/golang/expansion`.
pub(super) fn expand(text: &str, env: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, after) = rest.split_at_checked(at).unwrap_or((rest, ""));
        out.push_str(before);
        let tail = after.get(1..).unwrap_or_default();
        if let Some(tail) = tail.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, end)) = tail.strip_prefix('(').and_then(|t| t.split_once(')')) {
            match env.get(name) {
                Some(value) => out.push_str(value),
                None => out.push_str(&format!("$({name})")),
            }
            rest = end;
        } else {
            out.push('$');
            rest = tail;
        }
    }
    out + rest
}

/// A container's environment.
pub(super) fn environment(
    store: &Store,
    pod: &Value,
    container: &Value,
    ip: IpAddr,
    node_ip: IpAddr,
) -> Result<BTreeMap<String, String>, NotYet> {
    let ns = namespace(pod);
    let mut env = BTreeMap::new();
    for source in list(container, "/envFrom") {
        for (key, kind) in [("configMapRef", "ConfigMap"), ("secretRef", "Secret")] {
            let Some(reference) = source.get(key) else { continue };
            match content(store, kind, ns, text(reference, "/name")) {
                Some(data) => {
                    let prefix = text(source, "/prefix");
                    env.extend(data.into_iter().map(|(k, v)| (format!("{prefix}{k}"), String::from_utf8_lossy(&v).into_owned())));
                }
                None if reference["optional"] == true => {}
                None => return Err(NotYet::Config(format!("{} {:?} not found", kind_word(kind), text(reference, "/name")))),
            }
        }
    }
    for variable in list(container, "/env") {
        let key = text(variable, "/name").to_owned();
        let from = &variable["valueFrom"];
        let value = if let Some(reference) = from.get("fieldRef") {
            Some(field(pod, text(reference, "/fieldPath"), ip, node_ip))
        } else if let Some(reference) = from.get("resourceFieldRef") {
            let path = text(reference, "/resource").replace('.', "/");
            let of = container.pointer(&format!("/resources/{path}"));
            Some(of.map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).unwrap_or_else(|| "0".to_owned()))
        } else if let Some((reference, kind)) =
            from.get("configMapKeyRef").map(|r| (r, "ConfigMap")).or_else(|| from.get("secretKeyRef").map(|r| (r, "Secret")))
        {
            let (object, wanted) = (text(reference, "/name"), text(reference, "/key"));
            match content(store, kind, ns, object) {
                Some(mut data) => match data.remove(wanted) {
                    Some(value) => Some(String::from_utf8_lossy(&value).into_owned()),
                    None if reference["optional"] == true => None,
                    None => return Err(NotYet::Config(format!("couldn't find key {wanted} in {kind} {ns}/{object}"))),
                },
                None if reference["optional"] == true => None,
                None => return Err(NotYet::Config(format!("{} {object:?} not found", kind_word(kind)))),
            }
        } else {
            Some(expand(text(variable, "/value"), &env))
        };
        if let Some(value) = value {
            env.insert(key, value);
        }
    }
    Ok(env)
}

/// The volumes of a pod, by name. Those that follow an object are filled anew when it changes.
#[derive(Clone, Default)]
pub(super) struct Volumes(BTreeMap<String, Volume>);

impl Volumes {
    /// Makes or refreshes those that some container mounts; the kubelet sets up no others (`pkg/kubelet/volumemanager/populator`,
    /// `processPodVolumes`), so what they name need not be there.
    pub(super) fn fill(&mut self, store: &Store, pod: &Value, ip: IpAddr, node_ip: IpAddr) -> Result<(), NotYet> {
        let containers = || list(pod, "/spec/initContainers").iter().chain(list(pod, "/spec/containers"));
        let is_mounted = |name: &str| containers().any(|c| list(c, "/volumeMounts").iter().any(|m| text(m, "/name") == name));
        for volume in list(pod, "/spec/volumes") {
            let volume_name = text(volume, "/name");
            if !is_mounted(volume_name) {
                continue;
            }
            if volume.get("emptyDir").is_some() {
                self.0.entry(volume_name.to_owned()).or_default();
                continue;
            }
            let data = volume_content(store, pod, volume, ip, node_ip)
                .map_err(|why| NotYet::Mount(format!("MountVolume.SetUp failed for volume {volume_name:?} : {why}")))?;
            self.0.entry(volume_name.to_owned()).or_default().replace(data);
        }
        let token = token(pod);
        let account: BTreeMap<String, Vec<u8>> = [
            ("token".to_owned(), token.into_bytes()),
            ("namespace".to_owned(), namespace(pod).as_bytes().to_vec()),
            (
                "ca.crt".to_owned(),
                content(store, "ConfigMap", namespace(pod), "kube-root-ca.crt").and_then(|mut d| d.remove("ca.crt")).unwrap_or_default(),
            ),
        ]
        .into();
        self.0.entry(String::new()).or_default().replace(account);
        Ok(())
    }

    /// Mounts what a container names.
    pub(super) fn mount(&self, pod: &Value, container: &Value, files: &Files) {
        if pod["spec"]["automountServiceAccountToken"] != false
            && let Some(account) = self.0.get("")
        {
            files.mount(TOKEN_MOUNT, account.clone(), "", true);
        }
        for mount in list(container, "/volumeMounts") {
            if let Some(volume) = self.0.get(text(mount, "/name")) {
                let is_data = list(pod, "/spec/volumes").iter().any(|v| v["name"] == mount["name"] && v.get("emptyDir").is_none());
                files.mount(text(mount, "/mountPath"), volume.clone(), text(mount, "/subPath"), is_data || mount["readOnly"] == true);
            }
        }
    }
}

/// A text where a token is expected; nobody here checks it.
fn token(pod: &Value) -> String {
    format!("simulated.{}.{}", namespace(pod), text(pod, "/spec/serviceAccountName"))
}

fn picked(data: BTreeMap<String, Vec<u8>>, items: &[Value], optional: bool, whose: &str) -> Result<BTreeMap<String, Vec<u8>>, String> {
    if items.is_empty() {
        return Ok(data);
    }
    let mut out = BTreeMap::new();
    for item in items {
        let key = text(item, "/key");
        match data.get(key) {
            Some(value) => drop(out.insert(text(item, "/path").to_owned(), value.clone())),
            None if optional => {}
            None => return Err(format!("references non-existent {whose} key: {key}")),
        }
    }
    Ok(out)
}

fn downward(pod: &Value, items: &[Value], ip: IpAddr, node_ip: IpAddr) -> BTreeMap<String, Vec<u8>> {
    items.iter().map(|i| (text(i, "/path").to_owned(), field(pod, text(i, "/fieldRef/fieldPath"), ip, node_ip).into_bytes())).collect()
}

fn volume_content(store: &Store, pod: &Value, volume: &Value, ip: IpAddr, node_ip: IpAddr) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let ns = namespace(pod);
    let of = |source: &Value, kind: &str, name: &str| -> Result<BTreeMap<String, Vec<u8>>, String> {
        let optional = source["optional"] == true;
        match content(store, kind, ns, name) {
            Some(data) => picked(data, list(source, "/items"), optional, if kind == "Secret" { "secret" } else { "config" }),
            None if optional => Ok(BTreeMap::new()),
            None => Err(format!("{} {name:?} not found", kind_word(kind))),
        }
    };
    if let Some(source) = volume.get("configMap") {
        return of(source, "ConfigMap", text(source, "/name"));
    }
    if let Some(source) = volume.get("secret") {
        return of(source, "Secret", text(source, "/secretName"));
    }
    if let Some(source) = volume.get("downwardAPI") {
        return Ok(downward(pod, list(source, "/items"), ip, node_ip));
    }
    if let Some(projected) = volume.get("projected") {
        let mut out = BTreeMap::new();
        for source in list(projected, "/sources") {
            if let Some(map) = source.get("configMap") {
                out.extend(of(map, "ConfigMap", text(map, "/name"))?);
            } else if let Some(secret) = source.get("secret") {
                out.extend(of(secret, "Secret", text(secret, "/name"))?);
            } else if let Some(api) = source.get("downwardAPI") {
                out.extend(downward(pod, list(api, "/items"), ip, node_ip));
            } else if let Some(wanted) = source.get("serviceAccountToken") {
                out.insert(text(wanted, "/path").to_owned(), token(pod).into_bytes());
            }
        }
        return Ok(out);
    }
    Err("this simulated mesh has no volumes of this kind".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_environment_is_made_of_values_fields_and_keys() {
        let store = Store::default();
        store
            .create(
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "default"}, "data": {"k": "v"}}),
                "t",
            )
            .unwrap();
        let pod = json!({"metadata": {"name": "p", "namespace": "default", "labels": {"app": "a"}}, "spec": {"nodeName": "n"}});
        let container = json!({"envFrom": [{"prefix": "X_", "configMapRef": {"name": "c"}}], "env": [
            {"name": "A", "value": "1"}, {"name": "B", "value": "$(A)-$$(A)-$(NO)"},
            {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
            {"name": "D", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "E", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}}]});
        let env = environment(&store, &pod, &container, ip("10.0.0.1"), ip("172.18.0.2")).unwrap();
        assert_eq!(env["B"], "1-$(A)-$(NO)");
        assert_eq!((env["X_k"].as_str(), env["C"].as_str(), env["D"].as_str(), env["E"].as_str()), ("v", "v", "10.0.0.1", "a"));
        let missing = json!({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]});
        assert_eq!(
            environment(&store, &pod, &missing, ip("10.0.0.1"), ip("1.1.1.1")),
            Err(NotYet::Config("secret \"s\" not found".to_owned()))
        );
    }

    #[test]
    fn volumes_follow_their_objects() {
        let store = Store::default();
        let container = json!({"volumeMounts": [{"name": "run", "mountPath": "/etc/run"}, {"name": "tmp", "mountPath": "/tmp"}]});
        let pod = json!({"metadata": {"name": "p", "namespace": "default"}, "spec": {"containers": [container], "volumes": [
            {"name": "unused", "secret": {"secretName": "nobody-has-it"}},
            {"name": "run", "configMap": {"name": "c", "items": [{"key": "k", "path": "f"}]}}, {"name": "tmp", "emptyDir": {}}]}});
        let mut volumes = Volumes::default();
        let fill = |volumes: &mut Volumes| volumes.fill(&store, &pod, ip("10.0.0.1"), ip("1.1.1.1"));
        assert_eq!(
            fill(&mut volumes),
            Err(NotYet::Mount("MountVolume.SetUp failed for volume \"run\" : configmap \"c\" not found".to_owned()))
        );
        store
            .create(
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "default"}, "data": {"k": "v"}}),
                "t",
            )
            .unwrap();
        fill(&mut volumes).unwrap();
        let files = Files::default();
        volumes.mount(&pod, &container, &files);
        assert_eq!(**files.read("/etc/run/f").unwrap(), *b"v");
        assert_eq!(**files.read("/var/run/secrets/kubernetes.io/serviceaccount/namespace").unwrap(), *b"default");
        files.write("/tmp/x", b"1", false).unwrap();
    }
}
