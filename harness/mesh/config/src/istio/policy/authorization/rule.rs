//! One rule as a policy of Envoy's RBAC (Istio: `pilot/pkg/security/authz/model`).

use serde_json::{Value, json};

use super::matcher;
use crate::istio::model::object;

/// Where a rule is enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layer {
    /// For every request.
    Http,
    /// For every connection; what only a request has cannot be asked.
    Tcp,
}

/// Why a rule gives nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Skip {
    /// It says what istiod does not understand.
    Invalid(String),
    /// An ALLOW rule that asks what this layer does not know: allowing less is safe.
    NotHere,
}

/// The mesh's trust domain and its other names.
pub(super) struct Aliases<'a>(Vec<&'a str>);

impl<'a> Aliases<'a> {
    pub(super) fn new(trust_domain: &'a str, aliases: Vec<&'a str>) -> Aliases<'a> {
        Aliases(std::iter::once(trust_domain).chain(aliases).collect())
    }

    /// A principal under every name of its trust domain, if that is the mesh's (Istio: `ReplaceTrustDomainAliases`).
    /// `cluster.local` always means the mesh's own.
    fn principals(&self, principal: &str) -> Vec<String> {
        let parts: Vec<&str> = principal.split('/').collect();
        let (domain, rest) = match parts.as_slice() {
            [domain, rest @ ..] if rest.len() == 4 && *domain != "*" => (*domain, rest.join("/")),
            _ => return vec![principal.to_owned()],
        };
        let is_same = |one: &str| match domain.strip_prefix('*') {
            Some(suffix) => one.ends_with(suffix),
            None => one == domain || domain.strip_suffix('*').is_some_and(|prefix| one.starts_with(prefix)),
        };
        if !(self.0.iter().any(|one| is_same(one)) || domain == "cluster.local") {
            return vec![principal.to_owned()];
        }
        let mut all = Vec::new();
        for one in &self.0 {
            let keeps = domain.strip_prefix('*').is_some_and(|suffix| one.ends_with(suffix));
            let name = if keeps { principal.to_owned() } else { format!("{one}/{rest}") };
            if !all.contains(&name) {
                all.push(name);
            }
        }
        all
    }

    /// A trust domain under every name, if it is one of the mesh's.
    fn domains(&self, domain: &str) -> Vec<String> {
        let is_ours = self.0.contains(&domain);
        if is_ours { self.0.iter().map(|one| (*one).to_owned()).collect() } else { vec![domain.to_owned()] }
    }
}

/// What a condition is about.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Subject {
    Host,
    Method,
    Path,
    DestinationPort,
    DestinationIp,
    Sni,
    /// `experimental.envoy.filters.NAME[KEY]`
    FilterMetadata(String, String),
    SourceIp,
    RemoteIp,
    Namespace,
    TrustDomain,
    ServiceAccount,
    Principal,
    RequestPrincipal,
    Audience,
    Presenter,
    Header(String),
    Claim(Vec<String>),
}

impl Subject {
    /// The subject of a `when` key; the flag says that it is a property of the call's target, not of its source.
    fn of(key: &str) -> Option<(Subject, bool)> {
        let name = |prefix: &str| Some(matcher::brackets(key.strip_prefix(prefix)?)?.join("]["));
        Some(match key {
            "destination.ip" => (Subject::DestinationIp, true),
            "destination.port" => (Subject::DestinationPort, true),
            "connection.sni" => (Subject::Sni, true),
            "source.ip" => (Subject::SourceIp, false),
            "remote.ip" => (Subject::RemoteIp, false),
            "source.namespace" => (Subject::Namespace, false),
            "source.trustDomain" => (Subject::TrustDomain, false),
            "source.serviceAccount" => (Subject::ServiceAccount, false),
            "source.principal" => (Subject::Principal, false),
            "request.auth.principal" => (Subject::RequestPrincipal, false),
            "request.auth.audiences" => (Subject::Audience, false),
            "request.auth.presenter" => (Subject::Presenter, false),
            _ if key.starts_with("request.headers") => (Subject::Header(name("request.headers")?), false),
            _ if key.starts_with("request.auth.claims") => {
                let path = matcher::brackets(key.strip_prefix("request.auth.claims")?)?;
                (Subject::Claim(path.into_iter().map(str::to_owned).collect()), false)
            }
            _ if key.starts_with("experimental.envoy.filters.") => {
                let (filter, rest) = key.strip_prefix("experimental.")?.split_once('[')?;
                (Subject::FilterMetadata(filter.to_owned(), rest.strip_suffix(']').unwrap_or(rest).to_owned()), true)
            }
            _ => return None,
        })
    }

