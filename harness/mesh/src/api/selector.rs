//! Label and field selectors of lists and watches.

use gateproof_mesh_config::istio::model::object::at;
use serde_json::Value;

use super::error::ApiError;

/// One requirement on a label. Source: `apimachinery/pkg/labels/selector.go`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

/// What a list or watch is narrowed to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    labels: Vec<Requirement>,
    /// Path, wanted value, whether equal is wanted.
    fields: Vec<(String, String, bool)>,
}

impl Selector {
    /// From the texts of `labelSelector` and `fieldSelector`.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn parse(labels: &str, fields: &str) -> Result<Self, ApiError> {
        Ok(Self { labels: parse_labels(labels)?, fields: parse_fields(fields)? })
    }

    /// From a `metav1.LabelSelector` (`matchLabels`, `matchExpressions`), as Deployments have them.
    #[must_use]
    pub fn of_labels(selector: &Value) -> Self {
        let mut labels = Vec::new();
        for (key, value) in selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
            labels.push(Requirement::In(key.clone(), vec![value.as_str().unwrap_or_default().to_owned()]));
        }
        for rule in selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
            let key = rule.get("key").and_then(Value::as_str).unwrap_or_default().to_owned();
            let values: Vec<String> =
                rule.get("values").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
            labels.push(match rule.get("operator").and_then(Value::as_str).unwrap_or_default() {
                "In" => Requirement::In(key, values),
                "NotIn" => Requirement::NotIn(key, values),
                "DoesNotExist" => Requirement::Absent(key),
                _ => Requirement::Exists(key),
            });
        }
        Self { labels, fields: Vec::new() }
    }

    /// Whether everything matches.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether the object is among the selected.
    #[must_use]
    pub fn matches(&self, object: &Value) -> bool {
        let labels = at(object, "/metadata/labels");
        let label = |key: &str| labels.and_then(|l| l.get(key)).and_then(Value::as_str);
        let fits = |requirement: &Requirement| match requirement {
            Requirement::In(key, values) => label(key).is_some_and(|v| values.iter().any(|w| w == v)),
            Requirement::NotIn(key, values) => !label(key).is_some_and(|v| values.iter().any(|w| w == v)),
            Requirement::Exists(key) => label(key).is_some(),
            Requirement::Absent(key) => label(key).is_none(),
        };
        self.labels.iter().all(fits) && self.fields.iter().all(|(path, wanted, equal)| (field(object, path) == *wanted) == *equal)
    }
}

/// The value at a dotted path as text; empty when there is none.
fn field(object: &Value, path: &str) -> String {
    let found = path.split('.').try_fold(object, |at, key| at.get(key));
    match found {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn parse_fields(text: &str) -> Result<Vec<(String, String, bool)>, ApiError> {
    let mut all = Vec::new();
    for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let (path, value, equal) = if let Some((path, value)) = part.split_once("!=") {
            (path, value, false)
        } else if let Some((path, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
            (path, value, true)
        } else {
            return Err(ApiError::bad_request(format!(
                "Unable to find \"fields\" that match field selector \"{text}\": invalid selector: '{text}'; can't understand '{part}'"
            )));
        };
        all.push((path.to_owned(), value.to_owned(), equal));
    }
    Ok(all)
}

fn parse_labels(text: &str) -> Result<Vec<Requirement>, ApiError> {
    let mut all = Vec::new();
    for part in split_outside_parentheses(text).into_iter().map(str::trim).filter(|p| !p.is_empty()) {
        let set = |word: &str| -> Option<(String, Vec<String>)> {
            let (key, rest) = part.split_once(word)?;
            let values = rest.trim().strip_prefix('(')?.strip_suffix(')')?;
            Some((key.trim().to_owned(), values.split(',').map(|v| v.trim().to_owned()).collect()))
        };
        let requirement = if let Some((key, values)) = set(" notin ") {
            Requirement::NotIn(key, values)
        } else if let Some((key, values)) = set(" in ") {
            Requirement::In(key, values)
        } else if let Some((key, value)) = part.split_once("!=") {
            Requirement::NotIn(key.trim().to_owned(), vec![value.trim().to_owned()])
        } else if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
            Requirement::In(key.trim().to_owned(), vec![value.trim().to_owned()])
        } else if let Some(key) = part.strip_prefix('!') {
            Requirement::Absent(key.trim().to_owned())
        } else if part.contains([' ', '(', ')', '<', '>']) {
            return Err(ApiError::bad_request(format!("unable to parse requirement: found '{part}', expected: ',' or 'end of string'")));
        } else {
            Requirement::Exists(part.to_owned())
        };
        all.push(requirement);
    }
    Ok(all)
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut from) = (Vec::new(), 0_u32, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.extend(text.get(from..at));
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.extend(text.get(from..));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn labels_and_fields_select() {
        let pod = json!({"metadata": {"name": "a", "labels": {"app": "x", "v": "1"}}, "status": {"phase": "Running"}});
        let yes = |labels: &str, fields: &str| Selector::parse(labels, fields).unwrap().matches(&pod);
        assert!(yes("app=x,v in (1, 2),!gone,app", "status.phase=Running,metadata.name==a"));
        assert!(yes("app!=y,v notin (3),other notin (1)", "status.phase!=Failed"));
        for (labels, fields) in [("app=y", ""), ("gone", ""), ("!app", ""), ("v in (2)", ""), ("", "status.phase=Failed"), ("", "spec.x=1")]
        {
            assert!(!yes(labels, fields), "{labels} {fields}");
        }
        assert!(Selector::parse("a b c", "").is_err() && Selector::parse("", "a").is_err());
        let of = Selector::of_labels(&json!({"matchLabels": {"app": "x"}, "matchExpressions": [{"key": "v", "operator": "Exists"}]}));
        assert!(of.matches(&pod));
    }
}
