"""Evaluations beside lm-evaluation-harness: the same rows, the harness's own task definitions.

    SQZ_SHARED=DATA python agreement.py --sqz build/bin/sqz [--limit 100] [--models tiny-arith,...] [--tasks a,b] [--shots default,2]
                                        [--work FOLDER] [--markdown OUT]

DATA holds models/ and data/eval/ (rendered rows, which are turned back into each set's original fields).  Every
task runs in both programs on the same local files in float32; of whole texts (wikitext: sections of articles; pages: the
articles) the harness's log-likelihoods are float64, and its own float32 ones are put beside them.  Compared: the
log-likelihood of every request (within 1e-3; of a page within what the harness's float32 is off, if that is more), its greedy flag, generated texts after the stop strings, what each row counts
for each metric, every metric and its standard error.  A row may count differently only where it is a tie in the harness: its two best scores are no
further apart than two log-likelihoods can be that are each off by the tolerance.  Such rows are counted.
Each model, number of examples and task is one file in FOLDER/results, and is not run again while that file is there:
a run that was stopped goes on, and the table of --markdown has everything in the folder.  The harness's answers are kept in
FOLDER/harness: without FOLDER/results another build is compared with them.  Exit 1 on any disagreement.
Needs lm-eval 0.4.13, transformers and torch; says so and exits 77 where they are missing.
"""
import argparse
import csv
import functools
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import types

try:
    import lm_eval
    import torch
    import yaml
    from lm_eval import evaluator
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager
except ImportError as e:
    print(f"skipped: {e}")
    sys.exit(77)

TOLERANCE = 1e-3
evaluator.add_env_info = lambda results: None  # it questions the machine at length, after every task
TASKS = os.path.join(os.path.dirname(lm_eval.__file__), "tasks")
FIT = {("golden", "piqa"): 29}  # the next row's answer is longer than that context, which the harness refuses
GENERATED = ("gsm8k", "sums")
WHOLE = ("wikitext", "pages")
IN_FORM_OF = {"sums": "gsm8k", "pages": "wikitext"}  # the example's own questions; whole articles instead of sections


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


def mmlu_rows(folder, subject, split):
    with open(os.path.join(folder, split, f"{subject}_{split}.csv"), encoding="utf-8", newline="") as f:
        return [{"question": r["question"], "subject": subject, "choices": [r[f"choice{k}"] for k in range(4)],
                 "answer": int(r["answer"])} for r in csv.DictReader(f)]


def definition(out, name, base, files, tag="null"):
    """The harness's own definition, pointed at local files."""
    listed = ", ".join(f"{split}: {path}" for split, path in files.items())
    unused = "".join(f"{k}_split: null\n" for k, v in (("training", "train"), ("validation", "validation")) if v not in files)
    with open(os.path.join(out, name + ".yaml"), "w", encoding="utf-8") as f:
        f.write(f"include: {os.path.join(TASKS, base)}\ntask: local_{name}\ntag: {tag}\ndataset_path: json\ndataset_name: null\n"
                f"dataset_kwargs: {{data_files: {{{listed}}}}}\n{unused}")


def mmlu(folder, out):
    """Every subject, the four fields and the whole."""
    subjects = sorted(f.removesuffix("_test.csv") for f in os.listdir(os.path.join(folder, "test")))
    for subject in subjects:
        base, files = f"mmlu/default/mmlu_{subject}.yaml", {}
        for split in ("test", "dev"):
            files[split] = os.path.join(out, "mmlu", subject, split + ".jsonl")
            write(files[split], mmlu_rows(folder, subject, split))
        with open(os.path.join(TASKS, base), encoding="utf-8") as f:
            field = yaml.safe_load(f)["tag"].removesuffix("_tasks")
        definition(out, "mmlu_" + subject, base, files, f"local_{field}_tasks")
    for group in ("mmlu", "mmlu_stem", "mmlu_other", "mmlu_social_sciences", "mmlu_humanities"):
        with open(os.path.join(TASKS, f"mmlu/default/_{group}.yaml"), encoding="utf-8") as f:
            g = yaml.safe_load(f)
        g["group"], g["task"] = "local_" + g["group"], ["local_" + t for t in g["task"]]
        with open(os.path.join(out, group + ".yaml"), "w", encoding="utf-8") as f:
            yaml.safe_dump(g, f)


