"""Exported checkpoints in transformers: the perplexity there must be the one sqz reports, within 0.1 %.

    python interop.py [--sqz build/bin/sqz] [--windows 0] [--out build/interop]

For the bundled model in bf16 as it is, and for GPTQ exports of 2, 3, 4 and 8 bits, symmetric and asymmetric,
and group sizes 32 and a whole row: `sqz quantize`, `sqz eval --compute fp32`, then transformers (optimum and
gptqmodel do the reading) in a process of its own.  Writes a Markdown table to stdout and OUT/interop.md; exits
1 when a row is off.
"""
import argparse
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
MODEL = os.path.join(ROOT, "examples/tiny-arith/model")
TEST = os.path.join(ROOT, "examples/tiny-arith/data/test.jsonl")
CALIB = os.path.join(ROOT, "examples/tiny-arith/data/calib.jsonl")
CASES = [  # name, arguments of sqz quantize
    ("gptq 4-bit g128 sym", ["--bits", "4", "--group-size", "128", "--symmetric"]),
    ("gptq 4-bit g128 asym", ["--bits", "4", "--group-size", "128", "--asymmetric"]),
    ("gptq 4-bit g32 sym", ["--bits", "4", "--group-size", "32", "--symmetric"]),
    ("gptq 4-bit row sym", ["--bits", "4", "--group-size", "-1", "--symmetric"]),
    ("gptq 3-bit g128 sym", ["--bits", "3", "--group-size", "128", "--symmetric"]),
    ("gptq 3-bit g128 asym", ["--bits", "3", "--group-size", "128", "--asymmetric"]),
    ("gptq 2-bit g128 sym", ["--bits", "2", "--group-size", "128", "--symmetric"]),
    ("gptq 2-bit g64 asym", ["--bits", "2", "--group-size", "64", "--asymmetric"]),
    ("gptq 8-bit g128 sym", ["--bits", "8", "--group-size", "128", "--symmetric"]),
]


def run(args, **kw):
    r = subprocess.run(args, capture_output=True, text=True, **kw)
    if r.returncode:
        sys.exit(f"{' '.join(map(str, args))}\nexit {r.returncode}\n{r.stderr[-3000:]}")
    return r.stdout


def sqz_perplexity(sqz, model, windows):
    limit = ["--limit", str(windows)] if windows else []
    out = json.loads(run([sqz, "eval", model, "--dataset", TEST, "--window", "256", "--compute", "fp32", "--json", "-", *limit]))
    return out["results"]["test"]["perplexity"]


def transformers_perplexity(model, windows):
    args = [sys.executable, os.path.join(HERE, "perplexity.py"), model, TEST, "256"] + ([str(windows)] if windows else [])
    env = dict(os.environ, HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="", GPTQMODEL_CPU_WORKERS="2", TOKENIZERS_PARALLELISM="false")
    return json.loads(run(args, env=env).strip().splitlines()[-1])["perplexity"]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--sqz", default=os.path.join(ROOT, "build/bin/sqz"))
    p.add_argument("--windows", type=int, default=0, help="windows of 256 to score, 0 = all 438")
    p.add_argument("--out", default=os.path.join(ROOT, "build/interop"))
    p.add_argument("only", nargs="*", metavar="CASE", help="words of the cases to check, as \"2-bit g64\"")
    a = p.parse_args()
    os.makedirs(a.out, exist_ok=True)
    rows, bad, worst = [], 0, 0.0
    for name, args in [("bf16, as it is", None)] + CASES:
        if a.only and not any(w in name for w in a.only):
            continue
        folder = MODEL
        if args:
            folder = os.path.join(a.out, name.replace(" ", "-"))
            run([a.sqz, "quantize", MODEL, "--method", "gptq", "--calibration", CALIB, "--samples", "128", "--seq-len", "256",
                 "--output", folder, "--quiet", *args])
        ours, theirs = sqz_perplexity(a.sqz, folder, a.windows), transformers_perplexity(folder, a.windows)
        off = abs(ours / theirs - 1)
        bad, worst = bad + (off > 1e-3), max(worst, off)
        rows.append(f"| {name} | {ours:.5f} | {theirs:.5f} | {100 * off:.4f} % | {'yes' if off <= 1e-3 else 'NO'} |")
        print(rows[-1], flush=True)
    names = ["torch", "transformers", "optimum", "gptqmodel"]
    have = []
    for n in names:
        try:
            have.append(f"{n} {version(n)}")
        except PackageNotFoundError:
            pass
    text = "\n".join(["| checkpoint | sqz | transformers | difference | within 0.1 % |", "|---|---|---|---|---|", *rows, "",
                      f"{', '.join(have)}, Python {platform.python_version()}; float32 compute, windows of 256, test.jsonl of the bundled example."])
    with open(os.path.join(a.out, "interop.md"), "w", encoding="utf-8") as f:
        f.write(text + "\n")
    print(text)
    print(f"{len(rows)} checkpoints, {bad} with a perplexity more than 0.1 % from that in transformers; worst {100 * worst:.4f} %")
    sys.exit(1 if bad else 0)


main()
