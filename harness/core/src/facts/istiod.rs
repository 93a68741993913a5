//! What istiod's debug endpoints say, read into types. Source: istio/istio `pilot/pkg/xds/debug.go`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// One proxy in `/debug/syncz`.
#[derive(Debug, Clone, Deserialize)]
pub struct SyncStatus {
    /// `POD.NAMESPACE`.
    pub proxy: String,
    /// The proxy's Istio version.
    #[serde(default)]
    pub istio_version: String,
    /// By type URL.
    #[serde(default)]
    pub resources: BTreeMap<String, TypeStatus>,
}

/// What was sent and acknowledged of one resource type.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct TypeStatus {
    /// Nonce of the last push of this type.
    #[serde(default)]
    pub sent: String,
    /// Nonce of the last acknowledged push.
    #[serde(default)]
    pub acked: String,
    /// Envoy's words when it refused the last push; cleared by the next acknowledgement.
    #[serde(default, rename = "lastError", alias = "last_error")]
    pub last_error: Option<Value>,
}

/// A list that istiod answers with. An empty one is written as `null`.
fn list<T: DeserializeOwned>(answer: &[u8]) -> Result<Vec<T>, serde_json::Error> {
    serde_json::from_slice(if answer == b"null" { b"[]" } else { answer })
}

impl SyncStatus {
    /// Reads what `/debug/syncz` answers.
    ///
    /// # Errors
    /// When it is something else.
    pub fn list(answer: &[u8]) -> Result<Vec<Self>, serde_json::Error> {
        list(answer)
    }

    /// The pod's name.
    #[must_use]
    pub fn pod(&self) -> &str {
        self.proxy.split_once('.').map_or(&self.proxy, |(pod, _)| pod)
    }

    /// The pod's namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.proxy.split_once('.').map_or("", |(_, ns)| ns)
    }

    /// The nonce of the last push of clusters that was answered, by an acknowledgement or a refusal.
    #[must_use]
    pub fn clusters_answered(&self) -> &str {
        let clusters = self.resources.iter().find(|(url, _)| short_type(url) == "Cluster").map(|(_, s)| s);
        clusters.map_or("", |s| if s.last_error.as_ref().is_some_and(|e| !e.is_null()) { &s.sent } else { &s.acked })
    }

    /// Types whose last push Envoy refused, with its words.
    #[must_use]
    pub fn refusals(&self) -> Vec<(String, String)> {
        self.resources
            .iter()
            .filter_map(|(url, status)| {
                let text = match status.last_error.as_ref()? {
                    Value::Null => return None,
                    Value::String(text) if text.is_empty() => return None,
                    Value::String(text) => text.clone(),
                    other => other["message"].as_str().map_or_else(|| other.to_string(), str::to_owned),
                };
                Some((short_type(url).to_owned(), text))
            })
            .collect()
    }
}

/// `Cluster` of `type.googleapis.com/envoy.config.cluster.v3.Cluster`.
#[must_use]
pub fn short_type(url: &str) -> &str {
    url.rsplit('.').next().unwrap_or(url)
}

/// One object in `/debug/configz`.
#[derive(Debug, Clone, Deserialize)]
pub struct KnownConfig {
    /// `GROUP/VERSION`; two groups have a kind called Gateway.
    #[serde(default, rename = "apiVersion")]
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Name, namespace, identity and generation.
    pub metadata: KnownMeta,
}

impl KnownConfig {
    /// Reads what `/debug/configz` answers.
    ///
    /// # Errors
    /// When it is something else.
    pub fn list(answer: &[u8]) -> Result<Vec<Self>, serde_json::Error> {
        list(answer)
    }
}

/// See [`KnownConfig::metadata`].
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KnownMeta {
    /// Name.
    pub name: String,
    /// Namespace; empty for cluster-scoped kinds.
    #[serde(default)]
    pub namespace: String,
    /// The object's identity.
    #[serde(default)]
    pub uid: String,
    /// The generation that istiod's store holds.
    #[serde(default)]
    pub generation: i64,
    /// Its annotations; istiod's own on what it made of other objects.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_is_written_as_null() {
        assert!(KnownConfig::list(b"null").unwrap().is_empty() && SyncStatus::list(b"[]").unwrap().is_empty());
        assert!(KnownConfig::list(b"not found").is_err());
    }

    #[test]
    fn a_refusal_is_read_with_its_words() {
        let status: Vec<SyncStatus> = serde_json::from_str(
            r#"[{"proxy":"egw-1.istio-system","resources":{"type.googleapis.com/envoy.config.listener.v3.Listener":
               {"sent":"a","acked":"b","lastError":"Error adding/updating listener(s) 0.0.0.0_8443: boom"},
               "type.googleapis.com/envoy.config.cluster.v3.Cluster":{"sent":"a","acked":"a"}}}]"#,
        )
        .unwrap();
        assert_eq!(status[0].refusals(), [("Listener".to_owned(), "Error adding/updating listener(s) 0.0.0.0_8443: boom".to_owned())]);
        assert_eq!((status[0].pod(), status[0].namespace()), ("egw-1", "istio-system"));
    }
}
