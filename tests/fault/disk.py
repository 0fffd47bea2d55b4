"""Damaged journals, full and failing disks, foreign registries, a wrong clock, two processes at once.
Each ends with the documented exit code and a message that names the cause, and after the cause is gone the run
continues to the front of an undisturbed one.

    python3 disk.py SQZ PRELOAD WORKDIR [--points N] [--seed S] [--jobs N] [--only WORDS]
"""
import argparse
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time

import fault
from fault import common

STORAGE, CONFLICT = 7, 9
WORDS = {"ENOSPC": "No space left on device", "EIO": "Input/output error", "EDQUOT": "quota exceeded",
         "EROFS": "Read-only file system", "EACCES": "Permission denied", "EMFILE": "Too many open files"}
MIB = 1 << 20


def artifacts(bench, store):
    """What the registry lists."""
    out = os.path.join(bench.work, "ls.json")
    bench.call(["registry", "ls", "--json", out], store, expect=0)
    with open(out, encoding="utf-8") as f:
        return sorted(a["digest"] for a in json.load(f)["artifacts"])


def reference(bench):
    out, store = bench.place("whole")
    bench.run(out, store, fault=f"who=any;path={out};path2={store};n=0", expect=0)
    front, calls, listed = common.front(out), bench.counted()[0], artifacts(bench, store)
    assert len(front) >= 2 and len(listed) == 3, (front, listed)
    keep = os.path.join(bench.work, "kept")
    shutil.move(os.path.dirname(out), keep)
    return {"front": front, "calls": calls, "artifacts": listed, "keep": keep}


def finish(bench, ref, out, store, what):
    """The cause is gone: continue, compare."""
    fault.wait_for_orphans(out)
    _, _, err = bench.resume(out, store, expect=0)
    assert artifacts(bench, store) == ref["artifacts"], f"{what}: the registry lists other artifacts"
    fault.settle(bench, out, store, ref["front"], what)
    return err


# ---- journals ------------------------------------------------------------------------------------

def damaged(rng, data):
    """(name, damaged journal): cut anywhere, one bit flipped, foreign bytes at the end, a record twice."""
    lines = data.splitlines(keepends=True)
    last = len(data) - len(lines[-1])
    yield "cut in the last record", data[:rng.randrange(last + 1, len(data))]
    yield "cut anywhere", data[:rng.randrange(len(lines[0]) + 1, len(data))]
    yield "zeros at the end", data[:last] + bytes(len(lines[-1]))
    yield "foreign bytes at the end", data + rng.randbytes(300)
    yield "a record twice", data + lines[-1]
    for _ in range(2):
        at = rng.randrange(len(lines[0]), len(data))
        yield f"bit flipped at {at}", data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1:]


def journals(bench, ref, rng, rounds):
    """On whole runs; the first part of the reference run is what was written before the damage."""
    with open(os.path.join(ref["keep"], "run/journal.jsonl"), "rb") as f:
        whole = f.read()
    done = 0
    for _ in range(rounds):
        lines = whole.splitlines(keepends=True)
        part = b"".join(lines[:rng.randrange(3, len(lines) + 1)])
        for name, data in damaged(rng, part):
            out, store = bench.place("journal")
            shutil.copytree(os.path.join(ref["keep"], "store"), store)
            shutil.copytree(os.path.join(ref["keep"], "run"), out)
            with open(os.path.join(out, "journal.jsonl"), "wb") as f:
                f.write(data)
            code, _, err = bench.call(["run", "--resume", out, "--yes"], store)
            assert code == 0, f"{name}: exit {code}\n{err[-2000:]}"
            intact = data.endswith(b"\n") and part.startswith(data)
            assert intact or "damaged and are not used" in err, f"{name}: nothing was said\n{err[-2000:]}"
            fault.settle(bench, out, store, ref["front"], name)
            done += 1
    out, store = bench.place("journal")
    shutil.copytree(os.path.join(ref["keep"], "run"), out)
    with open(os.path.join(out, "journal.jsonl"), "wb") as f:
        f.write(b"x" + whole[1:])
    _, _, err = bench.call(["run", "--resume", out, "--yes"], store, expect=CONFLICT)
    assert "no intact first record" in err, err
    with open(os.path.join(out, "journal.jsonl"), "wb") as f:
        f.write(newer_journal())
    _, _, err = bench.call(["run", "--resume", out, "--yes"], store, expect=CONFLICT)
    assert "sqz.journal/2" in err and "version" in err, err
    return f"{done} damaged journals continued, 2 refused"


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def newer_journal():
    record = {"schema": "sqz.journal/2", "seq": 0, "type": "open"}
    crc = crc32c(json.dumps(record, separators=(",", ":"), sort_keys=True).encode())
    return (json.dumps(dict(record, crc=f"{crc:08x}")) + "\n").encode()


