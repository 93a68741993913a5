//! Answers, asked for with curl over the virtual network. Shapes are those of go-httpbin 2.26.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Flavour, Httpbin, port};
use crate::net::{Bind, Network};
use crate::workload::programs::serve::serve;
use crate::workload::programs::testing::{on, run};

/// Head and body of an answer.
async fn ask(flavour: Flavour, args: &[&str]) -> (String, String) {
    let network = Network::default();
    let container = on(&network, "10.244.0.5");
    let host = network.add("10.244.0.6".parse().unwrap()).unwrap();
    network.names().set("web", vec![host.ip()]);
    let env = BTreeMap::from([("HTTPBIN_ENV_A".to_owned(), "b".to_owned()), ("OTHER".to_owned(), "c".to_owned())]);
    let server = Httpbin::new(flavour, &env, "web-0");
    let task = tokio::spawn(serve(host.listen(Bind::Any, 80).unwrap(), None, server.handler()));
    let mut command = vec!["curl", "-sSi"];
    command.extend(args);
    let (code, out, err) = run(&container, &command).await;
    task.abort();
    assert_eq!(code, 0, "{err}");
    let (head, body) = out.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

async fn get(path: &str) -> (String, String) {
    ask(Flavour::Go, &[&format!("http://web{path}")]).await
}

#[tokio::test]
async fn an_answer_is_written_as_gos_encoder_writes_it() {
    let (head, body) = get("/get?a=1&a=2").await;
    assert_eq!(
        body,
        "{\n  \"args\": {\n    \"a\": [\n      \"1\",\n      \"2\"\n    ]\n  },\n  \"headers\": {\n    \"Accept\": [\n      \"*/*\"\n    ],\n    \
         \"Host\": [\n      \"web\"\n    ],\n    \"User-Agent\": [\n      \"curl/8.17.0\"\n    ]\n  },\n  \"method\": \"GET\",\n  \
         \"origin\": \"10.244.0.5\",\n  \"url\": \"http://web/get?a=1&a=2\"\n}\n"
    );
    for header in ["HTTP/1.1 200 OK", "Access-Control-Allow-Origin: *", "Content-Type: application/json; charset=utf-8"] {
        assert!(head.contains(header), "{header} in {head}");
    }
}

#[tokio::test]
async fn small_answers() {
    for (path, status, body) in [
        ("/status/418", 418, "I'm a teapot!"),
        (
            "/status/x",
            400,
            "{\n  \"status_code\": 400,\n  \"error\": \"Bad Request\",\n  \"detail\": \"invalid status code: \\\"x\\\": strconv.Atoi: parsing \\\"x\\\": invalid syntax\"\n}\n",
        ),
        ("/env", 200, "{\n  \"env\": {\n    \"HTTPBIN_ENV_A\": \"b\"\n  }\n}\n"),
        ("/hostname", 200, "{\n  \"hostname\": \"go-httpbin\"\n}\n"),
        ("/ip", 200, "{\n  \"origin\": \"10.244.0.5\"\n}\n"),
        ("/user-agent", 200, "{\n  \"user-agent\": \"curl/8.17.0\"\n}\n"),
        ("/base64/aGVsbG8=", 200, "hello"),
        ("/range/5", 200, "abcde"),
        ("/nosuch", 404, "404 page not found\n"),
        ("/cookies", 200, "{\n  \"cookies\": {}\n}\n"),
        ("/drip?numbytes=3&duration=0&delay=0", 200, "***"),
    ] {
        let (head, got) = get(path).await;
        assert_eq!((head.split(' ').nth(1).unwrap(), got.as_str()), (status.to_string().as_str(), body), "{path}");
    }
}

#[tokio::test]
async fn redirections_cookies_and_chosen_headers() {
    let (head, _) = get("/redirect/2").await;
    assert!(head.contains("302") && head.contains("Location: /relative-redirect/1"), "{head}");
    let (head, _) = get("/absolute-redirect/1").await;
    assert!(head.contains("Location: http://web/get"), "{head}");
    let (head, _) = get("/cookies/set?a=b").await;
    assert!(head.contains("Set-Cookie: a=b; Path=/; HttpOnly"), "{head}");
    let (head, body) = get("/response-headers?X-A=b&X-A=c").await;
    assert!(head.contains("X-A: b\r\nX-A: c"), "{head}");
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["X-A"], json!(["b", "c"]));
    let (head, _) = get("/bytes/7").await;
    assert!(head.contains("Content-Length: 7"), "{head}");
    assert_eq!(get("/stream/2").await.1.lines().count(), 2);
}

#[tokio::test]
async fn a_path_that_is_not_clean_is_sent_to_the_clean_one() {
    let (head, _) = get("/anything//x/?a=b").await;
    assert!(head.contains("307") && head.contains("Location: /anything/x/?a=b"), "{head}");
}

#[tokio::test]
async fn forwarded_requests_tell_of_their_beginning() {
    let (_, body) =
        ask(Flavour::Go, &["-H", "X-Forwarded-For: 1.2.3.4, 5.6.7.8", "-H", "X-Forwarded-Proto: https", "http://web/anything/x"]).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&body["origin"], &body["url"]), (&"1.2.3.4".into(), &"https://web/anything/x".into()));
}

#[tokio::test]
async fn a_method_that_does_not_fit_is_refused_and_a_preflight_is_answered() {
    let (head, body) = ask(Flavour::Go, &["-X", "POST", "http://web/get"]).await;
    assert!(head.starts_with("HTTP/1.1 405") && head.contains("Allow: GET, HEAD") && body == "Method Not Allowed\n", "{head}");
    let (head, _) = ask(Flavour::Go, &["-X", "OPTIONS", "-H", "Origin: http://a", "http://web/get"]).await;
    assert!(head.contains("Access-Control-Allow-Origin: http://a") && head.contains("Access-Control-Max-Age: 3600"), "{head}");
}

#[tokio::test]
async fn the_python_one_gives_single_values() {
    let (_, body) = ask(Flavour::Python, &["http://web/get?a=1"]).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&body["args"], &body["headers"]["Host"]), (&json!({"a": "1"}), &"web".into()));
}

#[tokio::test]
async fn weighted_statuses_are_all_seen() {
    let server = Httpbin::new(Flavour::Go, &BTreeMap::new(), "x");
    let mut high = 0;
    for _ in 0..100 {
        high += u32::from(server.chance() >= 0.5);
    }
    assert!((25..=75).contains(&high), "{high}");
}

#[test]
fn the_port_is_the_images_own_unless_told() {
    let env = BTreeMap::from([("PORT".to_owned(), "9000".to_owned())]);
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(port(Flavour::Go, &[], &BTreeMap::new()), Ok(8080));
    assert_eq!(port(Flavour::Python, &[], &BTreeMap::new()), Ok(80));
    assert_eq!(port(Flavour::Go, &[], &env), Ok(9000));
    assert_eq!(port(Flavour::Go, &words("-host 0.0.0.0 -port 8081"), &env), Ok(8081));
    assert_eq!(port(Flavour::Python, &words("-b 0.0.0.0:8000 httpbin:app"), &env), Ok(8000));
    assert!(port(Flavour::Go, &words("-port x"), &env).is_err());
}
