#!/usr/bin/env bash
# Everything there is to try on a machine with a GPU, without a checkout: built programs and a data folder in, a folder of results out.
#
#   tools/gpu-check.sh pack PROGRAMS           here: builds what is needed and puts it into a folder
#   PROGRAMS/gpu-check.sh run DATA RESULTS     there: DATA is what `wikigpt prepare wikitext-2 --tokenizer gpt2 --out DATA` wrote
#
# There: NVIDIA's driver, NVRTC, and compute-sanitizer if it is to be used. Every part writes a log; the last lines say what failed.
# PARTS names the parts to run, all of them without it; TRAIN has other flags for the training runs, to try the script on the emulator:
#
#   PARTS='doctor outputs train' TRAIN='--preset tiny --batch 2 --steps 3' cargo xtask emulated -- PROGRAMS/gpu-check.sh run DATA RESULTS
set -euo pipefail

pack() {
    local out=$1
    mkdir -p "$out"
    cargo build --release --bin wikigpt
    cp target/release/wikigpt "$out/"
    # The newest file of that name is what cargo has just built.
    built() { cargo "$@" --no-run --message-format=json | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -1; }
    cp "$(built test --release -p wikigpt-kernels --test gpu)" "$out/gpu-tests"
    cp "$(built bench --bench gpu)" "$out/gpu-bench"
    # Line numbers are most of what they weigh.
    strip --strip-debug "$out/wikigpt" "$out/gpu-tests" "$out/gpu-bench"
    # What the emulator computes, to lay beside what the card does.
    rm -f "$out/emulator.safetensors"
    cargo xtask emulator >/dev/null
    WIKIGPT_TEST_DEVICE=cuda WIKIGPT_OUTPUTS="$out/emulator.safetensors" \
        cargo xtask emulated -- "$out/gpu-tests" outputs_are_those_of_the_file
    cp "$0" "$out/gpu-check.sh"
    echo "$out: $(du -sh "$out" | cut -f1)"
}

run() {
    local here data=$1 results=$2 failed=()
    here=$(cd "$(dirname "$0")" && pwd)
    mkdir -p "$results"
    wanted() { [ -z "${PARTS:-}" ] || [[ " $PARTS " == *" $1 "* ]]; }
    part() {
        local name=$1
        shift
        echo "== $name"
        if "$@" >"$results/$name.log" 2>&1; then tail -1 "$results/$name.log"; else failed+=("$name"); fi
    }
    if wanted doctor; then part doctor "$here/wikigpt" doctor; fi
    export WIKIGPT_TEST_DEVICE=cuda
    if wanted conformance; then part conformance "$here/gpu-tests"; fi
    if wanted outputs; then
        WIKIGPT_OUTPUTS="$here/emulator.safetensors" \
            part outputs "$here/gpu-tests" outputs_are_those_of_the_file --nocapture
        grep 'the same bits' "$results/outputs.log" || true
    fi
    if wanted sanitizer; then
        if command -v compute-sanitizer >/dev/null; then
            for tool in memcheck racecheck initcheck synccheck; do
                part "sanitizer-$tool" compute-sanitizer --tool "$tool" --error-exitcode 1 "$here/gpu-tests" conformance \
                    --test-threads 1
            done
        else
            echo "compute-sanitizer is not installed: left out"
        fi
    fi
    if wanted train; then
        local flags=(--preset gpt2 --context 1024 --batch 8 --steps 200)
        if [ -n "${TRAIN:-}" ]; then read -ra flags <<<"$TRAIN"; fi
        for precision in f32 bf16; do
            part "train-$precision" "$here/wikigpt" train --data "$data" "${flags[@]}" --precision "$precision" --device cuda \
                --sample-every 0 --checkpoint-every 0 --out "$results/run-$precision"
            cp "$results/run-$precision/metrics.jsonl" "$results/train-$precision.jsonl" 2>/dev/null || true
            rm -rf "$results/run-$precision"
        done
    fi
    if wanted bench; then part bench "$here/gpu-bench" --bench; fi
    if [ ${#failed[@]} -gt 0 ]; then
        echo "failed: ${failed[*]}"
        return 1
    fi
    echo "all parts passed"
}

case "${1:-}" in
    pack) pack "${2:?which folder?}" ;;
    run) run "${2:?which data?}" "${3:?which folder for results?}" ;;
    *) sed -n '2,12p' "$0"; exit 2 ;;
esac
