"""Bad input, one row each: files, command line, expected exit code, expected words.

    python3 bad_input.py SQZ WORKDIR [PATTERN]

For every row: it ends within 10 seconds of processor time, not by a signal; exit code and words are as written here; no
sanitizer speaks; what it was to write is absent or whole; no temporary file is left.  With PATTERN only the
rows whose name contains it, and what they said.
"""
import glob
import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import common
import tiny

sys.path.insert(0, os.path.join(common.ROOT, "tests/fuzz"))
from make_seeds import crc32c, elf  # noqa: E402

SECONDS = 10  # of processor time, which a busy machine does not stretch
RESUME_SECONDS = 60  # these rows go on with a run
WALL_SECONDS = 120  # for waiting that costs nothing
EVAL = ["eval", "{w}/m", "--dataset", "{d}", "--json", "{w}/out.json"]
ESTIMATE = ["estimate", "{w}/m", "--json", "{w}/out.json"]
TOKENIZE = ["tokenize", "{w}/m", "--text", "hello", "--json", "{w}/out.json"]
DATA = ["eval", "{m}", "--dataset", "{w}/d.jsonl", "--json", "{w}/out.json"]
PLAN = ["plan", "--config", "{w}/p.json", "--json", "{w}/out.json"]
RUN = ["run", "--config", "{w}/p.json", "--output", "{w}/run", "--yes"]


class Row:
    def __init__(self, name, args, code, words, make=None, absent=(), env=None):
        self.name, self.args, self.code, self.words, self.make = name, args, code, words, make
        self.absent, self.env = absent, env or {}


def deep(n, open_="[", close="]"):
    return open_ * n + close * n


