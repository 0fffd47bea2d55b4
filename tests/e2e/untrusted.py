"""Text of strangers on a terminal and in reports: no escape sequence of theirs gets through.

    python3 untrusted.py SQZ WORKDIR

Folder names, data set rows, tokens (so generations), tags, plugin names and journal texts hold escape
sequences.  Every command runs on a pseudo-terminal, with and without colour.
"""
import glob
import json
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time

import common
import tiny

TITLE = "\x1b]0;owned\x07"  # OSC: window title
CLEAR = "\x1b[2J\x1b[H\x1b[8m"  # CSI: clear, home, conceal
BLINK = "\x1b[5m"
C1 = "\x9b31m"  # the one-byte CSI, as UTF-8 U+009B
LINK = "\x1b]8;;http://evil.example\x1b\\x\x1b]8;;\x1b\\"
TURN = "\u202etxt\u202c"  # right-to-left override
NAME = f"m{TITLE}{CLEAR}{C1}{TURN}".replace("/", "")
HOSTILE = TITLE + CLEAR + BLINK + C1 + LINK + TURN
# What the program itself sends: colours of its own, cursor moves of the progress display.
OWN = re.compile(r"\x1b\[(?:0|1|2|31|32|33|36)m|\x1b\[\?2026[hl]|\x1b\[\?25[hl]|\x1b\[\d*A|\x1b\[J|\x1b\[K")


