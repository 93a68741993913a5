//! curl against servers on the virtual network: what it prints, and how it fails.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use crate::net::{Bind, Conn, Network};
use crate::workload::programs::testing::{on, run};
use crate::workload::programs::{Container, OutsideHost, OutsideTls, serve, serve_outside};

struct Pki {
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "test CA");
        Self { ca: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    /// Chain and key.
    fn leaf(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.ca).unwrap();
        (leaf.pem(), key.serialize_pem())
    }

    fn tls(&self, name: &str) -> OutsideTls {
        let (chain_pem, key_pem) = self.leaf(name);
        OutsideTls { chain_pem, key_pem, ..OutsideTls::default() }
    }
}

fn world() -> (Network, Container) {
    let network = Network::default();
    let container = on(&network, "10.244.0.5");
    (network, container)
}

fn outside(network: &Network, name: &str, tls: Option<&OutsideTls>) -> OutsideHost {
    serve_outside(network, "172.18.0.9".parse().unwrap(), &[name.to_owned()], tls).unwrap()
}

/// A server that does one thing to each connection.
fn raw<F: Future<Output = ()> + Send + 'static>(network: &Network, port: u16, act: impl Fn(Conn) -> F + Send + 'static) -> impl Drop {
    struct Stop(tokio::task::JoinHandle<()>);
    impl Drop for Stop {
        fn drop(&mut self) {
            self.0.abort();
        }
    }
    let host = network.add("172.18.0.8".parse::<IpAddr>().unwrap()).unwrap();
    network.names().set("raw.test", vec![host.ip()]);
    let mut listener = host.listen(Bind::Any, port).unwrap();
    Stop(tokio::spawn(async move {
        loop {
            let conn = listener.accept().await;
            act(conn).await;
        }
    }))
}

async fn read_request(conn: &mut Conn) {
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if conn.read(&mut byte).await.unwrap_or(0) == 0 {
            return;
        }
        seen.push(byte[0]);
    }
}

#[tokio::test]
async fn an_answer_over_http_is_printed_and_accounted_for() {
    let (network, container) = world();
    let _host = outside(&network, "web.test", None);
    let (code, out, err) =
        run(&container, &["curl", "-sS", "-w", "%{http_code}%{stderr}\\n@gateproof %{json}\\n", "-A", "token", "http://web.test/get?a=1"])
            .await;
    assert_eq!(code, 0, "{err}");
    let (body, status) = out.split_at(out.len() - 3);
    assert_eq!(status, "200");
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(
        (&body["args"]["a"][0], &body["headers"]["User-Agent"][0], &body["origin"]),
        (&"1".into(), &"token".into(), &"10.244.0.5".into())
    );
    let account: Value = serde_json::from_str(err.trim().strip_prefix("@gateproof ").unwrap()).unwrap();
    assert_eq!(
        (&account["local_ip"], &account["remote_ip"], &account["remote_port"]),
        (&"10.244.0.5".into(), &"172.18.0.9".into(), &80.into())
    );
    assert_eq!((&account["exitcode"], &account["response_code"], &account["errormsg"]), (&0.into(), &200.into(), &Value::Null));
}

#[tokio::test]
async fn headers_come_as_the_server_wrote_them() {
    let (network, container) = world();
    let _server = raw(&network, 80, |mut conn| async move {
        read_request(&mut conn).await;
        conn.write_all(b"HTTP/1.1 200 OK\r\nx-lower: 1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n").await.unwrap();
    });
    let (code, out, _) = run(&container, &["curl", "-si", "http://raw.test"]).await;
    assert_eq!((code, out.as_str()), (0, "HTTP/1.1 200 OK\r\nx-lower: 1\r\nTransfer-Encoding: chunked\r\n\r\nabc"));
}

