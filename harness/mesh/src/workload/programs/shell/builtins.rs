//! Commands that change the shell itself.

use std::pin::Pin;

use super::super::{Streams, tools};
use super::run::NOBODY_READS;
use super::{Flow, Shell, parse};

type Running<'a> = Pin<Box<dyn Future<Output = Option<Flow>> + Send + 'a>>;

/// Runs a command of the shell's own; None when it has none of that name.
pub(super) fn run<'a>(
    shell: &'a mut Shell,
    name: &'a str,
    args: &'a [String],
    own: &'a [(String, String)],
    streams: &'a Streams,
) -> Running<'a> {
    Box::pin(async move {
        let first = args.first().map(String::as_str);
        let number = |or: i32| first.map_or(Some(or), |n| n.parse::<i32>().ok());
        let done = match name {
            ":" | "true" => 0,
            "false" => 1,
            "echo" => {
                if !streams.stdout.write(tools::echo(args)) {
                    return Some(Flow::Exit(NOBODY_READS));
                }
                0
            }
            "exit" => return Some(Flow::Exit(number(shell.status).unwrap_or(2))),
            "return" => return Some(Flow::Exit(number(shell.status).unwrap_or(2))),
            "break" | "continue" => {
                let count = number(1).and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0).unwrap_or(1);
                return Some(if name == "break" { Flow::Break(count) } else { Flow::Continue(count) });
            }
            "cd" => change_directory(shell, first, streams),
            "pwd" => {
                streams.stdout.line(&shell.container.files.directory());
                0
            }
            "export" | "readonly" | "local" => declare(shell, args, name == "export"),
            "unset" => {
                for name in args.iter().filter(|a| !a.starts_with('-')) {
                    shell.variables.remove(name);
                    shell.exported.remove(name);
                }
                0
            }
            "set" => set(shell, args, streams),
            "shift" => {
                let count = number(1).and_then(|n| usize::try_from(n).ok()).unwrap_or(1);
                let known = shell.positional.len();
                shell.positional.drain(..count.min(known));
                i32::from(count > known)
            }
            "eval" | "." | "source" => {
                let text = if name == "eval" {
                    args.join(" ")
                } else {
                    match shell.container.files.read(first.unwrap_or_default()) {
                        Ok(data) => String::from_utf8_lossy(&data).into_owned(),
                        Err(error) => {
                            shell.complain(streams, &format!("can't open '{}': {error}", first.unwrap_or_default()));
                            return Some(Flow::Exit(2));
                        }
                    }
                };
                match parse::parse(&text) {
                    Ok(list) => return Some(shell.list(&list, streams).await),
                    Err(error) => {
                        shell.complain(streams, &error.0);
                        return Some(Flow::Exit(2));
                    }
                }
            }
            "exec" => match args.split_first() {
                None => 0,
                Some((name, args)) => {
                    let flow = shell.external(name, args, own, streams).await;
                    return Some(match flow {
                        Flow::Done(code) => Flow::Exit(code),
                        other => other,
                    });
                }
            },
            "command" | "type" if matches!(first, Some("-v")) || name == "type" => {
                let wanted = if name == "type" { first } else { args.get(1).map(String::as_str) }.unwrap_or_default();
                if is_own(wanted) {
                    streams.stdout.line(wanted);
                    0
                } else if let Some(path) = tools::path(&shell.container, wanted) {
                    streams.stdout.line(&path);
                    0
                } else {
                    127
                }
            }
            "command" => match args.split_first() {
                None => 0,
                Some((name, args)) => match run(shell, name, args, own, streams).await {
                    Some(flow) => return Some(flow),
                    None => return Some(shell.external(name, args, own, streams).await),
                },
            },
            "read" => {
                let line = streams.stdin.read_line().await;
                let names: Vec<&String> = args.iter().filter(|a| !a.starts_with('-')).collect();
                let text = line.as_ref().map(|l| String::from_utf8_lossy(l).trim_end_matches('\n').trim().to_owned()).unwrap_or_default();
                let mut rest = text.as_str();
                for (at, name) in names.iter().enumerate() {
                    let (value, after) =
                        if at + 1 == names.len() { (rest, "") } else { rest.split_once(char::is_whitespace).unwrap_or((rest, "")) };
                    shell.set(name, value.to_owned());
                    rest = after.trim_start();
                }
                i32::from(!line.is_some_and(|l| l.ends_with(b"\n")))
            }
            "trap" => {
                // Nobody sends a program here a signal; what is trapped at the end is run at the end.
                if args.iter().skip(1).any(|s| s == "EXIT" || s == "0") {
                    shell.exit_trap = first.filter(|t| *t != "-" && !t.is_empty()).map(str::to_owned);
                }
                0
            }
            "wait" => wait(shell, args).await,
            "kill" => kill(shell, args, streams),
            // Everybody may do everything here, so nothing is masked.
            "umask" if args.len() == 1 && first.is_some_and(|mask| mask.bytes().all(|digit| (b'0'..=b'7').contains(&digit))) => 0,
            "umask" | "ulimit" | "jobs" | "hash" | "alias" => {
                shell.complain(streams, &format!("{name}: this simulated shell does not have it"));
                2
            }
            _ => return None,
        };
        Some(Flow::Done(done))
    })
}