# ---- config.json of a model ---------------------------------------------------------------------------
def configs():
    def of(name, words, changes=None, text=None, args=None, code=3):
        config = text if text is not None else {**tiny.CONFIG, **changes}
        if isinstance(config, dict):
            config = {k: v for k, v in config.items() if v is not Ellipsis}
        return Row(f"config/{name}", args or ESTIMATE, code, words, lambda w: tiny.model(f"{w}/m", config=config))
    yield of("negative", ["hidden_size", "-32"], {"hidden_size": -32})
    yield of("zero_layers", ["num_hidden_layers"], {"num_hidden_layers": 0})
    yield of("zero_heads", ["num_attention_heads"], {"num_attention_heads": 0})
    yield of("huge_float", ["hidden_size"], text=json.dumps(tiny.CONFIG).replace('"hidden_size": 32', '"hidden_size": 1e308'))
    yield of("infinite", ["config.json"], text=json.dumps(tiny.CONFIG).replace("10000.0", "1e999"))
    yield of("not_a_number", ["config.json"], text=json.dumps(tiny.CONFIG).replace("10000.0", "NaN"))
    yield of("fraction", ["num_hidden_layers"], {"num_hidden_layers": 1.5})
    yield of("many_layers", ["num_hidden_layers"], {"num_hidden_layers": 1 << 40})
    yield of("vocab_2_63", ["vocab_size"], {"vocab_size": 2**63})
    yield of("text_for_number", ["hidden_size"], {"hidden_size": "32"})
    yield of("null", ["model.embed_tokens"], {"hidden_size": None}, args=EVAL)
    yield of("nested", ["nest"], text='{"model_type": "llama", "x": ' + deep(100000) + "}")
    yield of("nested_objects", ["nest"], text=deep(50000, '{"a":', "}").replace('{"a":}', "{}"))
    yield of("unknown_family", ["mamba2", "known"], {"architectures": ["Mamba2ForCausalLM"], "model_type": "mamba2"})
    yield of("no_family", ["model_type"], {"architectures": ..., "model_type": ...})
    yield of("family_is_list", ["model_type"], {"architectures": ..., "model_type": ["llama"]})
    yield of("heads_not_divisible", ["num_key_value_heads"], {"num_attention_heads": 3, "num_key_value_heads": 2})
    yield of("odd_head_dim", ["head_dim"], {"head_dim": 15})
    yield of("unknown_activation", ["hidden_act"], {"hidden_act": "system('x')"})
    yield of("unknown_rope", ["spiral"], {"rope_scaling": {"rope_type": "spiral", "factor": 2}})
    yield of("rope_factor_zero", ["factor"], {"rope_scaling": {"rope_type": "linear", "factor": 0}})
    yield of("eps_negative", ["rms_norm_eps"], {"rms_norm_eps": -1})
    yield of("too_many_eos", ["eos_token_id"], {"eos_token_id": list(range(100))})
    yield of("eos_outside", ["eos_token_id"], {"eos_token_id": 1 << 33})
    yield of("duplicate_key", ["hidden_size"], text='{"hidden_size": 1, "hidden_size": 2}')
    yield of("empty_file", ["config.json"], text="")
    yield of("cut", ["config.json"], text=json.dumps(tiny.CONFIG)[:100])
    yield of("array", ["config.json"], text="[]")
    yield of("zeros", ["config.json"], text=b"\0" * 100)
    yield of("invalid_utf8", ["config.json"], text=b'{"model_type": "\xff\xfe"}')
    yield of("long_name", ["config.json"], {"architectures": ["A" * 100000], "model_type": "B" * 100000})
    yield of("moe", ["experts"], {"architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "num_local_experts": 2, "num_experts_per_tok": 3})
    yield of("layers_beyond_weights", ["model.layers.2"], {"num_hidden_layers": 3}, args=EVAL)
    yield of("vocab_beyond_weights", ["embed_tokens"], {"vocab_size": 261}, args=EVAL)


# ---- the model's folder -------------------------------------------------------------------------------
def index(weight_map, **more):
    return {"metadata": {}, "weight_map": weight_map, **more}


def all_in(shard):
    return index({name: shard for name in tiny.shapes()})


def folders():
    def of(name, words, make, args=None, code=3):
        return Row(f"folder/{name}", args or EVAL, code, words, make)
    yield of("absent", ["no such folder"], None)
    yield of("file", ["not a folder"], lambda w: tiny.put(w, "m", "x"))
    yield of("empty", ["config.json"], lambda w: os.makedirs(f"{w}/m"))
    yield of("no_weights", ["model.safetensors"], lambda w: tiny.model(f"{w}/m", safetensors=False))
    yield of("no_tokenizer", ["tokenizer"], lambda w: tiny.model(f"{w}/m", tokens=False))

    def pickle(name):
        def make(w):
            tiny.model(f"{w}/m", safetensors=False)
            tiny.put(f"{w}/m", name, b"\x80\x02cos\nsystem\nX\x04\0\0\0echo\x85R.")
        return make
    yield of("pickle", ["pickle", "safe_serialization"], pickle("pytorch_model.bin"))
    yield of("pickle_pt", ["pickle", "safe_serialization"], pickle("consolidated.00.pth"))
    yield of("pickle_shards", ["pickle", "safe_serialization"], pickle("pytorch_model.bin.index.json"))
    yield of("pickle_as_safetensors", ["safetensors"], lambda w: (tiny.model(f"{w}/m", safetensors=b"\x80\x02cos\nsystem\n" + bytes(64))))
    yield of("gguf_as_safetensors", ["safetensors"], lambda w: (tiny.model(f"{w}/m", safetensors=b"GGUF\x03\0\0\0" + b"\xff" * 16)))
    yield of("html_as_safetensors", ["safetensors"], lambda w: (tiny.model(f"{w}/m", safetensors="<!doctype html><p>404")))
    yield of("lfs_pointer", ["safetensors"], lambda w: tiny.model(f"{w}/m", safetensors="version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"))

    def weights_folder(w):
        tiny.model(f"{w}/m", safetensors=False)
        os.makedirs(f"{w}/m/model.safetensors")
    yield of("weights_are_folder", ["model.safetensors"], weights_folder)

    def fifo(w):
        tiny.model(f"{w}/m", safetensors=False)
        os.mkfifo(f"{w}/m/model.safetensors")
    yield of("weights_are_fifo", ["model.safetensors", "regular"], fifo)

    def loop(w):
        tiny.model(f"{w}/m", safetensors=False)
        os.symlink("model.safetensors", f"{w}/m/model.safetensors")
    yield of("link_loop", ["model.safetensors"], loop)

    def unreadable_config(w):
        tiny.model(f"{w}/m", config=False)
        os.makedirs(f"{w}/m/config.json")
    yield of("config_is_folder", ["config.json"], unreadable_config)

    def indexed(value, outside=False, link=None):
        def make(w):
            tiny.model(f"{w}/m", safetensors=False)
            text = value(w) if callable(value) else value
            tiny.put(f"{w}/m", "model.safetensors.index.json", text)
            if outside:
                tiny.put(w, "outside.safetensors", tiny.st_bytes(*tiny.weights()))
            if link:
                os.symlink(link(w), f"{w}/m/s1.safetensors")
        return make
    yield of("index_up", ["not a plain file name"], indexed(all_in("../outside.safetensors"), True))
    yield of("index_absolute", ["not a plain file name"], indexed(lambda w: all_in(f"{w}/outside.safetensors"), True))
    yield of("index_etc", ["not a plain file name"], indexed(all_in("/etc/passwd")))
    yield of("index_dot", ["not a plain file name"], indexed(all_in(".")))
    yield of("index_empty_name", ["not a plain file name"], indexed(all_in("")))
    yield of("index_encoded_up", ["not a plain file name"], indexed(json.dumps(all_in("X")).replace('"X"', '"\\u002e\\u002e\\u002foutside.safetensors"'), True))
    yield of("index_link_out", ["link out of"], indexed(all_in("s1.safetensors"), True, lambda w: "../outside.safetensors"))
    yield of("index_link_device", ["s1.safetensors"], indexed(all_in("s1.safetensors"), False, lambda w: "/dev/zero"))
    yield of("index_missing_shard", ["missing", "s1.safetensors"], indexed(all_in("s1.safetensors")))
    yield of("index_number", ["index.json"], indexed(index({"a": 7})))
    yield of("index_no_map", ["weight_map"], indexed({"metadata": {}}))
    yield of("index_array", ["index.json"], indexed("[]"))
    yield of("index_cut", ["index.json"], indexed('{"weight_map": {"a": "s1'))
    yield of("index_empty_map", ["no tensors"], indexed(index({})))

    def lying(w):
        indexed(index({"model.norm.weight": "s1.safetensors", "no.such.tensor": "s1.safetensors"}))(w)
        tiny.put(f"{w}/m", "s1.safetensors", tiny.st_bytes(*tiny.weights()))
    yield of("index_names_absent_tensor", ["no.such.tensor"], lying)


# ---- safetensors ---------------------------------------------------------------------------------------
def entry(dtype="F32", shape=(1,), begin=0, end=4):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def safetensors():
    def of(name, words, data, code=3):
        return Row(f"safetensors/{name}", EVAL, code, words, lambda w: tiny.model(f"{w}/m", safetensors=data))

    def one(**changes):
        return tiny.st_bytes({"a": {**entry(), **changes}}, bytes(4))
    header, blob = tiny.weights()
    good = tiny.st_bytes(header, blob)
    yield of("empty", ["too few"], b"")
    yield of("seven_bytes", ["too few"], b"\0" * 7)
    yield of("length_zero", ["header"], struct.pack("<Q", 0) + b"{}")
    yield of("length_2_64", ["header"], tiny.st_bytes(b"{}", length=2**64 - 1))
    yield of("length_2_63", ["header"], tiny.st_bytes(b"{}", length=2**63))
    yield of("length_beyond_file", ["header"], tiny.st_bytes(b"{}", length=3))
    yield of("length_100_mb", ["header"], tiny.st_bytes(b"{}", length=100000001))
    yield of("length_wraps", ["header"], tiny.st_bytes(b"{}", length=2**64 - 8))
    yield of("cut_in_header", ["header"], good[:200])
    yield of("cut_in_data", ["cut short"], good[:-1])
    yield of("trailing_byte", ["after the last tensor"], good + b"x")
    yield of("not_json", ["header"], tiny.st_bytes(b"{not json at all}"))
    yield of("array", ["'{'"], tiny.st_bytes(b"[]"))
    yield of("invalid_utf8", ["UTF-8"], tiny.st_bytes(b'{"\xff\xfe":{}}'))
    yield of("zero_in_header", ["header"], tiny.st_bytes(b'{"a\0":{}}'))
    yield of("duplicate", ["duplicate", "a"], tiny.st_bytes(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
                                                            b'"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"x"))
    yield of("nested", ["nest"], tiny.st_bytes(b'{"a":' + b"[" * 90000 + b"]" * 90000 + b"}"))
    yield of("overlap", ["overlap"], tiny.st_bytes({"a": entry(), "b": entry()}, bytes(4)))
    yield of("partial_overlap", ["overlap"], tiny.st_bytes({"a": entry(shape=(2,), end=8), "b": entry(begin=4, end=8)}, bytes(8)))
    yield of("hole", ["hole"], tiny.st_bytes({"a": entry(), "b": entry(begin=8, end=12)}, bytes(12)))
    yield of("first_hole", ["hole"], tiny.st_bytes({"a": entry(begin=4, end=8)}, bytes(8)))
    yield of("end_before_begin", ["data_offsets"], one(data_offsets=[4, 0]))
    yield of("negative_offset", ["data_offsets"], one(data_offsets=[-4, 0]))
    yield of("huge_offset", ["data_offsets"], one(data_offsets=[0, 2**63]))
    yield of("offset_1e308", ["data_offsets"], one(data_offsets=[0, 1e308]))
    yield of("three_offsets", ["data_offsets"], one(data_offsets=[0, 4, 8]))
    yield of("no_offsets", ["data_offsets"], tiny.st_bytes({"a": {"dtype": "F32", "shape": [1]}}, bytes(4)))
    yield of("shape_overflow", ["overflow"], one(shape=[2**53, 2**53, 2**53]))
    yield of("shape_wraps_to_four", ["overflow"], one(shape=[2**32, 2**32, 1]))
    yield of("bits_overflow", ["overflow"], one(shape=[2**53, 2**9]))
    yield of("exabyte_tensor", ["a"], one(shape=[2**50], data_offsets=[0, 2**52]))
    yield of("negative_dimension", ["whole number"], one(shape=[-1]))
    yield of("rank_9", ["8 dimensions"], one(shape=[1] * 9))
    yield of("rank_100000", ["8 dimensions"], one(shape=[1] * 100000))
    yield of("unknown_dtype", ["dtype"], one(dtype="Q4_K"))
    yield of("dtype_number", ["dtype"], one(dtype=7))
    yield of("size_mismatch", ["span"], one(shape=[2]))
    yield of("half_byte", ["whole number of bytes"], tiny.st_bytes({"a": entry("F4", (3,), 0, 2)}, bytes(2)))
    yield of("metadata_number", ["__metadata__"], tiny.st_bytes({"__metadata__": {"a": 1}}))
    yield of("metadata_array", ["__metadata__"], tiny.st_bytes({"__metadata__": []}))
    yield of("entry_is_text", ["no object"], tiny.st_bytes({"a": "b"}))
    yield of("no_tensors", ["no tensors"], tiny.st_bytes(b"{}"))
    yield of("wrong_shape", ["q_proj", "33"], tiny.st_bytes(*tiny.weights({"model.layers.0.self_attn.q_proj.weight": [33, 32]})))
    yield of("transposed", ["up_proj"], tiny.st_bytes(*tiny.weights({"model.layers.1.mlp.up_proj.weight": [32, 64]})))
    yield of("tensor_missing", ["model.layers.1.mlp.down_proj.weight"], tiny.st_bytes(*tiny.weights({"model.layers.1.mlp.down_proj.weight": None})))
    yield of("integer_weights", ["I32"], tiny.st_bytes(*tiny.weights(dtype="I32")))
    yield of("many_entries", ["model.embed_tokens.weight"], tiny.st_bytes({f"t{i}": entry("U8", (0,), 0, 0) for i in range(100000)}))


# ---- tokenizer -----------------------------------------------------------------------------------------
def tokenizers():
    def of(name, words, value, code=3):
        return Row(f"tokenizer/{name}", TOKENIZE, code, words, lambda w: tiny.model(f"{w}/m", tokens=value))

    def with_(**changes):
        return {**tiny.tokenizer(), **changes}

    def model(**changes):
        return with_(model={**tiny.tokenizer()["model"], **changes})

    def split(pattern):
        return with_(pre_tokenizer={"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"},
                                                                          {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}]})
    yield of("empty", ["tokenizer.json"], "")
    yield of("array", ["tokenizer.json"], "[]")
    yield of("cut", ["tokenizer.json"], json.dumps(tiny.tokenizer())[:500])
    yield of("nested", ["nest"], '{"model":' + deep(100000) + "}")
    yield of("no_model", ["model"], {"version": "1.0"})
    yield of("unigram", ["vocab"], model(type="Unigram"))
    yield of("wordpiece", ["unk"], model(type="WordPiece"))
    yield of("wordlevel", ["unk_token"], model(type="WordLevel"))
    yield of("kind", ["Word2Level"], model(type="Word2Level"), code=2)
    yield of("vocab_list", ["vocab"], model(vocab=["a"]))
    yield of("id_negative", ["tokenizer.json"], model(vocab={"a": -1}))
    yield of("id_2_40", ["tokenizer.json"], model(vocab={"a": 2**40}))
    yield of("id_fraction", ["tokenizer.json"], model(vocab={"a": 0.5}))
    yield of("id_text", ["tokenizer.json"], model(vocab={"a": "0"}))
    yield of("id_twice", ["tokenizer.json"], model(vocab={"a": 0, "b": 0}))
    yield of("merge_unknown", ["merge"], model(merges=["zz yy"]))
    yield of("merge_one_part", ["merge"], model(merges=["abc"]))
    yield of("merge_number", ["merge"], model(merges=[7]))
    yield of("merges_object", ["merges"], model(merges={}))
    yield of("added_without_id", ["added"], with_(added_tokens=[{"content": "<s>"}]))
    yield of("added_negative", ["added"], with_(added_tokens=[{"id": -1, "content": "<s>"}]))
    yield of("added_number", ["added"], with_(added_tokens=[7]))
    yield of("regex_unclosed", ["parenthesis"], split("(a"))
    yield of("regex_backtracking", [], split("(a+)+$|h(?:e|l|o)*"), code=0)
    yield of("regex_bomb", [], split("((((a{1,100}){1,100}){1,100}){1,100})"))
    yield of("unknown_normalizer", ["Rot13"], with_(normalizer={"type": "Rot13"}), code=2)
    yield of("unknown_pre_tokenizer", ["Magic"], with_(pre_tokenizer={"type": "Magic"}), code=2)
    yield of("unknown_decoder", ["Magic"], with_(decoder={"type": "Magic"}), code=2)
    yield of("template_unknown_token", ["<x>"], with_(post_processor={"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<x>", "type_id": 0}}],
                                                                      "pair": [], "special_tokens": {}}))
    yield of("replace_empty", [], with_(normalizer={"type": "Replace", "pattern": {"String": ""}, "content": "boom"}), code=0)


