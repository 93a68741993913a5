//! What ARCHITECTURE.md and README.md promise, held by tests.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file longer than this is a sign to split it.
const LINES: usize = 600;
/// Files that are longer, each with its reason.
const LONGER: &[(&str, &str)] = &[];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("failed to read {path}: {e}"))
}

/// Every Rust file below these folders: its path from the root, and its text.
fn sources(folders: &[&str]) -> Vec<(String, String)> {
    let mut left: Vec<PathBuf> = folders.iter().map(|f| root().join(f)).collect();
    let mut found = Vec::new();
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|e| e == "rs") {
            let name = path.strip_prefix(root()).unwrap().display().to_string();
            found.push((name, std::fs::read_to_string(&path).unwrap()));
        }
    }
    assert!(!found.is_empty(), "no source below {folders:?}");
    found.sort();
    found
}

/// Lines with one of these words, but for comments, in files that are not excepted.
fn offenders(folders: &[&str], words: &[&str], excepted: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for (name, text) in sources(folders).into_iter().filter(|(name, _)| !excepted(name)) {
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if words.iter().any(|word| has_word(code, word)) {
                found.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    found
}

/// `print!` is a word of `print!("…")`, not of `eprint!("…")`.
fn has_word(line: &str, word: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let open = word.ends_with(|c| !inside(c)) || !line[at + word.len()..].starts_with(inside);
        open && !line[..at].ends_with(inside)
    })
}

