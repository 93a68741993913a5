//! A call that one route took while another was meant for it: why the other did not take it.

use serde_json::Value;

use super::call::Call;
use super::configured::Configured;
use super::names::{list, text, visible};
use super::route::{Kind, Meeting, Relaxed, admitted, bound, fits, for_host, pointer, string, takes, targets};
use super::{Cause, Layer, Place};
use crate::outcome::json_match::glob;
use crate::scenario::{HopExpect, KubeObject};

/// Why the route that a hop wants, by its name or its cluster, did not take a call that came to it.
pub(super) fn passed_over(c: &Configured, at: &Meeting<'_>, call: &Call, want: &HopExpect) -> Option<Cause> {
    if at.kind != Kind::Http {
        return None;
    }
    let here = |vs: &&KubeObject| bound(vs).contains(&at.at()) && visible(vs, &at.namespace) && admitted(at, vs);
    for_host(c, &at.name).into_iter().filter(here).find_map(|vs| {
        let routes = list(&vs.value, &pointer(at.kind));
        let is_meant = |(i, route): &(usize, &Value)| match &want.route {
            Some(name) => text(route, "/name").is_some_and(|own| glob(name, own)),
            None => want.cluster.as_ref().is_some_and(|cluster| targets(vs, at.kind, *i, route).iter().any(|t| t.is_cluster(cluster))),
        };
        let (meant, route) = routes.iter().enumerate().find(is_meant)?;
        let taken = routes.iter().position(|route| takes(vs, route, at, call, Relaxed::Nothing));
        match taken {
            Some(taken) if taken < meant && takes(vs, route, at, call, Relaxed::Nothing) => {
                let text = format!(
                    "{} of {} stands before {} and takes this call too; the first that fits counts",
                    named(taken, &routes[taken]),
                    vs.key,
                    named(meant, route)
                );
                Some(Cause::at(Layer::Proxy, text, Some(Place::new(vs, format!("spec.http[{taken}]")))))
            }
            _ => misfit(vs, meant, route, at, call),
        }
    })
}

fn named(at: usize, route: &Value) -> String {
    text(route, "/name").map_or_else(|| format!("http[{at}]"), |name| format!("route `{name}`"))
}

/// What the match of a route that is nearest to a call wants otherwise; None where what it fails by is not of the request.
fn misfit(vs: &KubeObject, at_route: usize, route: &Value, at: &Meeting<'_>, call: &Call) -> Option<Cause> {
    let apart =
        |one: &Value| -> Vec<(String, String)> { if fits(vs, one, at, call, Relaxed::Names) { wants(one, call) } else { Vec::new() } };
    let matches = list(route, "/match").iter().enumerate().map(|(j, one)| (j, apart(one)));
    let (j, wrong) = matches.filter(|(_, wrong)| !wrong.is_empty()).min_by_key(|(_, wrong)| wrong.len())?;
    let (field, says) = wrong.first()?;
    let text = format!("{} of {} {says}", named(at_route, route), vs.key);
    Some(Cause::at(Layer::Proxy, text, Some(Place::new(vs, format!("spec.http[{at_route}].match[{j}].{field}")))))
}

/// What of a match a call does not satisfy: the field, and in words.
fn wants(one: &Value, call: &Call) -> Vec<(String, String)> {
    let path = call.path.split('?').next().unwrap_or_default();
    let query = call.path.split_once('?').map_or("", |(_, query)| query);
    let ignore_case = one.get("ignoreUriCase").and_then(Value::as_bool).unwrap_or_default();
    let scheme = if call.tls { "https" } else { "http" };
    let mut out = Vec::new();
    for (field, value, fold) in [
        ("uri", path, ignore_case),
        ("method", call.method.as_str(), false),
        ("authority", call.host.as_str(), false),
        ("scheme", scheme, false),
    ] {
        if let Some(wanted) = one.get(field).filter(|wanted| !string(wanted, value, fold)) {
            out.push((field.to_owned(), format!("wants {field} {}, and the call has `{value}`", shown(wanted))));
        }
    }
    let header = |name: &str| call.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str());
    let parameter = |name: &str| query.split('&').find_map(|part| part.split_once('=').filter(|(n, _)| *n == name).map(|(_, v)| v));
    let has = |value: Option<&str>| value.map_or_else(|| "the call has none".to_owned(), |value| format!("the call has `{value}`"));
    let of = |field: &str| one.get(field).and_then(Value::as_object).into_iter().flatten();
    // What a caller shows to be let in is nobody else's to read, on neither side.
    let secret = |name: &str| ["authorization", "cookie", "token", "key"].iter().any(|part| name.to_ascii_lowercase().contains(part));
    for (name, wanted) in of("headers").filter(|(name, wanted)| !header(name).is_some_and(|value| string(wanted, value, false))) {
        let says = match (secret(name), header(name)) {
            (true, Some(_)) => format!("wants another header {name} than the call has"),
            (true, None) => format!("wants a header {name}, and the call has none"),
            (false, value) => format!("wants header {name} {}, and {}", shown(wanted), has(value)),
        };
        out.push((format!("headers[{name}]"), says));
    }
    for (name, wanted) in of("withoutHeaders").filter(|(name, wanted)| header(name).is_some_and(|value| string(wanted, value, false))) {
        let says = if secret(name) {
            format!("wants no such header {name} as the call has")
        } else {
            format!("wants no header {name} {}, and {}", shown(wanted), has(header(name)))
        };
        out.push((format!("withoutHeaders[{name}]"), says));
    }
    for (name, wanted) in of("queryParams").filter(|(name, wanted)| !parameter(name).is_some_and(|value| string(wanted, value, false))) {
        out.push((format!("queryParams[{name}]"), format!("wants query parameter {name} {}, and {}", shown(wanted), has(parameter(name)))));
    }
    out
}

/// Istio's StringMatch as people say it: exact `a`, prefix `/a`.
fn shown(wanted: &Value) -> String {
    let all = ["exact", "prefix", "regex"].into_iter().find_map(|kind| Some(format!("{kind} `{}`", text(wanted, &format!("/{kind}"))?)));
    all.unwrap_or_else(|| "to be there".to_owned())
}
