//! The report on disk: a name of its own, written whole or not at all, from the first check on.

use std::borrow::Cow;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gateproof_core::names::ScenarioId;
use gateproof_core::report::{PastRun, RunRecord, file_stem, html, needs_history, note_history, record_json, render};

/// At least so long between two writes while the run goes on.
const PAUSE: Duration = Duration::from_secs(2);
/// And at least so many times as long as the last of them took: all that there is is written anew each time, and a long run
/// would do little else.
const SHARE: u32 = 20;

/// What the page says before there is a first outcome: a run may be killed before that.
const BEGUN: &str = "# Test report: begun\n\nNothing was judged yet. Where no run is going on, it was ended before its first outcome.\n";

/// What the folder's reports say. They may be many and large: they are read aside, while the run begins.
struct Earlier {
    reading: Mutex<Option<JoinHandle<EarlierRuns>>>,
    read: OnceLock<EarlierRuns>,
}

/// Earlier runs on the same provider.
#[derive(Default)]
struct EarlierRuns {
    /// The last one's record.
    previous: Option<RunRecord>,
    /// All of them, the newest first.
    past: Vec<PastRun>,
}

impl Earlier {
    fn read(dir: PathBuf, provider: String) -> Self {
        let read = move || {
            let (newest, past): (Vec<PathBuf>, Vec<PastRun>) = records(&dir, Some(&provider)).into_iter().unzip();
            let previous = newest.iter().find_map(|path| serde_json::from_slice(&fs::read(path).ok()?).ok());
            EarlierRuns { previous, past }
        };
        Self { reading: Mutex::new(Some(std::thread::spawn(read))), read: OnceLock::new() }
    }

    fn get(&self) -> &EarlierRuns {
        self.read.get_or_init(|| {
            let reading = self.reading.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
            reading.and_then(|thread| thread.join().ok()).unwrap_or_default()
        })
    }
}

/// Writes `STEM.md`, `STEM.html` and `STEM.json`.
pub struct Reporter {
    dir: PathBuf,
    stem: String,
    earlier: Earlier,
    /// When the files were last written, and how long that took; held while they are, so that an older record never replaces a
    /// newer one.
    written: Mutex<Option<(Instant, Duration)>>,
    /// Counts the records that were to be written.
    turn: AtomicU64,
}

impl Drop for Reporter {
    /// A run that had nothing to tell leaves no page.
    fn drop(&mut self) {
        if self.written.get_mut().is_ok_and(|at| at.is_none()) {
            let _ = fs::remove_file(self.path());
        }
    }
}

impl Reporter {
    /// Reserves a name that no other report has, also against a run beside this one.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn reserve(dir: &Path, date: &str, provider: &str, scenarios: &[ScenarioId]) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let earlier = Earlier::read(dir.to_owned(), provider.to_owned());
        loop {
            let stem = file_stem(date, provider, scenarios, &|stem| dir.join(format!("{stem}.md")).exists());
            // Created anew, or somebody was faster and the next name is due.
            match OpenOptions::new().write(true).create_new(true).open(dir.join(format!("{stem}.md"))) {
                Ok(mut file) => {
                    file.write_all(BEGUN.as_bytes())?;
                    return Ok(Self { dir: dir.to_owned(), stem, earlier, written: Mutex::new(None), turn: AtomicU64::new(0) });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The Markdown file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.join(format!("{}.md", self.stem))
    }

    /// The name without ending.
    #[must_use]
    pub fn stem(&self) -> &str {
        &self.stem
    }

    /// The name of the folder beside the report in which diagnostics go, where there are any.
    #[must_use]
    pub fn diagnostics(&self) -> String {
        format!("{}-diagnostics", self.stem)
    }

    /// The folder of reports.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether a run that goes on should be written again: not when it just was, or is being written.
    fn is_due(&self) -> bool {
        self.written.try_lock().is_ok_and(|at| at.is_none_or(|(at, took)| at.elapsed() >= PAUSE.max(took * SHARE)))
    }

    /// Writes what there is, where that is due: on a thread of its own, since the run goes on. Only then is `record` asked for.
    pub fn save_aside(this: &Arc<Self>, record: impl FnOnce() -> RunRecord, failed: impl FnOnce(io::Error) + Send + 'static) {
        if !this.is_due() {
            return;
        }
        let record = record();
        let (this, turn) = (this.clone(), this.turn.fetch_add(1, Ordering::SeqCst) + 1);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = this.write_unless_overtaken(&record, turn) {
                failed(error);
            }
        });
    }

    /// Writes into each red or flaky check what the earlier reports of the folder say of it.
    pub fn note_history(&self, record: &mut RunRecord) {
        if needs_history(record) {
            note_history(record, &self.earlier.get().past);
        }
    }

