"""Quantize a checkpoint with a peer on the CPU, two threads, with exactly the calibration windows sqz gets.

    python peer_quantize.py {gptqmodel|llmcompressor} MODEL CALIB.jsonl OUT SAMPLES SEQ_LEN

4 bit, symmetric, group 128; embeddings and lm_head are left alone.  The caller times the whole process.
"""
import json
import os
import sys

import torch

torch.set_num_threads(2)
os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402


def windows(tok, config, calib, samples, length):
    ids = []
    with open(calib, encoding="utf-8") as rows:
        for row in rows:
            text = tok(json.loads(row)["text"], add_special_tokens=False).input_ids
            ids += [config["bos_token_id"]] + text + [config["eos_token_id"]]
    return [ids[i * length : (i + 1) * length] for i in range(min(samples, len(ids) // length))]


def gptqmodel(model, data, out):
    from gptqmodel import GPTQModel, QuantizeConfig

    m = GPTQModel.load(model, QuantizeConfig(bits=4, group_size=128, sym=True, desc_act=False), device="cpu")
    m.quantize([dict(input_ids=w, attention_mask=[1] * len(w)) for w in data], batch_size=8)
    m.save(out)


def llmcompressor(model, data, out, tok):
    from datasets import Dataset
    from llmcompressor import oneshot
    from llmcompressor.modifiers.quantization import GPTQModifier

    m = AutoModelForCausalLM.from_pretrained(model, dtype="auto")
    rows = Dataset.from_list([dict(input_ids=w, attention_mask=[1] * len(w)) for w in data])
    oneshot(model=m, dataset=rows, recipe=GPTQModifier(targets="Linear", scheme="W4A16", ignore=["lm_head"]),
            max_seq_length=len(data[0]), num_calibration_samples=len(data))
    m.save_pretrained(out, save_compressed=True)
    tok.save_pretrained(out)


def main():
    peer, model, calib, out, samples, length = *sys.argv[1:5], int(sys.argv[5]), int(sys.argv[6])
    tok = AutoTokenizer.from_pretrained(model)
    with open(os.path.join(model, "config.json"), encoding="utf-8") as f:
        config = json.load(f)
    data = windows(tok, config, calib, samples, length)
    if peer == "gptqmodel":
        gptqmodel(model, data, out)
    else:
        llmcompressor(model, data, out, tok)


main()
