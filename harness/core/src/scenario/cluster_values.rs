//! What an existing cluster calls the things that scenarios name: read from a values file, every mistake at once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::diagnose::{Mistake, Source};
use super::raw_values as raw;
use super::read::texts;
use super::reader::Reader;
use super::yaml;
use crate::names::Namespaced;

/// The values file of an existing cluster. Without one, everything has the name that scenarios give it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterValues {
    /// Istio's root namespace: where istiod runs and mesh-wide objects live.
    pub root_namespace: String,
    /// The control plane's revision or tag, for namespaces that scenarios create.
    pub revision: Option<String>,
    /// istiod's Deployment.
    pub istiod: Namespaced,
    /// By the name that scenarios use.
    pub gateways: BTreeMap<Namespaced, GatewayValues>,
    /// A file with the authorities (PEM) of hosts outside, where the system's own do not do.
    pub outside_ca: Option<PathBuf>,
}

/// One gateway as the cluster has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayValues {
    /// Its Deployment.
    pub at: Namespaced,
    /// Its Service.
    pub service: Namespaced,
    /// The labels by which Istio Gateways select its pods; None where they are those that scenarios use.
    pub labels: Option<BTreeMap<String, String>>,
    /// `HOST:PORT` by which port 80 is reached from here; None to find it from the Service.
    pub http: Option<String>,
    /// The same of port 443.
    pub https: Option<String>,
}

impl Default for ClusterValues {
    fn default() -> Self {
        let root = "istio-system".to_owned();
        let istiod = Namespaced { namespace: root.clone(), name: "istiod".to_owned() };
        Self { root_namespace: root, revision: None, istiod, gateways: BTreeMap::new(), outside_ca: None }
    }
}

impl ClusterValues {
    /// Reads a values file.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn read(file: &Path) -> Result<Self, Vec<Mistake>> {
        let shown = file.display().to_string();
        let text = std::fs::read_to_string(file).map_err(|e| vec![Mistake::of_file(&*shown, format!("cannot be read: {e}"), None)])?;
        let mut values = Self::parse(&shown, &text)?;
        // Beside the values file, wherever the run is started from.
        values.outside_ca = values.outside_ca.map(|ca| file.parent().unwrap_or(Path::new("")).join(ca));
        Ok(values)
    }

    fn parse(shown: &str, text: &str) -> Result<Self, Vec<Mistake>> {
        let (documents, error) = yaml::parse(text);
        let mut r = Reader { source: Source { file: shown.into(), text: text.into() }, mistakes: Vec::new() };
        let mut values = Self::default();
        if let Some(error) = error {
            r.wrong(error.at..error.at + 1, format!("not YAML: {}", error.message));
            return Err(r.mistakes);
        }
        let Some(document) = documents.first().filter(|d| !d.is_null()) else { return Ok(values) };
        if let Some(second) = documents.get(1) {
            r.wrong(second.point(), "a values file is one YAML document");
        }
        let Some(file) = r.fields::<raw::ClusterValuesFile>(document, "the cluster's values") else { return Err(r.mistakes) };
        if let Some(node) = file.get("rootNamespace")
            && let Some(name) = r.line(node, "`rootNamespace`")
        {
            if Namespaced::parse(&format!("{name}/x")).is_err() {
                r.wrong(node.point(), format!("`{name}` is no namespace's name"));
            }
            values.root_namespace = name;
        }
        values.revision = file.get("revision").and_then(|node| r.line(node, "`revision`"));
        // The chart's name for istiod, unless the values say otherwise.
        let default = Namespaced { namespace: values.root_namespace.clone(), name: "istiod".to_owned() };
        values.istiod = file.get("istiod").and_then(|node| r.name(node, "`istiod`")).unwrap_or(default);
        values.outside_ca = file.get("outsideCa").and_then(|node| r.line(node, "`outsideCa`")).map(PathBuf::from);
        for item in r.list_of(&file, "gateways") {
            let Some(fields) = r.fields::<raw::GatewayValuesFile>(item, "a gateway") else { continue };
            let ours = fields.get("for").and_then(|node| r.name::<Namespaced>(node, "`for`"));
            let at = fields.get("at").and_then(|node| r.name::<Namespaced>(node, "`at`"));
            let service = fields.get("service").and_then(|node| r.name::<Namespaced>(node, "`service`"));
            let labels = fields.get("labels").map(|node| (node, texts(&mut r, node, "`labels`").into_iter().collect::<BTreeMap<_, _>>()));
            if let Some((node, labels)) = &labels
                && labels.is_empty()
            {
                r.wrong_help(node.point(), "`labels` selects every pod", "give the labels that an Istio Gateway's selector names");
            }
            let (mut http, mut https) = (None, None);
            if let Some(node) = fields.get("outside")
                && let Some(outside) = r.fields::<raw::OutsideAddressFile>(node, "`outside`")
            {
                http = outside.get("http").and_then(|node| address(&mut r, node, "`http`"));
                https = outside.get("https").and_then(|node| address(&mut r, node, "`https`"));
            }
            let (Some(ours), Some(at)) = (ours, at) else { continue };
            if service.as_ref().is_some_and(|s| s.namespace != at.namespace) {
                r.wrong_help(
                    fields.at.clone(),
                    "a Service selects pods of its own namespace only",
                    format!("expected one in {}", at.namespace),
                );
            }
            let service = service.unwrap_or_else(|| at.clone());
            let gateway = GatewayValues { at, service, labels: labels.map(|(_, labels)| labels), http, https };
            if values.gateways.insert(ours.clone(), gateway).is_some() {
                r.wrong(fields.at.clone(), format!("the gateway `{ours}` is given twice"));
            }
        }
        if r.mistakes.is_empty() { Ok(values) } else { Err(r.mistakes) }
    }
}

