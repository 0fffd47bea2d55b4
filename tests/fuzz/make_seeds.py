"""Writes the seed corpora under seeds/: small files that reach deep into each reader.

    python3 make_seeds.py          (from anywhere; the results are kept in the tree)

Each seed is built here from a few lines, so that what it means can be read.
"""
import base64
import json
import os
import struct

HERE = os.path.dirname(os.path.abspath(__file__))


def write(target, name, data):
    folder = os.path.join(HERE, "seeds", target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as f:
        f.write(data if isinstance(data, bytes) else data.encode())


def st(tensors, metadata=None):
    """tensors: name -> (dtype, shape, bytes)."""
    header, at, blob = {}, 0, b""
    if metadata:
        header["__metadata__"] = metadata
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
        blob += data
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + blob


def safetensors():
    write("safetensors", "one", st({"w": ("F32", [2, 2], bytes(16))}, {"format": "pt"}))
    write("safetensors", "many", st({"a": ("BF16", [3], bytes(6)), "b": ("U8", [2, 1, 2], b"abcd"), "s": ("I64", [], bytes(8)), "e": ("F16", [0, 4], b"")}))
    write("safetensors", "sub_byte", st({"x": ("F4", [4], bytes(2)), "y": ("F8_E4M3", [1], b"1"), "z": ("F6_E2M3", [4], bytes(3))}))
    write("safetensors", "empty", struct.pack("<Q", 2) + b"{}")


def affine(bits, rows, cols, group, zeros, key="m.q"):
    row_bytes, groups = 4 * ((cols * bits + 31) // 32), -(-cols // group)
    return {
        f"{key}.header": ("I64", [4], struct.pack("<4q", bits, cols, group, int(zeros == 1 << (bits - 1)))),
        f"{key}.scales": ("F16", [rows, groups], struct.pack("<e", 0.5) * (rows * groups)),
        f"{key}.codes": ("U8", [rows, row_bytes], bytes(rows * row_bytes)),
        f"{key}.zeros": ("U8", [rows, groups], bytes([zeros]) * (rows * groups)),
    }


def affines():
    write("affine", "int4", st(affine(4, 2, 8, 4, 8)))
    write("affine", "int3", st(affine(3, 1, 11, 5, 2), {"form": "int-affine/1"}))
    write("affine", "two", st({**affine(2, 1, 16, 16, 1), **affine(8, 1, 4, 2, 128, "m.k")}))


def jinja():
    """The templates and programs of the chat tests, and their expressions in a few files."""
    import sys
    sys.path.insert(0, os.path.join(HERE, "..", "golden", "chat"))
    import corpus
    for name, text in corpus.TEMPLATES.items():
        write("jinja", name, text)
    each = corpus.expressions()
    for i in range(0, len(each), 24):
        write("jinja", f"expressions_{i // 24:02}", "".join("{{ %s }}" % e for e in each[i:i + 24]))
    for i in range(0, len(corpus.PROGRAMS), 8):
        write("jinja", f"programs_{i // 8}", "\n".join(corpus.PROGRAMS[i:i + 8]))


def model_configs():
    llama = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
             "num_key_value_heads": 1, "intermediate_size": 32, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 1e4, "bos_token_id": 0,
             "eos_token_id": [1, 2], "torch_dtype": "bfloat16", "hidden_act": "silu", "tie_word_embeddings": True}
    write("model_config", "llama", json.dumps(llama))
    write("model_config", "llama3_rope", json.dumps({**llama, "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                                                                               "high_freq_factor": 4.0, "original_max_position_embeddings": 32}}))
    write("model_config", "yarn", json.dumps({**llama, "rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "beta_fast": 32, "beta_slow": 1}}))
    write("model_config", "qwen2", json.dumps({**llama, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "use_sliding_window": True,
                                               "sliding_window": 8, "max_window_layers": 1}))
    write("model_config", "qwen3", json.dumps({**llama, "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 8}))
    write("model_config", "mistral", json.dumps({**llama, "architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": 4,
                                                 "quantization_config": {"quant_method": "gptq", "bits": 4}}))


def tokenizers():
    byte_level = {
        "version": "1.0",
        "added_tokens": [{"id": 0, "content": "<s>", "special": True, "lstrip": False, "rstrip": False, "single_word": False, "normalized": False}],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+|\\s+"}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}]},
        "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                           "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}},
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": {"<s>": 0, "H": 1, "e": 2, "l": 3, "o": 4, "ll": 5, "1": 6, "2": 7, "a": 8, "aa": 9, "b": 10, "\u0120": 11},
                  "merges": ["l l", ["a", "a"]]},
    }
    write("tokenizer", "byte_level", json.dumps(byte_level))
    sentence = {
        "added_tokens": [{"id": 1, "content": "<s>", "special": True}],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"},
                                                           {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"},
                                                     {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True, "merges": ["a a"],
                  "vocab": {"<unk>": 0, "<s>": 1, "\u2581": 2, "a": 3, "aa": 4, "<0x0A>": 5, "<0xE2>": 6, "<0xFF>": 7}},
    }
    write("tokenizer", "byte_fallback", json.dumps(sentence))
    meta = {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []},
            "pre_tokenizer": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": True},
            "normalizer": {"type": "NFKC"}, "decoder": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always"}}
    write("tokenizer", "metaspace", json.dumps(meta))
    # found by the fuzzer: only empty words, so that no text had been allocated
    write("tokenizer", "empty_word", '{"model":{"vocab":{"ab":5,"":0},"merges":[]},"decoder":{"type":"Metaspace","prepend_scheme":"always"}}')
    write("tokenizer", "only_empty_word", '{"model":{"vocab":{"":0},"merges":[]},"decoder":{"type":"Fuse"}}')
    digits = {**byte_level, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": True}, {"type": "Punctuation"}, {"type": "Whitespace"},
        {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}]}, "normalizer": {"type": "Lowercase"}}
    write("tokenizer", "digits", json.dumps(digits))
    write("tokenizer", "unigram", json.dumps({
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap()).decode()}, {"type": "NFKD"}]},
        "pre_tokenizer": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always"}, "decoder": {"type": "CTC", "pad_token": "a", "word_delimiter_token": "b"},
        "model": {"type": "Unigram", "unk_id": 0, "byte_fallback": True, "vocab": [["<unk>", 0], ["\u2581", -2], ["a", -1.5], ["ab", -2.5], ["\u2581a", -3], ["<0xE2>", -9]]}}))
    write("tokenizer", "wordpiece", json.dumps({
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"}, "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 1], "cls": ["[CLS]", 2]},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 9,
                  "vocab": {"[UNK]": 0, "[SEP]": 1, "[CLS]": 2, "h": 3, "##e": 4, "##llo": 5, "12": 6, "'": 7, "a": 8, "##a": 9, "##ab": 10}}}))
    write("tokenizer", "wordlevel", json.dumps({
        "normalizer": {"type": "Nmt"}, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, {"type": "FixedLength", "length": 3}]},
        "model": {"type": "WordLevel", "unk_token": "<unk>", "vocab": {"<unk>": 0, "hel": 1, "lo": 2, "a": 3}}}))


