//! The Gateway API's resource definitions.

use futures::future::try_join_all;
use http_body_util::BodyExt;

use crate::provider::{FIELD_MANAGER, ProviderError};

/// Applies every CustomResourceDefinition of a file. The API server takes YAML as it is, so that a
/// megabyte of it need not be parsed here; documents of other kinds are left out.
pub(crate) async fn apply(client: &kube::Client, text: &str) -> Result<(), ProviderError> {
    let each = text
        .split("\n---")
        .filter(|d| is_crd(d))
        .filter_map(|d| Some((name_of(d)?, d)))
        .map(|(name, document)| apply_one(client, name, document));
    try_join_all(each).await.map(|_| ())
}

async fn apply_one(client: &kube::Client, name: &str, document: &str) -> Result<(), ProviderError> {
    let what = format!("apply the resource definition {name}");
    let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}?fieldManager={FIELD_MANAGER}&force=true");
    let request = hyper::Request::patch(path)
        .header("content-type", "application/apply-patch+yaml")
        .body(kube::client::Body::from(document.as_bytes().to_vec()));
    let request = request.map_err(|e| ProviderError::Command { what: what.clone(), seen: e.to_string() })?;
    let response = client.send(request).await.map_err(ProviderError::kube(&what))?;
    if response.status().is_success() {
        return Ok(());
    }
    let status = response.status();
    let body = response.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    Err(ProviderError::Command {
        what,
        seen: format!("{status}: {}", String::from_utf8_lossy(&body).chars().take(300).collect::<String>()),
    })
}

fn is_crd(document: &str) -> bool {
    document.lines().any(|l| l == "kind: CustomResourceDefinition")
}

/// `metadata.name`: the first key of that name with two spaces before it.
fn name_of(document: &str) -> Option<&str> {
    let metadata = document.lines().skip_while(|l| *l != "metadata:").skip(1);
    metadata.take_while(|l| l.starts_with(' ')).find_map(|l| l.strip_prefix("  name: ")).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_metadata() {
        let text = "apiVersion: v1\nkind: CustomResourceDefinition\nmetadata:\n  annotations:\n    name: no\n  name: a.b.c\nspec:\n  name: other\n";
        assert!(is_crd(text));
        assert_eq!(name_of(text), Some("a.b.c"));
        assert!(!is_crd("kind: ValidatingAdmissionPolicy\n"));
    }
}