fn is_own(name: &str) -> bool {
    const OWN: &[&str] = &[
        ":", "cd", "export", "unset", "set", "shift", "eval", ".", "exec", "command", "type", "read", "trap", "wait", "exit", "break",
        "continue", "return",
    ];
    OWN.contains(&name)
}

fn change_directory(shell: &mut Shell, to: Option<&str>, streams: &Streams) -> i32 {
    let to = to.map_or_else(|| shell.lookup("HOME").unwrap_or_else(|| "/".to_owned()), str::to_owned);
    if !shell.container.files.is_directory(&to) {
        shell.complain(streams, &format!("cd: can't cd to {to}: No such file or directory"));
        return 2;
    }
    shell.container.files = shell.container.files.at(&to);
    let directory = shell.container.files.directory();
    shell.set("PWD", directory);
    0
}

fn declare(shell: &mut Shell, args: &[String], export: bool) -> i32 {
    for argument in args.iter().filter(|a| !a.starts_with('-')) {
        let (name, value) = argument.split_once('=').map_or((argument.as_str(), None), |(n, v)| (n, Some(v)));
        if let Some(value) = value {
            shell.set(name, value.to_owned());
        }
        if export {
            shell.exported.insert(name.to_owned());
        }
    }
    0
}

fn set(shell: &mut Shell, args: &[String], streams: &Streams) -> i32 {
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let on = word.starts_with('-');
        if word == "--" {
            shell.positional = words.cloned().collect();
            return 0;
        }
        if !on && !word.starts_with('+') {
            shell.positional = std::iter::once(word).chain(words).cloned().collect();
            return 0;
        }
        for letter in word.chars().skip(1) {
            match letter {
                'e' => shell.exit_on_error = on,
                'u' => shell.unset_is_error = on,
                'x' => shell.trace = on,
                'o' => {
                    let option = words.next().map(String::as_str).unwrap_or_default();
                    match option {
                        "errexit" => shell.exit_on_error = on,
                        "nounset" => shell.unset_is_error = on,
                        "xtrace" => shell.trace = on,
                        other => {
                            shell.complain(streams, &format!("set: -o {other}: this simulated shell does not have it"));
                            return 2;
                        }
                    }
                }
                other => {
                    shell.complain(streams, &format!("set: -{other}: this simulated shell does not have it"));
                    return 2;
                }
            }
        }
    }
    0
}

async fn wait(shell: &mut Shell, args: &[String]) -> i32 {
    if args.is_empty() {
        for mut job in std::mem::take(&mut shell.jobs) {
            let _ = (&mut job.task).await;
        }
        return 0;
    }
    let mut code = 0;
    for id in args {
        let at = shell.jobs.iter().position(|j| j.id.to_string() == *id);
        code = match at {
            None => 127,
            // 143: ended by SIGTERM.
            Some(at) => (&mut shell.jobs.remove(at).task).await.unwrap_or(143),
        };
    }
    code
}

fn kill(shell: &mut Shell, args: &[String], streams: &Streams) -> i32 {
    let mut code = 0;
    for id in args.iter().filter(|a| !a.starts_with('-')) {
        match shell.jobs.iter().find(|j| j.id.to_string() == *id) {
            Some(job) => job.task.abort(),
            None => {
                shell.complain(streams, &format!("can't kill pid {id}: No such process"));
                code = 1;
            }
        }
    }
    code
}