def charsmap():
    """A double array with one entry: a becomes b."""
    units = [0] * 512
    units[0] = 256 << 10
    units[256 ^ 97] = 4 << 10 | 1 << 8 | 97
    units[256 ^ 97 ^ 4] = 0
    blob = struct.pack("<512I", *units)
    return struct.pack("<I", len(blob)) + blob + b"b\0"


def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def message(*fields):
    """(number, int | float | bytes) of a protobuf message."""
    out = b""
    for number, v in fields:
        if isinstance(v, bytes):
            out += varint(number << 3 | 2) + varint(len(v)) + v
        elif isinstance(v, float):
            out += varint(number << 3 | 5) + struct.pack("<f", v)
        else:
            out += varint(number << 3) + varint(v & (1 << 64) - 1)
    return out


def sentencepieces():
    pieces = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3), ("<0x0A>", 0.0, 6), ("<0xE2>", 0.0, 6), ("\u2581a", -1.0, 1), ("aa", -2.0, 1), ("ab", -3.0, 1), ("\u2581", -4.0, 1),
              ("a", -5.0, 1), ("b", -6.0, 1), ("Hello", -7.0, 4), ("x", -8.0, 5)]
    list_ = [(1, message((1, t.encode()), (2, s), (3, k))) for t, s, k in pieces]
    bpe = [(2, message((3, 2), (35, 1), (40, 0), (41, 1), (42, 2), (43, -1), (45, b"<unk>"))), (3, message((1, b"identity"), (3, 1), (4, 0), (5, 1)))]
    unigram = [(2, message((3, 1), (35, 0))), (3, message((1, b"own"), (2, charsmap())))]
    for k, (name, rest) in enumerate((("llama", bpe), ("gemma", bpe), ("t5", unigram), ("plain", unigram))):
        write("sentencepiece", name, bytes([k]) + message(*list_, *rest))


