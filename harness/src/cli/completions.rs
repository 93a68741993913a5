//! `completions`.

use std::io::Write as _;

use anstream::eprintln;
use clap::CommandFactory;
use clap_complete::{Shell, generate};

use super::{Arguments, EXIT_GREEN, EXIT_INPUT};

/// The script that makes a shell complete gateproof's commands and flags.
fn script(shell: Shell) -> Vec<u8> {
    let mut out = Vec::new();
    generate(shell, &mut Arguments::command(), "gateproof", &mut out);
    out
}

/// Prints it.
pub(super) fn completions(shell: Shell) -> u8 {
    match std::io::stdout().write_all(&script(shell)) {
        Ok(()) => EXIT_GREEN,
        Err(error) => {
            eprintln!("error: failed to print the script: {error}");
            EXIT_INPUT
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_learns_every_command() {
        for shell in [Shell::Bash, Shell::Elvish, Shell::Fish, Shell::PowerShell, Shell::Zsh] {
            let text = String::from_utf8(script(shell)).unwrap();
            for command in Arguments::command().get_subcommands().map(clap::Command::get_name) {
                assert!(text.contains(command), "{shell} does not know {command}");
            }
            assert!(text.contains("verify-only"), "{shell} knows no flags of run");
        }
    }
}
