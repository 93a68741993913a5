//! Helm, run as a command: its releases are what `helm list` shows.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::provider::kind::tools::run;
use crate::provider::{Bundle, ProviderError, Settings, Tools};

/// The three charts, as files or folders.
#[derive(Debug, Clone)]
pub(crate) struct Charts {
    pub(crate) base: PathBuf,
    pub(crate) istiod: PathBuf,
    pub(crate) gateway: PathBuf,
}

impl Charts {
    /// The bundle's, or Istio's own of a version, fetched once into the cache.
    pub(crate) async fn provide(
        tools: &Tools,
        settings: &Settings,
        istio: &str,
        bundle: Option<&Bundle>,
        cache: &Path,
    ) -> Result<Self, ProviderError> {
        if let Some(bundle) = bundle {
            return Ok(Self {
                base: bundle.charts["base"].clone(),
                istiod: bundle.charts["istiod"].clone(),
                gateway: bundle.charts["gateway"].clone(),
            });
        }
        let pull = async |chart: &str| {
            let target = cache.join(format!("{chart}-{istio}.tgz"));
            if !target.is_file() {
                let mut command = tokio::process::Command::new(&tools.helm);
                command.args(["pull", chart, "--version", istio, "--repo", &settings.chart_repository, "--destination"]).arg(cache);
                run(&format!("fetch Istio's chart {chart} {istio} from {}", settings.chart_repository), &mut command).await?;
            }
            Ok::<_, ProviderError>(target)
        };
        std::fs::create_dir_all(cache).map_err(ProviderError::io(format!("make the folder {}", cache.display())))?;
        let (base, istiod, gateway) = tokio::try_join!(pull("base"), pull("istiod"), pull("gateway"))?;
        Ok(Self { base, istiod, gateway })
    }
}

/// One `helm install` or upgrade.
#[derive(Debug, Clone)]
pub(crate) struct Release<'a> {
    pub(crate) name: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) chart: &'a Path,
    /// Later files are laid over earlier ones.
    pub(crate) values: Vec<PathBuf>,
}

/// Installs a release without waiting for what it makes to run.
pub(crate) async fn install(tools: &Tools, kubeconfig: &Path, release: &Release<'_>, fresh: bool) -> Result<(), ProviderError> {
    let mut command = tokio::process::Command::new(&tools.helm);
    if fresh {
        command.arg("install");
    } else {
        command.args(["upgrade", "--install"]);
    }
    command.arg(release.name).arg(release.chart).args(["--namespace", release.namespace, "--kubeconfig"]).arg(kubeconfig);
    // The API server checks what it is given; to check it before, helm has it compute the schema of
    // everything, anew after each resource definition: seconds of both cores.
    command.arg("--disable-openapi-validation");
    for file in &release.values {
        command.arg("--values").arg(file);
    }
    for variable in ["KUBECONFIG", "HELM_NAMESPACE", "HELM_KUBECONTEXT"] {
        command.env_remove(variable);
    }
    run(&format!("install the release {}/{} by helm", release.namespace, release.name), &mut command).await.map(|_| ())
}

/// Writes values beside the cluster's state.
pub(crate) fn write_values(dir: &Path, name: &str, values: &Value) -> Result<PathBuf, ProviderError> {
    write(dir.join(format!("values-{name}.json")), &values.to_string())
}

/// The same of values as they are written in `kind/`, which may be built in.
pub(crate) fn write_text(dir: &Path, name: &str, values: &str) -> Result<PathBuf, ProviderError> {
    write(dir.join(format!("values-{name}.yaml")), values)
}

fn write(file: PathBuf, text: &str) -> Result<PathBuf, ProviderError> {
    std::fs::write(&file, text).map_err(ProviderError::io(format!("write {}", file.display())))?;
    Ok(file)
}
