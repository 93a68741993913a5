//! Does the gate hold? Rounds of apply, probe, remove, probe, each probe at the very moment the gate opens.
//!
//! Half of the rounds change a route of the ingress gateway, half a policy of the sidecar behind it, which is asked over
//! connections that were open before: a replaced filter chain serves its pooled connections on until it has drained. An answer
//! that belongs to the state before is a *stale observation*. With the gate open none may be seen; with the gate
//! switched off some are, which shows that the rounds can see one.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gateproof_core::names::{Namespaced, ObjectKey};
use gateproof_core::plan::{PlannedScenario, StateObjects};
use gateproof_core::scenario::{INTACT, KubeObject};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde_json::json;

use super::engine::Engine;
use crate::provider::Dialler;

/// Where the rounds take place: an ingress gateway, and a server behind it.
#[derive(Debug, Clone)]
pub struct Place {
    /// The gateway's Deployment.
    pub gateway: Namespaced,
    /// The labels by which a Gateway selects it.
    pub labels: serde_json::Map<String, serde_json::Value>,
    /// The namespace of the server; the rounds' objects are made there.
    pub namespace: String,
    /// The server's Service, whose pods bear the label `app` with this name.
    pub server: String,
    /// A port of that Service.
    pub port: u16,
}

/// What a round changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A VirtualService of its own host: 200 with it, 404 without.
    Route,
    /// An AuthorizationPolicy on the server's sidecar: 403 with it, 200 without.
    Policy,
}

impl Kind {
    /// Of the round with this number: they alternate.
    #[must_use]
    pub fn of(round: usize) -> Self {
        if round.is_multiple_of(2) { Self::Route } else { Self::Policy }
    }

    /// The status that is right while the round's object stands, and after it is gone.
    fn wanted(self, stands: bool) -> u16 {
        match (self, stands) {
            (Self::Route, true) | (Self::Policy, false) => 200,
            (Self::Route, false) => 404,
            (Self::Policy, true) => 403,
        }
    }
}

/// One half of a round: the object was applied, or removed, and the mesh was asked.
#[derive(Debug, Clone)]
pub struct Half {
    /// Counted from 0.
    pub round: usize,
    /// What was changed.
    pub kind: Kind,
    /// Applied, or removed.
    pub applied: bool,
    /// How long the gate took; 0 where it is off.
    pub gate: Duration,
    /// The first answers: over connections that were open before, then over new ones. In words where there was no status.
    pub seen: Vec<Result<u16, String>>,
    /// How many of them belong to the state before.
    pub stale: usize,
    /// How long it took until the answer was right, where the first were not.
    pub late: Option<Duration>,
}

const HOST: &str = "*.rounds.example.com";
/// The host whose route stands throughout; policies are asked through it.
const STANDING: &str = "standing.rounds.example.com";
/// How often is asked over open connections, and how often over new ones.
const ASKED: usize = 3;
/// What has not become right after so long does not become so.
const LATE_AT_MOST: Duration = Duration::from_secs(60);

fn object(value: serde_json::Value) -> KubeObject {
    let text = |pointer: &str| value.pointer(pointer).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    let key = ObjectKey {
        api_version: text("/apiVersion"),
        kind: text("/kind"),
        namespace: Some(text("/metadata/namespace")),
        name: text("/metadata/name"),
    };
    KubeObject { key, value, line: 0 }
}

fn route(place: &Place, name: &str, host: &str) -> KubeObject {
    let server = format!("{}.{}.svc.cluster.local", place.server, place.namespace);
    object(json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": name, "namespace": place.namespace},
        "spec": {"hosts": [host], "gateways": ["rounds"],
            "http": [{"route": [{"destination": {"host": server, "port": {"number": place.port}}}]}]},
    }))
}

/// What stands throughout.
fn standing(place: &Place) -> Vec<KubeObject> {
    let gateway = object(json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Gateway",
        "metadata": {"name": "rounds", "namespace": place.namespace},
        "spec": {"selector": place.labels, "servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": [HOST]}]},
    }));
    vec![gateway, route(place, "rounds-standing", STANDING)]
}

fn host_of(round: usize) -> String {
    format!("r{round}.rounds.example.com")
}

