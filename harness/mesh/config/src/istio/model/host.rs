//! Host names of services, exact or with a wildcard (Istio: `pkg/config/host`).

/// Whether everything that `name` stands for is also what `pattern` stands for; both may begin with `*`.
///
/// Istio: `host.Name.SubsetOf`.
#[must_use]
pub fn subset_of(name: &str, pattern: &str) -> bool {
    match (name.strip_prefix('*'), pattern.strip_prefix('*')) {
        (_, Some("")) => true,
        (Some(name), Some(pattern)) => name.len() >= pattern.len() && name.ends_with(pattern),
        (None, Some(pattern)) => name.len() > pattern.len() && name.ends_with(pattern),
        (Some(_), None) => false,
        (None, None) => name == pattern,
    }
}

/// Whether some host is meant by both (Istio: `host.Name.Matches`).
#[must_use]
pub fn overlap(one: &str, other: &str) -> bool {
    match (one.strip_prefix('*'), other.strip_prefix('*')) {
        (Some(one), Some(other)) => one.ends_with(other) || other.ends_with(one),
        (Some(one), None) => other.len() >= one.len() && other.ends_with(one),
        (None, Some(other)) => one.len() >= other.len() && one.ends_with(other),
        (None, None) => one == other,
    }
}

/// Orders host names from the most to the least specific: exact names first, then longer wildcards, `*` last
/// (Istio: `host.MoreSpecific`).
#[must_use]
pub fn by_specificity(one: &str, other: &str) -> std::cmp::Ordering {
    let rank = |name: &str| (name.starts_with('*'), std::cmp::Reverse(name.len()));
    rank(one).cmp(&rank(other)).then_with(|| one.cmp(other))
}

/// The full name of a host as an object of `namespace` writes it: a name without a dot is a Service beside it
/// (Istio: `ResolveShortnameToFQDN`).
#[must_use]
pub fn resolve(name: &str, namespace: &str, domain: &str) -> String {
    if name.is_empty() || name.contains('.') || name.starts_with('*') || name.parse::<std::net::IpAddr>().is_ok() {
        return name.to_owned();
    }
    format!("{name}.{namespace}.svc.{domain}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_hold_longer_names_only() {
        assert!(subset_of("a.example.com", "*.example.com"));
        assert!(subset_of("*.b.example.com", "*.example.com"));
        assert!(!subset_of("example.com", "*.example.com"));
        assert!(!subset_of("*.example.com", "a.example.com"));
        assert!(subset_of("anything", "*"));
    }

    #[test]
    fn short_names_belong_to_the_namespace_of_their_object() {
        assert_eq!(resolve("reviews", "bookinfo", "cluster.local"), "reviews.bookinfo.svc.cluster.local");
        assert_eq!(resolve("reviews.other", "bookinfo", "cluster.local"), "reviews.other");
        assert_eq!(resolve("*", "bookinfo", "cluster.local"), "*");
    }

    #[test]
    fn exact_names_come_before_wildcards() {
        let mut names = ["*", "*.com", "a.com", "*.a.com"];
        names.sort_by(|one, other| by_specificity(one, other));
        assert_eq!(names, ["a.com", "*.a.com", "*.com", "*"]);
    }
}
