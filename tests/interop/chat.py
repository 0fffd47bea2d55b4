"""Chat templates against transformers and Jinja: same text, or both refuse.

    python tests/interop/chat.py [BUILD]      (an interpreter with transformers and jinja2)

Renders the corpus of tests/golden/chat and N random expressions (N = env CASES, default 3000).
SQZ_TEMPLATES=FOLDER also renders every *.jinja file and tokenizer_config.json below FOLDER.
sqz may refuse a construct by name ("is not supported") that the reference renders: counted and
listed.  A different text is a failure.
"""
import glob
import json
import os
import random
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "golden", "chat"))
import make  # noqa: E402
from corpus import CONVERSATIONS, TOKENS, TOOLS, VARIABLES, expressions  # noqa: E402


def foreign(folder):
    files = glob.glob(os.path.join(folder, "**", "*.jinja"), recursive=True)
    templates = [(f, open(f, encoding="utf-8").read()) for f in files]
    for f in glob.glob(os.path.join(folder, "**", "tokenizer_config.json"), recursive=True):
        value = json.load(open(f, encoding="utf-8")).get("chat_template")
        for i, t in enumerate(value if isinstance(value, list) else [value]):
            text = t["template"] if isinstance(t, dict) else t
            if text:
                templates.append((f"{f}#{i}", text))
    for name, template in templates:
        for title, messages in CONVERSATIONS.items():
            for tools in (None, TOOLS):
                for prompt in (False, True):
                    yield {"title": f"{name} {title}", "template": template, "messages": messages, "tokens": TOKENS, "add_generation_prompt": prompt, "now": make.NOW, **({"tools": tools} if tools else {})}


def random_cases(n, seed=1):
    """Expressions from the corpus, combined by operators, filters and tests."""
    rng, atoms = random.Random(seed), [e for e in expressions() if "raise_exception" not in e]
    filters = ["upper", "lower", "trim", "length", "string", "int", "float", "first", "last", "list", "tojson", "join", "sort", "reverse", "title", "capitalize", "abs", "round", "default('z')", "replace('a', 'b')",
               "map('string') | list", "select('defined') | list", "unique | list", "min", "max", "sum", "items | list", "dictsort", "indent", "tojson(indent=2)"]
    operators = ["+", "-", "*", "/", "//", "%", "~", "==", "!=", "<", ">", "<=", ">=", "and", "or", "in", "not in"]
    tests = ["defined", "none", "string", "mapping", "iterable", "sequence", "number", "true", "odd", "eq(7)", "in l", "lower"]

    def make_one(depth):
        pick = rng.random()
        if depth == 0 or pick < 0.15:
            return rng.choice(atoms)
        if pick < 0.45:
            return f"({make_one(depth - 1)}) | {rng.choice(filters)}"
        if pick < 0.75:
            return f"({make_one(depth - 1)}) {rng.choice(operators)} ({make_one(depth - 1)})"
        if pick < 0.85:
            return f"({make_one(depth - 1)}) is {rng.choice(['', 'not '])}{rng.choice(tests)}"
        if pick < 0.93:
            return f"({make_one(depth - 1)})[{rng.choice(['0', '-1', '1:', ':2', '::-1', '1:9:2', repr('k'), 'n'])}]"
        return f"[{make_one(depth - 1)}, {make_one(depth - 1)}]"

    for _ in range(n):
        text = "{{ " + make_one(rng.randint(1, 3)) + " }}"
        yield {"title": text, "template": text, "messages": [{"role": "user", "content": "hi"}], "variables": VARIABLES, "now": make.NOW}


def main():
    build = sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "build")
    stream = subprocess.Popen([os.path.join(build, "tests", "chat_stream")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "TZ": "UTC"})
    same = both = unsupported = 0
    bad, strict = [], []
    folder = os.environ.get("SQZ_TEMPLATES")
    cases = list(make.cases()) + list(random_cases(int(os.environ.get("CASES", "3000")))) + (list(foreign(folder)) if folder else [])
    for case in cases:
        stream.stdin.write(json.dumps(case).encode() + b"\n")
        stream.stdin.flush()
        got, want = json.loads(stream.stdout.readline()), make.reference(case)
        if want is not None and got.get("text") == want:
            same += 1
        elif want is None and "error" in got:
            both += 1
        elif want is not None and ("<generator object" in want or "object at 0x" in want):
            both += 1  # an address of Python's; sqz refuses to print such things
        elif "error" in got and (got["code"] == "unsupported" or "not supported" in got["error"]):
            unsupported += 1
            strict.append((case["title"], got["error"]))
        else:
            bad.append((case["title"], want, got))
    stream.stdin.close()
    for title, want, got in bad[: int(os.environ.get("SHOW", "40"))]:
        print(f"DIFFERS {title!r}\n  reference {want!r}\n  sqz       {got.get('text', got.get('error'))!r}")
    for title, error in strict[:25]:
        print(f"refused by name: {title!r}: {error}")
    print(f"{len(cases)} cases: {same} equal texts, {both} refused by both, {unsupported} refused by name, {len(bad)} different")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