def on_terminal(sqz, args, env, seconds=300):
    """(exit code, everything the terminal got)."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (40, 120))
    p = subprocess.Popen([sqz, *args], env=env, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    got, end = b"", time.monotonic() + seconds
    while time.monotonic() < end:
        if select.select([master], [], [], 0.1)[0]:
            try:
                part = os.read(master, 65536)
            except OSError:
                break
            if not part:
                break
            got += part
    os.close(master)
    if p.poll() is None:
        try:
            p.wait(60)
        except subprocess.TimeoutExpired:
            p.kill()
            sys.exit(f"{args}: no end in {seconds} s\n{got[-2000:]!r}")
    return p.returncode, got.decode(errors="backslashreplace")


def check(name, text, own=True):
    rest = OWN.sub("", text) if own else text
    bad = [c for c in rest if (ord(c) < 32 and c not in "\n\r\t") or 0x7F <= ord(c) < 0xA0 or c in "\u202e\u202c"]
    if bad:
        at = rest.index(bad[0])
        sys.exit(f"{name}: {bad[0]!r} reaches the terminal: {rest[max(0, at - 100):at + 100]!r}")


def hostile_model(folder):
    """Its tokens are escape sequences, and its weights are random, so that they are generated."""
    tokens = tiny.tokenizer()
    vocab = dict(tokens["model"]["vocab"])
    chars = tiny.byte_chars()
    for i, text in enumerate((TITLE, CLEAR, C1, LINK, TURN)):
        old = next(k for k, v in vocab.items() if v == 128 + i)
        del vocab[old]
        vocab["".join(chars[b] for b in text.encode())] = 128 + i
    tokens["model"]["vocab"] = vocab
    return tiny.model(folder, tokens=tokens)


def main(sqz, work):
    work = common.fresh(work)
    model = hostile_model(os.path.join(work, NAME))
    text = tiny.put(work, f"d{NAME}.jsonl", "".join(json.dumps({"text": f"row {i} {HOSTILE} of the world"}) + "\n" for i in range(40)))
    problems = tiny.put(work, "q.jsonl", json.dumps({"question": HOSTILE, "answer": "x"}) + "\n")
    broken = tiny.put(work, f"b{NAME}.jsonl", '{"text": "\x1b]0;owned\x07')
    wrong = tiny.model(os.path.join(work, "w" + NAME), config={**tiny.CONFIG, "model_type": HOSTILE, "architectures": [HOSTILE]})
    header, data = tiny.weights()
    header[HOSTILE] = {"dtype": HOSTILE, "shape": [1], "data_offsets": [0, 4]}
    tensors = tiny.model(os.path.join(work, "t" + NAME), safetensors=tiny.st_bytes(header, data))
    config = tiny.put(work, "p.json", {"model": model, "dataset": {"source": text, "window": 64, "limit": 4}, "eval": {"window": 64}, "steps": [{"use": "rtn"}],
                                       "constraints": {"max_accuracy_drop": 9}, "objectives": ["quality", "bytes"], "budget": {"trials": 2}})
    bad_config = tiny.put(work, "bad.json", {"model": model, "dataset": text, HOSTILE: HOSTILE})
    plugins = os.path.join(work, "plugins" + NAME)
    tiny.put(plugins, "x" + NAME + ".so", HOSTILE)
    out, run = os.path.join(work, "q" + NAME), os.path.join(work, "r" + NAME)
    rows = [
        ("generate", 0, ["generate", model, "--prompt", "hello", "--max-new-tokens", "100", "--temperature", "2", "--ignore-eos"]),
        ("decode", 0, ["tokenize", model, "--decode", "--text", "[128,129,130,131,132]"]),
        ("decode_json", 0, ["tokenize", model, "--decode", "--text", "[128,129,130,131,132]", "--json", "-"]),
        ("eval", 0, ["eval", model, "--dataset", text, "--window", "64", "--limit", "2"]),
        ("eval_named", 0, ["eval", model, "--dataset", f"{TITLE}{C1}={text}", "--window", "64", "--limit", "2"]),
        ("eval_json", 0, ["eval", model, "--dataset", text, "--window", "64", "--limit", "2", "--json", "-"]),
        ("eval_questions", 0, ["eval", model, "--dataset", problems, "--limit", "1"]),
        ("eval_broken", 3, ["eval", model, "--dataset", broken]),
        ("eval_absent", 3, ["eval", os.path.join(work, HOSTILE.replace("/", "")), "--dataset", text]),
        ("eval_family", 3, ["eval", wrong, "--dataset", text]),
        ("eval_tensors", 3, ["eval", tensors, "--dataset", text]),
        ("estimate", 0, ["estimate", model]),
        ("quantize", 0, ["quantize", model, "--method", "rtn", "--output", out]),
        ("registry_ls", 0, ["registry", "ls"]),
        ("registry_show", 2, ["registry", "show", HOSTILE]),
        ("plan", 0, ["plan", "--config", config]),
        ("plan_bad", 2, ["plan", "--config", bad_config]),
        ("run", 0, ["run", "--config", config, "--output", run, "--yes"]),
        ("report", 0, ["report", run]),
        ("plugin_list", 0, ["plugin", "list", "--plugin-path", plugins]),
        ("plugin_info", 2, ["plugin", "info", HOSTILE]),
        ("unknown_command", 2, [HOSTILE]),
        ("unknown_option", 2, ["eval", "--" + HOSTILE]),
    ]
    for color in ({"NO_COLOR": "1"}, {"CLICOLOR_FORCE": "1"}):
        env = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "CLICOLOR_FORCE")}
        env.update(color, SQZ_REGISTRY=os.path.join(work, "store" + "".join(color)), TERM="xterm-256color", LC_ALL="C.UTF-8",
                   XDG_CACHE_HOME=os.path.join(work, "cache"), GOMP_SPINCOUNT="1000")
        for folder in (out, run):
            common.shutil.rmtree(folder, ignore_errors=True)
        for name, code, args in rows:
            got, said = on_terminal(sqz, args, env)
            if got != code:
                sys.exit(f"{name}: exit {got}, expected {code}\n{said[-1500:]!r}")
            check(f"{name} {color}", said)
            if name in ("decode", "eval_broken", "plugin_list"):
                assert "\\x1b" in said, f"{name}: the escape is not even shown: {said[-800:]!r}"
    for path in glob.glob(glob.escape(run) + "/report.*"):
        with open(path, encoding="utf-8") as f:
            content = f.read()
        check(path, content, own=False)
        for bad in ("](javascript:", "](http://evil", 'href="http://evil'):
            assert bad not in content, f"{path}: {bad}"
    print(f"ok: {len(rows)} commands with and without colour")


main(os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]))
