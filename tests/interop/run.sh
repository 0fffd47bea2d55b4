#!/usr/bin/env bash
# Comparisons with Python peers (make interop), all or the ones named:
#
#   tests/interop/run.sh [export] [families] [tokenizers] [chat] [gguf] [parquet] [hub] [estimate] [agreement]
#                        [long] [mlflow]
#
# Uses the interpreter in $SQZ_PYTHON when set, else makes a virtual environment under build/; the program of $SQZ_BUILD
# (default build).  $SQZ_PYTHON_4 has transformers 4, with which `families` loads routed experts.  SQZ_SHARED names the
# folder of models, golden outputs, tokenizers and evaluation rows that some of them need.  SQZ_INTEROP=full takes
# every window in `export` and the long run of `agreement`; else each layout, task and model is met once, with few rows.
#
# One that fails does not stop the others; a table at the end says of each whether it agrees, differs, broke (its script
# ended with an error of its own) or was skipped, what of it was skipped and why, and the last line that it printed.
# Exit 1 when one differs or broke.  A script ends with 77 when it can compare nothing here, and begins a line with
# "skipped: " for each part that it passes over.  What they print is kept in build/interop/NAME.log.
# Not part of `make check`; results are recorded in docs/interop.md.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
build=$(cd "${SQZ_BUILD:-build}" && pwd) || exit 1 # whole: some start programs in other folders
sqz=$build/bin/sqz here=tests/interop

ready() {
    local venv=build/venv-interop
    if [ ! -e $venv/.ready ]; then
        echo "interop: making $venv (a large download: torch and transformers)"
        python3 -m venv $venv && $venv/bin/pip install -q -U pip && $venv/bin/pip install -q -r $here/requirements.txt &&
            BUILD_CUDA_EXT=0 $venv/bin/pip install -q --no-build-isolation gptqmodel && touch $venv/.ready || exit 1
    fi
    python=$venv/bin/python
}
python=${SQZ_PYTHON:-}
[ -n "$python" ] || ready
command -v "$python" >/dev/null || { echo "interop: SQZ_PYTHON: $python is no program" >&2 && exit 2; }
export PYTHONUNBUFFERED=1 HF_HUB_DISABLE_PROGRESS_BARS=1 TQDM_DISABLE=1 # a log of results, not of bars

full() { [ "${SQZ_INTEROP:-}" = full ]; }

export_() {
    local rows=(--windows 100)
    if full; then rows=(); else echo "skipped: windows after the first 100 of 438 (SQZ_INTEROP=full takes all)"; fi
    "$python" $here/interop.py --sqz "$sqz" "${rows[@]}"
}

agreement() {
    local work=build/interop/agreement rows=(--limit 10 --shots default,2 --subject-rows 1 --generations 2 --pages 1)
    if full; then
        # A full run that was stopped goes on, with the harness's answers kept; sqz's only if it is the same build.
        work+=-full rows=(--limit 100 --shots default,2)
        mkdir -p $work
        [ -e $work/begun ] && [ -z "$(find "$build/bin" "$build/lib" -newer $work/begun -print -quit)" ] || rm -rf $work/results
        [ -e $work/results ] || touch $work/begun
    else
        rm -rf $work
        echo "skipped: rows of a task after the first 10, of mmlu's subjects after the first (SQZ_INTEROP=full takes 100 and 5: hours)"
    fi
    "$python" $here/agreement.py --sqz "$sqz" --work $work --markdown build/interop/agreement.md "${rows[@]}"
}

compare() {
    case $1 in
    export) export_ ;;
    families) "$python" $here/families.py --sqz "$sqz" ;;
    tokenizers) "$python" $here/compare_tokenizers.py --stream "$build/tests/tokenizer_stream" ;;
    chat) "$python" $here/chat.py "$build" ;;
    gguf) "$python" $here/gguf_files.py --sqz "$sqz" ;;
    parquet) "$python" $here/parquet.py "$sqz" ;;
    hub) "$python" $here/hub.py "$sqz" ;;
    estimate) "$python" $here/model_counts.py --sqz "$sqz" ;;
    agreement) agreement ;;
    long) "$python" $here/long_context.py "$sqz" examples/tiny-arith/model examples/tiny-arith/data/test.jsonl ;;
    # A real MLflow server (loopback); uses $SQZ_MLFLOW_PYTHON or makes an environment of its own.
    mlflow) python3 $here/mlflow.py "$sqz" ;;
    esac
}

# Its line of the table, from how it ended ($2) and what it printed, and a line for each part that it passed over.
told() {
    local log=build/interop/$1.log verdict=agrees last skipped
    last=$(grep -v '^skipped: ' "$log" | tail -1) skipped=$(sed -n 's/^skipped: //p' "$log")
    if [ "$2" = 77 ]; then
        verdict=skipped last=${skipped##*$'\n'} skipped=
    elif [ "$2" != 0 ]; then
        failed=1 verdict=differs
        grep -q '^Traceback (most recent call last)' "$log" && verdict=broke
    fi
    summary+=$(printf '%-10s  %-7s  %5d s  %s' "$1" $verdict "$3" "${last:0:160}")$'\n'
    [ -z "$skipped" ] || summary+=$(echo "$skipped" | sed 's/^/                               not compared: /')$'\n'
}

all=(export families tokenizers chat gguf parquet hub estimate agreement long mlflow) failed=0 summary=
[ $# -gt 0 ] || set -- "${all[@]}"
for name in "$@"; do
    [[ " ${all[*]} " = *" $name "* ]] || { echo "interop: no comparison is called $name; there are: ${all[*]}" >&2 && exit 2; }
done
mkdir -p build/interop
for name in "$@"; do
    echo "== $name"
    start=$SECONDS
    compare "$name" 2>&1 | tee "build/interop/$name.log"
    told "$name" "${PIPESTATUS[0]}" $((SECONDS - start))
done
echo "== summary after $SECONDS s"
printf '%s' "$summary"
[ $failed = 0 ] && echo "interop: what was compared agrees" && exit 0
echo "interop: NOT all agree; build/interop/NAME.log has what each printed"
exit 1
