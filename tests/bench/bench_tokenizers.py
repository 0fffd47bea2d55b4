"""Speed of encoding English text, single thread, beside the `tokenizers` package in the same run.

    SQZ_SHARED=FOLDER python bench_tokenizers.py [--stream build/tests/tokenizer_stream] [--part 65536]

Takes the tokenizers of $SQZ_SHARED/data/tokenizers and the novels of $SQZ_SHARED/data/text; prints a Markdown table.
Processor time, not wall time, so that other work on the machine counts less.  The first round starts with no word
known; the second figure is the fastest of three rounds.  Rounds of the two programs alternate.
"""
import argparse
import glob
import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))


def parts(text, size):
    """As tokenizer_stream cuts: at the first line end after `size` bytes."""
    at = 0
    while at < len(text):
        end = text.find(b"\n", min(at + size, len(text)))
        end = end + 1 if end >= 0 else len(text)
        yield text[at:end].decode()
        at = end


def package(tokenizer, texts):
    best, first, n = 1e30, 0, 0
    for k in range(3):
        start = time.process_time()
        n = sum(len(tokenizer.encode_batch_fast([t], add_special_tokens=False)[0].ids) for t in texts)
        s = time.process_time() - start
        first = first or s
        best = min(best, s)
    return n, first, best


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--stream", default=os.path.join(ROOT, "build/tests/tokenizer_stream"))
    p.add_argument("--part", type=int, default=65536)
    a = p.parse_args()
    shared = os.environ.get("SQZ_SHARED", "")
    names = sorted(os.path.basename(d) for d in glob.glob(os.path.join(shared, "data/tokenizers/*")) if os.path.isdir(d))
    texts = sorted(glob.glob(os.path.join(shared, "data/text/*.txt")))
    if not shared or not names or not texts:
        sys.exit("bench_tokenizers: SQZ_SHARED names no folder with data/tokenizers and data/text")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["RAYON_NUM_THREADS"] = "1"
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from tokenizers import Tokenizer
    text = b"".join(open(t, "rb").read() for t in texts)
    cut = list(parts(text, a.part))
    print(f"{len(text) / 1e6:.1f} MB of English text in {len(cut)} parts\n")
    print("| tokenizer | entries | sqz MB/s, first round | sqz MB/s, best | tokenizers MB/s, first round | tokenizers MB/s, best | ratio of best | ids |")
    print("|---|---|---|---|---|---|---|---|")
    for name in names:
        folder = os.path.join(shared, "data/tokenizers", name)
        file = os.path.join(folder, "tokenizer.json")
        if os.path.exists(file):
            reference = Tokenizer.from_file(file)
        else:
            import transformers
            reference = transformers.AutoTokenizer.from_pretrained(folder).backend_tokenizer
        out = subprocess.run([a.stream, folder, "--count", str(a.part)], input=text, capture_output=True)
        if out.returncode:
            sys.exit(out.stderr.decode())
        n, first, best = out.stdout.split()
        m, other_first, other_best = package(reference, cut)
        mb = len(text) / 1e6
        same = "the same" if int(n) == m else f"{int(n)} and {m}"
        print(f"| {name} | {reference.get_vocab_size():,} | {mb / float(first):.1f} | {mb / float(best):.1f} | {mb / other_first:.1f} | {mb / other_best:.1f} | "
              f"{other_best / float(best):.1f} | {same} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
