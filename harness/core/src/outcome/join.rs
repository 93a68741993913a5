//! Which log lines belong to one call.
//!
//! An HTTP line belongs to it when its User-Agent holds the call's token: gateways rewrite request ids, but not this
//! header. Any line belongs to it when addresses tie it to the caller: the caller's own address is the line's
//! `DOWNSTREAM_REMOTE_ADDRESS`, or the `UPSTREAM_LOCAL_ADDRESS` of a line that belongs is. Nothing else counts: not the
//! server name, not the Host, not the time.
//!
//! Upstream connections of HTTP are pooled and serve other calls as well, so behind an HTTP line an HTTP line needs the
//! token; a TCP proxy opens one upstream connection for each downstream one, so behind it addresses are enough.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;

use jiff::Timestamp;

use super::{AccessLogEntry, HopSeen};
use crate::names::Namespaced;

/// What identifies a call in logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallMark {
    /// The token in its User-Agent; empty when it has none.
    pub token: String,
    /// The caller's own address of the connection: curl's local one, or the outside caller's.
    pub caller_local: Option<SocketAddr>,
    /// The Deployment whose sidecar the caller's connection passes first, when it calls from a pod that has one.
    pub caller_pod_proxy: Option<Namespaced>,
}

/// The access log of one replica. Lines should begin with the call: a port may have served an earlier one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyLog {
    /// The proxy's Deployment.
    pub proxy: Namespaced,
    /// The replica.
    pub pod: String,
    /// Its lines, in the order logged.
    pub lines: Vec<Arc<ReadLine>>,
}

/// A line of an access log. It is read once and looked at often: by every call under way, whenever another line comes.
#[derive(Debug, PartialEq, Eq)]
pub struct ReadLine {
    entry: AccessLogEntry,
    start: Option<Timestamp>,
    upstream_local: Option<SocketAddr>,
    downstream_remote: Option<SocketAddr>,
}

impl ReadLine {
    /// None for what is no line of an access log: that does not matter.
    #[must_use]
    pub fn read(line: &str) -> Option<Self> {
        let entry = AccessLogEntry::parse(line)?;
        Some(Self {
            start: entry.start.parse().ok(),
            upstream_local: address(&entry.upstream_local),
            downstream_remote: address(&entry.downstream_remote),
            entry,
        })
    }
}

struct Line<'a> {
    log: &'a ProxyLog,
    read: &'a ReadLine,
}

impl Deref for Line<'_> {
    type Target = ReadLine;

    fn deref(&self) -> &ReadLine {
        self.read
    }
}

struct Joined {
    /// Index of the line.
    line: usize,
    how: String,
    /// Whether the connection it came on carries this call alone.
    alone: bool,
}

/// The lines of this call, in the order in which it passed the proxies.
#[must_use]
pub fn join(call: &CallMark, logs: &[ProxyLog]) -> Vec<HopSeen> {
    let lines: Vec<Line<'_>> = logs.iter().flat_map(|log| log.lines.iter().map(move |read| Line { log, read })).collect();
    let mut joined: Vec<Joined> = lines
        .iter()
        .enumerate()
        .filter(|(_, l)| l.entry.is_http() && holds_token(&l.entry.user_agent, &call.token))
        .map(|(line, _)| Joined { line, how: "token in User-Agent".to_owned(), alone: false })
        .collect();
    if let Some(local) = call.caller_local.filter(|a| a.port() != 0).map(canonical) {
        for line in first_of(call, local, &lines) {
            let how = format!("addresses: the caller's {local} is DOWNSTREAM_REMOTE");
            match joined.iter_mut().find(|j| j.line == line) {
                Some(known) => known.alone = true,
                None => joined.push(Joined { line, how, alone: true }),
            }
        }
    }
    let mut at = 0;
    while at < joined.len() {
        let (from, alone) = (joined[at].line, joined[at].alone && !lines[joined[at].line].entry.is_http());
        for line in behind(from, alone, &lines) {
            match joined.iter_mut().find(|j| j.line == line) {
                Some(known) => known.alone |= alone,
                None => {
                    let before = &lines[from];
                    let how =
                        format!("addresses: UPSTREAM_LOCAL {} of {} is DOWNSTREAM_REMOTE", before.entry.upstream_local, before.log.proxy);
                    joined.push(Joined { line, how, alone });
                }
            }
        }
        at += 1;
    }
    in_path_order(call, &lines, joined)
}