# ---- data sets -----------------------------------------------------------------------------------------
def datasets():
    def of(name, words, data, code=3, args=None):
        return Row(f"dataset/{name}", args or DATA, code, words, lambda w: data is not None and tiny.put(w, "d.jsonl", data))
    row = b'{"text": "hello world"}\n'
    yield of("absent", ["no such file"], None)
    yield of("empty", ["empty"], b"")
    yield of("blank", ["empty"], b"\n \n\t\n")
    yield of("broken_line_3", ["d.jsonl:3:"], row * 2 + b'{"text": \n' + row)
    yield of("cut_line", ["d.jsonl:2:"], row + b'{"text": "hel')
    yield of("plain_text", ["d.jsonl:1:"], b"hello world\n")
    yield of("number_line", ["d.jsonl:1:"], b"7\n")
    yield of("array_line", ["d.jsonl"], b'{"text": "a"}\n["text"]\n')
    yield of("two_on_a_line", ["d.jsonl:1:"], b'{"text": "a"}{"text": "b"}\n')
    yield of("wrong_fields", ["d.jsonl"], b'{"prompt": "a", "completion": "b"}\n')
    yield of("fields_change", ["d.jsonl:2"], row + b'{"question": "q", "answer": "a"}\n')
    yield of("text_is_number", ["d.jsonl"], b'{"text": 7}\n', code=2)
    yield of("text_is_null", ["d.jsonl"], b'{"text": null}\n')
    yield of("gold_outside", ["d.jsonl:1", "choices"], b'{"question": "q", "choices": ["a", "b"], "answer": 2}\n')
    yield of("gold_negative", ["d.jsonl:1", "choices"], b'{"question": "q", "choices": ["a", "b"], "answer": -1}\n')
    yield of("gold_huge", ["d.jsonl:1", "choices"], b'{"question": "q", "choices": ["a", "b"], "answer": 1e308}\n')
    yield of("no_choices", ["d.jsonl:1", "choices"], b'{"question": "q", "choices": [], "answer": 0}\n')
    yield of("zeros", ["d.jsonl"], b"\0" * 1000)
    yield of("zero_in_line", ["d.jsonl:1:"], b'{"text": "a\0b"}\n')
    yield of("invalid_utf8", ["d.jsonl:1:", "UTF-8"], b'{"text": "\xff\xfe"}\n')
    yield of("surrogate", ["d.jsonl:1:"], b'{"text": "\\ud800"}\n')
    yield of("overlong", ["d.jsonl:1:", "UTF-8"], b'{"text": "\xc0\xaf"}\n')
    yield of("duplicate_key", ["d.jsonl:1:"], b'{"text": "a", "text": "b"}\n')
    yield of("nested", ["d.jsonl:1:", "nest"], b'{"text": ' + deep(100000).encode() + b"}\n")
    yield of("huge_line", ["d.jsonl:2:"], row + b'{"text": "' + b"x" * 20_000_000 + b"\n")
    yield of("many_fields", ["d.jsonl"], b"".join(b'{"f%d": 1}\n' % i for i in range(5000)))
    yield of("utf16", ["d.jsonl"], '{"text": "a"}\n'.encode("utf-16"))
    yield Row("dataset/gzip", ["eval", "{m}", "--dataset", "{w}/d.jsonl.gz", "--json", "{w}/out.json"], 3, [".gz", "gzip"],
            lambda w: tiny.put(w, "d.jsonl.gz", b"\x1f\x8b\x08"))
    yield Row("dataset/folder", ["eval", "{m}", "--dataset", "{w}", "--json", "{w}/out.json"], 3, ["folder"])
    yield from (Row(f"dataset/{name}", ["eval", "{m}", "--dataset", "{w}/" + name, "--json", "{w}/out.json"], code, words, lambda w, name=name, data=data: tiny.put(w, name, data))
                for name, code, words, data in [
                    ("open_quote.csv", 3, ["open_quote.csv:2:", "quoted"], b'text\n"a\nb\n'),
                    ("wide.csv", 3, ["wide.csv:3:", "2 cells"], b"text\na\nb,c\n"),
                    ("no_rows.tsv", 3, ["no rows"], b"text\tlabel\n"),
                    ("latin.csv", 3, ["latin.csv:2:", "UTF-8"], b"text\n\xe9t\xe9\n"),
                    ("cut.parquet", 3, ["cut.parquet", "PAR1"], b"PAR1\0\0\0\0\0\0\0\0"),
                    ("footer.parquet", 3, ["footer.parquet", "footer"], b"PAR1\0\0\0\0\xff\xff\xff\x7fPAR1"),
                    ("rows.arrow", 2, [".arrow"], b"ARROW1"),
                    ("bomb.txt.zst", 3, ["bomb.txt.zst", "zstd"], b"\x28\xb5\x2f\xfd\xff")])
    yield Row("dataset/no_split", ["eval", "{m}", "--dataset", "{w}:dev", "--json", "{w}/out.json"], 3, ["dev", "train"], lambda w: tiny.put(w, "train.jsonl", row))
    yield Row("dataset/device", ["eval", "{m}", "--dataset", "/dev/zero", "--json", "{w}/out.json"], 3, ["/dev/zero"])
    yield Row("dataset/known_task", ["eval", "{m}", "--dataset", "gsm8k", "--json", "{w}/out.json"], 3, ["gsm8k"])
    yield of("too_short", ["window"], b'{"text": "a"}\n', code=2)
    yield Row("dataset/calibration_broken", ["quantize", "{m}", "--method", "gptq", "--calibration", "{w}/d.jsonl", "--output", "{w}/q"], 3, ["d.jsonl:2:"],
              lambda w: tiny.put(w, "d.jsonl", row + b"{"), absent=("q",))


