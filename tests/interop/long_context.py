"""Long-context evaluations beside transformers: the same prompts and windows, the same log-likelihoods.

    python long_context.py SQZ MODEL TEXT.jsonl [--golden FILE]

Runs `sqz eval` with needle and long_perplexity in float32 and computes every figure again from the written
prompts (needle) and from the rule of docs/tasks.md (windows of long_perplexity) with transformers' tokenizer and
model.  --golden FILE: writes what the unit test compares with.  Prints one JSON object and the worst; exit code 1 when a
log-likelihood differs by more than 1e-3 or a verdict disagrees.
"""
import argparse
import json
import math
import os
import subprocess
import sys
import tempfile

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

WINDOWS, SCORED, SAMPLES, CHOICES = 6, 128, 2, 4


def run(sqz, folder, model, *args):
    out = os.path.join(folder, "out.json")
    subprocess.run([sqz, "eval", model, "--compute", "fp32", "--quiet", "--json", out, *args], check=True, stdout=subprocess.DEVNULL)
    with open(out, encoding="utf-8") as f, open(out + ".items.jsonl", encoding="utf-8") as items:
        return json.load(f)["results"], [json.loads(line) for line in items]


class Reference:
    def __init__(self, path):
        self.tok = AutoTokenizer.from_pretrained(path)
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()

    def ids(self, text, special=False):
        return self.tok(text, add_special_tokens=special).input_ids

    def score(self, context, continuation):
        """Sum of log-probabilities of the continuation, and whether each of its tokens is the arg max."""
        x = torch.tensor([context + continuation])
        with torch.no_grad():
            p = torch.log_softmax(self.model(x).logits[0, len(context) - 1 : -1].float(), -1)
        y = torch.tensor(continuation)
        return p.gather(1, y[:, None]).sum().item(), bool((p.argmax(-1) == y).all())


def check_needle(ref, results, items):
    worst, right, exact, golden = 0.0, 0, 0, []
    for item in items:
        facts, prompt = item["note"].split("\n", 1)
        words = facts.split()
        length, depth, tokens = int(words[1]), int(words[3]), int(words[5])
        given = [w.split(":") for w in words[8:]]
        question = prompt.rsplit("\n\n", 1)[1]
        context, asked = ref.ids(prompt, special=True), ref.ids(question)
        mine = []
        for number, logprob in given:
            tail = ref.ids(f"{question} {number}")[len(asked) :]
            value, greedy = ref.score(context, tail)
            worst = max(worst, abs(value - float(logprob)))
            mine.append((value, greedy))
        tail = ref.ids(f"{question} {given[0][0]}")[len(asked) :]
        assert len(context) + len(tail) == tokens <= length, (len(context), len(tail), tokens, length)
        # the needle is in the prompt once, in the words asked for, at its depth
        needle = f"{question.split('? ', 1)[1]} {given[0][0]}."
        assert prompt.count(needle) == 1 and prompt.count(given[0][0]) == 1, prompt
        body = len(prompt) - len(question) - len(needle)
        assert abs(prompt.index(needle) / max(body, 1) - depth / 100) < 0.25, (depth, prompt)
        hit = max(range(len(mine)), key=lambda k: mine[k][0]) == 0
        assert hit == bool(item["outcome"]), item
        right += hit
        exact += hit and mine[0][1]
        golden.append([length, depth, given[0][0], round(mine[0][0], 5)])
    r, n = results["needle"], len(items)
    assert n == r["n"] and abs(right / n - r["acc"]) < 1e-9 and abs(exact / n - r["exact_match"]) < 1e-9, r
    return worst, golden


def check_growth(ref, results, items, text):
    stream = []
    with open(text, encoding="utf-8") as rows:
        for row in rows:
            stream += [ref.tok.bos_token_id] + ref.ids(json.loads(row)["text"]) + [ref.tok.eos_token_id]
    r = results["long_perplexity"]
    lengths = sorted({int(k.split(",")[1]) for k in r if k.startswith("perplexity,")})
    longest, worst, golden, at = lengths[-1], 0.0, [], 0
    places = min(WINDOWS, 1 + (len(stream) - longest) // SCORED)
    for length in lengths:
        losses = []
        for k in range(places):
            end = longest + (k * (len(stream) - longest) // (places - 1) if places > 1 else 0)
            value, _ = ref.score(stream[end - length : end - SCORED], stream[end - SCORED : end])
            assert items[at]["note"] == f"length {length} end {end}", items[at]
            worst = max(worst, abs(items[at]["outcome"] + value / SCORED))
            losses.append(-value / SCORED)
            golden.append([length, end, round(losses[-1], 6)])
            at += 1
        assert abs(math.exp(sum(losses) / places) / r[f"perplexity,{length}"] - 1) < 1e-4, length
    assert at == len(items)
    return worst, golden


def main():
    p = argparse.ArgumentParser()
    p.add_argument("sqz")
    p.add_argument("model")
    p.add_argument("text")
    p.add_argument("--golden")
    p.add_argument("--min-length", type=int, default=256)
    a = p.parse_args()
    torch.set_num_threads(2)
    ref = Reference(a.model)
    least = ("--param", f"min_length={a.min_length}")
    with tempfile.TemporaryDirectory() as folder:
        needle, needle_golden = check_needle(ref, *run(a.sqz, folder, a.model, "--dataset", "needle", *least, "--param", "prompts=true", "--param", f"samples={SAMPLES}", "--param", f"choices={CHOICES}"))
        corpus, _ = check_needle(ref, *run(a.sqz, folder, a.model, "--dataset", f"needle={a.text}", *least, "--param", "prompts=true", "--param", "samples=1", "--param", f"choices={CHOICES}", "--param", "distractors=2"))
        growth, growth_golden = check_growth(ref, *run(a.sqz, folder, a.model, "--dataset", f"long_perplexity={a.text}", *least, "--param", f"windows={WINDOWS}"), a.text)
    print(json.dumps({"model": os.path.basename(os.path.abspath(a.model)), "needle": needle, "needle_in_text": corpus, "long_perplexity": growth}))
    if a.golden:
        with open(a.golden, "w", encoding="utf-8") as f:
            lines = ",\n        ".join(json.dumps(x) for x in needle_golden)
            more = ",\n        ".join(json.dumps(x) for x in growth_golden)
            f.write(f'{{\n    "needle": [\n        {lines}\n    ],\n    "long_perplexity": [\n        {more}\n    ]\n}}\n')
    worst = max(needle, corpus, growth)
    print(f"needle and long_perplexity: log-likelihoods at most {worst:.1e} apart (limit 1e-3)")
    return 1 if worst > 1e-3 else 0


sys.exit(main())
