//! `watch`: a saved file runs what it touches, at once, on the simulated mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anstream::{eprintln, println};
use gateproof_core::names::ScenarioId;
use gateproof_core::plan::{Plan, plan};
use gateproof_core::report::{RunRecord, Tally, summary};
use gateproof_core::scenario::{Catalogue, ValueOverrides, load_catalogue_with};

use super::run::{ProvideFlags, options};
use super::{Common, EXIT_GREEN, EXIT_INPUT, on_runtime};
use crate::provider::Choice;
use crate::run::drive::{drive, unless_interrupted};
use crate::run::event::Deaf;
use crate::run::trials::trial_name;
use crate::run::{SessionError, SessionOptions};

/// How often the folder is looked at. An editor that saves writes several times: a save is over when two looks see the same.
const PAUSE: Duration = Duration::from_millis(120);
/// Folders below one another that are looked into, as the loader does.
const DEPTH: usize = 16;

/// Every file below the folder, with its size and the time of its last change.
type Look = BTreeMap<PathBuf, (u64, Option<SystemTime>)>;

/// Flags of `watch`.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct WatchFlags {
    /// Parts of check names; all checks when there is none
    filters: Vec<String>,
    /// Keep the reports of the runs in this folder; without it none is kept
    #[arg(long)]
    reports: Option<PathBuf>,
    #[command(flatten)]
    provide: ProvideFlags,
}

/// What one save led to.
#[derive(Debug)]
pub(super) enum Cycle {
    /// The files belong to no scenario, or no selected check is touched.
    Nothing,
    /// What was touched has mistakes, rendered for people; nothing was run.
    Mistakes(Vec<String>),
    /// It was run.
    Ran(Box<RunRecord>),
    /// A signal ended the run.
    Interrupted,
}

/// Watches and runs until it is interrupted.
pub(super) fn watch(common: &Common, flags: &WatchFlags) -> u8 {
    let answer = || -> Result<u8, u8> {
        let wrong = |text: String| {
            eprintln!("error: {text}");
            EXIT_INPUT
        };
        if flags.provide.provider.provider.as_deref().is_some_and(|p| p != "embedded") {
            return Err(wrong("watch runs on the simulated mesh; `gateproof run --keep` repeats runs on a real one".to_owned()));
        }
        let scratch = tempfile::tempdir().map_err(|e| wrong(format!("failed to make a folder for reports: {e}")))?;
        let reports = flags.reports.clone().unwrap_or_else(|| scratch.path().to_owned());
        let mut options = options(common, &flags.provide, &reports)?;
        options.provider.choice = Choice::Embedded;
        (options.verify_only, options.provider.reuse_only) = (false, false);
        "`watch` runs on the simulated mesh".clone_into(&mut options.chosen);
        let root = common.scenarios.canonicalize().map_err(|e| wrong(format!("failed to read {}: {e}", common.scenarios.display())))?;
        eprintln!("watching {}; Ctrl-C ends", root.display());
        let overrides = common.overrides()?;
        on_runtime(|| cycles(&options, (&root, &overrides), flags));
        eprintln!();
        Ok(EXIT_GREEN)
    };
    answer().unwrap_or_else(|code| code)
}

/// All that is selected first, then whatever is saved.
async fn cycles(options: &SessionOptions, from: (&Path, &ValueOverrides), flags: &WatchFlags) {
    let (root, _) = from;
    let mut touched = None;
    loop {
        // Before the files are read: what is saved while they run is the next save.
        let before = look(root);
        let began = Instant::now();
        match cycle(options, from, &flags.filters, touched.as_ref()).await {
            Ok(Cycle::Interrupted) => return,
            Ok(cycle) => tell(&cycle, root, touched.as_ref(), began.elapsed(), flags.reports.is_some()),
            Err(error) => eprintln!("error: {error}"),
        }
        let Some(files) = unless_interrupted(saved(root, before)).await else { return };
        touched = Some(files);
    }
}

