"""Whole runs with real workers and trackers in a build with ThreadSanitizer: undisturbed, interrupted, synced later.
No process of them may report a data race.

    python3 threads.py SQZ WORKDIR
"""
import glob
import os
import signal
import sys
import time

import fault
from fault import common

# A port that nobody listens on: the tracker tries, waits and gives up.
TRACKERS = [{"use": "mlflow", "with": {"uri": "http://127.0.0.1:9"}}, "jsonl"]


def races(work):
    found = glob.glob(os.path.join(work, "tsan.*"))
    for path in found:
        with open(path, encoding="utf-8", errors="replace") as f:
            print(f.read()[:6000])
    assert not found, f"{len(found)} processes reported data races"


def main(sqz, work):
    work = common.fresh(work)
    store = os.path.join(work, "store")
    # The handlers of ThreadSanitizer stay away from crashes, which are the workers' to report.
    os.environ["TSAN_OPTIONS"] = f"log_path={work}/tsan handle_segv=0 handle_abort=0"
    config = fault.tiny(work, tracker=TRACKERS, budget={"trials": 2})
    whole = os.path.join(work, "whole")
    common.run(sqz, ["--config", config, "--output", whole, "--yes"], store)
    assert common.load(whole, "pareto.json")["members"]
    assert os.path.getsize(os.path.join(whole, "tracking/events.jsonl"))
    races(work)
    common.run(sqz, ["sync", whole], store, expect=8)
    races(work)
    stopped = os.path.join(work, "stopped")
    p = common.start(sqz, ["--config", config, "--output", stopped, "--yes", "--seed", "5"], store)
    while p.poll() is None and not os.path.exists(os.path.join(stopped, "trials.jsonl")):
        time.sleep(0.02)
    p.send_signal(signal.SIGINT)
    _, err = p.communicate()
    assert p.returncode == 130, f"exit {p.returncode}\n{err[-2000:]}"
    races(work)
    print("ok: run, sync and interrupted run, no data race")


main(sys.argv[1], os.path.abspath(sys.argv[2]))
