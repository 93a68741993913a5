//! The `gateproof` command. Only [`gateproof::cli`] prints or exits.

fn main() -> std::process::ExitCode {
    gateproof::cli::main()
}