/// The one object of a round.
fn changed(place: &Place, round: usize) -> KubeObject {
    match Kind::of(round) {
        Kind::Route => route(place, &format!("rounds-{round}"), &host_of(round)),
        Kind::Policy => object(json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": {"name": format!("rounds-{round}"), "namespace": place.namespace},
            "spec": {"selector": {"matchLabels": {"app": place.server}}, "action": "DENY",
                "rules": [{"to": [{"operation": {"paths": ["/get"]}}]}]},
        })),
    }
}

/// Goes through `rounds` rounds; `report` is told of each half as it is done. With `gated` false, nothing is waited for
/// after the API has taken a change.
///
/// # Errors
/// When a state cannot be brought up, or the gateway cannot be reached from outside.
pub async fn rounds(
    engine: &mut Engine,
    planned: &PlannedScenario,
    place: &Place,
    rounds: usize,
    gated: bool,
    report: &mut (dyn FnMut(&Half) + Send),
) -> Result<Vec<Half>, String> {
    let address = *engine
        .world
        .entrances
        .get(&(place.gateway.clone(), 80))
        .ok_or_else(|| format!("{} has no entrance from outside for port 80", place.gateway))?;
    let dialler = engine.world.dialler.clone();
    let mut base = StateObjects::intact(&planned.scenario);
    base.objects.extend(standing(place));
    engine.enter(planned, INTACT, "", &base).await?;
    let gate = engine.world.gate.clone();
    let mut open = Connections::default();
    // So that connections are open, from outside and behind the gateway, before anything changes.
    let first = open.ask(&*dialler, address, STANDING).await;
    if !first.iter().all(|seen| *seen == Ok(200)) {
        return Err(format!("the route that stands throughout is not served: {first:?}"));
    }
    let mut all = Vec::new();
    for round in 0..rounds {
        let kind = Kind::of(round);
        let host = if kind == Kind::Route { host_of(round) } else { STANDING.to_owned() };
        for applied in [true, false] {
            let mut target = base.clone();
            if applied {
                target.objects.push(changed(place, round));
            }
            engine.world.gate = if gated { gate.clone() } else { gate.clone().switched_off() };
            let entered = engine.enter(planned, INTACT, "", &target).await;
            engine.world.gate = gate.clone();
            let (stage, ..) = entered?;
            let wanted = kind.wanted(applied);
            let seen = open.ask(&*dialler, address, &host).await;
            if let Some(why) = seen.iter().find_map(|s| s.as_ref().err()) {
                return Err(format!("round {}: a call to {host} had no answer: {why}", round + 1));
            }
            let stale = seen.iter().filter(|s| **s != Ok(wanted)).count();
            let late = if stale > 0 { Some(open.until(&*dialler, address, &host, wanted).await?) } else { None };
            let took = if gated { Duration::from_secs_f64(stage.gate_took) } else { Duration::ZERO };
            let half = Half { round, kind, applied, gate: took, seen, stale, late };
            report(&half);
            all.push(half);
        }
    }
    Ok(all)
}

/// Connections from outside that stay open from one question to the next.
#[derive(Default)]
struct Connections {
    kept: Vec<SendRequest<Empty<Bytes>>>,
}

impl Connections {
    /// Over those that are open, as far as they still are, then over as many new ones; these are kept for the next question.
    async fn ask(&mut self, dialler: &dyn Dialler, address: SocketAddr, host: &str) -> Vec<Result<u16, String>> {
        let mut seen = Vec::new();
        for mut sender in std::mem::take(&mut self.kept) {
            // The gateway may have closed it meanwhile; that is its right, and no answer.
            if sender.ready().await.is_ok() {
                seen.push(get(&mut sender, host).await);
            }
        }
        for _ in 0..ASKED {
            match connect(dialler, address).await {
                Ok(mut sender) => {
                    seen.push(get(&mut sender, host).await);
                    self.kept.push(sender);
                }
                Err(why) => seen.push(Err(why)),
            }
        }
        seen
    }

