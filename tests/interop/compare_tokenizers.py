"""Tokenizers against the `tokenizers` package and transformers on random Unicode text: every id and every decoded byte.

    python compare_tokenizers.py [--stream build/tests/tokenizer_stream] [--texts 10000] [--only NAME,...] [--out build/interop]

Trains small Unigram, WordPiece and BPE tokenizers and SentencePiece models on text written here (so that each
component listed in docs/tokenizers.md is met), and takes published ones from $SQZ_SHARED/data/tokenizers where that
folder exists.  Each text is encoded with and without special tokens and decoded.  Prints a table, writes it to
OUT/tokenizers.md, exits 1 on any difference.
"""
import argparse
import io
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import threading
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WORDS = """the of and a to in he was it his that with as had for you said not on at but is him they be all out there were up one down
would what have then when which so from them no me this little by like been who an into now time could man old see about before over
day way went came went back their hand head again never good great house door night white black water morning children garden
running jumped quickly quietly nothing something everything because through thought though unhappiness rearranged internationalization
naïve café façade Zürich Ærø jalapeño smörgåsbord Привет мир это небольшой текст по-русски Ελληνικά γράμματα 日本語 の テキスト 東京 中文 字符 한국어 문장
עברית العربية हिन्दी ไทย 3.14 42 1,000 2026 don't it's we're I'll they've""".split()