def prepare(shared, out):
    """Folder of each task with its splits; the yaml that points the harness at them."""
    data = os.path.join(shared, "data", "eval")
    plain = [("arc_easy", "arc_easy.jsonl", arc, ["test", "train"], "arc/arc_easy.yaml"),
             ("arc_challenge", "arc_challenge.jsonl", arc, ["test", "train"], "arc/arc_challenge.yaml"),
             ("openbookqa", "openbook_qa.jsonl", openbook, ["test", "train"], "openbookqa/openbookqa.yaml"),
             ("piqa", "piqa.jsonl", piqa, ["validation", "train"], "piqa/piqa.yaml"),
             ("winogrande", "winogrande.jsonl", winogrande, ["validation", "train"], "winogrande/default.yaml"),
             ("boolq", "boolq.jsonl", boolq, ["validation", "train"], "super_glue/boolq/default.yaml"),
             ("hellaswag", "hellaswag_val_1000.jsonl", dict, ["validation", "train"], "hellaswag/hellaswag.yaml"),
             ("lambada_openai", "lambada_openai.jsonl", lambada, ["test"], "lambada/lambada_openai.yaml")]
    sets = {}
    for name, file, turn, splits, base in plain:
        rows = [turn(r) for r in rows_of(os.path.join(data, file))]
        # The rows serve as both splits: the first as measured, the last 200 to draw examples from.
        sets[name] = base, {splits[0]: rows[:-200], splits[1]: rows[-200:]} if len(splits) > 1 else {splits[0]: rows}
    own = os.path.join(shared, "data", "tiny-arith", "arith_{}.jsonl")
    for name, files in (("gsm8k", os.path.join(data, "gsm8k_{}.jsonl")), ("sums", own)):
        sets[name] = "gsm8k/gsm8k.yaml", {s: rows_of(files.format(s)) for s in ("test", "train")}
    with open(os.path.join(data, "wikitext-2", "test.txt"), encoding="utf-8") as f:
        text = f.read()
    pages = re.split(r"(?m)^(?= = [^=\n]*[^= \n] = $)", text)  # a page begins with its title
    sections = [" = " + p[:6000] for p in text.split("\n = ") if p.strip()]
    for name, parts in (("wikitext", sections), ("pages", pages)):
        sets[name] = "wikitext/wikitext.yaml", {"test": [{"page": p} for p in parts if p.strip()]}
    for name, (base, parts) in sets.items():
        files = {s: os.path.join(out, name, s + ".jsonl") for s in parts}
        for s, rows in parts.items():
            write(files[s], rows)
        definition(out, name, base, files)
    mmlu(os.path.join(data, "mmlu"), out)
    return [*sets, "mmlu"]


# ---- both programs ------------------------------------------------------------------------------------------------
def theirs(lm, name, folder, limit, shots):
    """Results and samples of the task; of a group, of all its members."""
    return evaluator.simple_evaluate(model=lm, tasks=["local_" + name], num_fewshot=shots, limit=limit, task_manager=TaskManager(include_path=folder, include_defaults=False),
                                   log_samples=True, bootstrap_iters=100000)


def ours(sqz, model, name, folder, limit, shots):
    """Results, and the items of each task."""
    task = IN_FORM_OF.get(name, name)
    with tempfile.TemporaryDirectory() as tmp:
        out, items = os.path.join(tmp, "r.json"), os.path.join(tmp, "items.jsonl")
        cmd = [sqz, "eval", model, "--dataset", f"{task}={os.path.join(folder, name)}", "--compute", "fp32", "--quiet", "--json", out, "--items", items]
        cmd += ["--limit", str(limit)] if limit else []
        cmd += ["--num-fewshot", str(shots)] if shots is not None else []
        subprocess.run(cmd, check=True, stdout=subprocess.DEVNULL)
        with open(out, encoding="utf-8") as f:
            results = json.load(f)["results"]
        per = {}
        for r in rows_of(items):
            per.setdefault(r["dataset"], []).append(r)
    return {name if k == task else k: v for k, v in results.items()}, {name if k == task else k: v for k, v in per.items()}