/// Whether the User-Agent holds the token as a word of its own: `gp-1` is not in `gp-12`.
fn holds_token(agent: &str, token: &str) -> bool {
    let part_of_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !token.is_empty()
        && agent.match_indices(token).any(|(at, _)| {
            !agent[..at].chars().next_back().is_some_and(part_of_word)
                && !agent[at + token.len()..].chars().next().is_some_and(part_of_word)
        })
}

/// An address with a port; port 0 stands in lines whose address comes from X-Forwarded-For and identifies nothing.
fn address(text: &str) -> Option<SocketAddr> {
    text.parse().ok().filter(|a: &SocketAddr| a.port() != 0).map(canonical)
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The lines of the first proxy: of the caller's own sidecar where that has one, else of any.
fn first_of(call: &CallMark, local: SocketAddr, lines: &[Line<'_>]) -> Vec<usize> {
    let from_caller: Vec<usize> = (0..lines.len()).filter(|i| lines[*i].downstream_remote == Some(local)).collect();
    let own: Vec<usize> = from_caller.iter().copied().filter(|i| Some(&lines[*i].log.proxy) == call.caller_pod_proxy.as_ref()).collect();
    let candidates = if own.is_empty() { from_caller } else { own };
    // The same sidecar may hold the caller's port twice when an earlier connection had it: the last one is the caller's.
    one_connection(candidates, lines, |a, b| lines[a].start.cmp(&lines[b].start).reverse())
}

/// The lines of the proxy behind a line.
fn behind(from: usize, alone: bool, lines: &[Line<'_>]) -> Vec<usize> {
    let before = &lines[from];
    let Some(local) = before.upstream_local else { return Vec::new() };
    let mut candidates: Vec<usize> = (0..lines.len())
        .filter(|i| lines[*i].downstream_remote == Some(local))
        // A proxy is not behind itself; in its own pod the same port may have served another connection.
        .filter(|i| lines[*i].log.pod != before.log.pod || lines[*i].log.proxy != before.log.proxy)
        .filter(|i| alone || !lines[*i].entry.is_http())
        .collect();
    // Where some line has the other end of the connection too, the rest are of another connection from the same port.
    // Not demanded: in between a Service's address may have been translated.
    if candidates.iter().any(|i| lines[*i].entry.downstream_local == before.entry.upstream_host) {
        candidates.retain(|i| lines[*i].entry.downstream_local == before.entry.upstream_host);
    }
    let distance = |i: usize| match (lines[i].start, before.start) {
        (Some(a), Some(b)) => (a.as_millisecond() - b.as_millisecond()).abs(),
        _ => i64::MAX,
    };
    one_connection(candidates, lines, |a, b| distance(a).cmp(&distance(b)))
}

/// A TCP connection has one line: of several, the one that orders first. An HTTP connection has a line for each request.
fn one_connection(candidates: Vec<usize>, lines: &[Line<'_>], order: impl Fn(usize, usize) -> std::cmp::Ordering) -> Vec<usize> {
    let best = candidates.iter().copied().min_by(|a, b| order(*a, *b));
    match best {
        Some(best) if !lines[best].entry.is_http() => vec![best],
        Some(best) => candidates.into_iter().filter(|i| lines[*i].entry.is_http() && lines[*i].log == lines[best].log).collect(),
        None => Vec::new(),
    }
}

/// By the connections between the lines, then by start.
fn in_path_order(call: &CallMark, lines: &[Line<'_>], joined: Vec<Joined>) -> Vec<HopSeen> {
    let caller = call.caller_local.map(canonical);
    let first = |j: &Joined| !(caller.is_some() && lines[j.line].downstream_remote == caller);
    let mut left: Vec<Joined> = joined;
    left.sort_by(|a, b| (first(a), &lines[a.line].entry.start, a.line).cmp(&(first(b), &lines[b.line].entry.start, b.line)));
    let leads = |a: &Joined, b: &Joined| {
        let (a, b) = (&lines[a.line], &lines[b.line]);
        let known = |x: &str| x != "-" && !x.is_empty();
        !std::ptr::eq(a.log, b.log)
            && ((a.upstream_local.is_some() && a.upstream_local == b.downstream_remote)
                || (known(&a.entry.upstream_host) && a.entry.upstream_host == b.entry.downstream_local))
    };
    let mut hops = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let ready = (0..left.len()).find(|i| !left.iter().enumerate().any(|(k, other)| k != *i && leads(other, &left[*i]))).unwrap_or(0);
        let next = left.remove(ready);
        let line = &lines[next.line];
        hops.push(HopSeen { proxy: line.log.proxy.clone(), pod: line.log.pod.clone(), entry: line.entry.clone(), joined_by: next.how });
    }
    hops
}

/// The proxies among these that have no line among the hops, in the order given, without repetition.
#[must_use]
pub fn proxies_without_a_line<'a>(wanted: &'a [Namespaced], hops: &[HopSeen]) -> Vec<&'a Namespaced> {
    let mut seen = BTreeSet::new();
    wanted.iter().filter(|p| hops.iter().all(|h| h.proxy != **p) && seen.insert((*p).clone())).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CAPTURED: &str = include_str!("testdata/access.log");

    fn name(text: &str) -> Namespaced {
        Namespaced::parse(text).unwrap()
    }

    fn log(proxy: &str, pod: &str, lines: &[String]) -> ProxyLog {
        let lines = lines.iter().filter_map(|line| ReadLine::read(line)).map(Arc::new);
        ProxyLog { proxy: name(proxy), pod: pod.into(), lines: lines.collect() }
    }

    fn mark(token: &str, local: Option<&str>, own: Option<&str>) -> CallMark {
        CallMark { token: token.into(), caller_local: local.map(|a| a.parse().unwrap()), caller_pod_proxy: own.map(name) }
    }

    fn captured(pick: impl Fn(&str) -> bool) -> Vec<String> {
        CAPTURED.lines().filter(|l| pick(l)).map(str::to_owned).collect()
    }

    fn proxies(hops: &[HopSeen]) -> Vec<String> {
        hops.iter().map(|h| h.proxy.to_string()).collect()
    }

    /// `HTTP` lines have a user agent, TCP ones do not.
    fn line(ms: u32, agent: Option<&str>, host: &str, up_local: &str, down_local: &str, down_remote: &str) -> String {
        let (request, agent) = agent.map_or(("- - -", "-"), |a| ("GET / HTTP/1.1", a));
        format!(
            "[2026-11-21T01:40:34.{ms:03}Z] \"{request}\" 0 - - - \"-\" 1 2 3 - \"-\" \"{agent}\" \"-\" \"httpbin.org\" \"{host}\" \
             outbound|443||httpbin.org {up_local} {down_local} {down_remote} httpbin.org -"
        )
    }

    const SLEEP: &str = "mesh-test/sleep";
    const EGRESS: &str = "istio-system/istio-egressgateway";

    fn cluster() -> [ProxyLog; 2] {
        [
            // The gateway first: the order of logs decides nothing.
            log(EGRESS, "egress-1", &captured(|l| l.contains(" 10.244.0.6:8443 "))),
            log(SLEEP, "sleep-1", &captured(|l| !l.contains(" 10.244.0.6:8443 ") && l.contains(" 10.244.0.12:"))),
        ]
    }

    #[test]
    fn a_captured_tcp_call_is_followed_to_the_gateway_and_no_further() {
        let hops = join(&mark("", Some("10.244.0.12:35120"), Some(SLEEP)), &cluster());
        assert_eq!(proxies(&hops), [SLEEP, EGRESS]);
        assert_eq!(hops[0].joined_by, "addresses: the caller's 10.244.0.12:35120 is DOWNSTREAM_REMOTE");
        assert_eq!(hops[1].joined_by, "addresses: UPSTREAM_LOCAL 10.244.0.12:49428 of mesh-test/sleep is DOWNSTREAM_REMOTE");
        assert_eq!(hops[1].entry.downstream_remote, "10.244.0.12:49428");
    }

    #[test]
    fn a_captured_call_past_the_gateway_has_one_hop() {
        let hops = join(&mark("x", Some("10.244.0.12:35134"), Some(SLEEP)), &cluster());
        assert_eq!(proxies(&hops), [SLEEP]);
        assert_eq!(hops[0].entry.cluster, "PassthroughCluster");
    }

    #[test]
    fn a_captured_refusal_by_the_listener_is_joined() {
        let hops = join(&mark("", Some("10.244.0.12:54862"), Some(SLEEP)), &cluster());
        assert_eq!(hops.iter().map(|h| h.entry.flags.as_str()).collect::<Vec<_>>(), ["UR", "NR"]);
    }

    #[test]
    fn captured_http_calls_are_told_apart_by_token() {
        let logs = [log("istio-system/istio-ingressgateway", "gw", &captured(|l| l.contains(" 10.244.0.8:8")))];
        let hops = join(&mark("gp-s418", None, None), &logs);
        assert_eq!(hops.len(), 1);
        assert_eq!((hops[0].entry.route.as_str(), hops[0].joined_by.as_str()), ("status", "token in User-Agent"));
        // A caller outside whose address the node did not translate.
        let hops = join(&mark("", Some("172.18.0.1:37894"), None), &logs);
        assert_eq!((hops.len(), hops[0].entry.sni.as_str()), (1, "nope.example.com"));
    }

    #[test]
    fn decoys_are_never_joined() {
        let ours = [
            line(10, None, "10.0.0.6:8443", "10.0.0.12:4000", "172.18.0.3:443", "10.0.0.12:3000"),
            // Same server name at the same time: another caller's port.
            line(10, None, "10.0.0.6:8443", "10.0.0.12:4001", "172.18.0.3:443", "10.0.0.12:3001"),
            // The sidecar's upstream port of our call served a call of the same pod before.
            line(5, None, "172.18.0.9:443", "10.0.0.12:4002", "172.18.0.9:443", "10.0.0.12:4000"),
        ];
        let theirs = [
            line(11, None, "172.18.0.3:443", "10.0.0.6:5001", "10.0.0.6:8443", "10.0.0.12:4001"),
            line(11, None, "172.18.0.3:443", "10.0.0.6:5000", "10.0.0.6:8443", "10.0.0.12:4000"),
            // The same upstream port to another port of the gateway.
            line(11, None, "172.18.0.3:443", "10.0.0.6:5002", "10.0.0.6:8080", "10.0.0.12:4000"),
            // An earlier connection between the same two ends.
            line(1, None, "172.18.0.3:443", "10.0.0.6:5003", "10.0.0.6:8443", "10.0.0.12:4000"),
        ];
        // Another sidecar that has our caller's port, and a replica without a line of ours.
        let logs = [
            log(SLEEP, "sleep-1", &ours),
            log(EGRESS, "egress-1", &theirs[..1]),
            log(EGRESS, "egress-2", &theirs[1..]),
            log("mesh-test/other", "other-1", &[line(10, None, "1.1.1.1:1", "10.0.0.12:4000", "1.1.1.1:1", "10.0.0.12:3000")]),
        ];
        let hops = join(&mark("gp-1", Some("10.0.0.12:3000"), Some(SLEEP)), &logs);
        assert_eq!(proxies(&hops), [SLEEP, EGRESS]);
        assert_eq!((hops[1].pod.as_str(), hops[1].entry.upstream_local.as_str()), ("egress-2", "10.0.0.6:5000"));
    }

    #[test]
    fn a_token_is_a_whole_word() {
        let agents = ["gp-12", "gp-1-sentinel", "xgp-1", "curl/8 gp-1", "gp-1", "-"];
        let lines: Vec<_> = agents.iter().map(|a| line(1, Some(a), "-", "-", "10.0.0.1:80", "10.0.0.2:9")).collect();
        let hops = join(&mark("gp-1", None, None), &[log(EGRESS, "e", &lines)]);
        assert_eq!(hops.iter().map(|h| h.entry.user_agent.as_str()).collect::<Vec<_>>(), ["curl/8 gp-1", "gp-1"]);
        assert!(join(&mark("", None, None), &[log(EGRESS, "e", &lines)]).is_empty());
    }

    #[test]
    fn behind_an_http_hop_a_shared_connection_needs_the_token() {
        let sleep = [line(10, Some("gp-1"), "10.0.0.6:8080", "10.0.0.12:4000", "10.96.0.1:80", "10.0.0.12:3000")];
        let egress = [
            line(9, Some("gp-0"), "10.0.0.7:80", "10.0.0.6:5000", "10.0.0.6:8080", "10.0.0.12:4000"),
            line(10, Some("gp-1"), "10.0.0.7:80", "10.0.0.6:5000", "10.0.0.6:8080", "10.0.0.12:4000"),
        ];
        let logs = [log(EGRESS, "e", &egress), log(SLEEP, "s", &sleep)];
        let hops = join(&mark("gp-1", Some("10.0.0.12:3000"), Some(SLEEP)), &logs);
        assert_eq!(proxies(&hops), [SLEEP, EGRESS]);
        assert_eq!(hops[1].entry.user_agent, "gp-1");
    }

    #[test]
    fn an_http_hop_leads_to_a_tcp_hop() {
        // TLS origination in the sidecar, passthrough in the gateway.
        let sleep = [line(10, Some("gp-1"), "10.0.0.6:8443", "10.0.0.12:4000", "10.96.0.1:80", "10.0.0.12:3000")];
        let egress = [line(10, None, "172.18.0.3:443", "10.0.0.6:5000", "10.0.0.6:8443", "10.0.0.12:4000")];
        let hops = join(&mark("gp-1", None, None), &[log(EGRESS, "e", &egress), log(SLEEP, "s", &sleep)]);
        assert_eq!(proxies(&hops), [SLEEP, EGRESS]);
        assert_eq!(hops[0].joined_by, "token in User-Agent");
    }

    #[test]
    fn a_tcp_hop_leads_to_an_http_hop_without_a_token() {
        let first = [line(10, None, "10.0.0.6:8443", "10.0.0.12:4000", "10.96.0.1:443", "10.0.0.12:3000")];
        let second = [line(10, Some("their own agent"), "10.0.0.7:80", "10.0.0.6:5000", "10.0.0.6:8443", "10.0.0.12:4000")];
        let hops = join(&mark("gp-1", Some("10.0.0.12:3000"), Some(SLEEP)), &[log(EGRESS, "e", &second), log(SLEEP, "s", &first)]);
        assert_eq!(proxies(&hops), [SLEEP, EGRESS]);
    }

    #[test]
    fn an_inbound_sidecar_comes_after_the_gateway_even_in_the_same_millisecond() {
        // Behind a gateway, DOWNSTREAM_REMOTE comes from X-Forwarded-For and has port 0.
        let inbound = [line(10, Some("gp-1"), "10.0.0.7:8080", "127.0.0.6:5000", "10.0.0.7:8080", "172.18.0.1:0")];
        let gateway = [line(10, Some("gp-1"), "10.0.0.7:8080", "10.0.0.6:4000", "10.0.0.6:8080", "172.18.0.1:3000")];
        let logs = [log("mesh-test/httpbin", "h", &inbound), log("istio-system/istio-ingressgateway", "g", &gateway)];
        let hops = join(&mark("gp-1", None, None), &logs);
        assert_eq!(proxies(&hops), ["istio-system/istio-ingressgateway", "mesh-test/httpbin"]);
    }

    #[test]
    fn without_a_mark_nothing_is_joined() {
        assert!(join(&mark("", None, Some(SLEEP)), &cluster()).is_empty());
        assert!(join(&mark("", Some("10.244.0.12:0"), Some(SLEEP)), &cluster()).is_empty());
        assert!(join(&mark("gp-unheard-of", Some("10.244.0.12:1"), None), &cluster()).is_empty());
    }

    #[test]
    fn names_of_proxies_without_a_line() {
        let hops = join(&mark("", Some("10.244.0.12:35134"), Some(SLEEP)), &cluster());
        let wanted = [name(SLEEP), name(EGRESS), name(EGRESS)];
        assert_eq!(proxies_without_a_line(&wanted, &hops), [&wanted[1]]);
    }

    proptest! {
        /// Whatever ports the lines have: each line is joined once at most, and each joined line is tied to the caller.
        #[test]
        fn every_joined_line_is_tied(raw in prop::collection::vec((0u16..3, any::<bool>(), 1u16..6, 1u16..6, 1u16..6), 0..12), from in 1u16..6) {
            let logs: Vec<ProxyLog> = (0..3).map(|pod| {
                let lines: Vec<String> = raw.iter().filter(|r| r.0 == pod).map(|(_, http, up, down, own)| {
                    line(*up as u32, http.then_some("other"), "1.1.1.1:1", &format!("10.0.0.1:{up}"), &format!("10.0.0.2:{own}"), &format!("10.0.0.1:{down}"))
                }).collect();
                log(SLEEP, &format!("p{pod}"), &lines)
            }).collect();
            let local = format!("10.0.0.1:{from}");
            let hops = join(&mark("gp-1", Some(&local), None), &logs);
            prop_assert!(hops.len() <= raw.len());
            for hop in &hops {
                let remote = &hop.entry.downstream_remote;
                prop_assert!(*remote == local || hops.iter().any(|h| h.entry.upstream_local == *remote));
            }
        }
    }
}
