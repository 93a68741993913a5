//! Configurations drawn from a seed: a grammar over what people write for Istio, right and subtly wrong, and a fixed battery
//! of calls to each. Nothing is expected of them but that two providers give the same.

mod agreement;
mod draft;
mod egress;
mod ingress;
mod mesh;
mod outside;
mod prng;
mod probes;
mod routes;
mod security;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::PathBuf;

pub use agreement::{Agreement, NOT_REACHED, agreements, agreements_table};
use draft::Draft;
use prng::Prng;

use crate::names::{Namespaced, ScenarioId};
use crate::scenario::{Catalogue, Certificate, Exceptions, Manifest, OutsideHost, Scenario};

/// The scenario whose applications the calls are between.
const BENEATH: &str = "00-sample-apps";

/// What every drawn scenario's id begins with.
pub const PREFIX: &str = "random/";

/// A configuration as drawn.
#[derive(Debug, Clone)]
pub struct Drawn {
    /// Its place in the sequence of its seed.
    pub index: u32,
    /// What was bent, in a few words each; nothing when it was left right.
    pub bends: Vec<&'static str>,
    /// Its objects and calls.
    pub scenario: Scenario,
}

/// The configuration `index` of `seed`; the same on every machine. None only if a fixed name of the grammar were no name.
#[must_use]
pub fn draw(seed: u64, index: u32) -> Option<Drawn> {
    let mut prng = Prng::of(seed, index);
    let mut draft = Draft::default();
    match prng.below(100) {
        0..35 => ingress::draw(&mut prng, &mut draft),
        35..60 => mesh::draw(&mut prng, &mut draft),
        60..80 => outside::draw(&mut prng, &mut draft),
        _ => egress::draw(&mut prng, &mut draft),
    }
    if prng.chance(30) {
        security::draw(&mut prng, &mut draft);
    }
    let text = draft.yaml();
    let bends: Vec<&'static str> = draft.bends.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
    let about = if bends.is_empty() { draft.about.join(", ") } else { format!("{}; bent: {}", draft.about.join(", "), bends.join(", ")) };
    let server = |secret: &str, hosts: [&str; 3]| {
        let hosts = hosts.iter().map(|h| h.parse().ok()).collect::<Option<Vec<_>>>()?;
        Some(Certificate { secret: Namespaced::parse(secret).ok()?, hosts })
    };
    let outside = ["example.org", "httpbin.org"].iter().map(|h| Some(OutsideHost { host: h.parse().ok()?, addresses: 1 }));
    let scenario = Scenario {
        id: ScenarioId::new(format!("{PREFIX}{seed}-{index:04}")).ok()?,
        dir: PathBuf::new(),
        row: None,
        values: Vec::new(),
        title: about,
        mechanism: String::new(),
        tags: Vec::new(),
        needs: vec![ScenarioId::new(BENEATH).ok()?],
        gateways: Vec::new(),
        outside: outside.collect::<Option<Vec<_>>>()?,
        // The same for all, so that none of them is made or removed between two configurations.
        certificates: vec![
            server("istio-system/drawn-client", ["client.drawn.example", "client.a.example", "client.b.example"])?,
            server("istio-system/drawn-server", [probes::A, probes::B, probes::C])?,
            server("mesh-test/drawn-elsewhere", [probes::A, probes::B, probes::C])?,
        ],
        run_config: Vec::new(),
        manifests: vec![Manifest { file: "drawn.yaml".to_owned(), text, objects: draft.objects }],
        extra_manifests: Vec::new(),
        variations: Vec::new(),
        checks: probes::checks(&draft.calls),
        not_tested: Vec::new(),
        unnoticed: Vec::new(),
        key_points: Vec::new(),
        might_be_missing: Vec::new(),
        next_work: Vec::new(),
        corrections: Vec::new(),
        exceptions: Exceptions::default(),
    };
    Some(Drawn { index, bends, scenario })
}

/// A catalogue of the drawn configurations and what they stand on; None when `from` lacks that.
#[must_use]
pub fn catalogue(from: &Catalogue, drawn: &[Drawn]) -> Option<Catalogue> {
    let beneath = from.get(&ScenarioId::new(BENEATH).ok()?)?.clone();
    let mut scenarios: Vec<Scenario> = drawn.iter().map(|d| d.scenario.clone()).chain([beneath]).collect();
    scenarios.sort_by(|a, b| a.id.cmp(&b.id));
    Some(Catalogue { scenarios, ..Catalogue::default() })
}
