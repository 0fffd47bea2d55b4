"""Ctrl-C: the first ends the run with a report and exit 130, the second ends it now; nothing stays behind.

    python3 interrupt.py SQZ WORKDIR
"""
import json
import os
import signal
import sys
import time

import common

LIMIT_S = 300  # only a hang reaches it


def wait_for_trials(out, n, p):
    path = os.path.join(out, "trials.jsonl")
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline and p.poll() is None:
        if os.path.exists(path) and sum(1 for _ in open(path, encoding="utf-8")) >= n:
            return
        time.sleep(0.02)
    sys.exit(f"no {n} trials in {LIMIT_S} s; exit {p.poll()}\n{p.communicate()[1][-2000:]}")


def main(sqz, work):
    work = common.fresh(work)
    store = os.path.join(work, "store")
    config = common.pipeline(work, budget={"trials": 60})
    for presses in (1, 2):
        out = os.path.join(work, f"run{presses}")
        p = common.start(sqz, ["--config", config, "--output", out, "--yes"], store)
        wait_for_trials(out, 3, p)
        for _ in range(presses):
            os.kill(p.pid, signal.SIGINT)
            time.sleep(0.3)
        p.communicate(timeout=LIMIT_S)
        assert p.returncode == 130, p.returncode
        assert not common.orphans(out), common.orphans(out)
        if presses == 1:
            assert os.path.getsize(os.path.join(out, "report.html")) > 0
            assert common.load(out, "pareto.json")["members"], "no front in the report of an interrupted run"
        trials = [json.loads(line) for line in open(os.path.join(out, "trials.jsonl"), encoding="utf-8")]
        assert len(trials) < 60
        common.run(sqz, ["registry", "verify"], store)
    print("ok")


main(sys.argv[1], os.path.abspath(sys.argv[2]))
