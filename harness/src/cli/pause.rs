//! `--pause-on-failure`: a red state is left standing until somebody has looked at it.

use std::io::IsTerminal;

use anstream::eprintln;
use futures::future::BoxFuture;

use crate::provider::Choice;
use crate::run::{Pause, RedState};

/// Waits for Enter on the terminal.
#[derive(Debug)]
pub(super) struct AtTerminal;

impl Pause for AtTerminal {
    fn at<'a>(&'a self, red: &'a RedState) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            eprintln!("{}", words(red));
            enter().await;
        })
    }
}

/// Whether there is a terminal to wait at.
pub(super) fn at_a_terminal() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Why a run cannot pause, if it cannot; `choice` becomes one that it can pause on, where none was named.
pub(super) fn possible(choice: &mut Choice, terminal: bool) -> Result<(), String> {
    if !terminal {
        return Err("--pause-on-failure waits for Enter, and there is no terminal; \
                    run with --keep, and bring the state back with `gateproof hold SCENARIO STATE`"
            .to_owned());
    }
    match choice {
        Choice::Embedded => Err("--pause-on-failure leaves a state standing for kubectl, and the simulated mesh can be reached by no \
                                 other process; name --provider kind"
            .to_owned()),
        Choice::Unnamed => {
            *choice = Choice::Kind;
            Ok(())
        }
        _ => Ok(()),
    }
}

/// What stands, and what to type.
fn words(red: &RedState) -> String {
    let mut out = format!("\npaused: `{}` stands in its state `{}`, with red checks:\n", red.scenario, red.state);
    for check in &red.red {
        out.push_str(&format!("  {}\n", check.name));
    }
    out.push_str("\nin another terminal:\n");
    if red.kubeconfig.as_os_str().is_empty() {
        out.push_str(&format!("  kubectl --context {} get pods -A\n", red.context));
    } else {
        out.push_str(&format!("  export KUBECONFIG={}\n  kubectl get pods -A\n", red.kubeconfig.display()));
    }
    for check in red.red.iter().filter(|c| !c.command.is_empty()) {
        out.push_str(&format!("  {}\n", check.command.trim_end().replace('\n', "\n  ")));
    }
    out.push_str("\nEnter goes on with the run; Ctrl-C ends it and cleans up.");
    out
}

/// On a thread of its own: one of the runtime's would keep an interrupted run from ending until Enter is pressed.
async fn enter() {
    let (pressed, waiting) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_line(&mut String::new());
        let _ = pressed.send(());
    });
    let _ = waiting.await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_pauses_only_where_somebody_can_look() {
        let mut choice = Choice::Embedded;
        assert!(possible(&mut choice, true).unwrap_err().contains("--provider kind"));
        let mut choice = Choice::Unnamed;
        assert!(possible(&mut choice, false).unwrap_err().contains("gateproof hold"));
        assert!(possible(&mut choice, true).is_ok());
        assert!(matches!(choice, Choice::Kind));
    }

    #[test]
    fn it_says_what_stands_and_what_to_type() {
        let scenario = gateproof_core::names::ScenarioId::new("10-ingress").unwrap();
        let red =
            RedState { scenario, state: "intact".to_owned(), red: vec![], kubeconfig: "/k/config".into(), context: "kind-x".to_owned() };
        let text = words(&red);
        for wanted in ["`10-ingress` stands in its state `intact`", "export KUBECONFIG=/k/config", "Enter goes on"] {
            assert!(text.contains(wanted), "{text}");
        }
        let without = words(&RedState { kubeconfig: Default::default(), ..red });
        assert!(without.contains("kubectl --context kind-x"), "{without}");
    }
}
