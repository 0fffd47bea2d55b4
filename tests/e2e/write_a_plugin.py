"""docs/write-a-plugin.md as a new user follows it: every sh block is run, in order, in one folder,
against an installation under DESTDIR; then the other kinds of `sqz plugin new` and the examples.

    python3 write_a_plugin.py SQZ WORKDIR
"""
import json
import os
import re
import shutil
import subprocess
import sys

import common

KINDS = sorted(set(os.listdir(os.path.join(common.ROOT, "sdk/template"))) - {"common"})


def sh(text, folder, env, expect=0):
    p = subprocess.run(["bash", "-euo", "pipefail", "-c", text], cwd=folder, env=env, capture_output=True, text=True)
    if (p.returncode == 0) != (expect == 0):
        sys.exit(f"{text}\nexit {p.returncode}\n--- stdout\n{p.stdout[-3000:]}\n--- stderr\n{p.stderr[-3000:]}")
    return p.stdout + p.stderr


def install(sqz, work):
    build = os.path.dirname(os.path.dirname(os.path.abspath(sqz)))
    env = dict(os.environ, DESTDIR=f"{work}/dest")
    subprocess.run(["cmake", "--install", build, "--prefix", "/opt/sqz"], env=env, check=True, stdout=subprocess.DEVNULL)
    return f"{work}/dest/opt/sqz"


def installed_whole(prefix):
    for name in ("bin/sqz", "include/sqz/sqz.h", "include/sqz/plugin.h", "share/pkgconfig/sqz-sdk.pc", "share/cmake/sqz-sdk/sqz-sdkConfig.cmake",
                 "share/sqz/template/common/Makefile", "share/sqz/plugin.map", "share/sqz/configs", "lib/sqz/plugins/method_rtn.so"):
        assert os.path.exists(f"{prefix}/{name}"), f"not installed: {name}"
    assert not os.path.exists(f"{prefix}/include/json"), "headers of the runtime are installed"


def follow_the_page(page, folder, env):
    text = open(page, encoding="utf-8").read()
    blocks = re.findall(r"```sh\n(.*?)```", text, re.S)
    assert len(blocks) >= 8 and text.count("```") == 2 * len(blocks), f"{len(blocks)} blocks of commands, {text.count('```')} fences"
    state = ""  # exports of earlier blocks live on, as in one terminal
    for block in blocks:
        sh(state + block, folder, env)
        state += "".join(line + "\n" for line in block.splitlines() if line.startswith("export "))
    members = common.load(f"{folder}/run", "pareto.json")["members"]
    assert members and all(s["use"] == "com.acme.mymethod" for m in members for s in m["steps"]), members
    check = json.load(open(f"{folder}/check.json", encoding="utf-8"))
    assert check["passed"] and check["schema"] == "sqz.check/1", check
    return len(blocks), len(members)


def every_kind(folder, env):
    for kind in KINDS:
        name = f"a_{kind}"
        sh(f"sqz plugin new {name} --kind {kind}", folder, env)
        source = open(f"{folder}/{name}/{name}.c", encoding="utf-8").read()
        assert len(source.splitlines()) < 100 and "@" not in re.sub(r"\S+@\S+\.\S+", "", source), kind
        sh(f"make -C {name} CFLAGS='-O2 -Wall -Wextra -Werror' && make -C {name} check", folder, env)
        sh(f"cmake -S {name} -B {name}/build -DCMAKE_PREFIX_PATH=$PREFIX -DCMAKE_C_FLAGS='-Wall -Wextra -Werror' && cmake --build {name}/build && "
           f"ctest --test-dir {name}/build", folder, env)
    assert "data" in KINDS and len(KINDS) == 7, KINDS
    said = sh("sqz plugin new a_method --kind method", folder, env, expect=2)
    assert "exists already" in said, said
    assert "no name" in sh("sqz plugin new 'Bad Name'", folder, env, expect=2)
    needed = sh("readelf -d a_method/a_method.so", folder, env)
    assert "sqz" not in re.findall(r"NEEDED.*", needed).__str__(), needed


def wet_of(rows, path, first):
    """The texts of a JSONL file as the pages of a WET file, and the same as JSONL."""
    with open(path, "wb") as out, open(path + ".jsonl", "w", encoding="utf-8") as plain, open(rows, encoding="utf-8") as f:
        for i, row in zip(range(first), f):
            text = json.loads(row)["text"].encode()
            out.write(b"WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Target-URI: http://a.example/%d\r\nContent-Length: %d\r\n\r\n%s\r\n\r\n" % (i, len(text), text))
            plain.write(json.dumps({"text": text.decode()}) + "\n")


