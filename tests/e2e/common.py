"""Shared by the e2e tests: a small pipeline on the bundled model, starting the program, comparing fronts."""
import json
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MODEL = os.path.join(ROOT, "examples/tiny-arith/model")
DATA = os.path.join(ROOT, "examples/tiny-arith/data")


def fresh(path):
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    return path


def pipeline(folder, name="pipeline.json", **changes):
    """Writes a config of few, short trials; returns its path."""
    config = {
        "model": MODEL,
        "dataset": [
            {"source": os.path.join(DATA, "test.jsonl"), "window": 256, "limit": 24},
            {"source": os.path.join(DATA, "facts_test.jsonl"), "limit": 24},
        ],
        "calibration": {"source": os.path.join(DATA, "calib.jsonl"), "samples": 16, "seq_len": 128},
        "objectives": ["quality", "bytes"],
        "budget": {"trials": 6},
        "eval": {"proxy": {"limit": 12}},
        "seed": 11,
    }
    config.update(changes)
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as f:
        json.dump(config, f)
    return path


def start(sqz, args, store, **kw):
    env = dict(os.environ, SQZ_REGISTRY=store, NO_COLOR="1")
    return subprocess.Popen([sqz, *args], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **kw)


def run(sqz, args, store, expect=0):
    p = start(sqz, args, store)
    out, err = p.communicate()
    if p.returncode != expect:
        sys.exit(f"{' '.join(args)}: exit {p.returncode}, expected {expect}\n--- stdout\n{out[-2000:]}\n--- stderr\n{err[-4000:]}")
    return out, err


def load(folder, name):
    with open(os.path.join(folder, name), encoding="utf-8") as f:
        return json.load(f)


def begun(out):
    """A run that was killed before its first record was durable is begun again, not resumed."""
    try:
        with open(os.path.join(out, "journal.jsonl"), "rb") as f:
            return b"\n" in f.read()
    except FileNotFoundError:
        return False


def front(folder):
    """What must be identical after a resume: strategies, artifacts, quality, bytes."""
    rows = []
    for m in load(folder, "pareto.json")["members"]:
        rows.append((m["strategy_id"], m["label"], m["artifact"], m["metrics"]["quality"], m["metrics"]["bytes"], m["path"]))
    return rows


def orphans(marker, store=None):
    """Processes whose command line names `marker`, and whose registry is `store` when it is given."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                line = f.read().replace(b"\0", b" ").decode(errors="replace")
            if store and marker in line:
                with open(f"/proc/{pid}/environ", "rb") as f:
                    if f"SQZ_REGISTRY={store}".encode() not in f.read().split(b"\0"):
                        continue
        except OSError:
            continue
        if marker in line and int(pid) != os.getpid() and "python" not in line.split(" ")[0]:
            found.append((int(pid), line))
    return found
