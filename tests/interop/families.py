"""Exports of every model family in other readers: logits there must be those of sqz.

    python families.py [--sqz build/bin/sqz] [--out build/interop/families] [FAMILY]...

Makes a small random checkpoint of each family with transformers (widths in multiples of 32, which GPTQ packs; biases, tied embeddings,
windows, fused, transposed and routed layouts as the family has them), quantizes it with RTN (4 bits, asymmetric where gptqmodel need not read
it) and GPTQ (4 bits, symmetric) in groups of 32, routed experts also left dense by a rule, exports, and compares `sqz logits` of the exported folder in float32 with

1. transformers in float32 on the same weights, unpacked by the few lines of torch in `unpack` below: this is exact, so the limit is that of
   the golden vectors, 2e-4.  It proves layout, names and grid of every linear, and what was left dense;
2. the loaders that the folder's README.md names.  transformers and gptqmodel's own loader compute in float16: the limit is 2 % of the largest
   logit; a layout read wrongly is off by all of it.  Routed experts load in transformers 4, by the interpreter that SQZ_PYTHON_4 names
   (requirements-transformers4.txt); that computes in float32, and the limit is 2e-4.  Without it the row says so.

Half precision may send a token to another expert where two are as good as equal, told by the router's probabilities in float32: there the tokens
of a sequence before its first such choice are compared, since all after it see that one.
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
EXACT, HALF = 2e-4, 0.02
TIE = 1e-3  # of probability, between the last expert chosen and the next: float16 need not tell them apart
wide = dict(num_hidden_layers=2)
EXPERTS = dict(head_dim=32, num_experts=6, num_experts_per_tok=2, moe_intermediate_size=96, norm_topk_prob=True, decoder_sparse_step=1)
FAMILIES = {  # what transformers makes of it, keys of its config, the readers of an export
    "llama": ("llama", {}, ["transformers"]),
    "llama, tied, biases": ("llama", dict(num_key_value_heads=4, tie_word_embeddings=True, attention_bias=True, mlp_bias=True), ["transformers"]),
    "mistral, sliding window": ("mistral", dict(sliding_window=8), ["transformers"]),
    "qwen2, tied": ("qwen2", dict(tie_word_embeddings=True, use_sliding_window=False), ["transformers"]),
    "qwen3": ("qwen3", dict(head_dim=32), ["transformers"]),
    "gemma2": ("gemma2", dict(wide, head_dim=32, query_pre_attn_scalar=24, sliding_window=8, attn_logit_softcapping=5.0, final_logit_softcapping=15.0), ["transformers"]),
    "gemma3": ("gemma3_text", dict(head_dim=32, query_pre_attn_scalar=24, sliding_window=8, num_hidden_layers=6), ["transformers"]),
    "phi3 (fused qkv, gate_up)": ("phi3", dict(wide, sliding_window=8), ["transformers"]),
    "gpt2 (Conv1D)": ("gpt2", dict(vocab_size=320, n_embd=64, n_layer=2, n_head=4, n_positions=256, bos_token_id=1, eos_token_id=2, _replace=True), ["gptqmodel"]),
    "gpt_neox (fused, head by head)": ("gpt_neox", dict(wide, rotary_pct=0.25, num_key_value_heads=None), ["transformers"]),
    "opt": ("opt", dict(vocab_size=320, hidden_size=64, ffn_dim=160, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=256, word_embed_proj_dim=64,
                        bos_token_id=1, eos_token_id=2, pad_token_id=0, _replace=True), ["transformers"]),
    "starcoder2": ("starcoder2", dict(wide, sliding_window=8), ["transformers"]),
    "mixtral (routed experts)": ("mixtral", dict(wide, num_local_experts=4, num_experts_per_tok=2, sliding_window=8, intermediate_size=96), ["transformers 4"]),
    "qwen3_moe (routed experts)": ("qwen3_moe", dict(EXPERTS, mlp_only_layers=[]), ["transformers 4", "gptqmodel"]),
    "qwen3_moe, first block dense": ("qwen3_moe", dict(EXPERTS, mlp_only_layers=[0]), ["transformers 4"]),
}
ROUTED = ["mixtral", "qwen3_moe"]
METHODS = ["rtn", "gptq"]
LEFT = "rtn, experts left"  # by a rule of `sqz run`: these load in transformers 5 as well


def published_spelling(path):
    """config.json as transformers 4 wrote it and hubs hold it: 5 reads both spellings, 4 only its own."""
    with open(path, encoding="utf-8") as f:
        config = json.load(f)
    config["torch_dtype"] = config.pop("dtype")
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    if config["model_type"] == "qwen3_moe":
        config["num_experts"] = config.pop("num_local_experts")
    with open(path, "w", encoding="utf-8") as f:
        json.dump(config, f, indent=2)


def make_checkpoint(folder, kind, keys, seed):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from make_golden import make

    make(kind, keys, seed).save_pretrained(folder)
    vocab = {"<pad>": 0, "<s>": 1, "</s>": 2}
    for c in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocab[c] = len(vocab)
    t = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    t.pre_tokenizer, t.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    t.add_special_tokens(["<pad>", "<s>", "</s>"])
    t.save(os.path.join(folder, "tokenizer.json"))
    if kind in ROUTED:
        published_spelling(os.path.join(folder, "config.json"))


def words(packed, bits):
    """int32 words [n, m] to codes [n * 32 / bits, m], the lowest bits first."""
    import torch

    per, mask = 32 // bits, (1 << bits) - 1
    return torch.stack([(packed >> (bits * k)) & mask for k in range(per)], 1).reshape(-1, packed.shape[1])


def unpack(export, dense, conv1d):
    """GPTQ v1 to a folder of plain float32 weights; conv1d: matrices lie [in, out]."""
    from safetensors.torch import load_file, save_file

    with open(os.path.join(export, "config.json"), encoding="utf-8") as f:
        config = json.load(f)
    bits, stored, plain = config.pop("quantization_config")["bits"], {}, {}
    for name in sorted(os.listdir(export)):
        if name.endswith(".safetensors"):
            stored.update(load_file(os.path.join(export, name)))
    for name, x in stored.items():
        module, part = name.rsplit(".", 1)
        if part == "qweight":
            group = stored[module + ".g_idx"].long()
            zeros = words(stored[module + ".qzeros"].T.contiguous(), bits).T + 1
            scales = stored[module + ".scales"].float()
            w = (words(x, bits) - zeros[group]).float() * scales[group]
            plain[module + ".weight"] = (w if conv1d else w.T).contiguous()
        elif part not in ("qzeros", "scales", "g_idx"):
            plain[name] = x
    shutil.rmtree(dense, ignore_errors=True)
    os.makedirs(dense)
    save_file(plain, os.path.join(dense, "model.safetensors"), metadata={"format": "pt"})
    with open(os.path.join(dense, "config.json"), "w", encoding="utf-8") as f:
        json.dump(config, f)


def logits_of(reader, folder, ids):
    import torch

    if reader == "gptqmodel":
        from gptqmodel import BACKEND, GPTQModel
        m = GPTQModel.load(folder, device="cpu", backend=BACKEND.TORCH, dtype=torch.float16).model
    else:
        from transformers import AutoModelForCausalLM, GPTQConfig
        quantized = {"quantization_config": GPTQConfig(bits=4, backend="torch")} if reader == "transformers" else {}
        m = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, device_map="cpu", attn_implementation="eager", **quantized)
    with torch.no_grad():
        return m.eval()(ids).logits.float()


def logits_of_4(folder, ids_file):
    """logits_of in the interpreter that has transformers 4."""
    from safetensors.torch import load_file

    out = folder + ".logits4"
    r = subprocess.run([os.environ["SQZ_PYTHON_4"], os.path.abspath(__file__), "--read", folder, ids_file, out], capture_output=True, text=True)
    if r.returncode:
        sys.exit(f"{os.environ['SQZ_PYTHON_4']}: {r.stderr.strip()[-2000:]}")
    return load_file(out)["logits"]


def read_here(folder, ids_file, out):
    """What logits_of_4 starts: the folder as it is, by the transformers of this interpreter."""
    import transformers
    from safetensors.torch import load_file, save_file

    if not transformers.__version__.startswith("4."):
        sys.exit(f"transformers {transformers.__version__} where 4 is wanted")
    save_file({"logits": logits_of("transformers", folder, load_file(ids_file)["input_ids"]).contiguous()}, out)


def before_ties(dense, ids):
    """[batch, tokens]: no choice of a router so far, in float32, hung on less than TIE."""
    import torch
    from transformers import AutoModelForCausalLM

    m = AutoModelForCausalLM.from_pretrained(dense, dtype=torch.float32, attn_implementation="eager").eval()
    k, close = m.config.num_experts_per_tok, torch.zeros(ids.numel(), dtype=torch.bool)
    with torch.no_grad():
        routers = m(ids, output_router_logits=True).router_logits
    for r in routers:
        p = r.float().softmax(-1).sort(-1, descending=True).values
        close |= p[:, k - 1] - p[:, k] < TIE
    return close.reshape(ids.shape).cumsum(1) == 0


def read_by(reader, experts, export, ours, ids_file):
    """What its cell says, and whether its logits are ours."""
    from safetensors.torch import load_file

    top, ids = ours.abs().max().item(), load_file(ids_file)["input_ids"]
    if reader == "transformers 4":
        if not os.environ.get("SQZ_PYTHON_4"):
            return f"{reader}: not run", True
        off = (logits_of_4(export, ids_file) - ours).abs().max().item()
        return f"{reader}: {off:.1e}", off <= EXACT
    off, says = (logits_of(reader, export, ids) - ours).abs().amax(-1), ""
    if experts:
        before = before_ties(export + "-dense", ids)
        off, says = off[before], f", {int(before.sum())} tokens of {ids.numel()}"
    worst = off.max().item() if len(off) else float("inf")
    return f"{reader}: {worst:.4f} of {top:.1f}{says}", worst <= HALF * top


def quantize(a, folder, export, method, grid, calibration):
    """What went wrong, or None."""
    r = subprocess.run([a.sqz, "quantize", folder, "--method", method, "--bits", "4", "--group-size", "32", grid, "--calibration", calibration,
                        "--samples", "16", "--seq-len", "64", "--output", export, "--quiet"], capture_output=True, text=True)
    return r.stderr.strip()[-200:] if r.returncode else None


def quantize_all_but_experts(a, folder, export, calibration):
    step = {"use": "rtn", "with": {"bits": 4, "group_size": 32, "symmetric": False}, "rules": [{"match": "*.experts.*", "skip": True}]}
    with open(export + ".jsonl", "w", encoding="utf-8") as f:
        f.write(json.dumps({"text": "a text that is in no calibration file " * 8}) + "\n")
    config = {"model": folder, "dataset": [{"source": export + ".jsonl", "window": 64}], "calibration": {"source": calibration, "samples": 16, "seq_len": 64},
              "objectives": ["quality", "bytes"], "constraints": {"max_accuracy_drop": 1}, "budget": {"trials": 1}, "steps": [step]}
    with open(export + ".json", "w", encoding="utf-8") as f:
        json.dump(config, f)
    shutil.rmtree(export + "-run", ignore_errors=True)
    r = subprocess.run([a.sqz, "run", "--config", export + ".json", "--output", export + "-run", "--yes"], capture_output=True, text=True)
    made = os.path.join(export + "-run", "models", "s0001")
    if r.returncode or not os.path.isdir(made):
        return r.stderr.strip()[-200:] or "no export"
    os.rename(made, export)
    return None


def check(a, family, method, folder, calibration, ids_file):
    """The row's cells, and whether all is as expected."""
    from safetensors.torch import load_file

    kind, _, readers = FAMILIES[family]
    export = f"{folder}-{method.replace(', ', '-').replace(' ', '-')}"
    shutil.rmtree(export, ignore_errors=True)
    if method == LEFT:
        readers, wrong = ["transformers", "transformers 4"], quantize_all_but_experts(a, folder, export, calibration)
    else:  # gptqmodel's own loader refuses asymmetric grids that it has not written itself
        grid = "--asymmetric" if method == "rtn" and "gptqmodel" not in readers else "--symmetric"
        wrong = quantize(a, folder, export, method, grid, calibration)
    if wrong:
        return (wrong, "", "", False)
    with open(os.path.join(export, "validation_report.json"), encoding="utf-8") as f:
        back = json.load(f)["load_back"]
    logits = export + ".logits"
    subprocess.run([a.sqz, "logits", export, "--input-ids", ids_file, "--output", logits, "--compute", "fp32"], check=True, capture_output=True)
    ours, ids = load_file(logits)["logits"], load_file(ids_file)["input_ids"]
    unpack(export, export + "-dense", kind == "gpt2")
    exact = (logits_of("float32", export + "-dense", ids) - ours).abs().max().item()
    read = [read_by(reader, kind in ROUTED, export, ours, ids_file) for reader in readers]
    good = back["max_logit_difference"] == 0 and exact <= EXACT and all(ok for _, ok in read)
    return (str(back["linears_bit_equal"]), f"{exact:.1e}", "; ".join(says for says, _ in read), good)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--sqz", default=os.path.join(ROOT, "build/bin/sqz"))
    p.add_argument("--out", default=os.path.join(ROOT, "build/interop/families"))
    p.add_argument("--read", nargs=3, metavar=("FOLDER", "IDS", "OUT"), help="only write the logits of a folder (what SQZ_PYTHON_4 is started with)")
    p.add_argument("only", nargs="*", metavar="FAMILY", help="first words of the families to check")
    a = p.parse_args()
    os.environ.update(HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="", TOKENIZERS_PARALLELISM="false")
    if a.read:
        return read_here(*a.read)
    if not os.environ.get("SQZ_PYTHON_4"):
        print("skipped: routed experts in transformers 4 (SQZ_PYTHON_4 names no interpreter with requirements-transformers4.txt and gptqmodel==5.6.12)")
    os.makedirs(a.out, exist_ok=True)
    sys.path.insert(0, os.path.join(ROOT, "tests/golden"))
    import torch
    from safetensors.torch import save_file

    calibration, ids, rng = os.path.join(a.out, "calibration.jsonl"), os.path.join(a.out, "ids.safetensors"), random.Random(1)
    save_file({"input_ids": torch.randint(3, 259, (2, 48), generator=torch.Generator().manual_seed(7))}, ids)
    text = "the of and to in is that it was for on are as with his they at be this from have or by one had not but what all were".split()
    with open(calibration, "w", encoding="utf-8") as f:
        for _ in range(200):
            f.write(json.dumps({"text": " ".join(rng.choice(text) for _ in range(40))}) + "\n")
    rows, bad = ["| family | method | linears | off from transformers, float32 | loaded by, off by | as expected |", "|---|---|---|---|---|---|"], 0
    print("\n".join(rows))
    for i, (family, (kind, keys, _)) in enumerate(FAMILIES.items()):
        if a.only and not any(family.startswith(w) for w in a.only):
            continue
        folder = os.path.join(a.out, family.split(" (")[0].replace(", ", "-").replace(" ", "-"))
        make_checkpoint(folder, kind, keys, 2000 + i)
        for method in METHODS + [LEFT] * (kind in ROUTED):
            *cells, good = check(a, family, method, folder, calibration, ids)
            bad += not good
            rows.append(f"| {' | '.join([family, method, *cells])} | {'yes' if good else 'NO'} |")
            print(rows[-1], flush=True)
    with open(os.path.join(a.out, "families.md"), "w", encoding="utf-8") as f:
        f.write("\n".join(rows) + "\n")
    print(f"{len(rows) - 2} exports of model families, {bad} not as expected")
    sys.exit(1 if bad else 0)


main()
