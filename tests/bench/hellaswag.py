"""HellaSwag in sqz and in lm-evaluation-harness: whole processes on the same rows, in one run.

    SQZ_SHARED=DATA python hellaswag.py MODEL [--sqz build/bin/sqz] [--rows 100] [--batch 16] [--compute fp32,bf16]

The interpreter is the one with lm-eval; DATA/data/eval has hellaswag_val_1000.jsonl.  MODEL: for the recorded figures the 75M
shape (mkmodel OUT 768 12 2048 12 4 1856) with a tokenizer.  Two threads each.  Prints seconds, ratio and the metrics of both.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time


def timed(args, env):
    start = time.monotonic()
    p = subprocess.run(args, env=env, capture_output=True, text=True)
    if p.returncode:
        sys.exit(f"{' '.join(args)}\nexit {p.returncode}\n{p.stdout[-1500:]}{p.stderr[-1500:]}")
    return time.monotonic() - start


def theirs(a, folder, rows, dtype, env):
    import importlib.util
    tasks = os.path.join(os.path.dirname(importlib.util.find_spec("lm_eval").origin), "tasks")
    with open(os.path.join(folder, "local.yaml"), "w") as f:
        f.write(f"include: {tasks}/hellaswag/hellaswag.yaml\ntask: hs_local\ntag: null\ndataset_path: json\ndataset_name: null\n"
                f"training_split: null\ndataset_kwargs: {{data_files: {{validation: {rows}}}}}\n")
    out = os.path.join(folder, "lm_eval_" + dtype)
    code = ("import torch;torch.set_num_threads(2);import sys;from lm_eval.__main__ import cli_evaluate;cli_evaluate()")
    seconds = timed([sys.executable, "-c", code, "--model", "hf", "--model_args", f"pretrained={a.model},dtype={dtype}", "--tasks",
                     "hs_local", "--include_path", folder, "--batch_size", str(a.batch), "--device", "cpu", "--limit", str(a.rows),
                     "--output_path", out], env)
    files = [os.path.join(d, f) for d, _, fs in os.walk(out) for f in fs if f.startswith("results")]
    with open(files[0]) as f:
        r = json.load(f)["results"]["hs_local"]
    return seconds, r["acc,none"], r["acc_norm,none"]


def ours(a, folder, rows, compute, env):
    out = os.path.join(folder, "sqz.json")
    seconds = timed([a.sqz, "eval", a.model, "--dataset", "hellaswag=" + rows, "--limit", str(a.rows), "--compute", compute, "--threads", "2",
                     "--quiet", "--json", out], env)
    with open(out) as f:
        r = json.load(f)["results"]["hellaswag"]
    return seconds, r["acc"], r["acc_norm"]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model")
    p.add_argument("--sqz", default="build/bin/sqz")
    p.add_argument("--rows", type=int, default=100)
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--compute", default="fp32,bf16")
    a = p.parse_args()
    source = os.path.join(os.environ.get("SQZ_SHARED", ""), "data", "eval", "hellaswag_val_1000.jsonl")
    if not os.path.exists(source):
        print("hellaswag: skipped, SQZ_SHARED names no folder with data/eval/hellaswag_val_1000.jsonl")
        return
    env = dict(os.environ, HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", OMP_NUM_THREADS="2")
    with tempfile.TemporaryDirectory() as folder:
        rows = os.path.join(folder, "rows.jsonl")
        with open(source, encoding="utf-8") as f, open(rows, "w", encoding="utf-8") as g:
            g.writelines(f.readlines()[:a.rows])
        print("| compute | sqz s | lm-eval s | ratio | acc | acc_norm |\n|---|---|---|---|---|---|")
        for compute, dtype in (("fp32", "float32"), ("bf16", "bfloat16")):
            if compute not in a.compute.split(","):
                continue
            s, acc, norm = ours(a, folder, rows, compute, env)
            t, acc2, norm2 = theirs(a, folder, rows, dtype, env)
            print(f"| {compute} | {s:.1f} | {t:.1f} | {t / s:.2f} | {acc:.3g}, {acc2:.3g} | {norm:.3g}, {norm2:.3g} |", flush=True)


if __name__ == "__main__":
    main()
