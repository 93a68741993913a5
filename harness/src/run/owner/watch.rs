//! A process that is waited for without being its parent.

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// A process, told from a later one of the same pid by when it started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// Its pid.
    pub pid: u32,
    /// Clock ticks from boot to its start; None where the system has no `/proc`.
    pub started: Option<u64>,
}

impl Watched {
    /// The process that has this pid now.
    #[must_use]
    pub fn of(pid: u32) -> Self {
        Self { pid, started: stat(pid).map(|s| s.started) }
    }

    /// nextest, seen from one of its tests: the nearest ancestor that is not itself within the run. A wrapper that nextest
    /// was told to start tests with is within it, and gone when its test is.
    #[must_use]
    pub fn nextest(run: &str) -> Self {
        let variable = format!("NEXTEST_RUN_ID={run}");
        let within = |pid: u32| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|b| *b == 0).any(|entry| entry == variable.as_bytes())
        };
        Self::of(outermost(std::os::unix::process::parent_id(), within, |pid| stat(pid).map(|s| s.parent)))
    }

    /// Whether it still runs. One that has ended and that nobody has waited for does not.
    #[must_use]
    pub fn is_there(&self) -> bool {
        match (stat(self.pid), self.started) {
            (Some(stat), Some(started)) => stat.started == started && !stat.ended,
            (None, Some(_)) => false,
            (_, None) => i32::try_from(self.pid).is_ok_and(|pid| kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH)),
        }
    }

    /// Comes back when it is gone.
    pub async fn gone(&self) {
        while self.is_there() {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
}

fn outermost(mut pid: u32, within: impl Fn(u32) -> bool, parent: impl Fn(u32) -> Option<u32>) -> u32 {
    while within(pid) {
        match parent(pid) {
            Some(next) if next > 0 => pid = next,
            _ => break,
        }
    }
    pid
}

#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    started: u64,
    ended: bool,
}

fn stat(pid: u32) -> Option<Stat> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Fields 3, 4 and 22 of `/proc/PID/stat`. The second is the command in parentheses, with whatever characters it has.
fn parse(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_ascii_whitespace().collect();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
        ended: matches!(fields.first(), Some(&("Z" | "X" | "x"))),
    })
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn a_stat_line_is_read_past_a_command_with_parentheses() {
        let line = "42 (a) b) R) S 7 42 42 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 987654 1 1\n";
        assert_eq!(parse(line), Some(Stat { parent: 7, started: 987_654, ended: false }));
        assert_eq!(parse(&line.replace(") S 7", ") Z 7")).map(|s| s.ended), Some(true));
        assert_eq!(parse("42 (a"), None);
    }

    #[test]
    fn a_pid_that_is_used_again_is_another_process() {
        let me = Watched::of(std::process::id());
        assert!(me.is_there());
        if let Some(started) = me.started {
            assert!(!Watched { started: Some(started + 1), ..me }.is_there());
        }
    }

    #[test]
    fn a_wrapper_around_the_test_is_not_nextest() {
        let parents = |pid: u32| [(9, 8), (8, 5), (5, 1)].into_iter().find(|(p, _)| *p == pid).map(|(_, parent)| parent);
        assert_eq!(outermost(9, |pid| pid > 5, parents), 5);
        assert_eq!(outermost(5, |pid| pid > 5, parents), 5);
    }
}
