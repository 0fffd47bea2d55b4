"""A run with every hostile plugin installed and asked for ends with the right front, names each
culprit with what it did, and leaves neither a process nor a temporary file behind.

    python3 hostile.py SQZ WORKDIR
"""
import glob
import json
import os
import re
import shutil
import sys

import common

# What the run says of each method, in the outcome or the reason of its trial.
IN_THE_RUN = {
    "hostile_abort": r"crashed.*SIGABRT",
    "hostile_stack": r"crashed.*SIGSEGV",
    "hostile_loop": r"timeout.*deadline",
    "hostile_deaf": r"timeout.*deadline",
    "hostile_memory": r"(oom|failed).*(memory)",
    "hostile_nan": r"failed.*scale",
    "hostile_inf": r"failed.*scale",
    "hostile_shape": r"failed.*group",
    "hostile_codes": r"failed.*code",
    "hostile_nothing": r"failed.*without a result",
    "hostile_mute": r"failed.*no status",
    "hostile_exit": r"(crashed|protocol|failed).*(exit|ended)",
    "hostile_twice": r"crashed",
    "hostile_babble": r"protocol",
    "hostile_close": r"protocol.*lost the line",
    "segv_method": r"crashed.*SIGSEGV",
}
# These go on working, and the run and its report say what they did.
BAD_MANNERS = {
    "hostile_stdout": r"wrote to stdout: .*sqz\.result/1",
    "hostile_thread": r"leaves threads running",
    "hostile_outside": r"hostile_was_here appeared in the home folder",
    "hostile_child": r"left a process running",
    "hostile_environment": r"changed the (environment|working folder|rounding)",
}
# What `sqz plugin check` says of them: the test that must not pass.
IN_THE_CHECK = {
    "hostile_stdout": "no-stdout",
    "hostile_thread": "no-thread-left",
    "hostile_outside": "no-files-left",
    "hostile_close": "no-fd-left",
    "hostile_child": "no-child-left",
    "hostile_environment": "no-env-change",
}
# These are refused before anything runs.
PROBLEMS = {
    "wrong_major": r"ABI 2|ABI \d",
    "newer_needs": r"needs plugin ABI",
    "undefined_symbol": r"cannot be loaded",
    "exit_in_constructor": r"ended the process",
    "hang_in_constructor": r"did not finish",
    "segv_in_entry": r"crashed",
    "truncated": r"cut short|section|is no shared object",
    "no_stamp": r"stamp",
}


# What the run says of each tracker.
TRACKERS = {
    "crash": r"crashed with SIGSEGV \(event",
    "hang": r"has not answered for \d+ s|a call has taken \d+ s so far",
    "exit": r"ended its process with status 0 \(event",
    "close": r"closed the line to its run",
    "memory": r"crashed with SIG|ended its process|has not answered",
    "babble": r"wrote something else than messages|closed the line",
    "code": r"-12345, which is no status",
}


def build_folder(sqz):
    return os.path.dirname(os.path.dirname(os.path.abspath(sqz)))


