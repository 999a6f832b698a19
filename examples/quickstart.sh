#!/bin/sh
# hoosh in front of a real llama.cpp server with a real model, and one question through it. No key, no GPU, no account.
#
#   sh examples/quickstart.sh
#   sh examples/quickstart.sh "Name three colours."        (or QUESTION=...)
#
# Needs Rust and Debian (elsewhere: python3 with venv). The first run downloads 127 MB and builds hoosh; both stay under
# target/. What it starts, it stops, also on Ctrl-C; when something fails it shows the last lines of the logs.
#
# HOOSH_BIN: a built hoosh to use; built here unless set.   HOOSH_REAL: where llama.cpp is or goes (target/real).
set -eu

HERE=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
ROOT=$(CDPATH='' cd -- "$HERE/.." && pwd -P)
# shellcheck source=examples/llama/lib.sh
. "$HERE/llama/lib.sh"

QUESTION=${1:-${QUESTION:-What is the capital of France?}}
MODEL=smollm2-135m

step() { printf '\n== %s\n' "$*"; }

# The arguments as one line that can be pasted into a shell.
as_typed() { python3 -c 'import shlex, sys; print("$", shlex.join(sys.argv[1:]))' "$@"; }

step "llama.cpp and SmolLM2-135M (127 MB the first time)"
found=$(sh "$HERE/llama/install.sh") || exit 1
eval "$found"
printf '%s\n' "$LLAMA_CHAT_MODEL"

step "hoosh"
if [ -z "${HOOSH_BIN-}" ]; then
    command -v cargo >/dev/null 2>&1 || die "cargo is needed: install Rust (rustup), or set HOOSH_BIN to a built hoosh"
    (cd "$ROOT" && timeout --foreground 1800 cargo build --profile bench-fast -p hoosh-server --bin hoosh) ||
        die "hoosh does not build (or took over 30 minutes)"
    HOOSH_BIN=${CARGO_TARGET_DIR:-$ROOT/target}/bench-fast/hoosh
fi
[ -x "$HOOSH_BIN" ] || die "there is no program at $HOOSH_BIN"
printf '%s\n' "$HOOSH_BIN"

clean_up_at_exit
read -r llama_port hoosh_port <<PORTS
$(free_ports 2)
PORTS
cat >"$SCRATCH/hoosh.toml" <<TOML
[server]
bind = "127.0.0.1"
port = $hoosh_port

[[providers]]
type = "LlamaCpp"
base_url = "http://127.0.0.1:$llama_port"
models = ["smollm2*"]
TOML
step "the whole configuration"
cat "$SCRATCH/hoosh.toml"

start "$SCRATCH/llama-server.log" "$LLAMA_PYTHON" "$LLAMA_SERVER" -m "$LLAMA_CHAT_MODEL" --alias "$MODEL" \
    --chat-template "$LLAMA_CHAT_TEMPLATE" --port "$llama_port" -t 1 -np 2 -n 200
wait_for "llama-server" "http://127.0.0.1:$llama_port/health" "$STARTED" 60
start "$SCRATCH/hoosh.log" "$HOOSH_BIN" serve --config "$SCRATCH/hoosh.toml"
url=http://127.0.0.1:$hoosh_port
wait_for "hoosh serve" "$url/v1/health" "$STARTED" 30

step "a question"
set -- chat --url "$url" -m "$MODEL" --temperature 0 "$QUESTION"
as_typed hoosh "$@"
timeout --foreground 120 "$HOOSH_BIN" "$@" || die "hoosh chat failed (or took over 2 minutes)"

step "the same by curl: any OpenAI client works, with base URL $url/v1"
body=$(python3 -c '
import json, sys
messages = [{"role": "user", "content": sys.argv[2]}]
print(json.dumps({"model": sys.argv[1], "temperature": 0, "messages": messages}, ensure_ascii=False))
' "$MODEL" "$QUESTION")
set -- curl -s "$url/v1/chat/completions" -H 'content-type: application/json' -d "$body"
as_typed "$@"
if command -v curl >/dev/null 2>&1; then
    timeout --foreground 120 "$@" || die "curl failed (or took over 2 minutes)"
    echo
fi
