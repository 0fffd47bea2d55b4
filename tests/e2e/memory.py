"""Memory does not grow with depth: a model of 4 and one of 24 blocks of the same width need the same peak of resident memory (mapped
pages included) to be quantized, exported and checked, to be evaluated and to generate under a limit.

The deep model's weights are 63 MB more than the shallow one's; a difference of a third of that fails.
"""
import json
import os
import random
import struct
import sys

import common
import tiny

WIDTH, FFN, ROOM = 256, 768, 20_000_000
TEXT = "The quick brown fox jumps over the lazy dog while seven wizards quietly mix a potion of amber and jade. "


def model(folder, layers):
    """Blocks share their bytes in this program's memory, not in the file."""
    config = dict(tiny.CONFIG, hidden_size=WIDTH, intermediate_size=FFN, num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=4, head_dim=64)
    rng, parts, header, at = random.Random(5), {}, {}, 0
    os.makedirs(folder, exist_ok=True)
    blob = []
    for name, shape in tiny.shapes(config).items():
        n = shape[0] * (shape[1] if len(shape) > 1 else 1)
        if n not in parts:
            parts[n] = struct.pack(f"<{n}f", *((rng.gauss(0, 0.05) for _ in range(n)) if len(shape) > 1 else [1.0] * n))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + 4 * n]}
        at += 4 * n
        blob.append(parts[n])
    tiny.model(folder, config, tiny.st_bytes(header, b"".join(blob)))


def peaks(sqz, work, name, layers, text):
    """Peak resident bytes of quantize, eval and generate."""
    folder, store = f"{work}/{name}", f"{work}/store-{name}"
    made = os.fork()  # a child that the tests start counts this process's peak as its own, so it must stay small
    if not made:
        model(folder, layers)
        os._exit(0)
    os.waitpid(made, 0)
    size = os.path.getsize(f"{folder}/model.safetensors")
    common.run(sqz, ["quantize", folder, "--method", "gptq", "--calibration", text, "--samples", "8", "--seq-len", "64", "--group-size", "64", "--output", f"{work}/out-{name}",
                     "--json", f"{work}/q.json"], store)
    common.run(sqz, ["eval", folder, "--dataset", text, "--window", "64", "--limit", "8", "--compute", "fp32", "--max-memory", "100MB", "--json", f"{work}/e.json"], store)
    p = common.start(sqz, ["generate", folder, "--prompt", "The", "--max-new-tokens", "4", "--compute", "fp32", "--max-memory", "100MB", "--quiet"], store)
    p.stdout.read()
    _, status, usage = os.wait4(p.pid, 0)
    p.returncode = os.waitstatus_to_exitcode(status)
    if p.returncode:
        sys.exit(f"generate: exit {p.returncode}\n{p.stderr.read()}")
    return size, [common.load(work, "q.json")["peak_rss_bytes"], common.load(work, "e.json")["peak_rss_bytes"], usage.ru_maxrss * 1024]


def main():
    sqz, work = sys.argv[1], common.fresh(sys.argv[2])
    text = tiny.put(work, "text.jsonl", "".join(json.dumps({"text": TEXT * 6}) + "\n" for _ in range(4)))
    small, few = peaks(sqz, work, "shallow", 4, text)
    large, many = peaks(sqz, work, "deep", 24, text)
    bad = 0
    for what, a, b in zip(("quantize", "eval", "generate"), few, many):
        print(f"{what}: {a / 1e6:.1f} MB with 4 blocks, {b / 1e6:.1f} MB with 24; weights {small / 1e6:.1f} and {large / 1e6:.1f} MB")
        bad += b - a > ROOM
    if bad:
        sys.exit(f"memory grows with depth: by more than {ROOM / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