/// `HOST:PORT`.
fn address(r: &mut Reader, node: &yaml::Node, what: &str) -> Option<String> {
    let text = r.line(node, what)?;
    let good = text
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok_and(|p| p > 0));
    if !good {
        r.wrong_help(node.point(), format!("{what} cannot be `{text}`"), "expected HOST:PORT such as `10.0.0.7:443` or `[fd00::7]:443`");
        return None;
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_values_file_is_read_with_its_defaults() {
        let text = "rootNamespace: mesh\nrevision: stable\ngateways:\n  - for: istio-system/istio-ingressgateway\n    at: edge/public\n    \
                    labels: {gateway: public}\n    outside: {https: 'gw.example.com:443'}\n";
        let values = ClusterValues::parse("v.yaml", text).unwrap();
        assert_eq!((values.root_namespace.as_str(), values.revision.as_deref()), ("mesh", Some("stable")));
        assert_eq!(values.istiod.to_string(), "mesh/istiod");
        let gateway = values.gateways.values().next().unwrap();
        assert_eq!((gateway.service.to_string().as_str(), gateway.https.as_deref()), ("edge/public", Some("gw.example.com:443")));
        assert_eq!(ClusterValues::parse("v.yaml", "").unwrap(), ClusterValues::default());
    }

    #[test]
    fn every_mistake_is_told_with_its_place() {
        let text = "rootNamespaces: x\ngateways:\n  - for: nope\n    at: a/b\n  - at: a/b\n    outside: {http: 'http://x'}\n  - {for: a/b, at: c/d, service: e/f, labels: {}}\n";
        let mistakes: Vec<String> = ClusterValues::parse("v.yaml", text).unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(mistakes.len(), 6, "{mistakes:#?}");
        assert!(mistakes[0].starts_with("v.yaml:1:1: ") && mistakes[0].contains("did you mean `rootNamespace`?"), "{}", mistakes[0]);
        assert!(mistakes.iter().any(|m| m.starts_with("v.yaml:3:10: ")), "{mistakes:#?}");
    }
}
