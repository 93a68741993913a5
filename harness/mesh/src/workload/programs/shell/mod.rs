//! A small POSIX shell: enough for what people write after `sh -c`. What it does not have it refuses by name.

mod arithmetic;
mod builtins;
mod expand;
mod parse;
mod run;
mod syntax;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::task::JoinHandle;

use super::{Container, Streams};

/// A command that runs beside the shell. It ends with the shell.
struct Job {
    id: u32,
    task: JoinHandle<i32>,
}

impl Drop for Job {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a shell knows.
struct Shell {
    container: Container,
    variables: BTreeMap<String, String>,
    exported: BTreeSet<String>,
    name: String,
    positional: Vec<String>,
    status: i32,
    exit_on_error: bool,
    unset_is_error: bool,
    trace: bool,
    /// How many conditions surround what runs: `-e` does not count there.
    conditions: usize,
    jobs: Vec<Job>,
    last_background: Option<u32>,
    exit_trap: Option<String>,
    /// Numbers for processes, the same for all shells of one program.
    processes: Arc<AtomicU32>,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Done(i32),
    Exit(i32),
    Break(usize),
    Continue(usize),
}

/// Runs `sh` with these arguments. Gives the exit code.
pub(super) async fn run(container: &Container, args: &[String], streams: &Streams) -> i32 {
    let mut flags = String::new();
    let mut words = args.iter().peekable();
    while let Some(word) = words.next_if(|w| w.len() > 1 && (w.starts_with('-') || w.starts_with('+'))) {
        if word == "--" {
            break;
        }
        if let Some(long) = word.strip_prefix("--") {
            // bash's --login, --norc and the like change nothing here.
            tracing::debug!(long, "a shell's long option");
            continue;
        }
        flags.push_str(word.trim_start_matches('-'));
    }
    if let Some(unknown) = flags.chars().find(|c| !"ceuxlimp".contains(*c)) {
        streams.stderr.line(&format!("sh: -{unknown}: this simulated shell does not have it"));
        return 2;
    }
    let program;
    let mut name = "sh".to_owned();
    if flags.contains('c') {
        let Some(text) = words.next() else {
            streams.stderr.line("sh: -c requires an argument");
            return 2;
        };
        program = text.clone();
        if let Some(given) = words.next() {
            name.clone_from(given);
        }
    } else if let Some(path) = words.next() {
        name.clone_from(path);
        match container.files.read(path) {
            Ok(data) => program = String::from_utf8_lossy(&data).into_owned(),
            Err(error) => {
                streams.stderr.line(&format!("sh: can't open '{path}': {error}"));
                return 2;
            }
        }
    } else {
        program = String::from_utf8_lossy(&streams.stdin.read_all().await).into_owned();
    }
    let mut shell = Shell {
        container: Container { files: container.files.of_new_process(), ..container.clone() },
        variables: container.env.clone(),
        exported: container.env.keys().cloned().collect(),
        name,
        positional: words.cloned().collect(),
        status: 0,
        exit_on_error: flags.contains('e'),
        unset_is_error: flags.contains('u'),
        trace: flags.contains('x'),
        conditions: 0,
        jobs: Vec::new(),
        last_background: None,
        exit_trap: None,
        processes: Arc::new(AtomicU32::new(10)),
    };
    shell.variables.entry("PWD".to_owned()).or_insert_with(|| container.files.directory());
    shell.program(&program, streams).await
}

impl Shell {
    /// Runs a text to its end, and what is trapped then.
    async fn program(&mut self, text: &str, streams: &Streams) -> i32 {
        let list = match parse::parse(text) {
            Ok(list) => list,
            Err(error) => {
                streams.stderr.line(&format!("{}: {}", self.name, error.0));
                return 2;
            }
        };
        let flow = self.list(&list, streams).await;
        let code = match flow {
            Flow::Exit(code) => code,
            _ => self.status,
        };
        if let Some(trap) = self.exit_trap.take()
            && let Ok(list) = parse::parse(&trap)
        {
            self.status = code;
            if let Flow::Exit(code) = self.list(&list, streams).await {
                return code & 0xff;
            }
        }
        code & 0xff
    }

    fn next_process(&self) -> u32 {
        self.processes.fetch_add(1, Ordering::Relaxed)
    }

    /// A shell of its own that begins as this one is.
    fn fork(&self) -> Self {
        Self {
            container: Container { files: self.container.files.of_new_process(), ..self.container.clone() },
            variables: self.variables.clone(),
            exported: self.exported.clone(),
            name: self.name.clone(),
            positional: self.positional.clone(),
            status: self.status,
            exit_on_error: self.exit_on_error,
            unset_is_error: self.unset_is_error,
            trace: self.trace,
            conditions: self.conditions,
            jobs: Vec::new(),
            last_background: self.last_background,
            exit_trap: None,
            processes: self.processes.clone(),
        }
    }

    fn complain(&self, streams: &Streams, words: &str) {
        streams.stderr.line(&format!("{}: {words}", self.name));
    }
}

#[cfg(test)]
mod tests;
