#!/bin/sh
# Coverage-guided fuzzing of the wire forms, on the stable toolchain.
#
#   sh fuzz/run.sh [SECONDS_PER_TARGET] [TARGET...]     60 s each, all targets
#
# Needs only what cargo fetches and a C++ compiler, in which libFuzzer is written. Inputs that were found are kept in
# fuzz/corpus, one that breaks a law in fuzz/crashes; then its path is printed and the exit code is 1. Such an input is
# run again with: fuzz/target/TRIPLE/release/TARGET PATH
#
# HOOSH_FUZZ_SEED: where the randomness begins; by chance unless set. HOOSH_FUZZ_RUNS: how many inputs, with the seconds
# only as the longest time. With both, and no corpus from before, a test finds today what it found yesterday.
set -eu
cd "$(dirname -- "$0")"

seconds=${1:-60}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- request reply stream tap error

# === seeds ===

# The place of a dialect in `Dialect::ALL`, as the first byte of an input; see src/lib.rs.
number() {
    case $1 in
    anthropic) echo 0 ;;
    anthropic_count) echo 1 ;;
    gemini) echo 2 ;;
    gemini_batch_embed) echo 3 ;;
    gemini_count) echo 4 ;;
    gemini_embed) echo 5 ;;
    moderations) echo 6 ;;
    ollama_chat) echo 7 ;;
    ollama_embed) echo 8 ;;
    ollama_generate) echo 9 ;;
    openai_chat) echo : ;;
    openai_completions) echo ';' ;;
    openai_embeddings) echo '<' ;;
    openai_responses) echo = ;;
    rerank) echo '>' ;;
    *) return 1 ;;
    esac
}

# seed TARGET FILE DIALECT: FILE, with the four bytes in front that say how.
seed() {
    mkdir -p "corpus/$1"
    {
        printf '%s0Aa' "$(number "$3")"
        cat "$2"
    } >"corpus/$1/seed-$3-$(basename "$2")"
}

# Streams are the committed transcripts; whole bodies lie in fuzz/seeds/TARGET/DIALECT[.NUMBER].json.
for folder in ../crates/hoosh-core/tests/transcripts/*/; do
    dialect=$(basename "$folder")
    for file in "$folder"*.*; do
        seed stream "$file" "$dialect"
        seed tap "$file" "$dialect"
    done
done
for file in seeds/*/*.json; do
    target=$(basename "$(dirname "$file")")
    name=$(basename "$file" .json)
    seed "$target" "$file" "${name%%.*}"
    [ "$target" != reply ] || seed tap "$file" "${name%%.*}"
done
# The words of the wire, which no fuzzer guesses.
cat seeds/*/*.json ../crates/hoosh-core/tests/transcripts/*/*.* |
    grep -oE '"[A-Za-z_.-]{2,40}"' | sort -u | sed 's/.*/"\\&/; s/"$/\\""/' >corpus/words.dict

# === build ===

if ! command -v c++ >/dev/null 2>&1; then
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 ||
        { echo "fuzz/run.sh: a C++ compiler is needed: install g++ and run this again" >&2; exit 1; }
    apt-get -qq update >&2 && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends g++ >&2
fi

host=$(rustc -vV | sed -n 's/^host: //p')
# Coverage marks for libFuzzer. No sanitizer beside them: hoosh-core has no `unsafe`, and without one this needs nothing
# unstable of the compiler. `--target` keeps the marks out of build scripts.
RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing" \
    cargo build --locked --release --quiet --target "$host" --target-dir target

# === run ===

for target; do
    mkdir -p "corpus/$target" crashes
    echo "fuzz: $target${HOOSH_FUZZ_RUNS:+, $HOOSH_FUZZ_RUNS inputs} for ${HOOSH_FUZZ_RUNS:+at most }$seconds s"
    # 64 KiB: what is longer is more of the same. 25 s and 1 GiB: far beyond what any such input may take.
    "target/$host/release/$target" -seed="${HOOSH_FUZZ_SEED:-0}" -runs="${HOOSH_FUZZ_RUNS:--1}" \
        -max_total_time="$seconds" -max_len=65536 -timeout=25 -rss_limit_mb=1024 \
        -dict=corpus/words.dict -artifact_prefix=crashes/"$target"- -print_final_stats=1 \
        "corpus/$target" >"crashes/$target.log" 2>&1 || {
        grep -aE 'panicked|^==|^SUMMARY' -A 2 "crashes/$target.log" | cut -c 1-2000 | head -20 >&2
        found=$(sed -n 's/.*Test unit written to //p' "crashes/$target.log" | tail -1)
        echo "fuzz: $target broke a law; the input is fuzz/${found:-crashes/$target.log}" >&2
        exit 1
    }
    grep -aE 'number_of_executed_units|new_units_added|peak_rss' "crashes/$target.log"
done