# ---- pipeline.json -------------------------------------------------------------------------------------
def pipelines():
    def of(name, words, changes=None, text=None, code=2, args=None):
        def make(w):
            base = {"model": GOOD["m"], "dataset": GOOD["d"], **(changes or {})}
            tiny.put(w, "p.json", text if text is not None else {k: v for k, v in base.items() if v is not Ellipsis})
        return Row(f"pipeline/{name}", args or PLAN, code, words, make, absent=("run",))
    yield of("empty", ["p.json"], text="")
    yield of("array", ["no JSON object"], text="[]")
    yield of("cut", ["p.json:1:"], text='{"model": ')
    yield of("zeros", ["p.json"], text=b"\0" * 64)
    yield of("binary", ["p.json"], text=bytes(range(256)))
    yield of("nested", ["nest"], text='{"steps": ' + deep(100000) + "}")
    yield of("comment_open", ["p.json"], text='{"model": "m" /* never closed')
    yield of("huge", ["p.json"], text='{"model": "' + "x" * (5 << 20) + '"}')
    yield of("misspelt", ["modle", "model"], {"modle": "x"})
    yield of("no_model", ["model", "missing"], {"model": ...})
    yield of("no_dataset", ["dataset", "missing"], {"dataset": ...})
    yield of("model_number", ["model"], {"model": 7})
    yield of("model_empty", ["model"], {"model": ""})
    yield of("negative_trials", ["trials"], {"budget": {"trials": -1}})
    yield of("fraction_trials", ["trials"], {"budget": {"trials": 1.5}})
    yield of("huge_trials", ["trials"], {"budget": {"trials": 1e308}})
    yield of("bad_size", ["max_vram"], {"constraints": {"max_vram": "8 elephants"}})
    yield of("bad_time", ["wall"], {"budget": {"wall": "soon"}})
    yield of("negative_drop", ["max_accuracy_drop"], {"constraints": {"max_accuracy_drop": -0.1}})
    yield of("objective_unknown", ["beauty"], {"objectives": ["beauty", "bytes"]})
    yield of("objective_twice", ["twice"], {"objectives": ["bytes", "bytes"]})
    yield of("objectives_none", ["objectives"], {"objectives": []})
    yield of("dataset_names_collide", ["called"], {"dataset": ["a/x.jsonl", "b/x.jsonl"]})
    yield of("unknown_method", ["frobnicate"], {"steps": [{"use": "method/frobnicate"}]})
    yield of("unknown_search", ["frobnicate"], {"search": {"use": "frobnicate"}})
    yield of("parameter_out_of_range", ["bits"], {"steps": [{"use": "rtn", "with": {"bits": 77}}]})
    yield of("parameter_unknown", ["bitz"], {"steps": [{"use": "rtn", "with": {"bitz": 4}}]})
    yield of("model_absent", ["/nowhere/m"], {"model": "/nowhere/m"}, code=3)
    yield of("run_model_absent", ["/nowhere/m"], {"model": "/nowhere/m"}, code=3, args=RUN)
    yield of("run_dataset_absent", ["/nowhere/d.jsonl"], {"dataset": "/nowhere/d.jsonl"}, code=3, args=RUN)
    yield of("duplicate_key", ["model"], text='{"model": "a", "model": "b", "dataset": "d"}')
    yield of("compute_unknown", ["compute"], {"hardware": {"compute": "fp7"}})
    yield Row("pipeline/absent", PLAN, 2, ["p.json"])
    yield Row("pipeline/folder", ["plan", "--config", "{w}"], 2, ["{w}"])


