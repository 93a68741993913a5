//! What to type to have all of a report again.

use gateproof_core::report::ScenarioRecord;
use gateproof_core::scenario::INTACT;

/// Commands that make the same cluster, run the same checks, and bring it into each state to repeat a check by hand.
pub(super) fn reproduce(scenarios: &[ScenarioRecord], context: Option<&str>) -> Vec<String> {
    let names: Vec<String> = scenarios.iter().map(|s| s.id.to_string()).collect();
    if let Some(context) = context {
        return vec![
            "git clone REPOSITORY gateproof && cd gateproof".to_owned(),
            format!("GATEPROOF_PROVIDER=existing GATEPROOF_CONTEXT={context} cargo test --test scenarios"),
            "# commands printed in this report speak to the current context; for this cluster".to_owned(),
            format!("alias kubectl='kubectl --context {context}' istioctl='istioctl --context {context}'"),
        ];
    }
    let mut lines = vec![
        "git clone REPOSITORY gateproof && cd gateproof".to_owned(),
        "cargo test --test scenarios".to_owned(),
        String::new(),
        "# the same scenarios on a cluster that is kept".to_owned(),
        format!("cargo run -- run --keep {}", names.join(" ")),
        String::new(),
        "# to repeat a check by hand: bring the kept cluster into the check's state, then use the command in its row".to_owned(),
    ];
    for scenario in scenarios {
        for stage in &scenario.stages {
            let state = if stage.state == INTACT { String::new() } else { format!(" '{}'", stage.state.replace('\'', r"'\''")) };
            lines.push(format!("eval \"$(cargo run -q -- hold {}{state})\"", scenario.id));
        }
    }
    lines
}