def pipelines():
    full = {"model": "m", "dataset": [{"source": "a.jsonl", "limit": 4, "window": 64, "use": "eval/perplexity"}, "name=b.jsonl"],
            "calibration": {"source": "c.jsonl", "samples": 16, "seq_len": 128}, "objectives": ["quality", "bytes"],
            "constraints": {"max_accuracy_drop": 0.1, "max_vram": "8GB", "max_latency": "50ms"},
            "weights": {"\u03b1": 1, "beta": 0.3}, "budget": {"trials": 6, "wall": "1h30m", "until": {"accuracy_drop": 0.01}},
            "steps": [{"use": "method/rtn", "with": {"bits": [2, 4]}, "rules": [{"match": "*.q_proj", "with": {"bits": 8}}]}],
            "search": {"use": "nsga2", "with": {"population": 8}}, "eval": {"proxy": {"limit": 12}, "window": 256},
            "export": [{"format": "gptq"}], "tracker": [{"use": "jsonl"}], "plugins": {"path": ["p.so"], "deny": ["x"]},
            "hardware": {"compute": "bf16", "threads": 2}, "seed": 11, "output": "runs/x"}
    write("pipeline", "full", json.dumps(full))
    write("pipeline", "short", '{"model":"m","dataset":"a.jsonl"}')
    write("pipeline", "comments", '// why\n{"model":"m", /* x */ "dataset":["a.jsonl",],}')
    write("pipeline", "set", b'{"model":"m","dataset":"a.jsonl"}\0budget.trials=20')
    write("pipeline", "set_list", b'{"model":"m","dataset":"a.jsonl"}\0dataset[0].limit=3')
    write("pipeline", "set_delete", b'{"model":"m","dataset":"a.jsonl","seed":1}\0~seed')
    write("pipeline", "set_json", b'{"model":"m","dataset":"a.jsonl"}\0steps=[{"use":"rtn"}]')


def datasets():
    write("dataset", "text", '{"text": "one"}\n{"text": "two\\u0000three"}\n\n')
    write("dataset", "qa", '{"question": "1+1?", "answer": "so 2\\n#### 2"}\n')
    write("dataset", "choice", '{"question": "q", "choices": ["a", "b"], "answer": 1}\n{"question": "q", "choices": ["a", "b"], "answer": "A"}\n')
    write("dataset", "endings", '{"ctx": "c", "endings": ["x", "y", "z"], "label": "2"}\n')
    write("dataset", "nested", '{"question": "q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "B", "answer": "B"}\n')
    write("dataset", "gold", '[{"query": "q", "choices": ["a"], "gold": 0}]')
    write("dataset", "bom", b'\xef\xbb\xbf{"text": "x", "n": 1e3, "b": true, "z": null}\r\n')


def formats():
    """Parquet: the goldens of the unit tests, which pyarrow wrote."""
    golden = os.path.join(HERE, "..", "golden", "data")
    for name in sorted(os.listdir(golden)):
        if name.endswith(".parquet"):
            with open(os.path.join(golden, name), "rb") as f:
                write("parquet", name[: -len(".parquet")], f.read())
    write("csv", "quotes", b'\0text,n,text\n"a, ""b""\r\nc",1,x\n\nNA,-2,"y"z\n')
    write("csv", "tabs", b"\1a\tb\r1.5\tTrue\r\t false\r")
    write("csv", "text", b"\6one,2\n,,\n\"\",None,3\n")
    write("csv", "bom", b"\0\xef\xbb\xbfa,\n9223372036854775808,inf\n 7 ,1e999\n")


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def record(seq, **rest):
    value = {"seq": seq, **rest}
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return json.dumps({**value, "crc": f"{crc32c(canonical):08x}"}, separators=(",", ":"), ensure_ascii=False) + "\n"