/// The files of the next save, once it is over.
async fn saved(root: &Path, before: Look) -> BTreeSet<PathBuf> {
    let mut last = before.clone();
    loop {
        tokio::time::sleep(PAUSE).await;
        let now = look(root);
        let files = changed(&before, &now);
        if !files.is_empty() && now == last {
            return files;
        }
        last = now;
    }
}

/// Looks at the folder. What cannot be read is not there; the loader says so.
fn look(root: &Path) -> Look {
    let mut found = Look::new();
    let mut folders = vec![(root.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.metadata() {
                _ if is_an_editors(&path) => {}
                Ok(meta) if meta.is_dir() && depth < DEPTH => folders.push((path, depth + 1)),
                Ok(meta) if meta.is_file() => drop(found.insert(path, (meta.len(), meta.modified().ok()))),
                _ => {}
            }
        }
    }
    found
}

/// Files that are new, gone or different.
fn changed(before: &Look, now: &Look) -> BTreeSet<PathBuf> {
    let new = now.iter().filter(|(path, seen)| before.get(*path) != Some(*seen)).map(|(path, _)| path.clone());
    let gone = before.keys().filter(|path| !now.contains_key(*path)).cloned();
    new.chain(gone).collect()
}

/// Whether a file is one that an editor keeps for itself: hidden, a swap file, a backup.
fn is_an_editors(file: &Path) -> bool {
    let name = file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    name.starts_with('.')
        || name.starts_with('#')
        || name.ends_with('~')
        || name.ends_with(".swp")
        || name.ends_with(".tmp")
        || name == "4913"
}

/// The scenario that a file belongs to, in all its rows: the closest folder above it with a `scenario.yaml`, now or before it
/// was taken away.
fn owner(root: &Path, catalogue: &Catalogue, file: &Path) -> Vec<ScenarioId> {
    let Ok(below) = file.strip_prefix(root) else { return Vec::new() };
    let of = |folder: ScenarioId| -> Vec<ScenarioId> {
        let rows = catalogue.scenarios.iter().filter(|s| s.folder() == folder.as_str()).map(|s| s.id.clone());
        rows.chain(catalogue.broken.iter().map(|b| b.id.clone()).filter(|id| *id == folder)).collect()
    };
    let above = below.ancestors().skip(1).filter_map(|dir| ScenarioId::new(dir.to_str()?.replace('\\', "/")).ok());
    above.map(of).find(|found| !found.is_empty()).unwrap_or_default()
}

/// The scenarios that files touch: their own, and every one that stands on those. Pure.
pub(super) fn touched(root: &Path, catalogue: &Catalogue, files: &BTreeSet<PathBuf>) -> BTreeSet<ScenarioId> {
    let own: BTreeSet<ScenarioId> = files.iter().flat_map(|file| owner(root, catalogue, file)).collect();
    let standing = catalogue.scenarios.iter().filter(|s| catalogue.beneath(s).iter().any(|b| own.contains(&b.id)));
    let standing: BTreeSet<ScenarioId> = standing.map(|s| s.id.clone()).collect();
    own.into_iter().chain(standing).collect()
}

/// One save: reads the scenarios again, and runs what the files touch; None stands for everything.
pub(super) async fn cycle(
    options: &SessionOptions,
    (root, overrides): (&Path, &ValueOverrides),
    filters: &[String],
    files: Option<&BTreeSet<PathBuf>>,
) -> Result<Cycle, SessionError> {
    let catalogue = load_catalogue_with(root, overrides);
    let wanted = files.map(|files| touched(root, &catalogue, files));
    let concerned = |id: &ScenarioId| wanted.as_ref().is_none_or(|w| w.contains(id));
    let broken = catalogue.broken.iter().filter(|b| concerned(&b.id)).flat_map(|b| &b.mistakes);
    // A file that belongs to no scenario is told wherever it is.
    let mut mistakes: Vec<_> = catalogue.root_mistakes.iter().chain(broken).collect();
    // What was just written is what its author looks at; what follows from it comes after.
    mistakes.sort_by_key(|m| !files.is_some_and(|files| files.contains(Path::new(&m.file))));
    let mistakes: Vec<String> = mistakes.into_iter().map(|m| m.render(false)).collect();
    let hits = |scenario: &ScenarioId, check: &str| {
        let name = trial_name(scenario, check);
        concerned(scenario) && (filters.is_empty() || filters.iter().any(|f| name.contains(f.as_str())))
    };
    let plan: Plan = plan(&catalogue, &hits);
    if !mistakes.is_empty() {
        return Ok(Cycle::Mistakes(mistakes));
    }
    if plan.scenarios.is_empty() {
        return Ok(Cycle::Nothing);
    }
    let ended = drive(options, &plan, Arc::new(Deaf)).await?;
    Ok(match ended.record {
        Some(record) if !ended.interrupted => Cycle::Ran(Box::new(record)),
        _ => Cycle::Interrupted,
    })
}

