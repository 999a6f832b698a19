#!/bin/sh
# The official SDKs (OpenAI, Anthropic, Google, Ollama, Mistral, Groq, LangChain, Vercel AI), Python and JavaScript, against
# `hoosh serve` in front of real llama-servers and of stand-ins that act like each vendor (standin/base.py).
#
#   sh tests/sdk/run.sh                   builds hoosh (debug), installs what is missing, runs all suites
#   sh tests/sdk/run.sh --standin-only    the same without the real llama-servers, which need a download of 200 MB
#   sh tests/sdk/run.sh --direct          leaves hoosh out, each SDK against the server of its own dialect: a test that
#                                         fails here too is the model's or the stand-in's fault, not the gateway's
#   sh tests/sdk/run.sh --agents          Claude Code and Codex instead of the suites; a download of 600 MB
#
# HOOSH_BIN: a built hoosh to test; built here unless set.   HOOSH_REAL: where the real servers are or go (target/real).
# Needs python3, node 20 with npm, and nothing on a fixed port. Everything it starts, it stops.
set -eu

HERE=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
ROOT=$(CDPATH='' cd -- "$HERE/../.." && pwd -P)
# shellcheck source=examples/llama/lib.sh
. "$ROOT/examples/llama/lib.sh"

TOKEN=sdk-test-token
SUITE_SECONDS=900 # the longest suite takes two minutes on two busy cores
STANDINS="anthropic gemini ollama openai"

direct=
agents=
real=yes
for argument; do
    case "$argument" in
    --direct) direct=yes ;;
    --standin-only) real= ;;
    --agents) agents=yes real= ;;
    *) die "unknown argument '$argument': --direct, --standin-only and --agents are known" ;;
    esac
done

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

if [ -n "$real" ]; then
    found=$(sh "$ROOT/examples/llama/install.sh" --embeddings) || exit 1
    eval "$found"
fi
mkdir -p "${HOOSH_REAL:-$ROOT/target/real}"
REAL=$(absolute "${HOOSH_REAL:-$ROOT/target/real}")
# npm_packages FOLDER: what its lock file says.
npm_packages() {
    cmp -s "$1/package-lock.json" "$1/node_modules/.installed-lock" && return
    (cd "$1" && timeout --foreground 600 npm ci --silent) || die "npm could not install what $1/package.json names"
    cp "$1/package-lock.json" "$1/node_modules/.installed-lock"
}
if [ -n "$agents" ]; then
    npm_packages "$HERE/agents"
else
    need_environment "$REAL/sdk" "$(cksum <"$HERE/python/requirements.txt" | tr ' ' -)" -r "$HERE/python/requirements.txt"
    need_environment "$REAL/langchain" "$(cksum <"$HERE/langchain/requirements.txt" | tr ' ' -)" -r "$HERE/langchain/requirements.txt"
    npm_packages "$HERE/node"
fi

clean_up_at_exit
# shellcheck disable=SC2046 # one port is one word
set -- $(free_ports 7)
hoosh_port=$1 chat_port=$2 embed_port=$3
shift 3
for name in $STANDINS; do
    start "$SCRATCH/standin-$name.log" python3 "$HERE/standin/$name.py" "$1"
    eval "${name}_url=http://127.0.0.1:$1 ${name}_pid=$STARTED"
    shift
done
if [ -n "$real" ]; then
    start "$SCRATCH/llama-chat.log" "$LLAMA_PYTHON" "$LLAMA_SERVER" -m "$LLAMA_CHAT_MODEL" --alias smollm2-135m \
        --chat-template "$LLAMA_CHAT_TEMPLATE" --port "$chat_port" -t 1 -np 2
    chat_pid=$STARTED
    start "$SCRATCH/llama-embed.log" "$LLAMA_PYTHON" "$LLAMA_SERVER" -m "$LLAMA_EMBED_MODEL" --alias all-minilm \
        --embedding --port "$embed_port" -t 1 -np 2 -c 1024
    embed_pid=$STARTED
    wait_for "llama-server with SmolLM2" "http://127.0.0.1:$chat_port/health" "$chat_pid" 60
    wait_for "llama-server with MiniLM" "http://127.0.0.1:$embed_port/health" "$embed_pid" 60
fi
for name in $STANDINS; do
    eval "url=\$${name}_url pid=\$${name}_pid"
    wait_for "the stand-in for $name" "$url/health" "$pid" 30
done