    /// Writes the record and the report.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn write(&self, record: &RunRecord) -> io::Result<()> {
        let turn = self.turn.fetch_add(1, Ordering::SeqCst) + 1;
        self.write_unless_overtaken(record, turn)
    }

    fn write_unless_overtaken(&self, record: &RunRecord, turn: u64) -> io::Result<()> {
        let mut written = self.written.lock().expect("no panic holds this lock");
        if turn < self.turn.load(Ordering::SeqCst) {
            return Ok(());
        }
        let began = Instant::now();
        let mut record = Cow::Borrowed(record);
        if needs_history(&record) {
            self.note_history(record.to_mut());
        }
        let (record, previous) = (&*record, self.earlier.get().previous.as_ref());
        let json = || atomically(&self.dir.join(format!("{}.json", self.stem)), &record_json(record).map_err(io::Error::other)?);
        let markdown = || atomically(&self.path(), &render(record, previous));
        let page = || atomically(&self.dir.join(format!("{}.html", self.stem)), &html(record, previous));
        if record.finished.is_some() {
            // Nothing else is to be done any more.
            std::thread::scope(|scope| {
                let others = [scope.spawn(json), scope.spawn(markdown)];
                let page = page();
                for other in others {
                    other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
                }
                page
            })?;
        } else {
            json()?;
            markdown()?;
            page()?;
        }
        *written = Some((Instant::now(), began.elapsed()));
        Ok(())
    }
}

/// At most so many records are read, by the dates in their names the newest: a folder may have thousands.
const RECORDS: usize = 200;

/// The records of runs that ended, the newest first, of one provider or (where none is named) of the newest one's. What cannot
/// be read, and JSON that is no record, is passed over.
pub(crate) fn records(dir: &Path, provider: Option<&str>) -> Vec<(PathBuf, PastRun)> {
    let files = fs::read_dir(dir).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let files = files.filter(|path| path.extension().is_some_and(|e| e == "json"));
    let written = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
    let date = |path: &Path| path.file_name().map(|name| name.to_string_lossy().chars().take(10).collect::<String>());
    let mut files: Vec<_> = files.map(|path| ((date(&path), written(&path)), path)).collect();
    files.sort_by(|a, b| b.0.cmp(&a.0));
    let mut found: Vec<(PathBuf, PastRun)> = files
        .into_iter()
        .take(RECORDS)
        .filter_map(|(_, path)| {
            let run = PastRun::read(&fs::read(&path).ok()?, provider)?;
            Some((path, run))
        })
        .collect();
    found.sort_by(|a, b| b.1.started.cmp(&a.1.started));
    if let Some(newest) = found.first().map(|(_, run)| run.provider.clone()) {
        found.retain(|(_, run)| run.provider == newest);
    }
    found
}

fn atomically(path: &Path, text: &str) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".gateproof-").permissions(readable()).tempfile_in(dir)?;
    file.write_all(text.as_bytes())?;
    file.persist(path)?;
    Ok(())
}

#[cfg(unix)]
fn readable() -> fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    fs::Permissions::from_mode(0o644)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_an_outcome_leaves_no_empty_page() {
        let dir = tempfile::tempdir().unwrap();
        let reporter = Reporter::reserve(dir.path(), "2026-11-21", "kind", &[]).unwrap();
        let path = reporter.path();
        // Killed now, it leaves a page that says so; ended, none.
        assert!(fs::read_to_string(&path).unwrap().contains("Nothing was judged yet"));
        drop(reporter);
        assert!(!path.exists());
    }

    #[test]
    fn what_takes_long_to_write_is_not_written_again_soon() {
        let dir = tempfile::tempdir().unwrap();
        let reporter = Reporter::reserve(dir.path(), "2026-11-21", "kind", &[]).unwrap();
        assert!(reporter.is_due(), "nothing was written yet");
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        for (since, took, due) in [(1, 0, false), (3, 0, true), (3, 1, false), (19, 1, false), (21, 1, true)] {
            *reporter.written.lock().unwrap() = Some((ago(since), Duration::from_secs(took)));
            assert_eq!(reporter.is_due(), due, "{since} s ago, in {took} s");
        }
    }

    #[test]
    fn records_are_of_one_provider_and_the_newest_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, started: &str, provider: &str, finished: &str| {
            let text = format!(
                r#"{{"schema": 1, "started": "{started}", "finished": {finished}, "provider": {{"name": "{provider}"}}, "scenarios": []}}"#
            );
            fs::write(dir.path().join(name), text).unwrap();
        };
        let ended = r#""2026-11-21T01:00:00Z""#;
        put("2026-11-20-kind-a.json", "2026-11-20T01:00:00Z", "kind", ended);
        put("2026-11-21-kind-a.json", "2026-11-21T01:00:00Z", "kind", ended);
        put("2026-11-21-kind-a-2.json", "2026-11-21T02:00:00Z", "kind", ended);
        put("2026-11-22-kind-a.json", "2026-11-22T01:00:00Z", "kind", "null");
        put("2026-11-22-embedded-a.json", "2026-11-22T03:00:00Z", "embedded", ended);
        fs::write(dir.path().join("record.schema.json"), "{}").unwrap();
        let names = |provider| -> Vec<String> {
            let found = records(dir.path(), provider).into_iter();
            found.map(|(path, _)| path.file_stem().unwrap().to_string_lossy().into_owned()).collect()
        };
        assert_eq!(names(Some("kind")), ["2026-11-21-kind-a-2", "2026-11-21-kind-a", "2026-11-20-kind-a"]);
        assert_eq!(names(None), ["2026-11-22-embedded-a"]);
    }

    #[test]
    fn two_runs_of_a_day_have_two_reports() {
        let dir = tempfile::tempdir().unwrap();
        let ids = [ScenarioId::new("10-ingress").unwrap()];
        let first = Reporter::reserve(dir.path(), "2026-11-21", "kind", &ids).unwrap();
        let second = Reporter::reserve(dir.path(), "2026-11-21", "kind", &ids).unwrap();
        assert_ne!(first.path(), second.path());
        assert!(first.path().exists() && second.path().exists());
    }
}
