"""Evaluations beside lm-evaluation-harness: the same rows, the harness's own task definitions.

    SQZ_SHARED=DATA python agreement.py --sqz build/bin/sqz [--limit 40] [--models tiny-arith,...] [--tasks a,b] [--markdown OUT]

DATA holds models/ and data/eval/ (rendered rows, which are turned back into each set's original fields).  Every
task runs in both programs on the same local files in float32.  Compared: the log-likelihood of every request, its
greedy flag, every metric and its standard error, generated texts after the stop strings.  A difference of a metric
counts as a tie only if the two best choices of a row lie within the tolerance.  Exit 1 on any disagreement.
Needs lm-eval 0.4.13, transformers and torch; says so and exits 0 where they are missing.
"""
import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time

try:
    import lm_eval
    import torch
    from lm_eval.tasks import TaskManager
except ImportError as e:
    print(f"agreement: skipped, {e}")
    sys.exit(0)

TOLERANCE = 1e-3
TASKS = os.path.join(os.path.dirname(lm_eval.__file__), "tasks")


def rows_of(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f if line.strip()]


def write(path, rows):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        for r in rows:
            f.write(json.dumps(r, ensure_ascii=False) + "\n")


# ---- rendered rows back to original fields ------------------------------------------------------------------------
def arc(r):
    letters = [chr(65 + i) for i in range(len(r["choices"]))]
    return {"id": "x", "question": r["query"].removeprefix("Question: ").removesuffix("\nAnswer:").strip(),
            "choices": {"text": r["choices"], "label": letters}, "answerKey": letters[r["gold"]]}


def openbook(r):
    letters = ["A", "B", "C", "D"]
    return {"id": "x", "question_stem": r["query"], "choices": {"text": r["choices"], "label": letters},
            "answerKey": letters[r["gold"]]}


def piqa(r):
    goal = r["query"].removeprefix("Question: ").removesuffix("Answer:").strip()
    return {"goal": goal, "sol1": r["choices"][0], "sol2": r["choices"][1], "label": r["gold"]}


def winogrande(r):
    a, b = (o.split(" ") for o in r["context_options"])
    k = 0
    while k < min(len(a), len(b)) - 1 and a[k] == b[k]:
        k += 1
    head = " ".join(a[:k]) + (" " if k else "")
    return {"sentence": head + "_ " + r["continuation"], "option1": " ".join(a[k:]), "option2": " ".join(b[k:]),
            "answer": str(r["gold"] + 1)}


def boolq(r):
    passage, _, rest = r["query"].partition("\nQuestion: ")
    question = rest.split("\nAnswer")[0].strip().rstrip("?")
    return {"passage": passage.removeprefix("Passage: "), "question": question, "label": r["gold"], "idx": 0}


def lambada(r):
    return {"text": r["context"] + " " + r["continuation"].strip()}


def mmlu(folder, subject, split):
    import csv
    with open(os.path.join(folder, split, f"{subject}_{split}.csv"), encoding="utf-8", newline="") as f:
        return [{"question": r["question"], "subject": subject, "choices": [r[f"choice{k}"] for k in range(4)],
                 "answer": int(r["answer"])} for r in csv.DictReader(f)]