/// Files by their paths below the scenarios folder: every scenario has a file of the same name.
fn below(root: &Path, files: Option<&BTreeSet<PathBuf>>) -> Vec<String> {
    files.into_iter().flatten().map(|f| f.strip_prefix(root).unwrap_or(f).display().to_string()).collect()
}

fn tell(cycle: &Cycle, root: &Path, files: Option<&BTreeSet<PathBuf>>, took: Duration, kept: bool) {
    let now = jiff::Zoned::now().strftime("%H:%M:%S").to_string();
    let names = below(root, files);
    let what = if names.is_empty() { String::new() } else { format!("{} saved: ", names.join(", ")) };
    match cycle {
        Cycle::Nothing => println!("{now}  {what}no selected check is touched"),
        Cycle::Mistakes(mistakes) => {
            mistakes.iter().for_each(|m| eprintln!("{m}\n"));
            println!("{now}  {what}{} mistake(s); nothing was run", mistakes.len());
        }
        Cycle::Ran(record) => {
            let tally = Tally::of(record.scenarios.iter().flat_map(|s| &s.checks));
            if !tally.is_green() || tally.flaky > 0 || kept {
                print_red(record, kept);
            }
            let ids: Vec<&str> = record.scenarios.iter().map(|s| s.id.as_str()).collect();
            println!("{now}  {what}{} in {:.2} s: {}", words(tally), took.as_secs_f64(), ids.join(", "));
        }
        Cycle::Interrupted => {}
    }
}

fn print_red(record: &RunRecord, kept: bool) {
    // Without --reports no folder is left in which diagnostics could be looked at.
    let shown = if kept { record.clone() } else { RunRecord { diagnostics: None, ..record.clone() } };
    println!("{}", summary(&shown, None).trim_end());
}