# ---- comparing ----------------------------------------------------------------------------------------------------
def numbers(note):
    words = note.split()
    at = words.index("greedy") if "greedy" in words else len(words)
    return [float(w) for w in words[1:at]], [int(w) for w in words[at + 1:]]


def scores(values, lengths):
    return [v / n for v, n in zip(values, lengths)]


def best(values):
    return values.index(max(values))


def tie(values, lengths):
    """Could the best of the scores be another, were each log-likelihood off by the tolerance?"""
    s = scores(values, lengths)
    top = best(s)
    return any(s[top] - s[k] < TOLERANCE / lengths[top] + TOLERANCE / lengths[k] for k in range(len(s)) if k != top)


def one_row(item, sample, out, room):
    """Compares what one row was asked; returns {metric: (what it counts in the harness, in sqz)}, or nothing to say."""
    responses = [r[0] for r in sample["resps"]]
    if isinstance(responses[0], str):
        out["texts"] += item.get("note", "") != responses[0]
        return {}
    lls, greedy = numbers(item["note"])
    want = [float(g[0]) if isinstance(g, (list, tuple)) else float(g) for g in responses]
    flags = [int(str(g[1]) == "True") for g in responses if isinstance(g, (list, tuple))]
    out["requests"] += len(want)
    apart = [abs(a - b) for a, b in zip(lls, want)]
    out["worst"] = max([out["worst"], *apart])
    out["beyond"] += sum(not d <= room for d in apart)
    out["greedy"] += sum(a != b for a, b in zip(greedy, flags)) + (len(lls) != len(want))
    if len(want) < 2:
        return {}
    ones = [1] * len(want)
    lengths = [max(1, len(a[1]) - 1) for a in sample["arguments"]]  # less the blank before a choice
    counted = {}
    for metric, n in (("acc", ones), ("acc_norm", lengths)):
        if metric not in sample:
            continue
        had = float(sample[metric])
        # The items say what a row counts for acc; for acc_norm it follows from the log-likelihoods.
        mine = float(item["outcome"]) if metric == "acc" else float(best(scores(lls, n)) == int(sample["target"]))
        tied = tie(want, n)
        out["ties"] += tied
        out["flips"] += tied and mine != had
        out["wrong"] += not tied and mine != had
        counted[metric] = (had, mine if tied else had)
    return counted


def figures(results, expected, counted, n, out):
    """Every metric and standard error of the harness beside sqz's; those that ties changed are counted anew."""
    share = {}
    for metric in {m for row in counted for m in row}:
        pairs = [row[metric] for row in counted]
        if any(a != b for a, b in pairs):
            p = sum(b for _, b in pairs) / n
            share[metric], share[metric + "_stderr"] = p, math.sqrt(p * (1 - p) / (n - 1)) if n > 1 else None
    for key, value in sorted(expected.items()):
        metric, _, kind = key.partition(",")
        if not kind or not isinstance(value, (int, float)) or metric in ("alias", "sample_len"):
            continue
        mine_key = metric if kind == "none" else key
        value = share.get(metric, value)
        got = results.get(mine_key)
        slack = 1e-4 * abs(value) if metric.split("_stderr")[0] in ("perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte") else 1e-9
        out["metrics"].append((mine_key, got, value, got is not None and bool(abs(got - value) <= slack)))


def compare_task(items, samples, results, expected, out, room):
    docs, filters = {}, {}
    for s in samples:  # the harness has one sample a filter; log-likelihoods are the same in each
        docs.setdefault(s["doc_id"], s)
        filters.setdefault(s["filter"], []).append(s)
    out["rows"] += len(docs)
    if len(items) != len(docs):
        out["metrics"].append(("rows", len(items), len(docs), False))
        return
    counted = [one_row(item, docs[k], out, room) for item, k in zip(items, sorted(docs))]
    if "strict-match" in filters:  # the outcome of a row is that of the first filter
        strict = {s["doc_id"]: float(s["exact_match"]) for s in filters["strict-match"]}
        out["wrong"] += sum(float(item["outcome"]) != strict[k] for item, k in zip(items, sorted(strict)))
    figures(results, expected, [c for c in counted if c], len(docs), out)


