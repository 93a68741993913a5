//! What istiod says of a Telemetry.

use serde_json::Value;

use super::names;
use super::problems::Problems;
use crate::istio::model::object;

pub(super) fn check(telemetry: &Value) -> Problems {
    let mut problems = Problems::new();
    let spec = object::spec(telemetry);
    problems.extend(names::targets(spec));
    problems.extend(names::selector(spec.get("selector")));
    for one in object::list(spec, "/metrics") {
        providers(one, &mut problems);
    }
    let tracing = object::list(spec, "/tracing");
    if tracing.len() > 1 {
        problems.warn("multiple tracing is not currently supported");
    }
    for one in tracing {
        if object::list(one, "/providers").len() > 1 {
            problems.warn("multiple providers is not currently supported");
        }
        providers(one, &mut problems);
        let share = one.get("randomSamplingPercentage").and_then(Value::as_f64).unwrap_or(0.0);
        problems.error_if(!(0.0..=100.0).contains(&share), "randomSamplingPercentage must be in range [0.0, 100.0]");
    }
    for one in object::list(spec, "/accessLogging") {
        providers(one, &mut problems);
    }
    problems
}

fn providers(owner: &Value, problems: &mut Problems) {
    let is_nameless = object::list(owner, "/providers").iter().any(|provider| object::text(provider, "/name").is_empty());
    problems.error_if(is_nameless, "providers.name may not be empty");
}
