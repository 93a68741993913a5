//! `kind/` as data: versions, gateways, values, the cluster's template.

use std::collections::BTreeMap;
use std::path::Path;

use gateproof_core::names::Namespaced;
use gateproof_core::scenario::{Gateway, GatewayService};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{KindFiles, ProviderError};

/// What `kind/` declares.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it was read.
    pub files: KindFiles,
    /// Kubernetes' version.
    pub kubernetes: String,
    /// The node image, with its digest.
    pub node_image: String,
    /// Istio's version.
    pub istio: String,
    /// Where Istio's charts are.
    pub chart_repository: String,
    /// Command line tools by name.
    pub tools: BTreeMap<String, ToolSource>,
    /// Images by role.
    pub images: BTreeMap<String, String>,
    /// The Gateway API's resource definitions, where they are pinned.
    pub gateway_api: Option<GatewayApiSource>,
    /// Gateways of every cluster.
    pub gateways: Vec<Gateway>,
    /// kind's configuration.
    pub cluster: Value,
    /// By chart, the text of the file with its values.
    pub values: BTreeMap<String, String>,
}

/// Where a command line tool is downloaded from.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolSource {
    /// Its version.
    pub version: String,
    /// With `{version}`, `{os}` and `{arch}` to fill in.
    pub url: String,
    /// The file to take out of a `.tar.gz`.
    pub member: Option<String>,
    /// SHA-256 of the download by `os-arch`.
    pub sha256: BTreeMap<String, String>,
}

/// Where the Gateway API's resource definitions are downloaded from.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayApiSource {
    /// Its version.
    pub version: String,
    /// With `{version}` to fill in.
    pub url: String,
    /// SHA-256 of the download.
    pub sha256: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawVersions {
    kubernetes: RawKubernetes,
    istio: RawIstio,
    tools: BTreeMap<String, ToolSource>,
    images: BTreeMap<String, String>,
    gateway_api: Option<GatewayApiSource>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawKubernetes {
    version: String,
    node_image: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawIstio {
    version: String,
    chart_repository: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGateways {
    gateways: Vec<RawGateway>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawGateway {
    at: Namespaced,
    labels: BTreeMap<String, String>,
    node_port: Option<RawNodePort>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNodePort {
    http: u16,
    https: u16,
}

impl Settings {
    /// Reads the files.
    ///
    /// # Errors
    /// When a file cannot be read, with its line and column.
    pub fn read(files: &KindFiles) -> Result<Self, ProviderError> {
        let versions: RawVersions = part(files, "versions.yaml")?;
        let gateways: RawGateways = part(files, "gateways.yaml")?;
        let mut values = BTreeMap::new();
        for chart in ["istiod", "gateway"] {
            let name = format!("values/{chart}.yaml");
            let _: Value = part(files, &name)?;
            values.insert(chart.to_owned(), files.text(&name)?.into_owned());
        }
        Ok(Self {
            files: files.clone(),
            kubernetes: versions.kubernetes.version,
            node_image: versions.kubernetes.node_image,
            istio: versions.istio.version,
            chart_repository: versions.istio.chart_repository,
            tools: versions.tools,
            images: versions.images,
            gateway_api: versions.gateway_api,
            gateways: gateways.gateways.into_iter().map(Gateway::from).collect(),
            cluster: part(files, "cluster.yaml")?,
            values,
        })
    }

    /// The text of the file with the values of a chart; empty for a chart that has none.
    #[must_use]
    pub fn values_of(&self, chart: &str) -> &str {
        self.values.get(chart).map_or("", String::as_str)
    }
}

/// One of the files, read as YAML.
fn part<T: DeserializeOwned>(files: &KindFiles, name: &str) -> Result<T, ProviderError> {
    parse(&files.shown(name), &files.text(name)?)
}

impl From<RawGateway> for Gateway {
    fn from(raw: RawGateway) -> Self {
        let service = raw.node_port.map_or(GatewayService::ClusterIp, |p| GatewayService::NodePort { http: p.http, https: p.https });
        Self { at: raw.at, labels: raw.labels, service }
    }
}

/// Reads one YAML file; an error carries its line, column and an excerpt.
pub(crate) fn read_yaml<T: DeserializeOwned>(file: &Path) -> Result<T, ProviderError> {
    let shown = file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|e| ProviderError::Settings { file: shown.clone(), why: e.to_string() })?;
    parse(&shown, &text)
}

/// The same of a text.
pub(crate) fn parse<T: DeserializeOwned>(shown: &str, text: &str) -> Result<T, ProviderError> {
    serde_saphyr::from_str(text).map_err(|e| ProviderError::Settings { file: shown.to_owned(), why: e.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_in_is_read() {
        let settings = Settings::read(&KindFiles::BuiltIn).unwrap();
        assert!(settings.node_image.contains("@sha256:"), "pinned by digest");
        assert_eq!(settings.gateways.len(), 2);
        assert_eq!(settings.gateways[0].service, GatewayService::NodePort { http: 31080, https: 31443 });
        assert!(settings.tools["kind"].sha256.values().all(|sum| sum.len() == 64));
    }

    #[test]
    fn a_mistake_names_file_and_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("gateways.yaml");
        std::fs::write(&file, "gateways:\n  - at: a/b\n    labls: {}\n").unwrap();
        let said = read_yaml::<RawGateways>(&file).err().unwrap().to_string();
        assert!(said.contains("gateways.yaml") && said.contains("labls") && said.contains('3'), "{said}");
    }
}
