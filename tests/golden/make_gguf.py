"""Make small GGUF files and their reference outputs with the `gguf` package and Hugging Face transformers.

    python make_gguf.py OUT_DIR          (pip install torch transformers safetensors gguf)

OUT_DIR/types.gguf: for each packed type a matrix [3, n] of random blocks, with scales of every kind of half
(zero, subnormal, negative, the largest); types.f32: the values the `gguf` package gives them, little-endian
float32, in the file's order.
OUT_DIR/llama.gguf: a random Llama in Q8_0 and Q4_0 with grouped keys, rotary rows in pairs as llama.cpp's
converter leaves them; llama.safetensors: input_ids and the logits that transformers computes from the same file.

`convert` writes a folder of any family that GGUF has an architecture for; tests/interop uses it.
"""
import json
import os
import sys
import tempfile

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as T
from safetensors import safe_open
from safetensors.numpy import save_file

PACKED = [T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K, T.Q6_K, T.IQ4_NL]
HALVES = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q2_K: [80, 82], T.Q3_K: [108], T.Q4_K: [0, 2],
          T.Q5_K: [0, 2], T.Q6_K: [208], T.IQ4_NL: [0]}  # where a block keeps its scales
ODD = [0.0, -0.0, 6e-8, -3e-7, 65504.0, -65504.0, 1.0, -0.0123]


def random_blocks(kind, shape, rng, odd=True):
    """Bytes of a packed matrix: every code as likely as any other, finite scales."""
    per, size = gguf.GGML_QUANT_SIZES[kind]
    n = int(np.prod(shape)) // per
    b = rng.integers(0, 256, (n, size), dtype=np.uint8)
    for at in HALVES[kind]:
        d = (rng.standard_normal(n) * 0.01).astype(np.float16)
        for i in range(min(n, len(ODD)) if odd else 0):
            d[(i * 5 + at) % n] = ODD[i]
        b[:, at:at + 2] = d.view(np.uint8).reshape(n, 2)
    return b.reshape(*shape[:-1], -1)


def make_types(out):
    rng = np.random.default_rng(7)
    w = gguf.GGUFWriter(os.path.join(out, "types.gguf"), "llama")
    values = []
    for kind in PACKED:
        shape = (3, 512 if gguf.GGML_QUANT_SIZES[kind][0] == 256 else 96)
        data = random_blocks(kind, shape, rng)
        w.add_tensor(f"{kind.name}", data, raw_dtype=kind)
        values.append(gguf.quants.dequantize(data, kind).astype(np.float32))
    for kind, x in ((T.F32, rng.standard_normal((3, 5)).astype(np.float32)), (T.F16, (rng.standard_normal((3, 5)) * 1e-4).astype(np.float16))):
        w.add_tensor(kind.name, x)
        values.append(x.astype(np.float32))
    x = rng.standard_normal((3, 5)).astype(np.float32)
    half = gguf.quants.quantize(x, T.BF16)
    w.add_tensor("BF16", half, raw_dtype=T.BF16)
    values.append(gguf.quants.dequantize(half, T.BF16))
    w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()
    np.concatenate([v.reshape(-1) for v in values]).astype("<f4").tofile(os.path.join(out, "types.f32"))


# ---- a folder of transformers to GGUF ---------------------------------------------------------------------------
ARCH = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gemma2": "gemma2", "gemma3_text": "gemma3", "phi3": "phi3",
        "gpt2": "gpt2", "gpt_neox": "gptneox"}
NAMES = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
         "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
         "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "self_attn.qkv_proj": "attn_qkv", "mlp.gate_up_proj": "ffn_up",
         "ln_1": "attn_norm", "ln_2": "ffn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
         "attention.query_key_value": "attn_qkv", "attention.dense": "attn_output", "mlp.dense_h_to_4h": "ffn_up", "mlp.dense_4h_to_h": "ffn_down"}
