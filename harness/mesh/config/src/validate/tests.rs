//! Every message of this file that begins with a number of errors or with `admission webhook` is one that a kind cluster gave
//! (Istio 1.31-alpha, Kubernetes 1.34).

use serde_json::{Value, json};

use super::{Refusal, Warning, review, unknown_fields};

fn object(api: &str, kind: &str, spec: &str) -> Value {
    let spec: Value = serde_saphyr::from_str(spec).expect("YAML");
    json!({"apiVersion": api, "kind": kind, "metadata": {"name": "g", "namespace": "default"}, "spec": spec})
}

fn networking(kind: &str, spec: &str) -> Value {
    object("networking.istio.io/v1", kind, spec)
}

fn security(kind: &str, spec: &str) -> Value {
    object("security.istio.io/v1", kind, spec)
}

fn refused(object: &Value) -> Refusal {
    review(object).expect_err("a refusal")
}

/// What the webhook says after its preamble.
fn webhook(object: &Value) -> String {
    let refusal = refused(object);
    assert_eq!(refusal.code, 400);
    let preamble = "admission webhook \"validation.istio.io\" denied the request: configuration is invalid: ";
    refusal.message.strip_prefix(preamble).expect(&refusal.message).to_owned()
}

fn causes(object: &Value) -> Vec<String> {
    let refusal = refused(object);
    assert_eq!((refusal.code, refusal.reason), (422, "Invalid"));
    refusal.causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
}

const UNCHECKED: &str = "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct \
                         the existing errors to complete validation";

#[test]
fn what_the_schema_does_not_know_is_told_first() {
    let spec = "{foo: 1, servers: [{port: {number: 80, name: http, protocol: HTTP, bar: 2}, hosts: [a]}]}";
    let refusal = refused(&networking("Gateway", spec));
    let whole = "failed to create typed patch object (default/g; networking.istio.io/v1, Kind=Gateway)";
    assert_eq!(refusal.message, format!("{whole}: .spec.foo: field not declared in schema"));
    assert_eq!(unknown_fields(&networking("Gateway", spec)), ["spec.foo", "spec.servers[0].port.bar"]);
    let spec = "{servers: [{port: {number: '80', protocol: HTTP}, tls: {mode: ODD}}]}";
    let refusal = refused(&networking("Gateway", spec));
    assert_eq!(refusal.message, format!("{whole}: .spec.servers[0].port.number: expected numeric (int or float), got string"));
    let spec = "{hosts: [a.b], ports: [{number: 80, name: a, protocol: TCP}, {number: 81, name: a, protocol: TCP}]}";
    let refusal = refused(&networking("ServiceEntry", spec));
    assert!(refusal.message.ends_with(": .spec.ports: duplicate entries for key [name=\"a\"]"), "{}", refusal.message);
}

#[test]
fn a_gateway_is_told_all_that_is_wrong() {
    let spec = "
servers:
- {port: {number: 80, name: http, protocol: FOO}, hosts: [a, b.c/d]}
- {port: {number: 70000, name: http, protocol: HTTPS}, hosts: []}";
    let wanted = "7 errors occurred:
\t* short names (non FQDN) are not allowed
\t* invalid namespace value \"b.c\" in gateway
\t* short names (non FQDN) are not allowed
\t* invalid protocol \"FOO\", supported protocols are HTTP, HTTP2, GRPC, GRPC-WEB, MONGO, REDIS, MYSQL, TCP
\t* server config must contain at least one host
\t* port number 70000 must be in the range 1..65535
\t* port names in servers must be unique: duplicate name http

";
    assert_eq!(webhook(&networking("Gateway", spec)), wanted);
    let good = "servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: [a.b], tls: {mode: SIMPLE, credentialName: c}}]";
    assert_eq!(review(&networking("Gateway", good)), Ok(Vec::new()));
}

