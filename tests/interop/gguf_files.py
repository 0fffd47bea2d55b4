"""GGUF files against the `gguf` package and transformers.

    python gguf_files.py [--sqz build/bin/sqz] [--models tests/golden/models]     (SQZ_PYTHON: see run.sh)

Values: for every packed type an embedding of random blocks, whose rows `sqz logits --hidden` returns as hidden.0,
against gguf.quants.dequantize, bit for bit.  Logits: the golden checkpoint of each family that GGUF has an
architecture for is written as GGUF (F32, and packed types for llama) and must give what transformers computes
from the folder (F32: within 2e-4) or from the same file (packed).  Prints a Markdown table; exits 1 when a row
is off.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[0] = os.path.join(ROOT, "tests/golden")  # not this folder, whose names would hide packages
try:
    import gguf
    import numpy as np
    import torch
    from make_gguf import ARCH, PACKED, convert, random_blocks
    from safetensors.numpy import load_file, save_file
    from transformers import AutoModelForCausalLM
except ImportError as e:
    print(f"skipped: {e}")
    sys.exit(77)
T = gguf.GGMLQuantizationType
LIMIT = 2e-4


def logits(sqz, model, ids, work, hidden=False):
    save_file({"input_ids": ids.astype(np.int64)}, f"{work}/ids.safetensors")
    args = [sqz, "logits", model, "--input-ids", f"{work}/ids.safetensors", "--output", f"{work}/out.safetensors", "--compute", "fp32", "--quiet"]
    r = subprocess.run(args + (["--hidden"] if hidden else []), capture_output=True, text=True)
    if r.returncode:
        return r.stderr.strip()
    return load_file(f"{work}/out.safetensors")


def embedding_file(path, kind, vocab, hidden, rng):
    """One block of zeros and an embedding of random blocks; returns the values of the embedding."""
    w = gguf.GGUFWriter(path, "llama")
    w.add_context_length(vocab), w.add_embedding_length(hidden), w.add_block_count(1), w.add_feed_forward_length(32), w.add_head_count(4)
    w.add_head_count_kv(4), w.add_layer_norm_rms_eps(1e-5), w.add_rope_dimension_count(hidden // 4), w.add_vocab_size(vocab)
    data = random_blocks(kind, (vocab, hidden), rng, odd=False)
    w.add_tensor("token_embd.weight", data, raw_dtype=kind)
    zero = lambda name, *shape: w.add_tensor(name, np.zeros(shape, np.float32))
    zero("output.weight", vocab, hidden), zero("output_norm.weight", hidden), zero("blk.0.attn_norm.weight", hidden), zero("blk.0.ffn_norm.weight", hidden)
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        zero(f"blk.0.{name}.weight", hidden, hidden)
    zero("blk.0.ffn_gate.weight", 32, hidden), zero("blk.0.ffn_up.weight", 32, hidden), zero("blk.0.ffn_down.weight", hidden, 32)
    w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()
    return gguf.quants.dequantize(data, kind).astype(np.float32)


def values(sqz, work):
    rng = np.random.default_rng(11)
    for kind in PACKED:
        vocab, hidden, path = 128, 512, f"{work}/{kind.name}.gguf"
        want = embedding_file(path, kind, vocab, hidden, rng)
        got = logits(sqz, path, np.arange(vocab).reshape(1, -1), work, hidden=True)
        os.remove(path)
        if isinstance(got, str):
            yield f"values {kind.name}", got, 0
            continue
        same = np.array_equal(got["hidden.0"].reshape(vocab, hidden).view(np.uint32), want.view(np.uint32))
        yield f"values {kind.name}, {want.size} of random blocks", "bit-equal" if same else "DIFFERENT", same


def compare(name, ours, theirs):
    if isinstance(ours, str):
        return name, ours, 0
    d = float(np.abs(ours["logits"] - theirs).max())
    return name, f"{d:.1e}", d < LIMIT


def models(sqz, folder, work):
    for case in sorted(os.listdir(folder)):
        config = json.load(open(f"{folder}/{case}/config.json"))
        golden = load_file(f"{folder}/{case}/golden.safetensors")
        if config["model_type"] not in ARCH or case == "mistral-swa" or "dynamic" in case or "options" in case or case == "qwen2-swa":
            continue  # no GGUF architecture, or a key that GGUF does not have
        path, source, want = f"{work}/{case}.gguf", f"{folder}/{case}", golden["logits"]
        fixed = {k: v for k, v in {"query_pre_attn_scalar": config.get("head_dim"), "scale_attn_by_inverse_layer_idx": False}.items() if k in config and config[k] != v}
        if fixed:  # GGUF has no key for these: the model that its readers take it for
            source = f"{work}/{case}"
            shutil.copytree(f"{folder}/{case}", source)
            json.dump(dict(config, **fixed), open(f"{source}/config.json", "w"))
            with torch.no_grad():
                want = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()(torch.from_numpy(golden["input_ids"])).logits.numpy()
        convert(source, path)
        yield compare(f"logits {case}, F32, folder in transformers", logits(sqz, path, golden["input_ids"], work), want)
        os.remove(path)


def packed(sqz, folder, work):
    ids = load_file(f"{folder}/llama/golden.safetensors")["input_ids"]
    for kind in (T.F16, T.BF16, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0):
        path = f"{work}/p.gguf"
        convert(f"{folder}/llama", path, lambda name, x: kind)
        m = AutoModelForCausalLM.from_pretrained(work, gguf_file="p.gguf", dtype=torch.float32).eval()
        with torch.no_grad():
            want = m(torch.from_numpy(ids)).logits.float().numpy()
        yield compare(f"logits llama, {kind.name}, same file in transformers", logits(sqz, path, ids, work), want)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--sqz", default=os.path.join(ROOT, "build/bin/sqz"))
    p.add_argument("--models", default=os.path.join(ROOT, "tests/golden/models"))
    a = p.parse_args()
    n = bad = 0
    print("| what | difference | |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as work:
        for rows in (values(a.sqz, work), models(a.sqz, a.models, work), packed(a.sqz, a.models, work)):
            for name, what, good in rows:
                n, bad = n + 1, bad + (not good)
                print(f"| {name} | {what} | {'yes' if good else 'NO'} |", flush=True)
    print(f"{n} comparisons of values and logits, {bad} differ")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
