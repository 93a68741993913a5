//! What tests of programs need.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Container, Image, In, Out, Streams};
use crate::net::Network;

/// A container of the curl image on a network of its own, at 10.244.0.5.
pub(crate) fn container() -> Container {
    on(&Network::default(), "10.244.0.5")
}

/// A container of the curl image at an address.
pub(crate) fn on(network: &Network, ip: &str) -> Container {
    let host = network.add(ip.parse::<IpAddr>().expect("an address")).expect("it is free");
    Container::new(host, "shop", "cluster.local", "client-0", Image::Curl, "docker.io/curlimages/curl:8.17.0", BTreeMap::new())
}

/// What a command left: exit code, standard output, standard error.
pub(crate) async fn run(container: &Container, command: &[&str]) -> (i32, String, String) {
    let ((stdout, out), (stderr, err)) = (Out::kept(), Out::kept());
    let command: Vec<String> = command.iter().map(|w| (*w).to_owned()).collect();
    let streams = Streams { stdin: In::empty(), stdout, stderr };
    let code = match super::exec(container, &command, &streams).await {
        Ok(code) => code,
        Err(why) => {
            streams.stderr.write(why);
            -1
        }
    };
    let text = |kept: &std::sync::Mutex<Vec<u8>>| String::from_utf8_lossy(&kept.lock().expect("no panic")).into_owned();
    (code, text(&out), text(&err))
}
