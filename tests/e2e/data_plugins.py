"""A data plugin that crashes, hangs, eats memory or returns rubbish costs a clear sentence: the
command or the run ends with the right exit code, and no process and no temporary file is left.

    python3 data_plugins.py SQZ WORKDIR
"""
import glob
import json
import os
import re
import signal
import sys
import time

import common

# What the plugin does at its second row: the exit code and what is said.
ATTACKS = {
    "none": (0, r"three"),
    "segv": (4, r"hostile_data crashed with SIGSEGV"),
    "abort": (4, r"hostile_data crashed with SIGABRT"),
    "stack": (4, r"hostile_data crashed with SIGSEGV"),
    "exit": (1, r"hostile_data ended with exit status 0 and no valid result"),
    "bytes": (3, r"evil: org\.example\.hostile_data: row 2: field \"text\" is no UTF-8"),
    "nan": (3, r"row 2: field \"score\" is no finite number"),
    "twice": (3, r"row 2: field \"text\" is given twice"),
    "keep": (3, r"row 2: a field's name must be 1 to 200 bytes"),
    "print": (0, r"hostile_data wrote to stdout"),
}


def plugin_of(sqz):
    build = os.path.dirname(os.path.dirname(os.path.abspath(sqz)))
    return f"{build}/tests/bad_plugins/hostile/hostile_data.so"


def nothing_left(work, marker):
    time.sleep(0.1)
    left = common.orphans("worker", f"{work}/store") + common.orphans(marker, f"{work}/store")
    assert not left, f"processes left: {left}"
    files = [f for folder in ("tmp", "store/tmp") for f in glob.glob(f"{work}/{folder}/*")]
    assert not files, f"files left: {files}"


def one_by_one(sqz, work, plugin, evil):
    for attack, (code, words) in ATTACKS.items():
        args = ["data", "show", evil, "--reader", "hostile_data", "--reader-param", f"attack={attack}", "--plugin-path", plugin]
        out, err = common.run(sqz, args, f"{work}/store", expect=code)
        assert re.search(words, out + err), f"{attack}: {out}{err}"
        assert code or out.count('"text"') == 3, out
        nothing_left(work, evil)
    # By its ending, without being named, and from the registry the second time.
    out, _ = common.run(sqz, ["data", "stats", evil, "--plugin-path", plugin, "--json", "-"], f"{work}/store")
    assert json.loads(out)["splits"][0]["rows"] == 3, out
    before = set(glob.glob(f"{work}/store/objects/sha256/*/*"))
    common.run(sqz, ["data", "show", evil, "--plugin-path", plugin], f"{work}/store")
    assert set(glob.glob(f"{work}/store/objects/sha256/*/*")) == before
    _, err = common.run(sqz, ["data", "show", evil], f"{work}/store", expect=3)
    assert "no data set by its name or its first bytes" in err, err
    for args, code, words in (
            (["--reader", "hostile_dota"], 2, "did you mean \"hostile_data\"?"),
            (["--reader", "hostile_data", "--reader-param", "attack=7up"], 2, "attack"),
            (["--reader", "hostile_data", "--reader-param", "attac=segv"], 2, "attack"),
            (["--reader-param", "attack=segv"], 2, "needs --reader")):
        _, err = common.run(sqz, ["data", "show", evil, *args, "--plugin-path", plugin], f"{work}/store", expect=code)
        assert words in err, err
    _, err = common.run(sqz, ["data", "show", "nosuch.evil", "--reader", "hostile_data", "--plugin-path", plugin], f"{work}/store", expect=3)
    assert "no such file" in err, err
    print(f"{len(ATTACKS)} attacks, one command each", flush=True)


def evil_pipeline(work, plugin, evil, attack, **hardware):
    reader = {"use": "hostile_data", "with": {"attack": attack}}
    return common.pipeline(work, f"{attack}.json", dataset=[{"source": evil, "reader": reader}], hardware=hardware,
                           plugins={"path": [plugin]}, steps=[{"use": "rtn"}])


def in_a_run(sqz, work, plugin, evil):
    for attack, code, words, hardware in (
            ("segv", 4, "hostile_data crashed with SIGSEGV", {}),
            ("memory", 1, r"hostile_data held .* of memory, more than its limit", {"memory": "400MB"}),
            ("loop", 4, r"hostile_data.*deadline", {"job_timeout": 1})):
        out = f"{work}/run_{attack}"
        p = common.start(sqz, ["--config", evil_pipeline(work, plugin, evil, attack, **hardware), "--output", out, "--yes"], f"{work}/store")
        _, err = p.communicate(timeout=120)
        assert p.returncode == code, f"{attack}: exit {p.returncode}\n{err}"
        assert re.search(words, err), f"{attack}: {err}"
        assert not os.path.exists(out), f"{attack}: a run folder was made"
        nothing_left(work, out)
        print(f"run with {attack}: exit {p.returncode}: {err.strip().splitlines()[-1]}", flush=True)


def resumed(sqz, work, plugin, evil):
    """--plugin-path is recorded: the run goes on without being told it again."""
    out, data = f"{work}/run_resumed", [{"source": evil, "reader": "hostile_data", "window": 4}]
    config = common.pipeline(work, "resumed.json", dataset=data, steps=[{"use": "rtn"}], budget={"trials": 1})
    args = ["--config", config, "--plugin-path", os.path.relpath(plugin), "--output", out, "--yes"]
    common.run(sqz, args, f"{work}/store")
    assert common.load(out, "run.json")["config_full"]["plugins"]["path"] == [os.path.realpath(plugin)]
    os.remove(f"{out}/pareto.json")
    common.run(sqz, ["run", "--resume", out, "--yes"], f"{work}/store")
    assert common.front(out), "no front"


def wait_for_worker(work):
    for _ in range(200):
        found = common.orphans("worker", f"{work}/store")
        if found:
            return found
        time.sleep(0.05)
    sys.exit("no worker was started")


def interrupted(sqz, work, plugin, evil):
    """Ctrl-C and kill -9 while the plugin is in an endless loop."""
    for number, code in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        args = ["data", "show", evil, "--reader", "hostile_data", "--reader-param", "attack=loop", "--plugin-path", plugin]
        p = common.start(sqz, args, f"{work}/store")
        wait_for_worker(work)
        time.sleep(0.3)
        p.send_signal(number)
        if number == signal.SIGINT:
            time.sleep(0.2)
            p.send_signal(number)  # the second one does not wait for the plugin
        p.communicate(timeout=60)
        assert p.returncode == code, p.returncode
        for _ in range(100):
            if not common.orphans("worker", f"{work}/store"):
                break
            time.sleep(0.05)
        left = common.orphans("worker", f"{work}/store")
        assert not left, left
    print("Ctrl-C and kill -9: no process is left", flush=True)


def main(sqz, work):
    work = common.fresh(work)
    os.makedirs(f"{work}/tmp")
    os.environ.update(TMPDIR=f"{work}/tmp", HOME=f"{work}/home")
    os.environ.setdefault("ASAN_OPTIONS", "handle_segv=0:handle_abort=0")  # a crash is a crash with sanitizers, too
    plugin, evil = plugin_of(sqz), f"{work}/x.evil"
    with open(evil, "w", encoding="utf-8") as f:
        f.write("one\ntwo\nthree\n")
    one_by_one(sqz, work, plugin, evil)
    in_a_run(sqz, work, plugin, evil)
    resumed(sqz, work, plugin, evil)
    interrupted(sqz, work, plugin, evil)


main(sys.argv[1], os.path.abspath(sys.argv[2]))