/// The crates below one, without itself.
fn crates_below(package: &str) -> Vec<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["tree", "--package", package, "--edges", "normal,build", "--prefix", "none", "--format", "{p}"])
        .args(["--locked", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    assert!(tree.starts_with(&format!("{package} ")), "{tree}");
    tree.lines().skip(1).map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect()
}

fn below_of(package: &str, banned: &[&str]) -> Vec<String> {
    let is_banned = |name: &String| banned.iter().any(|b| name == b || name.starts_with(&format!("{b}-")));
    crates_below(package).into_iter().filter(is_banned).collect()
}

const OF_A_CLUSTER: [&str; 8] = ["kube", "k8s-openapi", "tokio", "bollard", "hyper", "reqwest", "rustls", "futures"];

#[test]
fn the_pure_crate_knows_no_cluster() {
    let found = below_of("gateproof-core", &OF_A_CLUSTER);
    assert!(found.is_empty(), "gateproof-core depends on {found:?}");
}

#[test]
fn the_meshs_configuration_half_is_pure() {
    let found = below_of("gateproof-mesh-config", &OF_A_CLUSTER);
    assert!(found.is_empty(), "gateproof-mesh-config depends on {found:?}");
}

#[test]
fn the_mesh_knows_neither_harness_nor_scenarios() {
    let found = below_of("gateproof-mesh", &["gateproof-core", "bollard"]);
    assert!(found.is_empty(), "the mesh shares code with the harness: {found:?}");
    // Hosts of scenarios are theirs; what the mesh knows, it knows of every host.
    let hosts = ["httpbin.example.com", "www.wikipedia.org", "httpbin.org", "egw-mtls", "egw-pt", "mesh-test"];
    let is_test = |name: &str| name.contains("tests") || name.contains("testdata");
    let found = offenders(&["harness/mesh/src", "harness/mesh/config/src"], &hosts, &is_test);
    let code: Vec<String> = sources(&["harness/mesh/src", "harness/mesh/config/src"])
        .into_iter()
        .filter(|(name, _)| !is_test(name))
        .flat_map(|(name, text)| {
            let end = text.find("#[cfg(test)]").unwrap_or(text.len());
            let lines: Vec<String> = text[..end].lines().map(str::to_owned).collect();
            lines.into_iter().enumerate().map(move |(n, line)| format!("{name}:{}: {}", n + 1, line.trim())).collect::<Vec<_>>()
        })
        .collect();
    let found: Vec<String> = found.into_iter().filter(|f| code.contains(f)).collect();
    assert!(found.is_empty(), "the mesh's source knows a scenario: {found:#?}");
}

#[test]
fn files_are_short() {
    let long: Vec<String> = sources(&["harness"])
        .into_iter()
        .filter(|(name, text)| text.lines().count() > LINES && !LONGER.iter().any(|(known, _)| known == name))
        .map(|(name, text)| format!("{name} has {} lines", text.lines().count()))
        .collect();
    assert!(long.is_empty(), "split these, or give a reason in LONGER: {long:#?}");
    for (name, reason) in LONGER {
        assert!(text(name).lines().count() > LINES, "{name} is short again; it was listed because {reason}");
    }
}

#[test]
fn only_the_command_line_prints_and_exits() {
    let words = ["println!", "eprintln!", "print!", "eprint!", "dbg!", "process::exit", "process::abort"];
    let found = offenders(&["harness/src", "harness/core/src"], &words, &|name| {
        // The owner of a nextest run is a process of its own; its standard error is its log.
        name.starts_with("harness/src/cli/") || name.starts_with("harness/src/run/owner/") || name == "harness/src/architecture.rs"
    });
    assert!(found.is_empty(), "only cli/ prints or exits: {found:#?}");
}

#[test]
fn providers_and_probes_see_no_expectation() {
    let words = ["Expectation", "CallExpectation", "judge", "diagnose"];
    let found = offenders(&["harness/src/provider", "harness/src/probe", "harness/src/apply", "harness/src/sync"], &words, &|_| false);
    assert!(found.is_empty(), "what asks does not judge: {found:#?}");
}

#[test]
fn nothing_below_the_engine_knows_it() {
    let words = ["crate::run", "crate::cli"];
    let folders = ["provider", "install", "outside", "apply", "sync", "probe", "kube_ext"].map(|f| format!("harness/src/{f}"));
    let folders: Vec<&str> = folders.iter().map(String::as_str).collect();
    let found = offenders(&folders, &words, &|_| false);
    assert!(found.is_empty(), "data flows one way: {found:#?}");
}

/// The commands of README.md's first block of shell.
fn readme_commands() -> Vec<String> {
    let readme = text("README.md");
    let block = readme.split("```bash\n").nth(1).and_then(|rest| rest.split("```").next()).expect("README.md has a block of shell");
    block.lines().map(|line| line.split(" #").next().unwrap_or_default().trim().to_owned()).filter(|l| !l.is_empty()).collect()
}

#[test]
fn the_gate_runs_the_commands_of_the_readme() {
    let commands = readme_commands();
    assert_eq!(commands.len(), 2, "the main job and the tests: {commands:?}");
    let gate = text(".ci/run");
    for command in &commands {
        let literal = gate.lines().any(|line| line.trim_start().starts_with("step ") && line.ends_with(&format!(" {command}")));
        assert!(literal, ".ci/run has no step that is exactly `{command}`");
    }
    assert!(gate.contains("\nexport GATEPROOF_PROVIDER=kind\n"), ".ci/run names the provider");
    for workflow in [".github/workflows/ci.yml", ".github/workflows/nightly.yml"] {
        let workflow = text(workflow);
        assert!(workflow.contains(".ci/run") || workflow.contains(&commands[0]), "it runs something else than people do: {workflow}");
    }
}

#[test]
fn every_action_is_pinned_by_digest() {
    for name in [".github/workflows/ci.yml", ".github/workflows/nightly.yml"] {
        for line in text(name).lines().filter(|line| line.contains("uses:")) {
            let digest = line.split('@').nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_default();
            let pinned = digest.len() == 40 && digest.bytes().all(|b| b.is_ascii_hexdigit());
            assert!(pinned, "{name}: {}", line.trim());
        }
    }
}

#[test]
fn every_dependency_has_a_reason() {
    let mut names = Vec::new();
    for manifest in ["harness/Cargo.toml", "harness/core/Cargo.toml", "harness/mesh/Cargo.toml", "harness/mesh/config/Cargo.toml"] {
        let mut inside = false;
        for line in text(manifest).lines() {
            if line.starts_with('[') {
                inside = line.ends_with("dependencies]");
            } else if let Some((name, _)) = line.split_once('=').filter(|_| inside) {
                names.push(name.trim().trim_end_matches(".workspace").to_owned());
            }
        }
    }
    assert!(names.len() > 30, "{names:?}");
    let (contributing, deny) = (text("CONTRIBUTING.md"), text("deny.toml"));
    for name in names.iter().filter(|n| !n.starts_with("gateproof-")) {
        let row = format!("| `{name}` | ");
        let reason = contributing.lines().find_map(|line| line.strip_prefix(&row)?.strip_suffix(" |"));
        let reason = reason.unwrap_or_else(|| panic!("CONTRIBUTING.md gives no reason for {name}"));
        assert!(deny.lines().any(|line| line == format!("# {name}: {reason}")), "deny.toml has another reason for {name}, or none");
    }
}

#[test]
fn words_are_whole() {
    assert!(has_word("    print!(\"a\")", "print!") && !has_word("eprint!(\"a\")", "print!"));
    assert!(has_word("use crate::run::x;", "crate::run") && !has_word("use crate::running;", "crate::run"));
}
