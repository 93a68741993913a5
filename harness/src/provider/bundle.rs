//! A folder that replaces the internet: node image, workload images, charts, tools.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::ProviderError;
use super::settings::read_yaml;

/// A bundle, as `bundle.yaml` in its folder describes it. Paths are absolute.
#[derive(Debug, Clone, PartialEq)]
pub struct Bundle {
    /// The folder.
    pub dir: PathBuf,
    /// The kind node image, which the engine has or `node_archive` holds.
    pub node_image: String,
    /// An archive of the node image.
    pub node_archive: Option<PathBuf>,
    /// An archive of the workload images.
    pub workload_archive: PathBuf,
    /// Image by role (`istiod`, `proxy`, `httpbin`, `curl`, …).
    pub workload_images: BTreeMap<String, String>,
    /// Chart folder or file by name (`base`, `istiod`, `gateway`).
    pub charts: BTreeMap<String, PathBuf>,
    /// Values that its images need, by chart.
    pub helm_values: BTreeMap<String, Value>,
    /// The Gateway API's resource definitions.
    pub gateway_api: Option<PathBuf>,
    /// Where its command line tools lie.
    pub bin: PathBuf,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawBundle {
    node_image: String,
    node_archive: Option<String>,
    workload_archive: String,
    workload_images: BTreeMap<String, String>,
    charts: BTreeMap<String, String>,
    #[serde(default)]
    helm_values: BTreeMap<String, Value>,
    #[serde(default)]
    crds: BTreeMap<String, String>,
}

impl Bundle {
    /// Reads `DIR/bundle.yaml`.
    ///
    /// # Errors
    /// When it cannot be read, or what it names is not there.
    pub fn read(dir: &Path) -> Result<Self, ProviderError> {
        let file = dir.join("bundle.yaml");
        let raw: RawBundle = read_yaml(&file)?;
        let bundle = Self::from_raw(dir, raw);
        let wrong = |why: String| ProviderError::Settings { file: file.display().to_string(), why };
        for name in ["base", "istiod", "gateway"] {
            let chart = bundle.charts.get(name).ok_or_else(|| wrong(format!("`charts` has no `{name}`")))?;
            if !chart.exists() {
                return Err(wrong(format!("`charts.{name}` names {}, which does not exist", chart.display())));
            }
        }
        if !bundle.workload_archive.is_file() {
            return Err(wrong(format!("`workloadArchive` names {}, which does not exist", bundle.workload_archive.display())));
        }
        Ok(bundle)
    }

    fn from_raw(dir: &Path, raw: RawBundle) -> Self {
        Self {
            dir: dir.to_owned(),
            node_image: raw.node_image,
            node_archive: raw.node_archive.map(|p| dir.join(p)),
            workload_archive: dir.join(raw.workload_archive),
            workload_images: raw.workload_images,
            charts: raw.charts.into_iter().map(|(k, p)| (k, dir.join(p))).collect(),
            helm_values: raw.helm_values,
            gateway_api: raw.crds.get("gatewayApi").map(|p| dir.join(p)),
            bin: dir.join("bin"),
        }
    }
}

/// From the images that manifests name to those that are here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageMap(BTreeMap<String, String>);

impl ImageMap {
    /// Pairs the images of `kind/versions.yaml` with the bundle's of the same role.
    #[must_use]
    pub fn by_role(declared: &BTreeMap<String, String>, bundled: &BTreeMap<String, String>) -> Self {
        Self(declared.iter().filter_map(|(role, image)| Some((full_reference(image), bundled.get(role)?.clone()))).collect())
    }

    /// The image to use where a manifest names `image`: the bundle's, or the same.
    #[must_use]
    pub fn resolve<'a>(&'a self, image: &'a str) -> &'a str {
        self.0.get(&full_reference(image)).map_or(image, String::as_str)
    }

    /// Each pair: as named by manifests, as it is here.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(from, to)| (from.as_str(), to.as_str()))
    }
}

/// Docker's short forms written out: `curl` and `docker.io/library/curl:latest` are one image.
fn full_reference(image: &str) -> String {
    let (first, rest) = image.split_once('/').map_or((None, image), |(a, b)| (Some(a), b));
    let named = match first {
        Some(host) if host.contains('.') || host.contains(':') || host == "localhost" => image.to_owned(),
        Some(user) => format!("docker.io/{user}/{rest}"),
        None => format!("docker.io/library/{rest}"),
    };
    let last = named.rsplit('/').next().unwrap_or_default();
    if last.contains(':') || last.contains('@') { named } else { format!("{named}:latest") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_read_with_absolute_paths() {
        let text = "nodeImage: lab/node:1\nworkloadArchive: images/mesh.tar\nworkloadImages: {httpbin: 'lab/httpbin:2'}\ncharts: {base: charts/base}\ncrds: {gatewayApi: crds/g.yaml}\nhelmValues: {gateway: {imagePullPolicy: IfNotPresent}}\nbinaries: {kind: 0.33.0}\n";
        let bundle = Bundle::from_raw(Path::new("/b"), serde_saphyr::from_str(text).unwrap());
        assert_eq!(bundle.workload_archive, Path::new("/b/images/mesh.tar"));
        assert_eq!(bundle.charts["base"], Path::new("/b/charts/base"));
        assert_eq!(bundle.gateway_api.as_deref(), Some(Path::new("/b/crds/g.yaml")));
        assert_eq!(bundle.helm_values["gateway"]["imagePullPolicy"], "IfNotPresent");
    }

    #[test]
    fn images_are_mapped_by_role_whatever_the_spelling() {
        let declared = BTreeMap::from([
            ("curl".to_owned(), "docker.io/curlimages/curl:8.17.0".to_owned()),
            ("httpbin".to_owned(), "ghcr.io/m/h:2".to_owned()),
        ]);
        let bundled = BTreeMap::from([("curl".to_owned(), "lab/curl:8".to_owned())]);
        let map = ImageMap::by_role(&declared, &bundled);
        assert_eq!(map.resolve("curlimages/curl:8.17.0"), "lab/curl:8");
        assert_eq!(map.resolve("docker.io/curlimages/curl:8.17.0"), "lab/curl:8");
        assert_eq!(map.resolve("curlimages/curl:9"), "curlimages/curl:9");
        assert_eq!(map.resolve("ghcr.io/m/h:2"), "ghcr.io/m/h:2");
    }

    #[test]
    fn short_references_are_written_out() {
        assert_eq!(full_reference("busybox"), "docker.io/library/busybox:latest");
        assert_eq!(full_reference("localhost:5000/a"), "localhost:5000/a:latest");
        assert_eq!(full_reference("a/b@sha256:00"), "docker.io/a/b@sha256:00");
    }
}