def data_in_a_pipeline(folder, env):
    """Files that sqz does not read, measured and calibrated on: the figures are those of the same rows as JSON lines."""
    os.makedirs(f"{folder}/web")
    for name, source in (("test", "test.jsonl"), ("calib", "calib.jsonl")):
        wet_of(f"{common.DATA}/{source}", f"{folder}/web/{name}.wet", 400)
    pipeline = {"model": common.MODEL, "dataset": [{"source": "web/test.wet", "window": 128, "limit": 16, "reader": {"use": "a_data", "with": {"min_bytes": 2}}}],
                "calibration": {"source": "web/calib.wet", "samples": 8, "seq_len": 64},
                "plugins": {"path": [f"{folder}/a_data/a_data.so"]}, "steps": [{"use": "gptq", "with": {"bits": 4}}],
                "eval": {"bench": False, "proxy": {"enabled": False}}, "budget": {"trials": 1}}
    with open(f"{folder}/web.json", "w", encoding="utf-8") as f:
        json.dump(pipeline, f)
    sh("sqz --config web.json --output web_run --yes", folder, env)
    sh("sqz eval $MODEL --dataset web/test.wet.jsonl --window 128 --limit 16 --json plain.json", folder, env)
    run = common.load(f"{folder}/web_run", "run.json")
    assert run["readers"]["test"]["reader"] == "org.example.a_data" and run["readers"]["test"]["rows"] == 400, run["readers"]
    measured = common.load(f"{folder}/web_run", "metrics.json")["baseline"]["metrics"]["perplexity"]
    plain = next(iter(json.load(open(f"{folder}/plain.json", encoding="utf-8"))["results"].values()))["perplexity"]
    assert measured == plain, (measured, plain)
    assert common.load(f"{folder}/web_run", "pareto.json")["members"]
    # Found by its ending once it is installed, packed or not.
    sh("make -C a_data install PLUGINS=$HOME/.local/share/sqz/plugins && gzip -k web/test.wet", folder, env)
    shown = [json.loads(line) for line in sh("sqz data show web/test.wet.gz --rows 2", folder, env).splitlines()]
    assert [set(row) for row in shown] == [{"text", "url"}] * 2, shown
    print(f"data: a run on pages of a WET file, perplexity {measured:.4f} as of the same rows in JSONL", flush=True)


def the_examples(folder, env):
    shutil.copytree(os.path.join(common.ROOT, "examples/plugins"), f"{folder}/examples")
    for name, so in (("ternary", "ternary"), ("eval_repetition", "eval_repetition"), ("median_cpp", "median")):
        sh(f"make -C examples/{name} && make -C examples/{name} check", folder, env)
        assert os.path.exists(f"{folder}/examples/{name}/{so}.so")
    for method, so in (("ternary", "ternary/ternary"), ("median", "median_cpp/median")):
        sh(f"sqz quantize $MODEL --method {method} --plugin-path examples/{so}.so --output q_{method}", folder, env)
        sh(f"sqz eval q_{method} --dataset $DATA/test.jsonl --limit 4 --json q_{method}.json", folder, env)
    sh("sqz eval $MODEL --dataset $DATA/test.jsonl --limit 8 --use repetition --plugin-path examples/eval_repetition/eval_repetition.so --json r.json", folder, env)
    result = next(iter(json.load(open(f"{folder}/r.json", encoding="utf-8"))["results"].values()))
    assert 0 <= result["repetition"] <= 1, result


def main(sqz, work):
    work = common.fresh(work)
    prefix, folder = install(sqz, work), f"{work}/desk"
    os.makedirs(folder)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("SQZ_", "XDG_"))}
    env.update(PREFIX=prefix, MODEL=common.MODEL, DATA=common.DATA, HOME=f"{work}/home", NO_COLOR="1", SQZ_REGISTRY=f"{work}/store")
    installed_whole(prefix)
    blocks, members = follow_the_page(os.path.join(common.ROOT, "docs/write-a-plugin.md"), folder, env)
    print(f"the page: {blocks} blocks run, {members} members on the front", flush=True)
    env.update(PATH=f"{prefix}/bin:{env['PATH']}", PKG_CONFIG_PATH=f"{prefix}/share/pkgconfig")
    every_kind(folder, env)
    print(f"plugin new: {len(KINDS)} kinds built by make and by cmake, and fit", flush=True)
    data_in_a_pipeline(folder, env)
    the_examples(folder, env)
    print("examples: built, fit and used")


main(sys.argv[1], os.path.abspath(sys.argv[2]))
