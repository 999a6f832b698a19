# What people do with this repository. `just` lists it.

_default:
    @just --list

# everything CI runs
check:
    bash .ci/run

# all tests
test:
    sh tests/all.sh

# a real answer from a real model through the gateway
quickstart *question:
    sh examples/quickstart.sh {{ question }}

# hoosh against a bare hyper proxy, in one run
bench *arguments:
    cargo build --locked --release -p hoosh-server --bin hoosh
    cargo run --locked --release -p hoosh-bench -- run --hoosh target/release/hoosh {{ arguments }}

# any bytes at the wire forms, so many seconds at each of their laws
fuzz seconds="600" *targets:
    sh fuzz/run.sh {{ seconds }} {{ targets }}

# Claude Code and Codex through the gateway, over providers of other dialects
agents:
    sh tests/sdk/run.sh --agents

# ns per plan over 1,000 routes
bench-plan:
    cargo bench --locked -p hoosh-router --bench plan

# rustfmt
format:
    cargo fmt --all