#[test]
fn a_choice_and_a_required_field_come_from_the_schema() {
    let spec = "
hosts: ['*']
http:
- {match: [{uri: {prefix: /a, exact: /b}}], route: [{destination: {host: a}}]}
- {route: [{destination: {host: '*'}, weight: 1}, {weight: 200}], timeout: 0.1ms}";
    let found = causes(&networking("VirtualService", spec));
    let choice = "<nil>: Invalid value: \"\": \"spec.http[0].match[0].uri\" must validate one and only one schema (oneOf). Found 2 valid \
                  alternatives";
    assert_eq!(found.first().map(String::as_str), Some(choice));
    assert!(found.contains(&"spec.http[1].route[1].destination: Required value".to_owned()));
    assert_eq!(found.last().map(String::as_str), Some(UNCHECKED));
    let spec = "{mtls: {mode: ODD}, portLevelMtls: {'80': {mode: STRICT}}}";
    let odd = "spec.mtls.mode: Unsupported value: \"ODD\": supported values: \"UNSET\", \"DISABLE\", \"PERMISSIVE\", \"STRICT\"";
    assert_eq!(causes(&security("PeerAuthentication", spec)), [odd, UNCHECKED]);
    let refusal = refused(&networking("ServiceEntry", "{hosts: []}"));
    let wanted =
        "ServiceEntry.networking.istio.io \"g\" is invalid: spec.hosts: Invalid value: 0: spec.hosts in body should have at least 1 items";
    assert_eq!(refusal.message, wanted);
}

#[test]
fn rules_of_the_definitions_follow_where_nothing_else_is_wrong() {
    let telemetry = "{accessLogging: [{providers: [{name: ''}]}], selector: {matchLabels: {}}, targetRefs: [{kind: A, name: b}]}";
    let wanted = [
        "spec.accessLogging[0].providers[0].name: Invalid value: \"\": spec.accessLogging[0].providers[0].name in body should be at least 1 chars long",
        "spec: Invalid value: \"object\": only one of targetRefs or selector can be set",
    ];
    assert_eq!(causes(&object("telemetry.istio.io/v1", "Telemetry", telemetry)), wanted);
    let tokens = "{jwtRules: [{issuer: a, jwks: x, jwksUri: 'ftp://a'}, {fromHeaders: [{name: ''}]}]}";
    let found = causes(&security("RequestAuthentication", tokens));
    assert!(found.contains(&"spec.jwtRules[0]: Invalid value: \"object\": only one of jwks or jwksUri can be set".to_owned()));
    assert!(found.contains(&"spec.jwtRules[0].jwksUri: Invalid value: \"string\": url must have scheme http:// or https://".to_owned()));
}

#[test]
fn a_virtual_service_needs_a_host_and_a_route() {
    let wanted = "2 errors occurred:
\t* wildcard host * is not allowed for virtual services bound to the mesh gateway
\t* http, tcp or tls must be provided in virtual service

";
    assert_eq!(webhook(&networking("VirtualService", "{hosts: ['*']}")), wanted);
    let spec = "{hosts: [a.b], gateways: [g], tls: [{match: [{port: 443, sniHosts: [c.d]}], route: [{destination: {host: x}}]}]}";
    let wanted = "SNI host \"c.d\" is not a compatible subset of any of the virtual service hosts: [a.b]";
    assert_eq!(webhook(&networking("VirtualService", spec)), wanted);
}

#[test]
fn rules_that_nothing_reaches_are_warned_of() {
    let spec = "
hosts: [a]
http:
- {match: [{uri: {prefix: /}}], route: [{destination: {host: a}}]}
- {match: [{uri: {prefix: /}}], route: [{destination: {host: a}}]}
- {route: [{destination: {host: a}}]}
- {route: [{destination: {host: a}}]}";
    let warnings: Vec<String> = review(&networking("VirtualService", spec)).expect("taken").into_iter().map(|one| one.0).collect();
    let wanted = [
        "virtualService rule #1 match #0 is not used (duplicate/overlapping match in rule #0)",
        "virtualService rule #1 not used (all matches used by prior rules)",
        "virtualService rule #3 not used (only the last rule can have no matches)",
    ];
    assert_eq!(warnings, wanted);
}

#[test]
fn policies_of_authorization_are_named_in_every_error() {
    let wanted = "invalid policy g.default: DENY action without `rules` is meaningless as it will never be triggered, add an empty rule \
                  `{}` if you want it be triggered for every request";
    assert_eq!(webhook(&security("AuthorizationPolicy", "{action: DENY}")), wanted);
    let spec = "
action: DENY
selector: {matchLabels: {}}
rules:
- to: [{operation: {methods: [GET], ports: [x]}}]
  when: [{key: odd, values: [a]}]
  from: [{}]";
    let wanted = "4 errors occurred:
\t* invalid policy g.default: `from.source` must not be nil, found at rule 0
\t* invalid policy g.default: bad port (x): strconv.ParseUint: parsing \"x\": invalid syntax
\t* invalid policy g.default: invalid `value` for `key` odd: unknown attribute: odd
\t* invalid policy g.default: invalid `notValue` for `key` odd: unknown attribute: odd

";
    assert_eq!(webhook(&security("AuthorizationPolicy", spec)), wanted);
}