def journals():
    whole = record(0, type="open", id="r") + record(1, type="ask", trial=3, x=[0.5, 1]) + record(2, type="tell", metrics={"q": 1.25}, note="\u00e9")
    write("journal", "whole", whole)
    write("journal", "torn", whole[:-9])
    write("journal", "gap", record(0, type="open") + record(2, type="tell"))
    write("journal", "one", record(0, type="stop"))


def channels():
    def frame(message):
        text = json.dumps(message).encode()
        return struct.pack("<I", len(text)) + text
    write("channel", "talk", frame({"type": "hello"}) + frame({"type": "agent", "id": "rtn", "kind": "method/1"}) +
          frame({"type": "progress", "done": 0.5, "what": "layer 1"}) + frame({"type": "log", "level": 2, "text": "x"}))
    write("channel", "stop", frame({"type": "stop"}))
    write("channel", "cut", frame({"type": "hello"})[:-3])
    write("channel", "long", struct.pack("<I", 1 << 16) + b"{")


def elf(stamp=b"sqz-abi 1.0\0", machine=None):
    """The smallest file with a .sqz.abi section: header, names, stamp, three section headers."""
    machine = machine or {"x86_64": 62, "aarch64": 183, "riscv64": 243, "ppc64le": 21, "s390x": 22}[os.uname().machine]
    names = b"\0.sqz.abi\0.shstrtab\0"
    at_names, at_stamp = 64, 64 + len(names)
    table = (at_stamp + len(stamp) + 7) // 8 * 8
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 0, table, 0, 64, 56, 0, 64, 3, 2)
    def section(name, kind, offset, size):
        return struct.pack("<IIQQQQIIQQ", name, kind, 0, 0, offset, size, 0, 0, 1, 0)
    body = head + names + stamp
    return body + bytes(table - len(body)) + bytes(64) + section(1, 1, at_stamp, len(stamp)) + section(10, 3, at_names, len(names))


def stamps():
    write("stamp", "good", elf(machine=62))
    write("stamp", "newer", elf(b"sqz-abi 1.999\0", machine=62))
    write("stamp", "odd", elf(b"sqz-abi x.y\0", machine=62))
    write("stamp", "text", b"#!/bin/sh\n")


def indexes():
    write("index", "good", json.dumps({"metadata": {"total_size": 8}, "weight_map": {"a": "s1.safetensors", "b": "s1.safetensors"}}))
    write("index", "up", json.dumps({"weight_map": {"a": "../s1.safetensors"}}))
    write("index", "missing", json.dumps({"weight_map": {"a": "s2.safetensors"}}))


def gguf_file(entries, tensors=(), version=3):
    """entries: (key, type, bytes of the value); tensors: (name, sizes, type, bytes)."""
    text = lambda t: struct.pack("<Q", len(t)) + t
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(entries))
    for key, kind, value in entries:
        head += text(key.encode()) + struct.pack("<I", kind) + value
    data = b""
    for name, sizes, kind, raw in tensors:
        head += text(name.encode()) + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, kind, len(data))
        data += raw + bytes(-len(raw) % 32)
    return head + bytes(-len(head) % 32) + data


