"""GPTQ exports of every model family in transformers and gptqmodel: logits there must be those of sqz.

    python families.py [--sqz build/bin/sqz] [--out build/interop/families]

Takes the golden checkpoints of SQZ_SHARED/golden (tests/golden/make_golden.py makes such a folder; the small ones of the
tree have widths that GPTQ cannot pack), gives each a byte tokenizer, quantizes it with `sqz quantize --method gptq` to 4 bits in
groups of 32, and loads the folder where its README.md says that it loads.  The readers dequantize in half precision, so the
criterion is 1 % of the largest logit; a wrong layout is off by all of it.  Folders that no reader here takes (routed
experts) are checked by sqz's own load-back; widths that the format cannot hold must be refused by name.
"""
import argparse
import json
import os
import random
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
CASES = [("llama", "transformers"), ("mistral-swa", "transformers"), ("qwen2", "transformers"), ("qwen3", "transformers"), ("phi3", "transformers"),
         ("gpt_neox", "transformers"), ("opt", "transformers"), ("gpt2", "gptqmodel"), ("mixtral", None), ("gemma2", "refused"), ("qwen3_moe", "refused")]


def prepare(golden, case, out):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    folder = os.path.join(out, case)
    os.makedirs(folder, exist_ok=True)
    for f in ("config.json", "model.safetensors"):
        shutil.copyfile(os.path.join(golden, case, f), os.path.join(folder, f))
    vocab = {"<pad>": 0, "<s>": 1, "</s>": 2}
    for c in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocab[c] = len(vocab)
    t = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    t.pre_tokenizer, t.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    t.add_special_tokens(["<pad>", "<s>", "</s>"])
    t.save(os.path.join(folder, "tokenizer.json"))
    return folder


def reader_logits(reader, folder, ids):
    import torch

    if reader == "gptqmodel":
        from gptqmodel import BACKEND, GPTQModel
        m = GPTQModel.load(folder, device="cpu", backend=BACKEND.TORCH, dtype=torch.float16).model
    else:
        from transformers import AutoModelForCausalLM, GPTQConfig
        m = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, device_map="cpu",
                                                 quantization_config=GPTQConfig(bits=4, backend="torch"))
    with torch.no_grad():
        return m.eval()(ids).logits.float()


def check(a, golden, case, reader, calibration):
    from safetensors.torch import load_file

    folder = prepare(golden, case, a.out)
    export, ids = os.path.join(a.out, case + "-gptq"), os.path.join(golden, case, "golden.safetensors")
    shutil.rmtree(export, ignore_errors=True)
    r = subprocess.run([a.sqz, "quantize", folder, "--method", "gptq", "--bits", "4", "--group-size", "32", "--symmetric", "--calibration", calibration,
                        "--samples", "16", "--seq-len", "64", "--output", export, "--quiet"], capture_output=True, text=True)
    if reader == "refused":
        return ("refused: " + r.stderr.strip().split("gptq: ")[-1], r.returncode != 0 and "multiples of 32" in r.stderr)
    if r.returncode:
        return (r.stderr.strip()[-200:], False)
    with open(os.path.join(export, "validation_report.json"), encoding="utf-8") as f:
        back = json.load(f)["load_back"]
    if reader is None:
        return (f"load-back: {back['linears_bit_equal']} linears bit-equal, logits {back['max_logit_difference']:g}", back["max_logit_difference"] == 0)
    logits = os.path.join(a.out, case + ".logits")
    subprocess.run([a.sqz, "logits", export, "--input-ids", ids, "--output", logits, "--compute", "fp32"], check=True, capture_output=True)
    ours = load_file(logits)["logits"]
    off, top = (reader_logits(reader, export, load_file(ids)["input_ids"]) - ours).abs().max().item(), ours.abs().max().item()
    return (f"{off:.4f} of {top:.1f}", off <= 0.01 * top)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--sqz", default=os.path.join(ROOT, "build/bin/sqz"))
    p.add_argument("--out", default=os.path.join(ROOT, "build/interop/families"))
    a = p.parse_args()
    golden = os.path.join(os.environ.get("SQZ_SHARED", ""), "golden")
    if not os.path.isdir(golden):
        print("skipped: SQZ_SHARED does not name a folder with golden/")
        return
    os.environ.update(HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="", TOKENIZERS_PARALLELISM="false")
    os.makedirs(a.out, exist_ok=True)
    calibration, rng = os.path.join(a.out, "calibration.jsonl"), random.Random(1)
    words = "the of and to in is that it was for on are as with his they at be this from have or by one had not but what all were".split()
    with open(calibration, "w", encoding="utf-8") as f:
        for _ in range(200):
            f.write(json.dumps({"text": " ".join(rng.choice(words) for _ in range(40))}) + "\n")
    rows, bad = [], 0
    for case, reader in CASES:
        text, good = check(a, golden, case, reader, calibration)
        bad += not good
        rows.append(f"| {case} | {reader or 'sqz'} | {text} | {'yes' if good else 'NO'} |")
        print(rows[-1], flush=True)
    with open(os.path.join(a.out, "families.md"), "w", encoding="utf-8") as f:
        f.write("\n".join(["| family | read by | logits off by | as expected |", "|---|---|---|---|", *rows]) + "\n")
    sys.exit(1 if bad else 0)


main()
