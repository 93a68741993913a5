//! Tokens, with cryptography that the tests make up.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::*;
use crate::envoy::headers::Headers;

fn token(payload: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{}", part(&json!({"alg": "RS256", "kid": "k"})), part(payload), URL_SAFE_NO_PAD.encode("good"))
}

fn provider(more: Value) -> Provider {
    let mut value = json!({"issuer": "me", "local_jwks": {"inline_string": "{}"}, "payload_in_metadata": "payload", "forward": true});
    for (key, field) in more.as_object().unwrap() {
        value[key] = field.clone();
    }
    filter(json!({"providers": {"p": value}})).providers["p"].clone()
}

/// The filter is read with the listener that holds it.
fn filter(mut config: Value) -> JwtAuthn {
    config["@type"] = json!("type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication");
    let router = json!({"name": "r", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}});
    let listener =
        crate::envoy::Listener::read(&json!({"name": "l", "address": {"socket_address": {"address": "0.0.0.0", "port_value": 1}},
        "filter_chains": [{"filters": [{"name": "h", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "x", "route_config": {}, "http_filters": [{"name": "jwt", "typed_config": config}, router]}}]}]}))
        .unwrap();
    let Some(crate::envoy::NetworkFilter::HttpConnectionManager(manager)) = listener.filter_chains[0].filters.first() else { panic!() };
    let crate::envoy::HttpFilterKind::JwtAuthn(jwt) = &manager.http_filters[0].kind else { panic!() };
    (**jwt).clone()
}

/// As Istio makes it of a RequestAuthentication: a token may be missing, and must be good where there is one.
fn istio(more: Value) -> JwtAuthn {
    let requirement = Requirement::Any(vec![Requirement::Provider("p".to_owned()), Requirement::AllowMissing]);
    let rule = Rule { path: PathMatch::Prefix("/".to_owned()), headers: vec![], requires: Some(requirement) };
    JwtAuthn { providers: [("p".to_owned(), provider(more))].into(), rules: vec![rule], ..JwtAuthn::default() }
}

fn request(token: Option<&str>) -> Headers {
    let mut headers = Headers::from_iter([(":path", "/x"), (":authority", "a.test"), (":scheme", "https")]);
    if let Some(token) = token {
        headers.append("authorization", format!("Bearer {token}"));
    }
    headers
}

fn good(question: SignatureQuestion<'_>) -> SignatureAnswer {
    match (question.kid, question.alg, question.signature) {
        (Some("k"), "RS256", b"good") => SignatureAnswer::Good,
        _ => SignatureAnswer::Bad,
    }
}

fn refusal(filter: &JwtAuthn, headers: &Headers) -> (u16, String) {
    match filter.check(headers, None, 1_000, &good) {
        JwtVerdict::Refuse { status, body, .. } => (status, body),
        JwtVerdict::Pass { .. } => (200, String::new()),
    }
}

#[test]
fn a_good_token_leaves_its_claims() {
    let filter = istio(json!({"normalize_payload_in_metadata": {"space_delimited_claims": ["scope"]}, "forward": false,
        "forward_payload_header": "x-payload", "claim_to_headers": [{"header_name": "x-sub", "claim_name": "sub"}, {"header_name": "x-deep", "claim_name": "a.b"}]}));
    let claims = json!({"iss": "me", "sub": "you", "scope": "a b", "exp": 2_000, "a": {"b": 5}});
    let JwtVerdict::Pass { metadata, set, remove, .. } = filter.check(&request(Some(&token(&claims))), None, 1_000, &good) else {
        panic!()
    };
    assert_eq!(metadata["payload"]["scope"], json!(["a", "b"]));
    assert_eq!(metadata["payload"]["sub"], "you");
    assert!(set.contains(&("x-sub".to_owned(), "you".to_owned())) && set.contains(&("x-deep".to_owned(), "5".to_owned())));
    assert_eq!(remove, ["x-sub", "x-deep", "x-payload", "authorization"]);
    let JwtVerdict::Pass { set, remove, .. } = filter.check(&request(None), None, 1_000, &good) else { panic!() };
    assert_eq!(
        (set.as_slice(), remove.as_slice()),
        ([].as_slice(), ["x-sub".to_owned(), "x-deep".to_owned(), "x-payload".to_owned()].as_slice())
    );
}

