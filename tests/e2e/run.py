"""A run from a config: the folder's files, the front, the exported checkpoints, the report.

    python3 run.py SQZ WORKDIR
"""
import json
import os
import shutil
import sys
from html.parser import HTMLParser

import common


def damage(store, digest):
    path = os.path.join(store, "objects/sha256", digest[7:9], digest[9:])
    os.chmod(path, 0o644)
    with open(path, "r+b") as f:
        f.seek(-5, os.SEEK_END)
        f.write(b"DAMAG")


def weights(store, artifact):
    """The first object of an artifact."""
    with open(os.path.join(store, "objects/sha256", artifact[7:9], artifact[9:]), encoding="utf-8") as f:
        return next(iter(json.load(f)["tensors"].values()))["object"]


def damaged(sqz, store, out):
    """An interrupted run whose registry was damaged meanwhile: what is damaged is made again, the front is the same."""
    want = common.front(out)
    with open(os.path.join(out, "journal.jsonl"), encoding="utf-8") as f:
        records = [json.loads(line) for line in f]
    last = max(i for i, r in enumerate(records) if r["type"] == "start" and r["rung"] == "full")
    proxy = max(i for i, r in enumerate(records[:last]) if r["type"] == "start" and r["rung"] == "proxy")
    made = [t for r in records[:last] if r["type"] == "result" and r["rung"] in ("divergence", "proxy") for t in r["result"]["tasks"]]
    record = next(t["kl"]["record"] for t in made if "record" in t.get("kl", {}))
    artifact = [t["artifact"] for t in made if "artifact" in t][-1]
    stopped = next(i for i, r in enumerate(records) if r["type"] == "stop") + 1
    ours, dense = "its artifact is made again", "the record of the dense model is made again"
    for cut, digest, words in ((stopped, weights(store, want[-1][2]), ours), (last, weights(store, artifact), ours), (proxy, record, dense)):
        damage(store, digest)
        with open(os.path.join(out, "journal.jsonl"), "r+", encoding="utf-8") as f:
            f.truncate(sum(len(line) for line in f.readlines()[:cut]))
        shutil.rmtree(os.path.join(out, "models"))
        _, err = common.run(sqz, ["run", "--resume", out, "--yes"], store)
        assert words in err, err
        assert common.front(out) == want, (common.front(out), want)
    common.run(sqz, ["run", "--resume", out, "--yes"], store)  # what was made again is no obstacle
    assert common.front(out) == want, (common.front(out), want)
    common.run(sqz, ["registry", "verify"], store)


def main(sqz, work):
    work = common.fresh(work)
    store, out = os.path.join(work, "store"), os.path.join(work, "run")
    config = common.pipeline(work)
    text, _ = common.run(sqz, ["--config", config, "--output", out, "--yes"], store)
    assert "report.html" in text, text
    for name in ("run.json", "journal.jsonl", "trials.jsonl", "pareto.json", "metrics.json", "report.md", "report.html",
                 "environment.json", "quantization_summary.json"):
        assert os.path.getsize(os.path.join(out, name)) > 0, name
    trials = [json.loads(line) for line in open(os.path.join(out, "trials.jsonl"), encoding="utf-8")]
    assert sum(t["kind"] != "baseline" for t in trials) == 6, [t["kind"] for t in trials]
    pareto = common.load(out, "pareto.json")
    members = pareto["members"]
    assert members, "an empty front"
    base = pareto["baseline"]
    for m in members:
        assert m["metrics"]["bytes"] < base["bytes"], "a member as large as the dense model"
        folder = os.path.join(out, m["path"])
        for name in ("model.safetensors", "config.json", "tokenizer.json", "quantization_config.json", "validation_report.json", "README.md"):
            assert os.path.exists(os.path.join(folder, name)), f"{folder}/{name}"
    # nobody on the front is beaten by another trial that was fully measured
    points = [(t["metrics"]["quality"], t["metrics"]["bytes"], t["strategy_id"]) for t in trials
              if t.get("feasible") and t["kind"] != "baseline" and "full" in t.get("rungs", {})]
    higher = base.get("quality_higher_is_better", False)
    sign = -1 if higher else 1
    for m in members:
        q, b = m["metrics"]["quality"], m["metrics"]["bytes"]
        for q2, b2, who in points:
            assert not (sign * q2 <= sign * q and b2 <= b and (sign * q2 < sign * q or b2 < b)), f"{m['strategy_id']} is beaten by {who}"
    # the exported folder evaluates to the reported quality at the recorded compute
    m = members[0]
    got, _ = common.run(sqz, ["eval", os.path.join(out, m["path"]), "--dataset", os.path.join(common.DATA, "test.jsonl"), "--window", "256",
                              "--limit", "24", "--compute", m["metrics"]["compute"], "--json", "-"], store)
    ppl = json.loads(got)["results"]["test"]["perplexity"]
    assert abs(ppl / m["metrics"]["perplexity"] - 1) < 1e-6, (ppl, m["metrics"]["perplexity"])
    common.run(sqz, ["registry", "verify"], store)
    # a text that looks like a number is one only where the tracker takes a number; nobody listens at port 1
    common.run(sqz, ["sync", out, "--tracker", "mlflow", "--param", "experiment=2024", "--param", "uri=http://127.0.0.1:1", "--attempts", "1"],
               store, expect=8)
    damaged(sqz, store, out)
    HTMLParser().feed(open(os.path.join(out, "report.html"), encoding="utf-8").read())
    print(f"ok: {len(members)} members of {len(trials) - 1} trials")


main(sys.argv[1], os.path.abspath(sys.argv[2]))
