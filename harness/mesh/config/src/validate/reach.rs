//! Rules of a VirtualService that no request reaches (Istio: `analyzeUnreachableHTTPRules` and its like).

use std::collections::BTreeMap;

use serde_json::Value;

use crate::istio::model::object;

/// A rule, or a part of one, without effect. Rules are called by their quoted names or by `#` and their place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// No request comes to this rule.
    Unreachable {
        /// The rule.
        rule: String,
        /// Why.
        reason: &'static str,
    },
    /// One match of a rule takes nothing that an earlier one leaves.
    Ineffective {
        /// The rule.
        rule: String,
        /// The match.
        part: String,
        /// What takes its requests.
        other: String,
    },
}

/// What istiod and `istioctl analyze` find in a VirtualService.
#[must_use]
pub fn reach(service: &Value) -> Vec<Reach> {
    let mut found = Vec::new();
    for kind in ["http", "tcp", "tls"] {
        let routes = object::list(service, &format!("/spec/{kind}"));
        routes_of(routes, kind == "http", &mut found);
    }
    found
}

fn named(value: &Value, index: usize, has_name: bool) -> String {
    match object::text(value, "/name") {
        name if has_name && !name.is_empty() => format!("{name:?}"),
        _ => format!("#{index}"),
    }
}

fn routes_of(routes: &[Value], is_http: bool, found: &mut Vec<Reach>) {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut catch_all = false;
    let mut prefixes: Vec<Prefix<'_>> = Vec::new();
    for (index, route) in routes.iter().enumerate() {
        let rule = named(route, index, is_http);
        let matches = object::list(route, "/match");
        if matches.is_empty() {
            if catch_all {
                found.push(Reach::Unreachable { rule, reason: "only the last rule can have no matches" });
            }
            catch_all = true;
            continue;
        }
        let mut duplicates = 0;
        for (place, one) in matches.iter().enumerate() {
            if catch_all {
                found.push(Reach::Unreachable { rule: rule.clone(), reason: "route without matches defined before" });
                continue;
            }
            let part = named(one, place, is_http);
            let mut bare = one.clone();
            if let Some(fields) = bare.as_object_mut().filter(|_| is_http) {
                fields.remove("name");
            }
            match seen.get(&bare.to_string()) {
                Some(earlier) => {
                    let other = routes.get(*earlier).map_or_else(String::new, |route| named(route, *earlier, is_http));
                    found.push(Reach::Ineffective { rule: rule.clone(), part, other });
                    duplicates += 1;
                }
                None => {
                    seen.insert(bare.to_string(), index);
                    if is_http && let Some(prefix) = one.pointer("/uri/prefix").and_then(Value::as_str).filter(|text| !text.is_empty()) {
                        prefixes.push(Prefix { rule: rule.clone(), part, prefix, rest: one });
                    }
                }
            }
        }
        if duplicates == matches.len() {
            found.push(Reach::Unreachable { rule, reason: "all matches used by prior rules" });
        }
    }
    for (index, one) in prefixes.iter().enumerate() {
        for later in prefixes.iter().skip(index + 1).filter(|later| later.prefix != one.prefix && one.covers(later)) {
            let part = format!("{} of prefix {}", later.part, later.prefix);
            let other = format!("{} of prefix {} on {}", one.part, one.prefix, one.rule);
            found.push(Reach::Ineffective { rule: later.rule.clone(), part, other });
        }
    }
}

/// A match by the start of the path.
struct Prefix<'a> {
    rule: String,
    part: String,
    prefix: &'a str,
    rest: &'a Value,
}

impl Prefix<'_> {
    /// Whether this one, which comes first, takes all that the other would (Istio: `coveredValidation`).
    fn covers(&self, other: &Prefix<'_>) -> bool {
        let text = |value: Option<&Value>| {
            let of = |kind: &str| value.and_then(|value| value.get(kind)).and_then(Value::as_str).filter(|text| !text.is_empty());
            of("exact")
                .map(|text| format!("exact:{text}"))
                .or_else(|| of("prefix").map(|text| format!("prefix:{text}")))
                .unwrap_or_default()
        };
        let method = |one: &Value| match text(one.get("method")) {
            method if method.is_empty() => "exact:GET".to_owned(),
            method => method,
        };
        let map = |one: &Value, field: &str| -> BTreeMap<String, String> {
            let entries = one.get(field).and_then(Value::as_object).into_iter().flatten();
            entries.map(|(name, value)| (name.clone(), text(Some(value)))).collect()
        };
        let is_wider = |one: &BTreeMap<String, String>, other: &BTreeMap<String, String>| {
            let holds = |(name, value): (&String, &String)| other.get(name).is_some_and(|theirs| value.starts_with(theirs.as_str()));
            one.len() == other.len() && one.iter().all(holds)
        };
        let (one, two) = (self.rest, other.rest);
        let authority = |one: &Value| text(one.get("authority"));
        other.prefix.starts_with(self.prefix)
            && one.get("port") == two.get("port")
            && method(one).starts_with(&method(two))
            && authority(one).starts_with(&authority(two))
            && ["headers", "queryParams", "withoutHeaders"].iter().all(|field| is_wider(&map(one, field), &map(two, field)))
    }
}
