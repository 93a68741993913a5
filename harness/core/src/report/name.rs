//! The name of a report's file.

use super::verdict;
use crate::names::ScenarioId;

/// The stem of a new report's files: `2026-11-21-kind-4-scenarios`, or `2026-11-21-kind-20-egress` for one
/// scenario; with `-2`, `-3`, … when that is taken, so that no report overwrites another.
///
/// `date` is a date or an RFC 3339 time. `taken` is asked with a stem and says whether a file of that
/// stem is there, whatever its ending. Append `.md`, `.json` or `.junit.xml`.
pub fn file_stem(date: &str, provider: &str, scenarios: &[ScenarioId], taken: &dyn Fn(&str) -> bool) -> String {
    let date = verdict::date(date).unwrap_or("undated");
    let what = match scenarios {
        [one] => slug(one.as_str()),
        many => format!("{}-scenarios", many.len()),
    };
    let stem = format!("{date}-{}-{what}", slug(provider));
    if !taken(&stem) {
        return stem;
    }
    (2_u64..).map(|n| format!("{stem}-{n}")).find(|s| !taken(s)).unwrap_or(stem)
}

/// Lower-case letters, digits and single dashes.
fn slug(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars().take(60) {
        if c.is_ascii_alphanumeric() {
            out.push(c.to_ascii_lowercase());
        } else if !out.ends_with('-') && !out.is_empty() {
            out.push('-');
        }
    }
    let out = out.trim_end_matches('-');
    if out.is_empty() { "unknown".to_owned() } else { out.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(texts: &[&str]) -> Vec<ScenarioId> {
        texts.iter().map(|t| ScenarioId::new(*t).unwrap()).collect()
    }

    #[test]
    fn a_name_says_when_where_and_what() {
        let free = |_: &str| false;
        let four = ids(&["a", "b", "c", "d"]);
        assert_eq!(file_stem("2026-11-21", "kind", &four, &free), "2026-11-21-kind-4-scenarios");
        assert_eq!(
            file_stem("2026-11-21T01:49:40Z", "embedded", &ids(&["20-egress/dual_gateway"]), &free),
            "2026-11-21-embedded-20-egress-dual-gateway"
        );
        assert_eq!(file_stem("tomorrow", "../x", &[], &free), "undated-x-0-scenarios");
    }

    #[test]
    fn a_taken_name_is_never_given_out() {
        let taken = |s: &str| ["2026-11-21-kind-a", "2026-11-21-kind-a-2"].contains(&s);
        assert_eq!(file_stem("2026-11-21", "kind", &ids(&["a"]), &taken), "2026-11-21-kind-a-3");
    }
}
