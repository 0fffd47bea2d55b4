"""A model folder of 120 KB made from nothing, to be broken by tests: two-block Llama, byte-level tokenizer."""
import json
import os
import random
import struct

CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 260, "hidden_size": 32, "num_hidden_layers": 2,
          "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 64, "max_position_embeddings": 128,
          "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "bos_token_id": 256, "eos_token_id": 257, "torch_dtype": "float32",
          "hidden_act": "silu", "tie_word_embeddings": False, "attention_bias": False, "mlp_bias": False}


def st_bytes(header, data=b"", length=None):
    """A safetensors file from a header (object or raw bytes) and data; length: what the first 8 bytes claim."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def shapes(config=None):
    c = config or CONFIG
    h, f, kv = c["hidden_size"], c["intermediate_size"], c["num_key_value_heads"] * c["head_dim"]
    q = c["num_attention_heads"] * c["head_dim"]
    out = {"model.embed_tokens.weight": [c["vocab_size"], h], "model.norm.weight": [h], "lm_head.weight": [c["vocab_size"], h]}
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        out.update({p + "self_attn.q_proj.weight": [q, h], p + "self_attn.k_proj.weight": [kv, h], p + "self_attn.v_proj.weight": [kv, h],
                    p + "self_attn.o_proj.weight": [h, q], p + "mlp.gate_proj.weight": [f, h], p + "mlp.up_proj.weight": [f, h],
                    p + "mlp.down_proj.weight": [h, f], p + "input_layernorm.weight": [h], p + "post_attention_layernorm.weight": [h]})
    return out


def weights(changed=None, dtype="F32", fill=None):
    """(header, data) of the whole model; changed: name -> other shape, or None to leave it out."""
    rng, header, blob = random.Random(1), {}, b""
    for name, shape in {**shapes(), **(changed or {})}.items():
        if shape is None:
            continue
        n = 1
        for d in shape:
            n *= d
        data = (struct.pack("<f", fill) * n if fill is not None else struct.pack(f"<{n}f", *(rng.gauss(0, 0.3) for _ in range(n))))
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(blob), len(blob) + len(data)]}
        blob += data
    return header, blob


def byte_chars():
    """GPT-2's printable stand-in of every byte."""
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    extra = iter(range(256, 512))
    return [chr(b) if b in keep else chr(next(extra)) for b in range(256)]


def tokenizer():
    vocab = {c: i for i, c in enumerate(byte_chars())}
    return {"version": "1.0", "added_tokens": [{"id": 256, "content": "<s>", "special": True}, {"id": 257, "content": "</s>", "special": True}],
            "normalizer": None, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}, "post_processor": None,
            "decoder": {"type": "ByteLevel"}, "model": {"type": "BPE", "vocab": vocab, "merges": []}}


def put(folder, name, data):
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if not isinstance(data, (bytes, str)):
        data = json.dumps(data)
    with open(path, "wb") as f:
        f.write(data if isinstance(data, bytes) else data.encode("utf-8", "surrogateescape"))
    return path


def model(folder, config=None, safetensors=None, tokens=None):
    """Writes the folder; each part can be given broken.  False leaves a part out."""
    os.makedirs(folder, exist_ok=True)
    if config is not False:
        put(folder, "config.json", CONFIG if config is None else config)
    if safetensors is not False:
        put(folder, "model.safetensors", st_bytes(*weights()) if safetensors is None else safetensors)
    if tokens is not False:
        put(folder, "tokenizer.json", tokenizer() if tokens is None else tokens)
        put(folder, "tokenizer_config.json", {"bos_token": "<s>", "eos_token": "</s>"})
    return folder
