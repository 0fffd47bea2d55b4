#!/usr/bin/env bash
# Comparisons with Python peers (make interop), all or the ones named:
#
#   tests/interop/run.sh [export] [families] [tokenizers] [chat] [gguf] [parquet] [hub] [estimate] [agreement]
#                        [long] [mlflow]
#
# Uses the interpreter in $SQZ_PYTHON when set, else makes a virtual environment under build/; the program of $SQZ_BUILD
# (default build).  $SQZ_PYTHON_4 has transformers 4, with which `families` loads routed experts.  SQZ_SHARED names the
# folder of models, golden outputs, tokenizers and evaluation rows that some of them
# need; they say so and are passed over without it.  One that fails does not stop the others; exit 1 then.
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

compare() {
    case $1 in
    export) "$python" $here/interop.py --sqz "$sqz" ;;
    families) "$python" $here/families.py --sqz "$sqz" ;;
    tokenizers) "$python" $here/compare_tokenizers.py --stream "$build/tests/tokenizer_stream" ;;
    chat) "$python" $here/chat.py "$build" ;;
    gguf) "$python" $here/gguf_files.py --sqz "$sqz" ;;
    parquet) "$python" $here/parquet.py "$sqz" ;;
    hub) "$python" $here/hub.py "$sqz" ;;
    estimate) "$python" $here/model_counts.py --sqz "$sqz" ;;
    # A few rows of every task; docs/agreement.md has the long runs.
    agreement)
        rm -rf build/interop/agreement
        "$python" $here/agreement.py --sqz "$sqz" --limit 10 --subject-rows 1 --generations 2 --work build/interop/agreement
        ;;
    long) "$python" $here/long_context.py "$sqz" examples/tiny-arith/model examples/tiny-arith/data/test.jsonl ;;
    # A real MLflow server (loopback); uses $SQZ_MLFLOW_PYTHON or makes an environment of its own.
    mlflow) python3 $here/mlflow.py "$sqz" ;;
    *) echo "no comparison is called $1" && return 1 ;;
    esac
}

failed=()
[ $# -gt 0 ] || set -- export families tokenizers chat gguf parquet hub estimate agreement long mlflow
for name in "$@"; do
    echo "== $name"
    start=$SECONDS
    compare "$name" || failed+=("$name")
    echo "== $name: $((SECONDS - start)) s"
done
[ ${#failed[@]} -eq 0 ] && echo "interop: all agree" && exit 0
echo "interop: FAILED: ${failed[*]}"
exit 1
