//! Which namespaces istiod looks at (`discoverySelectors` of the mesh configuration).

use std::collections::BTreeMap;

use serde_json::Value;

use super::object;

/// Label selectors of which a namespace must match one; without any every namespace does.
#[derive(Debug, Clone, Default)]
pub(super) struct Discovery {
    selectors: Vec<Value>,
}

impl Discovery {
    /// From the mesh configuration.
    pub(super) fn of(mesh: &Value) -> Discovery {
        Discovery { selectors: object::list(mesh, "/discoverySelectors").to_vec() }
    }

    /// Whether objects of a namespace with these labels count.
    pub(super) fn takes(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        let none = BTreeMap::new();
        let labels = labels.unwrap_or(&none);
        self.selectors.is_empty() || self.selectors.iter().any(|selector| matches(selector, labels))
    }
}

/// Kubernetes' `LabelSelector`.
fn matches(selector: &Value, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector.get("matchLabels").map(object::text_map).unwrap_or_default();
    let holds = |expression: &Value| {
        let value = labels.get(object::text(expression, "/key"));
        let values = object::texts(expression, "/values");
        let is_in = value.is_some_and(|value| values.contains(&value.as_str()));
        match object::text(expression, "/operator") {
            "In" => is_in,
            "NotIn" => !is_in,
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => false,
        }
    };
    object::selects(&equal, labels) && object::list(selector, "/matchExpressions").iter().all(holds)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_namespace_needs_one_of_the_selectors() {
        let discovery = Discovery::of(&json!({"discoverySelectors": [
            {"matchLabels": {"mesh": "on"}},
            {"matchExpressions": [{"key": "team", "operator": "In", "values": ["a", "b"]}, {"key": "off", "operator": "DoesNotExist"}]},
        ]}));
        let takes = |labels: &[(&str, &str)]| {
            let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            discovery.takes(Some(&labels))
        };
        assert!(takes(&[("mesh", "on")]) && takes(&[("team", "b")]));
        assert!(!takes(&[]) && !takes(&[("team", "b"), ("off", "")]) && !discovery.takes(None));
        assert!(Discovery::default().takes(None));
    }
}
