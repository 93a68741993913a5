//! Running what was read.

use std::future::Future;
use std::pin::Pin;

use super::super::streams::{Out, pipe};
use super::super::{In, Streams, tools};
use super::expand::Broken;
use super::syntax::{AndOr, Command, Item, List, Pipeline, Redirect, Simple, Target};
use super::{Flow, Job, Shell, builtins};

/// The exit code of a program that was ended because nobody reads what it writes: 128 and SIGPIPE.
pub(super) const NOBODY_READS: i32 = 141;

type Running<'a> = Pin<Box<dyn Future<Output = Flow> + Send + 'a>>;

impl Shell {
    pub(super) fn list<'a>(&'a mut self, list: &'a List, streams: &'a Streams) -> Running<'a> {
        Box::pin(async move {
            for item in &list.0 {
                let flow = self.item(item, streams).await;
                match flow {
                    Flow::Done(status) => self.status = status,
                    other => return other,
                }
                // A loop that does nothing else must not keep others from running.
                tokio::task::yield_now().await;
            }
            Flow::Done(self.status)
        })
    }

    async fn item(&mut self, item: &Item, streams: &Streams) -> Flow {
        if !item.background {
            return self.and_or(&item.and_or, streams).await;
        }
        let mut inner = self.fork();
        let and_or = item.and_or.clone();
        // What runs in the background has nothing to read (POSIX, "Asynchronous Lists").
        let streams = Streams { stdin: In::empty(), ..streams.clone() };
        let id = self.next_process();
        let work: Pin<Box<dyn Future<Output = i32> + Send>> = Box::pin(async move {
            match inner.and_or(&and_or, &streams).await {
                Flow::Exit(code) | Flow::Done(code) => code,
                _ => inner.status,
            }
        });
        self.jobs.push(Job { id, task: tokio::spawn(work) });
        self.last_background = Some(id);
        Flow::Done(0)
    }

    async fn and_or(&mut self, and_or: &AndOr, streams: &Streams) -> Flow {
        let is_condition = !and_or.rest.is_empty();
        let mut flow = self.pipeline(&and_or.first, streams, is_condition).await;
        let count = and_or.rest.len();
        for (at, (and, pipeline)) in and_or.rest.iter().enumerate() {
            let Flow::Done(status) = flow else { return flow };
            self.status = status;
            if *and == (status == 0) {
                flow = self.pipeline(pipeline, streams, at + 1 < count).await;
            }
        }
        flow
    }

    async fn pipeline(&mut self, pipeline: &Pipeline, streams: &Streams, is_condition: bool) -> Flow {
        let counts = !is_condition && !pipeline.negated;
        if !counts {
            self.conditions += 1;
        }
        let flow = match pipeline.commands.as_slice() {
            [only] => self.command(only, streams).await,
            commands => Flow::Done(self.joined(commands, streams).await),
        };
        if !counts {
            self.conditions -= 1;
        }
        match flow {
            Flow::Done(status) if pipeline.negated => Flow::Done(i32::from(status == 0)),
            Flow::Done(status) if status != 0 && counts && self.exit_on_error && self.conditions == 0 => Flow::Exit(status),
            other => other,
        }
    }

    /// Commands side by side, each reading what the one before writes. The last one's end is the end of all.
    async fn joined(&mut self, commands: &[Command], streams: &Streams) -> i32 {
        let mut input = streams.stdin.clone();
        let mut others = Vec::new();
        for (at, command) in commands.iter().enumerate() {
            let mut shell = self.fork();
            let command = command.clone();
            let is_last = at + 1 == commands.len();
            let (out, next) = if is_last { (streams.stdout.clone(), In::empty()) } else { pipe() };
            let own = Streams { stdin: std::mem::replace(&mut input, next), stdout: out, stderr: streams.stderr.clone() };
            let work: Pin<Box<dyn Future<Output = i32> + Send>> = Box::pin(async move {
                let code = match shell.command(&command, &own).await {
                    Flow::Exit(code) | Flow::Done(code) => code,
                    _ => shell.status,
                };
                if at > 0 {
                    own.stdin.close().await;
                }
                code
            });
            if is_last {
                let code = work.await;
                drop(others);
                return code;
            }
            others.push(Job { id: 0, task: tokio::spawn(work) });
        }
        0
    }

    fn command<'a>(&'a mut self, command: &'a Command, streams: &'a Streams) -> Running<'a> {
        Box::pin(async move {
            match command {
                Command::Simple(simple) => self.simple(simple, streams).await,
                Command::Group(list) => self.list(list, streams).await,
                Command::Subshell(list) => {
                    let mut inner = self.fork();
                    match inner.list(list, streams).await {
                        Flow::Exit(code) | Flow::Done(code) => Flow::Done(code),
                        _ => Flow::Done(inner.status),
                    }
                }
                Command::If { branches, otherwise } => self.conditional(branches, otherwise.as_ref(), streams).await,
                Command::For { name, words, body } => {
                    let mut values = Vec::new();
                    match words {
                        None => values.clone_from(&self.positional),
                        Some(words) => {
                            for word in words {
                                match self.fields(word, streams).await {
                                    Ok(fields) => values.extend(fields),
                                    Err(Broken(why)) => return self.broken(streams, &why),
                                }
                            }
                        }
                    }
                    self.status = 0;
                    for value in values {
                        self.set(name, value);
                        if let Some(flow) = after_turn(self.list(body, streams).await) {
                            return flow;
                        }
                    }
                    Flow::Done(self.status)
                }
                Command::Loop { until, condition, body } => {
                    let mut last = 0;
                    loop {
                        match self.condition(condition, streams).await {
                            Flow::Done(status) if (status == 0) != *until => {}
                            Flow::Done(_) => return Flow::Done(last),
                            other => return other,
                        }
                        if let Some(flow) = after_turn(self.list(body, streams).await) {
                            return flow;
                        }
                        last = self.status;
                        tokio::task::yield_now().await;
                    }
                }
                Command::Redirected(inner, redirects) => match self.redirect(redirects, false, streams).await {
                    Ok(streams) => self.command(inner, &streams).await,
                    Err(Broken(why)) => {
                        self.complain(streams, &why);
                        Flow::Done(1)
                    }
                },
            }
        })
    }

    async fn condition(&mut self, list: &List, streams: &Streams) -> Flow {
        self.conditions += 1;
        let flow = self.list(list, streams).await;
        self.conditions -= 1;
        flow
    }

    async fn conditional(&mut self, branches: &[(List, List)], otherwise: Option<&List>, streams: &Streams) -> Flow {
        for (condition, body) in branches {
            match self.condition(condition, streams).await {
                Flow::Done(0) => return self.list(body, streams).await,
                Flow::Done(_) => {}
                other => return other,
            }
        }
        match otherwise {
            Some(body) => self.list(body, streams).await,
            None => Flow::Done(0),
        }
    }

    /// A word that cannot be expanded ends a shell that is not spoken to (POSIX, "Consequences of Shell Errors").
    fn broken(&self, streams: &Streams, why: &str) -> Flow {
        self.complain(streams, why);
        Flow::Exit(2)
    }

    async fn simple(&mut self, simple: &Simple, streams: &Streams) -> Flow {
        let mut words = Vec::new();
        let before = self.status;
        self.status = 0;
        for word in &simple.words {
            // `$?` within the words is that of what ran before.
            self.status = before;
            match self.fields(word, streams).await {
                Ok(fields) => words.extend(fields),
                Err(Broken(why)) => return self.broken(streams, &why),
            }
        }
        if !simple.words.is_empty() {
            self.status = before;
        }
        let mut own = Vec::new();
        for (name, word) in &simple.assignments {
            match self.one(word, streams).await {
                Ok(value) => own.push((name.clone(), value)),
                Err(Broken(why)) => return self.broken(streams, &why),
            }
        }
        // What `exec` alone opens stays open.
        let lasting = words.len() == 1 && words.first().is_some_and(|name| name == "exec");
        let redirected = match self.redirect(&simple.redirects, lasting, streams).await {
            Ok(streams) => streams,
            Err(Broken(why)) => {
                self.complain(streams, &why);
                return Flow::Done(1);
            }
        };
        if self.trace {
            let shown: Vec<String> = own.iter().map(|(n, v)| format!("{n}={v}")).chain(words.iter().cloned()).collect();
            streams.stderr.line(&format!("+ {}", shown.join(" ")));
        }
        let Some((name, args)) = words.split_first() else {
            for (name, value) in own {
                self.set(&name, value);
            }
            // Of `x=$(false)` the command within counts.
            return Flow::Done(self.status);
        };
        if let Some(flow) = builtins::run(self, name, args, &own, &redirected).await {
            return flow;
        }
        self.external(name, args, &own, &redirected).await
    }

    pub(super) async fn external(&mut self, name: &str, args: &[String], own: &[(String, String)], streams: &Streams) -> Flow {
        let mut container = self.container.clone();
        container.env = self.environment(own);
        let mut command = vec![name.to_owned()];
        command.extend_from_slice(args);
        match tools::run(&container, &command, streams).await {
            Some(NOBODY_READS) => Flow::Exit(NOBODY_READS),
            Some(code) => Flow::Done(code),
            None => {
                self.complain(streams, &format!("{name}: not found"));
                Flow::Done(127)
            }
        }
    }

    async fn redirect(&mut self, redirects: &[Redirect], lasting: bool, streams: &Streams) -> Result<Streams, Broken> {
        let mut out = streams.clone();
        for redirect in redirects {
            let number = redirect.descriptor;
            if number > 2 && !lasting {
                return Err(Broken(format!("file descriptor {number} but by exec: this simulated shell does not have it")));
            }
            match &redirect.target {
                Target::Both(word) => {
                    let path = self.one(word, streams).await?;
                    // Writing goes on where reading stopped, which is the end only of a file that has nothing.
                    if self.container.files.read(&path).is_ok_and(|data| !data.is_empty()) {
                        return Err(Broken(format!("{number}<> of a file that is not empty: this simulated shell does not have it")));
                    }
                    self.container.files.open(number, &path).map_err(|error| Broken(format!("can't create {path}: {error}")))?;
                }
                Target::Closed if number > 2 => self.container.files.close(number),
                Target::Descriptor(from) if *from > 2 => {
                    let (files, path) = (self.container.files.clone(), format!("/proc/self/fd/{from}"));
                    if files.read(&path).is_err() {
                        return Err(Broken(format!("{from}: Bad file descriptor")));
                    }
                    let to = Out::new(move |bytes| files.write(&path, bytes, true).is_ok());
                    if number == 0 {
                        return Err(Broken(format!("<&{from}: this simulated shell does not have it")));
                    }
                    assign(&mut out, number, to);
                }
                Target::Read(word) => {
                    let path = self.one(word, streams).await?;
                    out.stdin = match path.as_str() {
                        "/dev/null" => In::empty(),
                        "/dev/stdin" => out.stdin.clone(),
                        _ => match self.container.files.read(&path) {
                            Ok(data) => In::of(&data),
                            Err(error) => return Err(Broken(format!("can't open {path}: {error}"))),
                        },
                    };
                }
                Target::Write { word, append } => {
                    let path = self.one(word, streams).await?;
                    let to = match path.as_str() {
                        "/dev/null" => Out::null(),
                        "/dev/stdout" | "/proc/1/fd/1" | "/proc/self/fd/1" => out.stdout.clone(),
                        "/dev/stderr" | "/proc/1/fd/2" => out.stderr.clone(),
                        _ => {
                            let files = self.container.files.clone();
                            files.write(&path, b"", *append).map_err(|e| Broken(format!("can't create {path}: {e}")))?;
                            Out::new(move |bytes| files.write(&path, bytes, true).is_ok())
                        }
                    };
                    assign(&mut out, redirect.descriptor, to);
                }
                Target::Descriptor(from) => {
                    let to = if *from == 2 { out.stderr.clone() } else { out.stdout.clone() };
                    if redirect.descriptor != 0 {
                        assign(&mut out, redirect.descriptor, to);
                    }
                }
                Target::Closed if redirect.descriptor == 0 => out.stdin = In::empty(),
                Target::Closed => assign(&mut out, redirect.descriptor, Out::null()),
            }
        }
        Ok(out)
    }
}

fn assign(streams: &mut Streams, descriptor: u32, to: Out) {
    match descriptor {
        2 => streams.stderr = to,
        _ => streams.stdout = to,
    }
}

/// What a turn of a loop means for the loop: None to go on.
fn after_turn(flow: Flow) -> Option<Flow> {
    match flow {
        Flow::Done(_) | Flow::Continue(1) => None,
        Flow::Break(1) => Some(Flow::Done(0)),
        Flow::Break(n) => Some(Flow::Break(n - 1)),
        Flow::Continue(n) => Some(Flow::Continue(n - 1)),
        Flow::Exit(code) => Some(Flow::Exit(code)),
    }
}
