#!/usr/bin/env bash
# Comparisons with Python peers (make interop).  Uses the interpreter in $SQZ_PYTHON when set, else makes a
# virtual environment under build/.  Not part of `make check`; results are recorded in docs/interop.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${SQZ_PYTHON:-}
if [ -z "$python" ]; then
    venv=build/venv-interop
    if [ ! -x $venv/bin/python ] || [ ! -e $venv/.ready ]; then
        echo "interop: making $venv (a large download: torch and transformers)"
        python3 -m venv $venv
        $venv/bin/pip install -q -U pip
        $venv/bin/pip install -q -r tests/interop/requirements.txt
        BUILD_CUDA_EXT=0 $venv/bin/pip install -q --no-build-isolation gptqmodel
        touch $venv/.ready
    fi
    python=$venv/bin/python
fi
"$python" tests/interop/interop.py "$@"
"$python" tests/interop/compare_tokenizers.py
"$python" tests/interop/families.py
"$python" tests/interop/gguf_files.py --sqz build/bin/sqz
# A real MLflow server (loopback); uses $SQZ_MLFLOW_PYTHON or makes an environment of its own.
exec python3 tests/interop/mlflow.py
