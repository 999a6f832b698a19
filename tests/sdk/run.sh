#!/bin/sh
# The official OpenAI SDKs, Python and JavaScript, against `hoosh serve` in front of real llama-servers.
#
#   sh tests/sdk/run.sh              builds hoosh (debug), installs what is missing, runs both suites
#   sh tests/sdk/run.sh --direct     leaves hoosh out: a test that fails here too is the model's fault, not the gateway's
#
# HOOSH_BIN: a built hoosh to test; built here unless set.   HOOSH_REAL: where the real servers are or go (target/real).
# Needs python3, node 20 with npm, and nothing on a fixed port. Everything it starts, it stops.
set -eu

HERE=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
ROOT=$(CDPATH='' cd -- "$HERE/../.." && pwd -P)
# shellcheck source=examples/llama/lib.sh
. "$ROOT/examples/llama/lib.sh"

TOKEN=sdk-test-token
SUITE_SECONDS=600 # each suite takes well under a minute on two busy cores

direct=
case "${1-}" in
"") ;;
--direct) direct=yes ;;
*) die "unknown argument '$1': only --direct is known" ;;
esac

for program in python3 node npm; do
    command -v "$program" >/dev/null 2>&1 || die "$program is needed and not on PATH (python3; node 20.11 or newer with npm)"
done
node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 11) ? 0 : 1)' ||
    die "node $(node --version) is too old: 20.11 or newer is needed"

if [ -z "$direct" ] && [ -z "${HOOSH_BIN-}" ]; then
    command -v cargo >/dev/null 2>&1 || die "cargo is needed to build hoosh, or HOOSH_BIN with the path of a built one"
    (cd "$ROOT" && timeout --foreground 1800 cargo build --quiet -p hoosh-server --bin hoosh) || die "hoosh does not build"
    HOOSH_BIN=${CARGO_TARGET_DIR:-$ROOT/target}/debug/hoosh
fi
[ -n "$direct" ] || [ -x "$HOOSH_BIN" ] || die "there is no program at $HOOSH_BIN (HOOSH_BIN)"

found=$(sh "$ROOT/examples/llama/install.sh" --embeddings) || exit 1
eval "$found"
REAL=$(absolute "${HOOSH_REAL:-$ROOT/target/real}")
need_environment "$REAL/sdk" "$(cksum <"$HERE/python/requirements.txt" | tr ' ' -)" -r "$HERE/python/requirements.txt"
if ! cmp -s "$HERE/node/package-lock.json" "$HERE/node/node_modules/.installed-lock"; then
    (cd "$HERE/node" && timeout --foreground 300 npm ci --silent) || die "npm could not install what tests/sdk/node/package.json names"
    cp "$HERE/node/package-lock.json" "$HERE/node/node_modules/.installed-lock"
fi

clean_up_at_exit
read -r chat_port embed_port hoosh_port <<PORTS
$(free_ports 3)
PORTS
start "$SCRATCH/llama-chat.log" "$LLAMA_PYTHON" "$LLAMA_SERVER" -m "$LLAMA_CHAT_MODEL" --alias smollm2-135m \
    --chat-template "$LLAMA_CHAT_TEMPLATE" --port "$chat_port" -t 1 -np 2
chat_pid=$STARTED
start "$SCRATCH/llama-embed.log" "$LLAMA_PYTHON" "$LLAMA_SERVER" -m "$LLAMA_EMBED_MODEL" --alias all-minilm \
    --embedding --port "$embed_port" -t 1 -np 2 -c 1024
embed_pid=$STARTED
wait_for "llama-server with SmolLM2" "http://127.0.0.1:$chat_port/health" "$chat_pid" 60
wait_for "llama-server with MiniLM" "http://127.0.0.1:$embed_port/health" "$embed_pid" 60

if [ -n "$direct" ]; then
    export HOOSH_DIRECT=1 HOOSH_URL="http://127.0.0.1:$chat_port" HOOSH_EMBED_URL="http://127.0.0.1:$embed_port"
else
    cat >"$SCRATCH/hoosh.toml" <<TOML
[server]
bind = "127.0.0.1"
port = $hoosh_port

[auth]
tokens = ["$TOKEN"]

[[providers]]
name = "chat"
type = "llamacpp"
base_url = "http://127.0.0.1:$chat_port"
models = ["smollm2*"]

[[providers]]
name = "embed"
type = "llamacpp"
base_url = "http://127.0.0.1:$embed_port"
models = ["all-minilm*"]
TOML
    start "$SCRATCH/hoosh.log" "$HOOSH_BIN" serve --config "$SCRATCH/hoosh.toml"
    wait_for "hoosh serve" "http://127.0.0.1:$hoosh_port/v1/health" "$STARTED" 30
    export HOOSH_URL="http://127.0.0.1:$hoosh_port"
    unset HOOSH_DIRECT HOOSH_EMBED_URL
fi

export HOOSH_LLAMA_URL="http://127.0.0.1:$chat_port" HOOSH_TOKEN="$TOKEN"

failed=
echo "== openai for Python, $HOOSH_URL =="
(cd "$HERE/python" && PYTHONDONTWRITEBYTECODE=1 timeout --foreground "$SUITE_SECONDS" \
    "$REAL/sdk/bin/python" -m pytest -q ${direct:+-m "not hoosh"}) || failed="Python"
echo "== openai for JavaScript, $HOOSH_URL =="
(cd "$HERE/node" && timeout --foreground "$SUITE_SECONDS" \
    node --test --test-timeout=120000 --test-reporter=spec openai.test.mjs) ||
    failed="${failed:+$failed and }JavaScript"
[ -z "$failed" ] || die "the suite failed for $failed"
