//! Partial comparison of JSON: what a scenario wants of a proxy's configuration.
//!
//! - A wanted map is a subset: each of its keys must be there and match; further keys do not matter.
//! - Each element of a wanted array must match some element of the actual array, in any order. When none does, the
//!   mismatches of the closest element are given.
//! - Scalars must be equal and of the same kind: `443` is not `"443"`. The one exception is a wanted string with `*`,
//!   which stands for any text: it is compared with the text of any string, number or boolean (`"44*"` matches `443`).
//! - A wanted `null` is `null`; a key that is not there is not `null`.

use std::fmt;

use serde_json::Value;

/// A place where the actual value is not as wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathMismatch {
    /// The place in the actual value, like a JSON path: `$.virtual_hosts[2].domains`.
    pub path: String,
    /// What was wanted there.
    pub wanted: String,
    /// What is there.
    pub actual: String,
}

impl fmt::Display for PathMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: wanted {}, is {}", self.path, self.wanted, self.actual)
    }
}

/// Whether `actual` has all that is `wanted`, by the rules of this module.
///
/// # Errors
/// Every mismatch, in the order of the wanted value; never empty.
pub fn contains(actual: &Value, wanted: &Value) -> Result<(), Vec<PathMismatch>> {
    let mut found = Vec::new();
    compare("$", actual, wanted, &mut found);
    if found.is_empty() { Ok(()) } else { Err(found) }
}

/// Whether the text matches the pattern, in which `*` stands for any text, also none; everything else is literal.
#[must_use]
pub fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

fn compare(path: &str, actual: &Value, wanted: &Value, found: &mut Vec<PathMismatch>) {
    match (wanted, actual) {
        (Value::Object(wanted), Value::Object(actual)) => {
            for (key, value) in wanted {
                let place = join(path, key);
                match actual.get(key) {
                    Some(there) => compare(&place, there, value, found),
                    None => found.push(PathMismatch { path: place, wanted: short(value), actual: absent(actual.keys()) }),
                }
            }
        }
        (Value::Array(wanted), Value::Array(actual)) => {
            for value in wanted {
                if let Some(closest) = closest(path, actual, value) {
                    found.extend(closest);
                }
            }
        }
        _ if scalar_matches(actual, wanted) => {}
        _ => found.push(PathMismatch { path: path.to_owned(), wanted: short(wanted), actual: short(actual) }),
    }
}

/// None when some element matches; otherwise the mismatches of the closest element.
fn closest(path: &str, actual: &[Value], wanted: &Value) -> Option<Vec<PathMismatch>> {
    let mut best: Option<Vec<PathMismatch>> = None;
    for (at, element) in actual.iter().enumerate() {
        let mut found = Vec::new();
        compare(&format!("{path}[{at}]"), element, wanted, &mut found);
        if found.is_empty() {
            return None;
        }
        if best.as_ref().is_none_or(|b| found.len() < b.len()) {
            best = Some(found);
        }
    }
    // Where elements differ as a whole, naming one of them would single it out without a reason.
    let is_element =
        |place: &str| place.strip_prefix(path).is_some_and(|rest| rest.starts_with('[') && rest.find(']') == Some(rest.len() - 1));
    let whole = best.as_ref().is_none_or(|b| b.len() == 1 && is_element(&b[0].path));
    if whole {
        let actual =
            if actual.is_empty() { "an empty list".to_owned() } else { format!("none of {}", short(&Value::Array(actual.to_vec()))) };
        return Some(vec![PathMismatch { path: format!("{path}[*]"), wanted: short(wanted), actual }]);
    }
    best
}

fn scalar_matches(actual: &Value, wanted: &Value) -> bool {
    match (wanted, actual) {
        (Value::String(pattern), _) if pattern.contains('*') => match actual {
            Value::String(text) => glob(pattern, text),
            Value::Number(n) => glob(pattern, &n.to_string()),
            Value::Bool(b) => glob(pattern, &b.to_string()),
            _ => false,
        },
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64().is_some_and(|a| b.as_f64() == Some(a)),
        _ => wanted == actual,
    }
}

fn join(path: &str, key: &str) -> String {
    if !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        format!("{path}.{key}")
    } else {
        format!("{path}[{}]", Value::from(key))
    }
}

fn absent<'a>(keys: impl Iterator<Item = &'a String>) -> String {
    let keys: Vec<&str> = keys.map(String::as_str).take(9).collect();
    match keys.as_slice() {
        [] => "not there (the map is empty)".to_owned(),
        few if few.len() < 9 => format!("not there (beside it: {})", few.join(", ")),
        many => format!("not there (beside it: {}, …)", many[..8].join(", ")),
    }
}

