#!/bin/sh
# A plugin built with the headers of version 1.1 works on this host: checked, then used in earnest.
#   old_plugin.sh SQZ PLUGIN SOURCE_DIR WORKDIR
set -eu
sqz=$1 plugin=$2 model=$3/examples/tiny-arith/model data=$3/examples/tiny-arith/data work=$4
rm -rf "$work"
mkdir -p "$work"
export SQZ_REGISTRY="$work/store" NO_COLOR=1
"$sqz" plugin check "$plugin"
"$sqz" quantize "$model" --method method11 --calibration "$data/calib.jsonl" --samples 8 --seq-len 64 \
    --output "$work/out" --plugin-path "$plugin" --json "$work/out.json"
grep -q 'com.old.method11' "$work/out.json"
"$sqz" eval "$work/out" --dataset "$data/test.jsonl" --window 128 --limit 4
echo "old plugin: ok"
