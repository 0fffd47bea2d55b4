"""Small tokenizers of each kind and their reference encodings (tests/golden/tokenizer/NAME/), for test_tokenizer.

    python make_tokenizers.py [NAME]...     (pip install tokenizers transformers sentencepiece protobuf)

Trained on the word list of tests/interop/compare_tokenizers.py; the texts are its first ones and random ones.  vectors.jsonl
has the layout of tiny-arith.jsonl: text, ids, ids_special, decoded (of ids, special tokens kept).
"""
import json
import os
import shutil
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
import importlib.util  # noqa: E402

spec = importlib.util.spec_from_file_location("comparison", os.path.join(HERE, "../interop/compare_tokenizers.py"))
comparison = importlib.util.module_from_spec(spec)
spec.loader.exec_module(comparison)
TEXTS = 60
# SentencePiece's own charsmap is 240 KB; these rules make a small one with the same kinds of entries.
RULES = [("ﬁ", "fi"), ("½", "1⁄2"), ("①", "1"), ("e\u0301", "\u00e9"), ("\u3000", " "), ("\u00a0", " "), ("\u00ad", ""), ("\u200b", ""), ("\t", " "), ("\r", " "),
         ("\n", " "), ("ｆ", "f"), ("\u1100\u1161\u11a8", "\uac01"), ("ﬁ\u0301", "fí"), ("🇩🇪", "DE")]


def write_vectors(folder, reference):
    with open(os.path.join(folder, "vectors.jsonl"), "w", encoding="utf-8") as f:
        for t in comparison.texts(TEXTS):
            ids, special = reference.encode(t, add_special_tokens=False).ids, reference.encode(t).ids
            row = dict(text=t, ids=ids, ids_special=special, decoded=reference.decode(ids, skip_special_tokens=False))
            f.write(json.dumps(row) + "\n")


def fresh(name):
    folder = os.path.join(HERE, "tokenizer", name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    return folder


def main():
    import transformers
    from tokenizers import Tokenizer
    with tempfile.TemporaryDirectory() as work:
        tsv = os.path.join(work, "rules.tsv")
        with open(tsv, "w", encoding="utf-8") as f:
            for a, b in RULES:
                f.write(" ".join("%X" % ord(c) for c in a) + "\t" + " ".join("%X" % ord(c) for c in b) + "\n")
        rules = dict(normalization_rule_tsv=tsv)
        wanted = lambda name: not sys.argv[1:] or name in sys.argv[1:]
        for name, make in comparison.made(600, **rules):
            if not wanted(name):
                continue
            folder = fresh(name)
            with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as f:
                f.write(json.dumps(json.loads(make().to_str()), separators=(",", ":"), ensure_ascii=False) + "\n")
            write_vectors(folder, Tokenizer.from_file(os.path.join(folder, "tokenizer.json")))
        for name, cls, model, config in comparison.sentencepiece_models(600, **rules):
            if not wanted(name):
                continue
            folder = fresh(name)
            comparison.write_sentencepiece(folder, cls, model, config)
            write_vectors(folder, getattr(transformers, cls).from_pretrained(folder).backend_tokenizer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
