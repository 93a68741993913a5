//! `kind/` as data: versions, gateways, values, the cluster's template.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use gateproof_core::names::Namespaced;
use gateproof_core::scenario::{Gateway, GatewayService};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::ProviderError;

/// What `kind/` declares.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder.
    pub dir: PathBuf,
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
    /// Reads the folder.
    ///
    /// # Errors
    /// When a file cannot be read, with its line and column.
    pub fn read(dir: &Path) -> Result<Self, ProviderError> {
        let versions: RawVersions = read_yaml(&dir.join("versions.yaml"))?;
        let gateways: RawGateways = read_yaml(&dir.join("gateways.yaml"))?;
        for values in ["istiod.yaml", "gateway.yaml"] {
            let _: Value = read_yaml(&dir.join("values").join(values))?;
        }
        Ok(Self {
            dir: dir.to_owned(),
            kubernetes: versions.kubernetes.version,
            node_image: versions.kubernetes.node_image,
            istio: versions.istio.version,
            chart_repository: versions.istio.chart_repository,
            tools: versions.tools,
            images: versions.images,
            gateway_api: versions.gateway_api,
            gateways: gateways.gateways.into_iter().map(Gateway::from).collect(),
            cluster: read_yaml(&dir.join("cluster.yaml"))?,
        })
    }

    /// The file with the values of a chart.
    #[must_use]
    pub fn values_file(&self, chart: &str) -> PathBuf {
        self.dir.join("values").join(format!("{chart}.yaml"))
    }
}

impl From<RawGateway> for Gateway {
    fn from(raw: RawGateway) -> Self {
        let service = raw.node_port.map_or(GatewayService::ClusterIp, |p| GatewayService::NodePort { http: p.http, https: p.https });
        Self { at: raw.at, labels: raw.labels, service }
    }
}

/// Reads one YAML file; an error carries its line, column and an excerpt.
pub(crate) fn read_yaml<T: DeserializeOwned>(file: &Path) -> Result<T, ProviderError> {
    let wrong = |why: String| ProviderError::Settings { file: file.display().to_string(), why };
    let text = std::fs::read_to_string(file).map_err(|e| wrong(e.to_string()))?;
    serde_saphyr::from_str(&text).map_err(|e| wrong(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_folder_is_read() {
        let settings = Settings::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../kind")).unwrap();
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
