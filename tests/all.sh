#!/bin/sh
# All tests of hoosh: unit, laws, documentation, a short fuzzing of the wire forms, the promises through the real binary,
# the layers, and the official SDKs against a real llama-server.
#
#   sh tests/all.sh
#
# Needs Rust (rust-toolchain.toml), a C++ compiler, python3 and node with npm; installs the rest below target/real (see
# examples/llama/install.sh and tests/sdk/run.sh). HOOSH_FIXTURES may name a folder of recorded provider traffic.
set -eu
cd "$(dirname -- "$0")/.."

if [ -z "${HOOSH_FIXTURES-}" ] && [ -d ../shared/fixtures ]; then
    HOOSH_FIXTURES=$(CDPATH='' cd -- ../shared/fixtures && pwd -P)
    export HOOSH_FIXTURES
fi

# What examples/verify_audit.py checks signatures with.
(
    # shellcheck source=examples/llama/lib.sh
    . examples/llama/lib.sh
    mkdir -p target/real
    need_environment "$PWD/target/real/audit-python" cryptography-48.0.0 cryptography==48.0.0
)
HOOSH_AUDIT_PYTHON=$PWD/target/real/audit-python/bin/python
export HOOSH_AUDIT_PYTHON

# The promises run the binary, so it is built before them.
cargo build --locked -p hoosh-server --bin hoosh
cargo test --locked --workspace --all-features --quiet
# Every order in which two and three threads can meet over the books.
RUSTFLAGS="${RUSTFLAGS-} --cfg loom" CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/loom" \
    cargo test --locked --quiet -p hoosh-budget --test loom
python3 tests/layers.py

# Some ten seconds for each wire form's laws, the same inputs every time; `just fuzz` looks longer and elsewhere.
HOOSH_FUZZ_SEED=1 HOOSH_FUZZ_RUNS=300000 sh fuzz/run.sh 120

HOOSH_BIN=${CARGO_TARGET_DIR:-$PWD/target}/debug/hoosh
export HOOSH_BIN
sh tests/sdk/run.sh
# The first command of the README, with the binary that was just built.
sh examples/quickstart.sh | tee target/quickstart.out
grep -q Paris target/quickstart.out || {
    echo "tests/all.sh: the quickstart did not get the answer" >&2
    exit 1
}