#[test]
fn a_destination_rule_takes_cas_from_its_own_namespace_only() {
    let rule = |name: &str| {
        networking("DestinationRule", &format!("{{host: a, trafficPolicy: {{tls: {{mode: SIMPLE, credentialName: '{name}'}}}}}}"))
    };
    let wanted = "invalid configmap:// credentialName: namespace must match the configuration namespace \"default\"";
    assert_eq!(webhook(&rule("configmap://other/ca")), wanted);
    assert!(review(&rule("configmap://default/ca")).is_ok() && review(&rule("configmap://ca")).is_ok() && review(&rule("other")).is_ok());
}

#[test]
fn a_destination_rule_is_told_of_names_and_empty_policies() {
    let spec = "{host: a_b, trafficPolicy: {}, subsets: [{name: A, labels: {'a b': c}}, {name: x}, {name: x}]}";
    let wanted = "4 errors occurred:
\t* domain name \"a_b\" invalid (label \"a_b\" invalid)
\t* traffic policy must have at least one field
\t* invalid tag key: \"a b\"
\t* duplicate subset names: x

";
    assert_eq!(webhook(&networking("DestinationRule", spec)), wanted);
}

#[test]
fn a_sidecar_and_an_envoy_filter_are_told_theirs() {
    let wanted = "3 errors occurred:
\t* sidecar: the egress listener with empty port should be the last listener in the list
\t* host must be of form namespace/dnsName
\t* sidecar: egress listener must contain at least one host

";
    assert_eq!(webhook(&networking("Sidecar", "{egress: [{hosts: [a, './*', './*'], bind: x}, {hosts: []}]}")), wanted);
    let spec = "
configPatches:
- applyTo: HTTP_FILTER
  match: {context: GATEWAY, listener: {filterChain: {filter: {name: a, subFilter: {name: b}}}}}
  patch: {operation: INSERT_BEFORE, value: {name: lua}}
- {applyTo: CLUSTER, patch: {operation: MERGE, value: {name: lua}}}
- {applyTo: CLUSTER, patch: {operation: MERGE}}";
    let wanted = "2 errors occurred:
\t* Envoy filter: subfilter match requires filter match with envoy.filters.network.http_connection_manager
\t* Envoy filter: missing patch value for non-remove operation

";
    assert_eq!(webhook(&object("networking.istio.io/v1alpha3", "EnvoyFilter", spec)), wanted);
}

#[test]
fn other_kinds_pass() {
    assert_eq!(review(&json!({"apiVersion": "example.com/v1", "kind": "Gateway", "spec": {"odd": 1}})), Ok(Vec::new()));
    assert_eq!(review(&json!("nonsense")), Ok(Vec::new()));
}

/// As `kubectl apply --server-side` shows an answer.
fn shown(kind: &str, answer: Result<Vec<Warning>, Refusal>) -> String {
    match answer {
        Ok(warnings) => warnings.into_iter().map(|warning| format!("Warning: {}\n", warning.0)).collect(),
        Err(refusal) if refusal.code == 422 => {
            let lines: Vec<String> = refusal.causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
            match lines.as_slice() {
                [only] => format!("The {kind} \"g\" is invalid: {only}\n"),
                many => format!(
                    "The {kind} \"g\" is invalid: \n{}\n",
                    many.iter().map(|line| format!("* {line}")).collect::<Vec<_>>().join("\n")
                ),
            }
        }
        Err(refusal) => format!("Error from server: {}\n", refusal.message.trim_end()),
    }
}

/// Each line: an object and what kubectl printed for it on a kind cluster (`--dry-run=server`). Go's maps have no order, so the
/// lines of an answer are compared without regard to theirs.
#[test]
fn a_real_cluster_says_the_same() {
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.trim_end().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    for line in include_str!("testdata/answers.jsonl").lines() {
        let case: Value = serde_json::from_str(line).expect("JSON");
        let kind = case["kind"].as_str().expect("a kind");
        let mut object = case.clone();
        object["metadata"] = json!({"name": "g", "namespace": "default"});
        object.as_object_mut().expect("an object").remove("answer");
        let answer = case["answer"].as_str().expect("an answer");
        assert_eq!(sorted(&shown(kind, review(&object))), sorted(answer), "{object}");
    }
}