#[tokio::test]
async fn failures_before_an_answer_have_their_codes_and_words() {
    let (network, container) = world();
    let _host = outside(&network, "web.test", None);
    let fails = async |args: &[&str]| {
        let mut all = vec!["curl", "-sS"];
        all.extend(args);
        let (code, _, err) = run(&container, &all).await;
        (code, err.trim().to_owned())
    };
    assert_eq!(fails(&["http://nosuch.test"]).await, (6, "curl: (6) Could not resolve host: nosuch.test".to_owned()));
    let (code, words) = fails(&["http://web.test:81"]).await;
    assert!(
        code == 7
            && words.starts_with("curl: (7) Failed to connect to web.test port 81 after ")
            && words.ends_with(" ms: Couldn't connect to server"),
        "{words}"
    );
    assert_eq!(
        fails(&["--cacert", "/nofile", "https://web.test"]).await,
        (77, "curl: (77) error setting certificate file: /nofile".to_owned())
    );
    assert_eq!(fails(&["http://"]).await.0, 3);
    assert_eq!(fails(&["ftp://x"]).await.0, 1);
    assert_eq!(
        fails(&["--bogus"]).await.1,
        "curl: option --bogus: is unknown\ncurl: try 'curl --help' or 'curl --manual' for more information"
    );
    assert_eq!(fails(&["-f", "http://web.test/status/503"]).await, (22, "curl: (22) The requested URL returned error: 503".to_owned()));
    assert_eq!(
        fails(&["-L", "--max-redirs", "1", "http://web.test/redirect/3"]).await,
        (47, "curl: (47) Maximum (1) redirects followed".to_owned())
    );
    assert_eq!(fails(&["-L", "http://web.test/redirect/3"]).await.0, 0);
    assert_eq!(fails(&["-k", "--cert", "/none", "https://web.test"]).await.0, 58);
}

#[tokio::test]
async fn what_takes_too_long_is_given_up() {
    let (network, container) = world();
    let _host = outside(&network, "web.test", None);
    let (code, _, err) = run(&container, &["curl", "-sS", "--max-time", "0.1", "http://web.test/delay/5"]).await;
    assert_eq!(code, 28);
    assert!(err.contains("Operation timed out after ") && err.contains("with 0 bytes received"), "{err}");
}

#[tokio::test]
async fn a_server_that_closes_or_resets_is_told_apart() {
    for (act, code, words) in [
        ("close", 52, "curl: (52) Empty reply from server"),
        ("reset", 56, "curl: (56) Recv failure: Connection reset by peer"),
        ("short", 18, "curl: (18) transfer closed with 7 bytes remaining to read"),
        ("other", 1, "curl: (1) Received HTTP/0.9 when not allowed"),
    ] {
        let (network, container) = world();
        let _server = raw(&network, 80, move |mut conn| async move {
            match act {
                "close" => read_request(&mut conn).await,
                "reset" => conn.reset(),
                "short" => {
                    read_request(&mut conn).await;
                    conn.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc").await.unwrap();
                }
                _ => {
                    read_request(&mut conn).await;
                    conn.write_all(b"hello").await.unwrap();
                }
            }
        });
        let (got, _, err) = run(&container, &["curl", "-sS", "http://raw.test/"]).await;
        assert_eq!((got, err.trim()), (code, words), "{act}");
    }
}

#[tokio::test]
async fn a_tls_server_answers_plain_http_as_gos_does() {
    let pki = Pki::new();
    let (network, container) = world();
    let _host = outside(&network, "web.test", Some(&pki.tls("web.test")));
    let (code, out, _) = run(&container, &["curl", "-sS", "-w", "%{http_code}", "http://web.test:443/get"]).await;
    assert_eq!((code, out.as_str()), (0, "Client sent an HTTP request to an HTTPS server.\n400"));
}

