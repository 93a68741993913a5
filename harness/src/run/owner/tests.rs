//! The owner with a runner that needs no cluster, asked over a real socket by several clients at once.

use std::collections::BTreeSet;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gateproof_core::names::ScenarioId;
use gateproof_core::outcome::Outcome;
use gateproof_core::report::CheckRecord;
use tokio::net::UnixListener;

use super::client::{connect, converse};
use super::place::Place;
use super::*;
use crate::run::{Event, Listener};

const CHECKS: [&str; 5] = ["s::a", "s::b", "s::c", "s::fails", "s::never"];

/// Takes a moment for each batch, which it remembers.
struct Fake {
    desk: Arc<Desk>,
    batches: Arc<Mutex<Vec<BTreeSet<String>>>>,
}

impl Runner for Fake {
    async fn run(&mut self, asked: &BTreeSet<String>) -> Result<BTreeSet<String>, Refusal> {
        self.batches.lock().unwrap().push(asked.clone());
        tokio::time::sleep(Duration::from_millis(50)).await;
        if asked.contains("s::fails") {
            return Err(Refusal { reason: "no engine".to_owned(), exit: 3 });
        }
        if asked.contains("s::never") {
            std::future::pending::<()>().await;
        }
        for name in asked.iter().filter(|name| *name != "s::c") {
            let record = record(name.trim_start_matches("s::"));
            self.desk.on(&Event::CheckFinished(ScenarioId::new("s").unwrap(), Box::new(record)));
        }
        Ok(asked.clone())
    }
}

fn record(name: &str) -> CheckRecord {
    CheckRecord {
        name: name.to_owned(),
        proves: String::new(),
        given: "intact".to_owned(),
        command: "true".to_owned(),
        expected: vec![],
        observed: vec!["two\nlines".to_owned()],
        answer: None,
        outcome: Outcome::Passed,
        quarantined: None,
        history: None,
        attempts: vec![],
        took: 0.0,
        hops: vec![],
        caller: None,
        destination: None,
        evidence: vec![],
        diagnosis: vec![],
        cause: None,
    }
}

struct Running {
    dir: tempfile::TempDir,
    batches: Arc<Mutex<Vec<BTreeSet<String>>>>,
    owner: std::thread::JoinHandle<Ending>,
    stop: Option<tokio::sync::oneshot::Sender<String>>,
}

impl Running {
    fn start() -> Self {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        Self { stop: Some(stop), ..Self::until(async { stopped.await.unwrap_or_default() }) }
    }

    fn until(end: impl Future<Output = String> + Send + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let batches: Arc<Mutex<Vec<BTreeSet<String>>>> = Arc::default();
        let (path, seen) = (dir.path().join("sock"), batches.clone());
        let (ready, is_ready) = std::sync::mpsc::channel();
        let owner = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let desk = Arc::new(Desk::new(CHECKS.map(str::to_owned)));
                desk.reported(PathBuf::from("report.md"));
                let socket = UnixListener::bind(path).unwrap();
                ready.send(()).unwrap();
                let mut runner = Fake { desk: desk.clone(), batches: seen };
                serve(socket, Path::new("log"), &desk, &mut runner, Duration::from_millis(60), end).await
            })
        });
        is_ready.recv().unwrap();
        Self { dir, batches, owner, stop: None }
    }

    fn connect(&self) -> UnixStream {
        UnixStream::connect(self.dir.path().join("sock")).unwrap()
    }

    fn ask(&self, check: &str) -> Result<Reply, AskError> {
        converse(self.connect(), check, Path::new("log"), &|_| {})
    }

    fn stop(mut self) -> Ending {
        self.stop.take().unwrap().send("told to".to_owned()).unwrap();
        self.owner.join().unwrap()
    }
}

fn passed(reply: &Result<Reply, AskError>, name: &str) -> bool {
    matches!(reply, Ok(Reply::Outcome(record, Some(report))) if record.name == name && report == Path::new("report.md"))
}

