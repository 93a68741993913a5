use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::*;

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[tokio::test]
async fn both_ends_see_each_other_and_an_end_after_the_data() {
    let network = Network::default();
    let (a, b) = (network.add(ip("10.0.0.1")).unwrap(), network.add(ip("10.0.0.2")).unwrap());
    let mut listener = b.listen(Bind::Any, 80).unwrap();
    let mut near = a.connect(at("10.0.0.2:80"), Caller::Application).unwrap();
    let mut far = listener.accept().await;
    assert_eq!((near.local_addr(), near.peer_addr()), (far.peer_addr(), far.local_addr()));
    near.write_all(b"hello").await.unwrap();
    near.shutdown().await.unwrap();
    let mut text = String::new();
    far.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "hello");
    drop(far);
    assert_eq!(near.read(&mut [0]).await.unwrap(), 0, "all was read, so it was closed");
}

#[tokio::test]
async fn closing_with_unread_data_resets() {
    let network = Network::default();
    let (a, b) = (network.add(ip("10.0.0.1")).unwrap(), network.add(ip("10.0.0.2")).unwrap());
    let mut listener = b.listen(Bind::Any, 80).unwrap();
    let mut near = a.connect(at("10.0.0.2:80"), Caller::Application).unwrap();
    near.write_all(b"hello").await.unwrap();
    let far = listener.accept().await;
    assert_eq!(&far.peek(5).await.unwrap()[..], b"hello");
    drop(far);
    assert_eq!(near.read(&mut [0]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn what_was_sent_before_a_reset_is_read_before_writing_fails() {
    let network = Network::default();
    let (a, b) = (network.add(ip("10.0.0.1")).unwrap(), network.add(ip("10.0.0.2")).unwrap());
    let mut listener = b.listen(Bind::Any, 80).unwrap();
    let mut near = a.connect(at("10.0.0.2:80"), Caller::Application).unwrap();
    near.write_all(b"hello").await.unwrap();
    let mut far = listener.accept().await;
    far.write_all(b"alert").await.unwrap();
    drop(far);
    near.write_all(b"more").await.unwrap();
    let mut said = [0; 5];
    near.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"alert");
    assert_eq!(near.read(&mut [0]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert!(near.write_all(b"more").await.is_err());
}

#[tokio::test]
async fn what_was_said_before_the_end_is_read_though_something_was_written_after_it() {
    let network = Network::default();
    let (a, b) = (network.add(ip("10.0.0.1")).unwrap(), network.add(ip("10.0.0.2")).unwrap());
    let mut listener = b.listen(Bind::Any, 80).unwrap();
    let mut near = a.connect(at("10.0.0.2:80"), Caller::Application).unwrap();
    let mut far = listener.accept().await;
    far.write_all(b"bye").await.unwrap();
    drop(far);
    near.write_all(b"hello").await.unwrap();
    assert_eq!(near.write_all(b"hello").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    let mut said = String::new();
    near.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "bye");
}

/// A client's last flight of a TLS handshake is several records: as one write it succeeds as a whole, and then the alert is read.
#[tokio::test]
async fn several_parts_are_one_write() {
    let network = Network::default();
    let (a, b) = (network.add(ip("10.0.0.1")).unwrap(), network.add(ip("10.0.0.2")).unwrap());
    let mut listener = b.listen(Bind::Any, 80).unwrap();
    let mut near = a.connect(at("10.0.0.2:80"), Caller::Application).unwrap();
    let mut far = listener.accept().await;
    far.write_all(b"alert").await.unwrap();
    drop(far);
    let parts = [b"certificate".as_slice(), b"key", b"finished"].map(io::IoSlice::new);
    assert!(near.is_write_vectored());
    assert_eq!(near.write_vectored(&parts).await.unwrap(), 22);
    let mut said = String::new();
    near.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "alert");
}

#[tokio::test]
async fn refused_unreachable_and_reset_are_told_apart() {
    let network = Network::default();
    let (a, b) = (network.add(ip("10.0.0.1")).unwrap(), network.add(ip("10.0.0.2")).unwrap());
    let kind = |to: &str| a.connect(at(to), Caller::Application).err().map(|e| e.kind());
    assert_eq!(kind("10.0.0.2:80"), Some(io::ErrorKind::ConnectionRefused));
    assert_eq!(kind("10.0.0.9:80"), Some(io::ErrorKind::HostUnreachable));
    let listener = b.listen(Bind::Any, 80).unwrap();
    let mut waiting = a.connect(at("10.0.0.2:80"), Caller::Application).unwrap();
    drop(listener);
    assert_eq!(waiting.read(&mut [0]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(kind("10.0.0.2:80"), Some(io::ErrorKind::ConnectionRefused));
    drop(b);
    assert_eq!(kind("10.0.0.2:80"), Some(io::ErrorKind::HostUnreachable));
}

#[tokio::test]
async fn a_service_takes_turns_and_refuses_without_endpoints() {
    let network = Network::default();
    let client = network.add(ip("10.0.0.1")).unwrap();
    let pods: Vec<Host> = ["10.0.0.2", "10.0.0.3"].iter().map(|a| network.add(ip(a)).unwrap()).collect();
    let mut listeners: Vec<Listener> = pods.iter().map(|p| p.listen(Bind::Any, 8080).unwrap()).collect();
    let vip = at("10.96.0.1:80");
    network.set_services([(vip, vec![at("10.0.0.2:8080"), at("10.0.0.3:8080")]), (at("10.96.0.2:80"), vec![])].into());
    let first = client.connect(vip, Caller::Proxy).unwrap();
    let _second = client.connect(vip, Caller::Proxy).unwrap();
    assert_eq!(first.peer_addr(), vip, "the client sees what it dialled");
    for listener in &mut listeners {
        let conn = listener.accept().await;
        assert_eq!(conn.local_addr().port(), 8080);
    }
    assert_eq!(client.connect(at("10.96.0.2:80"), Caller::Proxy).err().map(|e| e.kind()), Some(io::ErrorKind::ConnectionRefused));
}

#[tokio::test]
async fn a_sidecar_captures_what_the_application_sends_and_gets() {
    let network = Network::default();
    let (pod, other) = (network.add(ip("10.0.0.1")).unwrap(), network.add(ip("10.0.0.2")).unwrap());
    let (outbound_to, mut outbound) = mpsc::unbounded_channel();
    let (inbound_to, mut inbound) = mpsc::unbounded_channel();
    let capture = Capture { outbound: Arc::new(|_| true), inbound: Arc::new(|port| port != 15090), outbound_to, inbound_to };
    pod.set_capture(Some(capture));
    let mut application = pod.listen(Bind::Any, 80).unwrap();
    let mut elsewhere = other.listen(Bind::Any, 80).unwrap();

    let _near = pod.connect(at("10.0.0.2:80"), Caller::Application).unwrap();
    assert_eq!(outbound.recv().await.unwrap().original_destination(), at("10.0.0.2:80"));
    let _near = pod.connect(at("10.0.0.2:80"), Caller::Proxy).unwrap();
    assert_eq!(elsewhere.accept().await.peer_addr().ip(), ip("10.0.0.1"));

    let _near = other.connect(at("10.0.0.1:80"), Caller::Application).unwrap();
    assert_eq!(inbound.recv().await.unwrap().original_destination(), at("10.0.0.1:80"));
    let _near = pod.connect_from(Some(ip("127.0.0.6")), at("10.0.0.1:80"), Caller::Proxy).unwrap();
    assert_eq!(application.accept().await.peer_addr().ip(), ip("127.0.0.6"));
    let _near = pod.connect_loopback(80).unwrap();
    assert_eq!(application.accept().await.peer_addr().ip(), LOOPBACK);
    assert_eq!(other.connect(at("10.0.0.1:15090"), Caller::Application).err().map(|e| e.kind()), Some(io::ErrorKind::ConnectionRefused));
}

#[test]
fn names_are_searched_as_in_a_pod() {
    let names = Names::default();
    names.set("web.shop.svc.cluster.local", vec![ip("10.96.0.5")]);
    names.set("example.net", vec![ip("172.18.0.9")]);
    for name in ["web", "web.shop", "web.shop.svc", "web.shop.svc.cluster.local", "WEB"] {
        assert_eq!(names.resolve_in(name, "shop", "cluster.local"), Some(vec![ip("10.96.0.5")]), "{name}");
    }
    assert_eq!(names.resolve_in("web", "other", "cluster.local"), None);
    assert_eq!(names.resolve_in("example.net", "shop", "cluster.local"), Some(vec![ip("172.18.0.9")]));
    assert_eq!(names.resolve_in("10.1.2.3", "shop", "cluster.local"), Some(vec![ip("10.1.2.3")]));
}
