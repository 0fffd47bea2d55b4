"""What `sqz estimate` says of a model's size, against the classes of transformers, which are built without memory.

    python model_counts.py [--sqz build/bin/sqz] [--configs FOLDER]

By name: every entry of configs/models.json, at least 40; its parameters are counted by transformers and must be those of
the table and, within 2 %, those that `sqz estimate NAME` reports.  By config: every folder of FOLDER (published config.json files, no weights)
and of SQZ_SHARED/models with a config.json is estimated as it is and compared in the same way; where the folder is called like a known
model, the estimate by that name must agree too.
"""
import argparse
import json
import os
import subprocess
import sys

import torch
from transformers import AutoConfig, AutoModelForCausalLM

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TABLE = os.path.join(ROOT, "configs", "models.json")
LIMIT = 0.02


def counted(config):
    """Parameters of the class that transformers takes for this config."""
    config = dict(config)
    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(AutoConfig.for_model(config.pop("model_type"), **config))
    return sum(p.numel() for p in built.parameters())


def estimated(sqz, name):
    """Parameters and 16-bit bytes in the estimate, or None where sqz does not know the name."""
    r = subprocess.run([sqz, "estimate", name, "--json", "-"], capture_output=True, text=True)
    if r.returncode:
        return None
    e = json.loads(r.stdout)
    return e["parameters"], e["weights"]["fp16"] / 2


def off(sqz, name, n):
    got = estimated(sqz, name)
    return None if got is None else max(abs(g / n - 1) for g in got)


def by_name(sqz, models):
    bad, worst = 0, 0.0
    for model in models:
        n = counted(model["config"])
        d = off(sqz, model["name"], n)
        if n != model["parameters"] or d is None or d > LIMIT:
            bad += 1
            print(f"{model['name']}: transformers {n}, table {model['parameters']}, estimate off by {d}")
        worst = max(worst, d or 0)
    print(f"by name: {len(models)} models, {bad} differ, worst {100 * worst:.4f} %", flush=True)
    return bad + (len(models) < 40), worst


def by_config(sqz, folders, known):
    bad, worst, named = 0, 0.0, 0
    for folder in folders:
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as f:
            n = counted(json.load(f))
        d = off(sqz, folder, n)
        name = os.path.basename(folder)
        if name.lower() in known:
            named += 1
            d = None if d is None else max(d, off(sqz, name, n))
        if d is None or d > LIMIT:
            bad += 1
            print(f"{folder}: transformers {n}, estimate off by {d}")
        worst = max(worst, d or 0)
    print(f"by config.json: {len(folders)} models ({named} known by name too), {bad} differ, worst {100 * worst:.4f} %", flush=True)
    return bad, worst


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--sqz", default=os.path.join(ROOT, "build/bin/sqz"))
    p.add_argument("--configs", default="")
    a = p.parse_args()
    with open(TABLE, encoding="utf-8") as f:
        models = json.load(f)["models"]
    known = {n.lower().rpartition("/")[2] for m in models for n in (m["name"], *m.get("aliases", []))}
    roots = [a.configs, os.path.join(os.environ.get("SQZ_SHARED", ""), "models")]
    folders = [os.path.join(r, d) for r in roots if os.path.isdir(r) for d in sorted(os.listdir(r)) if os.path.exists(os.path.join(r, d, "config.json"))]
    (bad, worst), (more, other) = by_name(a.sqz, models), by_config(a.sqz, folders, known)
    print(f"{len(models)} models by name and {len(folders)} by config.json: {bad + more} differ, sizes off by at most {100 * max(worst, other):.4f} %")
    return 1 if bad + more else 0


if __name__ == "__main__":
    sys.exit(main())
