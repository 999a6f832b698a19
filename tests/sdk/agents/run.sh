#!/bin/sh
# Asks Claude Code and Codex one question each through the gateway, over providers of dialects that are not theirs.
# Called by tests/sdk/run.sh --agents, with HOOSH_URL and HOOSH_TOKEN set.
#
# Claude Code asks with its whole prompt and all its tools, streamed; Codex goes round its loop once: the stand-in calls its
# first tool with arguments that it refuses, and answers when it has seen that.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Neither reads what the caller has configured, and neither calls home.
export HOME="$scratch" CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 DISABLE_TELEMETRY=1 DISABLE_AUTOUPDATER=1
export ANTHROPIC_BASE_URL="$HOOSH_URL" ANTHROPIC_AUTH_TOKEN="$HOOSH_TOKEN"
mkdir -p "$scratch/.codex" "$scratch/work"
cat >"$scratch/.codex/config.toml" <<TOML
model_provider = "hoosh"
[model_providers.hoosh]
name = "hoosh"
base_url = "$HOOSH_URL/v1"
env_key = "HOOSH_TOKEN"
wire_api = "responses"
TOML
cd "$scratch/work"

status=0
# check AGENT MODEL COMMAND...
check() {
    what="$1 over $2"
    shift 2
    if timeout 120 "$@" </dev/null >"$scratch/out" 2>&1 && grep -q 'Hello from the model: häß 日本' "$scratch/out"; then
        echo "ok: $what"
    else
        status=1
        echo "FAILED: $what" >&2
        tail -20 "$scratch/out" >&2
    fi
}
for model in gpt-standin gemini-3-standin ollama-standin; do
    export ANTHROPIC_MODEL="$model" ANTHROPIC_SMALL_FAST_MODEL="$model"
    check "Claude Code" "$model" "$here/node_modules/.bin/claude" -p "hello there"
done
for model in claude-sonnet-4-5 gemini-3-standin ollama-standin; do
    check Codex "$model" "$here/node_modules/.bin/codex" exec --skip-git-repo-check -m "$model" "hello there"
done
exit $status