#[test]
fn a_bad_token_is_refused_in_envoys_words() {
    let filter = istio(json!({"audiences": ["aud"]}));
    let of = |claims: Value| refusal(&filter, &request(Some(&token(&claims))));
    let claims = |more: Value| {
        let mut value = json!({"iss": "me", "aud": "aud"});
        for (key, field) in more.as_object().unwrap() {
            value[key] = field.clone();
        }
        value
    };
    assert_eq!(of(claims(json!({}))), (200, String::new()));
    assert_eq!(of(claims(json!({"aud": ["x", "https://aud/"]}))), (200, String::new()));
    assert_eq!(of(claims(json!({"iss": "other"}))), (401, "Jwt issuer is not configured".to_owned()));
    assert_eq!(of(claims(json!({"exp": 900}))), (401, "Jwt is expired".to_owned()));
    assert_eq!(of(claims(json!({"exp": 940}))), (200, String::new()));
    assert_eq!(of(claims(json!({"nbf": 1_061}))), (401, "Jwt not yet valid".to_owned()));
    assert_eq!(of(claims(json!({"aud": "x"}))), (403, "Audiences in Jwt are not allowed".to_owned()));
    let words = |text: &str| refusal(&filter, &request(Some(text))).1;
    assert_eq!(words("a.b"), "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections");
    let forged = token(&claims(json!({}))).replace(&URL_SAFE_NO_PAD.encode("good"), &URL_SAFE_NO_PAD.encode("evil"));
    assert_eq!(words(&forged), "Jwt verification fails");
    assert_eq!(crate::envoy::details::jwt_denied("Jwt is expired"), "jwt_authn_access_denied{Jwt_is_expired}");
}

#[test]
fn a_missing_token_passes_only_where_it_may() {
    let mut filter = istio(json!({}));
    assert_eq!(refusal(&filter, &request(None)).0, 200);
    filter.rules[0].requires = Some(Requirement::Provider("p".to_owned()));
    assert_eq!(refusal(&filter, &request(None)), (401, "Jwt is missing".to_owned()));
    let JwtVerdict::Refuse { www_authenticate, .. } = filter.check(&request(None), None, 0, &good) else { panic!() };
    assert_eq!(www_authenticate, "Bearer realm=\"https://a.test/x\"");
    let disabled = filter.check(&request(None), Some(&PerRouteJwt::Disabled), 0, &good);
    assert!(matches!(disabled, JwtVerdict::Pass { .. }));
}

#[test]
fn a_token_is_found_where_the_provider_says() {
    let filter = istio(json!({"from_headers": [{"name": "x-jwt", "value_prefix": "T "}], "from_params": ["t"], "from_cookies": ["c"]}));
    let bad = token(&json!({"iss": "me", "exp": 1}));
    let put = |name: &str, value: String| {
        let mut headers = request(None);
        headers.set(name, value);
        refusal(&filter, &headers).1
    };
    let expired = "Jwt is expired";
    assert_eq!(put("x-jwt", format!("T {bad}")), expired);
    assert_eq!(put(":path", format!("/x?t={bad}")), expired);
    assert_eq!(put("cookie", format!("a=b; c={bad}")), expired);
    assert_eq!(put("authorization", format!("Bearer {bad}")), "");
}

#[test]
fn a_token_of_one_of_two_issuers_is_enough_and_its_reason_is_told() {
    let both = |name: &str| Requirement::Provider(name.to_owned());
    let optional = |name: &str| Requirement::Any(vec![both(name), Requirement::AllowMissing]);
    // As Istio makes it of two issuers.
    let requirement = Requirement::Any(vec![both("a"), both("b"), Requirement::All(vec![optional("a"), optional("b")])]);
    let mut filter = istio(json!({}));
    filter.providers = [("a".to_owned(), provider(json!({"issuer": "a"}))), ("b".to_owned(), provider(json!({"issuer": "b"})))].into();
    filter.rules[0].requires = Some(requirement);
    let of = |claims: Value| refusal(&filter, &request(Some(&token(&claims))));
    assert_eq!((of(json!({"iss": "a"})).0, of(json!({"iss": "b"})).0, refusal(&filter, &request(None)).0), (200, 200, 200));
    assert_eq!(of(json!({"iss": "c"})), (401, "Jwt issuer is not configured".to_owned()));
    assert_eq!(of(json!({"iss": "a", "exp": 1})), (401, "Jwt is expired".to_owned()));
}