def prepare(data, out):
    """Folder of each task with its splits; the yaml that points the harness at them."""
    plain = [("arc_easy", "arc_easy.jsonl", arc, ["test", "train"], "arc/arc_easy.yaml"),
             ("arc_challenge", "arc_challenge.jsonl", arc, ["test", "train"], "arc/arc_challenge.yaml"),
             ("openbookqa", "openbook_qa.jsonl", openbook, ["test", "train"], "openbookqa/openbookqa.yaml"),
             ("piqa", "piqa.jsonl", piqa, ["validation", "train"], "piqa/piqa.yaml"),
             ("winogrande", "winogrande.jsonl", winogrande, ["validation", "train"], "winogrande/default.yaml"),
             ("boolq", "boolq.jsonl", boolq, ["validation", "train"], "super_glue/boolq/default.yaml"),
             ("hellaswag", "hellaswag_val_1000.jsonl", dict, ["validation", "train"], "hellaswag/hellaswag.yaml"),
             ("lambada_openai", "lambada_openai.jsonl", lambada, ["test"], "lambada/lambada_openai.yaml"),
             ("gsm8k", None, dict, ["test", "train"], "gsm8k/gsm8k.yaml")]
    tasks = {}
    for name, file, turn, splits, yaml in plain:
        if file:
            rows = [turn(r) for r in rows_of(os.path.join(data, file))]
            # The rows serve as both splits: the first as measured, the last 200 to draw examples from.
            parts = {splits[0]: rows[:-200]} if len(splits) > 1 else {splits[0]: rows}
            if len(splits) > 1:
                parts[splits[1]] = rows[-200:]
        else:
            parts = {s: rows_of(os.path.join(data, f"gsm8k_{s}.jsonl")) for s in splits}
        for s, rs in parts.items():
            write(os.path.join(out, name, s + ".jsonl"), rs)
        tasks[name] = (yaml, list(parts))
    for subject in ("us_foreign_policy", "abstract_algebra"):
        for split in ("test", "dev"):
            write(os.path.join(out, "mmlu", subject, split + ".jsonl"), mmlu(os.path.join(data, "mmlu"), subject, split))
        tasks["mmlu_" + subject] = (f"mmlu/default/mmlu_{subject}.yaml", ["test", "dev"])
    with open(os.path.join(data, "wikitext-2", "test.txt"), encoding="utf-8") as f:
        pages = [p for p in f.read().split("\n = ") if p.strip()][:12]
    write(os.path.join(out, "wikitext", "test.jsonl"), [{"page": " = " + p[:6000]} for p in pages])
    tasks["wikitext"] = ("wikitext/wikitext.yaml", ["test"])
    for name, (yaml, splits) in tasks.items():
        folder = os.path.join(out, name) if not name.startswith("mmlu_") else os.path.join(out, "mmlu", name[5:])
        files = ", ".join(f"{s}: {folder}/{s}.jsonl" for s in splits)
        unused = "".join(f"{k}_split: null\n" for k, v in (("training", "train"), ("validation", "validation"))
                         if v not in splits)
        with open(os.path.join(out, name + ".yaml"), "w") as f:
            f.write(f"include: {os.path.join(TASKS, yaml)}\ntask: local_{name}\ntag: null\ndataset_path: json\ndataset_name: null\n"
                    f"dataset_kwargs: {{data_files: {{{files}}}}}\n{unused}")
    return list(tasks)


# ---- both programs ------------------------------------------------------------------------------------------------
def theirs(model, names, folder, limit, shots):
    manager = TaskManager(include_path=folder)
    r = lm_eval.simple_evaluate(model="hf", model_args={"pretrained": model, "dtype": "float32", "device": "cpu"},
                                tasks=["local_" + n for n in names], num_fewshot=shots, limit=limit, batch_size=8,
                                task_manager=manager, log_samples=True, bootstrap_iters=100000)
    return {n: (r["results"]["local_" + n], r["samples"]["local_" + n]) for n in names}


def ours(sqz, model, names, folder, limit, shots):
    where = {n: os.path.join(folder, "mmlu" if n.startswith("mmlu_") else n) for n in names}
    # A definition's config is a folder's subset; these folders have none but mmlu's.
    spec = ",".join(f"{n}={where[n]}" for n in names)
    with tempfile.TemporaryDirectory() as tmp:
        out, items = os.path.join(tmp, "r.json"), os.path.join(tmp, "items.jsonl")
        cmd = [sqz, "eval", model, "--dataset", spec, "--limit", str(limit), "--compute", "fp32", "--quiet",
               "--json", out, "--items", items]
        if shots is not None:
            cmd += ["--num-fewshot", str(shots)]
        subprocess.run(cmd, check=True)
        with open(out, encoding="utf-8") as f:
            results = json.load(f)["results"]
        per = {}
        for r in rows_of(items):
            per.setdefault(r["dataset"], []).append(r)
    return {n: (results[n], per[n]) for n in names}


# ---- comparing ----------------------------------------------------------------------------------------------------
def numbers(note):
    words = note.split()
    at = words.index("greedy") if "greedy" in words else len(words)
    return [float(w) for w in words[1:at]], [int(w) for w in words[at + 1:]]


def by_doc(samples):
    """The harness has one sample a filter; loglikelihoods are the same in each."""
    docs = {}
    for s in samples:
        docs.setdefault(s["doc_id"], s)
    return [docs[k] for k in sorted(docs)]


def tie(values, norms):
    best = sorted(v / n for v, n in zip(values, norms))
    return len(best) > 1 and best[-1] - best[-2] < 2 * TOLERANCE


