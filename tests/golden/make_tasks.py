"""Golden requests of the known tasks, made with lm-evaluation-harness 0.4.13 from rows of our own.

    python make_tasks.py OUT MODEL      (OUT: tests/golden/tasks, MODEL: examples/tiny-arith/model)

For every task OUT/TASK/SPLIT.jsonl holds the rows that this script invents, and OUT/requests.json what the harness
asks about them, with and without examples: the arguments of every request and, for MODEL in float32, the
log-likelihood and the greedy flag (of texts: the sum).  answers.json: texts through gsm8k's filters.
"""
import json
import os
import random
import sys

import lm_eval
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

TASKS = os.path.join(os.path.dirname(lm_eval.__file__), "tasks")
WORDS = ("red stone river lamp seven quick bread winter glass paper yellow horse small table green music silver "
         "house apple cloud naïve Öl straße 12 305 7.5").split()


def phrase(rng, n):
    return " ".join(rng.choice(WORDS) for _ in range(n))


def sentence(rng, n):
    return phrase(rng, n).capitalize() + "."


def hellaswag(rng, k):
    mark = rng.choice(["", " [title] How to", " [step]", "  two  spaces   three"])
    return {"ind": k, "activity_label": sentence(rng, 2)[:-1], "ctx_a": sentence(rng, 5) + mark + " " + phrase(rng, 2),
            "ctx_b": rng.choice(["the MAN and", "", "ÜBER all", "she [sub] goes"]), "ctx": "unused",
            "endings": [phrase(rng, 3) + rng.choice(["", " [substeps] now.", "  x", " "]) for _ in range(4)],
            "label": str(rng.randrange(4))}


def arc(rng, k):
    labels = rng.choice([["A", "B", "C", "D"], ["1", "2", "3"]])
    return {"id": f"q{k}", "question": sentence(rng, 6), "choices": {"text": [phrase(rng, 2) for _ in labels], "label": labels},
            "answerKey": rng.choice(labels)}


def openbook(rng, k):
    labels = ["A", "B", "C", "D"]
    return {"id": f"q{k}", "question_stem": phrase(rng, 5), "choices": {"text": [phrase(rng, 2) for _ in labels], "label": labels},
            "answerKey": rng.choice(labels)}


def piqa(rng, k):
    return {"goal": sentence(rng, 4), "sol1": phrase(rng, 5), "sol2": phrase(rng, 7), "label": rng.randrange(2)}


def winogrande(rng, k):
    return {"sentence": phrase(rng, 4) + " so _" + rng.choice([" was ", "'s "]) + sentence(rng, 3), "option1": phrase(rng, 1),
            "option2": phrase(rng, 2), "answer": str(rng.randrange(1, 3))}


def boolq(rng, k):
    return {"question": phrase(rng, 4), "passage": sentence(rng, 12), "idx": k, "label": rng.randrange(2)}


def lambada(rng, k):
    return {"text": phrase(rng, 9) + rng.choice(["\n", " ", " “"]) + phrase(rng, 2)}


def gsm8k(rng, k):
    a, b = rng.randrange(50), rng.randrange(2000)
    return {"question": f"{sentence(rng, 4)} What is {a} + {b}?", "answer": f"{a} + {b} = <<{a}+{b}={a + b}>>{a + b}\n#### {a + b:,}"}


def mmlu(rng, k):
    return {"question": rng.choice(["", " ", "\n"]) + sentence(rng, 5) + rng.choice(["", " \n"]), "subject": "us_foreign_policy",
            "choices": [phrase(rng, 2) for _ in range(4)], "answer": rng.randrange(4)}


def wikitext(rng, k):
    parts = [f" = {phrase(rng, 2)} = \n", f" {phrase(rng, 5)} @,@ {phrase(rng, 2)} @-@ x ( {phrase(rng, 2)} ) , \" {phrase(rng, 3)} \" .\n",
             f" = = {phrase(rng, 1)} = = \n N the dog 's ' bone ' : [ {phrase(rng, 1)} ] ; 5 ° C { {'a': 1} } ! ok ? s 'x\n"]
    return {"page": "".join(parts * rng.randrange(1, 4))}