def gather(sqz, work):
    """All of them in one folder; the impostor of a bundled id in another, searched last."""
    bad, folder = os.path.join(build_folder(sqz), "tests/bad_plugins"), os.path.join(work, "plugins")
    late = os.path.join(work, "home/.local/share/sqz/plugins")
    os.makedirs(folder)
    os.makedirs(late)
    for file in glob.glob(f"{bad}/hostile/*.so"):
        if "tracker" not in file:
            shutil.copy(file, late if "duplicate" in file else folder)
    for name in ("segv_method", *PROBLEMS):
        if name != "truncated":
            shutil.copy(f"{bad}/{name}.so", folder)
    with open(f"{folder}/segv_method.so", "rb") as f:
        whole = f.read()
    with open(f"{folder}/truncated.so", "wb") as f:
        f.write(whole[: len(whole) // 2])
    return folder


def check_run(out, err, front_of_the_good):
    trials = [json.loads(line) for line in open(f"{out}/trials.jsonl", encoding="utf-8")]
    for name, wanted in IN_THE_RUN.items():
        mine = [t for t in trials if any(s["use"] == f"org.example.{name}" for s in t.get("steps", []))]
        assert mine, f"{name} was never tried"
        said = [f"{t['outcome']}: {t.get('reason', '')}" for t in mine]
        assert any(re.search(wanted, s, re.S) for s in said), f"{name}: {said}"
        assert any(name in s for s in said), f"{name} is not named: {said}"
    manners = [text for t in trials for text in t.get("manners", [])]
    for name, wanted in BAD_MANNERS.items():
        assert any(name in text and re.search(wanted, text) for text in manners), f"{name}: {manners}"
        assert any(name in line and re.search(wanted, line) for line in err.splitlines()), f"{name} is not named in the log: {err}"
    bundled = [text for text in manners if "org.sqz." in text]
    assert not bundled, bundled
    members = common.load(out, "pareto.json")["members"]
    assert members, "an empty front"
    for m in members:
        assert "hostile" not in m["label"] and "segv" not in m["label"], m["label"]
    best = {m["strategy_id"] for m in members}
    assert best, best
    for label, quality, size in front_of_the_good:
        same = [m for m in members if m["label"] == label]
        assert not same or (same[0]["metrics"]["quality"], same[0]["metrics"]["bytes"]) == (quality, size), label
    report = open(f"{out}/report.md", encoding="utf-8").read().replace("\\", "")
    for name in (*IN_THE_RUN, *BAD_MANNERS):
        assert name in report, f"the report does not name {name}"
    return trials


def check_nothing_left(out, store, tmp):
    left = common.orphans(out)
    assert not left, f"processes left: {left}"
    files = [f for d, _, names in os.walk(out) for f in names if ".tmp." in f]
    files += [f for d, _, names in os.walk(store) for f in names if ".tmp." in f]
    assert not files, f"temporary files left: {files}"
    assert not os.listdir(tmp), os.listdir(tmp)


def check_problems(sqz, folder, store):
    text, _ = common.run(sqz, ["plugin", "list", "--plugin-path", folder, "--json", "-"], store)
    listed = json.loads(text)
    for name, wanted in PROBLEMS.items():
        why = [p["why"] for p in listed["problems"] if os.path.basename(p["file"]) == f"{name}.so"]
        assert why and re.search(wanted, why[0]), f"{name}: {why}"
    impostor = [p for p in listed["plugins"] if p["file"].endswith("hostile_duplicate.so")]
    assert impostor and impostor[0]["shadowed"], "the impostor of a bundled id is not shadowed"


def check_checker(sqz, folder, store, work):
    for name, test in IN_THE_CHECK.items():
        result = os.path.join(work, f"{name}.json")
        common.run(sqz, ["plugin", "check", f"{folder}/{name}.so", "--only", test, "--json", result], store, expect=4)
        rows = [t for t in json.load(open(result, encoding="utf-8"))["tests"] if t["test"] == test]
        assert rows and rows[0]["verdict"] in ("fail", "crash"), rows
        print(f"check: {name}: {rows[0]['verdict']}: {rows[0]['text']}", flush=True)


def put_aside(sqz, work, store):
    """After three crashes a method is not tried any more, and the report says so."""
    out = os.path.join(work, "aside")
    config = common.pipeline(work, "aside.json", plugins={"path": [os.path.join(work, "plugins/hostile_abort.so")], "deny": ["org.sqz.gptq"]},
                             search={"use": "random"}, budget={"trials": 16, "patience": 1000})
    common.run(sqz, ["--config", config, "--output", out, "--yes"], store)
    trials = [json.loads(line) for line in open(f"{out}/trials.jsonl", encoding="utf-8")]
    mine = [t for t in trials if any(s["use"].endswith("hostile_abort") for s in t.get("steps", []))]
    crashed = [t for t in mine if t["outcome"] == "crashed"]
    assert len(crashed) == 3, [(t["outcome"], t.get("reason")) for t in mine]
    aside = [t for t in mine if t["outcome"] == "refused" and "put aside" in t["reason"]]
    assert aside, [(t["outcome"], t.get("reason")) for t in mine]
    assert len(trials) - 1 == 16 + min(len(aside), 16), f"{len(trials)} trials, {len(aside)} of them put aside: they must not use up the budget"
    report = open(f"{out}/report.md", encoding="utf-8").read()
    assert "put aside" in report
    assert common.front(out)
    print(f"put aside after {len(crashed)} crashes; {len(aside)} proposals refused: {aside[0]['reason']}", flush=True)


def trackers(sqz, work, store):
    """No tracker disturbs a run or the other trackers; a repaired one gets everything later, once."""
    bad, out = os.path.join(build_folder(sqz), "tests/bad_plugins/hostile"), os.path.join(work, "tracked")
    names = [f"hostile_tracker_{name}" for name in TRACKERS]
    plugins = {"path": [f"{bad}/{name}.so" for name in names]}
    config = common.pipeline(work, "tracked.json", plugins=plugins, tracker=[*names, "jsonl"], budget={"trials": 5})
    result = os.path.join(work, "tracked.out.json")
    _, err = common.run(sqz, ["--config", config, "--output", out, "--yes", "--json", result], store)
    assert common.front(out) and not common.orphans("--tracker", store), common.orphans("--tracker", store)
    # An impostor of a bundled id lies in the same folder and was not asked for.
    reasons = [json.loads(line).get("reason", "") for line in open(f"{out}/trials.jsonl", encoding="utf-8")]
    assert not any("unknown parameter" in reason for reason in reasons), reasons
    for name, wanted in TRACKERS.items():
        lines = [line for line in err.splitlines() if f"org.example.hostile_tracker_{name}" in line]
        assert any(re.search(wanted, line) for line in lines), f"tracker {name}: {lines}\n{err}"
    assert "sqz sync" in err, err
    rows = {t["agent"]: t for t in json.load(open(result, encoding="utf-8"))["tracking"]}
    assert rows["org.example.hostile_tracker_code"]["rejected"] > 0, rows
    sync = ["sync", out, "--attempts", "1"]  # finds the trackers in the recorded plugins.path
    common.run(sqz, sync, store, expect=8)
    events = [json.loads(line)["seq"] for line in open(f"{out}/tracking/events.jsonl", encoding="utf-8")]
    assert events == list(range(1, len(events) + 1)) and len(events) > 10, events
    os.environ["HOSTILE_REPAIRED"] = "1"
    common.run(sqz, sync, store)
    common.run(sqz, sync, store)
    del os.environ["HOSTILE_REPAIRED"]
    for name in names:
        seen = [int(line) for line in open(f"{out}/{name}.seen", encoding="utf-8")]
        assert len(seen) == len(set(seen)), f"{name}: an event came twice: {seen}"
        if not name.endswith("_code"):
            assert set(range(3, len(events) + 1)) <= set(seen), f"{name}: events are missing: {seen}"
    print(f"trackers: {len(names)} hostile ones named, {len(events)} events delivered once when repaired", flush=True)


def main(sqz, work):
    work = common.fresh(work)
    folder, store, out, tmp = gather(sqz, work), os.path.join(work, "store"), os.path.join(work, "run"), os.path.join(work, "tmp")
    os.makedirs(tmp)
    os.environ.update(HOME=os.path.join(work, "home"), TMPDIR=tmp, XDG_CACHE_HOME=os.path.join(work, "cache"))
    os.environ.pop("XDG_DATA_HOME", None)
    check_problems(sqz, folder, store)
    put_aside(sqz, work, store)
    trackers(sqz, work, store)
    plain = common.pipeline(work, "plain.json", budget={"trials": 5})
    common.run(sqz, ["--config", plain, "--output", os.path.join(work, "plain"), "--yes"], store)
    good = [(m["label"], m["metrics"]["quality"], m["metrics"]["bytes"]) for m in common.load(os.path.join(work, "plain"), "pareto.json")["members"]]
    config = common.pipeline(work, plugins={"path": [folder]}, budget={"trials": 30}, hardware={"job_timeout": "8s", "memory": "500MB"})
    _, err = common.run(sqz, ["--config", config, "--output", out, "--yes"], store)
    trials = check_run(out, err, good)
    check_nothing_left(out, store, tmp)
    common.run(sqz, ["registry", "verify"], store)
    check_checker(sqz, folder, store, work)
    check_nothing_left(out, store, tmp)
    outcomes = sorted({t["outcome"] for t in trials})
    print(f"ok: {len(trials)} trials, outcomes {outcomes}")


main(sys.argv[1], os.path.abspath(sys.argv[2]))