# ---- calls that fail -----------------------------------------------------------------------------

def failing_calls(bench, ref, rng, name, points):
    """One call, or every call from one on, fails.  The run may not notice (what is only a convenience), but when it
    ends it says why with exit code 7."""
    ended = 0
    for _ in range(points):
        times, n = rng.choice([0, 0, 1]), rng.randint(1, ref["calls"])
        out, store = bench.place("call")
        code, _, err = bench.run(out, store, fault=f"who=any;path={out};path2={store};n={n};times={times};do={name}")
        what = f"{name} at {n} ({'one' if times else 'all on'}): {bench.counted()[2]}"
        assert code in (0, STORAGE), f"{what}: exit {code}\n{err[-2000:]}"
        if code:
            said = [line for line in err.splitlines() if line.startswith("error:")]
            sql = "disk" in err or "database" in err
            assert said and (WORDS[name] in err or sql), f"{what}: the cause is not said\n{err[-2000:]}"
            ended += 1
        finish(bench, ref, out, store, what)
    return f"{points} points, {ended} ended the run with exit 7, all continued"


def lost_result(bench, ref):
    """A worker whose result cannot be written is no mistake of its plugins and costs no trial."""
    for name in ("ENOSPC", "EDQUOT"):
        out, store = bench.place("lost")
        result = os.path.join(out, "jobs/s0003.proxy/result.json")
        code, _, err = bench.run(out, store, fault=f"who=worker;path={result};n=1;do={name};calls=create")
        assert bench.counted()[1] == 1 and code == STORAGE and WORDS[name] in err and "result.json" in err, f"{name}: exit {code}\n{err[-1500:]}"
        finish(bench, ref, out, store, f"lost result {name}")
    return "ENOSPC and EDQUOT: exit 7, no trial lost"


def short_writes(bench, ref):
    out, store = bench.place("short")
    bench.run(out, store, fault=f"who=any;path={out};path2={store};n=1;times=0;do=short;calls=write;not=registry.db", expect=0)
    halved = bench.counted()[1]
    assert halved > 50, halved
    fault.settle(bench, out, store, ref["front"], "short writes")
    return f"{halved} writes were cut in half, same front"


def read_only(bench, ref):
    for which in ("run", "store"):
        for name in ("EROFS", "EACCES"):
            out, store = bench.place("readonly")
            path = out if which == "run" else store
            code, _, err = bench.run(out, store, fault=f"who=any;path={path};n=1;times=0;do={name}")
            assert code == STORAGE and WORDS[name] in err and path in err, f"{which} {name}: exit {code}\n{err[-1500:]}"
            finish(bench, ref, out, store, f"read-only {which}")
    return "run folder and registry: exit 7, the folder is named"


# ---- a disk that is too small ---------------------------------------------------------------------

def in_namespace():
    """How to get a mount namespace of one's own, or None."""
    for flags in (["-m"], ["-Urm"]):
        probe = ["unshare", *flags, "sh", "-c", "mount -t tmpfs -o size=1m none /mnt"]
        if shutil.which("unshare") and subprocess.run(probe, capture_output=True, check=False).returncode == 0:
            return ["unshare", *flags]
    return None


def small_disks(bench, ref, sizes):
    """Inside the namespace."""
    ended = 0
    for kib in sizes:
        place = common.fresh(os.path.join(bench.work, "small"))
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "none", place], check=True)
        out, store = os.path.join(place, "a/run"), os.path.join(place, "a/store")
        code, _, err = bench.run(out, store)
        assert code in (0, STORAGE), f"{kib} KiB: exit {code}\n{err[-2000:]}"
        said = ("No space left" in err and "free some" in err) or "disk is full" in err or ("are free" in err and "is not begun" in err)
        assert code == 0 or said, f"{kib} KiB: the cause is not said\n{err[-2000:]}"
        ended += code == STORAGE
        subprocess.run(["mount", "-o", "remount,size=256m", place], check=True)
        finish(bench, ref, out, store, f"{kib} KiB")
        subprocess.run(["umount", place], check=True)
    return f"{len(sizes)} sizes from {sizes[0]} to {sizes[-1]} KiB, {ended} full, all continued after making room"