#[tokio::test]
async fn certificates_are_judged_in_openssls_words() {
    let pki = Pki::new();
    let (network, container) = world();
    let _host = outside(&network, "web.test", Some(&pki.tls("web.test")));
    network.names().set("other.test", vec!["172.18.0.9".parse().unwrap()]);
    let call = async |args: &[&str]| {
        let mut all = vec!["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %{http_version} %{ssl_verify_result}"];
        all.extend(args);
        run(&container, &all).await
    };
    let (code, out, err) = call(&["https://web.test/get"]).await;
    assert_eq!(
        (code, out.as_str(), err.lines().next().unwrap()),
        (60, "000 0 1", "curl: (60) SSL certificate problem: unable to get local issuer certificate")
    );
    container.files.write("/tmp/ca.crt", pki.ca.pem().as_bytes(), false).unwrap();
    assert_eq!(call(&["--cacert", "/tmp/ca.crt", "https://web.test/get"]).await.1, "200 2 0");
    assert_eq!(call(&["--http1.1", "--cacert", "/tmp/ca.crt", "https://web.test/get"]).await.1, "200 1.1 0");
    assert_eq!(call(&["--tls-max", "1.2", "--cacert", "/tmp/ca.crt", "https://web.test/get"]).await.1, "200 2 0");
    let (code, _, err) = call(&["--cacert", "/tmp/ca.crt", "https://other.test/get"]).await;
    assert_eq!(
        (code, err.lines().next().unwrap()),
        (60, "curl: (60) SSL: no alternative certificate subject name matches target host name 'other.test'")
    );
    assert!(err.contains("More details here: https://curl.se/docs/sslcerts.html"));
    assert_eq!(call(&["-k", "https://other.test/get"]).await.1, "200 2 20");
    assert_eq!(
        call(&["--cacert", "/tmp/ca.crt", "--connect-to", "web.test:443:other.test:443", "https://web.test/get"]).await.1,
        "200 2 0"
    );
    assert_eq!(call(&["--cacert", "/tmp/ca.crt", "--resolve", "web.test:443:172.18.0.9", "https://web.test/get"]).await.1, "200 2 0");
}

#[tokio::test]
async fn the_environment_names_the_authorities_and_the_account_has_the_certificate() {
    let pki = Pki::new();
    let (network, mut container) = world();
    let tls = pki.tls("web.test");
    let _host = outside(&network, "web.test", Some(&tls));
    container.files.write("/tmp/ca.crt", pki.ca.pem().as_bytes(), false).unwrap();
    container.env.insert("CURL_CA_BUNDLE".to_owned(), "/tmp/ca.crt".to_owned());
    let (code, out, _) = run(&container, &["curl", "-s", "-o", "/dev/null", "-w", "%{json}", "https://web.test/get"]).await;
    let account: Value = serde_json::from_str(&out).unwrap();
    let pem = tls.chain_pem.replace("\r\n", "\n");
    assert!(account["certs"].as_str().unwrap().contains(pem.trim()), "{account}");
    assert_eq!((code, &account["num_certs"], &account["scheme"]), (0, &1.into(), &"HTTPS".into()));
}

#[tokio::test]
async fn a_client_certificate_is_asked_for_and_given() {
    let pki = Pki::new();
    let (network, container) = world();
    let tls = OutsideTls { client_ca_pem: Some(pki.ca.pem()), client_required: true, ..pki.tls("web.test") };
    let _host = outside(&network, "web.test", Some(&tls));
    let (code, _, err) = run(&container, &["curl", "-sSk", "https://web.test/get"]).await;
    assert_eq!(code, 56, "{err}");
    assert!(
        err.contains("OpenSSL SSL_read: OpenSSL/3.0.19: error:0A00045C:SSL routines::tlsv13 alert certificate required, errno 0"),
        "{err}"
    );
    let (chain, key) = pki.leaf("client");
    container.files.write("/tmp/c.crt", chain.as_bytes(), false).unwrap();
    container.files.write("/tmp/c.key", key.as_bytes(), false).unwrap();
    let (code, out, err) = run(
        &container,
        &["curl", "-sSk", "-w", "%{http_code}", "-o", "/dev/null", "--cert", "/tmp/c.crt", "--key", "/tmp/c.key", "https://web.test/get"],
    )
    .await;
    assert_eq!((code, out.as_str()), (0, "200"), "{err}");
}

