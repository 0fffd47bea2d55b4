"""A method plugin that segfaults costs its trials, not the run, and the report names it.

    python3 crash.py SQZ WORKDIR
"""
import json
import os
import sys

import common


def main(sqz, work):
    work = common.fresh(work)
    bad = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(sqz))), "tests/bad_plugins")
    store, out = os.path.join(work, "store"), os.path.join(work, "run")
    plugin = next((os.path.join(d, f) for d, _, files in os.walk(bad) for f in files if f == "segv_method.so"), None)
    assert plugin, f"no segfaulting plugin under {bad}"
    config = common.pipeline(work, plugins={"path": [plugin]}, budget={"trials": 10})
    common.run(sqz, ["--config", config, "--output", out, "--yes"], store)
    trials = [json.loads(line) for line in open(os.path.join(out, "trials.jsonl"), encoding="utf-8")]
    outcomes = {t["outcome"] for t in trials}
    assert "crashed" in outcomes and "ok" in outcomes, outcomes
    assert common.front(out), "no front beside the crashing method"
    assert all("segv" not in m["label"] for m in common.load(out, "pareto.json")["members"])
    report = open(os.path.join(out, "report.md"), encoding="utf-8").read()
    assert "crashed" in report and "segv_method" in report.replace("\\", "")
    common.run(sqz, ["registry", "verify"], store)
    print(f"ok: {sorted(outcomes)}")


main(sys.argv[1], os.path.abspath(sys.argv[2]))
