//! A client for a context of the user's kubeconfig.

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::provider::ProviderError;

/// Connects to a context by name; gives the cluster's name beside the client.
pub(super) async fn connect(context: &str) -> Result<(Client, String), ProviderError> {
    // kube's own reading: KUBECONFIG with its list of files, else ~/.kube/config.
    let kubeconfig =
        Kubeconfig::read().map_err(|e| ProviderError::Context { why: format!("the kubeconfig cannot be read: {}", quoted_once(&e)) })?;
    let cluster = cluster_of(&kubeconfig, context).map_err(|why| ProviderError::Context { why })?;
    let failed = |e: &dyn std::fmt::Display| ProviderError::Context { why: format!("the context `{context}` cannot be used: {e}") };
    let options = KubeConfigOptions { context: Some(context.to_owned()), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|e| failed(&e))?;
    Ok((Client::try_from(config).map_err(|e| failed(&e))?, cluster))
}

/// kube puts a path in quotes that has them already.
fn quoted_once(error: &dyn std::fmt::Display) -> String {
    error.to_string().replace("'\"", "'").replace("\"'", "'")
}

/// The name of a context's cluster, or which contexts there are.
fn cluster_of(kubeconfig: &Kubeconfig, context: &str) -> Result<String, String> {
    let known: Vec<&str> = kubeconfig.contexts.iter().map(|c| c.name.as_str()).collect();
    let list = if known.is_empty() { "the kubeconfig has none".to_owned() } else { format!("there is {}", known.join(", ")) };
    if context.is_empty() {
        return Err(format!("no context is named (--context, GATEPROOF_CONTEXT), and the current one is never taken by itself; {list}"));
    }
    match kubeconfig.contexts.iter().find(|c| c.name == context) {
        Some(found) => Ok(found.context.as_ref().map_or_else(|| context.to_owned(), |c| c.cluster.clone())),
        None => Err(format!("no context is called `{context}`; {list}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_quoted_once() {
        let error = kube::config::KubeconfigError::ReadConfig(std::io::ErrorKind::NotFound.into(), "/root/.kube/config".into());
        let said = quoted_once(&error);
        assert!(said.contains("'/root/.kube/config'") && !said.contains('"'), "{said}");
    }

    #[test]
    fn a_context_is_taken_by_its_name_only_and_an_unknown_one_lists_the_known() {
        let text = "current-context: a\ncontexts: [{name: a, context: {cluster: x, user: u}}, {name: b, context: {cluster: y, user: u}}]\n";
        let kubeconfig = Kubeconfig::from_yaml(text).unwrap();
        assert_eq!(cluster_of(&kubeconfig, "b").unwrap(), "y");
        let unknown = cluster_of(&kubeconfig, "c").unwrap_err();
        assert!(unknown.contains("`c`") && unknown.contains("there is a, b"), "{unknown}");
        assert!(cluster_of(&kubeconfig, "").unwrap_err().contains("never taken"), "the current context is no default");
    }
}