/// A value on one line, cut where it would be too long for a table.
fn short(value: &Value) -> String {
    super::text::clip(&value.to_string(), 200)
}

/// The first place where two values differ, as `.a.b[2]`, and both values there; the values themselves when they are equal.
#[must_use]
pub fn first_difference<'a>(a: &'a Value, b: &'a Value) -> (String, &'a Value, &'a Value) {
    let below = match (a, b) {
        (Value::Object(x), Value::Object(y)) => x
            .keys()
            .chain(y.keys())
            .map(|key| (format!(".{key}"), x.get(key).unwrap_or(&Value::Null), y.get(key).unwrap_or(&Value::Null)))
            .find(|(_, p, q)| p != q),
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => {
            x.iter().zip(y).enumerate().map(|(i, (p, q))| (format!("[{i}]"), p, q)).find(|(_, p, q)| p != q)
        }
        _ => None,
    };
    match below {
        None => (String::new(), a, b),
        Some((step, p, q)) => {
            let (rest, p, q) = first_difference(p, q);
            (step + &rest, p, q)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn shown(actual: Value, wanted: Value) -> Vec<String> {
        contains(&actual, &wanted).err().unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn maps_by_subset_and_lists_by_element() {
        let actual = json!({"name": "http.8080", "virtual_hosts": [
            {"name": "a", "domains": ["a.example"]},
            {"name": "b", "domains": ["httpbin.example.com", "httpbin.example.com:*"], "routes": [{"name": "status"}, {"name": "catch-all"}]},
        ]});
        assert_eq!(
            contains(&actual, &json!({"virtual_hosts": [{"domains": ["httpbin.example.com"], "routes": [{"name": "catch-all"}]}]})),
            Ok(())
        );
        assert_eq!(contains(&actual, &json!({})), Ok(()));
        assert_eq!(
            shown(actual.clone(), json!({"virtual_hosts": [{"name": "b", "routes": [{"name": "other"}]}]})),
            [r#"$.virtual_hosts[1].routes[0].name: wanted "other", is "status""#]
        );
        assert_eq!(shown(actual, json!({"nope": 1})), ["$.nope: wanted 1, is not there (beside it: name, virtual_hosts)"]);
    }

    #[test]
    fn every_mismatch_at_once() {
        let found = shown(json!({"a": 1, "b": {"c": [1, 2]}}), json!({"a": 2, "b": {"c": [3, 2]}}));
        assert_eq!(found, ["$.a: wanted 2, is 1", "$.b.c[*]: wanted 3, is none of [1,2]"]);
        assert_eq!(shown(json!({"c": []}), json!({"c": [1]})), ["$.c[*]: wanted 1, is an empty list"]);
    }

    #[test]
    fn scalars_are_equal_or_match_a_pattern() {
        for (actual, wanted, good) in [
            (json!(443), json!(443), true),
            (json!(443.0), json!(443), true),
            (json!(443), json!("443"), false),
            (json!("443"), json!(443), false),
            (json!(443), json!("44*"), true),
            (json!(true), json!("*"), true),
            (json!({}), json!("*"), false),
            (json!(null), json!("*"), false),
            (json!("*.example.com"), json!("*.example.com"), true),
            (json!("outbound|443||a"), json!("outbound|443|*|a"), true),
            (json!(null), json!(null), true),
            (json!([]), json!({}), false),
        ] {
            assert_eq!(contains(&actual, &wanted).is_ok(), good, "{actual} {wanted}");
        }
    }

    #[test]
    fn odd_keys_are_quoted() {
        assert_eq!(shown(json!({"a.b": 1}), json!({"a.b": 2})), [r#"$["a.b"]: wanted 2, is 1"#]);
    }

    #[test]
    fn globs() {
        for (pattern, text, good) in [
            ("", "", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("a*", "a", true),
            ("*a", "ba", true),
            ("a*a", "a", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "acb", false),
            ("**", "x", true),
            ("a.c", "abc", false),
        ] {
            assert_eq!(glob(pattern, text), good, "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn a_glob_matches_what_it_was_made_from(parts in prop::collection::vec("[ab|]{0,4}", 1..5), filler in "[abc]{0,3}") {
            prop_assert!(glob(&parts.join("*"), &parts.join(&filler)));
        }

        #[test]
        fn glob_never_panics(pattern in any::<String>(), text in any::<String>()) {
            let _ = glob(&pattern, &text);
        }
    }
}