def compare(name, mine, other):
    results, items = mine
    expected, samples = other
    docs = by_doc(samples)
    out = {"rows": len(docs), "requests": 0, "worst": 0.0, "greedy": 0, "texts": 0, "ties": 0, "metrics": []}
    if len(items) != len(docs):
        out["metrics"].append(("rows", len(items), len(docs), False))
        return out
    for item, doc in zip(items, docs):
        if "exact_match" in expected or any(k.startswith("exact_match,") for k in expected):
            out["texts"] += item.get("note", "") != doc["resps"][0][0]
            continue
        lls, greedy = numbers(item["note"])
        got = [r[0] for r in doc["resps"]]
        want = [float(g[0]) if isinstance(g, (list, tuple)) else float(g) for g in got]
        out["requests"] += len(want)
        out["worst"] = max([out["worst"]] + [abs(a - b) for a, b in zip(lls, want)])
        flags = [int(str(g[1]) == "True") for g in got if isinstance(g, (list, tuple))]
        out["greedy"] += sum(a != b for a, b in zip(greedy, flags))
        lengths = [max(1, len(a["arg_1"]) - 1) for a in doc["arguments"].values()] if isinstance(doc["arguments"], dict) \
            and len(want) > 1 else [1] * len(want)
        out["ties"] += tie(want, [1] * len(want)) or tie(want, lengths)
    for key, value in sorted(expected.items()):
        metric, _, kind = key.partition(",")
        if not kind or not isinstance(value, (int, float)) or metric in ("alias", "sample_len"):
            continue
        mine_key = metric if kind == "none" else key
        if mine_key not in results:
            out["metrics"].append((mine_key, None, value, False))
            continue
        got = results[mine_key]
        slack = 1e-4 * abs(value) if metric.split("_stderr")[0] in ("perplexity", "word_perplexity", "byte_perplexity",
                                                                    "bits_per_byte") else 1e-9
        slack += out["ties"] / max(1, out["rows"]) + (math.sqrt(out["ties"]) if "_stderr" in metric and out["ties"] else 0)
        out["metrics"].append((mine_key, got, value, abs(got - value) <= slack))
    return out


def golden(shared, folder):
    """A golden checkpoint has no tokenizer: its 320 tokens get a byte-level one, trained here."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    source, target = os.path.join(shared, "golden", "qwen2"), os.path.join(folder, "golden-qwen2")
    if os.path.isdir(target):
        return target
    os.makedirs(target)
    for f in ("config.json", "model.safetensors"):
        shutil.copy(os.path.join(source, f), target)
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=["<pad>", "<s>", "</s>"],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    t.train([os.path.join(shared, "data", "eval", "wikitext-2", "valid.txt")], trainer)
    t.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    t.save(os.path.join(target, "tokenizer.json"))
    with open(os.path.join(target, "tokenizer_config.json"), "w") as f:
        json.dump({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>",
                   "pad_token": "<pad>", "model_max_length": 256, "clean_up_tokenization_spaces": False}, f)
    return target


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--sqz", default="build/bin/sqz")
    p.add_argument("--limit", type=int, default=40)
    p.add_argument("--models", default="tiny-arith,stories260K-hf,golden")
    p.add_argument("--tasks", default="")
    p.add_argument("--shots", default="default,2")
    p.add_argument("--work", default="")
    p.add_argument("--markdown", default="")
    a = p.parse_args()
    shared = os.environ.get("SQZ_SHARED", "")
    if not os.path.isdir(os.path.join(shared, "data", "eval")):
        print("agreement: skipped, SQZ_SHARED names no folder with data/eval")
        return 0
    torch.set_num_threads(1)
    work = a.work or tempfile.mkdtemp(prefix="sqz_agreement_")
    every = prepare(os.path.join(shared, "data", "eval"), work)
    names = [n for n in (a.tasks.split(",") if a.tasks else every)]
    lines, bad = [], 0
    for model in a.models.split(","):
        path = golden(shared, work) if model == "golden" else os.path.join(shared, "models", model)
        for shots in a.shots.split(","):
            n = None if shots == "default" else int(shots)
            chosen = [t for t in names if n is None or t not in ("wikitext", "gsm8k")]
            if model == "golden":  # its context of 256 has no room for a generation of 256
                chosen = [t for t in chosen if t != "gsm8k"]
            start = time.time()
            mine = ours(a.sqz, path, chosen, work, a.limit, n)
            middle = time.time()
            other = theirs(path, chosen, work, a.limit, n)
            end = time.time()
            print(f"{model}, shots {shots}: sqz {middle - start:.1f} s, lm-eval {end - middle:.1f} s", flush=True)
            for t in chosen:
                c = compare(t, mine[t], other[t])
                wrong = [m for m in c["metrics"] if not m[3]]
                ok = not wrong and c["worst"] <= TOLERANCE and not c["greedy"] and not c["texts"]
                bad += not ok
                figures = ", ".join(f"{k} {v:.6g}" for k, v, _, _ in c["metrics"] if v is not None and "stderr" not in k)
                lines.append(f"| {os.path.basename(model)} | {t} | {'own' if n is None else n} | {c['rows']} | {c['requests']} | "
                             f"{c['worst']:.1e} | {c['greedy']} | {c['texts']} | {c['ties']} | {figures} | "
                             f"{'equal' if ok else 'DIFFERS'} |")
                print(lines[-1], flush=True)
                for m in wrong:
                    print(f"    {m[0]}: sqz {m[1]} lm-eval {m[2]}", flush=True)
    if a.markdown:
        with open(a.markdown, "w", encoding="utf-8") as f:
            f.write("\n".join(lines) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