def ggufs():
    text = lambda t: struct.pack("<Q", len(t)) + t
    string, number, real, flag = lambda k, v: (k, 8, text(v)), lambda k, v: (k, 4, struct.pack("<I", v)), lambda k, v: (k, 6, struct.pack("<f", v)), lambda k, v: (k, 7, bytes([v]))
    strings = lambda k, v: (k, 9, struct.pack("<IQ", 8, len(v)) + b"".join(map(text, v)))
    numbers = lambda k, kind, code, v: (k, 9, struct.pack(f"<IQ{len(v)}{code}", kind, len(v), *v))
    shape = [string("general.architecture", b"llama"), number("llama.block_count", 1), number("llama.embedding_length", 32), number("llama.context_length", 64),
             number("llama.feed_forward_length", 32), number("llama.attention.head_count", 2), numbers("llama.attention.head_count_kv", 5, "i", [1, 1]),
             real("llama.attention.layer_norm_rms_epsilon", 1e-5), string("llama.rope.scaling.type", b"linear"), real("llama.rope.scaling.factor", 2.0)]
    spm = [string("tokenizer.ggml.model", b"llama"), strings("tokenizer.ggml.tokens", [b"<unk>", b"<s>", b"a", b"b", b"ab", b"\xe2\x96\x81", b"<0x00>"]),
           numbers("tokenizer.ggml.scores", 6, "f", [0, 0, -1, -2, -3, -4, 0]), numbers("tokenizer.ggml.token_type", 5, "i", [2, 3, 1, 1, 1, 1, 6]),
           number("tokenizer.ggml.bos_token_id", 1), flag("tokenizer.ggml.add_bos_token", 1), string("tokenizer.chat_template", b"{{ x }}")]
    bpe = [string("general.architecture", b"gpt2"), string("tokenizer.ggml.model", b"gpt2"), string("tokenizer.ggml.pre", b"llama-bpe"),
           strings("tokenizer.ggml.tokens", [b"a", b"b", b"ab", b"\xc4\xa0"]), strings("tokenizer.ggml.merges", [b"a b"]), number("tokenizer.ggml.eos_token_id", 2)]
    write("gguf", "llama", gguf_file(shape + spm, [("blk.0.attn_q.weight", [32, 32], 2, bytes(32 * 18)), ("blk.0.attn_k.weight", [32, 16], 8, bytes(16 * 34)),
                                                   ("blk.0.attn_norm.weight", [32], 0, bytes(128)), ("rope_freqs.weight", [8], 0, struct.pack("<8f", *range(1, 9)))]))
    write("gguf", "gpt2", gguf_file(bpe, [("blk.0.attn_qkv.weight", [4, 12], 1, bytes(96)), ("token_embd.weight", [4, 4], 30, bytes(32))]))
    write("gguf", "packed", gguf_file(shape[:1], [(f"blk.{i}.ffn_up.weight", [256], kind, bytes(size)) for i, (kind, size) in
                                                  enumerate(((10, 84), (11, 110), (12, 144), (13, 176), (14, 210), (20, 144), (3, 160), (6, 176), (7, 192)))]))
    write("gguf", "neox", gguf_file([string("general.architecture", b"gptneox"), number("gptneox.attention.head_count", 2), number("general.alignment", 32)],
                                    [("blk.0.attn_qkv.bias", [12], 0, bytes(48))], 2))


def reports():
    metrics = {"strategy_id": "s1", "quality": 10.5, "quality_metric": "perplexity", "quality_dataset": "d", "quality_stderr": 0.1, "quality_higher_is_better": False,
               "perplexity": 10.5, "bytes": 80928, "memory_bytes": 4e7, "ttft_ms": 1.0, "tpot_ms": 0.2, "reward": 0.4, "accuracy_drop": -0.01, "kl": 0.1}
    run = {"schema": "sqz.run/1", "id": "r1", "state": "done", "model": "m", "began": "2026-01-01T00:00:00Z", "version": "0.1.0"}
    pareto = {"objectives": [{"name": "quality", "direction": "minimize", "metric": "perplexity"}, {"name": "bytes", "direction": "minimize"}], "reference": [11, 9e4],
              "hypervolume": 2.5, "hypervolume_normalised": 0.5, "baseline": {**metrics, "strategy_id": "dense"},
              "members": [{"strategy_id": "s1", "label": "rtn 4-bit", "steps": [{"use": "rtn", "with": {"bits": 4}}], "metrics": metrics, "objectives": [10.5, 80928],
                           "artifact": "sha256:" + "8" * 64, "path": "models/s1", "format": "gptq"}]}
    trial = {"strategy_id": "s1", "label": "rtn 4-bit", "kind": "seed", "outcome": "ok", "feasible": True, "metrics": metrics, "rungs": {"full": {"seconds": 1.5}}}
    parts = [run, pareto, {"results": [metrics]}, trial, {"cpu": "x", "threads": 2}]
    write("report", "whole", b"\0".join(json.dumps(p).encode() for p in parts))
    write("report", "pareto", b"{}\0" + json.dumps(pareto).encode())
    write("report", "trials", json.dumps(run).encode() + b"\0{}\0{}\0" + json.dumps(trial).encode() + b"\n" + json.dumps({**trial, "outcome": "crashed"}).encode())


