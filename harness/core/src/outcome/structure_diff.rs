//! What was wanted of a structure and what is there, as one unified diff: of a large structure only what was asked about.

use serde_json::{Map, Value};
use similar::TextDiff;

use super::json_match;
use super::{CallSeen, ConfigSeen, Observation};
use crate::scenario::{CallExpect, ConfigExpect, Expectation, TextMatch};

/// A unified diff from what was wanted to what was seen, where both are structures or texts of several lines; None where a
/// line says it as well, or where nothing differs.
#[must_use]
pub fn difference(expect: &Expectation, seen: &Observation) -> Option<String> {
    match (expect, seen) {
        (Expectation::Config(ConfigExpect::Present { contains, .. }), Observation::Config { replicas }) => config(contains, replicas),
        (Expectation::Call(expect), Observation::Call(seen)) => call(expect, seen),
        _ => None,
    }
}

/// Of the first replica that departs, and of its entries the closest.
fn config(contains: &[Value], replicas: &[ConfigSeen]) -> Option<String> {
    let misses =
        |entry: &Value| contains.iter().filter_map(|w| json_match::contains(entry, w).err()).map(|found| found.len()).sum::<usize>();
    let departing = replicas.iter().filter(|r| !r.entries.is_empty() && r.entries.iter().all(|(_, e)| misses(e) > 0));
    let replica = departing.clone().next()?;
    let (name, entry) = replica.entries.iter().min_by_key(|(_, e)| misses(e))?;
    let text = |value: &Value| serde_json::to_string_pretty(value).unwrap_or_default() + "\n";
    let (wanted, there): (Vec<String>, Vec<String>) = contains.iter().map(|w| (text(w), text(&asked_about(entry, w)))).unzip();
    unified(&wanted.concat(), &there.concat(), &format!("{name} in {}", replica.pod))
}

/// Texts that have to be equal.
fn call(expect: &CallExpect, seen: &CallSeen) -> Option<String> {
    let pairs =
        [("output", &expect.stdout, &seen.stdout), ("error output", &expect.stderr, &seen.stderr), ("body", &expect.body, &seen.body)];
    pairs.into_iter().find_map(|(what, wanted, there)| match (wanted, there) {
        (Some(TextMatch::Equals(wanted)), Some(there)) if wanted.trim() != there.trim() && (wanted.trim().contains('\n')) => {
            unified(&format!("{}\n", wanted.trim()), &format!("{}\n", there.trim()), what)
        }
        _ => None,
    })
}

fn unified(wanted: &str, there: &str, place: &str) -> Option<String> {
    let diff = TextDiff::from_lines(wanted, there);
    let text = diff.unified_diff().context_radius(3).header("wanted", &format!("seen: {place}")).to_string();
    (!text.is_empty()).then_some(text)
}

/// Of what is there, only the places that the wanted structure names, in its order. What matches is shown as it was wanted, so
/// that a pattern that holds is no difference; what is not there is left out.
fn asked_about(there: &Value, wanted: &Value) -> Value {
    if json_match::contains(there, wanted).is_ok() {
        return wanted.clone();
    }
    match (there, wanted) {
        (Value::Object(there), Value::Object(wanted)) => {
            let kept = wanted.iter().filter_map(|(key, w)| Some((key.clone(), asked_about(there.get(key)?, w))));
            Value::Object(kept.collect::<Map<_, _>>())
        }
        (Value::Array(there), Value::Array(wanted)) => {
            let closest = |w: &Value| {
                let misses = |e: &&Value| json_match::contains(e, w).err().map_or(0, |found| found.len());
                there.iter().min_by_key(misses)
            };
            Value::Array(wanted.iter().filter_map(|w| Some(asked_about(closest(w)?, w))).collect())
        }
        // A structure where a single value was wanted would fill pages.
        (Value::Object(map), _) => Value::String(format!("a map of {}", map.keys().cloned().collect::<Vec<_>>().join(", "))),
        (other, _) => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn seen(value: Value) -> Observation {
        Observation::Config {
            replicas: vec![ConfigSeen { pod: "gw-1".to_owned(), entries: vec![("http.8080".to_owned(), value)], all_names: Vec::new() }],
        }
    }

    fn wanted(value: Value) -> Expectation {
        Expectation::Config(ConfigExpect::Present { contains: vec![value], lacks: Vec::new(), cel: Vec::new() })
    }

    #[test]
    fn only_what_was_asked_about_is_compared() {
        let there = json!({"name": "x", "hosts": [{"domains": ["a", "b"], "retry": 1}, {"domains": ["c"]}], "huge": [1, 2, 3]});
        let text = difference(&wanted(json!({"hosts": [{"domains": ["a"], "retry": 2}]})), &seen(there)).unwrap();
        assert!(text.contains("-      \"retry\": 2") && text.contains("+      \"retry\": 1"), "{text}");
        assert!(text.contains("seen: http.8080 in gw-1") && !text.contains("huge") && !text.contains("\"b\""), "{text}");
        assert_eq!(text.lines().filter(|l| l.starts_with(['-', '+'])).count(), 4, "two of them are the heads: {text}");
    }

    #[test]
    fn what_is_not_there_is_a_line_less_and_what_matches_is_no_difference() {
        let text = difference(&wanted(json!({"a": {"b": 1}, "c": "x*"})), &seen(json!({"c": "xyz"}))).unwrap();
        assert!(text.contains("-  \"a\": {") && !text.contains("xyz"), "{text}");
        assert_eq!(difference(&wanted(json!({"c": "x*"})), &seen(json!({"c": "xyz"}))), None);
    }

    #[test]
    fn texts_of_one_line_are_told_without_a_diff() {
        let call = |out: &str| Observation::Call(Box::new(CallSeen { stdout: Some(out.to_owned()), ..CallSeen::default() }));
        let equals =
            |t: &str| Expectation::Call(Box::new(CallExpect { stdout: Some(TextMatch::Equals(t.to_owned())), ..CallExpect::default() }));
        assert_eq!(difference(&equals("200"), &call("404")), None);
        let text = difference(&equals("a\nb"), &call("a\nc")).unwrap();
        assert!(text.contains("-b") && text.contains("+c") && text.contains(" a"), "{text}");
    }
}