    /// Whether only a request can answer.
    fn needs_http(&self) -> bool {
        use Subject::{Audience, Claim, Header, Host, Method, Path, Presenter, RequestPrincipal};
        matches!(self, Host | Method | Path | RequestPrincipal | Audience | Presenter | Header(_) | Claim(_))
    }
}

/// One condition: its subject is like one of the values, and like none of the others.
struct Condition {
    subject: Subject,
    values: Vec<String>,
    not_values: Vec<String>,
}

impl Condition {
    fn read(subject: Subject, owner: &Value, field: &str, not_field: &str) -> Option<Condition> {
        let all = |field: &str| owner.get(field).and_then(Value::as_array).into_iter().flatten();
        let texts = |field: &str| all(field).filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>();
        let condition = Condition { subject, values: texts(field), not_values: texts(not_field) };
        (!condition.values.is_empty() || !condition.not_values.is_empty()).then_some(condition)
    }

    /// Under every name of the trust domain.
    fn widened(mut self, aliases: &Aliases) -> Condition {
        for values in [&mut self.values, &mut self.not_values] {
            *values = match self.subject {
                Subject::Principal => values.iter().flat_map(|value| aliases.principals(value)).collect(),
                Subject::TrustDomain => values.iter().flat_map(|value| aliases.domains(value)).collect(),
                _ => continue,
            };
        }
        self
    }
}

/// Words of Envoy that permissions and principals have each their own of.
struct Words {
    and: &'static str,
    or: &'static str,
    not: &'static str,
    list: &'static str,
}

const PERMISSION: Words = Words { and: "and_rules", or: "or_rules", not: "not_rule", list: "rules" };
const PRINCIPAL: Words = Words { and: "and_ids", or: "or_ids", not: "not_id", list: "ids" };

/// A rule as a policy. `is_allow` says what becomes of conditions that this layer cannot ask: an ALLOW rule goes, any other rule
/// loses the condition and matches more.
pub(super) fn policy(rule: &Value, namespace: &str, layer: Layer, is_allow: bool, aliases: &Aliases) -> Result<Value, Skip> {
    let (mut base_permission, mut base_principal) = (Vec::new(), Vec::new());
    for when in object::list(rule, "/when") {
        let key = object::text(when, "/key");
        let (subject, is_target) = Subject::of(key).ok_or_else(|| Skip::Invalid(format!("unknown attribute {key}")))?;
        let conditions = if is_target { &mut base_permission } else { &mut base_principal };
        conditions.extend(Condition::read(subject, when, "values", "notValues").map(|condition| condition.widened(aliases)));
    }
    let sources = object::list(rule, "/from").iter().map(|from| from.get("source").unwrap_or(&Value::Null));
    let sources = sources.map(|source| {
        let of = |subject, field, not_field| Condition::read(subject, source, field, not_field);
        let all = [
            of(Subject::Principal, "principals", "notPrincipals"),
            of(Subject::RequestPrincipal, "requestPrincipals", "notRequestPrincipals"),
            of(Subject::ServiceAccount, "serviceAccounts", "notServiceAccounts"),
            of(Subject::TrustDomain, "trustDomains", "notTrustDomains"),
            of(Subject::Namespace, "namespaces", "notNamespaces"),
            of(Subject::RemoteIp, "remoteIpBlocks", "notRemoteIpBlocks"),
            of(Subject::SourceIp, "ipBlocks", "notIpBlocks"),
        ];
        all.into_iter().flatten().map(|condition| condition.widened(aliases)).collect::<Vec<_>>()
    });
    let operations = object::list(rule, "/to").iter().map(|to| to.get("operation").unwrap_or(&Value::Null));
    let operations = operations.map(|operation| {
        let of = |subject, field, not_field| Condition::read(subject, operation, field, not_field);
        let all = [
            of(Subject::Host, "hosts", "notHosts"),
            of(Subject::Method, "methods", "notMethods"),
            of(Subject::Path, "paths", "notPaths"),
            of(Subject::DestinationPort, "ports", "notPorts"),
        ];
        all.into_iter().flatten().collect::<Vec<_>>()
    });
    let context = Context { namespace, layer, is_allow };
    let permissions = context.alternatives(operations.collect(), &base_permission, &PERMISSION)?;
    let principals = context.alternatives(sources.collect(), &base_principal, &PRINCIPAL)?;
    Ok(json!({"permissions": permissions, "principals": principals}))
}