fn words(tally: Tally) -> String {
    let parts = [
        (tally.passed, "passed"),
        (tally.flaky, "FLAKY"),
        (tally.failed, "FAILED"),
        (tally.errors, "NOT JUDGED"),
        (tally.skipped, "skipped"),
    ];
    let parts: Vec<String> = parts.into_iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
    if parts.is_empty() { "nothing was asked".to_owned() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::run::choose::Environment;

    fn scenarios() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios").canonicalize().unwrap()
    }

    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            let to = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy(&entry.path(), &to);
            } else {
                fs::copy(entry.path(), to).unwrap();
            }
        }
    }

    fn ids(files: &[&str]) -> Vec<String> {
        let root = scenarios();
        let files = files.iter().map(|f| root.join(f)).collect();
        touched(&root, &gateproof_core::scenario::load_catalogue(&root), &files).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_file_touches_its_scenario_and_those_that_stand_on_it() {
        assert_eq!(ids(&["10-ingress/gateway-ingress.yaml"]), ["10-ingress"]);
        assert_eq!(ids(&["20-egress/dual-gateway/scenario.yaml"]), ["20-egress/dual-gateway"], "not the scenario in whose folder it lies");
        assert_eq!(ids(&["20-egress/hosts/let-out.yaml"]), ["20-egress/hosts/cnn", "20-egress/hosts/wikipedia"], "every row");
        assert_eq!(ids(&["10-ingress/gone.yaml"]), ["10-ingress"], "also a file that is there no more");
        let all = ids(&["00-sample-apps/sleep.yaml"]);
        assert!(all.contains(&"10-ingress".to_owned()) && all.contains(&"20-egress".to_owned()), "{all:?}");
        assert_eq!(ids(&["scenario.schema.json", "../README.md"]), Vec::<String>::new());
    }

    #[test]
    fn a_saved_file_is_named_with_its_folder() {
        let files = BTreeSet::from([PathBuf::from("/r/30-shop/scenario.yaml")]);
        assert_eq!(below(Path::new("/r"), Some(&files)), ["30-shop/scenario.yaml"]);
        assert!(below(Path::new("/r"), None).is_empty());
    }

    #[test]
    fn what_editors_write_for_themselves_is_no_save() {
        for name in [".x.yaml.swp", "x.yaml~", "4913", ".#x.yaml", "#x.yaml#"] {
            assert!(is_an_editors(&PathBuf::from("/a").join(name)), "{name}");
        }
        assert!(!is_an_editors(Path::new("/a/scenario.yaml")));
    }

    #[test]
    fn a_save_is_over_when_nothing_changes_any_more_and_reading_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_owned();
        fs::create_dir(root.join("s")).unwrap();
        for name in ["a.yaml", "s/b.yaml", "s/.b.yaml.swp"] {
            fs::write(root.join(name), "1").unwrap();
        }
        let before = look(&root);
        drop(fs::read(root.join("a.yaml")).unwrap());
        assert!(changed(&before, &look(&root)).is_empty());
        let writing = root.clone();
        let files = on_runtime(|| async move {
            let writer = tokio::spawn(async move {
                tokio::time::sleep(PAUSE * 2).await;
                fs::write(writing.join("a.yaml"), "22").unwrap();
                tokio::time::sleep(PAUSE / 2).await;
                fs::remove_file(writing.join("s/b.yaml")).unwrap();
                fs::write(writing.join("s/.b.yaml.swp"), "22").unwrap();
            });
            let files = saved(&root, before).await;
            writer.await.unwrap();
            files.iter().map(|f| f.strip_prefix(&root).unwrap().to_owned()).collect::<Vec<_>>()
        });
        assert_eq!(files, [PathBuf::from("a.yaml"), PathBuf::from("s/b.yaml")]);
    }

    #[test]
    fn a_save_is_run_a_mistake_is_told_with_its_place_and_the_next_save_runs_again() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap().join("scenarios");
        copy(&scenarios(), &root);
        let mut options = Environment { root: scenarios().join("..") }.session("test").unwrap();
        options.provider.choice = Choice::Embedded;
        (options.verify_only, options.provider.reuse_only) = (false, false);
        options.reports = dir.path().join("reports");
        let file = root.join("10-ingress/virtualservice-httpbin.yaml");
        let good = fs::read_to_string(&file).unwrap();
        let files = BTreeSet::from([file.clone()]);
        let filters = vec!["10-ingress::catch-all route".to_owned()];
        let none = ValueOverrides::default();
        let run = || on_runtime(|| cycle(&options, (&root, &none), &filters, Some(&files))).unwrap();

        let Cycle::Ran(record) = run() else { panic!("not run") };
        assert_eq!(words(Tally::of(record.scenarios.iter().flat_map(|s| &s.checks))), "1 passed");

        fs::write(&file, good.replace("  hosts:", "   hosts:")).unwrap();
        let Cycle::Mistakes(told) = run() else { panic!("broken YAML was run") };
        assert!(told[0].contains("virtualservice-httpbin.yaml:"), "{told:?}");

        fs::write(&file, good.replace("number: 8000", "number: 8001")).unwrap();
        let Cycle::Ran(record) = run() else { panic!("not run") };
        assert_eq!(words(Tally::of(record.scenarios.iter().flat_map(|s| &s.checks))), "1 FAILED");

        let other = BTreeSet::from([root.join("20-egress/gateway-egress.yaml")]);
        assert!(matches!(on_runtime(|| cycle(&options, (&root, &none), &filters, Some(&other))).unwrap(), Cycle::Nothing));
    }
}