GEMMA = {"post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm", "post_feedforward_layernorm": "post_ffw_norm"}
OUTER = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output", "transformer.wte": "token_embd", "transformer.wpe": "position_embd",
         "transformer.ln_f": "output_norm", "gpt_neox.embed_in": "token_embd", "gpt_neox.final_layer_norm": "output_norm", "embed_out": "output"}


def gguf_name(name, kind):
    stem, tail = name.rsplit(".", 1)
    if stem in OUTER:
        return f"{OUTER[stem]}.{tail}"
    for root in ("model.layers.", "transformer.h.", "gpt_neox.layers."):
        if stem.startswith(root):
            layer, part = stem[len(root):].split(".", 1)
            table = dict(NAMES, **GEMMA) if kind.startswith("gemma") else NAMES
            return f"blk.{layer}.{table[part]}.{tail}" if part in table else None
    return None


def rotary_pairs(x, heads):
    return x.reshape(heads, 2, x.shape[0] // heads // 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def put_rope(w, c, heads, dim):
    r = dict(c.get("rope_parameters") or c.get("rope_scaling") or {})
    theta = r.get("rope_theta", c.get("rope_theta", 10000.0)) or 10000.0
    if "full_attention" in r:  # gemma 3: one table a layer type
        theta, r = r["full_attention"]["rope_theta"], {}
    w.add_rope_freq_base(theta)
    kind = r.get("rope_type", r.get("type", "default"))
    if kind == "linear":
        w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR), w.add_rope_scaling_factor(r["factor"])
    elif kind == "yarn":
        w.add_rope_scaling_type(gguf.RopeScalingType.YARN), w.add_rope_scaling_factor(r["factor"])
        w.add_rope_scaling_orig_ctx_len(r["original_max_position_embeddings"])
    elif kind == "longrope":
        w.add_rope_scaling_orig_ctx_len(c.get("original_max_position_embeddings") or r["original_max_position_embeddings"])
        for which in ("short", "long"):
            w.add_tensor(f"rope_factors_{which}.weight", np.array(r[f"{which}_factor"], np.float32))
    elif kind == "llama3":
        f = theta ** (-np.arange(0, dim, 2, dtype=np.float64) / dim)
        wave, context, factor = 2 * np.pi / f, r["original_max_position_embeddings"], r["factor"]
        s = (context / wave - r["low_freq_factor"]) / (r["high_freq_factor"] - r["low_freq_factor"])
        div = np.where(wave > context / r["low_freq_factor"], factor, np.where(wave < context / r["high_freq_factor"], 1.0, 1 / ((1 - s) / factor + s)))
        w.add_tensor("rope_freqs.weight", div.astype(np.float32))


