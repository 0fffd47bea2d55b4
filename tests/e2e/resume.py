"""kill -9 of the coordinator at 10 random points; `sqz run --resume` must give the front of an undisturbed run.

    python3 resume.py SQZ WORKDIR [SEED]
"""
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import common


def main(sqz, work, seed):
    rng = random.Random(seed)
    work = common.fresh(work)
    config = common.pipeline(work)
    begin = time.monotonic()
    common.run(sqz, ["--config", config, "--output", os.path.join(work, "whole"), "--yes"], os.path.join(work, "store0"))
    length = time.monotonic() - begin
    want = common.front(os.path.join(work, "whole"))
    for k in range(10):
        store, out = os.path.join(work, f"store{k + 1}"), os.path.join(work, f"run{k + 1}")
        delay = rng.uniform(0.02, 1.0) * length
        p = common.start(sqz, ["--config", config, "--output", out, "--yes"], store)
        try:
            p.communicate(timeout=delay)
        except subprocess.TimeoutExpired:
            os.kill(p.pid, signal.SIGKILL)
            p.communicate()
        deadline = time.monotonic() + 60
        while common.orphans(out) and time.monotonic() < deadline:
            time.sleep(0.05)
        left = common.orphans(out)
        assert not left, f"point {k}: orphans {left}"
        if not common.begun(out):
            shutil.rmtree(out, ignore_errors=True)
            common.run(sqz, ["--config", config, "--output", out, "--yes"], store)
        else:
            common.run(sqz, ["run", "--resume", out, "--yes"], store)
        got = common.front(out)
        assert got == want, f"killed after {delay:.2f} s of {length:.2f}:\n{got}\n{want}"
        common.run(sqz, ["registry", "verify"], store)
        print(f"point {k}: killed after {delay:.2f} of {length:.2f} s, same front of {len(got)}", flush=True)
        shutil.rmtree(store)
        shutil.rmtree(out)


main(sys.argv[1], os.path.abspath(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1)
