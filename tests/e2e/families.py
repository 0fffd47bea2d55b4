"""Quantize and export every layout of linears that a family may have: fused, interleaved, transposed, routed, tied.

The golden checkpoints of the tree, widened where GPTQ needs multiples of 32, are quantized and exported; a reader of some lines, below, which
shares nothing with sqz, unpacks the files.  What it finds must be near the original tensor, element by element in the original's own
layout (a layout read wrongly is as far from it as another random tensor), the number of linears must be that of the family, and sqz's logits
of the export must be those of a plain checkpoint with the unpacked numbers.  tests/interop/families.py does the same with other readers.
"""
import json
import math
import os
import struct
import sys

import common
import tiny

GOLDEN = os.path.join(common.ROOT, "tests/golden/models")
CASES = [  # checkpoint, method, keys of config.json that the widening changes, quantized linears
    ("phi3", "gptq", {}, 2 * 4), ("gpt2", "gptq", {}, 2 * 4), ("gpt_neox", "rtn", {}, 2 * 4), ("opt", "gptq", {}, 2 * 6), ("gemma2", "rtn", {"head_dim": 16}, 2 * 7),
    ("mixtral", "rtn", {"num_key_value_heads": 4}, 2 * (4 + 4 * 3)), ("qwen3_moe", "gptq", {"moe_intermediate_size": 32}, 3 * 4 + 3 + 2 * 6 * 3)]
BITS, GROUP, NEAR, LOGITS = 4, 32, 0.25, 5e-4
WORDS = "the of and to in is that it was for on are as with his they at be this from have or by one had not but what all were".split()


def read(path):
    """name -> (dtype, shape, bytes)"""
    with open(path, "rb") as f:
        header, data = json.loads(f.read(struct.unpack("<Q", f.read(8))[0])), f.read()
    return {k: (v["dtype"], v["shape"], data[slice(*v["data_offsets"])]) for k, v in header.items() if k != "__metadata__"}


def write(path, tensors):
    header, blob = {}, b""
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(blob), len(blob) + len(data)]}
        blob += data
    with open(path, "wb") as f:
        f.write(tiny.st_bytes(header, blob))


def floats(tensor):
    code = {"F32": "f", "F16": "e", "I32": "i"}[tensor[0]]
    return struct.unpack(f"<{math.prod(tensor[1])}{code}", tensor[2])