def convert(folder, out, kinds=None, tokens=None):
    """kinds(name, array): the type of a matrix, default F32; vectors stay F32."""
    c = json.load(open(os.path.join(folder, "config.json")))
    kind = c["model_type"]
    arch = ARCH[kind]
    g = {k: c[v] for k, v in {"n_embd": "hidden_size", "n_layer": "num_hidden_layers", "n_head": "num_attention_heads"}.items() if v in c}
    g.update({k: c[k] for k in ("n_embd", "n_layer", "n_head") if k in c})
    heads = g["n_head"]
    kv = c.get("num_key_value_heads") or heads
    dim = c.get("head_dim") or g["n_embd"] // heads
    w = gguf.GGUFWriter(out, arch)
    w.add_context_length(c.get("max_position_embeddings") or c["n_positions"]), w.add_embedding_length(g["n_embd"]), w.add_block_count(g["n_layer"])
    w.add_head_count(heads), w.add_feed_forward_length(c.get("intermediate_size") or 4 * g["n_embd"])
    if arch == "gpt2":
        w.add_layer_norm_eps(c["layer_norm_epsilon"])
    elif arch == "gptneox":
        w.add_layer_norm_eps(c["layer_norm_eps"]), w.add_parallel_residual(c["use_parallel_residual"])
        pct = c.get("rotary_pct") or (c.get("rope_parameters") or {}).get("partial_rotary_factor", 0.25)
        w.add_rope_dimension_count(int(pct * dim)), w.add_rope_freq_base(10000.0)
    else:
        w.add_head_count_kv(kv), w.add_layer_norm_rms_eps(c["rms_norm_eps"]), w.add_key_length(dim), w.add_value_length(dim), w.add_rope_dimension_count(dim)
        put_rope(w, c, heads, dim)
    if kind.startswith("gemma") or kind == "phi3":
        w.add_sliding_window(c.get("sliding_window") or 0)
    if kind == "gemma2":
        w.add_attn_logit_softcapping(c["attn_logit_softcapping"]), w.add_final_logit_softcapping(c["final_logit_softcapping"])
    vocab = c["vocab_size"]
    w.add_tokenizer_model("llama"), w.add_tokenizer_pre("default")
    w.add_token_list(tokens or [b"<unk>", b"<s>", b"</s>"] + [b"<0x%02X>" % i for i in range(min(256, vocab - 3))] + [b"t%d" % i for i in range(max(0, vocab - 259))])
    w.add_token_scores([0.0] * vocab), w.add_token_types([2, 3, 3] + [6] * min(256, vocab - 3) + [1] * max(0, vocab - 259))
    w.add_bos_token_id(1), w.add_eos_token_id(2), w.add_unk_token_id(0)
    with safe_open(os.path.join(folder, "model.safetensors"), "np") as f:
        for name in sorted(f.keys()):
            to = gguf_name(name, kind)
            if not to:
                continue
            x = f.get_tensor(name).astype(np.float32)
            if arch == "llama" and ".attn_q." in to:
                x = rotary_pairs(x, heads)
            if arch == "llama" and ".attn_k." in to:
                x = rotary_pairs(x, kv)
            if kind.startswith("gemma") and to.endswith("norm.weight"):
                x = x + 1
            if arch == "gpt2" and x.ndim == 2 and ".h." in name:
                x = x.T
            if arch == "gptneox" and "attn_qkv" in to:
                x = x.reshape(heads, 3, dim, *x.shape[1:]).swapaxes(0, 1).reshape(x.shape)
            x = np.ascontiguousarray(x)
            t = kinds(to, x) if kinds and x.ndim == 2 else T.F32
            if t == T.F32:
                w.add_tensor(to, x)
            else:
                w.add_tensor(to, gguf.quants.quantize(x, t), raw_dtype=t)
    w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()


def make_llama(out):
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
    torch.manual_seed(3)
    config = LlamaConfig(vocab_size=300, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                         max_position_embeddings=64, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2, tie_word_embeddings=False)
    model = LlamaForCausalLM(config).eval()
    for name, p in model.named_parameters():
        p.data = torch.randn(p.shape) * 1.1 / p.shape[-1] ** 0.5 if p.dim() == 2 else 1 + 0.1 * torch.randn(p.shape)
    with tempfile.TemporaryDirectory() as d:
        model.save_pretrained(d)
        convert(d, os.path.join(out, "llama.gguf"), lambda name, x: T.Q4_0 if "ffn" in name or "attn_q" in name else T.Q8_0)
    loaded = AutoModelForCausalLM.from_pretrained(out, gguf_file="llama.gguf", dtype=torch.float32).eval()
    ids = torch.randint(3, 300, (2, 24), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        logits = loaded(ids).logits
    save_file({"input_ids": ids.numpy().astype(np.int64), "logits": logits.numpy().astype(np.float32)}, os.path.join(out, "llama.safetensors"))


if __name__ == "__main__":
    os.makedirs(sys.argv[1], exist_ok=True)
    make_types(sys.argv[1])
    make_llama(sys.argv[1])