#[tokio::test]
async fn handshakes_fail_in_openssls_words() {
    let alert = [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x28];
    let cases: [(&str, i32, &str); 4] = [
        ("reset", 35, "curl: (35) Recv failure: Connection reset by peer\n"),
        ("close", 35, "curl: (35) OpenSSL SSL_connect: SSL_ERROR_SYSCALL in connection to raw.test:443 \n"),
        ("alert", 35, "curl: (35) OpenSSL/3.0.19: error:0A000410:SSL routines::sslv3 alert handshake failure\n"),
        ("plain", 35, "curl: (35) OpenSSL/3.0.19: error:0A00010B:SSL routines::wrong version number\n"),
    ];
    for (act, code, words) in cases {
        let (network, container) = world();
        let _server = raw(&network, 443, move |mut conn| async move {
            let mut hello = [0; 4096];
            let _ = conn.read(&mut hello).await;
            match act {
                "reset" => conn.reset(),
                "alert" => conn.write_all(&alert).await.unwrap(),
                "plain" => conn.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap(),
                _ => {}
            }
        });
        let (got, _, err) = run(&container, &["curl", "-sS", "https://raw.test/"]).await;
        assert_eq!((got, err.as_str()), (code, words), "{act}");
    }
}

#[tokio::test]
async fn tls_that_ends_without_a_word_is_an_unexpected_end() {
    let pki = Pki::new();
    let (network, container) = world();
    let (chain, key) = pki.leaf("raw.test");
    let config = serve::server_config(&chain, &key, None, false).unwrap();
    let _server = raw(&network, 443, move |conn| {
        let config = Arc::clone(&config);
        async move {
            let mut stream = TlsAcceptor::from(config).accept(conn).await.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            // Dropped without close_notify.
        }
    });
    let (code, _, err) = run(&container, &["curl", "-sSk", "--http1.1", "https://raw.test/"]).await;
    assert_eq!(
        (code, err.trim()),
        (56, "curl: (56) OpenSSL SSL_read: OpenSSL/3.0.19: error:0A000126:SSL routines::unexpected eof while reading, errno 0")
    );
}

#[tokio::test]
async fn bodies_files_and_several_urls() {
    let (network, container) = world();
    let _host = outside(&network, "web.test", None);
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let (_, out, _) = run(&container, &["curl", "-s", "-d", "a=1", "--data-urlencode", "b=x y", "http://web.test/post"]).await;
    assert_eq!(json(&out)["form"], serde_json::json!({"a": ["1"], "b": ["x y"]}));
    let (_, out, _) = run(&container, &["curl", "-sG", "-d", "a=1", "http://web.test/get?z=0"]).await;
    assert_eq!(json(&out)["url"], "http://web.test/get?z=0&a=1");
    let (_, out, _) = run(&container, &["curl", "-sX", "PUT", "--json", "{\"a\":1}", "http://web.test/put"]).await;
    assert_eq!((&json(&out)["json"]["a"], &json(&out)["headers"]["Content-Type"][0]), (&1.into(), &"application/json".into()));
    let (_, out, _) = run(&container, &["curl", "-s", "-F", "a=b", "http://web.test/anything"]).await;
    assert_eq!(json(&out)["form"]["a"][0], "b");
    let (_, out, _) =
        run(&container, &["curl", "-s", "-o", "/tmp/one", "-w", "%{http_code} %{num_connects}\\n", "http://web.test/status/20{0,1}"]).await;
    assert_eq!(out, "200 1\n201 0\n", "the connection is used again");
    let (_, out, _) = run(&container, &["curl", "-sI", "http://web.test/get"]).await;
    assert!(out.starts_with("HTTP/1.1 200 OK\r\n") && out.ends_with("\r\n\r\n"), "{out}");
    let (_, out, _) =
        run(&container, &["curl", "-s", "-u", "u:p", "-w", "%{http_code}", "-o", "/dev/null", "http://web.test/basic-auth/u/p"]).await;
    assert_eq!(out, "200");
    let (_, _, err) = run(&container, &["curl", "-sv", "-o", "/dev/null", "http://web.test/get"]).await;
    for line in ["*   Trying 172.18.0.9:80...", "> GET /get HTTP/1.1", "< HTTP/1.1 200 OK"] {
        assert!(err.contains(line), "{line} in {err}");
    }
}

#[tokio::test]
async fn http2_is_spoken_from_the_first_byte_when_told() {
    let (network, container) = world();
    let _host = outside(&network, "web.test", None);
    let (code, out, err) = run(&container, &["curl", "-s", "--http2-prior-knowledge", "-i", "http://web.test/status/418"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.starts_with("HTTP/2 418 \r\n") && out.ends_with("\r\n\r\nI'm a teapot!"), "{out}");
}