# ---- plugin folder -------------------------------------------------------------------------------------
def plugins():
    def of(name, words, data, mode=0o644):
        def make(w):
            path = tiny.put(w, "p/bad.so", data)
            os.chmod(path, mode)
        return Row(f"plugin/{name}", ["plugin", "list", "--plugin-path", "{w}/p"], 0, ["bad.so", *words], make)
    real = open(glob.glob(os.path.join(GOOD["plugins"], "method_rtn.so"))[0], "rb").read()
    yield of("text", ["no ELF header"], "#!/bin/sh\n" + "echo owned\n" * 10)
    yield of("empty", ["0 bytes"], b"")
    yield of("cut_header", ["bytes"], real[:40])
    yield of("cut_half", ["cut short"], real[: len(real) // 2])
    yield of("wrong_machine", ["another processor"], elf(machine=40))
    yield of("wrong_class", ["another processor"], elf()[:4] + b"\x01" + elf()[5:])
    yield of("executable", ["-shared"], elf()[:16] + b"\x02\0" + elf()[18:])
    yield of("major_2", ["ABI 2"], elf(b"sqz-abi 2.0\0"))
    yield of("major_0", ["ABI 0"], elf(b"sqz-abi 0.1\0"))
    yield of("newer_minor", ["1.999", "newer sqz"], elf(b"sqz-abi 1.999\0"))
    yield of("stamp_garbage", ["stamp reads"], elf(b"\x1b]0;owned\x07\xff\0"))
    yield of("stamp_negative", ["stamp reads"], elf(b"sqz-abi -1.-1\0"))
    yield of("stamp_huge", ["stamp reads"], elf(b"sqz-abi 99999999999999999999.0\0"))
    yield of("no_stamp", ["no .sqz.abi stamp"], elf().replace(b".sqz.abi", b".sqz.xyz"))
    yield of("only_stamp", ["cannot be loaded"], elf())
    yield of("section_outside", ["end"], elf()[:40] + struct.pack("<Q", 2**63) + elf()[48:])
    yield of("section_wraps", ["end"], elf()[:40] + struct.pack("<Q", 2**64 - 64) + elf()[48:])
    yield of("zeros", ["no ELF header"], bytes(4096))
    yield of("world_writable", ["writable by everyone", "chmod"], real, 0o666)

    def folder(w):
        os.makedirs(f"{w}/p/bad.so")
    yield Row("plugin/folder", ["plugin", "list", "--plugin-path", "{w}/p"], 0, ["method"], folder)

    def dangling(w):
        os.makedirs(f"{w}/p")
        os.symlink("/nowhere.so", f"{w}/p/bad.so")
    yield Row("plugin/dangling_link", ["plugin", "list", "--plugin-path", "{w}/p"], 0, ["bad.so"], dangling)
    yield Row("plugin/method_absent", ["quantize", "{m}", "--method", "nothing", "--output", "{w}/q"], 2, ["nothing"], absent=("q",))
    yield Row("plugin/path_absent", ["plugin", "list", "--plugin-path", "{w}/nowhere"], 2, ["nowhere"])
    yield Row("plugin/info_absent", ["plugin", "info", "nothing"], 2, ["nothing"])


# ---- command line --------------------------------------------------------------------------------------
def command_lines():
    def of(name, args, words, code=2, **kw):
        return Row(f"command/{name}", args, code, words, **kw)
    yield of("unknown_word", ["quantise"], ["quantise", "quantize"])
    yield of("unknown_option", ["eval", "{m}", "--datasett", "x"], ["--datasett", "--dataset"])
    yield of("value_missing", ["eval", "{m}", "--dataset"], ["--dataset"])
    yield of("model_missing", ["eval"], ["MODEL"])
    yield of("one_too_many", ["eval", "{m}", "{m}", "--dataset", "{d}"], ["{m}"])
    yield of("number_is_text", ["eval", "{m}", "--dataset", "{d}", "--limit", "many"], ["--limit", "many"])
    yield of("number_negative", ["eval", "{m}", "--dataset", "{d}", "--limit", "-1"], ["--limit"])
    yield of("number_overflows", ["eval", "{m}", "--dataset", "{d}", "--limit", "99999999999999999999"], ["--limit"])
    yield of("number_fraction", ["eval", "{m}", "--dataset", "{d}", "--window", "1.5"], ["--window"])
    yield of("number_trailing", ["eval", "{m}", "--dataset", "{d}", "--window", "16x"], ["--window"])
    yield of("enum_unknown", ["eval", "{m}", "--dataset", "{d}", "--compute", "fp7"], ["--compute", "fp7"])
    yield of("no_dataset", ["eval", "{m}"], ["--dataset"])
    yield of("empty_dataset", ["eval", "{m}", "--dataset", ""], ["--dataset"])
    yield of("temperature_negative", ["generate", "{m}", "--prompt", "a", "--temperature", "-1"], ["--temperature"])
    yield of("temperature_nan", ["generate", "{m}", "--prompt", "a", "--temperature", "nan"], ["--temperature"])
    yield of("top_p_2", ["generate", "{m}", "--prompt", "a", "--top-p", "2"], ["--top-p"])
    yield of("prompt_none", ["generate", "{m}"], ["--prompt"])
    yield of("prompt_both", ["generate", "{m}", "--prompt", "a", "--prompt-file", "b"], ["--prompt"])
    yield of("prompt_file_absent", ["generate", "{m}", "--prompt-file", "{w}/nowhere"], ["nowhere"], code=3)
    yield of("prompt_too_long", ["generate", "{m}", "--prompt", "a" * 1000], ["128"])
    yield of("bits_5", ["quantize", "{m}", "--method", "rtn", "--bits", "5", "--output", "{w}/q"], ["bits"], absent=("q",))
    yield of("bits_huge", ["quantize", "{m}", "--method", "rtn", "--bits", "2147483648", "--output", "{w}/q"], ["bits"], absent=("q",))
    yield of("group_zero", ["quantize", "{m}", "--method", "rtn", "--group-size", "0", "--output", "{w}/q"], ["group"], absent=("q",))
    yield of("param_unknown", ["quantize", "{m}", "--method", "rtn", "--param", "x=1", "--output", "{w}/q"], ["x"], absent=("q",))
    yield of("param_no_value", ["quantize", "{m}", "--method", "rtn", "--param", "bits", "--output", "{w}/q"], ["--param"], absent=("q",))
    yield of("format_unknown", ["quantize", "{m}", "--method", "rtn", "--format", "zip", "--output", "{w}/q"], ["zip"], absent=("q",))
    yield of("output_missing", ["quantize", "{m}", "--method", "rtn"], ["--output"])

    def full(w):
        tiny.put(w, "q/precious.txt", "keep me")
    yield of("output_not_empty", ["quantize", "{m}", "--method", "rtn", "--output", "{w}/q"], ["q"], make=full)
    yield of("output_is_model", ["quantize", "{w}/m", "--method", "rtn", "--output", "{w}/m"], ["m"], make=lambda w: tiny.model(f"{w}/m"))
    yield of("json_nowhere", ["eval", "{m}", "--dataset", "{d}", "--window", "16", "--json", "{w}/no/such/out.json"], ["no/such"], code=7)
    yield of("set_no_value", ["plan", "--model", "{m}", "--dataset", "{d}", "--set", "budget"], ["budget"])
    yield of("set_unknown", ["plan", "--model", "{m}", "--dataset", "{d}", "--set", "budgett.trials=3"], ["budget"])
    yield of("set_index", ["plan", "--model", "{m}", "--dataset", "{d}", "--set", "dataset[99999999999].limit=3"], ["dataset"])
    yield of("set_deep", ["plan", "--model", "{m}", "--dataset", "{d}", "--set", "a" + ".a" * 1000 + "=1"], ["a.a"])
    yield of("set_json", ["plan", "--model", "{m}", "--dataset", "{d}", "--set", "steps=[{"], ["steps"])
    yield of("budget_bad", ["plan", "--model", "{m}", "--dataset", "{d}", "--budget", "forever"], ["forever"])
    yield of("decode_not_ids", ["tokenize", "{m}", "--decode", "--text", "hello"], ["array"])
    yield of("decode_outside", ["tokenize", "{m}", "--decode", "--text", "[99999]"], ["entry 0"])
    yield of("decode_negative", ["tokenize", "{m}", "--decode", "--text", "[-1]"], ["entry 0"])
    yield of("decode_fraction", ["tokenize", "{m}", "--decode", "--text", "[1.5]"], ["entry 0"])
    yield of("text_invalid_utf8", ["tokenize", "{m}", "--text", b"\xff\xfe"], ["UTF-8"], code=3)

    def ids(value):
        return lambda w: tiny.put(w, "ids.safetensors", value)
    logits = ["logits", "{m}", "--input-ids", "{w}/ids.safetensors", "--output", "{w}/l.safetensors"]
    i64 = struct.pack("<4q", 1, 2, 3, 4)
    yield of("logits_outside", logits, ["260"], code=3, absent=("l.safetensors",),
             make=ids(tiny.st_bytes({"input_ids": entry("I64", (1, 4), 0, 32)}, struct.pack("<4q", 1, 2, 3, 260))))
    yield of("logits_negative", logits, ["-1"], code=3, absent=("l.safetensors",),
             make=ids(tiny.st_bytes({"input_ids": entry("I64", (1, 4), 0, 32)}, struct.pack("<4q", 1, 2, 3, -1))))
    yield of("logits_2_32", logits, ["4294967296"], code=3, absent=("l.safetensors",),
             make=ids(tiny.st_bytes({"input_ids": entry("I64", (1, 4), 0, 32)}, struct.pack("<4q", 1, 2, 3, 1 << 32))))
    yield of("logits_floats", logits, ["input_ids"], code=3, absent=("l.safetensors",),
             make=ids(tiny.st_bytes({"input_ids": entry("F32", (8,), 0, 32)}, i64)))
    yield of("logits_rank_3", logits, ["input_ids"], code=3, absent=("l.safetensors",),
             make=ids(tiny.st_bytes({"input_ids": entry("I64", (1, 2, 2), 0, 32)}, i64)))
    yield of("logits_no_rows", logits, ["input_ids"], code=3, absent=("l.safetensors",),
             make=ids(tiny.st_bytes({"input_ids": entry("I64", (0, 4), 0, 0)}, b"")))
    yield of("logits_other_name", logits, ["input_ids"], code=3, absent=("l.safetensors",),
             make=ids(tiny.st_bytes({"ids": entry("I64", (1, 4), 0, 32)}, i64)))


# ---- registry ------------------------------------------------------------------------------------------
def copy_store(w):
    shutil.copytree(GOOD["store"], f"{w}/store", symlinks=True)
    return f"{w}/store"


def objects(store):
    return sorted(p for p in glob.glob(f"{store}/objects/sha256/*/*"))


def registries():
    use = ["--registry", "{w}/store"]

    def spoil(change):
        def make(w):
            path = objects(copy_store(w))[0]
            os.chmod(path, 0o644)
            change(path)
        return make

    def flip(path):
        with open(path, "r+b") as f:
            f.seek(3)
            byte = f.read(1)
            f.seek(3)
            f.write(bytes([byte[0] ^ 1]))
    verify = ["registry", "verify", *use]
    yield Row("registry/bit_flip", verify, 7, ["corrupt"], spoil(flip))
    yield Row("registry/cut_object", verify, 7, ["corrupt"], spoil(lambda p: os.truncate(p, 1)))
    yield Row("registry/lost_object", verify, 7, [], spoil(os.unlink))
    yield Row("registry/object_is_link", verify, 7, [], spoil(lambda p: (os.unlink(p), os.symlink("/etc/passwd", p))))

    def database(*sql):
        def make(w):
            import sqlite3
            db = sqlite3.connect(f"{copy_store(w)}/registry.db")
            for s in sql:
                db.execute(s)
            db.commit()
            db.close()
        return make
    yield Row("registry/newer_schema", ["registry", "ls", *use], 7, ["newer sqz"], database("PRAGMA user_version=99"))
    yield Row("registry/no_tables", ["registry", "ls", *use], 7, ["registry.db"], database("PRAGMA foreign_keys=OFF", "DROP TABLE tags"))
    yield Row("registry/foreign_database", ["registry", "ls", *use], 7, ["registry.db"],
              lambda w: tiny.put(copy_store(w), "registry.db", "this is no database, but long enough to look at" * 100))
    yield Row("registry/text_for_blob", ["registry", "ls", *use], 0, [], database("UPDATE artifacts SET steps='[', bytes='x', model=NULL, label=x'ff'"))
    yield Row("registry/is_a_file", ["registry", "ls", *use], 7, ["store"], lambda w: tiny.put(w, "store", "x"))
    yield Row("registry/show_absent", ["registry", "show", "nothing", *use], 2, ["nothing"], copy_store)
    yield Row("registry/show_path", ["registry", "show", "sha256:../../../../etc/passwd", *use], 2, ["etc/passwd"], copy_store)
    yield Row("registry/show_short", ["registry", "show", "a", *use], 2, ["a"], copy_store)

    def action(text):
        def make(w):
            store = copy_store(w)
            for path in glob.glob(f"{store}/actions/*/*"):
                os.chmod(path, 0o644)
                with open(path, "wb") as f:
                    f.write(text)
        return make
    again = ["quantize", "{m}", "--method", "rtn", "--output", "{w}/q", *use]
    for name, text in (("cut", b'{"sche'), ("empty", b""), ("array", b"[]"), ("types", b'{"artifact":7,"objects":"x","layers":{}}'), ("nested", deep(100000).encode())):
        yield Row(f"registry/action_{name}", again, 0, [], action(text), absent=())
    yield Row("registry/object_spoilt_then_used", again, 0, [], lambda w: [(os.chmod(p, 0o644), flip(p)) for p in objects(copy_store(w))], absent=())


# ---- run folder ----------------------------------------------------------------------------------------
def run_folders():
    report, resume = ["report", "{w}/run"], ["run", "--resume", "{w}/run", "--yes"]

    def of(name, args, code, words, change):
        def make(w):
            shutil.copytree(GOOD["run"], f"{w}/run")
            change(f"{w}/run")
        return Row(f"run/{name}", args, code, words, make, absent=())

    def put(name, data):
        return lambda run: tiny.put(run, name, data)

    def cut(name, keep):
        return lambda run: os.truncate(os.path.join(run, name), keep)

    def drop(*names):
        return lambda run: [os.unlink(os.path.join(run, n)) for n in names]
    yield Row("run/absent", report, 3, ["no such run folder"])
    yield Row("run/empty", report, 3, ["no run folder"], lambda w: os.makedirs(f"{w}/run"))
    yield Row("run/resume_absent", resume, 2, ["run"])
    yield Row("run/resume_empty", resume, 2, ["run"], lambda w: os.makedirs(f"{w}/run"))
    yield of("report_pareto_cut", report, 3, ["pareto.json"], cut("pareto.json", 50))
    yield of("report_pareto_array", report, 3, ["pareto.json"], put("pareto.json", "[]"))
    yield of("report_members_types", report, 0, [], put("pareto.json", '{"members": [7, "x", null, [], {"metrics": 7, "path": 7, "label": {}}]}'))
    yield of("report_members_text", report, 0, [], put("pareto.json", '{"members": "x", "baseline": 7, "objectives": {}}'))
    yield of("report_huge_numbers", report, 0, [],
             put("pareto.json", '{"objectives":["quality","bytes"],"members":[{"metrics":{"quality":1e308,"bytes":-1e308}},{"metrics":{"quality":-1e308,"bytes":1e308}}]}'))
    yield of("report_path_up", report, 0, [], put("pareto.json", '{"members": [{"path": "../../../../etc", "metrics": {}}]}'))
    yield of("report_run_types", report, 0, [], put("run.json", '{"id": 7, "model": [], "plan": "x", "state": {}}'))
    yield of("report_metrics_text", report, 3, ["metrics.json"], put("metrics.json", '"text"'))
    yield of("report_trials_torn", report, 0, [], cut("trials.jsonl", 300))
    yield of("report_trials_types", report, 0, [], put("trials.jsonl", '{"metrics":7,"rungs":[],"label":{},"outcome":9}\n7\n"x"\nnull\n{"metrics":{"quality":"x","bytes":[]}}\n'))
    yield of("report_no_trials", report, 0, [], drop("trials.jsonl", "metrics.json", "environment.json"))
    yield of("resume_no_journal", resume, 2, ["journal"], drop("journal.jsonl"))
    yield of("resume_empty_journal", resume, 9, ["journal"], put("journal.jsonl", ""))
    yield of("resume_garbage_journal", resume, 9, ["journal"], put("journal.jsonl", b"\0\xff" * 500))
    yield of("resume_torn_journal", resume, 0, [], lambda run: cut("journal.jsonl", os.path.getsize(f"{run}/journal.jsonl") - 7)(run))
    yield of("resume_half_journal", resume, 0, [], lambda run: cut("journal.jsonl", os.path.getsize(f"{run}/journal.jsonl") // 2)(run))
    yield of("resume_no_run_json", resume, 0, [], drop("run.json", "trials.jsonl"))

    def foreign(value):
        """One record with a right checksum: only its meaning is wrong."""
        def change(run):
            canonical = json.dumps({"seq": 0, **value}, sort_keys=True, separators=(",", ":"))
            tiny.put(run, "journal.jsonl", json.dumps({"seq": 0, "crc": f"{crc32c(canonical.encode()):08x}", **value}, separators=(",", ":")) + "\n")
        return change
    yield of("resume_other_type", resume, 9, ["journal"], foreign({"type": "finish"}))
    yield of("resume_open_empty", resume, 9, ["journal"], foreign({"type": "open"}))
    yield of("resume_open_types", resume, 9, ["journal"], foreign({"type": "open", "config": 7, "spec": [], "fingerprint": "x", "id": {}}))


GOOD = {}


def prepare(sqz, work):
    """What is right: model, data, a registry with artifacts, a finished run."""
    GOOD.update(m=tiny.model(f"{work}/good/m"), store=f"{work}/good/store", run=f"{work}/good/run",
                plugins=os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(sqz))), "lib/sqz/plugins"))
    GOOD["d"] = tiny.put(f"{work}/good", "d.jsonl", "".join(json.dumps({"text": f"row {i} says hello to the world"}) + "\n" for i in range(40)))
    GOOD["c"] = tiny.put(f"{work}/good", "c.jsonl", "".join(json.dumps({"text": f"line {i} is about something else"}) + "\n" for i in range(40)))
    common.run(sqz, ["quantize", GOOD["m"], "--method", "rtn", "--output", f"{work}/good/q"], GOOD["store"])
    config = tiny.put(f"{work}/good", "p.json", {"model": GOOD["m"], "dataset": {"source": GOOD["d"], "window": 64, "limit": 4}, "eval": {"window": 64},
                                                 "calibration": {"source": GOOD["c"], "samples": 4, "seq_len": 64}, "steps": [{"use": "rtn"}],
                                                 "constraints": {"max_accuracy_drop": 1}, "objectives": ["quality", "bytes"], "budget": {"trials": 2}})
    common.run(sqz, ["--config", config, "--output", GOOD["run"], "--yes"], f"{work}/good/run_store")


def fill(value, w):
    if isinstance(value, bytes):
        return value
    for key, text in {**GOOD, "w": w}.items():
        value = value.replace("{" + key + "}", text)
    return value


def whole(path, failed):
    """A file that claims to be JSON parses, and says what failed; a model folder's parts are all there."""
    if path.endswith(".json"):
        with open(path, encoding="utf-8") as f:
            value = json.load(f)
        assert not failed or os.path.basename(path) != "out.json" or value.get("error"), "a result without the error that ended it"
    if path.endswith(".safetensors"):
        with open(path, "rb") as f:
            n = struct.unpack("<Q", f.read(8))[0]
            header = json.loads(f.read(n))
        end = max([t["data_offsets"][1] for k, t in header.items() if k != "__metadata__"], default=0)
        assert os.path.getsize(path) == 8 + n + end, f"{path} is cut short"


def check(sqz, row, work, show):
    w = common.fresh(os.path.join(work, row.name.replace("/", ".")))
    before = set()
    if row.make:
        row.make(w)
        before = {os.path.join(d, f) for d, _, files in os.walk(w) for f in files}
    env = dict(os.environ, SQZ_REGISTRY=f"{work}/store", XDG_CACHE_HOME=f"{work}/cache", NO_COLOR="1", HF_HUB_OFFLINE="1", GOMP_SPINCOUNT="1000",
               ASAN_OPTIONS="detect_leaks=1:exitcode=99:allocator_may_return_null=1", UBSAN_OPTIONS="print_stacktrace=1:exitcode=99", **row.env)
    if row.args[:2] == ["run", "--resume"]:
        env["SQZ_REGISTRY"] = f"{work}/good/run_store"
    args = [fill(a, w) for a in row.args]
    limit = RESUME_SECONDS if "--resume" in args else SECONDS
    try:
        p = subprocess.run([sqz, *args], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=WALL_SECONDS,
                           preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5)))
    except subprocess.TimeoutExpired:
        return f"hangs: more than {WALL_SECONDS} s"
    text = (p.stdout + p.stderr).decode(errors="replace")
    if show:
        print(f"--- {row.name}: exit {p.returncode}\n{text.strip()[:1500]}", flush=True)
    if p.returncode == -signal.SIGXCPU:
        return f"used more than {limit} s of processor time\n{text[-500:]}"
    if p.returncode < 0:
        return f"killed by signal {-p.returncode}\n{text[-2000:]}"
    for bad in ("Sanitizer", "runtime error:", "crashed with SIG"):
        if bad in text:
            return f"{bad}\n{text[-3000:]}"
    if p.returncode != row.code:
        return f"exit {p.returncode}, expected {row.code}\n{text[-1200:]}"
    missing = [fill(word, w) for word in row.words if fill(word, w) not in text]
    if missing:
        return f"does not say {missing}\n{text[-1200:]}"
    if row.code and not p.stderr.startswith((b"error: ", b"sqz: ")) and b"\nerror: " not in p.stderr:
        return f"no line that begins with 'error:'\n{text[-1200:]}"
    if row.code and not show and any(c < 32 and c not in (9, 10) for c in p.stdout + p.stderr):
        return f"control characters in the message: {text[-500:]!r}"
    if row.code:
        left = [f for f in row.absent if os.path.lexists(os.path.join(w, f))]
        if left:
            return f"left behind: {left}"
    for d, _, files in os.walk(w):
        for f in files:
            path = os.path.join(d, f)
            if path in before and f not in ("report.html", "report.md"):
                continue
            if ".tmp." in f:
                return f"a temporary file is left: {path}"
            try:
                whole(path, row.code != 0)
            except (ValueError, AssertionError) as e:
                return f"half-written: {path}: {e}"
    shutil.rmtree(w, ignore_errors=True)
    return None


def main(sqz, work, pattern):
    work = common.fresh(work)
    prepare(sqz, work)
    rows = [r for part in (configs, folders, safetensors, tokenizers, datasets, pipelines, plugins, command_lines, registries, run_folders) for r in part()]
    names = [r.name for r in rows]
    assert len(set(names)) == len(names), "two rows of one name"
    chosen = [r for r in rows if not pattern or pattern in r.name]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda r: check(sqz, r, work, pattern is not None), chosen))
    bad = [(r, f) for r, f in zip(chosen, found) if f]
    for r, f in bad:
        print(f"{r.name}: sqz {' '.join(map(str, r.args))}\n  {f}\n")
    left = glob.glob(f"{work}/store/tmp/*")
    if left and not bad:
        bad.append((None, None))
        print(f"temporary files in the registry: {left[:5]}")
    print(f"{len(chosen) - len([1 for r, _ in bad if r])} of {len(chosen)} bad inputs are refused as written")
    sys.exit(bool(bad))


main(os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None)
