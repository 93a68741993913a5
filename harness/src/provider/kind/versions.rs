//! Versions as read from the cluster and its tools, beside those declared.

use gateproof_core::report::VersionRecord;
use serde_json::Value;

use super::tools::run;
use crate::provider::{Progress, ProviderError, Settings, Tools};

/// What is declared: by `kind/`, with what the options override.
pub(crate) struct Declared<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) istio: &'a str,
    pub(crate) node_image: &'a str,
}

/// Asks all of them, and warns of clients that do not fit.
pub(crate) async fn read(
    client: &kube::Client,
    tools: &Tools,
    node_image: &str,
    declared: &Declared<'_>,
    progress: &dyn Progress,
) -> Result<Vec<VersionRecord>, ProviderError> {
    let server = async { client.apiserver_version().await.map_err(ProviderError::kube("read the version of Kubernetes")) };
    let (server, istiod, kind, helm, istioctl) = tokio::join!(server, istiod(client), kind(tools), helm(tools), istioctl(tools));
    let istiod = istiod?;
    if let Some(istioctl) = &istioctl
        && let Some(warning) = skew(istioctl, &istiod)
    {
        progress.warn(&warning);
    }
    let pinned = |tool: &str| declared.settings.tools.get(tool).map(|t| t.version.clone());
    let row = |what: &str, observed: String, declared: Option<String>| VersionRecord { what: what.to_owned(), observed, declared };
    let mut rows = vec![
        row("Kubernetes", server?.git_version, Some(declared.settings.kubernetes.clone())),
        row("node image", node_image.to_owned(), Some(declared.node_image.to_owned())),
        row("Istio control plane", istiod, Some(declared.istio.to_owned())),
        row("kind", kind, pinned("kind")),
        row("helm", helm, pinned("helm")),
    ];
    rows.extend(istioctl.map(|v| row("istioctl", v, pinned("istioctl"))));
    Ok(rows)
}

/// istiod says its version where it serves its metrics.
async fn istiod(client: &kube::Client) -> Result<String, ProviderError> {
    const WHAT: &str = "read istiod's version";
    let path = "/api/v1/namespaces/istio-system/services/http:istiod:15014/proxy/version";
    let request =
        hyper::Request::get(path).body(Vec::new()).map_err(|e| ProviderError::Command { what: WHAT.to_owned(), seen: e.to_string() })?;
    let said = client.request_text(request).await.map_err(ProviderError::kube(WHAT))?;
    Ok(version_in(&said))
}

/// istiod answers with its build information as JSON, or as text of the shape `VERSION-COMMIT-STATUS`.
pub(crate) fn version_in(said: &str) -> String {
    let said = said.trim();
    match serde_json::from_str::<Value>(said) {
        Ok(value) => value["version"].as_str().or(value["Version"].as_str()).unwrap_or(said).to_owned(),
        Err(_) => match said.rsplitn(3, '-').collect::<Vec<_>>()[..] {
            [_status, commit, version] if commit.len() >= 7 && commit.bytes().all(|b| b.is_ascii_hexdigit()) => version.to_owned(),
            _ => said.to_owned(),
        },
    }
}

async fn kind(tools: &Tools) -> String {
    let said = run("ask kind for its version", tokio::process::Command::new(&tools.kind).args(["version", "-q"])).await;
    said.map_or_else(|e| e.to_string(), |s| s.trim().to_owned())
}

async fn helm(tools: &Tools) -> String {
    let said =
        run("ask helm for its version", tokio::process::Command::new(&tools.helm).args(["version", "--template", "{{.Version}}"])).await;
    said.map_or_else(|e| e.to_string(), |s| s.trim().trim_start_matches('v').to_owned())
}

pub(crate) async fn istioctl(tools: &Tools) -> Option<String> {
    let said = run(
        "ask istioctl for its version",
        tokio::process::Command::new(tools.istioctl.as_ref()?).args(["version", "--remote=false", "--short"]),
    )
    .await;
    Some(said.map_or_else(|e| e.to_string(), |s| s.trim().trim_start_matches("client version: ").to_owned()))
}

/// A warning when the client's minor version is not the control plane's.
pub(crate) fn skew(istioctl: &str, istiod: &str) -> Option<String> {
    let minor = |v: &str| {
        let mut parts = v.trim_start_matches('v').split(['.', '-']);
        Some((parts.next()?.parse::<u32>().ok()?, parts.next()?.parse::<u32>().ok()?))
    };
    let (ours, theirs) = (minor(istioctl)?, minor(istiod)?);
    (ours != theirs).then(|| {
        format!(
            "istioctl {istioctl} does not fit the control plane {istiod}: its analysis may be wrong; use istioctl {}.{}",
            theirs.0, theirs.1
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_of_another_minor_version_is_warned_of() {
        assert!(skew("1.27.1", "1.30.0").unwrap().contains("use istioctl 1.30"));
        assert_eq!(skew("1.30.2", "1.30.0"), None);
        assert_eq!(skew("1.31-alpha.eed52ebb", "1.31-alpha.eed52ebb"), None);
        assert_eq!(skew("unknown", "1.30.0"), None);
    }

    #[test]
    fn both_shapes_of_istiods_answer_are_read() {
        assert_eq!(version_in("1.30.0-badd809e00000000000000000000000000000000-Clean\n"), "1.30.0");
        assert_eq!(version_in(r#"{"version":"1.30.0","revision":"b"}"#), "1.30.0");
        assert_eq!(version_in("1.31-alpha.eed52ebb-eed52ebb66ad-Clean"), "1.31-alpha.eed52ebb");
        assert_eq!(version_in("1.31-alpha.eed52ebb"), "1.31-alpha.eed52ebb");
    }
}