def widen(name, tensor):
    """A linear's matrix repeated until both sides are multiples of 32."""
    dtype, shape, _ = tensor
    if len(shape) < 2 or "embed" in name or "wte" in name or "wpe" in name or "lm_head" in name or name.endswith(".gate.weight"):
        return tensor
    rows, cols = ((n + 31) // 32 * 32 for n in shape)
    w = floats(tensor)
    wide = [w[r % shape[0] * shape[1] + c % shape[1]] for r in range(rows) for c in range(cols)]
    return (dtype, [rows, cols], struct.pack(f"<{len(wide)}f", *wide))


def make(case, changes, folder):
    os.makedirs(folder)
    config = dict(common.load(os.path.join(GOLDEN, case), "config.json"), **changes)
    tiny.put(folder, "config.json", config)
    tensors = {k: widen(k, v) for k, v in read(os.path.join(GOLDEN, case, "model.safetensors")).items()}
    write(os.path.join(folder, "model.safetensors"), tensors)
    chars = [chr(c) for c in range(33, 127)] + ["\u0120"]  # the golden vocabularies have no room for all 256 bytes
    tokens = tiny.tokenizer()
    tokens["model"]["vocab"] = {c: 3 + i for i, c in enumerate(chars)}
    tokens["added_tokens"] = [{"id": i, "content": c, "special": True} for i, c in enumerate(["<pad>", "<s>", "</s>"])]
    tiny.put(folder, "tokenizer.json", tokens)
    return config, tensors


def unpack(stored, module):
    """GPTQ v1 at 4 bits to [in][out]."""
    rows, cols = stored[module + ".qweight"][1][0] * 8, stored[module + ".qweight"][1][1]
    q, z, s, g = (floats(stored[f"{module}.{part}"]) for part in ("qweight", "qzeros", "scales", "g_idx"))
    if len(g) != rows or len(s) != rows // GROUP * cols:
        sys.exit(f"{module}: {len(g)} group indices, {len(s)} scales for {rows} x {cols} weights")
    out = []
    for i in range(rows):
        zero, scale = z[g[i] * cols // 8:(g[i] + 1) * cols // 8], s[g[i] * cols:(g[i] + 1) * cols]
        code = q[i // 8 * cols:(i // 8 + 1) * cols]
        out.append([((code[j] >> 4 * (i % 8) & 15) - (zero[j // 8] >> 4 * (j % 8) & 15) - 1) * scale[j] for j in range(cols)])
    return out


def unpack_all(case, export, tensors, transposed):
    """The export with plain tensors in the place of packed ones, each compared with the original."""
    stored, plain = read(os.path.join(export, "model.safetensors")), {}
    for name, tensor in stored.items():
        module, part = name.rsplit(".", 1)
        if part != "qweight":
            if part not in ("qzeros", "scales", "g_idx"):
                plain[name] = tensor
                if tensor != tensors[name]:
                    sys.exit(f"{case}: {name} was not quantized and is not the original's")
            continue
        w = unpack(stored, module)
        w = [x for row in (w if transposed else zip(*w)) for x in row]
        weight = module + ".weight"
        want = floats(tensors[weight])
        off = math.sqrt(sum((a - b) ** 2 for a, b in zip(w, want)) / sum(b * b for b in want))
        if len(w) != len(want) or off > NEAR:
            sys.exit(f"{case}: {weight} unpacked has {len(w)} entries of {len(want)} and is off by {off:.2f} of the original")
        plain[weight] = ("F32", tensors[weight][1], struct.pack(f"<{len(w)}f", *w))
    if set(plain) != set(tensors):
        sys.exit(f"{case}: tensors differ from the original's: {sorted(set(plain) ^ set(tensors))}")
    return plain


def logits(sqz, folder, ids, out, store):
    common.run(sqz, ["logits", folder, "--input-ids", ids, "--output", out, "--compute", "fp32", "--quiet"], store)
    return floats(read(out)["logits"])


def check(sqz, work, case, method, changes, linears, text, ids, windows):
    base, export, dense, store = (os.path.join(work, case + end) for end in ("", "-out", "-plain", "-store"))
    config, tensors = make(case, changes, base)
    args = ["quantize", base, "--method", method, "--bits", str(BITS), "--group-size", str(GROUP), "--asymmetric", "--calibration", text, *windows,
            "--format", "gptq", "--output", export, "--json", base + ".json"]
    _, log = common.run(sqz, args, store)
    layers = common.load(work, case + ".json")["layers"]
    if len(layers) != linears:
        sys.exit(f"{case}: {len(layers)} linears were quantized, the family has {linears}")
    plain = unpack_all(case, export, tensors, case == "gpt2")
    with open(os.path.join(export, "README.md"), encoding="utf-8") as f:  # gptqmodel takes a transposed layout only where the grid is symmetric
        if case == "gpt2" and "GPTQModel.load" in f.read():
            sys.exit("gpt2: the README.md of an asymmetric export names a loader that refuses it")
    os.makedirs(dense)
    tiny.put(dense, "config.json", config)
    tiny.put(dense, "tokenizer.json", common.load(base, "tokenizer.json"))
    write(os.path.join(dense, "model.safetensors"), plain)
    a, b = (logits(sqz, folder, ids, folder + ".logits", store) for folder in (export, dense))
    off = max(abs(x - y) for x, y in zip(a, b))
    if len(a) != len(b) or not off <= LOGITS:
        sys.exit(f"{case}: logits of the export are off by {off} from those of the same numbers in plain tensors")
    print(f"{case}, {method}: {linears} linears, logits off by {off:.1e} of {max(map(abs, b)):.1f}")
    return layers, log


def experts_are_reported(layers, log):
    """16 tokens, 2 of 6 experts each, 8 needed: some experts are quantized with statistics of their own, others rounded; both is said."""
    if "of 6 experts" not in log:
        sys.exit(f"no warning about experts that saw few tokens:\n{log[-2000:]}")
    notes = {x["name"]: x.get("notes", []) for x in layers}
    experts = [n for n in notes if ".experts." in n]
    short = [n for n in experts if any("rounded to nearest" in t for t in notes[n])]
    if not 0 < len(short) < len(experts):
        sys.exit(f"{len(short)} of {len(experts)} linears of experts say that they were rounded for want of tokens")
    if any(notes[n] for n in notes if ".experts." not in n):
        sys.exit("a linear that sees all tokens has a note about them")
    print(f"qwen3_moe: {len(short)} of {len(experts)} linears of experts rounded to nearest for want of tokens")


def main():
    sqz, work = sys.argv[1], common.fresh(sys.argv[2])
    text = tiny.put(work, "text.jsonl", "".join(json.dumps({"text": " ".join(WORDS[(i * i + 3 * k) % len(WORDS)] for k in range(30))}) + "\n" for i in range(20)))
    ids = os.path.join(work, "ids.safetensors")
    write(ids, {"input_ids": ("I64", [2, 24], struct.pack("<48q", *(3 + 37 * i % 95 for i in range(48))))})
    for case, method, changes, linears in CASES:
        few = case == "qwen3_moe"
        layers, log = check(sqz, work, case, method, changes, linears, text, ids, ["--samples", "1", "--seq-len", "16"] if few else ["--samples", "4", "--seq-len", "32"])
        if few:
            experts_are_reported(layers, log)


if __name__ == "__main__":
    main()