    async fn until(&mut self, dialler: &dyn Dialler, address: SocketAddr, host: &str, wanted: u16) -> Result<Duration, String> {
        let began = Instant::now();
        loop {
            let seen = self.ask(dialler, address, host).await;
            if seen.iter().all(|s| *s == Ok(wanted)) {
                return Ok(began.elapsed());
            }
            if began.elapsed() > LATE_AT_MOST {
                return Err(format!("{host} still does not answer {wanted} after {LATE_AT_MOST:?}: {seen:?}"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn connect(dialler: &dyn Dialler, address: SocketAddr) -> Result<SendRequest<Empty<Bytes>>, String> {
    let stream = dialler.dial(address).await.map_err(|e| format!("connecting to {address}: {e}"))?.stream;
    let (sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| format!("connecting to {address}: {e}"))?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn get(sender: &mut SendRequest<Empty<Bytes>>, host: &str) -> Result<u16, String> {
    let request = hyper::Request::get("/get").header("host", host).header("user-agent", "gateproof-rounds").body(Empty::new());
    let request = request.map_err(|e| e.to_string())?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let status = response.status().as_u16();
        response.into_body().collect().await.map_err(|e| e.to_string())?;
        Ok(status)
    };
    tokio::time::timeout(Duration::from_secs(10), answer).await.unwrap_or_else(|_| Err("no answer within 10 s".to_owned()))
}

/// The rounds in a table: of each kind how many, what was seen, and what the gate took.
#[must_use]
pub fn table(halves: &[Half]) -> String {
    let mut out = String::from("what | rounds | observations | stale | gate, median | gate, longest | right after, longest\n");
    for (kind, name) in [(Kind::Route, "a route of the gateway"), (Kind::Policy, "a policy, over open connections")] {
        for applied in [true, false] {
            let of: Vec<&Half> = halves.iter().filter(|h| h.kind == kind && h.applied == applied).collect();
            let mut gate: Vec<Duration> = of.iter().map(|h| h.gate).collect();
            gate.sort_unstable();
            let late = of.iter().filter_map(|h| h.late).max();
            out.push_str(&format!(
                "{name}, {} | {} | {} | {} | {:.2} s | {:.2} s | {}\n",
                if applied { "applied" } else { "removed" },
                of.len(),
                of.iter().map(|h| h.seen.len()).sum::<usize>(),
                of.iter().map(|h| h.stale).sum::<usize>(),
                gate.get(gate.len() / 2).map_or(0.0, Duration::as_secs_f64),
                gate.last().map_or(0.0, Duration::as_secs_f64),
                late.map_or_else(|| "at once".to_owned(), |late| format!("{:.2} s", late.as_secs_f64())),
            ));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        let labels = json!({"istio": "edge"}).as_object().cloned().unwrap_or_default();
        let gateway = Namespaced { namespace: "edge".to_owned(), name: "edge".to_owned() };
        Place { gateway, labels, namespace: "apps".to_owned(), server: "web".to_owned(), port: 8000 }
    }

    #[test]
    fn rounds_alternate_and_each_has_an_object_of_its_own() {
        assert_eq!([0, 1, 2].map(Kind::of), [Kind::Route, Kind::Policy, Kind::Route]);
        let keys: std::collections::BTreeSet<String> = (0..6).map(|n| changed(&place(), n).key.to_string()).collect();
        assert_eq!(keys.len(), 6);
        assert_eq!(changed(&place(), 0).value["spec"]["hosts"][0], "r0.rounds.example.com");
        assert_eq!(changed(&place(), 1).value["spec"]["selector"]["matchLabels"]["app"], "web");
    }

    #[test]
    fn what_is_right_follows_from_what_stands() {
        assert_eq!([true, false].map(|stands| Kind::Route.wanted(stands)), [200, 404]);
        assert_eq!([true, false].map(|stands| Kind::Policy.wanted(stands)), [403, 200]);
    }

    #[test]
    fn the_table_counts_what_is_stale() {
        let half = |kind, applied, stale, late| Half {
            round: 0,
            kind,
            applied,
            gate: Duration::from_millis(400),
            seen: vec![Ok(200); 6],
            stale,
            late,
        };
        let halves = [half(Kind::Route, true, 0, None), half(Kind::Policy, false, 2, Some(Duration::from_millis(900)))];
        let text = table(&halves);
        assert!(text.contains("a route of the gateway, applied | 1 | 6 | 0 | 0.40 s | 0.40 s | at once\n"), "{text}");
        assert!(text.contains("a policy, over open connections, removed | 1 | 6 | 2 | 0.40 s | 0.40 s | 0.90 s\n"), "{text}");
    }
}
