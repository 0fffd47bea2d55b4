"""Perplexity of a checkpoint in transformers, by sqz's window protocol.

    python perplexity.py MODEL FILE.jsonl WINDOW [MAX_WINDOWS]

Every document as bos + text + eos, all concatenated, cut into windows (a last short one is dropped); inside a
window every token but the first is scored.  Prints one JSON object.  float32 compute.
"""
import json
import math
import os
import sys

import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer, GPTQConfig


def reader(model):
    """gptqmodel's plain torch kernel: its fused CPU kernel refuses groups beyond 256 (a whole row)."""
    with open(os.path.join(model, "config.json"), encoding="utf-8") as f:
        q = json.load(f).get("quantization_config")
    return {"quantization_config": GPTQConfig(bits=q["bits"], backend="torch")} if q else {}


def main(model, data, window, limit):
    torch.set_num_threads(2)
    tok = AutoTokenizer.from_pretrained(model)
    m = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, device_map="cpu", **reader(model)).eval()
    ids = []
    with open(data, encoding="utf-8") as rows:
        for row in rows:
            text = tok(json.loads(row)["text"], add_special_tokens=False).input_ids
            ids += [m.config.bos_token_id] + text + [m.config.eos_token_id]
    n = min(len(ids) // window, limit)
    x = torch.tensor(ids[: n * window]).view(n, window)
    nll, count = 0.0, 0
    with torch.no_grad():
        for i in range(0, n, 16):
            y = x[i : i + 16]
            logits = m(y).logits[:, :-1].float()
            nll += F.cross_entropy(logits.reshape(-1, logits.shape[-1]), y[:, 1:].reshape(-1), reduction="sum").item()
            count += y[:, 1:].numel()
    print(json.dumps({"perplexity": math.exp(nll / count), "n": count, "class": type(m).__name__}))


main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]) if len(sys.argv) > 4 else 1 << 60)
