# `just` alone lists these. Each is a command that can be typed as well.

_default:
    @just --list

# Every scenario on a real cluster, and a report
scenarios *filter:
    cargo test --test scenarios -- {{filter}}

# The tests that need no Docker engine
test:
    cargo test --workspace --lib --bins

# What every change has to pass, but for the scenarios
fast:
    .ci/run fast

# What every change has to pass
ci:
    .ci/run

# Bend every manifest in turn and see which check notices
prove *scenarios:
    cargo run -- prove --keep {{scenarios}}

# Accept new snapshots, golden files and the schema, then look at the diff
bless:
    GATEPROOF_BLESS=1 INSTA_UPDATE=always cargo test --workspace --lib --bins

# Licences, advisories and sources of the dependencies
deny:
    cargo deny check

# README's picture, from a report and a scenario of it
picture report scenario:
    docs/picture {{report}} {{scenario}}
