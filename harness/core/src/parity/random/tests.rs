use std::collections::BTreeSet;

use serde_json::Value;

use super::*;
use crate::scenario::Expectation;

fn many() -> impl Iterator<Item = Drawn> {
    (0..500).map(|index| draw(7, index).expect("a configuration"))
}

#[test]
fn a_seed_and_an_index_give_one_configuration() {
    let objects = |seed, index| draw(seed, index).unwrap().scenario.manifests[0].objects.clone();
    assert!((0..50).all(|index| objects(7, index) == objects(7, index)));
    assert!((0..50).filter(|index| objects(7, *index) != objects(8, *index)).count() > 45);
    let distinct: BTreeSet<String> = many().map(|d| d.scenario.manifests[0].text.clone()).collect();
    assert!(distinct.len() > 400, "{}", distinct.len());
}

#[test]
fn every_object_is_what_its_key_says_and_reads_back_from_its_yaml() {
    for drawn in many() {
        let manifest = &drawn.scenario.manifests[0];
        assert!(!manifest.objects.is_empty(), "{}", drawn.index);
        let keys: BTreeSet<String> = manifest.objects.iter().map(|o| o.key.to_string()).collect();
        assert_eq!(keys.len(), manifest.objects.len(), "{}", manifest.text);
        let texts: Vec<&str> = manifest.text.split("---\n").collect();
        assert_eq!(texts.len(), manifest.objects.len());
        for (object, text) in manifest.objects.iter().zip(texts) {
            let read: Value = serde_saphyr::from_str(text).unwrap();
            assert_eq!(read, object.value, "{text}");
            assert_eq!(object.value["apiVersion"], object.key.api_version);
            assert_eq!(object.value["kind"], object.key.kind);
            assert_eq!(object.value["metadata"]["name"], object.key.name);
            assert_eq!(object.value["metadata"]["namespace"].as_str(), object.key.namespace.as_deref());
            assert!(object.value["spec"].is_object());
        }
    }
}

#[test]
fn every_kind_and_every_bend_occurs_and_half_are_left_right() {
    let (mut kinds, mut bends, mut right) = (BTreeSet::new(), BTreeSet::new(), 0);
    for drawn in many() {
        kinds.extend(drawn.scenario.manifests[0].objects.iter().map(|o| o.key.kind.clone()));
        right += usize::from(drawn.bends.is_empty());
        bends.extend(drawn.bends);
    }
    let wanted = ["AuthorizationPolicy", "DestinationRule", "Gateway", "PeerAuthentication", "ServiceEntry", "Sidecar", "VirtualService"];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), wanted);
    // Each `bend` of the grammar's source, so that one that is added is drawn too.
    let sources = [
        include_str!("ingress.rs"),
        include_str!("routes.rs"),
        include_str!("mesh.rs"),
        include_str!("outside.rs"),
        include_str!("egress.rs"),
        include_str!("security.rs"),
    ];
    let written: BTreeSet<&str> = sources.iter().flat_map(|s| s.lines()).filter_map(bend_of).collect();
    let missing: Vec<&&str> = written.iter().filter(|w| !bends.contains(**w)).collect();
    assert!(written.len() > 60 && missing.is_empty(), "{} written, never drawn: {missing:?}", written.len());
    assert!((100..400).contains(&right), "{right}");
}

/// The words of a bend: the value of an arm, or the argument of `bend`.
fn bend_of(line: &str) -> Option<&str> {
    let line = line.trim();
    let text = line.strip_prefix("draft.bend(\"").and_then(|l| l.strip_suffix("\");"));
    text.or_else(|| line.strip_prefix('"').and_then(|l| l.strip_suffix('"'))).filter(|words| !words.is_empty())
}

#[test]
fn a_battery_only_observes_and_its_names_are_unique() {
    for drawn in many().take(100) {
        let checks = &drawn.scenario.checks;
        assert!((6..=10).contains(&checks.len()), "{}", checks.len());
        assert!(checks.iter().all(|c| matches!(c.expect, Expectation::Observe { .. })));
        let names: BTreeSet<&str> = checks.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names.len(), checks.len());
    }
}

#[test]
fn a_run_agrees_with_itself_and_not_with_one_that_was_refused() {
    use crate::outcome::Outcome;
    use crate::report::sample;
    let mut left = sample::green();
    let drawn = [draw(7, 0).unwrap()];
    left.scenarios.truncate(1);
    left.scenarios[0].id = drawn[0].scenario.id.clone();
    let all = agreements(&drawn, &left, &left);
    assert!(all[0].differences.is_empty(), "{:?}", all[0]);
    let mut right = left.clone();
    for check in &mut right.scenarios[0].checks {
        check.outcome = Outcome::Error { message: "applying X: denied the request".to_owned() };
        check.attempts.clear();
    }
    let all = agreements(&drawn, &left, &right);
    assert_eq!(all[0].differences, ["state: accepted | applying X: denied the request"]);
    let again = all[0].clone().looked_at_again(agreements(&drawn, &left, &left).remove(0));
    assert!(again.differences.is_empty() && again.at_first == all[0].differences);
    assert_eq!(all[0].clone().looked_at_again(all[0].clone()), all[0]);
    let text = agreements_table(&[again], &drawn, ["kind", "embedded"], 7);
    assert!(text.contains("1 of 1 configurations agree, 1 of them when asked again"), "{text}");
    let table = agreements_table(&all, &drawn, ["kind", "embedded"], 7);
    assert!(table.contains("0 of 1 configurations agree") && table.contains("```yaml\napiVersion"), "{table}");
}
