//! What happens to a request before its filters see it.

use crate::envoy::access_log::{Downstream, TlsFacts};
use crate::envoy::arrival::{Arrival, PathVerdict};
use crate::envoy::hcm::{EscapedSlashes, HttpConnectionManager};
use crate::envoy::headers::Headers;
use crate::envoy::network::NetworkFilter;
use crate::envoy::push::Push;

fn manager(push: &Push, listener: &str) -> HttpConnectionManager {
    let filters = push.listeners.good[listener].filter_chains.iter().flat_map(|chain| &chain.filters);
    filters.filter_map(|f| if let NetworkFilter::HttpConnectionManager(m) = f { Some((**m).clone()) } else { None }).next().unwrap()
}

fn from(remote: &str) -> Downstream {
    Downstream { remote: remote.parse().ok(), ..Downstream::default() }
}

#[test]
fn a_gateway_trusts_nobody_and_says_who_called() {
    let gateway = manager(&Push::read(&super::gateway_in()), "0.0.0.0_8080");
    let mut headers = Headers::from_iter([
        ("x-forwarded-for", "1.1.1.1"),
        ("x-forwarded-proto", "https"),
        ("x-envoy-retry-on", "5xx"),
        ("x-forwarded-client-cert", "forged"),
    ]);
    let arrival = gateway.arrive(&mut headers, &from("172.18.0.1:5"));
    assert_eq!(arrival, Arrival { remote: "172.18.0.1:5".parse().ok(), edge: true });
    assert_eq!(headers.get("x-forwarded-for"), Some("1.1.1.1,172.18.0.1"));
    assert_eq!(headers.get("x-forwarded-proto"), Some("http"));
    assert_eq!(headers.get("x-envoy-external-address"), Some("172.18.0.1"));
    assert_eq!((headers.get("x-envoy-retry-on"), headers.get("x-forwarded-client-cert")), (None, None));
    let trusting = HttpConnectionManager { xff_num_trusted_hops: 1, ..gateway };
    let mut headers = Headers::from_iter([("x-forwarded-for", "1.1.1.1,2.2.2.2")]);
    assert_eq!(trusting.arrive(&mut headers, &from("172.18.0.1:5")).remote, "2.2.2.2:0".parse().ok());
}

#[test]
fn an_application_hears_of_the_client_and_of_its_certificate_as_captured() {
    let inbound = manager(&Push::read(&super::sidecar()), "virtualInbound");
    let mut headers = Headers::from_iter([("x-forwarded-for", "172.18.0.1")]);
    let tls = TlsFacts {
        peer_presented: true,
        peer_validated: true,
        local_uri_sans: vec!["spiffe://cluster.local/ns/apps/sa/alpha".to_owned()],
        peer_uri_sans: vec!["spiffe://cluster.local/ns/istio-system/sa/gate-in".to_owned()],
        peer_fingerprint_256: "12cc27".to_owned(),
        ..TlsFacts::default()
    };
    let arrival = inbound.arrive(&mut headers, &Downstream { tls: Some(tls), ..from("10.244.0.7:51566") });
    // As the application's access log wrote it.
    assert_eq!(arrival, Arrival { remote: "172.18.0.1:0".parse().ok(), edge: false });
    assert_eq!(headers.get("x-forwarded-proto"), Some("https"));
    let wanted =
        "By=spiffe://cluster.local/ns/apps/sa/alpha;Hash=12cc27;Subject=\"\";URI=spiffe://cluster.local/ns/istio-system/sa/gate-in";
    assert_eq!(headers.get("x-forwarded-client-cert"), Some(wanted));
}

#[test]
fn a_path_is_normalised_as_configured() {
    let gateway = manager(&Push::read(&super::gateway_in()), "0.0.0.0_8080");
    let used = |manager: &HttpConnectionManager, path: &str| match manager.path(path) {
        PathVerdict::Use(path) => path,
        other => format!("{other:?}"),
    };
    for (path, wanted) in [
        ("/a/b", "/a/b"),
        ("/a/./b/../c", "/a/c"),
        ("/a/..", "/"),
        ("/a/b/.", "/a/b/"),
        ("/../../a", "/a"),
        ("/a/%2e%2E/b?../x", "/b?../x"),
        ("/a\\b", "/a/b"),
        ("/a//b", "/a//b"),
        ("/a%2Fb", "/a%2Fb"),
        ("/%61%2Db%zz%4", "/a-b%zz%4"),
        ("/", "/"),
        ("*", "*"),
    ] {
        assert_eq!(used(&gateway, path), wanted, "{path}");
    }
    assert_eq!(gateway.path("/a#b"), PathVerdict::Reject);
    let strict = HttpConnectionManager { escaped_slashes: EscapedSlashes::Reject, merge_slashes: true, ..gateway.clone() };
    assert_eq!(strict.path("/a%2fb"), PathVerdict::Reject);
    assert_eq!(used(&strict, "/a///b//"), "/a/b/");
    let redirecting = HttpConnectionManager { escaped_slashes: EscapedSlashes::UnescapeAndRedirect, ..gateway };
    assert_eq!(redirecting.path("/a%2F..%2Fb"), PathVerdict::Redirect("/b".to_owned()));
    assert_eq!(used(&redirecting, "/a"), "/a");
}

#[test]
fn a_host_loses_what_is_configured() {
    let plain = manager(&Push::read(&super::gateway_in()), "0.0.0.0_8080");
    assert_eq!(plain.host("a.test.:8080", Some(8080)), "a.test.:8080");
    let matching = HttpConnectionManager { strip_matching_host_port: true, ..plain.clone() };
    assert_eq!((matching.host("a.test:8080", Some(8080)), matching.host("a.test:80", Some(8080))), ("a.test".into(), "a.test:80".into()));
    let all = HttpConnectionManager { strip_any_host_port: true, strip_trailing_host_dot: true, ..plain };
    assert_eq!(all.host("a.test.:80", None), "a.test");
}