/// What holds for a whole rule.
struct Context<'a> {
    namespace: &'a str,
    layer: Layer,
    is_allow: bool,
}

impl Context<'_> {
    /// Each alternative with what `when` asks besides; without any, that alone.
    fn alternatives(&self, own: Vec<Vec<Condition>>, base: &[Condition], words: &Words) -> Result<Vec<Value>, Skip> {
        let own = if own.is_empty() { vec![Vec::new()] } else { own };
        own.iter().map(|conditions| self.all_of(conditions.iter().chain(base), words)).collect()
    }

    fn all_of<'c>(&self, conditions: impl Iterator<Item = &'c Condition>, words: &Words) -> Result<Value, Skip> {
        let mut all = Vec::new();
        for condition in conditions {
            if self.layer == Layer::Tcp && condition.subject.needs_http() {
                if self.is_allow {
                    return Err(Skip::NotHere);
                }
                continue;
            }
            all.extend(self.any_of(&condition.subject, &condition.values, words)?);
            let none = self.any_of(&condition.subject, &condition.not_values, words)?;
            all.extend(none.map(|none| json!({words.not: none})));
        }
        if all.is_empty() {
            all.push(json!({"any": true}));
        }
        Ok(json!({words.and: {words.list: all}}))
    }

    fn any_of(&self, subject: &Subject, values: &[String], words: &Words) -> Result<Option<Value>, Skip> {
        if values.is_empty() {
            return Ok(None);
        }
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        // These ask for all values at once.
        let at_once = match subject {
            Subject::RequestPrincipal => {
                let mut each: Vec<Value> = values.iter().map(|value| request_principal(value)).collect();
                match (each.len(), each.pop()) {
                    (1, Some(only)) => Some(only),
                    (_, last) => {
                        each.extend(last);
                        Some(json!({"or_ids": {"ids": each}}))
                    }
                }
            }
            Subject::Audience => Some(matcher::claim_among(&["aud"], &values)),
            Subject::Presenter => Some(matcher::claim_among(&["azp"], &values)),
            Subject::Claim(path) => Some(matcher::claim_among(&path.iter().map(String::as_str).collect::<Vec<_>>(), &values)),
            Subject::FilterMetadata(filter, key) => {
                let each = values.iter().map(|value| match value.strip_prefix('[').and_then(|value| value.strip_suffix(']')) {
                    Some(inner) => json!({"list_match": {"one_of": {"string_match": matcher::string(inner)}}}),
                    None => json!({"string_match": matcher::string(value)}),
                });
                let value = matcher::any_value(each.collect());
                Some(json!({"metadata": {"filter": filter, "path": [{"key": key}], "value": value}}))
            }
            _ => None,
        };
        if at_once.is_some() {
            return Ok(at_once);
        }
        let mut each = Vec::new();
        for value in values {
            match self.one(subject, value) {
                Some(matcher) => each.push(matcher),
                None if self.is_allow => return Err(Skip::NotHere),
                None => {}
            }
        }
        Ok((!each.is_empty()).then(|| json!({words.or: {words.list: each}})))
    }

    /// One value; nothing if it cannot be read.
    fn one(&self, subject: &Subject, value: &str) -> Option<Value> {
        Some(match subject {
            Subject::Host => json!({"header": matcher::header(":authority", value, true)}),
            Subject::Method => json!({"header": matcher::header(":method", value, false)}),
            Subject::Header(name) => json!({"header": matcher::header(name, value, false)}),
            Subject::Path if value.contains("{*}") || value.contains("{**}") => {
                let kind = "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig";
                let template = value.replace("{**}", "**").replace("{*}", "*");
                json!({"uri_template": {"name": "uri-template", "typed_config": {"@type": kind, "path_template": template}}})
            }
            Subject::Path => json!({"url_path": {"path": matcher::string(value)}}),
            Subject::DestinationPort => json!({"destination_port": value.parse::<u16>().ok()?}),
            Subject::DestinationIp => json!({"destination_ip": matcher::cidr(value)?}),
            Subject::Sni => json!({"requested_server_name": matcher::string(value)}),
            Subject::SourceIp => json!({"direct_remote_ip": matcher::cidr(value)?}),
            Subject::RemoteIp => json!({"remote_ip": matcher::cidr(value)?}),
            Subject::Namespace => {
                let literal: Vec<String> = value.split('*').map(matcher::quote).collect();
                authenticated(&matcher::regex(&format!(".*/ns/{}/.*", literal.join(".*"))))
            }
            Subject::TrustDomain => authenticated(&match value.split_once('*') {
                _ if value == "*" => json!({"prefix": "spiffe://"}),
                None => json!({"prefix": format!("spiffe://{value}/")}),
                Some((start, end)) => matcher::regex(&format!("spiffe://{}[^/]*{}/.*", matcher::quote(start), matcher::quote(end))),
            }),
            Subject::ServiceAccount => {
                let (namespace, name) = value.split_once('/').unwrap_or((self.namespace, value));
                let (namespace, name) = (matcher::quote(namespace), matcher::quote(name));
                authenticated(&matcher::regex(&format!("spiffe://.+/ns/{namespace}/(.+/|)sa/{name}(/.+)?")))
            }
            Subject::Principal => authenticated(&matcher::prefixed(value, "spiffe://")),
            Subject::RequestPrincipal | Subject::Audience | Subject::Presenter | Subject::Claim(_) | Subject::FilterMetadata(..) => {
                return None;
            }
        })
    }
}