def full_disk(bench, ref, points):
    prefix = in_namespace()
    if not prefix:
        return "skipped: no mount namespace here (the failing calls above stand in for it)"
    need = sum(os.path.getsize(os.path.join(d, f)) for d, _, files in os.walk(ref["keep"]) for f in files) // 1024
    n = max(points // 2, 4)
    sizes = [64 + i * need // (n - 1) for i in range(n)]
    p = subprocess.run([*prefix, sys.executable, os.path.abspath(__file__), bench.sqz, bench.preload, bench.work, "--sizes",
                        json.dumps([sizes, ref])], capture_output=True, text=True, check=False)
    assert p.returncode == 0, p.stdout + p.stderr
    return p.stdout.strip()


def objects(store):
    return sorted(f for _, _, files in os.walk(os.path.join(store, "objects")) for f in files)


def no_room(bench, ref):
    """What will not fit is refused before it begins, and nothing of it is written: a candidate and an export of a run, and
    the artifact, the calibration statistics and the checkpoint of a single step."""
    out, store = bench.place("room")
    code, _, err = bench.run(out, store, free=(1 * MIB, store))
    assert code == STORAGE and "s0001.proxy is not begun: the compressed candidate needs about" in err, f"{code}\n{err[-1500:]}"
    assert f"in {store}, 1.0 MB are free" in err and f"sqz run --resume {out}" in err, err[-1500:]
    assert not os.path.exists(os.path.join(out, "jobs/s0001.proxy")), "the job was begun"
    before = objects(store)
    code, _, err = bench.resume(out, store, free=(1 * MIB, out))
    assert code == STORAGE and ".export is not begun: the exported checkpoint needs about" in err, f"{code}\n{err[-1500:]}"
    assert f"in {out}, 1.0 MB are free" in err and len(objects(store)) > len(before), err[-1500:]
    assert not os.path.isdir(os.path.join(out, "models")) or not os.listdir(os.path.join(out, "models"))
    told = unexported(out)
    assert told[0][1] and "is not begun" in told[0][1] and not any(path for path, _ in told), told
    finish(bench, ref, out, store, "no room")

    data = os.path.join(common.DATA, "calib.jsonl")
    # 16 MB are kept spare; the artifact, which is asked for first, needs 2 MB
    steps = [("the artifact of this step", "rtn", lambda o, s: (1 * MIB, s)), ("the exported checkpoint", "rtn", lambda o, s: (1 * MIB, o)),
             ("the calibration statistics of this model", "gptq", lambda o, s: (18_200_000, s))]
    for words, method, free in steps:
        out, store = bench.place("room")
        args = ["quantize", common.MODEL, "--method", method, "--output", out, "--calibration", data, "--samples", "4", "--seq-len", "64"]
        _, _, err = bench.call(args, store, free=free(out, store), expect=STORAGE)
        assert f"{words} needs about" in err and "MB are free" in err, f"{words}:\n{err[-1500:]}"
        assert not os.path.exists(out) and not fault.leftovers(os.path.dirname(out)), f"{words}: something was left"
        bench.call(args, store, expect=0)
    return "5 steps that would not fit were refused with exit 7 before they began, nothing was written, all continued"


# ---- exports that fail ----------------------------------------------------------------------------

def unexported(out):
    """(path, cause) of each member of the front that has no checkpoint."""
    with open(os.path.join(out, "pareto.json"), encoding="utf-8") as f:
        members = json.load(f)["members"]
    return [(m.get("path"), m.get("export_failed")) for m in members if not m.get("path")]


def failed_exports(bench, ref):
    """Every write of one export meets a full or failing disk: exit 7, the member is named on the terminal, in pareto.json and
    in both reports, and the resume makes it."""
    for name in ("ENOSPC", "EIO"):
        out, store = bench.place("export")
        models = os.path.join(out, "models")
        code, _, err = bench.run(out, store, fault=f"who=worker;path={models};n=1;times=0;do={name};calls=write")
        assert code == STORAGE and WORDS[name] in err and "could not be exported" in err, f"{name}: exit {code}\n{err[-1500:]}"
        told = unexported(out)
        assert len(told) >= 1 and told[0][1] and WORDS[name] in told[0][1], told
        for report in ("report.md", "report.html"):
            with open(os.path.join(out, report), encoding="utf-8") as f:
                text = f.read()
            assert "not exported" in text.lower() and WORDS[name] in text, f"{name}: {report} does not tell"
        finish(bench, ref, out, store, f"export {name}")
    return "ENOSPC and EIO: exit 7, told in pareto.json and both reports, continued"


# ---- others ---------------------------------------------------------------------------------------

def wrong_clock(bench, ref):
    out, store = bench.place("clock")
    bench.run(out, store, clock=-86400, expect=0)
    fault.settle(bench, out, store, ref["front"], "clock")
    out, store = bench.place("clock")
    bench.run(out, store, fault=f"who=coordinator;path={out};calls=journal;n=12;do=kill;when=after")
    bench.resume(out, store, clock=-86400, expect=0)
    fault.settle(bench, out, store, ref["front"], "clock at the resume")
    return "a day back at every second look: same front, also when resuming"


def one_registry(bench, ref):
    """Two runs of the same work write the same objects at the same time, while gc runs."""
    out, store = bench.place("both")
    outs = [out, out + "2"]
    begun = [bench.start(["--config", bench.config, "--output", o, "--yes"], store) for o in outs]
    rounds = 0
    while any(p.poll() is None for p in begun):
        bench.call(["registry", "gc"], store, expect=0)
        rounds += 1
    for p, o in zip(begun, outs):
        _, err = p.communicate()
        assert p.returncode == 0, err[-2000:]
        assert common.front(o) == ref["front"], o
    assert artifacts(bench, store) == ref["artifacts"]
    shutil.rmtree(outs[1])
    fault.settle(bench, out, store, ref["front"], "two runs")
    return f"two runs and {rounds} gc at the same time: both fronts as alone"


def one_folder(bench, ref):
    out, store = bench.place("folder")
    p = bench.start(["--config", bench.config, "--output", out, "--yes"], store)
    journal = os.path.join(out, "journal.jsonl")
    while p.poll() is None and not (os.path.exists(journal) and os.path.getsize(journal)):
        time.sleep(0.005)
    assert p.poll() is None
    _, _, err = bench.call(["run", "--resume", out, "--yes"], store, expect=CONFLICT)
    assert "another process" in err, err
    _, _, err = bench.run(out, store, expect=CONFLICT)
    assert "not empty" in err, err
    _, err = p.communicate(timeout=fault.LIMIT_S)
    assert p.returncode == 0, err
    fault.settle(bench, out, store, ref["front"], "two on one folder")
    return "the second is refused with exit 9, the first is not disturbed"


def newer_registry(bench, ref):
    out, store = bench.place("newer")
    shutil.copytree(os.path.join(ref["keep"], "store"), store)
    with sqlite3.connect(os.path.join(store, "registry.db")) as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    for args in (["registry", "ls"], ["registry", "gc"], ["--config", bench.config, "--output", out, "--yes"]):
        _, _, err = bench.call(args, store, expect=STORAGE)
        assert "newer sqz" in err and "SQZ_REGISTRY" in err, err
    assert not os.path.exists(out), "a folder was made for a run that cannot begin"
    with sqlite3.connect(os.path.join(store, "registry.db")) as db:
        db.execute("PRAGMA user_version=1")
    db.close()
    assert artifacts(bench, store) == ref["artifacts"]
    return "refused with exit 7 by ls, gc and run; nothing was changed"


def main():
    p = argparse.ArgumentParser()
    p.add_argument("sqz")
    p.add_argument("preload")
    p.add_argument("work")
    p.add_argument("--points", type=int, default=6)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--jobs", type=int, default=2)
    p.add_argument("--sizes")
    p.add_argument("--only")
    a = p.parse_args()
    if a.sizes:
        sizes, ref = json.loads(a.sizes)
        ref["front"] = [tuple(row) for row in ref["front"]]
        print(small_disks(fault.Bench(a.sqz, a.preload, os.path.join(a.work, "inner")), ref, sizes))
        return
    bench = fault.Bench(a.sqz, a.preload, fault.work_folder(os.path.abspath(a.work)))
    try:
        ref = reference(bench)
        tests = [
            ("damaged journals", lambda b, rng: journals(b, ref, rng, max(a.points // 6, 1))),
            *((f"failing calls {name}", lambda b, rng, name=name: failing_calls(b, ref, rng, name, -(-a.points // 3)))
              for name in ("ENOSPC", "EIO", "EDQUOT")),
            ("lost result", lambda b, rng: lost_result(b, ref)),
            ("short writes", lambda b, rng: short_writes(b, ref)),
            ("read-only folders", lambda b, rng: read_only(b, ref)),
            ("no room", lambda b, rng: no_room(b, ref)),
            ("failed exports", lambda b, rng: failed_exports(b, ref)),
            ("full disk", lambda b, rng: full_disk(b, ref, a.points)),
            ("wrong clock", lambda b, rng: wrong_clock(b, ref)),
            ("one registry", lambda b, rng: one_registry(b, ref)),
            ("one folder", lambda b, rng: one_folder(b, ref)),
            ("newer registry", lambda b, rng: newer_registry(b, ref))]

        def one(b, test):
            print(f"{test[0]}: {test[1](b, random.Random(f'{a.seed} {test[0]}'))}", flush=True)

        with fault.Crew(bench, a.jobs) as crew:
            crew.map(one, [t for t in tests if not a.only or a.only in t[0]])
    finally:
        if os.path.isdir(bench.work):
            shutil.rmtree(bench.work)


main()