def dictionaries():
    words = {
        "json": ['{', '}', '[', ']', ':', ',', '"', 'null', 'true', 'false', '-1', '1e308', '1e-400', '9007199254740993', '18446744073709551615', '\\u0000',
                 '\\ud800', '//', '/*', '*/', '[[[[[[[[', '{"a":{"a":{"a":', '\xff', '\xed\xa0\x80'],
        "safetensors": ['"dtype":', '"shape":', '"data_offsets":', '"__metadata__":{', 'F32', 'BF16', 'F4', 'F6_E2M3', 'I64', 'U8', 'BOOL', 'C64', '[0,0]',
                        '4611686018427387904', '9007199254740992', '.header', '.codes', '.scales', '.zeros'],
        "model_config": ['"model_type":', '"hidden_size":', '"num_attention_heads":', '"num_key_value_heads":', '"head_dim":', '"num_hidden_layers":',
                         '"vocab_size":', '"rope_scaling":{', '"rope_parameters":{', '"rope_type":', 'llama3', 'yarn', 'dynamic', 'linear', '"layer_types":[',
                         'sliding_attention', 'full_attention', '"sliding_window":', '"eos_token_id":', 'LlamaForCausalLM', 'Qwen2ForCausalLM',
                         'Qwen3ForCausalLM', 'MistralForCausalLM', '"quantization_config":{'],
        "tokenizer": ['"type":', 'BPE', 'ByteLevel', 'Metaspace', 'Split', 'Sequence', 'Digits', 'Punctuation', 'Whitespace', 'Replace', 'Prepend', 'NFC',
                      'NFKC', 'NFD', 'Lowercase', 'Strip', 'Fuse', 'ByteFallback', '"Regex":', '"String":', '\\\\p{L}', '(?i:', '(?=', '(?<!', '\\\\s+', '{1,3}',
                      '"merges":', '"vocab":', '"added_tokens":', '"behavior":', 'MergedWithPrevious', 'Removed', '"invert":true', '<0x', 'TemplateProcessing',
                      'Unigram', 'WordPiece', 'BertNormalizer', 'BertPreTokenizer', 'UnicodeScripts', 'Precompiled', 'StripAccents', 'CTC', 'BPEDecoder', '"unk_id":', '##', '"max_input_chars_per_word":', 'WordLevel', 'FixedLength', '"length":', 'Nmt'],
        "sentencepiece": ['\\x0a\\x0a', '\\x12\\x07', '\\x1a\\x05', '\\x15\\x00\\x00\\x80\\xbf', '\\x18\\x06', '\\x98\\x02\\x01', '\\xff\\xff\\xff\\xff\\x0f', '\\xe2\\x96\\x81', '<0x41>', '<s>',
                          '\\xc0\\x02\\x00'],
        "pipeline": ['"model":', '"dataset":', '"source":', '"calibration":', '"objectives":', '"budget":', '"trials":', '"wall":', '"steps":', '"use":', '"with":',
                     '"rules":', '"search":', '"eval":', '"constraints":', '"export":', '"plugins":', '"weights":', '8GB', '1h30m', '\\x00', '[0].', '~', '='],
        "dataset": ['"text":', '"question":', '"answer":', '"choices":', '"endings":', '"ctx":', '"label":', '"gold":', '"query":', '#### ', '\\x0a', '\\xef\\xbb\\xbf'],
        "parquet": ['PAR1', '\\x15', '\\x15\\x00', '\\x2c', '\\x19', '\\x1c', '\\x18', '\\x00', '\\xff\\xff\\xff\\x7f', '\\x80\\x80\\x80\\x80\\x08', 'list', 'element', 'array', '_tuple',
                    'answer', 'same', '\\x28\\xb5\\x2f\\xfd', '\\x1f\\x8b\\x08'],
        "csv": [',', '\\x09', '\\x0a', '\\x0d', '\\x0d\\x0a', '\\x22', '\\x22\\x22', '\\xef\\xbb\\xbf', 'NA', 'None', 'True', 'false', '1e308', 'inf', '0x1F', '-9223372036854775808',
                '18446744073709551616', 'text', '\\xff'],
        "journal": ['"seq":', '"crc":', '"type":', '\\x0a', '{"seq":0,', '"tell"', '"ask"'],
        "channel": ['"type":', '"hello"', '"agent"', '"progress"', '"log"', '"stop"', '"done":', '"what":', '\\x00\\x00\\x01\\x00', '\\x01\\x00\\x00\\x00'],
        "stamp": ['sqz-abi ', '1.0', '.sqz.abi', '\\x7fELF', '9999.9999', '-1.-1'],
        "report": ['"members":[', '"metrics":{', '"label":', '"quality":', '"bytes":', '"path":', '"steps":[', '"objectives":[', '"baseline":{', '"outcome":', '"rungs":{',
                   '<fuzz>', '</script><fuzz>', '\\x1b]', '](javascript:', '../', '\\x00'],
        "affine": ['.header', '.codes', '.scales', '.zeros', 'I64', 'U8', 'F16', '"data_offsets":', '"shape":', '\\x00\\x7c', '\\xff\\xff\\xff\\xff'],
        "jinja": ("{{ }} {% %} {# #} {%- -%} | ~ ** // == != [: :: ' [::-1] abs and attribute break capitalize center changed content continue count cycle default "
                   'defined dict dictsort elif else endfilter endfor endgeneration endif endmacro endraw endset endswith endwith equalto even false filter find first '
                   'float for generation if in indent index int is items iterable join last length list loop lower macro map mapping max messages messages[0] min '
                   'namespace none not number odd or partition previtem raise_exception range raw reject rejectattr removeprefix replace reverse role round rsplit safe '
                   'select selectattr sequence set sort split splitlines startswith strftime_now string sum title tojson tool_calls trim true undefined unique upper with ').split(),
        "gguf": ['GGUF', 'general.architecture', 'general.alignment', 'llama', 'gpt2', 'gptneox', 'gemma3', '.block_count', '.attention.head_count', '.rope.scaling.type', 'yarn',
                 'tokenizer.ggml.tokens', 'tokenizer.ggml.scores', 'tokenizer.ggml.token_type', 'tokenizer.ggml.merges', 'tokenizer.ggml.pre', 'tokenizer.chat_template',
                 'token_embd.weight', 'blk.0.', 'attn_q', 'attn_qkv', 'ffn_norm.weight', '.bias', 'rope_freqs.weight'],
        "index": ['"weight_map":', '"metadata":', 's1.safetensors', '../', '/', '..', '/proc/self/exe', '\\u002e\\u002e\\u002f'],
    }
    def quote(word):
        if word.startswith("\\x"):
            return word
        return "".join(c if " " <= c <= "~" and c not in '"\\' else f"\\x{ord(c):02x}" for c in word)
    os.makedirs(os.path.join(HERE, "dicts"), exist_ok=True)
    for name, list_ in words.items():
        extra = [] if name in ("json", "stamp", "jinja", "sentencepiece", "parquet", "csv") else words["json"]
        if name == "json":
            continue
        with open(os.path.join(HERE, "dicts", name + ".dict"), "w", encoding="utf-8") as f:
            f.write("# made by make_seeds.py\n" + "".join(f'"{quote(w)}"\n' for w in list_ + extra))


if __name__ == "__main__":
    for make in (safetensors, affines, jinja, model_configs, tokenizers, sentencepieces, pipelines, datasets, formats, journals, channels, stamps, indexes, ggufs, reports, dictionaries):
        make()
