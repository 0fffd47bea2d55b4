"""kill -9 of the coordinator or of a worker: at random calls that change files, at random times, and after every
journal record.  Resuming gives the front of an undisturbed run, a clean registry, no orphan, no temporary file.

    python3 kill.py SQZ PRELOAD WORKDIR [--points N] [--records all|N] [--seed S] [--jobs N] [--times]

Without --times every point is a call, the same ones each time; with it every second one is a moment.
"""
import argparse
import collections
import os
import random
import shutil
import signal
import subprocess
import time

import fault

CALLS = ("coordinator call", "worker call")
TIMES = ("coordinator time", "worker time")


def plan_of(out, store, who, n, when="before", calls=None):
    kind = f";calls={calls}" if calls else ""
    return f"who={who};path={out};path2={store};n={n};do=kill;when={when}{kind}"


def workers_of(pid):
    """Children of the process that are workers."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
            children = f.read().split()
    except OSError:
        return []
    found = []
    for child in children:
        try:
            with open(f"/proc/{child}/cmdline", "rb") as f:
                if b"\0worker\0" in f.read():
                    found.append(int(child))
        except OSError:
            pass
    return found


def kill_at(bench, out, store, who, delay):
    """After `delay` seconds: the coordinator, or the first worker seen from then on.  True when something was hit."""
    p = bench.start(["--config", bench.config, "--output", out, "--yes"], store)
    hit = False
    try:
        p.communicate(timeout=delay)
    except subprocess.TimeoutExpired:
        while p.poll() is None and not hit:
            victims = [p.pid] if who == "coordinator" else workers_of(p.pid)
            if victims:
                os.kill(victims[0], signal.SIGKILL)
                hit = True
            time.sleep(0.001)
        p.communicate(timeout=fault.LIMIT_S)
    return hit


def choose(rng, kinds, reference, points):
    """(kind, call or seconds, before or after) of each point."""
    for i in range(points):
        kind = kinds[i % len(kinds)]
        if kind in TIMES:
            yield kind, rng.uniform(0.01, 0.98) * reference["seconds"], None
        else:
            yield kind, rng.randint(1, reference[kind.split()[0]]), rng.choice(["before", "after"])


def one_point(bench, point, reference):
    out, store = bench.place("point")
    kind, n, when = point
    who = kind.split()[0]
    if kind in TIMES:
        hit = kill_at(bench, out, store, who, n)
        what = f"{kind} {n:.3f} s"
    else:
        code, _, err = bench.run(out, store, fault=plan_of(out, store, who, n, when))
        _, fired, call = bench.counted()
        what, hit = f"{kind} {n} {when}: {call}", fired > 0
        assert not hit or who == "worker" or code == fault.SIGKILLED, f"{what}: exit {code}\n{err[-2000:]}"
    fault.wait_for_orphans(out)
    bench.resume(out, store, expect=0)
    fault.settle(bench, out, store, reference["front"], what)
    return kind, hit, what


def chosen_records(reference, limit):
    n = reference["records"]
    return list(range(1, n + 1)) if limit == "all" else sorted({1 + i * (n - 1) // max(int(limit) - 1, 1) for i in range(int(limit))})


def one_record(bench, k, reference):
    """Right after the k-th record is durable."""
    out, store = bench.place("record")
    code, _, err = bench.run(out, store, fault=plan_of(out, store, "coordinator", k, "after", "journal"))
    assert code == fault.SIGKILLED, f"record {k}: exit {code}\n{err[-2000:]}"
    with open(os.path.join(out, "journal.jsonl"), encoding="utf-8") as f:
        assert sum(1 for _ in f) == k, f"record {k}"
    fault.wait_for_orphans(out)
    bench.resume(out, store, expect=0)
    fault.settle(bench, out, store, reference["front"], f"record {k}")


def measure(bench):
    """The undisturbed run: its front, its length, its number of calls."""
    result = {}
    for who in ("coordinator", "worker"):
        out, store = bench.place("whole-" + who)
        bench.run(out, store, fault=plan_of(out, store, who, 0), expect=0)
        result[who] = bench.counted()[0]
        front = fault.common.front(out)
        assert result.setdefault("front", front) == front, "two undisturbed runs differ"
        with open(os.path.join(out, "journal.jsonl"), encoding="utf-8") as f:
            result["records"] = sum(1 for _ in f)
        shutil.rmtree(os.path.dirname(out))
    assert len(result["front"]) >= 2, result["front"]
    out, store = bench.place("whole")
    begin = time.monotonic()
    bench.run(out, store, expect=0)
    result["seconds"] = time.monotonic() - begin
    fault.settle(bench, out, store, result["front"], "undisturbed")
    return result


def main():
    p = argparse.ArgumentParser()
    p.add_argument("sqz")
    p.add_argument("preload")
    p.add_argument("work")
    p.add_argument("--points", type=int, default=16)
    p.add_argument("--records", default="8")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--jobs", type=int, default=2)
    p.add_argument("--times", action="store_true")
    a = p.parse_args()
    bench = fault.Bench(a.sqz, a.preload, fault.work_folder(os.path.abspath(a.work)))
    rng = random.Random(a.seed)
    try:
        reference = measure(bench)
        print(f"undisturbed: {reference['seconds']:.2f} s, front of {len(reference['front'])}, {reference['records']} records, "
              f"{reference['coordinator']} calls of the coordinator, {reference['worker']} of workers", flush=True)
        records = chosen_records(reference, a.records)
        points = list(choose(rng, CALLS + TIMES if a.times else CALLS, reference, a.points))
        hits = collections.Counter()
        with fault.Crew(bench, a.jobs) as crew:
            crew.map(lambda b, k: one_record(b, k, reference), records)
            print(f"after a journal record: {len(records)} of {len(records)} the same", flush=True)
            for i, (kind, hit, what) in enumerate(crew.map(lambda b, point: one_point(b, point, reference), points)):
                hits[kind] += hit
                print(f"point {i}: {what}{'' if hit else ' (ended before)'}", flush=True)
        print(f"ok: {a.points} points, {sum(hits.values())} hit: {dict(hits)}")
    finally:
        if os.path.isdir(bench.work):
            shutil.rmtree(bench.work)


main()