SETS = [("hellaswag", "hellaswag/hellaswag.yaml", hellaswag, ("validation", "train"), 3),
        ("arc_easy", "arc/arc_easy.yaml", arc, ("test", "train"), 2),
        ("openbookqa", "openbookqa/openbookqa.yaml", openbook, ("test", "train"), 2),
        ("piqa", "piqa/piqa.yaml", piqa, ("validation", "train"), 7),
        ("winogrande", "winogrande/default.yaml", winogrande, ("validation", "train"), 2),
        ("boolq", "super_glue/boolq/default.yaml", boolq, ("validation", "train"), 1),
        ("lambada_openai", "lambada/lambada_openai.yaml", lambada, ("test",), 2),
        ("gsm8k", "gsm8k/gsm8k.yaml", gsm8k, ("test", "train"), 5),
        ("mmlu_us_foreign_policy", "mmlu/default/mmlu_us_foreign_policy.yaml", mmlu, ("test", "dev"), 3),
        ("wikitext", "wikitext/wikitext.yaml", wikitext, ("test",), 0)]


def ask(task, shots, lm):
    task.set_config(key="num_fewshot", value=shots)
    task.set_fewshot_seed(seed=1234)
    task.build_all_requests(limit=None, rank=0, world_size=1)
    kind, rows = task.OUTPUT_TYPE, {}
    for i in task.instances:
        rows.setdefault(i.doc_id, []).append([a for a in i.args if isinstance(a, str)])
    out = {"shots": shots, "requests": [rows[k] for k in sorted(rows)]}
    if kind == "loglikelihood_rolling":
        out["logprobs"] = [[round(v, 5)] for v in lm.loglikelihood_rolling(task.instances, disable_tqdm=True)]
    elif kind != "generate_until":
        scores = iter(lm.loglikelihood(task.instances, disable_tqdm=True))
        per = [[next(scores) for _ in rows[k]] for k in sorted(rows)]
        out["logprobs"] = [[round(v, 5) for v, _ in r] for r in per]
        out["greedy"] = [[int(g) for _, g in r] for r in per]
    return out


def main(out, model):
    rng = random.Random(7)
    lm = HFLM(pretrained=model, dtype="float32", device="cpu", batch_size=8)
    requests = {}
    for name, yaml, make, splits, shots in SETS:
        folder = os.path.join(out, name)
        os.makedirs(folder, exist_ok=True)
        for k, s in enumerate(splits):
            with open(os.path.join(folder, s + ".jsonl"), "w", encoding="utf-8") as f:
                for i in range((30 if name == "gsm8k" else 12) if k else 6):
                    f.write(json.dumps(make(rng, i), ensure_ascii=False) + "\n")
        files = ", ".join(f"{s}: {os.path.abspath(folder)}/{s}.jsonl" for s in splits)
        unused = "".join(f"{k}_split: null\n" for k, v in (("training", "train"), ("validation", "validation")) if v not in splits)
        config = os.path.join(folder, "local.yaml")
        with open(config, "w") as f:
            f.write(f"include: {os.path.join(TASKS, yaml)}\ntask: local_{name}\ntag: null\ndataset_path: json\ndataset_name: null\n"
                    f"dataset_kwargs: {{data_files: {{{files}}}}}\n{unused}")
        task = TaskManager(include_path=folder).load_task_or_group("local_" + name)["local_" + name]
        requests[name] = [ask(task, n, lm) for n in sorted({0, shots})]
        if name == "gsm8k":
            judge = task
        os.remove(config)
    with open(os.path.join(out, "requests.json"), "w", encoding="utf-8") as f:
        json.dump(requests, f, ensure_ascii=False, indent=0)
    texts = ["It is 5. #### 12", "#### 1,234.", "no number", "a 3 then -4.50 and $1,000", "#### -7\n#### 8", "12 .", "", "x#### ,"]
    answers = []
    for target in ("so 12\n#### 12", "#### 1,234", "#### -7", "#### 1000"):
        for text in texts:
            row = []
            for f in judge._filters:
                got = text
                for step in f.filters:
                    got = list(step().apply([[got]] if isinstance(got, str) else got, [{}]))
                got = got[0] if isinstance(got, list) else got
                got = got[0] if isinstance(got, list) else got
                score = judge.process_results({"question": "q", "answer": target}, [got])
                row.append([got, int(score["exact_match"])])
            answers.append({"target": target, "response": text, "filters": row})
    with open(os.path.join(out, "answers.json"), "w", encoding="utf-8") as f:
        json.dump(answers, f, ensure_ascii=False, indent=0)


if __name__ == "__main__":
    main(*sys.argv[1:])