fn refused(reply: Result<Reply, AskError>) -> Refusal {
    match reply {
        Ok(Reply::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_asked_together_is_carried_out_together_and_once() {
    let running = Running::start();
    std::thread::scope(|scope| {
        let running = &running;
        let asked = ["a", "b", "a"].map(|name| (name, scope.spawn(move || running.ask(&format!("s::{name}")))));
        for (name, reply) in asked {
            assert!(passed(&reply.join().unwrap(), name));
        }
    });
    assert!(passed(&running.ask("s::a"), "a"), "asked again, it is answered from its record");
    assert_eq!(*running.batches.lock().unwrap(), [["s::a", "s::b"].map(str::to_owned).into()]);
    assert_eq!(running.stop(), Ending { why: "told to".to_owned(), unfinished: BTreeSet::new() });
}

#[test]
fn a_check_without_outcome_is_told_so() {
    let running = Running::start();
    assert!(refused(running.ask("s::c")).reason.contains("bug"));
    assert_eq!(refused(running.ask("s::nobody")).exit, crate::cli::EXIT_INPUT);
    assert!(passed(&running.ask("s::a"), "a"), "the others go on");
}

#[test]
fn a_cluster_that_cannot_be_had_is_told_to_all_and_tried_once() {
    let running = Running::start();
    let why = Refusal { reason: "no engine".to_owned(), exit: 3 };
    assert_eq!(refused(running.ask("s::fails")), why);
    assert_eq!(refused(running.ask("s::b")), why);
    assert_eq!(running.batches.lock().unwrap().len(), 1);
}

#[test]
fn whoever_waits_at_the_end_is_told_why() {
    let running = Running::start();
    let mut stream = running.connect();
    protocol::write_line(&mut stream, &Request { check: "s::never".to_owned() }).unwrap();
    while running.batches.lock().unwrap().is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let waits = std::thread::spawn(move || {
        let mut reader = std::io::BufReader::new(stream);
        let welcome: Option<Answer> = protocol::read_line(&mut reader).unwrap();
        (welcome, protocol::read_line::<Answer>(&mut reader).unwrap())
    });
    assert_eq!(running.stop(), Ending { why: "told to".to_owned(), unfinished: ["s::never".to_owned()].into() });
    let (welcome, answer) = waits.join().unwrap();
    assert!(matches!(welcome, Some(Answer::Welcome { pid, .. }) if pid == std::process::id()));
    assert!(matches!(answer, Some(Answer::Refused(refusal)) if refusal.reason == "told to"));
}

#[test]
fn what_nobody_waits_for_any_more_is_not_begun() {
    let running = Running::start();
    let mut stream = running.connect();
    protocol::write_line(&mut stream, &Request { check: "s::b".to_owned() }).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    drop(stream);
    std::thread::sleep(Duration::from_millis(200));
    assert!(running.batches.lock().unwrap().is_empty());
    assert_eq!(running.stop().unfinished, ["s::b".to_owned()].into());
}

#[test]
fn an_owner_that_dies_is_told_from_one_that_answers() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let owner = std::thread::spawn(move || {
        let welcome = Answer::Welcome { pid: 4711, log: PathBuf::from("owner.log") };
        protocol::write_line(&mut &theirs, &welcome).unwrap();
        use std::io::Write;
        (&theirs).write_all(b"{\"outcome\":{\"rec").unwrap();
    });
    let said = Mutex::new(String::new());
    let error = converse(ours, "s::a", Path::new("owner.log"), &|text| said.lock().unwrap().push_str(text)).unwrap_err();
    owner.join().unwrap();
    assert!(matches!(error, AskError::Died { pid: 4711, .. }), "{error}");
    assert!(error.to_string().contains("owner.log") && said.lock().unwrap().contains("owner.log"));
}

#[test]
fn the_end_of_the_watched_process_is_the_end() {
    let mut nextest = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let watched = Watched::of(nextest.id());
    let running = Running::until(async move {
        watched.gone().await;
        "gone".to_owned()
    });
    assert!(passed(&running.ask("s::a"), "a"));
    nextest.kill().unwrap();
    // Nobody has waited for it yet: it is there as a zombie, and has ended all the same.
    let began = Instant::now();
    if cfg!(target_os = "linux") {
        assert_eq!(running.owner.join().unwrap(), Ending { why: "gone".to_owned(), unfinished: BTreeSet::new() });
        assert!(began.elapsed() < Duration::from_secs(5));
    }
    nextest.wait().unwrap();
}

#[test]
fn of_many_that_find_no_owner_one_starts_it() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::within(dir.path(), "run").unwrap();
    let starts = AtomicUsize::new(0);
    let start = |lock: std::fs::File| {
        starts.fetch_add(1, Ordering::SeqCst);
        let socket = place.socket.clone();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
            let connections: Vec<_> = listener.incoming().take(4).collect();
            drop((connections, lock));
        });
        std::process::Command::new("sleep").arg("1").spawn()
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..4).map(|_| scope.spawn(|| connect(&place, &start).is_ok())).collect();
        assert!(all.into_iter().all(|connected| connected.join().unwrap()));
    });
    assert_eq!(starts.into_inner(), 1);
}

#[test]
fn a_run_whose_owner_died_gets_no_second_one() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::within(dir.path(), "run").unwrap();
    let mut lock = place.try_lock().unwrap().unwrap();
    place::leave(&mut lock, &place::Word { owner: 4711, watched: Watched::of(1) }).unwrap();
    drop(lock);
    let error = connect(&place, &|_| panic!("started")).unwrap_err();
    assert!(matches!(error, AskError::Died { pid: 4711, .. }), "{error}");
}
