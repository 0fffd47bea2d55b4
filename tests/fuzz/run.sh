#!/bin/bash
# Runs fuzz targets, one after another.
#
#   run.sh --short FUZZER WORKDIR     the test: seeds and 20000 executions, the same every time
#   run.sh SECONDS BUILD [NAME...]    each target (or the named ones) for SECONDS; corpora and findings
#                                     stay in BUILD/fuzz/corpus/NAME and BUILD/fuzz/findings
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export ASAN_OPTIONS=${ASAN_OPTIONS:-allocator_may_return_null=1:detect_leaks=1} UBSAN_OPTIONS=print_stacktrace=1 GOMP_SPINCOUNT=1000
# One input: at most 10 s, 1 GiB.  Nothing in the tree needs either.
common=(-timeout=10 -rss_limit_mb=1024 -malloc_limit_mb=1024 -max_len=8192 -print_final_stats=1)

if [ "$1" = --short ]; then
    fuzzer=$2 work=$3 name=$(basename "$2") && name=${name#fuzz_}
    rm -rf "$work" && mkdir -p "$work/new"
    "$fuzzer" "${common[@]}" -seed=1 -runs=20000 -dict="$here/dicts/$name.dict" -artifact_prefix="$work/" "$work/new" "$here/seeds/$name" >"$work/log" 2>&1 ||
        { tail -n 60 "$work/log"; echo "fuzz_$name: failed; the input is in $work"; exit 1; }
    grep 'number_of_executed_units' "$work/log"
    exit 0
fi

seconds=$1 build=$2 && shift 2
failed=0
[ $# -gt 0 ] || set -- $(cd "$build/fuzz" && ls fuzz_* | sed 's/^fuzz_//')
mkdir -p "$build/fuzz/findings"
for name; do
    log=$build/fuzz/$name.log corpus=$build/fuzz/corpus/$name
    mkdir -p "$corpus"
    "$build/fuzz/fuzz_$name" "${common[@]}" -max_total_time="$seconds" -dict="$here/dicts/$name.dict" \
        -artifact_prefix="$build/fuzz/findings/$name-" "$corpus" "$here/seeds/$name" >"$log" 2>&1 && state=clean || { state=FOUND; failed=1; }
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -n 1)
    cover=$(grep -o 'cov: [0-9]*' "$log" | tail -n 1)
    printf '%-14s %12s executions  %-10s %s\n' "$name" "${runs:-?}" "$cover" "$state"
    [ $state = clean ] || grep -m 3 -E 'ERROR|SUMMARY|runtime error|Test unit written' "$log" || true
done
[ $failed = 0 ] || echo "findings: $build/fuzz/findings; replay one with $build/fuzz/fuzz_NAME FILE"
exit $failed
