"""The parameter counts of configs/models.json against the classes of transformers, built without memory.

    python model_counts.py
"""
import json
import os

import torch
from transformers import AutoConfig, AutoModelForCausalLM

TABLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "configs", "models.json")

if __name__ == "__main__":
    models = json.load(open(TABLE))["models"]
    wrong = 0
    for model in models:
        config = dict(model["config"])
        with torch.device("meta"):
            built = AutoModelForCausalLM.from_config(AutoConfig.for_model(config.pop("model_type"), **config))
        n = sum(p.numel() for p in built.parameters())
        if n != model["parameters"]:
            wrong += 1
            print(f"{model['name']}: transformers {n}, table {model['parameters']}")
    print(f"{len(models)} models, {wrong} differ")
    raise SystemExit(wrong != 0)