if [ -n "$direct" ]; then
    export HOOSH_DIRECT=1 HOOSH_URL="http://127.0.0.1:$chat_port" HOOSH_EMBED_URL="http://127.0.0.1:$embed_port"
    # shellcheck disable=SC2154 # set by eval above
    export HOOSH_STANDIN_ANTHROPIC="$anthropic_url" HOOSH_STANDIN_GEMINI="$gemini_url"
    # shellcheck disable=SC2154
    export HOOSH_STANDIN_OLLAMA="$ollama_url" HOOSH_STANDIN_OPENAI="$openai_url"
else
    cat >"$SCRATCH/hoosh.toml" <<TOML
[server]
bind = "127.0.0.1"
port = $hoosh_port

[auth]
tokens = ["$TOKEN"]

[[providers]]
name = "claude"
type = "anthropic"
base_url = "$anthropic_url"
api_key = "unused"
models = ["claude-*"]

[[providers]]
name = "gemini"
type = "google"
base_url = "$gemini_url"
api_key = "unused"
models = ["gemini-*"]

[[providers]]
name = "ollama"
type = "ollama"
base_url = "$ollama_url"
models = ["ollama-*"]

[[providers]]
name = "gpt"
type = "openai"
base_url = "$openai_url"
api_key = "unused"
models = ["gpt-*"]

[[providers]]
name = "rerank"
type = "vllm"
base_url = "$openai_url"
api_key = "unused"
models = ["rerank-*"]
TOML
    [ -z "$real" ] || cat >>"$SCRATCH/hoosh.toml" <<TOML

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

# The same real server, asked in Anthropic's dialect.
[[providers]]
name = "messages"
type = "anthropic"
base_url = "http://127.0.0.1:$chat_port"
api_key = "unused"
models = ["smollm2*"]
priority = 20
TOML
    start "$SCRATCH/hoosh.log" "$HOOSH_BIN" serve --config "$SCRATCH/hoosh.toml"
    wait_for "hoosh serve" "http://127.0.0.1:$hoosh_port/v1/health" "$STARTED" 30
    export HOOSH_URL="http://127.0.0.1:$hoosh_port"
    unset HOOSH_DIRECT HOOSH_EMBED_URL
fi

export HOOSH_TOKEN="$TOKEN" PYTHONDONTWRITEBYTECODE=1
unset HOOSH_LLAMA_URL
[ -z "$real" ] || export HOOSH_LLAMA_URL="http://127.0.0.1:$chat_port"

if [ -n "$agents" ]; then
    sh "$HERE/agents/run.sh"
    exit
fi

failed=
# Runs suite $1, in words, by the remaining arguments.
suite() {
    what=$1
    shift
    echo "== $what =="
    timeout --foreground "$SUITE_SECONDS" "$@" || failed="${failed:+$failed, }$what"
}

marks=
[ -z "$direct" ] || marks="not hoosh"
[ -n "$real" ] || marks="${marks:+$marks and }not llama"
for file in "$HERE"/python/test_*.py; do
    what=${file##*/}
    [ "$what" != test_openai.py ] || [ -n "$real" ] || continue
    [ "$what" != test_mistral_groq.py ] || [ -z "$direct" ] || continue
    suite "Python: $what" "$REAL/sdk/bin/python" -m pytest -q --tb=short ${marks:+-m "$marks"} --rootdir "$HERE/python" "$file"
done
[ -n "$direct" ] ||
    suite "Python: LangChain" "$REAL/langchain/bin/python" -m pytest -q --tb=short --rootdir "$HERE/langchain" "$HERE/langchain"
for file in "$HERE"/node/*.test.mjs; do
    what=${file##*/}
    [ "$what" != openai.test.mjs ] || [ -n "$real" ] || continue
    suite "JavaScript: $what" node --test --test-timeout=120000 --test-reporter=spec "$file"
done
if [ -n "$real" ] && [ -z "$direct" ]; then
    export HOOSH_BIN LLAMA_PYTHON LLAMA_SERVER LLAMA_CHAT_MODEL LLAMA_CHAT_TEMPLATE LLAMA_EMBED_MODEL
    suite "two llama-servers, one of which is killed" python3 "$HERE/two_servers.py"
    suite "a llama-server that is killed in the middle of an answer" python3 "$HERE/continued.py"
    suite "the SDKs while their streams wait in line" "$REAL/sdk/bin/python" "$HERE/waiting.py"
    suite "the cache, by the meaning that a real model sees" python3 "$HERE/semantic_cache.py"
fi
[ -z "$failed" ] || die "failed: $failed"
echo "all suites passed"
