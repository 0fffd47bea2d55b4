"""What only a terminal sees: the questions of a run, and the live view.

    python3 terminal.py SQZ WORKDIR
"""
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time

import common

LIMIT_S = 300  # for what takes a second on an idle machine; only a hang reaches it


class Terminal:
    """A program on a pseudo-terminal of its own."""

    def __init__(self, sqz, args, store):
        self.master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (30, 100))
        env = dict(os.environ, SQZ_REGISTRY=store, TERM="xterm")
        env.pop("NO_COLOR", None)
        self.slave = slave  # kept open, so that the settings can be read after the end
        self.before = termios.tcgetattr(slave)
        self.p = subprocess.Popen([sqz, *args], env=env, stdin=slave, stdout=slave, stderr=slave, preexec_fn=self.lead)
        self.text = ""

    @staticmethod
    def lead():
        os.setsid()
        import fcntl
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def read(self, seconds):
        if select.select([self.master], [], [], seconds)[0]:
            self.text += os.read(self.master, 65536).decode(errors="replace")

    def expect(self, words, seconds=LIMIT_S):
        deadline = time.monotonic() + seconds
        while words not in self.text:
            if time.monotonic() > deadline or (self.p.poll() is not None and not self.drain()):
                sys.exit(f"no {words!r} on the terminal (exit {self.p.poll()}):\n{self.text[-3000:]}")
            self.read(0.1)

    def drain(self):
        n = len(self.text)
        self.read(0.2)
        return len(self.text) > n

    def send(self, keys):
        self.text = ""
        os.write(self.master, keys.encode())

    def end(self, seconds=LIMIT_S):
        deadline = time.monotonic() + seconds
        while self.p.poll() is None and time.monotonic() < deadline:
            self.read(0.1)
        if self.p.poll() is None:
            self.p.kill()
            sys.exit(f"did not end:\n{self.text[-2000:]}")
        while self.drain():
            pass
        after = termios.tcgetattr(self.slave)
        os.close(self.slave)
        os.close(self.master)
        assert after == self.before, "the terminal's settings were not restored"
        return self.p.returncode


def wait_for(path, p, seconds=LIMIT_S):
    deadline = time.monotonic() + seconds
    while not os.path.exists(path):
        if time.monotonic() > deadline or p.poll() is not None:
            sys.exit(f"{path} did not appear (exit {p.poll()})")
        time.sleep(0.02)


def questions(sqz, work, store):
    config = common.pipeline(work, budget={"trials": 40})
    out = os.path.join(work, "asked")
    t = Terminal(sqz, ["--config", config, "--output", out], store)
    t.expect("How much accuracy may be lost?")
    t.expect("[0.02]:")
    t.send("2\n")
    t.expect("write 0.02 or 2%")
    t.expect("[0.02]:")
    t.send("5%\n")
    t.expect("How much memory")
    t.expect("[no limit]:")
    t.send("\n")
    wait_for(os.path.join(out, "run.json"), t.p)
    t.p.send_signal(signal.SIGINT)
    time.sleep(0.3)
    t.p.send_signal(signal.SIGINT)
    assert t.end() == 130
    limits = common.load(out, "run.json")["config_full"]["constraints"]
    assert abs(limits["max_accuracy_drop"] - 0.05) < 1e-12 and limits["max_vram"] is None, limits
    origin = common.load(out, "run.json")["spec"]["max_accuracy_drop"]["origin"]
    assert origin == "your answer", origin


def no_questions(sqz, work, store):
    """--yes never asks, a set constraint is not asked for, and Ctrl-C at a question begins nothing."""
    config = common.pipeline(work, "limits.json", constraints={"max_accuracy_drop": 0.1, "max_vram": "1GB"})
    for name, args in (("yes", ["--yes"]), ("set", [])):
        out = os.path.join(work, name)
        c = config if name == "set" else common.pipeline(work)
        t = Terminal(sqz, ["--config", c, "--output", out, *args], store)
        wait_for(os.path.join(out, "run.json"), t.p)
        assert "How much" not in t.text, t.text
        t.p.send_signal(signal.SIGINT)
        time.sleep(0.3)
        t.p.send_signal(signal.SIGINT)
        assert t.end() == 130
    out = os.path.join(work, "ctrlc")
    t = Terminal(sqz, ["--config", common.pipeline(work), "--output", out], store)
    t.expect("[0.02]:")
    t.send("\x03")
    assert t.end() == 130
    assert not os.path.exists(out), "a run was begun without an answer"


def live_view(sqz, work, store):
    out = os.path.join(work, "watched")
    p = common.start(sqz, ["--config", common.pipeline(work, budget={"trials": 4}), "--output", out, "--yes"], store)
    wait_for(os.path.join(out, "trials.jsonl"), p)
    p.send_signal(signal.SIGSTOP)  # a slow view must not miss a run of seconds
    t = Terminal(sqz, ["top", out, "--interval", "200ms"], store)
    t.expect("trials ")
    t.expect("\x1b[?1049h")
    t.expect("hypervolume")
    t.expect("q ends this view")
    t.send("q")
    assert t.end() == 0
    assert "\x1b[?1049l" in t.text and p.poll() is None, "q ended more than the view"
    t = Terminal(sqz, ["top", out, "--interval", "1h"], store)
    t.expect("q ends this view")
    t.send("\x03")  # not slept over
    assert t.end() == 0
    assert p.poll() is None
    t = Terminal(sqz, ["top", out, "--interval", "200ms"], store)
    t.expect("q ends this view")
    p.send_signal(signal.SIGCONT)
    p.communicate()
    assert p.returncode == 0
    assert t.end() == 0, "the view did not end with the run"
    assert "done" in t.text and "4/4" in t.text, t.text
    once, _ = common.run(sqz, ["top", out, "--once"], store)
    assert "\x1b" not in once and "4/4" in once and "s0004" in once, once
    front = common.load(out, "pareto.json")
    assert f"front {len(front['members'])}" in once, once


def main(sqz, work):
    work = common.fresh(work)
    store = os.path.join(work, "store")
    questions(sqz, work, store)
    no_questions(sqz, work, store)
    live_view(sqz, work, store)
    print("ok")


main(sys.argv[1], os.path.abspath(sys.argv[2]))
