"""Speed of sqz, and of the peers a user would pick instead, in one run (make bench).

    python3 bench.py [--sqz build/bin/sqz] [--peers PYTHON] [--out build/bench] [--only quantize,second,grid,eval,decode]

--peers: an interpreter with gptqmodel and llmcompressor (default: $SQZ_PYTHON; without one only sqz is timed).
Whole processes, two threads, peak resident memory from the kernel's accounting of the finished process.
Ratios inside one run are what counts: absolute times move with the machine.
"""
import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
TINY = os.path.join(ROOT, "examples/tiny-arith/model")
DATA = os.path.join(ROOT, "examples/tiny-arith/data")
CALIB = os.path.join(DATA, "calib.jsonl")


def timed(args, env=None, quiet=True):
    """Seconds and peak resident megabytes of the command and its children."""
    start = time.monotonic()
    p = subprocess.Popen(args, stdout=subprocess.PIPE if quiet else None, stderr=subprocess.STDOUT if quiet else None, env=env, text=True)
    out = p.communicate()[0]
    _ = resource.getrusage(resource.RUSAGE_CHILDREN)
    if p.returncode:
        sys.exit(f"{' '.join(args)}\nexit {p.returncode}\n{(out or '')[-3000:]}")
    return time.monotonic() - start, out


def peak_mb(args, env=None):
    """The same with the peak of the largest process, through a small child of its own."""
    code = ("import resource,subprocess,sys,time;t=time.monotonic();r=subprocess.call(sys.argv[1:],stdout=subprocess.DEVNULL,stderr=subprocess.DEVNULL);"
            "print(r,time.monotonic()-t,resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)")
    out = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, env=env).stdout.split()
    if out[0] != "0":
        timed(args, env)
        sys.exit("failed: " + " ".join(args))
    return float(out[1]), float(out[2]) / 1024


def quantize(sqz, model, out, store, bits="4", group="128", extra=()):
    env = dict(os.environ, SQZ_REGISTRY=store)
    args = [sqz, "quantize", model, "--method", "gptq", "--bits", bits, "--group-size", group, "--symmetric", "--calibration", CALIB,
            "--samples", "128", "--seq-len", "256", "--threads", "2", "--output", out, "--quiet", *extra]
    return peak_mb(args, env)


def bench_quantize(a, models):
    print("\n| job | tool | seconds, whole process | peak MB | ratio to sqz |\n|---|---|---|---|---|")
    for name, model in models:
        rounds = []
        for k in range(a.repeats):
            store = os.path.join(a.out, "store")
            shutil.rmtree(store, ignore_errors=True)
            shutil.rmtree(os.path.join(a.out, "q"), ignore_errors=True)
            row = {"sqz": quantize(a.sqz, model, os.path.join(a.out, "q"), store)}
            for peer in ("gptqmodel", "llmcompressor") if a.peers else ():
                out = os.path.join(a.out, peer)
                shutil.rmtree(out, ignore_errors=True)
                env = dict(os.environ, CUDA_VISIBLE_DEVICES="", HF_HUB_OFFLINE="1")
                row[peer] = peak_mb([a.peers, os.path.join(HERE, "peer_quantize.py"), peer, model, CALIB, out, "128", "256"], env)
            rounds.append(row)
        for tool in rounds[0]:
            s = sorted(r[tool][0] for r in rounds)[len(rounds) // 2]
            mb = max(r[tool][1] for r in rounds)
            ratio = sorted(r[tool][0] / r["sqz"][0] for r in rounds)[len(rounds) // 2]
            print(f"| {name}, 4 bit g128, 128 x 256 | {tool} | {s:.2f} | {mb:.0f} | {ratio:.2f} |", flush=True)


def bench_second(a, models):
    print("\n| model | first configuration s | second bit width s | second group size s | share of the first |\n|---|---|---|---|---|")
    for name, model in models:
        store = os.path.join(a.out, "store2")
        shutil.rmtree(store, ignore_errors=True)
        t = []
        for bits, group in (("4", "128"), ("3", "128"), ("4", "64")):
            out = os.path.join(a.out, "q2")
            shutil.rmtree(out, ignore_errors=True)
            t.append(quantize(a.sqz, model, out, store, bits, group)[0])
        print(f"| {name} | {t[0]:.2f} | {t[1]:.2f} | {t[2]:.2f} | {100 * t[1] / t[0]:.1f} %, {100 * t[2] / t[0]:.1f} % |", flush=True)


def bench_grid(a, models):
    """24 uniform configurations, each with a proxy evaluation of 8,192 tokens in bf16, as one run."""
    print("\n| model | 24 configurations, each evaluated on 8,192 tokens, s |\n|---|---|")
    for name, model in models:
        out, store = os.path.join(a.out, "grid"), os.path.join(a.out, "store3")
        for d in (out, store):
            shutil.rmtree(d, ignore_errors=True)
        config = {
            "model": model,
            "dataset": {"source": os.path.join(DATA, "test.jsonl"), "limit": 32, "window": 256},
            "calibration": {"source": CALIB, "samples": 128, "seq_len": 256},
            "steps": [{"use": "gptq", "search": {"bits": [2, 3, 4, 8], "group_size": [32, 64, 128], "symmetric": [True, False]}}],
            "search": {"use": "grid"},
            "budget": {"trials": 24},
            "eval": {"proxy": {"enabled": False}, "bench": False},
            "output": out,
        }
        path = os.path.join(a.out, "grid.json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump(config, f)
        s, _ = timed([a.sqz, "--config", path, "--threads", "2", "--quiet", "--yes"], dict(os.environ, SQZ_REGISTRY=store))
        print(f"| {name} | {s:.1f} |", flush=True)


def bench_eval(a, models):
    print("\n| model | compute | perplexity tokens/s |\n|---|---|---|")
    for name, model in models:
        for compute in ("fp32", "bf16"):
            out = subprocess.run([a.sqz, "eval", model, "--dataset", os.path.join(DATA, "test.jsonl"), "--window", "256", "--limit",
                                  "64" if "75" in name else "0", "--compute", compute, "--threads", "2", "--json", "-"], capture_output=True, text=True)
            print(f"| {name} | {compute} | {json.loads(out.stdout)['results']['test']['tokens_per_second']:.0f} |", flush=True)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--sqz", default=os.path.join(ROOT, "build/bin/sqz"))
    p.add_argument("--mkmodel", default=os.path.join(ROOT, "build/tests/mkmodel"))
    p.add_argument("--peers", default=os.environ.get("SQZ_PYTHON"))
    p.add_argument("--out", default=os.path.join(ROOT, "build/bench"))
    p.add_argument("--repeats", type=int, default=1)
    p.add_argument("--models", default="tiny,75m")
    p.add_argument("--only", default="quantize,second,grid,eval")
    a = p.parse_args()
    os.makedirs(a.out, exist_ok=True)
    models = []
    if "tiny" in a.models:
        models.append(("tiny-arith (4 M)", TINY))
    if "75m" in a.models:
        big = os.path.join(a.out, "model75m")
        if not os.path.exists(os.path.join(big, "config.json")):
            timed([a.mkmodel, big, "768", "12", "2048", "12", "4", "1856", TINY])
        models.append(("75 M", big))
    for part in a.only.split(","):
        {"quantize": bench_quantize, "second": bench_second, "grid": bench_grid, "eval": bench_eval}[part](a, models)


main()
