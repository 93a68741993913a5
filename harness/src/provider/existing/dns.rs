//! What the cluster's DNS says of a name: asked over TCP through a port-forward, so that no pod of ours has to be there.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::kube_ext::open_port;

/// The addresses that the cluster's DNS has for a host. None where it cannot be asked.
pub(super) async fn resolve(client: &Client, host: &str) -> Option<Vec<IpAddr>> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), "kube-system");
    let list = pods.list(&ListParams::default().labels("k8s-app=kube-dns").fields("status.phase=Running")).await.ok()?;
    let pod = list.items.into_iter().find(|p| p.metadata.deletion_timestamp.is_none())?.name_any();
    let ask = async {
        let mut stream = open_port(client, "kube-system", &pod, 53).await.ok()?;
        stream.write_all(&question(host)).await.ok()?;
        let length = stream.read_u16().await.ok()?;
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await.ok()?;
        addresses(&answer)
    };
    tokio::time::timeout(Duration::from_secs(10), ask).await.ok()?
}

/// RFC 1035, 4.2.2: an A question, recursion desired, with its length before it.
fn question(host: &str) -> Vec<u8> {
    let mut message = vec![0x67, 0x70, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in host.split('.') {
        message.push(u8::try_from(label.len()).unwrap_or(63));
        message.extend(label.bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    [length.to_be_bytes().to_vec(), message].concat()
}

/// The A records of an answer; None when it cannot be read.
fn addresses(message: &[u8]) -> Option<Vec<IpAddr>> {
    let number = |at: usize| Some(usize::from(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?])));
    let (questions, answers) = (number(4)?, number(6)?);
    let mut at = 12;
    for _ in 0..questions {
        at = after_name(message, at)? + 4;
    }
    let mut out = Vec::new();
    for _ in 0..answers {
        at = after_name(message, at)?;
        let (kind, length) = (number(at)?, number(at + 8)?);
        if let (1, &[a, b, c, d]) = (kind, message.get(at + 10..at + 10 + length)?) {
            out.push(IpAddr::V4(Ipv4Addr::new(a, b, c, d)));
        }
        at += 10 + length;
    }
    Some(out)
}

fn after_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            pointer if pointer >= 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_with_an_alias_is_read() {
        let mut message = question("a.bc")[2..].to_vec();
        message[7] = 2;
        // a.bc CNAME x; x A 10.0.0.7
        message.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 3, 1, b'x', 0]);
        message.extend([1, b'x', 0, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 10, 0, 0, 7]);
        assert_eq!(addresses(&message), Some(vec!["10.0.0.7".parse().unwrap()]));
        for end in 0..message.len() {
            assert_eq!(addresses(&message[..end]), None, "half an answer is none");
        }
    }
}
