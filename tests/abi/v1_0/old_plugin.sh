#!/bin/sh
# A plugin built with the headers of version 1.0 works on this host: checked, then used in earnest.
#   old_plugin.sh SQZ PLUGIN SOURCE_DIR WORKDIR
set -eu
sqz=$1 plugin=$2 model=$3/examples/tiny-arith/model data=$3/examples/tiny-arith/data work=$4
rm -rf "$work"
mkdir -p "$work"
export SQZ_REGISTRY="$work/store" NO_COLOR=1
"$sqz" plugin check "$plugin"
"$sqz" plugin info method --kind method --plugin-path "$plugin" >/dev/null
cat >"$work/pipeline.json" <<END
{"model": "$model",
 "dataset": [{"source": "$data/test.jsonl", "window": 128, "limit": 8, "use": "com.old.eval"}],
 "calibration": {"source": "$data/calib.jsonl", "samples": 8, "seq_len": 64},
 "plugins": {"path": ["$plugin"]},
 "steps": [{"use": "com.old.method", "with": {"remark": "of the past"}, "search": {"bits": [2, 3, 4, 8]}}],
 "search": {"use": "com.old.search"},
 "objectives": ["quality", "bytes"],
 "constraints": {"max_accuracy_drop": 10}, "budget": {"trials": 5}}
END
"$sqz" --config "$work/pipeline.json" --output "$work/run" --yes --quiet
grep -q '"strategy_id"' "$work/run/pareto.json"
grep -q 'com.old.method' "$work/run/trials.jsonl"
grep -q 'com.old.eval' "$work/run/trials.jsonl"
grep -q 'com.old.search' "$work/run/trials.jsonl"
if grep -qE '"outcome": ?"(crashed|failed|protocol|timeout|oom)"' "$work/run/trials.jsonl"; then
    echo "a trial of the old plugin failed:"
    cat "$work/run/trials.jsonl"
    exit 1
fi
echo "old plugin: ok"