def compare(mine, other, room):
    results, items = mine
    out = {"rows": 0, "requests": 0, "worst": 0.0, "beyond": 0, "greedy": 0, "texts": 0, "wrong": 0, "ties": 0, "flips": 0, "tasks": 0, "groups": 0, "metrics": []}
    for local, samples in other["samples"].items():
        name, part = local.removeprefix("local_"), dict(out, metrics=[])
        part["tasks"] += 1
        compare_task(items.get(name, []), samples, results.get(name, {}), other["results"][local], part, room)
        part["metrics"] = [(f"{name} {m[0]}" if len(other["samples"]) > 1 else m[0], *m[1:]) for m in part["metrics"]]
        out = dict(part, metrics=out["metrics"] + part["metrics"])
    for local, expected in other.get("groups", {}).items():
        part = dict(out, metrics=[])
        name = local.removeprefix("local_")
        figures(results.get(name, {}), expected, [], 1, part)
        slack = out["flips"] / max(1, results.get(name, {}).get("n", 1))  # a tie of a member moves its groups
        out["groups"] += 1
        out["metrics"] += [(f"{name} {k}" if name != "mmlu" else k, a, b, a is not None and bool(abs(a - b) <= slack + 1e-9)) for k, a, b, _ in part["metrics"]]
    return out


def golden(shared, folder):
    """A golden checkpoint has no tokenizer: its 320 tokens get a byte-level one, trained here."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    source, target = os.path.join(shared, "golden", "qwen2"), os.path.join(folder, "golden-qwen2")
    if os.path.isdir(target):
        return target
    os.makedirs(target)
    for f in ("config.json", "model.safetensors"):
        shutil.copy(os.path.join(source, f), target)
    t = Tokenizer(models.BPE())
    # What published folders of this family have.  transformers 5 puts it in place of any other that tokenizer.json
    # names (its class goes by the model's type), so that with another one the two programs would read different tokens.
    words = Regex("(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+")
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(words, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
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


# ---- cells of the table --------------------------------------------------------------------------------------------
@functools.cache
def loaded(path, dtype):
    lm = HFLM(pretrained=path, dtype=dtype, device="cpu", batch_size=8)
    return exact(lm) if dtype == "float64" else lm


def store(file, value):
    with open(file + ".part", "w", encoding="utf-8") as f:
        json.dump(value, f)
    os.replace(file + ".part", file)


def kept(other):
    """What the comparison reads of the harness's answers."""
    parts = ("doc_id", "filter", "target", "arguments", "resps", "acc", "acc_norm", "exact_match")
    samples = {t: [{k: s[k] for k in parts if k in s} for s in rows] for t, rows in other["samples"].items()}
    return {"samples": samples, "results": other["results"], "groups": other.get("groups", {})}


def exact(lm):
    """transformers computes these norms in float32 even in a float64 model."""
    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))
    for module in lm.model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = types.MethodType(forward, module)
    return lm


def answers(a, path, model, task, shots, limit):
    """The harness's, which are its own whatever sqz is compared with them: they are kept.  Whole texts in float64, and
    beside them what the harness answers in float32."""
    file = os.path.join(a.work, "harness", f"{model}.{shots}.{task}.{limit}.json")
    if not os.path.exists(file):
        start, n = time.time(), None if shots == "default" else int(shots)
        found = kept(theirs(loaded(path, "float32"), task, a.work, limit or None, n))
        if task in WHOLE:
            single = pages_of(found, task)
            found = dict(kept(theirs(loaded(path, "float64"), task, a.work, limit or None, n)), float32=single)
        store(file, dict(found, seconds=time.time() - start))
    with open(file, encoding="utf-8") as f:
        return json.load(f)


def pages_of(found, task):
    rows = sorted(found["samples"]["local_" + task], key=lambda s: s["doc_id"])
    return [float(s["resps"][0][0]) for s in rows]


def cell_run(a, path, model, task, shots):
    limit = a.generations if task in GENERATED else a.subject_rows if task == "mmlu" else a.pages if task == "pages" else a.limit
    if (model, task) in FIT:
        limit = min(limit or FIT[model, task], FIT[model, task])
    other, start = answers(a, path, model, task, shots, limit), time.time()
    mine = ours(a.sqz, path, task, a.work, limit, None if shots == "default" else int(shots))
    taken, room, own = time.time() - start, TOLERANCE, None
    if task in WHOLE:
        own = max(abs(x - y) for x, y in zip(other["float32"], pages_of(other, task)))
        room = max(room, own) if task == "pages" else room
    return dict(compare(mine, other, room), own=own, seconds=[taken, other["seconds"]], model=model, shots=shots, task=task)


