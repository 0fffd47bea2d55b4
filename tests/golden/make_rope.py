"""Rotary frequencies as transformers computes them in float32, for each kind of scaling.

    python make_rope.py > rope.json     (pip install torch transformers)

One object a case: config.json as sqz reads it, and inv_freq (nine digits tell float32 values apart).
"""
import json
from transformers import CONFIG_MAPPING
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

SHAPE = dict(vocab_size=64, hidden_size=256, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=4)
FACTORS = dict(short_factor=[1.0 + .03 * i for i in range(32)], long_factor=[1.5 + .4 * i for i in range(32)])
CASES = [
    dict(rope_type="default", rope_theta=10000.0),
    dict(rope_type="default", rope_theta=500000.0),
    dict(rope_type="linear", factor=3.0, rope_theta=10000.0),
    dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192, rope_theta=500000.0),
    dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=128, rope_theta=10000.0),
    dict(rope_type="longrope", original_max_position_embeddings=128, rope_theta=10000.0, factor=4.0, **FACTORS),
]

out = []
for rope in CASES:
    config = CONFIG_MAPPING["llama"](**SHAPE, max_position_embeddings=512, rope_parameters=dict(rope))
    freq = LlamaRotaryEmbedding(config).inv_freq.tolist()
    text = dict(model_type="llama", **SHAPE, max_position_embeddings=512, rms_norm_eps=1e-5, hidden_act="silu", tie_word_embeddings=False, rope_parameters=rope)
    out.append(dict(config=text, inv_freq=[float(f"{f:.9g}") for f in freq]))
print("[\n" + ",\n".join(json.dumps(c) for c in out) + "\n]")
