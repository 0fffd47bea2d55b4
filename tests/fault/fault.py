"""Shared by the fault tests: a run of a second, the preload library's environment, and what must hold afterwards."""
import concurrent.futures
import os
import queue
import re
import shutil
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../e2e"))
import common  # noqa: E402

LIMIT_S = 300
SIGKILLED = -9


class Bench:
    """One program, one preload library, one work folder (in memory where it can be: every sync is then free)."""

    def __init__(self, sqz, preload, work):
        self.sqz, self.preload = sqz, preload
        self.work = common.fresh(work)
        self.count = os.path.join(self.work, "count")
        self.config = tiny(self.work)

    def beside(self, name):
        """Another bench for the same runs, in a folder below."""
        other = Bench(self.sqz, self.preload, os.path.join(self.work, name))
        other.config = self.config
        return other

    def place(self, name):
        folder = common.fresh(os.path.join(self.work, name))
        return os.path.join(folder, "run"), os.path.join(folder, "store")

    def environment(self, store, fault=None, clock=None, free=None):
        env = dict(os.environ, SQZ_REGISTRY=store, NO_COLOR="1", GOMP_SPINCOUNT="1000",
                   XDG_CACHE_HOME=os.path.join(self.work, "cache"))
        for name in ("SQZ_FAULT", "SQZ_FAULT_COUNT", "SQZ_FAULT_CLOCK", "SQZ_FAULT_FREE", "LD_PRELOAD"):
            env.pop(name, None)
        if fault:
            if os.path.exists(self.count):
                os.unlink(self.count)
            env.update(LD_PRELOAD=self.preload, SQZ_FAULT=fault, SQZ_FAULT_COUNT=self.count)
        if clock:
            env.update(LD_PRELOAD=self.preload, SQZ_FAULT_CLOCK=str(clock))
        if free:
            env.update(LD_PRELOAD=self.preload, SQZ_FAULT_FREE=f"{free[0]} {free[1]}")
        return env

    def start(self, args, store, prefix=(), **faults):
        return subprocess.Popen([*prefix, self.sqz, *args], env=self.environment(store, **faults), text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)

    def call(self, args, store, expect=None, prefix=(), **faults):
        """faults: those of environment()."""
        p = self.start(args, store, prefix, **faults)
        try:
            out, err = p.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(p.pid, 9)
            out, err = p.communicate()
            raise AssertionError(f"{args}: did not end in {LIMIT_S} s\n{err[-3000:]}")
        if expect is not None and p.returncode != expect:
            raise AssertionError(f"{' '.join(args)} ({faults}): exit {p.returncode}, expected {expect}\n"
                                 f"{out[-1500:]}\n{err[-3000:]}")
        return p.returncode, out, err

    def run(self, out, store, **kw):
        return self.call(["--config", self.config, "--output", out, "--yes"], store, **kw)

    def resume(self, out, store, **kw):
        """Continues what is there; a run that died before its journal began is begun."""
        if not common.begun(out):
            shutil.rmtree(out, ignore_errors=True)
            return self.run(out, store, **kw)
        return self.call(["run", "--resume", out, "--yes"], store, **kw)

    def counted(self):
        """(calls counted, faults fired, what fired first)"""
        if not os.path.exists(self.count):
            return 0, 0, ""
        data = open(self.count, "rb").read()
        seen, fired = struct.unpack_from("<QQ", data)
        return seen, fired, data[16:].split(b"\0")[0].decode(errors="replace")


class Crew:
    """Several benches at work at the same time."""

    def __init__(self, bench, jobs):
        self.benches = queue.Queue()
        for i in range(jobs):
            self.benches.put(bench.beside(f"bench{i}"))
        self.pool = concurrent.futures.ThreadPoolExecutor(jobs)

    def map(self, work, items):
        """work(bench, item) of each item, in their order; the first failure is raised."""
        def one(item):
            bench = self.benches.get()
            try:
                return work(bench, item)
            finally:
                self.benches.put(bench)
        return list(self.pool.map(one, items))

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self.pool.shutdown(cancel_futures=True)


def tiny(folder, **changes):
    """Three trials of round-to-nearest on a handful of items: about a second."""
    config = {
        "dataset": [{"source": os.path.join(common.DATA, "test.jsonl"), "window": 64, "limit": 4}],
        "calibration": {"source": os.path.join(common.DATA, "calib.jsonl"), "samples": 4, "seq_len": 64},
        "steps": [{"use": "org.sqz.rtn"}],
        "budget": {"trials": 3},
        "eval": {"bench": False, "proxy": {"limit": 2, "kl_tokens": 64}},
    }
    config.update(changes)
    return common.pipeline(folder, **config)


def wait_for_orphans(out):
    deadline = time.monotonic() + 60
    while common.orphans(out) and time.monotonic() < deadline:
        time.sleep(0.02)
    left = common.orphans(out)
    assert not left, f"orphans: {left}"


def leftovers(*folders):
    found = []
    for folder in folders:
        for base, dirs, files in os.walk(folder):
            found += [os.path.join(base, f) for f in files + dirs if re.search(r"\.tmp\.\d+(\.\d+)?$", f)]
            if os.path.basename(base) in ("tmp", "trash"):
                found += [os.path.join(base, f) for f in files]
    return found


def settle(bench, out, store, want, what):
    """After the resume: the same front, a clean store, nothing and nobody left."""
    wait_for_orphans(out)
    got = common.front(out)
    assert got == want, f"{what}: another front\n{got}\n{want}"
    bench.call(["registry", "verify"], store, expect=0)
    bench.call(["registry", "gc", "--grace", "0s"], store, expect=0)
    bench.call(["registry", "verify"], store, expect=0)
    left = leftovers(out, store)
    assert not left, f"{what}: left behind: {left}"
    shutil.rmtree(os.path.dirname(out))
    for name in os.listdir(os.path.dirname(bench.count)):
        assert not name.startswith("core"), f"{what}: a core file"


def work_folder(given):
    """In memory when the machine has it."""
    shm = f"/dev/shm/sqz-fault-{os.getpid()}"
    if os.access("/dev/shm", os.W_OK) and os.statvfs("/dev/shm").f_bavail * os.statvfs("/dev/shm").f_frsize > 512 << 20:
        return shm
    return given