def verdict(c):
    return not (c["beyond"] or c["greedy"] or c["texts"] or c["wrong"] or any(not m[3] for m in c["metrics"]))


def line(model, shots, task, c):
    shown = [m for m in c["metrics"] if m[1] is not None and "stderr" not in m[0] and not (c["groups"] and m[0].startswith("mmlu_"))]
    text = ", ".join(f"{m[0]} {m[1]:.6g}" for m in shown)
    if c["groups"]:
        text += f" ({c['tasks']} subjects and {c['groups']} groups compared)"
    return (f"| {model} | {task} | {'own' if shots == 'default' else shots} | {c['rows']} | {c['requests']} | {c['worst']:.1e} | {c['greedy']} | {c['texts']} | "
            f"{c['wrong']} | {c['ties']} ({c['flips']}) | {text} | {'equal' if verdict(c) else 'DIFFERS'} |")


def table(results, markdown):
    lines = ["| model | task | examples | rows | requests | worst | greedy | texts | wrong | ties (otherwise) | metrics | verdict |", "|---|---|---|---|---|---|---|---|---|---|---|---|"]
    cells = []
    for f in sorted(os.listdir(results)):
        with open(os.path.join(results, f), encoding="utf-8") as file:
            cells.append(c := json.load(file))
        lines.append(line(c["model"], c["shots"], c["task"], c))
    if markdown:
        with open(markdown, "w", encoding="utf-8") as f:
            f.write("\n".join(lines) + "\n")
    bad, (rows, requests, ties) = sum(not verdict(c) for c in cells), (sum(c[k] for c in cells) for k in ("rows", "requests", "ties"))
    print(f"{len(cells)} runs, {rows} rows, {requests} log-likelihoods, {ties} ties: {bad} runs differ")
    return bad


def asked(model, task, shots):
    """Whole texts take no examples, and a context of 256 has no room for a generation of 256."""
    return not (task in WHOLE and shots != "default") and not (model == "golden" and task in GENERATED)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--sqz", default="build/bin/sqz")
    p.add_argument("--limit", type=int, default=100, help="rows of a task, 0: all")
    p.add_argument("--pages", type=int, default=20, help="whole articles, 0: all")
    p.add_argument("--subject-rows", type=int, default=5, help="rows of each of mmlu's subjects, 0: all")
    p.add_argument("--generations", type=int, default=10, help="rows of gsm8k, 0: all")
    p.add_argument("--models", default="stories260K-hf,golden,tiny-arith")
    p.add_argument("--tasks", default="")
    p.add_argument("--shots", default="default,2")
    p.add_argument("--work", default="")
    p.add_argument("--markdown", default="")
    a = p.parse_args()
    shared = os.environ.get("SQZ_SHARED", "")
    if not os.path.isdir(os.path.join(shared, "data", "eval")):
        print("skipped: SQZ_SHARED names no folder with data/eval")
        return 77
    torch.set_num_threads(1)
    a.work = a.work or tempfile.mkdtemp(prefix="sqz_agreement_")
    results = os.path.join(a.work, "results")
    for folder in (results, os.path.join(a.work, "harness")):
        os.makedirs(folder, exist_ok=True)
    every = prepare(shared, a.work)
    for model in a.models.split(","):
        path = golden(shared, a.work) if model == "golden" else os.path.join(shared, "models", model)
        for shots in a.shots.split(","):
            for task in (a.tasks.split(",") if a.tasks else every):
                file = os.path.join(results, f"{model}.{shots}.{task}.json")
                if os.path.exists(file) or not asked(model, task, shots):
                    continue
                c = cell_run(a, path, model, task, shots)
                print(f"{line(model, shots, task, c)}  sqz {c['seconds'][0]:.1f} s, lm-eval {c['seconds'][1]:.1f} s", flush=True)
                for m in c["metrics"]:
                    if not m[3]:
                        print(f"    {m[0]}: sqz {m[1]} lm-eval {m[2]}", flush=True)
                store(file, c)
    return 1 if table(results, a.markdown) else 0


if __name__ == "__main__":
    sys.exit(main())