def corpus(n=20000):
    rng = random.Random(1)
    out = []
    for _ in range(n // 12):
        line = " ".join(rng.choice(WORDS) for _ in range(rng.randrange(4, 20)))
        out.append(line[0].upper() + line[1:] + rng.choice([".", "!", "?", ", and so on.", "; \"quoted\" (really)."]))
    return out


POOLS = [(32, 127), (32, 127), (0xA0, 0x250), (0x300, 0x370), (0x370, 0x530), (0x590, 0x6FF), (0x900, 0xE00), (0xE00, 0xF00), (0x1100, 0x1200), (0x1E00, 0x2000),
         (0x2000, 0x2070), (0x2070, 0x2C00), (0x3000, 0x3400), (0x4E00, 0xA000), (0xA640, 0xAB70), (0xAC00, 0xD7B0), (0xF900, 0xFFFE), (0x10000, 0x10400),
         (0x1D400, 0x1D800), (0x1F100, 0x1F700), (0x20000, 0x20200), (0xE000, 0xE010), (0, 0x30000), (0x10FFF0, 0x110000), (9, 14)]
PIECES = ["  ", "   ", "\n\n", "\r\n", "\t", "'s", "'LL", "n't", " do not", " .", " ,", "e\u0301", "\u0301", "ﬁ", "½", "①", "ẞ", "İ", "ſ", "\u200d", "\u200b", "▁", "▁▁", "Ġ", "##", "<s>", "</s>",
          "<unk>", "[CLS]", "[MASK]", " [MASK] ", "<|x|>", "<pad>", "<extra_id_5>", "<0x41>", "👩‍👩‍👧", "🇩🇪", "12345", "3.5", "\u0000", "\u00ad", "\u3000", "\u00a0", "</w>", "|", "\ufffd", "क्षि", "\u1100\u1161\u11a8", "\uac01"]


def texts(n):
    rng = random.Random(7)
    out = ["", " ", "a", "\n", "hello world", " leading", "trailing ", "a" * 300, " " * 100, "\u0301" * 60, "日" * 120]
    while len(out) < n:
        parts = []
        for _ in range(rng.randrange(1, 24)):
            k = rng.random()
            if k < .45:
                parts.append(rng.choice(WORDS))
                parts.append(rng.choice([" ", " ", " ", "", "-", "  "]))
            elif k < .6:
                parts.append(rng.choice(PIECES))
            else:
                lo, hi = rng.choice(POOLS)
                parts.extend(chr(rng.randrange(lo, hi)) for _ in range(rng.randrange(1, 6)))
        t = "".join(c for c in "".join(parts) if not 0xD800 <= ord(c) <= 0xDFFF)
        out.append(t)
    return out


def stream(program, folder, inputs):
    """(ids, ids with special tokens, decoded bytes) of each text."""
    p = subprocess.Popen([program, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def feed():
        try:
            for t in inputs:
                b = t.encode()
                p.stdin.write(struct.pack("<I", len(b)) + b)
            p.stdin.close()
        except BrokenPipeError:
            pass
    threading.Thread(target=feed, daemon=True).start()
    data = io.BytesIO(p.stdout.read())
    message = p.stderr.read().decode()
    if p.wait():
        return message
    out = []
    for _ in inputs:
        row = []
        for size in (4, 4, 1):
            n = struct.unpack("<I", data.read(4))[0]
            raw = data.read(n * size)
            row.append(list(struct.unpack(f"<{n}i", raw)) if size == 4 else raw)
        out.append(row)
    return out


# ---- tokenizers trained here

def train(model, trainer, **stages):
    t = Tokenizer(model)
    for k, v in stages.items():
        if k != "post_processor":
            setattr(t, k, v)
    t.train_from_iterator(corpus(), trainer)
    if "post_processor" in stages:
        t.post_processor = stages["post_processor"](t)
    return t


def ends(single, *names):
    return lambda t: processors.TemplateProcessing(single=single, pair=single + " $B", special_tokens=[(n, t.token_to_id(n)) for n in names])


def charsmap(**rules):
    """SentencePiece's own rules, or those of normalization_rule_tsv."""
    from sentencepiece import sentencepiece_model_pb2 as pb
    m = pb.ModelProto()
    m.ParseFromString(spm("unigram", 300, **rules))
    return m.normalizer_spec.precompiled_charsmap


def spm(kind, size, **kw):
    import sentencepiece
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(corpus()), model_writer=out, model_type=kind, vocab_size=size, hard_vocab_limit=False,
                                             minloglevel=2, num_threads=1, **kw)
    return out.getvalue()


def split(expression, how="isolated", invert=False):
    return pre_tokenizers.Split(Regex(expression), how, invert)


LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CL100K = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
QUIET = dict(show_progress=False)


def made(size=3000, **rules):
    """name: function that returns a Tokenizer (trained when it is asked for)."""
    N, P, D = normalizers, pre_tokenizers, decoders
    byte_alphabet = P.ByteLevel.alphabet()
    bpe = lambda **k: trainers.BpeTrainer(vocab_size=size, initial_alphabet=byte_alphabet, special_tokens=["<s>", "</s>", "<|x|>"], **QUIET, **k)
    uni = lambda **k: trainers.UnigramTrainer(vocab_size=size // 2, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", **QUIET, **k)
    wp = lambda **k: trainers.WordPieceTrainer(vocab_size=size // 2, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], **QUIET, **k)
    yield "gpt2", lambda: train(models.BPE(), bpe(), pre_tokenizer=P.ByteLevel(add_prefix_space=True), decoder=D.ByteLevel(),
                                post_processor=lambda t: processors.RobertaProcessing(("</s>", 1), ("<s>", 0)))
    yield "llama3", lambda: train(models.BPE(ignore_merges=True), bpe(), pre_tokenizer=P.Sequence([split(LLAMA3), P.ByteLevel(add_prefix_space=False, use_regex=False)]),
                                  decoder=D.ByteLevel(), post_processor=lambda t: processors.Sequence([processors.ByteLevel(), ends("<s> $A", "<s>")(t)]))
    yield "cl100k", lambda: train(models.BPE(), bpe(), pre_tokenizer=P.Sequence([split(CL100K, "removed", True), P.ByteLevel(add_prefix_space=False, use_regex=False)]),
                                  decoder=D.ByteLevel())
    yield "digits-punctuation", lambda: train(models.BPE(unk_token="<unk>", fuse_unk=True), trainers.BpeTrainer(vocab_size=size // 2, special_tokens=["<unk>"], **QUIET),
                                              normalizer=N.Sequence([N.NFKC(), N.Lowercase(), N.Strip()]),
                                              pre_tokenizer=P.Sequence([P.WhitespaceSplit(), P.Punctuation("contiguous"), P.Digits(True)]))
    yield "clip", lambda: train(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"), trainers.BpeTrainer(vocab_size=size // 2, special_tokens=["<unk>"], end_of_word_suffix="</w>", **QUIET),
                                normalizer=N.Sequence([N.NFC(), N.Replace(Regex(r"\s+"), " "), N.Lowercase()]), pre_tokenizer=P.Whitespace(), decoder=D.BPEDecoder("</w>"))
    yield "split-behaviours", lambda: train(models.BPE(unk_token="<unk>"), trainers.BpeTrainer(vocab_size=size // 2, special_tokens=["<unk>"], **QUIET), normalizer=N.NFKD(),
                                            pre_tokenizer=P.Sequence([split(r"[aeiou]", "merged_with_next"), split(r"\p{P}", "merged_with_previous"), split(r"\s", "removed"),
                                                                      split(r"[0-9]+", "contiguous")]), decoder=D.CTC(pad_token="a", word_delimiter_token="e"))
    # Unknown characters of a word are one token, so the tokens count the words of every script.
    yield "scripts", lambda: train(models.BPE(unk_token="<unk>", fuse_unk=True),
                                   trainers.BpeTrainer(vocab_size=9, initial_alphabet=list(" aeiou.1"), limit_alphabet=8, special_tokens=["<unk>"], **QUIET),
                                   pre_tokenizer=P.UnicodeScripts())
    yield "wordlevel", lambda: train(models.WordLevel(unk_token="[UNK]"), trainers.WordLevelTrainer(vocab_size=size, special_tokens=["[UNK]", "[CLS]", "[SEP]"], **QUIET),
                                     normalizer=N.Sequence([N.Nmt(), N.Lowercase()]), pre_tokenizer=P.Whitespace(), post_processor=ends("[CLS] $A [SEP]", "[CLS]", "[SEP]"))
    yield "fixed-length", lambda: train(models.WordLevel(unk_token="<unk>"), trainers.WordLevelTrainer(vocab_size=size, special_tokens=["<unk>"], **QUIET), pre_tokenizer=P.FixedLength(length=3),
                                        decoder=D.Fuse())
    yield "unigram", lambda: train(models.Unigram(), uni(), normalizer=N.Sequence([N.NFKC(), N.Replace("  ", " ")]), pre_tokenizer=P.Metaspace(prepend_scheme="always"),
                                   decoder=D.Metaspace(prepend_scheme="always"), post_processor=ends("$A </s>", "</s>"))
    yield "unigram-charsmap", lambda: train(models.Unigram(), uni(), normalizer=N.Sequence([N.Precompiled(charsmap(**rules)), N.Strip(left=False, right=True), N.Replace(Regex(" {2,}"), "▁")]),
                                            pre_tokenizer=P.Metaspace(prepend_scheme="first"), decoder=D.Metaspace(prepend_scheme="first"))

    def bytes_too():
        t = json.loads(train(models.Unigram(), uni(), normalizer=N.NFD(), pre_tokenizer=P.Metaspace(prepend_scheme="never", split=False)).to_str())
        t["model"]["byte_fallback"] = True
        t["model"]["vocab"] += [["<0x%02X>" % b, -12.0] for b in range(256)]
        t["decoder"] = json.loads(D.Sequence([D.Replace("▁", " "), D.ByteFallback(), D.Fuse(), D.Strip(" ", 1, 0)]).__getstate__())
        return Tokenizer.from_str(json.dumps(t))
    yield "unigram-bytes", bytes_too
    yield "bert", lambda: train(models.WordPiece(unk_token="[UNK]"), wp(), normalizer=N.BertNormalizer(lowercase=True), pre_tokenizer=P.BertPreTokenizer(), decoder=D.WordPiece(),
                                post_processor=lambda t: processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2)))
    yield "bert-cased", lambda: train(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=12), wp(), normalizer=N.BertNormalizer(lowercase=False, strip_accents=True),
                                      pre_tokenizer=P.Sequence([P.BertPreTokenizer(), P.Digits(False)]), decoder=D.WordPiece(cleanup=False))
    yield "wordpiece-accents", lambda: train(models.WordPiece(unk_token="[UNK]"), wp(), normalizer=N.Sequence([N.NFD(), N.StripAccents(), N.Prepend("_")]),
                                             pre_tokenizer=P.Sequence([P.CharDelimiterSplit("_"), P.Whitespace(), P.Punctuation("merged_with_previous")]), decoder=D.WordPiece())

    def added():
        t = train(models.BPE(), bpe(), normalizer=N.Sequence([N.Prepend("▁"), N.Replace(" ", "▁"), N.Lowercase()]), pre_tokenizer=P.ByteLevel(add_prefix_space=False, use_regex=False),
                  decoder=D.ByteLevel())
        t.add_special_tokens([AddedToken("[MASK]", lstrip=True), AddedToken("<pad>", rstrip=True)])
        t.add_tokens([AddedToken("the", single_word=True), AddedToken("GARDEN", normalized=True), AddedToken("n't", normalized=False), AddedToken(" do not"), "Don", "D"])
        return t
    yield "added-tokens", added


# ---- comparing

def first_difference(name, inputs, got, want):
    for k, (t, g, w) in enumerate(zip(inputs, got, want)):
        for part, a, b in zip(("ids", "ids with special tokens", "decoded text"), g, w):
            if a != b:
                return f"{name}: text {k}, {part}\n  text {t!r}\n  sqz  {a}\n  want {b}"
    return ""


def compare(a, name, folder, reference, inputs):
    got = stream(a.stream, folder, inputs)
    want = [(reference.encode(t, add_special_tokens=False).ids, reference.encode(t).ids) for t in inputs]
    want = [(p, s, reference.decode(p, skip_special_tokens=False).encode()) for p, s in want]
    if isinstance(got, str):
        return name, reference.get_vocab_size(), len(inputs), -1, got.strip()
    bad = sum(any(x != y for x, y in zip(g, w)) for g, w in zip(got, want))
    return name, reference.get_vocab_size(), len(inputs), bad, first_difference(name, inputs, got, want)


def sentencepiece_models(size=1200, **rules):
    """name, class in transformers, tokenizer.model, tokenizer_config.json"""
    user = dict(user_defined_symbols=["<|x|>", "▁▁"], control_symbols=["<ctl>"])
    yield "spm-bpe-llama", "LlamaTokenizer", spm("bpe", size, byte_fallback=True, **user), {"add_bos_token": True}
    yield "spm-bpe-llama-legacy", "LlamaTokenizer", spm("bpe", size, byte_fallback=True, normalization_rule_name="identity"), {"legacy": True, "add_eos_token": True}
    yield "spm-bpe-gemma", "GemmaTokenizer", spm("bpe", size, byte_fallback=True, pad_id=0, eos_id=1, bos_id=2, unk_id=3, add_dummy_prefix=False, **user), {}
    yield "spm-unigram-t5", "T5Tokenizer", spm("unigram", size, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, **user, **rules), {}


def write_sentencepiece(folder, cls, model, config):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "tokenizer.model"), "wb") as f:
        f.write(model)
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as f:
        json.dump({"tokenizer_class": cls, **config}, f)


def sentencepiece_cases(a, inputs):
    import transformers
    for name, cls, model, config in sentencepiece_models():
        if a.only and name not in a.only:
            continue
        folder = os.path.join(a.work, name)
        write_sentencepiece(folder, cls, model, config)
        reference = getattr(transformers, cls).from_pretrained(folder)
        yield compare(a, name, folder, reference.backend_tokenizer, inputs)


def cases(a, inputs):
    for name, make in made():
        if a.only and name not in a.only:
            continue
        folder = os.path.join(a.work, name)
        os.makedirs(folder)
        make().save(os.path.join(folder, "tokenizer.json"))
        yield compare(a, name, folder, Tokenizer.from_file(os.path.join(folder, "tokenizer.json")), inputs)
    yield from sentencepiece_cases(a, inputs)
    shared = os.path.join(os.environ.get("SQZ_SHARED", ""), "data/tokenizers")
    if not os.environ.get("SQZ_SHARED") or not os.path.isdir(shared):
        print("skipped: published tokenizers (SQZ_SHARED names no folder with data/tokenizers)")
        return
    for name in sorted(os.listdir(shared)):
        folder = os.path.join(shared, name)
        if not os.path.isdir(folder) or (a.only and name not in a.only):
            continue
        if os.path.exists(os.path.join(folder, "tokenizer.json")):
            reference = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        else:
            import transformers
            reference = transformers.AutoTokenizer.from_pretrained(folder).backend_tokenizer
        yield compare(a, name, folder, reference, inputs)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--stream", default=os.path.join(ROOT, "build/tests/tokenizer_stream"))
    p.add_argument("--texts", type=int, default=10000)
    p.add_argument("--only", type=lambda s: s.split(","), default=[])
    p.add_argument("--out", default=os.path.join(ROOT, "build/interop"))
    a = p.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    inputs = texts(a.texts)
    characters = sum(map(len, inputs))
    rows, notes = [], []
    with tempfile.TemporaryDirectory() as a.work:
        for name, size, n, bad, note in cases(a, inputs):
            rows.append(f"| {name} | {size:,} | {n:,} | {'not read' if bad < 0 else bad} |")
            print(rows[-1], flush=True)
            if note:
                notes.append(note)
                print(note, flush=True)
    os.makedirs(a.out, exist_ok=True)
    head = f"{characters:,} characters in all texts\n\n| tokenizer | entries | texts | different |\n|---|---|---|---|\n"
    with open(os.path.join(a.out, "tokenizers.md"), "w") as f:
        f.write(head + "\n".join(rows) + "\n")
    print(f"{len(rows)} tokenizers, {len(inputs)} texts each, {len(notes)} with differences")
    return 1 if notes else 0


if __name__ == "__main__":
    sys.exit(main())