fn authenticated(name: &Value) -> Value {
    json!({"authenticated": {"principal_name": name}})
}

/// `ISSUER/SUBJECT` with a wildcard at either end. The issuer may be an URL, so the last slash divides them.
fn request_principal(value: &str) -> Value {
    let any = || matcher::regex(".+");
    let exact = |text: &str| json!({"exact": text});
    let divided = value.rsplit_once('/');
    let (issuer, subject) = if value == "*" {
        (any(), any())
    } else if let Some(rest) = value.strip_prefix('*') {
        match divided {
            Some(("*", subject)) => (any(), exact(subject)),
            Some((issuer, subject)) => (json!({"suffix": issuer.strip_prefix('*').unwrap_or(issuer)}), exact(subject)),
            None => (any(), json!({"suffix": rest})),
        }
    } else if let Some(rest) = value.strip_suffix('*') {
        match divided {
            Some((issuer, "*")) => (exact(issuer), any()),
            Some((issuer, subject)) => (exact(issuer), json!({"prefix": subject.strip_suffix('*').unwrap_or(subject)})),
            None => (json!({"prefix": rest}), any()),
        }
    } else {
        let (issuer, subject) = divided.unwrap_or((value, ""));
        (exact(issuer), exact(subject))
    };
    let claim = |name, value| matcher::claim(&[name], &json!({"string_match": value}));
    json!({"and_ids": {"ids": [claim("iss", issuer), claim("sub", subject)]}})
}
